"""Byte-level BPE in the structure of the released tokenizer.json: learnt from the corpora (main), used by trainer and tests.

Digits never merge, so a figure is as many tokens as it has digits, and every character of charset.py is one token at most.
"""
import heapq, json, random, sys
from collections import Counter, defaultdict
import regex
from charset import CHARSET
from text import ENGLISH, OTHER, lines_of

BOS, EOS, PAD = 0, 1, 2
SPECIAL = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"]
MARKS = ["<image>", "<|ref|>", "<|/ref|>", "<|det|>", "<|/det|>", "<|grounding|>", "<td>", "</td>", "<tr>", "</tr>"]
SPLITS = [r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+",
          "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"]
PROMPT_TEXT = "\nFree OCR."
PROMPT_LAYOUT = "\n<|grounding|>Convert the document to markdown."


def byte_alphabet():
    """byte -> the printable character that stands for it"""
    keep = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    rest = [b for b in range(256) if b not in keep]
    return {b: chr(b) for b in keep} | {b: chr(256 + i) for i, b in enumerate(rest)}


ALPHABET = byte_alphabet()
PATTERNS = [regex.compile(p) for p in SPLITS]


def pieces(text):
    """The three Split steps, each inside the pieces of the one before; matches and gaps are pieces."""
    parts = [text]
    for pattern in PATTERNS:
        out = []
        for part in parts:
            at = 0
            for m in pattern.finditer(part):
                if m.start() > at:
                    out.append(part[at:m.start()])
                out.append(m.group())
                at = m.end()
            if at < len(part):
                out.append(part[at:])
        parts = out
    return parts


def symbols(piece):
    return [ALPHABET[b] for b in piece.encode()]


