"""Contrastive learning: each phase is averaged over its own chains, and with exact particles the gradient is exact."""

import cases
import numpy as np
import pytest
from cases import CASES, COUPLED, FINITE, compiled, oracle, to_numpy
from gates import gate_mean, sampled
from test_kernels import exact_states

from deepgen_ppl.kernels.block_gibbs import BlockGibbs, GibbsInfo, GibbsState
from deepgen_ppl.objectives import contrastive
from deepgen_ppl.objectives.contrastive import StochasticML
from deepgen_ppl.objectives.contrastive_divergence import ContrastiveDivergence

DISCRETE_HIDDEN = [n for n, case in CASES.items() if all(v is not None for _, v in list(case.blocks.values())[1:])]
_gradients = {}


def data(name, rows, seed=51):
    """Rows of the visible layer that are not the machine's own."""
    size, values = CASES[name].blocks["v"]
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rows, size)) if values is None else rng.choice(values, (rows, size))


def loss_and_gradient(dg, objective, m, position, x, mask=None, eta=None):
    """`batch_loss` and its gradient at given particles, as NumPy arrays."""

    def loss(params, m, position, eta, x, mask):
        state = contrastive.PhaseState(GibbsState(position), eta, {})
        return objective.batch_loss(None, m.with_params(params), state, {"v": x}, mask, 100)[0]

    key = (dg.engine.name, objective)
    if key not in _gradients:
        fn = dg.engine.control.value_and_grad(loss)
        if dg.engine.name == "numpyro":
            import jax

            fn = jax.jit(fn)
        _gradients[key] = fn
    x, mask = (None if a is None else dg.engine.arrays.asarray(a, like=m.like) for a in (x, mask))
    value, grad = _gradients[key](m.params, m, cases.arrays(dg, position, m.like), eta or {}, x, mask)
    return float(value), to_numpy(dg, grad)


def kept(m, position):
    """Values of the layers that the negative phase keeps: all but those of the second color."""
    return {n: position[n] for n in position if n not in (*m.structure.colors, (), ())[1]}


def exact_phases(name, m, position, x):
    """(mean of E[-dE | x] over the data, mean of E[-dE | the layers kept] over the particles), by enumeration."""
    truth, keep = oracle(name), kept(m, position)
    positive = [truth.expected_gradient({"v": row}) for row in x]
    negative = [truth.expected_gradient({n: position[n][r] for n in keep}) for r in range(len(position["v"]))]
    return tuple({k: np.mean([g[k] for g in rows], axis=0) for k in rows[0]} for rows in (positive, negative))


# --- the phases


def check_phases(dg, name, rows, chains):
    """Value and gradient by enumeration, with as many data and particles as these."""
    m, truth = cases.machine(dg, name), oracle(name)
    x, position = data(name, rows), exact_states(name, chains, 52)
    value, grad = loss_and_gradient(dg, StochasticML(num_chains=chains), m, position, x)
    free = [truth.free_energies(state).mean() for state in ({"v": x}, kept(m, position))]
    assert value == pytest.approx(free[0] - free[1], abs=1e-9)
    positive, negative = exact_phases(name, m, position, x)
    for k, g in grad.items():
        np.testing.assert_allclose(g, negative[k] - positive[k], atol=1e-9, err_msg=k)


@pytest.mark.parametrize(("rows", "chains"), [(7, 13), (13, 7), (1, 100)])
def test_each_phase_is_averaged_over_its_own_rows(dg, double, rows, chains):
    check_phases(dg, "rbm_centered", rows, chains)


@pytest.mark.parametrize("name", [n for n in DISCRETE_HIDDEN if n not in COUPLED])
def test_phases_of_every_family(dg, double, name):
    check_phases(dg, name, 5, 9)


