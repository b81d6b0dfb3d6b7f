"""Held-out scores in `az.compare`."""

import numpy as np
import pytest

from deepgen_ppl.log_p.claims import Bounds, claim, found
from deepgen_ppl.log_p.compare import Comparison
from deepgen_ppl.log_z.estimates import Estimate

az = pytest.importorskip("arviz")

to_elpd = pytest.importorskip("deepgen_ppl.diagnostics.elpd").to_elpd


def bounds(pointwise: np.ndarray, kind: str, shift: float = 0.0) -> Bounds:
    none = Estimate.missing("none")
    lower = none if kind == "none" else claim(pointwise - shift, kind, "by hand")
    return found(lower, none, claim(pointwise, "estimate", "by hand"), pointwise, lower_rows=pointwise - shift)


def comparison(**models: Bounds) -> Comparison:
    return Comparison(dict(models), 200, "Bernoulli(4)")


@pytest.fixture
def scores() -> dict[str, np.ndarray]:
    noise = np.random.default_rng(0).normal(size=200)
    return {"good": -3.0 + noise, "bad": -3.5 + noise + 0.1 * np.random.default_rng(1).normal(size=200)}


def test_differences_and_weights(scores: dict[str, np.ndarray]) -> None:
    found = comparison(good=bounds(scores["good"], "exact"), bad=bounds(scores["bad"], "bound"))
    table = az.compare(to_elpd(found), method="stacking")
    difference = scores["good"] - scores["bad"]
    dse = np.sqrt(200 * difference.var())
    column = "elpd_diff" if "elpd_diff" in table else "diff"
    assert list(table.index) == ["good", "bad"]
    assert abs(table.loc["bad", column]) == pytest.approx(difference.sum(), rel=0.05)
    assert table.loc["bad", "dse"] == pytest.approx(dse, rel=0.05)
    assert table.loc["good", "weight"] > 0.9


def test_scores_are_the_lower_side(scores: dict[str, np.ndarray]) -> None:
    elpd = to_elpd(comparison(one=bounds(scores["good"], "bound", shift=0.25)))["one"]
    total = elpd["elpd_loo"] if hasattr(elpd, "index") else elpd.elpd
    assert total == pytest.approx(scores["good"].sum() - 0.25 * 200)


def test_models_without_a_lower_side_are_left_out(scores: dict[str, np.ndarray]) -> None:
    both = comparison(one=bounds(scores["good"], "exact"), two=bounds(scores["bad"], "none"))
    with pytest.warns(UserWarning, match=r"are left out: two \(none\)"):
        assert list(to_elpd(both)) == ["one"]
    with pytest.raises(ValueError, match="expected a model with a lower side"):
        to_elpd(comparison(two=bounds(scores["bad"], "none")))
