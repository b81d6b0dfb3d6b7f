"""Boltzmann machines against the papers' energies and brute force: the whole table on both engines, as equalities."""

import copy
import itertools
import pickle

import cases
import numpy as np
import pytest
from cases import CASES, COUPLED, ENUMERABLE, FINITE, compiled, oracle, to_engine, to_numpy
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from deepgen_ppl.energies import mean_field
from deepgen_ppl.energies.base_rate import base_rate_machine
from deepgen_ppl.energies.mean_field import MeanField
from deepgen_ppl.energies.path import Path
from deepgen_ppl.log_z.exact import log_normalizer_by_enumeration

every = pytest.mark.parametrize("name", CASES)
finite = pytest.mark.parametrize("name", FINITE)
CLOSED = [n for n in COUPLED if CASES[n].finite]
TOL = {"rtol": 1e-10, "atol": 1e-10}

# Each is compiled once for each row.
ENERGY = lambda m, state: m.energy(state)  # noqa: E731
FREE_ENERGY = lambda m, state: m.free_energy(state)  # noqa: E731
LOG_PROB, MEAN = {}, {}


def states_of(name, rows=24):
    """All joint states of a row of the table, or random ones where a layer is real: NumPy arrays by block."""
    case, rng = CASES[name], np.random.default_rng(11)
    if case.finite:
        return oracle(name).states(list(case.blocks))
    return {
        n: rng.standard_normal((rows, size)) if values is None else rng.choice(values, (rows, size))
        for n, (size, values) in case.blocks.items()
    }


def energies(dg, m, states):
    return to_numpy(dg, compiled(dg, ENERGY)(m, cases.arrays(dg, states, m.like)))


def free_energies(dg, m, states):
    return to_numpy(dg, compiled(dg, FREE_ENERGY)(m, cases.arrays(dg, states, m.like)))


def gradient(dg, fn, params, *args):
    """Gradient of `fn(params, *args)` by the engine's autodiff, as NumPy arrays."""
    if dg.engine.name == "numpyro":
        import jax

        return to_numpy(dg, jax.jit(jax.grad(fn))(params, *args))
    import torch

    leaves = {k: v.clone().requires_grad_() for k, v in params.items()}
    fn(leaves, *args).backward()
    return {k: np.zeros(v.shape) if v.grad is None else v.grad.numpy() for k, v in leaves.items() if torch.is_tensor(v)}


# --- the energy


def check_energy(dg, name):
    states = states_of(name)
    m = cases.machine(dg, name)
    np.testing.assert_allclose(energies(dg, m, states), oracle(name).energies(states), **TOL)


@every
def test_energy_is_the_papers(dg, double, name):
    check_energy(dg, name)


@every
def test_energy_in_float32(dg, name):
    states = states_of(name)
    got = energies(dg, cases.machine(dg, name, np.float32), states)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, oracle(name).energies(states), rtol=1e-5, atol=2e-5)


def test_energy_keeps_leading_axes(dg, double):
    m = cases.machine(dg, "dbm2")
    states = {n: x[:6].reshape(2, 3, -1) for n, x in states_of("dbm2").items()}
    flat = {n: x.reshape(6, -1) for n, x in states.items()}
    np.testing.assert_allclose(energies(dg, m, states), energies(dg, m, flat).reshape(2, 3), **TOL)
    one = {n: x[0, 0] for n, x in states.items()}
    assert energies(dg, m, one).shape == ()
    assert free_energies(dg, m, {"v": states["v"], "h2": states["h2"]}).shape == (2, 3)


# --- conditionals


def host_log_prob(dg, m, block, states):
    """log q(x_block | rest) from the host's own distribution, one number a row."""

    def log_prob(m, states, value):
        return m.conditional(block, states).log_prob(value)

    fn = LOG_PROB.setdefault(block, log_prob)
    value = cases.arrays(dg, {block: states[block]}, m.like)[block]
    if m.blocks[block].integer:  # int64: gammas of int32 are float32 on JAX
        value = dg.engine.xp.astype(value, dg.engine.xp.int64 if dg.engine.name == "numpyro" else value.dtype)
    return to_numpy(dg, compiled(dg, fn)(m, cases.arrays(dg, states, m.like), value))


