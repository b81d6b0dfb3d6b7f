r"""Hamiltonian Monte Carlo over the real blocks of an energy, block Gibbs over the others.

    p ~ N(0, 1),    L leapfrog steps of size eps of H(x, p) = E(x) + |p|^2 / 2,    accept with min(1, exp(-dH))

Gradients are the engine's own, so that the energy may be a network. Before, the blocks that are not real are drawn in
turn, by their conditionals or by enumeration. The step size is exact for no law and right for all: it decides how many
proposals are accepted, never what is invariant. About 0.65 to 0.9 of them should be.

Reference: MCMC Using Hamiltonian Dynamics (Neal, 2011), sections 3.2 and 5.4.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple

from deepgen_ppl.energies.energy import Energy
from deepgen_ppl.energies.moves import hamiltonian_within_gibbs
from deepgen_ppl.energies.spaces import spaces
from deepgen_ppl.kernels.block_gibbs import GibbsState
from deepgen_ppl.kernels.kernel import Kernel, check_start, check_state
from deepgen_ppl.options import check_options, integer, real
from deepgen_ppl.typing import Array, Rng

__all__ = ["HMC", "HMCInfo"]


class HMCInfo(NamedTuple):
    """What a diagnostic may want to know.

    Attributes:
        acceptance_rate: probability that each chain's Hamiltonian proposal is accepted, shape (C,).
    """

    acceptance_rate: Array


def _names(blocks: Any) -> tuple[str, ...]:
    """Names of blocks, each once."""
    several = isinstance(blocks, (tuple, list)) and all(isinstance(name, str) for name in blocks)
    if not several or len(set(blocks)) < len(blocks):
        raise ValueError(f"expected a tuple of names for blocks, such as ('v',), each once, got {blocks!r}")
    return tuple(blocks)


@dataclass(frozen=True)
class HMC(Kernel):
    """Hamiltonian Monte Carlo for blocks without a conditional; all other blocks are drawn given the rest.

        p ~ N(0, 1),    L leapfrog steps of size eps of H(x, p) = E(x) + |p|^2 / 2,    accept with min(1, exp(-dH))

    Args:
        step_size: eps of the leapfrog steps; that of each move is drawn from 0.8 to 1.2 of it.
        num_steps: number L of leapfrog steps.
        blocks: names of the blocks that it moves; by default all that are real.

    Raises:
        ValueError: for a step size or a number of steps that is not positive.

    Example:
        >>> import jax, numpy as np, numpyro
        >>> import deepgen_ppl.numpyro as dg
        >>> law = dg.IndependentBlocks({"v": dg.Block((2,), dg.engine.host.constraints.real)})
        >>> mcmc = numpyro.infer.MCMC(dg.HMC(0.5).on(law), num_warmup=20, num_samples=20, progress_bar=False)
        >>> mcmc.run(jax.random.key(0))
        >>> mcmc.get_samples()["v"].shape
        (20, 2)

    Reference:
        MCMC Using Hamiltonian Dynamics (Neal, 2011), sections 3.2 and 5.4.2, https://arxiv.org/abs/1206.1901.
    """

    step_size: float = 0.1
    num_steps: int = 10
    _: KW_ONLY
    blocks: Sequence[str] | None = None

    def __post_init__(self) -> None:
        check_options(
            self,
            step_size=real(self.step_size, "step_size", low=0, open_low=True),
            num_steps=integer(self.num_steps, "num_steps"),
            blocks=None if self.blocks is None else _names(self.blocks),
        )

    def moved(self, target: Energy) -> tuple[str, ...]:
        """The blocks of an energy that move along its gradient.

        Raises:
            ValueError: for blocks that it does not have, or that are not real.
        """
        known = spaces(target)
        if self.blocks is None:
            return tuple(name for name, space in known.items() if space.real)
        if wrong := [name for name in self.blocks if name not in known or not known[name].real]:
            raise ValueError(
                f"expected real blocks for HMC among {[n for n, s in known.items() if s.real]}, got {wrong}: blocks of "
                "other values are drawn by their conditionals"
            )
        return tuple(self.blocks)

    def init(self, rng: Rng, target: Energy, num_chains: int) -> GibbsState:
        """Where the energy starts chains.

        Raises:
            ValueError: for blocks that it does not have, or that are not real.
        """
        rng, num_chains = check_start(rng, target, num_chains)
        self.moved(target)
        return GibbsState(target.start(rng, num_chains))

    def step(self, rng: Rng, target: Energy, state: GibbsState) -> tuple[GibbsState, HMCInfo]:
        """One draw of every block that is not real, then one Hamiltonian move of the others, of all chains."""
        check_state(self, state, GibbsState)
        position, accepted = self.move(rng, target.uncentered(), state.position)
        return GibbsState(position), HMCInfo(accepted)

    def move(
        self, rng: Rng, target: Energy, position: dict[str, Array], *, backward: bool = False
    ) -> tuple[dict[str, Array], Array]:
        """The transition from a position, or its reversal: (position, acceptance rate)."""
        return hamiltonian_within_gibbs(
            rng,
            target,
            position,
            self.moved(target),
            step_size=self.step_size,
            num_steps=self.num_steps,
            backward=backward,
        )
