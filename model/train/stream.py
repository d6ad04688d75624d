"""Endless batches of pages, made by worker processes."""
import random
import numpy as np
import torch
from charset import INDEX
from pages import PageMaker, finish, layout_target, plain_target, tile_grid
from text import Text
from tokenizer import EOS, PAD, PROMPT_LAYOUT, PROMPT_TEXT, Tokenizer

# grids of gundam and how often they come up
GRIDS = {(2, 3): 60, (3, 2): 8, (2, 2): 6, (3, 3): 5, (1, 2): 5, (2, 1): 5, (1, 3): 2, (3, 1): 3, (4, 1): 2, (2, 4): 2, (4, 2): 1, (1, 4): 1, (5, 1): 1, (6, 1): 1}
# mode -> least print in pixels of the view, most characters, most tokens, pages in a batch (short, long)
SHAPE = {"tiny": (13, 520, 256, 160, 128), "small": (12, 1000, 448, 112, 80), "base": (9.5, 4200, 1792, 56, 28), "large": (10, 4200, 1792, 32, 18),
         "gundam": (10.5, 4800, 2048, 144, 84)}


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

    def size(self, mode, grid):
        """width, height of a source image that the mode shows at a sensible scale"""
        r = self.r
        if mode == "gundam":
            c, q = grid
            while True:
                scale = r.uniform(.5, 1.35) if r.random() < .8 else r.uniform(.4, .6)
                w, h = int(640 * c * scale * r.uniform(.85, 1.2)), int(640 * q * scale * r.uniform(.85, 1.2))
                if r.random() < .4 and grid == (2, 3):
                    w, h = r.choice([(1654, 2339), (1240, 1754), (1275, 1650), (1700, 2200), (1024, 1448), (1080, 1400), (992, 1403), (850, 1100)])
                if max(w, h) > 640 and w * h < 4_200_000 and tile_grid(w, h) == grid:
                    return w, h
        if mode in ("tiny", "small"):
            side = 512 if mode == "tiny" else 640
            aspect = 1 if r.random() < .5 else np.exp(r.uniform(-.8, .8))
            scale = r.choice([1, 1, r.uniform(.6, 1.5)])
            return int(side * scale * aspect ** .5), int(side * scale / aspect ** .5)
        side = 1024 if mode == "base" else 1280
        k = r.random()
        if k < .15 and mode == "base":
            return 640, 640
        aspect = np.exp(r.uniform(-.45, .1)) if k < .6 else np.exp(r.uniform(-.5, .5)) if k < .9 else np.exp(r.uniform(-2.2, 2.2))
        long = side * (r.uniform(.45, 1.3) if r.random() < .7 else r.uniform(.9, 1.6))
        return max(24, int(long * min(1, aspect))), max(24, int(long * min(1, 1 / aspect)))

    def page(self, mode, grid, level, fill):
        """level 0..1: how hard; fill 0..1: how full. -> page, target line"""
        r = self.r
        least, most_chars, _, _, _ = SHAPE[mode]
        while True:
            w, h = self.size(mode, grid)
            if mode == "gundam":
                zoom = min(640 * grid[0] / w, 640 * grid[1] / h)
            elif mode in ("tiny", "small"):
                zoom = (512 if mode == "tiny" else 640) / max(w, h)
            else:
                zoom = (1024 if mode == "base" else 1280) / max(w, h)
            low = max(least + (5 - 5 * min(1, level * 2)), least) / zoom
            low = max(low, 9.5)
            k = r.random()
            kind = "blank" if k < .025 and level > .15 else r.choices(["prose", "mixed", "tables", "form", "lines"], [4, 2, 1.2, 1.2, 2 if level < .2 else .8])[0]
            budget = int(most_chars * fill * r.uniform(.5, 1.05)) + 20
            full = (w * h * .8 / (budget * .62)) ** .5                        # print at which the budget fills the page
            em = full * r.uniform(.75, 1.15) if r.random() < .6 else np.exp(r.uniform(np.log(low), np.log(low * 2.2)))
            em = min(max(em, low), 72, h * .8)
            if em < low * .9:
                continue
            noise = .45 if level < .1 else .25 if level < .3 else .1
            layout = level > .3 and r.random() < (.3 if mode in ("base", "gundam") else .1)
            if layout:                                                        # little text, so that the boxes count
                budget = min(budget, r.randint(200, 1800))
                kind = "mixed" if kind == "lines" else kind
            page = self.maker.make(w, h, em, budget, kind, noise, layout, r.randint(3, 12) if layout else 99)
            if kind != "blank" and not page.blocks:
                continue
            return page, layout_target(page) if layout else plain_target(page)

    def batch(self, mode, level, fill=None, grid=(1, 1), count=None):
        r = self.r
        _, _, most_tokens, short, long = SHAPE[mode]
        fill = fill if fill is not None else r.choice([r.uniform(.05, .35), r.uniform(.2, 1)]) * min(1, .35 + level)
        if count is None:
            count = short if fill < .35 else long
            count = max(2, int(count * self.scale / (1 if mode != "gundam" else grid[0] * grid[1] + 1.5)))
        pages, ids, at, points, answers, firsts = [], [], [], [], [], []
        while len(pages) < count:
            page, line = self.page(mode, grid, level, fill)
            t, starts = self.tokenizer.encode(line.text)
            prompt = self.prompts[page.layout]
            if len(prompt) + len(t) + 1 > most_tokens:
                continue
            where = np.full((len(prompt) + len(t) + 1, 2), -1.0, np.float32)
            if t:
                where[len(prompt):-1] = looks(line, np.array(starts))
            drawn = plain_target(page)                                         # every character on the page
            known = [k for k in np.flatnonzero(drawn.at[:, 0] >= 0) if drawn.text[k] != " "]
            points.append(drawn.at[known].astype(np.float32))
            answers.append(np.array([INDEX[drawn.text[k]] + 1 for k in known], np.int64))
            pages.append(page)
            ids.append(prompt + t + [EOS])
            at.append(where)
            firsts.append(len(prompt))
        longest = -(-max(map(len, ids)) // 32) * 32 + 1
        all_ids, all_at = np.full((count, longest), PAD, np.int64), np.full((count, longest, 2), -1, np.float32)
        for k, i in enumerate(ids):
            all_ids[k, :len(i)], all_at[k, :len(i)] = i, at[k]
        most = max(1, max(map(len, points)))
        all_points, all_answers = np.full((count, most, 2), -1, np.float32), np.full((count, most), -100, np.int64)
        for k, (p, a) in enumerate(zip(points, answers)):
            all_points[k, :len(p)], all_answers[k, :len(a)] = p, a
        glyphs = [np.concatenate([g, np.full((len(g), 1), k)], 1) for k, g in enumerate(map(finish, pages))]
        glyphs = np.concatenate(glyphs)
        canvas = [-(-max(s) // 16) * 16 for s in ([p.height for p in pages], [p.width for p in pages])]
        return dict(mode=mode, grid=grid, canvas=canvas, total=int((glyphs[:, 1] * glyphs[:, 2]).sum()), glyphs=torch.from_numpy(glyphs.astype(np.int32)),
                    sizes=torch.tensor([(p.width, p.height) for p in pages]), dots=[k for k, p in enumerate(pages) if p.dots], layout=torch.tensor([p.layout for p in pages]),
                    pictures=[(k, *q) for k, p in enumerate(pages) for q in p.pictures], ids=torch.from_numpy(all_ids), at=torch.from_numpy(all_at),
                    points=torch.from_numpy(all_points), answers=torch.from_numpy(all_answers), first=torch.tensor(firsts))


class Stream(torch.utils.data.IterableDataset):
    """progress: shared number 0..1 over the whole training; mix(progress) -> weights of the modes"""

    def __init__(self, atlas, folder, vocabulary, seed, progress, mix, scale):
        self.args, self.progress, self.mix = (atlas.without_pixels(), folder, vocabulary), progress, mix
        self.seed, self.scale = seed, scale

    def __iter__(self):
        info = torch.utils.data.get_worker_info()
        torch.set_num_threads(1)
        s = PageStream(*self.args, self.seed * 1000 + (info.id if info else 0), self.scale)
        while True:
            p = self.progress.value
            weights, level = self.mix(p)
            mode = s.r.choices(list(weights), list(weights.values()))[0]
            grid = s.r.choices(list(GRIDS), list(GRIDS.values()))[0] if mode == "gundam" else (1, 1)
            yield s.batch(mode, level, grid=grid)
