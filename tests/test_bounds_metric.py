"""The metric of `Validation` that judges models by bounds on log p(x)."""

import re

import numpy as np
import pytest
from helpers import numpy

X = (np.random.default_rng(0).random((20, 4)) < [0.9, 0.8, 0.2, 0.5]).astype(np.float32)


def exact(dg, machine, x):
    """Mean log p(x), by enumeration."""
    return float(numpy(dg, machine.marginal(log_normalizer="exact").log_prob(x)).mean(dtype=float))


def test_the_best_machine_of_a_run_is_kept(dg):
    """Values are exact here, so that the best of them belongs to the best machine; the rate is too large on purpose."""
    x = dg.engine.arrays.asarray(X)
    seen = []
    watch = dg.Validation(X, dg.bounds_metric(), patience=1)
    fit = dg.fit(
        dg.RBM.init(4, 2, rng=0), X, optimizer=dg.sgd(3.0), epochs=50,
        batch_size=20, rng=0, validation=watch, callbacks=[lambda epoch, model, history: seen.append(model)],
        progress=False,
    )  # fmt: skip
    values = [exact(dg, machine, x) for machine in seen]
    np.testing.assert_allclose(fit.history["validation"], values, rtol=1e-5)
    assert "no better validation value in 1 evaluations" in fit.stopped
    best = seen[-2]
    for name, array in best.params.items():
        np.testing.assert_array_equal(numpy(dg, fit.model.params[name]), numpy(dg, array))
    assert exact(dg, fit.model, x) == pytest.approx(max(values), rel=1e-6)


def test_sides_are_those_of_bounds(dg):
    """With the same draws at every call."""
    options = dg.BoundsOptions(log_z="ais", betas=4, num_runs=100)
    machine = dg.RBM.init(4, 2, rng=0, data=X, weight_scale=0.5)
    found = dg.bounds(machine, X, rng=3, options=options)
    for side in ("lower", "upper", "estimate"):
        metric = dg.bounds_metric(side, rng=3, options=options)
        assert metric(machine, X) == metric(machine, {"v": X}) == getattr(found, side).value
    assert found.lower.value != found.upper.value


def test_programs_are_judged_by_their_bound(dg):
    """A side that is missing is refused with its reason."""
    vae = dg.VAE.init(dg.Bernoulli(4), latent=2, hidden=(3,), rng=0, data=X)
    metric = dg.bounds_metric(options=dg.BoundsOptions(num_particles=3))
    found = dg.bounds(vae, X, rng=0, options=dg.BoundsOptions(num_particles=3))
    assert metric(vae, X) == found.lower.value
    sentence = f"expected a model with a side 'upper' for the metric, got none: {found.upper.reason}"
    with pytest.raises(ValueError, match=re.escape(sentence)):
        dg.bounds_metric("upper", options=metric.options)(vae, X)


def test_options_are_checked(dg):
    with pytest.raises(ValueError, match="expected one of 'lower', 'upper', 'estimate' for side, got 'best'"):
        dg.bounds_metric("best")
    with pytest.raises(ValueError, match="expected an integer of at least 0 for rng, a seed that gives the same draws"):
        dg.bounds_metric(rng=dg.engine.random.rng(0))
    with pytest.raises(TypeError, match=r"expected BoundsOptions\(...\) for options, got 100"):
        dg.bounds_metric(options=100)
    assert dg.bounds_metric() == dg.bounds_metric()
