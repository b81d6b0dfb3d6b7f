r"""log p(x) of a directed model, datum by datum, from log-weights of rows that stand side by side.

    log p(x) >= E[ log 1/K sum_k w_k ],     w_k = p(x, z_k) / q(z_k | x),    z_k ~ q(z | x)
    log p(x)  = log sum_z p(x, z)                                            for finitely many z

Every datum is repeated, once for each particle or state: the program sees rows and nothing else, so that K draws are K
draws however it is written. Sums of weights are made in float64.

Reference: Importance Weighted Autoencoders (Burda et al., 2016), eq. 8 and section 5 (K = 5000 there).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from deepgen_ppl.data import Batch, num_rows, take
from deepgen_ppl.directed.program import Program
from deepgen_ppl.engine import Engine
from deepgen_ppl.log_p.latents import States, drawn, per_row, scored
from deepgen_ppl.progress import progress_bar
from deepgen_ppl.typing import Array, Rng

__all__ = ["enumerated_log_likelihood", "importance_log_likelihood", "log_sum_exp", "log_weights"]

ROWS = 25_000
"""Rows that go through the networks at once, repetitions counted."""


@functools.cache
def _compiled(engine: Engine, num: int, axes: tuple[tuple[str, int], ...] | None) -> Callable:
    """Log-weights of draws from the guide, or of states whose axes are given."""

    def weights(model: Program, rng: Rng, batch: Batch, shared: Batch, states: Batch) -> Array:
        """Log-weights, shape (num, N)."""
        run, xp = engine.host.run, engine.xp
        first, second = engine.random.split(rng, 2)
        rows = {name: _repeated(xp, x, num) for name, x in batch.items()}
        given = dict(shared) | {name: _beside(xp, states[name], axis, num_rows(batch)) for name, axis in axes or ()}
        with engine.host.bound():
            q = run(model.guide, rows, rng=first, values=given) if axes is None else {}
            p = scored(run(model.model, rows, rng=second, values=given | drawn(q)))
            log_w = per_row(xp, p.values()) - per_row(xp, (s for s in q.values() if not s.observed))
        return xp.reshape(log_w, (num, -1))

    return engine.control.compile(weights)


def _repeated(xp: Any, x: Array, num: int) -> Array:
    """Rows (N, ...) one behind the other `num` times."""
    return xp.reshape(xp.broadcast_to(x[None], (num, *x.shape)), (-1, *x.shape[1:]))


def _beside(xp: Any, x: Array, axis: int, rows: int) -> Array:
    """States (*plates, C, *event) for `rows` rows each: (*plates, C * rows, *event)."""
    shape = x.shape
    x = xp.broadcast_to(xp.expand_dims(x, axis=axis + 1), (*shape[: axis + 1], rows, *shape[axis + 1 :]))
    return xp.reshape(x, (*shape[:axis], -1, *shape[axis + 1 :]))


def log_weights(
    model: Program,
    batch: Batch,
    rng: Rng,
    num: int,
    *,
    rows: int,
    states: States | None = None,
    shared: Mapping[str, Array] | None = None,
) -> np.ndarray:
    """Log-weights (num, N) in float64, `rows` data at a time.

    Args:
        model: the program.
        batch: named arrays of N rows.
        rng: generator.
        num: number of draws for each datum, or of its states.
        rows: data that are repeated side by side.
        states: the states to weigh, in place of draws from the guide.
        shared: values of the sites that all data share.
    """
    total = num_rows(batch)
    rows = min(rows, total)
    evaluate = _compiled(model.engine, num, None if states is None else tuple(states.axes.items()))
    values = {} if states is None else states.values
    starts = range(0, total, rows)
    parts = []
    for start, key in zip(starts, model.engine.random.split(rng, len(starts)), strict=True):
        at = min(start, total - rows)  # pieces of one size: the last one goes back, and only its new rows are kept
        part = evaluate(model, key, take(batch, slice(at, at + rows)), dict(shared or {}), values)
        parts.append(model.engine.arrays.to_numpy(part)[:, start - at :])
    return np.concatenate(parts, axis=1).astype(float)


def log_sum_exp(log_w: np.ndarray) -> np.ndarray:
    """log sum exp over the first axis."""
    return np.logaddexp.reduce(log_w, axis=0)


def enumerated_log_likelihood(
    model: Program, batch: Batch, rng: Rng, states: States | None, shared: Mapping[str, Array] | None = None
) -> np.ndarray:
    """log sum_z p(x_n, z) over all joint states, or log p(x_n) where nothing local is latent; (N,), float64."""
    states = states or States(1, {}, {})
    return log_sum_exp(
        log_weights(model, batch, rng, states.count, rows=max(1, ROWS // states.count), states=states, shared=shared)
    )


def importance_log_likelihood(
    model: Program, data: Batch, rng: Rng, num_particles: int, *, show: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """log mean w for each datum, its delta-method variance, and the effective number of particles.

    Args:
        model: the program; its latent sites are all in the data plate.
        data: named arrays of N rows.
        rng: generator.
        num_particles: number K of particles, rounded up to whole pieces.
        show: whether to show a progress bar.

    Returns:
        Three arrays of shape (N,), float64, values in nats; and the number of particles used.
    """
    rows = min(100, num_rows(data))
    per_piece = min(num_particles, max(1, ROWS // rows))
    pieces = math.ceil(num_particles / per_piece)
    total = per_piece * pieces
    first = second = np.full(num_rows(data), -np.inf)
    keys = model.engine.random.split(rng, pieces)
    for key in progress_bar(keys, "importance weighting", show=show):
        log_w = log_weights(model, data, key, per_piece, rows=rows)
        first, second = np.logaddexp(first, log_sum_exp(log_w)), np.logaddexp(second, log_sum_exp(2.0 * log_w))
    with np.errstate(invalid="ignore", divide="ignore"):
        ess = np.nan_to_num(np.exp(2 * first - second))
        variances = np.maximum(1.0 / ess - 1.0 / total, 0.0)
    return first - math.log(total), variances, ess, total
