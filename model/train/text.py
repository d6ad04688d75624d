"""Text for the pages: gathered once from Debian packages (gather), then sampled by the page makers (Text)."""
import glob, gzip, hashlib, html, lzma, os, random, re, string
from charset import CHARSET, INDEX, clean

ENGLISH, OTHER, HELD = "english.txt", "other.txt", "held.txt"


# ---- gathering: package files -> paragraphs ----

def read(path):
    data = gzip.open(path).read() if path.endswith((".gz", ".dz")) else open(path, "rb").read()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def from_html(text):
    text = re.sub(r"(?is)<(script|style|pre|head|code)\b.*?</\1>", " ", text)
    text = re.sub(r"(?i)</?(p|li|dd|dt|div|td|th|tr|h\d|br|title|item|section|note|steps)\b[^>]*>", "\n\n", text)
    return html.unescape(re.sub(r"<[^>]*>", "", text))


def from_roff(text):
    out = []
    for line in text.split("\n"):
        if line.startswith((".\\\"", "'")):
            continue
        if re.match(r"\.(SH|SS|PP|P|TP|LP|IP|sp|Pp|It)\b", line):
            out.append("")
            line = re.sub(r"^\.\w+ ?", "", line)
        elif re.match(r"\.(B|I|BR|IR|RI|RB|BI|IB)\b", line):
            line = re.sub(r"^\.\w+ ", "", line)
        elif line.startswith("."):
            continue
        out.append(line)
    text = "\n".join(out)
    for code, char in {r"\(aq": "'", r"\(em": "—", r"\(en": "–", r"\(co": "©", r"\(bu": "•", r"\(lq": "“", r"\(rq": "”", r"\(cq": "’",
                       r"\(oq": "‘", r"\(Fo": "«", r"\(Fc": "»", r"\ ": " ", r"\~": " ", r"\-": "-", r"\&": "", r"\e": "\\"}.items():
        text = text.replace(code, char)
    return re.sub(r"\\f\[?[A-Z]+\]?|\\f.|\\s[-+]?\d|\\[:%/,^|]|\\\[\w+\]|\\\(\w\w", "", text)


def from_pod(text):
    return re.sub(r"[A-Z]<+ ?([^<>]*) ?>+", r"\1", re.sub(r"(?m)^=\w+ ?|^ .*$", "", text))


def from_dictionary(text):
    return re.sub(r"[{}]|<[^>]*>|\[[^\]]*\]|\\", "", text)


def from_fortunes(text):
    return text.replace("\n%\n", "\n\n")


