r"""Learning energies by gradients of the log-likelihood whose negative phase is sampled.

    sum_n w_n d log p(x_n) / N = - sum_n (w_n / N) dF(x_n) + sum_n (w_n / N) E_model[ dF(x~) ]

x_n are the layers that the data name, w_n the weight of row n (one, where the data have none), N the number of rows.
Each phase is averaged over its own chains. With stochastic maximum likelihood (persistent contrastive divergence) the
particles x~ are chains that go on from step to step.
Coupled hidden layers take a mean-field positive phase: F is replaced by -L(q) at its fixed point.

A machine that is conditioned on some of the data, p(v | x), is one for each row, with particles of its own.

In a centered machine the offsets follow a moving average of the layers' means, and the biases move along so that p(x)
stays the same.

References: Training Restricted Boltzmann Machines using Approximations to the Likelihood Gradient (Tieleman, 2008),
section 2; Salakhutdinov & Hinton (2009), section 2; How to Center Deep Boltzmann Machines
(Melchior et al., 2016), algorithm 1.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from deepgen_ppl.data import WEIGHT, Batch, num_rows
from deepgen_ppl.energies.energy import Energy
from deepgen_ppl.energies.machine import BoltzmannMachine
from deepgen_ppl.energies.mean_field import MeanField, mean_field_bound
from deepgen_ppl.kernels.block_gibbs import BlockGibbs
from deepgen_ppl.kernels.kernel import Kernel
from deepgen_ppl.log_z.policies import negative_phase
from deepgen_ppl.objectives.learner import MachineLearner
from deepgen_ppl.objectives.objective import Objective
from deepgen_ppl.objectives.offsets import batch_means, offsets, recentered
from deepgen_ppl.options import check_options, instance, integer, one_of, real
from deepgen_ppl.typing import Array, Rng, State

__all__ = ["ContrastiveObjective", "PhaseState", "StochasticML", "hidden_blocks"]


class PhaseState(NamedTuple):
    """The phases of a step, and what goes from step to step.

    Attributes:
        chains: state of the kernel; empty between the steps of chains that start at the data.
        eta: natural parameters of the positive phase of coupled hidden layers; empty between steps.
        means: mean statistics of the last batch, which the offsets follow; empty where they stay.
    """

    chains: Any
    eta: dict[str, Array]
    means: dict[str, Array]


@dataclass(frozen=True)
class ContrastiveObjective(Objective):
    """The likelihood gradient of a machine with a sampled negative phase.

    What `batch_loss` returns has this gradient; as a number it is the gap between the free energies of data and
    particles, no log-likelihood.

    Args:
        kernel: transition of the particles, one step an update.
        offset_rate: rate of the moving average that the offsets of a centered machine follow; 0 keeps them.
        offsets: `data` (means of the positive phase) or `average` (of both phases: the enhanced gradient).
    """

    kernel: Kernel = field(default_factory=BlockGibbs)
    _: KW_ONLY
    offset_rate: float = 0.01
    offsets: Literal["data", "average"] = "data"

    monitor: ClassVar[str] = "free_energy_gap"
    has_value: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("free_energy", "blocks")
    default_optimizer: ClassVar[tuple[str, float]] = ("sgd", 0.05)

    def __post_init__(self) -> None:
        check_options(
            self,
            kernel=instance(self.kernel, "kernel", Kernel, "a kernel, such as BlockGibbs(sweeps=1)"),
            offset_rate=real(self.offset_rate, "offset_rate", low=0, high=1),
            offsets=one_of(self.offsets, "offsets", ("data", "average")),
        )

    @abstractmethod
    def first_chains(self, rng: Rng, model: Energy, data: State) -> Any:
        """What there is of the particles before the first step."""

    @abstractmethod
    def particles(self, rng: Rng, model: Energy, chains: Any, data: State) -> Any:
        """State of the kernel after the step that precedes an update."""

    @abstractmethod
    def negative(self, model: Energy, chains: Any, share: Array) -> Array:
        """sum_n share_n E_particles[-F], a scalar in nats, for shares w_n / N of the rows."""

    def positive(self, model: Any, data: State) -> dict[str, Array]:
        """Natural parameters of coupled hidden layers; empty where the layers are summed out exactly."""
        del model, data
        return {}

    def kept(self, state: PhaseState) -> PhaseState:
        """What goes on to the next step, whatever the number of its rows."""
        return state._replace(eta={})

    def init(self, rng: Rng, model: Any, batch: Batch) -> PhaseState:
        """The first chains, and the offsets themselves for means."""
        means = offsets(model) if self.offset_rate > 0 else {}
        return PhaseState(self.first_chains(rng, *model.conditioned(_layers(model, batch))), {}, means)

    def before_step(
        self, rng: Rng, model: Any, state: PhaseState, batch: Batch, mask: Array | None
    ) -> tuple[Any, PhaseState]:
        """Move the offsets by the last batch's means, take one step of the particles, settle the positive phase."""
        data = _layers(model, batch)
        if state.means:
            model = recentered(model, state.means, self.offset_rate)
        machine, rest = model.conditioned(data)
        chains = self.particles(rng, machine, state.chains, rest)
        eta = self.positive(machine, rest)
        if not state.means:
            return model, PhaseState(chains, eta, {})
        drawn = chains.position if self.offsets == "average" else {}
        return model, PhaseState(chains, eta, batch_means(model, eta, drawn, data, _shares(model, batch, mask)))

    def batch_loss(
        self, rng: Rng, model: Any, state: PhaseState, batch: Batch, mask: Array | None, num_data: int
    ) -> tuple[Array, PhaseState]:
        """sum_n (w_n / N) (F(x_n) - E_particles[F]), each phase averaged over its own rows."""
        machine, data = model.conditioned(_layers(model, batch))
        share = _shares(model, batch, mask)
        log_f = mean_field_bound(machine, data, state.eta) if state.eta else -machine.free_energy(data)
        loss = self.negative(machine, state.chains, share) - model.engine.xp.sum(share * log_f)
        return loss, self.kept(state)


