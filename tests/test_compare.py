"""Bounds and comparison: which side is claimed, by what, and whether it holds."""

import copy
import csv
import dataclasses
import inspect
import math

import cases
import numpy as np
import oracles
import pytest
from conftest import HOSTS, face
from gates import LEVEL, gate_mean, sampled
from scipy import stats
from scipy.special import logsumexp

from deepgen_ppl.log_p.cells import decimals_of
from deepgen_ppl.log_p.compare import COLUMNS
from deepgen_ppl.log_p.importance import importance_log_likelihood
from deepgen_ppl.log_z.estimates import CERTIFIED, FLAGS, log_mean_exp

BINARY = oracles.BINARY


def visible(name, num=12, seed=0):
    """Rows of the visible layer of a case."""
    size, values = cases.CASES[name].blocks["v"]
    rng = np.random.default_rng(seed)
    return rng.standard_normal((num, size)) if values is None else rng.choice(values, (num, size))


def pointwise(name, x):
    """Exact log p of each row."""
    truth = cases.oracle(name)
    return -truth.free_energies({"v": x}) - truth.log_z


def random_machine(dg, family, seed, scale):
    """(machine, oracle) of a random RBM 5-3 or DBM 4-3-2, float32, centered."""
    sizes = {"rbm": {"v": 5, "h": 3}, "dbm": {"v": 4, "h1": 3, "h2": 2}}[family]
    names = list(sizes)
    shapes = {f"{n}.bias": k for n, k in sizes.items()}
    shapes |= {f"{a}-{b}.weight": (sizes[a], sizes[b]) for a, b in zip(names, names[1:], strict=False)}
    params, constants = cases.draw(seed, shapes, scale), cases.offsets(seed, sizes)
    params, constants = ({k: v.astype(np.float32) for k, v in a.items()} for a in (params, constants))
    build = {"rbm": cases.rbm(), "dbm": cases.dbm}[family]
    machine = build(dg, cases.to_engine(dg, params, np.float32), cases.to_engine(dg, constants, np.float32))
    energy = {"rbm": oracles.energy_rbm, "dbm": oracles.energy_dbm}[family]
    return machine, oracles.Oracle(energy, params | constants, {n: (k, BINARY) for n, k in sizes.items()})


def ppca(dg, *, guide="exact", latent=2, width=5, sigma=0.7, seed=0):
    """(VAE, mean, covariance): a linear decoder and Gaussian likelihood, whose marginal is a known Gaussian.

    The loadings are orthogonal, so that the posterior factorizes and the linear encoder can be exact (Tipping & Bishop
    1999, eq. 7): M = W'W + sigma^2 I, z | x ~ N(M^-1 W'(x - m), sigma^2 M^-1).
    """
    rng = np.random.default_rng(seed)
    w = np.linalg.qr(rng.standard_normal((width, latent)))[0] * rng.uniform(0.8, 1.6, latent)
    m = rng.standard_normal(width)
    precision = (w**2).sum(0) + sigma**2
    encoder, scale = w / precision, np.log(sigma**2 / precision) / 2
    bias = np.concatenate([-m @ encoder, scale])
    if guide == "wide":
        bias[latent:] += 0.8
    if guide == "bad":
        bias[:latent] += 3.0
        bias[latent:] -= 2.5
    vae = dg.VAE.init(dg.Gaussian(width, sigma), rng=0, latent=latent, hidden=())
    vae = vae.from_canonical(
        {
            "decoder.layers.0.weight": w.T.astype(np.float32),
            "decoder.layers.0.bias": m.astype(np.float32),
            "encoder.layers.0.weight": np.hstack([encoder, np.zeros((width, latent))]).astype(np.float32),
            "encoder.layers.0.bias": bias.astype(np.float32),
        }
    )
    return vae, m, w @ w.T + sigma**2 * np.eye(width)


def ppca_data(mean, covariance, num, seed=1):
    """(rows, exact log p of each)."""
    law = stats.multivariate_normal(mean, covariance)
    x = np.reshape(law.rvs(num, random_state=np.random.default_rng(seed)), (num, -1)).astype(np.float32)
    return x, np.atleast_1d(law.logpdf(x.astype(float)))


def small_vae(dg, width=4):
    return dg.VAE.init(dg.Bernoulli(width), rng=0, latent=2, hidden=(5,))


def few(dg, **options):
    """Options of every small table, so that JAX compiles once."""
    return dg.BoundsOptions(num_particles=20, **options)


# --- exact rows


