"""Networks of the engines: perceptrons, files, what they wrap."""

import numpy as np
import pytest
from helpers import array, numpy
from rows import covers

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
