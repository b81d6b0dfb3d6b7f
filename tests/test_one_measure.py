"""PPCA, a flow, a VAE and an RBM of real vectors in one table, as examples/one_measure.py trains them."""

import functools
import runpy
from pathlib import Path

import numpy as np
import pytest
from helpers import numpy
from scipy import special, stats

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "one_measure.py"
EACH = pytest.mark.parametrize("size", ["untrained", pytest.param("trained", marks=pytest.mark.slow)])


@functools.cache
def table(dg, size):
    """(training rows, test rows, models, comparison)."""
    example = runpy.run_path(str(EXAMPLE))
    x, test = example["components"](3)
    models = example["untrained"](dg, x, hidden=40, seed=0)
    if size == "trained":
        models = example["trained"](dg, models, x, epochs=60, seed=0)
    options = dg.BoundsOptions(num_particles=50)
    return x, test, models, dg.compare(models, test, rng=0, options=options, progress=False)


@EACH
def test_which_sides_are_claimed(dg, size):
    _, test, _, comparison = table(dg, size)
    assert comparison.measure == "R^3"
    assert comparison.num_data == len(test)
    kinds = {name: (e.lower.kind, e.upper.kind) for name, e in comparison.bounds.items()}
    exact = ("exact", "exact")
    assert kinds == {"ppca": exact, "flow": exact, "rbm": exact, "vae": ("bound", "none")}
    assert not any("vae" in comparison.better_than(name) for name in kinds)
    assert not [name for name in kinds if name in comparison.better_than(name)]


@EACH
def test_claims_are_those_of_paired_rows(dg, size):
    """By hand: mean of lower_A - upper_B above the quantile of Student's t that goes with three standard errors."""
    _, _, _, comparison = table(dg, size)
    rows = {name: (e.lower_pointwise, e.upper_pointwise) for name, e in comparison.bounds.items()}
    for a in rows:
        won = []
        for b in rows:
            if a != b and rows[b][1] is not None:
                d = rows[a][0].astype(float) - rows[b][1]
                t = stats.t.isf(stats.norm.sf(3.0), len(d) - 1)
                reach = comparison.bounds[a].lower.reach(3.0)
                if d.mean() - reach > t * d.std(ddof=1) / len(d) ** 0.5:
                    won.append(b)
        assert comparison.better_than(a) == won


@EACH
def test_the_row_of_ppca_is_that_of_scikit_learn(dg, size):
    """Whose covariance is unbiased: it is given data of the size that makes it ours."""
    decomposition = pytest.importorskip("sklearn.decomposition")
    x, test, _, comparison = table(dg, size)
    x = x.astype(float)
    smaller = x.mean(0) + (x - x.mean(0)) * np.sqrt((len(x) - 1) / len(x))
    exact = decomposition.PCA(2).fit(smaller).score_samples(test)
    np.testing.assert_allclose(comparison.bounds["ppca"].pointwise, exact, rtol=1e-4, atol=1e-4)
    assert comparison.bounds["ppca"].lower.value == pytest.approx(exact.mean(), abs=1e-4)


@EACH
def test_the_row_of_the_rbm_is_a_mixture_of_normals(dg, size):
    """p(v) = sum_h p(h) Normal(v; l + u m(h), sigma), m = tau^2 (b + W h), p(h) prop. to exp(c'h + |m / tau|^2 / 2).

    l and u are the means and standard deviations of the data, tau = sigma / u.
    """
    data, test, models, comparison = table(dg, size)
    machine = models["rbm"].uncentered()
    w, b, c = (numpy(dg, machine.params[k]).astype(float) for k in ("v-h.weight", "v.bias", "h.bias"))
    h = np.array(list(np.ndindex(*[2] * len(c))), float)
    location, unit = data.mean(0, dtype=float), data.std(0, dtype=float)
    tau, eta = 0.5 / unit, b + h @ w.T
    log_h = h @ c + ((tau * eta) ** 2).sum(-1) / 2
    normal = stats.norm(location + unit * tau**2 * eta, 0.5).logpdf(test[:, None]).sum(-1)
    exact = special.logsumexp(normal + log_h - special.logsumexp(log_h), axis=-1)
    np.testing.assert_allclose(comparison.bounds["rbm"].pointwise, exact, rtol=1e-4, atol=1e-3)


@pytest.mark.slow
def test_what_beats_what(dg):
    """Digits are no ellipsoid: the flow is shown to be better than PPCA, and no exact row reaches the flow."""
    *_, comparison = table(dg, "trained")
    assert "ppca" in comparison.better_than("flow")
    assert not [name for name in comparison.bounds if "flow" in comparison.better_than(name)]


@pytest.mark.slow
def test_gradient_steps_reach_the_maximum_of_ppca(dg):
    """From other weights, to the likelihood of the closed form."""
    x, _, models, _ = table(dg, "trained")
    start = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32), x.mean(0), np.float32(0.0)
    options = {"optimizer": dg.adam(0.03), "epochs": 300, "batch_size": len(x), "progress": False}
    fitted = dg.fit(dg.PPCA(*start), x, **options).model
    reached, best = (numpy(dg, model.log_prob(x)).mean() for model in (fitted, models["ppca"]))
    assert best - 1e-3 < reached < best + 1e-5
