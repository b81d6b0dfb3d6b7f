"""Every function of the engines against NumPy and SciPy, on both engines.

`covers(...)` says which functions a test is the row of; the last test fails for a function without one.
"""

import dataclasses
import functools
from typing import NamedTuple

import numpy as np
import pytest
from gates import g_test, gate, gate_mean, sampled
from scipy import special, stats

from deepgen_ppl import engine as base

GROUPS = {
    "arrays": base.Arrays,
    "special": base.Special,
    "random": base.Random,
    "control": base.Control,
    "nn": base.Networks,
    "host": base.Host,
}
COVERED = set()


def covers(*names):
    """Say which engine functions a test is the row of."""
    COVERED.update(names)
    return lambda test: test


def array(dg, x, dtype="float32"):
    return dg.engine.arrays.asarray(np.asarray(x, dtype))


def numpy(dg, x):
    return dg.engine.arrays.to_numpy(x)


def dtype_of(dg, x):
    return numpy(dg, x).dtype


# -- arrays ------------------------------------------------------------------------------------------------------------


@covers("arrays.asarray", "arrays.to_numpy")
@pytest.mark.parametrize(
    ("x", "dtype"),
    [
        (np.array([1.5, -2.0], np.float32), "float32"),
        (np.array([1.5, -2.0], np.float16), "float32"),
        (np.float32(2.5), "float32"),
        (np.array([True, False]), "bool"),
    ],
)
def test_asarray_dtypes(dg, x, dtype):
    a = dg.engine.arrays.asarray(x)
    assert dtype_of(dg, a) == dtype
    np.testing.assert_array_equal(numpy(dg, a), x)


@pytest.mark.parametrize("x", [[1, 2], 3, np.arange(4), np.arange(4, dtype=np.int32), np.arange(4, dtype=np.uint8)])
def test_asarray_keeps_integers(dg, x):
    a = dg.engine.arrays.asarray(x)
    assert dtype_of(dg, a).kind in "iu"
    np.testing.assert_array_equal(numpy(dg, a), x)


def test_asarray_casts(dg):
    like = array(dg, 0.0)
    for x in (np.arange(3), np.arange(3.0), [0, 1, 2], array(dg, [0, 1, 2])):
        a = dg.engine.arrays.asarray(x, like=like)
        assert dtype_of(dg, a) == "float32"
        np.testing.assert_array_equal(numpy(dg, a), [0, 1, 2])
    assert dtype_of(dg, dg.engine.arrays.asarray([1.0, 2.0], dtype="float32")) == "float32"
    assert dtype_of(dg, dg.engine.arrays.asarray(array(dg, [1.7]), dtype="int32")) == "int32"


def test_asarray_keeps_double(dg, double):
    a = dg.engine.arrays.asarray(np.array([0.1]))
    assert dtype_of(dg, a) == "float64"
    assert numpy(dg, a)[0] == 0.1
    assert dtype_of(dg, dg.engine.arrays.asarray(np.array([1, 2], np.float32), dtype="float64")) == "float64"


def test_asarray_of_double_on_jax_without_x64(dg_numpyro):
    for x in (np.array([0.1]), [0.1], np.float64(0.1)):
        with pytest.raises(TypeError, match=r"expected float32 .*got float64 .*x64.*astype\('float32'\)"):
            dg_numpyro.engine.arrays.asarray(x)
    with pytest.raises(TypeError, match="got float64"):
        dg_numpyro.engine.arrays.asarray(np.array([0.1], np.float32), dtype="float64")


def aligned(size):
    """Ones at an address that is a multiple of 64 bytes: JAX would use such memory as it is."""
    room = np.ones(size + 16, np.float32)
    return room[(-room.ctypes.data % 64) // 4 :][:size]


@pytest.mark.parametrize("size", [1, 3, 64, 1000])
def test_asarray_takes_a_copy(dg, size):
    """What a user does to their own array afterwards reaches no model and no data set."""
    for like in (None, array(dg, 0.0)):
        x = aligned(size)
        a = dg.engine.arrays.asarray(x, like=like)
        x[:] = 5.0
        np.testing.assert_array_equal(numpy(dg, a), 1.0)


@pytest.mark.parametrize("like", [False, True])
def test_asarray_takes_arrays_that_cannot_be_written(dg, like):
    x = np.ones((2, 3), np.float32)
    x.setflags(write=False)
    a = dg.engine.arrays.asarray(x, like=array(dg, 0.0) if like else None)
    np.testing.assert_array_equal(numpy(dg, a), x)


@covers("arrays.cast")
def test_cast(dg):
    for x in (array(dg, [0, 1, 2]), dg.engine.arrays.asarray(np.array([0, 1, 2], np.int32)), np.arange(3)):
        c = dg.engine.arrays.cast(x, array(dg, 0.0))
        assert dtype_of(dg, c) == "float32"
        np.testing.assert_array_equal(numpy(dg, c), [0, 1, 2])
    with dg.engine.control.double():
        assert dtype_of(dg, dg.engine.arrays.cast(array(dg, [1.0]), array(dg, 0.0, "float64"))) == "float64"


@covers("arrays.mix")
def test_mix(dg, double):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 5))
    for beta in (0.0, 0.3, 1.0):
        out = dg.engine.arrays.mix(array(dg, beta, "float64"), array(dg, a, "float64"), array(dg, b, "float64"))
        np.testing.assert_allclose(numpy(dg, out), (1 - beta) * a + beta * b, rtol=1e-13, atol=1e-15)


@covers("arrays.is_constant")
def test_is_constant(dg):
    """Readable, and no derivative with respect to it is being taken."""
    seen = []

    def look(x):
        seen.append(dg.engine.arrays.is_constant(x))
        return x.sum()

    x = array(dg, [1.0, 2.0])
    assert dg.engine.arrays.is_constant(x)
    if dg.engine.name == "numpyro":
        import jax

        jax.grad(look)(x)
    else:
        import torch

        look(x.clone().requires_grad_())
        torch.func.grad(look)(x)
        with torch.no_grad():
            assert dg.engine.arrays.is_constant(x.clone().requires_grad_())
    assert not any(seen)


@covers("arrays.is_concrete")
def test_is_concrete(dg):
    seen = []

    def look(x):
        seen.append(dg.engine.arrays.is_concrete(x))
        return x.sum()

    x = array(dg, [1.0, 2.0])
    assert dg.engine.arrays.is_concrete(x)
    if dg.engine.name == "numpyro":
        import jax

        jax.jit(look)(x)
        jax.grad(look)(x)
    else:
        import torch

        torch.func.vmap(look)(x[None])
        torch.func.grad(look)(x)
    assert seen == [False, False]


def test_array_namespace_is_of_the_standard(dg):
    """`xp` has what models take from it, under the standard's names."""
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    a, xp = array(dg, x), dg.engine.xp
    rows = {
        "sum": (xp.sum(a, axis=-1), x.sum(-1)),
        "mean": (xp.mean(a, axis=0), x.mean(0)),
        "concat": (xp.concat([a, a], axis=-1), np.concatenate([x, x], -1)),
        "tanh": (xp.tanh(a), np.tanh(x)),
        "exp": (xp.exp(a), np.exp(x)),
        "reshape": (xp.reshape(a, (4, 3)), x.reshape(4, 3)),
        "broadcast_to": (xp.broadcast_to(a, (2, 3, 4)), np.broadcast_to(x, (2, 3, 4))),
        "astype": (xp.astype(a, xp.int32), x.astype(np.int32)),
    }
    for name, (got, exact) in rows.items():
        np.testing.assert_allclose(numpy(dg, got), exact, rtol=2e-6, atol=1e-6, err_msg=name)


