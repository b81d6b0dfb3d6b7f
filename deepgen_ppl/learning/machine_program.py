"""Machines inside the host's own SVI, with persistent chains that the host keeps from step to step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepgen_ppl.evidence.estimates import Contrastive
from deepgen_ppl.typing import Array, Rng
from deepgen_ppl.undirected.machine import BoltzmannMachine

if TYPE_CHECKING:
    from deepgen_ppl.learning.contrastive import StochasticML

__all__ = ["MachineProgram"]


class MachineProgram:
    """A machine as a model-guide pair for the host's SVI: `SVI(p.model, p.guide, optimizer, p.loss)`.

    The chains live in a mutable site on NumPyro and in the program on Pyro; they move once a training step. Offsets of
    a centred machine keep their values. On Pyro the trained tensors are those of `machine`; on NumPyro
    `machine.with_params(svi.get_params(state))` puts them back.

    Args:
        objective: `StochasticML`.
        machine: the machine.
        rng: seed or generator of the chains.
    """

    def __init__(self, objective: StochasticML, machine: BoltzmannMachine, rng: Rng | int = 0) -> None:
        engine = machine.engine
        self.objective = objective
        self.rng = engine.random.rng(rng, machine.like)
        self.machine = machine.with_params(engine.host.trainable(machine.params))
        self.chains = objective.kernel.init(self.rng, machine.uncentred(), objective.num_chains)
        self.loss = engine.host.contrastive(self)

    def model(self, x: Array, *, num_data: int | None = None) -> None:
        """x ~ p(v) of the machine, for every row of the data plate.

        Args:
            x: data (N, V).
            num_data: size of the data set that the rows stand for.
        """
        host = self.machine.engine.host
        machine = self.machine.with_params({k: host.param(k, v) for k, v in self.machine.params.items()})
        chains = host.persistent("chains", self)
        hidden = None if machine.structure.independent(machine.structure.hidden) else self.objective.hidden
        law = machine.marginal(log_normalizer=Contrastive(chains.position), hidden=hidden)
        scale = 1.0 if num_data is None else num_data / x.shape[0]
        with host.handlers.scale(scale=scale), host.ppl.plate("data", x.shape[0], dim=-1):
            host.ppl.sample(machine.structure.visible, law, obs=x)

    def guide(self, x: Array, *, num_data: int | None = None) -> None:
        """Nothing is latent."""
