"""Steps of contrastive objectives, in `fit` and in the hosts' SVI, each on another batch, against loops by hand."""

import dataclasses
import functools
import itertools

import cases
import numpy as np
import pytest
from cases import CASES, to_numpy
from oracles import BINARY, Oracle, energy_layers
from scipy.special import expit
from test_contrastive import svi_run

from deepgen_ppl.energies.mean_field import mean_field_bound
from deepgen_ppl.kernels.block_gibbs import BlockGibbs, GibbsInfo, GibbsState
from deepgen_ppl.kernels.kernel import Kernel
from deepgen_ppl.objectives.contrastive import StochasticML
from deepgen_ppl.objectives.contrastive_divergence import ContrastiveDivergence

RATE, OFFSET_RATE, CHAINS = 0.3, 0.2, 5
TOL = {"atol": 1e-10, "rtol": 1e-10}
LAYERED = ["rbm_centered", "dbm2", "dbm3_centered"]


def batches(name, sizes=(3, 1, 4, 2)):
    """Batches of several sizes, all of other rows."""
    rows = np.random.default_rng(61).integers(0, 2, (sum(sizes), CASES[name].blocks["v"][0])).astype(float)
    return np.split(rows, np.cumsum(sizes)[:-1])


def first_states(name):
    rng = np.random.default_rng(62)
    return {n: rng.choice(values, (CHAINS, size)) for n, (size, values) in CASES[name].blocks.items()}


@dataclasses.dataclass(frozen=True)
class Rolling(BlockGibbs):
    """Chains whose units move round: another state at every step, and a known one."""

    row: str = "rbm_centered"

    def init(self, rng, target, num_chains):
        return GibbsState(
            {n: target.engine.arrays.asarray(x, like=target.like) for n, x in first_states(self.row).items()}
        )

    def step(self, rng, target, state):
        roll = target.engine.xp.roll
        return GibbsState({n: roll(x, 1, axis=-1) for n, x in state.position.items()}), GibbsInfo(1.0)


class ByHand:
    """Binary layers in a row, each coupled to the next: the formulas of the papers, one step a call."""

    def __init__(self, name, *, iterations, average=False):
        case = CASES[name]
        self.names, self.iterations, self.average = list(case.blocks), iterations, average
        self.b = {n: case.params[f"{n}.bias"] for n in self.names}
        self.w = {pair: case.params[f"{'-'.join(pair)}.weight"] for pair in itertools.pairwise(self.names)}
        self.centered = [n for n in self.names if f"{n}.offset" in case.constants]
        self.mu = {n: case.constants.get(f"{n}.offset", np.zeros(len(self.b[n]))) for n in self.names}
        self.means = {n: self.mu[n] for n in self.centered}
        self.chains = first_states(name)

    def eta(self, n, s):
        """b_n and what the neighbors send."""
        k = self.names.index(n)
        below, above = self.names[k - 1 : k], self.names[k + 1 : k + 2]
        out = self.b[n] + sum(s[m] @ self.w[m, n] for m in below)
        return out + sum(s[m] @ self.w[n, m].T for m in above)

    def centered_mean(self, n, s):
        return expit(self.eta(n, s)) - self.mu[n]

    def positive(self, x):
        """Mean field from the biases: the layers of odd depth, then those of even depth."""
        s = {"v": x - self.mu["v"]}
        s |= {n: np.tile(expit(self.b[n]) - self.mu[n], (len(x), 1)) for n in self.names[1:]}
        for _ in range(self.iterations):
            for group in (self.names[1::2], self.names[2::2]):
                s |= {n: self.centered_mean(n, s) for n in group}
        return s

    def negative(self):
        """The layers of even depth as they are, the means of the others given them."""
        s = {n: self.chains[n] - self.mu[n] for n in self.names[::2]}
        return s | {n: self.centered_mean(n, s) for n in self.names[1::2]}

    def move_offsets(self):
        shift = {n: OFFSET_RATE * (self.means[n] - self.mu[n]) for n in self.centered}
        full = {n: shift.get(n, 0.0 * self.mu[n]) for n in self.names}
        self.b = {n: self.eta(n, full) for n in self.names}
        self.mu = {n: self.mu[n] + full[n] for n in self.names}

    def step(self, x, weight=None):
        self.move_offsets()
        self.chains = {n: np.roll(c, 1, axis=-1) for n, c in self.chains.items()}
        s, m = self.positive(x), self.negative()
        weight = np.ones(len(x)) if weight is None else weight
        share, total = weight / len(x), weight.sum() / len(x)
        for n in self.centered:
            self.means[n] = share @ s[n] / total + self.mu[n]
            if self.average:
                self.means[n] = 0.5 * (self.means[n] + self.chains[n].mean(0))
        for n in self.names:
            self.b[n] = self.b[n] + RATE * (share @ s[n] - total * m[n].mean(0))
        for a, b in self.w:
            phases = s[a].T @ (share[:, None] * s[b]) - total * m[a].T @ m[b] / CHAINS
            self.w[a, b] = self.w[a, b] + RATE * phases

    def arrays(self):
        """Everything under its name in the library."""
        out = {f"{n}.bias": b for n, b in self.b.items()} | {f"{n}.offset": self.mu[n] for n in self.centered}
        return out | {f"{a}-{b}.weight": w for (a, b), w in self.w.items()}