# -- special functions -------------------------------------------------------------------------------------------------

GRID = np.concatenate([np.linspace(-87.0, 100.0, 375), [-1e-6, 0.0, 1e-6, -20.0, 20.0, 20.1, 39.9, 40.1]])
FUNCTIONS = {
    "sigmoid": special.expit,
    "softplus": lambda x: np.logaddexp(x, 0.0),
    "log_sigmoid": special.log_expit,
    "lgamma": special.gammaln,
}
SLOPES = {
    "sigmoid": lambda x: special.expit(x) * special.expit(-x),
    "softplus": special.expit,
    "log_sigmoid": lambda x: special.expit(-x),
}


@covers("special.sigmoid", "special.softplus", "special.log_sigmoid", "special.lgamma")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_special_over_the_whole_range(dg, double, name, dtype):
    x = np.array([1e-6, 0.1, 0.5, 1.0, 1.5, 2.0, 2.5, 10.0, 171.5, 1e4, 1e6] if name == "lgamma" else GRID, dtype)
    exact = FUNCTIONS[name](x.astype(float))
    got = numpy(dg, getattr(dg.engine.special, name)(array(dg, x, dtype)))
    assert got.dtype == dtype
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(got, exact, rtol=10 * eps, atol=4 * eps if name == "lgamma" else np.finfo(dtype).tiny)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", list(SLOPES))
def test_special_slopes_over_the_whole_range(dg, double, name, dtype):
    x = GRID.astype(dtype)
    function = getattr(dg.engine.special, name)
    _, slope = dg.engine.control.value_and_grad(lambda p: function(p["x"]).sum())({"x": array(dg, x, dtype)})
    eps = np.finfo(dtype).eps
    # Near zero the slope of the sigmoid is 1 - s(x) rounded: absolute there.
    np.testing.assert_allclose(numpy(dg, slope["x"]), SLOPES[name](x.astype(float)), rtol=20 * eps, atol=2 * eps)


def test_special_at_the_ends(dg):
    """Far outside the range nothing overflows to NaN."""
    x = array(dg, [-np.inf, -1e30, -300.0, 300.0, 1e30, np.inf])
    f = dg.engine.special
    np.testing.assert_array_equal(numpy(dg, f.sigmoid(x)), [0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(numpy(dg, f.softplus(x)), np.array([0, 0, 0, 300, 1e30, np.inf], np.float32))
    np.testing.assert_array_equal(numpy(dg, f.log_sigmoid(x)), np.array([-np.inf, -1e30, -300, 0, 0, 0], np.float32))


LOGITS = np.array(
    [
        [0.0, 1.0, 2.0],
        [-np.inf, 1.0, -np.inf],
        [-np.inf, 0.0, 0.5],
        [1000.0, 1000.0, -1000.0],
        [-1e30, -1e30, -1e30],
    ]
)


@covers("special.logsumexp", "special.softmax")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("axis", [-1, 0])
def test_logsumexp_and_softmax(dg, double, dtype, axis):
    x = LOGITS.astype(dtype) if axis == -1 else LOGITS.T.astype(dtype)
    a, eps = array(dg, x, dtype), np.finfo(dtype).eps
    np.testing.assert_allclose(
        numpy(dg, dg.engine.special.logsumexp(a, axis)), special.logsumexp(x.astype(float), axis), rtol=4 * eps
    )
    np.testing.assert_allclose(
        numpy(dg, dg.engine.special.softmax(a, axis)), special.softmax(x.astype(float), axis), rtol=8 * eps, atol=0
    )


def test_logsumexp_of_nothing_but_minus_infinity(dg):
    assert numpy(dg, dg.engine.special.logsumexp(array(dg, [-np.inf, -np.inf]), -1)) == -np.inf


def test_logsumexp_gradient_with_minus_infinity(dg):
    x = LOGITS.astype(np.float32)
    _, slope = dg.engine.control.value_and_grad(lambda p: dg.engine.special.logsumexp(p["x"], -1).sum())(
        {"x": array(dg, x)}
    )
    np.testing.assert_allclose(numpy(dg, slope["x"]), special.softmax(x.astype(float), -1), rtol=1e-6)


@covers("special.one_hot")
def test_one_hot(dg):
    x = np.array([[0, 2], [1, 1]])
    for kind in (np.int32, np.float32):
        out = dg.engine.special.one_hot(dg.engine.arrays.asarray(x.astype(kind)), 3, array(dg, 0.0))
        assert dtype_of(dg, out) == "float32"
        np.testing.assert_array_equal(numpy(dg, out), np.eye(3)[x])


@covers("special.conv", "special.conv_transpose")
def test_convolution_and_its_adjoint(dg, double):
    """Against SciPy's correlation, channel by channel; <y, conv x> = <conv_transpose y, x>."""
    from scipy.signal import correlate2d

    rng = np.random.default_rng(0)
    x, w, y = (rng.normal(size=shape) for shape in ((3, 2, 5, 4), (4, 2, 2, 3), (3, 4, 4, 2)))
    got = numpy(dg, dg.engine.special.conv(array(dg, x, "float64"), array(dg, w, "float64")))
    want = np.array([[sum(correlate2d(m[c], k[c], "valid") for c in range(2)) for k in w] for m in x])
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)
    back = numpy(dg, dg.engine.special.conv_transpose(array(dg, y, "float64"), array(dg, w, "float64")))
    assert back.shape == x.shape
    np.testing.assert_allclose((back * x).sum((1, 2, 3)), (y * want).sum((1, 2, 3)), rtol=0, atol=1e-12)


@covers("special.stop_gradient")
def test_stop_gradient(dg):
    stop = dg.engine.special.stop_gradient
    value, slope = dg.engine.control.value_and_grad(lambda p: (stop(p["x"]) * p["x"]).sum())({"x": array(dg, [3.0])})
    assert float(value) == 9.0
    assert float(slope["x"][0]) == 3.0


# -- randomness --------------------------------------------------------------------------------------------------------


def gate_law(x, law, factor):
    """Frequencies in twenty cells of equal probability."""
    edges = law.ppf(np.linspace(0, 1, 21)[1:-1])
    g_test(np.bincount(np.searchsorted(edges, x.ravel()), minlength=20), np.full(20, 0.05))


@covers("random.uniform", "random.normal", "random.gumbel")
@pytest.mark.parametrize(
    ("name", "law"), [("uniform", stats.uniform()), ("normal", stats.norm()), ("gumbel", stats.gumbel_r())]
)
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
        r.split(rng, 6),
        (
            lambda k: r.uniform(k, (4,), like),
            lambda k: r.normal(k, (4,), like),
            lambda k: r.gumbel(k, (4,), like),
            lambda k: r.poisson(k, like + 2.0),
            lambda k: r.bernoulli(k, like),
            lambda k: r.categorical(k, like),
        ),
        strict=True,
    ):
        draw(key)
    np.testing.assert_array_equal(np.random.get_state()[1], np_before)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_before)


# -- control -----------------------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    position: object
    count: object


@covers("control.loop")
def test_loop_over_a_sequence(dg):
    """A recurrence over named tuples, dicts, tuples and None, against the same loop in NumPy."""
    xs = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)

    def step(carry, x):
        position = {"a": 0.5 * carry.position["a"] + x["x"] * x["pair"][0]}
        return Pair(position, carry.count + 1.0), {
            "a": position["a"],
            "n": None,
            "t": (carry.count, Pair(x["x"], None)),
        }

    start = Pair({"a": array(dg, np.zeros(3))}, array(dg, 0.0))
    tree = {"none": None, "x": array(dg, xs), "pair": (array(dg, xs[:, ::-1].copy()), None)}
    carry, ys = dg.engine.control.loop(step, start, tree)

    a, rows = np.zeros(3, np.float32), []
    for x in xs:
        a = 0.5 * a + x * x[::-1]
        rows.append(a)
    np.testing.assert_allclose(numpy(dg, carry.position["a"]), a, rtol=1e-6)
    assert float(carry.count) == 6
    np.testing.assert_allclose(numpy(dg, ys["a"]), np.stack(rows), rtol=1e-6)
    assert ys["n"] is None
    np.testing.assert_array_equal(numpy(dg, ys["t"][0]), np.arange(6))
    assert isinstance(ys["t"][1], Pair)
    np.testing.assert_array_equal(numpy(dg, ys["t"][1].position), xs)


