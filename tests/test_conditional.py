"""Machines that are conditioned on values that are always given, against the paper's energy and brute force."""

import functools
from dataclasses import dataclass, field
from types import MappingProxyType

import cases
import numpy as np
import oracles
import pytest
from cases import compiled, to_numpy
from gates import g_test, gate_mean, sampled
from oracles import BINARY, SPIN, Oracle
from scipy.special import expit, logsumexp

from deepgen_ppl.log_p import conditional
from deepgen_ppl.log_z import exact

TOL = {"rtol": 1e-10, "atol": 1e-10}
X = np.array([[0.0, 0.0], [1.0, -0.5], [-2.0, 0.3], [0.4, 1.7]])
"""Inputs, four rows."""


@dataclass(frozen=True)
class Row:
    """One conditional RBM: kinds of its layers, how to make their units, their values, and offsets."""

    kinds: dict
    units: dict
    blocks: dict
    widths: tuple
    offsets: MappingProxyType = field(default_factory=lambda: MappingProxyType({}))
    constants: MappingProxyType = field(default_factory=lambda: MappingProxyType({}))

    def params(self):
        v, h = self.widths
        shapes = {"v.bias": v, "h.bias": h, "v-h.weight": (v, h), "v-x.weight": (v, 2), "h-x.weight": (h, 2)}
        return cases.draw(61, shapes, 0.5)


ROWS = {
    "conditional_bernoulli": Row(
        {"v": "bernoulli", "h": "bernoulli"}, {"visible": ("Bernoulli", 3), "hidden": ("Bernoulli", 2)},
        {"v": (3, BINARY), "h": (2, BINARY)}, (3, 2),
    ),
    "conditional_centered": Row(
        {"v": "bernoulli", "h": "bernoulli"}, {"visible": ("Bernoulli", 3), "hidden": ("Bernoulli", 2)},
        {"v": (3, BINARY), "h": (2, BINARY)}, (3, 2), MappingProxyType(cases.offsets(62, {"v": 3, "h": 2})),
    ),
    "conditional_categorical_spin": Row(
        {"v": ("categorical", 3), "h": "spin"}, {"visible": ("Categorical", 2, 3), "hidden": ("Spin", 2)},
        {"v": (2, np.arange(3.0)), "h": (2, SPIN)}, (6, 2),
    ),
    "conditional_gaussian": Row(
        {"v": "gaussian", "h": "bernoulli"}, {"visible": ("Gaussian", 2, 0.8), "hidden": ("Bernoulli", 3)},
        {"v": (2, None), "h": (3, BINARY)}, (2, 3),
        constants=MappingProxyType({"v.log_sigma": np.full(2, np.log(0.8))}),
    ),
}  # fmt: skip
every = pytest.mark.parametrize("name", ROWS)
in_turn = pytest.mark.parametrize("name", cases.in_turn(ROWS))
finite = pytest.mark.parametrize(
    "name", cases.in_turn([n for n, row in ROWS.items() if row.blocks["v"][1] is not None])
)


def machine(dg, name, dtype="float64"):
    """The machine of a row."""
    row = ROWS[name]
    units = {k: getattr(dg, kind)(*args) for k, (kind, *args) in row.units.items()}
    bare = dg.ConditionalRBM.init(*units.values(), 2, rng=0, centered=bool(row.offsets), dtype=dtype)
    return bare.with_params(row.params()).with_constants(dict(row.offsets))


def oracle(name):
    """The truth about a row; x is the last block and never summed over."""
    row = ROWS[name]
    arrays = {**row.params(), **row.offsets, **row.constants}
    return Oracle(oracles.energy_conditional_rbm(row.kinds), arrays, {**row.blocks, "x": (2, None)})


def states_of(name, rows=len(X), seed=63):
    """Random states of v and h beside the inputs."""
    rng = np.random.default_rng(seed)
    blocks = ROWS[name].blocks.items()
    drawn = {n: rng.standard_normal((rows, k)) if u is None else rng.choice(u, (rows, k)) for n, (k, u) in blocks}
    return drawn | {"x": X}


def log_likelihood(m, v, x):
    return m.given({"x": x}).marginal("v", log_normalizer="exact").log_prob(v)


def total(params, m, v, x):
    return log_likelihood(m.with_params(params), v, x).sum()


