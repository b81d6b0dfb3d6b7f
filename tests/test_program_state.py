"""The state of a program: networks, machines, arrays and constants of its own, on both hosts and in files."""

import contextlib
import copy
import pickle

import numpy as np
import oracles
import pytest
from helpers import array, numpy
from oracles import BINARY, Oracle
from scipy import special, stats

N = 6
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 3))
ARRAYS = {
    "net.layers.0.weight": RNG.normal(size=(2, 3)),
    "net.layers.0.bias": RNG.normal(size=3),
    "prior.v.bias": RNG.normal(size=2),
    "prior.h.bias": RNG.normal(size=3),
    "prior.v-h.weight": RNG.normal(size=(2, 3)),
    "log_scale.of.x": RNG.normal(size=3) * 0.3,
    "temperature": np.array(0.4),
    "shift": RNG.normal(size=3),
}
"""Arrays of `Everything` under the common names; `shift` is not trained."""


def family(dg):
    """z ~ p(v) of an RBM, x ~ Normal(t (net(z) + shift), exp(log_scale)), t = exp(temperature); q(z) uniform."""

    class Everything(dg.Program):
        options = ("depth",)

        def __init__(self, networks, machines, arrays, constants, *, depth=1, name=""):
            self.depth = depth
            self.build(networks=networks, machines=machines, arrays=arrays, constants=constants, name=name)

        @property
        def observed(self):
            return {"x": dg.Gaussian(3)}

        def model(self, x=None, *, size=None, num_data=None):
            host, xp = self.engine.host, self.engine.xp
            net, scale = self.net("net"), xp.exp(self.param("log_scale.of.x"))
            t, prior = self.param("temperature", constraint=host.constraints.positive), self.machine("prior")
            with self.data_plate(x, size, num_data):
                z = self.engine.arrays.cast(host.ppl.sample("z", prior.marginal(log_normalizer="exact")), self.like)
                law = host.dist.Normal(t * (net(z) + self.constant("shift")), scale)
                return host.ppl.sample("x", law.to_event(1), obs=x)

        def guide(self, x=None, *, size=None, num_data=None):
            host = self.engine.host
            with self.data_plate(x, size, num_data):
                return host.ppl.sample("z", host.dist.Bernoulli(probs=0.5 + 0.0 * x[:, :2]).to_event(1))

    return Everything


def everything(dg, dtype="float64", name="", **options):
    engine = dg.engine
    own = {k: array(dg, v, dtype) for k, v in ARRAYS.items()}
    net = engine.nn.from_canonical(
        engine.nn.mlp(engine.random.rng(0), (2, 3), "tanh", dtype),
        {k.removeprefix("net."): v.astype(dtype) for k, v in ARRAYS.items() if k.startswith("net.")},
    )
    prior = dg.RBM(own["prior.v-h.weight"], own["prior.v.bias"], own["prior.h.bias"])
    arrays = {k: own[k] for k in ("log_scale.of.x", "temperature")}
    return family(dg)({"net": net}, {"prior": prior}, arrays, {"shift": own["shift"]}, name=name, **options)


def log_joint(dg, half, values, *args, **kwargs):
    """Site name -> log-probabilities of a run with these values of the latent sites."""
    handlers = dg.engine.host.handlers
    with dg.engine.host.bound():
        if dg.engine.name == "numpyro":
            trace = handlers.trace(handlers.substitute(half, data=values)).get_trace(*args, **kwargs)
            sites = {k: s for k, s in trace.items() if s["type"] == "sample"}
        else:
            trace = handlers.trace(handlers.condition(half, data=values)).get_trace(*args, **kwargs)
            sites = {k: s for k, s in trace.nodes.items() if s["type"] == "sample"}
            sites = {k: s for k, s in sites.items() if type(s["fn"]).__name__ != "_Subsample"}
        return {k: numpy(dg, s["fn"].log_prob(s["value"])) for k, s in sites.items()}