def test_loop_of_a_given_length(dg):
    step = lambda c, x: (c * 2.0, None)  # noqa: E731
    carry, ys = dg.engine.control.loop(step, array(dg, 1.0), length=5)
    assert float(carry) == 32.0
    assert ys is None


def test_loop_is_differentiable(dg):
    """d/dw of w^5 x through the loop."""
    fn = lambda p: dg.engine.control.loop(lambda c, x: (c * p["w"], None), array(dg, 3.0), length=5)[0]  # noqa: E731
    value, slope = dg.engine.control.value_and_grad(fn)({"w": array(dg, 1.5)})
    np.testing.assert_allclose(float(value), 3 * 1.5**5, rtol=1e-6)
    np.testing.assert_allclose(float(slope["w"]), 15 * 1.5**4, rtol=1e-6)


@covers("control.value_and_grad")
def test_value_and_grad(dg, double):
    rng = np.random.default_rng(1)
    w, b, x = rng.normal(size=(3, 2)), rng.normal(size=2), rng.normal(size=(5, 3))
    plain = lambda w, b: np.sum(np.tanh(x @ w + b) ** 2)  # noqa: E731
    a = array(dg, x, "float64")
    fn = lambda p, x: dg.engine.xp.sum(dg.engine.xp.tanh(x @ p["w"] + p["b"]) ** 2)  # noqa: E731
    params = {"w": array(dg, w, "float64"), "b": array(dg, b, "float64"), "unused": array(dg, np.ones(2), "float64")}
    value, slope = dg.engine.control.value_and_grad(fn)(params, a)
    np.testing.assert_allclose(float(value), plain(w, b), rtol=1e-13)
    h = 1e-6
    for i in np.ndindex(3, 2):
        d = np.zeros((3, 2))
        d[i] = h
        np.testing.assert_allclose(
            numpy(dg, slope["w"])[i], (plain(w + d, b) - plain(w - d, b)) / (2 * h), rtol=1e-7, atol=1e-9
        )
    for i in range(2):
        d = np.eye(2)[i] * h
        np.testing.assert_allclose(numpy(dg, slope["b"])[i], (plain(w, b + d) - plain(w, b - d)) / (2 * h), rtol=1e-7)
    np.testing.assert_array_equal(numpy(dg, slope["unused"]), 0.0)
    assert set(slope) == set(params)


@covers("control.compile")
def test_compile(dg):
    calls = []

    def fn(x, scale):
        calls.append(1)
        return {"y": x * scale}

    compiled = dg.engine.control.compile(fn)
    x = array(dg, [1.0, 2.0])
    for scale in (2.0, 3.0):
        np.testing.assert_array_equal(numpy(dg, compiled(x, array(dg, scale))["y"]), np.array([1, 2]) * scale)
    if dg.engine.name == "numpyro":
        assert len(calls) == 1
    else:
        assert not compiled(x.clone().requires_grad_(), x)["y"].requires_grad


@covers("control.double")
def test_double(dg):
    import jax
    import torch

    before = jax.config.jax_enable_x64, torch.get_default_dtype()
    with dg.engine.control.double():
        a = array(dg, [1.0 + 1e-12], "float64")
        assert numpy(dg, a * 1.0)[0] == 1.0 + 1e-12
    assert (jax.config.jax_enable_x64, torch.get_default_dtype()) == before
    with pytest.raises(ZeroDivisionError), dg.engine.control.double():
        raise ZeroDivisionError
    assert (jax.config.jax_enable_x64, torch.get_default_dtype()) == before
    assert dtype_of(dg, array(dg, [1.0])) == "float32"


# -- networks ----------------------------------------------------------------------------------------------------------

ACTIVATIONS = {
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "softplus": lambda x: np.logaddexp(x, 0),
}


@covers("nn.mlp", "nn.canonical")
@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_mlp(dg, activation):
    """The network is the chain of affine maps with the canonical arrays."""
    net = dg.engine.nn.mlp(dg.engine.random.rng(0), (4, 5, 3, 2), activation)
    arrays = dg.engine.nn.canonical(net)
    assert {k: v.shape for k, v in arrays.items()} == {
        "layers.0.weight": (4, 5),
        "layers.0.bias": (5,),
        "layers.1.weight": (5, 3),
        "layers.1.bias": (3,),
        "layers.2.weight": (3, 2),
        "layers.2.bias": (2,),
    }
    for i, (fan_in, fan_out) in enumerate([(4, 5), (5, 3), (3, 2)]):
        w = arrays[f"layers.{i}.weight"]
        assert isinstance(w, np.ndarray)
        assert 0.3 * np.sqrt(6 / (fan_in + fan_out)) < np.abs(w).max() <= np.sqrt(6 / (fan_in + fan_out))
        assert (arrays[f"layers.{i}.bias"] == 0).all()
    x = h = np.random.default_rng(0).normal(size=(7, 4))
    for i in range(3):
        h = h @ arrays[f"layers.{i}.weight"].astype(float)
        h = ACTIVATIONS[activation](h) if i < 2 else h
    np.testing.assert_allclose(numpy(dg, net(array(dg, x))), h, rtol=1e-5, atol=1e-6)


def test_mlp_of_double(dg, double):
    net = dg.engine.nn.mlp(dg.engine.random.rng(0), (4, 5, 2), "tanh", "float64")
    a = dg.engine.nn.canonical(net)
    assert {v.dtype for v in a.values()} == {np.dtype("float64")}
    x = np.random.default_rng(0).normal(size=(3, 4))
    np.testing.assert_allclose(
        numpy(dg, net(array(dg, x, "float64"))), np.tanh(x @ a["layers.0.weight"]) @ a["layers.1.weight"], rtol=1e-13
    )


def test_mlp_refuses_an_unknown_activation(dg):
    with pytest.raises(ValueError, match="expected an activation among .*'tanh'.* got 'swish'"):
        dg.engine.nn.mlp(dg.engine.random.rng(0), (4, 2), "swish")


@covers("nn.params", "nn.with_arrays")
def test_params_and_with_arrays(dg):
    net = dg.engine.nn.mlp(dg.engine.random.rng(0), (3, 2), "tanh")
    params = dg.engine.nn.params(net)
    before = {k: numpy(dg, v).copy() for k, v in params.items()}
    new = dg.engine.nn.with_arrays(net, {k: v * 0.0 + 1.0 for k, v in params.items()})
    x = np.array([[1.0, 2.0, 3.0]])
    np.testing.assert_allclose(numpy(dg, new(array(dg, x))), 7.0, rtol=1e-6)
    for k, v in dg.engine.nn.params(net).items():
        np.testing.assert_array_equal(numpy(dg, v), before[k])
    assert {k: tuple(v.shape) for k, v in dg.engine.nn.params(new).items()} == {k: v.shape for k, v in before.items()}


