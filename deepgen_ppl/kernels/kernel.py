"""What a kernel is: plain options with `init` and `step`.

State is what the next step needs, Info what a diagnostic needs; tuning belongs to neither. Chains are the leading axis
of every array, so that one matrix product moves them all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from deepgen_ppl.energies.energy import Energy
from deepgen_ppl.options import instance, integer
from deepgen_ppl.typing import Rng, State

__all__ = ["Kernel", "check_start", "check_state"]


def check_start(rng: Rng, target: Any, num_chains: Any) -> tuple[Rng, int]:
    """Generator and number of chains of a first state.

    Raises:
        TypeError: for something else than an energy, or a seed.
        ValueError: for something else than a number of chains.
    """
    instance(target, "target", Energy, "an energy, such as a Boltzmann machine,")
    return target.engine.random.rng(rng, target.like), integer(num_chains, "num_chains")


def check_state(kernel: Any, state: Any, kind: type) -> None:
    """Check that a state is of the kind that `init` of the kernel makes.

    Raises:
        TypeError: for another.
    """
    name = type(kernel).__name__
    instance(state, f"the state of {name}", kind, f"what {name}.init(rng, target, num_chains) returns")


@dataclass(frozen=True)
class Kernel(ABC):
    """A Markov transition that leaves the law of an energy invariant.

    State is a `NamedTuple` with a field `position` (block name -> array of shape (C, block size)); Info a `NamedTuple`
    with a field `acceptance_rate`. All other fields are the kernel's own: numbers, arrays of shape (C, ...), or trees
    of them in State; numbers, (C,) or (C, R) arrays in Info, whose fields all reach the host's runs and ArviZ.
    """

    host_block: ClassVar[Callable | None] = None
    """Class of the block behind `block`; put here by the host that has composable kernels."""

    @abstractmethod
    def init(self, rng: Rng, target: Energy, num_chains: int) -> Any:
        """First state of `num_chains` chains; its `position` maps each block to an array (C, block size)."""

    @abstractmethod
    def step(self, rng: Rng, target: Energy, state: Any) -> tuple[Any, Any]:
        """One transition of all chains: (State, Info)."""

    def place(self, state: Any, position: State) -> Any:
        """The state with its chains at other values of some blocks, shapes (C, block size)."""
        return state._replace(position={**state.position, **position})

    def on(self, target: Energy, *, num_chains: int = 1) -> Any:
        """The kernel as the host's own `MCMCKernel`, for its `MCMC`.

        Args:
            target: the energy to sample.
            num_chains: on Pyro, the number of chains that move together in each chain of the host's own
                (`to_arviz` gives all of them back as chains). On NumPyro leave it: `MCMC(num_chains=...)` says it.

        Raises:
            TypeError: for something else than an energy.
            ValueError: for something else than a number of chains.
        """
        target = instance(target, "target", Energy, "an energy, such as a Boltzmann machine,")
        num_chains = integer(num_chains, "num_chains")
        return target.engine.host.kernel(self, target, num_chains)

    def block(self, target: Callable[[State], Energy]) -> Any:
        """The kernel as a block of NumPyro's composable `Gibbs`, beside HMC and other kernels; see `on` for `MCMC`.

        Args:
            target: from the values of all other sites of the program to the energy of this block's sites. Blocks of
                the energy that are no site of the program stay inside.

        Raises:
            NotImplementedError: where only Pyro is in use, which has no kernel made of blocks.
        """
        if self.host_block is None:
            raise NotImplementedError(
                "expected NumPyro (import deepgen_ppl.numpyro) for a block of its Gibbs: Pyro has no kernel made of "
                "blocks, use kernel.on(machine) in its MCMC"
            )
        return type(self).host_block(self, target)  # type: ignore[misc]