@pytest.mark.parametrize("name", ["rbm_centered", "dbm2", "triangle"])
def test_exact_rows_equal_enumeration(dg, name):
    x = visible(name)
    truth = pointwise(name, x)
    e = dg.bounds(cases.machine(dg, name, np.float32), x, rng=0)
    assert (e.lower.kind, e.upper.kind, e.estimate.kind) == ("exact", "exact", "exact")
    for side in (e.lower, e.upper, e.estimate):
        assert side.value == pytest.approx(truth.mean(), abs=1e-5)
        assert side.mc_se == 0
    np.testing.assert_allclose(e.pointwise, truth, atol=1e-5)
    assert e.pointwise.dtype == np.float64
    assert e.se_data == pytest.approx(truth.std(ddof=1) / math.sqrt(12), rel=1e-4)
    assert (e.se_log_z, e.flags) == (0.0, ())
    assert e.log_normalizer.value == pytest.approx(cases.oracle(name).log_z, abs=1e-5)


def test_exact_row_of_a_density(dg):
    x = visible("gaussian_bernoulli_rbm")
    e = dg.bounds(cases.machine(dg, "gaussian_bernoulli_rbm", np.float32), x, rng=0)
    truth = pointwise("gaussian_bernoulli_rbm", x)
    assert (e.lower.value, e.upper.value) == pytest.approx((truth.mean(), truth.mean()), abs=1e-5)


def test_one_datum_has_no_se_data(dg):
    x = visible("rbm", 1)
    e = dg.bounds(cases.machine(dg, "rbm", np.float32), x, rng=0)
    assert math.isnan(e.se_data)
    assert e.lower.value == pytest.approx(pointwise("rbm", x)[0], abs=1e-5)


# --- AIS, both ways

RUNS = 300
STEPS = 100


def temperatures(num):
    """`num` of them in steps that weigh something and others that do not, so that JAX compiles one length."""
    return np.concatenate([np.linspace(0, 1, num), np.ones(STEPS + 1 - num)])


@pytest.mark.parametrize("family", ["rbm", "dbm"])
def test_two_sided_interval_from_exact_starts(dg, family):
    options = dg.BoundsOptions(betas=temperatures(STEPS), num_runs=RUNS, log_z="ais")
    for seed, scale in enumerate((0.3, 0.6, 0.9, 1.2)):
        machine, truth = random_machine(dg, family, seed, scale)
        x = np.random.default_rng(seed).integers(0, 2, (6, truth.blocks["v"][0])).astype(float)
        exact = truth.log_likelihood(x, "v")
        e = dg.bounds(machine, x, rng=seed, options=options)
        low, high = e.interval(z=5.0)
        assert low <= exact <= high, (scale, low, exact, high)
        low, high = e.interval()
        assert 0 < high - low < 0.5
        assert (e.lower.kind, e.upper.kind, e.flags) == ("bound", "bound", ())
        assert "reverse" in e.lower.method
        assert "forward" in e.upper.method
        assert e.se_log_z == e.log_normalizer.se == e.upper.mc_se > 0
        np.testing.assert_allclose(e.pointwise.mean(), e.estimate.value)


def hard(dg):
    """(machine, exact log Z) of a small machine with strong couplings: annealed fast, its weights scatter widely."""
    machine, truth = random_machine(dg, "rbm", 5, 1.5)
    return machine, truth.log_z


MANY = 200_000
"""Runs of the checks below, which divide them into independent estimates; one size, so that JAX compiles once."""


def many(dg, machine, seed, *, num, reverse):
    betas = np.concatenate([np.linspace(0, 1, num), np.ones(20 - num)])
    return dg.ais(machine, rng=seed, betas=betas, num_runs=MANY, reverse=reverse)


def groups(log_z, size, num):
    """`num` independent estimates from one large one: the same numbers as so many calls with `size` runs."""
    sign = 1.0 if log_z.side == "lower" else -1.0
    for log_w in log_z.log_weights[: size * num].reshape(num, size):
        value, se, _ = log_mean_exp(sign * log_w)
        yield dataclasses.replace(log_z, value=sign * value, se=se)


@pytest.mark.parametrize("reverse", [False, True])
def test_weights_of_both_ways_have_their_means(dg, reverse):
    """E[w] = Z forward, E[1/w] = 1/Z in reverse, however few the temperatures."""

    def check(seed, factor):
        machine, log_z = hard(dg)
        estimate = many(dg, machine, seed, num=4, reverse=reverse)
        w = np.exp((estimate.log_weights - log_z) * (-1 if reverse else 1))
        gate_mean(w[: 20_000 * factor], 1.0, 0.05)

    sampled(check, 11)


