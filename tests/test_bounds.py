"""Log normalizers: annealed importance sampling both ways against exact sums, what is claimed, and what is refused."""

import dataclasses

import cases
import numpy as np
import oracles
import pytest
from cases import CASES, ENUMERABLE, FINITE, compiled, oracle, to_engine, to_numpy
from gates import g_test, gate, gate_mean, sampled

from deepgen_ppl.energies.base_rate import base_rate_machine
from deepgen_ppl.energies.path import Path
from deepgen_ppl.log_z import exact as exact_module
from deepgen_ppl.log_z.estimates import log_mean_exp
from deepgen_ppl.log_z.exact import draw_exact, enumerable
from deepgen_ppl.log_z.schedules import salakhutdinov_murray_betas

finite = pytest.mark.parametrize("name", FINITE)
QUICK = ["rbm", "rbm_categorical_visible", "gaussian_bernoulli_rbm_learned_scale", "dbm2", "triangle"]
BETAS = 12
RUNS = 4000


# --- annealed importance sampling against the exact value


def weights(dg, name, seed, factor, **options):
    """w / Z of `RUNS` runs: their mean is 1 forward, and w_rev Z / Z_a backward."""
    m = cases.machine(dg, name, np.float32)
    estimate = dg.ais(m, rng=seed, betas=BETAS, num_runs=RUNS * factor, **options)
    sign = -1.0 if options.get("reverse") else 1.0
    return np.exp(sign * (estimate.log_weights - oracle(name).log_z))


def check_ais(dg, name, run=sampled, **options):
    """E[w] = Z on w itself: a wrong transition shows, a log of it would hide it."""
    run(lambda seed, factor: gate_mean(weights(dg, name, seed, factor, **options), 1.0, 0.05), 41)


@pytest.mark.parametrize("name", CASES)
def test_forward_weights_have_the_mean_z(dg, name):
    check_ais(dg, name)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in ENUMERABLE])
def test_reverse_weights_from_exact_draws_have_the_mean_one_over_z(dg, name):
    check_ais(dg, name, reverse=True)


def strong_triangle(dg, dtype=np.float32):
    """Three layers coupled all round, strongly enough that the order of the colors matters."""
    case = CASES["triangle"]
    params = {k: (2.0 if k.endswith("weight") else 1.0) * v for k, v in case.params.items()}
    truth = type(oracle("triangle"))(case.energy, {**params, **case.constants}, case.blocks)
    return case.build(dg, to_engine(dg, params, dtype), to_engine(dg, case.constants, dtype)), truth


def check_both_ways(dg, m, start, log_z, betas, run=sampled):
    """With w the forward weight of a path, E_forward[w 1(log w <= c)] = (Z_1/Z_0) P_reverse(log w <= c) at any c.

    The mean of reverse weights is right for any transitions that leave the law; this needs the reversed ones.
    """
    c = np.array([-1.0, -0.3, 0.0, 0.3, 1.0])
    options = {"betas": betas, "start": start}

    def check(seed, factor):
        forward, backward = (
            dg.ais(m, rng=seed + r, num_runs=RUNS * factor, reverse=bool(r), **options).log_weights - log_z
            for r in (0, 1)
        )
        gap = np.exp(forward)[:, None] * (forward[:, None] <= c) - (backward[:, None] <= c)
        gate_mean(gap, np.zeros(len(c)), 0.05)

    run(check, 43)


def check_reverse_of_three_colors(dg, run=sampled):
    """One unit a layer, all coupled: drawn in one order both ways, P_reverse(log w <= c) is off by up to 0.1."""
    names, biases, starts = ("v", "a", "b"), (-3.49, 1.23, 0.92), (0.41, -1.19, -0.42)
    params = {f"{n}.bias": np.array([b]) for n, b in zip(names, biases, strict=True)}
    params |= {"v-a.weight": np.array([[0.33]]), "v-b.weight": np.array([[0.84]]), "a-b.weight": np.array([[-5.43]])}
    blocks = {n: (1, [0.0, 1.0]) for n in names}
    kinds, pairs = dict.fromkeys(names, "bernoulli"), [("v", "a"), ("v", "b"), ("a", "b")]
    truth = type(oracle("triangle"))(oracles.energy_layers(kinds, pairs), params, blocks)
    layers = {n: dg.Bernoulli(1) for n in names}
    m = dg.BoltzmannMachine(layers, [dg.Dense(pair) for pair in pairs], to_engine(dg, params, np.float32))
    start = {f"{n}.bias": np.array([b]) for n, b in zip(names, starts, strict=True)}
    start = dg.BoltzmannMachine(layers, [], to_engine(dg, start, np.float32))
    assert m.structure.smaller_side == (("a", "b"), ("v",))
    check_both_ways(dg, m, start, truth.log_z, 3, run)