def total_and_slopes(m, v, x):
    return m.engine.control.value_and_grad(total)(dict(m.params), m, v, x)


def one_step(cd, rng, m, batch):
    """State after the step of the particles, and the gradient of the loss."""
    _, state = cd.before_step(rng, m, cd.init(rng, m, batch), batch, None)
    rows = len(batch["v"])

    def loss(params):
        return cd.batch_loss(rng, m.with_params(params), state, batch, None, rows)[0]

    return state.chains.position, m.engine.control.value_and_grad(loss)(dict(m.params))[1]


def log_z_given(m, x):
    return exact.log_normalizer_by_enumeration(m.given({"x": x}))


# --- the law


@every
def test_energies_are_those_of_the_paper(dg, double, name):
    """Of full states, of those of the machine given x, and in the form without offsets."""
    m, states = machine(dg, name), states_of(name)
    truth, on_engine = oracle(name).energies(states), cases.arrays(dg, states, m.like)
    rest = {n: x for n, x in on_engine.items() if n != "x"}
    for energy in (m.energy(on_engine), m.uncentered().energy(on_engine), m.given({"x": X}).energy(rest)):
        np.testing.assert_allclose(to_numpy(dg, energy), truth, **TOL)


@every
def test_log_z_is_one_for_each_input(dg, double, name):
    m, truth = machine(dg, name), -oracle(name).free_energies({"x": X})
    np.testing.assert_allclose(to_numpy(dg, compiled(dg, log_z_given)(m, dg.engine.arrays.asarray(X))), truth, **TOL)
    assert np.ptp(truth) > 0.1


@finite
def test_probabilities_given_each_input_sum_to_one(dg, double, name):
    m, truth = machine(dg, name), oracle(name)
    v = truth.states(["v"])["v"]
    all_v, x = (dg.engine.arrays.asarray(a, like=m.like) for a in (v[:, None], X))
    log_p = to_numpy(dg, compiled(dg, log_likelihood)(m, all_v, x))
    assert log_p.shape == (len(v), 4)
    np.testing.assert_allclose(np.exp(log_p).sum(0), 1.0, **TOL)
    for r, x in enumerate(X):
        exact_p = [-truth.free_energy({"v": row, "x": x}) + truth.free_energy({"x": x}) for row in v]
        np.testing.assert_allclose(log_p[:, r], exact_p, **TOL)


@every
def test_conditionals_read_the_input(dg, double, name):
    """Means of v and h are slopes of their log-partitions at b + A x + W h and c + B x + W'v."""
    m, states = machine(dg, name), cases.arrays(dg, states_of(name), dg.engine.arrays.asarray(X))
    rest = m.given({"x": X})
    for n in ("v", "h"):
        np.testing.assert_allclose(to_numpy(dg, m.mean(n, states)), to_numpy(dg, rest.mean(n, states)), **TOL)
    if name == "conditional_bernoulli":
        p = ROWS[name].params()
        eta = p["h.bias"] + X @ p["h-x.weight"].T + to_numpy(dg, states["v"]) @ p["v-h.weight"]
        np.testing.assert_allclose(to_numpy(dg, m.mean("h", states)), expit(eta), **TOL)


def test_without_input_weights_it_is_an_rbm(dg, double):
    rng = np.random.default_rng(64)
    w, v = rng.standard_normal((3, 2)), rng.integers(0, 2, (4, 3)).astype(float)
    m, rbm = dg.ConditionalRBM(w, np.zeros((3, 2)), np.zeros((2, 2))), dg.RBM(w)
    v = dg.engine.arrays.asarray(v)
    log_p = rbm.marginal("v", log_normalizer="exact").log_prob(v)
    np.testing.assert_allclose(to_numpy(dg, log_likelihood(m, v, X)), to_numpy(dg, log_p), **TOL)


def test_labels_given_data_are_those_of_the_discriminative_rbm(dg, double):
    """A machine of labels whose data are always given has the p(y | v) of one that has a law of data too."""
    rng = np.random.default_rng(65)
    w, u = rng.standard_normal((4, 3)), rng.standard_normal((3, 3))
    joint = dg.DiscriminativeRBM(w, u, label_bias=rng.standard_normal(3))
    layers = {"y": dg.Categorical(1, 3), "h": dg.Bernoulli(3), "v": dg.Given(4)}
    arrays = {k: a for k, a in joint.params.items() if k != "v.bias"}
    terms = [dg.Dense(("v", "h")), dg.Dense(("y", "h")), dg.NoBias(("v",))]
    m = dg.BoltzmannMachine(layers, terms, arrays)
    v = rng.integers(0, 2, (5, 4)).astype(float)
    log_p = to_numpy(dg, joint.label_log_prob(dg.engine.arrays.asarray(v)))
    for k in range(3):
        y = np.full((5, 1), float(k))
        got = dg.bounds(m, {"y": y, "v": v}, rng=0)
        np.testing.assert_allclose(got.pointwise, log_p[:, k], **TOL)


