"""The losses: next token, and three that exist in training only, since the renderer knows where every character stands.

Nothing here waits for the device: no tensor is made from numbers of the CPU, not even by torch.where with two of them (the copy would
wait for all work in the queue), and no shape depends on data. train.py names what waits all the same.
"""
import torch
import torch.nn.functional as F
from model import rope_tables
from render import MODES, global_box
from tokenizer import EOS, PAD

LOOKS = 320            # tokens of a page whose attention and place are taught
# Weights: of labels and where a line begins or ends, as there lines are skipped or read twice and pages given up too soon; of the figures of a box. Others weigh 1.
TURN, DIGIT = 3.0, 4.0


class Objective:
    def __init__(self, model, teachers, renderer, tokenizer):
        self.model, self.teachers, self.renderer = model, teachers, renderer
        self.device = renderer.device
        self.tables = None
        self.alone = False               # the heads of training learn, and the model does not learn from them
        known = [tokenizer.bytes.get(k, b"") for k in range(tokenizer.size)]
        self.breaks = torch.tensor([b.endswith(b"\n") for b in known], device=self.device)          # tokens after which a line begins
        self.digits = torch.tensor([b.isdigit() for b in known], device=self.device)
        self.label, self.box, self.box_end = (tokenizer.added[mark] for mark in ("<|ref|>", "<|det|>", "<|/det|>"))

    def rope(self, n):
        if self.tables is None or len(self.tables[0]) < n:
            c = self.model.c
            self.tables = rope_tables(max(n, 4096), c.hidden // c.heads, c.theta, self.device)
        return self.tables[0][:n], self.tables[1][:n]

    def place(self, at, batch):
        """centres in pixels of the page -> pixels of the view that is read closest: the canvas of tiles, or the global view"""
        sizes = batch["sizes"].float()
        side, tile, squash = MODES[batch["mode"]]
        if tile:
            c, r = batch["grid"]
            return at * torch.stack([tile * c / sizes[:, 0], tile * r / sizes[:, 1]], 1)[:, None]
        box = global_box(batch["sizes"], side, squash).float()
        return box[:, None, :2] + at * (box[:, 2:] / sizes)[:, None]

    def corrupted(self, ids, first, share):
        """The decoder's input: some tokens are others, half of them from elsewhere on the page, so that it trusts the picture
        and finds back where it went astray."""
        t = torch.arange(ids.shape[1], device=self.device)
        there = (ids != PAD) & (t >= first[:, None])
        elsewhere = ids.gather(1, (first[:, None] + torch.rand(ids.shape, device=self.device) * (there.sum(1) - 1)[:, None]).long().clamp(0, ids.shape[1] - 1))
        any_token = torch.randint(3, self.model.c.vocab - 10, ids.shape, device=self.device)
        u = torch.rand(ids.shape, device=self.device)
        wrong = torch.where(u < share / 2, elsewhere, any_token)
        return torch.where((u < share) & there & ~self.breaks[ids], wrong, ids).masked_fill(ids == PAD, EOS)

    def special(self, ids, first):
        """-> which tokens ids[:, 1:] begin a line or name a block, which end a line or the page, which are figures of a box"""
        inside = ((ids == self.box).cumsum(1) > (ids == self.box_end).cumsum(1))[:, 1:]
        t = torch.arange(1, ids.shape[1], device=self.device)
        before, now = ids[:, :-1], ids[:, 1:]
        return self.breaks[before] | (before == self.label) | (t == first[:, None]), self.breaks[now] | (now == EOS), self.digits[now] & inside

    def __call__(self, batch, slots, guide, strength=1.0, corrupt=.08):
        """-> loss, {name: value} for the log"""
        dev, model = self.device, self.model
        cuda = dev == "cuda"
        ids, first = batch["ids"], batch["first"]
        side, tile, _ = MODES[batch["mode"]]
        with torch.no_grad():
            globe, tiles, at, points = self.renderer(batch, strength)
            inputs = self.corrupted(ids[:, :-1], first, corrupt)
            t = torch.arange(inputs.shape[1], device=dev)
            answers = torch.where((t[None] + 1 >= first[:, None]), ids[:, 1:], torch.full_like(ids[:, 1:], PAD))
            asked = answers != PAD
            begins, ends, figures = (k & asked for k in self.special(ids, first))
        with torch.autocast(dev, dtype=torch.bfloat16, enabled=cuda):
            kind = torch.bfloat16 if cuda else torch.float32
            g, neck = model.encode(globe.to(kind))
            fine = None
            if tiles is not None:
                fine, neck = model.encode(tiles.to(kind))
            picture = model.picture(g, fine, batch["grid"])
            x = model.sequence(picture, inputs)
            start = picture.shape[1] + 1
            h, load, taught, state = model.decode(x, *self.rope(x.shape[1]))
            logits = model.lm_head(h[:, start:]).float()
        ce = F.cross_entropy(logits.flatten(0, 1), answers.flatten(), ignore_index=PAD, reduction="none").view(answers.shape)
        with torch.no_grad():
            weight = asked + (TURN - 1) * (begins | ends) + (DIGIT - 1) * figures
            right = logits.argmax(-1) == answers
            part = lambda which: (right & which).sum() / which.sum()                  # not a number where there is none
            log = dict(ce=ce.sum() / asked.sum(), acc=part(asked), first=part(begins), box=part(figures), tokens=asked.sum())
        loss = (ce * weight).sum() / weight.sum() + load
        if slots:
            l, hits = self.slot_loss(batch, points, self.known(g if fine is None else fine), self.known(neck))
            loss = loss + slots * l
            log.update(slot=hits[0], neck=hits[1])
        if guide:
            look, place = self.guide_loss(batch, at, asked, begins | figures, taught, self.known(state), start)
            loss = loss + guide * (look + .5 * place)
            log.update(look=look.detach(), place=place.detach())
        return loss, log

    def known(self, features):
        return features.detach() if self.alone else features

    def slot_loss(self, batch, points, features, neck):
        dev, count, n = self.device, *points.shape[:2]
        side, tile, _ = MODES[batch["mode"]]
        with torch.no_grad():
            c, r = batch["grid"]
            view_side = tile or side
            p = self.place(points, batch)
            empty = torch.rand(count, n // 3 + 1, 2, device=dev) * view_side
            p = torch.cat([p, torch.stack([empty[..., 0] * c, empty[..., 1] * r], -1)], 1)
            x, y = p[..., 0].clamp(0, c * view_side - .01), p[..., 1].clamp(0, r * view_side - .01)
            view = (torch.arange(count, device=dev)[:, None] * r + (y / view_side).long()) * c + (x / view_side).long()
            x, y = x % view_side, y % view_side
            slot = (view * (view_side // 16) + (y / 16).long()) * (view_side // 4) + (x / 4).long()
            taken = torch.zeros(count * r * c * (view_side // 16) * (view_side // 4) + 1, dtype=torch.bool, device=dev)
            known = batch["answers"] >= 0
            taken.index_fill_(0, torch.where(known, slot[:, :n], torch.full_like(slot[:, :n], len(taken) - 1)).flatten(), True)
            answer = torch.cat([batch["answers"], taken[slot[:, n:]] * -100], 1)
        flat = [v.flatten() for v in (view, x, y, answer)]
        with torch.autocast(dev, dtype=torch.bfloat16, enabled=dev == "cuda"):
            l1, a1 = self.teachers.token(features.flatten(0, 1), view_side // 64, 64, *flat)
            l2, a2 = self.teachers.neck(neck.permute(0, 2, 3, 1).flatten(0, 2), view_side // 16, 16, *flat)
        return l1 + l2, (a1, a2)

    def guide_loss(self, batch, at, asked, special, taught, state, start):
        """-> cross entropy of the taught heads' attention with the cell that holds the next token, and of its place told from the state,
        over all special tokens and some of the others"""
        dev, count = self.device, len(at)
        side, tile, _ = MODES[batch["mode"]]
        with torch.no_grad():
            known = asked & (at[:, 1:, 0] >= 0)
            pick = (torch.rand(asked.shape, device=dev) + special + 2 * known).topk(min(LOOKS, asked.shape[1]))[1]
            target = at[:, 1:].gather(1, pick[..., None].expand(-1, -1, 2))
            weight = known.gather(1, pick).float()
            p = self.place(target, batch)
            c, r = batch["grid"]
            across, down = (tile // 64 * c, tile // 64 * r) if tile else (side // 64, side // 64)
            col, row = ((p[..., k] / 64).long().clamp(0, n - 1) for k, n in ((0, across), (1, down)))
            cell = 1 + row * (across + 1) + col
            share = weight / weight.sum().clamp(min=1)
            where = target / batch["sizes"][:, None]
        total = 0
        for q, k in taught:
            q = q.gather(1, (pick + start)[..., None].expand(-1, -1, q.shape[-1]))
            a = (q @ k.transpose(1, 2)).float() * q.shape[-1] ** -.5
            later = torch.arange(a.shape[-1], device=dev) > (pick + start)[..., None]
            a = a.masked_fill(later, float("-inf"))
            total = total + ((a.logsumexp(-1) - a.gather(2, cell[..., None])[..., 0]) * share).sum()
        state = state.gather(1, (pick + start)[..., None].expand(-1, -1, state.shape[-1]))
        with torch.autocast(dev, dtype=torch.bfloat16, enabled=dev == "cuda"):
            place = (self.teachers.place(state, where) * share).sum()
        return total / len(taught), place
