r"""Differences of models over the same rows: what may be claimed, and the best guesses, which claim nothing.

    d_n = lower_A(x_n) - upper_B(x_n),     mean d,    s.e. = s(d) / sqrt(N)

Rows that are hard for one model are hard for another, so that s(d) is smaller than the scatter of either.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from deepgen_ppl.log_p.cells import Cell, decimals_of, error, number, words
from deepgen_ppl.log_p.claims import Bounds
from deepgen_ppl.log_p.paired import Difference, difference
from deepgen_ppl.log_p.table import Column, Table
from deepgen_ppl.log_p.tabular import Tabular

__all__ = ["Differences"]


@dataclass(frozen=True, eq=False, repr=False)
class Differences(Tabular):
    """Every pair of models, in nats per datum; `records` has both orders of a pair.

    `difference` is the mean over the rows of the lower side of `model` less the upper side of `than`, `se` its
    standard error over the rows, and `needed` what it must exceed for the claim `better`: `se` times Student's
    quantile, and the reach of the errors that all rows share. `guess` is the mean difference of the best guesses with
    `se_guess`; it claims nothing.

    Attributes:
        bounds: model name -> bounds over the same rows.
        z: standard errors that a claim must hold by.
    """

    bounds: Mapping[str, Bounds]
    z: float = 3.0

    columns: ClassVar[tuple[str, ...]] = (
        "model", "than", "difference", "se", "needed", "better", "heavy_tails", "guess", "se_guess", "withheld",
        "advice", "num_data", "z",
    )  # fmt: skip

    def pairs(self) -> dict[tuple[str, str], Difference]:
        """Both orders of each pair of models."""
        found = self.bounds
        return {(a, b): difference((a, b), found[a], found[b], self.z) for a in found for b in found if a != b}

    def records(self) -> list[dict[str, Any]]:
        """One dict a pair."""
        return [self._record(a, b, d) for (a, b), d in self.pairs().items()]

    def _record(self, a: str, b: str, d: Difference) -> dict[str, Any]:
        guess, se_guess = _mean_difference(self.bounds[a].pointwise, self.bounds[b].pointwise)
        return {
            "model": a,
            "than": b,
            "difference": d.mean,
            "se": d.se,
            "needed": d.needed,
            "better": d.claimed,
            "heavy_tails": d.heavy_tails,
            "guess": guess,
            "se_guess": se_guess,
            "withheld": d.withheld,
            "advice": d.advice,
            "num_data": len(self.bounds[a].pointwise),
            "z": self.z,
        }

    def table(self) -> Table:
        """Each pair once, in the order of the models, and the other order where it is ahead.

        Where there is no room the best guesses leave first, then what is needed, then the answer.
        """
        order = {name: i for i, name in enumerate(self.bounds)}
        rows = [r for r in self.records() if r["difference"] > 0 or order[r["model"]] < order[r["than"]]]
        decimals = decimals_of([r[name] for r in rows for name in ("se", "se_guess")])
        claimed = tuple(_plus_minus(r["difference"], r["se"], decimals) for r in rows)
        guesses = tuple(_plus_minus(r["guess"], r["se_guess"], decimals) for r in rows)
        columns = (
            Column(("model",), tuple(words(r["model"]) for r in rows)),
            Column(("than",), tuple(words(r["than"]) for r in rows)),
            Column(("lower", "- upper"), claimed, number=True),
            Column(("needed",), tuple((error(r["needed"], decimals),) for r in rows), number=True, leaves=2),
            Column(("better",), tuple(_answer(r) for r in rows), leaves=1),
            Column(("best", "guesses"), guesses, number=True, leaves=3),
        )
        num_data = max((len(e.pointwise) for e in self.bounds.values()), default=0)
        title = f"paired differences of log p(x) ± s.e., in nats per datum over the same {num_data} data"
        note = "better where lower - upper exceeds what is needed; the best guesses claim nothing"
        return Table(title, columns, (note,))


def _mean_difference(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Mean of a - b, and its standard error; NaN where rows are not finite, or there is one."""
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return math.nan, math.nan
    d = a - b
    return float(d.mean()), float(d.std(ddof=1)) / math.sqrt(len(d)) if len(d) > 1 else math.nan


def _plus_minus(value: float, se: float, decimals: int) -> Cell:
    if math.isnan(value):
        return ("-",)
    return (number(value, decimals), *([] if math.isnan(se) else [f"± {error(se, decimals)}"]))


def _answer(record: dict[str, Any]) -> Cell:
    return ("-",) if math.isnan(record["difference"]) else ("yes" if record["better"] else "no",)
