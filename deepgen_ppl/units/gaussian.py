r"""Real units.

    s(x) = x,                log m(x) = -x^2 / (2 sigma^2),        A(eta) = sigma^2 eta^2 / 2 + log(2 pi sigma^2) / 2
    s(x) = z = (x - l) / u,  log m(x) = -(x - l)^2 / (2 sigma^2),  A(eta) = tau^2 eta^2 / 2 + log(2 pi sigma^2) / 2

The second row is that of standardized units, with a location l and a unit of measurement u for each, tau = sigma / u:
the law of x is that of z under the first row, less log u. What couples to z knows no units, and neither do gradients.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepgen_ppl.engine import Engine
from deepgen_ppl.options import check_options, instance, real
from deepgen_ppl.typing import Array, Distribution, Params, Rng
from deepgen_ppl.units.base import Unit

__all__ = ["Gaussian"]

NETWORK = "network"


@dataclass(frozen=True)
class Gaussian(Unit):
    """Real units with standard deviation sigma: s(x) = x, log m(x) = -x^2 / (2 sigma^2).

    A(eta) = sigma^2 eta^2 / 2 + log(2 pi sigma^2) / 2 and E[x] = sigma^2 eta: eta is mean / sigma^2, so that the energy
    is linear in biases, weights and the precision 1 / sigma^2.

    Standardized units are the same of z = (x - l) / u: learning does not depend on the units of the data.

    Args:
        size: number of units n.
        scale: the standard deviation sigma, known; None learns one for each unit (array `log_sigma`). `"network"`, for
            likelihoods of programs alone, takes it from the network, whose outputs are then (mean, log sigma).
        standardized: whether s(x) = (x - l) / u, for layers of machines alone. l and u are the arrays `location` and
            `log_unit`, which are not trained: 0 and log 1, or the data's where a machine is made with `data=`.

    Raises:
        ValueError: for a size that is no positive integer, or a scale that is no positive number.

    Example:
        >>> import deepgen_ppl.numpyro as dg
        >>> dg.RBM.init(visible=dg.Gaussian(4, scale=0.5), hidden=2, rng=0)
        RBM(v: Gaussian(4, scale=0.5), h: Bernoulli(2); v-h, centered; float32)
    """

    scale: float | str | None = 1.0
    standardized: bool = False

    def __repr__(self) -> str:
        more = ", standardized=True" if self.standardized else ""
        return f"Gaussian(size={self.size}, scale={self.scale!r}{more})"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale is not None and self.scale != NETWORK:
            check_options(self, scale=real(self.scale, "scale (None learns it)", low=0, open_low=True))
        instance(self.standardized, "standardized", bool, "True or False")

    @property
    def output_width(self) -> int:
        """n means, and n log sigma where they are the network's."""
        return 2 * self.size if self.scale == NETWORK else self.size

    def init_arrays(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """log sigma, trained if the scale is to be learned.

        Raises:
            ValueError: for a scale that comes from a network.
        """
        if isinstance(self.scale, str):  # "network"
            raise ValueError(  # noqa: TRY004 - a value that has no use here
                f"expected a layer with a known scale, or scale=None to learn it, got {self!r}: "
                "only the likelihood of a program has a network"
            )
        log_sigma = {"log_sigma": np.full(self.size, math.log(self.scale or 1.0))}
        trained, fixed = (log_sigma, {}) if self.scale is None else ({}, log_sigma)
        return trained, fixed | {name: np.zeros(self.size) for name in self.statistic_arrays}

    def arrays_from_data(self, x: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """A sigma that is learned starts at the standard deviations of the data, 1 where they do not vary.

        Standardized units have these for u, and the means for l.
        """
        x = x.astype(float)
        vary = x.max(0) > x.min(0)
        log_deviation = np.log(np.where(vary, x.std(0), 1.0))
        found = {"log_sigma": log_deviation, "location": x.mean(0), "log_unit": log_deviation}
        trained, fixed = self.init_arrays()
        return {k: found[k] for k in trained}, fixed | {k: found[k] for k in self.statistic_arrays}

    @property
    def statistic_arrays(self) -> tuple[str, ...]:
        """Location and unit of measurement of standardized units."""
        return ("location", "log_unit") if self.standardized else ()

    def _log_tau(self, params: Params) -> Array:
        """log(sigma / u): standard deviation of s(x)."""
        return params["log_sigma"] - params["log_unit"] if self.standardized else params["log_sigma"]

    def _value(self, engine: Engine, s: Array, params: Params) -> Array:
        """x = l + u s."""
        return params["location"] + engine.xp.exp(params["log_unit"]) * s if self.standardized else s

    def curvature(self, params: Mapping[str, np.ndarray]) -> np.ndarray:
        """1 / tau^2."""
        return np.exp(-2.0 * self._log_tau({k: v.astype(float) for k, v in params.items()}))

    def likelihood_arrays(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """None where the network sends the scale.

        Raises:
            ValueError: for standardized units.
        """
        if self.standardized:
            raise ValueError(
                f"expected a likelihood that is not standardized, got {self!r}, which is for layers of machines: "
                "standardize the data of a program by datasets.standardize"
            )
        return ({}, {}) if self.scale == NETWORK else self.init_arrays()

    def statistic(self, engine: Engine, x: Array, like: Array, params: Params) -> Array:
        """x, or (x - l) / u."""
        x = engine.arrays.cast(x, like)
        return (x - params["location"]) * engine.xp.exp(-params["log_unit"]) if self.standardized else x

    def log_base(self, engine: Engine, x: Array, params: Params) -> Array:
        """-sum x^2 / (2 sigma^2), or -sum (x - l)^2 / (2 sigma^2)."""
        x = engine.arrays.cast(x, params["log_sigma"])
        x = x - params["location"] if self.standardized else x
        return -0.5 * engine.xp.sum((x * engine.xp.exp(-params["log_sigma"])) ** 2, axis=-1)

    def log_partition(self, engine: Engine, eta: Array, params: Params) -> Array:
        """tau^2 eta^2 / 2 + log(2 pi sigma^2) / 2."""
        tau = engine.xp.exp(self._log_tau(params))
        return 0.5 * (tau * eta) ** 2 + params["log_sigma"] + 0.5 * math.log(2 * math.pi)

    def mean(self, engine: Engine, eta: Array, params: Params) -> Array:
        """tau^2 eta: of s(x)."""
        return engine.xp.exp(2.0 * self._log_tau(params)) * eta

    def draw(self, engine: Engine, rng: Rng, eta: Array, params: Params) -> Array:
        """tau^2 eta + tau times noise, as a value of x."""
        tau = engine.xp.exp(self._log_tau(params))
        return self._value(engine, tau * (tau * eta + engine.random.normal(rng, eta.shape, eta)), params)

    def distribution(self, engine: Engine, eta: Array, params: Params) -> Distribution:
        """The host's Normal(l + u tau^2 eta, sigma)."""
        return self.likelihood(engine, self._value(engine, self.mean(engine, eta, params), params), params)

    def support(self, engine: Engine) -> Any:
        """Real vectors."""
        return engine.host.constraints.independent(engine.host.constraints.real, 1)

    def problem(self, x: np.ndarray) -> str | None:
        """Nothing: every finite value will do."""
        return None

    def eta_from_mean(self, mean: np.ndarray, params: Mapping[str, np.ndarray]) -> np.ndarray:
        """mean / tau^2, of the mean of s(x)."""
        return mean * np.exp(-2.0 * self._log_tau(params))

    def likelihood(self, engine: Engine, output: Array, params: Params) -> Distribution:
        """Normal(output, sigma): a network sends the mean, and where it sends the scale (mean, log sigma)."""
        if self.scale == NETWORK:
            output, log_sigma = output[..., : self.size], output[..., self.size :]
        else:
            log_sigma = engine.xp.broadcast_to(params["log_sigma"], output.shape)
        return engine.host.dist.Normal(output, engine.xp.exp(log_sigma)).to_event(1)

    def expectation(self, engine: Engine, output: Array, params: Params) -> Array:
        """The mean that the network sends."""
        return output[..., : self.size]

    def output_from_mean(self, mean: np.ndarray, params: Mapping[str, np.ndarray]) -> np.ndarray:
        """The mean itself, with log sigma = 0."""
        return np.concatenate([mean, np.zeros(self.output_width - self.size)])

    def mix(self, engine: Engine, beta: Array, a: Params, b: Params) -> dict[str, Array]:
        """The precision is linear along the path: 1 / sigma^2 = (1 - beta) / sigma_a^2 + beta / sigma_b^2.

        Location and unit of measurement are those of both ends.
        """
        xp = engine.xp
        precision = engine.arrays.mix(beta, xp.exp(-2.0 * a["log_sigma"]), xp.exp(-2.0 * b["log_sigma"]))
        return {**a, "log_sigma": -0.5 * xp.log(precision)}
