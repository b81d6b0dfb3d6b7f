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

    Args:
        num_particles: number K of draws of the local sites for each datum.
        num_global: number S of draws of the global sites.
        plate: name of the data plate.
        max_plate_nesting: number of nested plates, the data plate included.
        analytic_kl: whether -KL(q || p) replaces log p - log q at sites where the host knows it.
    """

    analytic_kl: bool = False  # type: ignore[misc]

    def bound(self, engine: Engine, local: Array) -> Array:
        """Mean over the particles."""
        return engine.xp.mean(local, axis=1)
