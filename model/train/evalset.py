"""Held-out pages: text and faces that training never sees, set by Pillow's own text layout instead of the trainer's renderer.

    evalset.py --assets DIR --out DIR [--pages 6] [--seed 7]

Writes BUCKET_KIND/NUMBER.png or .jpg, beside each page with a text a .txt, beside one with known blocks a .blocks, as model/evaluate takes them, and for evaluate.py
manifest.json: [{file, bucket, kind, size, modes, text | blocks}, ...]
"""
import argparse, io, json, os, random
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from text import Text

PROSE_FACES = ["Carlito-Regular.ttf", "Caladea-Regular.ttf", "EBGaramond12-Regular.otf", "NotoSerif-Regular.ttf", "Cantarell-Regular.otf", "Inconsolata.otf",
               "schou___.ttf", "Carlito-Italic.ttf", "Caladea-Bold.ttf", "NotoSerif-Italic.ttf"]


class Sheet:
    def __init__(self, assets, width, height, rnd):
        self.assets, self.r = assets, rnd
        self.image = Image.new("L", (width, height), 255)
        self.draw = ImageDraw.Draw(self.image)
        self.width, self.height = width, height
        self.lines, self.blocks = [], []

    def font(self, name, size):
        missing = next(e["missing"] for e in json.load(open(os.path.join(self.assets, "fonts.json"))) if e["file"] == name)
        font = ImageFont.truetype(os.path.join(self.assets, "fonts", name), size)
        return font, set(missing)

    def write(self, line, x, y, font):
        self.draw.text((x, y), line, font=font, fill=0, anchor="ls")
        self.lines.append(line)

    def paragraph(self, words, x0, x1, y, bottom, name, size, lead, justify=False, most=10 ** 9):
        """Sets words until the bottom or the limit of characters; -> words left, y, characters set"""
        font, missing = self.font(name, size)
        words = [w for w in words if not missing & set(w)]
        done, start, lines = 0, len(self.lines), []
        while words and y + size * 1.3 < bottom and done < most:
            line = words.pop(0)
            while words and font.getlength(line + " " + words[0]) <= x1 - x0 and done + len(line) + len(words[0]) < most:
                line += " " + words.pop(0)
            if font.getlength(line) > x1 - x0:
                continue
            y += size * lead
            if justify and words and line.count(" ") > 3 and font.getlength(line) > .75 * (x1 - x0):
                gap = (x1 - x0 - sum(font.getlength(w) for w in line.split(" "))) / line.count(" ")
                x = x0
                for w in line.split(" "):
                    self.draw.text((x, y), w, font=font, fill=0, anchor="ls")
                    x += font.getlength(w) + gap
                self.lines.append(line)
            else:
                self.write(line, x0, y, font)
            lines.append((line, y))
            done += len(line) + 1
        self.ink = [min(x0 + font.getbbox(l, anchor="ls")[0] for l, _ in lines), min(b + font.getbbox(l, anchor="ls")[1] for l, b in lines),
                    x1 if justify and len(lines) > 1 else max(x0 + font.getbbox(l, anchor="ls")[2] for l, _ in lines),
                    max(b + font.getbbox(l, anchor="ls")[3] for l, b in lines)] if lines else None
        return words, y, done

    def box(self, label, x0, y0, x1, y1):
        self.blocks.append([label] + [round(999 * v / s) for v, s in zip((x0, y0, x1, y1), (self.width, self.height) * 2)])

    def table(self, text, x0, x1, y, name, size, rows, columns, ruled):
        font, missing = self.font(name, size)
        pitch, step = size * 1.6, (x1 - x0) / columns
        keep = lambda s: "".join(c for c in s if c not in missing)
        top, ink = y, []
        for k in range(rows):
            row = []
            for c in range(columns):
                cell = keep(text.word().title() if k == 0 or c == 0 else text.amount() if c % 2 else text.code())
                while font.getlength(cell) > step - size:
                    cell = cell[:-1]
                x = x0 + c * step + size * .4
                if c and k and c % 2:
                    x = x0 + (c + 1) * step - size * .4 - font.getlength(cell)
                self.draw.text((x, y + pitch * .7), cell, font=font, fill=0, anchor="ls")
                b = font.getbbox(cell, anchor="ls")
                ink.append((x + b[0], y + pitch * .7 + b[1], x + b[2], y + pitch * .7 + b[3]))
                row.append(cell.strip())
            self.lines.append(" ".join(row))
            y += pitch
        if ruled:
            for k in range(rows + 1):
                self.draw.line((x0, top + k * pitch, x1, top + k * pitch), fill=0, width=2)
            for c in range(columns + 1):
                self.draw.line((x0 + c * step, top, x0 + c * step, y), fill=0, width=2)
        edges = list(zip(*ink))
        self.box("table", *((x0, top, x1, y) if ruled else (min(edges[0]), min(edges[1]), max(edges[2]), max(edges[3]))))
        return y + size


def words_of(text, length):
    return text.prose(length, other=False).split(" ")


