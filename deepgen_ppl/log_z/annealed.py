r"""Annealed importance sampling between energies of which nothing is known but their blocks.

    log w = sum_k (b_k - b_(k-1)) (E_a - E_b)(x_(k-1)),    x_k ~ T_(b_k)(. | x_(k-1)),    E[w] = Z / Z_a

T_b draws the blocks of finitely many values and moves the real ones along the gradient of E_b; its reversal does so in
the reversed order. A step size for each temperature is found by a first run whose weights are thrown away, so that the
second is a run of fixed transitions, and its sides hold.

References: Annealed Importance Sampling (Neal, 2001), eq. 3-12; Accurate and Conservative Estimates of MRF
Log-likelihood using Reverse Annealing (Burda et al., 2015), section 3.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepgen_ppl.energies.energy import Energy
from deepgen_ppl.energies.energy_path import EnergyPath
from deepgen_ppl.energies.moves import hamiltonian_within_gibbs
from deepgen_ppl.energies.spaces import spaces
from deepgen_ppl.log_z.annealing_weights import forward_estimate, reverse_estimate, warn_of_few_runs
from deepgen_ppl.log_z.estimates import LogNormalizer
from deepgen_ppl.log_z.exact import DRAW_BITS, add_compensated, draw_exact, enumerable, exact_log_normalizer
from deepgen_ppl.log_z.schedules import check_betas, pieces
from deepgen_ppl.log_z.starts import compiled
from deepgen_ppl.options import integer
from deepgen_ppl.progress import progress_bar
from deepgen_ppl.typing import Array, Rng

__all__ = ["anneal"]

Position = dict[str, Array]
Carry = tuple[Position, Array, Array, Array]

FIRST_STEP = math.log(0.5)
"""Logarithm of the step size at the first temperature."""

ACCEPTED = 0.8
"""Share of proposals that the first run aims at."""

GAIN = 0.1
"""Change of the logarithm of the step size, at a temperature, for each share of proposals too many or too few."""


@dataclass(frozen=True)
class Steps:
    """Hamiltonian moves of a step size that is given at each temperature."""

    num_steps: int = 10

    def move(
        self, rng: Rng, target: Energy, position: Position, size: Array, *, backward: bool
    ) -> tuple[Position, Array]:
        """The transition: (position, acceptance rate)."""
        blocks = [name for name, space in spaces(target).items() if space.real]
        return hamiltonian_within_gibbs(
            rng, target, position, blocks, step_size=size, num_steps=self.num_steps, backward=backward
        )


def _step(
    start: Energy, end: Energy, carry: Carry, x: tuple, *, gain: Array, kernel: Any, reverse: bool
) -> tuple[Carry, Array]:
    """One temperature: weight and then move on the way up, move and then weight on the way down."""
    position, log_w, lost, size = carry
    rng, low, high, given = x
    engine, path = end.engine, EnergyPath(start, end, high)
    size = engine.xp.where(gain > 0, size, given)

    def weighed(position: Position, log_w: Array, lost: Array) -> tuple[Array, Array]:
        return add_compensated(log_w, lost, (high - low if reverse else low - high) * path.rise(position))

    if not reverse:
        log_w, lost = weighed(position, log_w, lost)
    if isinstance(kernel, Steps):
        moved, accepted = kernel.move(rng, path, position, engine.xp.exp(size), backward=reverse)
    else:
        moved, accepted = kernel.move(rng, path, position, backward=reverse)
    position = {name: engine.arrays.cast(moved[name], x) for name, x in position.items()}
    if reverse:
        log_w, lost = weighed(position, log_w, lost)
    return (position, log_w, lost, size + gain * (engine.xp.mean(accepted) - ACCEPTED)), size


def _run(
    start: Energy, end: Energy, rng: Rng, carry: Carry, xs: tuple, gain: Array, *, kernel: Any, reverse: bool
) -> tuple[Carry, Array]:
    keys = end.engine.random.split(rng, xs[0].shape[0])
    step = functools.partial(_step, start, end, gain=gain, kernel=kernel, reverse=reverse)
    return end.engine.control.loop(step, carry, (keys, *xs))


def _annealed(
    start: Energy,
    end: Energy,
    rng: Rng,
    position: Position,
    betas: np.ndarray,
    sizes: np.ndarray | None,
    **options: Any,
) -> tuple[Position, Array, np.ndarray]:
    """One run: its end, its log-weights, and the step sizes in the order of the temperatures."""
    engine, reverse = end.engine, options["reverse"]
    show = options.pop("progress")
    asarray = functools.partial(engine.arrays.asarray, like=end.like)
    zero = asarray(np.zeros(next(iter(position.values())).shape[0]))
    carry: Carry = (position, zero, zero, asarray(FIRST_STEP))
    run, parts, used = compiled(engine, _run, **options), pieces(betas, reverse=reverse), []
    given = np.split(np.zeros(sum(len(low) for low, _ in parts)) if sizes is None else sizes, len(parts))
    gain = asarray(GAIN if sizes is None else 0.0)
    keys = engine.random.split(rng, len(parts))
    for (low, high), size, key in zip(progress_bar(parts, "AIS", show=show), given, keys, strict=True):
        carry, sized = run(start, end, key, carry, (asarray(low), asarray(high), asarray(size)), gain)
        used.append(engine.arrays.to_numpy(sized))
    return carry[0], carry[1], np.concatenate(used)


def anneal(
    energy: Energy,
    *,
    rng: Rng,
    betas: int | np.ndarray,
    num_runs: int,
    start: Energy | None,
    data: Any,
    reverse: bool,
    initial: Mapping[str, Any] | None,
    kernel: Any,
    progress: bool,
) -> LogNormalizer:
    """log Z of an energy of one's own; see `ais`."""
    engine, betas, num_runs = energy.engine, check_betas(betas), integer(num_runs, "num_runs")
    if start is None:
        start = energy.decoupled() if data is None else energy.decoupled(data)  # type: ignore[call-arg]
    EnergyPath(start, energy)
    log_z_start = _log_z_of_start(start)
    if kernel is not None and not hasattr(kernel, "move"):
        raise TypeError(f"expected HMC(...) for the kernel of annealing, got {kernel!r}")
    warn_of_few_runs(num_runs)
    first, pilot, second, last = engine.random.split(rng, 4)
    if initial is not None or reverse:
        position = _draws(first, energy, num_runs, initial, reverse=reverse)
    else:
        position = _start(first, start, num_runs)
    sizes = None
    moved = [name for name, space in spaces(energy).items() if space.real]
    options = {"kernel": kernel or Steps(), "progress": progress}
    if kernel is None and moved:
        _, _, sizes = _annealed(
            start, energy, second, _start(pilot, start, num_runs), betas, None, reverse=False, **options
        )
        sizes = sizes[::-1] if reverse else sizes
    sizes = np.zeros(sum(len(low) for low, _ in pieces(betas, reverse=False))) if sizes is None else sizes
    end, log_w, _ = _annealed(start, energy, last, position, betas, sizes, reverse=reverse, **options)
    weights = engine.arrays.to_numpy(log_w).astype(float)
    method = f"AIS {'reverse' if reverse else 'forward'}, {len(betas)} temperatures, {num_runs} runs"
    if reverse:
        return reverse_estimate(energy, log_z_start, weights, method, exact=initial is None)
    return forward_estimate(energy, log_z_start, weights, method, end)


