"""Machines inside programs: what the log Z of each leaves to be claimed of the program."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepgen_ppl.log_p.refusals import PLATE, Sites
from deepgen_ppl.log_z.estimates import CERTIFIED, LogNormalizer

__all__ = ["Normalizers", "normalizers", "unwrapped"]


@dataclass(frozen=True)
class Normalizers:
    """What the log Z of machines inside a program leaves of its claims.

    Attributes:
        sides: the sides that may still be claimed.
        se: what their errors add to every row.
        margin: what Markov's inequality asks where those errors are withheld.
        flags: their flags.
    """

    sides: frozenset[str]
    se: float
    margin: float
    flags: tuple[str, ...]


def unwrapped(fn: Any) -> Any:
    """The law behind masks, expansions and event axes; transformed laws are their own."""
    while getattr(fn, "base_dist", None) is not None and not hasattr(fn, "transforms"):
        fn = fn.base_dist
    return fn


def normalizers(model: Sites, guide: Sites) -> Normalizers:
    """What is left to be claimed of log p(x): a side of log Z is the other side of the model's log-density."""
    sides, se, margin = {"lower", "upper"}, 0.0, 0.0
    flags: list[str] = []
    for sites, opposite in ((model, True), (guide, False)):
        for site in sites.values():
            fn = unwrapped(site.fn)
            policy = getattr(fn, "log_normalizer", None)
            if policy is None or not site.inside(PLATE):
                continue
            coupled = fn.hidden_bound is not None and not fn.machine.structure.independent(fn.machine.structure.hidden)
            claimed = _claimed(policy, coupled=coupled)
            sides &= claimed if opposite else {_other(side) for side in claimed}
            if isinstance(policy, LogNormalizer) and policy.kind != "exact":
                times = math.prod(site.log_prob.shape) / site.log_prob.shape[-1]
                se, margin = se + times * float(np.max(policy.se)), margin + times * CERTIFIED
                flags += policy.flags
            flags += ["mean_field"] if coupled else []
    return Normalizers(frozenset(sides), se, margin, tuple(flags))


def _other(side: str) -> str:
    return "upper" if side == "lower" else "lower"


def _claimed(policy: Any, *, coupled: bool) -> set[str]:
    """Sides of the log-density of a machine under a policy."""
    log_z = policy.sides if isinstance(policy, LogNormalizer) else {"lower", "upper"}
    return {_other(side) for side in log_z} & ({"lower"} if coupled else {"lower", "upper"})
