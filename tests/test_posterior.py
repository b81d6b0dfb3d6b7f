"""Posteriors over global latent sites, as draws: from guides and from the host's NUTS, against closed forms.

t ~ Normal(0, 1), x_n ~ Normal(t, 0.5): t given x is Normal(m, s) with 1 / s^2 = 1 + N / 0.25, m = s^2 sum x / 0.25
"""

import math

import numpy as np
import pytest
from gates import gate, gate_mean, sampled
from helpers import numpy
from scipy import stats

from deepgen_ppl.directed.program import Program
from deepgen_ppl.training.posterior import Posterior, guide_draws
from deepgen_ppl.units.bernoulli import Bernoulli
from deepgen_ppl.units.gaussian import Gaussian

X = np.random.default_rng(3).normal(0.7, 0.5, (9, 1)).astype(np.float32)
NEW = np.random.default_rng(4).normal(0.7, 0.5, (5, 1)).astype(np.float32)
PRECISION = 1 + len(X) / 0.25
MEAN, SD = X.sum() / 0.25 / PRECISION, PRECISION**-0.5


class Shared(Program):
    """The model above; its guide is the exact posterior."""

    def __init__(self):
        self.build(arrays={"loc": np.float32(MEAN), "log_scale": np.float32(math.log(SD))})

    def model(self, x=None, *, size=None, num_data=None):
        host, zero = self.engine.host, 0.0 * self.param("loc")
        t = host.ppl.sample("t", host.dist.Normal(zero, zero + 1.0))
        with self.data_plate(x, size, num_data):
            return host.ppl.sample("x", host.dist.Normal(t + 0.0 * self.ones(), 0.5).to_event(1), obs=x)

    def guide(self, x=None, *, size=None, num_data=None):
        host = self.engine.host
        host.ppl.sample("t", host.dist.Normal(self.param("loc"), self.engine.xp.exp(self.param("log_scale"))))

    def ones(self):
        return self.engine.arrays.asarray(np.ones(1), like=self.like)


class WithLocal(Shared):
    """z_n ~ Normal(t, 0.3), x_n ~ Normal(z_n, 0.4): x_n given t is Normal(t, 0.5); q(z_n) is exact at t."""

    def model(self, x=None, *, size=None, num_data=None):
        host, zero = self.engine.host, 0.0 * self.param("loc")
        t = host.ppl.sample("t", host.dist.Normal(zero, zero + 1.0))
        with self.data_plate(x, size, num_data):
            z = host.ppl.sample("z", host.dist.Normal(t + 0.0 * self.ones(), 0.3).to_event(1))
            return host.ppl.sample("x", host.dist.Normal(z, 0.4).to_event(1), obs=x)

    def guide(self, x=None, *, size=None, num_data=None):
        host = self.engine.host
        t = host.ppl.sample("t", host.dist.Normal(self.param("loc"), self.engine.xp.exp(self.param("log_scale"))))
        with self.data_plate(x, size, num_data):
            precision = 0.3**-2 + 0.4**-2
            loc = (t / 0.3**2 + x / 0.4**2) / precision
            host.ppl.sample("z", host.dist.Normal(loc, precision**-0.5).to_event(1))


def bound(dg, family):
    """The program on an engine."""
    return type(family.__name__, (family, dg.Program), {})()


@pytest.fixture(params=[Shared, WithLocal], ids=["global", "with_local"])
def program(dg, request):
    return bound(dg, request.param)


