"""The DeepSeek-OCR architecture, scaled down, for training. Parameters carry the names of the released checkpoint;
only the experts of a layer are stacked in one matrix here and taken apart by export.py.

Heads that exist in training only are at the end. Windows divide every grid (32, 40, 64, 80), so the whole of SAM runs
on patches ordered by window: windowed layers are small dense attentions, and global layers, whose relative positions
stay zero, do not care about the order.
"""
import math
from dataclasses import dataclass
import torch
import torch.nn as nn
import torch.nn.functional as F


@dataclass
class Config:
    vocab: int = 2048
    sam_width: int = 256
    sam_layers: int = 6
    sam_heads: int = 4
    window: int = 8
    sam_global: tuple = ()           # layers of SAM that attend to the whole view (LOG.md, third run: they brought nothing)
    sam_grid: int = 64
    neck: int = 192
    middle: int = 320                # channels between the two strided convolutions
    clip_width: int = 384
    clip_layers: int = 4
    clip_heads: int = 6
    clip_grid: int = 16
    hidden: int = 384
    layers: int = 6
    heads: int = 6
    dense_ff: int = 1024
    experts: int = 8
    chosen: int = 2
    expert_ff: int = 192
    shared: int = 2                  # shared experts
    theta: float = 10000.0
    balance: float = .001            # weight of the experts' load balancing loss
    guided: tuple = (2, 4)           # decoder layers whose first head is taught where to look
    placed: int = 3                  # decoder layer after which the state is asked for the place of the next token


def resize_grid(p, n):
    """position grid [1][g][g][C] -> [1][n][n][C], antialiased bicubic (spec 3.1)"""
    if p.shape[1] == n:
        return p
    q = F.interpolate(p.permute(0, 3, 1, 2).float(), size=(n, n), mode="bicubic", antialias=True, align_corners=False)
    return q.permute(0, 2, 3, 1)


def wave_grid(g, width):
    """Initial values of a learnt position grid [g][g][width]: sines over the unit square."""
    c = (torch.arange(g).float() + .5) / g
    a = c[:, None] * math.pi * torch.exp(torch.linspace(0, math.log(g / 2), width // 4))[None]
    e = torch.cat([a.sin(), a.cos()], -1)
    return torch.cat([e[:, None].expand(g, g, -1), e[None].expand(g, g, -1)], -1)


class SamAttention(nn.Module):
    def __init__(self, c, window):
        super().__init__()
        self.heads, self.window, self.dim = c.sam_heads, window, c.sam_width // c.sam_heads
        self.qkv, self.proj = nn.Linear(c.sam_width, 3 * c.sam_width), nn.Linear(c.sam_width, c.sam_width)
        side = window or c.sam_grid
        self.rel_pos_h, self.rel_pos_w = (nn.Parameter(torch.zeros(2 * side - 1, self.dim), requires_grad=bool(window)) for _ in range(2))
        if window:
            i = torch.arange(window)
            self.register_buffer("distance", i[:, None] - i[None] + window - 1, persistent=False)

    def forward(self, x):
        """x [windows or views][patches][width]"""
        m, n, width = x.shape
        q, k, v = self.qkv(x).view(m, n, 3, self.heads, self.dim).permute(2, 0, 3, 1, 4).unbind(0)
        if not self.window:
            o = F.scaled_dot_product_attention(q, k, v)
        else:
            w = self.window
            g = q.reshape(m, self.heads, w, w, self.dim)
            by_row = torch.einsum("mhyxd,ykd->mhyxk", g, self.rel_pos_h[self.distance].to(q.dtype))
            by_col = torch.einsum("mhyxd,xkd->mhyxk", g, self.rel_pos_w[self.distance].to(q.dtype))
            bias = (by_row[..., :, None] + by_col[..., None, :]).reshape(m, self.heads, n, n)
            a = (q * self.dim ** -.5) @ k.transpose(-1, -2) + bias
            o = a.float().softmax(-1).to(v.dtype) @ v
        return self.proj(o.transpose(1, 2).reshape(m, n, width))


class Mlp(nn.Module):
    def __init__(self, width, names, gelu):
        super().__init__()
        self.names, self.gelu = names, gelu
        self.add_module(names[0], nn.Linear(width, 4 * width))
        self.add_module(names[1], nn.Linear(4 * width, width))

    def forward(self, x):
        h = getattr(self, self.names[0])(x)
        return getattr(self, self.names[1])(F.gelu(h) if self.gelu else h * torch.sigmoid(1.702 * h))


class SamBlock(nn.Module):
    def __init__(self, c, window):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(c.sam_width, eps=1e-6), nn.LayerNorm(c.sam_width, eps=1e-6)
        self.attn, self.mlp = SamAttention(c, window), Mlp(c.sam_width, ("lin1", "lin2"), True)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ChannelNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x):
        return F.layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2], self.weight, self.bias, 1e-6).permute(0, 3, 1, 2)


