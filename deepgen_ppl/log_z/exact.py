r"""Exact log Z by enumeration.

    log Z = log sum_{x_keep} exp(-F(x_keep)),    F with the largest color of layers summed out in closed form

The sum over the joint states of the layers kept is streamed: for an RBM, 2^min(V, H) free energies. A batch of machines
has a log Z each, from one pass.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from deepgen_ppl.energies.energy import Energy
from deepgen_ppl.energies.machine import BoltzmannMachine
from deepgen_ppl.energies.spaces import STATE_BITS
from deepgen_ppl.engine import Engine
from deepgen_ppl.log_z.enumerated import bits_of, check_states, draw_states, log_z_of_states
from deepgen_ppl.log_z.estimates import LogNormalizer, snapshot
from deepgen_ppl.typing import Array, Rng

__all__ = [
    "ENUMERABLE_BITS",
    "draw_exact",
    "enumerable",
    "exact_log_normalizer",
    "log2_joint_states",
    "log_normalizer_by_enumeration",
]

ENUMERABLE_BITS = 25.0
"""Enumeration is refused above this log2 of the number of joint states."""

DRAW_BITS = 20.0
"""Exact draws hold all joint states of the smaller side in memory and are refused above this."""

CHUNK = 2**12


def enumerable(machine: Energy, bits: float = ENUMERABLE_BITS) -> bool:
    """Whether the smaller side of the machine has at most 2^bits joint states, or an energy without layers has."""
    return log2_joint_states(machine) <= (bits if isinstance(machine, BoltzmannMachine) else min(bits, STATE_BITS))


def log2_joint_states(machine: Energy) -> float:
    """log2 of the number of joint states to enumerate: of the smaller side, or of an energy without layers."""
    if not isinstance(machine, BoltzmannMachine):
        return bits_of(machine)
    return machine.structure.log2_states(machine.structure.smaller_side[0])


def check_machine(machine: Any) -> None:
    """Raise for models that have no log Z to speak of.

    Raises:
        TypeError: with what came.
        ValueError: for a machine that is one for each value of something that is not given.
    """
    if not isinstance(machine, Energy):
        raise TypeError(f"expected a Boltzmann machine, got {type(machine).__name__}")
    machine.check_given("its log Z")


def check_single(machine: Any) -> None:
    """Raise for a batch of machines, where an answer belongs to one.

    Raises:
        ValueError: with its shape.
    """
    if machine.batch_shape:
        raise ValueError(
            f"expected one machine, got a batch of the shape {machine.batch_shape}: exact_log_normalizer, ais and "
            "marginal take batches"
        )


def add_compensated(total: Array, lost: Array, term: Array) -> tuple[Array, Array]:
    """Kahan's compensated sum: the total with one more term, and what it is too large by."""
    y = term - lost
    new = total + y
    return new, (new - total) - y


def check_enumerable(machine: BoltzmannMachine, bits: float = ENUMERABLE_BITS) -> None:
    """Raise with the reason where enumeration is out of reach.

    Raises:
        ValueError: with the number of states.
    """
    keep, out = machine.structure.smaller_side
    if not enumerable(machine, bits):
        raise ValueError(
            f"expected at most 2^{bits:g} joint states to enumerate, got 2^{machine.structure.log2_states(keep):g} "
            f"(layers {list(keep)}, with {list(out)} summed out): use ais(...) for an estimate"
        )


def states_at(machine: BoltzmannMachine, keep: Sequence[str], index: Array) -> dict[str, Array]:
    """Joint states of the layers `keep` number `index`, in mixed radix, shapes (len(index), n)."""
    xp, arrays = machine.engine.xp, machine.engine.arrays
    state = {}
    for name in keep:
        unit = machine.structure.layers[name]
        values = arrays.asarray(unit.states, like=machine.like)
        digits = []
        for _ in range(unit.size):
            digits.append(values[index % len(values)])
            index = index // len(values)
        state[name] = xp.stack(digits, axis=-1)
    return state


def num_states(machine: BoltzmannMachine, keep: Sequence[str]) -> int:
    """Number of joint states of the layers `keep`."""
    units = [machine.structure.layers[name] for name in keep]
    return math.prod(len(unit.states) ** unit.size for unit in units if unit.states is not None)


