"""Models and guides of the user's own, as programs: against closed forms, the library's own program, and the hosts.

Regression: w ~ Normal(0, I), y_n ~ Normal(x_n' w, 0.5): w given y is Normal(m, S), 1 / S = I + X'X / 0.25.
Local: z_n ~ Normal(0, 1), x_n ~ Normal(z_n, s): x_n ~ Normal(0, sqrt(1 + s^2)), and z_n given x_n is Normal(a x_n, b).
"""

import copy
import functools

import numpy as np
import pytest
from scipy import stats

from deepgen_ppl.directed.program import Program
from deepgen_ppl.training.posterior import guide_draws
from deepgen_ppl.units.gaussian import Gaussian

RNG = np.random.default_rng(0)
X = (RNG.normal(size=(20, 2)) @ [[1.0, 0.6], [0.0, 0.8]]).astype(np.float32)
Y = (X @ [0.5, -0.3] + 0.5 * RNG.normal(size=20)).astype(np.float32)
DATA = {"x": X, "y": Y}
PRECISION = np.eye(2) + X.T @ X / 0.25
COV = np.linalg.inv(PRECISION)
MEAN = COV @ X.T @ Y / 0.25
LOG_EVIDENCE = stats.multivariate_normal(np.zeros(20), X @ X.T + 0.25 * np.eye(20)).logpdf(Y)

V = RNG.normal(0, 1.3, 9).astype(np.float32)
S = 0.8
A, B = 1 / (1 + S**2), S / (1 + S**2) ** 0.5
LOG_P = stats.norm(0, (1 + S**2) ** 0.5).logpdf(V)


class Host:
    """The user's own functions, on a host."""

    def __init__(self, dg):
        self.dg, self.ppl, self.dist = dg, dg.engine.host.ppl, dg.engine.host.dist
        self.positive = dg.engine.host.constraints.positive

    def array(self, x):
        return self.dg.engine.arrays.asarray(np.asarray(x, np.float32))

    def plate(self, x, size=None):
        return self.ppl.plate("data", size if x is None else x.shape[0], dim=-1)

    def regression(self, x, y=None):
        w = self.ppl.sample("w", self.dist.Normal(self.array(np.zeros(2)), self.array(np.ones(2))).to_event(1))
        with self.plate(x):
            self.ppl.sample("obs", self.dist.Normal((x * w).sum(-1), 0.5), obs=y)

    def posterior(self, x, y=None):
        """The exact posterior."""
        m = self.ppl.param("m", self.array(MEAN))
        self.ppl.sample("w", self.dist.MultivariateNormal(m, self.array(COV)))

    def local(self, x=None, size=None):
        s = self.ppl.param("s", self.array(S), constraint=self.positive)
        with self.plate(x, size):
            z = self.ppl.sample("z", self.dist.Normal(self.array(0.0), self.array(1.0)))
            return self.ppl.sample("x", self.dist.Normal(z, s), obs=x)

    def local_guide(self, x=None, size=None):
        """Exact at its first parameters."""
        a, b = self.ppl.param("a", self.array(A)), self.ppl.param("b", self.array(B), constraint=self.positive)
        with self.plate(x, size):
            self.ppl.sample("z", self.dist.Normal(a * x, b))

    def autoguides(self):
        if self.dg.engine.name == "numpyro":
            import numpyro.infer.autoguide as module
        else:
            import pyro.infer.autoguide as module
        return module

    def autoguide(self, name, model):
        make = getattr(self.autoguides(), name)
        if self.dg.engine.name == "numpyro":
            options = {"AutoIAFNormal": {"hidden_dims": [4]}, "AutoBNAFNormal": {"num_flows": 1}, "AutoDAIS": {"K": 2}}
            return make(model, **options.get(name, {}))
        if name == "AutoGuideList":
            guide = make(model)
            guide.append(self.autoguides().AutoMultivariateNormal(model))
            return guide
        if name == "AutoNormalizingFlow":
            from pyro.distributions.transforms import block_autoregressive

            return make(model, functools.partial(block_autoregressive, hidden_factors=[4]))
        return make(model)