def exact_log_joint(z, arrays=ARRAYS):
    """(log p(z), log p(x | z)) as NumPy; p(z) of the RBM by enumeration."""
    own = {k.removeprefix("prior."): v for k, v in arrays.items() if k.startswith("prior.")}
    rbm = Oracle(oracles.energy_rbm, own, {"v": (2, BINARY), "h": (3, BINARY)})
    states = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], float)
    free = np.array([_log_f(own, v) for v in states])
    assert np.isclose(special.logsumexp(free), rbm.log_z, rtol=0, atol=1e-10)
    log_pz = np.array([_log_f(own, v) for v in z]) - rbm.log_z
    mean = np.exp(arrays["temperature"]) * (
        z @ arrays["net.layers.0.weight"] + arrays["net.layers.0.bias"] + arrays["shift"]
    )
    return log_pz, stats.norm(mean, np.exp(arrays["log_scale.of.x"])).logpdf(X).sum(-1)


def _log_f(own, v):
    return v @ own["v.bias"] + np.logaddexp(own["h.bias"] + v @ own["v-h.weight"], 0).sum()


Z = np.array([[0, 0], [0, 1], [1, 0], [1, 1], [0, 1], [1, 1]], float)


@pytest.mark.parametrize("name", ["", "mine"])
def test_every_part_is_used_and_registered(dg, double, param_store, name):
    program = everything(dg, name=name)
    p = log_joint(dg, program.model, {"z": array(dg, Z, "float64")}, array(dg, X, "float64"))
    for site, exact in zip(("z", "x"), exact_log_joint(Z), strict=True):
        np.testing.assert_allclose(p[site], exact, rtol=0, atol=1e-10)
    head = f"{name}." if name else ""
    assert {k.removeprefix(head) for k in program.constants} == {"shift"}
    weight = "kernel" if dg.engine.name == "numpyro" else "weight"
    names = {k.replace("layers.0.weight", f"layers.0.{weight}") for k in ARRAYS} - {"shift"}
    assert set(program.params) == {head + k for k in names}
    assert program.params[f"{head}temperature"].shape == ()


def test_the_host_sees_every_trained_array(dg, double, param_store):
    program = everything(dg, name="seen")
    run = program.model if dg.engine.name == "pyro" else dg.engine.host.handlers.seed(program.model, 0)
    trace = dg.engine.host.handlers.trace(run).get_trace(array(dg, X, "float64"))
    sites = trace if dg.engine.name == "numpyro" else trace.nodes
    assert {k for k, s in sites.items() if s["type"] == "param"} == set(program.params)


def test_both_engines_and_files_hold_the_same(dg, dg_numpyro, dg_pyro, tmp_path):
    """What one engine saves, either loads: the same log joint, scalars included."""
    with dg_numpyro.engine.control.double():
        program = everything(dg, depth=3)
        arrays = program.canonical()
        assert {k: v.shape for k, v in arrays.items()} == {k: v.shape for k, v in ARRAYS.items()}
        for k, v in ARRAYS.items():
            np.testing.assert_array_equal(arrays[k], v)
        dg.save(program, tmp_path / "model")
        for face in (dg_numpyro, dg_pyro):
            cls = family(face)
            again = face.load(tmp_path / "model")
            assert (type(again), again.depth, again.name) == (cls, 3, "")
            p = log_joint(face, again.model, {"z": array(face, Z, "float64")}, array(face, X, "float64"))
            np.testing.assert_allclose(p["z"] + p["x"], sum(exact_log_joint(Z)), rtol=0, atol=1e-10)
            other = again.from_canonical({k: 2 * v for k, v in arrays.items()}).canonical()
            for k, v in arrays.items():
                np.testing.assert_array_equal(other[k], 2 * v)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))], ids=["deepcopy", "pickle"])
def test_copies(dg, double, copied):
    """Ordinary objects with state of their own."""
    module = {"Everything": family(dg)}
    globals().update(module)  # pickle wants a class that it can find
    module["Everything"].__qualname__ = "Everything"
    program = everything(dg)
    program.__class__ = module["Everything"]
    twin = copied(program)
    p = log_joint(dg, twin.model, {"z": array(dg, Z, "float64")}, array(dg, X, "float64"))
    np.testing.assert_allclose(p["z"] + p["x"], sum(exact_log_joint(Z)), rtol=0, atol=1e-10)


def test_mappings_cannot_be_changed(dg, double):
    program = everything(dg)
    for mapping in (program.params, program.constants, program.networks, program.arrays, program.machines):
        with pytest.raises(TypeError, match="models are immutable"):
            mapping["net"] = 1.0


