"""Invented pages: where each glyph stands, what the page says, and where its blocks are.

A page maker runs on the CPU and draws nothing: it hands the renderer a list of glyphs, rectangles and pictures in
pixels of the page, and the trainer the text with the place of every character. Layout is numpy, a line at a time.
"""
import math
import numpy as np
from charset import CHARSET, INDEX, PLAIN, SPACE
from fonts import SOLID

MARKS = [".", ".", " .", "-", "-", "_", "_", "=", "*", "~", "#", "+", "·", "- ", "* ", ". .", "–", "—", "=-", "/", ":"]
LEAST_MARKS = 5         # fewer are text

LABELS = ("title", "sub_title", "text", "table", "image")


def tile_grid(w, h, tile=640, most=9):
    """(columns, rows) that gundam cuts an image into (spec 2.4)."""
    best, grid = float("inf"), (1, 1)
    for i, j in sorted(((i, j) for i in range(1, most + 1) for j in range(1, most + 1) if 2 <= i * j <= most), key=lambda g: (g[0] * g[1], g[0])):
        d = abs(w / h - i / j)
        if d < best:
            best, grid = d, (i, j)
        elif d == best and w * h > .5 * tile * tile * i * j:
            grid = (i, j)
    return grid


class Line:
    """A piece of text with the centre of each of its characters [n][2], -1 for unknown, and the box of its ink."""
    __slots__ = ("text", "at", "ink")

    def __init__(self, text, at, ink=None):
        self.text, self.at, self.ink = text, at, ink


def hull(boxes, width=float("inf"), height=float("inf")):
    """The smallest box around some, of which any may be None"""
    boxes = [b for b in boxes if b]
    if not boxes:
        return None
    x0, y0, x1, y1 = zip(*boxes)
    return [max(0, min(x0)), max(0, min(y0)), min(width, max(x1)), min(height, max(y1))]


class Block:
    """rows: for text [Line, ...]; for a table [[Line of a cell, ...], ...]; box [x1 y1 x2 y2] in pixels."""

    def __init__(self, label, rows, box):
        self.label, self.rows, self.box = label, rows, box


class Page:
    def __init__(self, width, height):
        self.width, self.height = width, height
        self.glyphs = []        # arrays [n][5]: atlas offset, w, h, x, y
        self.rects = []         # x, y, w, h: full ink
        self.pictures = []      # x, y, w, h
        self.blocks = []
        self.dots = False       # print of a dot matrix
        self.layout = False     # the target is the layout markup
        self.em = 0.0           # size of the body's print


