"""Directed programs: one source, the same law on both hosts, inside the hosts' own tools and through `fit`."""

import copy
import functools
import pickle

import numpy as np
import pytest
from gates import gate_mean, sampled
from helpers import array, numpy
from scipy import special, stats

N, D = 5, 2
KINDS = {
    "bernoulli": ("Bernoulli", (6,), {}, 0),
    "gaussian": ("Gaussian", (4,), {"scale": 0.7}, 0),
    "gaussian_learned": ("Gaussian", (4,), {"scale": None}, 0),
    "categorical": ("Categorical", (3,), {"num_states": 4}, 0),
    "covariates": ("Bernoulli", (6,), {}, 3),
    "categorical_covariates": ("Categorical", (3,), {"num_states": 4}, 3),
}


def sizes(kind):
    """(width of the statistic, hidden widths, number of covariates)."""
    name, (size,), options, covariates = KINDS[kind]
    return size * options.get("num_states", 1), (5, 4), covariates


@functools.cache
def weights(kind):
    """Random arrays under the common names."""
    width, hidden, c = sizes(kind)
    rng, arrays = np.random.default_rng(1), {}
    chains = {"encoder": (width + c, *hidden, 2 * D), "decoder": (D + c, *hidden[::-1], width)}
    for net, chain in chains.items():
        for i, (a, b) in enumerate(zip(chain, chain[1:], strict=False)):
            arrays[f"{net}.layers.{i}.weight"] = rng.normal(size=(a, b)) * 0.6
            arrays[f"{net}.layers.{i}.bias"] = rng.normal(size=b) * 0.4
    if kind == "gaussian_learned":
        arrays["log_sigma"] = rng.normal(size=width) * 0.3
    return arrays


@functools.cache
def data(kind):
    """(x, covariates or None, z)."""
    name, (size,), options, c = KINDS[kind]
    rng = np.random.default_rng(2)
    x = {
        "Bernoulli": lambda: rng.integers(0, 2, (N, size)).astype(float),
        "Gaussian": lambda: rng.normal(size=(N, size)),
        "Categorical": lambda: rng.integers(0, options.get("num_states", 0), (N, size)).astype(float),
    }[name]()
    return x, rng.normal(size=(N, c)) if c else None, rng.normal(size=(3, N, D))


def vae(dg, kind, dtype="float32", **options):
    name, args, unit_options, c = KINDS[kind]
    unit = getattr(dg, name)(*args, **unit_options)
    hidden = sizes(kind)[1]
    program = dg.VAE.init(unit, D, hidden, rng=0, num_covariates=c, dtype=dtype, **options)
    return program.from_canonical({k: v.astype(dtype) for k, v in weights(kind).items()})


# -- the program as NumPy ----------------------------------------------------------------------------------------------


def chain(kind, net, x):
    arrays, i = weights(kind), 0
    while f"{net}.layers.{i}.weight" in arrays:
        x = (np.tanh(x) if i else x) @ arrays[f"{net}.layers.{i}.weight"] + arrays[f"{net}.layers.{i}.bias"]
        i += 1
    return x


def with_covariates(x, c):
    return x if c is None else np.concatenate([x, np.broadcast_to(c, (*x.shape[:-1], c.shape[-1]))], -1)


def encoded(kind):
    """(location, scale) of q(z | x)."""
    x, c, _ = data(kind)
    if KINDS[kind][0] == "Categorical":
        x = np.eye(4)[x.astype(int)].reshape(N, -1)
    out = chain(kind, "encoder", with_covariates(x, c))
    return out[:, :D], np.exp(out[:, D:])


def decoded(kind, z):
    """The decoder's output."""
    return chain(kind, "decoder", with_covariates(z, data(kind)[1]))


def log_likelihood(kind, z):
    """log p(x | z), shape of z without its last axis."""
    x, out = data(kind)[0], decoded(kind, z)
    name, _, options, _ = KINDS[kind]
    if name == "Bernoulli":
        return (x * special.log_expit(out) + (1 - x) * special.log_expit(-out)).sum(-1)
    if name == "Gaussian":
        sigma = np.exp(weights(kind)["log_sigma"]) if options["scale"] is None else options["scale"]
        return stats.norm(out, sigma).logpdf(x).sum(-1)
    logits = special.log_softmax(out.reshape(*out.shape[:-1], 3, 4), -1)
    return np.take_along_axis(logits, np.broadcast_to(x, logits.shape[:-1]).astype(int)[..., None], -1)[..., 0].sum(-1)