def test_with_params_and_with_constants(dg, double):
    program = everything(dg)
    changed = {"prior.v.bias": np.array([0.5, -0.5]), "temperature": 0.1}
    new = program.with_params(changed).with_constants({"shift": np.zeros(3)})
    p = log_joint(dg, new.model, {"z": array(dg, Z, "float64")}, array(dg, X, "float64"))
    exact = exact_log_joint(Z, {**ARRAYS, **changed, "shift": np.zeros(3)})
    np.testing.assert_allclose(p["z"], exact[0], rtol=0, atol=1e-10)
    np.testing.assert_allclose(p["x"], exact[1], rtol=0, atol=1e-10)
    np.testing.assert_array_equal(numpy(dg, program.params["prior.v.bias"]), ARRAYS["prior.v.bias"])
    for update, wrong, match in (
        (program.with_params, {"shift": np.zeros(3)}, r"expected parameters among \[.*got \['shift'\]"),
        (program.with_constants, {"temperature": 0.0}, r"expected constants among \['shift'\], got \['temperature'\]"),
        (program.with_constants, {"shift": np.zeros(2)}, r"expected shift of shape \(3,\), got shape \(2,\)"),
        (program.with_params, {"temperature": np.nan}, "expected finite values in temperature, got 1 NaN or infinite"),
    ):
        with pytest.raises(ValueError, match=match):
            update(wrong)


@pytest.mark.parametrize(
    "state",
    [
        {"networks": 1, "arrays": ["a"]}, {"machines": 1, "arrays": ["a.b"]}, {"networks": 1, "machines": 1},
        {"arrays": ["b"], "constants": ["b"]}, {"arrays": [""]},
    ],
)  # fmt: skip
def test_names_are_given_once(dg, state):
    parts = {
        "networks": {"a": dg.engine.nn.mlp(dg.engine.random.rng(0), (2, 2), "tanh")},
        "machines": {"a": dg.RBM.init(2, 2, rng=0)},
    }
    given = {k: parts[k] if v == 1 else dict.fromkeys(v, np.zeros(1, np.float32)) for k, v in state.items()}
    program = object.__new__(family(dg)) if dg.engine.name == "numpyro" else family(dg).__new__(family(dg))
    with pytest.raises(ValueError, match="of different names, got"):
        program.build(**given)


def test_machines_are_machines(dg):
    program = family(dg).__new__(family(dg))
    with pytest.raises(TypeError, match="expected a machine for the machine 'a', got 3"):
        program.build(machines={"a": 3})


# -- gradients through with_params -------------------------------------------------------------------------------------


def test_with_params_is_differentiable(dg, double):
    """Of every part: the gradient of the log joint by `with_params` is that of finite differences."""
    program, engine = everything(dg), dg.engine
    x, z = array(dg, X, "float64"), array(dg, Z, "float64")
    params = {k: v for k, v in program.params.items() if k in ("net.layers.0.bias", "prior.v.bias", "temperature")}

    def joint(params):
        new = program.with_params(params)
        prior = new.machines["prior"].marginal(log_normalizer="exact")
        mean = engine.xp.exp(new.arrays["temperature"]) * (new.networks["net"](z) + new.constant("shift"))
        law = engine.host.dist.Normal(mean, engine.xp.exp(new.arrays["log_scale.of.x"]))
        return engine.xp.sum(prior.log_prob(z)) + engine.xp.sum(law.log_prob(x))

    value, grad = engine.control.value_and_grad(joint)(
        {k: array(dg, numpy(dg, v), "float64") for k, v in params.items()}
    )
    np.testing.assert_allclose(float(value), sum(exact_log_joint(Z)).sum(), rtol=0, atol=1e-9)
    h = 1e-5
    for k, g in grad.items():
        flat = numpy(dg, g).reshape(-1)
        for i in range(flat.size):
            step = np.zeros(flat.size)
            step[i] = h
            step = step.reshape(ARRAYS[k].shape)
            up, down = (sum(exact_log_joint(Z, {**ARRAYS, k: ARRAYS[k] + s})).sum() for s in (step, -step))
            np.testing.assert_allclose(flat[i], (up - down) / (2 * h), rtol=1e-6, atol=1e-6)


