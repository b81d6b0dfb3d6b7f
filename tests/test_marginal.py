"""`machine.marginal`: a native distribution of the host, never silently unnormalized."""

import cases
import numpy as np
import pytest
from cases import CASES, COUPLED, FINITE, compiled, oracle, to_engine, to_numpy
from gates import g_test, gate, sampled

finite = pytest.mark.parametrize("name", FINITE)
CLOSED = [name for name in FINITE if name not in COUPLED]


def marginal(dg, name="rbm", dtype=np.float32, **options):
    options.setdefault("log_normalizer", "exact")
    return cases.machine(dg, name, dtype).marginal("v", **options)


def visible_states(dg, name, like):
    """All values of the visible layer, as NumPy arrays and as the host's own draws have them."""
    v = oracle(name).states(["v"])["v"]
    if dg.engine.name == "numpyro":
        return v, dg.engine.arrays.asarray(v.astype(np.int32))
    return v, dg.engine.arrays.asarray(v, like=like)


def log_probs(dg, law, x):
    """log p of each row, compiled once for each kind of law on JAX."""
    return to_numpy(dg, compiled(dg, LOG_PROB)(law, x)).astype(float)


LOG_PROB = lambda law, x: law.log_prob(x)  # noqa: E731


def host_draws(dg, law, shape, seed):
    if dg.engine.name == "numpyro":
        import jax

        return np.asarray(law.sample(jax.random.key(seed), shape))
    import pyro
    import torch

    with torch.random.fork_rng(devices=[]):
        pyro.set_rng_seed(seed)
        return law.sample(shape).numpy()


# --- the law


@pytest.mark.parametrize("name", CLOSED)
def test_sums_to_one(dg, name):
    law = marginal(dg, name)
    v, x = visible_states(dg, name, law.machine.like)
    log_p = log_probs(dg, law, x)
    np.testing.assert_allclose(log_p, -oracle(name).free_energies({"v": v}) - oracle(name).log_z, atol=1e-5)
    assert np.exp(log_p).sum() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("name", ["gaussian_bernoulli_rbm", "gaussian_bernoulli_rbm_learned_scale"])
def test_density_is_normalized(dg, name):
    law, truth = marginal(dg, name), oracle(name)
    v = np.random.default_rng(0).standard_normal((5, 3))
    log_p = log_probs(dg, law, cases.arrays(dg, {"v": v}, law.machine.like)["v"])
    np.testing.assert_allclose(log_p, -truth.free_energies({"v": v}) - truth.log_z, rtol=1e-5, atol=1e-5)


def test_hidden_layer_has_a_marginal_too(dg):
    law = cases.machine(dg, "rbm_spin", np.float32).marginal("h", log_normalizer="exact")
    h = oracle("rbm_spin").states(["h"])["h"]
    log_p = log_probs(dg, law, cases.arrays(dg, {"h": h}, law.machine.like)["h"])
    assert np.exp(log_p).sum() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("name", [n for n in COUPLED if CASES[n].finite])
def test_joined_layers_need_mean_field(dg, name):
    m = cases.machine(dg, name, np.float32)
    with pytest.raises(ValueError, match=r"expected hidden_bound=MeanField\(\.\.\.\) for .*coupled.*lower bound"):
        m.marginal("v", log_normalizer="exact")
    law = m.marginal("v", log_normalizer="exact", hidden_bound=dg.MeanField())
    v, x = visible_states(dg, name, m.like)
    gap = -oracle(name).free_energies({"v": v}) - oracle(name).log_z - log_probs(dg, law, x)
    assert (gap > -1e-5).all()  # where a third-order term leaves the hidden layers uncoupled, mean field is exact
    assert 0.01 < gap.max() < 0.5


def test_mean_field_is_for_the_visible_layer(dg):
    with pytest.raises(ValueError, match="with the visible layer, got block 'h1'"):
        cases.machine(dg, "dbm2", np.float32).marginal("h1", hidden_bound=dg.MeanField())