@pytest.fixture
def host(dg):
    return Host(dg)


def numpy(dg, x):
    return dg.engine.arrays.to_numpy(x)


def values(dg, arrays):
    return {k: numpy(dg, v).copy() for k, v in arrays.items()}


def local_pair(host):
    return host.dg.Pair(host.local, host.local_guide, data={"x": V})


class Local(Program):
    """The local model as a program of the library."""

    @property
    def observed(self):
        return {"x": Gaussian(1)}

    @property
    def units(self):
        return {}

    def __init__(self):
        self.build(arrays={"s": np.log(np.float32(S)), "a": np.float32(A), "b": np.log(np.float32(B))})

    def model(self, x=None, *, size=None):
        host, s = self.engine.host, self.param("s", self.engine.host.constraints.positive)
        with self.data_plate(x, size):
            z = host.ppl.sample("z", host.dist.Normal(0.0 * s, 0.0 * s + 1.0))
            return host.ppl.sample("x", host.dist.Normal(z, s), obs=x)

    def guide(self, x=None, *, size=None):
        host = self.engine.host
        with self.data_plate(x, size):
            b = self.param("b", host.constraints.positive)
            host.ppl.sample("z", host.dist.Normal(self.param("a") * x, b))


# -- exact answers -----------------------------------------------------------------------------------------------------


def test_every_log_weight_of_an_exact_guide_is_the_evidence(dg, host):
    """Global latents: ELBO and IWAE of one draw, whatever it is, are log p(y)."""
    pair = dg.Pair(host.regression, host.posterior, data=DATA)
    for objective in (dg.ELBO(num_global=3), dg.IWAE(num_particles=2)):
        batch = {k: dg.engine.arrays.asarray(v) for k, v in DATA.items()}
        loss, _ = objective.batch_loss(dg.engine.random.rng(3), pair, {}, batch, None, len(Y))
        assert numpy(dg, loss) == pytest.approx(-LOG_EVIDENCE / len(Y), abs=1e-5)


def test_predictive_density(dg, host):
    """`bounds` is log of the mean of Normal(y_n; x_n' w_s, 0.5) over draws of the guide."""
    pair = dg.Pair(host.regression, host.posterior, data=DATA)
    got = dg.bounds(pair, DATA, rng=0, options=dg.BoundsOptions(num_particles=2000))
    exact = stats.norm(X @ MEAN, np.sqrt(0.25 + np.einsum("nd,de,ne->n", X, COV, X))).logpdf(Y).mean()
    assert got.flags == ("predictive",)
    assert got.lower.value == pytest.approx(exact, abs=5 * got.lower.mc_se)
    assert got.lower.mc_se < 0.02


def test_local_latents_three_ways(dg, host, param_store):
    """The pair, the library's own program and the host's own objective: log p(x), whatever is drawn."""
    if dg.engine.name == "numpyro":
        import jax
        from numpyro.infer import Trace_ELBO

        loss = Trace_ELBO().loss(jax.random.key(0), {}, host.local, host.local_guide, V)
    else:
        from pyro.infer import Trace_ELBO

        loss = Trace_ELBO().loss(host.local, host.local_guide, host.array(V))
    assert float(loss) == pytest.approx(-LOG_P.sum(), abs=2e-5)
    own, other = type("Local", (Local, dg.Program), {})(), {"a": np.float32(0.3), "s": np.float32(0.4)}
    for objective in (dg.ELBO(num_particles=3), dg.IWAE(num_particles=3)):
        for change in ({}, other):
            both = [
                numpy(dg, objective.batch_loss(dg.engine.random.rng(5), p.with_params(change), {}, batch, None, 9)[0])
                for p in (local_pair(host), own)
                for batch in [{"x": host.array(V)}]
            ]
            assert both[0] == pytest.approx(both[1], rel=1e-6)
            assert change or both[0] == pytest.approx(-LOG_P.mean(), abs=2e-6)
    np.testing.assert_allclose(dg.bounds(local_pair(host), V, rng=0).pointwise, LOG_P, atol=1e-5)