def test_the_posterior_over_a_last_bias_sees_the_data(dg, double, param_store):
    """b ~ Normal(0, 1) put into a network inside the model, x ~ Normal(net(1) + b): the host's gradient is exact."""
    net = dg.engine.nn.mlp(dg.engine.random.rng(0), (1, 3), "tanh", "float64")

    class LastBias(dg.Program):
        def __init__(self):
            self.build(networks={"net": net})

        def model(self, x):
            host, one = self.engine.host, array(dg, np.ones((1, 1)), "float64")
            b = host.ppl.sample("b", host.dist.Normal(array(dg, np.zeros(3), "float64"), 1.0).to_event(1))
            new = self.with_params({"net.layers.0.bias": b})
            with self.data_plate(x, None):
                host.ppl.sample("x", host.dist.Normal(new.networks["net"](one)[0], 1.0).to_event(1), obs=x)

    program, b = LastBias(), np.array([0.3, -0.2, 0.1])
    w = program.canonical()["net.layers.0.weight"][0]
    exact = (X - w - b).sum(0) - b
    if dg.engine.name == "numpyro":
        import jax
        from numpyro.infer.util import log_density

        grad = jax.grad(lambda b: log_density(program.model, (array(dg, X, "float64"),), {}, {"b": b})[0])(b)
    else:
        import pyro
        import torch

        at = torch.tensor(b, requires_grad=True)
        trace = pyro.poutine.trace(pyro.condition(program.model, {"b": at})).get_trace(torch.tensor(X))
        (grad,) = torch.autograd.grad(trace.log_prob_sum(), at)
    np.testing.assert_allclose(numpy(dg, grad), exact, rtol=0, atol=1e-10)


# -- a VAE with an RBM for its prior, as a user writes it -------------------------------------------------------------


def rbm_vae(dg, prior=None, **options):
    """A VAE whose prior is the marginal of a Gaussian-Bernoulli RBM."""

    class RBMVAE(dg.VAE):
        def prior(self, covariates=None):
            return self.machine("prior").marginal(log_normalizer="exact")

    prior = prior or dg.GaussianBernoulliRBM.init(2, 3, rng=1, weight_scale=0.5, centered=False)
    return RBMVAE.init(dg.Bernoulli(6), 2, (5,), rng=0, machines={"prior": prior}, **options)


def test_a_machine_as_prior_trains_and_is_saved(dg, tmp_path):
    x = (np.random.default_rng(0).random((60, 6)) < 0.5).astype(np.float32)
    x[:, 3:] = x[:, :3]
    program = rbm_vae(dg)
    before = {k: numpy(dg, v).copy() for k, v in program.params.items()}
    options = {"optimizer": dg.adam(0.02), "epochs": 25, "batch_size": 20, "progress": False}
    fit = dg.fit(program, x, objective=dg.IWAE(num_particles=3), **options)
    assert fit.history["loss"][-1] < 0.95 * fit.history["loss"][0]
    assert min(np.abs(numpy(dg, fit.model.params[k]) - v).max() for k, v in before.items()) > 1e-3
    law = fit.model.machines["prior"].marginal(log_normalizer="exact")
    z = array(dg, np.random.default_rng(1).normal(size=(N, 2)))
    sites = log_joint(dg, fit.model.model, {"z": z}, array(dg, x[:N]))
    np.testing.assert_allclose(sites["z"], numpy(dg, law.log_prob(z)), rtol=1e-5)
    dg.save(fit.model, tmp_path / "model")
    again = dg.load(tmp_path / "model")
    assert type(again).__name__ == "RBMVAE"
    np.testing.assert_array_equal(log_joint(dg, again.model, {"z": z}, array(dg, x[:N]))["z"], sites["z"])


def test_a_machine_as_prior_trains_in_the_hosts_svi(dg, param_store):
    x = array(dg, (np.random.default_rng(0).random((20, 6)) < 0.5).astype(np.float32))
    program = rbm_vae(dg, name="svi")
    before = {k: numpy(dg, v).copy() for k, v in program.params.items()}
    if dg.engine.name == "numpyro":
        import jax
        import optax
        from numpyro.infer import SVI, Trace_ELBO

        run = SVI(program.model, program.guide, optax.adam(0.01), Trace_ELBO()).run(
            jax.random.key(0), 5, x, progress_bar=False
        )
        program = program.with_params(run.params)
    else:
        import pyro
        from pyro.infer import SVI, Trace_ELBO

        svi = SVI(program.model, program.guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO())
        for _ in range(5):
            svi.step(x)
    assert min(np.abs(numpy(dg, program.params[k]) - v).max() for k, v in before.items()) > 1e-3


