r"""The evidence lower bound."""

from __future__ import annotations

from dataclasses import dataclass

from deepgen_ppl.engine import Engine
from deepgen_ppl.objectives.objective import ProgramObjective
from deepgen_ppl.typing import Array

__all__ = ["ELBO"]


@dataclass(frozen=True)
class ELBO(ProgramObjective):
    """Evidence lower bound: mean_k of the log-weights.

        L = mean_k l_k,    l_k = log p(x, z_k) - log q(z_k | x),    z_k ~ q(z | x):    E[L] <= log p(x)

    Args:
        num_particles: number K of draws of the local sites for each datum.
        num_global: number S of draws of the global sites.
        plate: name of the data plate.
        max_plate_nesting: number of nested plates, the data plate included.
        analytic_kl: whether -KL(q || p) replaces log p - log q at sites where the host knows it.

    Raises:
        ValueError: for options that are no positive integers.

    Example:
        >>> import numpy as np
        >>> import deepgen_ppl.numpyro as dg
        >>> w = np.float32([[[1.0], [3.0]]])  # weights p(x, z) / q(z | x), shape (S, K, N): two particles of one datum
        >>> bool(np.isclose(dg.ELBO(num_particles=2).bound(dg.engine, np.log(w)), np.log(3) / 2))
        True

    Reference:
        Auto-Encoding Variational Bayes (Kingma & Welling, 2014), eq. 3 and 7, https://arxiv.org/abs/1312.6114.
    """

    analytic_kl: bool = False  # type: ignore[misc]

    def bound(self, engine: Engine, local: Array) -> Array:
        """Mean over the particles."""
        return engine.xp.mean(local, axis=1)
