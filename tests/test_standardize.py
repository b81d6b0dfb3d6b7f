"""Standardized rows, the way back, and what lies between their log-densities: exact changes of variables."""

import warnings

import numpy as np
import pytest
from scipy import stats

from deepgen_ppl import datasets
from deepgen_ppl.log_z.estimates import Estimate

X = np.random.default_rng(0).normal([0.3, 100.0, -7.0], [0.02, 40.0, 3.0], (50, 3))
TEST = np.random.default_rng(1).normal([0.3, 90.0, -5.0], [0.03, 20.0, 3.0], (25, 3))


def test_the_training_rows_have_mean_0_and_deviation_1():
    train, test = datasets.standardize(X, TEST).splits
    assert train.dtype == test.dtype == np.float32
    np.testing.assert_allclose(train.mean(0, dtype=float), 0.0, atol=1e-6)
    np.testing.assert_allclose(train.std(0, dtype=float), 1.0, rtol=1e-6)
    np.testing.assert_allclose(test, (TEST - X.mean(0)) / X.std(0), rtol=1e-5, atol=1e-6)


def test_round_trip():
    scaled = datasets.standardize(X, TEST)
    np.testing.assert_allclose(scaled.inverse(scaled.splits[1]), TEST, rtol=1e-5)
    np.testing.assert_array_equal(scaled.apply(TEST), scaled.splits[1])
    assert scaled.apply(TEST[0]).shape == (3,)


def test_the_log_jacobian_is_that_of_a_normal():
    """A normal of x is the normal of z with its mean and deviation moved and divided, less sum log s."""
    scaled, mean, deviation = datasets.standardize(X, TEST), np.array([0.2, 80.0, -6.0]), np.array([0.1, 30.0, 2.0])
    of_x = stats.norm(mean, deviation).logpdf(TEST).sum(1)
    z = (TEST - scaled.mean) / scaled.scale
    of_z = stats.norm((mean - scaled.mean) / scaled.scale, deviation / scaled.scale).logpdf(z).sum(1)
    np.testing.assert_allclose(of_x, of_z + scaled.log_jacobian, rtol=1e-12)


def test_models_of_raw_and_of_standardized_rows_in_one_table(dg):
    """Two machines that are one normal law, of x and of z: the same log p of every row, in the units of x."""
    scaled = datasets.standardize(X, TEST)
    weight, raw = np.zeros((3, 1), np.float32), np.array([0.1, 30.0, 2.0])
    laws = {"raw": (np.array([0.2, 80.0, -6.0]), raw)}
    laws["z"] = ((laws["raw"][0] - scaled.mean) / scaled.scale, raw / scaled.scale)
    models = {}
    for name, (mean, sigma) in laws.items():
        machine = dg.GaussianBernoulliRBM(weight, (mean / sigma**2).astype(np.float32), visible_scale=None)
        models[name] = machine.with_params({"v.log_sigma": np.log(sigma).astype(np.float32)})
    table = dg.compare(models, TEST, rng=0, standardized={"z": scaled})
    exact = stats.norm(*laws["raw"]).logpdf(TEST).sum(1)
    for name in models:
        found = table.bounds[name]
        for rows in (found.pointwise, found.lower_pointwise, found.upper_pointwise):
            np.testing.assert_allclose(rows, exact, rtol=1e-4)
        for side in (found.lower, found.upper, found.estimate):
            assert side.value == pytest.approx(exact.mean(), rel=1e-4)
            assert side.kind == "exact"
    assert not any(table.better_than(name) for name in models)
    named = dg.compare(models, {"v": TEST}, rng=0, standardized={"z": scaled})
    assert named.bounds["z"].lower.value == table.bounds["z"].lower.value


def test_bounds_are_moved_as_a_whole(dg):
    """A side that is missing stays so; errors, kinds and flags stay."""
    machine = dg.GaussianBernoulliRBM(np.ones((3, 2), np.float32) / 4)
    found = dg.bounds(machine, TEST[:5], rng=0, options=dg.BoundsOptions(log_z="ais", betas=5, num_runs=100))
    found = type(found)(**vars(found) | {"lower": Estimate.missing("why"), "lower_pointwise": None})
    moved = found.shifted(-2.5)
    assert moved.lower.kind == "none"
    assert moved.lower_pointwise is None
    assert moved.upper.value == found.upper.value - 2.5
    assert (moved.upper.kind, moved.flags, moved.se_data) == (found.upper.kind, found.flags, found.se_data)
    np.testing.assert_array_equal(moved.upper_pointwise, found.upper_pointwise - 2.5)
    with pytest.raises(ValueError, match="expected a finite number for nats, got nan"):
        found.shifted(float("nan"))


def test_constant_columns_keep_their_unit():
    """Even where the rounding of a mean would leave them a tiny deviation."""
    x = np.column_stack([X[:, 0], np.full(50, 0.1), X[:, 1]])
    with pytest.warns(UserWarning, match=r"1 of 3 columns are constant over the training rows \(1\): they keep their"):
        scaled = datasets.standardize(x, x + 1.0)
    assert scaled.scale[1] == 1.0
    np.testing.assert_array_equal(scaled.splits[0][:, 1], 0.0)
    np.testing.assert_array_equal(scaled.splits[1][:, 1], 1.0)
    assert scaled.log_jacobian == pytest.approx(-np.log(x[:, [0, 2]].std(0)).sum())
    with pytest.warns(UserWarning, match=r"\(0, 1, 2, 3, 4, 5, 6, 7, \.\.\)"):
        datasets.standardize(np.ones((2, 9)))


def test_wrong_rows_are_refused():
    masked = np.ma.masked_array(X, X > 100)
    wrong = {
        "expected split 0 of the rows without hidden values, got a masked array": (masked,),
        "expected finite values in split 1 of the rows, got 1 NaN or infinite of 3": (X, [[1.0, np.nan, 2.0]]),
        r"expected splits of shape \(N, V\) and one width V, got shape \(25, 2\) of split 1": (X, TEST[:, :2]),
        r"got shape \(50,\) of split 0": (X[:, 0],),
        r"got shape \(0, 3\) of split 0": (X[:0],),
    }
    for sentence, splits in wrong.items():
        with pytest.raises(ValueError, match=sentence):
            datasets.standardize(*splits)
    with pytest.raises(TypeError, match="expected real numbers in split 0 of the rows, got dtype complex128"):
        datasets.standardize(X + 1j)
    scaled = datasets.standardize(X)
    with pytest.raises(ValueError, match=r"expected rows to standardize of shape \(\.\.\., 3\), got shape \(25, 2\)"):
        scaled.apply(TEST[:, :2])
    with pytest.raises(ValueError, match="expected standardized rows without hidden values"):
        scaled.inverse(masked)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        datasets.standardize(np.ma.masked_array(X, np.zeros_like(X, bool)))  # nothing is hidden


def test_scalings_of_compare_are_checked(dg):
    models = {"a": dg.GaussianBernoulliRBM.init(3, 1, rng=0)}
    with pytest.raises(ValueError, match=r"expected standardized among the models \['a'\], got \['b'\]"):
        dg.compare(models, TEST, rng=0, standardized={"b": datasets.standardize(X)})
    with pytest.raises(TypeError, match=r"expected what datasets.standardize\(...\) returned for standardized\['a'\]"):
        dg.compare(models, TEST, rng=0, standardized={"a": 2.0})
    with pytest.raises(TypeError, match="expected a dict name -> what standardize returned, got Standardized"):
        dg.compare(models, TEST, rng=0, standardized=datasets.standardize(X))
