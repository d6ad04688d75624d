"""Endless batches of pages, made by worker processes."""
import os, random
from dataclasses import dataclass
import numpy as np
import torch
from charset import INDEX
from pages import Page, PageMaker, finish, layout_target, plain_target, tile_grid
from render import MODES
from text import Text
from tokenizer import EOS, PAD, PROMPT_LAYOUT, PROMPT_TEXT, Tokenizer

# grids of tiles and how often they come up; in gundam-m more than six leave too little of the context for the text
GRIDS = {"gundam": {(2, 3): 75, (3, 2): 6, (2, 2): 5, (3, 3): 4, (1, 2): 4, (2, 1): 4, (1, 3): 2, (3, 1): 2, (4, 1): 2, (2, 4): 1, (4, 2): 1, (1, 4): 1, (5, 1): 1, (6, 1): 1},
         "gundam-m": {(2, 3): 64, (3, 2): 12, (2, 2): 12, (1, 2): 4, (2, 1): 4, (1, 3): 2, (3, 1): 2}}
# mode -> least print in pixels of the view, most characters, most tokens
SHAPE = {"tiny": (13, 520, 256), "small": (13, 1000, 448), "base": (14, 4200, 1792), "large": (14, 4200, 1792), "gundam": (15, 6400, 2560), "gundam-m": (15, 6400, 2560)}


@dataclass
class Sort:
    """A sort of pages. The pages of a batch are of one sort and of nearly one size: a canvas is as large as the largest page on it."""
    share: float
    sizes: tuple = ()               # of the page in pixels; none: any
    em: tuple = ()                  # print in pixels of a page as wide as `width`; none: any that can be read
    chars: tuple = ()
    kinds: tuple = (("prose", 4), ("mixed", 2), ("tables", 1.2), ("form", 1.2), ("lines", .8))
    columns: float = .5
    layout: float = 0.0
    blank: float = .025
    width: int = 0                  # for which em is given


A4 = ((1654, 2339), (1654, 2339), (1700, 2200), (1240, 1754), (1275, 1650), (1080, 1528), (2067, 2923))
PAGE = ((1024, 1448), (1024, 1448), (1080, 1400), (992, 1403), (1024, 1325), (1240, 1754))
WIDE = ((2339, 1654), (2339, 1654), (2200, 1700), (1754, 1240), (3000, 2000))
PROSE = (("prose", 3), ("plain", 3), ("mixed", 1))
COLUMNS = (("prose", 3), ("plain", 2), ("magazine", 3), ("mixed", 1))
SHORT = ((640, 640), (640, 640), (640, 480), (600, 800))
# What each mode is asked to read, once pages are mixed. What failed most has sorts of its own: columns, print of 7 pixels' x-height, short pages, boxes.
SORTS = {
    "gundam": [Sort(.24, layout=.1, blank=.05),
               Sort(.20, A4, (20, 34), (1800, 6200), COLUMNS, .85, width=1654, blank=0),
               Sort(.30, WIDE, (20, 34), (1800, 6200), COLUMNS, .9, width=2339, blank=.03),
               Sort(.10, PAGE, (16, 27), (900, 3200), PROSE, .1, width=1024, blank=0),
               Sort(.12, PAGE, (13, 18), (700, 4200), PROSE, .15, width=1024, blank=0),
               Sort(.34, PAGE + A4, (15, 26), (200, 3600), (("mixed", 1),), .3, 1.0, width=1240)],
    "base": [Sort(.4, layout=.15, blank=.03),
             Sort(.34, SHORT, (16, 34), (150, 1100), PROSE + (("lines", .5), ("form", .5)), .05, width=640),
             Sort(.16, ((640, 640),), (13, 18), (150, 1600), PROSE, .1, width=640, blank=0),
             Sort(.10, ((800, 1000), (700, 990)), (15, 26), (200, 1800), (("mixed", 1),), .1, 1.0, width=800)],
    "large": [Sort(.3, layout=.15, blank=.03),
              Sort(.35, SHORT, (16, 34), (150, 1100), PROSE + (("lines", .5), ("form", .5)), .05, width=640),
              Sort(.35, ((640, 640),), (13, 18), (150, 1600), PROSE, .1, width=640, blank=0)],
    "gundam-m": [Sort(.3, layout=.1, blank=.04),
                 Sort(.40, PAGE, (13, 26), (700, 4200), PROSE, .15, width=1024, blank=.01),
                 Sort(.20, A4, (18, 32), (1800, 6200), COLUMNS, .85, width=1654),
                 Sort(.30, WIDE, (18, 32), (1800, 6200), COLUMNS, .9, width=2339, blank=.03),
                 Sort(.1, PAGE + A4, (15, 26), (200, 3600), (("mixed", 1),), .3, 1.0, width=1240)],
}
ANY = Sort(1, layout=.1)
WORK = 125_000          # of a batch, in tokens of the decoder
BATCHES = 6             # made at once, of one sort and size
ORDERS = 32             # random orders of a batch's pages: each way of spoiling takes the first few of one


