r"""Real-valued rows at one scale, and the way back: z = (x - m) / s for each column.

    log p(x) = log p(z) + log |dz / dx|,    log |dz / dx| = - sum_i log s_i

m and s are the means and standard deviations of the training rows, shape (V,). Log-densities of standardized rows are
in other units than those of the rows as they came; the Jacobian, in nats per datum, is all that lies between.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Standardized", "standardize"]

SHOWN = 8
"""Columns that a sentence names at most."""


@dataclass(frozen=True, eq=False, repr=False)
class Standardized:
    """Splits z = (x - m) / s, and what leads back to x.

    Attributes:
        splits: the rows as they were given, standardized: float32 (N, V), the training rows first.
        mean: m, means of the training rows, float64 (V,).
        scale: s, their standard deviations, 1 for a column that is constant over them, float64 (V,).
    """

    splits: tuple[NDArray[np.float32], ...]
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]

    @property
    def log_jacobian(self) -> float:
        """log |dz / dx| = - sum_i log s_i in nats: what log p(x) is above log p(z), the same for every row."""
        return -float(np.log(self.scale).sum())

    def apply(self, x: ArrayLike) -> NDArray[np.float32]:
        """z = (x - m) / s of other rows, float32 (..., V).

        Raises:
            TypeError: for values that are not real numbers.
            ValueError: for another width, NaN, infinite or hidden values.
        """
        return ((self._checked(x, "rows to standardize") - self.mean) / self.scale).astype(np.float32)

    def inverse(self, z: ArrayLike) -> NDArray[np.float32]:
        """x = m + s z, float32 (..., V): draws of a model in the units of the data.

        Raises:
            TypeError: for values that are not real numbers.
            ValueError: for another width, NaN, infinite or hidden values.
        """
        return (self.mean + self.scale * self._checked(z, "standardized rows")).astype(np.float32)

    def _checked(self, x: ArrayLike, what: str) -> NDArray[np.float64]:
        x = _numbers(x, what)
        if x.ndim < 1 or x.shape[-1] != len(self.mean):
            raise ValueError(f"expected {what} of shape (..., {len(self.mean)}), got shape {x.shape}")
        return x

    def __repr__(self) -> str:
        shapes = ", ".join(str(z.shape) for z in self.splits)
        return f"Standardized({shapes}; log_jacobian {self.log_jacobian:.6g} nats)"


def standardize(train: ArrayLike, *others: ArrayLike) -> Standardized:
    """Bring real-valued rows to mean 0 and standard deviation 1 in every column, by the training rows alone.

    z = (x - m) / s. A column that is constant over the training rows has no scale: it keeps its unit, s = 1, and a
    warning names it, since the density of what never varies has no largest value. `compare(..., standardized=...)` and
    `Bounds.shifted` put log p(z) into the units of x.

    >>> scaled = standardize([[0.0, 10.0], [2.0, 30.0]], [[1.0, 40.0]])
    >>> train, test = scaled.splits
    >>> test
    array([[0., 2.]], dtype=float32)
    >>> scaled.inverse(test)
    array([[ 1., 40.]], dtype=float32)
    >>> print(round(scaled.log_jacobian, 4))  # -log(1) - log(10)
    -2.3026

    Args:
        train: training rows (N, V), which give m and s.
        others: further splits (M, V): validation and test rows.

    Returns:
        The splits in this order as float32, with their inverse and the log-Jacobian.

    Raises:
        TypeError: Values that are not real numbers.
        ValueError: Rows of another shape, a split without rows, NaN or infinite values, or a masked array with hidden
            values.

    Warns:
        UserWarning: Where columns are constant.
    """
    rows = [_numbers(x, f"split {i} of the rows") for i, x in enumerate((train, *others))]
    for i, x in enumerate(rows):
        if x.ndim != 2 or x.size == 0 or x.shape[1] != rows[0].shape[-1]:
            raise ValueError(f"expected splits of shape (N, V) and one width V, got shape {x.shape} of split {i}")
    mean, scale = rows[0].mean(0), rows[0].std(0)
    constant = rows[0].max(0) == rows[0].min(0)  # rounding leaves their standard deviation just above 0
    mean[constant], scale[constant] = rows[0][0, constant], 1.0
    if constant.any():
        columns = np.flatnonzero(constant)
        named = ", ".join(map(str, columns[:SHOWN])) + (", .." if len(columns) > SHOWN else "")
        warnings.warn(
            f"{len(columns)} of {len(mean)} columns are constant over the training rows ({named}): they keep their "
            "unit, and a density gains without end by narrowing on them: better leave them out",
            UserWarning,
            stacklevel=2,
        )
    standardized = Standardized((), mean, scale)
    return Standardized(tuple(standardized.apply(x) for x in rows), mean, scale)


def _numbers(x: Any, what: str) -> NDArray[np.float64]:
    """Finite real numbers in float64, none of them hidden."""
    if np.ma.is_masked(x):
        raise ValueError(f"expected {what} without hidden values, got a masked array: fill it, or leave those rows out")
    x = np.asarray(x)
    if x.dtype.kind not in "buif":
        raise TypeError(f"expected real numbers in {what}, got dtype {x.dtype}")
    if bad := int((~np.isfinite(x)).sum()):
        raise ValueError(f"expected finite values in {what}, got {bad} NaN or infinite of {x.size}")
    return x.astype(np.float64)
