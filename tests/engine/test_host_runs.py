"""Runs of a program by the hosts: values, plates, particles, log-weights, divergences, NUTS."""

import numpy as np
import pytest
from gates import gate, sampled
from helpers import array, numpy
from rows import covers
from scipy import stats


@covers("host.run")
def test_one_run_of_a_program(dg):
    """Values put in, the plates around each site, and log-probabilities as SciPy has them."""
    ppl, dist = dg.engine.host.ppl, dg.engine.host.dist
    x, z = np.random.default_rng(0).standard_normal((2, 5))

    def model(x):
        t = ppl.sample("t", dist.Normal(array(dg, 0.0), array(dg, 2.0)))
        with ppl.plate("data", 5, dim=-1):
            z = ppl.sample("z", dist.Normal(t, array(dg, 1.0)))
            ppl.sample("x", dist.Normal(z, array(dg, 0.5)), obs=x)

    rng = dg.engine.random.rng(0)
    sites = dg.engine.host.run(model, {"x": array(dg, x)}, rng=rng, values={"t": array(dg, 0.3), "z": array(dg, z)})
    assert {name: s.observed for name, s in sites.items()} == {"t": False, "z": False, "x": True}
    assert sites["t"].plates == ()
    assert (sites["x"].inside("data"), sites["t"].inside("data")) == (True, False)
    assert [tuple(p) for p in sites["z"].plates] == [("data", -1, 5)]
    exact = {"t": stats.norm(0, 2).logpdf(0.3), "z": stats.norm(0.3, 1).logpdf(z), "x": stats.norm(z, 0.5).logpdf(x)}
    for name, site in sites.items():
        np.testing.assert_allclose(numpy(dg, site.log_prob), exact[name], rtol=1e-4, atol=1e-5)
        assert (site.scale, site.auxiliary, site.law) == (1.0, False, "Normal")
    again = [dg.engine.host.run(model, {"x": array(dg, x)}, rng=dg.engine.random.rng(s)) for s in (0, 0, 1)]
    drawn = [numpy(dg, sites["z"].value) for sites in again]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).all()


@covers("host.run")
@pytest.mark.parametrize(("num_local", "num_global"), [(1, 1), (3, 2)])
def test_log_weights_of_the_exact_posterior(dg, num_local, num_global):
    """z ~ N(0, 1), x ~ N(z, 1), q(z | x) = N(x / 2, 1 / sqrt 2): every weight is p(x) = N(0, sqrt 2)."""
    ppl, dist = dg.engine.host.ppl, dg.engine.host.dist
    x = np.array([0.5, -1.0, 2.0])
    zero, one = array(dg, 0.0), array(dg, 1.0)

    def model(x):
        with ppl.plate("data", 3, dim=-1):
            ppl.sample("x", dist.Normal(ppl.sample("z", dist.Normal(zero, one)), one), obs=x)

    def guide(x):
        with ppl.plate("data", 3, dim=-1):
            ppl.sample("z", dist.Normal(x / 2, one * 0.5**0.5))

    rng = dg.engine.random.rng(0)
    objective = dg.IWAE(num_local, num_global)
    w = objective.log_weights(dg.engine, rng, model, guide, (array(dg, x),), {})
    assert tuple(w.local.shape) == (num_global, num_local, 3)
    assert tuple(w.global_.shape) == (num_global,)
    exact = stats.norm(0, 2**0.5).logpdf(x)
    np.testing.assert_allclose(numpy(dg, w.local), np.broadcast_to(exact, w.local.shape), atol=1e-6, rtol=0)
    np.testing.assert_array_equal(numpy(dg, w.global_), 0.0)
    assert float(w.scale) == 1.0


@covers("host.divergence")
@pytest.mark.parametrize("particles", [None, 3])
def test_divergence_of_two_sites(dg, particles):
    """KL(N(m, s) || N(0, 1)) of each datum and particle; of a point mass none is known."""
    ppl, dist, host = dg.engine.host.ppl, dg.engine.host.dist, dg.engine.host
    m, s = np.array([0.5, -1.0, 2.0]), 0.7

    def program(law):
        def run():
            with ppl.plate("data", 3, dim=-1):
                ppl.sample("z", law())

        return run

    prior = program(lambda: dist.Normal(array(dg, np.zeros(3)), array(dg, 1.0)))
    guide = program(lambda: dist.Normal(array(dg, m), array(dg, s)))
    q = host.run(guide, {}, rng=dg.engine.random.rng(0), particles=particles)["z"]
    p = host.run(prior, {}, values={"z": q})["z"]
    exact = np.log(1 / s) + (s**2 + m**2) / 2 - 0.5
    shape = (3,) if particles is None else (particles, 3)
    np.testing.assert_allclose(numpy(dg, host.divergence(q, p)), np.broadcast_to(exact, shape), rtol=1e-6)
    point = host.run(program(lambda: dist.Delta(array(dg, m))), {}, rng=dg.engine.random.rng(0))["z"]
    with pytest.raises(NotImplementedError):
        host.divergence(point, p)


