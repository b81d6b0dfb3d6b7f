"""`compare`: all models in one table, ranked only where their bounds are apart."""

from __future__ import annotations

import csv
import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deepgen_ppl.data import named
from deepgen_ppl.datasets.scaling import Standardized
from deepgen_ppl.log_p.bounds import Bounds, BoundsOptions, bounds, checked_data
from deepgen_ppl.log_p.paired import Difference, difference
from deepgen_ppl.log_z.estimates import FLAGS
from deepgen_ppl.options import instance
from deepgen_ppl.typing import Rng

__all__ = ["Comparison", "compare"]

COLUMNS = (
    "model",
    "lower",
    "lower_kind",
    "se_lower",
    "upper",
    "upper_kind",
    "se_upper",
    "estimate",
    "estimate_kind",
    "se_data",
    "se_log_z",
    "better_than",
    "seconds",
    "flags",
    "lower_method",
    "upper_method",
    "estimate_method",
    "lower_missing",
    "upper_missing",
)

WIDTH = 80
"""Columns of a printed line."""

HEAVY_TAILS = "heavy tails: a few rows on which it loses much decide, and unseen ones may turn it round: more rows"
"""What is said of a claim over differences with a long lower tail."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """Bounds of several models on the same data, in nats per datum.

    Attributes:
        bounds: model name -> bounds, in the order of the estimates, which is no ranking.
        num_data: number of data.
        measure: kind and size of the data.
    """

    bounds: dict[str, Bounds]
    num_data: int
    measure: str

    def versus(self, name: str, other: str, z: float = 3.0) -> Difference:
        """What speaks for one model against another: the mean of the paired differences, and what it must exceed.

        Args:
            name: the one whose lower side is taken.
            other: the one whose upper side is taken.
            z: standard errors that the claim must hold by; the tail probability that goes with it is Student's.
        """
        return difference((name, other), self.bounds[name], self.bounds[other], z)

    def better_than(self, name: str, z: float = 3.0) -> list[str]:
        """Models whose upper side lies below this one's lower side over the same rows; see `versus`."""
        return [other for other in self.bounds if other != name and self.versus(name, other, z).claimed]

    def remarks(self) -> list[str]:
        """What a reader of the table should know: claims withheld though the sides are apart, doubts, and flags."""
        pairs = {(a, b): self.versus(a, b) for a in self.bounds for b in self.bounds if a != b}
        lines = [f"{a} not better than {b}: {d.withheld}" for (a, b), d in pairs.items() if d.mean > 0 and d.withheld]
        lines += [f"{a} better than {b}: {HEAVY_TAILS}" for (a, b), d in pairs.items() if d.heavy_tails]
        flags = dict.fromkeys(flag for e in self.bounds.values() for flag in e.flags)
        for flag in flags:
            names = ", ".join(name for name, e in self.bounds.items() if flag in e.flags)
            lines.append(f"{flag} ({names}): {FLAGS[flag]}")
        return lines

    def rows(self) -> list[dict[str, Any]]:
        """One dict a model with the columns of the table; NaN where nothing is claimed."""
        return [
            {
                "model": name,
                "lower": e.lower.value,
                "lower_kind": e.lower.kind,
                "se_lower": e.lower.mc_se,
                "upper": e.upper.value,
                "upper_kind": e.upper.kind,
                "se_upper": e.upper.mc_se,
                "estimate": e.estimate.value,
                "estimate_kind": e.estimate.kind,
                "se_data": e.se_data,
                "se_log_z": e.se_log_z,
                "better_than": " ".join(self.better_than(name)),
                "seconds": e.seconds,
                "flags": " ".join(e.flags),
                "lower_method": e.lower.method,
                "upper_method": e.upper.method,
                "estimate_method": e.estimate.method,
                "lower_missing": e.lower.reason,
                "upper_missing": e.upper.reason,
            }
            for name, e in self.bounds.items()
        ]

    def cells(self) -> list[tuple[str, ...]]:
        """The rows as text: lower, kind, upper, kind, estimate, kind, errors, better than, flags."""
        return [_cells(row) for row in self.rows()]

    def to_csv(self, path: str | Path, *, about: Mapping[str, Any] | None = None) -> None:
        """Write the rows to a CSV file.

        Args:
            path: the file.
            about: columns more, of one value each: what the rows are of.
        """
        more = {"num_data": self.num_data, "measure": self.measure, **(about or {})}
        with Path(path).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, (*COLUMNS, *more))
            writer.writeheader()
            writer.writerows({**row, **more} for row in self.rows())

    def __repr__(self) -> str:
        lines = [f"log p(x) in nats per datum over {self.num_data} data ({self.measure})"]
        head = ("model", "lower", "", "upper", "", "estimate", "", "se", "se Z", "better than")
        table = [head, *(row[:-1] for row in self.cells())]
        widths = [max(len(row[i]) for row in table) for i in range(len(head))]
        numbers, kinds = {1, 3, 5, 7, 8}, {2, 4, 6}
        for row in table:
            cells = [
                c.rjust(w) if i in numbers else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
            ]
            gaps = ["", *(" " if i in kinds else "  " for i in range(1, len(head)))]
            lines.append("".join(gap + cell for gap, cell in zip(gaps, cells, strict=True)).rstrip())
        for remark in self.remarks():
            lines += textwrap.wrap(remark, WIDTH, subsequent_indent="  ")
        return "\n".join(lines)


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    names = ("lower", "lower_kind", "upper", "upper_kind", "estimate", "estimate_kind", "se_data", "se_log_z")
    cells = [row[n] if isinstance(row[n], str) else _number(row[n]) for n in names]
    cells = ["-" if c == "none" else c for c in cells]
    return (row["model"], *cells, row["better_than"] or "-", row["flags"] or "-")


