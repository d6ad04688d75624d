"""Error rates of a model on a folder of pages (evalset.py makes one): greedy, batched, on the device.

    evaluate.py --weights DIR/weights --vocabulary tokenizer.json --pages DIR [--out report.json]
"""
import argparse, json, os, re, time
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from model import Config, Model, rope_tables
from pages import tile_grid
from render import MODES
from tokenizer import EOS, PROMPT_LAYOUT, PROMPT_TEXT, Tokenizer


# ---- views, as the engine makes them (spec 2) ----

def tensor(im):
    return torch.from_numpy(np.asarray(im, np.uint8).copy()).permute(2, 0, 1).float() / 127.5 - 1


def grid_of(size, mode):
    """(columns, rows) of tiles; (1, 1): none"""
    tile = MODES[mode][1]
    return tile_grid(*size, tile) if tile and max(size) > 640 else (1, 1)


def views(path, mode):
    """-> global view, tiles or None, grid"""
    side, tile, squash = MODES[mode]
    im = Image.open(path).convert("RGB")
    tiles, grid = None, grid_of(im.size, mode)
    if grid != (1, 1):
        c, r = grid
        big = im.resize((tile * c, tile * r), Image.BICUBIC)
        tiles = torch.stack([tensor(big.crop((x * tile, y * tile, (x + 1) * tile, (y + 1) * tile))) for y in range(r) for x in range(c)])
    if squash:
        im = im.resize((side, side), Image.BICUBIC)
    return tensor(ImageOps.pad(im, (side, side), color=(127, 127, 127))), tiles, grid


# ---- greedy decoding ----

class Decoder:
    """A batch of pages with equally long prompts. One token for all pages is one replay of a CUDA graph."""

    def __init__(self, model, x, most):
        self.model, self.c = model, model.c
        b, n, width = x.shape
        self.length = n + most
        dim = width // self.c.heads
        self.cos, self.sin = (t.to(x.dtype) for t in rope_tables(self.length, dim, self.c.theta, x.device))
        self.keys = [torch.zeros(b, self.c.heads, self.length, dim, dtype=x.dtype, device=x.device) for _ in model.model.layers]
        self.values = [torch.zeros_like(k) for k in self.keys]
        self.places = torch.arange(self.length, device=x.device)
        self.out = torch.full((b, most), EOS, dtype=torch.long, device=x.device)
        self.pos, self.count = torch.tensor([n], device=x.device), torch.zeros(1, dtype=torch.long, device=x.device)
        self.done = torch.zeros(b, 1, dtype=torch.bool, device=x.device)
        for i, layer in enumerate(model.model.layers):
            q, k, v = layer.self_attn.project(layer.input_layernorm(x), self.cos[:n], self.sin[:n])
            self.keys[i][:, :, :n], self.values[i][:, :, :n] = k, v
            o = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = layer.rest(x + layer.self_attn.o_proj(o.transpose(1, 2).flatten(2)))[0]
        self.token = self.choose(x[:, -1:])

    def choose(self, x):
        t = self.model.lm_head(self.model.model.norm(x)).float().argmax(-1)
        t = torch.where(self.done, torch.full_like(t, EOS), t)
        self.out.index_copy_(1, self.count, t)
        self.count += 1
        self.done |= t == EOS
        return t

    def step(self):
        x = F.embedding(self.token, self.model.model.embed_tokens.weight)
        cos, sin = self.cos[self.pos], self.sin[self.pos]
        seen = (self.places <= self.pos)[None, None, None]
        for i, layer in enumerate(self.model.model.layers):
            q, k, v = layer.self_attn.project(layer.input_layernorm(x), cos, sin)
            self.keys[i].index_copy_(2, self.pos, k)
            self.values[i].index_copy_(2, self.pos, v)
            o = F.scaled_dot_product_attention(q, self.keys[i], self.values[i], attn_mask=seen)
            x = layer.rest(x + layer.self_attn.o_proj(o.transpose(1, 2).flatten(2)))[0]
        self.pos += 1
        self.token.copy_(self.choose(x))

    def run(self):
        most = self.out.shape[1]
        replay = self.step
        if self.out.is_cuda and most > 8:
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                self.step()
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self.step()
            replay = graph.replay
        at = int(self.count)                                       # recording runs nothing
        while at < most:
            replay()
            at += 1
            if at % 64 == 0 and bool(self.done.all()):
                break
        return self.out