@pytest.mark.parametrize("reverse", [False, True])
def test_certified_holds_with_its_probability(dg, reverse):
    """Markov's bound with two runs and four temperatures, 1,000 times: at most a share alpha misses."""
    machine, log_z = hard(dg)
    estimate = many(dg, machine, 3, num=4, reverse=reverse)
    for alpha in (0.025, 0.5):
        bounds = np.array([z.certified(alpha) for z in groups(estimate, 2, 1000)])
        misses = int((bounds < log_z).sum() if reverse else (bounds > log_z).sum())
        assert stats.binom.sf(misses - 1, len(bounds), alpha) >= LEVEL, misses
        gap = np.median(bounds - log_z) * (1 if reverse else -1)
        assert 0 < gap < math.log(1 / alpha) + 1.5  # an infinite bound would hold too


@pytest.mark.parametrize("reverse", [False, True])
def test_coverage_of_ais_intervals(dg, reverse):
    """One-sided 97.5 % intervals for the claimed side, 1,000 times: binomial test of the misses, cap on the width."""
    machine, truth = random_machine(dg, "rbm", 2, 0.8)
    estimate = many(dg, machine, 5, num=20, reverse=reverse)
    found = list(groups(estimate, 200, 1000))
    sign = -1.0 if reverse else 1.0
    error = np.array([sign * (z.value - truth.log_z) for z in found])  # at most 0 in expectation
    se = np.array([z.se for z in found])
    assert np.isfinite(se).all()
    misses = int((error > 1.96 * se).sum())
    assert stats.binom.sf(misses - 1, len(found), 0.025) >= LEVEL, misses
    assert np.median(2 * 1.96 * se) < 0.2


def exact_draws(dg, machine, num):
    from deepgen_ppl.log_z.exact import draw_exact

    return draw_exact(dg.engine.random.rng(1, machine.like), machine, num)


def test_certified_values(dg):
    machine, log_z = hard(dg)
    exact = dg.exact_log_normalizer(machine)
    assert exact.certified() == pytest.approx(log_z, abs=1e-5)
    options = {"betas": temperatures(4), "num_runs": RUNS}
    forward = dg.ais(machine, rng=0, **options)
    assert forward.certified(0.1) == pytest.approx(forward.value + math.log(0.1))
    back = dg.ais(machine, rng=0, reverse=True, **options)
    assert (back.kind, back.side) == ("bound", "upper")
    assert back.certified(0.1) == pytest.approx(back.value - math.log(0.1))
    from_chains = dg.ais(machine, rng=0, reverse=True, initial=exact_draws(dg, machine, RUNS), **options)
    assert (from_chains.kind, from_chains.side) == ("estimate", "none")
    assert "inexact_start" in from_chains.flags
    with pytest.raises(ValueError, match="expected an estimate that claims a side, got"):
        from_chains.certified()


def test_few_temperatures_are_flagged(dg):
    """Where the weights scatter, the standard error is withheld."""
    machine, truth = random_machine(dg, "rbm", 5, 2.5)
    x = np.random.default_rng(0).integers(0, 2, (6, 5))
    options = dg.BoundsOptions(betas=temperatures(2), num_runs=RUNS, log_z="ais")
    e = dg.bounds(machine, x, rng=0, options=options)
    assert "weights_degenerate" in e.flags
    assert math.isnan(e.se_log_z)
    assert math.isnan(e.upper.mc_se)
    exact = truth.log_likelihood(x.astype(float), "v")
    assert e.interval()[1] == pytest.approx(e.upper.value + CERTIFIED)  # Markov's margin instead
    assert exact < e.interval()[1]


def test_default_runs_of_ais_are_enough_for_an_error(dg):
    """With weights that hardly differ there is a standard error."""
    for call, name in ((dg.ais, "num_runs"), (dg.BoundsOptions, "num_runs")):
        runs = inspect.signature(call).parameters[name].default
        assert math.isfinite(log_mean_exp(0.3 * np.random.default_rng(0).standard_normal(runs))[1])


# --- machines without some side


