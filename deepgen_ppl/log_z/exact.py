r"""Exact log Z by enumeration.

    log Z = log sum_{x_keep} exp(-F(x_keep)),    F with the largest color of layers summed out in closed form

The sum over the joint states of the layers kept is streamed in float64: for an RBM, 2^min(V, H) free energies.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

from deepgen_ppl.energies.machine import BoltzmannMachine
from deepgen_ppl.engine import Engine
from deepgen_ppl.log_z.estimates import LogNormalizer, fingerprint
from deepgen_ppl.typing import Array, Rng

__all__ = ["ENUMERABLE_BITS", "draw_exact", "enumerable", "exact_log_normalizer", "log_normalizer_by_enumeration"]

ENUMERABLE_BITS = 25.0
"""Enumeration is refused above this log2 of the number of joint states."""

DRAW_BITS = 20.0
"""Exact draws hold all joint states of the smaller side in memory and are refused above this."""

CHUNK = 2**12


def enumerable(machine: BoltzmannMachine, bits: float = ENUMERABLE_BITS) -> bool:
    """Whether the smaller side of the machine has at most 2^bits joint states."""
    return machine.structure.log2_states(machine.structure.smaller_side[0]) <= bits


def check_machine(machine: BoltzmannMachine) -> None:
    """Raise for models that have no log Z to speak of.

    Raises:
        TypeError: with what came.
    """
    if not isinstance(machine, BoltzmannMachine):
        raise TypeError(f"expected a Boltzmann machine, got {type(machine).__name__}")


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


def log_normalizer_by_enumeration(machine: BoltzmannMachine) -> Array:
    """log Z in the machine's own precision, differentiable; a scalar in nats.

    Raises:
        ValueError: above 2^25 joint states.
    """
    check_enumerable(machine)
    machine = machine.uncentered()
    engine, keep = machine.engine, machine.structure.smaller_side[0]
    total = num_states(machine, keep)
    chunk = min(CHUNK, total)
    starts = engine.xp.arange(0, total, chunk)
    offsets = engine.xp.arange(0, chunk)

    def step(carry: Array, start: Array) -> tuple[Array, None]:
        index = start + offsets
        log_f = -machine.free_energy(states_at(machine, keep, index % total))
        log_f = engine.xp.where(index < total, log_f, -float("inf"))
        return engine.xp.logaddexp(carry, engine.special.logsumexp(log_f, 0)), None

    first = engine.special.logsumexp(-machine.free_energy(states_at(machine, keep, offsets)), 0)
    if total <= chunk:
        return first
    return engine.control.loop(step, first, starts[1:])[0]


@functools.cache
def _compiled(engine: Engine) -> Callable:
    return engine.control.compile(log_normalizer_by_enumeration)


def exact_log_normalizer(machine: BoltzmannMachine) -> LogNormalizer:
    """log Z by enumeration, evaluated in float64 whatever the machine's precision.

    Raises:
        TypeError: for something else than a machine.
        ValueError: above 2^25 joint states of the smaller side, with the number; where log Z is NaN or infinite.
    """
    check_machine(machine)
    check_enumerable(machine)
    with machine.engine.control.double():
        value = float(_compiled(machine.engine)(machine.astype("float64")))
    if not math.isfinite(value):
        raise ValueError(f"expected a machine with a finite log Z, got {value}: look for NaN or infinite parameters")
    return LogNormalizer(value, 0.0, "exact", "both", "enumeration", belongs_to=machine_fingerprint(machine))


def machine_fingerprint(machine: BoltzmannMachine) -> str:
    """Digest of all arrays of a machine; empty while a program is traced."""
    arrays = machine.engine.arrays
    own = {**machine.params, **machine.constants}
    if not all(arrays.is_concrete(v) for v in own.values()):
        return ""
    return fingerprint({k: arrays.to_numpy(v) for k, v in own.items()})


def draw_exact(rng: Rng, machine: BoltzmannMachine, num: int) -> dict[str, Array]:
    """Independent exact draws of all layers, shapes (num, n): the smaller side by enumeration, the rest given it.

    Raises:
        ValueError: above 2^20 joint states of the smaller side.
    """
    check_enumerable(machine, DRAW_BITS)
    machine = machine.uncentered()
    engine, (keep, out) = machine.engine, machine.structure.smaller_side
    total = num_states(machine, keep)
    chunk = min(CHUNK, total)

    def step(carry: None, start: Array) -> tuple[None, Array]:
        index = (start + engine.xp.arange(0, chunk)) % total
        return carry, -machine.free_energy(states_at(machine, keep, index))

    log_f = engine.control.loop(step, None, engine.xp.arange(0, total, chunk))[1]
    log_f = engine.xp.reshape(log_f, (-1,))[:total]
    keys = engine.random.split(rng, len(out) + 1)
    cumulative = engine.xp.cumsum(engine.special.softmax(log_f, 0), axis=0)
    u = engine.random.uniform(keys[0], (num,), log_f) * cumulative[-1]
    index = engine.xp.searchsorted(cumulative, u)
    state = states_at(machine, keep, engine.xp.clip(index, 0, total - 1))
    s = machine.statistics(state)
    for key, name in zip(keys[1:], out, strict=True):
        unit = machine.structure.layers[name]
        state[name] = unit.draw(engine, key, machine.natural(name, s), machine.layer_arrays(name))
    return state
