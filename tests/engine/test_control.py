"""Loops, derivatives, compilation and precision of the engines."""

import json
import os
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest
from helpers import array, dtype_of, numpy
from rows import covers


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


@covers("control.map")
def test_map(dg):
    """Over the leading axis of every array, results stacked."""
    xs = {"a": array(dg, np.arange(6.0).reshape(3, 2)), "b": array(dg, np.arange(3.0))}
    out = dg.engine.control.map(lambda x: (x["a"] * x["b"], {"sum": x["a"].sum()}), xs)
    np.testing.assert_allclose(numpy(dg, out[0]), np.arange(6).reshape(3, 2) * np.arange(3)[:, None])
    np.testing.assert_allclose(numpy(dg, out[1]["sum"]), [1, 5, 9])


@covers("control.shard")
def test_shard(dg):
    """The same values whatever the devices."""
    x, like = ({"a": array(dg, np.arange(8.0).reshape(4, 2))}, array(dg, [0.0, 1.0])), array(dg, 1.0)
    out = dg.engine.control.shard(x, like)
    np.testing.assert_array_equal(numpy(dg, out[0]["a"]), np.arange(8.0).reshape(4, 2))
    np.testing.assert_array_equal(numpy(dg, out[1]), [0, 1])


SHARDED = """
import jax, numpy as np
import deepgen_ppl.numpyro as dg

assert len(jax.devices()) == 2
shard, like = dg.engine.control.shard, jax.numpy.zeros(3)
assert len(shard({"x": jax.numpy.zeros((4, 3))}, like)["x"].sharding.device_set) == 2
assert len(shard({"x": jax.numpy.zeros((5, 3))}, like)["x"].sharding.device_set) == 1
placed = jax.device_put(like, jax.devices()[1])
assert len(shard({"x": jax.numpy.zeros((4, 3))}, placed)["x"].sharding.device_set) == 1
assert not jax.jit(lambda x: shard(x, x))(like).any()
rbm = dg.RBM.init(6, 4, rng=0, weight_scale=1.0)
for reverse in (False, True):
    estimate = dg.ais(rbm, rng=0, betas=20, num_runs=100, reverse=reverse)
    print(estimate.log_weights.tolist())
    assert reverse or len(estimate.particles["h"].sharding.device_set) == 1
"""


@pytest.mark.slow
def test_annealing_over_two_devices(dg_numpyro):
    """The same runs on two devices as on one, to rounding."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SHARDED],
        capture_output=True, text=True, env={**os.environ, "XLA_FLAGS": flags}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rbm = dg_numpyro.RBM.init(6, 4, rng=0, weight_scale=1.0)
    for line, reverse in zip(done.stdout.splitlines(), (False, True), strict=True):
        own = dg_numpyro.ais(rbm, rng=0, betas=20, num_runs=100, reverse=reverse).log_weights
        np.testing.assert_allclose(json.loads(line), own, rtol=1e-5, atol=1e-5)


@covers("control.forget")
def test_what_was_compiled_is_forgotten(dg):
    """The function compiles anew on JAX, and gives the same."""
    square = dg.engine.control.compile(lambda x: x * x)
    first = numpy(dg, square(array(dg, 3.0)))
    compiled = getattr(square, "_cache_size", lambda: 1)()
    dg.engine.control.forget()
    assert compiled == 1
    assert getattr(square, "_cache_size", lambda: 0)() == 0
    assert numpy(dg, square(array(dg, 3.0))) == first == 9