def test_large_machine_has_no_lower_side(dg):
    rbm = dg.RBM.init(24, 22, rng=0)
    x = np.random.default_rng(0).integers(0, 2, (5, 24))
    e = dg.bounds(rbm, x, rng=0, options=dg.BoundsOptions(betas=20, num_runs=200))
    assert math.isnan(e.lower.value)
    assert e.lower.kind == "none"
    assert "exact starts or enumeration of log Z needed" in e.lower.reason
    assert (e.upper.kind, e.estimate.kind) == ("bound", "bound")
    assert e.upper.value == e.estimate.value
    assert math.isnan(e.interval()[0])


@pytest.mark.slow
def test_joined_layers_that_are_enumerable_are_exact(dg):
    """A DBM whose log Z is bounded still has an exact log f where one half of the hidden layers is small."""
    dbm = dg.DBM.init(24, (22, 3), rng=0, weight_scale=0.2)
    x = np.random.default_rng(0).integers(0, 2, (5, 24))
    e = dg.bounds(dbm, x, rng=0, options=dg.BoundsOptions(betas=20, num_runs=200))
    assert e.upper.kind == "bound"
    assert "enumeration of h2" in e.upper.method
    assert e.flags == ()


def test_joined_layers_too_large_to_enumerate(dg):
    """Mean field has the lower side, and only where an upper side of log Z exists."""
    rng = np.random.default_rng(0)
    dbm = dg.DBM.init(4, (14, 13), rng=0, weight_scale=0.1)  # 2^14 joint states: log Z is exact, log f is not
    x = rng.integers(0, 2, (5, 4))
    e = dg.bounds(dbm, x, rng=0)
    assert (e.lower.kind, e.upper.kind, e.estimate.kind) == ("bound", "none", "estimate")
    assert "mean field" in e.lower.method
    assert "log f has no upper side" in e.upper.reason
    assert "mean_field" in e.flags
    law = dbm.marginal("v", log_normalizer="exact", hidden_bound=dg.MeanField(100))
    observed = x.astype(np.int32) if dg.engine.name == "numpyro" else x.astype(np.float32)
    direct = cases.to_numpy(dg, law.log_prob(dg.engine.arrays.asarray(observed)))
    assert e.lower.value == pytest.approx(direct.mean(), abs=1e-4)
    dbm = dg.DBM.init(24, (22, 21), rng=0, weight_scale=0.1)
    x = rng.integers(0, 2, (5, 24))
    e = dg.bounds(dbm, x, rng=0, options=dg.BoundsOptions(betas=20, num_runs=200))
    assert (e.lower.kind, e.upper.kind, e.estimate.kind) == ("none", "none", "estimate")
    assert math.isfinite(e.estimate.value)
    assert "mean_field" in e.flags


def test_mean_field_side_lies_below_enumeration(dg):
    """The same machine through both ways to log f."""
    from deepgen_ppl.log_p import log_f

    machine, truth = random_machine(dg, "dbm", 3, 1.0)
    x = truth.states(["v"])["v"]
    exact = -truth.free_energies({"v": x})
    bound = cases.to_numpy(dg, log_f._mean_field(machine, dg.engine.arrays.asarray(x, like=machine.like)))
    assert (bound < exact + 1e-5).all()
    assert (exact - bound).max() < 1.0
    np.testing.assert_allclose(
        log_f.log_f(machine, dg.engine.arrays.asarray(x, like=machine.like)).value, exact, atol=1e-5
    )


# --- directed models


def ppca_options(dg):
    return dg.BoundsOptions(num_particles=50)


def test_exact_posterior_guide_gives_log_p_without_noise(dg):
    vae, mean, covariance = ppca(dg)
    x, exact = ppca_data(mean, covariance, 100)
    e = dg.bounds(vae, x, rng=0, options=ppca_options(dg))
    np.testing.assert_allclose(e.pointwise, exact, atol=1e-4)
    assert e.lower.value == pytest.approx(exact.mean(), abs=1e-4)
    assert e.lower.mc_se < 1e-4
    assert e.flags == ()


def test_lower_side_of_a_directed_model(dg):
    """With another guide, w has the mean p(x), log mean w lies below, and the error is honest."""
    vae, mean, covariance = ppca(dg, guide="wide")
    x, exact = ppca_data(mean, covariance, 1)

    def check(seed, factor):
        e = dg.bounds(vae, np.repeat(x, 2000 * factor, 0), rng=seed, options=ppca_options(dg))
        gate_mean(np.exp(e.pointwise - exact[0]), 1.0, 0.02)
        assert e.lower.mc_se == pytest.approx(e.pointwise.std(ddof=1) / math.sqrt(2000 * factor), rel=0.15)
        assert e.lower.value < exact[0] - e.lower.mc_se

    sampled(check, 7)