def _log_z_of_start(start: Any) -> float:
    """log Z of a start that is drawn from exactly.

    Raises:
        ValueError: for one whose log Z is not known.
    """
    if enumerable(start, DRAW_BITS):
        return float(exact_log_normalizer(start).value)
    raise ValueError(
        "expected a start whose log Z is known and that can be drawn from: IndependentBlocks(...), a machine without "
        f"couplings, an energy with log_z whose `start` draws from it, or few enough joint states, got {start!r}"
    )


def _start(rng: Rng, start: Any, num: int) -> Position:
    """Exact draws of the start."""
    return {n: start.engine.special.stop_gradient(x) for n, x in draw_exact(rng, start, num).items()}


def _draws(rng: Rng, energy: Energy, num: int, initial: Mapping[str, Any] | None, *, reverse: bool) -> Position:
    """Draws of the energy itself: those given, or exact ones."""
    if not reverse:
        raise ValueError("expected initial=... with reverse=True, got it for forward runs, which start at `start`")
    if initial is None:
        if not enumerable(energy, DRAW_BITS):
            raise ValueError(
                f"expected draws from the energy (initial=...) for reverse AIS, got none: {type(energy).__name__} is "
                "too large for exact ones"
            )
        return draw_exact(rng, energy, num)
    known, got = spaces(energy), {name: len(x) for name, x in initial.items()}
    if got != dict.fromkeys(known, num):
        raise ValueError(f"expected `initial` with {num} draws of the blocks {list(known)}, got {got}")
    for name, x in initial.items():
        known[name].check(energy.engine.arrays.to_numpy(x), f"initial[{name!r}]")
    return {name: energy.engine.arrays.asarray(initial[name], like=energy.like) for name in known}