def run(dg, m, data, objective):
    """`fit` over the batches, once."""
    return dg.fit(m, data, objective=objective, optimizer=dg.sgd(RATE), epochs=1, rng=0, progress=False)


def check_steps(dg, name, *, iterations=2, weighted=False, **options):
    """Parameters, offsets, chains and means after four steps of `fit` are those of the loop by hand."""
    hand = ByHand(name, iterations=iterations, average=options.get("offsets") == "average")
    objective = StochasticML(
        Rolling(row=name), num_chains=CHAINS, offset_rate=OFFSET_RATE, hidden_bound=dg.MeanField(iterations), **options
    )
    data, weights = batches(name), [None] * 4
    if weighted:
        weights = [np.random.default_rng(63).uniform(0.1, 3, len(x)) for x in data]
        data = [{"v": x, "weight": w} for x, w in zip(data, weights, strict=True)]
    fit = run(dg, cases.machine(dg, name), data, objective)
    for x, w in zip(batches(name), weights, strict=True):
        hand.step(x, w)
    got = to_numpy(dg, {**fit.model.params, **fit.model.constants})
    for k, expected in hand.arrays().items():
        np.testing.assert_allclose(got[k], expected, **TOL, err_msg=k)
    state = fit.state.objective
    for n, expected in hand.chains.items():
        np.testing.assert_array_equal(to_numpy(dg, state.chains.position[n]), expected)
    assert state.means.keys() == hand.means.keys()
    for n, expected in hand.means.items():
        np.testing.assert_allclose(to_numpy(dg, state.means[n]), expected, **TOL, err_msg=n)


@pytest.mark.parametrize("name", LAYERED)
def test_steps_of_fit_are_those_of_a_loop_by_hand(dg, double, name):
    check_steps(dg, name)


@pytest.mark.parametrize("name", ["rbm_centered", "dbm3_centered"])
def test_steps_with_offsets_between_both_phases(dg, double, name):
    check_steps(dg, name, offsets="average")


@pytest.mark.parametrize("name", ["rbm_centered", "dbm3_centered"])
def test_steps_with_row_weights(dg, double, name):
    check_steps(dg, name, weighted=True)


