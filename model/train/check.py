"""What can be proved of the trainer without a GPU and without trained weights: check.py ASSETS [DRAWN ATLAS]. One or two minutes.

Resizing is Pillow's, JPEG is the transform by definition, what is warped is where it is said to be, every token knows its place, labels and boxes fit, a save is whole or refused, and a few
steps on pages of every sort lower the loss.
"""
import math, os, random, sys, tempfile
import numpy as np
import torch
from PIL import Image
import checkpoint
from charset import CHARSET
from fonts import Atlas
from losses import Objective
from model import Config, Model, Teachers
from optimizer import Mean
from pages import tile_grid
from render import MODES, Renderer, fit, global_box
from stream import SORTS, PageStream, collate, cost
from tokenizer import Tokenizer
from together import Together
from train import Step


def resizing():
    """Against Pillow, which rounds to bytes between its two passes"""
    g = np.random.RandomState(1)
    for w, h, side, squash in ((640, 640, 1024, False), (1654, 2339, 1024, False), (300, 90, 512, True), (1000, 37, 1024, False)):
        a = g.randint(0, 256, (h, w)).astype(np.uint8)
        sizes = torch.tensor([[w, h]])
        canvas = torch.zeros(1, 1, -(-h // 16) * 16, -(-w // 16) * 16)
        canvas[0, 0, :h, :w] = torch.from_numpy(a) / 255
        box = global_box(sizes, side, squash)
        made = fit(canvas, sizes, box, side, side, max(canvas.shape[2:]) / side * 1.1)[0]
        x, y, nw, nh = (int(v) for v in box[0])
        want = np.full((side, side), 127 / 255)
        want[y:y + nh, x:x + nw] = np.asarray(Image.fromarray(a).resize((nw, nh), Image.BICUBIC)) / 255.0
        assert np.abs(made.numpy() - want).max() < 3.1 / 255, (w, h)


def warping(renderer):
    """Dots on turned and bent pages are where their centres are said to be"""
    torch.manual_seed(3)
    x, y = torch.meshgrid(torch.arange(60, 680, 88), torch.arange(40, 470, 70), indexing="ij")
    dots, bends = torch.stack([x, y], -1).view(-1, 2), torch.tensor([[.06, 0, 0], [0, .02, .03], [.05, -.02, -.03], [0, 0, 0]])
    ink, count = torch.zeros(len(bends), 1, 512, 768), len(bends)
    for x, y in dots:
        ink[:, 0, y - 1:y + 2, x - 1:x + 2] = 1
    at = dots[None].repeat(count, 1, 1) + .5
    renderer.warp(ink, at, torch.tensor([(700, 480)] * count), torch.arange(count), torch.tensor([.03, -.04, 0, .02]), torch.tensor([[1, 1], [1.05, 1.1], [1, 1], [.99, 1]]),
                  torch.tensor([0, .03, 0, -.04]), bends)
    for page, centres in zip(ink[:, 0], at):
        for x, y in centres:
            left, top = int(x) - 4, int(y) - 4
            dot = page[max(0, top):top + 9, max(0, left):left + 9]
            v, u = torch.meshgrid(*(torch.arange(n) + .5 for n in dot.shape), indexing="ij")
            found = torch.stack([(dot * u).sum(), (dot * v).sum()]) / dot.sum()
            assert (found + torch.tensor([max(0, left), max(0, top)]) - torch.stack([x, y])).norm() < .2


def jpeg(renderer):
    torch.manual_seed(1)
    x = torch.rand(1, 1, 16, 24)
    torch.manual_seed(2)
    made = renderer.jpeg(x)[0, 0]
    torch.manual_seed(2)
    quality = float(torch.rand(1, 1, 1) * 70 + 20)
    q = (renderer.quant.view(8, 8) * ((5000 / quality if quality < 50 else 200 - 2 * quality) / 100)).round().clamp(min=1) / 255
    c = torch.tensor([[math.cos((2 * i + 1) * k * math.pi / 16) * (.5 if k else 8 ** -.5) for i in range(8)] for k in range(8)])
    for i in range(0, 16, 8):
        for j in range(0, 24, 8):
            b = x[0, 0, i:i + 8, j:j + 8] - .5
            want = c.t() @ (torch.round(c @ b @ c.t() / q) * q) @ c + .5
            assert (made[i:i + 8, j:j + 8] - want).abs().max() < 1e-5


def pages(stream, tokenizer):
    """-> a batch of each sort"""
    out = []
    for mode, sorts in SORTS.items():
        tile = MODES[mode][1]
        for sort in sorts:
            grid = (1, 1) if not tile else tile_grid(*sort.sizes[0], tile) if sort.sizes else (2, 3)
            size = stream.size(mode, grid, sort, stream.r)
            while mode == "gundam" and not sort.sizes and size[0] * size[1] > 2e6:
                size = stream.size(mode, grid, sort, stream.r)
            some = [stream.sample(mode, grid, 1.0, None, sort, size) for _ in range(6)]
            for s in some:
                w, h = s.page.width, s.page.height
                text = tokenizer.decode(s.ids[s.first:-1])
                assert len(s.at) == len(s.ids) and (s.at < [w + 1, h + 1]).all(), "a token off the page"
                if not s.page.layout and text:                                 # markup has a place only where it tells a box
                    assert (s.at[s.first:-1, 0] >= 0).mean() > .97, "tokens without a place"
                    assert sum(c not in " \n" for c in text) == len(s.answers), "the text is not what is drawn"
                for b in s.page.blocks:
                    assert 0 <= b.box[0] < b.box[2] <= w + 1 and 0 <= b.box[1] < b.box[3] <= h + 1, b.box
            out.append(collate(some[:2], mode, grid, stream.r))
        views, _ = cost(mode, grid)
        assert views > 0
    return out


def main(assets, atlas=None):
    torch.manual_seed(1)
    random.seed(1)
    tokenizer = Tokenizer(os.path.join(assets, "tokenizer.json"))
    faces = Atlas.drawn(assets, 2, 24, atlas)
    renderer = Renderer(faces, "cpu", 1)
    resizing()
    warping(renderer)
    jpeg(renderer)
    batches = pages(PageStream(faces.without_pixels(), assets, os.path.join(assets, "tokenizer.json"), 1), tokenizer)
    c = Config(vocab=tokenizer.size, sam_width=64, sam_layers=2, sam_global=(1,), neck=32, middle=32, clip_width=64, clip_layers=1, clip_heads=2, hidden=64, layers=5, heads=2,
               dense_ff=64, experts=4, expert_ff=16)
    modules = model, teachers = Model(c), Teachers(c, len(CHARSET) + 1)
    step, mean = Step(Objective(model, teachers, renderer, tokenizer), modules, 1.2e-3, .02, Together()), Mean(modules)
    losses = []
    for k in range(2):
        for batch in batches:
            values = step(batch, .5)
            mean.update()
            losses.append(float(values["ce"]))
            print(batch["mode"], {k: round(float(v), 3) for k, v in values.items()})
    n = len(batches)
    assert sum(losses[n:]) < sum(losses[:n]) - .1 * n, "no learning"
    windowed = Model(Config(**{**vars(c), "sam_global": ()}))
    windowed.take(model.state_dict())
    assert windowed.model.sam_model.blocks[1].attn.rel_pos_h.shape == (15, 16) and not windowed.model.sam_model.blocks[1].attn.rel_pos_h.any()
    assert torch.equal(windowed.lm_head.weight, model.lm_head.weight)
    now = [p.detach().clone() for p in mean.own]
    mean.swap()
    assert any(not torch.equal(p, q) for p, q in zip(mean.own, now))
    with tempfile.TemporaryDirectory() as folder:
        prefix = os.path.join(folder, "weights")
        checkpoint.save(prefix, model=model, teachers=teachers)
        kept = checkpoint.load(prefix)["model"]
        assert all(torch.equal(v.to(torch.bfloat16), kept[k].to(torch.bfloat16)) for k, v in model.state_dict().items())
        with open(prefix + ".00", "r+b") as f:
            f.seek(-5, 2)
            f.write(b"\x55" * 5)
        try:
            checkpoint.load(prefix)
            raise AssertionError("a broken save was taken")
        except SystemExit:
            pass
    mean.swap()
    assert all(torch.equal(p, q) for p, q in zip(mean.own, now))
    print("all is well")


if __name__ == "__main__":
    main(*sys.argv[1:3])