# --- policies


def evaluate(dg, law):
    return law.log_prob(visible_states(dg, "rbm", law.machine.like)[1][:2])


def test_without_normalizer_log_prob_says_what_to_do(dg):
    law = marginal(dg, log_normalizer=None)
    with pytest.raises(
        RuntimeError, match=r"needs its log normalizer: give log_normalizer='exact'.*ais\(.*Contrastive"
    ):
        evaluate(dg, law)


def test_contrastive_has_no_value_outside_training(dg):
    from deepgen_ppl.log_z.policies import gradient_only

    m = cases.machine(dg, "rbm", np.float32)
    law = m.marginal(log_normalizer=dg.Contrastive({"v": visible_states(dg, "rbm", m.like)[1]}))
    with pytest.raises(RuntimeError, match=r"expected a normalizer with a value, got Contrastive particles"):
        evaluate(dg, law)
    with gradient_only():
        evaluate(dg, law)
    with pytest.raises(RuntimeError, match="Contrastive"):
        evaluate(dg, law)


def test_other_policies_are_refused(dg):
    m = cases.machine(dg, "rbm", np.float32)
    for wrong in (3.0, "ais", {"value": 1.0}):
        with pytest.raises(TypeError, match=r"expected log_normalizer to be 'exact', a LogNormalizer"):
            m.marginal(log_normalizer=wrong)
    for wrong in ("x", "", 0):
        with pytest.raises(ValueError, match=rf"expected a layer among \['v', 'h'\], got {wrong!r}"):
            m.marginal(wrong, log_normalizer="exact")
    with pytest.raises(TypeError, match=r"expected MeanField\(...\) for hidden_bound, got 'mean field'"):
        m.marginal(hidden_bound="mean field")
    with pytest.raises(TypeError, match=r"expected a kernel, such as BlockGibbs.* for sampler, got 'gibbs'"):
        m.marginal(sampler="gibbs")


def test_estimate_belongs_to_its_parameters(dg):
    m = cases.machine(dg, "rbm", np.float32)
    exact = dg.exact_log_normalizer(m)
    assert np.isfinite(to_numpy(dg, evaluate(dg, m.marginal(log_normalizer=exact)))).all()
    other = m.with_params({"v.bias": m.params["v.bias"] + 0.01})
    with pytest.raises(ValueError, match="computed at these parameters, got one that belongs to others"):
        other.marginal(log_normalizer=exact)


def other_units(dg):
    """Spins with the arrays of the Bernoulli machine."""
    p = cases.machine(dg, "rbm", np.float32).params
    return dg.RBM(p["v-h.weight"], p["v.bias"], p["h.bias"], visible=dg.Spin(4), hidden=dg.Spin(3))


def test_estimate_belongs_to_its_units(dg):
    """Bernoulli and Spin machines with the same arrays have other normalizers, eager and traced."""
    m = cases.machine(dg, "rbm", np.float32)
    for normalizer in (dg.exact_log_normalizer(m), dg.ais(m, rng=0, betas=5, num_runs=200)):
        with pytest.raises(ValueError, match=r"expected a log normalizer of RBM\(v: Spin.*belongs to RBM\(v: Bern"):
            other_units(dg).marginal(log_normalizer=normalizer)

    def traced(dg, params):
        return other_units(dg).with_params(params).marginal(log_normalizer=normalizer).log_prob(m.like).sum()

    with pytest.raises(ValueError, match="expected a log normalizer of"):
        dg.engine.control.value_and_grad(lambda params: traced(dg, params))(m.params)


def mapped(dg, fn):
    """`fn` mapped over the first axis of a dict of arrays, by the host's own means."""
    if dg.engine.name == "numpyro":
        import jax

        return jax.jit(jax.vmap(fn))
    import torch

    return torch.func.vmap(fn)