def check_conditionals(dg, name):
    """log q(x) - log q(y) = E(y) - E(x) for any two states that differ in one block, and q sums to 1."""
    m, truth = cases.machine(dg, name), oracle(name)
    states = states_of(name)
    for block, (_, values) in CASES[name].blocks.items():
        if values is None:
            rng = np.random.default_rng(12)
            moved = {**states, block: states[block] + rng.standard_normal(states[block].shape)}
            log_q = host_log_prob(dg, m, block, states) - host_log_prob(dg, m, block, moved)
            np.testing.assert_allclose(log_q, truth.energies(moved) - truth.energies(states), **TOL)
            continue
        support = truth.states([block])[block]
        rest = {n: np.repeat(x[:16], len(support), 0) for n, x in states.items()}
        rest[block] = np.tile(support, (len(rest[block]) // len(support), 1))
        log_q = host_log_prob(dg, m, block, rest).reshape(-1, len(support))
        energy = truth.energies(rest).reshape(-1, len(support))
        np.testing.assert_allclose(log_q - log_q[:, :1], energy[:, :1] - energy, **TOL)
        np.testing.assert_allclose(logsumexp(log_q, axis=1), 0.0, **TOL)


@every
def test_conditionals_follow_from_the_energy(dg, double, name):
    check_conditionals(dg, name)


@every
def test_conditional_means(dg, double, name):
    """E[s(x_block) | rest], and the covariance of real layers."""
    m, truth = cases.machine(dg, name), oracle(name)
    states = {n: x[:: max(1, len(x) // 8)] for n, x in states_of(name).items()}
    on_engine = cases.arrays(dg, states, m.like)
    for block, (_, values) in CASES[name].blocks.items():
        fn = MEAN.setdefault(block, lambda m, s, block=block: m.mean(block, s))
        got = to_numpy(dg, compiled(dg, fn)(m, on_engine))
        for r, mean in enumerate(got):
            row = {n: x[r] for n, x in states.items()}
            exact, law = truth.conditional(block, row)
            if values is None:
                own = {k: to_numpy(dg, v) for k, v in m.layer_arrays(block).items()}
                in_units = (exact - own.get("location", 0.0)) / np.exp(own.get("log_unit", 0.0))
                np.testing.assert_allclose(mean, in_units, **TOL)
                np.testing.assert_allclose(np.diag(np.exp(2 * own["log_sigma"])), law, **TOL)
            else:
                having = values[-(len(mean) // exact.shape[1]) :]  # those that have a component
                onehot = (exact[..., None] == having).reshape(len(exact), -1)
                np.testing.assert_allclose(mean, law @ (exact if len(mean) == exact.shape[1] else onehot), **TOL)


# --- sums


@every
def test_free_energy_is_brute_force(dg, double, name):
    """Every set of layers that are not coupled is summed out in closed form."""
    m, truth = cases.machine(dg, name), oracle(name)
    names, states = list(CASES[name].blocks), states_of(name)
    tried = 0
    for size in range(1, len(names)):
        for out in itertools.combinations(names, size):
            if not m.structure.independent(out):
                continue
            keep = {n: np.unique(states[n], axis=0) for n in names if n not in out}
            rows = min(8, *(len(x) for x in keep.values()))
            keep = {n: x[-rows:] for n, x in keep.items()}
            np.testing.assert_allclose(free_energies(dg, m, keep), truth.free_energies(keep), **TOL)
            tried += 1
    assert tried >= 2


@pytest.mark.parametrize("name", COUPLED)
def test_joined_layers_have_no_closed_sum(dg, name):
    m = cases.machine(dg, name, np.float32)
    v = cases.arrays(dg, {"v": states_of(name)["v"]}, m.like)["v"]
    with pytest.raises(ValueError, match=r"expected layers to sum out that are not coupled.*MeanField"):
        m.free_energy(v)


@pytest.mark.parametrize("name", ENUMERABLE)
def test_exact_log_normalizer(dg, double, name):
    exact = dg.exact_log_normalizer(cases.machine(dg, name))
    assert (exact.kind, exact.side, exact.se) == ("exact", "both", 0.0)
    assert exact.value == pytest.approx(oracle(name).log_z, abs=1e-8)


@pytest.mark.parametrize("name", ["rbm_centered", "triangle"])
def test_exact_log_normalizer_of_float32_is_evaluated_in_float64(dg, name):
    case = CASES[name]
    rounded = {k: np.asarray(v, np.float32).astype(float) for k, v in {**case.params, **case.constants}.items()}
    truth = type(oracle(name))(case.energy, rounded, case.blocks)
    assert dg.exact_log_normalizer(cases.machine(dg, name, np.float32)).value == pytest.approx(truth.log_z, abs=1e-8)


def test_enumeration_in_several_chunks(dg, double):
    """2^13 states are more than one chunk; their sum is that of the other side, which is one."""
    rng = np.random.default_rng(0)
    w, b, c = 0.3 * rng.standard_normal((13, 13)), rng.standard_normal(13), rng.standard_normal(13)
    w[:, 1:], c[1:] = 0.0, 0.0
    arrays = to_engine(dg, {"w": w, "b": b, "c": c}, np.float64)
    got = dg.exact_log_normalizer(dg.RBM(arrays["w"], arrays["b"], arrays["c"])).value
    one = logsumexp([np.logaddexp(0, b).sum(), c[0] + np.logaddexp(0, b + w[:, 0]).sum()])
    assert got == pytest.approx(one + 12 * np.log(2), abs=1e-9)


# --- the same law in other forms


@every
def test_uncentered_and_recentered_leave_the_energy(dg, double, name):
    m, states = cases.machine(dg, name), states_of(name)
    before = energies(dg, m, states)
    bare = m.uncentered()
    assert not [k for k in bare.constants if k.endswith(".offset")]
    np.testing.assert_allclose(energies(dg, bare, states), before, **TOL)
    rng = np.random.default_rng(13)
    moved = {n: dg.engine.arrays.asarray(rng.standard_normal(u.width), like=m.like) for n, u in m.structure.units}
    if not CASES[name].recenters:
        with pytest.raises(
            ValueError, match=r"expected offsets \[.*\] to stay: the bias of their neighbor .* is shared"
        ):
            m.recentered(moved)
        return
    for new in (moved, {m.structure.visible: moved[m.structure.visible]}):
        other = m.recentered(new)
        assert {k for k in other.constants if k.endswith(".offset")} >= {f"{n}.offset" for n in new}
        np.testing.assert_allclose(energies(dg, other, states), before, **TOL)
        np.testing.assert_allclose(energies(dg, other.uncentered(), states), before, **TOL)


def test_spins_are_bernoulli_reparameterized(dg, double):
    case, spins = CASES["rbm_spin"], states_of("rbm_spin")
    w, b, c = (case.params[k] for k in ("v-h.weight", "v.bias", "h.bias"))
    other = to_engine(dg, {"w": 4 * w, "b": 2 * b - 2 * w.sum(1), "c": 2 * c - 2 * w.sum(0)}, np.float64)
    binary, m = dg.RBM(other["w"], other["b"], other["c"]), cases.machine(dg, "rbm_spin")
    log_p = -energies(dg, m, spins) - dg.exact_log_normalizer(m).value
    bits = {n: (x + 1) / 2 for n, x in spins.items()}
    np.testing.assert_allclose(
        log_p, -energies(dg, binary, bits) - dg.exact_log_normalizer(binary).value, rtol=0, atol=1e-10
    )
    np.testing.assert_allclose(
        host_log_prob(dg, m, "h", spins), host_log_prob(dg, binary, "h", bits), rtol=1e-10, atol=1e-10
    )


def test_two_categories_are_bernoulli(dg, double):
    rng = np.random.default_rng(14)
    w, b, c = rng.standard_normal((3, 2, 2)), rng.standard_normal((3, 2)), rng.standard_normal(2)
    flat = to_engine(dg, {"w": w.reshape(6, 2), "b": b.reshape(6), "c": c}, np.float64)
    categorical = dg.RBM(flat["w"], flat["b"], flat["c"], visible=dg.Categorical(3, 2))
    plain = to_engine(dg, {"w": w[:, 1] - w[:, 0], "b": b[:, 1] - b[:, 0], "c": c + w[:, 0].sum(0)}, np.float64)
    binary = dg.RBM(plain["w"], plain["b"], plain["c"])
    v = {"v": np.array(list(itertools.product([0.0, 1.0], repeat=3)))}
    log_p = [-free_energies(dg, m, v) - dg.exact_log_normalizer(m).value for m in (categorical, binary)]
    np.testing.assert_allclose(log_p[0], log_p[1], rtol=0, atol=1e-10)


def test_dbm_without_upper_coupling_is_an_rbm(dg, double):
    case = CASES["dbm2"]
    params = to_engine(dg, {**case.params, "h1-h2.weight": np.zeros((3, 2))}, np.float64)
    dbm, v = cases.machine(dg, "dbm2").with_params(params), {"v": oracle("dbm2").states(["v"])["v"]}
    rbm = dg.RBM(params["v-h1.weight"], params["v.bias"], params["h1.bias"])
    upper = np.logaddexp(0, case.params["h2.bias"]).sum()
    assert dg.exact_log_normalizer(dbm).value == pytest.approx(dg.exact_log_normalizer(rbm).value + upper, abs=1e-10)
    x = cases.arrays(dg, v, dbm.like)["v"]
    bound = to_numpy(dg, mean_field.mean_field_bound(dbm, x, MeanField(2).solve(dbm, x)))
    np.testing.assert_allclose(bound, -free_energies(dg, rbm, v) + upper, **TOL)


def test_gaussian_hidden_units_are_factor_analysis(dg, double):
    """p(v) = Normal(m, L L' + D) with noise D = sigma^2 and loadings L = D W (1 - W'D W)^(-1/2)."""
    rng = np.random.default_rng(15)
    w, b, c, log_sigma = 0.3 * rng.standard_normal((3, 2)), *(rng.standard_normal(n) for n in (3, 2)), np.full(3, 0.2)
    a = to_engine(dg, {"v.bias": b, "h.bias": c, "v-h.weight": w, "v.log_sigma": log_sigma}, np.float64)
    layers = {"v": dg.Gaussian(3, scale=None), "h": dg.Gaussian(2)}
    m = dg.BoltzmannMachine(layers, [dg.Dense(("v", "h"))], a)
    noise = np.diag(np.exp(2 * log_sigma))
    inner = np.eye(2) - w.T @ noise @ w
    loadings = noise @ w @ np.linalg.inv(np.linalg.cholesky(inner)).T
    covariance = loadings @ loadings.T + noise
    law = multivariate_normal(covariance @ (b + w @ c), covariance)
    v = rng.standard_normal((5, 3))
    log_f, log_p = -free_energies(dg, m, {"v": v}), law.logpdf(v)
    np.testing.assert_allclose(log_f - log_f[0], log_p - log_p[0], **TOL)


def test_scale_of_a_known_gaussian_is_as_precise_as_the_machine(dg, double):
    m = dg.GaussianBernoulliRBM.init(2, 2, rng=0, visible_scale=0.7, dtype="float64")
    np.testing.assert_allclose(np.exp(to_numpy(dg, m.constants["v.log_sigma"])), 0.7, rtol=1e-14)


# --- the path between two machines


def other_end(dg, name):
    """A machine with the same layers and other arrays."""
    case, rng = CASES[name], np.random.default_rng(16)
    changed = {k: v + 0.2 * rng.standard_normal(v.shape) for k, v in case.params.items()}
    return case.build(dg, to_engine(dg, changed, np.float64), to_engine(dg, case.constants, np.float64))


@every
def test_path_mixes_energies(dg, double, name):
    m, states = cases.machine(dg, name), states_of(name)
    for end in (other_end(dg, name), base_rate_machine(m)):
        path = Path(end, m)
        a, b = energies(dg, end, states), energies(dg, m, states)
        for beta in (0.0, 0.3, 1.0):
            np.testing.assert_allclose(energies(dg, path.at(beta), states), (1 - beta) * a + beta * b, **TOL)


def test_path_needs_the_same_layers(dg):
    a, b = (dg.RBM.init(visible, 2, rng=0) for visible in (3, 4))
    with pytest.raises(ValueError, match="expected two machines with the same layers, got RBM"):
        Path(a, b)


def test_independent_machine_has_the_means_asked_for(dg, double):
    m = cases.machine(dg, "rbm_centered")
    start = base_rate_machine(m, {"v": np.array([0.1, 0.3, 0.5, 0.9])})
    assert start.structure.couplings == ()
    np.testing.assert_allclose(
        1 / (1 + np.exp(-to_numpy(dg, start.params["v.bias"]))), [0.1, 0.3, 0.5, 0.9], rtol=1e-12
    )
    np.testing.assert_array_equal(to_numpy(dg, start.params["h.bias"]), CASES["rbm_centered"].params["h.bias"])


# --- Fisher's identities


def check_fisher(dg, name):
    """grad log f(x_keep) = E[-grad E | x_keep], for the layers kept in enumeration."""
    m, truth = cases.machine(dg, name), oracle(name)
    out = next(c for c in reversed(m.structure.colors) if not any(CASES[name].blocks[n][1] is None for n in c))
    states = states_of(name)
    for r in (3, len(states["v"]) - 2):
        keep = {n: x[r] for n, x in states.items() if n not in out}
        got = gradient(
            dg, lambda params, m, keep: -m.with_params(params).free_energy(keep), m.params, m,
            cases.arrays(dg, keep, m.like),
        )  # fmt: skip
        exact = truth.expected_gradient(keep)
        for k, g in got.items():
            np.testing.assert_allclose(g, exact[k], **TOL, err_msg=k)


@pytest.mark.parametrize("name", ENUMERABLE)
def test_gradient_of_the_free_energy_is_the_posterior_mean(dg, double, name):
    check_fisher(dg, name)


@pytest.mark.parametrize("name", ENUMERABLE)
def test_gradient_of_log_z_is_the_model_mean(dg, double, name):
    m, truth = cases.machine(dg, name), oracle(name)
    got = gradient(dg, lambda params, m: log_normalizer_by_enumeration(m.with_params(params)), m.params, m)
    if CASES[name].finite:
        for k, g in got.items():
            np.testing.assert_allclose(g, truth.model_gradient[k], **TOL, err_msg=k)
        return
    for k, g in got.items():
        for at in np.ndindex(g.shape):
            ends = []
            for h in (-1e-4, 1e-4):
                moved = truth.params[k].copy()
                moved[at] += h
                ends.append(type(truth)(CASES[name].energy, {**truth.params, k: moved}, CASES[name].blocks).log_z)
            assert g[at] == pytest.approx((ends[1] - ends[0]) / 2e-4, rel=1e-6, abs=1e-6), k


# --- mean field


def unit_law(dg, m, name, eta):
    """q of one hidden layer as a table (units, values), from natural parameters (width,)."""
    size, values = CASES[name[0]].blocks[name[1]]
    eta = to_numpy(dg, eta)
    logits = eta.reshape(size, -1) if len(eta) > size else eta[:, None] * values
    logits = np.pad(logits, ((0, 0), (len(values) - logits.shape[1], 0)))  # a first value that has no eta
    return np.exp(logits - logsumexp(logits, axis=1, keepdims=True))


def random_eta(dg, m, rows):
    rng = np.random.default_rng(17)
    return {
        n: dg.engine.arrays.asarray(1.5 * rng.standard_normal((rows, m.structure.layers[n].width)), like=m.like)
        for n in m.structure.hidden
    }


def check_mean_field(dg, name):
    """log f(v) - L(q) = KL(q || posterior) at random q."""
    m, truth = cases.machine(dg, name), oracle(name)
    v = truth.states(["v"])["v"][1:4]
    eta = random_eta(dg, m, len(v))
    bound = to_numpy(dg, compiled(dg, mean_field.mean_field_bound)(m, cases.arrays(dg, {"v": v}, m.like)["v"], eta))
    for r, row in enumerate(v):
        q = {n: unit_law(dg, m, (name, n), e[r]) for n, e in eta.items()}
        assert -truth.free_energy({"v": row}) - bound[r] == pytest.approx(truth.mean_field_kl(q, {"v": row}), abs=1e-10)


@finite
def test_gap_of_the_mean_field_bound_is_a_divergence(dg, double, name):
    check_mean_field(dg, name)


def strongly_joined(dg):
    """A DBM whose hidden layers push each other to and fro: updates of all layers at once never settle."""
    a = {"v.bias": np.zeros(2), "h1.bias": np.full(3, 6.0), "h2.bias": np.full(3, 6.0), "v-h1.weight": np.eye(2, 3)}
    a["h1-h2.weight"] = np.full((3, 3), -5.0)
    return cases.dbm(dg, to_engine(dg, a, np.float64), {})


def check_mean_field_ascends(dg):
    m = strongly_joined(dg)
    x = cases.arrays(dg, {"v": np.array([[0.0, 1.0], [1.0, 1.0]])}, m.like)["v"]
    path = [to_numpy(dg, mean_field.mean_field_bound(m, x, MeanField(k).solve(m, x))) for k in range(1, 7)]
    steps = np.diff(path, axis=0)
    assert (steps >= -1e-12).all()
    assert np.abs(steps[-1]).max() < 1e-3


def test_mean_field_never_descends_and_settles(dg, double):
    check_mean_field_ascends(dg)


@pytest.mark.parametrize("name", CLOSED)
def test_mean_field_ends_at_a_fixed_point_whose_gradient_is_that_of_the_energy(dg, double, name):
    """At the fixed point dL/d theta = E_q[-dE/d theta]: q counts as a constant."""
    m, truth = cases.machine(dg, name), oracle(name)
    v = truth.states(["v"])["v"][2]
    x = cases.arrays(dg, {"v": v}, m.like)["v"]
    eta, again = (MeanField(k).solve(m, x) for k in (200, 201))
    for n in eta:
        np.testing.assert_allclose(to_numpy(dg, eta[n]), to_numpy(dg, again[n]), atol=1e-8)

    def bound(params, m, x):
        m = m.with_params(params)
        return mean_field.mean_field_bound(m, x, MeanField(200).solve(m, x))

    got = gradient(dg, bound, m.params, m, x)
    full, _ = truth.posterior({"v": v})
    q = truth.factorized({n: unit_law(dg, m, (name, n), e) for n, e in eta.items()}, {"v": v})
    for k, g in truth.gradient(full, q).items():
        np.testing.assert_allclose(got[k], -g, atol=1e-8, err_msg=k)


def check_mean_field_is_a_constant(dg, name):
    """dL/d theta = E_q[-dE/d theta] after one pass too, where L still depends on q."""
    m, truth = cases.machine(dg, name), oracle(name)
    v = truth.states(["v"])["v"][2]
    x = cases.arrays(dg, {"v": v}, m.like)["v"]

    def bound(params):
        one = m.with_params(params)
        return mean_field.mean_field_bound(one, x, MeanField(1).solve(one, x))

    got = dg.engine.control.value_and_grad(bound)(dict(m.params))[1]
    full, _ = truth.posterior({"v": v})
    laws = {n: unit_law(dg, m, (name, n), e) for n, e in MeanField(1).solve(m, x).items()}
    for k, g in truth.gradient(full, truth.factorized(laws, {"v": v})).items():
        np.testing.assert_allclose(to_numpy(dg, got[k]), -g, **TOL, err_msg=k)


def test_mean_field_is_a_constant_of_differentiation(dg, double):
    check_mean_field_is_a_constant(dg, "dbm3_centered")


# --- machines that do not exist, and bad input


def gaussian_pair(dg, weight):
    zero = np.zeros(1, np.float32)
    arrays = {"v.bias": zero, "h.bias": zero, "v-h.weight": np.full((1, 1), weight, np.float32)}
    layers = {"v": dg.Gaussian(1), "h": dg.Gaussian(1)}
    return dg.BoltzmannMachine(layers, [dg.Dense(("v", "h"))], to_engine(dg, arrays, np.float32))


@pytest.mark.parametrize("weight", [1.0, 1.1, -1.1])
def test_joint_precision_of_gaussians_must_be_positive(dg, weight):
    with pytest.raises(ValueError, match=r"expected a normalizable machine.*\['h', 'v'\].*eigenvalue.* <= 0"):
        gaussian_pair(dg, weight)


def test_joint_precision_is_checked_after_updates(dg):
    m = gaussian_pair(dg, 0.99)
    m.check_normalizable()
    with pytest.raises(ValueError, match="eigenvalue"):
        m.with_params({"v-h.weight": 2 * m.params["v-h.weight"]})


def test_precision_counts_all_gaussian_layers_together(dg):
    """Three layers, each pair fine alone: together they are not."""
    zero, w = np.zeros(1, np.float32), np.full((1, 1), 0.6, np.float32)
    arrays = {"a.bias": zero, "b.bias": zero, "c.bias": zero, "a-b.weight": w, "b-c.weight": w, "a-c.weight": w}
    layers = {n: dg.Gaussian(1) for n in "abc"}
    couplings = [dg.Dense(pair) for pair in (("a", "b"), ("b", "c"), ("a", "c"))]
    with pytest.raises(ValueError, match=r"eigenvalue -0\.2"):
        dg.BoltzmannMachine(layers, couplings, to_engine(dg, arrays, np.float32))


def good(dg):
    case = CASES["rbm"]
    return to_engine(dg, case.params, np.float32)


def test_arrays_are_checked(dg):
    layers, couplings, a = {"v": dg.Bernoulli(4), "h": dg.Bernoulli(3)}, [dg.Dense(("v", "h"))], good(dg)
    build = dg.BoltzmannMachine
    with pytest.raises(
        ValueError, match=r"expected the arrays \['h\.bias', 'v-h\.weight', 'v\.bias'\].*unknown \['x'\]"
    ):
        build(layers, couplings, {**a, "x": a["v.bias"]})
    with pytest.raises(ValueError, match=r"missing \['v-h\.weight'\]"):
        build(layers, couplings, {k: v for k, v in a.items() if k != "v-h.weight"})
    with pytest.raises(ValueError, match=r"expected v-h\.weight of shape \(4, 3\), got shape \(3, 4\)"):
        build(layers, couplings, {**a, "v-h.weight": a["v-h.weight"].T})
    with pytest.raises(ValueError, match=r"expected h\.offset of shape \(3,\), got shape \(4,\)"):
        build(layers, couplings, a, {"h.offset": a["v.bias"]})
    with pytest.raises(ValueError, match=r"expected h\.bias of shape \(3,\), got shape \(4,\)"):
        dg.RBM(a["v-h.weight"], a["v.bias"], a["v.bias"])
    with pytest.raises(ValueError, match=r"expected a weight of shape \(V, H\), got shape \(4,\)"):
        dg.RBM(a["v.bias"], a["v.bias"], a["h.bias"])


def test_structure_is_checked(dg):
    layers, a = {"v": dg.Bernoulli(4), "h": dg.Bernoulli(3)}, good(dg)
    with pytest.raises(ValueError, match=r"expected terms over the layers \['v', 'h'\], got \['g'\]"):
        dg.BoltzmannMachine(layers, [dg.Dense(("v", "g"))], a)
    with pytest.raises(ValueError, match="coupled once"):
        dg.BoltzmannMachine(layers, [dg.Dense(("v", "h")), dg.Dense(("h", "v"))], a)
    with pytest.raises(ValueError, match="two different layers"):
        dg.Dense(("v", "v"))
    with pytest.raises(ValueError, match="at least one layer"):
        dg.BoltzmannMachine({}, [], {})
    with pytest.raises(ValueError, match="sizes of the hidden layers"):
        dg.DBM.init(4, (), rng=0)
    with pytest.raises(ValueError, match="sizes of the hidden layers"):
        dg.DBM.init(4, 3, rng=0)


def test_options_are_checked(dg):
    for bad in (0, -1, 2.5):
        with pytest.raises(ValueError, match="positive integer for the number of Bernoulli units"):
            dg.Bernoulli(bad)
    with pytest.raises(ValueError, match="at least 2 for num_states"):
        dg.Categorical(3, 1)
    for bad in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="positive number for scale"):
            dg.Gaussian(3, scale=bad)
    with pytest.raises(ValueError, match="positive integer for iterations"):
        dg.MeanField(0)
    with pytest.raises(ValueError, match="positive integer for sweeps"):
        dg.BlockGibbs(0)


@pytest.mark.parametrize(
    ("unit", "x", "message"),
    [
        (("Bernoulli", 2), [[0.0, 0.5]], r"only 0 and 1.*0, 0\.5.*deepgen_ppl\.datasets\.binarize"),
        (("Bernoulli", 2), [[0.0, np.nan]], r"finite values in data, got 1 NaN or infinite of 2"),
        (("Bernoulli", 2), [[0.0, np.inf]], r"finite values"),
        (("Bernoulli", 2), [[0.0, 1.0, 1.0]], r"expected data of shape \(\.\.\., 2\).*got shape \(1, 3\)"),
        (("Bernoulli", 2), np.zeros((0, 2)), r"at least one row, got shape \(0, 2\)"),
        (("Spin", 2), [[0.0, 1.0]], r"only -1 and \+1 for Spin"),
        (("Categorical", 2, 3), [[0.0, 3.0]], r"integers from 0 to 2"),
        (("Categorical", 2, 3), [[0.0, 0.5]], r"integers from 0 to 2"),
        (("Categorical", 2, 3), [[0.0, -1.0]], r"integers from 0 to 2"),
        (("Gaussian", 2), [[0.0, np.nan]], r"finite values"),
    ],
)
def test_data_are_checked(dg, unit, x, message):
    kind, *args = unit
    with pytest.raises(ValueError, match=message):
        dg.RBM.init(getattr(dg, kind)(*args), 3, rng=0, data=np.asarray(x, np.float32))


def test_states_must_be_complete(dg):
    m = cases.machine(dg, "dbm2", np.float32)
    state = cases.arrays(dg, {n: x[0] for n, x in states_of("dbm2").items()}, m.like)
    with pytest.raises(ValueError, match=r"expected a state with the blocks \['v', 'h1', 'h2'\], got no \['h1'\]"):
        m.energy({"v": state["v"], "h2": state["h2"]})
    with pytest.raises(ValueError, match=r"neighbors of 'h1', got no \['h2'\]"):
        m.conditional("h1", {"v": state["v"]})


def test_updates_are_checked_and_make_new_machines(dg):
    m = cases.machine(dg, "rbm_centered", np.float32)
    before = to_numpy(dg, m.params["v.bias"]).copy()
    moved = m.with_params({"v.bias": m.params["v.bias"] + 1}).with_constants({"v.offset": 0 * m.constants["v.offset"]})
    np.testing.assert_array_equal(to_numpy(dg, m.params["v.bias"]), before)
    np.testing.assert_allclose(to_numpy(dg, moved.params["v.bias"]), before + 1)
    assert not to_numpy(dg, moved.constants["v.offset"]).any()
    assert type(moved) is type(m)
    with pytest.raises(ValueError, match=r"expected params among .*, got \['v\.offset'\]"):
        m.with_params({"v.offset": m.constants["v.offset"]})
    with pytest.raises(ValueError, match=r"expected constants among .*, got \['v\.bias'\]"):
        m.with_constants({"v.bias": m.params["v.bias"]})
    with pytest.raises(ValueError, match=r"expected v\.bias of shape \(4,\), got shape \(3,\)"):
        m.with_params({"v.bias": m.params["h.bias"]})


def test_float64_without_x64_raises_on_jax(dg_numpyro):
    a = CASES["rbm"].params
    with pytest.raises(TypeError, match=r"expected float32 parameters, got float64.*jax_enable_x64"):
        dg_numpyro.RBM(a["v-h.weight"], a["v.bias"], a["h.bias"])
    with pytest.raises(TypeError, match="got float64"):
        dg_numpyro.RBM.init(4, 3, rng=0, dtype="float64")


def test_float64_stays_on_torch(dg_pyro):
    a = CASES["rbm"].params
    m = dg_pyro.RBM(a["v-h.weight"], a["v.bias"], a["h.bias"])
    assert {str(v.dtype) for v in m.params.values()} == {"torch.float64"}


# --- first parameters


def test_init_takes_the_base_rates_of_the_data(dg):
    x = np.array([[1, 0, 1], [1, 0, 0], [1, 1, 0], [1, 0, 0]], np.float32)
    m = dg.RBM.init(3, 2, rng=0, data=x)
    rates = np.array([0.99, 0.25, 0.25])  # a rate of 1 is kept inside [0.01, 0.99]
    np.testing.assert_allclose(to_numpy(dg, m.constants["v.offset"]), rates, rtol=1e-5)
    np.testing.assert_allclose(to_numpy(dg, m.params["v.bias"]), np.log(rates / (1 - rates)), rtol=1e-5)
    np.testing.assert_allclose(to_numpy(dg, m.constants["h.offset"]), 0.5)
    assert to_numpy(dg, dg.DBM.init(3, (2, 2), rng=1, centered=False).params["v.bias"]).tolist() == [0, 0, 0]


def test_init_depends_on_the_seed_alone(dg):
    first, again, other = (dg.DBM.init(20, (30, 10), rng=seed) for seed in (3, 3, 4))
    w = [to_numpy(dg, m.params["v-h1.weight"]) for m in (first, again, other)]
    np.testing.assert_array_equal(w[0], w[1])
    assert dg.DBM.init(3, np.array([3, 2]), rng=0).structure == dg.DBM.init(3, (3, 2), rng=0).structure
    assert np.abs(w[0] - w[2]).max() > 1e-3
    assert w[0].std() == pytest.approx(0.01, rel=0.2)
    assert np.abs(w[0][:10, :10] - to_numpy(dg, first.params["h1-h2.weight"])[:10]).max() > 1e-3


# --- host contracts of the machine itself


REPR = {
    "rbm": "RBM(v: Bernoulli(4), h: Bernoulli(3); v-h; {})",
    "dbm3_centered": "DBM(v: Bernoulli(3), h1: Bernoulli(2), h2: Bernoulli(2), h3: Bernoulli(2); v-h1, h1-h2, h2-h3, "
    "centered; {})",
}


@pytest.mark.parametrize("name", REPR)
def test_repr(dg, name):
    m = cases.machine(dg, name, np.float32)
    assert repr(m) == REPR[name].format(m.like.dtype)
    assert "float32" in repr(m)


@every
@pytest.mark.parametrize("way", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_copies_are_machines(dg, name, way):
    m, states = cases.machine(dg, name, np.float32), states_of(name)
    other = way(m)
    assert type(other) is type(m)
    assert other.structure == m.structure
    assert other.engine is m.engine
    np.testing.assert_array_equal(energies(dg, other, states), energies(dg, m, states))


@every
def test_pytree_round_trip(dg_numpyro, name):
    import jax

    m = cases.machine(dg_numpyro, name, np.float32)
    leaves, tree = jax.tree.flatten(m)
    assert len(leaves) == len(m.params) + len(m.constants)
    other = jax.tree.unflatten(tree, leaves)
    assert type(other) is type(m)
    assert other.structure == m.structure
    assert other.params.keys() == m.params.keys()
    assert hash(tree) == hash(jax.tree.structure(cases.machine(dg_numpyro, name, np.float32)))


def test_vmap_and_grad_over_machines(dg_numpyro):
    import jax
    import jax.numpy as jnp

    machines = [cases.machine(dg_numpyro, "dbm2", np.float32), cases.machine(dg_numpyro, "dbm2", np.float32)]
    machines[1] = machines[1].with_params({"v.bias": machines[1].params["v.bias"] + 1})
    states = cases.arrays(dg_numpyro, states_of("dbm2"), machines[0].like)
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *machines)
    got = jax.jit(jax.vmap(lambda m, s: m.energy(s), in_axes=(0, None)))(stacked, states)
    for row, m in zip(got, machines, strict=True):
        np.testing.assert_allclose(row, energies(dg_numpyro, m, states_of("dbm2")), rtol=1e-5, atol=1e-5)
    grad = jax.grad(lambda m: m.energy({n: x[5] for n, x in states.items()}))(machines[0])
    assert type(grad) is type(machines[0])
    np.testing.assert_allclose(grad.params["v.bias"], -states_of("dbm2")["v"][5])


def test_gradients_reach_every_parameter_on_torch(dg_pyro):
    import torch

    m = cases.machine(dg_pyro, "gaussian_bernoulli_rbm_learned_scale")
    leaves = {k: v.requires_grad_() for k, v in m.params.items()}
    log_normalizer_by_enumeration(m.with_params(leaves)).backward()
    for k, v in leaves.items():
        assert v.grad is not None, k
        assert torch.isfinite(v.grad).all(), k