@covers("nn.from_canonical")
@pytest.mark.parametrize("activation", ["tanh", "relu", "softplus", "gelu"])
def test_networks_cross_between_engines(dg_numpyro, dg_pyro, activation):
    """The same arrays give the same outputs on both engines, whichever made them."""
    x = np.random.default_rng(0).normal(size=(6, 3)) * 2
    with dg_numpyro.engine.control.double():
        for source, target in ((dg_numpyro, dg_pyro), (dg_pyro, dg_numpyro)):
            a, b = (
                face.engine.nn.mlp(face.engine.random.rng(seed), (3, 4, 2), activation, "float64")
                for seed, face in enumerate((source, target))
            )
            arrays = source.engine.nn.canonical(a)
            b = target.engine.nn.from_canonical(b, arrays)
            back = target.engine.nn.canonical(b)
            assert back.keys() == arrays.keys()
            for k in arrays:
                np.testing.assert_array_equal(back[k], arrays[k])
            outputs = [numpy(face, net(array(face, x, "float64"))) for face, net in ((source, a), (target, b))]
            np.testing.assert_allclose(*outputs, rtol=1e-12, atol=1e-13)


def test_from_canonical_does_not_round(dg_numpyro):
    net = dg_numpyro.engine.nn.mlp(dg_numpyro.engine.random.rng(0), (3, 2), "tanh")
    arrays = {k: v.astype(np.float64) for k, v in dg_numpyro.engine.nn.canonical(net).items()}
    with pytest.raises(TypeError, match="got float64 while JAX runs without x64"):
        dg_numpyro.engine.nn.from_canonical(net, arrays)


@covers("nn.wrap")
def test_wrap(dg):
    if dg.engine.name == "numpyro":
        from flax import nnx

        own, message = nnx.Linear(3, 2, rngs=nnx.Rngs(0)), "expected a flax.nnx.Module on the NumPyro engine, got"
    else:
        import torch

        own, message = torch.nn.Linear(3, 2), "expected a torch.nn.Module on the Pyro engine, got"
    net = dg.engine.nn.wrap(own)
    assert tuple(net(array(dg, np.ones((4, 3)))).shape) == (4, 2)
    assert {tuple(v.shape) for v in dg.engine.nn.params(net).values()} == {
        (3, 2) if "flax" in message else (2, 3),
        (2,),
    }
    assert dg.engine.nn.wrap(net) is net
    for wrong in (np.tanh, None, type(own)):
        with pytest.raises(TypeError, match=message):
            dg.engine.nn.wrap(wrong)


def test_wrap_refuses_the_other_engines_networks(dg_numpyro, dg_pyro):
    import torch
    from flax import nnx

    with pytest.raises(TypeError, match="expected a flax.nnx.Module on the NumPyro engine, got Linear"):
        dg_numpyro.engine.nn.wrap(torch.nn.Linear(3, 2))
    with pytest.raises(TypeError, match="expected a torch.nn.Module on the Pyro engine, got Linear"):
        dg_pyro.engine.nn.wrap(nnx.Linear(3, 2, rngs=nnx.Rngs(0)))


def masked(dg, frozen=False):
    """x -> mask * (x w + b): a constant beside the parameters; on torch b may be frozen."""
    mask, w, b = np.array([1.0, 0.0], np.float32), np.ones((3, 2), np.float32), np.array([1.0, 2.0], np.float32)
    if dg.engine.name == "numpyro":
        from flax import nnx

        class Masked(nnx.Module):
            def __init__(self):
                self.w, self.b, self.mask = nnx.Param(w), nnx.Param(b), nnx.Variable(mask)

            def __call__(self, x):
                return self.mask[...] * (x @ self.w[...] + self.b[...])

        return Masked()
    import torch

    class Masked(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.tensor(w))
            self.b = torch.nn.Parameter(torch.tensor(b), requires_grad=not frozen)
            self.register_buffer("mask", torch.tensor(mask))

        def forward(self, x):
            return self.mask * (x @ self.w + self.b)

    return Masked()


@covers("nn.constants")
def test_constants(dg):
    """They are the network's, are put in with the parameters, and are saved with them."""
    nn = dg.engine.nn
    net, x = nn.wrap(masked(dg)), array(dg, np.ones((4, 3)))
    assert set(nn.params(net)) == {"w", "b"}
    assert set(nn.constants(net)) == {"mask"}
    np.testing.assert_allclose(numpy(dg, net(x)), [[4.0, 0.0]] * 4)
    other = nn.with_arrays(net, {"mask": array(dg, [0.0, 1.0])})
    np.testing.assert_allclose(numpy(dg, other(x)), [[0.0, 5.0]] * 4)
    np.testing.assert_allclose(numpy(dg, net(x)), [[4.0, 0.0]] * 4)
    assert set(nn.params(other)) == {"w", "b"}
    again = nn.from_canonical(net, nn.canonical(other))
    np.testing.assert_allclose(numpy(dg, again(x)), [[0.0, 5.0]] * 4)


@covers("nn.frozen")
def test_frozen(dg):
    nn = dg.engine.nn
    net = nn.wrap(masked(dg))
    still = nn.frozen(net)
    assert nn.params(still) == {}
    assert set(nn.constants(still)) == {"w", "b", "mask"}
    assert set(nn.params(net)) == {"w", "b"}
    assert nn.params(nn.from_canonical(still, nn.canonical(net))) == {}
    np.testing.assert_array_equal(numpy(dg, still(array(dg, np.ones((4, 3))))), [[4.0, 0.0]] * 4)


def test_frozen_parameters_of_torch_are_constants(dg_pyro):
    nn = dg_pyro.engine.nn
    net = nn.wrap(masked(dg_pyro, frozen=True))
    assert set(nn.params(net)) == {"w"}
    assert set(nn.constants(net)) == {"b", "mask"}
    twin = nn.with_arrays(net, {"w": array(dg_pyro, np.zeros((3, 2)))})
    assert (set(nn.params(twin)), twin.b.requires_grad) == ({"w"}, False)


@covers("nn.call")
def test_call_puts_arrays_in_under_the_common_names(dg, double):
    """Weights are (in, out) on both engines, any leading axes are flattened, and a gradient goes through."""
    engine = dg.engine
    net = engine.nn.mlp(engine.random.rng(0), (3, 4, 2), "tanh", "float64")
    arrays = {k: np.random.default_rng(1).normal(size=v.shape) for k, v in engine.nn.canonical(net).items()}
    x = np.random.default_rng(2).normal(size=(5, 7, 3))

    def out(params):
        return engine.nn.call(net, params)(array(dg, x, "float64"))

    own = {k: array(dg, v, "float64") for k, v in arrays.items()}
    hidden = np.tanh(x @ arrays["layers.0.weight"] + arrays["layers.0.bias"])
    exact = hidden @ arrays["layers.1.weight"] + arrays["layers.1.bias"]
    np.testing.assert_allclose(numpy(dg, out(own)), exact, rtol=0, atol=1e-12)
    grad = engine.control.value_and_grad(lambda p: engine.xp.sum(out(p)))(own)[1]
    np.testing.assert_allclose(
        numpy(dg, grad["layers.1.weight"]), np.tile(hidden.sum((0, 1))[:, None], (1, 2)), atol=1e-11
    )


@covers("nn.activation")
def test_activation(dg):
    assert dg.engine.nn.activation(dg.engine.nn.mlp(dg.engine.random.rng(0), (3, 2), "relu")) == "relu"
    assert dg.engine.nn.activation(dg.engine.nn.wrap(masked(dg))) is None


def test_with_arrays_is_differentiable(dg):
    engine = dg.engine
    net, x = engine.nn.wrap(masked(dg)), array(dg, np.ones((4, 3)))
    value, grad = engine.control.value_and_grad(lambda p: engine.xp.sum(engine.nn.with_arrays(net, p)(x)))(
        {"b": array(dg, [5.0, 6.0])}
    )
    np.testing.assert_allclose(float(value), 4 * 8)
    np.testing.assert_allclose(numpy(dg, grad["b"]), [4.0, 0.0])


