/*
 * ifd.h - the directories of a TIFF file, or of the TIFF block that EXIF is.
 *
 * Enough of the format to find pages and read numbers, on untrusted bytes and
 * without allocating: every offset is checked before it is followed.
 */
#ifndef OCR_IFD_H
#define OCR_IFD_H

#include "base/types.h"

#define TAG_SUBFILE_TYPE 254
#define TAG_WIDTH 256
#define TAG_HEIGHT 257
#define TAG_PHOTOMETRIC 262
#define TAG_ORIENTATION 274

typedef struct TiffBlock {
    OcrBytes bytes;
    bool little; /* byte order */
    bool big;    /* BigTIFF: counts and offsets of 8 bytes */
} TiffBlock;

/* A directory: entries, each a tag with a value, and a link to the next directory. */
typedef struct Ifd {
    const uint8_t *entries;
    int count;     /* of those that lie in the block */
    bool whole;    /* all entries and the link do */
    uint64_t next; /* offset of the next directory; 0 if there is none or the link is missing */
} Ifd;

/* Is this a TIFF block? If so, *first is the offset of its first directory. */
bool tiff_block_open(OcrBytes bytes, TiffBlock *block, uint64_t *first);

/* The directory at this offset; false if not even its number of entries is there. */
bool ifd_read(const TiffBlock *block, uint64_t offset, Ifd *ifd);

/* The value of a tag, if its first entry holds a single unsigned number of 2, 4 or 8 bytes. */
bool ifd_number(const TiffBlock *block, const Ifd *ifd, int tag, uint64_t *value);

/* Orientation 1..8; 1 if it is absent or makes no sense. */
int ifd_orientation(const TiffBlock *block, const Ifd *ifd);

#endif
