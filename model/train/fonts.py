"""Faces for the pages: cut down once from Debian packages (gather), then drawn into an atlas of glyphs (atlas)."""
import glob, json, os, pickle, re, sys, unicodedata
from multiprocessing import Pool
import numpy as np
from charset import ASCII, CHARSET, INDEX

SIZES = list(range(10, 27)) + [28, 30, 32, 35, 38, 42, 46, 52, 58, 64, 72]     # pixels per em
SOLID = 1 << 16                                                            # leading atlas bytes that are full ink, for rectangles

# Kept out of training altogether; the evaluation pages are set in these.
HELD = ["crosextra/Carlito-{Regular,Bold,Italic}.ttf", "crosextra/Caladea-{Regular,Bold,Italic}.ttf", "ebgaramond/EBGaramond12-Regular.otf",
        "inconsolata/Inconsolata.otf", "noto/NotoSerif-{Regular,Bold,Italic}.ttf", "cantarell/Cantarell-{Regular,Bold}.otf",
        "uralic/{schou___,schoub__}.ttf"]
# Common faces come first: they are drawn more often.
COMMON = ["liberation/Liberation{Sans,Serif,Mono}-{Regular,Bold,Italic,BoldItalic}.ttf", "dejavu/DejaVu{Sans,Serif,SansMono}*.ttf",
          "urw-base35/{NimbusSans,NimbusRoman,NimbusMonoPS,C059,P052,URWBookman,URWGothic,NimbusSansNarrow}-*.otf",
          "croscore/{Tinos,Arimo,Cousine}-{Regular,Bold,Italic}.ttf", "freefont/*.ttf", "courier-prime/*.otf", "cmu/cmun{rm,bx,ti,sl,tt}.ttf",
          "RobotoTTF/Roboto-{Regular,Bold,Italic,Light}.ttf", "noto/NotoSans-{Regular,Bold,Italic}.ttf", "open-sans/OpenSans-{Regular,Bold,Italic}.ttf"]
OTHER = ["lato/Lato-{Regular,Bold,Italic,Light}.ttf", "open-sans/OpenSans-{Light,Semibold,CondLight,CondBold}.ttf", "hack/*.ttf", "quicksand/Quicksand-{Regular,Medium}.ttf",
         "firacode/FiraCode-{Regular,Bold}.ttf", "fonts-oldstandard/*.[ot]tf", "noto/NotoSansDisplay-{Regular,Bold}.ttf", "noto/NotoSansMono-*.ttf", "noto/NotoMono-Regular.ttf",
         "noto/NotoSerifDisplay-{Regular,Bold}.ttf", "ocr-a/*.ttf", "ocr-b/OCRB.otf", "linux-libertine/Lin{Libertine_R,Libertine_RB,Libertine_RI,Biolinum_R,Biolinum_RB}*.otf",
         "didot/*.otf", "neohellenic/*.otf", "artemisia/*.otf",
         "lm/lm{roman10,roman12,roman8,sans10,mono10,romandemi10,romanslant10,romancaps10,sansquot8,monoprop10,monolt10}-{regular,bold,italic,oblique}.otf",
         "cmu/cmun{ss,si,sx,tb,it,bi,bl,ci,vt,btl,orm,obx,ssdc}.ttf", "tex-gyre/texgyre{adventor,bonum,cursor,heros,heroscn,pagella,schola,termes}-{regular,bold,italic}.otf",
         "andika/*-{R,Regular,Bold}.ttf", "averia-gwf/*-{Regular,Bold,Italic}.ttf", "charis/*-{Regular,Bold,Italic}.ttf",
         "doulos/*.ttf", "gentium/*.ttf", "fonts-georgewilliams/{Caslon*,Caliban,GWMonospace}.ttf", "jetbrains-mono/JetBrainsMono-{Regular,Bold,Italic}.ttf",
         "mononoki/*-{Regular,Bold}.ttf", "monoid/Monoid-Regular.ttf", "play/Play-{Regular,Bold}.ttf", "tuffy/Tuffy{,_Bold,_Italic}.ttf", "uralic/{booku___,gothu___,monou___,pallu___,romau___,sansu___,sanscu__}.ttf",
         "vollkorn/Vollkorn-{Regular,Bold,Italic}.*", "b612/B612{,Mono}-{Regular,Bold,Italic}.otf", "cabin/Cabin-{Regular,Bold,Italic}.otf", "fonts-prociono/*.otf", "inter/Inter-{Regular,Bold,Italic,Light}.otf",
         "league-mono/LeagueMono-{Regular,Bold}.otf", "sortsmill/*.otf", "RobotoTTF/RobotoCondensed-{Regular,Bold}.ttf", "unhinted/RobotoCondensed-{Regular,Bold}.ttf", 
         "dosis/Dosis-{Book,Bold}.otf", "comfortaa/*Regular*", "jura/Jura-{Regular,Medium}.otf", "terminus/*.ttf", "linex/{Quercus,Quercus_Bold,Quercus_It}.ttf", "fantasque-sans/**/FantasqueSansMono-Regular.*",
         "ttf-bitstream-vera/Vera{,Bd,It,Mono,Se}.ttf"]