def test_reverse_order_of_three_colors(dg):
    check_reverse_of_three_colors(dg)


@pytest.mark.parametrize("name", ["dbm2", "gaussian_bernoulli_rbm_learned_scale"])
def test_both_ways_of_a_path_agree(dg, name):
    m = cases.machine(dg, name, np.float32)
    check_both_ways(dg, m, base_rate_machine(m), oracle(name).log_z, BETAS)


def test_estimate_agrees_with_its_weights(dg):
    m = cases.machine(dg, "rbm", np.float32)
    forward = dg.ais(m, rng=0, betas=BETAS, num_runs=RUNS)
    assert forward.value == pytest.approx(np.log(np.exp(forward.log_weights).mean()), abs=1e-5)
    w = np.exp(forward.log_weights - forward.value)
    assert forward.se == pytest.approx(w.std(ddof=1) / np.sqrt(RUNS), rel=1e-3)
    assert abs(forward.value - oracle("rbm").log_z) < 5 * forward.se < 0.1
    normalized = to_numpy(dg, forward.weights)
    np.testing.assert_allclose(normalized, w / w.sum(), rtol=1e-3)
    backward = dg.ais(m, rng=0, betas=BETAS, num_runs=RUNS, reverse=True)
    assert backward.value == pytest.approx(-np.log(np.exp(-backward.log_weights).mean()), abs=1e-5)


@pytest.mark.parametrize("name", ["rbm_spin", "triangle"])
def test_weighted_particles_have_the_law_of_the_machine(dg, name):
    m = cases.machine(dg, name, np.float32)
    keep, _ = m.structure.smaller_side
    states, p = oracle(name).law(list(keep))
    exact = p @ np.concatenate([states[n] for n in keep], axis=1)

    def check(seed, factor):
        estimate = dg.ais(m, rng=seed, betas=BETAS, num_runs=RUNS * factor)
        assert set(estimate.particles) == set(keep)
        x = np.concatenate([to_numpy(dg, estimate.particles[n]) for n in keep], axis=1)
        w = np.exp(estimate.log_weights - oracle(name).log_z)
        gate_mean(w[:, None] * (x - exact), np.zeros(len(exact)), 0.05)

    sampled(check, 44)


def test_temperatures_may_be_given_and_chunks_join(dg):
    """1,100 temperatures are three pieces; a finer path has a smaller spread of weights."""
    m = cases.machine(dg, "rbm", np.float32)
    fine = dg.ais(m, rng=0, betas=np.linspace(0, 1, 1100) ** 2, num_runs=200)
    coarse = dg.ais(m, rng=0, betas=BETAS, num_runs=RUNS)
    assert fine.log_weights.std() < 0.3 * coarse.log_weights.std()
    assert fine.value == pytest.approx(oracle("rbm").log_z, abs=0.05)
    backward = dg.ais(m, rng=0, betas=np.linspace(0, 1, 1100) ** 2, num_runs=200, reverse=True)
    assert backward.value == pytest.approx(oracle("rbm").log_z, abs=0.05)


def test_salakhutdinov_murray_temperatures():
    betas = salakhutdinov_murray_betas()
    assert len(betas) == 14_501
    assert (np.diff(betas) > 0).all()
    assert (betas[0], betas[-1]) == (0.0, 1.0)
    for low, high, step in ((0.0, 0.5, 1e-3), (0.5, 0.9, 1e-4), (0.9, 1.0, 1e-5)):
        inside = np.diff(betas[(betas >= low - 1e-12) & (betas <= high + 1e-12)])
        np.testing.assert_allclose(inside, step, rtol=1e-6)


# --- identities of the path


LOG_RATIO = {}


def log_ratio(dg, path, keep, low, high):
    def fn(path, keep, low, high):
        return path.log_ratio(keep, path.summed_out(keep), low, high)

    fn = LOG_RATIO.setdefault("fn", fn)
    beta = [dg.engine.arrays.asarray(np.asarray(b), like=path.end.like) for b in (low, high)]
    return to_numpy(dg, compiled(dg, fn)(path, cases.arrays(dg, keep, path.end.like), *beta))


