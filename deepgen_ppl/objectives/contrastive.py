r"""Learning machines by gradients of the log-likelihood whose negative phase is sampled.

    d log p(x) = - E_data[ dF(x) ] + E_model[ dF(x~) ]

Each phase is averaged over its own chains. With stochastic maximum likelihood (persistent contrastive divergence) the
particles x~ are chains that go on from step to step; with contrastive divergence they start at the data. Coupled hidden
layers take a mean-field positive phase: F is replaced by -L(q) at its fixed point.

In a centered machine the offsets follow a moving average of the layers' means, and the biases move along so that p(x)
stays the same.

References: Training Restricted Boltzmann Machines using Approximations to the Likelihood Gradient (Tieleman, 2008),
section 2; Hinton (2002), eq. 8; Salakhutdinov & Hinton (2009), section 2; How to Center Deep Boltzmann Machines
(Melchior et al., 2016), algorithm 1.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from deepgen_ppl.data import Batch
from deepgen_ppl.energies.machine import BoltzmannMachine
from deepgen_ppl.energies.mean_field import MeanField, mean_field_bound, mean_statistics
from deepgen_ppl.kernels.block_gibbs import BlockGibbs, GibbsState
from deepgen_ppl.kernels.kernel import Kernel
from deepgen_ppl.log_z.policies import log_unnormalized, negative_phase
from deepgen_ppl.objectives.learner import MachineLearner
from deepgen_ppl.objectives.objective import Objective
from deepgen_ppl.options import check_options, instance, integer, one_of, real
from deepgen_ppl.typing import Array, Rng

__all__ = ["ContrastiveDivergence", "ContrastiveObjective", "StochasticML"]


@dataclass(frozen=True)
class ContrastiveObjective(Objective):
    """The likelihood gradient of a machine with a sampled negative phase.

    What `batch_loss` returns has this gradient; as a number it is the gap between the free energies of data and
    particles, no log-likelihood.

    Args:
        kernel: transition of the particles, one step an update.
        hidden_bound: positive phase of coupled hidden layers.
        offset_rate: rate of the moving average that the offsets of a centered machine follow; 0 keeps them.
        offsets: `data` (means of the positive phase) or `average` (of both phases: the enhanced gradient).
    """

    kernel: Kernel = field(default_factory=BlockGibbs)
    hidden_bound: MeanField = field(default_factory=MeanField)
    offset_rate: float = 0.01
    offsets: Literal["data", "average"] = "data"

    monitor: ClassVar[str] = "free_energy_gap"

    def __post_init__(self) -> None:
        check_options(
            self,
            kernel=instance(self.kernel, "kernel", Kernel, "a kernel, such as BlockGibbs(sweeps=1)"),
            hidden_bound=instance(self.hidden_bound, "hidden_bound", MeanField, "MeanField(...)"),
            offset_rate=real(self.offset_rate, "offset_rate", low=0, high=1),
            offsets=one_of(self.offsets, "offsets", ("data", "average")),
        )

    @abstractmethod
    def particles(self, rng: Rng, model: BoltzmannMachine, chains: Any, x: Array) -> Any:
        """State of the kernel after the step that precedes an update."""

    def init_state(self, rng: Rng, model: BoltzmannMachine, x: Array, chains: Any) -> PhaseState:
        """State with these chains, the positive phase of the first batch, and the offsets themselves for means."""
        means = {n: model.constants[f"{n}.offset"] for n in _centered(model)} if self._moves(model) else {}
        return PhaseState(chains, self._positive(model, x), means)

    def _positive(self, model: BoltzmannMachine, x: Array) -> dict[str, Array]:
        coupled = not model.structure.independent(model.structure.hidden)
        return self.hidden_bound.solve(model, x) if coupled else {}

    def _moves(self, model: BoltzmannMachine) -> bool:
        return self.offset_rate > 0 and bool(_centered(model))

    def before_step(
        self, rng: Rng, model: BoltzmannMachine, state: PhaseState, batch: Batch, mask: Array | None
    ) -> tuple[BoltzmannMachine, PhaseState]:
        """Move the offsets by the last batch's means, take one step of the particles, settle the positive phase."""
        x = batch[model.structure.visible]
        if self._moves(model):
            model = self._recentered(model, state.means)
        chains = self.particles(rng, model, state.chains, x)
        eta = self._positive(model, x)
        means = self._means(model, eta, chains, x, mask) if self._moves(model) else {}
        return model, PhaseState(chains, eta, means)

    def _recentered(self, model: BoltzmannMachine, means: dict[str, Array]) -> BoltzmannMachine:
        rate = self.offset_rate
        moved = {n: (1 - rate) * model.constants[f"{n}.offset"] + rate * mu for n, mu in means.items()}
        new = model.recentered(moved)
        return model.with_params(new.params).with_constants({k: new.constants[k] for k in model.constants})

    def _means(
        self, model: BoltzmannMachine, eta: dict[str, Array], chains: Any, x: Array, mask: Array | None
    ) -> dict[str, Array]:
        """Mean statistics of the centered layers, shapes (width,)."""
        visible, mean = model.structure.visible, model.engine.xp.mean
        data = model.statistics({visible: x})
        data |= mean_statistics(model, eta or {n: model.natural(n, data) for n in model.structure.hidden})
        drawn = model.statistics(chains.position) if self.offsets == "average" else {}
        out = {}
        for n in _centered(model):
            rows = mean(data[n], axis=0) if mask is None else (mask @ data[n]) / model.engine.xp.sum(mask)
            mu = rows if n not in drawn else 0.5 * (rows + mean(drawn[n], axis=0))
            out[n] = mu + model.constants[f"{n}.offset"]
        return out

    def batch_loss(
        self, rng: Rng, model: BoltzmannMachine, state: PhaseState, batch: Batch, mask: Array | None, num_data: int
    ) -> tuple[Array, PhaseState]:
        """E_data[F] - E_particles[F], each phase averaged over its own rows."""
        x = batch[model.structure.visible]
        xp = model.engine.xp
        if state.eta:
            log_f = mean_field_bound(model, x, state.eta)
        else:
            log_f = log_unnormalized(model, model.structure.visible, x, None)
        positive = xp.mean(log_f) if mask is None else xp.sum(mask * log_f) / xp.sum(mask)
        return negative_phase(model, state.chains.position, self.weights(x, mask)) - positive, state

    def weights(self, x: Array, mask: Array | None) -> Array | None:
        """Weights of the particles, None for equal ones."""
        del x, mask
        return None


