"""The table of a comparison: each value of log p(x) with the sign of its side, its errors, and what is claimed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from deepgen_ppl.log_p.cells import Cell, decimals_of, error, listed, number, words
from deepgen_ppl.log_p.claims import Bounds
from deepgen_ppl.log_p.table import Column, Table
from deepgen_ppl.log_z.estimates import Estimate

__all__ = ["SIGNS", "bounds_table"]

SIGNS = {
    "≥": "at least, in expectation",
    "≤": "at most, in expectation",
    "=": "exact",
    "≈": "no side is claimed",
}
"""How a value stands to log p(x)."""


def bounds_table(
    title: str, found: Mapping[str, Bounds], better: Mapping[str, Sequence[str]], notes: Sequence[str]
) -> Table:
    """One row a model.

    Args:
        title: what the numbers are.
        found: model name -> bounds.
        better: model name -> the models that it is better than.
        notes: what is said below, behind the signs.
    """
    decimals = decimals_of([e.se_data for e in found.values()])
    values = tuple(_values(e, decimals) for e in found.values())
    columns = [
        Column(("model",), tuple(words(name) for name in found)),
        Column(("log p(x)",), values, number=True),
        Column(("s.e.", "data"), tuple((error(e.se_data, decimals),) for e in found.values()), number=True, leaves=2),
        Column(("s.e.", "log Z"), tuple((_error(e, decimals),) for e in found.values()), number=True, leaves=3),
        Column(("better", "than"), tuple(listed(better[name]) for name in found), leaves=1),
    ]
    if all(e.se_log_z == 0 for e in found.values()):
        del columns[3]
    used = {piece[0] for cell in values for piece in cell}
    signs = "; ".join(f"{sign} {said}" for sign, said in SIGNS.items() if sign in used)
    return Table(title, tuple(columns), (*([signs] if signs else []), *notes))


def _values(e: Bounds, decimals: int) -> Cell:
    """log p(x) with the sign of each side, or the best guess where no side is claimed."""

    def signed(sign: str, side: Estimate) -> str:
        return f"{sign} {number(side.value, decimals)}"

    if e.lower.kind == e.upper.kind == "exact":
        return (signed("=", e.lower),)
    sides = [signed(sign, side) for sign, side in (("≥", e.lower), ("≤", e.upper)) if side.kind != "none"]
    if sides:
        return (*(f"{side}," for side in sides[:-1]), sides[-1])
    return ("-",) if math.isnan(e.estimate.value) else (signed("≈", e.estimate),)


def _error(e: Bounds, decimals: int) -> str:
    """The standard error of log Z, where log Z is estimated."""
    if e.se_log_z == 0:
        return "-"
    return "withheld" if math.isnan(e.se_log_z) else error(e.se_log_z, decimals)
