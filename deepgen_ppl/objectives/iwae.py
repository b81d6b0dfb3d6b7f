r"""The importance-weighted bound."""

from __future__ import annotations

from dataclasses import dataclass

from deepgen_ppl.engine import Engine
from deepgen_ppl.objectives.log_weights import log_mean_over_particles
from deepgen_ppl.objectives.objective import ProgramObjective
from deepgen_ppl.typing import Array

__all__ = ["IWAE"]


@dataclass(frozen=True)
class IWAE(ProgramObjective):
    """Importance-weighted bound: log mean_k of the weights; at K = 1 the ELBO, as K grows log p(x).

        L_K = log (1 / K) sum_k w_k,    w_k = p(x, z_k) / q(z_k | x),    z_k ~ q(z | x):    E[L_K] <= log p(x)

    Args:
        num_particles: number K of draws of the local sites for each datum.
        num_global: number S of draws of the global sites.
        plate: name of the data plate.
        max_plate_nesting: number of nested plates, the data plate included.

    Raises:
        ValueError: for options that are no positive integers.

    Example:
        >>> import numpy as np
        >>> import deepgen_ppl.numpyro as dg
        >>> w = np.float32([[[1.0], [3.0]]])  # weights p(x, z) / q(z | x), shape (S, K, N): two particles of one datum
        >>> bool(np.isclose(dg.IWAE(num_particles=2).bound(dg.engine, np.log(w)), np.log((1 + 3) / 2)))
        True

    Reference:
        Importance Weighted Autoencoders (Burda et al., 2016), eq. 8, https://arxiv.org/abs/1509.00519.
    """

    num_particles: int = 5

    def bound(self, engine: Engine, local: Array) -> Array:
        """log mean exp over the particles."""
        return log_mean_over_particles(engine, local)
