/*
 * exif.c - one tag of the first directory of a TIFF block.
 *
 * Whatever is wrong with the block, the picture counts as upright: EXIF is a
 * remark about the picture, never a reason not to read it. Entries before the
 * place where a block is cut off still count.
 */
#include "vision/exif.h"

#include "vision/ifd.h"

int exif_orientation(OcrBytes tiff) {
    TiffBlock block;
    uint64_t first;
    Ifd ifd;
    if (!tiff_block_open(tiff, &block, &first) || !ifd_read(&block, first, &ifd))
        return 1;
    return ifd_orientation(&block, &ifd);
}