def check_divergence(dg):
    """Two steps of contrastive divergence where units leave no doubt: the particles are f(x) for the rows at hand."""
    w, c = 80.0 * np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]), np.array([-40.0, -40.0])
    b = np.full(4, -40.0)
    data = [np.array([[1.0, 0, 0, 0], [1, 0, 0, 1]]), np.array([[0.0, 0, 1, 0], [0, 0, 0, 0]])]
    arrays = {"v-h.weight": w, "v.bias": b, "h.bias": c + np.array([-10.0, -10.0])}
    m = dg.RBM(*(dg.engine.arrays.asarray(arrays[k]) for k in ("v-h.weight", "v.bias", "h.bias")))
    fit = run(dg, m, data, ContrastiveDivergence(offset_rate=0.0))
    for x in data:
        h = expit(arrays["h.bias"] + x @ arrays["v-h.weight"])
        v = expit(arrays["v.bias"] + np.round(h) @ arrays["v-h.weight"].T).round()
        p = expit(arrays["h.bias"] + v @ arrays["v-h.weight"])
        assert np.abs(v - x).sum() > 0
        arrays["v.bias"] = arrays["v.bias"] + RATE * (x - v).mean(0)
        arrays["h.bias"] = arrays["h.bias"] + RATE * (h - p).mean(0)
        arrays["v-h.weight"] = arrays["v-h.weight"] + RATE * (x.T @ h - v.T @ p) / len(x)
    for k, expected in arrays.items():
        np.testing.assert_allclose(to_numpy(dg, fit.model.params[k]), expected, **TOL, err_msg=k)


def test_contrastive_divergence_starts_at_the_rows_at_hand(dg, double):
    check_divergence(dg)


def check_means_of_a_padded_batch(dg):
    """Rows that pad a batch move no offset."""
    m, x = cases.machine(dg, "dbm3_centered"), batches("dbm3_centered")[2]
    asarray, rng = dg.engine.arrays.asarray, dg.engine.random.rng(0)
    objective = StochasticML(Rolling(row="dbm3_centered"), num_chains=CHAINS)
    means = []
    for rows, mask in ((x[:2], None), (x, np.array([1.0, 1, 0, 0]))):
        batch = {"v": asarray(rows, like=m.like)}
        mask = None if mask is None else asarray(mask, like=m.like)
        means.append(objective.before_step(rng, m, objective.init(rng, m, batch), batch, mask)[1].means)
    for n in means[0]:
        np.testing.assert_allclose(to_numpy(dg, means[1][n]), to_numpy(dg, means[0][n]), **TOL)


def test_means_of_a_padded_batch(dg, double):
    check_means_of_a_padded_batch(dg)


def test_offsets_stay_where_no_row_counts(dg, double):
    """A batch of weight zero moves nothing, and divides by nothing."""
    m, x = cases.machine(dg, "rbm_centered"), batches("rbm_centered")[0]
    objective = StochasticML(Rolling(), num_chains=CHAINS, offset_rate=OFFSET_RATE)
    fit = run(dg, m, [{"v": x, "weight": np.zeros(3)}] * 2, objective)
    for k, v in {**m.params, **m.constants}.items():
        np.testing.assert_allclose(
            to_numpy(dg, {**fit.model.params, **fit.model.constants}[k]), to_numpy(dg, v), **TOL, err_msg=k
        )


@dataclasses.dataclass(frozen=True)
class Noisy(BlockGibbs):
    """Visible units that hold the noise of the last steps, the newest first."""

    def step(self, rng, target, state):
        v = state.position["v"]
        noise = target.engine.random.uniform(rng, (v.shape[0], 1), target.like)
        v = target.engine.xp.concat([noise, v[:, :-1]], axis=-1)
        return GibbsState({**state.position, "v": v}), GibbsInfo(1.0)


def check_noise_of_steps(dg):
    """Two epochs of two steps: each has draws of its own."""
    m, x = cases.machine(dg, "rbm", np.float32), np.concatenate(batches("rbm"))
    objective = StochasticML(Noisy(), num_chains=3)
    fit = dg.fit(m, x, objective=objective, epochs=2, batch_size=5, rng=4, progress=False)
    noise = to_numpy(dg, fit.state.objective.chains.position["v"]).T
    for a, b in itertools.combinations(noise, 2):
        assert np.abs(a - b).max() > 0.01