def expected_mean(kind, z):
    """Mean statistic of p(x | z)."""
    out = decoded(kind, z)
    if KINDS[kind][0] == "Categorical":
        return special.softmax(out.reshape(N, 3, 4), -1).reshape(N, -1)
    return special.expit(out) if KINDS[kind][0] == "Bernoulli" else out


# -- one law on both hosts ---------------------------------------------------------------------------------------------


def keywords(dg, kind, dtype="float32"):
    c = data(kind)[1]
    return {} if c is None else {"covariates": array(dg, c, dtype)}


def log_joint(dg, program, values, *args, **kwargs):
    """Site name -> unscaled log-probabilities, and the scales, of a run with these values of the latent sites."""
    handlers = dg.engine.host.handlers
    if dg.engine.name == "numpyro":
        trace = handlers.trace(handlers.substitute(program, data=values)).get_trace(*args, **kwargs)
        sites = {k: s for k, s in trace.items() if s["type"] == "sample"}
        scales = {k: 1.0 if s["scale"] is None else s["scale"] for k, s in sites.items()}
    else:
        trace = handlers.trace(handlers.condition(program, data=values)).get_trace(*args, **kwargs)
        sites = {k: trace.nodes[k] for k in trace.stochastic_nodes + trace.observation_nodes}
        sites = {k: s for k, s in sites.items() if type(s["fn"]).__name__ != "_Subsample"}
        scales = {k: s["scale"] for k, s in sites.items()}
    return {k: numpy(dg, s["fn"].log_prob(s["value"])) for k, s in sites.items()}, scales


