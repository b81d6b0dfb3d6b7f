"""Machines as batches, and machines some of whose layers are given, against the single machines and brute force."""

import itertools

import cases
import numpy as np
import pytest
from cases import CASES, ENUMERABLE, compiled, oracle, to_engine, to_numpy
from gates import g_test, sampled
from scipy.special import logsumexp

from deepgen_ppl.log_z import exact
from deepgen_ppl.log_z.exact import draw_exact

every = pytest.mark.parametrize("name", cases.in_turn(CASES))
enumerable = pytest.mark.parametrize("name", cases.in_turn(ENUMERABLE))
TOL = {"rtol": 1e-10, "atol": 1e-10}


def states_of(name, rows, seed=31):
    """Random states: NumPy arrays by block."""
    rng = np.random.default_rng(seed)
    return {
        n: rng.standard_normal((rows, size)) if values is None else rng.choice(values, (rows, size))
        for n, (size, values) in CASES[name].blocks.items()
    }


# --- machines as batches


def batch_of(dg, name, keys, rows=3):
    """(one machine of `rows` rows, the machines by themselves) that differ in the arrays `keys`."""
    m, rng = cases.machine(dg, name), np.random.default_rng(32)
    moved = {}
    for k in keys:
        v = to_numpy(dg, m.params[k])
        moved[k] = v + 0.02 * rng.standard_normal((rows, *v.shape))
    alone = [m.with_params({k: v[r] for k, v in moved.items()}) for r in range(rows)]
    return m.with_params(moved), alone


def biases_of(m):
    return [k for k in m.params if k.endswith((".bias", ".log_sigma"))]


def everything(m, state):
    """What a machine says of full states: both forms of its energy, a mean and a free energy."""
    last, out = m.structure.names[-1], m.structure.colors[-1]
    free = m.free_energy({n: x for n, x in state.items() if n not in out})
    return {"energy": m.energy(state), "plain": m.uncentered().energy(state), "free": free, "mean": m.mean(last, state)}


def start_of_five(m, rng):
    return m.start(rng, 5)


def check_batch(dg, name, keys):
    """What a batch says of each row is what its machine says."""
    m, alone = batch_of(dg, name, keys)
    assert m.batch_shape == (3,)
    states = cases.arrays(dg, states_of(name, 6), m.like)
    by_row = {n: x.reshape(2, 3, -1) for n, x in states.items()}  # (chains, machines, n)
    got = to_numpy(dg, compiled(dg, everything)(m, by_row))
    for r, one in enumerate(alone):
        own = to_numpy(dg, compiled(dg, everything)(one, {n: x[:, r] for n, x in by_row.items()}))
        for k, v in own.items():
            row = got[k][:, r] if k == "mean" else got[k][..., r]
            np.testing.assert_allclose(row, v, **TOL, err_msg=k)
        np.testing.assert_allclose(own["plain"], own["energy"], **TOL)
    start = compiled(dg, start_of_five)(m, dg.engine.random.rng(0))
    assert {n: tuple(x.shape) for n, x in start.items()} == {n: (5, 3, u.size) for n, u in m.structure.units}


@every
def test_a_batch_is_its_machines(dg, double, name):
    """Biases, scales and weights with a row for each machine."""
    m = cases.machine(dg, name)
    check_batch(dg, name, [k for k in m.params if k in m.structure.batched])


@enumerable
def test_one_bias_a_row_is_a_batch(dg, double, name):
    m, alone = batch_of(dg, name, ["v.bias"])
    log_z = dg.exact_log_normalizer(m).value
    np.testing.assert_allclose(log_z, [dg.exact_log_normalizer(one).value for one in alone], **TOL)


@every
def test_weights_that_cannot_have_rows_say_so(dg, double, name):
    m = cases.machine(dg, name)
    weights = [k for k in m.params if k not in biases_of(m)]
    for k in [k for k in weights if k not in m.structure.batched]:
        with pytest.raises(ValueError, match=rf"expected {k} of shape \(.*\), got shape \(3, .*\)"):
            m.with_params({k: np.stack([to_numpy(dg, m.params[k])] * 3)})