def _chunks(machine: BoltzmannMachine, keep: Sequence[str]) -> tuple[int, int]:
    """(number of joint states, how many to take at once): fewer, the more machines there are in a batch."""
    total = num_states(machine, keep)
    return total, min(max(1, CHUNK // math.prod(machine.batch_shape)), total)


def _log_f(machine: BoltzmannMachine, keep: Sequence[str], index: Array) -> Array:
    """log f of joint states, shape (len(index), ...) with the axes of a batch of machines last."""
    lead = (1,) * len(machine.batch_shape)
    state = states_at(machine, keep, index)
    reshape = machine.engine.xp.reshape
    return -machine.free_energy({n: reshape(x, (x.shape[0], *lead, x.shape[-1])) for n, x in state.items()})


def log_normalizer_by_enumeration(machine: Energy) -> Array:
    """log Z in the machine's own precision, differentiable; shape that of the batch of machines, in nats.

    The sum is kept relative to the largest term so far, with compensation: in float32 a log Z of thousands would lose
    every addend of less than its last digit.

    Raises:
        ValueError: above 2^25 joint states.
    """
    if not isinstance(machine, BoltzmannMachine):
        check_states(machine)
        return machine.log_z if hasattr(machine, "log_z") else -machine.free_energy({})
    check_enumerable(machine)
    machine = machine.uncentered()
    engine, keep = machine.engine, machine.structure.smaller_side[0]
    if not keep:
        return -machine.free_energy({})
    xp, stop = engine.xp, engine.special.stop_gradient
    total, chunk = _chunks(machine, keep)
    offsets = xp.arange(0, chunk)

    def step(carry: tuple[Array, Array, Array], start: Array) -> tuple[tuple[Array, Array, Array], None]:
        top, scaled, lost = carry
        index = start + offsets
        log_f = _log_f(machine, keep, index % total)
        inside = xp.reshape(index < total, (-1, *(1,) * (log_f.ndim - 1)))
        log_f = xp.where(inside, log_f, -float("inf"))
        new = xp.maximum(top, stop(xp.max(log_f, axis=0)))
        shrink = xp.exp(top - new)
        scaled, lost = add_compensated(scaled * shrink, lost * shrink, xp.sum(xp.exp(log_f - new), axis=0))
        return (new, scaled, lost), None

    zero = xp.zeros_like(_log_f(machine, keep, offsets[:1])[0])  # of the first state, which may be impossible
    first = (stop(zero) - 1e30, zero, zero)  # finite: the states of a first chunk may all be impossible
    starts = xp.arange(0, total, chunk)
    top, scaled, _ = (step(first, starts[0]) if total == chunk else engine.control.loop(step, first, starts))[0]
    return top + xp.log(scaled)


@functools.cache
def _compiled(engine: Engine) -> Callable:
    return engine.control.compile(log_normalizer_by_enumeration)


def exact_log_normalizer(machine: Energy) -> LogNormalizer:
    """log Z by enumeration, evaluated in float64 whatever the machine's precision.

        log Z = log sum_{x_keep} exp(-F(x_keep)),    F with the largest color of layers summed out in closed form

    Args:
        machine: a machine, a batch of machines, or an energy whose blocks have finitely many values.

    Raises:
        TypeError: for something else than a machine or an energy.
        ValueError: above 2^25 joint states of the smaller side (2^16 of an energy without layers), with the number;
            where log Z is NaN or infinite.

    Example:
        >>> import numpy as np
        >>> import deepgen_ppl.pyro as dg  # on NumPyro the same
        >>> rbm = dg.RBM(np.zeros((4, 3), "float32"))
        >>> bool(np.isclose(dg.exact_log_normalizer(rbm).value, 7 * np.log(2)))
        True
    """
    check_machine(machine)
    if not isinstance(machine, BoltzmannMachine):
        value: Any = np.asarray(log_z_of_states(machine))
    else:
        check_enumerable(machine)
        with machine.engine.control.double():
            value = machine.engine.arrays.to_numpy(_compiled(machine.engine)(machine.astype("float64")))
    if not np.isfinite(value).all():
        raise ValueError(f"expected a machine with a finite log Z, got {value}: look for NaN or infinite parameters")
    value = value if value.ndim else float(value)
    return LogNormalizer(value, 0.0, "exact", "both", "enumeration", belongs_to=snapshot(machine))


def draw_exact(rng: Rng, machine: Energy, num: int) -> dict[str, Array]:
    """Independent exact draws of all layers, shapes (num, ..., n): the smaller side by enumeration, the rest given it.

    Raises:
        ValueError: above 2^20 joint states of the smaller side.
    """
    if not isinstance(machine, BoltzmannMachine):
        return draw_states(rng, machine, num)
    check_enumerable(machine, DRAW_BITS)
    machine = machine.uncentered()
    engine, (keep, out) = machine.engine, machine.structure.smaller_side
    if not keep:
        return machine.start(rng, num)
    xp = engine.xp
    total, chunk = _chunks(machine, keep)

    def step(carry: None, start: Array) -> tuple[None, Array]:
        return carry, _log_f(machine, keep, (start + xp.arange(0, chunk)) % total)

    log_f = engine.control.loop(step, None, xp.arange(0, total, chunk))[1]
    log_f = xp.reshape(log_f, (log_f.shape[0] * chunk, -1))[:total].T  # (machines, states)
    keys = engine.random.split(rng, len(out) + 1)
    cumulative = xp.cumulative_sum(engine.special.softmax(log_f, -1), axis=-1)
    u = engine.random.uniform(keys[0], (log_f.shape[0], num), log_f) * cumulative[:, -1:]
    index = engine.control.loop(lambda _, x: (None, xp.searchsorted(*x)), None, (cumulative, u))[1]
    index = xp.reshape(xp.clip(index.T, 0, total - 1), (num, *machine.batch_shape))
    state = states_at(machine, keep, index)
    s = machine.statistics(state)
    for key, name in zip(keys[1:], out, strict=True):
        unit = machine.structure.layers[name]
        state[name] = unit.draw(engine, key, machine.natural(name, s), machine.layer_arrays(name))
    return state
