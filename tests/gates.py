"""The one way in which a statistical check passes.

    gate(estimate, se, exact, n, se_cap): an estimate with its standard error against the exact value,
    gate_mean(x, exact, se_cap):          the same for the mean of repetitions x, (n,) or (n, d),
    g_test(counts, p):                    frequencies against exact probabilities,
    sampled(check, seed):                 run a check that draws; a failure runs once more, at ten times the size.

A check that fails raises `GateError`. The rate of false alarms is 1e-3 over 1,000 checks: each fails a true null with
probability 1e-6 (z = 4.9). A standard error above its cap, or NaN, fails: a check without power is no check.
"""

import numpy as np
from scipy import stats

__all__ = ["LEVEL", "GateError", "g_test", "gate", "gate_mean", "once", "sampled"]

FAMILY_RATE = 1e-3
CHECKS = 1000
LEVEL = FAMILY_RATE / CHECKS
MIN_REPETITIONS = 200
MIN_EXPECTED = 5.0


class GateError(AssertionError):
    """A statistical check failed."""


def _fail_unless(condition, message):
    if not condition:
        raise GateError(message)


def gate(estimate, se, exact, n, se_cap):
    """Fail unless the estimate agrees with the exact value.

    Args:
        estimate: a number, or a vector (d,): one test for the vector.
        se: standard error of a number; of a vector, the standard errors (d,) of independent components or the
            covariance (d, d) of the estimate.
        exact: the exact value.
        n: number of independent repetitions behind `se`.
        se_cap: largest standard error of a component with which the check still means something.
    """
    estimate, exact = np.atleast_1d(np.asarray(estimate, float)), np.atleast_1d(np.asarray(exact, float))
    covariance = np.asarray(se, float) if np.ndim(se) == 2 else np.diag(np.atleast_1d(np.asarray(se, float)) ** 2)
    d = len(estimate)
    if not estimate.shape == exact.shape == (d,) or covariance.shape != (d, d):
        raise ValueError(f"expected vectors of one length, got {estimate.shape}, {exact.shape}, {covariance.shape}")
    _fail_unless(n >= MIN_REPETITIONS, f"expected at least {MIN_REPETITIONS} repetitions, got {n}")
    _fail_unless(n > 2 * d, f"expected more than {2 * d} repetitions for a vector of {d}, got {n}")
    _fail_unless(np.isfinite(estimate).all(), f"estimate {estimate} is not finite")
    _fail_unless(np.isfinite(covariance).all(), f"standard error {se} is not finite")
    largest = np.sqrt(covariance.diagonal().max())
    _fail_unless(largest <= se_cap, f"standard error {largest:.3g} above its cap {se_cap:.3g}")
    variance, axes = np.linalg.eigh(covariance)
    error = axes.T @ (estimate - exact)
    # Directions that vary less than float32 resolves (sums that are constant) must be right to that resolution.
    resolution = 1e-6 * max(np.abs(exact).max(), np.abs(estimate).max())
    fixed = variance <= resolution**2
    slack = 10 * resolution
    _fail_unless((np.abs(error[fixed]) <= slack).all(), f"{estimate} never varies in a direction where {exact} differs")
    rank = int((~fixed).sum())
    if rank:
        # Hotelling: n - 1 degrees of freedom are behind the covariance.
        t2 = float(np.sum(error[~fixed] ** 2 / variance[~fixed]))
        p = stats.f.sf(t2 * (n - rank) / (rank * (n - 1)), rank, n - rank)
        _fail_unless(p >= LEVEL, f"estimate {estimate} +- {np.sqrt(covariance.diagonal())}, exact {exact}: p = {p:.2g}")


def gate_mean(x, exact, se_cap):
    """`gate` for the mean of n independent repetitions x, shape (n,) or (n, ...), against `exact`."""
    x = np.asarray(x, float)
    n = len(x)
    x = x.reshape(n, -1)
    _fail_unless(n >= MIN_REPETITIONS, f"expected at least {MIN_REPETITIONS} repetitions, got {n}")
    gate(x.mean(0), np.atleast_2d(np.cov(x.T)) / n, np.reshape(exact, -1), n, se_cap)


def g_test(counts, p):
    """Fail unless the counts come from the probabilities p (likelihood-ratio test; rare cells are pooled).

    Args:
        counts: number of draws in each cell, shape (cells,).
        p: probability of each cell, shape (cells,), summing to one.
    """
    counts, p = np.asarray(counts, float), np.asarray(p, float)
    if counts.shape != p.shape or not np.isclose(p.sum(), 1.0, atol=1e-9):
        raise ValueError(f"expected one probability a cell, summing to one, got {counts.shape}, {p.shape}, {p.sum()}")
    n = counts.sum()
    _fail_unless(n >= MIN_REPETITIONS, f"expected at least {MIN_REPETITIONS} draws, got {n:g}")
    _fail_unless((counts[p == 0] == 0).all(), "a cell of probability zero was drawn")
    rare = n * p < MIN_EXPECTED
    if rare.any():
        # Together they are one cell, with an exact test of its own: it may be too rare for G.
        expected, drawn = p[rare].sum(), counts[rare].sum()
        level = stats.binom.sf(drawn - 1, n, expected)
        _fail_unless(level >= LEVEL, f"{drawn:g} draws where {n * expected:.3g} are expected: p = {level:.2g}")
        counts, p = np.append(counts[~rare], drawn), np.append(p[~rare], expected)
        if n * expected < MIN_EXPECTED:
            order = np.argsort(p)
            counts, p = (
                np.append(counts[order[2:]], counts[order[:2]].sum()),
                np.append(p[order[2:]], p[order[:2]].sum()),
            )
    _fail_unless(len(p) >= 2 and n * p.min() >= MIN_EXPECTED, f"{n:g} draws are too few for a test")
    seen = counts > 0
    g = 2.0 * np.sum(counts[seen] * np.log(counts[seen] / (n * p[seen])))
    level = stats.chi2.sf(g, len(p) - 1)
    _fail_unless(level >= LEVEL, f"G = {g:.1f} on {len(p) - 1} degrees of freedom: p = {level:.2g}")


def sampled(check, seed):
    """Run `check(seed, factor)`; where it fails, its verdict is that of one more run on a derived seed at factor 10."""
    try:
        check(seed, 1)
    except GateError:
        check(seed + 1_000_003, 10)


def once(check, seed):
    """Run `check(seed, 1)` and no more: for planted faults, which must fail."""
    check(seed, 1)
