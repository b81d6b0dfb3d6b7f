"""Randomness is used once: no key of JAX twice, and draws that ought to be independent vary as such."""

import collections
import contextlib

import cases
import numpy as np
import pytest
from cases import CASES
from gates import gate_mean, sampled

from deepgen_ppl.kernels.block_gibbs import BlockGibbs
from deepgen_ppl.log_z import schedules
from deepgen_ppl.objectives.contrastive import StochasticML
from deepgen_ppl.objectives.contrastive_divergence import ContrastiveDivergence

X = np.random.default_rng(0).integers(0, 2, (8, 4)).astype(np.float32)


@pytest.fixture
def keys(dg_numpyro, monkeypatch):
    """Counts how often each key is drawn from or split; nothing is compiled meanwhile."""
    import jax

    from deepgen_ppl.hosts.on_numpyro import noise

    used = collections.Counter()

    def logged(fn):
        def call(key, *args, **kwargs):
            if not isinstance(key, jax.core.Tracer):
                used.update(map(bytes, np.asarray(jax.random.key_data(key)).reshape(-1, 2)))
            return fn(key, *args, **kwargs)

        return call

    for name in ("split", "fold_in", "bits", "uniform", "normal", "gumbel", "poisson", "categorical", "bernoulli"):
        monkeypatch.setattr(jax.random, name, logged(getattr(jax.random, name)))
    monkeypatch.setattr(noise, "words", logged(noise.words))
    with jax.disable_jit():
        yield used


def assert_used_once(used, least):
    assert len(used) >= least, f"{len(used)} keys: the logger saw nothing"
    assert max(used.values()) == 1, f"{sum(n > 1 for n in used.values())} keys were used more than once"


@pytest.mark.parametrize("name", CASES)
def test_keys_of_chains(dg_numpyro, keys, name):
    """The start and three sweeps: one key a layer."""
    m = cases.machine(dg_numpyro, name, np.float32)
    keys.clear()
    kernel, (first, second) = BlockGibbs(3), dg_numpyro.engine.random.split(dg_numpyro.engine.random.rng(0), 2)
    kernel.step(second, m, kernel.init(first, m, 2))
    assert_used_once(keys, 4 * len(CASES[name].blocks))


@pytest.mark.parametrize("reverse", [False, True])
def test_keys_of_annealing(dg_numpyro, keys, monkeypatch, reverse):
    """Three pieces of two temperatures: one key a layer at each of them, and those of the start."""
    monkeypatch.setattr(schedules, "CHUNK", 2)
    m = cases.machine(dg_numpyro, "triangle", np.float32)
    keys.clear()
    with pytest.warns(UserWarning, match="num_runs"):
        dg_numpyro.ais(m, rng=0, betas=7, num_runs=2, reverse=reverse)
    assert_used_once(keys, 6 * 3)


OBJECTIVES = {
    "stochastic_ml": lambda dg: StochasticML(num_chains=2),
    "contrastive_divergence": lambda dg: ContrastiveDivergence(BlockGibbs(2)),
    "elbo": lambda dg: dg.ELBO(num_particles=2, num_global=2),
    "iwae": lambda dg: dg.IWAE(num_particles=3),
}


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=[pytest.mark.slow] if k in ("elbo", "iwae") else []) for k in OBJECTIVES]
)
def test_keys_of_training(dg_numpyro, keys, kind):
    """Two epochs of two steps."""
    dg = dg_numpyro
    objective = OBJECTIVES[kind](dg)
    if objective.has_value:
        model = dg.VAE.init(rng=0, likelihood=dg.Bernoulli(4), latent=2, hidden=(3,))
    else:
        model = dg.RBM.init(rng=0, visible=4, hidden=3)
    keys.clear()
    dg.fit(model, X, objective=objective, epochs=2, batch_size=4, rng=3, progress=False)
    assert_used_once(keys, 10)


SCALE, GLOBALS = 0.5, 8


def bounds_with_a_global_site(dg, repetitions, seed):
    """ELBOs at S = 8 where the guide's t is N(0, 1/2) for the model's N(0, 1) and the data do not depend on it."""
    ppl, dist, asarray = dg.engine.host.ppl, dg.engine.host.dist, dg.engine.arrays.asarray
    x, zero, one = (asarray(np.asarray(a, np.float32)) for a in ([0.3, -0.2], 0.0, 1.0))

    def model(x):
        ppl.sample("t", dist.Normal(zero, one))
        with ppl.plate("data", 2, dim=-1):
            ppl.sample("x", dist.Normal(zero, one), obs=x)

    def guide(x):
        ppl.sample("t", dist.Normal(zero, SCALE * one))

    objective = dg.ELBO(num_global=GLOBALS)
    if dg.engine.name == "numpyro":
        import jax

        loss = jax.jit(jax.vmap(lambda key: objective.loss(key, {}, model, guide, x)))
        return -np.asarray(loss(jax.random.split(jax.random.key(seed), repetitions)), float)
    import pyro

    pyro.set_rng_seed(seed)
    return -np.array([objective.loss(model, guide, x) for _ in range(repetitions)])


def check_spread_over_globals(dg, run=sampled):
    """log p(t) - log q(t) = log s + (1 - s^2) z^2 / 2: S draws have the variance (1 - s^2)^2 / 2 S."""
    log_p = -0.5 * (0.3**2 + 0.2**2) - np.log(2 * np.pi)
    mean, variance = log_p + np.log(SCALE) + (1 - SCALE**2) / 2, (1 - SCALE**2) ** 2 / (2 * GLOBALS)

    def check(seed, factor):
        got = bounds_with_a_global_site(dg, 400 * factor, seed)
        gate_mean(got, mean, 0.02)
        gate_mean((got - mean) ** 2, variance, 0.01)

    run(check, 71)


def test_draws_of_global_sites_are_independent(dg):
    with contextlib.ExitStack() as stack:
        if dg.engine.name == "pyro":
            import torch

            stack.enter_context(torch.random.fork_rng())
        check_spread_over_globals(dg)
