r"""Learning machines by gradients of the log-likelihood whose negative phase is sampled.

    sum_n w_n d log p(x_n) / N = - sum_n (w_n / N) dF(x_n) + sum_n (w_n / N) E_model[ dF(x~) ]

x_n are the layers that the data name, w_n the weight of row n (one, where the data have none), N the number of rows.
Each phase is averaged over its own chains. With stochastic maximum likelihood (persistent contrastive divergence) the
particles x~ are chains that go on from step to step; with contrastive divergence each starts at a row of the data.
Coupled hidden layers take a mean-field positive phase: F is replaced by -L(q) at its fixed point.

A machine that is conditioned on some of the data, p(v | x), is one for each row, with particles of its own.

In a centered machine the offsets follow a moving average of the layers' means, and the biases move along so that p(x)
stays the same.

References: Training Restricted Boltzmann Machines using Approximations to the Likelihood Gradient (Tieleman, 2008),
section 2; Hinton (2002), eq. 8; Salakhutdinov & Hinton (2009), section 2; How to Center Deep Boltzmann Machines
(Melchior et al., 2016), algorithm 1.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from deepgen_ppl.data import WEIGHT, Batch, num_rows
from deepgen_ppl.energies.machine import BoltzmannMachine
from deepgen_ppl.energies.mean_field import MeanField, mean_field_bound, mean_statistics
from deepgen_ppl.kernels.block_gibbs import BlockGibbs, GibbsState
from deepgen_ppl.kernels.kernel import Kernel
from deepgen_ppl.log_z.policies import negative_phase
from deepgen_ppl.objectives.learner import MachineLearner
from deepgen_ppl.objectives.objective import Objective
from deepgen_ppl.options import check_options, instance, integer, one_of, real
from deepgen_ppl.typing import Array, Rng, State

__all__ = ["ContrastiveDivergence", "ContrastiveObjective", "PhaseState", "StochasticML"]


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
    needs: ClassVar[tuple[str, ...]] = ("free_energy", "structure")
    default_optimizer: ClassVar[tuple[str, float]] = ("sgd", 0.05)

    def __post_init__(self) -> None:
        check_options(
            self,
            kernel=instance(self.kernel, "kernel", Kernel, "a kernel, such as BlockGibbs(sweeps=1)"),
            offset_rate=real(self.offset_rate, "offset_rate", low=0, high=1),
            offsets=one_of(self.offsets, "offsets", ("data", "average")),
        )

    @abstractmethod
    def first_chains(self, rng: Rng, model: BoltzmannMachine, data: State) -> Any:
        """What there is of the particles before the first step."""

    @abstractmethod
    def particles(self, rng: Rng, model: BoltzmannMachine, chains: Any, data: State) -> Any:
        """State of the kernel after the step that precedes an update."""

    @abstractmethod
    def negative(self, model: BoltzmannMachine, chains: Any, share: Array) -> Array:
        """sum_n share_n E_particles[-F], a scalar in nats, for shares w_n / N of the rows."""

    def positive(self, model: BoltzmannMachine, data: State) -> dict[str, Array]:
        """Natural parameters of coupled hidden layers; empty where the layers are summed out exactly."""
        del model, data
        return {}

    def kept(self, state: PhaseState) -> PhaseState:
        """What goes on to the next step, whatever the number of its rows."""
        return state._replace(eta={})

    def init(self, rng: Rng, model: BoltzmannMachine, batch: Batch) -> PhaseState:
        """The first chains, and the offsets themselves for means."""
        means = {n: model.constants[f"{n}.offset"] for n in _centered(model)} if self._moves(model) else {}
        return PhaseState(self.first_chains(rng, *model.conditioned(_layers(model, batch))), {}, means)

    def _moves(self, model: BoltzmannMachine) -> bool:
        return self.offset_rate > 0 and bool(_centered(model))

    def before_step(
        self, rng: Rng, model: BoltzmannMachine, state: PhaseState, batch: Batch, mask: Array | None
    ) -> tuple[BoltzmannMachine, PhaseState]:
        """Move the offsets by the last batch's means, take one step of the particles, settle the positive phase."""
        data = _layers(model, batch)
        if self._moves(model):
            model = self._recentered(model, state.means)
        machine, rest = model.conditioned(data)
        chains = self.particles(rng, machine, state.chains, rest)
        eta = self.positive(machine, rest)
        means = self._means(model, eta, chains, data, _shares(model, batch, mask)) if self._moves(model) else {}
        return model, PhaseState(chains, eta, means)

    def _recentered(self, model: BoltzmannMachine, means: dict[str, Array]) -> BoltzmannMachine:
        rate = self.offset_rate
        moved = {n: (1 - rate) * model.constants[f"{n}.offset"] + rate * mu for n, mu in means.items()}
        new = model.recentered(moved)
        # what was finite and has a normalizer keeps both when offsets move: nothing is checked again in every step
        return model._replace(params=new.params, constants={k: new.constants[k] for k in model.constants})

    def _means(
        self, model: BoltzmannMachine, eta: dict[str, Array], chains: Any, data: State, share: Array
    ) -> dict[str, Array]:
        """Mean statistics of the centered layers, shapes (width,); the offsets where no row counts."""
        xp = model.engine.xp
        s = model.statistics(data)
        eta = eta or {n: model.natural(n, s) for n in model.structure.names if n not in data}
        s |= mean_statistics(model, eta)
        drawn = model.statistics(chains.position) if self.offsets == "average" else {}
        total = xp.sum(share)
        total = xp.where(total > 0, total, 1.0)
        out = {}
        for n in _centered(model):
            mu = (share @ s[n]) / total
            mu = mu if n not in drawn else 0.5 * (mu + xp.mean(drawn[n], axis=0))
            out[n] = mu + model.constants[f"{n}.offset"]
        return out

    def batch_loss(
        self, rng: Rng, model: BoltzmannMachine, state: PhaseState, batch: Batch, mask: Array | None, num_data: int
    ) -> tuple[Array, PhaseState]:
        """sum_n (w_n / N) (F(x_n) - E_particles[F]), each phase averaged over its own rows."""
        machine, data = model.conditioned(_layers(model, batch))
        share = _shares(model, batch, mask)
        log_f = mean_field_bound(machine, data, state.eta) if state.eta else -machine.free_energy(data)
        loss = self.negative(machine, state.chains, share) - model.engine.xp.sum(share * log_f)
        return loss, self.kept(state)


