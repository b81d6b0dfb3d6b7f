r"""Annealed importance sampling, both ways, along the geometric path between two machines.

Forward, from exact draws of a start whose Z_a is known (one without couplings, or one small enough to enumerate):

    log w = sum_k log f_(b_k)(x_(k-1)) - log f_(b_(k-1))(x_(k-1)),    x_k ~ T_(b_k)(. | x_(k-1)),    E[w] = Z / Z_a

so that log mean w has a mean at most log Z: a *lower* side of log Z, hence an *upper* side of log p(x).
Reverse, from draws of the machine itself through the reversed transitions, E[w_rev] = Z_a / Z: an *upper* side of log Z
where the draws are exact, and an estimate of no side (flag `inexact_start`) where they come from a Markov chain.

One color of layers is summed out, the rest is the state. A temperature costs one product with each weight matrix for
the layers summed out and one for the rest: two for an RBM.

References: Annealed Importance Sampling (Neal, 2001), eq. 3-12; Salakhutdinov & Murray (2008), eq. 14-19; Accurate and
Conservative Estimates of MRF Log-likelihood using Reverse Annealing (Burda et al., 2015), section 3; Grosse et al.,
Measuring the Reliability of MCMC Inference with Bidirectional Monte Carlo (2016), section 3.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from deepgen_ppl.energies.base_rate import base_rate_machine, log_z_base_rate
from deepgen_ppl.energies.machine import BoltzmannMachine
from deepgen_ppl.energies.path import Path
from deepgen_ppl.engine import Engine
from deepgen_ppl.log_z.estimates import RUNS_FOR_ERROR, LogNormalizer, log_mean_exp, snapshot
from deepgen_ppl.log_z.exact import (
    DRAW_BITS,
    check_machine,
    check_single,
    draw_exact,
    enumerable,
    exact_log_normalizer,
)
from deepgen_ppl.log_z.schedules import check_betas, pieces
from deepgen_ppl.options import integer
from deepgen_ppl.progress import progress_bar
from deepgen_ppl.typing import Array, Rng
from deepgen_ppl.units.base import mean_statistic

__all__ = ["ais"]

Position = dict[str, Array]
Carry = tuple[Position, Array, Array]


def _add(total: Array, lost: Array, term: Array) -> tuple[Array, Array]:
    """Kahan's compensated sum."""
    y = term - lost
    new = total + y
    return new, (new - total) - y


def forward_step(path: Path, carry: Carry, x: tuple[Rng, Array, Array]) -> tuple[Carry, None]:
    """One temperature up: weight, then move."""
    keep, log_w, lost = carry
    rng, low, high = x
    sent = path.summed_out(keep)
    log_w, lost = _add(log_w, lost, path.log_ratio(keep, sent, low, high))
    state = path.transition(rng, keep, sent, high)
    return ({name: state[name] for name in keep}, log_w, lost), None


def reverse_step(path: Path, carry: Carry, x: tuple[Rng, Array, Array]) -> tuple[Carry, None]:
    """One temperature down: move by the reversal of the way up, then weight."""
    keep, log_w, lost = carry
    rng, low, high = x
    state = path.transition(rng, keep, path.summed_out(keep), high, backward=True)
    keep = {name: state[name] for name in keep}
    log_w, lost = _add(log_w, lost, -path.log_ratio(keep, path.summed_out(keep), low, high))
    return (keep, log_w, lost), None


def _run(
    start: BoltzmannMachine,
    machine: BoltzmannMachine,
    rng: Rng,
    carry: Carry,
    low: Array,
    high: Array,
    *,
    step: Callable,
) -> Carry:
    engine, path = machine.engine, Path(start, machine)
    keys = engine.random.split(rng, low.shape[0])
    return engine.control.loop(lambda c, x: step(path, c, x), carry, (keys, low, high))[0]


@functools.cache
def _compiled(engine: Engine, fn: Callable, **options: Any) -> Callable:
    return engine.control.compile(functools.partial(fn, **options))