def _layers(model: Energy, batch: Batch) -> dict[str, Array]:
    """The blocks that the data name; all others are hidden."""
    return {n: batch[n] for n in model.block_names if n in batch}


def hidden_blocks(model: Energy, data: State) -> list[str]:
    """The blocks that the data do not name."""
    return [n for n in model.block_names if n not in data]


def _shares(model: Energy, batch: Batch, mask: Array | None) -> Array:
    """w_n / N of each row, zero for rows that pad the batch; shape (B,)."""
    rows = model.engine.arrays.asarray(np.ones(num_rows(batch)), like=model.like) if mask is None else mask
    share = rows / model.engine.xp.sum(rows)
    return share * batch[WEIGHT] if WEIGHT in batch else share


@dataclass(frozen=True)
class StochasticML(ContrastiveObjective):
    """Stochastic maximum likelihood, also called persistent contrastive divergence.

        sum_n d log p(x_n) / N = - (1 / N) sum_n dF(x_n) + E_model[ dF(x~) ],   x~ chains that go on from step to step

    Args:
        kernel: transition of the chains, one step an update.
        num_chains: number of persistent chains C.
        hidden_bound: positive phase of coupled hidden layers.
        offset_rate: rate of the moving average that the offsets of a centered machine follow; 0 keeps them.
        offsets: `data` or `average`.

    Raises:
        ValueError: for options out of range.
        TypeError: for a kernel or a bound of another kind.

    Example:
        >>> import deepgen_ppl.numpyro as dg
        >>> dg.StochasticML(dg.BlockGibbs(sweeps=2), num_chains=50).kernel
        BlockGibbs(sweeps=2)

    References:
        Training Restricted Boltzmann Machines using Approximations to the Likelihood Gradient (Tieleman, 2008),
        section 2, https://doi.org/10.1145/1390156.1390290; Deep Boltzmann Machines (Salakhutdinov & Hinton, 2009),
        section 2, https://proceedings.mlr.press/v5/salakhutdinov09a.html; How to Center Deep Boltzmann Machines
        (Melchior et al., 2016), algorithm 1, https://arxiv.org/abs/1311.1354.
    """

    _: KW_ONLY
    num_chains: int = 100
    hidden_bound: MeanField = field(default_factory=MeanField)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(
            self,
            num_chains=integer(self.num_chains, "num_chains"),
            hidden_bound=instance(self.hidden_bound, "hidden_bound", MeanField, "MeanField(...)"),
        )

    def trains(self, model: Any) -> bool:
        """Whether it is a machine that is the same for every row."""
        return super().trains(model) and not model.conditions

    def check(self, model: Any) -> None:
        """Check that all rows share one machine, whose chains go on from step to step.

        Raises:
            TypeError: for a model that is no machine.
            ValueError: for a machine that is one for each row.
        """
        super().check(model)
        if conditions := getattr(model, "conditions", ()):
            raise ValueError(
                f"expected a machine that is the same for every row for StochasticML, got {type(model).__name__} given "
                f"{' and '.join(conditions)}, whose chains would belong to rows: use ContrastiveDivergence"
            )

    def first_chains(self, rng: Rng, model: Energy, data: State) -> Any:
        """Chains that start as if the couplings were cut, or where the energy starts them."""
        return self.kernel.init(rng, model, self.num_chains)

    def particles(self, rng: Rng, model: Energy, chains: Any, data: State) -> Any:
        """One step of the persistent chains."""
        return self.kernel.step(rng, model, chains)[0]

    def negative(self, model: Energy, chains: Any, share: Array) -> Array:
        """The same mean over the chains for every row."""
        return model.engine.xp.sum(share) * negative_phase(model, chains.position)

    def positive(self, model: Any, data: State) -> dict[str, Array]:
        """The mean field, where hidden layers are coupled."""
        return {} if model.sums_out(hidden_blocks(model, data)) else self.hidden_bound.solve(model, data)

    def on(self, machine: BoltzmannMachine, *, rng: Rng | int = 0) -> MachineLearner:
        """The machine as a program for the host's own SVI, with this objective as its loss.

        >>> import deepgen_ppl.numpyro as dg
        >>> import numpyro, optax
        >>> rbm = dg.RBM.init(rng=0, visible=6, hidden=3)
        >>> learner = dg.StochasticML(num_chains=10).on(rbm)
        >>> svi = numpyro.infer.SVI(learner.model, learner.guide, optax.sgd(0.1), learner.loss)
        """
        self.check(machine)
        if not hasattr(machine, "structure"):
            raise TypeError(
                f"expected a Boltzmann machine for the host's SVI, got {type(machine).__name__}: train it with fit"
            )
        return MachineLearner(
            machine, kernel=self.kernel, num_chains=self.num_chains, hidden_bound=self.hidden_bound, rng=rng
        )
