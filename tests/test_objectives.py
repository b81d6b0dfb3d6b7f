"""Objectives of model-guide pairs against their exact values, on both hosts.

The value of the K-sample bound is no inequality here but a number: with w = p(x, z) / q(z | x) and M(s) = E exp(-s w),

    E log sum_k w_k = integral over s > 0 of ( exp(-s) - M(s)^K ) ds / s.
"""

import functools

import numpy as np
import pytest
from gates import GateError, gate_mean, sampled
from helpers import array
from scipy import integrate, special, stats

from deepgen_ppl.objectives import iwae
from deepgen_ppl.objectives import objective as objective_module

X = np.array([0.5, -1.0, 2.0])
"""The data of the conjugate model z ~ N(0, 1), x ~ N(z, 1), under the guide N(m x, s)."""
M, S = 0.2, 1.3


# -- truth -------------------------------------------------------------------------------------------------------------


def iwae_exact(log_w, p, k):
    """E log mean_k w for K independent weights that are exp(log_w) with probabilities p."""
    top = log_w.max()
    w, p = np.exp(log_w - top).ravel(), (p / p.sum()).ravel()
    t = np.arange(-35.0, 110.0, 0.1)  # analytic: the sum converges faster than any power of the step
    laplace = np.array([np.exp(-np.exp(u) * w) @ p for u in t])
    return integrate.trapezoid(np.exp(-np.exp(t)) - laplace**k, t) - np.log(k) + top


def conjugate_log_w(x, m=M, s=S, prior=0.0, points=1501):
    """(log w(z), probability of z under the guide) on a fine grid."""
    z = np.linspace(m * x - 9 * s, m * x + 9 * s, points)
    q = stats.norm(m * x, s)
    return stats.norm(prior, 1).logpdf(z) + stats.norm(z, 1).logpdf(x) - q.logpdf(z), q.pdf(z)


@functools.cache
def conjugate_exact(k, m=M, s=S):
    """IWAE_K of each datum of X."""
    return np.array([iwae_exact(*conjugate_log_w(x, m, s), k) for x in X])


def test_the_integral_is_the_expectation():
    """At K = 1 against the Gaussian expectation, at K = 2 against a double integral."""
    for x, exact in zip(X, conjugate_exact(1), strict=True):
        e_q = -0.5 * np.log(2 * np.pi) - 0.5 * ((x - M * x) ** 2 + S**2)
        kl = np.log(1 / S) + (S**2 + (M * x) ** 2) / 2 - 0.5
        assert exact == pytest.approx(e_q - kl, abs=1e-7)
    log_w, p = conjugate_log_w(X[2], points=901)
    p = p / p.sum()
    both = np.logaddexp(log_w[:, None], log_w[None]) - np.log(2)
    assert conjugate_exact(2)[2] == pytest.approx(p @ both @ p, abs=1e-6)


# -- programs and estimates --------------------------------------------------------------------------------------------


def conjugate(dg, m=M, s=S, **plate):
    """The conjugate model and its guide; `plate` goes to the data plate."""
    ppl, dist = dg.engine.host.ppl, dg.engine.host.dist
    zero, one, m, s = (array(dg, v) for v in (0.0, 1.0, m, s))

    def model(x):
        with ppl.plate("data", x.shape[0], dim=-1, **plate) as rows:
            z = ppl.sample("z", dist.Normal(zero, one))
            ppl.sample("x", dist.Normal(z, one), obs=x[rows] if plate else x)

    def guide(x):
        with ppl.plate("data", x.shape[0], dim=-1, **plate) as rows:
            ppl.sample("z", dist.Normal(m * (x[rows] if plate else x), s))

    return model, guide


def estimates(dg, objective, pair, x, repetitions, seed):
    """Independent estimates of the bound L, shape (repetitions,)."""
    rng, x = dg.engine.random.rng(seed), array(dg, x)
    one = lambda key: objective.estimate(dg.engine, key, *pair, (x,), {})  # noqa: E731
    if dg.engine.name == "numpyro":
        import jax

        return np.asarray(jax.jit(jax.vmap(one))(jax.random.split(rng, repetitions)), float)
    import torch

    with torch.no_grad():
        return np.array([float(one(rng)) for _ in range(repetitions)])


def check_estimates(dg, objective, pair, x, exact, se_cap, repetitions=300):
    """The `check` of `sampled`: the mean of the estimates is the exact value."""
    return lambda seed, factor: gate_mean(
        estimates(dg, objective, pair, x, repetitions * factor, seed), exact, se_cap=se_cap
    )