@pytest.mark.parametrize("name", ["ELBO", "IWAE"])
def test_minibatches(dg, host, name):
    """An epoch of steps that move nothing: the mean over the rows, a short last batch among them."""
    objective, optimizer = getattr(dg, name)(num_particles=2), dg.sgd(1e-9)
    fit = dg.fit(local_pair(host), V, objective=objective, optimizer=optimizer, epochs=1, batch_size=4, progress=False)
    assert fit.history["loss"] == pytest.approx([-LOG_P.mean()], abs=1e-5)


def test_maximum_likelihood_without_latents(dg, host):
    """No guide, no latents: the mean and the standard deviation of the data, and an exact log p."""

    def model(x):
        mean = host.ppl.param("mean", host.array(0.0))
        sd = host.ppl.param("sd", host.array(1.0), constraint=host.positive)
        with host.plate(x):
            host.ppl.sample("x", host.dist.Normal(mean, sd), obs=x)

    pair = dg.Pair(model, data={"x": V})
    best = dg.fit(pair, V, optimizer=dg.adam(0.05), epochs=300, rng=0, progress=False).model
    got = values(dg, best.host_params)
    assert got["mean"] == pytest.approx(V.mean(), abs=1e-3)
    assert got["sd"] == pytest.approx(V.std(), rel=1e-3)
    exact = stats.norm(got["mean"], got["sd"]).logpdf(V)
    np.testing.assert_allclose(numpy(dg, best.log_prob(V)), exact, atol=1e-5)
    assert dg.bounds(best, V, rng=0).lower.kind == "exact"


def test_params_are_unconstrained_and_differentiable(dg, host):
    """The gradient of log p(x) with respect to log sd is sum (x^2 / sd^2 - 1)."""

    def model(x):
        sd = host.ppl.param("sd", host.array(2.0), constraint=host.positive)
        with host.plate(x):
            host.ppl.sample("x", host.dist.Normal(host.array(0.0), sd), obs=x)

    pair = dg.Pair(model, data={"x": V})
    assert values(dg, pair.params) == {"sd": pytest.approx(np.log(2.0))}
    assert values(dg, pair.host_params) == {"sd": pytest.approx(2.0)}
    gradient = dg.engine.control.value_and_grad(lambda p: dg.engine.xp.sum(pair.with_params(p).log_prob(V)))
    value, grads = gradient({"sd": host.array(np.log(0.7))})
    assert float(value) == pytest.approx(stats.norm(0, 0.7).logpdf(V).sum(), rel=1e-5)
    assert float(grads["sd"]) == pytest.approx((V**2 / 0.49 - 1).sum(), rel=1e-4)


# -- autoguides of global latents --------------------------------------------------------------------------------------

FULL = ["AutoMultivariateNormal", "AutoLowRankMultivariateNormal", "AutoIAFNormal"]
WEIGHED = {
    "numpyro": ["AutoNormal", "AutoDiagonalNormal", *FULL, "AutoBNAFNormal", "AutoDAIS"],
    "pyro": [
        *("AutoNormal", "AutoDiagonalNormal", *FULL),
        *("AutoStructured", "AutoGaussian", "AutoNormalizingFlow", "AutoGuideList"),
    ],
}
MEAN_FIELD = 0.5 * (np.log(np.diag(PRECISION)).sum() - np.linalg.slogdet(PRECISION)[1])
"""KL(q || posterior) of the best factorized q, in nats: 0.58."""


def divergence(draws, mean, cov):
    """KL of a Gaussian with the moments of the draws to another."""
    m, c, precision = draws.mean(0), np.cov(draws.T), np.linalg.inv(cov)
    shift = mean - m
    inside = np.trace(precision @ c) + shift @ precision @ shift - len(m)
    return 0.5 * (inside + np.linalg.slogdet(cov)[1] - np.linalg.slogdet(c)[1])