# -- torch's own module protocol ---------------------------------------------------------------------------------------


def test_the_module_protocol_of_torch(dg_pyro):
    import torch

    program = everything(dg_pyro, "float32")
    assert {id(p) for p in program.parameters()} == {id(p) for p in program.params.values()}
    assert set(program.state_dict()) == set(program.params) | set(program.constants)
    assert [tuple(b.shape) for b in program.buffers()] == [(3,)]
    assert program.train() is program
    assert program.eval() is program

    other = program.from_canonical({k: 0.5 * v.astype(np.float32) for k, v in ARRAYS.items()})
    other.load_state_dict(program.state_dict())
    for k, v in {**program.params, **program.constants}.items():
        assert torch.equal(v, {**other.params, **other.constants}[k])
    torch.testing.assert_close(other.machines["prior"].params["v.bias"], program.params["prior.v.bias"])

    double = copy.deepcopy(program).to(torch.float64)
    p = log_joint(dg_pyro, double.model, {"z": torch.tensor(Z)}, torch.tensor(X))
    assert {v.dtype for v in p.values()} == {np.dtype("float64")}
    np.testing.assert_allclose(p["z"] + p["x"], sum(exact_log_joint(Z)), rtol=1e-5)


def test_averaged_models_of_torch(dg_pyro):
    """The running mean of the parameters, machines' included."""
    import torch

    program = everything(dg_pyro, "float32")
    average = torch.optim.swa_utils.AveragedModel(program)
    average.update_parameters(program)
    moved = program.with_params({k: v + 1.0 for k, v in program.params.items()})
    average.update_parameters(moved)
    for k, v in average.module.params.items():
        torch.testing.assert_close(v, program.params[k] + 0.5)
    torch.testing.assert_close(average.module.machines["prior"].params["v.bias"], program.params["prior.v.bias"] + 0.5)


def test_frozen_parameters_stay_and_are_saved(dg_pyro, param_store, tmp_path):
    import torch

    with torch.random.fork_rng():
        encoder = torch.nn.Linear(6, 4)
    encoder.weight.requires_grad_(False)
    program = dg_pyro.VAE.init(dg_pyro.Bernoulli(6), 2, (3,), rng=0, encoder=encoder, name="frozen")
    before = encoder.weight.detach().clone()
    assert "frozen.encoder.weight" in program.constants
    assert "frozen.encoder.bias" in program.params
    x = torch.ones(8, 6)
    fitted = dg_pyro.fit(program, x, epochs=2, progress=False).model
    import pyro

    svi = pyro.infer.SVI(program.model, program.guide, pyro.optim.Adam({"lr": 0.1}), dg_pyro.ELBO())
    for _ in range(3):
        svi.step(x)
    for model in (program, fitted):
        assert torch.equal(model.constants["frozen.encoder.weight"], before)
    assert not torch.equal(fitted.params["frozen.encoder.bias"], program.params["frozen.encoder.bias"])
    dg_pyro.save(fitted, tmp_path / "model")
    again = dg_pyro.load(tmp_path / "model", encoder=torch.nn.Linear(6, 4))
    torch.testing.assert_close(again.encode(x).mean, fitted.encode(x).mean)


def test_running_statistics_are_saved(dg, tmp_path):
    """A network with BatchNorm in evaluation mode is a function of its input; its statistics are the program's."""
    x = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)

    def normalized(seed):
        if dg.engine.name == "numpyro":
            from flax import nnx

            rngs = nnx.Rngs(seed)
            net = nnx.Sequential(nnx.Linear(4, 4, rngs=rngs), nnx.BatchNorm(4, rngs=rngs))
            if seed == 0:
                net(x)
        else:
            import torch

            with torch.random.fork_rng():
                torch.manual_seed(seed)
                net = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4))
            if seed == 0:
                net(torch.tensor(x))
        net.eval()
        return net

    program = dg.VAE.init(dg.Gaussian(4), 2, (3,), rng=0, encoder=normalized(0))
    dg.save(program, tmp_path / "model")
    again = dg.load(tmp_path / "model", encoder=normalized(1))
    np.testing.assert_array_equal(numpy(dg, again.encode(x).mean), numpy(dg, program.encode(x).mean))
    fresh = dg.VAE.init(dg.Gaussian(4), 2, (3,), rng=0, encoder=normalized(1))
    assert not np.allclose(numpy(dg, fresh.encode(x).mean), numpy(dg, program.encode(x).mean))