def test_every_step_has_noise_of_its_own(dg):
    check_noise_of_steps(dg)


# --- inside the hosts' SVI


def check_learner(dg, name, num_data=100):
    """Steps of the host's own SVI on batches of two sizes; the mean field is a constant of differentiation."""
    hand, m = ByHand(name, iterations=1), cases.machine(dg, name)
    hand.centered = []  # the offsets stay
    objective = StochasticML(Rolling(row=name), num_chains=CHAINS, hidden_bound=dg.MeanField(1))
    rows = batches(name, (3, 2))
    data = [dg.engine.arrays.asarray(x, like=m.like) for x in rows]
    run = svi_run(dg, objective.on(m), data[0], RATE / num_data, num_data=num_data)
    for run.x, x in zip(data, rows, strict=True):
        run.step()
        hand.step(x)
    got = run.params()
    for k, expected in hand.arrays().items():
        np.testing.assert_allclose(got[k], expected, **TOL, err_msg=k)
    for n, expected in hand.chains.items():
        np.testing.assert_array_equal(run.chains()[n], expected)


def test_svi_on_batches_of_other_sizes(dg, double, param_store):
    check_learner(dg, "dbm3_centered")


# --- layers that the data name


LABELS = (("v", "h"), ("h", "y"))
LABELS_APART = (("v", "h"), ("v", "y"))


@functools.cache
def labeled(pairs, seed=64):
    """(arrays, oracle) of binary v and h and a label y of three states; weights are whole multiples of log 2."""
    widths, rng = {"v": 2, "h": 2, "y": 3}, np.random.default_rng(seed)
    params = {f"{n}.bias": np.log(2) * rng.integers(-1, 2, size) for n, size in widths.items()}
    params |= {f"{a}-{b}.weight": np.log(2) * rng.integers(-1, 2, (widths[a], widths[b])) for a, b in pairs}
    kinds = {"v": "bernoulli", "h": "bernoulli", "y": ("categorical", 3)}
    blocks = {"v": (2, BINARY), "h": (2, BINARY), "y": (1, np.arange(3.0))}
    return params, Oracle(energy_layers(kinds, pairs), params, blocks)


def labeled_machine(dg, pairs, params, dtype=np.float64):
    layers = {"v": dg.Bernoulli(2), "h": dg.Bernoulli(2), "y": dg.Categorical(1, 3)}
    return dg.BoltzmannMachine(layers, [dg.Dense(pair) for pair in pairs], cases.to_engine(dg, params, dtype))


@functools.cache
def whole_law(pairs):
    """Every state as often as it is likely: particles whose means are exact."""
    _, truth = labeled(pairs)
    states = truth.states(["v", "h", "y"])
    times = np.exp2(-truth.energies(states) / np.log(2))
    times = np.rint(times / times.min()).astype(int)
    return {n: np.repeat(x, times, axis=0) for n, x in states.items()}


@dataclasses.dataclass(frozen=True)
class Whole(Rolling):
    """Chains that are the whole law of the first machine, and stay."""

    pairs: tuple = LABELS

    def init(self, rng, target, num_chains):
        asarray = target.engine.arrays.asarray
        return GibbsState({n: asarray(x, like=target.like) for n, x in whole_law(self.pairs).items()})

    def step(self, rng, target, state):
        return state, GibbsInfo(1.0)


V = np.array([[0.0, 1], [1, 1], [1, 0], [1, 1], [0, 0]])
Y = np.array([[2.0], [0], [1], [2], [2]])