# -- the exact value of IWAE -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(5, marks=pytest.mark.slow), 50])
def test_iwae(dg, k):
    """Twenty copies of the data, so that the repetitions are worth more."""
    x, exact = np.tile(X, 20), 20 * conjugate_exact(k).sum()
    sampled(check_estimates(dg, dg.IWAE(num_particles=k), conjugate(dg), x, exact, se_cap=0.8), 21)


def test_iwae_with_a_subsampled_plate(dg):
    """Two of the six rows a time stand for all six, whatever the bound."""
    x, exact = np.tile(X, 2), 2 * conjugate_exact(5).sum()
    pair = conjugate(dg, subsample_size=2)
    sampled(check_estimates(dg, dg.IWAE(num_particles=5), pair, x, exact, se_cap=0.25, repetitions=600), 22)


def scaled(dg, pair, factor):
    return tuple(dg.engine.host.handlers.scale(program, scale=factor) for program in pair)


def test_iwae_of_a_scaled_batch(dg):
    pair = scaled(dg, conjugate(dg), 7.0)
    check = check_estimates(dg, dg.IWAE(num_particles=5), pair, X, 7 * conjugate_exact(5).sum(), se_cap=0.5)
    sampled(check, 23)


def hierarchy(dg):
    """theta ~ N(0, 1), z_n ~ N(theta, 1), x_n ~ N(z_n, 1); q(theta) = N(0.8, 0.5), q(z_n) = N(m x_n, s)."""
    ppl, dist = dg.engine.host.ppl, dg.engine.host.dist
    zero, one = array(dg, 0.0), array(dg, 1.0)

    def model(x):
        theta = ppl.sample("theta", dist.Normal(zero, one))
        with ppl.plate("data", x.shape[0], dim=-1):
            ppl.sample("x", dist.Normal(ppl.sample("z", dist.Normal(theta, one)), one), obs=x)

    def guide(x):
        ppl.sample("theta", dist.Normal(array(dg, 0.8), array(dg, 0.5)))
        with ppl.plate("data", x.shape[0], dim=-1):
            ppl.sample("z", dist.Normal(M * x, array(dg, S)))

    return model, guide


@functools.cache
def hierarchy_exact(k):
    nodes, weights = np.polynomial.hermite_e.hermegauss(15)
    q, total = stats.norm(0.8, 0.5), 0.0
    for node, weight in zip(0.8 + 0.5 * nodes, weights / weights.sum(), strict=True):
        local = sum(iwae_exact(*conjugate_log_w(x, prior=node, points=401), k) for x in X)
        total += weight * (local + stats.norm.logpdf(node) - q.logpdf(node))
    return total


@pytest.mark.parametrize("num_global", [1, 3])
def test_iwae_with_a_global_site(dg, num_global):
    """One draw of the global site serves all K particles; S draws are averaged outside the logarithm."""
    objective = dg.IWAE(num_particles=5, num_global=num_global)
    check = check_estimates(dg, objective, hierarchy(dg), X, hierarchy_exact(5), se_cap=0.1, repetitions=600)
    sampled(check, 24)


def nested(dg):
    """Two conjugate pairs in each datum, in a plate inside the data plate; one latent sits beside them."""
    ppl, dist = dg.engine.host.ppl, dg.engine.host.dist
    zero, one = array(dg, 0.0), array(dg, 1.0)

    def model(x):
        with ppl.plate("data", x.shape[1], dim=-1), ppl.plate("inner", 2, dim=-2):
            ppl.sample("x", dist.Normal(ppl.sample("z", dist.Normal(zero, one)), one), obs=x)

    def guide(x):
        with ppl.plate("data", x.shape[1], dim=-1), ppl.plate("inner", 2, dim=-2):
            ppl.sample("z", dist.Normal(M * x, array(dg, S)))

    return model, guide


def test_iwae_with_a_plate_inside_the_data_plate(dg):
    """The weight of a datum is the product over its inner plate."""
    x = np.array([X, [1.0, -0.5, 0.0]])
    exact = 0.0
    for first, second in x.T:
        (a, p), (b, q) = (conjugate_log_w(v, points=81) for v in (first, second))
        exact += iwae_exact(a[:, None] + b[None], p[:, None] * q[None], 5)
    pair, objective = nested(dg), dg.IWAE(num_particles=5, max_plate_nesting=2)
    sampled(check_estimates(dg, objective, pair, x, exact, se_cap=0.12, repetitions=400), 25)