@pytest.mark.parametrize("name", [n for n in DISCRETE_HIDDEN if n in COUPLED])
def test_phases_of_joined_layers(dg, double, name):
    """The positive phase is E_q[-dE], q the mean field; the particles' one sums a color out."""
    from test_machines import unit_law

    m, truth = cases.machine(dg, name), oracle(name)
    x, position = data(name, 3), exact_states(name, 5, 53)
    objective = StochasticML(num_chains=5, hidden_bound=dg.MeanField(20))
    eta = objective.hidden_bound.solve(m, dg.engine.arrays.asarray(x, like=m.like))
    _, grad = loss_and_gradient(dg, objective, m, position, x, eta=eta)
    _, negative = exact_phases(name, m, position, x[:1])
    positive = []
    for r, row in enumerate(x):
        full, _ = truth.posterior({"v": row})
        q = truth.factorized({n: unit_law(dg, m, (name, n), e[r]) for n, e in eta.items()}, {"v": row})
        positive.append(truth.gradient(full, q))
    for k, g in grad.items():
        exact = np.mean([p[k] for p in positive], axis=0) + negative[k]
        np.testing.assert_allclose(g, exact, atol=1e-9, err_msg=k)


@pytest.mark.parametrize("objective", [StochasticML(num_chains=8), ContrastiveDivergence()], ids=["sml", "cd"])
def test_rows_that_pad_a_batch_count_for_nothing(dg, double, objective):
    """Five rows padded to eight: the data's phase is that of the five, and so are CD's particles."""
    m = cases.machine(dg, "rbm_centered")
    x, position = data("rbm_centered", 8), exact_states("rbm_centered", 8, 54)
    mask = np.array([1.0] * 5 + [0.0] * 3)
    own = {n: v[:5] for n, v in position.items()} if isinstance(objective, ContrastiveDivergence) else position
    short, padded = (
        loss_and_gradient(dg, objective, m, own, x[:5]),
        loss_and_gradient(dg, objective, m, position, x, mask),
    )
    assert padded[0] == pytest.approx(short[0], abs=1e-12)
    for k, g in padded[1].items():
        np.testing.assert_allclose(g, short[1][k], atol=1e-12, err_msg=k)


# --- the gradient


def repeated_gradients(dg, name, objective, x, chains, repetitions, seed):
    """Gradients at `repetitions` sets of exact particles, flat: (repetitions, parameters)."""
    m = cases.machine(dg, name, np.float32)
    position = exact_states(name, chains * repetitions, seed)
    rows = []
    for r in range(repetitions):
        at = {n: v[r * chains : (r + 1) * chains] for n, v in position.items()}
        rows.append(np.concatenate([g.ravel() for g in loss_and_gradient(dg, objective, m, at, x)[1].values()]))
    return np.array(rows)


def check_gradient(dg, name, run=sampled):
    """Minus the likelihood gradient, on average over exact particles."""
    objective, x = StochasticML(num_chains=20), data(name, 6)
    m = cases.machine(dg, name, np.float32)
    exact = oracle(name).likelihood_gradient(x, "v")
    exact = -np.concatenate([exact[k].ravel() for k in sorted(m.params)])

    def check(seed, factor):
        got = repeated_gradients(dg, name, objective, x, 20, 300 * factor, seed)
        order = np.concatenate([np.full(v.size, k) for k, v in to_numpy(dg, m.params).items()])
        if dg.engine.name == "pyro":  # JAX sorts the keys of a dict
            got = got[:, np.argsort(order, kind="stable")]
        gate_mean(got, exact, 0.05)

    run(check, 55)


@pytest.mark.parametrize("name", [n for n in FINITE if n not in COUPLED])
def test_gradient_with_exact_particles(dg, name):
    check_gradient(dg, name)


def test_contrastive_divergence_of_many_sweeps_is_the_gradient(dg):
    """From the data, after 25 sweeps, the particles have forgotten them."""
    name, objective = "rbm_centered", ContrastiveDivergence(BlockGibbs(25), offset_rate=0.0)
    m, x = cases.machine(dg, name, np.float32), data(name, 6)
    exact = oracle(name).likelihood_gradient(x, "v")

    def before_step(rng, m, x):
        state = objective.init(rng, m, {"v": x})
        return objective.before_step(rng, m, state, {"v": x}, None)[1].chains.position

    before_step = compiled(dg, before_step)

    def check(seed, factor):
        rows = []
        rngs = [dg.engine.random.rng(seed * 100_000 + r) for r in range(200 * factor)]
        for rng in rngs:
            position = to_numpy(dg, before_step(rng, m, dg.engine.arrays.asarray(x, like=m.like)))
            grad = loss_and_gradient(dg, objective, m, position, x)[1]
            rows.append(np.concatenate([grad[k].ravel() for k in sorted(grad)]))
        gate_mean(np.array(rows), -np.concatenate([exact[k].ravel() for k in sorted(exact)]), 0.05)

    sampled(check, 56)


