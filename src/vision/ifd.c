#include "vision/ifd.h"

#include <string.h>

enum { TYPE_SHORT = 3, TYPE_LONG = 4, TYPE_LONG8 = 16 };

/* No real directory has more entries; libtiff draws the line at the same place. */
#define MAX_ENTRIES 4096

static uint64_t get(const uint8_t *p, int bytes, bool little) {
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++)
        value = value << 8 | p[little ? bytes - 1 - i : i];
    return value;
}

bool tiff_block_open(OcrBytes bytes, TiffBlock *block, uint64_t *first) {
    const uint8_t *p = bytes.data;
    if (bytes.size < 8 || p[0] != p[1] || (p[0] != 'I' && p[0] != 'M'))
        return false;
    *block = (TiffBlock){.bytes = bytes, .little = p[0] == 'I'};
    uint64_t version = get(p + 2, 2, block->little);
    if (version == 42) {
        *first = get(p + 4, 4, block->little);
        return true;
    }
    /* BigTIFF says how long its offsets are; two zeros follow. */
    if (version != 43 || bytes.size < 16 || get(p + 4, 2, block->little) != 8 || p[6] || p[7])
        return false;
    block->big = true;
    *first = get(p + 8, 8, block->little);
    return true;
}

bool ifd_read(const TiffBlock *block, uint64_t offset, Ifd *ifd) {
    size_t count_bytes = block->big ? 8 : 2, entry_bytes = block->big ? 20 : 12;
    size_t link_bytes = block->big ? 8 : 4, size = block->bytes.size;
    if (offset > size || size - offset < count_bytes)
        return false;
    const uint8_t *start = block->bytes.data + offset;
    uint64_t count = get(start, (int)count_bytes, block->little);
    size_t room = (size - (size_t)offset - count_bytes) / entry_bytes;
    bool fits = count <= MAX_ENTRIES && count <= room;
    *ifd = (Ifd){.entries = start + count_bytes};
    ifd->count = (int)(fits ? count : room < MAX_ENTRIES ? room : MAX_ENTRIES);

    const uint8_t *link = ifd->entries + (size_t)ifd->count * entry_bytes;
    if (fits && (size_t)(block->bytes.data + size - link) >= link_bytes) {
        ifd->whole = true;
        ifd->next = get(link, (int)link_bytes, block->little);
    }
    return true;
}

/* An entry is a tag and a type in 2 bytes each, then the count of values, then the value. */
bool ifd_number(const TiffBlock *block, const Ifd *ifd, int tag, uint64_t *value) {
    int word = block->big ? 8 : 4;
    const uint8_t *entry = ifd->entries;
    for (int i = 0; i < ifd->count; i++, entry += 4 + 2 * word) {
        if (get(entry, 2, block->little) != (uint64_t)tag)
            continue;
        uint64_t type = get(entry + 2, 2, block->little);
        int bytes = type == TYPE_SHORT ? 2 : type == TYPE_LONG ? 4 : type == TYPE_LONG8 ? 8 : 0;
        if (bytes == 0 || bytes > word || get(entry + 4, word, block->little) != 1)
            return false;
        *value = get(entry + 4 + word, bytes, block->little);
        return true;
    }
    return false;
}

int ifd_orientation(const TiffBlock *block, const Ifd *ifd) {
    uint64_t value;
    if (!ifd_number(block, ifd, TAG_ORIENTATION, &value) || value < 1 || value > 8)
        return 1;
    return (int)value;
}