def fitted(dg, pair, data, steps=300):
    """Trained with large steps, then with small ones."""
    for rate in (0.05, 0.005):
        objective = dg.ELBO(num_global=4)
        pair = dg.fit(
            pair, data, objective=objective, optimizer=dg.adam(rate), epochs=steps, rng=0, progress=False
        ).model
    return pair


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("engine", ["numpyro", "pyro"])
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=[] if n == "AutoNormal" else [pytest.mark.slow])
        for n in sorted({*WEIGHED["numpyro"], *WEIGHED["pyro"]})
    ],
)
def test_a_fitted_autoguide_of_a_pair(request, param_store, tmp_path, engine, name):
    """The posterior, or its best factorized fit, which loses 0.58 nats; a tenth of that is what steps leave.

    A Gaussian with the moments of 1,000 draws is itself about 0.003 nats off. Two leapfrog steps come closer than the
    factorized fit, not all the way. A file and a fresh guide give the same draws.
    """
    if name not in WEIGHED[engine]:
        pytest.skip("the host has none, or it is not weighed")
    dg = request.getfixturevalue(f"dg_{engine}")
    host = Host(dg)
    pair = fitted(dg, dg.Pair(host.regression, host.autoguide(name, host.regression), data=DATA), DATA)
    batch = {k: dg.engine.arrays.asarray(v) for k, v in DATA.items()}
    draws = numpy(dg, guide_draws(pair, batch, dg.engine.random.rng(1), 1000)["w"])
    if name == "AutoDAIS":
        assert divergence(draws, MEAN, COV) < 0.8 * MEAN_FIELD
    elif name in ("AutoNormal", "AutoDiagonalNormal"):
        assert divergence(draws, MEAN, np.diag(1 / np.diag(PRECISION))) < 0.1 * MEAN_FIELD
    else:
        assert divergence(draws, MEAN, COV) < 0.1 * MEAN_FIELD
    dg.save(pair, tmp_path / "pair")
    fresh = {"model": host.regression, "guide": host.autoguide(name, host.regression)}
    if name == "AutoDAIS":
        with pytest.raises(ValueError, match=r"expected the model and the guide that were saved.*\(AutoDAIS\)"):
            dg.load(tmp_path / "pair", **fresh)
        fresh = {"model": host.regression, "guide": host.autoguide(name, host.regression), "data": DATA}
    again = dg.load(tmp_path / "pair", **fresh)
    one, two = (dg.bounds(p, DATA, rng=1, options=dg.BoundsOptions(num_particles=20)) for p in (pair, again))
    np.testing.assert_allclose(one.pointwise, two.pointwise, rtol=1e-5)


@pytest.mark.parametrize("name", ["AutoDelta", "AutoLaplaceApproximation"])
def test_points(dg, host, param_store, name):
    """`fit` finds the mode, here the posterior's mean, and `bounds` puts it in."""
    pair = dg.Pair(host.regression, host.autoguide(name, host.regression), data=DATA)
    pair = dg.fit(pair, DATA, optimizer=dg.adam(0.05), epochs=300, rng=0, progress=False).model
    (loc,) = pair.host_params.values()
    np.testing.assert_allclose(numpy(dg, loc), MEAN, atol=1e-3)
    got = dg.bounds(pair, DATA, rng=0, options=dg.BoundsOptions(num_particles=3))
    np.testing.assert_allclose(got.pointwise, stats.norm(X @ numpy(dg, loc), 0.5).logpdf(Y), atol=1e-5)
    assert got.flags == ("predictive", "plug_in")


# -- as a program ------------------------------------------------------------------------------------------------------


