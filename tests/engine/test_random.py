"""Draws of the engines against their laws, and the generators they come from."""

import functools

import numpy as np
import pytest
from gates import g_test, gate_mean, sampled
from helpers import array, dtype_of, numpy
from rows import covers
from scipy import special, stats


def gate_law(x, law, factor):
    """Frequencies in twenty cells of equal probability."""
    edges = law.ppf(np.linspace(0, 1, 21)[1:-1])
    g_test(np.bincount(np.searchsorted(edges, x.ravel()), minlength=20), np.full(20, 0.05))


@covers("random.uniform", "random.normal")
@pytest.mark.parametrize(("name", "law"), [("uniform", stats.uniform()), ("normal", stats.norm())])
def test_draws_follow_their_law(dg, name, law):
    def check(seed, factor):
        n = 40_000 * factor
        rng = dg.engine.random.rng(seed)
        x = getattr(dg.engine.random, name)(rng, (n // 2, 2), array(dg, 0.0))
        assert tuple(x.shape) == (n // 2, 2)
        assert dtype_of(dg, x) == "float32"
        x = numpy(dg, x).astype(float)
        assert np.isfinite(x).all()
        gate_law(x, law, factor)
        moments = np.stack([x.ravel(), x.ravel() ** 2], -1)
        gate_mean(moments, [law.mean(), law.var() + law.mean() ** 2], se_cap=0.05)
        gate_mean(x[:, 0] * x[:, 1], law.mean() ** 2, se_cap=0.05)

    sampled(check, 11)


def test_uniform_lies_below_one(dg):
    x = numpy(dg, dg.engine.random.uniform(dg.engine.random.rng(0), (100_000,), array(dg, 0.0)))
    assert 0 <= x.min() < 1e-3
    assert 1 - 1e-3 < x.max() < 1


@covers("random.poisson")
@pytest.mark.parametrize("rate", [0.3, 4.0, 60.0])
def test_poisson(dg, rate):
    def check(seed, factor):
        n = 20_000 * factor
        x = dg.engine.random.poisson(dg.engine.random.rng(seed), array(dg, np.full(n, rate)))
        assert dtype_of(dg, x) == "float32"
        x = numpy(dg, x).astype(int)
        top = int(stats.poisson.ppf(0.9999, rate))
        p = np.append(stats.poisson.pmf(np.arange(top), rate), stats.poisson.sf(top - 1, rate))
        g_test(np.bincount(np.minimum(x, top), minlength=top + 1), p)

    sampled(check, 12)


@covers("random.bernoulli")
def test_bernoulli(dg):
    logits = np.array([-3.0, -0.5, 0.0, 1.0, 4.0])

    def check(seed, factor):
        a = array(dg, np.broadcast_to(logits, (20_000 * factor, 5)))
        x = dg.engine.random.bernoulli(dg.engine.random.rng(seed), a)
        assert dtype_of(dg, x) == "float32"
        x = numpy(dg, x)
        assert set(np.unique(x)) == {0.0, 1.0}
        gate_mean(x, special.expit(logits), se_cap=0.005)

    sampled(check, 13)


def test_bernoulli_of_probability_zero_and_one(dg):
    logits = array(dg, np.tile([-np.inf, -200.0, 200.0, np.inf], (200_000, 1)))
    x = numpy(dg, dg.engine.random.bernoulli(dg.engine.random.rng(0), logits))
    np.testing.assert_array_equal(x.min(0), [0, 0, 1, 1])
    np.testing.assert_array_equal(x.max(0), [0, 0, 1, 1])


@pytest.mark.parametrize("bits", [0, 2**32 - 1])
def test_bernoulli_at_the_extreme_bits(dg_numpyro, monkeypatch, bits):
    """The smallest and the largest uniform that JAX's generator can give: once in 2^24 draws each."""
    import jax
    import jax.numpy as jnp

    monkeypatch.setattr(jax.random, "bits", lambda key, shape, dtype: jnp.full(shape, bits, dtype))
    logits = array(dg_numpyro, [-np.inf, -200.0, 200.0, np.inf])
    x = dg_numpyro.engine.random.bernoulli(dg_numpyro.engine.random.rng(0), logits)
    np.testing.assert_array_equal(np.asarray(x), [0, 0, 1, 1])


@covers("random.categorical")
def test_categorical(dg):
    logits = np.array([[0.0, 1.0, -np.inf, 2.0], [3.0, 0.0, 0.0, -1.0]])

    def check(seed, factor):
        n = 20_000 * factor
        x = dg.engine.random.categorical(dg.engine.random.rng(seed), array(dg, np.tile(logits, (n, 1, 1))))
        assert tuple(x.shape) == (n, 2)
        assert dtype_of(dg, x).kind == "i"
        x, p = numpy(dg, x), special.softmax(logits, -1)
        for i in range(2):
            g_test(np.bincount(x[:, i], minlength=4), p[i])

    sampled(check, 14)


@covers("random.rng")
def test_rng(dg):
    draw = functools.partial(dg.engine.random.normal, shape=(8,), like=array(dg, 0.0))
    a, b, c = (numpy(dg, draw(dg.engine.random.rng(seed))) for seed in (3, np.int64(3), 4))
    np.testing.assert_array_equal(a, b)
    assert (a != c).all()
    rng = dg.engine.random.rng(3)
    np.testing.assert_array_equal(numpy(dg, draw(dg.engine.random.rng(rng))), a)
    for wrong in ("3", 3.5, None):
        with pytest.raises(TypeError, match="expected an integer seed or a"):
            dg.engine.random.rng(wrong)


def test_rng_takes_old_keys_of_jax(dg_numpyro):
    import jax

    r = dg_numpyro.engine.random
    old = r.normal(r.rng(jax.random.PRNGKey(5)), (4,), array(dg_numpyro, 0.0))
    np.testing.assert_array_equal(np.asarray(old), np.asarray(r.normal(r.rng(5), (4,), array(dg_numpyro, 0.0))))


@covers("random.split")
def test_split(dg):
    def draws(seed):
        keys = dg.engine.random.split(dg.engine.random.rng(seed), 4)
        assert len(keys) == 4
        like = array(dg, 0.0)
        return np.stack([numpy(dg, dg.engine.random.normal(key, (5000,), like)) for key in keys]).astype(float)

    x = draws(6)
    np.testing.assert_array_equal(x, draws(6))
    gate_mean(
        (x[:, None] * x[None]).reshape(16, -1)[np.triu_indices(4, 1)[0] * 4 + np.triu_indices(4, 1)[1]].T,
        np.zeros(6),
        se_cap=0.02,
    )


@covers("random.state", "random.restore")
def test_state_and_restore(dg):
    rng, like = dg.engine.random.rng(7), array(dg, 0.0)
    rng, key = dg.engine.random.split(rng, 2)
    dg.engine.random.normal(key, (3,), like)
    state = dg.engine.random.state(rng)
    assert isinstance(state, np.ndarray)
    kept = state.copy()
    first = numpy(dg, dg.engine.random.normal(rng, (5,), like))
    np.testing.assert_array_equal(state, kept)
    for _ in range(2):
        again = dg.engine.random.normal(dg.engine.random.restore(state), (5,), like)
        np.testing.assert_array_equal(numpy(dg, again), first)


def test_no_draw_touches_a_global_generator(dg):
    import torch

    r, like = dg.engine.random, array(dg, np.zeros(4))
    np_before, torch_before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002 - what is guarded
    rng = r.rng(0)
    for key, draw in zip(
        r.split(rng, 5),
        (
            lambda k: r.uniform(k, (4,), like),
            lambda k: r.normal(k, (4,), like),
            lambda k: r.poisson(k, like + 2.0),
            lambda k: r.bernoulli(k, like),
            lambda k: r.categorical(k, like),
        ),
        strict=True,
    ):
        draw(key)
    np.testing.assert_array_equal(np.random.get_state()[1], np_before)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_before)