@pytest.mark.parametrize("particles", [False, True])
def test_estimate_belongs_to_its_parameters_under_tracing(dg, particles):
    """Mapped over two sets of parameters: right at its own, NaN at the other; the gradient too."""
    m = cases.machine(dg, "rbm", np.float32)
    normalizer = dg.ais(m, rng=0, betas=5, num_runs=200) if particles else dg.exact_log_normalizer(m)
    x, xp = visible_states(dg, "rbm", m.like)[1], dg.engine.xp
    for name in m.params:
        both = {k: xp.stack([v, v + (1e-6 if k == name else 0)]) for k, v in m.params.items()}

        def log_p(params):
            return m.with_params(params).marginal(log_normalizer=normalizer).log_prob(x)

        own, other = to_numpy(dg, mapped(dg, log_p)(both))
        np.testing.assert_allclose(own, to_numpy(dg, m.marginal(log_normalizer=normalizer).log_prob(x)), atol=1e-5)
        assert np.isnan(other).all(), name


def test_stale_estimate_gives_no_gradient(dg_numpyro):
    """Its derivative is NaN as well: no optimizer takes half of a gradient for the whole."""
    import jax

    m = cases.machine(dg_numpyro, "rbm", np.float32)
    normalizer, x = dg_numpyro.ais(m, rng=0, betas=5, num_runs=200), visible_states(dg_numpyro, "rbm", m.like)[1]
    gradient = jax.jit(jax.grad(lambda params: log_p_at(dg_numpyro, m, normalizer, params, x)))
    assert all(np.isfinite(g).all() for g in gradient(m.params).values())
    moved = {**m.params, "v.bias": m.params["v.bias"] + 1.0}
    assert all(np.isnan(g).all() for g in gradient(moved).values())


def test_stale_estimate_inside_svi(dg, param_store):
    """A program that moves the machine under an estimate of its log Z has no loss after the first step."""
    host, m = dg.engine.host, cases.machine(dg, "rbm", np.float32)
    normalizer, x = dg.ais(m, rng=0, betas=5, num_runs=200), visible_states(dg, "rbm", m.like)[1]

    def model():
        moved = m.with_params({k: host.ppl.param(k, v) for k, v in m.params.items()})
        with host.ppl.plate("data", 16):
            host.ppl.sample("v", moved.marginal(log_normalizer=normalizer), obs=x)

    def guide():
        return None

    if dg.engine.name == "numpyro":
        import jax
        import optax
        from numpyro.infer import SVI, Trace_ELBO

        losses = SVI(model, guide, optax.sgd(0.1), Trace_ELBO()).run(jax.random.key(0), 3, progress_bar=False).losses
        assert np.isfinite(losses[0])
        assert np.isnan(losses[1:]).all()
        return
    import pyro
    from pyro.infer import SVI, Trace_ELBO

    svi = SVI(model, guide, pyro.optim.SGD({"lr": 0.1}), Trace_ELBO())
    assert np.isfinite(svi.step())
    with pytest.raises(ValueError, match="computed at these parameters, got one that belongs to others"):
        svi.step()


def log_p_at(dg, m, normalizer, params, x):
    return m.with_params(params).marginal(log_normalizer=normalizer).log_prob(x).sum()


def test_value_without_particles_cannot_be_differentiated(dg):
    m = cases.machine(dg, "rbm", np.float32)
    exact, x = dg.exact_log_normalizer(m), visible_states(dg, "rbm", m.like)[1][:2]
    with pytest.raises(RuntimeError, match="estimate without particles: its gradient would be zero"):
        dg.engine.control.value_and_grad(lambda params: log_p_at(dg, m, exact, params, x))(m.params)


def test_value_without_particles_can_be_evaluated_under_a_trace(dg_numpyro):
    import jax

    m = cases.machine(dg_numpyro, "rbm", np.float32)
    exact, x = dg_numpyro.exact_log_normalizer(m), visible_states(dg_numpyro, "rbm", m.like)[1]
    got = jax.jit(lambda m, x: m.marginal(log_normalizer=exact).log_prob(x))(m, x)
    assert np.exp(got).sum() == pytest.approx(1.0, abs=1e-5)