def _layers(model: BoltzmannMachine, batch: Batch) -> dict[str, Array]:
    """The layers that the data name; all others are hidden."""
    return {n: batch[n] for n in model.structure.names if n in batch}


def _hidden(model: BoltzmannMachine, data: State) -> list[str]:
    return [n for n in model.structure.names if n not in data]


def _shares(model: BoltzmannMachine, batch: Batch, mask: Array | None) -> Array:
    """w_n / N of each row, zero for rows that pad the batch; shape (B,)."""
    rows = model.engine.arrays.asarray(np.ones(num_rows(batch)), like=model.like) if mask is None else mask
    share = rows / model.engine.xp.sum(rows)
    return share * batch[WEIGHT] if WEIGHT in batch else share


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

    def first_chains(self, rng: Rng, model: BoltzmannMachine, data: State) -> Any:
        """Chains that start as if the couplings were cut."""
        return self.kernel.init(rng, model, self.num_chains)

    def particles(self, rng: Rng, model: BoltzmannMachine, chains: Any, data: State) -> Any:
        """One step of the persistent chains."""
        return self.kernel.step(rng, model, chains)[0]

    def negative(self, model: BoltzmannMachine, chains: Any, share: Array) -> Array:
        """The same mean over the chains for every row."""
        return model.engine.xp.sum(share) * negative_phase(model, chains.position)

    def positive(self, model: BoltzmannMachine, data: State) -> dict[str, Array]:
        """The mean field, where hidden layers are coupled."""
        return {} if model.structure.independent(_hidden(model, data)) else self.hidden_bound.solve(model, data)

    def on(self, machine: BoltzmannMachine, *, rng: Rng | int = 0) -> MachineLearner:
        """The machine as a program for the host's own SVI, with this objective as its loss.

        >>> import deepgen_ppl.numpyro as dg
        >>> import numpyro, optax
        >>> rbm = dg.RBM.init(rng=0, visible=6, hidden=3)
        >>> learner = dg.StochasticML(num_chains=10).on(rbm)
        >>> svi = numpyro.infer.SVI(learner.model, learner.guide, optax.sgd(0.1), learner.loss)
        """
        self.check(machine)
        return MachineLearner(
            machine, kernel=self.kernel, num_chains=self.num_chains, hidden_bound=self.hidden_bound, rng=rng
        )


@dataclass(frozen=True)
class ContrastiveDivergence(ContrastiveObjective):
    """Contrastive divergence, CD-k: chains of k sweeps that start at the data. A biased gradient.

    Args:
        kernel: `BlockGibbs(sweeps=k)`.
        offset_rate: rate of the moving average that the offsets of a centered machine follow; 0 keeps them.
        offsets: `data` or `average`.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        instance(self.kernel, "kernel", BlockGibbs, "BlockGibbs(sweeps=...), whose chains can start at the data,")

    def first_chains(self, rng: Rng, model: BoltzmannMachine, data: State) -> Any:
        """None: every step starts at its own data.

        Raises:
            ValueError: if the data do not say where the hidden layers start.
        """
        hidden = _hidden(model, data)
        order = [n for group in model.structure.sweep for n in group]
        if not model.structure.independent(hidden) or set(order[: len(hidden)]) != set(hidden):
            raise ValueError(
                f"expected a machine whose hidden layers are not coupled for ContrastiveDivergence, got {model!r} with "
                f"the hidden layers {hidden}: use StochasticML"
            )
        return {}

    def particles(self, rng: Rng, model: BoltzmannMachine, chains: Any, data: State) -> Any:
        """k sweeps from the data; the first draws the hidden layers."""
        engine, rows = model.engine, num_rows(data)
        empty = {
            n: engine.arrays.asarray(np.zeros((rows, model.structure.layers[n].size)), like=model.like)
            for n in _hidden(model, data)
        }
        return self.kernel.step(rng, model, GibbsState({**data, **empty}))[0]

    def negative(self, model: BoltzmannMachine, chains: Any, share: Array) -> Array:
        """Each row has a particle of its own."""
        return negative_phase(model, chains.position, share)

    def kept(self, state: PhaseState) -> PhaseState:
        """No chains."""
        return super().kept(state)._replace(chains={})