@pytest.mark.parametrize("kind", list(KINDS))
def test_log_joints_agree_site_by_site(dg, double, param_store, kind):
    """Both engines hold the same arrays and meet the same truth, hence each other."""
    x, _, z = data(kind)
    program, more = vae(dg, kind, "float64"), keywords(dg, kind, "float64")
    with dg.engine.host.bound():
        p, _ = log_joint(dg, program.model, {"z": array(dg, z[0], "float64")}, array(dg, x, "float64"), **more)
        q, _ = log_joint(dg, program.guide, {"z": array(dg, z[0], "float64")}, array(dg, x, "float64"), **more)
    assert set(p) == {"x", "z"}
    assert set(q) == {"z"}
    np.testing.assert_allclose(p["z"], stats.norm.logpdf(z[0]).sum(-1), rtol=0, atol=1e-10)
    np.testing.assert_allclose(p["x"], log_likelihood(kind, z[0]), rtol=0, atol=1e-10)
    np.testing.assert_allclose(q["z"], stats.norm(*encoded(kind)).logpdf(z[0]).sum(-1), rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", ["bernoulli", "categorical_covariates"])
def test_log_joints_agree_site_by_site_in_single_precision(dg, kind):
    x, _, z = data(kind)
    with dg.engine.host.bound():
        p, _ = log_joint(dg, vae(dg, kind).model, {"z": array(dg, z[0])}, array(dg, x), **keywords(dg, kind))
    np.testing.assert_allclose(p["x"], log_likelihood(kind, z[0]), rtol=1e-5)


@pytest.mark.parametrize("kind", ["bernoulli", "gaussian_learned", "categorical_covariates"])
def test_particles_are_leading_axes(dg, double, kind):
    """K draws of z for each datum: log-probabilities of shape (K, N), each that of its own draw."""
    x, _, z = data(kind)
    program = vae(dg, kind, "float64")
    with dg.engine.host.bound():
        p, _ = log_joint(
            dg, program.model, {"z": array(dg, z, "float64")}, array(dg, x, "float64"), **keywords(dg, kind, "float64")
        )
    assert p["x"].shape == (3, N)
    np.testing.assert_allclose(p["x"], log_likelihood(kind, z), rtol=0, atol=1e-10)


def test_num_data_scales_every_local_site(dg):
    x, _, z = data("bernoulli")
    program = vae(dg, "bernoulli")
    for half in (program.model, program.guide):
        with dg.engine.host.bound():
            plain, ones = log_joint(dg, half, {"z": array(dg, z[0])}, array(dg, x))
            scaled, scales = log_joint(dg, half, {"z": array(dg, z[0])}, array(dg, x), num_data=40)
        assert {float(v) for v in ones.values()} == {1.0}
        assert {float(v) for v in scales.values()} == {8.0}
        for k in plain:
            np.testing.assert_array_equal(plain[k], scaled[k])


def test_num_data_scales_the_bound(dg, param_store):
    """Through the host's own objective and through ours."""
    x, program = array(dg, data("bernoulli")[0]), vae(dg, "bernoulli")
    for objective in (dg.IWAE(num_particles=2), host_elbo(dg)):
        plain, scaled = (host_loss(dg, objective, program, x, num_data=n) for n in (N, 40))
        assert scaled == pytest.approx(8 * plain, rel=1e-5)


def host_elbo(dg):
    if dg.engine.name == "numpyro":
        from numpyro.infer import Trace_ELBO
    else:
        from pyro.infer import Trace_ELBO
    return Trace_ELBO()


def host_loss(dg, objective, program, x, **kwargs):
    """A host objective at the program's own parameters, always with the same draws."""
    if dg.engine.name == "numpyro":
        import jax

        return float(objective.loss(jax.random.key(0), program.params, program.model, program.guide, x, **kwargs))
    import pyro

    pyro.set_rng_seed(0)
    return float(objective.loss(program.model, program.guide, x, **kwargs))


# -- generating --------------------------------------------------------------------------------------------------------


def predictive(dg, program, num_samples, *args, seed=0, parallel=False, **kwargs):
    """The host's own `Predictive`."""
    if dg.engine.name == "numpyro":
        import jax
        from numpyro.infer import Predictive

        return Predictive(program, num_samples=num_samples, parallel=parallel)(jax.random.key(seed), *args, **kwargs)
    import pyro
    from pyro.infer import Predictive

    pyro.set_rng_seed(seed)
    return Predictive(program, num_samples=num_samples, parallel=parallel)(*args, **kwargs)


@pytest.mark.parametrize("kind", ["bernoulli", "gaussian_learned", "categorical_covariates"])
def test_the_hosts_predictive_draws_from_the_model(dg, param_store, kind):
    name, (size,), options, _ = KINDS[kind]
    draws = predictive(dg, vae(dg, kind).model, 7, size=N, **keywords(dg, kind))
    assert tuple(draws["z"].shape) == (7, N, D)
    x = numpy(dg, draws["x"])
    assert x.shape == (7, N, size)
    support = {"Bernoulli": {0, 1}, "Categorical": set(range(4))}.get(name)
    assert support is None or set(np.unique(x)) <= support


@pytest.mark.parametrize("parallel", [False, True])
def test_the_hosts_predictive_draws_from_the_guide(dg, param_store, parallel):
    loc, scale = encoded("bernoulli")
    program, x = vae(dg, "bernoulli"), array(dg, data("bernoulli")[0])

    def check(seed, factor):
        z = numpy(dg, predictive(dg, program.guide, 300 * factor, x, seed=seed, parallel=parallel)["z"])
        z = (z.reshape(-1, N, D).astype(float) - loc) / scale
        gate_mean(z.reshape(-1, N * D), np.zeros(N * D), se_cap=0.08)
        gate_mean((z**2).reshape(-1, N * D), np.ones(N * D), se_cap=0.12)

    sampled(check, 31)


def test_the_guide_without_data_is_the_prior(dg, param_store):
    z = numpy(dg, predictive(dg, vae(dg, "bernoulli").guide, 300, size=4)["z"]).reshape(300, 8)
    gate_mean(z, np.zeros(8), se_cap=0.08)
    gate_mean(z**2, np.ones(8), se_cap=0.12)


@pytest.mark.parametrize("kind", list(KINDS))
def test_encode_decode_reconstruct(dg, double, kind):
    x, c, z = data(kind)
    program = vae(dg, kind, "float64")
    more = keywords(dg, kind, "float64")
    q = program.encode(x, **more)
    loc, scale = encoded(kind)
    assert (tuple(q.batch_shape), tuple(q.event_shape)) == ((N,), (D,))
    np.testing.assert_allclose(numpy(dg, q.mean), loc, atol=1e-10)
    np.testing.assert_allclose(numpy(dg, q.variance), scale**2, atol=1e-10)
    p = program.decode(array(dg, z[0], "float64"), **more)
    assert (tuple(p.batch_shape), tuple(p.event_shape)) == ((N,), (x.shape[-1],))
    np.testing.assert_allclose(numpy(dg, program.reconstruct(x, **more)), expected_mean(kind, loc), atol=1e-10)


@pytest.mark.parametrize("kind", ["bernoulli", "gaussian", "categorical_covariates"])
def test_sample(dg, kind):
    program = vae(dg, kind)
    covariates = {} if data(kind)[1] is None else {"covariates": array(dg, np.ones((11, 3)))}
    x, again, other = (numpy(dg, program.sample(11, rng=seed, **covariates)) for seed in (0, 0, 1))
    assert x.shape == (11, KINDS[kind][1][0])
    np.testing.assert_array_equal(x, again)
    assert (x != other).any()


def test_sample_has_the_models_mean(dg):
    """E[x] = E_z[sigmoid(decoder(z))], by quadrature over the two latent variables."""
    nodes, w = np.polynomial.hermite_e.hermegauss(40)
    z = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), -1)
    w = np.outer(w, w) / w.sum() ** 2
    exact = np.tensordot(w, special.expit(chain("bernoulli", "decoder", z)), 2)

    def check(seed, factor):
        gate_mean(numpy(dg, vae(dg, "bernoulli").sample(4000 * factor, rng=seed)), exact, se_cap=0.01)

    sampled(check, 32)