def test_gradient_of_the_exact_normalizer(dg, double):
    """d log p(x) is the likelihood gradient by enumeration."""
    m, truth = cases.machine(dg, "rbm_centered"), oracle("rbm_centered")
    v = truth.states(["v"])["v"][[1, 6, 11]]
    x = cases.arrays(dg, {"v": v}, m.like)["v"]
    value, grad = dg.engine.control.value_and_grad(lambda params: log_p_at(dg, m, "exact", params, x) / 3)(m.params)
    assert float(value) == pytest.approx(truth.log_likelihood(v, "v"), abs=1e-10)
    for k, g in truth.likelihood_gradient(v, "v").items():
        np.testing.assert_allclose(to_numpy(dg, grad[k]), g, atol=1e-10, err_msg=k)


def test_gradient_of_an_ais_normalizer(dg):
    """The weighted particles of forward AIS differentiate log Z: E of them is the model's mean, up to O(1/R)."""
    m, truth = cases.machine(dg, "rbm", np.float32), oracle("rbm")
    v = truth.states(["v"])["v"][[1, 6, 11]]
    x = cases.arrays(dg, {"v": v}, m.like)["v"]
    exact = np.concatenate([g.ravel() for g in truth.likelihood_gradient(v, "v").values()])
    keys = list(truth.likelihood_gradient(v, "v"))

    def one(params, normalizer):
        return log_p_at(dg, m, normalizer, params, x) / 3

    gradient = dg.engine.control.value_and_grad(one)
    if dg.engine.name == "numpyro":
        import jax

        gradient = jax.jit(gradient)

    def check(seed, factor):
        rows = []
        for r in range(200 * factor):
            normalizer = dg.ais(m, rng=seed * 10_000 + r, betas=8, num_runs=400)
            grad = gradient(m.params, normalizer)[1]
            rows.append(np.concatenate([to_numpy(dg, grad[k]).ravel() for k in keys]))
        rows = np.array(rows)
        # Self-normalized weights: a bias of O(1/400) of the spread of the statistics is allowed for in the error.
        gate(rows.mean(0), np.cov(rows.T) / len(rows) + 1e-7 * np.eye(len(exact)), exact, len(rows), 0.01)

    sampled(check, 31)


# --- draws


@finite
def test_draws_are_exact(dg, name):
    hidden = {"hidden_bound": dg.MeanField()} if name in COUPLED else {}
    law = marginal(dg, name, log_normalizer=None, **hidden)
    states, p = oracle(name).law(["v"])
    key = {tuple(x): k for k, x in enumerate(states["v"])}

    def check(seed, factor):
        draws = host_draws(dg, law, (4000 * factor,), seed)
        assert draws.shape == (4000 * factor, CASES[name].blocks["v"][0])
        g_test(np.bincount([key[tuple(x)] for x in draws], minlength=len(p)), p / p.sum())

    sampled(check, 32)


def test_draws_by_a_kernel(dg):
    law = marginal(dg, "rbm", log_normalizer=None, sampler=dg.BlockGibbs(25))
    states, p = oracle("rbm").law(["v"])
    key = {tuple(x): k for k, x in enumerate(states["v"])}

    def check(seed, factor):
        draws = host_draws(dg, law, (4000 * factor,), seed)
        g_test(np.bincount([key[tuple(x)] for x in draws], minlength=len(p)), p / p.sum())

    sampled(check, 33)


def test_large_machines_need_a_sampler(dg):
    m = dg.RBM.init(40, 40, rng=0)
    with pytest.raises(RuntimeError, match=r"has no exact draw \(2\^40 joint states\): give sampler=BlockGibbs"):
        host_draws(dg, m.marginal(), (2,), 0)
    assert host_draws(dg, m.marginal(sampler=dg.BlockGibbs()), (2,), 0).shape == (2, 40)


