"""`better_than`: claims of equal models are as rare as they should be, and what withholds a claim is said."""

import dataclasses
import math

import numpy as np
import pytest
from gates import LEVEL
from scipy import stats

from deepgen_ppl.log_p import paired
from deepgen_ppl.log_p.claims import Bounds, claim, found
from deepgen_ppl.log_p.compare import Comparison
from deepgen_ppl.log_p.paired import difference, student_quantile
from deepgen_ppl.log_z.estimates import CERTIFIED, Estimate

NOMINAL = stats.norm.sf(3)


def sides(lower=None, upper=None, *, mc_se=0.0, margin=0.0, flags=()) -> Bounds:
    """Bounds with these rows."""
    none = Estimate.missing("not made")
    made = [none if x is None else claim(x, "bound", "given", mc_se=mc_se, margin=margin) for x in (lower, upper)]
    rows = upper if lower is None else lower
    return found(*made, claim(rows, "estimate", "given"), rows, lower_rows=lower, upper_rows=upper, flags=flags)


def table(**models: Bounds) -> Comparison:
    return Comparison(dict(models), len(next(iter(models.values())).pointwise), "R^1")


@pytest.mark.parametrize("dof", [19, 20, 49, 249, 9999])
@pytest.mark.parametrize("z", [1.0, 2.0, 3.0])
def test_quantile(z, dof):
    assert student_quantile(z, dof) == pytest.approx(stats.t.isf(stats.norm.sf(z), dof), abs=1e-3)


def claims(d):
    """Share of the rows of d, each one test set, that are claimed."""
    zero = np.zeros(d.shape[1])
    return sum(difference(("a", "b"), sides(lower=row), sides(upper=zero)).claimed for row in d)


@pytest.mark.parametrize("rows", [20, 50, 250])
def test_equal_models_are_claimed_at_the_nominal_rate(rows):
    """Normal differences of mean zero, 4,000 test sets; and a difference of eight standard errors is seen."""
    d = np.random.default_rng(rows).standard_normal((4000, rows))
    assert stats.binom.sf(claims(d) - 1, len(d), NOMINAL) >= LEVEL
    assert claims(d[:200] + 8 / math.sqrt(rows)) > 195


def test_the_normal_quantile_would_claim_too_much(monkeypatch):
    """The planted fault: at 20 rows it is out by a factor of three."""
    monkeypatch.setattr(paired, "student_quantile", lambda z, dof: z)
    d = np.random.default_rng(20).standard_normal((20_000, 20))
    assert stats.binom.sf(claims(d) - 1, len(d), NOMINAL) < LEVEL


def test_rare_large_losses_are_flagged():
    """Lognormal(2) losses against their mean: the test claims one equal pair in ten, and every claim is flagged."""
    losses = np.random.default_rng(0).lognormal(0, 2, (1000, 250))
    found = [difference(("a", "b"), sides(lower=math.e**2 - row), sides(upper=np.zeros(250))) for row in losses]
    claimed = [d for d in found if d.claimed]
    assert len(claimed) > 50
    assert all(d.heavy_tails for d in claimed)
    light = np.random.default_rng(1).standard_normal((200, 250)) + 1
    assert not any(difference(("a", "b"), sides(lower=row), sides(upper=0 * row)).heavy_tails for row in light)
    (remark,) = table(a=sides(lower=3 - losses[0] / 10), b=sides(upper=0 * losses[0])).remarks()
    assert remark.startswith("a better than b: heavy tails")


@pytest.mark.parametrize("rows", [2, 19])
def test_few_rows_claim_nothing(rows):
    few = table(a=sides(lower=np.full(rows, -1.0)), b=sides(upper=np.full(rows, -9.0)))
    assert few.better_than("a") == []
    assert few.remarks() == [f"a not better than b: {rows} rows, at least 20 needed"]
    enough = table(a=sides(lower=np.full(20, -1.0)), b=sides(upper=np.full(20, -9.0)))
    assert enough.better_than("a") == ["b"]
    assert enough.remarks() == []


def test_best_guesses_rank_nothing():
    """The guesses of a and b differ much, their sides do not: three nats between the sides of b."""
    noise = np.random.default_rng(0).standard_normal(100)
    a, b = sides(lower=-1 + noise), sides(lower=-5 + noise, upper=-0.9 + noise)
    assert a.pointwise.mean() - b.pointwise.mean() == pytest.approx(4.0)
    assert table(a=a, b=b).better_than("a") == []
    assert table(a=a, b=b).remarks() == []  # nothing is apart, and nothing needs to be said
    assert "below the other's upper side" in table(a=a, b=b).versus("a", "b").withheld


