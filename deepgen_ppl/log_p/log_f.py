r"""log f(x) of a machine over data: exact where the hidden layers can be summed, else bounded by mean field.

Independent hidden layers sum in closed form. Where they are coupled, one set of them is summed in closed form and the
other enumerated, up to 2^12 joint states for each datum; beyond, the mean-field bound is a lower side.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from deepgen_ppl.energies.machine import BoltzmannMachine
from deepgen_ppl.energies.mean_field import MeanField, mean_field_bound
from deepgen_ppl.engine import Engine
from deepgen_ppl.log_z.exact import check_single, num_states, states_at
from deepgen_ppl.typing import Array

__all__ = ["LogF", "log_f"]

HIDDEN_BITS = 12.0
"""Hidden layers are enumerated for each datum up to this log2 of their joint states."""

ROWS = 2**22
"""Data times hidden states that are evaluated at once."""


@dataclass(frozen=True)
class LogF:
    """log f of each datum.

    Attributes:
        value: shape (N,), in nats, float64.
        kind: `exact`, or `bound` (a lower side).
        method: how it was made.
    """

    value: np.ndarray
    kind: Literal["exact", "bound"]
    method: str

    @property
    def sides(self) -> frozenset[str]:
        """The sides of log f that may be claimed."""
        return frozenset({"lower", "upper"} if self.kind == "exact" else {"lower"})


def _enumerated(machine: BoltzmannMachine) -> tuple[str, ...]:
    """The hidden layers to enumerate, chosen so that the rest are not coupled; all combinations of colors are tried."""
    hidden = machine.structure.hidden
    options = [tuple(n for n in hidden if n not in color) for color in machine.structure.colors]
    return min(options, key=machine.structure.log2_states)


def _free(machine: BoltzmannMachine, x: Array) -> Array:
    return -machine.free_energy({machine.data_name: x})


def _joint(machine: BoltzmannMachine, x: Array) -> Array:
    keep = _enumerated(machine)
    index = machine.engine.xp.arange(0, num_states(machine, keep))
    states = {n: s[None] for n, s in states_at(machine, keep, index).items()}
    log_joint = -machine.free_energy({machine.structure.visible: x[:, None], **states})
    return machine.engine.special.logsumexp(log_joint, 1)


def _mean_field(machine: BoltzmannMachine, x: Array) -> Array:
    return mean_field_bound(machine, x, MeanField(iterations=100).solve(machine, x))


@functools.cache
def _compiled(engine: Engine, fn: Callable) -> Callable:
    return engine.control.compile(fn)


def log_f(machine: Any, x: Array) -> LogF:
    """log f(x) for every row of x, shape (N,), in batches."""
    check_single(machine)
    structure = getattr(machine, "structure", None)
    batch = 1000
    if structure is None or structure.independent(structure.hidden):
        fn, method = _free, "free energy"
    elif structure.log2_states(_enumerated(machine)) <= HIDDEN_BITS:
        fn, method = _joint, f"enumeration of {', '.join(_enumerated(machine))}"
        widest = max(unit.width for unit in structure.layers.values())
        batch = max(1, ROWS // (num_states(machine, _enumerated(machine)) * widest))
    else:
        fn, method = _mean_field, "mean field"
    evaluate, to_numpy = _compiled(machine.engine, fn), machine.engine.arrays.to_numpy
    pieces = [to_numpy(evaluate(machine, x[at : at + batch])) for at in range(0, x.shape[0], batch)]
    return LogF(np.concatenate(pieces).astype(float), "bound" if fn is _mean_field else "exact", method)
