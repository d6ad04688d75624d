"""One stage of training: from weights (or none) to weights, for a given time.

    train.py --assets DIR --vocabulary tokenizer.json --out DIR [--resume DIR/weights] --minutes 9 --progress 0 .35 --rate 1 1

Training goes on from the weights of a stage, or from a model folder, whose 8 bits are taken as they are. On several GPUs see together.py.

--progress is the part of the whole curriculum that this stage covers, --rate the factors on the learning rates at its
start and end. Everything that decides the recipe is in `curriculum` and `teaching` below. The minutes count from the start of
the program, drawing of faces and compiling included; a number written to OUT/minutes while it runs becomes its new length.
SIGTERM ends the stage at once with all that belongs to the end.
"""
import argparse, gc, json, math, os, random, signal, time
from multiprocessing import Value
import torch
import checkpoint
import export
from charset import CHARSET
from evaluate import evaluate
from fonts import Atlas
from losses import Objective
from model import Config, Model, Teachers
from optimizer import Mean, make_optimizers
from render import Renderer
from stream import ANY, PageStream, Stream, collate
from together import Together
from tokenizer import Tokenizer

WARM = 100              # steps of warming up
ALONE = 300             # steps in which heads that begin anew learn alone, before the model learns from them
SAVE = 60               # seconds between saves
START = time.time()


def curriculum(p):
    """progress -> weights of the modes, difficulty 0..1. First the encoder learns to see letters on small views with
    little text, then the pages grow; from .34 on everything is mixed, as stream.SORTS says."""
    if p < .09:
        return dict(tiny=1), .05
    if p < .17:
        return dict(tiny=.6, small=.4), .15
    if p < .25:
        return dict(tiny=.25, small=.4, base=.35), .3
    if p < .34:
        return dict(tiny=.1, small=.25, base=.45, gundam=.2), .5
    return {"tiny": .02, "small": .03, "base": .15, "large": .14, "gundam": .43, "gundam-m": .23}, min(1, .5 + (p - .34) * 2)


def teaching(p):
    """progress -> weights of the slot heads and of the guided attention, share of the decoder's input that is wrong,
    strength of the spoiling (least, most)"""
    slots, guide = (1, .5) if p < .4 else (.4, .5) if p < .9 else (.2, .4)
    return slots, guide, .08 if p < .4 else .1, (.5, .5) if p < .05 else (.3, 1)


class Log:
    def __init__(self, path):
        self.file = open(path, "a")

    def __call__(self, **values):
        line = json.dumps(dict(values, s=round(time.time() - START, 1)))
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


def choose_allocator():
    """Batches differ in shape, and plain segments fall to pieces: 80 GB were taken where 44 are needed. Where growing segments are not to be had, plain ones stay."""
    choose = getattr(torch.cuda.memory, "_set_allocator_settings", None)
    try:
        choose("expandable_segments:True")
        torch.zeros(1 << 20, device="cuda")
    except Exception as e:
        print("plain segments:", e, flush=True)
        if choose:
            choose("expandable_segments:False")


def newer(path, minutes):
    try:
        with open(path) as f:
            return float(f.read())
    except (OSError, ValueError):
        return minutes


OutOfMemory = getattr(torch.cuda, "OutOfMemoryError", ())


def to(batch, device):
    return {k: v.to(device, non_blocking=True) if torch.is_tensor(v) else v for k, v in batch.items()}


def bench(args, stream, step, device, log):
    """Time of a step in each mode, drawing alone and all of it; then the kernels of a full gundam step."""
    for mode, grid, fill, count in (("tiny", (1, 1), .5, 128), ("small", (1, 1), .5, 80), ("base", (1, 1), .2, 48), ("base", (1, 1), .9, 28),
                                    ("gundam", (2, 3), .2, 16), ("gundam", (2, 3), .9, 12)):
        size, t = stream.size(mode, grid, ANY, stream.r), time.time()
        batches = [to(collate([stream.sample(mode, grid, 1.0, fill, ANY, size) for _ in range(count)], mode, grid, stream.r), device) for _ in range(2)]
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
    kernels(step, batches)


def kernels(step, batches):
    """Prints where the device's time goes."""
    with torch.profiler.profile() as profile:
        for batch in batches:
            step(batch, .9, 0.0)
        torch.cuda.synchronize()
    print(profile.key_averages().table(sort_by="self_device_time_total", row_limit=40, max_name_column_width=70), flush=True)


class Step:
    def __init__(self, objective, modules, lr, muon, together):
        self.objective, self.together, self.lost = objective, together, 0
        self.optimizers, self.params = make_optimizers(modules, lr, muon)

    def __call__(self, batch, progress, rate=1.0):
        slots, guide, corrupt, strength = teaching(progress)
        log = {}
        try:
            loss, log = self.objective(batch, slots, guide, random.uniform(*strength), corrupt)
            loss.backward()
        except OutOfMemory:                                                    # a batch that is too large costs only itself
            self.lost += 1
            self.forget()
            torch.cuda.empty_cache()
        self.together.average(self.params)
        if self.params[0].grad is None:
            return log
        log["norm"] = torch.nn.utils.clip_grad_norm_(self.params, 1.0).detach()
        for optimizer, base in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = base * rate
            optimizer.step()
        self.forget()
        return log

    def forget(self):
        for optimizer, _ in self.optimizers:
            optimizer.zero_grad(set_to_none=True)