@torch.no_grad()
def read(model, tokenizer, paths, mode, prompt, most, device):
    """Texts of pages that share mode and grid"""
    kind = next(model.parameters()).dtype
    made = [views(p, mode) for p in paths]
    grid = made[0][2]
    globe = model.encode(torch.stack([m[0] for m in made]).to(device, kind))[0]
    tiles = model.encode(torch.cat([m[1] for m in made]).to(device, kind))[0] if made[0][1] is not None else None
    ids = torch.tensor(tokenizer.encode(prompt)[0], device=device).expand(len(paths), -1)
    out = Decoder(model, model.sequence(model.picture(globe, tiles, grid), ids), most).run().tolist()
    return [(tokenizer.decode(o[:o.index(EOS)] if EOS in o else o), EOS in o) for o in out]


# ---- measures ----

def distance(a, b):
    """Levenshtein distance, a row at a time"""
    if not a or not b:
        return max(len(a), len(b))
    a, b = (np.frombuffer(s.encode("utf-32-le"), np.uint32) for s in (a, b))
    j = np.arange(len(b) + 1)
    row = j.copy()
    for i, c in enumerate(a):
        n = np.concatenate([[i + 1], np.minimum(row[1:] + 1, row[:-1] + (b != c))])
        row = np.minimum.accumulate(n - j) + j
    return int(row[-1])


def boxes(text):
    """-> (label, x1, y1, x2, y2) of each block"""
    return [(label, *map(int, box)) for label, *box in re.findall(r"<\|ref\|>(.*?)<\|/ref\|><\|det\|>\[\[(\d+),(\d+),(\d+),(\d+)\]\]<\|/det\|>", text)]


def overlap(a, b):
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(0, w) * max(0, h)
    return both / max(1, (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def evaluate(model, tokenizer, folder, device, report, log, most_pages=10 ** 6):
    was = model
    model = Model(was.c).to(device).eval()
    model.load_state_dict(was.state_dict())
    model = model.to(torch.bfloat16 if device == "cuda" else torch.float32)
    jobs, results = {}, []
    for page in json.load(open(os.path.join(folder, "manifest.json"))):
        for mode in page["modes"]:
            jobs.setdefault((mode, grid_of(page["size"], mode), "blocks" in page), []).append(page)
    for (mode, grid, layout), pages in jobs.items():
        for k in range(0, min(len(pages), most_pages), 48):
            some = pages[k:k + 48]
            t = time.time()
            most = 1900 if layout or mode not in ("tiny", "small") else 500
            texts = read(model, tokenizer, [os.path.join(folder, p["file"]) for p in some], mode, PROMPT_LAYOUT if layout else PROMPT_TEXT, most, device)
            log(read=mode, grid=grid, pages=len(some), seconds=round(time.time() - t, 1))
            for page, (text, ended) in zip(some, texts):
                squeeze = lambda s: " ".join(s.split())
                r = dict(file=page["file"], bucket=page["bucket"], kind=page["kind"], mode=mode, read=text, ended=ended)
                if layout:
                    found = boxes(text)
                    r["blocks"] = len(page["blocks"])
                    r["found"] = sum(any(f[0] == b[0] and overlap(f[1:], b[1:]) >= .8 for f in found) for b in page["blocks"])
                else:
                    want, got = squeeze(page["text"]), squeeze(text)
                    r.update(errors=distance(got, want), characters=len(want), exact=page["text"] == text)
                results.append(r)
    groups = {}
    for r in results:
        groups.setdefault((r["bucket"], r["kind"], r["mode"]), []).append(r)
    for (bucket, kind, mode), rs in sorted(groups.items()):
        if "blocks" in rs[0]:
            log(bucket=bucket, kind=kind, mode=mode, found=f"{sum(r['found'] for r in rs)}/{sum(r['blocks'] for r in rs)}", unended=sum(not r["ended"] for r in rs))
        elif not rs[0]["characters"]:
            log(bucket=bucket, kind=kind, mode=mode, empty=f"{sum(not r['read'].strip() for r in rs)}/{len(rs)}")
        else:
            n = sum(r["characters"] for r in rs)
            log(bucket=bucket, kind=kind, mode=mode, cer=round(100 * sum(r["errors"] for r in rs) / n, 2),
                median=round(100 * float(np.median([r["errors"] / r["characters"] for r in rs])), 2), characters=n, unended=sum(not r["ended"] for r in rs))
    json.dump(results, open(report, "w"), ensure_ascii=False, indent=0)


def main():
    import checkpoint
    ap = argparse.ArgumentParser()
    for name in ("--weights", "--vocabulary", "--pages"):
        ap.add_argument(name, required=True)
    ap.add_argument("--out", default="evaluation.json")
    ap.add_argument("--most-pages", type=int, default=10 ** 6)
    args = ap.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = Tokenizer(args.vocabulary)
    model = Model(Config(vocab=tokenizer.size))
    model.take(checkpoint.load(args.weights)["model"])
    evaluate(model.to(device), tokenizer, args.pages, device, args.out, lambda **k: print(json.dumps(k), flush=True), args.most_pages)


if __name__ == "__main__":
    main()