def test_rows_that_do_not_broadcast_are_refused(dg):
    m = dg.RBM.init(3, 2, rng=0)
    with pytest.raises(ValueError, match=r"expected leading axes that broadcast.*'v\.bias': \(4,\).*'h\.bias': \(3,\)"):
        m.with_params({"v.bias": np.zeros((4, 3)), "h.bias": np.zeros((3, 2))})


def test_what_belongs_to_one_machine_refuses_batches(dg):
    m = dg.RBM.init(3, 2, rng=0).with_params({"v.bias": np.zeros((4, 3))})
    x = np.zeros((4, 3), np.float32)
    with pytest.raises(ValueError, match=r"expected one machine, got a batch of the shape \(4,\)"):
        dg.bounds(m, x, rng=0)


@enumerable
def test_log_z_of_a_batch(dg, double, name):
    m, alone = batch_of(dg, name, biases_of(cases.machine(dg, name)))
    log_z = dg.exact_log_normalizer(m).value
    assert log_z.shape == (3,)
    np.testing.assert_allclose(log_z, [dg.exact_log_normalizer(one).value for one in alone], **TOL)


@pytest.mark.parametrize("name", [n for n in ENUMERABLE if not CASES[n].coupled])
def test_marginals_of_a_batch_stand_in_a_plate(dg, double, name):
    m, alone = batch_of(dg, name, biases_of(cases.machine(dg, name)))
    law = m.marginal(log_normalizer="exact")
    assert tuple(law.batch_shape) == (3,)
    x = cases.arrays(dg, {"v": states_of(name, 3)["v"]}, m.like)["v"]
    single = [to_numpy(dg, one.marginal(log_normalizer="exact").log_prob(x[r])) for r, one in enumerate(alone)]
    np.testing.assert_allclose(to_numpy(dg, law.log_prob(x)), single, **TOL)
    ppl = dg.engine.host.ppl

    def program():
        with ppl.plate("rows", 3):
            ppl.sample("v", law, obs=x)

    if dg.engine.name == "numpyro":
        from numpyro.handlers import seed, trace

        sites = trace(seed(program, 0)).get_trace()
        total = sites["v"]["fn"].log_prob(x).sum()
    else:
        import pyro

        total = pyro.poutine.trace(program).get_trace().log_prob_sum()
    np.testing.assert_allclose(to_numpy(dg, total), np.sum(single), **TOL)


def test_exact_draws_of_a_batch_follow_their_machines(dg):
    """Two machines that differ in their visible biases alone."""
    m = dg.RBM.init(3, 2, rng=0, weight_scale=1.0, centered=False)
    m = m.with_params({"v.bias": np.array([[-1.0, 0.0, 0.5], [1.0, -0.5, 0.0]])})
    states = np.array(list(itertools.product([0.0, 1.0], repeat=3)), np.float32)
    law = m.marginal("v", log_normalizer="exact")
    p = np.exp(to_numpy(dg, law.log_prob(dg.engine.arrays.asarray(states[:, None], like=m.like)))).T

    p = p / p.sum(1, keepdims=True)

    def check(seed, factor):
        num = 4000 * factor
        v = to_numpy(dg, draw_exact(dg.engine.random.rng(seed), m, num)["v"])
        assert v.shape == (num, 2, 3)
        for r in range(2):
            counts = np.bincount((v[:, r] @ [4, 2, 1]).astype(int), minlength=8)
            g_test(counts, p[r])

    sampled(check, 51)


# --- layers given


def energy_given(m, known, rest):
    return m.given(known).energy(rest)


def log_z_given(m, known):
    return exact.log_normalizer_by_enumeration(m.given(known))


