/*
 * exif.c - one tag of the first directory of a TIFF block.
 *
 * Whatever is wrong with the block, the picture counts as upright: EXIF is a
 * remark about the picture, never a reason not to read it. Entries before the
 * place where a block is cut off still count.
 */
#include "vision/exif.h"

#include <string.h>

#define TAG_ORIENTATION 0x0112
#define TYPE_SHORT 3
#define TYPE_LONG 4
#define ENTRY_SIZE 12 /* tag, type: 2 bytes; count, value: 4 bytes */

static uint32_t get16(const uint8_t *p, bool little) {
    return little ? p[0] | (uint32_t)p[1] << 8 : p[1] | (uint32_t)p[0] << 8;
}

static uint32_t get32(const uint8_t *p, bool little) {
    return little ? get16(p, true) | get16(p + 2, true) << 16
                  : get16(p + 2, false) | get16(p, false) << 16;
}

int exif_orientation(OcrBytes tiff) {
    if (tiff.size < 8)
        return 1;
    bool little = memcmp(tiff.data, "II*\0", 4) == 0;
    if (!little && memcmp(tiff.data, "MM\0*", 4) != 0)
        return 1;
    size_t directory = get32(tiff.data + 4, little);
    if (directory > tiff.size - 2)
        return 1;
    uint32_t entries = get16(tiff.data + directory, little);
    size_t room = (tiff.size - directory - 2) / ENTRY_SIZE;
    const uint8_t *entry = tiff.data + directory + 2;

    for (uint32_t i = 0; i < entries && i < room; i++, entry += ENTRY_SIZE) {
        if (get16(entry, little) != TAG_ORIENTATION)
            continue;
        uint32_t type = get16(entry + 2, little), value = 1;
        if (get32(entry + 4, little) != 1)
            return 1;
        if (type == TYPE_SHORT)
            value = get16(entry + 8, little);
        else if (type == TYPE_LONG)
            value = get32(entry + 8, little);
        return value >= 1 && value <= 8 ? (int)value : 1;
    }
    return 1;
}
