"""What the engines take from their hosts: modules, sites, transforms, draws."""

import numpy as np
import pytest
from gates import g_test, gate_mean, sampled
from helpers import array, numpy
from rows import covers
from scipy import special, stats


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
