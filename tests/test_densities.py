"""Exact densities of programs against what is known outside: quadrature, autodiff, scikit-learn."""

import numpy as np
import program_cases as cases
import pytest
from helpers import numpy


def flow(dg):
    """Three couplings in two dimensions, far from the identity."""
    program = dg.RealNVP.init(2, rng=0, depth=3, hidden=(5,), dtype="float64")
    rng = np.random.default_rng(3)
    return program.from_canonical({k: 0.5 * rng.normal(size=v.shape) for k, v in sorted(program.canonical().items())})


def test_a_flow_integrates_to_one(dg, double):
    grid = np.linspace(-25, 25, 801)
    points = np.stack(np.meshgrid(grid, grid, indexing="ij"), -1).reshape(-1, 2)
    total = np.exp(numpy(dg, flow(dg).log_prob(points))).sum() * (grid[1] - grid[0]) ** 2
    assert total == pytest.approx(1.0, abs=1e-5)


def test_the_maps_of_a_flow(dg, double):
    """The inverse is the inverse, and log-determinants are those of the Jacobian by differences."""
    program, x = flow(dg), np.random.default_rng(4).normal(size=(4, 2))
    with dg.engine.host.bound():
        maps = [t.bijection for t in program.law().transforms]
    assert len(maps) == 4
    for f in maps:

        def at(x, f=f):
            return tuple(numpy(dg, v) for v in f.forward(dg.engine.arrays.asarray(x)))

        (y, log_det), h = at(x), 1e-6
        back, inverse_log_det = (numpy(dg, v) for v in f.inverse(dg.engine.arrays.asarray(y)))
        np.testing.assert_allclose(back, x, atol=1e-12)
        np.testing.assert_allclose(inverse_log_det, -log_det, atol=1e-12)
        columns = [(at(x + h * e)[0] - at(x - h * e)[0]) / (2 * h) for e in np.eye(2)]
        np.testing.assert_allclose(log_det, np.linalg.slogdet(np.stack(columns, -1))[1], atol=1e-8)


def test_ppca_is_that_of_scikit_learn(dg, double):
    """Whose covariance is unbiased: it is given data of the size that makes it ours."""
    decomposition = pytest.importorskip("sklearn.decomposition")
    rng = np.random.default_rng(5)
    x, test = (rng.normal(size=(n, 2)) @ rng.normal(size=(2, 5)) + 0.3 * rng.normal(size=(n, 5)) for n in (80, 50))
    smaller = x.mean(0) + (x - x.mean(0)) * np.sqrt(79 / 80)
    exact = decomposition.PCA(2).fit(smaller)
    ppca = dg.PPCA.maximum_likelihood(x, 2, dtype="float64")
    np.testing.assert_allclose(numpy(dg, ppca.log_prob(test)), exact.score_samples(test), rtol=0, atol=1e-9)
    with pytest.raises(ValueError, match="expected fewer components than the 5 columns of data, got latent=5"):
        dg.PPCA.maximum_likelihood(x, 5)


def test_the_posterior_of_ppca(dg, double):
    """From the joint covariance of (z, x) by conditioning."""
    a, x = cases.arrays("ppca", cases.program(dg, "ppca")), cases.CASES["ppca"].data["x"]
    q = cases.program(dg, "ppca").encode(x)
    total = a["weight"] @ a["weight"].T + np.exp(2 * a["log_sigma"]) * np.eye(3)
    gain = a["weight"].T @ np.linalg.inv(total)
    np.testing.assert_allclose(numpy(dg, q.mean), (x - a["loc"]) @ gain.T, atol=1e-10)
    np.testing.assert_allclose(numpy(dg, q.covariance_matrix)[0], np.eye(2) - gain @ a["weight"], atol=1e-10)