class PageMaker:
    def __init__(self, atlas, text, rnd):
        self.atlas, self.text, self.r = atlas, text, rnd
        self.sizes = atlas.sizes
        self.face_count = len(atlas.has)

    # ---- faces and lines ----

    def pick_face(self, mono=False):
        r = self.r
        if mono:
            return r.choice(self.atlas.mono)
        some = self.atlas.common if r.random() < .5 else range(self.face_count)
        for _ in range(4 if r.random() < .6 else 1):                          # body text is upright more often than not
            face = r.choice(some)
            if face in self.atlas.upright:
                break
        return face

    def pick_size(self, em):
        return int(np.argmin(np.abs(self.sizes - em)))

    def index(self, text, face):
        """Characters of the set that the face has; others become plain ones or vanish."""
        i = np.array([INDEX.get(c, -1) for c in text], np.int64)
        i = i[i >= 0]
        if not self.atlas.has[face][i].all():
            i = np.array([INDEX[c] for c in text.translate(PLAIN) if c in INDEX], np.int64)
            i = i[self.atlas.has[face][i]]
        return i

    def advance(self, i, faces, size):
        return self.atlas.metric[faces, size, i, 4] + self.tracking * self.sizes[size]

    def draw(self, i, faces, size, x, base, advance, underline=False):
        """Set one line of characters i with its left edge at x on the base line; -> Line, right edge."""
        page, em = self.page, self.sizes[size]
        left = x + np.cumsum(advance) - advance
        m = self.atlas.metric[faces, size, i]
        y = np.full(len(i), base, np.float64)
        if self.jitter:
            y += np.rint(np.array([self.r.gauss(0, self.jitter) for _ in range(len(i))]))
        g = np.stack([self.atlas.offset[faces, size, i], m[:, 0], m[:, 1], np.rint(left + m[:, 2]), np.rint(y + m[:, 3])], 1)
        g = g[(m[:, 0] > 0) & (m[:, 1] > 0)].astype(np.int64)
        page.glyphs.append(g)
        ink = [g[:, 3].min(), g[:, 4].min(), (g[:, 3] + g[:, 1]).max(), (g[:, 4] + g[:, 2]).max()] if len(g) else None
        right = float(left[-1] + advance[-1])
        if underline:
            page.rects.append((x, base + max(1, em * .1), right - x, max(1, em // 18)))
        at = np.stack([left + advance / 2, np.full(len(i), base - .3 * em)], 1)
        return Line("".join(CHARSET[k] for k in i), at, ink), right

    def row_of_marks(self, x0, x1, base, face, size):
        """A mark again and again from x0 to x1 at most: leaders, typed rules, blanks to fill in. It is ink that says nothing."""
        i = self.index(self.r.choice(self.marks), face)
        if not len(i):
            return
        advance = self.advance(i, np.full(len(i), face), size)
        times = int((x1 - x0) / float(advance.sum())) if x1 > x0 and advance.sum() > 0 else 0
        if times * len(i) >= LEAST_MARKS:
            self.draw(np.tile(i, times), np.full(times * len(i), face), size, x0, base, np.tile(advance, times))

    def break_lines(self, i, advance, width, most, hyphenate):
        """Greedy: -> (from, to, hyphen) of each line."""
        end = np.cumsum(advance)
        spaces = np.flatnonzero(i == SPACE)
        at, out, n = 0, [], len(i)
        while at < n and len(out) < most:
            j = int(np.searchsorted(end, (end[at - 1] if at else 0) + width, "right"))
            if j >= n:
                out.append((at, n, False))
                break
            k = int(np.searchsorted(spaces, j, "right")) - 1
            k = int(spaces[k]) if k >= 0 and spaces[k] > at else -1
            if hyphenate and k >= 0 and j - k > 5 and self.r.random() < .6:
                cut = self.r.randint(k + 3, j - 2)
                follows = i[cut:cut + 3]
                if len(follows) == 3 and all(CHARSET[c].isalpha() for c in i[k + 1:cut + 3]):
                    out.append((at, cut, True))
                    at = cut
                    continue
            if k >= 0:
                out.append((at, k, False))
                at = k + 1
            else:
                out.append((at, max(j, at + 1), False))
                at = max(j, at + 1)
        return out

    def set_text(self, string, x0, x1, y, bottom, face, size, align="left", most=10 ** 6, lead=None, emphasis=0.0, hyphenate=False, indent=0.0):
        """Wrap and draw a text from y downwards; -> (lines, y below). Stops at the bottom or when the budget is spent."""
        r, em = self.r, float(self.sizes[size])
        lead = (lead or self.lead) * em
        i = self.index(string[:max(0, self.budget)], face)
        if len(i) < 1:
            return [], y
        faces = np.full(len(i), face)
        under = np.zeros(len(i), bool)
        if emphasis and len(self.atlas.relatives[face]) > 1:
            marks = np.concatenate([[-1], np.flatnonzero(i == SPACE), [len(i)]])
            k = 0
            while k < len(marks) - 1:
                if r.random() < emphasis:
                    stop = min(len(marks) - 1, k + r.randint(1, 5))
                    other = r.choice(self.atlas.relatives[face])
                    span = slice(marks[k] + 1, marks[stop])
                    if r.random() < .25:
                        under[span] = True
                    elif self.atlas.has[other][i[span]].all():
                        faces[span] = other
                    k = stop
                k += 1
        advance = self.advance(i, faces, size)
        lines, hyphen = [], INDEX["-"]
        for a, b, broken in self.break_lines(i[:], advance, x1 - x0 - indent - (em * .35 if hyphenate else 0), most, hyphenate):
            while b > a and i[b - 1] == SPACE:
                b -= 1
            while a < b and i[a] == SPACE:
                a += 1
            if a == b:
                continue
            if y + 1.25 * em > bottom or self.budget <= 0:
                break
            c, f, w, u = i[a:b], faces[a:b], advance[a:b], under[a:b]
            if broken:
                c, f = np.append(c, hyphen), np.append(f, f[-1])
                w, u = np.append(w, self.atlas.metric[f[-1], size, hyphen, 4]), np.append(u, False)
            free = x1 - x0 - indent - float(w.sum())
            x = x0 + (indent if not lines or align != "first" else 0)
            if align == "center":
                x += free / 2
            elif align == "right":
                x += free
            elif align == "scatter":
                x += r.uniform(0, max(free, 0))
            elif align == "justify" and b < len(i) and (c == SPACE).any() and 0 < free < .3 * (x1 - x0):
                w = w + (c == SPACE) * (free / (c == SPACE).sum())
            line, right = self.draw(c, f, size, x, y + em, w)
            if self.marks and not broken and x1 - right > 3 * em and r.random() < .12:
                self.row_of_marks(right + r.uniform(.3, .8) * em, r.uniform(right, x1) if r.random() < .3 else x1, y + em, face, size)
            if self.marks and not broken and x - x0 > 3 * em and r.random() < .3:
                self.row_of_marks(x0, x - r.uniform(.3, .8) * em, y + em, face, size)
            if u.any():
                k = np.flatnonzero(u)
                self.page.rects.append((line.at[k[0], 0] - w[k[0]] / 2, y + 1.12 * em, line.at[k[-1], 0] - line.at[k[0], 0] + w[k[0]], max(1, em // 18)))
            lines.append(line)
            self.budget -= len(line.text) + 1
            y += lead
        return lines, y

    def box_of(self, lines):
        """The ink of the lines, cut off at the edges of the page"""
        return hull([l.ink for l in lines], self.page.width, self.page.height)

    def put(self, label, rows):
        if any(l.ink for l in rows):
            self.page.blocks.append(Block(label, rows, self.box_of(rows)))
            return True
        return False

    # ---- blocks: each draws from y down and returns the y below, or None where nothing fitted ----

    def paragraph(self, x0, x1, y, bottom, face, size, align, lines):
        r, em = self.r, self.sizes[size]
        want = int(min(self.budget, lines * (x1 - x0) / (em * .46) + 6))
        if want < 3:
            return None
        rows, y = self.initial(x0, x1, y, bottom, face, size, align) if self.initials and lines > 5 and r.random() < .3 else ([], y)
        text = self.text.running(want, self.noise)
        more, below = self.set_text(text, x0, x1, y, bottom, face, size, align, lines - len(rows), emphasis=r.choice([0, 0, 0, .03, .1]),
                                    hyphenate=align == "justify" and r.random() < .5, indent=em * r.uniform(.8, 2) if r.random() < .12 and align == "left" else 0)
        return below if self.put("text", rows + more) else None

    def initial(self, x0, x1, y, bottom, face, size, align):
        """The first lines of a paragraph beside its first letter, which is as high as they are; it belongs to the first line."""
        r, em, high = self.r, self.sizes[size], self.r.choice([2, 2, 3])
        text = self.text.running(int(high * (x1 - x0) / (em * .46)), self.noise)
        big = self.pick_size(((high - 1) * self.lead + .75) * em / .72)
        first, font = self.index(text[:1].upper(), face), np.array([face])
        if big == len(self.sizes) - 1 or not len(first) or not text[:1].isalpha() or y + high * self.lead * em > bottom:
            return [], y
        wide = self.advance(first, font, big)
        rows, below = self.set_text(text[1:], x0 + float(wide.sum()) + .1 * em, x1, y, bottom, face, size, align, high)
        if len(rows) == high:
            rows[0] = join([self.draw(first, font, big, x0, y + (high - 1) * self.lead * em + em, wide)[0], rows[0]], "")
        return rows, below

    def heading(self, x0, x1, y, bottom, face, size, label):
        r = self.r
        least, most = ((1.5, 2.3) if label == "title" else (1.13, 1.45)) if self.page.layout else ((1.2, 1.9) if label == "title" else (1, 1.3))   # labels must be told by sight
        big = self.pick_size(self.sizes[size] * r.uniform(least, most))
        if r.random() < .6:
            face = r.choice(self.atlas.relatives[face])
        elif r.random() < .4:
            face = self.pick_face()
        em = self.sizes[big]
        number = f"{r.randint(1, 12)}" + r.choice(["", ".", f".{r.randint(1, 9)}"]) + " " if label == "sub_title" and r.random() < .3 else ""
        text = number + self.text.title(int(min(self.budget, r.uniform(.25, 1.1) * (x1 - x0) / (em * .5) + 3)))
        rows, below = self.set_text(text, x0, x1, y, bottom, face, big, r.choice(["left", "left", "center"]) if label == "title" else "left", 2, 1.15)
        return below + .3 * em if self.put(label, rows) else None

    def items(self, x0, x1, y, bottom, face, size, count):
        r, em, rows = self.r, self.sizes[size], []
        bullet = r.choice(["•", "•", "-", "–", "*", "1", "1)", "a)", "§"])
        bullet = bullet if self.atlas.has[face][INDEX[bullet[0]]] else "-"
        hang = em * r.uniform(1.2, 2.4)
        for k in range(count):
            mark = {"1": f"{k + 1}.", "1)": f"{k + 1})", "a)": chr(97 + k % 26) + ")"}.get(bullet, bullet)
            if y + 1.25 * em > bottom or self.budget < 12:
                break
            text = self.text.running(r.randint(8, max(12, int(1.6 * (x1 - x0 - hang) / (em * .46)))), self.noise)
            head, _ = self.draw(self.index(mark, face), np.full(len(mark), face), size, x0, y + em, self.advance(self.index(mark, face), np.full(len(mark), face), size))
            self.budget -= len(mark) + 1
            lines, below = self.set_text(text, x0 + hang, x1, y, bottom, face, size, "left", 3)
            if not lines:
                self.page.glyphs.pop()
                break
            lines[0] = join([head, lines[0]], " ")
            rows += lines
            y = below + em * r.choice([0, 0, .2, .4])
        return y if self.put("text", rows) else None

    def fields(self, x0, x1, y, bottom, face, size, count):
        """Names and values on common lines, as forms and receipts have them."""
        r, em, rows = self.r, self.sizes[size], []
        at_right, vx = r.random() < .5, x0 + (x1 - x0) * r.uniform(.3, .6)
        rule = r.choice([0, 0, .1, 1])
        bold = r.choice(self.atlas.relatives[face])
        for _ in range(count):
            if y + 1.25 * em > bottom or self.budget < 40:
                break
            k, v = self.index(self.text.field(), bold)[:28], self.index(self.text.value() if r.random() < .7 else self.text.name(1, 3), face)[:34]
            if not len(k) or not len(v):
                continue
            kw, vw = self.advance(k, np.full(len(k), bold), size), self.advance(v, np.full(len(v), face), size)
            if self.marks and r.random() < .3 and x0 + kw.sum() <= x1:            # to be filled in
                name, end = self.draw(k, np.full(len(k), bold), size, x0, y + em, kw)
                self.row_of_marks(end + .4 * em, r.uniform(end, x1) if r.random() < .3 else x1, y + em, face, size)
                rows.append(name)
                self.budget -= len(k) + 1
                y += self.lead * em
                continue
            x = x1 - vw.sum() if at_right else vx
            if x + vw.sum() > x1 or x0 + kw.sum() + .5 * em > x:
                continue
            name, end = self.draw(k, np.full(len(k), bold), size, x0, y + em, kw)
            value, _ = self.draw(v, np.full(len(v), face), size, x, y + em, vw)
            if self.marks and r.random() < .8:
                self.row_of_marks(end + r.uniform(.2, .6) * em, x - r.uniform(.2, .6) * em, y + em, face, size)
            elif r.random() < .06 and x - end > 3 * em and at_right:
                self.page.rects += [(q, y + em - 1, max(1, em // 14), max(1, em // 14)) for q in np.arange(end + .3 * em, x - .3 * em, .35 * em)]
            rows.append(join([name, value], " "))
            self.budget -= len(k) + len(v) + 2
            y += self.lead * em
            if r.random() < rule:
                self.page.rects.append((x0, y - (self.lead - 1.2) * em * .5, x1 - x0, 1))
        return y if self.put("text", rows) else None

    def cell_maker(self):
        r, t = self.r, self.text
        k = r.randrange(8)
        if k < 3: return t.amount, True
        if k == 3: return t.date, False
        if k == 4: return t.code, False
        if k == 5: return lambda: str(r.randint(1, 999)), True
        if k == 6: return t.value, r.random() < .5
        return lambda: t.name(1, 3), False

    def table(self, x0, x1, y, bottom, face, size, rows, columns):
        r, em, page = self.r, float(self.sizes[size]), self.page
        makers = [(lambda: self.text.name(1, 4), False) if k == 0 and r.random() < .7 else self.cell_maker() for k in range(columns)]
        pitch = max(self.lead, 1.3) * em * r.choice([1, 1, 1.2])
        rows = int(min(rows, (bottom - y) / pitch - .3, self.budget / (8 * columns)))
        if rows < 2:
            return None
        bold = r.choice(self.atlas.relatives[face])
        head = r.random() < .8
        cells = [[self.index(self.text.field() if k == 0 and head else "" if r.random() < .03 and c else makers[c][0](), bold if k == 0 and head else face)[:30]
                  for c in range(columns)] for k in range(rows)]
        fonts = [[np.full(len(cells[k][c]), bold if k == 0 and head else face) for c in range(columns)] for k in range(rows)]
        width = lambda k, c: float(self.advance(cells[k][c], fonts[k][c], size).sum()) if len(cells[k][c]) else 0.0
        gap = em * r.uniform(.7, 1.6)
        while columns and sum(max(width(k, c) for k in range(rows)) for c in range(columns)) + gap * columns > x1 - x0:
            columns -= 1
        if columns < 2:
            return None
        wide = [max(width(k, c) for k in range(rows)) for c in range(columns)]
        spare = (x1 - x0 - sum(wide) - gap * columns) * r.choice([0, .5, 1])
        wide = [w + spare / columns for w in wide]
        left = x0 + gap / 2 + np.concatenate([[0], np.cumsum([w + gap for w in wide])])
        style = r.choice(["none", "none", "grid", "grid", "rows", "head", "frame"])
        top, out, thick = y, [], r.choice([1, 1, 2])
        for k in range(rows):
            line = []
            for c in range(columns):
                i = cells[k][c]
                if not len(i):
                    line.append(Line("", np.zeros((0, 2))))
                    continue
                w = self.advance(i, fonts[k][c], size)
                x = left[c] + (wide[c] - w.sum() if makers[c][1] else 0)
                line.append(self.draw(i, fonts[k][c], size, x, y + (pitch - em) / 2 + .85 * em, w)[0])
                self.budget -= len(i) + 1
            if any(len(c.text) for c in line):
                out.append(line)
            y += pitch
            if style in ("grid", "rows") or style == "head" and k == 0:
                page.rects.append((x0, y, left[-1] - gap / 2 - x0, thick))
        if style in ("grid", "frame"):
            right = left[-1] - gap / 2
            page.rects += [(x0, top, right - x0, thick), (x0, y, right - x0, thick), (x0, top, thick, y - top), (right, top, thick, y - top)]
            if style == "grid":
                page.rects += [(left[c] - gap / 2, top, thick, y - top) for c in range(1, columns)]
        box = self.box_of([c for row in out for c in row])
        if not box:
            return None
        if style in ("grid", "frame", "rows"):
            box = [x0, top, min(page.width, left[-1] - gap / 2), y]
        page.blocks.append(Block("table", out, box))
        return y + .4 * em

    def picture(self, x0, x1, y, bottom):
        r = self.r
        w = (x1 - x0) * r.uniform(.3, 1)
        h = min(w * r.uniform(.3, .9), (bottom - y) * .8)
        if h < 40 or w < 40:
            return None
        x = x0 + r.choice([0, .5, 1]) * (x1 - x0 - w)
        self.page.pictures.append((int(x), int(y), int(w), int(h)))
        self.page.blocks.append(Block("image", [], [x, y, x + w, y + h]))
        return y + h + self.r.uniform(4, 20)

    # ---- kinds of pages ----

    def flow(self, x0, x1, y, bottom, face, size, kinds, align):
        """Fill a column with blocks of the given weights; -> y below."""
        r, em = self.r, self.sizes[size]
        if self.page.layout:                                                  # names and values without rules look like a table
            kinds = {k: v * self.OFTEN.get(k, 1) for k, v in kinds.items() if k != "fields"}
        while y is not None and y + 1.3 * em < bottom and self.budget > 12 and len(self.page.blocks) < self.most_blocks:
            kind = r.choices(list(kinds), list(kinds.values()))[0]
            room = max(1, int((bottom - y) / (self.lead * em)))
            if kind == "paragraph":
                n = room if len(kinds) == 1 and r.random() < .5 else r.randint(1, max(1, min(room, r.choice([4, 10, 30, 60]))))
                f = self.pick_face() if r.random() < .04 else face
                below = self.paragraph(x0, x1, y, bottom, f, size, align, n)
            elif kind == "line":
                below = self.paragraph(x0, x1, y, bottom, face, size, r.choice(["left", "left", "scatter", "center"]), 1)
            elif kind == "heading":
                below = self.heading(x0, x1, y + .4 * em, bottom, face, size, "sub_title")
            elif kind == "title":
                below = self.heading(x0, x1, y, bottom, face, size, "title")
                kinds = {k: v for k, v in kinds.items() if k != "title"}
            elif kind == "items":
                below = self.items(x0, x1, y, bottom, face, size, r.randint(2, min(max(room, 2), 9)))
            elif kind == "fields":
                below = self.fields(x0, x1, y, bottom, face, size, r.randint(2, min(max(room, 2), 14)))
            elif kind == "table":
                below = self.table(x0, x1, y, bottom, face, size, r.randint(2, min(max(room, 2), 18)), r.randint(2, 7))
            else:
                below = self.picture(x0, x1, y, bottom)
            if below is None:
                self.misses += 1
                if self.misses > 3:
                    break
                continue
            gap = r.choice([0, .2, .4, .6, 1.0]) * self.spacing
            y = below + em * (max(gap, r.uniform(.5, 1.6)) if self.page.layout else gap)    # where blocks end must be seen
            if r.random() < .02:
                self.page.rects.append((x0, y - .2 * em, x1 - x0, r.choice([1, 1, 2, 3])))
            if self.marks and r.random() < .4 and y + 1.3 * em < bottom:
                left = r.choice([x0, x0, r.uniform(x0, x1)])
                self.row_of_marks(left, r.choice([x1, r.uniform(left, x1)]), y + em, face, size)
                y += self.lead * em
        return y

    KINDS = {
        "prose": dict(paragraph=10, heading=1, title=.6, items=.5),
        "plain": dict(paragraph=1),
        "magazine": dict(paragraph=8, heading=1, title=.2, image=.8),
        "mixed": dict(paragraph=5, heading=1.5, title=1, items=1.2, fields=.8, table=1.2, image=.5),
        "tables": dict(paragraph=1.5, heading=.6, title=.5, table=5, fields=1),
        "form": dict(paragraph=1, heading=.7, title=.8, fields=6, table=1),
        "lines": dict(line=1),
    }
    IN_COLUMNS = ("prose", "plain", "mixed", "magazine")
    OFTEN = dict(heading=1.6, image=2.4)                                      # on layout pages

    def make(self, width, height, em, budget, kind, noise, layout=False, most_blocks=99, columns=.5):
        """One page of width x height pixels in print of about em pixels and at most budget characters; columns: chance of two to five where they fit."""
        r = self.r
        page = self.page = Page(width, height)
        page.layout = layout
        self.budget, self.noise, self.misses, self.most_blocks = budget, noise, 0, most_blocks
        self.lead = r.uniform(1.08, 1.55) if r.random() < .8 else r.uniform(1.5, 2.1)
        self.tracking = r.gauss(0, .01) if r.random() < .4 else r.uniform(0, .1) if r.random() < .08 else 0.0
        self.spacing = r.choice([0, 1, 1, 1.5])
        self.initials = kind == "magazine"
        self.marks = r.sample(MARKS, 3) if r.random() < .2 else []
        typed = r.random() < .1
        self.jitter = r.uniform(.2, .7) if typed and r.random() < .4 else 0
        page.dots = typed and em > 17 and r.random() < .25                     # needles leave nothing of small print
        face, size = self.pick_face(typed), self.pick_size(em)
        page.em = em = float(self.sizes[size])
        if kind == "blank":
            return self.blank(page)
        mx, my = width * r.uniform(.01, .12), height * r.uniform(.01, .1)
        if r.random() < .08:
            mx, my = 3 + width * .004, 3 + height * .004
        x0, x1, y, bottom = mx + 2, width - mx - 2, my + 2, height - my - 2
        leaves = [(x0, x1)]
        if kind in self.IN_COLUMNS and not layout and width > 1.15 * height and x1 - x0 > 44 * em and r.random() < .3:     # a book lies open
            spine, inner = width * r.uniform(.47, .53), max(em, width * r.uniform(.012, .05))
            leaves = [(x0, spine - inner), (spine + inner, x1)]
        self.budget = 0
        for x0, x1 in leaves:
            self.budget += budget // len(leaves)
            self.leaf((x0, x1, y, bottom), face, size, kind, columns)
        if r.random() < .05:                                                  # a frame around everything
            page.rects += [(2, 2, width - 4, 2), (2, height - 4, width - 4, 2), (2, 2, 2, height - 4), (width - 4, 2, 2, height - 4)]
        return page

    def leaf(self, frame, face, size, kind, columns):
        """Fill a page, or one of two, within frame: x0, x1, y, bottom."""
        r, page, em = self.r, self.page, float(self.sizes[size])
        x0, x1, y, bottom = frame
        align = r.choices(["left", "justify", "center", "right"], [.5, .4, .06, .04])[0]
        if kind not in ("lines",) and self.budget > 500 and r.random() < .35:      # running head and page number
            small = max(0, size - r.randint(0, 3))
            if r.random() < .5:
                rows, below = self.set_text(self.text.title(r.randint(8, 40)), x0, x1, max(2, y - 1.2 * em), bottom, face, small, r.choice(["left", "center", "right"]), 1)
                if self.put("text", rows):
                    y = max(y, below + .5 * em)
            number = r.choice(["{}", "- {} -", "Page {}", "{} / 99", "Seite {}", "– {} –"]).format(r.randint(1, 400))
            foot = (number, bottom - 1.3 * em, small, r.choice(["left", "center", "right"]))
            bottom -= 2.2 * em
        else:
            foot = None
            if r.random() < .4:
                y += r.uniform(0, .25) * (bottom - y)
        kinds = self.KINDS[kind]
        wide = (x1 - x0) / em
        columns = 1 if kind not in self.IN_COLUMNS or wide < 32 or r.random() >= columns else 2
        for least in (48, 66, 84):
            columns += columns > 1 and wide > least and r.random() < .4
        if kind == "form" and r.random() < .3:
            y = self.letterhead(x0, x1, y, bottom, face, size)
        if columns > 1:
            if r.random() < .5:
                below = self.heading(x0, x1, y, bottom, face, size, "title")
                y = y if below is None else below + .5 * em
            gap = em * r.uniform(.7, 1.6)
            step = (x1 - x0 + 2 * gap) / columns
            start, total, end = y, self.budget, bottom
            below = r.random() < .5                                           # something across the page under the columns
            if below or r.random() < .5:
                bottom = min(bottom - 4 * em * below, y + max(8 * em, total * em * .46 / (x1 - x0) * self.lead * em * (.95 if below else 1.15)))
            self.budget, feet, ruled = 0, [], r.random() < .2
            for k in range(columns):
                self.budget += total // columns
                feet.append(self.flow(x0 + k * step, x0 + (k + 1) * step - 2 * gap, start, bottom, face, size, kinds, r.choice(["justify", "left"])))
                if k and ruled:
                    page.rects.append((x0 + k * step - gap, start, 1, bottom - start))
            if below:
                self.budget = max(self.budget, total // 8)
                self.flow(x0, x1, max(feet) + em * r.uniform(.6, 1.6), end, face, size, {"table": 3, "paragraph": 1, "heading": .3}, align)
        else:
            self.flow(x0, x1, y, bottom, face, size, kinds, align)
        if foot and self.budget > -40:
            self.budget += 40
            rows, _ = self.set_text(foot[0], x0, x1, foot[1], page.height, face, foot[2], foot[3], 1)
            self.put("text", rows)

    def letterhead(self, x0, x1, y, bottom, face, size):
        """Sender, date, receiver: short lines, as letters and invoices begin."""
        r, em = self.r, self.sizes[size]
        for align, n in ((r.choice(["left", "right", "center"]), r.randint(1, 4)), (r.choice(["left", "right"]), 1), ("left", r.randint(2, 4))):
            rows = []
            for _ in range(n):
                text = r.choice([self.text.name(1, 3), self.text.name(1, 2) + f" {r.randint(1, 199)}", f"{r.randint(1000, 99999)} " + self.text.word().title(), self.text.date(), self.text.code()])
                lines, y = self.set_text(text, x0, x1, y, bottom, face, size, align, 1)
                rows += lines
            if not self.put("text", rows):
                break
            y += em * r.uniform(.5, 2)
        return y

    def blank(self, page):
        """No text: nothing, rules, frames or pictures."""
        r, w, h = self.r, page.width, page.height
        for _ in range(r.choice([0, 0, 0, 1, 2, 5])):
            page.rects.append((r.uniform(0, .6) * w, r.uniform(0, .95) * h, r.uniform(.1, .4) * w, r.choice([1, 2, 3])) if r.random() < .6 else
                              (r.uniform(0, .95) * w, r.uniform(0, .6) * h, r.choice([1, 2, 3]), r.uniform(.1, .4) * h))
        for _ in range(r.choice([1, 3, 9]) if self.marks else 0):
            self.row_of_marks(r.uniform(0, .6) * w, w * r.uniform(.5, 1), h * r.uniform(.05, .95), self.pick_face(), self.pick_size(page.em))
        for _ in range(r.choice([0, 0, 1, 1, 2])):
            pw, ph = int(w * r.uniform(.15, .95)), int(h * r.uniform(.15, .95))
            page.pictures.append((r.randrange(w - pw + 1), r.randrange(h - ph + 1), pw, ph))
            if page.layout:
                x, y, pw, ph = page.pictures[-1]
                page.blocks.append(Block("image", [], [x, y, x + pw, y + ph]))
        if page.layout:                                                        # overlapping pictures have no clear boxes
            page.pictures, page.blocks = page.pictures[:1], page.blocks[:1]
        return page


# ---- what the model shall answer ----

def join(lines, glue):
    """One Line of several, glue between them."""
    text, at = [], []
    for k, line in enumerate(lines):
        if k:
            text.append(glue)
            at.append(np.full((len(glue), 2), -1.0))
        text.append(line.text)
        at.append(line.at)
    return Line("".join(text), np.concatenate(at) if at else np.zeros((0, 2)), hull([l.ink for l in lines]))


def plain_target(page):
    """Every visual line on its own; cells of a table row are separated by a blank."""
    rows = []
    for b in page.blocks:
        for row in b.rows:
            rows.append(join([c for c in row if c.text], " ") if isinstance(row, list) else row)
    return join(rows, "\n")


def fixed(text, at=None):
    """Markup; its characters look at the point `at`."""
    return Line(text, np.tile(np.array(at if at is not None else (-1.0, -1.0), np.float64), (len(text), 1)))


def layout_target(page):
    """The released model's markup: label, box in thousandths of the page, then the block as markdown."""
    out = []
    for k, b in enumerate(page.blocks):
        x1, y1, x2, y2 = (min(999, max(0, round(999 * v / s))) for v, s in zip(b.box, (page.width, page.height) * 2))
        first, last = (b.box[0], b.box[1]), (b.box[2] - 1, b.box[3] - 1)
        out += [fixed(f"<|ref|>{b.label}<|/ref|><|det|>[[{x1},{y1},", first), fixed(f"{x2},{y2}]]<|/det|>\n", last)]
        if b.label == "table":
            out.append(fixed("<table>"))
            for row in b.rows:
                out.append(fixed("<tr>"))
                for c in row:
                    out += [fixed("<td>"), c, fixed("</td>")]
                out.append(fixed("</tr>"))
            out.append(fixed("</table>"))
        elif b.rows:
            if b.label in ("title", "sub_title"):
                out.append(fixed("# " if b.label == "title" else "## "))
            out.append(join(b.rows, " "))
        if k + 1 < len(page.blocks):
            out.append(fixed("  \n\n"))
    return join(out, "")


def finish(page):
    """-> glyphs [n][5] with the rectangles, clipped later by the renderer"""
    rects = np.array([(0, int(w), int(h), int(x), int(y)) for x, y, w, h in page.rects if int(w) > 0 and int(h) > 0 and int(w) * int(h) <= SOLID], np.int64).reshape(-1, 5)
    return np.concatenate(page.glyphs + [rects]) if page.glyphs or len(rects) else np.zeros((0, 5), np.int64)
