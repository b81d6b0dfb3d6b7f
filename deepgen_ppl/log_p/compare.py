"""`compare`: all models in one table, ranked only where their bounds are apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from deepgen_ppl.data import named
from deepgen_ppl.datasets.scaling import Standardized
from deepgen_ppl.log_p.bounds import Bounds, BoundsOptions, bounds, checked_data
from deepgen_ppl.log_p.bounds_table import bounds_table
from deepgen_ppl.log_p.differences import Differences
from deepgen_ppl.log_p.paired import Difference, difference
from deepgen_ppl.log_p.table import Table
from deepgen_ppl.log_p.tabular import Tabular
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

HEAVY_TAILS = "heavy tails: a few rows on which it loses much decide, and unseen ones may turn it round: more rows"
"""What is said of a claim over differences with a long lower tail."""


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Tabular):
    """Bounds of several models on the same data, in nats per datum.

    It prints as a table, in terminals and in notebooks. A value has a sign before it: log p(x) is at least it (>=, a
    lower side in expectation), at most it (<=, an upper side), equal to it (=), or near it with no side claimed (~).

    Attributes:
        bounds: model name -> bounds, in the order of the estimates, which is no ranking.
        num_data: number of data.
        measure: kind and size of the data.

    Example:
        >>> import numpy as np, deepgen_ppl.numpyro as dg
        >>> even, x = dg.RBM.init(4, 2, rng=0, weight_scale=0), np.tile([1, 1, 0, 0], (20, 1))
        >>> peaked = even.with_params({**even.params, "v.bias": np.array([3, 3, -3, -3], "float32")})
        >>> table = dg.compare({"even": even, "peaked": peaked}, x, rng=0)
        >>> table
        log p(x) in nats per datum over 20 data ({0, 1}^4)
        model   log p(x)  s.e. data  better than
        peaked   = -0.19       0.00  even
        even     = -2.77       0.00  -
        = exact
        >>> print(table.to_markdown().splitlines()[2])
        | model | log p(x) | s.e. data | better than |
        >>> table.versus("peaked", "even").claimed
        True
        >>> print(table.differences().to_text(60))
        paired differences of log p(x) ± s.e., in nats per datum
        over the same 20 data
        model   than  lower - upper  needed  better  best guesses
        peaked  even    2.58 ± 0.00    0.00  yes      2.58 ± 0.00
        better where lower - upper exceeds what is needed; the
          best guesses claim nothing
    """

    bounds: dict[str, Bounds]
    num_data: int
    measure: str

    columns: ClassVar[tuple[str, ...]] = (*COLUMNS, "num_data", "measure")

    def versus(self, name: str, other: str, z: float = 3.0) -> Difference:
        """What speaks for one model against another: the mean of the paired differences, and what it must exceed.

        Args:
            name: the one whose lower side is taken.
            other: the one whose upper side is taken.
            z: standard errors that the claim must hold by; the tail probability that goes with it is Student's.

        Raises:
            ValueError: for an unknown name, or a z that is not positive.
        """
        if unknown := [n for n in (name, other) if n not in self.bounds]:
            raise ValueError(f"expected a model among {list(self.bounds)}, got {unknown}")
        return difference((name, other), self.bounds[name], self.bounds[other], z)

    def differences(self, z: float = 3.0) -> Differences:
        """All pairs of models, row by row over the same data: a table as well.

        Models of the same rows differ by less than their own standard errors say, since they find the same rows hard.

        Args:
            z: see `versus`.
        """
        return Differences(self.bounds, z)

    def better_than(self, name: str, z: float = 3.0) -> list[str]:
        """Models whose upper side lies below this one's lower side over the same rows; see `versus`."""
        return [other for other in self.bounds if other != name and self.versus(name, other, z).claimed]

    def missing(self) -> list[str]:
        """Sides that are not claimed, and why: a line for each reason."""
        found: dict[tuple[str, str], list[str]] = {}
        for name, e in self.bounds.items():
            gaps = {
                f"{side} side": s.reason for side, s in (("lower", e.lower), ("upper", e.upper)) if s.kind == "none"
            }
            if len(gaps) == 2 and e.lower.reason == e.upper.reason:
                gaps = {"side": e.lower.reason}
            for gap in gaps.items():
                found.setdefault(gap, []).append(name)
        return [f"no {side} ({', '.join(names)}): {reason}" for (side, reason), names in sorted(found.items())]

    def remarks(self) -> list[str]:
        """What a reader should know of the claims: those withheld though the sides are apart, doubts, and flags.

        A claim that is withheld comes with what to turn.
        """
        pairs = {(a, b): self.versus(a, b) for a in self.bounds for b in self.bounds if a != b}
        withheld: dict[tuple[str, str], list[str]] = {}
        for (a, b), d in pairs.items():
            if d.mean > 0 and d.withheld:
                withheld.setdefault((a, d.withheld + (f"; try {d.advice}" if d.advice else "")), []).append(b)
        lines = [f"{a} not better than {', '.join(others)}: {why}" for (a, why), others in withheld.items()]
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

    def records(self) -> list[dict[str, Any]]:
        """The rows, with number and kind of the data."""
        return [{**row, "num_data": self.num_data, "measure": self.measure} for row in self.rows()]

    def table(self) -> Table:
        """What is printed: model, log p(x), its errors, and what the model is better than.

        The s.e. of log Z is there where some model has one. Where there is no room it leaves first, then the s.e. over
        the data, then what is claimed.
        """
        better = {name: self.better_than(name) for name in self.bounds}
        title = f"log p(x) in nats per datum over {self.num_data} data ({self.measure})"
        return bounds_table(title, self.bounds, better, (*self.missing(), *self.remarks()))

    def cells(self) -> list[tuple[str, ...]]:
        """The rows of the table as text."""
        return self.table().rows()


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

    Example:
        >>> import numpy as np
        >>> import deepgen_ppl.pyro as dg  # on NumPyro the same
        >>> x = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
        >>> models = {f"ppca{d}": dg.PPCA.maximum_likelihood(x, latent=d) for d in (1, 2)}
        >>> table = dg.compare(models, x, rng=0)
        >>> sorted(table.bounds), table.bounds["ppca2"].lower.kind
        (['ppca1', 'ppca2'], 'exact')
    """
    if not isinstance(models, Mapping):
        raise TypeError(f"expected a dict name -> model, got {type(models).__name__}")
    if not models:
        raise ValueError("expected at least one model to compare, got none")
    options = instance(BoundsOptions() if options is None else options, "options", BoundsOptions, "BoundsOptions(...)")
    for name in models:
        instance(name, "the name of a model", str, "a string")
    measures = {name: _measure(model) for name, model in models.items()}
    if len(set(measures.values())) > 1:
        raise ValueError(f"expected models of one kind of data, whose log scores can be compared, got {measures}")
    scalings = _scalings(models, standardized or {})
    rows = {name: _rows(model, data, scalings.get(name)) for name, model in models.items()}
    for name, model in models.items():
        checked_data(model, rows[name])
        model.engine.random.rng(rng, model.like)
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