def check_named_layers(dg, pairs, data, take):
    """The step is the exact gradient of the mean log p of the layers named, all others summed out."""
    params, truth = labeled(pairs)
    m = labeled_machine(dg, pairs, params)
    rows = [truth.expected_gradient({n: x[r] for n, x in data.items()}) for r in range(len(V))]
    expected = {
        k: params[k] + RATE * (np.mean([row[k] for row in rows], axis=0) - g) for k, g in truth.model_gradient.items()
    }
    for k, v in take(m, Whole(pairs=pairs), data).items():
        np.testing.assert_allclose(v, expected[k], **TOL, err_msg=k)


NAMED = [(LABELS, {"v": V, "y": Y}), (LABELS_APART, {"v": V, "y": Y}), (LABELS_APART, {"v": V})]


@pytest.mark.parametrize(("pairs", "data"), NAMED, ids=["v-h-y", "h-v-y", "h-v-y without y"])
def test_layers_that_the_data_name_are_clamped(dg, double, pairs, data):
    def take(m, kernel, data):
        return to_numpy(dg, run(dg, m, data, StochasticML(kernel, offset_rate=0.0)).model.params)

    check_named_layers(dg, pairs, data, take)


@pytest.mark.parametrize(("pairs", "data"), NAMED, ids=["v-h-y", "h-v-y", "h-v-y without y"])
def test_layers_that_the_data_name_are_clamped_in_svi(dg, double, param_store, pairs, data):
    def take(m, kernel, data):
        x = cases.arrays(dg, data, m.like)
        svi = svi_run(dg, StochasticML(kernel).on(m), x, RATE / len(V))
        svi.step()
        return svi.params()

    check_named_layers(dg, pairs, data, take)


@pytest.mark.parametrize("named", [("v", "h3"), ("v", "h2")])
def test_mean_field_beside_layers_that_the_data_name(dg, double, named):
    """log f(v, y) less its bound is KL(q || p(other layers | v, y))."""
    name = "dbm3_centered"
    m, truth = cases.machine(dg, name), cases.oracle(name)
    state = {n: np.random.default_rng(65).integers(0, 2, (2, CASES[name].blocks[n][0])).astype(float) for n in named}
    clamped = cases.arrays(dg, state, m.like)
    eta = dg.MeanField(3).solve(m, clamped)
    assert eta.keys() == set(truth.blocks) - set(named)
    bound = to_numpy(dg, mean_field_bound(m, clamped, eta))
    for r in range(2):
        row = {n: x[r] for n, x in state.items()}
        on = {n: expit(to_numpy(dg, e)[r]) for n, e in eta.items()}
        kl = truth.mean_field_kl({n: np.stack([1 - p, p], -1) for n, p in on.items()}, row)
        assert bound[r] == pytest.approx(-truth.free_energy(row) - kl, abs=1e-10)


def test_contrastive_divergence_between_named_layers(dg, double):
    """h is drawn from v and y of the row at hand, then both from h: here all without a doubt."""
    params = {"v.bias": [-40.0, -40], "h.bias": [-60.0, -60], "y.bias": [0.0, 0, 0]}
    params |= {"v-h.weight": 80 * np.eye(2), "h-y.weight": [[0.0, 90, 0], [0, 0, 90]]}
    m = labeled_machine(dg, LABELS, params)
    batch = cases.arrays(dg, {"v": np.array([[1.0, 0], [0, 0]]), "y": np.array([[0.0], [2]])}, m.like)
    objective, rng = ContrastiveDivergence(), dg.engine.random.rng(0)
    _, state = objective.before_step(rng, m, objective.init(rng, m, batch), batch, None)
    np.testing.assert_array_equal(to_numpy(dg, state.chains.position["v"]), np.eye(2))
    np.testing.assert_array_equal(to_numpy(dg, state.chains.position["y"]), [[1.0], [2]])


