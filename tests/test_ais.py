"""Annealed importance sampling of batches of machines, and what its estimates say of their own particles."""

import dataclasses
import itertools

import cases
import numpy as np
import pytest
from cases import CASES, compiled, oracle, to_numpy
from gates import g_test, gate_mean, sampled
from scipy.special import logsumexp

from deepgen_ppl.energies.mean_field import MeanField, mean_field_bound
from deepgen_ppl.log_z.estimates import log_mean_exp
from deepgen_ppl.log_z.policies import gradient_only, log_normalizer_term
from deepgen_ppl.log_z.starts import draws_of

TOL = {"rtol": 1e-10, "atol": 1e-10}
BETAS, RUNS, ROWS = 12, 2000, 3


def batch(dg, name="rbm", dtype=np.float32):
    """Three machines that differ in all biases."""
    m, rng = cases.machine(dg, name, dtype), np.random.default_rng(61)
    biases = {k: to_numpy(dg, v) for k, v in m.params.items() if k.endswith(".bias")}
    return m.with_params(
        {k: (v + 0.5 * rng.standard_normal((ROWS, *v.shape))).astype(dtype) for k, v in biases.items()}
    )


def alone(dg, m):
    """The machines of a batch, one by one."""
    arrays = {k: to_numpy(dg, v) for k, v in m.params.items()}
    rows = [{k: v[r] if k.endswith(".bias") else v for k, v in arrays.items()} for r in range(ROWS)]
    return [m._replace(params=cases.to_engine(dg, row, str(m.like.dtype)[-7:])) for row in rows]


def given(dg):
    """The machines over the hidden layers of a DBM, one for each of three rows: their log Z is log f(v)."""
    v = np.array([[0, 1, 1], [1, 1, 0], [0, 0, 0]], np.float32)
    return cases.machine(dg, "dbm2", np.float32).given({"v": v}), -oracle("dbm2").free_energies({"v": v})


def missing(dg):
    """An RBM over the hidden units and the missing pixels of three rows."""
    v, mask = np.array([[0, 1, 1, 0]] * ROWS), np.array([[0, 0, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]])
    return cases.machine(dg, "rbm", np.float32).given({"v": v}, missing={"v": mask})


def batch_and_log_z(dg, name):
    if name == "given":
        return given(dg)
    m = missing(dg) if name == "missing" else batch(dg)
    return m, dg.exact_log_normalizer(m).value


def check_batch(dg, name, run=sampled, **options):
    """E[w] = Z of each machine, forward, and 1 / Z in reverse, on w itself."""
    m, log_z = batch_and_log_z(dg, name)
    sign = -1.0 if options.get("reverse") else 1.0

    def check(seed, factor):
        estimate = dg.ais(m, rng=seed, betas=BETAS, num_runs=RUNS * factor, **options)
        assert estimate.value.shape == estimate.se.shape == (ROWS,)
        assert estimate.log_weights.shape == (RUNS * factor, ROWS)
        gate_mean(np.exp(sign * (estimate.log_weights - log_z)), np.ones(ROWS), 0.05)

    run(check, 62)


@pytest.mark.parametrize("reverse", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["rbm", "given", "missing"])
def test_weights_of_a_batch_have_the_means_z(dg, name, reverse):
    check_batch(dg, name, reverse=reverse)


def test_log_f_of_each_row(dg):
    """log f(v) is the log Z of the machine over the hidden layers given v; v has no part in the runs of other rows."""
    m, log_f = given(dg)
    estimate = dg.ais(m, rng=0, betas=200, num_runs=400)
    assert (np.abs(estimate.value - log_f) < 5 * estimate.se).all()
    assert (estimate.se < 0.01).all()
    assert (estimate.kind, estimate.side, estimate.flags) == ("bound", "lower", ())
    w = np.exp(estimate.log_weights - estimate.log_weights.max(axis=0))
    np.testing.assert_allclose(to_numpy(dg, estimate.weights), w / w.sum(axis=0), rtol=1e-5)
    between = np.corrcoef(estimate.log_weights.T)[np.triu_indices(ROWS, 1)]
    assert np.abs(between).max() < 5 / np.sqrt(400)


