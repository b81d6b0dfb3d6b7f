"""Machines inside the host's own SVI, with persistent chains that the host keeps from step to step."""

from __future__ import annotations

import math
from numbers import Number

from deepgen_ppl.data import check_names, checked, named, num_rows
from deepgen_ppl.energies.machine import BoltzmannMachine
from deepgen_ppl.energies.mean_field import MeanField, mean_field_bound
from deepgen_ppl.kernels.kernel import Kernel
from deepgen_ppl.log_z.estimates import Contrastive
from deepgen_ppl.log_z.policies import log_normalizer_term, reads_gradient_only
from deepgen_ppl.options import integer
from deepgen_ppl.typing import Array, Rng, State

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
        self.kernel, self.num_chains, self.hidden_bound = kernel, num_chains, hidden_bound
        self.rng = engine.random.rng(rng, machine.like)
        self.machine = machine.with_params(engine.host.trainable(machine.params))
        self.chains = kernel.init(self.rng, machine, num_chains)
        self.loss = engine.host.contrastive(self)

    def model(self, x: State | Array, *, num_data: int | None = None) -> None:
        """The layers that the data name ~ p of the machine, all others summed out, for every row of the data plate.

        Args:
            x: the visible layer (N, V), or several layers by name.
            num_data: size of the data set that the rows stand for.

        Raises:
            ValueError: for data that do not fit the machine.
        """
        if isinstance(num_data, Number):
            integer(num_data, "num_data")
        host, data = self.machine.engine.host, self._data(x)
        machine = self.machine.with_params({k: host.param(k, v) for k, v in self.machine.params.items()})
        normalizer = Contrastive(host.persistent("chains", self).position)
        coupled = not machine.structure.independent([n for n in machine.structure.names if n not in data])
        scale = 1.0 if num_data is None else num_data / num_rows(data)
        with host.handlers.scale(scale=scale), host.ppl.plate("data", num_rows(data), dim=-1):
            if len(data) == 1:
                bound = self.hidden_bound if coupled else None
                law = machine.marginal(log_normalizer=normalizer, hidden_bound=bound)
                host.ppl.sample(machine.structure.visible, law, obs=data[machine.structure.visible])
            else:
                eta = self.hidden_bound.solve(machine, data) if coupled else {}
                log_f = mean_field_bound(machine, data, eta) if coupled else -machine.free_energy(data)
                log_z = log_normalizer_term(machine, normalizer) if reads_gradient_only() else math.nan
                host.ppl.factor(",".join(data), log_f - log_z)

    def _data(self, x: State | Array) -> State:
        """Named layers; values are checked where they can be read."""
        arrays, data = self.machine.engine.arrays, named(self.machine, x)
        check_names(self.machine, data, "data")
        data = {n: arrays.asarray(v, like=self.machine.like) for n, v in data.items()}
        return checked(self.machine, data) if all(map(arrays.is_concrete, data.values())) else data

    def guide(self, x: State | Array, *, num_data: int | None = None) -> None:
        """Nothing is latent."""

    def __repr__(self) -> str:
        return f"MachineLearner({self.machine!r}, kernel={self.kernel!r}, num_chains={self.num_chains})"