def prose(assets, text, rnd, width, height, size, most, name=None):
    s = Sheet(assets, width, height, rnd)
    m = int(width * rnd.uniform(.05, .09))
    s.paragraph(words_of(text, most + 400), m, width - m, m, height - m, name or rnd.choice(PROSE_FACES), size, rnd.uniform(1.2, 1.45), rnd.random() < .4, most)
    return s


def x_height_size(assets, name, pixels):
    for size in range(6, 60):
        b = ImageFont.truetype(os.path.join(assets, "fonts", name), size).getbbox("x", anchor="ls")
        if -b[1] >= pixels:
            return size


def dense(assets, text, rnd):
    """A4 at 200 dpi: heading, two columns, a table across, page number"""
    s = Sheet(assets, 1654, 2339, rnd)
    name = rnd.choice(PROSE_FACES[:5])
    size = rnd.randint(25, 29)
    m = rnd.randint(120, 170)
    _, y, _ = s.paragraph(words_of(text, 60)[:7], m, 1654 - m, m - 40, 2200, name, size + 14, 1.2)
    middle, gap, most = 827, rnd.randint(22, 40), rnd.randint(1250, 1600)
    bottom, y = y, y + size
    for x0, x1 in ((m, middle - gap), (middle + gap, 1654 - m)):
        _, end, _ = s.paragraph(words_of(text, most + 300), x0, x1, y, 1780, name, size, 1.3, True, most)
        bottom = max(bottom, end)
    s.table(text, m, 1654 - m, bottom + 40, name, size, rnd.randint(4, 7), rnd.randint(3, 5), rnd.random() < .6)
    number = str(rnd.randint(2, 300))
    s.write(number, 820, 2260, s.font(name, size)[0])
    return s


def blank(rnd, kind):
    w, h = rnd.choice([(640, 640), (1240, 1754), (800, 600), (1000, 1414)])
    g = np.random.RandomState(rnd.randrange(10 ** 6))
    a = np.full((h, w), 255.0)
    if kind != "white":
        a = np.full((h, w), rnd.uniform(150, 250)) + np.linspace(-25, 25, w)[None] * rnd.choice([-1, 0, 1]) + g.randn(h, w) * rnd.uniform(1, 14)
    if kind == "photo":
        small = Image.fromarray(g.randint(0, 255, (rnd.randint(4, 14), rnd.randint(4, 14)), np.uint8).astype(np.uint8))
        a = np.asarray(small.resize((w, h), Image.BICUBIC), np.float32) + g.randn(h, w) * 5
    im = Image.fromarray(a.clip(0, 255).astype(np.uint8))
    if kind == "lines":
        d = ImageDraw.Draw(im)
        for _ in range(rnd.randint(1, 6)):
            x, y = rnd.randrange(w), rnd.randrange(h)
            d.line((x, y, x + rnd.choice([0, rnd.randint(-400, 400)]), y + rnd.choice([0, rnd.randint(-400, 400)])), fill=rnd.randrange(120), width=rnd.randint(1, 4))
        d.rectangle((5, 5, w - 6, h - 6), outline=60, width=2)
    return im


