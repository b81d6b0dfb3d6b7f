"""Vectors of counts with a given total."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from deepgen_ppl.engine import Engine
from deepgen_ppl.options import check_options, integer
from deepgen_ppl.typing import Array, Distribution, Params, Rng
from deepgen_ppl.units.base import Unit, shown

__all__ = ["Multinomial"]


@dataclass(frozen=True)
class Multinomial(Unit):
    r"""Counts x of K kinds whose sum D is given: D draws of one of K kinds, such as the words of a document.

        s(x) = x,   m(x) = D! / prod_k x_k!  where sum_k x_k = D, else 0,   A(eta) = D log sum_k e^eta_k,
        E[x] = D softmax(eta)

    The layer is one factor: A has one term, shape (..., 1). D is an array of the layer, `total`, of shape (), or (N,)
    for N machines; a negative one says that it is not known, and the layer has then energies but no law.

    Args:
        size: number of kinds K.
        longest: the largest total D that there may be.

    Raises:
        ValueError: for a size or a total that is no positive integer.

    Example:
        >>> import deepgen_ppl.numpyro as dg
        >>> dg.Multinomial(3, longest=10)
        Multinomial(size=3, longest=10)
    """

    longest: int = 100

    factorizes: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self, longest=integer(self.longest, "longest"))

    @property
    def measure(self) -> str:
        """Counting measure on the count vectors of one total."""
        return f"counts of a given total in N^{self.size}"

    @property
    def integer(self) -> bool:
        """Integers."""
        return True

    @property
    def range(self) -> tuple[float, float]:
        """From 0 to the largest total."""
        return 0.0, float(self.longest)

    def init_arrays(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """A total that is not known."""
        return {}, {"total": np.array(-1.0)}

    def _total(self, engine: Engine, params: Params) -> Array:
        """D, NaN where it is not known and cannot be read now.

        Raises:
            ValueError: where it can be read and is not known.
        """
        total = params["total"]
        if engine.arrays.is_concrete(total) and (engine.arrays.to_numpy(total) < 0).any():
            raise ValueError(
                f"expected the totals of a layer of {self!r}, got a machine that does not know them: give the lengths, "
                "machine.given({'lengths': lengths})"
            )
        return engine.xp.where(total < 0, float("nan") * total, total)

    def log_base(self, engine: Engine, x: Array, params: Params) -> Array:
        """log D! - sum log x_k!, minus infinity where the sum of x is not D."""
        lgamma, total, own = engine.special.lgamma, params["total"], engine.xp.sum(x, axis=-1)
        log_m = lgamma(own + 1.0) - engine.xp.sum(lgamma(x + 1.0), axis=-1)
        return engine.xp.where((total < 0) | (own == total), log_m, -float("inf"))

    def log_partition(self, engine: Engine, eta: Array, params: Params) -> Array:
        """D log sum_k e^eta_k, shape (..., 1)."""
        return (self._total(engine, params) * engine.special.logsumexp(eta, -1))[..., None]

    def mean(self, engine: Engine, eta: Array, params: Params) -> Array:
        """D softmax(eta)."""
        return self._total(engine, params)[..., None] * engine.special.softmax(eta, -1)

    def draw(self, engine: Engine, rng: Rng, eta: Array, params: Params) -> Array:
        """D uniform numbers, counted between the cumulative probabilities."""
        xp, total = engine.xp, self._total(engine, params)
        cumulative = xp.cumulative_sum(engine.special.softmax(eta, -1), axis=-1)
        lead = np.broadcast_shapes(tuple(total.shape), tuple(eta.shape[:-1]))
        u = engine.random.uniform(rng, (*lead, self.longest), eta)
        place = engine.arrays.asarray(np.arange(self.longest), like=eta)
        u = xp.sort(xp.where(place < total[..., None], u, 2.0 + u), axis=-1)
        edges = xp.broadcast_to(cumulative / cumulative[..., -1:], (*lead, self.size))
        rows = xp.reshape(u, (-1, self.longest)), xp.reshape(edges, (-1, self.size))
        below = engine.control.map(lambda row: xp.searchsorted(*row), rows)
        below = xp.reshape(engine.arrays.cast(below, eta), (*lead, self.size))
        x = xp.concat([below[..., :1], below[..., 1:] - below[..., :-1]], axis=-1)
        return x + 0.0 * total[..., None]

    def distribution(self, engine: Engine, eta: Array, params: Params) -> Distribution:
        """The host's Multinomial, where all totals are equal and can be read.

        Raises:
            NotImplementedError: for totals that differ, or inside compiled code.
        """
        total = self._total(engine, params)
        values = np.unique(engine.arrays.to_numpy(total)).tolist() if engine.arrays.is_concrete(total) else None
        if values is None or len(values) != 1:
            raise NotImplementedError(
                f"expected one total for a distribution of the host, got {values or 'one inside compiled code'}: "
                "draw from it with machine.draw(rng, block, state), or ask for machine.mean(block, state)"
            )
        return engine.host.dist.Multinomial(int(values[0]), logits=eta)

    def support(self, engine: Engine) -> Any:
        """Integers from 0."""
        return engine.host.constraints.independent(engine.host.constraints.nonnegative_integer, 1)

    def problem(self, x: np.ndarray) -> str | None:
        """Values that are no counts, or too many of them."""
        if not ((x >= 0) & (x == np.round(x))).all():
            return f"counts 0, 1, .. for Multinomial units, got {shown(x)}"
        if (most := x.sum(-1).max()) > self.longest:
            return f"at most {self.longest} counts in all for {self!r}, got {most:g}: say longest={most:g}"
        return None

    def eta_from_mean(self, mean: np.ndarray, params: Mapping[str, np.ndarray]) -> np.ndarray:
        """log of the shares of the kinds, mixed with 1 % of the uniform law."""
        share = mean / max(float(mean.sum()), 1e-12)
        return np.log(0.99 * share + 0.01 / self.size)
