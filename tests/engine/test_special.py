"""Special functions of the engines against NumPy and SciPy."""

import numpy as np
import pytest
from helpers import array, dtype_of, numpy
from rows import covers
from scipy import special

GRID = np.concatenate([np.linspace(-87.0, 100.0, 375), [-1e-6, 0.0, 1e-6, -20.0, 20.0, 20.1, 39.9, 40.1]])
FUNCTIONS = {
    "sigmoid": special.expit,
    "softplus": lambda x: np.logaddexp(x, 0.0),
    "lgamma": special.gammaln,
}
SLOPES = {
    "sigmoid": lambda x: special.expit(x) * special.expit(-x),
    "softplus": special.expit,
}


@covers("special.sigmoid", "special.softplus", "special.lgamma")
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