def ends(dg, name):
    """A path from another machine of the same layers, couplings included."""
    case, rng = CASES[name], np.random.default_rng(45)
    changed = {k: v + 0.3 * rng.standard_normal(v.shape) for k, v in case.params.items()}
    start = case.build(dg, to_engine(dg, changed, np.float64), to_engine(dg, case.constants, np.float64))
    truth = type(oracle(name))(case.energy, {**changed, **case.constants}, case.blocks)
    return Path(start, cases.machine(dg, name)), truth


def kept_states(dg, name, path):
    keep, _ = path.end.structure.smaller_side
    rng = np.random.default_rng(46)
    blocks = CASES[name].blocks
    return {
        n: rng.standard_normal((9, k)) if v is None else rng.choice(v, (9, k)) for n in keep for k, v in [blocks[n]]
    }


@pytest.mark.parametrize("name", CASES)
def test_increment_of_the_weight_is_the_difference_of_free_energies(dg, double, name):
    """log w of one temperature, one way and the other; the increments telescope; equal machines give 0."""
    path, other = ends(dg, name)
    keep = kept_states(dg, name, path)
    whole = log_ratio(dg, path, keep, 0.0, 1.0)
    np.testing.assert_allclose(whole, other.free_energies(keep) - oracle(name).free_energies(keep), rtol=0, atol=1e-9)
    np.testing.assert_allclose(log_ratio(dg, path, keep, 1.0, 0.0), -whole, rtol=0, atol=1e-10)
    halves = log_ratio(dg, path, keep, 0.0, 0.4) + log_ratio(dg, path, keep, 0.4, 1.0)
    np.testing.assert_allclose(halves, whole, rtol=0, atol=1e-10)
    same = Path(path.end, path.end)
    assert np.abs(log_ratio(dg, same, keep, 0.1, 0.9)).max() < 1e-12


def test_equal_ends_give_weights_of_exactly_the_start(dg):
    """A machine without couplings, annealed from itself: every run has log w = log Z."""
    m = base_rate_machine(cases.machine(dg, "rbm", np.float32))
    exact = np.logaddexp(0, CASES["rbm"].params["v.bias"]).sum() + np.logaddexp(0, CASES["rbm"].params["h.bias"]).sum()
    for reverse in (False, True):
        estimate = dg.ais(m, rng=0, betas=5, num_runs=200, start=m, reverse=reverse)
        np.testing.assert_allclose(estimate.log_weights, exact, atol=1e-5)
        assert estimate.se < 1e-5


@finite
def test_riemann_sums_bound_log_z(dg, double, name):
    """d log Z/d beta = E_beta[E_a - E_b] increases along the path: left sum <= log Z_b - log Z_a <= right sum."""
    path, other = ends(dg, name)
    truth = oracle(name)
    states = truth.states(list(CASES[name].blocks))
    slope = other.energies(states) - truth.energies(states)
    betas = np.linspace(0, 1, 6)
    means = []
    for beta in betas:
        m = path.at(float(beta))
        energy = to_numpy(dg, compiled(dg, ENERGY)(m, cases.arrays(dg, states, m.like)))
        p = np.exp(-energy - dg.exact_log_normalizer(m).value)
        assert p.sum() == pytest.approx(1.0, abs=1e-9)
        means.append(p @ slope)
    exact = truth.log_z - other.log_z
    left, right = (float(np.sum(np.array(m) / 5)) for m in (means[:-1], means[1:]))
    assert left < exact < right
    assert right - left < 2.0


ENERGY = lambda m, state: m.energy(state)  # noqa: E731


# --- what is claimed


def test_sides_and_kinds(dg):
    m = cases.machine(dg, "rbm", np.float32)
    options = {"betas": BETAS, "num_runs": RUNS}
    forward, backward = dg.ais(m, rng=0, **options), dg.ais(m, rng=0, reverse=True, **options)
    assert (forward.kind, forward.side, forward.flags) == ("bound", "lower", ())
    assert (backward.kind, backward.side, backward.flags) == ("bound", "upper", ())
    assert backward.particles is None
    assert forward.method == "AIS forward, 12 temperatures, 4000 runs"
    assert repr(forward).startswith("LogNormalizer(5.")
    initial = {n: forward.particles[n] for n in forward.particles}
    guessed = dg.ais(m, rng=0, reverse=True, initial=initial, **options)
    assert (guessed.kind, guessed.side) == ("estimate", "none")
    assert "inexact_start" in guessed.flags
    assert "inexact_start" in repr(guessed)
    with pytest.raises(ValueError, match="expected an estimate that claims a side"):
        guessed.certified()


