"""Contracts of units, over the whole table on both engines: a new one finds these tests waiting for it."""

import json

import numpy as np
import pytest
from gates import g_test, gate_mean, sampled
from scipy.special import logsumexp
from unit_cases import INDEPENDENT, UNITS

from deepgen_ppl.units.base import Unit

TOL = {"atol": 1e-10, "rtol": 1e-10}
ROWS = pytest.mark.parametrize("name", UNITS)
INDEPENDENT_ROWS = pytest.mark.parametrize("name", INDEPENDENT)


class Layer:
    """A layer of a row on one engine: the unit with its arrays, all methods from and to NumPy."""

    def __init__(self, dg, name, size=1, *, dtype=np.float64, arrays=None):
        self.case, self.engine = UNITS[name], dg.engine
        self.unit, self.size, self.dtype = self.case.build(dg, size), size, dtype
        own = [v for part in self.unit.init_arrays() for v in part.items()]
        values = self.case.arrays if arrays is None else arrays
        self.arrays = {k: self.array(np.full(v.shape, values[k])) for k, v in own}

    def array(self, x):
        return self.engine.arrays.asarray(np.asarray(x, self.dtype))

    def eta(self):
        """The row's natural parameters, unit by unit in other orders, shape (rows, width)."""
        eta = self.case.eta
        return np.concatenate([np.roll(eta, i, axis=0) for i in range(self.size)], axis=1)

    def __getattr__(self, method):
        def call(*args):
            args = [self.array(a) for a in args]
            return self.engine.arrays.to_numpy(getattr(self.unit, method)(self.engine, *args, self.arrays))

        return call

    def statistic(self, x):
        like = self.array([0.0])
        return self.engine.arrays.to_numpy(self.unit.statistic(self.engine, self.array(x), like, self.arrays))

    def log_base(self, x):
        value = self.unit.log_base(self.engine, self.array(x), self.arrays)
        return np.broadcast_to(self.engine.arrays.to_numpy(value), len(x))

    def law(self, eta):
        return self.unit.distribution(self.engine, self.array(eta), self.arrays)


@ROWS
def test_the_log_partition_is_the_sum_over_all_values(dg, double, name):
    """A(eta) = log sum_x m(x) exp <eta, s(x)>, or the integral."""
    layer, x = Layer(dg, name), UNITS[name].values[:, None]
    log_f = layer.log_base(x)[:, None] + layer.statistic(x) @ layer.eta().T
    exact = logsumexp(log_f, axis=0) + (np.log(layer.case.step) if layer.case.step else 0.0)
    np.testing.assert_allclose(layer.log_partition(layer.eta())[:, 0], exact, **TOL)


@ROWS
def test_the_mean_is_the_slope_of_the_log_partition(dg, double, name):
    layer = Layer(dg, name, 2)

    def total(params):
        return layer.unit.log_partition(dg.engine, params["eta"], layer.arrays).sum()

    _, slope = dg.engine.control.value_and_grad(total)({"eta": layer.array(layer.eta())})
    np.testing.assert_allclose(layer.mean(layer.eta()), dg.engine.arrays.to_numpy(slope["eta"]), **TOL)


@ROWS
def test_the_law_is_that_of_scipy_and_of_the_host(dg, double, name):
    """log m + <eta, s> - A = the host's log_prob = SciPy's."""
    layer = Layer(dg, name)
    values = layer.case.values if layer.case.step is None else np.array([-1.7, 0.0, 0.6, 2.5])
    for eta in layer.eta():
        exact = layer.case.law(values, eta, layer.case.arrays)
        x, rows = values[:, None], np.tile(eta, (len(values), 1))
        family = layer.log_base(x) + layer.statistic(x) @ eta - layer.log_partition(rows)[:, 0]
        law = layer.law(rows)
        host = law.log_prob(layer.unit.observed(dg.engine, layer.array(x), layer.array([0.0])))
        np.testing.assert_allclose(family, exact, **TOL)
        np.testing.assert_allclose(dg.engine.arrays.to_numpy(host), exact, **TOL)
        assert tuple(law.event_shape) == (1,)


@INDEPENDENT_ROWS
def test_units_of_a_layer_stand_side_by_side(dg, double, name):
    three, eta = Layer(dg, name, 3), Layer(dg, name, 3).eta()
    k = eta.shape[1] // 3
    alone = [Layer(dg, name) for _ in range(3)]
    parts = [eta[:, i * k : (i + 1) * k] for i in range(3)]
    for method in ("log_partition", "mean"):
        expected = np.concatenate([getattr(a, method)(p) for a, p in zip(alone, parts, strict=True)], axis=1)
        np.testing.assert_allclose(getattr(three, method)(eta), expected, **TOL)
    assert three.unit.width == 3 * k
    x = np.random.default_rng(0).choice(UNITS[name].values, (5, 3))
    np.testing.assert_allclose(three.log_base(x), sum(a.log_base(x[:, i : i + 1]) for i, a in enumerate(alone)), **TOL)