class PhaseState(NamedTuple):
    """What goes from step to step.

    Attributes:
        chains: state of the kernel.
        eta: natural parameters of the positive phase of coupled hidden layers; empty where they are not coupled.
        means: mean statistics of the last batch, which the offsets follow; empty where they stay.
    """

    chains: Any
    eta: dict[str, Array]
    means: dict[str, Array]


def _centered(model: BoltzmannMachine) -> tuple[str, ...]:
    return tuple(n for n in model.structure.names if f"{n}.offset" in model.constants)


@dataclass(frozen=True)
class StochasticML(ContrastiveObjective):
    """Stochastic maximum likelihood, also called persistent contrastive divergence.

    Args:
        kernel: transition of the chains, one step an update.
        num_chains: number of persistent chains C.
        hidden_bound: positive phase of coupled hidden layers.
        offset_rate: rate of the moving average that the offsets of a centered machine follow; 0 keeps them.
        offsets: `data` or `average`.
    """

    num_chains: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self, num_chains=integer(self.num_chains, "num_chains"))

    def init(self, rng: Rng, model: BoltzmannMachine, batch: Batch) -> PhaseState:
        """Chains that start as if the couplings were cut."""
        x = batch[model.structure.visible]
        return self.init_state(rng, model, x, self.kernel.init(rng, model, self.num_chains))

    def particles(self, rng: Rng, model: BoltzmannMachine, chains: Any, x: Array) -> Any:
        """One step of the persistent chains."""
        return self.kernel.step(rng, model, chains)[0]

    def on(self, machine: BoltzmannMachine, *, rng: Rng | int = 0) -> MachineLearner:
        """The machine as a program for the host's own SVI, with this objective as its loss.

        >>> import deepgen_ppl.numpyro as dg
        >>> import numpyro, optax
        >>> rbm = dg.RBM.init(rng=0, visible=6, hidden=3)
        >>> learner = dg.StochasticML(num_chains=10).on(rbm)
        >>> svi = numpyro.infer.SVI(learner.model, learner.guide, optax.sgd(0.1), learner.loss)
        """
        return MachineLearner(
            machine, kernel=self.kernel, num_chains=self.num_chains, hidden_bound=self.hidden_bound, rng=rng
        )


@dataclass(frozen=True)
class ContrastiveDivergence(ContrastiveObjective):
    """Contrastive divergence, CD-k: chains of k sweeps that start at the data. A biased gradient.

    Args:
        kernel: `BlockGibbs(sweeps=k)`.
        hidden_bound: not used: the hidden layers must not be coupled.
        offset_rate: rate of the moving average that the offsets of a centered machine follow; 0 keeps them.
        offsets: `data` or `average`.
    """

    def init(self, rng: Rng, model: BoltzmannMachine, batch: Batch) -> PhaseState:
        """Nothing is kept between steps.

        Raises:
            ValueError: if the hidden layers are coupled, so that the data do not say where they start.
        """
        if not model.structure.independent(model.structure.hidden):
            raise ValueError(
                f"expected a machine whose hidden layers are not coupled for ContrastiveDivergence, got {model!r}: "
                "use StochasticML"
            )
        x = batch[model.structure.visible]
        return self.init_state(rng, model, x, self._start(model, x))

    @staticmethod
    def _start(model: BoltzmannMachine, x: Array) -> GibbsState:
        engine, rows = model.engine, x.shape[0]
        zeros = {
            n: engine.arrays.asarray(np.zeros(model.structure.layers[n].size), like=x) for n in model.structure.hidden
        }
        empty = {n: engine.xp.broadcast_to(zero, (rows, *zero.shape)) for n, zero in zeros.items()}
        return GibbsState({model.structure.visible: x, **empty})

    def particles(self, rng: Rng, model: BoltzmannMachine, chains: Any, x: Array) -> Any:
        """k sweeps from the data; the first draws the hidden layers."""
        return self.kernel.step(rng, model, self._start(model, x))[0]

    def weights(self, x: Array, mask: Array | None) -> Array | None:
        """Rows that pad a batch have no particle."""
        return None if mask is None else mask / mask.sum()
