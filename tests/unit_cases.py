"""The table of units: name -> how to build a layer of any size, and the law of one unit. One more unit is one row."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy import special, stats

__all__ = ["INDEPENDENT", "UNITS", "UnitCase"]


@dataclass(frozen=True)
class UnitCase:
    """One row.

    Args:
        build: `(dg, size)` -> the unit.
        values: the values of one unit, or a grid of quadrature that leaves nothing of a density outside.
        law: `(x, eta, arrays)` -> log q(x; eta) of one unit with natural parameter eta (k,), from SciPy.
        eta: natural parameters of one unit, shape (rows, k).
        wrong: values that are refused, and the sentence.
        arrays: arrays of the base measure of one unit, and
        other: those of another end of a path.
        step: width of the grid's cells; None for values that are summed.
        counts: whether the values are counts without end, of which `values` are all that matter.
        joint: whether the units of a layer are not independent; the law is then that of a layer of one unit.
    """

    build: Callable
    values: np.ndarray
    law: Callable
    eta: np.ndarray
    wrong: tuple[float, str]
    arrays: Mapping[str, float] = field(default_factory=dict)
    other: Mapping[str, float] = field(default_factory=dict)
    step: float | None = None
    counts: bool = False
    joint: bool = False


GRID = np.linspace(-30.0, 30.0, 6001)
SCALARS = np.array([[-1.3], [0.0], [0.4], [2.1]])
STATES = np.array([[0.3, -1.0, 0.8], [0.0, 0.0, 0.0], [2.0, 1.0, -3.0]])


def gaussian(x, eta, arrays):
    """N(sigma^2 eta, sigma)."""
    sigma = np.exp(arrays["log_sigma"])
    return stats.norm(sigma**2 * eta[0], sigma).logpdf(x)


def standardized(x, eta, arrays):
    """N(l + u tau^2 eta, sigma) with tau = sigma / u."""
    sigma, u = np.exp(arrays["log_sigma"]), np.exp(arrays["log_unit"])
    return stats.norm(arrays["location"] + sigma**2 * eta[0] / u, sigma).logpdf(x)


IN_UNITS = {"location": 1.5, "log_unit": 0.4}

UNITS: dict[str, UnitCase] = {
    "bernoulli": UnitCase(
        lambda dg, size: dg.Bernoulli(size), np.array([0.0, 1.0]),
        lambda x, eta, _: stats.bernoulli(special.expit(eta[0])).logpmf(x), SCALARS,
        (0.5, "expected only 0 and 1 for Bernoulli units, got values such as 0.5"),
    ),
    "spin": UnitCase(
        lambda dg, size: dg.Spin(size), np.array([-1.0, 1.0]),
        lambda x, eta, _: stats.bernoulli(special.expit(2 * eta[0])).logpmf((x + 1) / 2), SCALARS,
        (0.0, r"expected only -1 and \+1 for Spin units, got values such as 0"),
    ),
    "categorical": UnitCase(
        lambda dg, size: dg.Categorical(size, 3), np.arange(3.0),
        lambda x, eta, _: special.log_softmax(eta)[x.astype(int)], STATES,
        (3.0, "expected integers from 0 to 2 for Categorical units, got values such as 2, 3"),
    ),
    "at_most_one": UnitCase(
        lambda dg, size: dg.AtMostOne(size, 3), np.arange(4.0),
        lambda x, eta, _: special.log_softmax([0.0, *eta])[x.astype(int)], STATES,
        (4.0, r"expected 0 \(all off\) or the unit that is on, 1 to 3, for AtMostOne units, got values such as"),
    ),
    "binomial": UnitCase(
        lambda dg, size: dg.Binomial(size, 3), np.arange(4.0),
        lambda x, eta, _: stats.binom(3, special.expit(eta[0])).logpmf(x), SCALARS,
        (4.0, "expected integers from 0 to 3 for Binomial units, got values such as"),
    ),
    "poisson": UnitCase(
        lambda dg, size: dg.Poisson(size), np.arange(120.0),
        lambda x, eta, _: stats.poisson(np.exp(eta[0])).logpmf(x), SCALARS,
        (-1.0, "expected counts 0, 1, .. for Poisson units, got values such as"), counts=True,
    ),
    "multinomial": UnitCase(
        lambda dg, size: dg.Multinomial(size, 10), np.array([3.0]), lambda x, eta, _: 0.0 * x, SCALARS,
        (0.5, "expected counts 0, 1, .. for Multinomial units, got values such as"),
        {"total": 3.0}, {"total": 3.0}, joint=True,
    ),
    "gaussian": UnitCase(
        lambda dg, size: dg.Gaussian(size, 1.4), GRID, gaussian, SCALARS,
        (np.inf, "expected finite values in x, got 1"),
        {"log_sigma": np.log(1.4)}, {"log_sigma": np.log(0.6)}, step=0.01,
    ),
    "gaussian_learned": UnitCase(
        lambda dg, size: dg.Gaussian(size, None), GRID, gaussian, SCALARS,
        (np.nan, "expected finite values in x, got 1"), {"log_sigma": -0.2}, {"log_sigma": 0.5}, step=0.01,
    ),
    "gaussian_standardized": UnitCase(
        lambda dg, size: dg.Gaussian(size, None, standardized=True), GRID, standardized, SCALARS,
        (np.nan, "expected finite values in x, got 1"), {"log_sigma": -0.2, **IN_UNITS},
        {"log_sigma": 0.5, **IN_UNITS}, step=0.01,
    ),
}  # fmt: skip

INDEPENDENT = [name for name, case in UNITS.items() if not case.joint]
