"""Arrays of networks: which are trained, how others are put in, and what is no function."""

import numpy as np
import pytest
from helpers import array, numpy
from rows import covers


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