def changing(dg, kind):
    """A network whose state, or output, changes as it runs: (network, its arrays)."""
    if dg.engine.name == "numpyro":
        from flax import nnx

        rngs = nnx.Rngs(0)
        net = {"BatchNorm": lambda: nnx.BatchNorm(3, rngs=rngs), "Dropout": lambda: nnx.Dropout(0.5, rngs=rngs)}[kind]()
        return net, lambda: [np.asarray(v.get_value()) for _, v in nnx.to_flat_state(nnx.state(net)) if v[...].ndim]
    import torch

    net = {"BatchNorm": lambda: torch.nn.BatchNorm1d(3), "Dropout": lambda: torch.nn.Dropout(0.5)}[kind]()
    return net, lambda: [t.detach().numpy().copy() for t in net.state_dict().values()]


@pytest.mark.parametrize("kind", ["BatchNorm", "Dropout"])
def test_networks_that_are_no_functions_are_refused(dg, kind):
    """By what they do when they run, traced or not; the question changes nothing; in evaluation mode they are taken."""
    engine = dg.engine
    net, arrays = changing(dg, kind)
    before, x = arrays(), array(dg, np.random.default_rng(0).normal(size=(4, 3)))
    call = engine.host.module("net", engine.nn.wrap(net), event_dim=1)
    with engine.host.bound():
        for run in (call, engine.control.compile(call)):
            with pytest.raises(TypeError, match=rf"equal outputs for equal inputs .*got {kind}.* with .*\.eval\(\)"):
                run(x)
        for a, b in zip(before, arrays(), strict=True):
            np.testing.assert_array_equal(a, b)
        net.eval()
        call = engine.host.module("net", engine.nn.wrap(net), event_dim=1)
        np.testing.assert_allclose(numpy(dg, call(x)), numpy(dg, x), atol=1e-4)


def test_asking_a_network_leaves_the_global_generator(dg_pyro):
    import torch

    net, _ = changing(dg_pyro, "Dropout")
    state = torch.get_rng_state()
    with pytest.raises(TypeError, match="other outputs for equal inputs"):
        dg_pyro.engine.host.module("net", net, event_dim=1)(torch.ones(4, 30))
    assert torch.equal(state, torch.get_rng_state())


def test_callable_trees_are_networks_on_jax(dg_numpyro):
    """Floating leaves are trained, others are constants, and what is no array belongs to the structure."""
    import jax
    import jax.numpy as jnp

    engine = dg_numpyro.engine
    fn = lambda layers, act, x: act(x @ layers[0]["w"]) * layers[1]  # noqa: E731 - hashed by identity
    tree = jax.tree_util.Partial(fn, [{"w": jnp.ones((3, 2))}, jnp.array([1, 0])], jnp.sin)
    net = engine.nn.wrap(tree)
    assert [v.shape for v in engine.nn.params(net).values()] == [(3, 2)]
    assert [v.shape for v in engine.nn.constants(net).values()] == [(2,)]
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    exact = np.sin(x.sum(1, keepdims=True)) * np.array([1, 0])
    np.testing.assert_allclose(np.asarray(jax.jit(lambda n, x: n(x))(net, x)), exact, rtol=1e-5, atol=1e-6)
    (name,) = net.params
    twice = engine.nn.with_arrays(net, {name: 2 * net.params[name]})
    np.testing.assert_allclose(np.asarray(twice(x))[:, 0], np.sin(2 * x.sum(1)), rtol=1e-4, atol=1e-5)


# -- the host ----------------------------------------------------------------------------------------------------------


@covers("host.ppl", "host.dist", "host.constraints", "host.handlers")
def test_host_modules(dg):
    host = dg.engine.host
    for name in ("sample", "plate", "param", "deterministic", "factor"):
        assert callable(getattr(host.ppl, name))
    normal = host.dist.Normal(array(dg, 1.0), array(dg, 2.0))
    np.testing.assert_allclose(float(normal.log_prob(array(dg, 0.3))), stats.norm(1, 2).logpdf(0.3), rtol=1e-6)
    for name in ("trace", "replay", "substitute", "scale", "block"):
        assert callable(getattr(host.handlers, name))
    real = host.constraints.independent(host.constraints.real, 1)
    assert real.event_dim == 1


