"""The baselines of the benchmarks, against plain loops over all states and against SciPy."""

import importlib.util
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

PATH = Path(__file__).resolve().parent.parent / "benchmarks" / "baselines.py"


@pytest.fixture(scope="module")
def baselines():
    spec = importlib.util.spec_from_file_location("baselines", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PI, THETA = np.array([0.3, 0.7]), np.array([[0.9, 0.2, 0.6], [0.1, 0.5, 0.3]])
X = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 1], [0, 0, 0], [1, 0, 0]], float)


def by_hand(x):
    """pi_k p(x | k) for each component, one factor at a time."""
    return [
        pi * math.prod(t if v else 1 - t for t, v in zip(theta, x, strict=True))
        for pi, theta in zip(PI, THETA, strict=True)
    ]


def test_a_mixture_is_the_sum_of_its_components(baselines):
    mixture = baselines.Mixture(np.log(PI), THETA)
    states = np.array(list(itertools.product((0.0, 1.0), repeat=3)))
    exact = [math.log(sum(by_hand(x))) for x in states]
    np.testing.assert_allclose(mixture.log_prob(states), exact, rtol=1e-12)
    assert np.exp(mixture.log_prob(states)).sum() == pytest.approx(1.0, abs=1e-12)


def test_a_step_of_em_is_that_of_plain_loops(baselines):
    new, before = baselines.em_step(baselines.Mixture(np.log(PI), THETA), X)
    r = [[joint / sum(by_hand(x)) for joint in by_hand(x)] for x in X]
    for k in range(2):
        share = sum(row[k] for row in r)
        assert math.exp(new.log_pi[k]) == pytest.approx((share + 0.5) / (5 + 1), rel=1e-12)
        for i in range(3):
            ones = sum(row[k] * x[i] for row, x in zip(r, X, strict=True))
            assert new.theta[k, i] == pytest.approx((ones + 0.5) / (share + 1), rel=1e-12)
    assert before == pytest.approx(np.mean([math.log(sum(by_hand(x))) for x in X]), rel=1e-12)
    assert np.exp(new.log_pi).sum() == pytest.approx(1.0, abs=1e-12)


def test_em_climbs_its_objective(baselines):
    """log p less the penalties of the smoothing, which is what the steps maximize, never falls."""
    mixture, last = baselines.Mixture(np.log(PI), THETA), -np.inf
    for _ in range(20):
        penalty = 0.5 * (mixture.log_pi.sum() + np.log(mixture.theta * (1 - mixture.theta)).sum())
        value = mixture.log_prob(X).sum() + penalty
        assert value >= last - 1e-12
        mixture, last = baselines.em_step(mixture, X)[0], value


def test_the_best_mixture_finds_two_clusters(baselines):
    rng = np.random.default_rng(0)
    rows = (rng.random((600, 8)) < np.where(rng.random((600, 1)) < 0.4, 0.9, 0.1)).astype(float)
    found = baselines.best_mixture(rows[:400], rows[400:], components=2, restarts=2, steps=100, seed=0)
    order = np.argsort(found.log_pi)
    np.testing.assert_allclose(np.exp(found.log_pi)[order], [0.4, 0.6], atol=0.08)
    np.testing.assert_allclose(found.theta[order], [[0.9] * 8, [0.1] * 8], atol=0.08)


def test_normal_laws_are_those_of_scipy(baselines):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 3)) @ rng.standard_normal((3, 3)) + [1.0, 50.0, -3.0]
    train, valid, test = x[:100], x[100:150], x[150:]
    of_columns = stats.norm(train.mean(0), train.std(0)).logpdf(test).sum(1)
    np.testing.assert_allclose(baselines.independent_normal(train).log_prob(test), of_columns, rtol=1e-10)
    s = np.cov(train.T, bias=True)
    laws = [
        stats.multivariate_normal(train.mean(0), (1 - a) * s + a * np.diag(np.diag(s))) for a in baselines.SHRINKAGE
    ]
    best = max(laws, key=lambda law: law.logpdf(valid).mean())
    np.testing.assert_allclose(baselines.best_normal(train, valid).log_prob(test), best.logpdf(test), rtol=1e-8)


def test_a_covariance_without_full_rank_is_not_chosen(baselines):
    x = np.random.default_rng(0).standard_normal((6, 10))
    law = baselines.best_normal(x[:4], x[4:])
    assert np.isfinite(law.log_prob(x)).all()