def check_given(dg, name, given, rows=4):
    """Energies of the machine over the rest are those of full states, row by row, and its log Z is log f."""
    m, truth, states = cases.machine(dg, name), oracle(name), states_of(name, rows)
    known = {n: states[n] for n in given}
    rest = {n: x for n, x in states.items() if n not in given}
    on_engine = [cases.arrays(dg, s, m.like) for s in (known, rest)]
    energy = compiled(dg, energy_given)(m, *on_engine)
    np.testing.assert_allclose(to_numpy(dg, energy), truth.energies(states), **TOL)
    if CASES[name].finite:
        log_z = to_numpy(dg, compiled(dg, log_z_given)(m, on_engine[0]))
        np.testing.assert_allclose(log_z, -truth.free_energies(known), **TOL)


@every
def test_layers_given(dg, double, name):
    """Every layer alone, and all but one."""
    names = list(CASES[name].blocks)
    for n in names:
        check_given(dg, name, [n])
    check_given(dg, name, names[1:])


@every
def test_all_layers_given_are_refused(dg, name):
    m = cases.machine(dg, name, np.float32)
    with pytest.raises(ValueError, match="expected a layer that is not given, got values of all layers"):
        m.given(states_of(name, 2))
    with pytest.raises(ValueError, match=r"expected values of layers among .*, got \['nowhere'\]"):
        m.given({"nowhere": m.like})
    first = m.structure.visible
    with pytest.raises(ValueError, match=rf"expected {first} of shape"):
        m.given({first: np.zeros((2, 11))})
    with pytest.raises(ValueError, match=r"expected masks of layers that are given, \['v'\], got \['h'\]"):
        m.given({"v": states_of(name, 2)["v"]}, missing={"h": np.zeros((2, 1))})
    with pytest.raises(ValueError, match=r"expected missing\['v'\] of shape \(2, .*\), got \(2, 11\)"):
        m.given({"v": states_of(name, 2)["v"]}, missing={"v": np.zeros((2, 11))})


@pytest.mark.parametrize("name", [n for n in CASES if CASES[n].finite])
def test_values_given_are_checked(dg, name):
    m, states = cases.machine(dg, name, np.float32), states_of(name, 2)
    with pytest.raises(ValueError, match=r"v: expected .* units, got values such as 7\.5"):
        m.given({"v": 0 * states["v"] + 7.5})
    with pytest.raises(ValueError, match="expected finite values in v"):
        m.given({"v": np.nan * states["v"]})


@pytest.mark.parametrize("name", [n for n in CASES if CASES[n].finite])
def test_missing_values_stay_in_the_machine(dg, double, name):
    """log Z sums over what is missing: none, all, and some, whatever stands in its place."""
    m, truth, states = cases.machine(dg, name), oracle(name), states_of(name, 4)
    v = states["v"]
    mask = np.random.default_rng(33).random(v.shape) < 0.5
    mask[0], mask[1] = False, True
    rest = m.given({"v": np.where(mask, np.nan, v)}, missing={"v": mask})
    got = dg.exact_log_normalizer(rest).value
    full = truth.states(list(CASES[name].blocks))
    log_f = -truth.energies(full)
    for r in range(len(v)):
        agree = ((full["v"] == v[r]) | mask[r]).all(1)
        assert got[r] == pytest.approx(logsumexp(log_f[agree]), abs=1e-10)
    energy = to_numpy(dg, rest.energy(cases.arrays(dg, states, m.like)))
    np.testing.assert_allclose(energy, truth.energies(states), **TOL)
    other = {**states, "v": np.where(v == v.min(), v.max(), v.min())}
    assert np.isinf(to_numpy(dg, rest.energy(cases.arrays(dg, other, m.like)))[0])


def test_patterns_are_completed(dg, double):
    """Conditional means of missing pixels by Gibbs' own laws: known ones stay, the others are those of the machine."""
    m = dg.RBM.init(4, 3, rng=0, weight_scale=1.0, dtype="float64")
    v = np.array([[0.0, 1.0, 1.0, 0.0]])
    mask = np.array([[False, True, False, True]])
    rest = m.given({"v": v}, missing={"v": mask})
    h = dg.engine.arrays.asarray(np.array([[1.0, 0.0, 1.0]]))
    mean, free = (to_numpy(dg, one.mean("v", {"h": h})) for one in (rest, m))
    np.testing.assert_allclose(mean, np.where(mask, free, v), **TOL)
    draws = to_numpy(dg, rest.draw(dg.engine.random.rng(0), "v", {"h": dg.engine.xp.broadcast_to(h, (200, 1, 3))}))
    assert (draws[..., ~mask[0]] == v[0, ~mask[0]]).all()
    assert (draws.mean((0, 1))[mask[0]] > 0).all()
    with pytest.raises(NotImplementedError, match="expected a layer that is free or given as a whole"):
        rest.conditional("v", {"h": h})