def test_certified_bounds(dg):
    """Markov, with probability 1 - alpha: forward value + log alpha <= log Z <= reverse value - log alpha."""
    m, log_z = cases.machine(dg, "rbm", np.float32), oracle("rbm").log_z
    forward, backward = (dg.ais(m, rng=1, betas=BETAS, num_runs=RUNS, reverse=r) for r in (False, True))
    assert forward.certified() == pytest.approx(forward.value + np.log(0.025))
    assert backward.certified(0.1) == pytest.approx(backward.value - np.log(0.1))
    assert forward.certified() < log_z < backward.certified()
    assert backward.certified() - forward.certified() < 8.0
    exact = dg.exact_log_normalizer(m)
    assert exact.certified() == exact.value
    for alpha in (0.0, 1.0, 2.0, -1.0):
        with pytest.raises(ValueError, match="alpha"):
            forward.certified(alpha)


def test_coverage_of_certified_bounds(dg):
    """A crude AIS of 3 temperatures and 5 runs: misses of the 20 % bound are at most 20 %."""
    from scipy.stats import binomtest

    m, log_z = cases.machine(dg, "rbm_spin", np.float32), oracle("rbm_spin").log_z
    log_w = dg.ais(m, rng=5, betas=3, num_runs=5000).log_weights.reshape(1000, 5)
    values = np.log(np.exp(log_w).mean(1))
    misses = int((values + np.log(0.2) > log_z).sum())
    assert binomtest(misses, 1000, 0.2, alternative="greater").pvalue > 1e-6
    assert np.median(log_z - values) < 1.0


def test_errors_are_withheld_where_the_weights_cannot_carry_them():
    rng = np.random.default_rng(0)
    for log_w in (rng.normal(0, 2, 1000), np.zeros(50), np.array([1.0])):
        assert np.isnan(log_mean_exp(log_w)[1])
    value, se, ess = log_mean_exp(rng.normal(-0.125, 0.5, 40_000) + 5000)
    assert abs(value - 5000) < 5 * se < 0.05
    assert ess == pytest.approx(40_000 / np.exp(0.25), rel=0.05)


def test_degenerate_weights_are_flagged(dg):
    m, _ = strong_triangle(dg)
    far = m.with_params({k: 6 * v for k, v in m.params.items()})
    estimate = dg.ais(far, rng=0, betas=2, num_runs=200)
    assert np.isnan(estimate.se)
    assert "weights_degenerate" in estimate.flags


def test_base_rates_of_data_make_a_better_start(dg):
    """The start takes the data's base rates; the value stays unbiased and the weights spread less."""
    bias = np.full(4, 3.0, np.float32)
    w = 0.5 * np.random.default_rng(0).standard_normal((4, 6))
    a = to_engine(dg, {"w": w, "b": bias, "c": np.zeros(6)}, np.float32)
    m = dg.RBM(a["w"], a["b"], a["c"])
    x = np.array([[1, 1, 1, 1]] * 19 + [[0, 0, 0, 0]], np.float32)
    start = base_rate_machine(m, {"v": np.full(4, 0.5)})
    exact = dg.exact_log_normalizer(m).value
    plain, informed = (dg.ais(m, rng=0, betas=3, num_runs=2000, **kw) for kw in ({"start": start}, {"data": x}))
    assert informed.log_weights.std() < 0.5 * plain.log_weights.std()
    assert informed.value == pytest.approx(exact, abs=0.05)


def test_errors_need_a_hundred_runs(dg):
    """A machine without couplings weighs all runs alike: 100 of them have an error of 0, fewer say what is needed."""
    m = base_rate_machine(cases.machine(dg, "rbm", np.float32))
    assert dg.ais(m, rng=0, betas=3, num_runs=100).se < 1e-5
    nearly = cases.machine(dg, "rbm", np.float32)
    nearly = nearly.with_params({"v-h.weight": 0.01 * nearly.params["v-h.weight"]})
    for runs in (100, 101):
        estimate = dg.ais(nearly, rng=0, betas=50, num_runs=runs)
        assert 0 < estimate.se < 1e-3
        assert estimate.flags == ()
    with pytest.warns(UserWarning, match="expected num_runs of at least 100 for a standard error of log Z, got 99"):
        few = dg.ais(nearly, rng=0, betas=50, num_runs=99)
    assert np.isnan(few.se)
    assert "weights_degenerate" in few.flags


