"""Several GPUs of one machine, a process for each:

    python3 -m torch.distributed.run --nproc_per_node 4 train.py ...

Every process makes its own batches; the gradients are averaged, so all of them take the same step with the same weights.
The first process decides what depends on the clock. A single process, started without any of this, pays nothing for it.
"""
import os
import torch
import torch.distributed as dist


class Together:
    def __init__(self):
        self.count, self.rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
        self.first = self.rank == 0
        if self.count > 1:
            cuda = torch.cuda.is_available()
            if cuda:
                torch.cuda.set_device(self.rank)
            dist.init_process_group("nccl" if cuda else "gloo")
            self.clock = dist.new_group(backend="gloo")                        # decisions travel between the CPUs and wait for no GPU

    def share(self, modules):
        """All take the weights of the first."""
        if self.count > 1:
            for module in modules:
                for t in module.state_dict().values():
                    dist.broadcast(t, 0)

    def decide(self, *values):
        """-> the numbers that the first gave"""
        if self.count == 1:
            return values
        t = torch.tensor(values, dtype=torch.float64)
        dist.broadcast(t, 0, group=self.clock)
        return t.tolist()

    def average(self, params):
        """The mean of the gradients takes the place of each one's own; none counts as 0."""
        if self.count == 1:
            return
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in params])
        dist.all_reduce(flat)
        flat /= self.count
        at = 0
        for p in params:
            p.grad = flat[at:at + p.numel()].view_as(p)
            at += p.numel()

    def wait(self):
        if self.count > 1:
            dist.barrier(group=self.clock)