def test_offsets_move_and_the_law_stays(dg, double):
    m, v = machine(dg, "conditional_centered"), dg.engine.arrays.asarray(states_of("conditional_centered")["v"])
    moved = m.recentered({"v": dg.engine.arrays.asarray([0.1, 0.9, 0.4]), "h": dg.engine.arrays.asarray([0.7, 0.2])})
    one, other = (to_numpy(dg, log_likelihood(one, v, X)) for one in (m, moved))
    np.testing.assert_allclose(one, other, **TOL)
    assert np.abs(to_numpy(dg, moved.params["v.bias"] - m.params["v.bias"])).max() > 0.01


# --- learning


@in_turn
def test_the_gradient_is_that_of_the_conditional_likelihood(dg, double, name):
    """d log p(v | x) = E[-dE | v, x] - E[-dE | x] for A and B: products with x of differences of means."""
    m, truth, states = machine(dg, name), oracle(name), states_of(name)
    v, x = (dg.engine.arrays.asarray(states[n], like=m.like) for n in ("v", "x"))

    value, slope = compiled(dg, total_and_slopes)(m, v, x)
    exact_p = truth.free_energies({"x": X}) - truth.free_energies({"v": states["v"], "x": X})
    np.testing.assert_allclose(to_numpy(dg, value), exact_p.sum(), **TOL)
    step = 1e-5
    for k in ("v-x.weight", "h-x.weight", "h.bias"):
        at, numeric = truth.params[k].copy(), np.zeros_like(truth.params[k])
        for i in np.ndindex(at.shape):
            ends = []
            for sign in (1, -1):
                truth.params[k][i] = at[i] + sign * step
                ends.append((truth.free_energies({"x": X}) - truth.free_energies({"v": states["v"], "x": X})).sum())
            truth.params[k][i] = at[i]
            numeric[i] = (ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose(to_numpy(dg, slope[k]), numeric, atol=1e-7)
        assert np.abs(numeric).max() > 1e-2


@in_turn
def test_contrastive_divergence_pairs_each_row_with_its_own_input(dg, double, name):
    """The gradient of A is the mean of (s(v) - s(v~)) x', that of B of (E[h | v, x] - E[h | v~, x]) x', by row."""
    m, states = machine(dg, name), states_of(name)
    batch = cases.arrays(dg, {"v": states["v"], "x": X}, m.like)
    step = compiled(dg, functools.partial(one_step, dg.ContrastiveDivergence(offset_rate=0.0)))
    position, slope = step(dg.engine.random.rng(3), m, batch)
    particles = {**position, "x": batch["x"]}
    assert set(particles) == {"v", "h", "x"}
    s, drawn = (m.statistics({"v": one["v"]})["v"] for one in (batch, particles))
    h, dreamt = (m.mean("h", {"v": one["v"], "x": batch["x"]}) for one in (batch, particles))
    np.testing.assert_allclose(to_numpy(dg, slope["h-x.weight"]), to_numpy(dg, (dreamt - h).T @ batch["x"]) / 4, **TOL)
    np.testing.assert_allclose(to_numpy(dg, slope["v-x.weight"]), to_numpy(dg, (drawn - s).T @ batch["x"]) / 4, **TOL)
    assert np.abs(to_numpy(dg, drawn - s)).max() > 0


def test_chains_of_contrastive_divergence_follow_their_own_rows(dg):
    """Many copies of two inputs: after one sweep from v = 0, h ~ p(h | v = 0, x), then v ~ p(v | h, x)."""
    m = machine(dg, "conditional_bernoulli", "float32")
    p = ROWS["conditional_bernoulli"].params()

    def check(seed, factor):
        rows = 2000 * factor
        x = np.repeat(X[1:3], rows, axis=0)
        batch = cases.arrays(dg, {"v": np.zeros((2 * rows, 3)), "x": x}, m.like)
        cd, rng = dg.ContrastiveDivergence(), dg.engine.random.rng(seed)
        chains = cd.before_step(rng, m, cd.init(rng, m, batch), batch, None)[1].chains.position
        h, v = (to_numpy(dg, chains[n]) for n in ("h", "v"))
        for r, at in enumerate(X[1:3]):
            mine = slice(r * rows, (r + 1) * rows)
            gate_mean(h[mine], expit(p["h.bias"] + p["h-x.weight"] @ at), 0.02)
            hidden = np.array(list(np.ndindex(2, 2)), float)
            on = expit(p["h.bias"] + p["h-x.weight"] @ at)
            weight = np.prod(np.where(hidden == 1, on, 1 - on), axis=1)
            gate_mean(v[mine], weight @ expit(p["v.bias"] + p["v-x.weight"] @ at + hidden @ p["v-h.weight"].T), 0.02)

    sampled(check, 66)


def copied(rows, seed):
    """Data whose bits are those of the input, and a last one that is any."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 2, (rows, 2)).astype(np.float32)
    return {"v": np.concatenate([x, rng.integers(0, 2, (rows, 1))], axis=1).astype(np.float32), "x": x}


def test_fit_learns_what_the_input_says(dg):
    """By default with contrastive divergence; to less than half of the entropy 3 log 2 that no input can explain."""
    data = copied(200, 67)
    m = dg.ConditionalRBM.init(3, 4, 2, rng=0, data=data["v"])
    before = dg.bounds(m, data, rng=0).lower.value
    result = dg.fit(m, data, optimizer=dg.sgd(0.2), epochs=60, batch_size=50, rng=0)
    assert list(result.history)[2] == "free_energy_gap"
    after = dg.bounds(result.model, data, rng=0).lower.value
    assert before == pytest.approx(-3 * np.log(2), abs=0.05)
    assert -np.log(2) - 0.4 < after <= -np.log(2) + 0.02
    assert isinstance(result.model, dg.ConditionalRBM)


@pytest.mark.slow
def test_batches_that_are_not_full_are_trained(dg):
    """Seven rows, three at a time, with row weights: those of weight zero count nothing."""
    data = copied(7, 68)
    weight = np.array([1, 1, 0, 1, 0, 1, 1], np.float32)
    m = dg.ConditionalRBM.init(3, 2, 2, rng=0)
    fitted = dg.fit(m, {**data, "weight": weight}, epochs=2, batch_size=3, rng=0).model
    assert np.isfinite(dg.bounds(fitted, data, rng=0).pointwise).all()


def test_gated_machines_are_trained_given_their_input(dg, double):
    """Weights that are scaled by the input: one matrix a row, by the same objective."""
    rng = np.random.default_rng(69)
    w = rng.standard_normal((3, 2, 2))
    m = dg.GatedRBM(w, input=dg.Given(2))
    v = rng.integers(0, 2, (4, 3)).astype(float)
    log_p = dg.bounds(m, {"v": v, "x": X}, rng=0).pointwise
    for r in range(4):
        one = dg.RBM(np.einsum("ijk,j->ik", w, X[r]))
        alone = one.marginal("v", log_normalizer="exact").log_prob(dg.engine.arrays.asarray(v[r]))
        assert log_p[r] == pytest.approx(float(alone), abs=1e-10)
    fitted = dg.fit(m, {"v": v, "x": X}, epochs=1, batch_size=2, rng=0).model
    assert np.abs(to_numpy(dg, fitted.params["v-x-h.weight"]) - w).max() > 0


# --- judging


@in_turn
def test_bounds_are_exact_given_the_input(dg, double, name, monkeypatch):
    """Whatever number of rows is enumerated at once."""
    m, truth, states = machine(dg, name), oracle(name), states_of(name)
    data = {"v": states["v"], "x": X}
    exact_p = truth.free_energies({"x": X}) - truth.free_energies(data)
    whole = dg.bounds(m, data, rng=0)
    monkeypatch.setattr(conditional, "ROWS", 3)
    for found in (whole, dg.bounds(m, data, rng=0)):
        np.testing.assert_allclose(found.pointwise, exact_p, **TOL)
        assert found.lower == found.upper
        assert found.lower.kind == "exact"
        assert found.lower.method == "enumeration given x"
        assert found.lower.value == pytest.approx(exact_p.mean(), abs=1e-10)


def test_compare_prefers_the_machine_that_made_the_data(dg):
    true = machine(dg, "conditional_bernoulli", "float32").with_params({"v-x.weight": 2.0 * np.ones((3, 2))})
    x = np.random.default_rng(70).standard_normal((200, 2)).astype(np.float32)
    v = to_numpy(dg, exact.draw_exact(dg.engine.random.rng(1), true.given({"x": x}), 1)["v"])[0]
    other = true.with_params({"v-x.weight": np.zeros((3, 2))})
    table = dg.compare({"other": other, "true": true}, {"v": v, "x": x}, rng=0)
    assert table.better_than("true") == ["other"]
    assert table.better_than("other") == []
    assert table.measure == "{0, 1}^3"


# --- hosts, kernels, files


def test_the_law_given_inputs_stands_in_a_plate_of_the_host(dg, double):
    m = machine(dg, "conditional_bernoulli")
    law = m.given({"x": X}).marginal("v", log_normalizer="exact")
    v, ppl = dg.engine.arrays.asarray(states_of("conditional_bernoulli")["v"]), dg.engine.host.ppl

    def program():
        with ppl.plate("data", 4):
            return ppl.sample("v", law, obs=v)

    if dg.engine.name == "numpyro":
        from numpyro.handlers import seed, trace

        total = trace(seed(program, 0)).get_trace()["v"]["fn"].log_prob(v).sum()
    else:
        import pyro

        total = pyro.poutine.trace(program).get_trace().log_prob_sum()
    truth = oracle("conditional_bernoulli")
    exact_p = truth.free_energies({"x": X}) - truth.free_energies({"v": to_numpy(dg, v), "x": X})
    np.testing.assert_allclose(to_numpy(dg, total), exact_p.sum(), **TOL)


def law_of(name, x):
    """p(v | x) of all v by the oracle."""
    truth = oracle(name)
    v = truth.states(["v"])["v"]
    log_f = np.array([-truth.free_energy({"v": row, "x": x}) for row in v])
    return np.exp(log_f - logsumexp(log_f))


@pytest.mark.parametrize("way", [pytest.param("exact", marks=pytest.mark.slow), "gibbs"])
def test_draws_follow_the_law_of_their_input(dg, way):
    m = machine(dg, "conditional_bernoulli", "float32").given({"x": X[1:3]})

    def check(seed, factor):
        rng, num = dg.engine.random.rng(seed), 3000 * factor
        if way == "exact":
            v = exact.draw_exact(rng, m, num)["v"]
        else:
            kernel = dg.BlockGibbs(sweeps=40)
            first, second = dg.engine.random.split(rng, 2)
            v = kernel.step(second, m, kernel.init(first, m, num))[0].position["v"]
        index = (to_numpy(dg, v) @ [4, 2, 1]).astype(int)
        for r, x in enumerate(X[1:3]):
            g_test(np.bincount(index[:, r], minlength=8), law_of("conditional_bernoulli", x))

    sampled(check, 71)


@every
def test_files_give_the_machine_back(dg, name, tmp_path):
    m = machine(dg, name, "float32")
    dg.save(m, tmp_path / "m.safetensors")
    other = dg.load(tmp_path / "m.safetensors")
    assert type(other) is dg.ConditionalRBM
    assert other.structure == m.structure
    v = dg.engine.arrays.asarray(states_of(name)["v"], like=m.like)
    x = dg.engine.arrays.asarray(X, like=m.like)
    np.testing.assert_array_equal(to_numpy(dg, other.free_energy({"v": v, "x": x})),
                                  to_numpy(dg, m.free_energy({"v": v, "x": x})))  # fmt: skip


# --- refusals


def needs(what):
    return rf"expected a machine given x for {what}, got ConditionalRBM\(.*\), .* use machine.given\(\{{'x': x\}}\)"


REFUSED = {
    "log Z": (lambda dg, m: dg.exact_log_normalizer(m), needs("its log Z")),
    "AIS": (lambda dg, m: dg.ais(m, rng=0, betas=3, num_runs=4), needs("its log Z")),
    "a marginal": (lambda dg, m: m.marginal("v", log_normalizer="exact"), needs("a marginal")),
    "a marginal without a policy": (lambda dg, m: m.marginal(), needs("a marginal")),
    "chains": (lambda dg, m: dg.BlockGibbs().init(dg.engine.random.rng(0), m, 3), needs("draws")),
    "tempering": (lambda dg, m: dg.ParallelTempering().init(dg.engine.random.rng(0), m, 3), needs("draws")),
    "the law of x": (lambda dg, m: m.mean("x", {"v": m.like, "h": m.like[:2]}), "it has no mean"),
    "a draw of x": (
        lambda dg, m: m.draw(dg.engine.random.rng(0), "x", {"v": m.like, "h": m.like[:2]}), "it has no draws",
    ),
    "a distribution of x": (lambda dg, m: m.conditional("x", {"v": m.like, "h": m.like[:2]}), "it has no distribution"),
    "a sum over x": (lambda dg, m: m.free_energy({"v": m.like, "h": m.like[:2]}), "it has no sum over its values"),
    "missing parts of x": (
        lambda dg, m: m.given({"x": X}, missing={"x": X > 0}), "expected masks of layers whose units are independent",
    ),
    "data without x": (
        lambda dg, m: dg.fit(m, np.zeros((4, 3), np.float32), rng=0),
        r"expected data with \['x'\], on which ConditionalRBM is conditioned, got \['v'\]",
    ),
    "test data without x": (lambda dg, m: dg.bounds(m, np.zeros((4, 3)), rng=0), r"expected test data with \['x'\]"),
    "x of another width": (
        lambda dg, m: dg.bounds(m, {"v": np.zeros((4, 3)), "x": np.zeros((4, 3))}, rng=0), "expected x of test data of",
    ),
    "x that is not finite": (lambda dg, m: m.given({"x": np.nan * X}), "expected finite values in x"),
    "persistent chains": (
        lambda dg, m: dg.fit(m, {"v": np.zeros((4, 3)), "x": X}, objective=dg.StochasticML(num_chains=4), rng=0),
        "expected a machine that is the same for every row for StochasticML, got ConditionalRBM given x, whose chains",
    ),
    "persistent chains in the host's SVI": (lambda dg, m: dg.StochasticML(num_chains=4).on(m), "use Contrastive"),
    "bounds by annealing": (
        lambda dg, m: dg.bounds(m, {"v": np.zeros((4, 3)), "x": X}, rng=0, options=dg.BoundsOptions(log_z="ais")),
        r"expected log_z='auto' and at most 2\^20 joint states .* for each row, got log_z='ais' and 2\^2 joint states",
    ),
    "too many states": (
        lambda dg, m: dg.bounds(m, {"v": np.zeros((4, 3)), "x": X}, rng=0, options=dg.BoundsOptions(exact_bits=1)),
        r"at most 2\^1 joint states \(exact_bits\) .* and 2\^2 joint states",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", list(REFUSED))
def test_what_needs_a_law_of_the_input_is_refused(dg, what):
    ask, sentence = REFUSED[what]
    with pytest.raises(ValueError, match=sentence):
        ask(dg, machine(dg, "conditional_bernoulli", "float32"))


def test_shapes_that_do_not_fit_are_refused(dg):
    w = np.zeros((3, 2), np.float32)
    with pytest.raises(
        ValueError, match=r"expected weights of shapes \(V, H\), \(V, X\) and \(H, X\), got shapes \[\(3"
    ):
        dg.ConditionalRBM(w, w[0], w)
    with pytest.raises(ValueError, match=r"expected h-x\.weight of shape \(2, 2\), got shape \(3, 2\)"):
        dg.ConditionalRBM(w, w, w)
    with pytest.raises(ValueError, match="expected a positive integer for input, got 0"):
        dg.ConditionalRBM.init(3, 2, 0, rng=0)


def test_couplings_without_bounds_that_the_input_scales_are_refused(dg):
    """Two Gaussian layers: the joint precision depends on x, which may be as large as it likes."""
    with pytest.raises(
        ValueError, match="expected a normalizable machine, got two layers without bounds in ThirdOrder"
    ):
        dg.GatedRBM(np.zeros((2, 2, 2), np.float32), visible=dg.Gaussian(2), input=dg.Given(2), hidden=dg.Gaussian(2))
    dg.ConditionalRBM.init(dg.Gaussian(2), dg.Gaussian(2), 2, rng=0)  # here x moves biases alone