def test_a_network_with_batch_norm_is_refused_and_left_alone(dg, param_store):
    """In training mode, by `fit`, `bounds` and `encode` alike."""
    if dg.engine.name == "numpyro":
        from flax import nnx

        rngs = nnx.Rngs(0)
        net = nnx.Sequential(nnx.Linear(4, 4, rngs=rngs), nnx.BatchNorm(4, rngs=rngs))
        statistics = lambda: np.asarray(net.layers[1].mean[...])  # noqa: E731 - one line
    else:
        import torch

        net = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4))
        statistics = lambda: net[1].running_mean.numpy().copy()  # noqa: E731 - one line
    before, x = statistics(), np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    program = dg.VAE.init(dg.Gaussian(4), 2, (3,), rng=0, encoder=net)
    for use in (
        lambda: dg.fit(program, x, epochs=1, progress=False),
        lambda: dg.bounds(program, x, rng=0, options=dg.BoundsOptions(num_particles=2)),
        lambda: program.encode(x),
    ):
        with pytest.raises(
            TypeError, match=r"expected a network that gives equal outputs .*LayerNorm instead of Batch"
        ):
            use()
        np.testing.assert_array_equal(statistics(), before)


# -- means and scales from the decoder ---------------------------------------------------------------------------------


def networks_on_jax():
    """Name -> (network of four numbers, whether it mixes the rows of a batch)."""
    import jax
    from flax import nnx

    class Of(nnx.Module):
        def __init__(self, fn):
            self.linear, self.fn = nnx.Linear(4, 4, rngs=nnx.Rngs(0)), fn

        def __call__(self, x):
            return self.fn(self.linear(x))

    def grouped(x):
        return nnx.GroupNorm(4, num_groups=2, rngs=nnx.Rngs(0))(x)

    @jax.tree_util.register_pytree_node_class
    class Centered:
        def __init__(self, weight):
            self.weight = weight

        def tree_flatten(self):
            return (self.weight,), None

        @classmethod
        def tree_unflatten(cls, aux, children):
            return cls(*children)

        def __call__(self, x):
            return (x - x.mean(0)) @ self.weight

    return {
        "batch norm": (Of(lambda x: jax.nn.standardize(x, axis=0)), True),
        "softmax over the batch": (Of(lambda x: jax.nn.softmax(x, axis=0)), True),
        "running sum": (Of(lambda x: jax.numpy.cumsum(x, axis=0)), True),
        "the row before": (Of(lambda x: jax.numpy.roll(x, 1, axis=0)), True),
        "a tree": (Centered(jax.numpy.eye(4)), True),
        "layer norm": (nnx.Sequential(nnx.Linear(4, 4, rngs=nnx.Rngs(0)), nnx.LayerNorm(4, rngs=nnx.Rngs(0))), False),
        "group norm": (Of(grouped), False),
        "instance norm": (Of(lambda x: jax.nn.standardize(x.reshape(-1, 2, 2), axis=2).reshape(x.shape)), False),
        "softmax": (Of(lambda x: jax.nn.softmax(x, axis=-1)), False),
    }


def networks_on_torch():
    """The same."""
    import torch
    from torch import nn

    class Of(nn.Module):
        def __init__(self, fn):
            super().__init__()
            self.linear, self.fn = nn.Linear(4, 4), fn

        def forward(self, x):
            return self.fn(self.linear(x))

    split = (nn.Unflatten(1, (2, 2)), nn.Flatten(1))
    return {
        "batch norm": (nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, track_running_stats=False)), True),
        "softmax over the batch": (Of(lambda x: x.softmax(0)), True),
        "running sum": (Of(lambda x: x.cumsum(0)), True),
        "the row before": (Of(lambda x: x.roll(1, 0)), True),
        "a tree": (Of(lambda x: x - x.mean(0)), True),
        "layer norm": (nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)), False),
        "group norm": (nn.Sequential(nn.Linear(4, 4), nn.GroupNorm(2, 4)), False),
        "instance norm": (nn.Sequential(nn.Linear(4, 4), split[0], nn.InstanceNorm1d(2), split[1]), False),
        "softmax": (Of(lambda x: torch.softmax(x, -1)), False),
    }