def test_base_rates_become_the_first_reconstruction(dg):
    """With `data=...` a decoder whose weights are zero gives back the mean of the data."""
    x = (np.random.default_rng(0).random((200, 6)) < np.linspace(0.1, 0.9, 6)).astype(np.float32)
    program = dg.VAE.init(dg.Bernoulli(6), 2, (3,), rng=0, data=x)
    arrays = program.canonical()
    arrays["decoder.layers.1.weight"] = 0 * arrays["decoder.layers.1.weight"]
    np.testing.assert_allclose(
        numpy(dg, program.from_canonical(arrays).reconstruct(x[:2])), np.tile(x.mean(0), (2, 1)), atol=1e-5
    )


def test_covariates_matter_where_they_should(dg):
    x, c, _ = data("covariates")
    program = vae(dg, "covariates")
    moved = array(dg, c + 1.0)
    same, other = (numpy(dg, program.encode(x, covariates=v).mean) for v in (array(dg, c), moved))
    assert np.abs(same - other).max() > 0.01
    for wrong, got in ((None, "None"), (array(dg, c[:, :2]), r"shape \(5, 2\)")):
        with pytest.raises(ValueError, match=f"expected covariates of width 3, got {got}"):
            program.encode(x, covariates=wrong)
    with pytest.raises(ValueError, match=r"expected covariates of width 0, got shape \(5, 3\)"):
        vae(dg, "bernoulli").encode(data("bernoulli")[0], covariates=array(dg, c))


# -- parameters go in and out ------------------------------------------------------------------------------------------


def test_params_have_the_names_that_the_host_sees(dg, param_store):
    program = vae(dg, "gaussian_learned", name="mine")
    names = set()
    for half, args in ((program.model, ()), (program.guide, (array(dg, data("gaussian")[0]),))):
        kwargs = {} if args else {"size": 2}
        run = half if dg.engine.name == "pyro" else dg.engine.host.handlers.seed(half, 0)
        trace = dg.engine.host.handlers.trace(run).get_trace(*args, **kwargs)
        sites = trace if dg.engine.name == "numpyro" else trace.nodes
        names |= {k for k, s in sites.items() if s["type"] == "param"}
    assert names == set(program.params)
    assert all(k.startswith("mine.") for k in names)