@dataclass
class Sample:
    page: Page
    ids: list               # prompt, answer, EOS
    first: int              # index of the answer
    at: np.ndarray          # [ids][2] where each token stands, -1: nowhere
    points: np.ndarray      # [n][2] centres of the characters on the page
    answers: np.ndarray     # [n] which


def looks(line, starts):
    """Where each token is read: at its first letter. One that begins with a blank is read at the letter after it,
    a line break at the end of its line."""
    at = line.at[starts]
    after, before = line.at[np.minimum(starts + 1, len(line.at) - 1)], line.at[np.maximum(starts - 1, 0)]
    blank, broken = (np.array([line.text[k] == c for k in starts]) for c in " \n")
    at = np.where((blank & (after[:, 0] >= 0))[:, None], after, at)
    return np.where((broken & (at[:, 0] < 0))[:, None], before, at)


class PageStream:
    def __init__(self, atlas, folder, vocabulary, seed, scale=1.0):
        self.r = random.Random(seed)
        self.tokenizer = Tokenizer(vocabulary)
        self.maker = PageMaker(atlas, Text(folder, self.r), self.r)
        self.scale = scale
        self.prompts = [self.tokenizer.encode(p)[0] for p in (PROMPT_TEXT, PROMPT_LAYOUT)]

    def size(self, mode, grid, sort, r):
        """Width and height of source images that the mode shows at a sensible scale"""
        if sort.sizes:
            return r.choice(sort.sizes)
        if MODES[mode][1]:
            c, q = grid
            while True:
                scale = r.uniform(.5, 1.35) if r.random() < .8 else r.uniform(.4, .6)
                w, h = int(640 * c * scale * r.uniform(.85, 1.2)), int(640 * q * scale * r.uniform(.85, 1.2))
                if max(w, h) > 640 and w * h < 4_200_000 and tile_grid(w, h, MODES[mode][1]) == grid:
                    return w, h
        if mode in ("tiny", "small"):
            side = 512 if mode == "tiny" else 640
            aspect = 1 if r.random() < .5 else np.exp(r.uniform(-.8, .8))
            scale = r.choice([1, 1, r.uniform(.6, 1.5)])
            return int(side * scale * aspect ** .5), int(side * scale / aspect ** .5)
        side = 1024 if mode == "base" else 1280
        k = r.random()
        if k < .3 and mode == "base":                                          # what gundam shows without tiles
            return r.randint(240, 640), r.randint(240, 640)
        aspect = np.exp(r.uniform(-.45, .1)) if k < .6 else np.exp(r.uniform(-.5, .5)) if k < .9 else np.exp(r.uniform(-2.2, 2.2))
        long = side * (r.uniform(.45, 1.3) if r.random() < .7 else r.uniform(.9, 1.6))
        return max(24, int(long * min(1, aspect))), max(24, int(long * min(1, 1 / aspect)))

    def near(self, size, mode, grid):
        """The same, or a little smaller"""
        r = self.r
        for _ in range(10):
            w, h = size if r.random() < .3 else (max(24, int(v * r.uniform(.92, 1))) for v in size)
            if not MODES[mode][1] or max(w, h) > 640 and tile_grid(w, h, MODES[mode][1]) == grid:
                return w, h
        return size

    def page(self, mode, grid, level, fill, sort, size):
        """level 0..1: how hard; fill 0..1: how full. -> page, target line"""
        r = self.r
        least, most_chars, _ = SHAPE[mode]
        while True:
            w, h = self.near(size, mode, grid)
            side, tile, _ = MODES[mode]
            zoom = min(tile * grid[0] / w, tile * grid[1] / h) if tile else side / max(w, h)
            low = max(least + (5 - 5 * min(1, level * 2)), least) / zoom
            low = max(low, 11)
            kinds = sort.kinds if level >= .2 else (("prose", 4), ("lines", 2))
            kind = "blank" if r.random() < sort.blank and level > .15 else r.choices(*zip(*kinds))[0]
            layout = level > .3 and r.random() < sort.layout
            budget = r.randint(*sort.chars) if sort.chars else r.randint(200, 1800) if layout else int(most_chars * fill * r.uniform(.7, 1.05)) + 20
            if sort.em:
                em = np.exp(r.uniform(*np.log(sort.em))) * w / sort.width
            else:
                full = (w * h * .8 / (budget * .62)) ** .5                    # print at which the budget fills the page
                em = full * r.uniform(.75, 1.15) if r.random() < .45 else np.exp(r.uniform(np.log(low), np.log(low * 2.2)))
                em = min(max(em, low), 72, h * .8)
            if em < low * .9:
                continue
            noise = .45 if level < .1 else .25 if level < .3 else .1
            kind = "mixed" if layout and kind == "lines" else kind
            page = self.maker.make(w, h, em, budget, kind, noise, layout, r.randint(3, 12) if layout else 99, sort.columns)
            if kind != "blank" and not page.blocks:
                continue
            return page, layout_target(page) if layout else plain_target(page)

    def sample(self, mode, grid, level, fill=None, sort=ANY, size=None):
        """-> Sample; fill 0..1 of the most characters of the mode, None: any"""
        r = self.r
        while True:
            part = r.choices([(.01, .05), (.05, .35), (.3, 1)], [.12, .22, .66])[0]      # letters and slides of few lines, too
            full = r.uniform(*part) * min(1, .35 + level) if fill is None else fill
            page, line = self.page(mode, grid, level, full, sort, size or self.size(mode, grid, sort, r))
            prompt = self.prompts[page.layout]
            t, starts = self.tokenizer.encode(line.text)
            if len(prompt) + len(t) + 1 <= SHAPE[mode][2]:
                break
        at = np.full((len(prompt) + len(t) + 1, 2), -1.0, np.float32)
        if t:
            at[len(prompt):-1] = looks(line, np.array(starts))
        drawn = plain_target(page)                                             # every character on the page
        known = [k for k in np.flatnonzero(drawn.at[:, 0] >= 0) if drawn.text[k] != " "]
        return Sample(page, prompt + t + [EOS], len(prompt), at, drawn.at[known].astype(np.float32), np.array([INDEX[drawn.text[k]] + 1 for k in known], np.int64))

    def plan(self, r, mode, level):
        """-> grid, sort and size of the pages of a few batches"""
        grids, tile = GRIDS.get(mode, {(1, 1): 1}), MODES[mode][1]
        grid = r.choices(list(grids), list(grids.values()))[0]
        fits = lambda s: not s.sizes or not tile or any(tile_grid(*z, tile) == grid for z in s.sizes)
        sorts = [s for s in SORTS.get(mode, [ANY]) if fits(s)] if level > .6 else [ANY]
        sort = r.choices(sorts, [s.share for s in sorts])[0]
        while True:
            size = self.size(mode, grid, sort, r)
            if not tile or tile_grid(*size, tile) == grid:
                return grid, sort, size

    def batches(self, r, mode, level):
        """BATCHES batches of pages of one sort, each of pages of similar size and length and of about the same work. What they are of is drawn
        from r, the pages are not: processes that train together with equal r have batches that take equally long."""
        grid, sort, size = self.plan(r, mode, level)
        views, slots = cost(mode, grid)
        most = sort.chars[1] / 2.3 if sort.chars else SHAPE[mode][2]
        room, pool, out = WORK * self.scale, [], []
        while len(out) < BATCHES:
            more = BATCHES if not pool else .5
            pool = sorted(pool + [self.sample(mode, grid, level, None, sort, size) for _ in range(int(more * room / (views + slots + .4 * most)) + 2)], key=lambda s: -len(s.ids))
            out, now = [], []
            for s in pool:
                if len(now) > 1 and (len(now) + 1) * (views + slots + len(now[0].ids)) > room:
                    out.append(now)
                    now = []
                now.append(s)
        self.r.shuffle(out)                                                    # what is left over is any
        out = sorted(out[:BATCHES], key=lambda b: -len(b[0].ids))
        r.shuffle(out)
        return [collate(b, mode, grid, self.r) for b in out]


