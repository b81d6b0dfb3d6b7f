"""Cells of a table: pieces of text, of which numbers are never cut and words are folded where they must be."""

from __future__ import annotations

import math
import re
import statistics
import unicodedata
from collections.abc import Sequence

__all__ = ["Cell", "decimals_of", "error", "folded", "listed", "number", "text_width", "words"]

Cell = tuple[str, ...]

ROUNDING = 1e-6
"""Standard errors that are no larger are rounding, in nats."""

WORD = re.compile(r"[^\W_]+[\W_]?|[\W_]")
"""A word inside a name, with the sign behind it."""

LISTED = 4
"""Names of a list that are shown where there are many more."""


def text_width(text: str) -> int:
    """Columns of a terminal that the text takes: two for a wide character, none for a combining one."""
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def words(text: str) -> Cell:
    r"""The pieces of a name; what does not print is written out.

    >>> words("an rbm\n")
    ('an', 'rbm\\n')
    """
    return tuple("".join(c if c.isprintable() else ascii(c)[1:-1] for c in text).split())


def listed(names: Sequence[str]) -> Cell:
    """Names with commas, the first of them where they are many; a dash for none.

    >>> " ".join(listed(["a", "b"])), " ".join(listed(list("abcdefgh")))
    ('a, b', 'a, b, c, d and 4 more')
    """
    if not names:
        return ("-",)
    few = names if len(names) <= LISTED + 1 else names[:LISTED]
    pieces = [piece for name in few[:-1] for piece in words(f"{name},")] + list(words(few[-1]))
    return (*pieces, *(["and", f"{len(names) - len(few)}", "more"] if len(few) < len(names) else []))


def decimals_of(errors: Sequence[float]) -> int:
    """Decimals with which the median error shows its first digit: two at least, six at most."""
    known = [e for e in errors if math.isfinite(e) and e > ROUNDING]
    return min(max(2, -math.floor(math.log10(statistics.median_high(known)))), 6) if known else 2


def number(value: float, decimals: int = 2) -> str:
    """A number that is never rounded to nothing; a dash for NaN.

    >>> [number(v) for v in (-18.784, 0.0003, -0.0, -123456789.0, float("nan"), float("-inf"))]
    ['-18.78', '0.0003', '0.00', '-1.23457e+08', '-', '-inf']
    """
    if math.isnan(value):
        return "-"
    if 0 < abs(value) < 0.5 * 10**-decimals:
        return f"{value:.1g}"
    return f"{value:z.{decimals}f}" if abs(value) < 1e6 else f"{value:.6g}"


def error(value: float, decimals: int = 2) -> str:
    """A standard error: a number, and nothing where it is rounding."""
    return number(0.0 if value <= ROUNDING else value, decimals)


def folded(pieces: Cell, width: int) -> list[str]:
    """Lines of at most `width` columns: pieces side by side where they fit, cut where one alone does not.

    >>> folded(("rbm", "with", "many_units"), 8)
    ['rbm with', 'many_', 'units']
    """
    lines = [""]
    for piece in pieces:
        if lines[-1] and text_width(lines[-1]) + 1 + text_width(piece) <= width:
            lines[-1] += f" {piece}"
        else:
            lines += _cut(piece, width)
    return lines[1:] or lines


def _cut(piece: str, width: int) -> list[str]:
    """Cut where a word of the name ends, and between letters where one word alone is too long."""
    parts = [""]
    for word in WORD.findall(piece):
        for part in [word] if text_width(word) <= width else word:
            if text_width(parts[-1] + part) > width:
                parts.append("")
            parts[-1] += part
    return parts