def test_machines_with_missing_values_are_saved(dg, tmp_path):
    m = dg.RBM.init(4, 3, rng=0, weight_scale=1.0)
    v, mask = np.array([[0, 1, 1, 0]]), np.array([[0, 1, 0, 1]])
    rest = m.given({"v": v}, missing={"v": mask})
    dg.save(rest, tmp_path / "m.safetensors")
    other = dg.load(tmp_path / "m.safetensors")
    assert other.structure == rest.structure
    assert dg.exact_log_normalizer(other).value == pytest.approx(dg.exact_log_normalizer(rest).value)


def test_gradients_reach_the_parameters_through_given(dg, double):
    """d log p(h | v)/d theta of a conditional machine is that of the joint one, less that of log f(v)."""
    m = cases.machine(dg, "third_order_centered")
    states = cases.arrays(dg, states_of("third_order_centered", 3), m.like)

    def direct(params):
        one = m.with_params(params)
        joint = -one.energy(states)
        log_f = -one.given({"v": states["v"], "x": states["x"]}).free_energy({})
        return (joint - log_f).sum()

    def by_given(params):
        rest = m.with_params(params).given({"v": states["v"], "x": states["x"]})
        return rest.marginal("h", log_normalizer="exact").log_prob(states["h"]).sum()

    one, other = (dg.engine.control.value_and_grad(fn)(dict(m.params)) for fn in (direct, by_given))
    np.testing.assert_allclose(to_numpy(dg, one[0]), to_numpy(dg, other[0]), **TOL)
    for k in m.params:
        np.testing.assert_allclose(to_numpy(dg, one[1][k]), to_numpy(dg, other[1][k]), **TOL)
        assert k in ("v.bias", "x.bias") or np.abs(to_numpy(dg, one[1][k])).max() > 1e-3


def test_couplings_of_one_pair_are_merged(dg, double):
    """Two terms of three layers that leave the same pair, beside a sparse one: one dense matrix."""
    rng = np.random.default_rng(34)
    terms = [
        dg.Sparse(("h", "v"), edges=((0, 1), (1, 2)), shape=(2, 3)),
        dg.ThirdOrder(("v", "x", "h")),
        dg.ThirdOrder(("h", "v", "z")),
    ]
    layers = {"v": dg.Bernoulli(3), "x": dg.Spin(2), "h": dg.Bernoulli(2), "z": dg.Categorical(1, 3)}
    shapes = {"v.bias": 3, "x.bias": 2, "h.bias": 2, "z.bias": 3, "h-v.weight": 2}
    shapes |= {"v-x-h.weight": (3, 2, 2), "h-v-z.weight": (2, 3, 3)}
    m = dg.BoltzmannMachine(layers, terms, to_engine(dg, cases.draw(35, shapes), np.float64))
    states = {"v": rng.integers(0, 2, (5, 3)), "x": rng.choice([-1, 1], (5, 2)), "h": rng.integers(0, 2, (5, 2))}
    states["z"] = rng.integers(0, 3, (5, 1))
    on_engine = cases.arrays(dg, states, m.like)
    rest = m.given({n: on_engine[n] for n in "xz"})
    assert [type(t).__name__ for t in rest.structure.couplings] == ["Dense"]
    np.testing.assert_allclose(
        to_numpy(dg, rest.energy({n: on_engine[n] for n in "vh"})), to_numpy(dg, m.energy(on_engine)), **TOL
    )


