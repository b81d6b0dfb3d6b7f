"""Real-valued machines that `init` makes from data: their law before training, and learning that knows no units."""

import numpy as np
import pytest
from helpers import array, numpy
from scipy import stats

rng = np.random.default_rng(0)
X = (rng.standard_normal((12, 2)) @ rng.standard_normal((2, 4)) + 0.3 * rng.standard_normal((12, 4))).astype(np.float32)
SCALE, SHIFT = np.array([255.0, 0.004, 1.0, 30.0], np.float32), np.array([1000.0, -0.02, 0.0, -7.0], np.float32)


def log_p(dg, machine, x):
    """log p of each row, by enumeration."""
    found = dg.bounds(machine, x, rng=0)
    assert found.lower.kind == "exact"
    return found.pointwise


@pytest.mark.parametrize("centered", [True, False])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_before_training_the_units_are_independent_normals(dg, scale, centered):
    """With the means of the data, and their standard deviations where sigma is learned."""
    x = X * SCALE + SHIFT
    options = {"weight_scale": 0.0, "visible_scale": scale, "centered": centered}
    machine = dg.GaussianBernoulliRBM.init(4, 2, rng=0, data=x, **options)
    sigma = x.std(0, dtype=float) if scale is None else 0.3
    exact = stats.norm(x.mean(0, dtype=float), sigma).logpdf(x.astype(float)).sum(1)
    np.testing.assert_allclose(log_p(dg, machine, x), exact, rtol=1e-4)


def test_learning_does_not_depend_on_the_units_of_the_data(dg):
    """Three steps on x and on a x + c: the same machine of z, and log p less sum log a, row by row."""
    found = {}
    for name, x in {"x": X, "a x + c": X * SCALE + SHIFT}.items():
        machine = dg.GaussianBernoulliRBM.init(4, 2, rng=0, data=x, weight_scale=0.5)
        options = {"objective": dg.StochasticML(num_chains=6), "epochs": 1, "batch_size": 4, "rng": 1}
        trained = dg.fit(machine, x, **options, progress=False).model
        arrays = {k: numpy(dg, v) for k, v in trained.params.items()}
        arrays["v.log_sigma"] = arrays["v.log_sigma"] - numpy(dg, trained.constants["v.log_unit"])
        found[name] = (arrays, log_p(dg, trained, x), log_p(dg, machine, x))
    (a, of_x, before), (b, of_units, _) = found["x"], found["a x + c"]
    assert np.abs(of_x - before).max() > 0.01
    np.testing.assert_allclose(of_units, of_x - np.log(SCALE).sum(), atol=2e-3)
    for k in a:
        np.testing.assert_allclose(b[k], a[k], atol=2e-4, err_msg=k)


def test_columns_that_do_not_vary_keep_their_unit(dg):
    x = X.copy()
    x[:, 1] = 7.0
    machine = dg.GaussianBernoulliRBM.init(4, 2, rng=0, data=x)
    log_unit, log_sigma = numpy(dg, machine.constants["v.log_unit"]), numpy(dg, machine.params["v.log_sigma"])
    assert log_unit[1] == log_sigma[1] == 0.0
    np.testing.assert_allclose(np.delete(log_unit, 1), np.log(np.delete(x, 1, 1).std(0)), rtol=1e-5)


def test_a_learned_sigma_of_other_machines_starts_at_the_deviations_too(dg):
    machine = dg.RBM.init(dg.Gaussian(4, scale=None), 2, rng=0, data=X, weight_scale=0.0)
    np.testing.assert_allclose(np.exp(numpy(dg, machine.params["v.log_sigma"])), X.std(0), rtol=1e-5)
    np.testing.assert_allclose(log_p(dg, machine, X), stats.norm(X.mean(0), X.std(0)).logpdf(X).sum(1), rtol=1e-4)


def test_a_path_between_machines_in_other_units_is_refused(dg):
    """Their statistics differ, so that their energies cannot be mixed."""
    a, b = (dg.GaussianBernoulliRBM.init(4, 2, rng=0, data=x) for x in (X, X * SCALE))
    with pytest.raises(ValueError, match=r"expected two machines with the same v\.location, got Gauss"):
        dg.ais(a, rng=0, betas=3, num_runs=100, start=b.decoupled())
    same = b.with_constants({k: a.constants[f"v.{k[2:]}"] for k in ("v.location", "v.log_unit")})
    assert np.isfinite(dg.ais(a, rng=0, betas=3, num_runs=100, start=same.decoupled()).value)


def test_a_mean_of_clamped_units_is_that_of_their_values(dg):
    """Some units given: the rest is normal about l + u E[s], and those given stay as they are."""
    machine = dg.GaussianBernoulliRBM.init(4, 2, rng=0, data=X * SCALE + SHIFT, weight_scale=0.0)
    v, mask = array(dg, (X * SCALE + SHIFT)[:2]), np.array([[0, 0, 1, 1]] * 2)
    given = machine.given({"v": v}, missing={"v": mask})
    x = numpy(dg, given.draw(dg.engine.random.rng(0), "v", {"h": array(dg, np.zeros((2, 2)))}))
    np.testing.assert_array_equal(x[:, :2], numpy(dg, v)[:, :2])
    mean, sigma = (np.asarray(f(X * SCALE + SHIFT, 0), float)[2:] for f in (np.mean, np.std))
    assert (np.abs(x[:, 2:] - mean) < 6 * sigma).all()


def test_standardized_units_are_for_machines_alone(dg):
    with pytest.raises(ValueError, match="expected a likelihood that is not standardized, got Gaussian"):
        dg.VAE.init(dg.Gaussian(4, standardized=True), latent=2, rng=0)
    with pytest.raises(TypeError, match="expected True or False for standardized, got 'data'"):
        dg.Gaussian(4, standardized="data")
