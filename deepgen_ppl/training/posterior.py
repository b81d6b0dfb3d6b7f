r"""Posteriors over the global latent sites of a program, as draws.

    p(x_n | D) ~ 1/S sum_s p(x_n | theta_s),    theta_s ~ p(theta | D), or an approximation of it

Reference: Bayesian Data Analysis (Gelman et al., 2013), eq. 1.4 and 7.5.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepgen_ppl.data import Batch, checked, num_rows, plain, take
from deepgen_ppl.directed.program import Program
from deepgen_ppl.engine import Engine
from deepgen_ppl.options import instance, integer, mapping
from deepgen_ppl.typing import Array, Rng

__all__ = ["Posterior", "guide_draws"]

PLATE = "data"
CELLS = 2**22
"""Draws times rows that are evaluated at once."""


@dataclass(frozen=True, eq=False, repr=False)
class Posterior:
    """Draws of the global latent sites of a program, those of one chain after another's.

        p(x_n | D) ~ 1/S sum_s p(x_n | theta_s),    theta_s ~ p(theta | D), or an approximation of it

    Args:
        program: the program, with its trained arrays.
        draws: site -> values, shape (S, ...).
        num_chains: number of chains C behind them; S is a multiple of it.
        stats: what the sampler tells of each draw: name -> (S,), or nothing.
        approximate: whether they are draws of a guide, which `loo` must not take for posterior draws.

    Raises:
        ValueError: for draws of different numbers, or a number that is no multiple of `num_chains`.
    """

    program: Program
    draws: Mapping[str, Array]
    num_chains: int = 1
    stats: Mapping[str, np.ndarray] | None = None
    approximate: bool = False

    def __post_init__(self) -> None:
        instance(self.program, "program", Program, "a program")
        shapes = {name: tuple(v.shape) for name, v in mapping(self.draws, "draws", "{'w': w}").items()}
        if not shapes or not all(shapes.values()) or len({shape[:1] for shape in shapes.values()}) > 1:
            raise ValueError(f"expected draws of one number for each site, got the shapes {shapes}")
        if self.num_draws % integer(self.num_chains, "num_chains"):
            raise ValueError(f"expected draws of {self.num_chains} chains of one length, got {self.num_draws}")

    @property
    def num_draws(self) -> int:
        """S."""
        return int(next(iter(self.draws.values())).shape[0])

    def log_likelihood(self, data: Any, *, rng: Rng | int = 0, num_particles: int = 100) -> np.ndarray:
        """log p(x_n | theta_s), shape (S, N), in nats.

        Where each datum has latent sites of its own they are summed out by importance weighting with the guide: the
        value is then a lower side in expectation.

        Args:
            data: one array, or named arrays.
            rng: seed or generator of the particles.
            num_particles: particles of the latent sites of each datum, where there are any.
        """
        engine = self.program.engine
        batch = checked(self.program, data)
        key = engine.random.rng(rng, self.program.like)
        particles = integer(num_particles, "num_particles") if self._has_local(batch, key) else 1
        evaluate = _compiled(engine, _log_likelihood, particles)
        return self._over(batch, lambda theta, rows: evaluate(self.program, theta, key, rows), CELLS // particles)

    def predict(self, data: Any, *, rng: Rng | int = 0) -> dict[str, np.ndarray]:
        """Means of what the program observes, given its inputs: name -> (S, N, ...).

        Args:
            data: the program's inputs, one array or named arrays; what it observes may be left out.
            rng: seed or generator of latent sites of each datum.
        """
        engine, program = self.program.engine, self.program
        batch = _inputs(program, data)
        key = engine.random.rng(rng, program.like)
        evaluate = _compiled(engine, _means, 1)

        def mean_of(name: str) -> np.ndarray:
            return self._over(batch, lambda theta, rows: evaluate(program, theta, key, rows)[name], CELLS)

        return {name: mean_of(name) for name in program.observed}

    def groups(self, data: Any = None) -> dict[str, dict[str, np.ndarray]]:
        """Arrays for ArviZ, by group and variable: (chain, draw, ...).

        Args:
            data: data whose pointwise log-likelihood is wanted too, under the name of what is observed.

        Raises:
            ValueError: for the log-likelihoods of draws of a guide: ArviZ's `loo` weighs those of the posterior.
        """
        if data is not None and self.approximate:
            raise ValueError(
                "expected draws of the posterior for a group of pointwise log-likelihoods, which loo weighs, got draws "
                "of a guide: log_likelihood(data) has the numbers"
            )
        found = {"posterior": {name: self._by_chain(v) for name, v in self.draws.items()}}
        if self.stats:
            found["sample_stats"] = {name: self._by_chain(v) for name, v in self.stats.items()}
        if data is not None:
            found["log_likelihood"] = {self.program.data_name: self._by_chain(self.log_likelihood(data))}
        return found

    def _by_chain(self, x: Any) -> np.ndarray:
        plain = self.program.engine.arrays.to_numpy(x)
        return plain.reshape(self.num_chains, -1, *plain.shape[1:])

    def _over(self, batch: Batch, evaluate: Callable[[Any, Batch], Any], cells: int) -> np.ndarray:
        """Results (S, N, ...) in pieces of rows and draws."""
        to_numpy, rows = self.program.engine.arrays.to_numpy, num_rows(batch)
        width = min(rows, 1000)
        step = max(1, cells // width)
        pieces = []
        for at in range(0, self.num_draws, step):
            theta = take(self.draws, slice(at, at + step))
            parts = [to_numpy(evaluate(theta, take(batch, slice(r, r + width)))) for r in range(0, rows, width)]
            pieces.append(np.concatenate(parts, axis=1))
        return np.concatenate(pieces)

    def _has_local(self, batch: Batch, key: Rng) -> bool:
        engine = self.program.engine
        with engine.host.bound():
            sites = engine.host.run(self.program.model, take(batch, slice(0, 1)), rng=key)
        return any(s.inside(PLATE) for s in sites.values() if not s.observed)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {tuple(v.shape[1:])}" for name, v in self.draws.items())
        chains = f" of {self.num_chains} chains" if self.num_chains > 1 else ""
        return f"Posterior({self.num_draws} draws{chains}: {shapes})"


def _inputs(program: Program, data: Any) -> dict[str, Array]:
    """Named arrays that are given, those that the program observes left out."""
    given = sorted(program.inputs - program.observed.keys())
    if hasattr(data, "shape") and len(given) == 1:
        data = {given[0]: data}
    if not isinstance(data, Mapping):
        raise TypeError(f"expected the inputs {given} as an array or a dict of arrays, got {type(data).__name__}")
    arrays = {name: x for name, x in data.items() if name not in program.observed}
    if not arrays or arrays.keys() - set(given):
        raise ValueError(f"expected inputs among {given} for {type(program).__name__}, got {sorted(data)}")
    for name, x in arrays.items():
        rows = plain(program.engine, x, name)
        if rows.dtype.kind not in "buif" or not rows.ndim or not np.isfinite(rows).all():
            raise ValueError(f"expected finite rows of numbers in the inputs {name}, got shape {rows.shape}")
    return {name: program.engine.arrays.asarray(x, like=program.like) for name, x in arrays.items()}


def guide_draws(program: Program, batch: Batch, rng: Rng, num_draws: int) -> dict[str, Array]:
    """Draws of the guide's global sites, name -> (S, ...).

    Raises:
        ValueError: for a guide that has none.
    """
    engine = program.engine
    draws = _compiled(engine, _guide_draws, num_draws)(program, take(batch, slice(0, 1)), rng)
    if not draws:
        raise ValueError(f"expected a guide with global latent sites, got {program!r}, where each datum has its own")
    return draws


@functools.cache
def _compiled(engine: Engine, fn: Callable, num: int) -> Callable:
    return engine.control.compile(functools.partial(fn, num))


def _guide_draws(num_draws: int, program: Program, batch: Batch, rng: Rng) -> dict[str, Array]:
    engine = program.engine

    def one(key: Rng) -> dict[str, Array]:
        with engine.host.bound():
            sites = engine.host.run(program.guide, batch, rng=key)
        latent = {name: s for name, s in sites.items() if not s.observed and not s.auxiliary}
        return {name: s.value for name, s in latent.items() if not s.inside(PLATE)}

    return engine.control.map(one, engine.random.split(rng, num_draws))


def _log_likelihood(num_particles: int, program: Program, thetas: Mapping[str, Array], rng: Rng, batch: Batch) -> Array:
    """(S, N): the local terms of model less guide, log-mean-exp over particles."""
    engine = program.engine

    def one(theta: Mapping[str, Array]) -> Array:
        run, (first, second) = engine.host.run, engine.random.split(rng, 2)
        with engine.host.bound():
            q = run(program.guide, batch, rng=first, values=theta, particles=num_particles, pathwise=False)
            local = {name: s for name, s in q.items() if not s.observed and s.inside(PLATE)}
            p = run(program.model, batch, rng=second, values={**theta, **local})
        signed = [*((s, 1.0) for s in p.values()), *((s, -1.0) for s in q.values())]
        total: Any = 0.0
        for site, sign in signed:
            if site.inside(PLATE):
                total = total + sign * _rows(engine, site)
        return engine.special.logsumexp(total, 0) - math.log(total.shape[0])

    return engine.control.map(one, dict(thetas))


def _rows(engine: Engine, site: Any) -> Array:
    """Log-probability summed over all axes but particles and rows: (K, N), or (1, N)."""
    x = site.log_prob if site.particles else site.log_prob[None]
    return engine.xp.sum(x, axis=tuple(range(1, x.ndim - 1))) if x.ndim > 2 else x


def _means(num: int, program: Program, thetas: Mapping[str, Array], rng: Rng, batch: Batch) -> dict[str, Array]:
    engine = program.engine

    def one(theta: Mapping[str, Array]) -> dict[str, Array]:
        with engine.host.bound():
            sites = engine.host.run(program.model, batch, rng=rng, values=theta)
        return {name: sites[name].fn.mean for name in program.observed}

    return engine.control.map(one, dict(thetas))