def test_program_has_no_upper_side(dg):
    e = dg.bounds(small_vae(dg), visible("rbm"), rng=0, options=few(dg))
    assert (e.lower.kind, e.upper.kind) == ("bound", "none")
    assert math.isnan(e.upper.value)
    assert math.isnan(e.interval()[1])
    assert (e.upper.method, e.upper.reason) == ("", "no exact posterior draws")
    assert (e.se_log_z, e.log_normalizer) == (0.0, None)


def test_bad_guide_is_flagged(dg):
    vae, mean, covariance = ppca(dg, guide="bad")
    x, _ = ppca_data(mean, covariance, 100)
    assert dg.bounds(vae, x, rng=0, options=ppca_options(dg)).flags == ("low_ess",)


def test_certified_margin_of_a_directed_model(dg):
    """However bad the guide, the mean over N data exceeds log p by log(1 / alpha) / N in at most a share alpha."""
    vae, mean, covariance = ppca(dg, guide="bad")
    x, exact = ppca_data(mean, covariance, 2000)
    e = dg.bounds(vae, x, rng=3, options=ppca_options(dg))
    assert math.isnan(e.lower.mc_se)  # withheld
    assert e.interval()[0] == pytest.approx(e.lower.value - CERTIFIED / 2000)
    assert e.interval()[0] < exact.mean()
    excess = (e.pointwise - exact).reshape(500, 4).mean(1)
    for alpha in (0.025, 0.5):
        misses = int((excess > math.log(1 / alpha) / 4).sum())
        assert stats.binom.sf(misses - 1, 500, alpha) >= LEVEL, misses


def layer_pair(vae, name, y):
    """A perceptron with one hidden layer, from the arrays of a VAE."""
    a = {k: v.astype(float) for k, v in vae.canonical().items()}
    y = np.tanh(y @ a[f"{name}.layers.0.weight"] + a[f"{name}.layers.0.bias"])
    return y @ a[f"{name}.layers.1.weight"] + a[f"{name}.layers.1.bias"]


def test_importance_weighting_over_odd_sizes(dg, monkeypatch):
    """N no multiple of the batch, K no multiple of a piece: against quadrature over z, row by row."""
    from deepgen_ppl.log_p import importance

    monkeypatch.setattr(importance, "ROWS", 70_000)  # pieces of 700 particles: 1,001 become 1,400
    vae = dg.VAE.init(dg.Bernoulli(4), rng=1, latent=1, hidden=(5,))
    bias = np.array([0.0, 0.2], np.float32)  # about the prior: light tails
    own = vae.canonical()
    vae = vae.from_canonical(
        own | {"encoder.layers.1.weight": 0.2 * own["encoder.layers.1.weight"], "encoder.layers.1.bias": bias}
    )
    x = np.random.default_rng(0).integers(0, 2, (107, 4)).astype(np.float32)
    grid = np.linspace(-9, 9, 1001)
    logits = layer_pair(vae, "decoder", grid[:, None])[:, None]
    log_p = (x * logits - np.logaddexp(0, logits)).sum(-1) + stats.norm.logpdf(grid)[:, None]
    exact = logsumexp(log_p, 0) + math.log(grid[1] - grid[0])
    rng, data = vae.engine.random.rng(0, vae.like), vae.engine.arrays.asarray(x, like=vae.like)
    rng = vae.engine.random.split(rng, 2)[1]  # as `bounds` does after its look at the program
    values, variances, ess, total = importance_log_likelihood(vae, {"x": data}, rng, 1001)
    assert total == 1400
    for out in (values, variances, ess):
        assert out.shape == (107,)
        assert out.dtype == np.float64
    assert len(np.unique(values)) == 107  # every row has draws of its own
    error = (values - exact) / np.sqrt(variances)
    assert np.abs(error).max() < 5.5
    assert 0.75 < np.sqrt(np.mean(error**2)) < 1.3
    assert (ess > 100).all()
    assert (ess <= 1400).all()
    e = dg.bounds(vae, x, rng=0, options=dg.BoundsOptions(num_particles=1001))
    np.testing.assert_allclose(e.pointwise, values)
    assert "1400 particles" in e.lower.method


# --- the table


def three(dg):
    return {"vae": small_vae(dg), "rbm": cases.machine(dg, "rbm", np.float32), "ais": dg.RBM.init(4, 2, rng=3)}


@pytest.fixture(scope="module")
def comparison(dg):
    return dg.compare(three(dg), visible("rbm"), rng=0, options=few(dg))


