"""Whether a machine has a normalizer, term by term: decided, or refused with the condition; and counts."""

import numpy as np
import pytest
from cases import to_engine, to_numpy
from gates import g_test, sampled
from scipy import stats
from scipy.special import logsumexp

TOL = {"rtol": 1e-10, "atol": 1e-10}


def machine(dg, units, terms, weights):
    """A machine with zero biases."""
    layers = {n: getattr(dg, kind)(*args) for n, (kind, *args) in units.items()}
    biases = {f"{n}.bias": np.zeros(u.width, np.float32) for n, u in layers.items()}
    arrays = biases | {k: np.asarray(w, np.float32) for k, w in weights.items()}
    return dg.BoltzmannMachine(layers, terms(dg), to_engine(dg, arrays, np.float32))


def pair(dg):
    return [dg.Dense(("v", "h"))]


def triple(dg):
    return [dg.ThirdOrder(("v", "h", "x"))]


COUNTS = {"v": ("Poisson", 1), "h": ("Poisson", 1)}
MIXED = {"v": ("Poisson", 1), "h": ("Gaussian", 1)}
THIRD = {"v": ("Gaussian", 1), "h": ("Gaussian", 1), "x": ("Bernoulli", 1)}
SPINS = {**THIRD, "x": ("Spin", 2)}
W = "v-h.weight"
T = "v-h-x.weight"

PROPER = [
    ({"v": ("Poisson", 2), "h": ("Bernoulli", 1)}, pair, {W: [[3.0], [-3.0]]}),
    (COUNTS, pair, {W: [[-0.5]]}),
    (COUNTS, pair, {W: [[0.0]]}),
    (MIXED, pair, {W: [[0.0]]}),
    ({"v": ("Binomial", 1, 3), "h": ("Poisson", 1)}, pair, {W: [[2.0]]}),
    (THIRD, triple, {T: [[[0.9]]]}),
    (SPINS, triple, {T: [[[0.5, -0.4]]]}),
    ({**COUNTS, "x": ("Bernoulli", 2)}, triple, {T: [[[-0.1, -2.0]]]}),
    ({"v": ("Gaussian", 1), "h": ("Bernoulli", 1), "x": ("Bernoulli", 1)}, triple, {T: [[[9.0]]]}),
]
IMPROPER = [
    (
        COUNTS,
        pair,
        {W: [[0.1]]},
        r"couplings that are never positive between Poisson.* got v-h with couplings from 0\.1",
    ),
    (MIXED, pair, {W: [[-0.1]]}, r"couplings of zero between Poisson\(size=1\) and Gaussian.*-0\.1"),
    (THIRD, triple, {T: [[[1.1]]]}, r"\['h', 'v'\].*largest coupling that the bounded layers allow.*eigenvalue -0\.1"),
    (SPINS, triple, {T: [[[0.6, -0.6]]]}, r"eigenvalue -0\.2"),
    ({**COUNTS, "x": ("Spin", 1)}, triple, {T: [[[-0.1]]]}, "couplings that are never positive"),
    ({**THIRD, "x": ("Gaussian", 1)}, triple, {T: [[[0.0]]]}, "three layers without bounds in ThirdOrder"),
]


@pytest.mark.parametrize(("units", "terms", "weights"), PROPER)
def test_proper_machines_are_made(dg, units, terms, weights):
    machine(dg, units, terms, weights).check_normalizable()


@pytest.mark.parametrize(("units", "terms", "weights", "message"), IMPROPER)
def test_improper_machines_are_refused_with_the_condition(dg, units, terms, weights, message):
    with pytest.raises(ValueError, match=f"expected a normalizable machine.*{message}"):
        machine(dg, units, terms, weights)
    zero = {k: np.zeros(np.shape(w)) for k, w in weights.items()}
    if "Poisson" in str(units) or len({kind for kind, *_ in units.values()}) > 1:
        with pytest.raises(ValueError, match="expected a normalizable machine"):
            machine(dg, units, terms, zero).with_params({k: np.asarray(w) for k, w in weights.items()})


def test_scales_count_after_with_constants(dg):
    m = machine(dg, {"v": ("Gaussian", 1), "h": ("Gaussian", 1)}, pair, {W: [[0.9]]})
    with pytest.raises(ValueError, match="eigenvalue"):
        m.with_constants({"v.log_sigma": np.array([0.5])})
    m.with_constants({"v.log_sigma": np.array([-0.5])})


def test_every_machine_of_a_batch_is_checked(dg):
    m = machine(dg, {"v": ("Gaussian", 1), "h": ("Gaussian", 1)}, pair, {W: [[0.5]]})
    assert m.with_params({W: np.array([[[0.5]], [[-0.9]]])}).batch_shape == (2,)
    with pytest.raises(ValueError, match="eigenvalue"):
        m.with_params({W: np.array([[[0.5]], [[1.2]]])})