def test_rows_are_paired():
    noise = 3 * np.random.default_rng(0).standard_normal(50)
    other = 3 * np.random.default_rng(1).standard_normal(50)
    noise, other = noise - noise.mean(), other - other.mean()
    assert table(a=sides(lower=-1 + noise), b=sides(upper=-1.5 + noise)).better_than("a") == ["b"]
    assert table(a=sides(lower=-1 + noise), b=sides(upper=-1.5 + other)).better_than("a") == []


def test_the_reach_of_both_sides_is_taken_off():
    a, b = sides(lower=np.full(30, -1.0), mc_se=0.2), sides(upper=np.full(30, -2.0), mc_se=0.2)
    assert table(a=a, b=b).better_than("a") == []  # 1 nat apart, 3 x (0.2 + 0.2) = 1.2 needed
    assert table(a=a, b=b).better_than("a", z=2.0) == ["b"]
    assert table(a=a, b=b).versus("a", "b").needed == pytest.approx(1.2, abs=1e-5)
    (remark,) = table(a=a, b=b).remarks()
    said = "a not better than b: ahead by 1.00 nats, less 3 s.e. of a 0.60 nats, 3 s.e. of b 0.60 nats"
    assert remark == f"{said}; try more particles (num_particles)"


def test_markovs_margin_stands_in_for_a_withheld_error():
    """And the printed line says that it was what withheld the claim."""
    vae = sides(lower=np.full(40, -16.75))
    rbm = sides(upper=np.full(40, -18.23), mc_se=math.nan, margin=CERTIFIED, flags=("weights_degenerate",))
    near = table(vae=vae, rbm=rbm)
    assert near.better_than("vae") == []
    printed = " ".join(str(near).split())
    assert "vae not better than rbm: ahead by 1.48 nats, less Markov's margin of rbm 3.69 nats" in printed
    assert "weights_degenerate (rbm): the weights of AIS are too uneven" in printed
    far = table(vae=sides(lower=np.full(40, -14.5)), rbm=rbm)
    assert far.better_than("vae") == ["rbm"]  # -18.23 + 3.69 = -14.54


def test_missing_sides_say_why():
    one = table(a=sides(lower=np.full(30, -1.0)), b=sides(lower=np.full(30, -2.0)))
    assert one.versus("a", "b").withheld == "b has no upper side (not made)"
    assert math.isnan(one.versus("a", "b").mean)
    other = table(a=sides(upper=np.full(30, -1.0)), b=sides(upper=np.full(30, -2.0)))
    assert other.versus("a", "b").withheld == "a has no lower side (not made)"


def test_rounding_is_no_difference():
    """Equal models on two engines differ by the last digits of float32, all of one sign."""
    rows = np.random.default_rng(0).standard_normal(100) - 90.0
    equal = table(a=sides(lower=rows + 1e-6, upper=rows + 1e-6), b=sides(lower=rows, upper=rows))
    assert equal.better_than("a") == []
    assert equal.better_than("b") == []


def test_values_that_are_not_finite_claim_nothing():
    for wrong in (math.nan, math.inf, -math.inf):
        rows = np.append(np.zeros(30), wrong)
        side = claim(rows, "exact", "given")
        assert side.kind == "none"
        assert side.reason == "log p(x) is infinite or NaN at 1 of 31 rows"
        e = found(side, side, side, rows, lower_rows=rows, upper_rows=rows)
        assert e.flags == ("not_finite",)
        assert e.lower_pointwise is None
        assert math.isnan(e.se_data)
        assert table(a=e, b=sides(upper=np.full(31, -9.0))).better_than("a") == []


def test_kinds_decide_and_words_do_not():
    """The same rows under any method are claimed alike."""
    a, b = sides(lower=np.full(30, -1.0)), sides(upper=np.full(30, -2.0))
    for method in ("mean field", "mean-field", "exact enumeration", ""):
        renamed = dataclasses.replace(a, lower=dataclasses.replace(a.lower, method=method))
        assert table(a=renamed, b=b).better_than("a") == ["b"]
        assert renamed.lower.kind == "bound"