def test_contrastive_divergence_starts_at_the_data(dg):
    """One sweep from the data: hidden layers drawn from the rows, then visible ones, chain by chain."""
    m = cases.machine(dg, "rbm", np.float32)
    frozen = m.with_params({"v-h.weight": 100 * abs(m.params["v-h.weight"]), "v.bias": 0 * m.params["v.bias"] - 30})
    frozen = frozen.with_params({"h.bias": 0 * m.params["h.bias"] - 20})
    x = dg.engine.arrays.asarray(np.array([[0, 0, 0, 0], [1, 1, 1, 1]] * 3), like=m.like)
    objective = ContrastiveDivergence()
    rng = dg.engine.random.rng(0)
    _, state = objective.before_step(rng, frozen, objective.init(rng, frozen, {"v": x}), {"v": x}, None)
    np.testing.assert_array_equal(to_numpy(dg, state.chains.position["v"]), to_numpy(dg, x))


# --- offsets


def advance_twice(dg, m, objective, x):
    """The machine after the step in which the first batch's means move the offsets, and the state before it."""
    x = dg.engine.arrays.asarray(x, like=m.like)
    rng = dg.engine.random.rng(0)
    first, state = objective.before_step(rng, m, objective.init(rng, m, {"v": x}), {"v": x}, None)
    second, _ = objective.before_step(dg.engine.random.rng(1), first, state, {"v": x}, None)
    return first, second, state


def law_of(dg, m):
    states = oracle("rbm_centered").states(["v"])["v"]
    free = to_numpy(dg, m.free_energy(dg.engine.arrays.asarray(states, like=m.like))).astype(float)
    return np.exp(-free) / np.exp(-free).sum()


def check_offsets(dg, mode="data"):
    """Offsets follow the means at the stated rate; p(x) stays where it is."""
    m, x, rate = cases.machine(dg, "rbm_centered", np.float32), data("rbm_centered", 6), 0.3
    objective = StochasticML(num_chains=10, offset_rate=rate, offsets=mode)
    first, second, state = advance_twice(dg, m, objective, x)
    np.testing.assert_allclose(law_of(dg, first), law_of(dg, m), atol=1e-6)
    np.testing.assert_allclose(law_of(dg, second), law_of(dg, m), atol=1e-6)
    p, b = CASES["rbm_centered"].params, CASES["rbm_centered"].constants
    hidden = 1 / (1 + np.exp(-(p["h.bias"] + (x - b["v.offset"]) @ p["v-h.weight"])))
    position = to_numpy(dg, state.chains.position)
    for n, rows in (("v", x), ("h", hidden)):
        mean = rows.mean(0) if mode == "data" else 0.5 * (rows.mean(0) + position[n].mean(0))
        expected = (1 - rate) * b[f"{n}.offset"] + rate * mean
        np.testing.assert_allclose(to_numpy(dg, second.constants[f"{n}.offset"]), expected, atol=1e-5)
    assert np.abs(to_numpy(dg, second.params["v.bias"] - m.params["v.bias"])).max() > 1e-3


@pytest.mark.parametrize("mode", ["data", "average"])
def test_offsets_move_and_the_law_stays(dg, mode):
    check_offsets(dg, mode)


def test_offsets_stay_at_rate_zero(dg):
    m = cases.machine(dg, "rbm_centered", np.float32)
    objective = StochasticML(num_chains=10, offset_rate=0.0)
    _, second, _ = advance_twice(dg, m, objective, data("rbm_centered", 6))
    for k in m.constants:
        np.testing.assert_array_equal(to_numpy(dg, second.constants[k]), to_numpy(dg, m.constants[k]))


