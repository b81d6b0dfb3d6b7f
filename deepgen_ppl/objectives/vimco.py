r"""Variational inference for Monte Carlo objectives: the importance-weighted bound of guides with discrete draws.

    L = log mean_k w_k,   grad L = sum_k (L - L_(-k)) grad log q(z_k) + sum_k (w_k / sum_j w_j) grad log w_k

with L_(-k) the bound whose k-th weight is replaced by the geometric mean of the others.

Reference: Variational Inference for Monte Carlo Objectives (Mnih & Rezende, 2016), eq. 5-7 and 10.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from deepgen_ppl.engine import Engine
from deepgen_ppl.objectives.iwae import IWAE
from deepgen_ppl.objectives.log_weights import others_mean
from deepgen_ppl.typing import Array

__all__ = ["VIMCO"]


@dataclass(frozen=True)
class VIMCO(IWAE):
    """Importance-weighted bound; draws without a pathwise gradient are trained by their score. Unbiased, K >= 2.

        L = log mean_k w_k,   grad L = sum_k (L - L_(-k)) grad log q(z_k) + sum_k (w_k / sum_j w_j) grad log w_k
        L_(-k): as L, with w_k replaced by the geometric mean of the others

    Args:
        num_particles: number K of draws of the local sites for each datum, at least 2.
        num_global: number S of draws of the global sites.
        plate: name of the data plate.
        max_plate_nesting: number of nested plates, the data plate included.

    Raises:
        ValueError: for options that are no positive integers, or fewer than two particles.

    Example:
        >>> import numpy as np
        >>> import deepgen_ppl.numpyro as dg
        >>> w = np.float32([[[1.0], [3.0]]])  # weights p(x, z) / q(z | x), shape (S, K, N): two particles of one datum
        >>> signal = dg.VIMCO(num_particles=2).signal(dg.engine, np.log(w)).ravel()  # L - L_(-k)
        >>> bool(np.allclose(signal, [np.log(2 / 3), np.log(2 / 1)], atol=1e-6))
        True

    Reference:
        Variational Inference for Monte Carlo Objectives (Mnih & Rezende, 2016), eq. 5-7 and 10,
        https://arxiv.org/abs/1602.06725.
    """

    least_particles: ClassVar[int] = 2

    def signal(self, engine: Engine, local: Array) -> Array:
        """L - L_(-k), shape (S, K, N)."""
        xp, num = engine.xp, local.shape[1]
        own = xp.eye(num, dtype=local.dtype)[None, :, :, None] == 1  # [s, k, j, n]: whether particle j is particle k
        replaced = xp.where(own, others_mean(engine, local)[:, :, None], local[:, None])
        without = engine.special.logsumexp(replaced, 2) - engine.special.logsumexp(local, 1)[:, None]
        return -without