def compare(
    models: Mapping[str, Any],
    data: Any,
    *,
    rng: Rng | int,
    options: BoundsOptions | None = None,
    standardized: Mapping[str, Standardized] | None = None,
    progress: bool | None = None,
) -> Comparison:
    """Both sides of log p(x) of every model, in one table.

    A model is said to be better than another only where its lower side lies above the other's upper side, over the same
    rows and beyond all errors (`Comparison.versus`); so on real data a directed model can be shown to beat a large
    machine, and not the reverse.

    Args:
        models: name -> machine or program, on either engine.
        data: held-out data, the same for all: one array (N, V), or named arrays with one leading axis.
        rng: seed or generator (an integer where the models are of both engines).
        options: how hard to work.
        standardized: name -> what `datasets.standardize` returned, for models that were trained on standardized rows:
            they are given such rows, and their log p is put into the units of the data by the log-Jacobian.
        progress: whether to show progress bars; by default where standard error is a terminal.

    Raises:
        TypeError: for something else than a dict of models, or of what `standardize` returns.
        ValueError: without models, for data that do not fit, row weights, or models of different measures.
    """
    if not isinstance(models, Mapping):
        raise TypeError(f"expected a dict name -> model, got {type(models).__name__}")
    if not models:
        raise ValueError("expected at least one model to compare, got none")
    options = instance(options or BoundsOptions(), "options", BoundsOptions, "BoundsOptions(...)")
    measures = {name: _measure(model) for name, model in models.items()}
    if len(set(measures.values())) > 1:
        raise ValueError(f"expected models of one kind of data, whose log scores can be compared, got {measures}")
    scalings = _scalings(models, standardized or {})
    rows = {name: _rows(model, data, scalings.get(name)) for name, model in models.items()}
    for name, model in models.items():
        checked_data(model, rows[name])
    found = {n: bounds(model, rows[n], rng=rng, options=options, progress=progress) for n, model in models.items()}
    found |= {name: found[name].shifted(scaling.log_jacobian) for name, scaling in scalings.items()}
    order = sorted(found, key=lambda name: -np.nan_to_num(found[name].estimate.value, nan=-np.inf))
    num_data = len(next(iter(found.values())).pointwise)
    return Comparison({name: found[name] for name in order}, num_data, next(iter(measures.values())))


def _scalings(models: Mapping[str, Any], standardized: Mapping[str, Standardized]) -> Mapping[str, Standardized]:
    if not isinstance(standardized, Mapping):
        raise TypeError(f"expected a dict name -> what standardize returned, got {type(standardized).__name__}")
    if unknown := sorted(standardized.keys() - models.keys()):
        raise ValueError(f"expected standardized among the models {list(models)}, got {unknown}")
    return {
        name: instance(scaling, f"standardized[{name!r}]", Standardized, "what datasets.standardize(...) returned")
        for name, scaling in standardized.items()
    }


def _rows(model: Any, data: Any, scaling: Standardized | None) -> Any:
    """The data as a model was trained on them."""
    if scaling is None:
        return data
    batch = named(model, data, "test data")
    name = model.data_name
    return batch | ({name: scaling.apply(batch[name])} if name in batch else {})


def _measure(model: Any) -> str:
    """The space of what a model observes, and its base measure."""
    observed = getattr(model, "observed", {})
    if not observed:
        raise TypeError(f"expected a model that says what it observes, got {type(model).__name__}")
    return " x ".join(unit.measure for unit in observed.values())