# (name, files, reader, limit in characters, language: en, xx or held)
SOURCES = [
    ("anarchism", "doc/anarchism/html/**/*.html", from_html, 2_500_000, "en"),
    ("gcide", "dictd/gcide.dict.dz", from_dictionary, 2_000_000, "en"),
    ("foldoc", "dictd/foldoc.dict.dz", from_dictionary, 1_200_000, "en"),
    ("jargon", "dictd/jargon.dict.dz", from_dictionary, 800_000, "en"),
    ("wordnet", "dictd/wn.dict.dz", from_dictionary, 600_000, "en"),
    ("fortunes", "games/fortunes/*.u8", from_fortunes, 2_000_000, "en"),
    ("perl", "perl/**/*.pod", from_pod, 900_000, "en"),
    ("handbook", "doc/debian-handbook/html/en-US/**/*.html", from_html, 900_000, "en"),
    ("installation", "doc/installation-guide-amd64/en/**/*.html", from_html, 400_000, "en"),
    ("policy", "doc/debian-policy/**/*.html", from_html, 500_000, "en"),
    ("gnome", "help/C/**/*.page", from_html, 700_000, "en"),
    ("man", "man/man[1-8]/*.gz", from_roff, 600_000, "en"),
    ("devil", "dictd/devil.dict.dz", from_dictionary, 400_000, "held"),
    ("developers", "**/developers-reference/**/*.html", from_html, 300_000, "held"),
]
for code, names, limit in [("fr", "fr-FR fr", 1_000_000), ("de", "de-DE de", 1_000_000), ("es", "es-ES es", 1_000_000), ("it", "it-IT it", 800_000),
                           ("pt", "pt-BR pt pt_BR", 500_000), ("nl", "nl-NL nl", 350_000), ("sv", "sv-SE sv", 300_000), ("da", "da-DK da", 250_000),
                           ("nb", "nb-NO nb", 150_000)]:
    for name in names.split():
        SOURCES += [(f"handbook-{name}", f"doc/debian-handbook/html/{name}/**/*.html", from_html, limit // 3, "xx"),
                    (f"installation-{name}", f"doc/installation-guide-amd64/{name}/**/*.html", from_html, limit // 3, "xx"),
                    (f"gnome-{name}", f"help/{name}/**/*.page", from_html, limit // 3, "xx"),
                    (f"man-{name}", f"man/{name}/man*/*.gz", from_roff, limit // 3, "xx"),
                    (f"fortunes-{name}", f"games/fortunes/{name}/*.u8", from_fortunes, limit // 3, "xx"),
                    (f"maint-{name}", f"doc/maint-guide-{name}/**/*.html", from_html, limit // 6, "xx")]
WORDS = {"american-english": 30000, "french": 12000, "ngerman": 12000, "spanish": 10000, "italian": 8000, "portuguese": 6000, "dutch": 6000,
         "swedish": 6000, "danish": 6000}


def paragraphs(text):
    for piece in re.split(r"\n\s*\n", text):
        letters = sum(c.isalpha() for c in piece)
        if letters < 25 or letters < .6 * len("".join(piece.split())):
            continue
        if sum(c not in INDEX for c in piece if not c.isspace()) > .01 * len(piece):
            continue
        piece = clean(piece)
        if 30 < len(piece) < 3000:
            yield piece


def gather(share, out, seed=1):
    """share: the usr/share of the unpacked packages. Writes the corpora and the word list to out."""
    rnd, seen = random.Random(seed), set()
    corpora = {"en": [], "xx": [], "held": []}
    for name, pattern, reader, limit, language in SOURCES:
        files = sorted(filter(os.path.isfile, glob.glob(os.path.join(share, pattern), recursive=True)))
        rnd.shuffle(files)
        found = []
        for path in files:
            for piece in paragraphs(reader(read(path))):
                key = hashlib.md5(piece[:60].encode()).digest()[:8]
                if key not in seen:
                    seen.add(key)
                    found.append(piece)
            if sum(map(len, found)) > 4 * limit:
                break
        rnd.shuffle(found)
        total = 0
        for i, piece in enumerate(found):
            total += len(piece)
            if total > limit:
                found = found[:i]
                break
        corpora[language] += found
        print(f"{name:24s}{len(files):6d} files{total:9d} characters")
    os.makedirs(out, exist_ok=True)
    for language, name in (("en", ENGLISH), ("xx", OTHER), ("held", HELD)):
        rnd.shuffle(corpora[language])
        with lzma.open(os.path.join(out, name + ".xz"), "wt", encoding="utf-8") as f:
            f.write("\n".join(corpora[language]))
        print(name, sum(map(len, corpora[language])), "characters")
    words = set()
    for name, count in WORDS.items():
        every = [w for w in map(str.strip, read(os.path.join(share, "dict", name)).split("\n")) if w and all(c in INDEX for c in w)]
        words.update(rnd.sample(every, min(count, len(every))))
    with lzma.open(os.path.join(out, "words.txt.xz"), "wt", encoding="utf-8") as f:
        f.write("\n".join(sorted(words)))


# ---- sampling ----

def lines_of(path):
    return lzma.open(path, "rt", encoding="utf-8").read().split("\n")


MONTHS = ("January February March April May June July August September October November December janvier février mars avril mai juin juillet "
          "août septembre octobre novembre décembre Januar Februar März Mai Juni Juli Oktober Dezember enero febrero marzo abril junio julio "
          "agosto septiembre noviembre diciembre gennaio febbraio aprile maggio giugno luglio agosto settembre ottobre dicembre").split()
FIELD_NAMES = ["Invoice", "Invoice No.", "Date", "Due date", "Customer", "Customer No.", "Order No.", "Total", "Subtotal", "VAT", "Tax", "Amount due",
               "Balance", "Reference", "Our ref.", "Your ref.", "Account", "Account number", "IBAN", "BIC", "Phone", "Fax", "E-mail", "Address", "Name",
               "Quantity", "Unit price", "Discount", "Shipping", "Rechnung Nr.", "Rechnungsdatum", "Betrag", "Gesamtsumme", "MwSt. 19 %", "Kundennummer",
               "Facture n°", "Montant TTC", "TVA", "Échéance", "Fecha", "Importe", "Factura n.º", "Cliente", "Fattura n.", "Importo", "Scadenza"]


ACCENTS = set("ãõñáíóúìòùâêô¿¡ç")      # of languages that the corpora hold little of
VARIANTS = dict(a="áàâãäåæ", c="ç", e="éèêë", i="íìîï", n="ñ", o="óòôõöøœ", s="šß", u="úùûü", y="ýÿ", z="ž")     # all are in the character set


class Text:
    """Random text of the kinds that papers hold. All randomness comes from the given generator."""

    def __init__(self, folder, rnd, held=False):
        self.r = rnd
        names = [HELD, HELD] if held else [ENGLISH, OTHER]
        self.english, self.other = (lines_of(os.path.join(folder, n + ".xz")) for n in names)
        self.accented = [line for line in self.other if len(ACCENTS.intersection(line)) > 1] or self.other
        self.words = lines_of(os.path.join(folder, "words.txt.xz"))

    def prose(self, length, other=None):
        """Running text of about that length, from one place of the corpus, in whole words."""
        r = self.r
        lines = self.english
        if r.random() < .3 if other is None else other:
            lines = self.accented if r.random() < .4 else self.other
        text = r.choice(lines)
        if len(text) > 1.5 * length:
            cut = r.choice([0, 0, r.randrange(len(text) - length)])
            text = text[text.find(" ", cut) + 1 if cut else 0:]
        while len(text) < length:
            text += " " + r.choice(lines)
        if len(text) > length:
            end = text.rfind(" ", 0, length + 1)
            text = text[:end if end > 0 else length]
        return text.strip()

    def respelt(self, text):
        """The same with letters that no language foretells: other accents, or any other letters"""
        r = self.r
        accents, share = r.random() < .6, r.uniform(.02, .12)

        def other(c):
            some = VARIANTS.get(c.lower(), "") if accents else string.ascii_lowercase if c.isalpha() else ""
            return c if not some else r.choice(some).upper() if c.isupper() and "ß" not in some and "ÿ" not in some else r.choice(some)
        return "".join(other(c) if r.random() < share * (3 if accents else 1) else c for c in text)

    def word(self):
        w, k = self.r.choice(self.words), self.r.random()
        return w.upper() if k < .12 else w.capitalize() if k < .4 else w

    def name(self, low=1, high=4):
        return " ".join(self.word() for _ in range(self.r.randint(low, high)))

    def title(self, length):
        t = self.prose(length).rstrip(".,;: ")
        k = self.r.random()
        return t.upper() if k < .2 else t.title() if k < .4 else t[:1].upper() + t[1:]

    def digits(self, n):
        return "".join(self.r.choices("0123456789", k=n))

    def amount(self):
        R, r = self.r.randrange, self.r
        whole = R(10 ** r.randint(1, 6))
        k = r.randrange(6)
        if k == 0: return f"{whole:,}.{R(100):02d}"
        if k == 1: return f"{whole:,}".replace(",", ".") + f",{R(100):02d}"
        if k == 2: return f"{whole:,}".replace(",", " ") + f",{R(100):02d}"
        if k == 3: return f"{whole}.{R(100):02d}"
        if k == 4: return f"{whole}"
        return f"{whole},{R(100):02d}"

    def date(self):
        R, r = self.r.randrange, self.r
        d, m, y = R(1, 32), R(1, 13), R(1900, 2040)
        k = r.randrange(6)
        if k == 0: return f"{y}-{m:02d}-{d:02d}"
        if k == 1: return f"{d:02d}.{m:02d}.{y}"
        if k == 2: return f"{d:02d}/{m:02d}/{r.choice([y, y % 100])}"
        if k == 3: return f"{d} {r.choice(MONTHS)} {y}"
        if k == 4: return f"{r.choice(MONTHS)} {d}, {y}"
        return f"{d}. {r.choice(MONTHS)} {y}"

    def code(self):
        R, r, d = self.r.randrange, self.r, self.digits
        k = r.randrange(9)
        if k == 0: return d(r.randint(1, 12))
        if k == 1: return "".join(r.choices(string.ascii_uppercase + string.digits, k=r.randint(4, 12)))
        if k == 2: return r.choice(["INV", "No. ", "#", "ID-", "REF ", "SKU-", "PO", "Art. ", "RE-", "Nr. ", "n° "]) + d(r.randint(3, 9))
        if k == 3: return r.choice(["DE", "FR", "ES", "IT", "NL", "GB", "AT", "CH"]) + d(2) + " " + " ".join(d(4) for _ in range(r.randint(3, 6)))
        if k == 4: return f"+{R(1, 99)} {d(3)} {d(3)}-{d(4)}" if R(2) else f"({d(3)}) {d(3)}-{d(4)}"
        if k == 5: return self.r.choice(self.words).lower() + "@" + self.r.choice(self.words).lower() + r.choice([".com", ".org", ".net", ".fr", ".de"])
        if k == 6: return "http" + r.choice(["", "s"]) + "://" + r.choice(["www.", ""]) + self.r.choice(self.words).lower() + r.choice([".com/", ".org/", ".io/"]) + self.r.choice(self.words).lower()
        if k == 7: return "-".join("".join(r.choices(string.ascii_uppercase + string.digits, k=R(2, 6))) for _ in range(R(2, 5)))
        return "".join(r.choices("0123456789abcdef", k=r.choice([8, 12, 16])))

    def value(self):
        R, r = self.r.randrange, self.r
        k = r.randrange(8)
        if k < 2: return self.amount() + r.choice(["", "", " €", " EUR", " CHF", " USD"])
        if k == 2: return r.choice("$€£") + r.choice(["", " "]) + self.amount()
        if k == 3: return self.date()
        if k == 4: return f"{R(24):02d}:{R(60):02d}" + r.choice(["", f":{R(60):02d}", " AM", " pm"])
        if k == 5: return f"{R(101)}" + r.choice(["%", " %", f".{R(10)}%", f",{R(100):02d} %"])
        return self.code()

    def noise(self, length):
        """Characters that no language model can guess."""
        r = self.r
        pool = r.choice([CHARSET[1:95], string.ascii_letters + string.digits, string.ascii_lowercase, string.digits + ".,-", CHARSET[1:]])
        out = ""
        while len(out) < length:
            out += "".join(r.choices(pool, k=r.randint(1, 9))) + " "
        return out[:length].strip()

    def running(self, length, noise):
        """Text for a paragraph: mostly prose; some capitals, word salad, figures; `noise` of it unguessable."""
        k = self.r.random()
        if k < noise:
            return self.noise(length)
        k = self.r.random()
        if k < .78:
            return self.respelt(self.prose(length)) if self.r.random() < .12 else self.prose(length)
        if k < .82:
            return self.prose(length).upper()
        share, out = self.r.choice([.1, .1, .5]), ""
        while len(out) < length:
            out += (self.value() if self.r.random() < share else self.word()) + self.r.choice(["", "", "", "", ",", ".", ":", ";"]) + " "
        return out[:length].strip()

    def field(self):
        return self.r.choice(FIELD_NAMES) if self.r.random() < .6 else self.name(1, 2)


if __name__ == "__main__":
    import sys
    gather(*sys.argv[1:3])
