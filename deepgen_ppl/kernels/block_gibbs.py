r"""Block Gibbs sampling.

    for each colour: x_l ~ p(x_l | rest) for the layers l of the colour, all at once

Layers of one colour are not joined, so that drawing them together leaves p(x) invariant. The visible layer's colour
comes last: a sweep starts by drawing hidden layers from visible values. A fixed scan over colours is not reversible.

Reference: Stochastic Relaxation, Gibbs Distributions, and the Bayesian Restoration of Images (Geman & Geman, 1984).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from deepgen_ppl.kernels.base import Kernel
from deepgen_ppl.typing import Array, Rng
from deepgen_ppl.undirected.energy import Energy, draw_block
from deepgen_ppl.undirected.independent import draw_independent
from deepgen_ppl.undirected.machine import BoltzmannMachine

__all__ = ["BlockGibbs", "GibbsInfo", "GibbsState", "sweep"]


class GibbsState(NamedTuple):
    """Where the chains are.

    Attributes:
        position: block name -> values, shape (C, block size).
    """

    position: dict[str, Array]


class GibbsInfo(NamedTuple):
    """What a diagnostic may want to know.

    Attributes:
        acceptance_rate: always 1.
    """

    acceptance_rate: float


def schedule(target: Energy) -> Sequence[Sequence[str]]:
    """Groups of blocks drawn together, in order; blocks of an energy of unknown structure go one by one."""
    return target.structure.sweep if isinstance(target, BoltzmannMachine) else [[name] for name in target.blocks]


def sweep(rng: Rng, target: Energy, position: dict[str, Array]) -> dict[str, Array]:
    """Draw every block once."""
    groups = schedule(target)
    keys = iter(target.engine.random.split(rng, sum(map(len, groups))))
    for group in groups:
        position = position | {name: draw_block(target, next(keys), name, position) for name in group}
    return position


@dataclass(frozen=True)
class BlockGibbs(Kernel):
    """Block Gibbs over the blocks of an energy.

    Args:
        sweeps: number of sweeps in one step.
    """

    sweeps: int = 1

    def __post_init__(self) -> None:
        if self.sweeps < 1:
            raise ValueError(f"expected at least one sweep, got {self.sweeps}")

    def init(self, rng: Rng, target: Energy, num_chains: int) -> GibbsState:
        """Layers of a machine drawn as if their couplings were cut; blocks of another energy in turn from zero."""
        if isinstance(target, BoltzmannMachine):
            return GibbsState(draw_independent(rng, target, num_chains))
        asarray = target.engine.arrays.asarray
        zeros = {n: asarray(np.zeros((num_chains, *b.shape), np.float32)) for n, b in target.blocks.items()}
        return GibbsState(sweep(rng, target, zeros))

    def step(self, rng: Rng, target: Energy, state: GibbsState) -> tuple[GibbsState, GibbsInfo]:
        """`sweeps` sweeps of all chains."""
        if isinstance(target, BoltzmannMachine):
            target = target.uncentred()

        def one(position: dict[str, Array], key: Rng) -> tuple[dict[str, Array], None]:
            return sweep(key, target, position), None

        if self.sweeps == 1:
            return GibbsState(sweep(rng, target, state.position)), GibbsInfo(1.0)
        keys = target.engine.random.split(rng, self.sweeps)
        return GibbsState(target.engine.control.loop(one, state.position, keys)[0]), GibbsInfo(1.0)