# -- planted mutants must fail; they sit in code that both engines share -----------------------------------------------


def without_log_k(engine, local):
    return engine.special.logsumexp(local, 1)


def mean_in_place_of_logmeanexp(engine, local):
    return engine.xp.mean(local, axis=1)


def scale_inside(self, engine, w):
    return engine.xp.mean(engine.xp.sum(self.bound(engine, w.scale * w.local), axis=-1) + w.global_)


def sum_over_globals(self, engine, w):
    return engine.xp.sum(w.scale * engine.xp.sum(self.bound(engine, w.local), axis=-1) + w.global_)


def scaled_globals(self, engine, w):
    return engine.xp.mean(engine.xp.sum(self.bound(engine, w.local), axis=-1) + 2 * w.global_)


@pytest.mark.parametrize("mutant", [without_log_k, mean_in_place_of_logmeanexp])
def test_mutants_of_the_bound_fail(dg_pyro, monkeypatch, mutant):
    monkeypatch.setattr(iwae, "log_mean_over_particles", mutant)
    x, exact = np.tile(X, 20), 20 * conjugate_exact(5).sum()
    with pytest.raises(GateError, match="p ="):
        check_estimates(dg_pyro, dg_pyro.IWAE(num_particles=5), conjugate(dg_pyro), x, exact, se_cap=0.8)(21, 1)


def test_the_mutant_with_the_scale_inside_the_logarithm_fails(dg_pyro, monkeypatch):
    monkeypatch.setattr(objective_module.ProgramObjective, "evaluate", scale_inside)
    pair = scaled(dg_pyro, conjugate(dg_pyro), 7.0)
    with pytest.raises(GateError, match="p ="):
        check_estimates(dg_pyro, dg_pyro.IWAE(num_particles=5), pair, X, 7 * conjugate_exact(5).sum(), se_cap=2.0)(
            23, 1
        )


@pytest.mark.parametrize("mutant", [sum_over_globals, scaled_globals])
def test_mutants_of_the_global_part_fail(dg_pyro, monkeypatch, mutant):
    monkeypatch.setattr(objective_module.ProgramObjective, "evaluate", mutant)
    objective = dg_pyro.IWAE(num_particles=5, num_global=3)
    with pytest.raises(GateError, match="p ="):
        check_estimates(dg_pyro, objective, hierarchy(dg_pyro), X, hierarchy_exact(5), se_cap=0.5, repetitions=600)(
            24, 1
        )


