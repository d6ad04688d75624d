"""Weights alone, as bf16: all that a later stage needs. The file is split so that each part stays small, and packed:
the bytes with sign and exponent compress to less than half."""
import glob, json, os, threading, zlib
import numpy as np
import torch

PART = 15 * 2 ** 20


def fetch(modules):
    """-> [(name, bf16 tensor on the CPU), ...]"""
    return [(f"{group}/{name}", t.detach().to(torch.bfloat16).contiguous().cpu()) for group, module in modules.items() for name, t in module.state_dict().items()]


def save(prefix, **modules):
    """Writes prefix.00, prefix.01, ..."""
    write(prefix, fetch(modules))


def save_beside(prefix, **modules):
    """The same while training goes on; -> the thread that writes"""
    thread = threading.Thread(target=write, args=(prefix, fetch(modules)))
    thread.start()
    return thread


def write(prefix, tensors):
    head, high, low = {}, [], []
    for name, t in tensors:
        raw = t.view(torch.int16).numpy().view(np.uint8).reshape(-1, 2)
        head[name] = list(t.shape)
        high.append(raw[:, 1])
        low.append(raw[:, 0])
    head = json.dumps(head).encode()
    high = zlib.compress(np.concatenate(high).tobytes(), 6)
    data = b"".join(len(x).to_bytes(8, "little") for x in (head, high)) + head + high + np.concatenate(low).tobytes()
    names = [f"{prefix}.{k:02d}" for k in range(-(-len(data) // PART))]
    for k, name in enumerate(names):
        with open(name + ".new", "wb") as f:
            f.write(data[k * PART:(k + 1) * PART])
    for old in glob.glob(prefix + ".[0-9][0-9]"):
        os.remove(old)
    for name in names:
        os.rename(name + ".new", name)


def load(prefix):
    """-> {group: {name: float tensor}}"""
    data = b"".join(open(p, "rb").read() for p in sorted(glob.glob(prefix + ".[0-9][0-9]")))
    a, b = (int.from_bytes(data[k:k + 8], "little") for k in (0, 8))
    head = json.loads(data[16:16 + a])
    high = np.frombuffer(zlib.decompress(data[16 + a:16 + a + b]), np.uint8)
    low = np.frombuffer(data, np.uint8, offset=16 + a + b)
    raw = torch.from_numpy(np.stack([low, high], 1).reshape(-1).view(np.int16)).view(torch.bfloat16).float()
    out, at = {}, 0
    for name, shape in head.items():
        group, name = name.split("/", 1)
        n = int(np.prod(shape)) if shape else 1
        out.setdefault(group, {})[name] = raw[at:at + n].view(shape).clone()
        at += n
    return out
