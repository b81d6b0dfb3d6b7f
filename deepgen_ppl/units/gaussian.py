"""Real units."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepgen_ppl.engine import Engine
from deepgen_ppl.options import check_options, real
from deepgen_ppl.typing import Array, Distribution, Params, Rng
from deepgen_ppl.units.base import Unit

__all__ = ["Gaussian"]

NETWORK = "network"


@dataclass(frozen=True)
class Gaussian(Unit):
    """Real units with standard deviation sigma: s(x) = x, log m(x) = -x^2 / (2 sigma^2).

    A(eta) = sigma^2 eta^2 / 2 + log(2 pi sigma^2) / 2 and E[x] = sigma^2 eta: eta is mean / sigma^2, so that the energy
    is linear in biases, weights and the precision 1 / sigma^2.

    Args:
        size: number of units n.
        scale: the standard deviation sigma, known; None learns one for each unit (array `log_sigma`). `"network"`, for
            likelihoods of programs alone, takes it from the network, whose outputs are then (mean, log sigma).
    """

    scale: float | str | None = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale is not None and self.scale != NETWORK:
            check_options(self, scale=real(self.scale, "scale (None learns it)", low=0, open_low=True))

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
        return (log_sigma, {}) if self.scale is None else ({}, log_sigma)

    def curvature(self, params: Mapping[str, np.ndarray]) -> np.ndarray:
        """1 / sigma^2."""
        return np.exp(-2.0 * params["log_sigma"].astype(float))

    def likelihood_arrays(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """None where the network sends the scale."""
        return ({}, {}) if self.scale == NETWORK else self.init_arrays()

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
        """The precision is linear along the path: 1 / sigma^2 = (1 - beta) / sigma_a^2 + beta / sigma_b^2."""
        xp = engine.xp
        precision = engine.arrays.mix(beta, xp.exp(-2.0 * a["log_sigma"]), xp.exp(-2.0 * b["log_sigma"]))
        return {"log_sigma": -0.5 * xp.log(precision)}