def score(rnd):
    """Music: staves with notes that say nothing"""
    w, h = rnd.choice([(640, 640), (1024, 1448), (900, 640)])
    gap, left, right = max(5, w // 120), w * .08, w * .93                      # between the lines of a staff
    im = Image.new("L", (w, h), 255)
    d = ImageDraw.Draw(im)
    for y in np.arange(h / 12, h * .95 - 14 * gap, 10 * gap):
        for k in range(5):
            bar = left + (right - left) * k / 4
            d.line((left, y + k * gap, right, y + k * gap), fill=0)
            d.line((bar, y, bar, y + 4 * gap), fill=0)
        x = left + 3 * gap
        while x < right - 2 * gap:
            step = rnd.randint(-2, 9)
            at, stem = y + (4 - step / 2) * gap, 1 if step < 4 else -1
            d.ellipse((x - .65 * gap, at - .45 * gap, x + .65 * gap, at + .45 * gap), fill=0 if rnd.random() < .8 else None, outline=0, width=2)
            d.line((x + .6 * gap * stem, at, x + .6 * gap * stem, at - 3.3 * gap * stem), fill=0)
            x += rnd.uniform(1.8, 4.5) * gap
    return im


def layout(assets, text, rnd):
    s = Sheet(assets, 1240, 1754, rnd)
    name, size, m = rnd.choice(PROSE_FACES[:6]), rnd.randint(20, 26), rnd.randint(80, 140)
    y, right = m, 1240 - m
    for k in range(rnd.randint(3, 10)):
        label = "title" if k == 0 else rnd.choices(["sub_title", "text", "table", "image"], [2, 5, 1.2, 1])[0]
        if y > 1754 - m - 160:
            break
        start = len(s.lines)
        if label == "image":
            h = rnd.randint(120, 300)
            g = np.random.RandomState(rnd.randrange(10 ** 6)).randint(0, 200, (8, 12)).astype(np.uint8)
            x1 = m + rnd.randint(300, right - m)
            s.image.paste(Image.fromarray(g).resize((x1 - m, h), Image.BICUBIC), (m, y))
            s.box("image", m, y, x1, y + h)
            y += h + size
        elif label == "table":
            y = int(s.table(text, m, right, y, name, size, rnd.randint(3, 6), rnd.randint(3, 5), rnd.random() < .7)) + size
        else:
            big = size + {"title": 16, "sub_title": 5, "text": 0}[label]
            most = rnd.randint(120, 600) if label == "text" else 40
            _, below, _ = s.paragraph(words_of(text, most), m, right, y, 1754 - m, name, big, 1.3, label == "text" and rnd.random() < .4, most)
            if len(s.lines) == start:
                break
            s.box(label, *s.ink)
            y = int(below + size * 1.6)
    return s


def spoil(im, kind, rnd):
    """-> file bytes, suffix"""
    g = np.random.RandomState(rnd.randrange(10 ** 6))
    quality = 0
    if kind == "blur+noise":
        im = im.filter(ImageFilter.GaussianBlur(rnd.uniform(.6, 1.0)))
        im = Image.fromarray((np.asarray(im, np.float32) + g.randn(im.height, im.width) * rnd.uniform(8, 16)).clip(0, 255).astype(np.uint8))
        quality = 85
    elif kind == "skew+jpeg":
        im = im.rotate(rnd.choice([-1.5, 1.5]), Image.BICUBIC, fillcolor=255)
        quality = 30
    elif kind == "fax":
        im = im.rotate(rnd.uniform(-.8, .8), Image.BICUBIC, fillcolor=255)
        im = Image.fromarray(((np.asarray(im.filter(ImageFilter.GaussianBlur(.7)), np.float32) + g.randn(im.height, im.width) * 12) > 140).astype(np.uint8) * 255).convert("1")
    elif kind == "camera":
        quality = 80
    out = io.BytesIO()
    im.save(out, **(dict(format="JPEG", quality=quality) if quality else dict(format="PNG", optimize=True)))
    return out.getvalue(), ".jpg" if quality else ".png"


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--assets", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--pages", type=int, default=6, help="of each bucket and kind")
    ap.add_argument("--seed", type=int, default=7)
    a = ap.parse_args()
    rnd = random.Random(a.seed)
    text = Text(a.assets, rnd, held=True)
    os.makedirs(a.out, exist_ok=True)
    manifest = []

    def add(bucket, kind, k, sheet, modes, how=None, **what):
        im = sheet.image if isinstance(sheet, Sheet) else sheet
        data, suffix = spoil(im, how or kind, rnd)
        name = f"{bucket}_{kind}/{k:02d}".replace("+", "_") + suffix
        path = os.path.join(a.out, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(data)
        if "text" in what:
            with open(os.path.splitext(path)[0] + ".txt", "w", encoding="utf-8") as f:
                f.write(what["text"] + "\n")
        if "blocks" in what:
            with open(os.path.splitext(path)[0] + ".blocks", "w", encoding="utf-8") as f:
                for label, *box in what["blocks"]:
                    print(label, *(round(v * s / 999) for v, s in zip(box, im.size * 2)), file=f)
        manifest.append(dict(file=name, bucket=bucket, kind=kind, size=im.size, modes=modes, **what))
    for kind in ("clean", "blur+noise", "skew+jpeg", "x7"):
        for k in range(a.pages):
            name = PROSE_FACES[k % len(PROSE_FACES)]
            size = x_height_size(a.assets, name, 7) if kind == "x7" else rnd.randint(18, 26)
            s = prose(a.assets, text, rnd, 640, 640, size, rnd.randint(300, 800), name)
            add("640", kind, k, s, ["base", "small"] if kind == "clean" else ["base"], text="\n".join(s.lines))
    for kind in ("clean", "blur+noise", "skew+jpeg", "x7"):
        for k in range(a.pages):
            name = PROSE_FACES[k % len(PROSE_FACES)]
            size = x_height_size(a.assets, name, 7) if kind == "x7" else rnd.randint(20, 22)
            s = prose(a.assets, text, rnd, 1024, 1448, size, 2000, name)
            add("1024x1448", kind, k, s, ["gundam", "base"] if kind != "x7" else ["gundam"], text="\n".join(s.lines))
    for kind in ("clean", "skew+jpeg", "fax"):
        for k in range(max(2, a.pages * 2 // 3)):
            s = dense(a.assets, text, rnd)
            add("A4", kind, k, s, ["gundam"], text="\n".join(s.lines))
    for k in range(2 * a.pages):
        kind = ("white", "grey", "photo", "lines")[k % 4]
        im = blank(rnd, kind)
        add("blank", kind, k, im, ["gundam"], "white" if kind == "white" else "camera", text="")
    for k in range(a.pages):
        s = layout(a.assets, text, rnd)
        add("layout", "clean", k, s, ["gundam"], blocks=s.blocks)
    for k in range(a.pages):
        add("blank", "score", k, score(rnd), ["gundam"], "camera" if k % 2 else "white", text="")
    with open(os.path.join(a.out, "manifest.json"), "w") as f:
        json.dump(manifest, f, ensure_ascii=False, indent=0)


if __name__ == "__main__":
    main()