def test_what_a_pair_observes(dg, host):
    """Arguments by the values that sites observe, and their spaces; drawn, predicted, compared under their names."""
    pair = dg.Pair(host.regression, host.posterior, data=DATA)
    assert pair.inputs == {"x", "y"}
    assert {k: o.measure for k, o in pair.observed.items()} == {"y": "R^1"}
    assert numpy(dg, pair.sample(4, rng=0, x=X[:4])).shape == (4,)
    assert numpy(dg, local_pair(host).sample(4, rng=0)).shape == (4,)
    posterior = dg.fit(pair, DATA, epochs=1, progress=False).posterior(num_draws=7)
    np.testing.assert_allclose(posterior.predict(X)["y"], numpy(dg, posterior.draws["w"]) @ X.T, atol=1e-5)
    with pytest.raises(ValueError, match="expected data, or a model that takes size=..., to run Pair"):
        pair.sample(4, rng=0)
    table = dg.compare({"pair": local_pair(host), "twin": local_pair(host)}, {"x": V}, rng=0)
    assert table.measure == "R^1"


def test_measures_are_those_of_units(dg, host):
    dist, array = host.dist, host.array
    laws = {
        "{0, 1}^3": (dist.Bernoulli(array(np.full(3, 0.4))).to_event(1), RNG.integers(0, 2, (5, 3)), dg.Bernoulli(3)),
        "N^2": (dist.Poisson(array([1.0, 2.0])).to_event(1), RNG.poisson(2, (5, 2)), dg.Poisson(2)),
        "R^2": (dist.Normal(array(np.zeros(2)), 1.0).to_event(1), RNG.normal(size=(5, 2)), dg.Gaussian(2)),
    }
    for measure, (law, x, unit) in laws.items():

        def model(x, law=law):
            with host.plate(x):
                host.ppl.sample("x", law, obs=x)

        pair = dg.Pair(model, data={"x": x.astype(np.float32)})
        assert pair.observed["x"].measure == unit.measure == measure


def test_integers_index(dg, host):
    """Integers come to the model as integers: group n of 3."""

    def model(group, y=None):
        with host.ppl.plate("groups", 3, dim=-1):
            t = host.ppl.sample("t", host.dist.Normal(host.array(0.0), host.array(1.0)))
        with host.plate(group):
            host.ppl.sample("y", host.dist.Normal(t[group], 0.5), obs=y)

    def guide(group, y=None):
        loc = host.ppl.param("loc", host.array([1.0, 2.0, 3.0]))
        with host.ppl.plate("groups", 3, dim=-1):
            host.ppl.sample("t", host.dist.Delta(loc))

    data = {"group": np.array([2, 0, 1, 1]), "y": np.zeros(4, np.float32)}
    got = dg.bounds(dg.Pair(model, guide, data=data), data, rng=0, options=dg.BoundsOptions(num_particles=2))
    np.testing.assert_allclose(got.pointwise, stats.norm([3.0, 1.0, 2.0, 2.0], 0.5).logpdf(0.0), rtol=1e-5)


@pytest.mark.slow
def test_nuts_on_a_model_of_the_hosts(dg, host, param_store):
    """No guide is needed, and nothing is left in Pyro's store."""
    pair = dg.Pair(host.regression, data=DATA)
    posterior = dg.fit(pair, DATA, method=dg.NUTS(num_warmup=200, num_samples=800), rng=0).posterior()
    assert divergence(numpy(dg, posterior.draws["w"]), MEAN, COV) < 0.1 * MEAN_FIELD
    if dg.engine.name == "pyro":
        import pyro

        assert not list(pyro.get_param_store().keys())


def test_checkpoints_and_copies(dg, host, tmp_path):
    """A run that was cut and went on gives the same arrays; copies are pairs."""
    options = {"optimizer": dg.adam(0.01), "batch_size": 4, "rng": 0, "progress": False}
    pair, file = local_pair(host), tmp_path / "run"
    whole = dg.fit(pair, V, epochs=4, **options).model
    dg.fit(pair, V, epochs=2, checkpoint=file, **options)
    again = dg.fit(pair, V, epochs=4, checkpoint=file, resume=True, **options).model
    for k, v in whole.params.items():
        np.testing.assert_array_equal(numpy(dg, v), numpy(dg, again.params[k]))
    assert values(dg, copy.deepcopy(whole).params) == values(dg, whole.params)
    assert repr(pair).startswith("Pair(local, local_guide; 3 parameters; ")