@pytest.mark.slow
def test_log_f_where_mean_field_is_half_a_nat_off(dg):
    """A DBM of 60-10-9 units: the mean over 20 rows, against sums over the 2^9 states of the last layer."""
    rng = np.random.default_rng(0)
    shapes = {"v-h1.weight": (60, 10), "h1-h2.weight": (10, 9)}
    dbm = dg.DBM.init(60, (10, 9), rng=0)
    dbm = dbm.with_params({k: (0.6 * rng.standard_normal(shape)).astype(np.float32) for k, shape in shapes.items()})
    v = dg.engine.arrays.asarray((rng.random((20, 60)) < 0.3).astype(np.float32))
    rest = dbm.given({"v": v})
    exact = dg.exact_log_normalizer(rest).value
    bound = to_numpy(dg, mean_field_bound(dbm, v, MeanField(100).solve(dbm, v)))
    forward, backward = (dg.ais(rest, rng=1, betas=1000, num_runs=100, reverse=r) for r in (False, True))
    off = {name: np.mean(exact - got) for name, got in
           (("mean field", bound), ("forward", forward.value), ("reverse", backward.value))}  # fmt: skip
    print(f"mean of exact log f less it, nats: {off}")
    assert 0.35 < off["mean field"] < 0.6
    assert abs(off["forward"]) < 0.01
    assert abs(off["reverse"]) < 0.01


def test_equal_ends_of_a_batch_give_the_log_z_of_each(dg):
    """Machines without couplings, annealed from themselves: every run has log w = log Z."""
    m = batch(dg).decoupled()
    exact = sum(np.logaddexp(0, to_numpy(dg, m.params[f"{n}.bias"])).sum(-1) for n in "vh")
    for reverse in (False, True):
        estimate = dg.ais(m, rng=0, betas=5, num_runs=200, start=m, reverse=reverse)
        np.testing.assert_allclose(estimate.log_weights, np.broadcast_to(exact, (200, ROWS)), atol=1e-5)


def test_one_start_serves_all_machines(dg):
    """A start that is no batch gives each machine draws of its own; one of another batch is refused."""
    m = batch(dg)
    one = alone(dg, m)[0]
    exact = dg.exact_log_normalizer(m).value
    for start in (one.decoupled(), one):
        estimate = dg.ais(m, rng=0, betas=100, num_runs=400, start=start)
        assert (np.abs(estimate.value - exact) < 5 * estimate.se + 1e-5).all()  # the last start is the first machine
        assert np.abs(np.corrcoef(estimate.log_weights[:, 1:].T)[0, 1]) < 0.3
    for wrong in (m.decoupled(), m):
        with pytest.raises(ValueError, match=r"expected one start, or .* shape \(\), got a batch of the shape \(3,\)"):
            dg.ais(one, rng=0, start=wrong)


def test_errors_of_a_batch_are_withheld_one_by_one(dg):
    """Weights may be a batch too: nothing is said of the machine whose couplings are too strong."""
    m = cases.machine(dg, "rbm", np.float32)
    w = to_numpy(dg, m.params["v-h.weight"])
    estimate = dg.ais(m.with_params({"v-h.weight": np.stack([0.01 * w, 10 * w])}), rng=0, betas=3, num_runs=200)
    assert estimate.flags == ("weights_degenerate",)
    assert np.isfinite(estimate.se).tolist() == [True, False]
    assert repr(estimate).startswith("LogNormalizer((2,) machines, bound, side lower, by AIS forward, 3 temperatures")
    np.testing.assert_allclose(estimate.certified(), estimate.value + np.log(0.025))
    rows = np.stack([estimate.log_weights[:, r] for r in range(2)], axis=-1)
    each = [log_mean_exp(rows[:, r]) for r in range(2)]
    np.testing.assert_allclose(np.transpose(log_mean_exp(rows)), each, rtol=1e-12)


def test_draws_given_for_a_batch(dg):
    m = batch(dg)
    h = to_numpy(dg, draws_of(dg.engine.random.rng(0), m, 100)["h"])
    estimate = dg.ais(m, rng=0, betas=50, num_runs=100, reverse=True, initial={"h": h})
    assert (estimate.kind, estimate.side, estimate.value.shape) == ("estimate", "none", (ROWS,))
    with pytest.raises(ValueError, match=r"with 100 draws of the layers \['h'\], leading axes \(100, 3\), got .*100"):
        dg.ais(m, rng=0, num_runs=100, reverse=True, initial={"h": h[:, 0]})


# --- estimates of a batch in its marginal


def log_p(law, x):
    return law.log_prob(x)


def test_marginals_under_the_estimates_of_a_batch(dg):
    """sum_x p(x) of each machine: 1 where log Z is exact, Z over the estimate of it elsewhere."""
    m = batch(dg)
    x = np.array(list(itertools.product([0.0, 1.0], repeat=4)), np.float32)
    x = dg.engine.arrays.asarray(x[:, None], like=m.like)
    exact = dg.exact_log_normalizer(m)
    for log_z in ("exact", exact, dg.ais(m, rng=0, betas=BETAS, num_runs=200)):
        law = m.marginal(log_normalizer=log_z)
        assert tuple(law.batch_shape) == (ROWS,)
        got = to_numpy(dg, compiled(dg, log_p)(law, x))
        assert got.shape == (16, ROWS)
        value = exact.value if log_z == "exact" else log_z.value
        np.testing.assert_allclose(logsumexp(got, axis=0), exact.value - value, atol=1e-5)


