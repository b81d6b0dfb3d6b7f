"""Markov's margin: what a bound costs that holds with probability 0.975 whatever the weights are."""

import numpy as np
import pytest
from scipy.stats import binomtest

from deepgen_ppl.log_z import estimates

MISSES = 0.025


def rare_state(dg, p):
    """A machine that is almost surely at h = 1, where its start without couplings is with probability p."""
    asarray = dg.engine.arrays.asarray
    w, b, c = (asarray(np.array(a, np.float32)) for a in ([[16.0]], [-4.0], [np.log(p / (1 - p))]))
    return dg.RBM(w, b, c)


def check_coverage(dg, p):
    """One run of importance sampling is a draw of 1/p with probability p, else nearly 0: Markov's worst case."""
    m = rare_state(dg, p)
    log_w = dg.ais(m, rng=1, betas=2, num_runs=2000).log_weights
    off = log_w - float(dg.exact_log_normalizer(m).value)
    assert binomtest(int((off > -np.log(p) - 0.1).sum()), 2000, p).pvalue > 1e-6
    misses = int((off - estimates.CERTIFIED > 0).sum())
    assert binomtest(misses, 2000, MISSES, alternative="greater").pvalue > 1e-6
    assert off.max() > estimates.CERTIFIED - 2.5  # no margin could be half as large


@pytest.mark.parametrize("p", [0.2, 0.1, 0.05, 0.03])
def test_bounds_hold_as_often_as_they_say(dg, p):
    check_coverage(dg, p)


def test_the_margin_is_no_larger_than_it_need_be(dg):
    """At p a hair below 0.025 the worst case does miss, as often as it may."""
    m = rare_state(dg, 0.024)
    log_w = dg.ais(m, rng=2, betas=2, num_runs=4000).log_weights
    misses = int((log_w - float(dg.exact_log_normalizer(m).value) > estimates.CERTIFIED).sum())
    assert binomtest(misses, 4000, 0.024).pvalue > 1e-6