@covers("host.run")
def test_a_run_with_values_parameters_and_particles(dg):
    """Global sites have one draw, local ones K different ones; what is put in is scored where it stands."""
    ppl, dist, host = dg.engine.host.ppl, dg.engine.host.dist, dg.engine.host
    zero, one = array(dg, 0.0).reshape(()), array(dg, 1.0).reshape(())

    def program(x):
        t = ppl.sample("t", dist.Normal(host.param("m", zero), one))
        with ppl.plate("data", 3, dim=-1):
            ppl.sample("x", dist.Normal(ppl.sample("z", dist.Normal(t, one)), one), obs=x)

    batch, rng = {"x": array(dg, np.array([0.5, -1.0, 2.0]))}, dg.engine.random.rng(0)
    with host.bound():
        sites = host.run(program, batch, rng=rng, particles=4, params={"m": one * 100})
    assert list(sites) == ["t", "z", "x"]
    assert [s.observed for s in sites.values()] == [False, False, True]
    assert [s.particles for s in sites.values()] == [None, 4, 4]
    t, z = numpy(dg, sites["t"].value), numpy(dg, sites["z"].value)
    assert t.shape == ()
    assert 90 < t < 110
    assert z.shape == (4, 3)
    assert len(np.unique(z)) == 12
    np.testing.assert_allclose(numpy(dg, sites["z"].log_prob), stats.norm(t, 1).logpdf(z), rtol=1e-4)
    np.testing.assert_allclose(numpy(dg, sites["x"].log_prob), stats.norm(z, 1).logpdf([0.5, -1.0, 2.0]), rtol=1e-4)
    with host.bound():
        again = host.run(program, batch, values={"t": zero, "z": array(dg, np.zeros(3))})
    assert float(again["t"].log_prob) == pytest.approx(stats.norm.logpdf(0.0))
    np.testing.assert_allclose(numpy(dg, again["x"].log_prob), stats.norm.logpdf([0.5, -1.0, 2.0]), rtol=1e-5)


@covers("host.nuts")
def test_nuts_of_a_normal(dg, param_store):
    """t ~ N(1, 2): draws (C, D) whose batches have its mean, and what the host tells of each draw."""

    class Normal(dg.Program):
        def __init__(self):
            self.build(arrays={"loc": np.float32(1.0)})

        def model(self, x=None):
            self.engine.host.ppl.sample("t", self.engine.host.dist.Normal(self.param("loc"), array(dg, 2.0)))

    def check(seed, factor):
        options = dg.NUTS(num_warmup=100, num_samples=1000 * factor, num_chains=2)
        rng = dg.engine.random.rng(seed)
        draws, of_draws = dg.engine.host.nuts(Normal(), {}, rng, options, progress=False)
        assert draws["t"].shape == of_draws["diverging"].shape == (2, 1000 * factor)
        means = draws["t"].reshape(-1, 10).mean(1)
        gate(means.mean(), means.std(ddof=1) / len(means) ** 0.5, 1.0, len(means), 0.3)

    sampled(check, 71)


@covers("host.looking")
def test_sites_that_look_at_the_draws_of_each_datum(dg):
    """t ~ N(sum z, 1) and a factor of z look at the draws inside the plate; u ~ N(s, 1) at a draw outside it."""
    ppl, dist, host = dg.engine.host.ppl, dg.engine.host.dist, dg.engine.host
    zero, one = array(dg, 0.0), array(dg, 1.0)

    def program(own):
        def run(x):
            s = ppl.sample("s", dist.Normal(zero, one))
            with ppl.plate("data", 3, dim=-1):
                z = ppl.sample("z", dist.Normal(s, one))
                ppl.sample("x", dist.Normal(z, one), obs=x)
            own(s, z)

        return run

    x = {"x": array(dg, np.array([0.5, -1.0, 2.0]))}
    cases = {
        "t": lambda s, z: ppl.sample("t", dist.Normal(z.sum(), one)),
        "f": lambda s, z: ppl.factor("f", -z[0]),
        "": lambda s, z: ppl.sample("u", dist.Normal(s, one)),
    }
    for name, own in cases.items():
        run, rng = program(own), dg.engine.random.rng(0)
        sites = host.run(run, x, rng=rng)
        assert host.looking(run, x, sites, rng=rng) == ((name,) if name else ())


@covers("host.adopted")
def test_a_model_and_a_guide_as_functions_of_arrays(dg, param_store):
    """Params of both are found, unconstrained; at other arrays they run as the host would with them."""
    ppl, dist, host = dg.engine.host.ppl, dg.engine.host.dist, dg.engine.host
    positive = host.constraints.positive

    def model(x):
        scale = ppl.param("scale", array(dg, 2.0), constraint=positive)
        with ppl.plate("data", 3, dim=-1):
            z = ppl.sample("z", dist.Normal(array(dg, 0.0), scale))
            ppl.sample("obs", dist.Normal(z, array(dg, 1.0)), obs=x)

    def guide(x):
        loc = ppl.param("loc", array(dg, 0.5))
        with ppl.plate("data", 3, dim=-1):
            ppl.sample("z", dist.Normal(loc, array(dg, 1.0)))

    x = {"x": array(dg, np.array([0.5, -1.0, 2.0]))}
    pair, trained, fixed = host.adopted(model, guide, x, dg.engine.random.rng(0))
    assert fixed == {}
    assert {k: round(float(v), 5) for k, v in trained.items()} == {"scale": round(np.log(2.0), 5), "loc": 0.5}
    assert {which: set(names) for which, names in pair.names.items()} == {"model": {"scale"}, "guide": {"loc"}}
    given = {"scale": array(dg, np.log(3.0)), "loc": array(dg, -1.0)}
    assert float(pair.host_params(given)["scale"]) == pytest.approx(3.0, rel=1e-6)
    z = np.array([1.0, 0.0, -2.0])
    run = lambda **batch: pair.call("model", given, {"obs": "x"}, (), batch)  # noqa: E731
    sites = host.run(run, x, rng=dg.engine.random.rng(0), values={"z": array(dg, z)})
    assert list(sites) == ["z", "x"]
    np.testing.assert_allclose(numpy(dg, sites["z"].log_prob), stats.norm(0, 3).logpdf(z), rtol=1e-5)