WRONG = {
    "unknown": ({"v": V, "z": V}, r"expected data among \['h', 'v', .*'y'\] for BoltzmannMachine, got \['z'\]"),
    "missing": ({"y": Y}, r"expected data with \['v'\], which BoltzmannMachine observes, got \['y'\]"),
    "values": ({"v": V, "y": Y + 1}, "y of data: expected integers from 0 to 2 for Categorical units, got"),
    "width": ({"v": V, "y": np.eye(3)[[0, 1, 2, 0, 1]]}, r"expected y of data of shape \(\.\.\., 1\)"),
    "length": ({"v": V, "y": Y[:3]}, "expected data of one length"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_layers_are_named(dg, param_store, wrong):
    data, sentence = WRONG[wrong]
    m = labeled_machine(dg, LABELS, labeled(LABELS)[0], np.float32)
    objective = StochasticML(num_chains=3)
    with pytest.raises(ValueError, match=sentence):
        dg.fit(m, data, objective=objective, progress=False)
    with pytest.raises(ValueError, match=sentence):
        svi_run(dg, objective.on(m), data, 0.1).step()


WRONG_WEIGHTS = {"sign": np.array([1.0, -1, 1, 1, 1]), "shape": np.ones((5, 1)), "nan": np.full(5, np.nan)}


@pytest.mark.parametrize("wrong", WRONG_WEIGHTS)
def test_wrong_weights_are_refused(dg, wrong):
    m = dg.RBM.init(rng=0, visible=2, hidden=2)
    sentence = "expected weight of data as one number a row, finite and not negative, got shape"
    with pytest.raises(ValueError, match=sentence):
        dg.fit(m, {"v": V, "weight": WRONG_WEIGHTS[wrong]}, progress=False)


def test_no_layer_may_have_the_name_of_the_weights(dg):
    params = {"v.bias": np.zeros(2), "weight.bias": np.zeros(2), "v-weight.weight": np.zeros((2, 2))}
    layers = {"v": dg.Bernoulli(2), "weight": dg.Bernoulli(2)}
    m = dg.BoltzmannMachine(layers, [dg.Dense(("v", "weight"))], cases.to_engine(dg, params, np.float32))
    with pytest.raises(
        ValueError, match=r"expected a model that takes no data named \['weight'\]: the name is reserved"
    ):
        dg.fit(m, V, progress=False)


# --- as users of the hosts write it


def test_the_hosts_own_loops(dg_numpyro, dg_pyro, param_store):
    """NumPyro's compiled `run` with a plain plate size; Pyro over an iterable of batches: both leave the first law."""
    import jax
    import optax
    import pyro
    from numpyro.infer import SVI

    x = np.concatenate(batches("rbm_centered")).astype(np.float32)
    learner = StochasticML(num_chains=4).on(cases.machine(dg_numpyro, "rbm_centered", np.float32), rng=1)
    result = SVI(learner.model, learner.guide, optax.adam(0.01), learner.loss).run(
        jax.random.key(0), 5, x, num_data=100, progress_bar=False
    )
    assert np.isfinite(result.losses).all()
    trained = learner.machine.with_params(result.params)
    moved = [np.abs(np.asarray(v - learner.machine.params[k])).max() for k, v in trained.params.items()]
    assert min(moved) > 1e-3

    learner = StochasticML(num_chains=4).on(cases.machine(dg_pyro, "rbm_centered", np.float32), rng=1)
    svi = pyro.infer.SVI(learner.model, learner.guide, pyro.optim.Adam({"lr": 0.01}), learner.loss)
    before = to_numpy(dg_pyro, dict(learner.machine.params))
    before = {k: v.copy() for k, v in before.items()}
    for batch in batches("rbm_centered"):
        assert np.isfinite(svi.step(batch, num_data=100))
    assert min(np.abs(to_numpy(dg_pyro, v) - before[k]).max() for k, v in learner.machine.params.items()) > 1e-3


@dataclasses.dataclass(frozen=True)
class Seeing(BlockGibbs):
    """Chains that say whether their target has offsets."""

    def step(self, rng, target, state):
        seen = float("v.offset" in target.constants)
        return GibbsState({n: 0.0 * x + seen for n, x in state.position.items()}), GibbsInfo(1.0)


def test_kernels_get_the_machine_as_it_is(dg, param_store):
    m, x = cases.machine(dg, "rbm_centered", np.float32), batches("rbm_centered")[0].astype(np.float32)
    objective = StochasticML(Seeing(), num_chains=2)
    chains = [to_numpy(dg, run(dg, m, [x], objective).state.objective.chains.position["v"])]
    svi = svi_run(dg, objective.on(m), dg.engine.arrays.asarray(x), 0.1)
    svi.step()
    for v in (*chains, svi.chains()["v"]):
        np.testing.assert_array_equal(v, 1.0)


def test_joint_data_have_no_value_under_another_objective(dg, param_store):
    """The hosts' own ELBO is NaN, which Pyro refuses: never a number."""
    m = labeled_machine(dg, LABELS, labeled(LABELS)[0], np.float32)
    learner, x = StochasticML(num_chains=3).on(m), {"v": V, "y": Y}
    if dg.engine.name == "numpyro":
        import jax
        from numpyro.infer import Trace_ELBO

        value = Trace_ELBO().loss(jax.random.key(0), dict(m.params), learner.model, learner.guide, x)
        assert np.isnan(value)
    else:
        from pyro.infer import Trace_ELBO

        with pytest.raises(ValueError, match="log_factor .* found invalid values"):
            Trace_ELBO().loss(learner.model, learner.guide, x)


@pytest.mark.parametrize("num_data", [0, -3, 1.5])
def test_sizes_of_data_sets_are_checked(dg, param_store, num_data):
    m = cases.machine(dg, "rbm", np.float32)
    with pytest.raises(ValueError, match=f"expected a positive integer for num_data, got {num_data}"):
        StochasticML(num_chains=3).on(m).model(batches("rbm")[0], num_data=num_data)


def test_a_learner_shows_what_it_is(dg):
    learner = StochasticML(num_chains=3).on(cases.machine(dg, "rbm", np.float32))
    assert repr(learner).startswith("MachineLearner(RBM(v: Bernoulli(4), h: Bernoulli(3); v-h; ")
    assert repr(learner).endswith("kernel=BlockGibbs(sweeps=1), num_chains=3)")


# --- what an objective needs


def test_objectives_say_what_they_need(dg):
    vae = dg.VAE.init(rng=0, likelihood=dg.Bernoulli(4), latent=2, hidden=(3,))
    m = cases.machine(dg, "rbm", np.float32)
    for objective in (StochasticML(), ContrastiveDivergence()):
        assert objective.check(m) is None
        assert not objective.has_value
        assert objective.default_optimizer == ("sgd", 0.05)
        kind = type(objective).__name__
        with pytest.raises(TypeError, match=f"expected a model with free_energy and blocks for {kind}, got VAE"):
            objective.check(vae)
    assert dg.ELBO().check(vae) is None
    assert dg.ELBO().has_value
    with pytest.raises(TypeError, match="expected a model with model and guide for ELBO, got RBM, which has no model"):
        dg.ELBO().check(m)


def test_options_that_mean_nothing_are_refused():
    with pytest.raises(TypeError, match=r"expected a kernel, such as BlockGibbs\(sweeps=1\) for kernel, got 20"):
        StochasticML(20)
    with pytest.raises(TypeError, match="positional"):
        StochasticML(BlockGibbs(), 20)
    with pytest.raises(TypeError, match="hidden_bound"):
        ContrastiveDivergence(hidden_bound=None)
    with pytest.raises(TypeError, match=r"expected BlockGibbs\(sweeps=...\), whose chains can start at the data"):
        ContrastiveDivergence(Other())


class Other(Kernel):
    """A kernel whose state is its own affair."""

    def init(self, rng, target, num_chains): ...

    def step(self, rng, target, state): ...