def expand(pattern):
    m = re.search(r"\{([^}]*)\}", pattern)
    return [pattern] if not m else [q for part in m.group(1).split(",") for q in expand(pattern[:m.start()] + part + pattern[m.end():])]


def find(root, patterns):
    return [p for pattern in patterns for q in expand(pattern) for p in sorted(glob.glob(os.path.join(root, "**", q), recursive=True)) if p.lower().endswith((".ttf", ".otf"))]


def draw_large(path, chars):
    """{char: canvas [200][300] of ink or none}, 100 pixels per em"""
    from PIL import ImageFont
    face, canvases = ImageFont.truetype(path, 100, layout_engine=ImageFont.Layout.BASIC), {}
    for char in chars:
        out = canvases[char] = np.zeros((200, 300), bool)
        mask, (x, y) = face.getmask2(char, mode="L", anchor="ls")
        (w, h), x, y = mask.size, x + 50, y + 150
        if w and h:
            drawn = np.frombuffer(bytes(mask), np.uint8).reshape(h, w) > 127
            drawn = drawn[max(0, -y):, max(0, -x):][:200 - max(0, y), :300 - max(0, x)]
            out[max(0, y):max(0, y) + drawn.shape[0], max(0, x):max(0, x) + drawn.shape[1]] = drawn
    return canvases


def alike(a, b, share):
    return (a & b).sum() > share * (a | b).sum()


TWINS = {**{c: p for c, p in zip("–‘’‚“”„‹›", "-'',\"\"\"<>")}, "—": "–", "¿": "?", "¡": "|"}


def not_drawn(ink):
    """Which characters no page may ask for in a face, of those of which draw_large gives the ink: such as are empty or look like a twin (straight for curved quotation marks,
    hyphens for dashes). All but ASCII where most letters with an accent have not the letter itself below it, as some faces have Cyrillic there."""
    accented = [c for c in ink if c.islower() and len(unicodedata.normalize("NFD", c)) == 2 and c not in "çìíîï"]
    wrong = 0
    for c in accented:
        base, letter = ink[unicodedata.normalize("NFD", c)[0]], ink[c]
        top = int(base.any(1).argmax())
        wrong += not any(alike(np.roll(base, k, 1)[top:], letter[top:], .75) for k in range(-12, 13))
    if wrong > len(accented) / 2:
        return [c for c in ink if c not in ASCII]
    return [c for c in ink if not ink[c].any() or TWINS.get(c) in ink and alike(ink[c], ink[TWINS[c]], .9)]