def test_files(dg, host, tmp_path):
    """Arrays go in again; another model is told apart by its numbers, and a file alone is not enough."""
    pair = local_pair(host).with_params({"a": np.float32(0.3)})
    dg.save(pair, tmp_path / "pair")
    again = dg.load(tmp_path / "pair", model=host.local, guide=host.local_guide)
    assert values(dg, again.params) == values(dg, pair.params)
    with pytest.raises(ValueError, match=r"expected model=... and guide=... to load a Pair.*got no model"):
        dg.load(tmp_path / "pair")
    with pytest.raises(TypeError, match=r"expected model=..., guide=... and data=... to load a Pair, got \['net'\]"):
        dg.load(tmp_path / "pair", net=3)

    def other(x=None, size=None):
        s = host.ppl.param("s", host.array(S), constraint=host.positive)
        with host.plate(x, size):
            z = host.ppl.sample("z", host.dist.Normal(host.array(0.0), host.array(2.0)))
            host.ppl.sample("x", host.dist.Normal(z, s), obs=x)

    with pytest.raises(ValueError, match="expected the model and the guide that were saved, with the log-weight"):
        dg.load(tmp_path / "pair", model=other, guide=host.local_guide)
    with pytest.raises(ValueError, match="expected arrays of the shapes"):
        dg.load(tmp_path / "pair", model=host.local, guide=lambda x, size=None: None)


def test_the_default_objective_of_discrete_draws(dg, host):
    """A guide without pathwise gradients is trained by its score: to the exact posterior of one bit a datum."""

    def model(x):
        with host.plate(x):
            h = host.ppl.sample("h", host.dist.Bernoulli(host.array(0.3)))
            host.ppl.sample("x", host.dist.Normal(2.0 * h, 1.0), obs=x)

    def guide(x):
        a, b = host.ppl.param("a", host.array(0.0)), host.ppl.param("b", host.array(0.0))
        with host.plate(x):
            host.ppl.sample("h", host.dist.Bernoulli(logits=a + b * x))

    pair = dg.Pair(model, guide, data={"x": V})
    options = {"optimizer": dg.adam(0.05), "rng": 0, "progress": False}
    default, rloo = (dg.fit(pair, V, objective=o, epochs=2, **options).model for o in (None, dg.RLOO()))
    assert values(dg, default.params) == values(dg, rloo.params)
    got = values(dg, dg.fit(pair, V, epochs=500, **options).model.params)
    assert got["b"] == pytest.approx(2.0, abs=0.3)  # log-odds: log 3/7 - 2 + 2 x; 0.05 a step leaves noise
    assert got["a"] == pytest.approx(np.log(3 / 7) - 2.0, abs=0.3)
    with pytest.raises(ValueError, match="RLOO, VIMCO, ReweightedWakeSleep and WakeSleep train them by their score"):
        dg.fit(pair, V, objective=dg.ELBO(), epochs=1, progress=False)


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["AutoNormal", "AutoMultivariateNormal"])
def test_autoguides_of_each_datum_are_refused_by_a_pair(dg, host, param_store, name):
    with pytest.raises(ValueError, match="autoguide of latents of each datum"):
        dg.Pair(host.local, host.autoguide(name, host.local), data={"x": V})