def test_draws_have_the_hosts_types(dg):
    """Integers on NumPyro, floats on Pyro, as their own Bernoulli."""
    draws = host_draws(dg, marginal(dg), (3, 2), 0)
    assert draws.shape == (3, 2, 4)
    assert draws.dtype == (np.int32 if dg.engine.name == "numpyro" else np.float32)
    assert host_draws(dg, marginal(dg), (), 0).shape == (4,)
    assert host_draws(dg, marginal(dg, "gaussian_bernoulli_rbm"), (2,), 0).dtype == np.float32


# --- host contracts


def test_shapes(dg):
    law = marginal(dg)
    v, x = visible_states(dg, "rbm", law.machine.like)
    flat = log_probs(dg, law, x)
    assert tuple(law.batch_shape) == ()
    assert tuple(law.event_shape) == (4,)
    grid = dg.engine.xp.reshape(x, (4, 4, 4))
    np.testing.assert_allclose(log_probs(dg, law, grid), flat.reshape(4, 4), atol=1e-6)
    assert log_probs(dg, law, x[3]).shape == ()
    wide = law.expand((16,))
    assert tuple(wide.batch_shape) == (16,)
    assert tuple(wide.event_shape) == (4,)
    np.testing.assert_allclose(to_numpy(dg, wide.log_prob(x)), flat, atol=1e-6)
    assert tuple(wide.log_prob(x[3]).shape) == (16,)
    assert host_draws(dg, wide, (2,), 0).shape == (2, 16, 4)
    joint = wide.to_event(1)
    assert tuple(joint.event_shape) == (16, 4)
    assert float(joint.log_prob(x)) == pytest.approx(flat.sum(), abs=1e-4)
    mask = np.arange(16) % 2 == 0
    masked = wide.mask(dg.engine.arrays.asarray(mask))
    np.testing.assert_allclose(to_numpy(dg, masked.log_prob(x)), np.where(mask, flat, 0), atol=1e-6)


@pytest.mark.parametrize(
    ("first", "then"), [((3,), (2,)), ((3,), ()), ((3, 1, 1), (1, 3, 1)), ((3, 1, 1), (3, 1)), ((2, 3), (3,))]
)
def test_expand_refuses_shapes_that_do_not_extend(dg, first, then):
    """The hosts' own check: after one expansion, another cannot drop or shrink an axis."""
    with pytest.raises((ValueError, RuntimeError)):
        marginal(dg).expand(first).expand(then)


@pytest.mark.parametrize(("first", "then"), [((), (2,)), ((3,), (3,)), ((1,), (4,)), ((3, 1), (2, 3, 5))])
def test_expand_again(dg, first, then):
    law = marginal(dg).expand(first).expand(then)
    assert tuple(law.batch_shape) == then
    assert host_draws(dg, law, (2,), 0).shape == (2, *then, 4)


def test_shapes_that_cannot_be_inferred_are_refused(dg):
    """The hosts skip their check where a law depends on more than shapes; the event axis is known of the class."""
    law = marginal(dg)
    assert type(law).support.event_dim == 1
    assert law.support.event_dim == 1
    with pytest.raises(NotImplementedError):
        type(law).infer_shapes(machine=(), block=())


def test_numpy_values(dg):
    """Values that are NumPy's, integers or floats, are taken as the host's own."""
    law = marginal(dg)
    v, x = visible_states(dg, "rbm", law.machine.like)
    for dtype in (np.float32, np.float64, np.int64):
        np.testing.assert_allclose(to_numpy(dg, law.log_prob(v.astype(dtype))), log_probs(dg, law, x), atol=1e-6)


# --- moments


def exact_mean_and_variance(name, block):
    states, p = oracle(name).law([block])
    mean = p @ states[block]
    return mean, p @ (states[block] - mean) ** 2, float(-p @ np.log(p))