def gradient_of_log_z(dg, m, log_z):
    """Gradient of the sum of log Z under a policy, as its derivative is defined there."""

    def total(params):
        return log_normalizer_term(m.with_params(params), log_z).sum()

    with gradient_only():
        return to_numpy(dg, dg.engine.control.value_and_grad(total)(dict(m.params))[1])


@pytest.mark.parametrize("weighted", [True, False])
def test_gradient_of_a_batch_is_that_of_its_machines(dg, double, weighted):
    """Each machine has its own particles, with weights or without."""
    m = batch(dg, dtype=np.float64)
    estimate = dg.ais(m, rng=0, betas=3, num_runs=200)
    row = {"belongs_to": None} if weighted else {}
    log_z = estimate if weighted else dg.Contrastive(estimate.particles)
    got, weight = gradient_of_log_z(dg, m, log_z), 0.0
    for r, one in enumerate(alone(dg, m)):
        row["particles"] = {n: x[:, r] for n, x in log_z.particles.items()}
        if weighted:
            row |= {"value": estimate.value[r], "weights": estimate.weights[:, r]}
        own = gradient_of_log_z(dg, one, dataclasses.replace(log_z, **row))
        weight = weight + own["v-h.weight"]
        for n in ("v.bias", "h.bias"):
            np.testing.assert_allclose(got[n][r], own[n], **TOL)
    np.testing.assert_allclose(got["v-h.weight"], weight, **TOL)


# --- one machine


def check_gradient_of_uneven_weights(dg):
    """d log Z = sum_r w_r E[-dE | x_r] over the particles of the estimate, in float64, with its own weights."""
    m, truth = cases.machine(dg, "rbm_spin"), oracle("rbm_spin")
    m = m.with_params({k: 3 * v for k, v in m.params.items()})
    truth = type(truth)(CASES["rbm_spin"].energy, {k: 3 * v for k, v in truth.params.items()}, truth.blocks)
    estimate = dg.ais(m, rng=0, betas=2, num_runs=100)
    w = np.exp(estimate.log_weights - estimate.log_weights.max())
    w = w / w.sum()
    assert 1 / (w**2).sum() < 50
    exact, plain, got = {}, {}, gradient_of_log_z(dg, m, estimate)
    for r, h in enumerate(to_numpy(dg, estimate.particles["h"])):
        for k, g in truth.expected_gradient({"h": h}).items():
            exact[k], plain[k] = exact.get(k, 0.0) + w[r] * g, plain.get(k, 0.0) + g / len(w)
    for k, g in got.items():
        np.testing.assert_allclose(g, exact[k], atol=1e-6, err_msg=k)  # weights are kept in the machine's precision
    assert np.abs(exact["v.bias"] - plain["v.bias"]).max() > 0.1


def test_gradient_has_the_weights_of_the_particles(dg, double):
    check_gradient_of_uneven_weights(dg)


def test_small_increments_are_not_lost_in_large_weights(dg):
    """Independent units from bias 0 to 8: log w = 6,400 - 555 of each run is the sum of 2,000 terms."""
    layers = {"v": dg.Bernoulli(400), "h": dg.Bernoulli(400)}
    start, m = (
        dg.BoltzmannMachine(layers, [], cases.to_engine(dg, {f"{n}.bias": np.full(400, b) for n in "vh"}, np.float32))
        for b in (0.0, 8.0)
    )
    estimate = dg.ais(m, rng=0, betas=2001, num_runs=100, start=start)
    np.testing.assert_allclose(estimate.log_weights, 800 * np.logaddexp(0, 8), rtol=0, atol=1e-3)


def check_draws_far_up(dg, run=sampled):
    """At a constant of 1e8 nats float32 knows nothing of what tells states apart; the law is the same."""
    case, (states, p) = CASES["rbm_spin"], oracle("rbm_spin").law(["h"])
    far = cases.layers((("v", "h"),), v=("Spin", 4), h=("Spin", 3))
    params, constant = cases.to_engine(dg, case.params, np.float32), {"energy_offset": np.float32(-1e8)}
    m = far(dg, params, cases.to_engine(dg, constant, np.float32))

    def check(seed, factor):
        h = to_numpy(dg, draws_of(dg.engine.random.rng(seed), m, 4000 * factor)["h"])
        assert h.dtype == np.float32
        code = (h > 0) @ [4, 2, 1]
        g_test(np.bincount(code, minlength=8), p[np.argsort((states["h"] > 0) @ [4, 2, 1])])

    run(check, 64)


def test_exact_draws_are_made_in_float64(dg):
    check_draws_far_up(dg)