def exact_ascent(dg, m, x, steps=15, rate=0.5):
    """Gradient ascent on the exact likelihood, offsets moved as in training: the machine at the end."""
    objective = StochasticML(num_chains=2, offset_rate=0.2)
    rng, x = dg.engine.random.rng(0), dg.engine.arrays.asarray(x, like=m.like)
    state = objective.init(rng, m, {"v": x})

    def log_p(params, m):
        return m.with_params(params).marginal(log_normalizer="exact").log_prob(x).mean()

    def before_step(m, state):
        return objective.before_step(rng, m, state, {"v": x}, None)

    gradient = dg.engine.control.value_and_grad(log_p)
    if dg.engine.name == "numpyro":
        import jax

        gradient, before_step = jax.jit(gradient), jax.jit(before_step)
    for _ in range(steps):
        m, state = before_step(m, state)
        grad = gradient(m.params, m)[1]
        m = m.with_params({k: v + rate * grad[k] for k, v in m.params.items()})
    return m


def test_centered_learning_does_not_mind_flipped_data(dg, double):
    """Runs on x and 1 - x end at flipped machines when centered, and do not when not."""
    x = np.random.default_rng(57).choice([0.0, 1.0], (8, 4), p=[0.2, 0.8])
    states = oracle("rbm_centered").states(["v"])["v"]
    gaps = {}
    for name in ("rbm_centered", "rbm"):
        m = cases.machine(dg, name)
        flipped = m.with_params({k: -m.params[k] for k in ("v.bias", "v-h.weight")})
        flipped = flipped.with_constants({k: 1 - v for k, v in m.constants.items() if k == "v.offset"})
        if name == "rbm":
            flipped = flipped.with_params({"h.bias": m.params["h.bias"] + m.params["v-h.weight"].sum(0)})
        ends = [exact_ascent(dg, m, x), exact_ascent(dg, flipped, 1 - x)]
        free = [
            to_numpy(dg, end.free_energy(dg.engine.arrays.asarray(v, like=m.like)))
            for end, v in zip(ends, (states, 1 - states), strict=True)
        ]
        log_p = [-f - np.log(np.exp(-f).sum()) for f in free]
        gaps[name] = np.abs(log_p[0] - log_p[1]).max()
    assert gaps["rbm_centered"] < 1e-10
    assert gaps["rbm"] > 1e-3


# --- inside the hosts' SVI


class Still(BlockGibbs):
    """Chains that stand still, so that a step has known particles."""

    def step(self, rng, target, state):
        return state, GibbsInfo(1.0)


class Ticking(BlockGibbs):
    """Chains that count their steps."""

    def step(self, rng, target, state):
        return GibbsState({n: x + 1 for n, x in state.position.items()}), GibbsInfo(1.0)


class NumPyroRun:
    """SVI of a learner on NumPyro."""

    def __init__(self, learner, x, rate, **kwargs):
        import jax
        import optax
        from numpyro.infer import SVI

        self.svi, self.x, self.kwargs = SVI(learner.model, learner.guide, optax.sgd(rate), learner.loss), x, kwargs
        self.state = self.svi.init(jax.random.key(0), x, **kwargs)

    def step(self):
        self.state, loss = self.svi.update(self.state, self.x, **self.kwargs)
        return float(loss)

    def params(self):
        return {k: np.asarray(v) for k, v in self.svi.get_params(self.state).items() if "." in k}

    def chains(self):
        return {n: np.asarray(v) for n, v in self.state.mutable_state["chains"].position.items()}

    def evaluate(self):
        return self.svi.evaluate(self.state, self.x, **self.kwargs)


class PyroRun:
    """SVI of a learner on Pyro."""

    def __init__(self, learner, x, rate, **kwargs):
        from pyro.infer import SVI
        from pyro.optim import SGD

        self.learner, self.x, self.kwargs = learner, x, kwargs
        self.svi = SVI(learner.model, learner.guide, SGD({"lr": rate}), learner.loss)

    def step(self):
        return self.svi.step(self.x, **self.kwargs)

    def params(self):
        return {k: v.detach().numpy().copy() for k, v in self.learner.machine.params.items()}

    def chains(self):
        return {n: v.numpy().copy() for n, v in self.learner.chains.position.items()}

    def evaluate(self):
        return self.svi.evaluate_loss(self.x, **self.kwargs)


def svi_run(dg, learner, x, rate, **kwargs):
    return (NumPyroRun if dg.engine.name == "numpyro" else PyroRun)(learner, x, rate, **kwargs)


