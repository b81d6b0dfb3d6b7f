"""Machines inside the host's own SVI, with persistent chains that the host keeps from step to step."""

from __future__ import annotations

from deepgen_ppl.energies.machine import BoltzmannMachine
from deepgen_ppl.energies.mean_field import MeanField
from deepgen_ppl.kernels.kernel import Kernel
from deepgen_ppl.log_z.estimates import Contrastive
from deepgen_ppl.typing import Array, Rng

__all__ = ["MachineLearner"]


class MachineLearner:
    """A machine as a model-guide pair for the host's SVI: `SVI(p.model, p.guide, optimizer, p.loss)`.

    The chains live in a mutable site on NumPyro and in the learner on Pyro; they move once a training step. Offsets of
    a centered machine keep their values. On Pyro the trained tensors are those of `machine`; on NumPyro
    `machine.with_params(svi.get_params(state))` puts them back.

    Args:
        machine: the machine.
        kernel: transition of the chains, one step an update.
        num_chains: number of persistent chains.
        hidden_bound: positive phase of coupled hidden layers.
        rng: seed or generator of the chains.
    """

    def __init__(
        self, machine: BoltzmannMachine, *, kernel: Kernel, num_chains: int, hidden_bound: MeanField, rng: Rng | int
    ) -> None:
        engine = machine.engine
        self.kernel, self.hidden_bound = kernel, hidden_bound
        self.rng = engine.random.rng(rng, machine.like)
        self.machine = machine.with_params(engine.host.trainable(machine.params))
        self.chains = kernel.init(self.rng, machine, num_chains)
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
        coupled = not machine.structure.independent(machine.structure.hidden)
        hidden_bound = self.hidden_bound if coupled else None
        law = machine.marginal(log_normalizer=Contrastive(chains.position), hidden_bound=hidden_bound)
        scale = 1.0 if num_data is None else num_data / x.shape[0]
        with host.handlers.scale(scale=scale), host.ppl.plate("data", x.shape[0], dim=-1):
            host.ppl.sample(machine.structure.visible, law, obs=x)

    def guide(self, x: Array, *, num_data: int | None = None) -> None:
        """Nothing is latent."""

    def __repr__(self) -> str:
        return f"MachineLearner({self.machine!r}, kernel={self.kernel!r})"
