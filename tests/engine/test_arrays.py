"""Arrays of the engines against NumPy."""

import numpy as np
import pytest
from helpers import array, dtype_of, numpy
from rows import covers


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
