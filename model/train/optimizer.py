"""Muon for the matrices of the blocks (momentum, orthogonalised by a Newton-Schulz iteration), AdamW for the rest;
the running mean of the weights, which is what is saved and read with."""
import torch


class Muon(torch.optim.Optimizer):
    def __init__(self, params, lr, momentum=.95, decay=.02):
        super().__init__(params, dict(lr=lr, momentum=momentum, decay=decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            shapes, trained = {}, [p for p in group["params"] if p.grad is not None]
            for p in trained:
                if not self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
            grads, momenta = [p.grad for p in trained], [self.state[p]["momentum"] for p in trained]
            keep = group["momentum"]
            torch._foreach_mul_(momenta, keep)
            torch._foreach_add_(momenta, grads, alpha=1 - keep)
            ahead = torch._foreach_mul(momenta, keep)
            torch._foreach_add_(ahead, grads, alpha=1 - keep)
            for p, u in zip(trained, ahead):
                shapes.setdefault(p.shape, []).append((p, u))
            for (rows, columns), pairs in shapes.items():
                x = torch.stack([u for _, u in pairs]).bfloat16()
                if rows > columns:
                    x = x.mT
                x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
                for _ in range(5):
                    a = x @ x.mT
                    x = torch.baddbmm(x, torch.baddbmm(a, a, a, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
                if rows > columns:
                    x = x.mT
                x = x.float() * max(1, rows / columns) ** .5
                params = [p for p, _ in pairs]
                torch._foreach_mul_(params, 1 - group["lr"] * group["decay"])
                torch._foreach_add_(params, list(x.unbind(0)), alpha=-group["lr"])


def make_optimizers(modules, lr, muon_lr):
    """-> [AdamW, Muon], each with its base rate; all trained parameters"""
    matrices, decayed, plain = [], [], []
    for module in modules:
        for name, p in module.named_parameters():
            if not p.requires_grad:
                continue
            if p.ndim == 2 and ("blocks." in name or "layers." in name) and not any(k in name for k in ("rel_pos", ".gate.", "projector")):
                matrices.append(p)
            elif p.ndim < 2 or "pos" in name or "embed" in name:
                plain.append(p)
            else:
                decayed.append(p)
    groups = [dict(params=decayed, weight_decay=.05), dict(params=plain, weight_decay=0.)]
    fused = dict(fused=True) if matrices[0].is_cuda else {}
    return [(torch.optim.AdamW(groups, lr=lr, betas=(.9, .97), eps=1e-8, **fused), lr), (Muon(matrices, muon_lr), muon_lr)], matrices + decayed + plain


class Mean:
    """The mean of the weights over about the last `steps` steps. Before the rate has come down to 0 it reads better than they do,
    so a stage that is cut off leaves something good; at rate 0 it is the same."""

    def __init__(self, modules, steps=100):
        self.own = [p for m in modules for p in m.parameters() if p.requires_grad]
        self.mean = [p.detach().clone() for p in self.own]
        self.most, self.seen = steps, 0

    @torch.no_grad()
    def update(self):
        self.seen += 1
        share = 1 / min(self.most, self.seen)
        torch._foreach_mul_(self.mean, 1 - share)
        torch._foreach_add_(self.mean, [p.detach() for p in self.own], alpha=share)

    @torch.no_grad()
    def swap(self):
        """The modules get the mean and this keeps theirs; again: back."""
        for p, m in zip(self.own, self.mean):
            p.data, m.data = m.data, p.data
