"""The gate passes what is right and fails what is wrong, at the rates it states."""

import numpy as np
import pytest
from gates import LEVEL, GateError, g_test, gate, gate_mean, sampled
from scipy import stats


def correlated(n, d=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) @ np.array([[1.0, 0.9, 0.0], [0.0, 0.5, 0.3], [0.0, 0.0, 0.1]])


def test_level_is_the_family_rate_over_a_thousand_checks():
    assert pytest.approx(2 * stats.norm.sf(4.9), rel=0.05) == LEVEL


def test_true_mean_passes():
    gate_mean(correlated(500), np.zeros(3), 0.1)
    gate(1.0, 0.01, 1.03, 1000, 0.02)
    gate([1.0, 2.0], [0.01, 0.1], [1.02, 1.8], 1000, 0.2)


def test_scalar_threshold_is_five_standard_errors():
    gate(4.8, 1.0, 0.0, 10**6, 2.0)
    with pytest.raises(GateError, match="p ="):
        gate(5.0, 1.0, 0.0, 10**6, 2.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"estimate": 1.2}, "p ="),
        ({"se": 0.3, "estimate": 1.2}, "above its cap"),
        ({"se": np.inf}, "not finite"),
        ({"se": np.nan}, "not finite"),
        ({"estimate": np.nan}, "not finite"),
        ({"n": 199}, "at least 200"),
        ({"se": 0.0, "estimate": 1.001}, "never varies"),
    ],
)
def test_planted_failures(change, message):
    gate(**(right := {"estimate": 1.0, "se": 0.01, "exact": 1.0, "n": 1000, "se_cap": 0.02}))
    with pytest.raises(GateError, match=message):
        gate(**right | change)


def test_one_wrong_component_fails_the_vector():
    x = correlated(2000)
    for k in range(3):
        with pytest.raises(GateError, match="p ="):
            gate_mean(x, 0.25 * np.eye(3)[k], 0.1)


def test_correlation_counts():
    """A deviation across the correlation, small for each component, is far out for the pair."""
    covariance = np.array([[1.0, 0.999], [0.999, 1.0]]) * 1e-4
    gate([0.03, 0.03], covariance, [0.0, 0.0], 1000, 0.1)
    gate([0.03, -0.03], np.diag(covariance.diagonal()), [0.0, 0.0], 1000, 0.1)
    with pytest.raises(GateError, match="p ="):
        gate([0.03, -0.03], covariance, [0.0, 0.0], 1000, 0.1)


def test_constant_component_must_be_right():
    x = correlated(500)
    x[:, 1] = 2.0
    gate_mean(x, [0.0, 2.0, 0.0], 0.1)
    with pytest.raises(GateError, match="never varies"):
        gate_mean(x, [0.0, 2.01, 0.0], 0.1)
    with pytest.raises(GateError, match="never varies"):
        gate_mean(np.ones(500), 0.9, 0.1)


def test_short_run_of_a_long_vector_fails():
    with pytest.raises(GateError, match="for a vector of 150"):
        gate_mean(np.random.default_rng(0).standard_normal((250, 150)), np.zeros(150), 1.0)


def test_shapes_that_do_not_fit_are_errors_of_the_caller():
    with pytest.raises(ValueError, match="one length"):
        gate([1.0, 2.0], [0.1, 0.1], [1.0], 1000, 0.2)


def test_false_alarms_are_rare():
    """p-values of the vector test are uniform: 20,000 true nulls of 200 repetitions, tested at 1 %."""
    x = np.random.default_rng(3).standard_normal((20_000, 200, 3))
    error, n, d = x.mean(1), 200, 3
    covariance = np.einsum("rni,rnj->rij", x - error[:, None], x - error[:, None]) / (n - 1) / n
    t2 = np.einsum("ri,ri->r", error, np.linalg.solve(covariance, error[..., None])[..., 0])
    p = stats.f.sf(t2 * (n - d) / (d * (n - 1)), d, n - d)
    assert stats.binomtest(int((p < 0.01).sum()), 20_000, 0.01).pvalue > LEVEL


P = np.array([0.5, 0.3, 0.1999, 0.0001])


def test_g_test_passes_the_law_and_fails_another():
    rng = np.random.default_rng(0)
    g_test(rng.multinomial(10_000, P), P)
    with pytest.raises(GateError, match="G ="):
        g_test(rng.multinomial(10_000, [0.55, 0.25, 0.1999, 0.0001]), P)
    with pytest.raises(GateError, match="G ="):
        g_test([10_000, 0, 0, 0], P)


def test_g_test_sees_too_many_rare_draws():
    with pytest.raises(GateError, match="are expected"):
        g_test([500, 300, 100, 100], [0.5, 0.3, 0.1999, 0.0001])


def test_g_test_fails_impossible_draws_and_few_draws():
    with pytest.raises(GateError, match="probability zero"):
        g_test([500, 500, 1], [0.5, 0.5, 0.0])
    with pytest.raises(GateError, match="at least 200"):
        g_test([50, 50], [0.5, 0.5])
    with pytest.raises(GateError, match="too few"):
        g_test([300, 0], [0.999, 0.001])
    with pytest.raises(ValueError, match="summing to one"):
        g_test([500, 500], [0.5, 0.4])


def test_g_test_false_alarms_are_rare():
    """Over 500 samples of a law with pooled cells, the statistic's mean is near its degrees of freedom."""
    rng = np.random.default_rng(1)
    for _ in range(500):
        g_test(rng.multinomial(400, [0.4, 0.4, 0.19, 0.008, 0.002]), [0.4, 0.4, 0.19, 0.008, 0.002])


def test_failure_runs_once_more_at_ten_times_the_size():
    seen = []

    def check(seed, factor):
        seen.append((seed, factor))
        if factor == 1:
            raise GateError("first")

    sampled(check, 5)
    assert [factor for _, factor in seen] == [1, 10]
    assert seen[0][0] == 5
    assert seen[1][0] != 5

    def wrong(seed, factor):
        raise GateError(f"at {factor}")

    with pytest.raises(GateError, match="at 10"):
        sampled(wrong, 5)