def test_autoguides_that_cannot_be_weighed_are_refused(dg, host, param_store):
    module, model = host.autoguides(), host.regression
    if dg.engine.name == "numpyro":
        guides = [module.AutoSemiDAIS(model, model), module.AutoSurrogateLikelihoodDAIS(model, model)]
    else:
        messengers = ("AutoNormalMessenger", "AutoHierarchicalNormalMessenger", "AutoRegressiveMessenger")
        guides = [getattr(module, name)(model) for name in (*messengers, "AutoDiscreteParallel")]
    for guide in guides:
        with pytest.raises(TypeError, match=f"weighed against the model, got {type(guide).__name__}: "):
            dg.Pair(model, guide, data=DATA)


def fixed_plate(host):
    def model(x):
        with host.ppl.plate("data", 9, dim=-1):
            host.ppl.sample("x", host.dist.Normal(host.array(0.0), 1.0), obs=x if x.shape[0] == 9 else x[:1])

    return model


def subsampled(host):
    def model(x):
        with host.ppl.plate("data", 9, subsample_size=4, dim=-1) as rows:
            host.ppl.sample("x", host.dist.Normal(host.array(0.0), 1.0), obs=x[rows])

    return model


def another_value(host):
    def model(x):
        with host.plate(x):
            host.ppl.sample("obs", host.dist.Normal(host.array(0.0), 1.0), obs=2.0 * x)

    return model


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (fixed_plate, "in a plate of the rows at hand, plate.'data', x.shape.0.., got 9 for 2 rows"),
        (subsampled, "to count each row once, got the scale 2.25: .* without subsample_size"),
        (another_value, "expected the observed site 'obs' to observe one argument of the model as it is, among"),
    ],
)
def test_models_that_are_refused_by_a_pair(dg, host, param_store, build, sentence):
    with pytest.raises(ValueError, match=sentence):
        dg.Pair(build(host), data={"x": V})


def test_data_that_are_refused_by_a_pair(dg, host):
    for data, error, sentence in (
        (V, TypeError, "expected data as a dict of arrays by the names of the model's arguments, got ndarray"),
        ({"x": V, "y": V[:2]}, ValueError, "expected data of one length, got the shapes"),
        ({"x": V[:0]}, ValueError, "expected data of one length, got the shapes"),
        ({"x": V, "weight": V}, ValueError, r"expected other names of data than \['weight'\]"),
    ):
        with pytest.raises(error, match=sentence):
            dg.Pair(host.local, host.local_guide, data=data)
    with pytest.raises(ValueError, match=r"expected data among \['weight', 'x'\] for Pair, got \['q'\]"):
        dg.fit(local_pair(host), {"q": V}, progress=False)
    with pytest.raises(ValueError, match=r"expected a model with parameters to train, got Pair\(.*which has none"):
        dg.fit(dg.Pair(host.regression, data=DATA), DATA, progress=False)
    with pytest.raises(ValueError, match=r"expected test data with \['x'\], on which Pair is conditioned, got \['y'\]"):
        dg.bounds(dg.Pair(host.regression, host.posterior, data=DATA), DATA["y"], rng=0)


# -- networks ----------------------------------------------------------------------------------------------------------


def test_trees_of_numpyro(dg_numpyro):
    """`flax_module` and `nnx_module`: leaves are trained arrays; a network with a state is refused."""
    import flax.linen as linen
    from flax import nnx
    from numpyro.contrib.module import flax_module, nnx_module

    dg, host = dg_numpyro, Host(dg_numpyro)

    def by_linen(x):
        net = flax_module("net", linen.Dense(1), input_shape=(1,))
        with host.plate(x):
            host.ppl.sample("x", host.dist.Normal(net(0.0 * x[:, None] + 1.0)[:, 0], 1.0), obs=x)

    def by_nnx(x):
        net = nnx_module("net", nnx.Linear(1, 1, rngs=nnx.Rngs(0)))
        with host.plate(x):
            host.ppl.sample("x", host.dist.Normal(net(0.0 * x[:, None] + 1.0)[:, 0], 1.0), obs=x)

    for model in (by_linen, by_nnx):
        pair = dg.Pair(model, data={"x": V})
        assert {k: v.shape for k, v in pair.params.items()} == {"net$params.kernel": (1, 1), "net$params.bias": (1,)}
        got = values(dg, dg.fit(pair, V, optimizer=dg.adam(0.05), epochs=200, rng=0, progress=False).model.params)
        assert sum(v.item() for v in got.values()) == pytest.approx(V.mean(), abs=1e-2)

    def with_state(x):
        net = flax_module("net", linen.BatchNorm(use_running_average=False), input_shape=(1,), mutable=["batch_stats"])
        with host.plate(x):
            host.ppl.sample("x", host.dist.Normal(net(x[:, None])[:, 0], 1.0), obs=x)

    with pytest.raises(TypeError, match=r"expected networks that keep no state, got the mutable site 'net\$state'"):
        dg.Pair(with_state, data={"x": V})


