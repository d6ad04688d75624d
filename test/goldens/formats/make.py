#!/usr/bin/env python3
"""Writes the pictures of this folder and sums.json, what they look like to Pillow.

Needs python3-pil and libtiff-tools; run here, it replaces the files that are there. The pictures
are one small page in the variants that scanners, fax machines and web tools write; each sum is
the SHA-256 of the RGB bytes that the official pipeline would see: turned upright, then
convert("RGB"). Where Pillow has no answer (16 bits of grey, white as 0 in 16 bits), ours stands:
the high byte.
"""
import hashlib
import json
import os
import subprocess

from PIL import Image, ImageChops, ImageDraw, ImageOps, TiffImagePlugin

WIDTH, HEIGHT = 61, 43


def page():
    """Greys and colours with edges at odd places."""
    picture = Image.new("RGB", (WIDTH, HEIGHT), (250, 248, 240))
    draw = ImageDraw.Draw(picture)
    for i in range(12):
        draw.rectangle((3 * i, 2 * i, 3 * i + 20, 2 * i + 7), fill=(20 * i, 255 - 9 * i, 11 * i))
    draw.line((0, HEIGHT - 1, WIDTH - 1, 0), fill=(10, 20, 30))
    draw.text((5, 20), "Page", fill=(0, 0, 0))
    return picture


def alpha():
    return Image.linear_gradient("L").resize((WIDTH, HEIGHT))


rgb = page()
grey = rgb.convert("L")
bits = rgb.convert("1")
palette = rgb.quantize(16)
cmyk = Image.merge("CMYK", [ImageChops.invert(c) for c in rgb.split()] + [alpha()])
rgba = rgb.copy()
rgba.putalpha(alpha())
sums = {}


def note(name, picture=None):
    """The sum of a file, or of the picture that it should show."""
    frames = []
    with Image.open(name) as opened:
        for i in range(getattr(opened, "n_frames", 1)):
            opened.seek(i)
            # Pillow turns a TIFF when it loads it; exif_transpose would turn it again.
            upright = opened if opened.format == "TIFF" else ImageOps.exif_transpose(opened)
            frame = picture or upright.convert("RGB")
            frames.append([*frame.size, hashlib.sha256(frame.tobytes()).hexdigest()])
    sums[name] = frames


def save(name, picture, shown=None, **options):
    picture.save(name, **options)
    note(name, shown)


def tiffcp(name, source, *options):
    """Variants that Pillow reads but does not write."""
    subprocess.run(["tiffcp", *options, source, name], check=True)
    note(name)


for compression in ("group3", "group4", "packbits", "tiff_lzw", "tiff_adobe_deflate"):
    save(f"bits_{compression}.tif", bits, compression=compression)
save("bits_raw.tif", bits)
save("grey_lzw.tif", grey, compression="tiff_lzw")
save("grey_jpeg.tif", grey, compression="jpeg", quality=80)
save("palette_packbits.tif", palette, compression="packbits")
save("rgb_raw.tif", rgb)
save("rgb_jpeg.tif", rgb, compression="jpeg", quality=80)
save("rgba_deflate.tif", rgba, compression="tiff_adobe_deflate")
save("cmyk_lzw.tif", cmyk, compression="tiff_lzw")
save("cmyk_jpeg.tif", cmyk, compression="jpeg", quality=90)
save("grey_alpha.tif", Image.merge("LA", (grey, alpha())))
wide = Image.new("I;16", (WIDTH, HEIGHT))
wide.putdata([v * 257 - v % 7 for v in grey.getdata()])
save("grey16.tif", wide, Image.merge("RGB", [Image.frombytes(
    "L", grey.size, bytes(max(v * 257 - v % 7, 0) >> 8 for v in grey.getdata()))] * 3))
for orientation in (3, 6):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[274] = orientation
    save(f"turned{orientation}.tif", rgb, tiffinfo=tags, compression="tiff_lzw")
bits.save("pages.tif", save_all=True, append_images=[grey, rgb.resize((31, 47))],
          compression="tiff_adobe_deflate")
note("pages.tif")

tiffcp("bits_group3_2d.tif", "bits_raw.tif", "-c", "g3:2d:fill", "-r", "9")
tiffcp("bits_lsb_first.tif", "bits_group4.tif", "-f", "lsb2msb")
tiffcp("rgb_planes.tif", "rgb_raw.tif", "-p", "separate", "-r", "10", "-c", "lzw:2")
tiffcp("rgb_tiles.tif", "rgb_raw.tif", "-t", "-w", "32", "-l", "16", "-c", "zip:2")
tiffcp("rgb_tiles_planes.tif", "rgb_raw.tif", "-t", "-w", "16", "-l", "16", "-p", "separate")
tiffcp("rgb_tiles_jpeg.tif", "rgb_raw.tif", "-t", "-w", "32", "-l", "32", "-c", "jpeg:r:90")
tiffcp("rgb_ycc_jpeg.tif", "rgb_raw.tif", "-c", "jpeg:90", "-r", "16")
tiffcp("rgb_big_endian.tif", "rgb_raw.tif", "-B")
tiffcp("rgb_bigtiff.tif", "rgb_raw.tif", "-8")

save("lossy.webp", rgb, quality=70)
save("lossless.webp", rgb, lossless=True)
save("alpha_lossy.webp", rgba, quality=70)
save("alpha_lossless.webp", rgba, lossless=True, exact=True)
exif = Image.Exif()
exif[274] = 8
save("turned8.webp", rgb, lossless=True, exif=exif)

save("rgb.ppm", rgb)
save("grey.pgm", grey)
save("bits.pbm", bits)

with open("sums.json", "w") as file:
    file.write("{\n" + ",\n".join(f'  "{name}": {json.dumps(frames)}'
                                  for name, frames in sorted(sums.items())) + "\n}\n")
print(sum(os.path.getsize(name) for name in sums), "bytes in", len(sums), "files")
