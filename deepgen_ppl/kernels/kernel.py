"""What a kernel is: plain options with `init` and `step`.

State is what the next step needs, Info what a diagnostic needs; tuning belongs to neither. Chains are the leading axis
of every array, so that one matrix product moves them all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from deepgen_ppl.energies.energy import Energy
from deepgen_ppl.typing import Rng

__all__ = ["Kernel"]


@dataclass(frozen=True)
class Kernel(ABC):
    """A Markov transition that leaves the law of an energy invariant.

    State is a `NamedTuple` with a field `position` (block name -> array of shape (C, block size)); Info a `NamedTuple`
    with a field `acceptance_rate`, a number or an array of shape (C,).
    """

    @abstractmethod
    def init(self, rng: Rng, target: Energy, num_chains: int) -> Any:
        """First state of `num_chains` chains; its `position` maps each block to an array (C, block size)."""

    @abstractmethod
    def step(self, rng: Rng, target: Energy, state: Any) -> tuple[Any, Any]:
        """One transition of all chains: (State, Info)."""

    def on(self, target: Energy, *, num_chains: int = 1) -> Any:
        """The kernel as the host's own `MCMCKernel`, for its `MCMC`.

        Args:
            target: the energy to sample.
            num_chains: on Pyro, the number of chains that move together under the host's `num_chains=1`
                (`to_arviz` gives them back as chains). On NumPyro leave it: `MCMC(num_chains=...)` says it.
        """
        return target.engine.host.kernel(self, target, num_chains)