def test_log_likelihood_of_each_draw(dg, program):
    """log p(x_n | t) = Normal(x_n; t, 0.5), also where z_n is summed out by a guide that is exact."""
    t = np.linspace(-1, 1, 7).astype(np.float32)
    posterior = Posterior(program, {"t": dg.engine.arrays.asarray(t)})
    exact = stats.norm(t[:, None], 0.5).logpdf(NEW[:, 0])
    np.testing.assert_allclose(posterior.log_likelihood(NEW, num_particles=3), exact, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(posterior.log_likelihood({"x": NEW}), exact, rtol=1e-4, atol=1e-4)


def test_log_likelihood_in_pieces(dg, program, monkeypatch):
    """Pieces of draws give what one piece gives."""
    from deepgen_ppl.training import posterior as module

    t = dg.engine.arrays.asarray(np.linspace(-1, 1, 7).astype(np.float32))
    whole = Posterior(program, {"t": t}).log_likelihood(NEW)
    monkeypatch.setattr(module, "CELLS", 1500)
    np.testing.assert_allclose(Posterior(program, {"t": t}).log_likelihood(NEW), whole, rtol=1e-4)


def test_draws_of_the_guide(dg, program):
    """Independent draws of q, equal for equal seeds."""

    def check(seed, factor):
        rng = dg.engine.random.rng(seed)
        t = numpy(dg, guide_draws(program, {"x": dg.engine.arrays.asarray(X)}, rng, 2000 * factor)["t"])
        gate_mean(np.stack([t - MEAN, (t - MEAN) ** 2 - SD**2], 1), np.zeros(2), 0.05)

    sampled(check, 11)
    one, two = (
        numpy(dg, guide_draws(program, {"x": dg.engine.arrays.asarray(X)}, dg.engine.random.rng(5), 4)["t"])
        for _ in range(2)
    )
    np.testing.assert_array_equal(one, two)
    assert len(set(one.tolist())) == 4


def test_groups_for_arviz(dg):
    t = np.arange(6, dtype=np.float32)
    posterior = Posterior(bound(dg, Shared), {"t": dg.engine.arrays.asarray(t)}, num_chains=2)
    groups = posterior.groups(NEW)
    np.testing.assert_array_equal(groups["posterior"]["t"], t.reshape(2, 3))
    assert groups["log_likelihood"]["x"].shape == (2, 3, len(NEW))
    assert repr(posterior) == "Posterior(6 draws of 2 chains: t ())"


def test_what_draws_must_be(dg):
    program, t = bound(dg, Shared), dg.engine.arrays.asarray(np.arange(6, dtype=np.float32))
    with pytest.raises(ValueError, match="expected draws of 4 chains of one length, got 6"):
        Posterior(program, {"t": t}, num_chains=4)
    with pytest.raises(ValueError, match="expected draws of one number for each site, got the shapes"):
        Posterior(program, {"t": t, "u": t[:3]})
    with pytest.raises(ValueError, match="expected draws of one number for each site, got the shapes {}"):
        Posterior(program, {})


class Line(Program):
    """a ~ Normal(0, 1), y_n ~ Normal(a u_n, 0.5), u given."""

    @property
    def observed(self):
        return {"y": Gaussian(1, 0.5)}

    def __init__(self):
        self.build(arrays={"loc": np.float32(0.0)})

    def model(self, u, y=None, *, num_data=None):
        host, zero = self.engine.host, 0.0 * self.param("loc")
        a = host.ppl.sample("a", host.dist.Normal(zero, zero + 1.0))
        with self.data_plate(u, None, num_data):
            return host.ppl.sample("y", host.dist.Normal(a * u, 0.5).to_event(1), obs=y)


def test_predicted_means(dg, monkeypatch):
    """a_s u_n for every draw and row, in pieces too; what is observed may stand among the data."""
    from deepgen_ppl.training import posterior as module

    a, u = np.linspace(-1, 2, 7).astype(np.float32), np.arange(5, dtype=np.float32)[:, None]
    posterior = Posterior(bound(dg, Line), {"a": dg.engine.arrays.asarray(a)})
    for cells in (module.CELLS, 10):
        monkeypatch.setattr(module, "CELLS", cells)
        for data in (u, {"u": u}, {"u": u, "y": u}):
            np.testing.assert_allclose(posterior.predict(data)["y"], a[:, None, None] * u, rtol=1e-6)
    with pytest.raises(ValueError, match=r"expected inputs among \['u'\] for Line, got \['w'\]"):
        posterior.predict({"w": u})


def test_hand_over_to_arviz(dg):
    """Draws of a sampler with their log-likelihoods; those of a guide are refused: loo would weigh them."""
    pytest.importorskip("arviz", exc_type=ModuleNotFoundError)
    program, t = bound(dg, Shared), dg.engine.arrays.asarray(np.linspace(0.4, 0.9, 6).astype(np.float32))
    data = dg.to_arviz(Posterior(program, {"t": t}, num_chains=2), data=NEW)
    assert data["posterior"]["t"].shape == (2, 3)
    exact = stats.norm(np.linspace(0.4, 0.9, 6)[:, None], 0.5).logpdf(NEW[:, 0])
    np.testing.assert_allclose(data["log_likelihood"]["x"].values.reshape(6, 5), exact, rtol=1e-4)
    of_guide = Posterior(program, {"t": t}, approximate=True)
    assert dg.to_arviz(of_guide)["posterior"]["t"].shape == (1, 6)
    with pytest.raises(ValueError, match="expected draws of the posterior for a group of pointwise log-likelihoods"):
        dg.to_arviz(of_guide, data=NEW)


class MachineWeights(Program):
    """An RBM whose weights are latent: W ~ Normal(0, 1), x_n ~ RBM(b, c, W), its normalizer by enumeration."""

    @property
    def observed(self):
        return {"x": Bernoulli(3)}

    def __init__(self, machine):
        self.build(machines={"rbm": machine})

    def model(self, x=None, *, size=None, num_data=None):
        host, rbm = self.engine.host, self.machine("rbm")
        (name,) = (k for k in rbm.params if k.endswith("weight"))
        zero = 0.0 * rbm.params[name]
        weight = host.ppl.sample("w", host.dist.Normal(zero, zero + 1.0).to_event(2))
        with self.data_plate(x, size, num_data):
            law = rbm.with_params({name: weight}).marginal("v", log_normalizer="exact")
            return host.ppl.sample("x", law, obs=x)


def test_loo_of_the_weights_of_a_machine(dg):
    """Every draw is a machine of its own with its own log Z; `az.loo` takes their log-likelihoods."""
    az = pytest.importorskip("arviz", exc_type=ModuleNotFoundError)
    rng = np.random.default_rng(0)
    machine = dg.RBM.init(3, 2, rng=0)
    program = type("MachineWeights", (MachineWeights, dg.Program), {})(machine)
    x = rng.integers(0, 2, (25, 3)).astype(np.float32)
    draws = 0.1 * rng.normal(size=(200, 3, 2)).astype(np.float32)
    posterior = Posterior(program, {"w": dg.engine.arrays.asarray(draws)}, num_chains=2)
    (name,) = (k for k in machine.params if k.endswith("weight"))
    alone = [machine.with_params({name: w}).marginal(log_normalizer="exact") for w in draws[:5]]
    exact = np.stack([numpy(dg, law.log_prob(dg.engine.arrays.asarray(x))) for law in alone])
    np.testing.assert_allclose(posterior.log_likelihood(x)[:5], exact, rtol=1e-5)
    found = az.loo(dg.to_arviz(posterior, data=x))
    assert found.n_data_points == 25
    assert np.isfinite(found.elpd if hasattr(found, "elpd") else found.elpd_loo)


def predictive(x):
    """log of the mean over draws of p(x_n | t_s)."""
    return np.logaddexp.reduce(x, 0) - math.log(len(x))


def test_nuts_is_the_posterior(dg, param_store):
    """Moments of the draws and the predictive density, against the closed forms."""
    fitted = dg.fit(bound(dg, Shared), X, method=dg.NUTS(num_warmup=200, num_samples=800, num_chains=2), rng=1)
    posterior = fitted.posterior()
    t = numpy(dg, posterior.draws["t"])
    assert t.shape == (1600,)
    means = t.reshape(200, 8).mean(1)  # batches of draws as repetitions
    gate(means.mean(), means.std(ddof=1) / 200**0.5, MEAN, 200, 0.02)
    assert t.std() == pytest.approx(SD, rel=0.15)
    exact = stats.norm(MEAN, math.hypot(SD, 0.5)).logpdf(NEW[:, 0])
    np.testing.assert_allclose(predictive(posterior.log_likelihood(NEW)), exact, atol=0.05)
    groups = posterior.groups()
    assert groups["posterior"]["t"].shape == groups["sample_stats"]["diverging"].shape == (2, 800)


def test_nuts_refuses_what_it_cannot_draw(dg):
    options = {"num_warmup": 2, "num_samples": 2}
    with pytest.raises(ValueError, match=r"whose latent sites all data share, got \['z'\] of each datum"):
        dg.fit(bound(dg, WithLocal), X, method=dg.NUTS(**options))
    with pytest.raises(TypeError, match="expected a program for NUTS, got RBM"):
        dg.fit(dg.RBM.init(1, 2, rng=0), np.ones((3, 1)), method=dg.NUTS(**options))
    with pytest.raises(TypeError, match=r"expected arguments of fit among .* for NUTS, got \['epochs'\]"):
        dg.fit(bound(dg, Shared), X, method=dg.NUTS(**options), epochs=3)
    with pytest.raises(ValueError, match="expected a number between 0 and 1 for target_accept_prob, got 1.5"):
        dg.NUTS(target_accept_prob=1.5)


def test_posterior_of_a_guide_after_gradient_steps(dg, param_store):
    """`Fit.posterior` draws from the trained guide."""
    fitted = dg.fit(bound(dg, Shared), X, epochs=1, optimizer=dg.sgd(1e-6), rng=0)
    posterior = fitted.posterior(rng=2, num_draws=3000)
    assert posterior.approximate
    t = numpy(dg, posterior.draws["t"])
    assert t.mean() == pytest.approx(MEAN, abs=5 * SD / 3000**0.5)
