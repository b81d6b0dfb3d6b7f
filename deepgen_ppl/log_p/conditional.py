r"""log p(v | x) of machines that are conditioned on something, one machine a row.

    log p(v_n | x_n) = log f(v_n, x_n) - log Z(x_n)

Both are normalizers of clamped machines, of those given v and x and of those given x alone, each by enumeration.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deepgen_ppl.data import Batch, num_rows, take
from deepgen_ppl.energies.machine import BoltzmannMachine
from deepgen_ppl.log_p.claims import Bounds, BoundsOptions, claim, found
from deepgen_ppl.log_z.exact import enumerable, exact_log_normalizer

__all__ = ["conditional_bounds"]

ROWS = 1000
"""Rows whose machines are enumerated at once."""


def conditional_bounds(model: Any, batch: Batch, options: BoundsOptions) -> Bounds:
    """log p of the visible layer given what the rows condition the machine on: exact, or refused.

    Raises:
        ValueError: where log Z(x) cannot, or may not, be enumerated.
    """
    machine, _ = model.conditioned(_needed(model, take(batch, slice(0, 1))))
    if options.log_z != "auto" or not enumerable(machine, options.exact_bits):
        bits = machine.structure.log2_states(machine.structure.smaller_side[0])
        raise ValueError(
            f"expected log_z='auto' and at most 2^{options.exact_bits:g} joint states (exact_bits) to enumerate the "
            f"log Z of {type(model).__name__} for each row, got log_z={options.log_z!r} and 2^{bits:g} joint states"
        )
    pieces = [_log_p(model, take(batch, slice(at, at + ROWS))) for at in range(0, num_rows(batch), ROWS)]
    rows = np.concatenate(pieces)
    method = f"enumeration given {' and '.join(model.conditions)}"
    sides = claim(rows, "exact", method)
    return found(sides, sides, sides, rows, lower_rows=rows, upper_rows=rows)


def _needed(model: BoltzmannMachine, batch: Batch) -> Batch:
    """The visible layer, and the layers that are given."""
    return {n: batch[n] for n in (model.structure.visible, *model.structure.conditions)}


def _log_p(model: BoltzmannMachine, batch: Batch) -> np.ndarray:
    """log p of each row, shape (N,)."""
    machine, v = model.conditioned(_needed(model, batch))
    return np.asarray(exact_log_normalizer(machine.given(v)).value) - np.asarray(exact_log_normalizer(machine).value)