def test_convolutions_and_sparse_terms_of_real_layers_are_checked(dg):
    units = {"v": ("Gaussian", 4), "h": ("Gaussian", 1)}
    filters = lambda dg: [dg.Convolution(("v", "h"), image=(1, 2, 2), filters=1, kernel=2)]  # noqa: E731
    machine(dg, units, filters, {W: np.full((1, 1, 2, 2), 0.49)})
    with pytest.raises(ValueError, match=r"eigenvalue -0\.02"):
        machine(dg, units, filters, {W: np.full((1, 1, 2, 2), 0.51)})
    edges = lambda dg: [dg.Sparse(("v", "h"), edges=((2, 0),), shape=(4, 1))]  # noqa: E731
    machine(dg, units, edges, {W: [0.99]})
    with pytest.raises(ValueError, match="eigenvalue"):
        machine(dg, units, edges, {W: [1.01]})


def test_improper_machines_do_not_raise_under_a_gradient(dg):
    m = machine(dg, {"v": ("Gaussian", 1), "h": ("Gaussian", 1)}, pair, {W: [[0.5]]})

    def energy(params):
        one = m.with_params(params)
        return one.energy({n: one.params[f"{n}.bias"] for n in "vh"})

    weight = dg.engine.arrays.asarray(np.full((1, 1), 1.5, np.float32))
    value, gradient = dg.engine.control.value_and_grad(energy)({W: weight})
    v, h = (float(m.params[f"{n}.bias"][0]) for n in "vh")
    assert np.isfinite(float(value))
    np.testing.assert_allclose(dg.engine.arrays.to_numpy(gradient[W]), [[-v * h]], atol=1e-6)


# --- counts


def poisson_machine(dg):
    rng = np.random.default_rng(41)
    layers = {"v": dg.Poisson(2), "h": dg.Bernoulli(3)}
    arrays = {"v.bias": rng.normal(size=2), "h.bias": rng.normal(size=3), W: 0.5 * rng.normal(size=(2, 3))}
    return arrays, dg.BoltzmannMachine(layers, [dg.Dense(("v", "h"))], arrays)


def test_counts_coupled_to_bits(dg, double):
    """log Z, p(v) and p(v | h) against sums over bits and the law of SciPy."""
    arrays, m = poisson_machine(dg)
    h = np.array([[i >> j & 1 for j in range(3)] for i in range(8)], float)
    eta = arrays["v.bias"] + h @ arrays[W].T
    log_z = logsumexp(h @ arrays["h.bias"] + np.exp(eta).sum(1))
    assert dg.exact_log_normalizer(m).value == pytest.approx(log_z, abs=1e-10)
    v = np.array([[0.0, 0.0], [1.0, 3.0], [7.0, 2.0]])
    law = m.marginal("v", log_normalizer="exact")
    rate = np.exp(eta)
    weights = h @ arrays["h.bias"] + rate.sum(1) - log_z
    exact = [logsumexp(weights + stats.poisson(rate).logpmf(row).sum(1)) for row in v]
    np.testing.assert_allclose(to_numpy(dg, law.log_prob(dg.engine.arrays.asarray(v))), exact, **TOL)
    given = m.conditional("v", {"h": dg.engine.arrays.asarray(h[:3])})
    np.testing.assert_allclose(
        to_numpy(dg, given.log_prob(dg.engine.arrays.asarray(v))), stats.poisson(rate[:3]).logpmf(v).sum(1), **TOL
    )
    assert m.structure.layers["v"].measure == "N^2"


@pytest.mark.parametrize("kind", ["Poisson", "Binomial"])
def test_draws_of_counts_follow_their_law(dg, kind):
    unit = dg.Poisson(1) if kind == "Poisson" else dg.Binomial(1, 4)
    law = stats.poisson(np.exp(0.4)) if kind == "Poisson" else stats.binom(4, 1 / (1 + np.exp(-0.4)))

    def check(seed, factor):
        num = 4000 * factor
        eta = dg.engine.arrays.asarray(np.full((num, 1), 0.4, np.float32))
        x = to_numpy(dg, unit.draw(dg.engine, dg.engine.random.rng(seed), eta, {})).astype(int)[:, 0]
        top = 5 if kind == "Poisson" else 4
        p = law.pmf(np.arange(top + 1))
        p[-1] += law.sf(top)
        g_test(np.bincount(np.minimum(x, top), minlength=top + 1), p)

    sampled(check, 52)


@pytest.mark.parametrize(("kind", "bad"), [("Poisson", -1.0), ("Poisson", 0.5), ("Binomial", 4.0), ("Binomial", 0.5)])
def test_values_that_are_no_counts_are_refused(dg, kind, bad):
    unit = dg.Poisson(2) if kind == "Poisson" else dg.Binomial(2, 3)
    with pytest.raises(ValueError, match=rf"x: expected (counts|integers).* for {kind} units, got values such as"):
        unit.check(np.array([[1.0, bad]]), "x")
    assert unit.problem(np.array([[0.0, 3.0]])) is None
    mean = np.array([0.7, 2.0])
    eta = unit.eta_from_mean(mean, {})
    np.testing.assert_allclose(
        to_numpy(dg, unit.mean(dg.engine, dg.engine.arrays.asarray(eta.astype("f")), {})), mean, 1e-5
    )
