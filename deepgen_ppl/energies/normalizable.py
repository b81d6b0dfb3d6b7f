r"""Whether a machine has a normalizer: proper conditionals do not make a proper joint law.

Layers with bounded statistics always do. Coupled Gaussian layers need a positive definite joint precision

    Lambda = diag(1 / sigma^2) - W,    W the symmetric matrix of the weights between them.

Given the bounded layers the Gaussian ones have this precision, whatever the bounded states are.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from deepgen_ppl.energies.structure import Structure

__all__ = ["check_normalizable", "needs_check"]


def needs_check(structure: Structure) -> bool:
    """Whether values decide: some coupling has no bounded layer."""
    return any(not any(structure.layers[n].bounded for n in c.layers) for c in structure.couplings)


def check_normalizable(structure: Structure, arrays: Mapping[str, np.ndarray]) -> None:
    """Check that exp(-E) has a finite sum.

    Args:
        structure: layers and couplings.
        arrays: all arrays of the machine, by name.

    Raises:
        ValueError: if it has not.
    """
    layers = structure.layers
    pairs = [c for c in structure.couplings if not any(layers[n].bounded for n in c.layers)]
    if not pairs:
        return
    names = sorted({n for c in pairs for n in c.layers})
    at = dict(zip(names, np.cumsum([0, *(layers[n].size for n in names)]), strict=False))
    sigma = np.concatenate([np.exp(arrays[f"{n}.log_sigma"].astype(float)) for n in names])
    precision = np.diag(sigma**-2.0)
    for c in pairs:
        (a, b), w = c.layers, arrays[f"{c.name}.weight"]
        rows, columns = slice(at[a], at[a] + w.shape[0]), slice(at[b], at[b] + w.shape[1])
        precision[rows, columns], precision[columns, rows] = -w, -w.T
    if not (smallest := np.linalg.eigvalsh(precision)[0]) > 0:
        raise ValueError(
            f"expected a normalizable machine, got coupled Gaussian layers {names} whose joint precision has the "
            f"eigenvalue {smallest:.4g} <= 0: its conditionals are proper, its joint law is not"
        )
