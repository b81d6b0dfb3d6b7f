"""Steps of contrastive objectives, in `fit` and in the hosts' SVI, each on another batch, against loops by hand."""

import dataclasses
import itertools

import cases
import numpy as np
import pytest
from cases import CASES, to_numpy
from scipy.special import expit
from test_contrastive import svi_run

from deepgen_ppl.kernels.block_gibbs import BlockGibbs, GibbsInfo, GibbsState
from deepgen_ppl.objectives.contrastive import ContrastiveDivergence, StochasticML

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
