"""Weights alone, as bf16: all that a later stage needs. The file is split so that each part stays small, and packed:
the bytes with sign and exponent compress to less than half.

A process that is killed while it writes leaves the parts of the last save. Whoever copies them meanwhile takes the lock:
flock OUT/weights.lock cp OUT/weights.?? ...
"""
import fcntl, glob, json, os, threading, zlib
import numpy as np
import torch

PART = 15 * 2 ** 20
SUM = "checksum"


def fetch(modules):
    """-> {name: shape}, all numbers as bf16 on the CPU, one after the other"""
    tensors = {f"{group}/{name}": t.detach() for group, module in modules.items() for name, t in module.state_dict().items()}
    flat = torch.cat([t.flatten().to(torch.bfloat16) for t in tensors.values()]).cpu()             # waits for the device once
    if not torch.isfinite(flat).all():
        raise SystemExit("a weight is not a number: the last save stands")
    return {name: list(t.shape) for name, t in tensors.items()}, flat


def save(prefix, **modules):
    """Writes prefix.00, prefix.01, ..."""
    write(prefix, *fetch(modules))


def save_beside(prefix, **modules):
    """The same while training goes on; -> the thread that writes"""
    thread = threading.Thread(target=write, args=(prefix, *fetch(modules)))
    thread.start()
    return thread


def write(prefix, head, flat):
    raw = flat.view(torch.int16).numpy().view(np.uint8).reshape(-1, 2)
    high, low = zlib.compress(raw[:, 1].tobytes(), 6), raw[:, 0].tobytes()
    head = json.dumps({**head, SUM: zlib.crc32(low, zlib.crc32(high))}).encode()
    data = b"".join(len(x).to_bytes(8, "little") for x in (head, high)) + head + high + low
    names = [f"{prefix}.{k:02d}" for k in range(-(-len(data) // PART))]
    for k, name in enumerate(names):
        with open(name + ".new", "wb") as f:
            f.write(data[k * PART:(k + 1) * PART])
            os.fsync(f.fileno())
    with open(prefix + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in names:
            os.replace(name + ".new", name)
        for old in set(glob.glob(prefix + ".[0-9][0-9]")) - set(names):
            os.remove(old)


def load(prefix):
    """-> {group: {name: float tensor}}"""
    data = b"".join(open(p, "rb").read() for p in sorted(glob.glob(prefix + ".[0-9][0-9]")))
    a, b = (int.from_bytes(data[k:k + 8], "little") for k in (0, 8))
    head = json.loads(data[16:16 + a])
    if head.pop(SUM, None) not in (None, zlib.crc32(data[16 + a:])):                                 # the first ones have none
        raise SystemExit(f"{prefix}: the parts are not of one save")
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