def cost(mode, grid):
    """-> work of encoding a page, in tokens of the decoder; positions that it takes there"""
    side, tile, _ = MODES[mode]
    one = lambda side: (side // 16) ** 2 * (.4 + side / 10000)
    slots = (side // 64) * (side // 64 + 1) + 1
    if not tile:
        return one(side), slots
    (c, r), q = grid, tile // 64
    return one(side) + c * r * one(tile), slots + q * r * (q * c + 1)


def padded(rows, fill, shape=(), step=1, kind=np.int64):
    """rows of different length -> tensor [rows][longest][shape]"""
    longest = -(-max(1, max(map(len, rows))) // step) * step
    out = np.full((len(rows), longest, *shape), fill, kind)
    for k, row in enumerate(rows):
        out[k, :len(row)] = row
    return torch.from_numpy(out)


def collate(samples, mode, grid, rnd):
    """What the renderer and the losses take. Lists, not tensors, where the CPU reads them."""
    pages = [s.page for s in samples]
    orders = [rnd.sample(range(len(pages)), len(pages)) for _ in range(ORDERS)]
    coarse = [rnd.uniform(.55, .92), rnd.uniform(.55, .92), .68]               # lower resolutions, the last also for bilevel pages
    for k, factor in enumerate(coarse):                                        # first the pages that stay legible at them, and how many these are
        order = sorted(rnd.sample(range(len(pages)), len(pages)), key=lambda n: pages[n].em * factor < 9.5)
        coarse[k] = factor, sum(p.em * factor >= 9.5 for p in pages)
        orders.append(order)
    glyphs = np.concatenate([np.concatenate([g, np.full((len(g), 1), k)], 1) for k, g in enumerate(map(finish, pages))])
    return dict(mode=mode, grid=grid, canvas=[-(-max(s) // 16) * 16 for s in ([p.height for p in pages], [p.width for p in pages])],
                total=int((glyphs[:, 1] * glyphs[:, 2]).sum()), glyphs=torch.from_numpy(glyphs.astype(np.int32)), sizes=torch.tensor([(p.width, p.height) for p in pages]),
                dots=torch.tensor([k for k, p in enumerate(pages) if p.dots], dtype=torch.long), pictures=[(k, *q) for k, p in enumerate(pages) for q in p.pictures],
                orders=torch.tensor(orders), coarse=coarse, layout=torch.tensor([p.layout for p in pages]), first=torch.tensor([s.first for s in samples]),
                ids=padded([s.ids for s in samples], PAD, step=32), at=padded([s.at for s in samples], -1, (2,), 32, np.float32),
                points=padded([s.points for s in samples], -1, (2,), 1, np.float32), answers=padded([s.answers for s in samples], -100))


class Stream(torch.utils.data.IterableDataset):
    """progress: shared number 0..1 over the whole training; mix(progress) -> weights of the modes; process: which of those that train together"""

    def __init__(self, atlas, folder, vocabulary, seed, progress, mix, scale, process=0):
        self.args, self.progress, self.mix = (atlas.without_pixels(), folder, vocabulary), progress, mix
        self.seed, self.scale, self.process = seed, scale, process

    def __iter__(self):
        info = torch.utils.data.get_worker_info()
        torch.set_num_threads(1)
        os.nice(10)                                                            # the process that feeds the device goes first
        seed = self.seed * 1000 + (info.id if info else 0)
        s, plan = PageStream(*self.args, seed + 100_000_007 * self.process, self.scale), random.Random(seed)
        while True:
            weights, level = self.mix(self.progress.value)
            mode = plan.choices(list(weights), list(weights.values()))[0]
            yield from s.batches(plan, mode, level)