class Tally:
    """What the steps of each mode say, kept on the device until it is asked for."""

    def __init__(self):
        self.values, self.since, self.pages, self.waited = {}, time.time(), 0, 0.0

    def add(self, mode, pages, values):
        self.pages += pages
        rows = self.values.setdefault(mode, {})
        for k, v in values.items():
            rows.setdefault(k, []).append(v.float())

    def report(self, log, device, **more):
        for mode, rows in sorted((m, r) for m, r in self.values.items() if r):         # none: every batch was lost
            means = {k: torch.stack(v).nanmean().item() for k, v in rows.items()}
            log(**more, mode=mode, n=len(rows["ce"]), **{k: round(v, 4) for k, v in means.items() if not math.isnan(v)})
            if math.isnan(means["ce"]):
                raise SystemExit("the loss is not a number: the weights of the last save stand")
        s = time.time() - self.since
        log(step=more["step"], pages_s=round(self.pages / s), waited=round(self.waited / s, 3), gb=round(torch.cuda.max_memory_allocated() / 2 ** 30, 1) if device == "cuda" else 0,
            held_gb=round(torch.cuda.memory_reserved() / 2 ** 30, 1) if device == "cuda" else 0)
        self.__init__()


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
    together = Together()
    os.makedirs(args.out, exist_ok=True)
    log = Log(os.path.join(args.out, "log.jsonl")) if together.first else lambda **_: None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        choose_allocator()
    random.seed(args.seed + together.rank)
    torch.manual_seed(args.seed + together.rank)
    torch.set_float32_matmul_precision("high")
    tokenizer = Tokenizer(args.vocabulary)
    config = Config(vocab=tokenizer.size)
    if not together.first:
        together.wait()                                                               # for the file, if it has a name
    atlas = Atlas.drawn(args.assets, args.workers, args.faces, args.atlas)
    if together.first:
        together.wait()
    log(faces=len(atlas.has), atlas_mb=atlas.pixels.size >> 20)
    model, teachers = Model(config).to(device), Teachers(config, len(CHARSET) + 1).to(device)
    log(parameters=sum(p.numel() for p in model.parameters()), processes=together.count)
    alone = 0
    if args.resume:
        weights = export.read(args.resume) if os.path.isdir(args.resume) else checkpoint.load(args.resume)
        model.take(weights["model"])
        lacking = teachers.load_state_dict(weights.get("teachers", {}), strict=False).missing_keys    # a head that they do not have begins anew
        alone = ALONE if lacking else 0
    together.share((model, teachers))
    if device == "cuda" and not args.eager:
        compile_blocks(model)
    renderer = Renderer(atlas, device, args.seed + together.rank)
    step = Step(Objective(model, teachers, renderer, tokenizer), (model, teachers), args.lr, args.muon, together)
    if args.bench:
        bench(args, PageStream(atlas.without_pixels(), args.assets, args.vocabulary, 7, args.scale), step, device, log)
        if args.bench_only:
            return
    progress = Value("d", args.progress[0])
    loader = iter(torch.utils.data.DataLoader(Stream(atlas, args.assets, args.vocabulary, args.seed, progress, curriculum, args.scale, together.rank), batch_size=None,
                                              num_workers=args.workers, prefetch_factor=3, pin_memory=device == "cuda"))
    mean = Mean((model, teachers)) if together.first else None
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    tally, done, saving, saved, minutes = Tally(), 0, None, time.time(), args.minutes
    begin, (a, b), (high, low) = time.time(), args.progress, args.rate
    while True:
        part = (time.time() - begin) / (START + minutes * 60 - begin)
        part, over = together.decide(part, float(part >= 1 or done >= args.steps or bool(stop)))
        if over:
            break
        progress.value = p = a + (b - a) * part
        rate = min(1, (done + 1) / WARM) * (high + (low - high) * part)
        step.objective.alone = done < alone
        t = time.time()
        batch = to(next(loader), device)
        tally.waited += time.time() - t
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("warn" if done == WARM else "default")     # one step tells what in it waits for the device
        values = step(batch, p, rate)
        done += 1
        if done == 2 * WARM:
            gc.collect()
            gc.freeze()                                                               # what compiling left is not searched again and again
        if not together.first:
            continue
        mean.update()
        tally.add(batch["mode"], len(batch["ids"]) * together.count, values)
        if done % 64 == 0:
            minutes = newer(os.path.join(args.out, "minutes"), minutes)
        if time.time() - tally.since > 30 or done == args.steps:
            tally.report(log, device, step=done, p=round(p, 3), rate=round(rate, 3), lost=step.lost)
        if time.time() - saved > SAVE and not (saving and saving.is_alive()):
            mean.swap()
            saving, saved = checkpoint.save_beside(os.path.join(args.out, "weights"), model=model, teachers=teachers), time.time()
            mean.swap()
    if not together.first:
        return
    if saving:
        saving.join()
    mean.swap()
    checkpoint.save(os.path.join(args.out, "weights"), model=model, teachers=teachers)
    log(steps=done, lost=step.lost, minutes=round((time.time() - begin) / 60, 2))
    if args.pages:
        evaluate(model, tokenizer, args.pages, device, os.path.join(args.out, "evaluation.json"), log)
    if device == "cuda" and together.count == 1:
        kernels(step, [to(next(loader), device) for _ in range(4)])


if __name__ == "__main__":
    main()
