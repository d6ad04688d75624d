"""Draws batches of pages on the device, spoils them as scanners and copiers do, and cuts the model's views.

A batch lives on one canvas [B][1][H][W] of ink (0 paper, 1 ink), each page in its top left corner; every degradation
hits a random subset of the pages whose size does not depend on data, so nothing waits for the device.
"""
import math, random
import torch
import torch.nn.functional as F

# mode -> side of the global view, side of a tile or 0, squash
MODES = {"tiny": (512, 0, True), "small": (640, 0, True), "base": (1024, 0, False), "large": (1280, 0, False), "gundam": (1024, 640, False),
         "gundam-m": (1280, 1024, False)}
GREY = 127 / 255
JPEG = [[16, 11, 10, 16, 24, 40, 51, 61], [12, 12, 14, 19, 26, 58, 60, 55], [14, 13, 16, 24, 40, 57, 69, 56], [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77], [24, 35, 55, 64, 81, 104, 113, 92], [49, 64, 78, 87, 103, 121, 120, 101], [72, 92, 95, 98, 112, 100, 103, 99]]


def global_box(sizes, side, squash):
    """sizes [B][2] (w, h) -> left, top, width, height of the page in the global view [B][4] (spec 2.1, 2.3)"""
    w, h = sizes[:, 0].double(), sizes[:, 1].double()
    full = torch.full_like(w, side)
    if squash:
        return torch.stack([full * 0, full * 0, full, full], 1)
    nw = torch.where(w >= h, full, torch.round(w / h * side))
    nh = torch.where(w > h, torch.round(h / w * side), full)
    return torch.stack([torch.round((side - nw) * .5), torch.round((side - nh) * .5), nw, nh], 1)


def resampler(n, start, length, out, most, zoom):
    """Pillow's bicubic. n, start, length [B]: source pixels, place in the view; zoom: at least the largest n / length.
    -> weights of the source pixels that an output pixel takes, which they are [B][out][taps], which outputs lie in the view [B][out]"""
    dev = n.device
    n, start, length = (v.float()[:, None] for v in (n, start, length))
    scale = n / length
    wide = scale.clamp(min=1)
    i = torch.arange(out, device=dev)[None]
    centre = (i - start + .5) * scale
    taps = min(most, int(4 * max(1, zoom)) + 3)
    j = (centre - 2 * wide).floor().clamp(0, most - taps)[..., None] + torch.arange(taps, device=dev)
    x = ((j + .5) - centre[..., None]).div_(wide[..., None]).abs_()
    k = torch.where(x < 1, (1.5 * x - 2.5) * x * x + 1, torch.where(x < 2, ((-.5 * x + 2.5) * x - 4) * x + 2, torch.zeros_like(x)))
    inside = (i >= start) & (i < start + length)
    k = k * (inside[..., None] & (j < n[..., None]))
    return k / k.sum(-1, keepdim=True).clamp(min=1e-6), j.long(), inside


def matrix(weights, at, most, kind):
    """-> [B][out][most]. Working out only the weights that are not 0 spares most of the memory traffic of a full matrix."""
    return torch.zeros(*at.shape[:2], most, dtype=kind, device=at.device).scatter_(2, at, weights.to(kind))


def fit(image, sizes, box, out_w, out_h, zoom):
    """image [B][1][H][W] -> [B][out_h][out_w], the page in `box`, grey around it"""
    h, w = image.shape[2:]
    kx, at, across = resampler(sizes[:, 0], box[:, 0], box[:, 2], out_w, w, zoom)
    rows = (image[:, 0] @ matrix(kx, at, w, image.dtype).transpose(1, 2)).clamp(0, 1)
    ky, at, down = resampler(sizes[:, 1], box[:, 1], box[:, 3], out_h, h, zoom)
    v = (matrix(ky, at, h, image.dtype) @ rows).clamp(0, 1)
    return v.masked_fill(~(down[:, :, None] & across[:, None, :]), GREY)