@pytest.mark.parametrize(
    ("name", "block"), [("rbm", "v"), ("rbm_spin", "h"), ("rbm_centered", "v"), ("dbm2", "v"), ("triangle", "v")]
)
def test_moments(dg, double, name, block):
    """Mean, variance and entropy by enumeration, of layers kept and of layers summed out."""
    m = cases.machine(dg, name)
    law = m.marginal(block, hidden_bound=dg.MeanField() if name in COUPLED and block == "v" else None)
    mean, variance, entropy = exact_mean_and_variance(name, block)
    for host in (law, law.expand((2,))):
        shape = (*host.batch_shape, len(mean))
        np.testing.assert_allclose(to_numpy(dg, host.mean), np.broadcast_to(mean, shape), atol=1e-10)
        np.testing.assert_allclose(to_numpy(dg, host.variance), np.broadcast_to(variance, shape), atol=1e-10)
    if name in COUPLED:
        with pytest.raises(NotImplementedError, match="expected layers that are not coupled"):
            law.entropy()
    else:
        assert float(law.entropy()) == pytest.approx(entropy, abs=1e-10)


def test_moments_of_real_units(dg, double):
    """A mixture of Gaussians: E[v] and Var[v] by the oracle's own Gaussians."""
    name = "gaussian_bernoulli_rbm"
    truth = oracle(name)
    states, p = truth.law(["h"])
    given = [truth.conditional("v", {"h": h}) for h in states["h"]]
    means, variances = np.array([m for m, _ in given]), np.array([c.diagonal() for _, c in given])
    mean = p @ means
    law = marginal(dg, name, np.float64)
    np.testing.assert_allclose(to_numpy(dg, law.mean), mean, atol=1e-10)
    np.testing.assert_allclose(to_numpy(dg, law.variance), p @ (variances + (means - mean) ** 2), atol=1e-10)
    with pytest.raises(NotImplementedError, match=r"got 2\^inf \(layers \['v'\]\)"):
        law.entropy()


def test_moments_of_more_states_than_a_chunk(dg):
    """3^8 = 6,561 states are no multiple of a chunk."""
    rng = np.random.default_rng(3)
    w, b, c = rng.standard_normal((24, 9)), rng.standard_normal(24), rng.standard_normal(9)
    arrays = to_engine(dg, {"w": w, "b": b, "c": c}, np.float32)
    m = dg.RBM(arrays["w"], arrays["b"], arrays["c"], visible=dg.Categorical(8, 3), hidden=dg.Bernoulli(9))
    law = m.marginal("v", log_normalizer="exact")
    v = np.indices((3,) * 8).reshape(8, -1).T
    log_f = np.eye(3)[v].reshape(-1, 24) @ b + np.logaddexp(0, np.eye(3)[v].reshape(-1, 24) @ w + c).sum(1)
    log_p = log_f - np.logaddexp.reduce(log_f)
    assert float(law.entropy()) == pytest.approx(-np.exp(log_p) @ log_p, abs=1e-3)
    with pytest.raises(NotImplementedError, match="expected units whose values have a mean, got Categorical"):
        law.mean  # noqa: B018
    h = 1 / (1 + np.exp(-(np.eye(3)[v].reshape(-1, 24) @ w + c)))
    np.testing.assert_allclose(to_numpy(dg, m.marginal("h").mean), np.exp(log_p) @ h, atol=1e-4)


def test_moments_of_large_machines_are_refused(dg):
    law = dg.RBM.init(40, 40, rng=0).marginal()
    for what in (lambda: law.mean, lambda: law.variance, law.entropy):
        with pytest.raises(NotImplementedError, match=r"at most 2\^20 joint states.*got 2\^40.*average draws"):
            what()


def test_expanded_draws_are_independent(dg):
    draws = host_draws(dg, marginal(dg).expand((600,)), (), 0)
    states, p = oracle("rbm").law(["v"])
    key = {tuple(x): k for k, x in enumerate(states["v"])}
    g_test(np.bincount([key[tuple(x)] for x in draws], minlength=16), p / p.sum())


