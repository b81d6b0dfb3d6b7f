r"""Annealed importance sampling, both ways, along the geometric path between two machines.

Forward, from exact draws of a start whose Z_a is known (one without couplings, or one small enough to enumerate):

    log w = sum_k log f_(b_k)(x_(k-1)) - log f_(b_(k-1))(x_(k-1)),    x_k ~ T_(b_k)(. | x_(k-1)),    E[w] = Z / Z_a

so that log mean w has a mean at most log Z: a *lower* side of log Z, hence an *upper* side of log p(x).
Reverse, from draws of the machine itself through the reversed transitions, E[w_rev] = Z_a / Z: an *upper* side of log Z
where the draws are exact, and an estimate of no side (flag `inexact_start`) where they come from a Markov chain.

One color of layers is summed out, the rest is the state. A temperature costs one product with each weight matrix for
the layers summed out and one for the rest: two for an RBM. A batch of machines is annealed at once, with runs of its
own for each; the machines `machine.given(..)`, one a row of data, have the values log f of these rows for their log Z.

References: Annealed Importance Sampling (Neal, 2001), eq. 3-12; Salakhutdinov & Murray (2008), eq. 14-19; Accurate and
Conservative Estimates of MRF Log-likelihood using Reverse Annealing (Burda et al., 2015), section 3; Grosse et al.,
Measuring the Reliability of MCMC Inference with Bidirectional Monte Carlo (2016), section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from deepgen_ppl.energies.energy import Energy
from deepgen_ppl.energies.machine import BoltzmannMachine
from deepgen_ppl.energies.path import Path
from deepgen_ppl.log_z.annealed import anneal as anneal_energy
from deepgen_ppl.log_z.annealing_weights import forward_estimate, reverse_estimate, warn_of_few_runs
from deepgen_ppl.log_z.estimates import LogNormalizer
from deepgen_ppl.log_z.exact import add_compensated, check_machine
from deepgen_ppl.log_z.schedules import check_betas, pieces
from deepgen_ppl.log_z.starts import (
    Position,
    check_drawable,
    compiled,
    draws_of,
    given_draws,
    log_z_of_start,
    start_of,
)
from deepgen_ppl.options import flag, instance, integer, mapping
from deepgen_ppl.progress import progress_bar
from deepgen_ppl.typing import Array, Rng

__all__ = ["ais", "anneal"]

Carry = tuple[Position, Array, Array]


def forward_step(path: Path, carry: Carry, x: tuple[Rng, Array, Array]) -> tuple[Carry, None]:
    """One temperature up: weight, then move."""
    keep, log_w, lost = carry
    rng, low, high = x
    sent = path.summed_out(keep)
    log_w, lost = add_compensated(log_w, lost, path.log_ratio(keep, sent, low, high))
    state = path.transition(rng, keep, sent, high)
    return ({name: state[name] for name in keep}, log_w, lost), None


def reverse_step(path: Path, carry: Carry, x: tuple[Rng, Array, Array]) -> tuple[Carry, None]:
    """One temperature down: move by the reversal of the way up, then weight."""
    keep, log_w, lost = carry
    rng, low, high = x
    state = path.transition(rng, keep, path.summed_out(keep), high, backward=True)
    keep = {name: state[name] for name in keep}
    log_w, lost = add_compensated(log_w, lost, -path.log_ratio(keep, path.summed_out(keep), low, high))
    return (keep, log_w, lost), None


def _run(path: Path, rng: Rng, carry: Carry, low: Array, high: Array, *, step: Callable) -> Carry:
    engine = path.end.engine
    keys = engine.random.split(rng, low.shape[0])
    return engine.control.loop(lambda c, x: step(path, c, x), carry, (keys, low, high))[0]


def anneal(
    path: Path, rng: Rng, position: Position, log_w: Array, betas: np.ndarray, *, reverse: bool, progress: bool
) -> tuple[Position, np.ndarray]:
    """Runs along a path, from one of its ends to the other, spread over the devices that are present.

    Args:
        path: E_beta, with its transitions, their reversals and its increments of the weight.
        rng: generator.
        position: where the runs start: values of the layers kept, shapes (R, ..., n).
        log_w: what their log-weights start at, shape (R, ...).
        betas: inverse temperatures from 0 to 1.
        reverse: whether to go from 1 to 0.
        progress: whether to show a progress bar.

    Returns:
        Where the runs end, on one device, and their log-weights in float64.
    """
    engine, like = path.end.engine, path.end.like
    parts = pieces(betas, reverse=reverse)
    run = compiled(engine, _run, step=reverse_step if reverse else forward_step)
    carry: Carry = engine.control.shard((position, log_w, 0.0 * log_w), like)
    keys = engine.random.split(rng, len(parts))
    for part, key in zip(progress_bar(parts, "AIS", show=progress), keys, strict=True):
        low, high = (engine.arrays.asarray(b, like=like) for b in part)
        carry = run(path, key, carry, low, high)
    asarray, to_numpy = engine.arrays.asarray, engine.arrays.to_numpy
    return {name: asarray(to_numpy(x), like=like) for name, x in carry[0].items()}, to_numpy(carry[1]).astype(float)


def ais(
    machine: Energy,
    *,
    rng: Rng | int,
    betas: int | np.ndarray = 1000,
    num_runs: int = 200,
    start: Any = None,
    data: Any = None,
    reverse: bool = False,
    initial: Mapping[str, Array] | None = None,
    kernel: Any = None,
    progress: bool = False,
) -> LogNormalizer:
    """log Z by annealed importance sampling, of one machine or of each of a batch.

        log w = sum_k log f_(b_k)(x_(k-1)) - log f_(b_(k-1))(x_(k-1)),    x_k ~ T_(b_k)(. | x_(k-1)),    E[w] = Z / Z_a

    Args:
        machine: the machine, a batch of machines, or an energy of one's own (see `annealed`).
        rng: seed or generator.
        betas: number of inverse temperatures (equally spaced), or an increasing array from 0 to 1.
        num_runs: number of independent runs of each machine; below 100 the standard error is withheld, with a warning.
        start: machine at beta = 0 with the same layers, without couplings or with at most 2^20 joint states on its
            smaller side; by default the machine with its couplings cut (`decoupled`), whose visible layer has the
            base rates of `data` if given. One for all machines of a batch, or one for each.
        data: (N, V) for the base rates of the default start.
        reverse: anneal from the machine to the start.
        initial: draws from the machine for the reverse way, values of all layers with `num_runs` rows, (R, ..., n) for
            a batch; they are taken for inexact. Without them, exact draws are made where the machine is small enough.
        kernel: `HMC(...)` with a step size of its own for an energy that is no machine; by default a first run of
            annealing finds a step size for each temperature.
        progress: whether to show a progress bar.

    Returns:
        `LogNormalizer` with side `lower` (forward), or `upper` (reverse from exact draws), kind `bound`; a reverse
        estimate from `initial` has kind `estimate`. Forward runs carry their weighted particles. Of a batch, value and
        error have its shape, and the runs of each machine are independent of the others'.

    Raises:
        TypeError: for something else than a machine or an energy, or a kernel for a machine.
        ValueError: for temperatures that do not go from 0 to 1, a start whose log Z is not known, reverse runs
            without draws, draws for forward runs, or draws that are no states of the layers.

    Example:
        >>> import numpy as np
        >>> import deepgen_ppl.pyro as dg  # on NumPyro the same
        >>> rbm = dg.RBM.init(visible=6, hidden=3, rng=0, weight_scale=0.5)
        >>> log_z = dg.ais(rbm, rng=0, betas=50, num_runs=100)
        >>> bool(abs(log_z.value - dg.exact_log_normalizer(rbm).value) < 0.05), log_z.side
        (True, 'lower')

    References:
        Annealed Importance Sampling (Neal, 2001), eq. 3-12, https://arxiv.org/abs/physics/9803008; On the
        Quantitative Analysis of Deep Belief Networks (Salakhutdinov & Murray, 2008), eq. 14-19,
        https://doi.org/10.1145/1390156.1390266.
    """
    check_machine(machine)
    flag(reverse, "reverse")
    flag(progress, "progress")
    if start is not None:
        instance(start, "start", Energy, "a machine or an energy")
    if initial is not None:
        mapping(initial, "initial", "{'v': v, 'h': h}")
    rng = machine.engine.random.rng(rng, machine.like)
    if not isinstance(machine, BoltzmannMachine):
        options: dict[str, Any] = {"data": data, "reverse": reverse, "initial": initial, "kernel": kernel}
        return anneal_energy(
            machine, rng=rng, betas=betas, num_runs=num_runs, start=start, progress=progress, **options
        )
    if kernel is not None:
        raise TypeError(f"expected no kernel for a machine, whose layers are drawn in turn, got {kernel!r}")
    engine, betas, num_runs = machine.engine, check_betas(betas), integer(num_runs, "num_runs")
    start = start_of(machine, start, data)
    if initial is not None and not reverse:
        raise ValueError("expected initial=... with reverse=True, got it for forward runs, which start at `start`")
    if initial is not None:
        initial = given_draws(initial, machine, num_runs)
    elif reverse:
        check_drawable(machine)
    warn_of_few_runs(num_runs)
    log_z_start = log_z_of_start(start)
    first, rest = engine.random.split(rng, 2)
    position = draws_of(first, machine if reverse else start, num_runs) if initial is None else initial
    position = {n: position[n] for n in machine.structure.smaller_side[0]}
    zero = engine.arrays.asarray(np.zeros((num_runs, *machine.batch_shape)), like=machine.like)
    path = Path(start, machine)
    position, log_w = anneal(path, rest, position, zero, betas, reverse=reverse, progress=progress)
    method = f"AIS {'reverse' if reverse else 'forward'}, {len(betas)} temperatures, {num_runs} runs"
    if reverse:
        return reverse_estimate(machine, log_z_start, log_w, method, exact=initial is None)
    return forward_estimate(machine, log_z_start, log_w, method, position)