ROWS = ["batch norm", "softmax over the batch", "running sum", "the row before", "a tree"]
ROWS += ["layer norm", "group norm", "instance norm", "softmax"]


@pytest.mark.parametrize("name", ROWS)
def test_a_network_that_mixes_rows_is_refused(dg, name):
    """Where it keeps nothing of them too, and whichever call comes first; norms within a row are taken."""
    net, mixes = (networks_on_jax if dg.engine.name == "numpyro" else networks_on_torch)()[name]
    x = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    program = dg.VAE.init(dg.Gaussian(4), 2, (3,), rng=0, encoder=net)
    uses = (
        lambda: program.encode(x),
        lambda: dg.fit(program, x, epochs=1, progress=False),
        lambda: dg.bounds(program, x, rng=0, options=dg.BoundsOptions(num_particles=2)),
    )
    for use in uses if name == "batch norm" else uses[1:2]:
        with expect_mixed(mixes):
            use()


def expect_mixed(mixes):
    sentence = "got .* with outputs of a row that depend on the other rows of its batch"
    return pytest.raises(TypeError, match=sentence) if mixes else contextlib.nullcontext()


def test_rows_are_compared_once(dg):
    """The check costs no step anything, also where all rows are alike."""
    calls = []
    if dg.engine.name == "numpyro":
        from flax import nnx

        class Counted(nnx.Linear):
            def __call__(self, x):
                calls.append(len(x))
                return super().__call__(x)

        net = Counted(4, 4, rngs=nnx.Rngs(0))
    else:
        import torch

        class Counted(torch.nn.Linear):
            def forward(self, x):
                calls.append(len(x))
                return super().forward(x)

        net = Counted(4, 4)
    program = dg.VAE.init(dg.Gaussian(4), 2, (3,), rng=0, encoder=net)
    x = np.ones((7, 4), np.float32)
    program.encode(x)
    first = len(calls)
    for _ in range(3):
        program.encode(x)
    assert first > 1
    assert len(calls) == first + 3


def test_gaussian_with_the_scale_of_the_network(dg, double, param_store):
    unit = dg.Gaussian(3, scale="network")
    assert (unit.width, unit.output_width, unit.likelihood_arrays()) == (3, 6, ({}, {}))
    program = dg.VAE.init(unit, 2, (4,), rng=0, dtype="float64", data=X)
    a, z = program.canonical(), np.random.default_rng(3).normal(size=(N, 2))
    out = np.tanh(z @ a["decoder.layers.0.weight"] + a["decoder.layers.0.bias"])
    out = out @ a["decoder.layers.1.weight"] + a["decoder.layers.1.bias"]
    sites = log_joint(dg, program.model, {"z": array(dg, z, "float64")}, array(dg, X, "float64"))
    np.testing.assert_allclose(
        sites["x"], stats.norm(out[:, :3], np.exp(out[:, 3:])).logpdf(X).sum(-1), rtol=0, atol=1e-10
    )
    np.testing.assert_allclose(a["decoder.layers.1.bias"], [*X.mean(0), 0, 0, 0], atol=1e-6)
    loc = numpy(dg, program.encode(X).mean)
    out = np.tanh(loc @ a["decoder.layers.0.weight"] + a["decoder.layers.0.bias"])
    out = out @ a["decoder.layers.1.weight"] + a["decoder.layers.1.bias"]
    np.testing.assert_allclose(numpy(dg, program.reconstruct(X)), out[:, :3], atol=1e-10)


def test_a_layer_has_no_network(dg):
    with pytest.raises(
        ValueError, match=r"expected a layer with a known scale.*got Gaussian\(size=3, scale='network'\)"
    ):
        dg.RBM.init(dg.Gaussian(3, scale="network"), 2, rng=0)
    with pytest.raises(ValueError, match="for scale"):
        dg.Gaussian(3, scale="net")


def test_sample_and_log_prob_of_any_program(dg, double):
    program = everything(dg)
    draws, again = (numpy(dg, program.sample(5, rng=0)) for _ in range(2))
    assert draws.shape == (5, 3)
    np.testing.assert_array_equal(draws, again)
    with pytest.raises(ValueError, match=r"without latent sites .*got Everything with \['z'\]: bounds"):
        program.log_prob(X)
    with pytest.raises(ValueError, match=r"expected inputs among \[\] to draw from Everything, got \['c'\]"):
        program.sample(5, rng=0, c=X)