class Tokenizer:
    def __init__(self, path):
        data = json.load(open(path, encoding="utf-8"))
        self.vocab = data["model"]["vocab"]
        self.rank = {tuple(m): i for i, m in enumerate(data["model"]["merges"])}
        self.added = {t["content"]: t["id"] for t in data["added_tokens"]}
        self.size = -(-(max(max(self.vocab.values()), max(self.added.values())) + 1) // 64) * 64   # rows of the matrices
        self.marks = regex.compile("|".join(map(regex.escape, sorted(self.added, key=len, reverse=True))))
        back = {c: b for b, c in ALPHABET.items()}
        self.bytes = {i: t.encode() for t, i in self.added.items()} | {
            i: bytes(back[c] for c in t) for t, i in self.vocab.items() if t not in self.added}
        self.cache = {}

    def merge(self, piece):
        """-> ids, and for each the index of the character in which it starts"""
        found = self.cache.get(piece)
        if found is None:
            parts = symbols(piece)
            while len(parts) > 1:
                i = min(range(len(parts) - 1), key=lambda k: self.rank.get((parts[k], parts[k + 1]), 1 << 30))
                if (parts[i], parts[i + 1]) not in self.rank:
                    break
                parts[i:i + 2] = [parts[i] + parts[i + 1]]
            owner = [k for k, c in enumerate(piece) for _ in c.encode()]
            starts, at = [], 0
            for p in parts:
                starts.append(owner[at])
                at += len(p)
            found = [self.vocab[p] for p in parts], starts
            if len(self.cache) < 200_000:
                self.cache[piece] = found
        return found

    def encode(self, text):
        """-> ids, starts (index into text of the character in which each token starts)"""
        ids, starts, at = [], [], 0
        for m in list(self.marks.finditer(text)) + [None]:
            end = m.start() if m else len(text)
            for piece in pieces(text[at:end]):
                i, s = self.merge(piece)
                ids += i
                starts += [at + k for k in s]
                at += len(piece)
            if m:
                ids.append(self.added[m.group()])
                starts.append(m.start())
                at = m.end()
        return ids, starts

    def decode(self, ids):
        return b"".join(self.bytes.get(int(i), b"") for i in ids).decode("utf-8", "replace")


# ---- learning ----

def forced_merges():
    """Each character that takes several bytes becomes one token, whatever its count."""
    merges = []
    for char in CHARSET:
        s = symbols(char)
        while len(s) > 1:
            if (s[0], s[1]) not in merges:
                merges.append((s[0], s[1]))
            s[:2] = [s[0] + s[1]]
    return merges


def learn(counts, merges, size):
    """counts: piece -> occurrences. Extends merges until the vocabulary holds `size` base tokens."""
    rank = {m: i for i, m in enumerate(merges)}
    words = []
    for piece, n in counts.items():
        s = symbols(piece)
        for m in merges:
            i = 0
            while i < len(s) - 1:
                if (s[i], s[i + 1]) == m:
                    s[i:i + 2] = [s[i] + s[i + 1]]
                i += 1
        words.append((s, n))
    tally, where = Counter(), defaultdict(set)
    for k, (s, n) in enumerate(words):
        for pair in zip(s, s[1:]):
            tally[pair] += n
            where[pair].add(k)
    heap = [(-n, p) for p, n in tally.items()]
    heapq.heapify(heap)
    while len(SPECIAL) + 256 + len(merges) < size:
        n, pair = heapq.heappop(heap)
        if -n != tally[pair]:
            if tally[pair] > 0:
                heapq.heappush(heap, (-tally[pair], pair))
            continue
        merges.append(pair)
        changed = set()
        for k in where.pop(pair):
            s, n = words[k]
            for p in zip(s, s[1:]):
                tally[p] -= n
            i = 0
            while i < len(s) - 1:
                if (s[i], s[i + 1]) == pair:
                    s[i:i + 2] = [s[i] + s[i + 1]]
                i += 1
            for p in zip(s, s[1:]):
                tally[p] += n
                where[p].add(k)
                changed.add(p)
        for p in changed:
            heapq.heappush(heap, (-tally[p], p))
    return merges


def corpus_pieces(folder, characters, seed=1):
    """Pieces of text as pages show it: wrapped into lines, and some layout markup."""
    rnd, counts = random.Random(seed), Counter()
    for name, share in ((ENGLISH, .68), (OTHER, .32)):
        lines = lines_of(f"{folder}/{name}.xz")
        rnd.shuffle(lines)
        total = 0
        for line in lines:
            width, out, col = rnd.randint(30, 95), [], 0
            for word in line.split(" "):
                if col + len(word) > width:
                    out.append("\n")
                    col = 0
                elif out:
                    out.append(" ")
                out.append(word)
                col += len(word) + 1
            text = "".join(out) + "\n"
            if rnd.random() < .03:
                text = text.upper()
            counts.update(p for p in pieces(text) if not any(c.isdigit() for c in p))
            total += len(text)
            if total > share * characters:
                break
    few = sum(counts.values()) // 400
    for piece in ("  \n\n", "[[", "]]", "##", "#", "<table", ">", "</", "table", "title", "sub", "_title", "text", "image", "><", "]]", ".  \n\n", "\n"):
        counts[piece] += few
    return counts


def write(path, merges, base=None):
    vocab = {t: i for i, t in enumerate(SPECIAL)}
    for c in sorted(ALPHABET.values()):
        vocab[c] = len(vocab)
    for a, b in merges:
        vocab[a + b] = len(vocab)
    token = lambda i, content: {"id": i, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    data = {"version": "1.0", "truncation": None, "padding": None,
            "added_tokens": [token(i, t) for i, t in enumerate(SPECIAL)] + [token(len(vocab) + i, t) for i, t in enumerate(MARKS)],
            "normalizer": {"type": "Sequence", "normalizers": []},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": p}, "behavior": "Isolated", "invert": False} for p in SPLITS] + [
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]},
            "post_processor": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
            "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                      "fuse_unk": False, "byte_fallback": False, "vocab": vocab, "merges": [list(m) for m in merges]}}
    with open(path, "w", encoding="utf-8") as f:
        json.dump(data, f, ensure_ascii=False, indent=1)


def main(folder, out, rows=3072):
    """rows: of the embedding, marks included"""
    counts = corpus_pieces(folder, 6_000_000)
    write(out, learn(counts, forced_merges(), int(rows) - len(MARKS)))


if __name__ == "__main__":
    main(*sys.argv[1:4])
