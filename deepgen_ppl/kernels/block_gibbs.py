r"""Block Gibbs sampling.

    for each color: x_l ~ p(x_l | rest) for the layers l of the color, all at once

Layers of one color are not coupled, so that drawing them together leaves p(x) invariant. The visible layer's color
comes last: a sweep starts by drawing hidden layers from visible values. A fixed scan over colors is not reversible.

Reference: Stochastic Relaxation, Gibbs Distributions, and the Bayesian Restoration of Images (Geman & Geman, 1984).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from deepgen_ppl.energies.energy import Energy
from deepgen_ppl.kernels.kernel import Kernel, check_start, check_state
from deepgen_ppl.options import check_options, integer
from deepgen_ppl.typing import Array, Rng

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


def sweep(rng: Rng, target: Energy, position: dict[str, Array]) -> dict[str, Array]:
    """Draw every block once."""
    groups = target.sweep
    keys = iter(target.engine.random.split(rng, sum(map(len, groups))))
    for group in groups:
        position = position | {name: target.draw(next(keys), name, position) for name in group}
    return position


@dataclass(frozen=True)
class BlockGibbs(Kernel):
    """Block Gibbs over the blocks of an energy.

        for each color: x_l ~ p(x_l | rest) for the layers l of the color, all at once

    Args:
        sweeps: number of sweeps in one step.

    Raises:
        ValueError: for sweeps that are no positive integer.

    Example:
        >>> import jax
        >>> import deepgen_ppl.numpyro as dg
        >>> rbm = dg.RBM.init(visible=6, hidden=3, rng=0)
        >>> kernel, key = dg.BlockGibbs(sweeps=1), jax.random.key(0)
        >>> state = kernel.init(key, rbm, 4)  # four chains
        >>> state, info = kernel.step(key, rbm, state)
        >>> {name: x.shape for name, x in state.position.items()}
        {'v': (4, 6), 'h': (4, 3)}

    Reference:
        Stochastic Relaxation, Gibbs Distributions, and the Bayesian Restoration of Images (Geman & Geman, 1984),
        https://doi.org/10.1109/TPAMI.1984.4767596.
    """

    sweeps: int = 1

    def __post_init__(self) -> None:
        check_options(self, sweeps=integer(self.sweeps, "sweeps"))

    def init(self, rng: Rng, target: Energy, num_chains: int) -> GibbsState:
        """Where the energy starts chains: layers of a machine as if their couplings were cut."""
        rng, num_chains = check_start(rng, target, num_chains)
        return GibbsState(target.start(rng, num_chains))

    def step(self, rng: Rng, target: Energy, state: GibbsState) -> tuple[GibbsState, GibbsInfo]:
        """`sweeps` sweeps of all chains."""
        check_state(self, state, GibbsState)
        target = target.uncentered()

        def one(position: dict[str, Array], key: Rng) -> tuple[dict[str, Array], None]:
            return sweep(key, target, position), None

        if self.sweeps == 1:
            return GibbsState(sweep(rng, target, state.position)), GibbsInfo(1.0)
        keys = target.engine.random.split(rng, self.sweeps)
        return GibbsState(target.engine.control.loop(one, state.position, keys)[0]), GibbsInfo(1.0)
