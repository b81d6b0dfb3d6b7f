r"""The kinds of units: Bernoulli, Spin, Categorical, Gaussian. Each opens with its s, m, A and mean; see `unit`.

Reference: Exponential Family Harmoniums with an Application to Information Retrieval (Welling et al., 2004), eq. 1-5.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from deepgen_ppl.typing import Array, Distribution, Params, Rng

if TYPE_CHECKING:
    from deepgen_ppl.engines.base import Engine

from deepgen_ppl.undirected.unit import Unit, shown

__all__ = ["Bernoulli", "Categorical", "Gaussian", "Spin"]


@dataclass(frozen=True)
class Bernoulli(Unit):
    """Binary units x in {0, 1}: s(x) = x, m = 1, A(eta) = log(1 + e^eta), E[x] = sigmoid(eta)."""

    @property
    def states(self) -> np.ndarray:
        """0 and 1."""
        return np.array([0.0, 1.0])

    def log_partition(self, engine: Engine, eta: Array, params: Params) -> Array:
        """log(1 + e^eta)."""
        return engine.special.softplus(eta)

    def mean(self, engine: Engine, eta: Array, params: Params) -> Array:
        """sigmoid(eta)."""
        return engine.special.sigmoid(eta)

    def draw(self, engine: Engine, rng: Rng, eta: Array, params: Params) -> Array:
        """1 with probability sigmoid(eta)."""
        return engine.random.bernoulli(rng, eta)

    def distribution(self, engine: Engine, eta: Array, params: Params) -> Distribution:
        """The host's Bernoulli with logits eta."""
        return engine.host.dist.Bernoulli(logits=eta).to_event(1)

    def support(self, engine: Engine) -> Any:
        """Booleans."""
        return engine.host.constraints.independent(engine.host.constraints.boolean, 1)

    def problem(self, x: np.ndarray) -> str | None:
        """Values other than 0 and 1."""
        if np.isin(x, (0, 1)).all():
            return None
        return f"only 0 and 1 for Bernoulli units, got {shown(x)}; deepgen_ppl.datasets.binarize makes them binary"

    def eta_from_mean(self, mean: np.ndarray, params: Mapping[str, np.ndarray]) -> np.ndarray:
        """logit(mean), means kept inside [0.01, 0.99]."""
        mean = np.clip(mean, 0.01, 0.99)
        return np.log(mean) - np.log1p(-mean)


@dataclass(frozen=True)
class Spin(Unit):
    """Spins x in {-1, +1}: s(x) = x, m = 1, A(eta) = log(2 cosh eta), E[x] = tanh(eta)."""

    @property
    def states(self) -> np.ndarray:
        """-1 and +1."""
        return np.array([-1.0, 1.0])

    def log_partition(self, engine: Engine, eta: Array, params: Params) -> Array:
        """log(e^eta + e^-eta) = softplus(2 eta) - eta."""
        return engine.special.softplus(2.0 * eta) - eta

    def mean(self, engine: Engine, eta: Array, params: Params) -> Array:
        """tanh(eta)."""
        return engine.xp.tanh(eta)

    def draw(self, engine: Engine, rng: Rng, eta: Array, params: Params) -> Array:
        """+1 with probability sigmoid(2 eta)."""
        return 2.0 * engine.random.bernoulli(rng, 2.0 * eta) - 1.0

    def distribution(self, engine: Engine, eta: Array, params: Params) -> Distribution:
        """Our own host distribution (an affine transform of a Bernoulli would keep a Jacobian)."""
        return engine.host.spin(2.0 * eta).to_event(1)

    def support(self, engine: Engine) -> Any:
        """-1 and +1."""
        return engine.host.constraints.independent(engine.host.spin.unit_support, 1)

    def problem(self, x: np.ndarray) -> str | None:
        """Values other than -1 and +1."""
        return None if np.isin(x, (-1, 1)).all() else f"only -1 and +1 for Spin units, got {shown(x)}"

    def eta_from_mean(self, mean: np.ndarray, params: Mapping[str, np.ndarray]) -> np.ndarray:
        """artanh(mean), means kept inside [-0.98, 0.98]."""
        return np.arctanh(np.clip(mean, -0.98, 0.98))