@ROWS
def test_natural_parameters_come_back_from_means(dg, double, name):
    """Up to the smoothing at the edges, which means in the middle do not feel much."""
    layer = Layer(dg, name)
    eta = 0.3 * layer.eta()
    mean = layer.mean(eta)
    arrays = {k: dg.engine.arrays.to_numpy(v) for k, v in layer.arrays.items()}
    back = np.stack([layer.unit.eta_from_mean(m, arrays) for m in mean])
    np.testing.assert_allclose(layer.mean(back), mean, atol=0.02)
    outputs = np.stack([layer.unit.output_from_mean(m, arrays) for m in mean])
    np.testing.assert_allclose(layer.expectation(outputs), mean, atol=0.02)


@INDEPENDENT_ROWS
def test_draws_follow_the_law(dg, name):
    layer = Layer(dg, name, 2, dtype=np.float32)
    eta = layer.eta()[0]

    def check(seed, factor):
        rows = layer.array(np.tile(eta, (4000 * factor, 1)))
        x = layer.unit.draw(dg.engine, dg.engine.random.rng(seed), rows, layer.arrays)
        x = dg.engine.arrays.to_numpy(x).astype(float)
        for i, one in enumerate(np.split(eta, 2)):
            log_q = layer.case.law(layer.case.values, one, layer.case.arrays)
            p = np.exp(log_q) * (layer.case.step or 1.0)
            if layer.case.step is None:
                g_test([(x[:, i] == v).sum() for v in layer.case.values], p)
            else:
                moments = [(p * layer.case.values**m).sum() for m in (1, 2)]
                gate_mean(np.stack([x[:, i], x[:, i] ** 2], -1), moments, 0.1)
        gate_mean((x[:, 0] - x[:, 0].mean()) * (x[:, 1] - x[:, 1].mean()), 0.0, 0.1)

    sampled(check, 81)


@ROWS
def test_the_dtype_is_kept(dg, name):
    layer = Layer(dg, name, 2, dtype=np.float32)
    eta, x = layer.eta(), np.tile(UNITS[name].values[:1], (3, 2))
    rng = dg.engine.random.rng(0)
    draw = layer.unit.draw(dg.engine, rng, layer.array(eta), layer.arrays)
    results = (layer.log_partition(eta), layer.mean(eta), layer.statistic(x), dg.engine.arrays.to_numpy(draw))
    assert [r.dtype for r in results] == [np.float32] * 4


@ROWS
def test_wrong_data_are_refused(dg, name):
    unit, (value, sentence) = UNITS[name].build(dg, 2), UNITS[name].wrong
    good = np.tile(UNITS[name].values[-1], (3, 2))
    unit.check(good, "x")
    bad = good.copy()
    bad[1, 1] = value
    with pytest.raises(ValueError, match=sentence):
        unit.check(bad, "x")
    with pytest.raises(ValueError, match=r"expected x of shape \(\.\.\., 2\) for .*, got shape \(3, 3\)"):
        unit.check(np.tile(good[:, :1], 3), "x")
    with pytest.raises(ValueError, match=r"expected x with at least one row, got shape \(0, 2\)"):
        unit.check(good[:0], "x")
    with pytest.raises(ValueError, match="expected numbers in x, got dtype complex128"):
        unit.check(good.astype(complex), "x")
    for size in (0, -1, 1.5, True, "2"):
        with pytest.raises(ValueError, match="expected a positive integer for the number of"):
            UNITS[name].build(dg, size)


@ROWS
def test_files_give_the_unit_back(dg, name):
    unit = UNITS[name].build(dg, np.int64(2))
    again = Unit.from_json(json.loads(json.dumps(unit.to_json())))
    assert again == unit
    assert hash(again) == hash(unit)
    assert type(again) is type(unit)


@ROWS
def test_base_measures_mix_along_a_path(dg, double, name):
    """log m_beta(x) - log m_beta(0) = (1 - beta) of one end's and beta of the other's."""
    a, b = Layer(dg, name), Layer(dg, name, arrays=UNITS[name].other)
    x = UNITS[name].values[:: max(1, len(UNITS[name].values) // 7), None]
    beta = 0.3
    mixed = Layer(dg, name)
    mixed.arrays = a.unit.mix(dg.engine, a.array(beta), a.arrays, b.arrays)
    ends = [layer.log_base(x) - layer.log_base(x[:1]) for layer in (a, b, mixed)]
    np.testing.assert_allclose(ends[2], (1 - beta) * ends[0] + beta * ends[1], **TOL)


@ROWS
def test_what_a_unit_says_of_its_values(dg, name):
    case, unit = UNITS[name], UNITS[name].build(dg, 2)
    finite = case.step is None and not case.counts
    assert unit.integer == (case.step is None)
    assert unit.bounded == finite
    assert (unit.states is not None) == (finite and not case.joint)
    assert unit.factorizes != case.joint
    if unit.states is not None:
        np.testing.assert_array_equal(unit.states, case.values)
    assert unit.measure.endswith("^2")
    trained, fixed = unit.init_arrays()
    assert (trained | fixed).keys() == case.arrays.keys()
