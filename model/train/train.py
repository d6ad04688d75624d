"""One stage of training: from weights (or none) to weights, for a given time.

    train.py --assets DIR --vocabulary tokenizer.json --out DIR [--resume DIR/weights] --minutes 9 --progress 0 .35 --rate 1 1

--progress is the part of the whole curriculum that this stage covers, --rate the factors on the learning rates at its
start and end. Everything that decides the recipe is in `curriculum` and `teaching` below. A number written to OUT/minutes
while the stage runs becomes its new length.
"""
import argparse, json, os, random, time
from multiprocessing import Value
import torch
import checkpoint
from charset import CHARSET
from evaluate import evaluate
from fonts import Atlas
from losses import Objective
from model import Config, Model, Teachers
from optimizer import make_optimizers
from render import Renderer
from stream import PageStream, Stream, collate
from tokenizer import Tokenizer

WARM = 100              # steps of warming up


def curriculum(p):
    """progress -> weights of the modes, difficulty 0..1. First the encoder learns to see letters on small views with
    little text, then the pages grow; from .34 on everything is mixed."""
    if p < .09:
        return dict(tiny=1), .05
    if p < .17:
        return dict(tiny=.6, small=.4), .15
    if p < .25:
        return dict(tiny=.25, small=.4, base=.35), .3
    if p < .34:
        return dict(tiny=.1, small=.25, base=.45, gundam=.2), .5
    return dict(tiny=.05, small=.09, base=.32, large=.02, gundam=.52), min(1, .5 + (p - .34) * 2)


def teaching(p):
    """progress -> weights of the slot heads and of the guided attention, strength of the spoiling (least, most)"""
    slots, guide = (1, .5) if p < .4 else (.4, .5) if p < .85 else (.2, .3)
    return slots, guide, (.5, .5) if p < .05 else (.3, 1)


class Log:
    def __init__(self, path):
        self.file, self.start = open(path, "a"), time.time()

    def __call__(self, **values):
        line = json.dumps(dict(values, s=round(time.time() - self.start, 1)))
        print(line, flush=True)
        self.file.write(line + "\n")
        self.file.flush()


def compile_blocks(model):
    """Each kind of block once, with free numbers of views and positions."""
    from torch import _dynamo
    for key, value in (("recompile_limit", 64), ("accumulated_recompile_limit", 512), ("cache_size_limit", 64)):
        if hasattr(_dynamo.config, key):
            setattr(_dynamo.config, key, value)

    def freed(forward):
        def call(*args):
            for t in args:
                _dynamo.maybe_mark_dynamic(t, 0)
                if t.ndim == 3 and t.shape[1] != 64:
                    _dynamo.maybe_mark_dynamic(t, 1)
            return forward(*args)
        return call
    for block in model.blocks():
        block.forward = freed(torch.compile(block.forward))


def newer(path, minutes):
    try:
        with open(path) as f:
            return float(f.read())
    except (OSError, ValueError):
        return minutes


def to(batch, device):
    return {k: v.to(device, non_blocking=True) if torch.is_tensor(v) else v for k, v in batch.items()}


def bench(args, stream, step, device, log):
    """Time of a step in each mode, drawing alone and all of it; then the kernels of a full gundam step."""
    for mode, grid, fill, count in (("tiny", (1, 1), .5, 128), ("small", (1, 1), .5, 80), ("base", (1, 1), .2, 48), ("base", (1, 1), .9, 28),
                                    ("gundam", (2, 3), .2, 16), ("gundam", (2, 3), .9, 12)):
        t = time.time()
        batches = [to(collate([stream.sample(mode, grid, 1.0, fill) for _ in range(count)], mode, grid, stream.r), device) for _ in range(2)]
        made = (time.time() - t) / 2
        t = time.time()
        for b in batches:
            step(b, .3)
        torch.cuda.synchronize()
        first = time.time() - t
        t = time.time()
        for k in range(args.bench):
            step.objective.renderer(batches[k % 2])
        torch.cuda.synchronize()
        draw = (time.time() - t) / args.bench
        t = time.time()
        for k in range(args.bench):
            step(batches[k % 2], .3)
        torch.cuda.synchronize()
        took = (time.time() - t) / args.bench
        log(bench=mode, fill=fill, pages=count, tokens=batches[0]["ids"].shape[1], make_ms=round(made * 1e3), draw_ms=round(draw * 1e3, 1), step_ms=round(took * 1e3, 1),
            pages_s=round(count / took), first_s=round(first, 1), gb=round(torch.cuda.max_memory_allocated() / 2 ** 30, 1))
    with torch.profiler.profile() as profile:                                 # of the last: where the time goes
        for k in range(4):
            step(batches[k % 2], .3)
        torch.cuda.synchronize()
    print(profile.key_averages().table(sort_by="self_device_time_total", row_limit=30, max_name_column_width=60))


