r"""Simulation-based calibration of `fit`, on a program for which a mean-field guide is exact; refits compile nothing.

    t ~ p(t),  x ~ p(x | t),  t_l ~ q(t | x) for l = 1..L:     if q is the posterior, sum_l 1(f(t_l) < f(t)) is uniform
                                                                on {0, .., L}, for f(t) = t and f(t) = log p(x | t)

Reference: Validating Bayesian Inference Algorithms with Simulation-Based Calibration (Talts et al., 2018), theorem 1.
"""

import contextlib

import numpy as np
import pytest
from gates import GateError, g_test, sampled
from helpers import array, numpy

ROWS, DRAWS, REFITS, BINS = 10, 99, 200, 10


def mean_of_a_normal(dg):
    """t ~ Normal(0, 1), x_n ~ Normal(t, 1), q(t) = Normal(m, s): q is the posterior at m = sum x / (N + 1)."""

    class Mean(dg.Program):
        def __init__(self):
            self.build(arrays={"loc": np.float32(0.0), "log_scale": np.float32(0.0)})

        def model(self, x=None, *, size=None, num_data=None):
            host, one = self.engine.host, array(dg, 1.0)
            t = host.ppl.sample("t", host.dist.Normal(0.0 * one, one))
            with self.data_plate(x, size, num_data):
                return host.ppl.sample("x", host.dist.Normal(t, one), obs=x)

        def guide(self, x=None, *, size=None, num_data=None):
            law = self.engine.host.dist.Normal(self.param("loc"), self.engine.xp.exp(self.param("log_scale")))
            self.engine.host.ppl.sample("t", law)

    return Mean


def refit(dg, family, x, seed):
    """300 gradient steps on two of ten rows, from the start."""
    options = {"objective": dg.ELBO(), "optimizer": dg.adam(0.03), "epochs": 60, "batch_size": 2}
    return dg.fit(family(), x, **options, rng=seed, progress=False)


def simulated(seed):
    """t from the prior, and ten rows given t."""
    rng = np.random.default_rng(seed)
    t = rng.normal()
    return t, (t + rng.normal(size=ROWS)).astype(np.float32)


def ranks_of(dg, program, draws, t, x):
    """Ranks of t and of log p(x | t) among draws (L,)."""
    both = array(dg, np.concatenate([[t], draws]))
    log_p = dg.Posterior(program, {"t": both}).log_likelihood(x).sum(-1)
    return int((draws < t).sum()), int((log_p[1:] < log_p[0]).sum())


def check_uniform(ranks):
    """The gate of both ranks, (refits, 2)."""
    for of_one in np.array(ranks).T:
        g_test(np.histogram(of_one, BINS, (0, DRAWS + 1))[0], np.full(BINS, 1 / BINS))


@pytest.mark.slow
def test_ranks_are_uniform(dg):
    family = mean_of_a_normal(dg)

    def check(seed, factor):
        ranks = []
        for i in range(REFITS * factor):
            t, x = simulated([seed, i])
            posterior = refit(dg, family, x, i).posterior(rng=i, num_draws=DRAWS)
            ranks.append(ranks_of(dg, posterior.program, numpy(dg, posterior.draws["t"]), t, x))
        check_uniform(ranks)

    sampled(check, 3)


WRONG = {
    "too narrow": lambda m, s, e: m + 0.5 * s * e,
    "too wide": lambda m, s, e: m + 2.0 * s * e,
    "moved": lambda m, s, e: m + s * (e + 1.0),
    "the prior": lambda m, s, e: e,
}


@pytest.mark.parametrize("wrong", [None, *WRONG])
def test_wrong_posteriors_are_flagged(dg_numpyro, wrong):
    """Draws in place of those of a fit: of the posterior, and of others; ranks of t do not notice the prior."""
    rng, program, ranks = np.random.default_rng(4), mean_of_a_normal(dg_numpyro)(), []
    draw = WRONG.get(wrong, lambda m, s, e: m + s * e)
    for i in range(REFITS):
        t, x = simulated([4, i])
        draws = draw(x.sum() / (ROWS + 1), (ROWS + 1) ** -0.5, rng.normal(size=DRAWS))
        ranks.append(ranks_of(dg_numpyro, program, draws, t, x))
    with pytest.raises(GateError) if wrong else contextlib.nullcontext():
        check_uniform(ranks)


def test_a_fit_is_the_posterior(dg):
    """m = sum x / (N + 1), s = (N + 1)^(-1/2), to what 300 noisy steps reach."""
    _, x = simulated(0)
    arrays = refit(dg, mean_of_a_normal(dg), x, 0).model.arrays
    m, s = (float(numpy(dg, arrays[k])) for k in ("loc", "log_scale"))
    exact = (ROWS + 1) ** -0.5
    assert abs(m - x.sum() / (ROWS + 1)) < 0.5 * exact
    assert abs(s - np.log(exact)) < 0.4


def test_a_refit_compiles_nothing(dg_numpyro):
    """A new model and other rows of the same shapes, with equal options, run what is compiled: steps and draws."""
    import jax

    dg, family, compiled = dg_numpyro, mean_of_a_normal(dg_numpyro), []

    def run(seed):
        t, x = simulated(seed)
        posterior = refit(dg, family, x, seed).posterior(rng=seed, num_draws=DRAWS)
        ranks_of(dg, posterior.program, numpy(dg, posterior.draws["t"]), t, x)

    def listen(event, seconds, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        run(0)
        first = len(compiled)
        run(1)
        assert first > 0
        assert len(compiled) == first
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