def test_site_in_a_plate(dg):
    """The law of a site, observed in a plate with a scale, through the host's own handlers."""
    host, m = dg.engine.host, cases.machine(dg, "rbm", np.float32)
    v, x = visible_states(dg, "rbm", m.like)

    def model():
        with host.ppl.plate("data", 16), host.handlers.scale(scale=0.5):
            host.ppl.sample("v", m.marginal(log_normalizer="exact"), obs=x)

    log_p = -oracle("rbm").free_energies({"v": v}) - oracle("rbm").log_z
    if dg.engine.name == "numpyro":
        from numpyro.infer.util import log_density

        total = log_density(model, (), {}, {})[0]
    else:
        total = host.handlers.trace(model).get_trace().log_prob_sum()
    assert float(total) == pytest.approx(0.5 * log_p.sum(), abs=1e-4)


def test_values_outside_the_support(dg):
    law = marginal(dg)
    law = type(law)(law.machine, "v", "exact", validate_args=True)
    bad = dg.engine.arrays.asarray(np.array([0.5, 0, 1, 0], np.float32))
    if dg.engine.name == "numpyro":
        with pytest.warns(UserWarning, match="Out-of-support values"):
            law.log_prob(bad)
    else:
        with pytest.raises(ValueError, match="within the support"):
            law.log_prob(bad)


def test_support_is_that_of_the_units(dg):
    for name, inside, outside in (
        ("rbm_spin", [-1.0, 1, 1, -1], [0.0, 1, 1, 1]),
        ("rbm_categorical_visible", [0.0, 2], [0.0, 3]),
        ("gaussian_bernoulli_rbm", [0.3, -7, 0], [np.nan, 0, 0]),
    ):
        support = marginal(dg, name).support
        check = support if dg.engine.name == "numpyro" else support.check
        verdict = [bool(check(dg.engine.arrays.asarray(np.asarray(x, np.float32)))) for x in (inside, outside)]
        assert verdict == [True, False], name


def test_repr(dg):
    assert repr(marginal(dg)).startswith("Marginal('v' of RBM(v: Bernoulli(4), h: Bernoulli(3); v-h; ")
    assert repr(marginal(dg)).endswith("log_normalizer='exact')")


@pytest.mark.slow
def test_numpyro_law_is_a_pytree(dg_numpyro):
    import jax
    import jax.numpy as jnp

    dg = dg_numpyro
    m = cases.machine(dg, "rbm", np.float32)
    x = visible_states(dg, "rbm", m.like)[1]
    for normalizer in ("exact", None, dg.ais(m, rng=0, betas=10, num_runs=200), dg.Contrastive({"v": x})):
        law = m.marginal(log_normalizer=normalizer, sampler=dg.BlockGibbs(2))
        leaves, tree = jax.tree.flatten(law)
        other = jax.tree.unflatten(tree, leaves)
        assert type(other) is type(law)
        assert (other.block, other.hidden_bound, other.sampler) == ("v", None, dg.BlockGibbs(2))
        assert other.event_shape == (4,)
        assert type(other.log_normalizer) is type(law.log_normalizer)
        if normalizer == "exact" or isinstance(normalizer, dg.LogNormalizer):
            np.testing.assert_allclose(other.log_prob(x), law.log_prob(x))
        assert hash(tree) == hash(jax.tree.structure(law))
    shifted = [m.with_params({"v.bias": m.params["v.bias"] + t}) for t in (0.0, 1.0)]
    laws = jax.tree.map(lambda *a: jnp.stack(a), *(s.marginal(log_normalizer="exact") for s in shifted))
    got = jax.jit(jax.vmap(lambda law, x: law.log_prob(x), in_axes=(0, None)))(laws, x)
    np.testing.assert_allclose(np.exp(got).sum(1), 1.0, atol=1e-5)
    assert np.abs(got[0] - got[1]).max() > 0.1
    np.testing.assert_allclose(got[1], shifted[1].marginal(log_normalizer="exact").log_prob(x), atol=1e-5)