def test_labels_given_data_sum_to_one(dg, double):
    """p(y | v) of every row, by the marginal of the conditional machine and by the family's own method."""
    name = "discriminative_rbm"
    m, truth = cases.machine(dg, name), oracle(name)
    v = truth.states(["v"])["v"]
    law = m.given({"v": v}).marginal("y", log_normalizer="exact")
    y = dg.engine.arrays.asarray(np.arange(3)[:, None, None])
    log_p = to_numpy(dg, law.log_prob(y)).T
    np.testing.assert_allclose(logsumexp(log_p, axis=1), 0.0, **TOL)
    np.testing.assert_allclose(to_numpy(dg, m.label_log_prob(v)), log_p, **TOL)
    brute = [[truth.free_energy({"v": row}) - truth.free_energy({"v": row, "y": np.array([k])}) for k in range(3)]
             for row in v]  # fmt: skip
    np.testing.assert_allclose(log_p, brute, **TOL)


# --- sums


def test_enumeration_whose_last_chunk_is_not_full(dg, double):
    """3^8 states are no multiple of a chunk: their sum is that of independent units."""
    rng = np.random.default_rng(36)
    layers = {"v": dg.Categorical(8, 3), "h": dg.Gaussian(1, scale=0.5)}
    bias, weight = rng.standard_normal(24), np.zeros((24, 1))
    weight[:3, 0] = [0.3, -0.2, 0.9]
    m = dg.BoltzmannMachine(
        layers, [dg.Dense(("v", "h"))], {"v.bias": bias, "h.bias": np.array([0.7]), "v-h.weight": weight}
    )
    eta = 0.7 + weight[:3, 0]
    first = logsumexp(bias[:3] + 0.125 * eta**2 + np.log(0.5) + 0.5 * np.log(2 * np.pi))
    others = logsumexp(bias[3:].reshape(7, 3), axis=1).sum()
    assert dg.exact_log_normalizer(m).value == pytest.approx(first + others, abs=1e-10)


def test_large_sums_in_float32_lose_no_small_terms(dg, monkeypatch):
    """2^12 equal states, two at a time, at a log Z of thousands, where float32 has steps of 5e-4.

    The sum of the logarithms themselves would lose most of the last addends.
    """
    monkeypatch.setattr(exact, "CHUNK", 2)
    b = np.zeros(12, np.float32)
    m = dg.BoltzmannMachine(
        {"v": dg.Bernoulli(12), "h": dg.Bernoulli(12)},
        [dg.Dense(("v", "h"))],
        {"v.bias": b, "h.bias": b, "v-h.weight": np.zeros((12, 12), np.float32)},
        {"energy_offset": np.float32(-5000.0)},
    )
    log_z = to_numpy(dg, exact.log_normalizer_by_enumeration(m))
    assert log_z == pytest.approx(5000 + 24 * np.log(2), abs=1e-3)


def many_small(dg):
    """One unit of 1,024 values, of which the first has probability near 1 and each of the others 2^-25 of it."""
    bias = np.full(1024, -25 * np.log(2))
    bias[0] = 0.0
    arrays = to_engine(dg, {"v.bias": bias, "h.bias": np.zeros(1), "v-h.weight": np.zeros((1024, 1))}, np.float32)
    m = dg.BoltzmannMachine({"v": dg.Categorical(1, 1024), "h": dg.Gaussian(1)}, [dg.Dense(("v", "h"))], arrays)
    return m, np.log1p(1023 * 2.0**-25) + 0.5 * np.log(2 * np.pi)


def check_small_terms(dg):
    m, log_z = many_small(dg)
    sums = dg.engine.control.compile(lambda m: exact.log_normalizer_by_enumeration(m))
    assert to_numpy(dg, sums(m)) == pytest.approx(log_z, abs=5e-7)


def test_small_terms_are_not_lost_beside_a_large_one(dg, monkeypatch):
    """In float32, inside compiled code, one state at a time: each addend is below half of the sum's last digit."""
    monkeypatch.setattr(exact, "CHUNK", 1)
    check_small_terms(dg)
    monkeypatch.setattr(exact, "add_compensated", lambda total, lost, term: (total + term, lost))
    with pytest.raises(AssertionError):
        check_small_terms(dg)
