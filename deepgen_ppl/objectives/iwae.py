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

    Args:
        num_particles: number K of draws of the local sites for each datum.
        num_global: number S of draws of the global sites.
        plate: name of the data plate.
        max_plate_nesting: number of nested plates, the data plate included.
    """

    num_particles: int = 5

    def bound(self, engine: Engine, local: Array) -> Array:
        """log mean exp over the particles."""
        return log_mean_over_particles(engine, local)