def ais(
    machine: BoltzmannMachine,
    *,
    rng: Rng | int,
    betas: int | np.ndarray = 1000,
    num_runs: int = 200,
    start: BoltzmannMachine | None = None,
    data: Any = None,
    reverse: bool = False,
    initial: Mapping[str, Array] | None = None,
    progress: bool = False,
) -> LogNormalizer:
    """log Z by annealed importance sampling.

    Args:
        machine: the machine.
        rng: seed or generator.
        betas: number of inverse temperatures (equally spaced), or an increasing array from 0 to 1.
        num_runs: number of independent runs; below 100 the standard error is withheld, with a warning.
        start: machine at beta = 0 with the same layers, without couplings or with at most 2^20 joint states on its
            smaller side; by default the machine with its couplings cut (`decoupled`), whose visible layer has the
            base rates of `data` if given.
        data: (N, V) for the base rates of the default start.
        reverse: anneal from the machine to the start.
        initial: draws from the machine for the reverse way, values of all layers with `num_runs` rows; they are taken
            for inexact. Without them, exact draws are made where the machine is small enough.
        progress: whether to show a progress bar.

    Returns:
        `LogNormalizer` with side `lower` (forward), or `upper` (reverse from exact draws), kind `bound`; a reverse
        estimate from `initial` has kind `estimate`. Forward runs carry their weighted particles.

    Raises:
        TypeError: for something else than a machine.
        ValueError: for temperatures that do not go from 0 to 1, a start whose log Z is not known, reverse runs
            without draws, draws for forward runs, or draws that are no states of the layers.
    """
    check_machine(machine)
    check_single(machine)
    engine = machine.engine
    betas = check_betas(betas)
    num_runs = integer(num_runs, "num_runs")
    start = _start(machine, data) if start is None else start
    _check_start(start, machine)
    rng = engine.random.rng(rng, machine.like)
    first, rest = engine.random.split(rng, 2)
    if initial is not None:
        initial = _checked(initial, machine, num_runs, reverse=reverse)
    elif reverse:
        _check_drawable(machine)
    if num_runs < RUNS_FOR_ERROR:
        warnings.warn(
            f"expected num_runs of at least {RUNS_FOR_ERROR} for a standard error of log Z, got {num_runs}: "
            "it will be withheld",
            stacklevel=2,
        )
    log_z_start = _log_z_of_start(start)
    flags: tuple[str, ...] = ()
    if reverse:
        position, flags = _draws_of(first, machine, num_runs, initial)
    elif start.structure.couplings:
        position, _ = _draws_of(first, start, num_runs, None)
    else:
        position = _compiled(engine, _start_of, num=num_runs)(first, start)
    position = {n: position[n] for n in machine.structure.smaller_side[0]}
    zero = engine.arrays.asarray(np.zeros(num_runs), like=machine.like)
    carry: Carry = (position, zero, zero)
    parts = pieces(betas, reverse=reverse)
    run = _compiled(engine, _run, step=reverse_step if reverse else forward_step)
    keys = engine.random.split(rest, len(parts))
    for part, key in zip(progress_bar(parts, "AIS", show=progress), keys, strict=True):
        low, high = (engine.arrays.asarray(b, like=machine.like) for b in part)
        carry = run(start, machine, key, carry, low, high)
    log_w = engine.arrays.to_numpy(carry[1]).astype(float)
    value, se, _ = log_mean_exp(log_w)
    flags += () if np.isfinite(se) else ("weights_degenerate",)
    method = f"AIS {'reverse' if reverse else 'forward'}, {len(betas)} temperatures, {num_runs} runs"
    claims: dict[str, Any] = {"kind": "bound", "side": "upper" if reverse else "lower"}
    if "inexact_start" in flags:
        claims = {"kind": "estimate", "side": "none"}
    if not reverse:
        claims |= {"particles": carry[0], "weights": engine.special.softmax(carry[1], 0)}
    sign = -1.0 if reverse else 1.0
    return LogNormalizer(
        log_z_start + sign * value,
        se,
        method=method,
        belongs_to=snapshot(machine),
        log_weights=log_z_start + sign * log_w,
        flags=flags,
        **claims,
    )


def _start(machine: BoltzmannMachine, data: Any) -> BoltzmannMachine:
    if data is None:
        return machine.decoupled()
    visible = machine.structure.visible
    return base_rate_machine(
        machine, {visible: mean_statistic(machine.engine, machine.structure.layers[visible], data)}
    )


def _start_of(rng: Rng, machine: BoltzmannMachine, *, num: int) -> Position:
    return machine.start(rng, num)


def _check_start(start: BoltzmannMachine, machine: BoltzmannMachine) -> None:
    if start.structure.units != machine.structure.units:
        raise ValueError(f"expected two machines with the same layers, got {start!r} and {machine!r}")
    couplings = set(start.structure.couplings)
    if couplings and not (couplings <= set(machine.structure.couplings) and enumerable(start, DRAW_BITS)):
        raise ValueError(
            "expected a start whose log Z is known and that can be drawn from: without couplings, or with some of the "
            f"machine's own and at most 2^{DRAW_BITS:g} joint states, got {start!r}"
        )


def _log_z_of_start(start: BoltzmannMachine) -> float:
    if start.structure.couplings:
        return float(exact_log_normalizer(start).value)
    with start.engine.control.double():
        return float(_compiled(start.engine, log_z_base_rate)(start.astype("float64")))


def _checked(initial: Mapping[str, Any], machine: BoltzmannMachine, num: int, *, reverse: bool) -> Position:
    """Values of the layers kept, as the engine's arrays."""
    if not reverse:
        raise ValueError("expected initial=... with reverse=True, got it for forward runs, which start at `start`")
    keep, arrays = machine.structure.smaller_side[0], machine.engine.arrays
    got = {k: len(v) for k, v in initial.items()}
    missing = [name for name in keep if name not in got]
    if missing or any(got[name] != num for name in keep):
        raise ValueError(
            f"expected `initial` with {num} draws of the layers {list(keep)}, got {got}"
            f"{f', no {missing}' if missing else ''}"
        )
    for name in keep:
        machine.structure.layers[name].check(np.asarray(arrays.to_numpy(initial[name])), f"initial[{name!r}]")
    return {name: arrays.asarray(initial[name], like=machine.like) for name in keep}


def _check_drawable(machine: BoltzmannMachine) -> None:
    if not enumerable(machine, DRAW_BITS):
        raise ValueError(
            "expected draws from the machine (initial=...) for reverse AIS: it is too large for exact ones, "
            f"2^{machine.structure.log2_states(machine.structure.smaller_side[0]):g} joint states"
        )


def _draws_of(
    rng: Rng, machine: BoltzmannMachine, num: int, initial: Mapping[str, Array] | None
) -> tuple[Position, tuple[str, ...]]:
    if initial is not None:
        return dict(initial), ("inexact_start",)
    engine = machine.engine
    with engine.control.double():
        exact = _compiled(engine, draw_exact, num=num)(rng, machine.astype("float64"))
        exact = {k: engine.arrays.to_numpy(v) for k, v in exact.items()}
    return {k: engine.arrays.asarray(v, like=machine.like) for k, v in exact.items()}, ()
