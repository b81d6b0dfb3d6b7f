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


@pytest.mark.parametrize("words", [0, 2**32 - 1])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_draws_at_the_extreme_words(dg_numpyro, monkeypatch, words, dtype):
    """The smallest and the largest uniform that JAX's generator can give: once in 2^23 draws each."""
    import jax
    import jax.numpy as jnp

    from deepgen_ppl.hosts.on_numpyro import noise

    second = words if dtype == "float64" else 0  # float32 takes the two words' XOR
    monkeypatch.setattr(
        noise, "words", lambda key, shape: (jnp.full(shape, words, jnp.uint32), jnp.full(shape, second, jnp.uint32))
    )
    with jax.enable_x64(dtype == "float64"), jax.disable_jit():  # what was compiled has other words
        logits = jnp.asarray([-np.inf, -200.0, 200.0, np.inf], dtype)
        key, random = jax.random.key(0), dg_numpyro.engine.random
        np.testing.assert_array_equal(np.asarray(random.bernoulli(key, logits)), [0, 0, 1, 1])
        u, z = (np.asarray(draw(key, (), logits)) for draw in (random.uniform, random.normal))
        step = 2.0 ** -(53 if dtype == "float64" else 24)
        assert u == (step if words == 0 else 1 - step)
        assert abs(z - stats.norm.ppf(u)) < 1e-3
        assert int(random.categorical(key, jnp.asarray([-np.inf, 0.0, -np.inf], dtype))) == 1


VECTORS = {
    "zeros": ((0x0, 0x0), (0x0, 0x0), (0x6B200159, 0x99BA4EFE)),
    "ones": ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    "pi": ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
}
"""Known answers of the authors' library: key, counter, words."""


@pytest.mark.parametrize("name", VECTORS)
def test_threefry_gives_its_known_answers(dg_numpyro, name):
    from deepgen_ppl.hosts.on_numpyro import noise

    key, counter, words = (tuple(np.array([x], np.uint32) for x in pair) for pair in VECTORS[name])
    assert noise.threefry(key, counter) == words


@pytest.mark.parametrize("shape", [(), (7,), (5, 3), (2, 3, 4)])
def test_counters_are_row_and_column(dg_numpyro, shape):
    """One row has the bits of `jax.random`; each further row those of its own counters, and none comes twice."""
    import jax

    from deepgen_ppl.hosts.on_numpyro import noise

    key = jax.random.key(11)
    data = tuple(np.asarray(jax.random.key_data(key)))
    x, y = (np.asarray(w).reshape(-1, shape[-1] if shape else 1) for w in noise.words(key, shape))
    row, column = np.indices(x.shape, dtype=np.uint32)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal((x, y), noise.threefry(data, (row, column)))
    np.testing.assert_array_equal(x[0] ^ y[0], np.asarray(jax.random.bits(key, x[:1].shape, "uint32"))[0])
    assert len(set(zip(x.ravel(), y.ravel(), strict=True))) == x.size


def test_other_generators_of_jax_are_taken(dg_numpyro):
    import jax

    random, like = dg_numpyro.engine.random, np.float32(0)
    a, b = (np.asarray(random.uniform(jax.random.key(s, impl="rbg"), (40_000,), like)).astype(float) for s in (0, 1))
    gate_law(a, stats.uniform(), 1)
    gate_mean(a * b, 0.25, se_cap=0.01)


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
