r"""Whether a machine has a normaliser: proper conditionals do not make a proper joint law.

Layers with bounded statistics always do. Joined Gaussian layers need a positive definite joint precision

    Lambda = diag(1 / sigma^2) - W,    W the symmetric matrix of the weights between them.

Given the bounded layers the Gaussian ones have this precision, whatever the bounded states are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from deepgen_ppl.undirected.machine import BoltzmannMachine

__all__ = ["check_normalisable"]


def check_normalisable(machine: BoltzmannMachine) -> None:
    """Check that exp(-E) has a finite sum.

    Raises:
        ValueError: if it has not. Traced arrays are not checked.
    """
    layers = machine.structure.layers
    pairs = [c for c in machine.structure.couplings if not any(layers[n].bounded for n in c.layers)]
    if not pairs or not all(machine.engine.arrays.is_concrete(v) for v in machine.params.values()):
        return
    to_numpy = machine.engine.arrays.to_numpy
    names = sorted({n for c in pairs for n in c.layers})
    at = dict(zip(names, np.cumsum([0, *(layers[n].size for n in names)]), strict=False))
    sigma = np.concatenate([np.exp(to_numpy(machine.layer_arrays(n)["log_sigma"]).astype(float)) for n in names])
    precision = np.diag(sigma**-2.0)
    for c in pairs:
        (a, b), w = c.layers, to_numpy(machine.params[f"{c.name}.weight"])
        rows, columns = slice(at[a], at[a] + w.shape[0]), slice(at[b], at[b] + w.shape[1])
        precision[rows, columns], precision[columns, rows] = -w, -w.T
    if not (smallest := np.linalg.eigvalsh(precision)[0]) > 0:
        raise ValueError(
            f"expected a normalisable machine, got joined Gaussian layers {names} whose joint precision has the "
            f"eigenvalue {smallest:.4g} <= 0: its conditionals are proper, its joint law is not"
        )
