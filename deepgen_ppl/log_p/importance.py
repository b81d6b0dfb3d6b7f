r"""Test log-likelihood of a directed model by importance weighting.

    log p(x) >= E[ log 1/K sum_k p(x, z_k) / q(z_k | x) ],    z_k ~ q(z | x)

Reference: Importance Weighted Autoencoders (Burda et al., 2016), eq. 8 and section 5 (K = 5000 there).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np

from deepgen_ppl.data import Batch, num_rows, take
from deepgen_ppl.directed.program import Program
from deepgen_ppl.engine import Engine
from deepgen_ppl.objectives.iwae import IWAE
from deepgen_ppl.typing import Array, Rng

__all__ = ["importance_log_likelihood"]

ROWS = 25_000
"""Particles times data that go through the networks at once."""


@functools.cache
def _compiled(engine: Engine, particles: int, pieces: int) -> Callable:
    objective = IWAE(num_particles=particles)

    def sums(model: Program, rng: Rng, batch: Batch) -> tuple[Array, Array]:
        """log sum_k w and log sum_k w^2 over all pieces, shapes (N,)."""
        logsumexp, xp = engine.special.logsumexp, engine.xp

        def piece(carry: tuple[Array, Array], key: Rng) -> tuple[tuple[Array, Array], None]:
            with engine.host.bound():
                w = objective.log_weights(engine, key, model.model, model.guide, (), batch).local[0]
            return (xp.logaddexp(carry[0], logsumexp(w, 0)), xp.logaddexp(carry[1], logsumexp(2.0 * w, 0))), None

        empty = xp.broadcast_to(xp.zeros_like(model.like.reshape(-1)[0]) - float("inf"), (num_rows(batch),))
        return engine.control.loop(piece, (empty, empty), engine.random.split(rng, pieces))[0]

    return engine.control.compile(sums)


def importance_log_likelihood(
    model: Program, data: Batch, rng: Rng, num_particles: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """log mean w for each datum, its delta-method variance, and the effective number of particles.

    Args:
        model: the program; its latent sites are all in the data plate.
        data: named arrays of N rows.
        rng: generator.
        num_particles: number K of particles, rounded up to whole pieces.

    Returns:
        Three arrays of shape (N,), float64, values in nats; and the number of particles used.
    """
    rows = num_rows(data)
    batch = min(100, rows)
    per_piece = min(num_particles, max(1, ROWS // batch))
    pieces = math.ceil(num_particles / per_piece)
    evaluate, total = _compiled(model.engine, per_piece, pieces), per_piece * pieces
    starts = range(0, rows, batch)
    log_sums = []
    for at, key in zip(starts, model.engine.random.split(rng, len(starts)), strict=True):
        at = min(at, rows - batch)
        sums = evaluate(model, key, take(data, slice(at, at + batch)))
        log_sums.append([model.engine.arrays.to_numpy(s) for s in sums])
    last = rows - batch * (len(starts) - 1)
    first, second = (np.concatenate([s[i] for s in log_sums[:-1]] + [log_sums[-1][i][batch - last :]]) for i in (0, 1))
    first, second = first.astype(float), second.astype(float)
    ess = np.exp(2 * first - second)
    return first - math.log(total), np.maximum(1.0 / ess - 1.0 / total, 0.0), ess, total
