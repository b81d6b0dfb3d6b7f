r"""REINFORCE with the other particles as its baseline: the ELBO of guides with discrete draws.

    L = mean_k l_k,   l = log p - log q
    grad L = 1/K sum_k (l_k - mean_(j != k) l_j) grad log q(z_k) + mean_k grad l_k

Reference: Buy 4 REINFORCE Samples, Get a Baseline for Free! (Kool et al., 2019), eq. 8-9.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from deepgen_ppl.engine import Engine
from deepgen_ppl.objectives.log_weights import others_mean
from deepgen_ppl.objectives.objective import ProgramObjective
from deepgen_ppl.typing import Array

__all__ = ["RLOO"]


@dataclass(frozen=True)
class RLOO(ProgramObjective):
    """Evidence lower bound; draws without a pathwise gradient are trained by their score. Unbiased, K >= 2.

        L = mean_k l_k,   l = log p - log q
        grad L = 1/K sum_k (l_k - mean_(j != k) l_j) grad log q(z_k) + mean_k grad l_k

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
        >>> signal = dg.RLOO(num_particles=2).signal(dg.engine, np.log(w)).ravel()  # (l_k - mean of the others) / K
        >>> bool(np.allclose(signal, [-np.log(3) / 2, np.log(3) / 2], atol=1e-6))
        True

    Reference:
        Buy 4 REINFORCE Samples, Get a Baseline for Free! (Kool et al., 2019), eq. 8-9,
        https://openreview.net/forum?id=r1lgTGL5DE.
    """

    num_particles: int = 4

    least_particles: ClassVar[int] = 2

    def bound(self, engine: Engine, local: Array) -> Array:
        """Mean over the particles."""
        return engine.xp.mean(local, axis=1)

    def signal(self, engine: Engine, local: Array) -> Array:
        """(l_k - mean of the others) / K, shape (S, K, N)."""
        return (local - others_mean(engine, local)) / local.shape[1]