class PatchEmbed(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.proj = nn.Conv2d(3, c.sam_width, 16, 16)


class Sam(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.window = c.window
        self.patch_embed = PatchEmbed(c)
        self.pos_embed = nn.Parameter(.1 * wave_grid(c.sam_grid, c.sam_width)[None])
        self.blocks = nn.ModuleList(SamBlock(c, 0 if i in c.sam_global else c.window) for i in range(c.sam_layers))
        self.neck = nn.Sequential(nn.Conv2d(c.sam_width, c.neck, 1, bias=False), ChannelNorm(c.neck),
                                  nn.Conv2d(c.neck, c.neck, 3, padding=1, bias=False), ChannelNorm(c.neck))
        self.net_2 = nn.Conv2d(c.neck, c.middle, 3, 2, 1, bias=False)
        self.net_3 = nn.Conv2d(c.middle, c.clip_width, 3, 2, 1, bias=False)

    def forward(self, views):
        """views [V][3][S][S] -> features [V][clip width][S/64][S/64], neck output [V][neck][S/16][S/16]"""
        v, n, w = views.shape[0], views.shape[2] // 16, self.window
        k = n // w
        conv = self.patch_embed.proj
        x = views.view(v, 3, k, w, 16, k, w, 16).permute(0, 2, 5, 3, 6, 1, 4, 7).reshape(v * k * k, w * w, 768)
        x = F.linear(x, conv.weight.view(conv.weight.shape[0], -1), conv.bias)
        pos = resize_grid(self.pos_embed, n).view(k, w, k, w, -1).transpose(1, 2).reshape(k * k, w * w, -1)
        x = (x.view(v, k * k, w * w, -1) + pos.to(x.dtype)).view(v * k * k, w * w, -1)
        for b in self.blocks:
            x = b(x) if b.attn.window else b(x.view(v, n * n, -1)).view(v * k * k, w * w, -1)
        x = x.view(v, k, k, w, w, -1).transpose(2, 3).reshape(v, n, n, -1).permute(0, 3, 1, 2)
        x = self.neck(x)
        return self.net_3(self.net_2(x)), x


class ClipAttention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.heads = c.clip_heads
        self.qkv_proj, self.out_proj = nn.Linear(c.clip_width, 3 * c.clip_width), nn.Linear(c.clip_width, c.clip_width)

    def forward(self, x):
        b, n, width = x.shape
        q, k, v = self.qkv_proj(x).view(b, n, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, width))


class ClipBlock(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(c.clip_width, eps=1e-5), nn.LayerNorm(c.clip_width, eps=1e-5)
        self.self_attn, self.mlp = ClipAttention(c), Mlp(c.clip_width, ("fc1", "fc2"), False)

    def forward(self, x):
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class ClipEmbeddings(nn.Module):
    def __init__(self, c):
        super().__init__()
        g = c.clip_grid
        self.class_embedding = nn.Parameter(torch.randn(c.clip_width) * .02)
        self.position_embedding = nn.Embedding(g * g + 1, c.clip_width)
        with torch.no_grad():
            self.position_embedding.weight.copy_(torch.cat([torch.zeros(1, c.clip_width), .3 * wave_grid(g, c.clip_width).view(g * g, -1)]))


class Clip(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.grid = c.clip_grid
        self.embeddings = ClipEmbeddings(c)
        self.pre_layrnorm = nn.LayerNorm(c.clip_width, eps=1e-5)
        self.transformer = nn.Module()
        self.transformer.layers = nn.ModuleList(ClipBlock(c) for _ in range(c.clip_layers))

    def forward(self, f):
        """f [V][C][n][n] -> [V][n * n][C]"""
        v, width, n, _ = f.shape
        p, g = self.embeddings.position_embedding.weight, self.grid
        grid = resize_grid(p[1:].view(1, g, g, width), n).reshape(n * n, width)
        x = torch.cat([self.embeddings.class_embedding.expand(v, 1, width).to(f.dtype), f.flatten(2).transpose(1, 2)], 1)
        x = self.pre_layrnorm(x + torch.cat([p[:1], grid]).to(x.dtype))
        for b in self.transformer.layers:
            x = b(x)
        return x[:, 1:]


class RmsNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        y = x.float()
        return (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight).to(x.dtype)


def rope_tables(n, dim, theta, device):
    inverse = theta ** (-torch.arange(0, dim, 2, device=device).float() / dim)
    a = torch.arange(n, device=device).float()[:, None] * inverse
    a = torch.cat([a, a], -1)
    return a.cos(), a.sin()


def rotate(x, cos, sin):
    h = x.shape[-1] // 2
    return (x * cos + torch.cat([-x[..., h:], x[..., :h]], -1) * sin).to(x.dtype)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.heads = c.heads
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            self.add_module(name, nn.Linear(c.hidden, c.hidden, bias=False))

    def project(self, y, cos, sin):
        b, n, width = y.shape
        q, k, v = (p(y).view(b, n, self.heads, width // self.heads).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))
        return rotate(q, cos, sin), rotate(k, cos, sin), v


class GatedMlp(nn.Module):
    """gate and up side by side: the dense layer, the shared experts, and (with weights) all routed experts"""

    def __init__(self, width, inner):
        super().__init__()
        self.gate_up, self.down_proj = nn.Linear(width, 2 * inner, bias=False), nn.Linear(inner, width, bias=False)

    def forward(self, x, weight=None):
        g, u = self.gate_up(x).chunk(2, -1)
        h = F.silu(g) * u
        if weight is not None:                                # [b][n][experts]
            h = (h.unflatten(-1, (weight.shape[-1], -1)) * weight[..., None]).flatten(-2)
        return self.down_proj(h)


class Experts(nn.Module):
    """All experts are computed and those not chosen weigh 0: exact, and fast at this size."""

    def __init__(self, c):
        super().__init__()
        self.count, self.chosen, self.balance = c.experts, c.chosen, c.balance
        self.gate = nn.Linear(c.hidden, c.experts, bias=False)
        self.experts = GatedMlp(c.hidden, c.experts * c.expert_ff)
        self.shared_experts = GatedMlp(c.hidden, c.shared * c.expert_ff)

    def forward(self, y):
        p = F.linear(y.float(), self.gate.weight.float()).softmax(-1)
        picked = torch.zeros_like(p).scatter(-1, p.topk(self.chosen, -1)[1], 1.0)
        load = (picked.mean(1) * p.mean(1)).sum(1).mean() * (self.count / self.chosen) * self.balance
        return self.experts(y, (p * picked).to(y.dtype)) + self.shared_experts(y), load


class Layer(nn.Module):
    def __init__(self, c, dense):
        super().__init__()
        self.dense = dense
        self.input_layernorm, self.post_attention_layernorm = RmsNorm(c.hidden), RmsNorm(c.hidden)
        self.self_attn = Attention(c)
        self.mlp = GatedMlp(c.hidden, c.dense_ff) if dense else Experts(c)

    def rest(self, x):
        y = self.post_attention_layernorm(x)
        if self.dense:
            return x + self.mlp(y), x.new_zeros((), dtype=torch.float32)
        r, load = self.mlp(y)
        return x + r, load

    def forward(self, x, cos, sin):
        q, k, v = self.self_attn.project(self.input_layernorm(x), cos, sin)
        o = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x, load = self.rest(x + self.self_attn.o_proj(o.transpose(1, 2).flatten(2)))
        return x, load, q[:, 0], k[:, 0]


class Body(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.embed_tokens = nn.Embedding(c.vocab, c.hidden)
        self.sam_model, self.vision_model = Sam(c), Clip(c)
        self.projector = nn.Module()
        self.projector.layers = nn.Linear(2 * c.clip_width, c.hidden)
        self.image_newline, self.view_seperator = (nn.Parameter(torch.randn(c.hidden) * .02) for _ in range(2))
        self.layers = nn.ModuleList(Layer(c, i == 0) for i in range(c.layers))
        self.norm = RmsNorm(c.hidden)


class Model(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.model = Body(c)
        self.lm_head = nn.Linear(c.hidden, c.vocab, bias=False)
        for name, m in self.named_modules():
            if isinstance(m, (nn.Linear, nn.Conv2d)):
                std = .02 if isinstance(m, nn.Linear) else m.weight[0].numel() ** -.5
                if name.endswith(("attn.proj", "lin2", "out_proj", "fc2", "o_proj", "down_proj")):
                    std = .02 / math.sqrt(2 * c.layers)
                nn.init.trunc_normal_(m.weight, std=std)
                if m.bias is not None:
                    nn.init.zeros_(m.bias)
        nn.init.normal_(self.model.embed_tokens.weight, std=.02)
        nn.init.normal_(self.model.projector.layers.weight, std=.3 * (2 * c.clip_width) ** -.5)

    def take(self, weights):
        """Loads weights. A block of SAM that attended to the whole view and has a window now begins with what it had: no relative positions."""
        own = self.state_dict()
        self.load_state_dict({k: torch.zeros_like(own[k]) if "rel_pos" in k and own[k].shape != t.shape else t for k, t in weights.items()})

    def blocks(self):
        """The parts worth compiling."""
        return [*self.model.sam_model.blocks, *self.model.vision_model.transformer.layers, *self.model.layers]

    def encode(self, views):
        """views [V][3][S][S] -> tokens [V][(S/64)^2][hidden], neck output"""
        f, neck = self.model.sam_model(views)
        x = torch.cat([self.model.vision_model(f), f.flatten(2).transpose(1, 2)], -1)
        return self.model.projector.layers(x), neck

    def with_newlines(self, t):
        """[B][h][w][hidden] -> [B][h * (w + 1)][hidden]"""
        b, h, w, width = t.shape
        return torch.cat([t, self.model.image_newline.to(t.dtype).expand(b, h, 1, width)], 2).view(b, h * (w + 1), width)

    def picture(self, globe, tiles=None, grid=(1, 1)):
        """Tokens of the views in the order of the sequence (spec 3.6). globe [B][Q * Q][hidden], tiles [B * r * c][q * q][hidden]"""
        b, _, width = globe.shape
        side = math.isqrt(globe.shape[1])
        parts = []
        if tiles is not None:
            (c, r), q = grid, math.isqrt(tiles.shape[1])
            parts.append(self.with_newlines(tiles.view(b, r, c, q, q, width).transpose(2, 3).reshape(b, r * q, c * q, width)))
        parts.append(self.with_newlines(globe.view(b, side, side, width)))
        parts.append(self.model.view_seperator.to(globe.dtype).expand(b, 1, width))
        return torch.cat(parts, 1)

    def sequence(self, picture, ids):
        """BOS, picture, text"""
        e = self.model.embed_tokens
        first = e(torch.zeros(len(ids), 1, dtype=torch.long, device=ids.device)).to(picture.dtype)
        return torch.cat([first, picture, e(ids).to(picture.dtype)], 1)

    def decode(self, x, cos, sin):
        """-> hidden states, balance loss, [(query, key) of the taught heads], states after the layer `placed`"""
        load, taught, state = 0.0, [], None
        for i, layer in enumerate(self.model.layers):
            x, a, q, k = layer(x, cos, sin)
            load = load + a
            if i in self.c.guided:
                taught.append((q, k))
            if i == self.c.placed:
                state = x
        return self.model.norm(x), load, taught, state


class SlotHead(nn.Module):
    """Training only. Each feature cell is cut into rows x columns slots; which character has its centre in a slot?
    (0: none). Vision tokens see 64 x 64 pixels as 4 x 16 slots, neck outputs 16 x 16 pixels as 1 x 4."""

    def __init__(self, width, rows, columns, classes, inner=32):
        super().__init__()
        self.rows, self.columns, self.inner = rows, columns, inner
        self.up, self.out = nn.Linear(width, rows * columns * inner), nn.Linear(inner, classes)

    def forward(self, features, grid, cell, view, x, y, answer):
        """features [V * grid * grid][width] of cell x cell pixels; points: view, x, y in its pixels, answer (-100: none)"""
        at = (view * grid + (y / cell).long().clamp(0, grid - 1)) * grid + (x / cell).long().clamp(0, grid - 1)
        slot = ((y % cell) * (self.rows / cell)).long().clamp(0, self.rows - 1) * self.columns + ((x % cell) * (self.columns / cell)).long().clamp(0, self.columns - 1)
        h = F.gelu(self.up(features)).view(-1, self.inner)
        logits = self.out(h.index_select(0, at * (self.rows * self.columns) + slot)).float()      # its gradient needs no sorting, as that of h[...] does
        hit = ((logits.argmax(-1) == answer) & (answer > 0)).sum() / (answer > 0).sum().clamp(min=1)
        return F.cross_entropy(logits, answer, ignore_index=-100), hit.detach()


class PlaceHead(nn.Module):
    """Training only. Where on the page stands what comes next? Across and down, in BINS steps of the page's side."""
    BINS = 256

    def __init__(self, width):
        super().__init__()
        self.norm, self.out = RmsNorm(width), nn.Linear(width, 2 * self.BINS)

    def forward(self, state, target):
        """state [..][width], target [..][2] in 0..1 -> loss [..]; a place between the middles of two bins counts for both"""
        logp = self.out(self.norm(state)).float().unflatten(-1, (2, self.BINS)).log_softmax(-1)
        u = (target * self.BINS - .5).clamp(0, self.BINS - 1.001)
        low = u.long()[..., None]
        part = u[..., None] - low
        return -((1 - part) * logp.gather(-1, low) + part * logp.gather(-1, low + 1)).mean((-1, -2))


class Teachers(nn.Module):
    def __init__(self, c, classes):
        super().__init__()
        self.token, self.neck = SlotHead(c.hidden, 4, 16, classes), SlotHead(c.neck, 1, 4, classes)
        self.place = PlaceHead(c.hidden)