def test_modules_of_torch(dg_pyro, param_store):
    """A guide that is a plain module, and a network known by `pyro.module`, are trained in copies of their tensors."""
    import pyro
    import torch

    dg, host = dg_pyro, Host(dg_pyro)
    torch.manual_seed(0)

    class Guide(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.Linear(1, 1)
            self.log_scale = torch.nn.Parameter(torch.tensor(0.0))

        def forward(self, x):
            with host.plate(x):
                pyro.sample("z", host.dist.Normal(self.net(x[:, None])[:, 0], self.log_scale.exp()))

    decoder = torch.nn.Linear(1, 1)

    def model(x):
        pyro.module("decoder", decoder)
        with host.plate(x):
            z = pyro.sample("z", host.dist.Normal(host.array(0.0), host.array(1.0)))
            pyro.sample("x", host.dist.Normal(decoder(z[..., None])[..., 0], 0.5), obs=x)

    guide = Guide()
    other = torch.tensor(3.0)
    pyro.param("other", other)
    tensors = [*guide.parameters(), *decoder.parameters()]
    before = [t.detach().clone() for t in tensors]
    pair = dg.Pair(model, guide, data={"x": V})
    names = {"guide.net.weight", "guide.net.bias", "guide.log_scale", "decoder$$$weight", "decoder$$$bias"}
    assert set(pair.params) == names
    fit = dg.fit(pair, V, optimizer=dg.adam(0.01), epochs=10, progress=False)
    dg.bounds(fit.model, V, rng=0)
    assert all((v != pair.params[k]).all() for k, v in fit.model.params.items())
    assert all((a == b).all() for a, b in zip(tensors, before, strict=True))
    assert [id(t) for t in tensors] == [id(t) for t in (*guide.parameters(), *decoder.parameters())]
    assert list(pyro.get_param_store().keys()) == ["other"]
    assert pyro.get_param_store()._params["other"].data_ptr() == other.data_ptr()


def test_networks_of_torch_that_are_refused(dg_pyro, param_store):
    """A network that Pyro does not know would stay untrained; one that is no function of its input has no density."""
    import pyro
    import torch

    dg, host = dg_pyro, Host(dg_pyro)

    def model_of(net, registered):
        def model(x):
            if registered:
                pyro.module("net", net)
            with host.plate(x):
                pyro.sample("x", host.dist.Normal(net(x[:, None])[:, 0], 1.0), obs=x)

        return model

    linear = torch.nn.Linear(1, 1)
    with pytest.raises(ValueError, match=r"expected parameters that Pyro knows, got tensors of the shapes \[\(1, 1\)"):
        dg.Pair(model_of(linear, registered=False), data={"x": V})
    for net, what in ((torch.nn.Dropout(), "Dropout"), (torch.nn.BatchNorm1d(1), "BatchNorm1d")):
        with pytest.raises(TypeError, match=f"expected a network that gives equal outputs .* got {what}"):
            dg.Pair(model_of(torch.nn.Sequential(linear, net), registered=True), data={"x": V})
    linear.requires_grad_(False)
    assert not dg.Pair(model_of(linear, registered=False), data={"x": V}).params
