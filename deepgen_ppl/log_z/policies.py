r"""The normalizer policies of a marginal: what its `log_prob` may be, and its derivative.

    log p(x_b) = log f(x_b) - log Z,    log f = -F (exact) or the mean-field bound L

`exact`: log Z recomputed from the parameters. An estimate: a number that belongs to the structure and the parameters it
was computed at (NaN at others, under tracing too), differentiated as d log Z = E_particles[-dE]. `Contrastive`:
particles and no number. None: no `log_prob`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Literal

import numpy as np

from deepgen_ppl.energies.machine import BoltzmannMachine
from deepgen_ppl.energies.mean_field import MeanField, mean_field_bound
from deepgen_ppl.log_z.estimates import Contrastive, LogNormalizer
from deepgen_ppl.log_z.exact import (
    DRAW_BITS,
    draw_exact,
    enumerable,
    log2_joint_states,
    log_normalizer_by_enumeration,
)
from deepgen_ppl.options import instance
from deepgen_ppl.typing import Array, Rng

__all__ = [
    "NO_VALUE",
    "Normalizer",
    "check_marginal",
    "gradient_only",
    "log_unnormalized",
    "marginal_draw",
    "marginal_log_prob",
    "negative_phase",
    "reads_gradient_only",
]

Normalizer = Literal["exact"] | LogNormalizer | Contrastive | None

NO_VALUE = (
    "expected an objective with a value, got StochasticML, of which only the gradient means anything: "
    "judge a machine by exact_log_normalizer, ais or compare"
)

_gradient_only: ContextVar[bool] = ContextVar("deepgen_ppl_gradient_only", default=False)


@contextlib.contextmanager
def gradient_only() -> Iterator[None]:
    """Context in which only gradients are read, so that a contrastive normalizer may stand in `log_prob`."""
    token = _gradient_only.set(True)
    try:
        yield
    finally:
        _gradient_only.reset(token)


def reads_gradient_only() -> bool:
    """Whether what is evaluated now stands in `gradient_only`."""
    return _gradient_only.get()


def check_marginal(machine: BoltzmannMachine, block: str, normalizer: Any, hidden_bound: Any, sampler: Any) -> None:
    """Check the policy of a marginal before any work starts.

    Raises:
        ValueError: for an unknown block, coupled layers without `hidden_bound=`, an estimate that belongs elsewhere, or
            a machine that is one for each value of something that is not given.
        TypeError: for another kind of normalizer, bound or sampler.
    """
    if hidden_bound is not None:
        instance(hidden_bound, "hidden_bound", MeanField, "MeanField(...)")
    known = not isinstance(sampler, type) and all(callable(getattr(sampler, m, None)) for m in ("init", "step"))
    if sampler is not None and not known:
        raise TypeError(f"expected a kernel, such as BlockGibbs(sweeps=25), for sampler, got {sampler!r}")
    machine.check_given("a marginal")
    names = list(machine.blocks)
    if block not in names:
        raise ValueError(f"expected a layer among {names}, got {block!r}")
    out = [n for n in names if n != block]
    if hidden_bound is None and not machine.sums_out(out):
        raise ValueError(
            f"expected hidden_bound=MeanField(...) for {type(machine).__name__}, whose layers {out} are coupled and "
            "have no closed-form sum, got None: log_prob is then a lower bound"
        )
    if hidden_bound is not None and block != machine.data_name:
        raise ValueError(f"expected hidden_bound=MeanField(...) with the visible layer, got block {block!r}")
    if isinstance(normalizer, Contrastive):
        _check_particles(machine, normalizer)
    elif isinstance(normalizer, LogNormalizer):
        check_belongs(machine, normalizer)
    elif normalizer is not None and not (isinstance(normalizer, str) and normalizer == "exact"):
        raise TypeError(
            "expected log_normalizer to be 'exact', a LogNormalizer, Contrastive(particles) or None, "
            f"got {type(normalizer).__name__}"
        )


def _check_particles(machine: Any, normalizer: Contrastive) -> None:
    """Check that particles are states of the machine.

    Raises:
        ValueError: for unknown layers, or other widths.
    """
    shapes = {name: tuple(x.shape) for name, x in normalizer.particles.items()}
    widths = {name: block.shape for name, block in machine.blocks.items()}
    if any(name not in widths or shape[-len(widths[name]) :] != widths[name] for name, shape in shapes.items()):
        raise ValueError(f"expected particles of layers among {widths}, got the shapes {shapes}")


def check_belongs(machine: BoltzmannMachine, normalizer: LogNormalizer) -> None:
    """Check that an estimate was made for this machine: its structure always, its arrays where they can be read.

    Raises:
        ValueError: if it was not.
    """
    own = normalizer.belongs_to
    if own is None:
        return
    if own.family != machine.family or _arrays(own).keys() != _arrays(machine).keys():
        raise ValueError(
            f"expected a log normalizer of {machine!r}, got one that belongs to {own!r}: compute it for this machine"
        )
    is_concrete, to_numpy = machine.engine.arrays.is_concrete, machine.engine.arrays.to_numpy
    for k, v in _arrays(own).items():
        now = _arrays(machine)[k]
        if is_concrete(v) and is_concrete(now) and not np.array_equal(to_numpy(v), to_numpy(now)):
            raise ValueError(
                f"expected a log normalizer computed at these parameters, got one that belongs to others, with another "
                f"{k} ({normalizer!r}): compute it again, or use log_normalizer='exact'"
            )


def _arrays(machine: BoltzmannMachine) -> dict[str, Array]:
    return {**machine.params, **machine.constants}


def one_at_its_parameters(machine: BoltzmannMachine, normalizer: LogNormalizer) -> Array:
    """1 where the arrays of the machine are those of the estimate, else NaN: a factor that holds under tracing too."""
    xp, one = machine.engine.xp, machine.engine.arrays.asarray(np.ones(()), like=machine.like)
    if normalizer.belongs_to is None:
        return one
    for k, v in _arrays(normalizer.belongs_to).items():
        one = xp.where(xp.all(v == _arrays(machine)[k]), one, math.nan * one)
    return one


def log_unnormalized(machine: BoltzmannMachine, block: str, x: Array, hidden_bound: MeanField | None) -> Array:
    """log f(x), or its mean-field bound; shape (...) in nats."""
    if hidden_bound is None or machine.structure.independent(machine.structure.hidden):
        return -machine.free_energy({block: x})
    return mean_field_bound(machine, x, hidden_bound.solve(machine, x))


def negative_phase(machine: Any, particles: Mapping[str, Array], weights: Array | None = None) -> Array:
    """E_particles[-F], whose gradient is that of log Z, averaged over its own particles, in nats.

    A scalar, or the shape of a batch of machines, whose particles (R, ..., n) and weights (R, ...) are each its own.

    One color of layers is summed out of the particles (Rao-Blackwell): the one they lack, or else the second, whose
    draws are the oldest of a sweep.
    """
    stop = machine.engine.special.stop_gradient
    keep = {name: stop(x) for name, x in particles.items()}
    structure = getattr(machine, "structure", None)
    if structure is None:
        keep = {name: keep[name] for name in machine.kept}
    elif len(keep) == len(structure.names) and len(structure.colors) > 1:
        keep = {name: x for name, x in keep.items() if name not in structure.colors[1]}
    log_f, xp = -machine.free_energy(keep), machine.engine.xp
    if weights is None:
        return xp.mean(log_f, axis=tuple(range(log_f.ndim - len(machine.batch_shape))))
    return xp.sum(stop(weights) * log_f, axis=0)


def log_normalizer_term(machine: BoltzmannMachine, normalizer: Normalizer) -> Array:
    """log Z with the derivative that the policy gives it.

    Raises:
        RuntimeError: where the policy has no value.
    """
    stop = machine.engine.special.stop_gradient
    if isinstance(normalizer, LogNormalizer):
        own = one_at_its_parameters(machine, normalizer)
        value = machine.engine.arrays.asarray(normalizer.value, like=machine.like)
        if normalizer.particles is None:
            return own * machine.engine.host.marginal.constant(value, machine.params)
        phase = negative_phase(machine, normalizer.particles, normalizer.weights)
        return own * (value + phase - stop(phase))  # NaN in the gradient as well
    if isinstance(normalizer, Contrastive):
        if not reads_gradient_only():
            raise RuntimeError(
                "expected a normalizer with a value, got Contrastive particles, of which only the gradient means "
                "anything: train with StochasticML or ContrastiveDivergence, or give log_normalizer=ais(...) or 'exact'"
            )
        return negative_phase(machine, normalizer.particles)
    if normalizer == "exact":
        return log_normalizer_by_enumeration(machine)
    raise RuntimeError(
        f"log_prob of a {type(machine).__name__} needs its log normalizer: give log_normalizer='exact' "
        "(small machines), ais(machine, rng=...), or Contrastive(particles) for training"
    )


def marginal_log_prob(
    machine: BoltzmannMachine, block: str, x: Array, normalizer: Normalizer, hidden_bound: MeanField | None
) -> Array:
    """log p(x_block), or its bound, under a policy; shape (...) in nats."""
    log_z = log_normalizer_term(machine, normalizer)
    return log_unnormalized(machine, block, x, hidden_bound) - log_z


def marginal_draw(rng: Rng, machine: BoltzmannMachine, block: str, num: int, sampler: Any) -> Array:
    """Draws of one layer, shape (num, n): by `sampler` if given, else exact.

    Raises:
        RuntimeError: where no exact draw is possible and no sampler is given.
    """
    if sampler is not None:
        first, second = machine.engine.random.split(rng, 2)
        state, _ = sampler.step(second, machine, sampler.init(first, machine, num))
        return state.position[block]
    if not enumerable(machine, DRAW_BITS):
        bits = log2_joint_states(machine)
        raise RuntimeError(
            f"sample of {machine!r} has no exact draw (2^{bits:g} joint states): "
            "give sampler=BlockGibbs(sweeps=...) for approximate ones"
        )
    return draw_exact(rng, machine, num)[block]