@pytest.mark.parametrize(("name", "num_data"), [("rbm_centered", None), ("rbm_centered", 600), ("rbm_spin", None)])
def test_svi_takes_the_gradient(dg, param_store, name, num_data):
    """One step of SGD moves the parameters by the likelihood gradient at the chains, times the size of the data."""
    m, x = cases.machine(dg, name, np.float32), data(name, 6)
    learner = StochasticML(Still(), num_chains=9).on(m, rng=3)
    kwargs = {} if num_data is None else {"num_data": num_data}
    run = svi_run(dg, learner, dg.engine.arrays.asarray(x, like=m.like), 0.01 / (num_data or 6), **kwargs)
    before, position = to_numpy(dg, m.params), run.chains() if dg.engine.name == "pyro" else None
    position = position or to_numpy(dg, learner.chains.position)
    assert np.isfinite(run.step())
    positive, negative = exact_phases(name, m, {n: v.astype(float) for n, v in position.items()}, x)
    for k, v in run.params().items():
        np.testing.assert_allclose(v - before[k], 0.01 * (positive[k] - negative[k]), atol=1e-6, err_msg=k)


def test_svi_moves_the_chains_once_a_step_and_never_in_evaluation(dg, param_store):
    m, x = cases.machine(dg, "rbm", np.float32), data("rbm", 6)
    learner = StochasticML(Ticking(), num_chains=4).on(m)
    run = svi_run(dg, learner, dg.engine.arrays.asarray(x, like=m.like), 0.0)
    start = to_numpy(dg, learner.chains.position)
    for count in (1, 2, 3):
        run.step()
        for n, v in run.chains().items():
            np.testing.assert_array_equal(v, start[n] + count)
    with pytest.raises(RuntimeError, match="expected an objective with a value, got StochasticML"):
        run.evaluate()
    np.testing.assert_array_equal(run.chains()["v"], start["v"] + 3)


def test_svi_of_a_deep_machine(dg, param_store):
    """Coupled hidden layers take their mean field inside the host's program."""
    m, x = cases.machine(dg, "dbm3_centered", np.float32), data("dbm3_centered", 6)
    run = svi_run(dg, StochasticML(num_chains=10).on(m), dg.engine.arrays.asarray(x, like=m.like), 0.01)
    before = to_numpy(dg, m.params)
    run.step()
    after = run.params()
    assert after.keys() == before.keys()
    assert all(np.isfinite(v).all() and (v != before[k]).all() for k, v in after.items())


def test_svi_learns(dg, param_store):
    """Two hundred steps on two patterns: the exact likelihood approaches log 1/2 a row."""
    x = np.array([[1, 1, 0, 0], [0, 0, 1, 1]] * 4, np.float32)
    m = dg.RBM.init(4, 3, rng=0, weight_scale=0.1, data=x)
    run = svi_run(dg, StochasticML(num_chains=50).on(m), dg.engine.arrays.asarray(x, like=m.like), 0.05)
    if dg.engine.name == "numpyro":
        import jax

        run.state = jax.lax.scan(lambda s, _: (run.svi.update(s, run.x)[0], None), run.state, length=200)[0]
    else:
        for _ in range(200):
            run.step()
    m = m.with_params({k: dg.engine.arrays.asarray(v) for k, v in run.params().items()})
    log_p = m.marginal(log_normalizer="exact").log_prob(dg.engine.arrays.asarray(x, like=m.like))
    assert -1.2 < float(log_p.mean()) < np.log(0.5)


# --- what is refused


def test_contrastive_divergence_refuses_coupled_hidden_layers(dg):
    m = cases.machine(dg, "dbm2", np.float32)
    x = dg.engine.arrays.asarray(data("dbm2", 3), like=m.like)
    with pytest.raises(
        ValueError, match=r"hidden layers are not coupled for ContrastiveDivergence, got DBM.*StochasticML"
    ):
        ContrastiveDivergence().init(dg.engine.random.rng(0), m, {"v": x})


def test_only_persistent_chains_go_into_svi():
    assert not hasattr(ContrastiveDivergence(), "on")


def test_options_are_checked():
    for bad in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match="expected a number between 0 and 1 for offset_rate"):
            StochasticML(offset_rate=bad)
    with pytest.raises(ValueError, match="expected one of 'data', 'average' for offsets, got 'model'"):
        StochasticML(offsets="model")
    with pytest.raises(ValueError, match="positive integer for num_chains, got 0"):
        StochasticML(num_chains=0)