def test_rows_and_columns_by_hand(dg, comparison):
    rows = {row["model"]: row for row in comparison.rows()}
    assert set(rows) == {"vae", "rbm", "ais"}
    assert all(tuple(row) == COLUMNS for row in rows.values())
    values = [row["estimate"] for row in comparison.rows()]
    assert values == sorted(values, reverse=True)
    truth = pointwise("rbm", visible("rbm"))
    assert rows["rbm"]["lower"] == pytest.approx(truth.mean(), abs=1e-5)
    assert rows["rbm"]["se_data"] == pytest.approx(truth.std(ddof=1) / math.sqrt(12), rel=1e-4)
    assert rows["vae"]["se_log_z"] == 0
    assert math.isnan(rows["vae"]["upper"])
    assert comparison.num_data == 12
    assert comparison.measure == "{0, 1}^4"


def test_cells_and_repr(comparison):
    head, *lines = str(comparison).splitlines()
    assert head == "log p(x) in nats per datum over 12 data ({0, 1}^4)"
    assert lines[0].split()[:3] == ["model", "log", "p(x)"]
    assert len(lines) >= 4
    assert all(len(line) <= 80 for line in str(comparison).splitlines())
    assert "12 rows, at least 20 needed" in " ".join(str(comparison).split())
    assert "nan" not in str(comparison).lower()
    rows, found = {row[0]: row for row in comparison.cells()}, comparison.bounds
    decimals = decimals_of([e.se_data for e in found.values()])
    assert rows["vae"][1] == f"≥ {found['vae'].lower.value:.{decimals}f}"  # no upper side
    assert rows["rbm"][1] == f"= {found['rbm'].lower.value:.{decimals}f}"
    assert "no upper side (vae): no exact posterior draws" in str(comparison)


def test_to_csv(comparison, tmp_path):
    comparison.to_csv(tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["model"] for row in rows] == list(comparison.bounds)
    for row, own in zip(rows, comparison.rows(), strict=True):
        assert float(row["lower"]) == own["lower"]
        assert math.isnan(float(row["upper"])) == math.isnan(own["upper"])
        assert row["lower_method"] == own["lower_method"]
        assert (row["num_data"], row["measure"]) == (str(comparison.num_data), comparison.measure)
    comparison.to_csv(tmp_path / "table.csv", about={"seed": 3})
    with (tmp_path / "table.csv").open(newline="") as file:
        assert {row["seed"] for row in csv.DictReader(file)} == {"3"}


def test_long_work_shows_a_bar_that_can_be_turned_off(dg, capfd):
    """Both for particles and for temperatures."""
    models = {"vae": small_vae(dg), "ais": dg.RBM.init(4, 2, rng=3)}
    options = dg.BoundsOptions(num_particles=2, betas=3, num_runs=100, log_z="ais")
    for progress, words in ((True, ("importance weighting", "AIS")), (False, ())):
        dg.compare(models, visible("rbm"), rng=0, options=options, progress=progress)
        out, err = capfd.readouterr()
        assert out == ""
        assert all(word in err for word in words)
        assert bool(err) == progress


def test_pointwise_arrays_give_the_estimate(comparison):
    for e in comparison.bounds.values():
        assert e.pointwise.shape == (12,)
        assert e.pointwise.mean() == pytest.approx(e.estimate.value)
        assert e.seconds > 0


def test_exact_models_are_ranked(dg):
    """A machine that knows the data beats one that does not, and the table says so once."""
    x = np.tile([1, 1, 0, 0], (20, 1))
    zero = np.zeros((4, 2), np.float32)
    models = {
        name: dg.RBM(zero, np.array(bias, np.float32), zero[0])
        for name, bias in {"uniform": [0, 0, 0, 0], "peaked": [3, 3, -3, -3]}.items()
    }
    table = dg.compare(models, x, rng=0)
    assert list(table.bounds) == ["peaked", "uniform"]
    assert table.better_than("peaked") == ["uniform"]
    assert table.bounds["uniform"].lower.value == pytest.approx(-4 * math.log(2), abs=1e-5)
    assert table.bounds["peaked"].lower.value == pytest.approx(-4 * math.log1p(math.exp(-3)), abs=1e-5)