class Step:
    def __init__(self, objective, modules, lr, muon):
        self.objective = objective
        self.optimizers, self.params = make_optimizers(modules, lr, muon)

    def __call__(self, batch, progress, rate=1.0):
        slots, guide, strength = teaching(progress)
        loss, log = self.objective(batch, slots, guide, random.uniform(*strength))
        loss.backward()
        log["norm"] = torch.nn.utils.clip_grad_norm_(self.params, 1.0).detach()
        for optimizer, base in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = base * rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return log


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--assets", required=True)
    ap.add_argument("--vocabulary", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--resume")
    ap.add_argument("--minutes", type=float, default=9)
    ap.add_argument("--progress", type=float, nargs=2, default=(0, 1))
    ap.add_argument("--rate", type=float, nargs=2, default=(1, 1))
    ap.add_argument("--lr", type=float, default=1.2e-3)
    ap.add_argument("--muon", type=float, default=.02)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--workers", type=int, default=15)
    ap.add_argument("--steps", type=int, default=10 ** 9)
    ap.add_argument("--scale", type=float, default=1.0, help="of the number of pages in a batch")
    ap.add_argument("--faces", type=int)
    ap.add_argument("--atlas", help="file that keeps the drawn faces between stages")
    ap.add_argument("--bench", type=int, default=0)
    ap.add_argument("--bench-only", action="store_true")
    ap.add_argument("--eager", action="store_true")
    ap.add_argument("--pages", help="folder of evaluation pages, read at the end")
    args = ap.parse_args()
    os.makedirs(args.out, exist_ok=True)
    log = Log(os.path.join(args.out, "log.jsonl"))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    torch.set_float32_matmul_precision("high")
    tokenizer = Tokenizer(args.vocabulary)
    config = Config(vocab=tokenizer.size)
    atlas = Atlas.drawn(args.assets, args.workers, args.faces, args.atlas)
    log(faces=len(atlas.has), atlas_mb=atlas.pixels.size >> 20)
    model, teachers = Model(config).to(device), Teachers(config, len(CHARSET) + 1).to(device)
    log(parameters=sum(p.numel() for p in model.parameters()))
    if args.resume:
        weights = checkpoint.load(args.resume)
        model.load_state_dict(weights["model"])
        teachers.load_state_dict(weights["teachers"], strict=False)               # a head that they do not have begins anew
    if device == "cuda" and not args.eager:
        compile_blocks(model)
    renderer = Renderer(atlas, device, args.seed)
    step = Step(Objective(model, teachers, renderer, tokenizer.encode("\n")[0][0]), (model, teachers), args.lr, args.muon)
    if args.bench:
        bench(args, PageStream(atlas.without_pixels(), args.assets, args.vocabulary, 7, args.scale), step, device, log)
        if args.bench_only:
            return
    progress = Value("d", args.progress[0])
    loader = iter(torch.utils.data.DataLoader(Stream(atlas, args.assets, args.vocabulary, args.seed, progress, curriculum, args.scale), batch_size=None,
                                              num_workers=args.workers, prefetch_factor=3, pin_memory=device == "cuda"))
    start = last = saved = time.time()
    sums, pages, waited, done, saving = {}, 0, 0.0, 0, None
    a, b = args.progress
    minutes = args.minutes
    while done < args.steps and time.time() - start < minutes * 60:
        part = (time.time() - start) / (minutes * 60)
        progress.value = p = a + (b - a) * part
        t = time.time()
        batch = to(next(loader), device)
        waited += time.time() - t
        if done % 64 == 0:
            minutes = newer(os.path.join(args.out, "minutes"), minutes)
        rate = min(1, (done + 1) / WARM) * (args.rate[0] + (args.rate[1] - args.rate[0]) * part)
        values = step(batch, p, rate)
        done += 1
        pages += len(batch["ids"])
        s = sums.setdefault(batch["mode"], {"n": 0})
        s["n"] += 1
        for k, v in values.items():
            s[k] = s.get(k, 0) + v.float()
        if time.time() - last > 30 or done == args.steps:
            for mode, s in sorted(sums.items()):
                n = s.pop("n")
                log(step=done, p=round(p, 3), rate=round(rate, 3), mode=mode, n=n, **{k: round(float(v) / n, 4) for k, v in s.items()})
            if not torch.isfinite(values["ce"]):
                raise SystemExit("the loss is not a number: the weights of the last save stand")
            log(step=done, pages_s=round(pages / (time.time() - last)), waited=round(waited / (time.time() - last), 3),
                gb=round(torch.cuda.max_memory_allocated() / 2 ** 30, 1) if device == "cuda" else 0)
            sums, pages, waited, last = {}, 0, 0.0, time.time()
        if time.time() - saved > 150:
            saving = checkpoint.save_beside(os.path.join(args.out, "weights"), model=model, teachers=teachers)
            saved = time.time()
    if saving:
        saving.join()
    checkpoint.save(os.path.join(args.out, "weights"), model=model, teachers=teachers)
    log(steps=done, minutes=round((time.time() - start) / 60, 2))
    del loader
    if args.pages:
        evaluate(model, tokenizer, args.pages, device, os.path.join(args.out, "evaluation.json"), log)


if __name__ == "__main__":
    main()