@dataclass(frozen=True)
class Categorical(Unit):
    """Units with k states x in {0..k-1}: s(x) = one-hot(x), m = 1, A(eta) = log sum_j e^eta_j, E[s] = softmax(eta).

    Statistic and natural parameters of a layer are flat: component i k + j belongs to state j of unit i.

    Args:
        size: number of units n.
        num_states: number of states k of each.
    """

    num_states: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_states < 2:
            raise ValueError(f"expected at least 2 states, got {self.num_states}")

    @property
    def width(self) -> int:
        """n k."""
        return self.size * self.num_states

    @property
    def states(self) -> np.ndarray:
        """0..k-1."""
        return np.arange(self.num_states, dtype=float)

    def _by_unit(self, engine: Engine, eta: Array) -> Array:
        return engine.xp.reshape(eta, (*eta.shape[:-1], self.size, self.num_states))

    def _flat(self, engine: Engine, eta: Array) -> Array:
        return engine.xp.reshape(eta, (*eta.shape[:-2], self.width))

    def statistic(self, engine: Engine, x: Array, like: Array) -> Array:
        """one-hot(x), flat."""
        return self._flat(engine, engine.special.one_hot(x, self.num_states, like))

    def log_partition(self, engine: Engine, eta: Array, params: Params) -> Array:
        """Log sum over the states."""
        return engine.special.logsumexp(self._by_unit(engine, eta), -1)

    def mean(self, engine: Engine, eta: Array, params: Params) -> Array:
        """softmax over the states, flat."""
        return self._flat(engine, engine.special.softmax(self._by_unit(engine, eta), -1))

    def draw(self, engine: Engine, rng: Rng, eta: Array, params: Params) -> Array:
        """State j with probability softmax(eta)_j."""
        return engine.arrays.cast(engine.random.categorical(rng, self._by_unit(engine, eta)), eta)

    def distribution(self, engine: Engine, eta: Array, params: Params) -> Distribution:
        """The host's Categorical with logits eta."""
        return engine.host.dist.Categorical(logits=self._by_unit(engine, eta)).to_event(1)

    def support(self, engine: Engine) -> Any:
        """Integers 0..k-1."""
        c = engine.host.constraints
        return c.independent(c.integer_interval(0, self.num_states - 1), 1)

    def observed(self, engine: Engine, x: Array, like: Array) -> Array:
        """Integers."""
        return engine.xp.astype(x, engine.xp.int32)

    def problem(self, x: np.ndarray) -> str | None:
        """Values that are no state."""
        if ((x == np.round(x)) & (x >= 0) & (x < self.num_states)).all():
            return None
        return f"integers from 0 to {self.num_states - 1} for Categorical units, got {shown(x)}"

    def eta_from_mean(self, mean: np.ndarray, params: Mapping[str, np.ndarray]) -> np.ndarray:
        """log of the state frequencies, mixed with 1 % of the uniform law."""
        return np.log(0.99 * mean + 0.01 / self.num_states)


@dataclass(frozen=True)
class Gaussian(Unit):
    """Real units with standard deviation sigma: s(x) = x, log m(x) = -x^2 / (2 sigma^2).

    A(eta) = sigma^2 eta^2 / 2 + log(2 pi sigma^2) / 2 and E[x] = sigma^2 eta: eta is mean / sigma^2, so that the energy
    is linear in biases, weights and the precision 1 / sigma^2.

    Args:
        size: number of units n.
        scale: the standard deviation sigma, known; None learns one for each unit (array `log_sigma`).
    """

    scale: float | None = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale is not None and not self.scale > 0:
            raise ValueError(f"expected a positive scale, or None to learn it, got {self.scale}")

    def init_arrays(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """log sigma, trained if the scale is to be learned."""
        log_sigma = {"log_sigma": np.full(self.size, math.log(1.0 if self.scale is None else self.scale))}
        return (log_sigma, {}) if self.scale is None else ({}, log_sigma)

    def log_base(self, engine: Engine, x: Array, params: Params) -> Array:
        """-sum x^2 / (2 sigma^2)."""
        x = engine.arrays.cast(x, params["log_sigma"])
        return -0.5 * engine.xp.sum((x * engine.xp.exp(-params["log_sigma"])) ** 2, axis=-1)

    def log_partition(self, engine: Engine, eta: Array, params: Params) -> Array:
        """sigma^2 eta^2 / 2 + log(2 pi sigma^2) / 2."""
        log_sigma = params["log_sigma"]
        return 0.5 * (engine.xp.exp(log_sigma) * eta) ** 2 + log_sigma + 0.5 * math.log(2 * math.pi)

    def mean(self, engine: Engine, eta: Array, params: Params) -> Array:
        """sigma^2 eta."""
        return engine.xp.exp(2.0 * params["log_sigma"]) * eta

    def draw(self, engine: Engine, rng: Rng, eta: Array, params: Params) -> Array:
        """sigma^2 eta + sigma z."""
        sigma = engine.xp.exp(params["log_sigma"])
        return sigma * (sigma * eta + engine.random.normal(rng, eta.shape, eta))

    def distribution(self, engine: Engine, eta: Array, params: Params) -> Distribution:
        """The host's Normal(sigma^2 eta, sigma)."""
        return self.likelihood(engine, self.mean(engine, eta, params), params)

    def support(self, engine: Engine) -> Any:
        """Real vectors."""
        return engine.host.constraints.independent(engine.host.constraints.real, 1)

    def problem(self, x: np.ndarray) -> str | None:
        """Nothing: every finite value will do."""
        return None

    def eta_from_mean(self, mean: np.ndarray, params: Mapping[str, np.ndarray]) -> np.ndarray:
        """mean / sigma^2."""
        return mean * np.exp(-2.0 * params["log_sigma"])

    def likelihood(self, engine: Engine, output: Array, params: Params) -> Distribution:
        """Normal(output, sigma): a network sends the mean."""
        sigma = engine.xp.broadcast_to(engine.xp.exp(params["log_sigma"]), output.shape)
        return engine.host.dist.Normal(output, sigma).to_event(1)

    def expectation(self, engine: Engine, output: Array, params: Params) -> Array:
        """The output itself."""
        return output

    def output_from_mean(self, mean: np.ndarray, params: Mapping[str, np.ndarray]) -> np.ndarray:
        """The mean itself."""
        return mean

    def mix(self, engine: Engine, beta: Array, a: Params, b: Params) -> dict[str, Array]:
        """The precision is linear along the path: 1 / sigma^2 = (1 - beta) / sigma_a^2 + beta / sigma_b^2."""
        xp = engine.xp
        precision = engine.arrays.mix(beta, xp.exp(-2.0 * a["log_sigma"]), xp.exp(-2.0 * b["log_sigma"]))
        return {"log_sigma": -0.5 * xp.log(precision)}