@covers("host.module")
def test_module_flattens_leading_axes(dg, param_store):
    """A network that takes (rows, event) alone sees (rows, event), and its arrays are host parameters."""
    shapes = []
    if dg.engine.name == "numpyro":
        from flax import nnx

        class Picky(nnx.Module):
            def __init__(self):
                self.w = nnx.Param(np.arange(6.0, dtype=np.float32).reshape(3, 2))

            def __call__(self, x):
                shapes.append(x.shape)
                return x.reshape(x.shape[0], 3) @ self.w[...]
    else:
        import torch

        class Picky(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.w = torch.nn.Parameter(torch.arange(6.0).reshape(3, 2))

            def forward(self, x):
                shapes.append(tuple(x.shape))
                return x.reshape(x.shape[0], 3) @ self.w

    net = dg.engine.nn.wrap(Picky())
    w = np.arange(6.0).reshape(3, 2)
    x = np.random.default_rng(0).normal(size=(4, 5, 3, 1)).astype(np.float32)

    def program():
        return dg.engine.host.module("net", net, event_dim=2)(array(dg, x))

    trace = dg.engine.host.handlers.trace(program).get_trace()
    sites = trace if dg.engine.name == "numpyro" else trace.nodes
    assert [k for k, site in sites.items() if site["type"] == "param"] == ["net.w"]
    np.testing.assert_allclose(numpy(dg, program()), x[..., 0] @ w, rtol=1e-5, atol=1e-6)
    assert set(shapes) == {(20, 3, 1)}
    doubled = dg.engine.host.handlers.substitute(program, data={"net.w": array(dg, 2 * w)})
    np.testing.assert_allclose(numpy(dg, doubled()), 2 * (x[..., 0] @ w), rtol=1e-5, atol=1e-6)


class Doubled:
    """y = 2 x, as a bijection of vectors that counts its calls."""

    def __init__(self):
        self.calls = []

    def forward(self, x):
        self.calls.append("forward")
        return 2.0 * x, 0.0 * x[..., 0] + x.shape[-1] * np.log(2.0)

    def inverse(self, y):
        self.calls.append("inverse")
        return y / 2.0, 0.0 * y[..., 0] - y.shape[-1] * np.log(2.0)


@covers("host.transform")
def test_transform(dg, double):
    """Density of given values by the inverse; its own draws are scored without it."""
    engine, x = dg.engine, np.random.default_rng(0).normal(size=(5, 3))
    base = engine.host.dist.Normal(array(dg, np.zeros(3), "float64"), array(dg, np.ones(3), "float64")).to_event(1)
    bijection = Doubled()
    law = engine.host.dist.TransformedDistribution(base, [engine.host.transform(bijection)])
    np.testing.assert_allclose(
        numpy(dg, law.log_prob(array(dg, x, "float64"))), stats.norm(0, 2).logpdf(x).sum(-1), rtol=0, atol=1e-12
    )
    assert "inverse" in bijection.calls
    bijection.calls.clear()
    if engine.name == "numpyro":
        y, intermediates = law.sample_with_intermediates(engine.random.rng(0), (4,))
        log_prob = law.log_prob(y, intermediates)
    else:
        y = law.rsample((4,))
        log_prob = law.log_prob(y)
    assert bijection.calls == ["forward"]
    np.testing.assert_allclose(numpy(dg, log_prob), stats.norm(0, 2).logpdf(numpy(dg, y)).sum(-1), rtol=1e-6)


@covers("host.biject_to")
def test_biject_to(dg, double):
    x = array(dg, [-1.0, 0.5], "float64")
    positive = dg.engine.host.biject_to(dg.engine.host.constraints.positive)
    np.testing.assert_allclose(numpy(dg, positive(x)), np.exp([-1.0, 0.5]), rtol=1e-12)
    simplex = numpy(dg, dg.engine.host.biject_to(dg.engine.host.constraints.simplex)(x))
    b = special.expit(np.array([-1.0, 0.5]) - np.log([2.0, 1.0]))
    np.testing.assert_allclose(simplex, [b[0], (1 - b[0]) * b[1], (1 - b[0]) * (1 - b[1])], rtol=1e-10)


@covers("host.param")
def test_param(dg, param_store):
    own = dg.engine.host.trainable({"a": array(dg, [1.0, 2.0])})["a"]

    def program():
        return dg.engine.host.param("a", own)

    np.testing.assert_array_equal(numpy(dg, program()), [1.0, 2.0])
    changed = dg.engine.host.handlers.substitute(program, data={"a": array(dg, [3.0, 4.0])})
    np.testing.assert_array_equal(numpy(dg, changed()), [3.0, 4.0])


def test_param_refuses_the_tensor_of_another_model(dg_pyro, param_store):
    host = dg_pyro.engine.host
    host.param("a", host.trainable({"a": array(dg_pyro, [1.0])})["a"])
    with pytest.raises(RuntimeError, match="hold this model's own 'a', got another tensor .*clear_param_store"):
        host.param("a", host.trainable({"a": array(dg_pyro, [1.0])})["a"])


@covers("host.trainable")
def test_trainable(dg):
    params = {"a": array(dg, [1.0, 2.0])}
    own = dg.engine.host.trainable(params)
    np.testing.assert_array_equal(numpy(dg, own["a"]), [1.0, 2.0])
    if dg.engine.name == "pyro":
        assert own["a"].requires_grad
        assert not params["a"].requires_grad
        assert own["a"].data_ptr() != params["a"].data_ptr()


@covers("host.bound")
def test_bound_keeps_parameters_out_of_the_store(dg, param_store):
    own = dg.engine.host.trainable({"a": array(dg, [1.0])})["a"]
    with dg.engine.host.bound():
        assert dg.engine.host.param("a", own) is own
    if dg.engine.name == "pyro":
        import pyro

        assert list(pyro.get_param_store().keys()) == []


@covers("host.spin")
def test_spin(dg):
    logits = np.array([-3.0, 0.0, 2.0])
    spin = dg.engine.host.spin(array(dg, logits))
    up, down = (numpy(dg, spin.log_prob(array(dg, np.full(3, s)))) for s in (1.0, -1.0))
    np.testing.assert_allclose(up, special.log_expit(logits), rtol=1e-6)
    np.testing.assert_allclose(np.exp(up) + np.exp(down), 1.0, rtol=1e-6)
    np.testing.assert_allclose(numpy(dg, spin.mean), np.tanh(logits / 2), atol=1e-6)
    np.testing.assert_allclose(numpy(dg, spin.variance), 1 - np.tanh(logits / 2) ** 2, atol=1e-6)
    np.testing.assert_array_equal(numpy(dg, spin.enumerate_support()), [[-1] * 3, [1] * 3])

    def check(seed, factor):
        many = dg.engine.host.spin(array(dg, np.tile(logits, (20_000 * factor, 1))))
        x = numpy(dg, dg.engine.host.draw(dg.engine.random.rng(seed), many)).astype(float)
        assert set(np.unique(x)) == {-1.0, 1.0}
        gate_mean(x, np.tanh(logits / 2), se_cap=0.01)

    sampled(check, 15)


@covers("host.draw")
def test_draw_uses_only_its_generator(dg):
    import torch

    normal = dg.engine.host.dist.Normal(array(dg, np.zeros(5000)), array(dg, np.ones(5000)))
    before = torch.get_rng_state()
    a, b, c = (numpy(dg, dg.engine.host.draw(dg.engine.random.rng(s), normal)) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(a, b)
    assert (a != c).mean() > 0.99
    g_test(np.bincount(np.searchsorted(stats.norm.ppf(np.linspace(0, 1, 11)[1:-1]), a), minlength=10), np.full(10, 0.1))


def test_draw_moves_the_generator_on(dg_pyro):
    normal = dg_pyro.engine.host.dist.Normal(array(dg_pyro, np.zeros(5)), array(dg_pyro, np.ones(5)))
    rng = dg_pyro.engine.random.rng(1)
    first, second = (numpy(dg_pyro, dg_pyro.engine.host.draw(rng, normal)) for _ in range(2))
    assert (first != second).all()


def small_rbm(dg, seed=0):
    rng = np.random.default_rng(seed)
    w, b, c = rng.normal(size=(3, 2)), rng.normal(size=3), rng.normal(size=2)
    return dg.RBM(w.astype(np.float32), b.astype(np.float32), c.astype(np.float32)), (w, b, c)


def marginal_table(w, b, c):
    """p(v) of an RBM with three visible units, by enumeration."""
    v = np.array(list(np.ndindex(2, 2, 2)), float)
    log_f = v @ b + np.logaddexp(0, c + v @ w).sum(-1)
    return v, log_f - special.logsumexp(log_f)


@covers("host.marginal")
def test_marginal_is_the_enumerated_law(dg):
    machine, arrays = small_rbm(dg)
    v, log_p = marginal_table(*arrays)
    law = machine.marginal("v", log_normalizer="exact")
    assert isinstance(law, dg.engine.host.marginal)
    assert tuple(law.event_shape) == (3,)
    np.testing.assert_allclose(numpy(dg, law.log_prob(array(dg, v))), log_p, rtol=1e-5, atol=1e-5)


def deterministic_rbm(dg):
    """Visible biases so large that every chain is at (1, 0, 1) from the first step on."""
    w = np.random.default_rng(0).normal(size=(3, 2))
    b, c = np.array([60.0, -60.0, 60.0]), np.array([0.3, -0.7])
    return dg.RBM(*(x.astype(np.float32) for x in (w, b, c))), (w, b, c), np.array([1.0, 0.0, 1.0])


@covers("host.kernel")
def test_kernel_runs_in_the_hosts_mcmc(dg):
    machine, _, expected = deterministic_rbm(dg)
    kernel = dg.engine.host.kernel(dg.BlockGibbs(), machine, 1)
    if dg.engine.name == "numpyro":
        import jax
        from numpyro.infer import MCMC
        from numpyro.infer.mcmc import MCMCKernel

        mcmc = MCMC(kernel, num_warmup=1, num_samples=4, progress_bar=False)
        mcmc.run(jax.random.key(0))
    else:
        from pyro.infer import MCMC
        from pyro.infer.mcmc.mcmc_kernel import MCMCKernel

        mcmc = MCMC(kernel, warmup_steps=1, num_samples=4, disable_progbar=True)
        mcmc.run()
    assert isinstance(kernel, MCMCKernel)
    draws = mcmc.get_samples()
    assert set(draws) == {"v", "h"}
    np.testing.assert_array_equal(numpy(dg, draws["v"]).reshape(4, 3), np.tile(expected, (4, 1)))


@covers("host.contrastive", "host.persistent")
def test_contrastive_step_inside_the_hosts_svi(dg, param_store):
    """Chains that cannot move make the gradient exact: db = sum_n (x_n - v~), dW = sum_n (x_n p_n' - v~ p~')."""
    machine, (w, b, c), v = deterministic_rbm(dg)
    x = np.array([[1, 1, 0], [0, 1, 1], [1, 0, 0], [0, 0, 0]], float)
    learner = dg.StochasticML(num_chains=7, offset_rate=0.0).on(machine, rng=1)
    rate = 1e-3
    if dg.engine.name == "numpyro":
        import jax
        import optax
        from numpyro.infer import SVI

        svi = SVI(learner.model, learner.guide, optax.sgd(rate), learner.loss)
        state = svi.init(jax.random.key(0), array(dg, x))
        state, _ = svi.update(state, array(dg, x))
        params, chains = svi.get_params(state), state.mutable_state["chains"]
    else:
        import pyro
        from pyro.infer import SVI

        svi = SVI(learner.model, learner.guide, pyro.optim.SGD({"lr": rate}), learner.loss)
        svi.step(array(dg, x))
        params, chains = learner.machine.params, learner.chains
    np.testing.assert_array_equal(numpy(dg, chains.position["v"]), np.tile(v, (7, 1)))
    expit = special.expit
    gradients = {
        "v.bias": (x - v).sum(0),
        "h.bias": expit(c + x @ w).sum(0) - 4 * expit(c + v @ w),
        "v-h.weight": x.T @ expit(c + x @ w) - 4 * np.outer(v, expit(c + v @ w)),
    }
    for (name, gradient), old in zip(gradients.items(), (b, c, w), strict=True):
        moved = (numpy(dg, params[name]).astype(float) - old.astype(np.float32)) / rate
        np.testing.assert_allclose(moved, gradient, atol=6e-3 if name == "v.bias" else 1e-3, err_msg=name)


def test_contrastive_has_no_value(dg, param_store):
    machine, *_ = deterministic_rbm(dg)
    learner = dg.StochasticML(num_chains=3).on(machine)
    arguments = (learner.model, learner.guide, array(dg, np.ones((2, 3))))
    if dg.engine.name == "numpyro":
        import jax

        arguments = (jax.random.key(0), learner.machine.params, *arguments)
    with pytest.raises(RuntimeError, match="expected an objective with a value, got StochasticML"):
        learner.loss.loss(*arguments)


@covers("host.run")
def test_one_run_of_a_program(dg):
    """Values put in, the plates around each site, and log-probabilities as SciPy has them."""
    ppl, dist = dg.engine.host.ppl, dg.engine.host.dist
    x, z = np.random.default_rng(0).standard_normal((2, 5))

    def model(x):
        t = ppl.sample("t", dist.Normal(array(dg, 0.0), array(dg, 2.0)))
        with ppl.plate("data", 5, dim=-1):
            z = ppl.sample("z", dist.Normal(t, array(dg, 1.0)))
            ppl.sample("x", dist.Normal(z, array(dg, 0.5)), obs=x)

    rng = dg.engine.random.rng(0)
    sites = dg.engine.host.run(model, {"x": array(dg, x)}, rng=rng, values={"t": array(dg, 0.3), "z": array(dg, z)})
    assert {name: s.observed for name, s in sites.items()} == {"t": False, "z": False, "x": True}
    assert sites["t"].plates == ()
    assert (sites["x"].inside("data"), sites["t"].inside("data")) == (True, False)
    assert [tuple(p) for p in sites["z"].plates] == [("data", -1, 5)]
    exact = {"t": stats.norm(0, 2).logpdf(0.3), "z": stats.norm(0.3, 1).logpdf(z), "x": stats.norm(z, 0.5).logpdf(x)}
    for name, site in sites.items():
        np.testing.assert_allclose(numpy(dg, site.log_prob), exact[name], rtol=1e-4, atol=1e-5)
        assert (site.scale, site.auxiliary, site.law) == (1.0, False, "Normal")
    again = [dg.engine.host.run(model, {"x": array(dg, x)}, rng=dg.engine.random.rng(s)) for s in (0, 0, 1)]
    drawn = [numpy(dg, sites["z"].value) for sites in again]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).all()


@covers("host.run")
@pytest.mark.parametrize(("num_local", "num_global"), [(1, 1), (3, 2)])
def test_log_weights_of_the_exact_posterior(dg, num_local, num_global):
    """z ~ N(0, 1), x ~ N(z, 1), q(z | x) = N(x / 2, 1 / sqrt 2): every weight is p(x) = N(0, sqrt 2)."""
    ppl, dist = dg.engine.host.ppl, dg.engine.host.dist
    x = np.array([0.5, -1.0, 2.0])
    zero, one = array(dg, 0.0), array(dg, 1.0)

    def model(x):
        with ppl.plate("data", 3, dim=-1):
            ppl.sample("x", dist.Normal(ppl.sample("z", dist.Normal(zero, one)), one), obs=x)

    def guide(x):
        with ppl.plate("data", 3, dim=-1):
            ppl.sample("z", dist.Normal(x / 2, one * 0.5**0.5))

    rng = dg.engine.random.rng(0)
    objective = dg.IWAE(num_local, num_global)
    w = objective.log_weights(dg.engine, rng, model, guide, (array(dg, x),), {})
    assert tuple(w.local.shape) == (num_global, num_local, 3)
    assert tuple(w.global_.shape) == (num_global,)
    exact = stats.norm(0, 2**0.5).logpdf(x)
    np.testing.assert_allclose(numpy(dg, w.local), np.broadcast_to(exact, w.local.shape), atol=1e-6, rtol=0)
    np.testing.assert_array_equal(numpy(dg, w.global_), 0.0)
    assert float(w.scale) == 1.0


@covers("host.divergence")
@pytest.mark.parametrize("particles", [None, 3])
def test_divergence_of_two_sites(dg, particles):
    """KL(N(m, s) || N(0, 1)) of each datum and particle; of a point mass none is known."""
    ppl, dist, host = dg.engine.host.ppl, dg.engine.host.dist, dg.engine.host
    m, s = np.array([0.5, -1.0, 2.0]), 0.7

    def program(law):
        def run():
            with ppl.plate("data", 3, dim=-1):
                ppl.sample("z", law())

        return run

    prior = program(lambda: dist.Normal(array(dg, np.zeros(3)), array(dg, 1.0)))
    guide = program(lambda: dist.Normal(array(dg, m), array(dg, s)))
    q = host.run(guide, {}, rng=dg.engine.random.rng(0), particles=particles)["z"]
    p = host.run(prior, {}, values={"z": q})["z"]
    exact = np.log(1 / s) + (s**2 + m**2) / 2 - 0.5
    shape = (3,) if particles is None else (particles, 3)
    np.testing.assert_allclose(numpy(dg, host.divergence(q, p)), np.broadcast_to(exact, shape), rtol=1e-6)
    point = host.run(program(lambda: dist.Delta(array(dg, m))), {}, rng=dg.engine.random.rng(0))["z"]
    with pytest.raises(NotImplementedError):
        host.divergence(point, p)


@covers("host.run")
def test_a_run_with_values_parameters_and_particles(dg):
    """Global sites have one draw, local ones K different ones; what is put in is scored where it stands."""
    ppl, dist, host = dg.engine.host.ppl, dg.engine.host.dist, dg.engine.host
    zero, one = array(dg, 0.0).reshape(()), array(dg, 1.0).reshape(())

    def program(x):
        t = ppl.sample("t", dist.Normal(host.param("m", zero), one))
        with ppl.plate("data", 3, dim=-1):
            ppl.sample("x", dist.Normal(ppl.sample("z", dist.Normal(t, one)), one), obs=x)

    batch, rng = {"x": array(dg, np.array([0.5, -1.0, 2.0]))}, dg.engine.random.rng(0)
    with host.bound():
        sites = host.run(program, batch, rng=rng, particles=4, params={"m": one * 100})
    assert list(sites) == ["t", "z", "x"]
    assert [s.observed for s in sites.values()] == [False, False, True]
    assert [s.particles for s in sites.values()] == [None, 4, 4]
    t, z = numpy(dg, sites["t"].value), numpy(dg, sites["z"].value)
    assert t.shape == ()
    assert 90 < t < 110
    assert z.shape == (4, 3)
    assert len(np.unique(z)) == 12
    np.testing.assert_allclose(numpy(dg, sites["z"].log_prob), stats.norm(t, 1).logpdf(z), rtol=1e-4)
    np.testing.assert_allclose(numpy(dg, sites["x"].log_prob), stats.norm(z, 1).logpdf([0.5, -1.0, 2.0]), rtol=1e-4)
    with host.bound():
        again = host.run(program, batch, values={"t": zero, "z": array(dg, np.zeros(3))})
    assert float(again["t"].log_prob) == pytest.approx(stats.norm.logpdf(0.0))
    np.testing.assert_allclose(numpy(dg, again["x"].log_prob), stats.norm.logpdf([0.5, -1.0, 2.0]), rtol=1e-5)


@covers("control.map")
def test_map(dg):
    """Over the leading axis of every array, results stacked."""
    xs = {"a": array(dg, np.arange(6.0).reshape(3, 2)), "b": array(dg, np.arange(3.0))}
    out = dg.engine.control.map(lambda x: (x["a"] * x["b"], {"sum": x["a"].sum()}), xs)
    np.testing.assert_allclose(numpy(dg, out[0]), np.arange(6).reshape(3, 2) * np.arange(3)[:, None])
    np.testing.assert_allclose(numpy(dg, out[1]["sum"]), [1, 5, 9])


@functools.cache
def bowl(dg):
    """Objective sum_n |b - x_n|^2 / 2 over the rows, for the visible bias b of an RBM; its state counts the steps."""
    from deepgen_ppl.objectives.objective import Objective

    @dataclasses.dataclass(frozen=True)
    class Bowl(Objective):
        def init(self, rng, model, batch):
            return {"steps": array(dg, 0.0)}

        def before_step(self, rng, model, state, batch, mask):
            return model, {"steps": state["steps"] + 1.0}

        def batch_loss(self, rng, model, state, batch, mask, num_data):
            x = batch["v"]
            xp = model.engine.xp
            rows = 0.5 * xp.sum((model.params["v.bias"] - x) ** 2, axis=-1)
            return (xp.mean(rows) if mask is None else xp.sum(mask * rows) / xp.sum(mask)), state

    return Bowl()


@covers("host.trainer", "host.optimizers")
def test_trainer_and_optimizers(dg):
    """SGD on a bowl: b <- b - rate (b - mean x); a mask leaves rows out; the exported state goes on alike."""
    x = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    machine, (_, b, _) = small_rbm(dg)
    host, rng = dg.engine.host, dg.engine.random.rng(0)
    trainer = host.trainer(bowl(dg), host.optimizers["sgd"](0.1), 6)
    state = trainer.init(machine, rng, {"v": array(dg, x[:3])})
    rows = np.array([[0, 1, 2], [3, 4, 5], [5, 0, 0]])
    mask = np.array([[1, 1, 1], [1, 1, 1], [1, 0, 0]], bool)
    state, losses = trainer.run(state, {"v": array(dg, x)}, rows, mask)
    expected = b.astype(np.float32).astype(float)
    exact_losses = []
    for r, m in zip(rows, mask, strict=True):
        exact_losses.append(0.5 * ((expected - x[r[m]]) ** 2).sum(-1).mean())
        expected = expected - 0.1 * (expected - x[r[m]].mean(0))
    np.testing.assert_allclose(losses, exact_losses, rtol=1e-5)
    np.testing.assert_allclose(numpy(dg, trainer.model(state).params["v.bias"]), expected, rtol=1e-5)
    np.testing.assert_array_equal(numpy(dg, machine.params["v.bias"]), b.astype(np.float32))

    saved = trainer.export(state)
    assert all(isinstance(v, np.ndarray) for v in saved.values())
    fresh = trainer.restore(trainer.init(machine, dg.engine.random.rng(9), {"v": array(dg, x[:3])}), saved)
    for i, s in enumerate((fresh, state)):
        s, _ = trainer.step(s, {"v": array(dg, x[:3])}, np.array([True, True, False]))
        np.testing.assert_allclose(
            numpy(dg, trainer.model(s).params["v.bias"]), expected - 0.1 * (expected - x[:2].mean(0)), rtol=1e-5
        )
        assert float(s.objective["steps"]) == 4, i


def test_adam(dg):
    """The first step of Adam is the rate times the sign of the gradient."""
    x = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    machine, (_, b, _) = small_rbm(dg)
    trainer = dg.engine.host.trainer(bowl(dg), dg.engine.host.optimizers["adam"](0.01), 6)
    state = trainer.init(machine, dg.engine.random.rng(0), {"v": array(dg, x)})
    state, _ = trainer.step(state, {"v": array(dg, x)}, None)
    moved = numpy(dg, trainer.model(state).params["v.bias"]) - b.astype(np.float32)
    np.testing.assert_allclose(moved, -0.01 * np.sign(b - x.mean(0)), rtol=1e-4)


def test_register(dg):
    """On JAX a model is a tree of its arrays that is rebuilt whole; on torch there is nothing to do."""
    machine, _ = small_rbm(dg)
    if dg.engine.name == "pyro":
        assert dg.engine.register(type("Anything", (), {})) is None
        return
    import jax

    leaves, tree = jax.tree.flatten(machine)
    assert sorted(x.shape for x in leaves) == sorted(
        tuple(x.shape) for x in {**machine.params, **machine.constants}.values()
    )
    again = jax.tree.unflatten(tree, leaves)
    assert type(again) is type(machine)
    assert again.structure == machine.structure
    np.testing.assert_array_equal(np.asarray(again.params["v-h.weight"]), np.asarray(machine.params["v-h.weight"]))


@covers("host.nuts")
def test_nuts_of_a_normal(dg, param_store):
    """t ~ N(1, 2): draws (C, D) whose batches have its mean, and what the host tells of each draw."""

    class Normal(dg.Program):
        def __init__(self):
            self.build(arrays={"loc": np.float32(1.0)})

        def model(self, x=None):
            self.engine.host.ppl.sample("t", self.engine.host.dist.Normal(self.param("loc"), array(dg, 2.0)))

    def check(seed, factor):
        options = dg.NUTS(num_warmup=100, num_samples=1000 * factor, num_chains=2)
        rng = dg.engine.random.rng(seed)
        draws, of_draws = dg.engine.host.nuts(Normal(), {}, rng, options, progress=False)
        assert draws["t"].shape == of_draws["diverging"].shape == (2, 1000 * factor)
        means = draws["t"].reshape(-1, 10).mean(1)
        gate(means.mean(), means.std(ddof=1) / len(means) ** 0.5, 1.0, len(means), 0.3)

    sampled(check, 71)


def test_engines_are_compared_by_identity(dg_numpyro, dg_pyro):
    assert dg_numpyro.engine != dg_pyro.engine
    assert len({dg_numpyro.engine, dg_pyro.engine, dg_numpyro.engine}) == 2
    copy = dataclasses.replace(dg_numpyro.engine)
    assert copy != dg_numpyro.engine
    assert repr(dg_numpyro.engine) == "<engine numpyro>"


def test_every_function_has_a_row():
    functions = {f"{group}.{f.name}" for group, cls in GROUPS.items() for f in dataclasses.fields(cls)}
    assert functions == COVERED
    groups = {f.name for f in dataclasses.fields(base.Engine)} - {"name", "xp", "register", "families"}
    assert groups == set(GROUPS)