def gather(share, out):
    """Write each usable face, reduced to the character set, and fonts.json: what they are called, contain and look like."""
    from fontTools import subset, ttLib
    os.makedirs(os.path.join(out, "fonts"), exist_ok=True)
    entries, names = [], set()
    for kind, patterns in (("held", HELD), ("common", COMMON), ("other", OTHER)):
        for path in find(share, patterns):
            name = os.path.basename(path)
            if name in names:
                continue
            try:
                options = subset.Options()
                options.layout_features, options.notdef_outline = [], True
                options.drop_tables += ["GPOS", "GSUB", "GDEF", "MATH", "morx", "kern", "FFTM", "prop", "name"]
                face = ttLib.TTFont(path, fontNumber=0)
                table = face.getBestCmap()
                have = [c for c in CHARSET if ord(c) in table]
                if any(c not in have for c in CHARSET[:95]):
                    print("lacks ASCII", name)
                    continue
                mono = len({face["hmtx"][table[ord(c)]][0] for c in "iWm.0"}) == 1
                family, style = (face["name"].getDebugName(i) or "" for i in (1, 2))
                subsetter = subset.Subsetter(options)
                subsetter.populate(unicodes=[ord(c) for c in have])
                subsetter.subset(face)
                face.save(os.path.join(out, "fonts", name))
                lacks = not_drawn(draw_large(os.path.join(out, "fonts", name), [c for c in have if c != " "]))
                have = [c for c in have if c not in lacks]
            except Exception as e:
                print("skipped", path, e)
                continue
            names.add(name)
            entries.append(dict(file=name, kind=kind, mono=mono, family=family, style=style, missing=[c for c in CHARSET if c not in have]))
    with open(os.path.join(out, "fonts.json"), "w") as f:
        json.dump(entries, f, indent=0)
    print({k: sum(e["kind"] == k for e in entries) for k in ("held", "common", "other")}, "faces",
          sum(os.path.getsize(os.path.join(out, "fonts", e["file"])) for e in entries) // 1000, "kB")


def draw(job):
    """One face at all sizes -> glyph bytes, and for each size and character: width, height, x and y offset, advance."""
    from PIL import ImageFont
    path, sizes = job
    data, metric, length = [], np.zeros((len(sizes), len(CHARSET), 5), np.float32), np.zeros((len(sizes), len(CHARSET)), np.int64)
    for i, size in enumerate(sizes):
        face = ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)
        for j, char in enumerate(CHARSET):
            mask, offset = face.getmask2(char, mode="L", anchor="ls")
            w, h = mask.size
            metric[i, j] = (w, h, offset[0], offset[1], face.getlength(char))
            if w and h:
                data.append(np.frombuffer(bytes(mask), np.uint8))
                length[i, j] = w * h
    return np.concatenate(data), metric, length


class Atlas:
    """All training faces: pixels [bytes] for the renderer; metrics for the page makers.
    metric [face][size][char][w h ox oy advance], offset [face][size][char] into pixels, has [face][char]."""

    @staticmethod
    def drawn(folder, processes, faces=None, cache=None):
        """Draws the atlas, or reads the one kept in the file cache."""
        if cache and os.path.exists(cache):
            with open(cache, "rb") as f:
                return pickle.load(f)
        atlas = Atlas(folder, processes, faces)
        if cache:
            with open(cache, "wb") as f:
                pickle.dump(atlas, f, 5)
        return atlas

    def __init__(self, folder, processes, faces=None, sizes=SIZES):
        entries = [e for e in json.load(open(os.path.join(folder, "fonts.json"))) if e["kind"] != "held"][:faces]
        with Pool(processes) as pool:
            drawn = pool.map(draw, [(os.path.join(folder, "fonts", e["file"]), sizes) for e in entries], chunksize=1)
        length = np.stack([d[2] for d in drawn])
        self.pixels = np.concatenate([np.full(SOLID, 255, np.uint8)] + [d[0] for d in drawn])
        self.offset = (np.cumsum(length.ravel()) - length.ravel() + SOLID).reshape(length.shape)
        self.metric = np.stack([d[1] for d in drawn])
        self.has = np.ones((len(entries), len(CHARSET)), bool)
        for i, e in enumerate(entries):
            self.has[i, [INDEX[c] for c in e["missing"]]] = False
        self.sizes = np.array(sizes)
        self.common = [i for i, e in enumerate(entries) if e["kind"] == "common"]
        self.upright = [i for i, e in enumerate(entries) if e["style"] in ("Regular", "Roman", "Book", "R", "Medium", "")]
        self.mono = [i for i, e in enumerate(entries) if e["mono"]]
        families = {}
        for i, e in enumerate(entries):
            families.setdefault(e["family"], []).append(i)
        self.relatives = [families[e["family"]] for e in entries]          # the same family in other styles

    def without_pixels(self):
        """A copy for the page makers, cheap to hand to worker processes."""
        copy = object.__new__(Atlas)
        copy.__dict__ = {k: v for k, v in self.__dict__.items() if k != "pixels"}
        return copy


if __name__ == "__main__":
    gather(*sys.argv[1:3])