@pytest.mark.parametrize("degenerate", ["lower", "upper"])
def test_neither_way_is_trusted_where_one_is_degenerate(dg, monkeypatch, degenerate):
    """Whichever it was: both errors are withheld, and the flag says so."""
    from deepgen_ppl.log_p import bounds as bounds_module

    m, right = cases.machine(dg, "rbm", np.float32), dg.ais

    def faulty(model, *, reverse=False, **options):
        found = right(model, reverse=reverse, **options)
        if reverse == (degenerate == "upper"):
            found = dataclasses.replace(found, se=np.nan, flags=("weights_degenerate",))
        return found

    monkeypatch.setattr(bounds_module, "ais", faulty)
    options = dg.BoundsOptions(betas=50, num_runs=200, log_z="ais")
    found = dg.bounds(m, np.zeros((3, 4), np.float32), rng=0, options=options)
    assert found.flags == ("weights_degenerate",)
    assert np.isnan([found.lower.mc_se, found.upper.mc_se, found.se_log_z]).all()


def test_reverse_runs_of_two_temperatures(dg):
    """One step: an array of length 1, turned around."""
    m = cases.machine(dg, "rbm", np.float32)
    assert dg.ais(m, rng=0, betas=2, num_runs=200, reverse=True).value == pytest.approx(oracle("rbm").log_z, abs=1.0)


def test_offsets_outside_the_range_of_the_statistic(dg):
    """A Categorical machine about offsets that are no frequencies: the same law, and the same log Z."""
    name = "rbm_categorical_visible"
    m = cases.machine(dg, name, np.float32)
    offset = dg.engine.arrays.asarray(np.linspace(-0.5, 1.5, 6), like=m.like)
    far = dg.ais(m.recentered({"v": offset}), rng=0, betas=200, num_runs=400)
    assert far.value == pytest.approx(oracle(name).log_z, abs=0.1)


# --- what is refused


def test_too_many_states_are_refused_with_the_number(dg):
    m = dg.RBM.init(26, 30, rng=0)
    assert not enumerable(m)
    with pytest.raises(
        ValueError, match=r"at most 2\^25 joint states.*got 2\^26 .*layers \['v'\].*\['h'\] summed out.*ais"
    ):
        dg.exact_log_normalizer(m)
    assert enumerable(dg.RBM.init(25, 300, rng=0))
    with pytest.raises(ValueError, match=r"expected draws from the machine \(initial=\.\.\.\).*2\^26 joint states"):
        dg.ais(m, rng=0, reverse=True)
    with pytest.raises(ValueError, match=r"at most 2\^20 joint states"):
        draw_exact(dg.engine.random.rng(0), dg.RBM.init(21, 30, rng=0), 2)
    with pytest.raises(ValueError, match=r"2\^inf"):
        dg.exact_log_normalizer(cases.machine(dg, "gaussian_gaussian", np.float32))


WRONG_BETAS = [[0.1, 1.0], [0.0, 0.9], [0.0, 0.6, 0.5, 1.0], [0.0], [[0.0, 1.0]], [0.0, np.nan, 1.0]]


@pytest.mark.parametrize("betas", WRONG_BETAS)
def test_temperatures_go_from_zero_to_one(dg, betas):
    with pytest.raises(ValueError, match="expected inverse temperatures that increase from 0 to 1"):
        dg.ais(cases.machine(dg, "rbm", np.float32), rng=0, betas=np.array(betas))


