"""The characters that pages are made of: ASCII, the Western European letters and common typographic signs."""
ASCII = [chr(c) for c in range(0x20, 0x7F)]
LETTERS = [chr(c) for c in range(0xC0, 0x100) if c not in (0xD7, 0xF7)] + list("ŒœŠšŽžŸªº")
SIGNS = list("¡¿«»‹›–—‘’‚“”„•…€£¢¥§©®™°±×÷·µ¶†‡¼½¾¹²³‰")
CHARSET = ASCII + LETTERS + SIGNS
INDEX = {c: i for i, c in enumerate(CHARSET)}
SPACE = INDEX[" "]

# What a face without some letter gets instead.
PLAIN = str.maketrans({
    **dict(zip("àáâãäåçèéêëìíîïñòóôõöøùúûüýÿÀÁÂÃÄÅÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝŠšŽžŸªº",
               "aaaaaaceeeeiiiinoooooouuuuyyAAAAAACEEEEIIIINOOOOOOUUUUYSsZzYao")),
    **dict(zip("‹›–—‘’‚“”„•·×¹²³", "<>--'','\"\"\"*.x123")), "…": "...", "€": "EUR", "™": "TM", "œ": "oe", "Œ": "OE", "ß": "ss"})

SAME = str.maketrans({"\u00a0": " ", "\u202f": " ", "\u2009": " ", "\u2010": "-", "\u2011": "-", "\u2212": "-", "\u2015": "—",
                      "\u201b": "‘", "\u2032": "'", "\u2033": '"', "\u00ad": None, "\u200b": None, "\ufb01": "fi", "\ufb02": "fl"})


def clean(text):
    """One line of known characters."""
    text = " ".join(text.translate(SAME).split())
    return "".join(c for c in text if c in INDEX)