def test_with_params_makes_a_new_program(dg):
    program = vae(dg, "gaussian_learned")
    before = {k: numpy(dg, v).copy() for k, v in program.params.items()}
    new = program.with_params({k: v * 0.0 + 0.5 for k, v in program.params.items()})
    assert type(new) is type(program)
    for k, v in program.params.items():
        np.testing.assert_array_equal(numpy(dg, v), before[k])
        np.testing.assert_array_equal(numpy(dg, new.params[k]), 0.5)
    part = program.with_params({"log_sigma": array(dg, np.full(4, 2.0))})
    np.testing.assert_array_equal(numpy(dg, part.params["log_sigma"]), 2.0)
    for k in before.keys() - {"log_sigma"}:
        np.testing.assert_array_equal(numpy(dg, part.params[k]), before[k])


def test_with_params_shares_nothing_that_training_would_move(dg_pyro):
    """Both programs own their tensors: training one in place leaves the other."""
    program = vae(dg_pyro, "gaussian_learned")
    copies = [program.with_params({}), program.with_params(program.params), program.from_canonical(program.canonical())]
    for new in copies:
        assert not {v.data_ptr() for v in new.params.values()} & {v.data_ptr() for v in program.params.values()}


def test_with_params_refuses_what_does_not_fit(dg):
    program = vae(dg, "bernoulli")
    name = next(iter(program.params))
    with pytest.raises(ValueError, match=r"expected parameters among \[.*got \['nothing'\]"):
        program.with_params({"nothing": program.params[name]})
    with pytest.raises(ValueError, match=rf"expected {name} of shape .*, got shape \(7,\)"):
        program.with_params({name: array(dg, np.ones(7))})


def test_canonical_round_trip(dg):
    program = vae(dg, "gaussian_learned")
    arrays = program.canonical()
    assert arrays.keys() == weights("gaussian_learned").keys()
    for k, v in arrays.items():
        np.testing.assert_array_equal(v, weights("gaussian_learned")[k].astype(np.float32))


def test_programs_are_ordinary_objects(dg):
    program = vae(dg, "gaussian_learned")
    x = data("gaussian")[0]
    for twin in (copy.deepcopy(program), pickle.loads(pickle.dumps(program))):
        np.testing.assert_array_equal(numpy(dg, twin.encode(x).mean), numpy(dg, program.encode(x).mean))
    assert "Gaussian(size=4, scale=None), latent=2" in repr(program)


def test_a_program_is_a_tree_on_jax(dg_numpyro):
    import jax

    program, x = vae(dg_numpyro, "gaussian_learned"), array(dg_numpyro, data("gaussian")[0])
    mean = jax.jit(lambda p, x: p.encode(x).mean)(program, x)
    np.testing.assert_allclose(np.asarray(mean), encoded("gaussian_learned")[0], rtol=1e-4, atol=1e-5)
    assert len(jax.tree.leaves(program)) == len(program.params)


def test_a_program_is_a_module_on_torch(dg_pyro):
    import torch

    program = vae(dg_pyro, "gaussian_learned")
    assert isinstance(program, torch.nn.Module)
    assert {id(v) for v in program.parameters()} == {id(v) for v in program.params.values()}
    other = dg_pyro.VAE.init(dg_pyro.Gaussian(4, scale=None), D, sizes("gaussian_learned")[1], rng=5)
    other.load_state_dict(program.state_dict())
    for k, v in program.params.items():
        assert torch.equal(v, other.params[k])
    assert program.to(torch.float64).like.dtype == torch.float64


# -- two programs in one process, by the host's SVI and by fit ---------------------------------------------------------


def svi_run(dg, program, x, steps, objective=None):
    """Train by the host's own SVI; the trained program."""
    objective = objective or dg.IWAE(num_particles=3)
    if dg.engine.name == "numpyro":
        import jax
        import optax
        from numpyro.infer import SVI

        svi = SVI(program.model, program.guide, optax.adam(0.02), objective)
        result = svi.run(jax.random.key(0), steps, x, progress_bar=False)
        return program.with_params(result.params), np.asarray(result.losses)
    import pyro
    from pyro.infer import SVI

    pyro.set_rng_seed(0)
    svi = SVI(program.model, program.guide, pyro.optim.Adam({"lr": 0.02}), objective)
    return program, np.array([svi.step(x) for _ in range(steps)])


def moved(dg, program, before):
    return {k: np.abs(numpy(dg, v) - before[k]).max() for k, v in program.params.items()}


def values(dg, program):
    return {k: numpy(dg, v).copy() for k, v in program.params.items()}