def test_models_of_both_engines_in_one_table():
    faces = {name: face(name) for name in HOSTS}
    models = {f"rbm_{name}": cases.machine(dg, "rbm", np.float32) for name, dg in faces.items()}
    models |= {f"vae_{name}": small_vae(dg) for name, dg in faces.items()}
    dg = faces["pyro"]
    table = dg.compare(models, visible("rbm"), rng=0, options=few(dg))
    exact = pointwise("rbm", visible("rbm")).mean()
    for name in HOSTS:
        assert table.bounds[f"rbm_{name}"].lower.value == pytest.approx(exact, abs=1e-5)
    assert table.better_than("rbm_pyro") == []


def test_the_same_seed_gives_the_same_table(dg, comparison):
    again = dg.compare(three(dg), visible("rbm"), rng=0, options=few(dg))
    for a, b in zip(comparison.rows(), again.rows(), strict=True):
        np.testing.assert_equal({**a, "seconds": 0}, {**b, "seconds": 0})
    other = dg.compare({"vae": small_vae(dg)}, visible("rbm"), rng=1, options=few(dg))
    assert other.bounds["vae"].lower.value != comparison.bounds["vae"].lower.value


def test_measures_are_not_mixed(dg):
    models = {"bits": dg.RBM.init(4, 2, rng=0), "reals": dg.GaussianBernoulliRBM.init(4, 2, rng=0)}
    with pytest.raises(ValueError, match=r"expected models of one kind of data, whose log scores can be compared, got"):
        dg.compare(models, np.zeros((3, 4)), rng=0)
    models = {"bits": dg.RBM.init(4, 2, rng=0), "spins": dg.RBM.init(dg.Spin(4), 2, rng=0)}
    with pytest.raises(ValueError, match="expected models of one kind of data"):
        dg.compare(models, np.ones((3, 4)), rng=0)
    models = {"4": dg.RBM.init(4, 2, rng=0), "5": dg.RBM.init(5, 2, rng=0)}
    with pytest.raises(ValueError, match="expected models of one kind of data"):
        dg.compare(models, np.ones((3, 4)), rng=0)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.full((3, 4), 0.5), r"only 0 and 1 for Bernoulli units.*binarize"),
        (np.zeros((3, 5)), r"expected test data of shape \(\.\.\., 4\).*got shape \(3, 5\)"),
        (np.zeros(4), r"expected test data of shape \(N, V\), got shape \(4,\)"),
        (np.zeros((0, 4)), r"at least one row, got shape \(0, 4\)"),
        (np.full((3, 4), np.nan), "expected finite values in test data, got 12 NaN"),
        (np.zeros((3, 2, 2)), r"expected test data of shape \(N, V\)"),
    ],
)
@pytest.mark.parametrize("model", ["vae", "rbm"])
def test_wrong_data_are_refused(dg, model, x, message):
    with pytest.raises(ValueError, match=message):
        dg.compare({model: three(dg)[model]}, x, rng=0)


def test_wrong_models_and_options_are_refused(dg):
    x = visible("rbm")
    with pytest.raises(ValueError, match="expected at least one model to compare, got none"):
        dg.compare({}, x, rng=0)
    with pytest.raises(TypeError, match="expected a model that says what it observes, got str"):
        dg.compare({"a": "rbm"}, x, rng=0)
    with pytest.raises(TypeError, match="expected a machine or a program, got str"):
        dg.bounds("rbm", x, rng=0)
    for name, wrong in {
        "num_particles": (1, 2.5, "many", True),
        "num_runs": (1, 2.5),
        "betas": (1, 2.5, "many", [0.0, 0.5], [0.5, 0.2, 1.0]),
        "log_z": ("exact", 3),
        "exact_bits": (-1, math.nan, "all"),
        "latent_bits": (-1, math.inf),
    }.items():
        for value in wrong:
            with pytest.raises(ValueError, match="expected"):
                dg.BoundsOptions(**{name: value})
    assert dg.BoundsOptions(num_runs=np.int64(3)).num_runs == 3
    for call in (dg.bounds, dg.compare):
        with pytest.raises(TypeError, match=r"expected BoundsOptions\(\.\.\.\) for options, got"):
            call(three(dg), x, rng=0, options={"num_runs": 3})
    with pytest.raises((TypeError, ValueError), match="expected"):
        dg.compare([small_vae(dg)], x, rng=0)