# --- inside programs


def bayesian_rbm(dg, x):
    """Normal priors over the arrays of an RBM, with its exact normalizer: a posterior that a host can sample."""
    host = dg.engine.host

    def model():
        normal = host.dist.Normal
        zero = dg.engine.arrays.asarray(np.zeros((), np.float32))
        w = host.ppl.sample("w", normal(zero, 0.5).expand((3, 1)).to_event(2))
        b = host.ppl.sample("b", normal(zero, 0.5).expand((3,)).to_event(1))
        c = host.ppl.sample("c", normal(zero, 0.5).expand((1,)).to_event(1))
        with host.ppl.plate("data", x.shape[0]):
            host.ppl.sample("v", dg.RBM(w, b, c).marginal("v", log_normalizer="exact"), obs=x)

    return model


X = np.array([[1, 1, 0]] * 30 + [[0, 0, 1]] * 30 + [[1, 0, 0]] * 10, np.float32)


def test_log_joint_over_weights_is_normalized(dg):
    """At given weights the program's log joint is prior + exact log-likelihood."""
    from scipy.stats import norm

    host = dg.engine.host
    values = {"w": np.array([[0.3], [-0.2], [0.5]]), "b": np.array([0.1, 0.2, -0.4]), "c": np.array([0.7])}
    given = to_engine(dg, values, np.float32)
    model = bayesian_rbm(dg, dg.engine.arrays.asarray(X))
    if dg.engine.name == "numpyro":
        from numpyro.infer.util import log_density

        total = float(log_density(model, (), {}, given)[0])
    else:
        total = float(host.handlers.trace(host.handlers.condition(model, data=given)).get_trace().log_prob_sum())
    params = {"v.bias": values["b"], "h.bias": values["c"], "v-h.weight": values["w"]}
    truth = type(oracle("rbm"))(CASES["rbm"].energy, params, {"v": (3, [0, 1]), "h": (1, [0, 1])})
    prior = sum(norm(0, 0.5).logpdf(v).sum() for v in values.values())
    assert total == pytest.approx(prior + len(X) * truth.log_likelihood(X, "v"), abs=1e-3)


@pytest.mark.slow
def test_nuts_over_weights(dg):
    """NUTS takes the machine like any other distribution: its draws predict the frequencies of the data."""
    x = dg.engine.arrays.asarray(X)
    model = bayesian_rbm(dg, x)
    if dg.engine.name == "numpyro":
        import jax
        from numpyro.infer import MCMC, NUTS

        mcmc = MCMC(NUTS(model), num_warmup=100, num_samples=200, progress_bar=False)
        mcmc.run(jax.random.key(0))
        draws = {k: np.asarray(v) for k, v in mcmc.get_samples().items()}
    else:
        import pyro
        from pyro.infer import MCMC, NUTS

        pyro.set_rng_seed(0)
        mcmc = MCMC(NUTS(model, max_tree_depth=4), num_samples=60, warmup_steps=40, disable_progbar=True)
        mcmc.run()
        draws = {k: v.numpy() for k, v in mcmc.get_samples().items()}
    assert draws["w"].shape[1:] == (3, 1)
    rates = []
    for w, b, c in list(zip(draws["w"], draws["b"], draws["c"], strict=True))[::10]:
        params = {"v.bias": b, "h.bias": c, "v-h.weight": w}
        states, p = type(oracle("rbm"))(CASES["rbm"].energy, params, {"v": (3, [0, 1]), "h": (1, [0, 1])}).law(["v"])
        rates.append(p @ states["v"])
    assert np.std(rates, axis=0).max() > 0.01
    np.testing.assert_allclose(np.mean(rates, axis=0), X.mean(0), atol=0.1)