@functools.cache
def blobs():
    """Rows in two groups of opposite bits, a little noisy."""
    rng = np.random.default_rng(0)
    prototype = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]])
    flips = rng.random((60, 6)) < 0.05
    return np.where(flips, 1 - prototype[np.arange(60) % 2], prototype[np.arange(60) % 2]).astype(np.float32)


def test_two_programs_train_through_the_hosts_svi(dg, param_store):
    x = array(dg, blobs())
    for name, objective in (("a", dg.IWAE(num_particles=3)), ("b", host_elbo(dg))):
        program = vae(dg, "bernoulli", name=name)
        before = values(dg, program)
        trained, losses = svi_run(dg, program, x, 60, objective)
        assert losses[-10:].mean() < 0.9 * losses[0]
        assert min(moved(dg, trained, before).values()) > 0.01
        right = [np.mean((numpy(dg, p.reconstruct(blobs())) > 0.5) == blobs()) for p in (trained, vae(dg, "bernoulli"))]
        assert right[0] > right[1]


def test_names_that_collide_in_the_param_store_raise(dg_pyro, param_store):
    """Pyro would silently leave the second model untrained."""
    x = array(dg_pyro, blobs())
    svi_run(dg_pyro, vae(dg_pyro, "bernoulli"), x, 1)
    with pytest.raises(
        RuntimeError,
        match=r"expected Pyro's parameter store to hold this model's own '(en|de)coder.*another tensor.*"
        r"would not train.*init\(\.\.\., name=\.\.\.\).*clear_param_store.*fit",
    ):
        svi_run(dg_pyro, vae(dg_pyro, "bernoulli"), x, 1)
    dg_pyro.fit(vae(dg_pyro, "bernoulli"), blobs(), epochs=1, progress=False)


def test_two_programs_train_through_fit(dg):
    optimizer = dg.adam(0.02)
    for seed in (0, 1):
        program = dg.VAE.init(dg.Bernoulli(6), D, (5, 4), rng=seed)
        before = values(dg, program)
        fit = dg.fit(
            program, blobs(), objective=dg.IWAE(num_particles=3), optimizer=optimizer, epochs=20, batch_size=20,
            rng=0, progress=False,
        )  # fmt: skip
        assert fit.history["loss"][-1] < 0.9 * fit.history["loss"][0]
        assert min(moved(dg, fit.model, before).values()) > 0.01
        assert max(moved(dg, program, before).values()) == 0


def test_svi_and_fit_see_the_same_loss(dg, param_store):
    """One step of plain gradient descent from the same guide without noise: the same parameters."""
    program = vae(dg, "bernoulli")
    arrays = {k: v.astype(np.float32) for k, v in weights("bernoulli").items()}
    arrays["encoder.layers.2.weight"] = arrays["encoder.layers.2.weight"] * np.array([1, 1, 0, 0], np.float32)
    arrays["encoder.layers.2.bias"] = np.array([0.1, -0.2, -30, -30], np.float32)
    program, x, rate = program.from_canonical(arrays), blobs(), 1e-3
    objective = dg.ELBO(analytic_kl=True)
    by_fit = dg.fit(
        program, x, objective=objective, optimizer=dg.sgd(rate), epochs=1, batch_size=60, progress=False
    ).model
    twin = program.from_canonical(arrays)
    if dg.engine.name == "numpyro":
        import jax
        import optax
        from numpyro.infer import SVI

        svi = SVI(twin.model, twin.guide, optax.sgd(rate / 60), objective)
        twin = twin.with_params(svi.run(jax.random.key(0), 1, array(dg, x), progress_bar=False).params)
    else:
        import pyro
        from pyro.infer import SVI

        SVI(twin.model, twin.guide, pyro.optim.SGD({"lr": rate / 60}), objective).step(array(dg, x))
    for k, before in values(dg, program).items():
        by_fit_moved, by_svi_moved = (numpy(dg, p.params[k]) - before for p in (by_fit, twin))
        assert np.abs(by_fit_moved).max() > 1e-6
        np.testing.assert_allclose(
            by_svi_moved, by_fit_moved, atol=2e-7 + 1e-3 * np.abs(by_fit_moved).max(), rtol=0, err_msg=k
        )


# -- networks of the user's own ----------------------------------------------------------------------------------------