def test_wrong_temperatures_and_starts_are_refused(dg):
    rbm, _ = hard(dg)
    for betas in (1, np.array([0.0, 0.5]), np.array([0.0, 0.7, 0.3, 1.0]), np.zeros((2, 2))):
        with pytest.raises(ValueError, match="expected inverse temperatures that increase from 0 to 1"):
            dg.ais(rbm, rng=0, betas=betas, num_runs=4)
    large = dg.RBM.init(24, 22, rng=0)
    with pytest.raises(ValueError, match=r"expected a start whose log Z is known .* at most 2\^20 joint states, got"):
        dg.ais(large, rng=0, betas=4, num_runs=4, start=large)
    with pytest.raises(ValueError, match="expected two machines with the same layers"):
        dg.ais(rbm, rng=0, betas=4, num_runs=4, start=dg.RBM.init(3, 2, rng=0))
    with pytest.raises(ValueError, match=r"expected draws from the machine \(initial=\.\.\.\) for reverse AIS"):
        dg.ais(dg.RBM.init(24, 22, rng=0), rng=0, betas=4, num_runs=4, reverse=True)
    with pytest.raises(ValueError, match="expected `initial` with 4 draws"):
        dg.ais(rbm, rng=0, betas=4, num_runs=4, reverse=True, initial=exact_draws(dg, rbm, 3))


def test_row_weights_are_refused(dg):
    x = visible("rbm")
    for call, models in ((dg.bounds, three(dg)["rbm"]), (dg.compare, three(dg))):
        with pytest.raises(ValueError, match="expected test data without row weights, got 'weight'"):
            call(models, {"v": x, "weight": np.ones(len(x))}, rng=0, options=few(dg))


def spoiled(dg, model, name):
    """The model with NaN in one array, as a loop of the user's own may leave it: nothing was asked."""
    nan = {name: 0.0 * model.params[name] + float("nan")}
    if dg.engine.name == "numpyro":
        return dg.engine.control.compile(lambda m: m.with_params(nan))(model)
    bad = copy.deepcopy(model)
    bad.params[name].data.fill_(float("nan"))
    return bad


def test_parameters_that_are_not_finite_are_refused(dg):
    """Nothing is exact about NaN."""
    x, rbm, vae = visible("rbm"), cases.machine(dg, "rbm", np.float32), small_vae(dg)
    for model, name in ((rbm, "v.bias"), (vae, "decoder.layers.0.bias")):
        bad = spoiled(dg, model, name)
        with pytest.raises(ValueError, match=f"expected finite parameters to judge, got .* in {name}"):
            dg.bounds(bad, x, rng=0)
        with pytest.raises(ValueError, match="expected finite parameters to judge"):
            dg.compare({"good": model, "bad": bad}, x, rng=0, options=few(dg))
    with pytest.raises(ValueError, match="expected a machine with a finite log Z, got nan"):
        dg.exact_log_normalizer(spoiled(dg, rbm, "v.bias"))


def test_every_withheld_error_has_a_flag_with_a_sentence(dg):
    """Whichever way of AIS is degenerate."""
    options = dg.BoundsOptions(betas=temperatures(4), num_runs=RUNS, log_z="ais")
    withheld = 0
    for seed in range(12):
        machine, truth = random_machine(dg, "rbm", 3 if seed % 2 else seed, 1.5)  # number 3 is hard
        x = np.random.default_rng(seed).integers(0, 2, (3, truth.blocks["v"][0]))
        e = dg.bounds(machine, x, rng=seed, options=options)
        assert (e.lower.withheld or e.upper.withheld or math.isnan(e.se_log_z)) == bool(e.flags), seed
        assert set(e.flags) <= FLAGS.keys()
        withheld += e.lower.withheld and math.isfinite(dg.ais(machine, rng=seed, betas=options.betas, num_runs=RUNS).se)
    assert withheld > 0  # some by the reverse way alone


# --- the error of log mean w


def test_log_mean_exp_and_its_error():
    log_w = np.random.default_rng(0).normal(0, 0.3, 400) - 1000
    value, se, ess = log_mean_exp(log_w)
    w = np.exp(log_w + 1000)
    assert value == pytest.approx(math.log(w.mean()) - 1000)
    assert se == pytest.approx(w.std(ddof=1) / w.mean() / 20)
    assert ess == pytest.approx(w.sum() ** 2 / (w**2).sum())
    for scatter, runs in ((1.2, 400), (0.1, 90), (0.1, 1)):
        assert math.isnan(log_mean_exp(scatter * np.random.default_rng(0).standard_normal(runs))[1])


def test_weights_of_zero_or_nan_have_no_error():
    for log_w in (np.full(200, -np.inf), np.append(np.zeros(200), -np.inf), np.full(200, np.nan)):
        assert math.isnan(log_mean_exp(log_w)[1])
    assert log_mean_exp(np.full(200, -np.inf))[0] == -math.inf