class Renderer:
    def __init__(self, atlas, device, seed=0):
        self.device = device
        self.half = torch.float16 if device == "cuda" else torch.float32
        self.pixels = torch.from_numpy(atlas.pixels).to(device)
        k = torch.arange(8).float()
        d = torch.cos((2 * k[None] + 1) * k[:, None] * math.pi / 16) * .5
        d[0] *= 2 ** -.5
        self.dct, self.quant = torch.kron(d, d).to(device), torch.tensor(JPEG).float().flatten().to(device)
        self.bend = torch.tensor((.06, .02, .03), device=device)                                # at most, see warp
        self.textures = self.make_textures()
        self.random = random.Random(seed)

    def make_textures(self, count=40, side=1024):
        """Stand-ins for photographs and drawings [count][side][side], none with letters: clouds, bands, hatchings, halftones, maps, sheets of music."""
        dev = self.device
        out = torch.zeros(count, 1, side, side, device=dev)
        for octave in range(2, 9):
            n = 2 ** octave
            gain = torch.rand(count, 1, 1, 1, device=dev) * .8 ** octave * 2
            out += gain * F.interpolate(torch.randn(count, 1, n, n, device=dev), size=(side, side), mode="bicubic", align_corners=False)
        out = torch.sigmoid(out * 1.5 / out.std((1, 2, 3), keepdim=True))[:, 0]
        part = count // 5
        bands, hatched, halftones, maps = (out[k * part:(k + 1) * part] for k in range(4))      # the last part: clouds, and three sheets of music
        bands.copy_((bands * 5).round() / 5)                                                    # flat areas with edges
        x = torch.arange(side, device=dev).float()
        y = x[:, None]
        some = lambda low, high: torch.rand(part, 1, 1, device=dev) * (high - low) + low
        angle = some(0, math.pi)
        wave = torch.sin((x * angle.cos() + y * angle.sin()) * some(.02, .52))
        hatched.copy_((hatched > .55).float() * (wave > .3))
        pitch = some(.8, 1.6)                                                                   # a grey becomes dots of ink of its size
        halftones.copy_((halftones > .5 + .25 * (torch.sin((x + y) * pitch) + torch.sin((x - y) * pitch))).float())
        contours = F.avg_pool2d(maps[:, None], 33, 1, 16)[:, 0] * some(8, 24)
        maps.copy_(((contours - contours.round()).abs() > some(.04, .1)).float())
        for k in range(3):
            out[-1 - k] = self.score(x, y, 5 + 3 * k)
        return out.to(self.half)

    def score(self, x, y, gap):
        """Staves whose lines are `gap` apart, bars and notes: a texture of x by y"""
        staff = y % (10 * gap) < 4 * gap + 2
        lines = staff & (y % gap < 1.5) | staff & (x % (29 * gap) < 1.5)
        column, row = (x / (2 * gap)).long(), (y / gap).long()
        here = torch.rand(int(row.max()) + 4, int(column.max()) + 1, device=self.device) < .12  # heads between the lines, stems above
        u, v = x % (2 * gap) / gap - 1, y % gap / gap - .5
        head = here[row + 3, column] & (u ** 2 / .42 + v ** 2 / .2 < 1)
        stem = (here[row + 3, column] & (v < 0) | here[row + 2, column] | here[row + 1, column] | here[row, column]) & ((u - .6).abs() * gap < .8)
        return 1 - (lines | head | stem).float()

    def paste(self, g, count, h, w, total, sizes):
        """glyphs g [N][6]: atlas offset, w, h, x, y, page"""
        dev = self.device
        area = (g[:, 1] * g[:, 2]).long()
        ends = area.cumsum(0)
        owner = torch.repeat_interleave(torch.arange(len(g), device=dev), area, output_size=total)
        local = (torch.arange(total, device=dev) - (ends - area)[owner]).int()
        gw = g[:, 1][owner]
        dy = torch.div(local, gw, rounding_mode="floor")
        page = g[:, 5][owner]
        x, y = g[:, 3][owner] + local - dy * gw, g[:, 4][owner] + dy
        limit = sizes.int()[page.long()]
        ok = (x >= 0) & (x < limit[:, 0]) & (y >= 0) & (y < limit[:, 1])
        at = torch.where(ok, (page.long() * h + y) * w + x, torch.full_like(x, count * h * w, dtype=torch.long))
        ink = self.pixels[g[:, 0][owner].long() + local].float() / 255
        canvas = torch.zeros(count * h * w + 1, device=dev)
        canvas.scatter_reduce_(0, at, ink, "amax")
        return canvas[:-1].view(count, 1, h, w)

    def warp(self, m, at, sizes, some, angle, stretch, shear, bend):
        """Turn, stretch and shear the pages `some`; and by bend [n][3] narrow their tops, as photographs do, and bow their lines, evenly and at one side,
        as books do at the spine. Moves the centres at [B][T][2] too. -> what is outside the paper [n][1][H][W]"""
        w, h = sizes[some, 0].float(), sizes[some, 1].float()
        grow_x = 1 + (shear - angle.sin()).abs() * h / w * (torch.rand_like(w) * .4 + .7)       # what is turned must not leave the page
        grow_y = 1 + angle.sin().abs() * w / h * (torch.rand_like(h) * .4 + .7)
        a, b = angle.cos() * stretch[:, 0] * grow_x, (-angle.sin() + shear) * h / w
        c, d = angle.sin() * w / h, angle.cos() * stretch[:, 1] * grow_y
        canvas_h, canvas_w = m.shape[2:]
        x = torch.arange(canvas_w, device=self.device).float()[None, None] * 2 / w[:, None, None] + (1 / w[:, None, None] - 1)
        y = torch.arange(canvas_h, device=self.device).float()[None, :, None] * 2 / h[:, None, None] + (1 / h[:, None, None] - 1)
        v = lambda t: t[:, None, None]
        sx, sy = v(a) * x + v(b) * y, v(c) * x + v(d) * y
        narrow, bow, spine = bend.unbind(1)
        low = 1 + bow.abs() + spine.abs()                                                       # nor must what is bent
        lift = lambda x, v: v(bow) * (x * x - 1) + v(spine) * torch.exp(6 * (v(spine.sign()) * x - 1))
        sx = sx * (1 + v(narrow.abs()) * (1 - sy))
        sy = sy * v(low) + lift(sx, v)
        outside = ((sx.abs() > 1) | (sy.abs() > 1))[:, None]
        grid = torch.stack([(sx + 1) * v(w) / canvas_w - 1, (sy + 1) * v(h) / canvas_h - 1], -1)
        moved = F.grid_sample(m[some].float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        m[some] = moved.masked_fill(outside, 0).to(m.dtype)
        p = at[some]
        size = torch.stack([w, h], 1)[:, None]
        u = p / size * 2 - 1
        y = (u[..., 1] - lift(u[..., 0], lambda t: t[:, None])) / low[:, None]
        u = torch.stack([u[..., 0] / (1 + narrow.abs()[:, None] * (1 - y)), y], -1)
        det = a * d - b * c
        q = torch.stack([d[:, None] * u[..., 0] - b[:, None] * u[..., 1], a[:, None] * u[..., 1] - c[:, None] * u[..., 0]], -1) / det[:, None, None]
        q = torch.minimum(((q + 1) / 2 * size).clamp(min=0), size - 1)
        at[some] = torch.where(p[..., :1] >= 0, q, p)
        return outside

    def jpeg(self, x):
        """The transform of a block of 8 x 8 is one row of a product with a 64 x 64 matrix."""
        n, _, h, w = x.shape
        quality = torch.rand(n, 1, 1, device=self.device) * 70 + 20
        scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality)
        q = (self.quant * scale / 100).round().clamp(min=1) / 255
        b = x.float().clamp(0, 1).view(n, h // 8, 8, w // 8, 8).permute(0, 1, 3, 2, 4).reshape(n, -1, 64) - .5
        b = (torch.round(b @ self.dct.t() / q) * q) @ self.dct + .5
        return b.view(n, h // 8, w // 8, 8, 8).permute(0, 1, 3, 2, 4).reshape(n, 1, h, w)

    def spoil(self, m, at, sizes, batch, strength):
        """ink m -> grey image [B][1][H][W] in 0..1, centres moved"""
        dev, half, r, count = self.device, self.half, self.random, len(m)
        dots, pictures, layout = batch["dots"], batch["pictures"], batch["layout"]
        rand = lambda lo, hi, n: (torch.rand(n, 1, 1, 1, device=dev) * (hi - lo) + lo).to(half)

        orders = iter(batch["orders"])

        def some(p):
            n, order = int(count * p * strength + r.random()), next(orders)
            return order[:n] if n else None

        def apply(x, p, change):
            i = some(p)
            if i is not None:
                x.index_copy_(0, i, change(x.index_select(0, i)).to(x.dtype))

        def mix(x, change, lo, hi):
            k = rand(lo, hi, len(x))
            return x * (1 - k) + change(x) * k
        x = torch.arange(m.shape[3], device=dev)
        y = torch.arange(m.shape[2], device=dev)[:, None]
        if len(dots):                                                                           # needles of a dot matrix
            pitch = 2 + r.random() * 1.5
            mask = (((x / pitch) % 1 - .5) ** 2 + ((y / pitch) % 1 - .5) ** 2 < .3).to(half)
            m[dots] = F.max_pool2d(m[dots], 2, 1, 1)[..., :-1, :-1] * mask
        grow = lambda z: F.max_pool2d(z, 3, 1, 1)
        apply(m, .15, lambda z: mix(z, grow, .1, .7))
        apply(m, .12, lambda z: mix(z, lambda q: -grow(-q), .1, .45))
        outside = None
        i = some(.45)
        if i is not None:
            n = len(i)
            angle = (torch.rand(n, device=dev) * 2 - 1) * ((torch.rand(n, device=dev) < .2) * 1.2 + 2) * (math.pi / 180)
            stretch = 1 + (torch.rand(n, 2, device=dev) < .5) * (torch.rand(n, 2, device=dev) * .11 - .01)
            shear = (torch.rand(n, device=dev) < .25) * (torch.rand(n, device=dev) * .1 - .05)
            bend = (torch.rand(n, 3, device=dev) < .2) * (torch.rand(n, 3, device=dev) * 2 - 1) * self.bend
            free = (~layout[i]).float()                                                         # boxes in the text must stay true
            angle, shear, stretch = angle * free, shear * free, 1 + (stretch - 1) * free[:, None]
            outside = i, self.warp(m, at, sizes, i, angle, stretch, shear, bend * free[:, None])
        (*lower, (_, most)), last = batch["coarse"], batch["orders"][-len(batch["coarse"]):]
        fax = last[-1][:min(most, int(count * .08 * strength + r.random()))]
        for (f, most), order in zip(lower, last):
            i = order[:min(most, int(count * .08 * strength + r.random()))]
            if len(i):
                z = m.index_select(0, i).float()
                m.index_copy_(0, i, F.interpolate(F.interpolate(z, scale_factor=f, mode="area"), size=z.shape[2:], mode="bilinear", align_corners=False).to(m.dtype))
        soft = lambda z: F.avg_pool2d(z, 3, 1, 1)
        apply(m, .4, lambda z: mix(z, soft, .2, 1))
        apply(m, .2, lambda z: mix(z, soft, .2, 1))
        apply(m, .06, lambda z: torch.maximum(z, rand(.04, .2, len(z)) * soft(z.flip(3).roll(1, 0))))      # the other side shines through
        on = lambda p: (torch.rand(count, 1, 1, 1, device=dev) < p * strength).to(half)
        paper = 1 - on(.5) * rand(0, .3, count)
        ink = torch.minimum(on(.5) * rand(0, .5, count), paper - .25)
        paper[fax], ink[fax] = 1 - rand(0, .12, len(fax)), rand(0, .15, len(fax))               # what will be black or white has contrast
        im = paper + (ink - paper) * m
        for b, px, py, pw, ph in pictures:
            t = self.textures[r.randrange(len(self.textures))]
            tx, ty = r.randrange(max(1, 1024 - pw)), r.randrange(max(1, 1024 - ph))
            step = max(1, -(-pw // 1024), -(-ph // 1024))
            patch = t[ty:, tx:] if step == 1 else t.repeat_interleave(step, 0).repeat_interleave(step, 1)
            im[b, 0, py:py + ph, px:px + pw] = patch[:ph, :pw][:im.shape[2] - py, :im.shape[3] - px] * r.uniform(.6, 1)
        gx, gy = (x / m.shape[3] * 2 - 1).to(half), (y / m.shape[2] * 2 - 1).to(half)
        apply(im, .25, lambda z: z + rand(-.14, .14, len(z)) * gx + rand(-.14, .14, len(z)) * gy)
        apply(im, .06, lambda z: z * (1 - rand(.2, .7, len(z)) * torch.exp(-(x.to(half) * rand(.005, .06, len(z))))))   # shadow of the spine
        i = some(.05)
        if i is not None:                                                                       # and that of an open book, or a fold
            n = len(i)
            middle = sizes[i, 0].view(n, 1, 1, 1) * rand(.47, .53, n)
            im[i] = im[i] * (1 - rand(.1, .6, n) * torch.exp(-(x - middle).abs() * rand(.005, .06, n))).to(half)
        i = some(.05)
        if i is not None:                                                                       # a stamp: a ring across the text
            n = len(i)
            cx, cy = rand(.1, .9, n) * sizes[i, 0].view(n, 1, 1, 1), rand(.1, .9, n) * sizes[i, 1].view(n, 1, 1, 1)
            radius = rand(.05, .2, n) * sizes[i].min(1)[0].view(n, 1, 1, 1)
            d = (((x - cx) * rand(.5, 1.2, n)) ** 2 / radius.float() ** 2 + (y - cy) ** 2 / radius.float() ** 2).sqrt()
            ring = ((d - 1).abs() < .06) | ((d - .8).abs() < .02)
            im[i] = im[i] * (1 - ring * rand(.15, .6, n)).to(half)
        i = some(.05)
        if i is not None:                                                                       # white on black
            for v in im, paper, ink:
                v.index_copy_(0, i, 1 - v.index_select(0, i))
        apply(im, .4, lambda z: z + rand(.01, .1, len(z)) * torch.randn_like(z))

        def specks(z):
            u, p = torch.rand_like(z), rand(.0005, .012, len(z))
            return torch.where(u < p, torch.zeros_like(z), torch.where(u > 1 - p, torch.ones_like(z), z))
        apply(im, .06, specks)
        apply(im, .04, lambda z: z * (1 - rand(.3, 1, len(z)) * grow(grow((torch.rand_like(z) < .00015).to(half)))))     # dirt
        if outside is not None and r.random() < .6:
            i, where = outside
            im[i] = torch.where(where, rand(0, 1, len(i)), im[i])
        if len(fax):                                                                            # fax, G4
            level = ink[fax] + (paper[fax] - ink[fax]) * rand(.55, .75, len(fax))
            im.index_copy_(0, fax, (soft(im.index_select(0, fax)) > level).to(half))
        apply(im, .3, self.jpeg)
        return im.clamp(0, 1)

    def __call__(self, batch, strength=1.0):
        """-> global views [B][3][S][S], tiles [B * r * c][3][tile][tile] or None, token and point centres in pixels of the page after the warp"""
        sizes = batch["sizes"]
        count = len(sizes)
        h, w = batch["canvas"]
        m = self.paste(batch["glyphs"], count, h, w, batch["total"], sizes).to(self.half)
        at = torch.cat([batch["at"], batch["points"]], 1).clone()
        im = self.spoil(m, at, sizes, batch, strength)
        side, tile, squash = MODES[batch["mode"]]
        tint = 1 - (torch.rand(count, 1, 1, 1, device=self.device) < .25 * strength) * torch.rand(count, 3, 1, 1, device=self.device) * .12
        tint = tint.to(self.half)
        globe = fit(im, sizes, global_box(sizes, side, squash), side, side, max(h, w) / side * 1.1)
        colour = lambda v, t: (v[:, None] * t * 2 - 1)
        tiles = None
        if tile:
            c, r = batch["grid"]
            zero = torch.zeros(count, device=self.device)
            box = torch.stack([zero, zero, zero + tile * c, zero + tile * r], 1)
            tiles = fit(im, sizes, box, tile * c, tile * r, max(w / (tile * c), h / (tile * r))).view(count, r, tile, c, tile).transpose(2, 3).reshape(count * r * c, tile, tile)
            tiles = colour(tiles, tint.repeat_interleave(r * c, 0))
        n = batch["at"].shape[1]
        return colour(globe, tint), tiles, at[:, :n], at[:, n:]