def own_networks(dg):
    """A convolutional encoder of 4 x 4 images and a decoder, native to the engine, made by the user."""
    if dg.engine.name == "numpyro":
        import jax.numpy as jnp
        from flax import nnx

        class Encoder(nnx.Module):
            def __init__(self, rngs):
                self.conv = nnx.Conv(1, 3, (3, 3), rngs=rngs)
                self.norm = nnx.LayerNorm(48, rngs=rngs)
                self.out = nnx.Linear(48, 4, rngs=rngs)

            def __call__(self, x):
                x = jnp.tanh(self.conv(x.reshape(-1, 4, 4, 1)))
                return self.out(self.norm(x.reshape(x.shape[0], 48)))

        rngs = nnx.Rngs(0)
        return Encoder(rngs), nnx.Sequential(nnx.Linear(2, 8, rngs=rngs), jnp.tanh, nnx.Linear(8, 16, rngs=rngs))
    import torch

    generator_state = torch.get_rng_state()
    torch.manual_seed(0)
    encoder = torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, 4, 4)), torch.nn.Conv2d(1, 3, 3, padding=1), torch.nn.Tanh(), torch.nn.Flatten(),
        torch.nn.LayerNorm(48), torch.nn.Linear(48, 4),
    )  # fmt: skip
    decoder = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 16))
    torch.set_rng_state(generator_state)
    return encoder, decoder


def bars():
    """Images of 4 x 4 with one row of ones."""
    images = np.zeros((40, 4, 4), np.float32)
    images[np.arange(40), np.arange(40) % 4] = 1.0
    return images.reshape(40, 16)


@pytest.mark.parametrize("how", [pytest.param("fit", marks=pytest.mark.slow), "svi"])
def test_networks_of_the_users_own_train(dg, param_store, how):
    encoder, decoder = own_networks(dg)
    program = dg.VAE.init(dg.Bernoulli(16), 2, rng=0, encoder=encoder, decoder=decoder)
    before = values(dg, program)
    objective = dg.IWAE(num_particles=3)
    if how == "svi":
        trained, losses = svi_run(dg, program, array(dg, bars()), 60, objective)
        first, last = losses[0], losses[-5:].mean()
    else:
        fit = dg.fit(
            program, bars(), objective=objective, optimizer=dg.adam(0.02), epochs=30, batch_size=20, progress=False
        )
        trained, (first, last) = fit.model, (fit.history["loss"][0], np.mean(fit.history["loss"][-5:]))
    assert last < 0.95 * first
    # The convolution's bias moves too; every array of both networks is trained.
    assert min(moved(dg, trained, before).values()) > 1e-3
    assert len(before) == 10
    assert tuple(trained.encode(bars()).mean.shape) == (40, 2)


def test_the_users_network_is_used_as_it_is(dg):
    encoder, decoder = own_networks(dg)
    program = dg.VAE.init(dg.Bernoulli(16), 2, rng=0, encoder=encoder, decoder=decoder)
    x = array(dg, bars())
    np.testing.assert_allclose(numpy(dg, program.encode(x).mean), numpy(dg, encoder(x)[:, :2]), rtol=1e-5, atol=1e-6)
    arrays = program.canonical()
    again = program.from_canonical({k: 2 * v for k, v in arrays.items()}).canonical()
    for k in arrays:
        np.testing.assert_array_equal(again[k], 2 * arrays[k])


def test_subclasses_of_the_users_own(dg):
    """A subclass that changes the prior trains through `fit` and stays of its class."""

    class Wide(dg.VAE):
        def model(self, x=None, *, covariates=None, size=None, num_data=None):
            host = self.engine.host
            decoder = self.net("decoder")
            with self.data_plate(x, size, num_data):
                zero = array(dg, np.zeros(self.latent))
                z = host.ppl.sample("z", host.dist.Normal(zero, zero + 3.0).to_event(1))
                return host.ppl.sample("x", host.dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)

    program = Wide.init(dg.Bernoulli(6), D, (4,), rng=0)
    fit = dg.fit(program, blobs(), optimizer=dg.adam(0.02), epochs=15, batch_size=20, progress=False)
    assert type(fit.model) is Wide
    assert fit.history["loss"][-1] < 0.95 * fit.history["loss"][0]
