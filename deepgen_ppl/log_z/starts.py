"""Where annealing starts: a machine whose log Z is known and that can be drawn from; or draws of the machine itself."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from deepgen_ppl.data import plain
from deepgen_ppl.energies.base_rate import base_rate_machine, log_z_base_rate
from deepgen_ppl.energies.machine import BoltzmannMachine
from deepgen_ppl.engine import Engine
from deepgen_ppl.log_z.exact import DRAW_BITS, draw_exact, enumerable, exact_log_normalizer
from deepgen_ppl.typing import Array, Rng
from deepgen_ppl.units.base import mean_statistic

__all__ = ["Position", "check_drawable", "compiled", "draws_of", "given_draws", "log_z_of_start", "start_of"]

Position = dict[str, Array]


@functools.cache
def compiled(engine: Engine, fn: Callable, **options: Any) -> Callable:
    """`fn` with these options, compiled once for evaluation."""
    return engine.control.compile(functools.partial(fn, **options))


def start_of(machine: BoltzmannMachine, start: BoltzmannMachine | None, data: Any) -> BoltzmannMachine:
    """The machine at beta = 0, as many machines as `machine` is: the one given, or `machine` with its couplings cut.

    Args:
        machine: the machine, or a batch of them.
        start: the machine at beta = 0, one or a batch; None for the default.
        data: (N, V) for the base rates of the default.

    Raises:
        ValueError: for a start of other layers, of another batch, or whose log Z is not known.
    """
    if start is None:
        visible = machine.structure.visible
        unit, own = machine.structure.layers[visible], machine.layer_arrays(visible)
        rates = None if data is None else mean_statistic(machine.engine, unit, data, own)
        start = machine.decoupled() if rates is None else base_rate_machine(machine, {visible: rates})
    _check_start(start, machine)
    if start.batch_shape == machine.batch_shape:
        return start
    rows = start.engine.arrays.asarray(np.zeros(machine.batch_shape), like=machine.like)  # one start for each machine
    constants = {**start.constants, "energy_offset": start.constants.get("energy_offset", 0.0) + rows}
    return start._replace(constants=constants)


def _check_start(start: BoltzmannMachine, machine: BoltzmannMachine) -> None:
    if start.structure.units != machine.structure.units:
        raise ValueError(f"expected two machines with the same layers, got {start!r} and {machine!r}")
    lead = len(machine.batch_shape) - len(start.batch_shape)
    if lead < 0 or any(n not in (1, m) for n, m in zip(start.batch_shape, machine.batch_shape[lead:], strict=True)):
        raise ValueError(
            f"expected one start, or a start for each of the machines, a batch of the shape {machine.batch_shape}, "
            f"got a batch of the shape {start.batch_shape}"
        )
    couplings = set(start.structure.couplings)
    if couplings and not (couplings <= set(machine.structure.couplings) and enumerable(start, DRAW_BITS)):
        raise ValueError(
            "expected a start whose log Z is known and that can be drawn from: without couplings, or with some of the "
            f"machine's own and at most 2^{DRAW_BITS:g} joint states, got {start!r}"
        )


def log_z_of_start(start: BoltzmannMachine) -> np.ndarray:
    """log Z of a start in float64, shape that of the batch of machines, in nats."""
    if start.structure.couplings:
        return np.asarray(exact_log_normalizer(start).value)
    with start.engine.control.double():
        value = compiled(start.engine, log_z_base_rate)(start.astype("float64"))
        return np.broadcast_to(start.engine.arrays.to_numpy(value), start.batch_shape)


def given_draws(initial: Mapping[str, Any], machine: BoltzmannMachine, num: int) -> Position:
    """Draws that the user has made: values of the layers kept, shapes (num, ..., n).

    Raises:
        ValueError: for missing layers, another number of draws, or values that are no states of the layers.
    """
    keep, arrays = machine.structure.smaller_side[0], machine.engine.arrays
    lead = (num, *machine.batch_shape)
    initial = {k: plain(machine.engine, v, f"initial[{k!r}]") for k, v in initial.items()}
    got = {k: v.shape[:-1] for k, v in initial.items()}
    missing = [name for name in keep if name not in got]
    if missing or any(got[name] != lead for name in keep):
        raise ValueError(
            f"expected `initial` with {num} draws of the layers {list(keep)}, leading axes {lead}, got {got}"
            f"{f', no {missing}' if missing else ''}"
        )
    for name in keep:
        machine.structure.layers[name].check(initial[name], f"initial[{name!r}]")
    return {name: arrays.asarray(initial[name], like=machine.like) for name in keep}


def check_drawable(machine: BoltzmannMachine) -> None:
    """Raise for a machine that is too large for exact draws.

    Raises:
        ValueError: with the number of states.
    """
    if not enumerable(machine, DRAW_BITS):
        raise ValueError(
            "expected draws from the machine (initial=...) for reverse AIS: it is too large for exact ones, "
            f"2^{machine.structure.log2_states(machine.structure.smaller_side[0]):g} joint states"
        )


def _start(rng: Rng, machine: BoltzmannMachine, *, num: int) -> Position:
    return machine.start(rng, num)


def draws_of(rng: Rng, machine: BoltzmannMachine, num: int) -> Position:
    """Independent exact draws of all layers, shapes (num, ..., n); by enumeration, in float64, where it has couplings.

    A log f of thousands has no digits left in float32 for what tells states apart.
    """
    engine = machine.engine
    if not machine.structure.couplings:
        return compiled(engine, _start, num=num)(rng, machine)
    with engine.control.double():
        drawn = compiled(engine, draw_exact, num=num)(rng, machine.astype("float64"))
        drawn = {k: engine.arrays.to_numpy(v) for k, v in drawn.items()}
    return {k: engine.arrays.asarray(v, like=machine.like) for k, v in drawn.items()}