# -- ELBO --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("analytic_kl", [False, True])
@pytest.mark.parametrize("k", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_elbo(dg, analytic_kl, k):
    """E_q log p(x | z) - KL, with the divergence sampled or in closed form."""
    objective = dg.ELBO(num_particles=k, analytic_kl=analytic_kl)
    x, exact = np.tile(X, 20), 20 * conjugate_exact(1).sum()
    sampled(check_estimates(dg, objective, conjugate(dg), x, exact, se_cap=1.2), 26)


def blind(dg, prior):
    """A likelihood that does not see z: the bound is log p(x) - KL(q || prior)."""
    ppl, dist = dg.engine.host.ppl, dg.engine.host.dist
    zero, one, m, s = (array(dg, v) for v in (0.0, 1.0, M, S))

    def model(x):
        with ppl.plate("data", x.shape[0], dim=-1):
            ppl.sample("z", prior(dist, zero, one))
            ppl.sample("x", dist.Normal(zero, one), obs=x)

    def guide(x):
        with ppl.plate("data", x.shape[0], dim=-1):
            ppl.sample("z", dist.Normal(m * x, s))

    return model, guide


@pytest.mark.parametrize("k", [1, 3])
def test_analytic_kl_has_no_noise(dg, k):
    pair = blind(dg, lambda dist, zero, one: dist.Normal(zero, one))
    values = estimates(dg, dg.ELBO(num_particles=k, analytic_kl=True), pair, X, 3, 0)
    kl = np.log(1 / S) + (S**2 + (M * X) ** 2) / 2 - 0.5
    np.testing.assert_allclose(values, np.sum(stats.norm.logpdf(X) - kl), rtol=1e-6)


def test_analytic_kl_where_the_host_knows_none_is_sampled(dg):
    """Of a Cauchy prior under a Normal guide no host knows the divergence."""
    pair = blind(dg, lambda dist, zero, one: dist.Cauchy(zero, one))
    analytic, plain = (
        estimates(dg, dg.ELBO(num_particles=2, analytic_kl=kind), pair, X, 4, 0) for kind in (True, False)
    )
    np.testing.assert_array_equal(analytic, plain)
    assert np.ptp(plain) > 0.01


# -- the exact posterior -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"num_particles": 7}, {"num_particles": 2, "num_global": 3}])
def test_under_the_exact_posterior_the_bound_is_log_p(dg, options):
    values = estimates(dg, dg.IWAE(**options), conjugate(dg, m=0.5, s=0.5**0.5), X, 3, 0)
    np.testing.assert_allclose(values, stats.norm(0, 2**0.5).logpdf(X).sum(), atol=3e-6, rtol=0)


# -- inside the host's own inference -----------------------------------------------------------------------------------


def trained_pair(dg, m=M, t=0.4):
    """The conjugate pair whose guide has a parameter m and whose model has a location t of the prior."""
    host = dg.engine.host
    ppl, dist = host.ppl, host.dist
    own = host.trainable({"m": array(dg, m), "t": array(dg, t)})
    one, s = array(dg, 1.0), array(dg, S)

    def model(x):
        t = ppl.param("t", own["t"])
        with ppl.plate("data", x.shape[0], dim=-1):
            ppl.sample("x", dist.Normal(ppl.sample("z", dist.Normal(t, one)), one), obs=x)

    def guide(x):
        m = ppl.param("m", own["m"])
        with ppl.plate("data", x.shape[0], dim=-1):
            ppl.sample("z", dist.Normal(m * x, s))

    return model, guide, own


def trained_exact(m=M, t=0.4, k=5):
    return sum(iwae_exact(*conjugate_log_w(x, m=m, prior=t), k) for x in X)


def svi_losses(dg, objective, steps):
    """Losses of the host's SVI with a step size of zero, from training steps and from evaluation."""
    model, guide, _ = trained_pair(dg)
    x = array(dg, X)
    if dg.engine.name == "numpyro":
        import jax
        import optax
        from numpyro.infer import SVI

        svi = SVI(model, guide, optax.sgd(0.0), objective)
        result = svi.run(jax.random.key(3), steps, x, progress_bar=False)
        keys = jax.random.split(jax.random.key(4), steps)
        evaluated = jax.vmap(lambda key: svi.evaluate(result.state._replace(rng_key=key), x))(keys)
        return np.asarray(result.losses, float), np.asarray(evaluated, float)
    import pyro
    from pyro.infer import SVI

    pyro.set_rng_seed(3)
    svi = SVI(model, guide, pyro.optim.SGD({"lr": 0.0}), objective)
    return np.array([svi.step(x) for _ in range(steps)]), np.array([svi.evaluate_loss(x) for _ in range(steps)])


def test_inside_the_hosts_svi(dg, param_store):
    for losses in svi_losses(dg, dg.IWAE(num_particles=5), 500):
        gate_mean(-losses, trained_exact(), se_cap=0.08)


def gradients(dg, objective, repetitions, seed):
    """Independent gradients of the loss with respect to (m, t), shape (repetitions, 2)."""
    model, guide, own = trained_pair(dg)
    x = array(dg, X)
    if dg.engine.name == "numpyro":
        import jax

        slope = jax.grad(lambda params, key: objective.loss(key, params, model, guide, x))
        keys = jax.random.split(jax.random.key(seed), repetitions)
        out = jax.jit(jax.vmap(lambda key: slope(own, key)))(keys)
        return np.stack([np.asarray(out["m"]), np.asarray(out["t"])], -1).astype(float)
    import pyro

    pyro.set_rng_seed(seed)
    out = np.empty((repetitions, 2))
    for row in out:
        for leaf in own.values():
            leaf.grad = None
        objective.loss_and_grads(model, guide, x)
        row[:] = float(own["m"].grad), float(own["t"].grad)
    return out


@pytest.mark.parametrize("k", [pytest.param(1, marks=pytest.mark.slow), 5])
def test_gradients_are_those_of_the_exact_bound(dg, param_store, k):
    """With respect to a parameter of the guide and one of the model."""
    h = 1e-3
    exact = [
        -(trained_exact(m=M + h, k=k) - trained_exact(m=M - h, k=k)) / (2 * h),
        -(trained_exact(t=0.4 + h, k=k) - trained_exact(t=0.4 - h, k=k)) / (2 * h),
    ]

    def check(seed, factor):
        gate_mean(gradients(dg, dg.IWAE(num_particles=k), 400 * factor, seed), exact, se_cap=0.35)

    sampled(check, 27)


# -- rows that pad a batch, and masks ----------------------------------------------------------------------------------


@functools.cache
def small_vae(dg):
    return dg.VAE.init(rng=0, likelihood=dg.Bernoulli(6), latent=2, hidden=(4,))


def loss_and_slope(dg, objective, vae, x, mask):
    """What a step of `fit` sees of a batch of a set of ten rows: the loss and its gradient."""
    mask = None if mask is None else array(dg, mask)
    if dg.engine.name == "numpyro":
        value, slope = fit_loss(dg, objective)(vae.params, vae, array(dg, x), mask)
        return float(value), {k: np.asarray(v) for k, v in slope.items()}
    vae = vae.with_params(vae.params)
    value = objective.batch_loss(dg.engine.random.rng(0), vae, {}, {"x": array(dg, x)}, mask, 10)[0]
    value.backward()
    return float(value.detach()), {k: v.grad.numpy() for k, v in vae.params.items()}


@functools.cache
def fit_loss(dg, objective):
    import jax

    def loss(params, vae, x, mask):
        return objective.batch_loss(dg.engine.random.rng(0), vae.with_params(params), {}, {"x": x}, mask, 10)[0]

    return jax.jit(jax.value_and_grad(loss))


def test_rows_that_pad_a_batch_do_not_matter(dg):
    """Value and gradient do not depend on what the masked rows hold."""
    rng = np.random.default_rng(0)
    x, mask = rng.integers(0, 2, (5, 6)), np.array([1, 1, 1, 0, 0])
    other = np.where(mask[:, None] == 1, x, 1 - x)
    objective, vae = dg.IWAE(num_particles=3), small_vae(dg)
    a, b = (loss_and_slope(dg, objective, vae, data, mask) for data in (x, other))
    assert a[0] == pytest.approx(b[0], rel=1e-6)
    for k in a[1]:
        np.testing.assert_allclose(a[1][k], b[1][k], rtol=1e-5, atol=1e-7, err_msg=k)
    with dg.engine.host.bound():
        w = objective.log_weights(dg.engine, dg.engine.random.rng(0), vae.model, vae.guide, (array(dg, x),), {})
    local = dg.engine.arrays.to_numpy(w.local).astype(float)
    bounds = special.logsumexp(local, 1)[0] - np.log(3)
    assert a[0] == pytest.approx(-bounds[:3].mean(), rel=1e-5)


def test_a_padded_batch_has_the_loss_of_the_shorter_one(dg):
    """With a guide so narrow that its draws are its means, and the divergence in closed form: no noise at all."""
    vae, x = small_vae(dg), np.random.default_rng(0).integers(0, 2, (5, 6))
    arrays = dict(vae.canonical())
    arrays["encoder.layers.1.weight"] = arrays["encoder.layers.1.weight"] * np.array([1, 1, 0, 0], np.float32)
    arrays["encoder.layers.1.bias"] = np.array([0, 0, -30, -30], np.float32)
    vae, objective = vae.from_canonical(arrays), dg.ELBO(analytic_kl=True)
    short = loss_and_slope(dg, objective, vae, x[:3], None)
    padded = loss_and_slope(dg, objective, vae, x, np.array([1, 1, 1, 0, 0]))
    assert padded[0] == pytest.approx(short[0], rel=1e-6)
    for k in short[1]:
        np.testing.assert_allclose(padded[1][k], short[1][k], rtol=1e-4, atol=1e-6, err_msg=k)


def test_masks_of_the_host_are_kept(dg):
    """A datum that the program masks contributes nothing."""
    host, mask = dg.engine.host, np.array([True, False, True])
    kept = dg.engine.xp.asarray(mask)
    pair = (host.handlers.mask(program, mask=kept) for program in conjugate(dg, m=0.5, s=0.5**0.5))
    values = estimates(dg, dg.IWAE(num_particles=3), tuple(pair), X, 2, 0)
    np.testing.assert_allclose(values, stats.norm(0, 2**0.5).logpdf(X[mask]).sum(), atol=3e-6, rtol=0)


# -- what cannot be weighed is refused ---------------------------------------------------------------------------------


def refused(dg, objective, pair, x=X):
    return estimates(dg, objective, pair, x, 1, 0)


def test_discrete_guide_sites_are_refused(dg):
    ppl, dist = dg.engine.host.ppl, dg.engine.host.dist
    half = array(dg, 0.5)

    def model(x):
        with ppl.plate("data", 3, dim=-1):
            ppl.sample("x", dist.Normal(1.0 * ppl.sample("s", dist.Bernoulli(probs=half)), 2 * half), obs=x)

    def guide(x):
        with ppl.plate("data", 3, dim=-1):
            ppl.sample("s", dist.Bernoulli(probs=half))

    for objective in (dg.ELBO(), dg.IWAE()):
        with pytest.raises(
            ValueError, match=r"expected guide sites with a pathwise gradient, got {'s': 'Bernoulli\w*'}"
        ):
            refused(dg, objective, (model, guide))


def test_latent_sites_must_agree(dg):
    model, guide = conjugate(dg)
    with pytest.raises(ValueError, match=r"got \['z'\] in the model and \[\] in the guide"):
        refused(dg, dg.ELBO(), (model, lambda x: None))
    with pytest.raises(ValueError, match=r"got \['z'\] in the model and \['theta', 'z'\] in the guide"):
        refused(dg, dg.ELBO(), (model, lambda x: (hierarchy(dg)[1](x), None)[1]))


def test_a_missing_data_plate_names_those_found(dg):
    with pytest.raises(ValueError, match=r"inside a plate named 'rows', got the plates \['data'\].*plate=\.\.\."):
        refused(dg, dg.IWAE(plate="rows"), conjugate(dg))


def test_a_plate_of_another_name(dg):
    ppl, dist = dg.engine.host.ppl, dg.engine.host.dist
    one = array(dg, 1.0)

    def model(x):
        with ppl.plate("rows", 3, dim=-1):
            ppl.sample("x", dist.Normal(ppl.sample("z", dist.Normal(0 * one, one)), one), obs=x)

    def guide(x):
        with ppl.plate("rows", 3, dim=-1):
            ppl.sample("z", dist.Normal(x / 2, one * 0.5**0.5))

    values = estimates(dg, dg.IWAE(num_particles=4, plate="rows"), (model, guide), X, 2, 0)
    np.testing.assert_allclose(values, stats.norm(0, 2**0.5).logpdf(X).sum(), atol=3e-6, rtol=0)


def test_more_plates_than_announced_are_refused(dg):
    """The axis of the particles would fall on the inner plate."""
    x = np.array([X, [1.0, -0.5, 0.0]])
    for k in (2, 3):
        with pytest.raises(ValueError, match="max_plate_nesting"):
            refused(dg, dg.IWAE(num_particles=k), nested(dg), x)


def test_a_data_plate_left_of_another_is_refused(dg):
    """The rows must be the last batch axis, else features would be taken for data."""
    ppl, dist = dg.engine.host.ppl, dg.engine.host.dist
    zero, one = array(dg, 0.0), array(dg, 1.0)

    def model(x):
        with ppl.plate("data", 3, dim=-2), ppl.plate("features", 2, dim=-1):
            ppl.sample("x", dist.Normal(ppl.sample("z", dist.Normal(zero, one)), one), obs=x)

    def guide(x):
        with ppl.plate("data", 3, dim=-2), ppl.plate("features", 2, dim=-1):
            ppl.sample("z", dist.Normal(M * x, one))

    with pytest.raises(ValueError, match="dim"):
        refused(dg, dg.IWAE(num_particles=4, max_plate_nesting=2), (model, guide), np.stack([X, X], -1))


def test_local_sites_of_different_scales_are_refused(dg):
    """No log-weight has two scales: tempering one site of a datum would silently temper all."""
    host = dg.engine.host
    model, guide = conjugate(dg)

    def annealed(x):
        with host.ppl.plate("data", 3, dim=-1):
            with host.handlers.scale(scale=0.3):
                z = host.ppl.sample("z", host.dist.Normal(array(dg, 0.0), array(dg, 1.0)))
            host.ppl.sample("x", host.dist.Normal(z, array(dg, 1.0)), obs=x)

    with pytest.raises(ValueError, match="scale"):
        refused(dg, dg.IWAE(num_particles=2), (annealed, guide))


@pytest.mark.parametrize("option", ["num_particles", "num_global", "max_plate_nesting"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "2"])
def test_options_are_positive_integers(dg, option, value):
    for objective in (dg.ELBO, dg.IWAE):
        with pytest.raises(ValueError, match=f"expected a positive integer for {option}, got {value!r}"):
            objective(**{option: value})