def test_bad_starts_are_refused(dg):
    m = cases.machine(dg, "rbm", np.float32)
    large = dg.RBM.init(40, 30, rng=0)
    with pytest.raises(ValueError, match="expected a start whose log Z is known and that can be drawn from"):
        dg.ais(large, rng=0, start=large)
    with pytest.raises(ValueError, match="the same layers"):
        dg.ais(m, rng=0, start=base_rate_machine(dg.RBM.init(5, 3, rng=0)))
    keep = m.structure.smaller_side[0][0]
    few = {keep: cases.arrays(dg, {keep: np.zeros((3, 3))}, m.like)[keep]}
    with pytest.raises(ValueError, match=r"expected `initial` with 10 draws of the layers.*got \{'h': \(3,\)\}"):
        dg.ais(m, rng=0, reverse=True, num_runs=10, initial=few)
    with pytest.raises(ValueError, match=r"expected `initial` .*no \['h'\]"):
        dg.ais(
            m, rng=0, reverse=True, num_runs=3, initial={"v": cases.arrays(dg, {"v": np.zeros((3, 4))}, m.like)["v"]}
        )
    h = np.zeros((10, 3), np.float32)
    for wrong, what in (
        (h[:, :2], r"initial\['h'\] of shape \(\.\.\., 3\)"),
        (h + np.nan, "got 30 NaN or infinite"),
        (h + 0.5, "only 0 and 1"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=what):
            dg.ais(m, rng=0, reverse=True, num_runs=10, initial={"h": wrong})
    with pytest.raises(ValueError, match=r"expected initial=\.\.\. with reverse=True, got it for forward runs"):
        dg.ais(m, rng=0, num_runs=10, initial={"h": h})
    for bad in (0, -3):
        with pytest.raises(ValueError, match="num_runs"):
            dg.ais(m, rng=0, num_runs=bad)
    with pytest.raises(ValueError, match="inverse temperatures"):
        dg.ais(m, rng=0, betas=1)


# --- exact draws


@finite
def test_exact_draws(dg, name):
    """All layers jointly, by enumeration."""
    m, truth = cases.machine(dg, name, np.float32), oracle(name)
    states, p = truth.law(list(truth.blocks))
    key = {tuple(np.concatenate([x[r] for x in states.values()])): r for r in range(len(p))}

    def check(seed, factor):
        drawn = to_numpy(dg, draw_exact(dg.engine.random.rng(seed), m, 20_000 * factor))
        rows, counts = np.unique(np.concatenate([drawn[n] for n in states], axis=1), axis=0, return_counts=True)
        cells = np.zeros(len(p))
        for row, count in zip(rows, counts, strict=True):
            cells[key[tuple(row)]] = count
        g_test(cells, p / p.sum())

    sampled(check, 47)


def test_exact_draws_whose_last_chunk_is_not_full(dg, monkeypatch):
    """Eight states by fives, for one machine and for two: those of the last chunk are drawn once."""
    monkeypatch.setattr(exact_module, "CHUNK", 5)
    m, (states, p) = cases.machine(dg, "rbm", np.float32), oracle("rbm").law(["h"])
    both = m.with_params({"v.bias": np.stack([to_numpy(dg, m.params["v.bias"])] * 2)})
    p = p[np.argsort(states["h"] @ [4, 2, 1])]

    def check(seed, factor):
        for one in (m, both):
            h = to_numpy(dg, draw_exact(dg.engine.random.rng(seed), one, 4000 * factor)["h"])
            g_test(np.bincount((h.reshape(-1, 3) @ [4, 2, 1]).astype(int), minlength=8), p)

    sampled(check, 48)


def test_exact_draws_are_in_the_machines_dtype(dg):
    drawn = draw_exact(dg.engine.random.rng(0), cases.machine(dg, "gaussian_bernoulli_rbm", np.float32), 3)
    assert {n: to_numpy(dg, x).dtype for n, x in drawn.items()} == {"v": np.float32, "h": np.float32}


@pytest.mark.parametrize("reverse", [False, True])
def test_a_start_with_couplings(dg, reverse):
    """Along the path between two machines with couplings: E[w] = Z_b / Z_a forward and Z_a / Z_b in reverse."""
    generator = np.random.default_rng(5)
    first, second = (
        dg.RBM(*(generator.normal(size=shape).astype("float32") for shape in ((5, 4), (5,), (4,)))) for _ in range(2)
    )
    exact = dg.exact_log_normalizer(second).value
    estimate = dg.ais(second, rng=0, start=first, betas=50, num_runs=2000, reverse=reverse)
    log_ratio = estimate.log_weights - exact
    weights = np.exp(-log_ratio if reverse else log_ratio)
    gate(weights.mean(), weights.std(ddof=1) / np.sqrt(2000), 1.0, 2000, se_cap=0.05)


def test_bounds_read_in_three_lines(dg):
    rbm = dg.RBM.init(rng=0, visible=3, hidden=2)
    shown = repr(dg.bounds(rbm, np.eye(3), rng=0))
    head, lower, upper = shown.splitlines()
    assert head.startswith("Bounds(mean over 3 rows in nats, s.e. over data ")
    assert lower.startswith("  lower -")
    assert "exact by free energy - enumeration" in lower
    assert upper.startswith("  upper -")
    vae = dg.VAE.init(rng=0, likelihood=dg.Bernoulli(3), latent=1, hidden=(2,))
    shown = repr(dg.bounds(vae, np.eye(3), rng=0, options=dg.BoundsOptions(num_particles=100)))
    assert "bound by importance weighting, 100 particles" in shown
    assert "upper none (no exact posterior draws)" in shown
