"""Contracts of objectives, over the whole table on both engines: a new one finds these tests waiting for it."""

import copy
import dataclasses
import functools
from typing import Any

import numpy as np
import pytest
from helpers import numpy
from objective_cases import OBJECTIVES

from deepgen_ppl.objectives.objective import Objective

X = np.random.default_rng(7).integers(0, 2, (5, 4)).astype(float)
RATE = 0.25
TOL = {"atol": 1e-10, "rtol": 1e-8}


def over(keep=lambda case: True):
    """Objectives as parameters, those that are dear marked slow."""
    names = [(n, case.fast) for n, case in OBJECTIVES.items() if keep(case)]
    return pytest.mark.parametrize(
        "name", [pytest.param(n, marks=() if fast else pytest.mark.slow) for n, fast in names]
    )


ROWS = over()
STEPS = over(lambda case: case.weights)


@functools.cache
def parts(dg, name):
    """(model in float64, objective, optimizer): made once, so that each is compiled once."""
    case = OBJECTIVES[name]
    return case.model(dg, "float64"), case.build(dg), dg.sgd(RATE)


def copies(dg, tree):
    return {k: dg.engine.arrays.to_numpy(v).copy() for k, v in tree.items()}


def batch_of(dg, model, data):
    return {k: dg.engine.arrays.asarray(np.asarray(v, float), like=model.like) for k, v in data.items()}


@functools.cache
def stepper(dg, name):
    """`(model, batch, mask) -> (model before the gradient, loss, gradient, state)`, by autodiff of `batch_loss`."""
    _, objective, _ = parts(dg, name)
    rng = dg.engine.random.rng

    def step(model, batch, mask):
        model, state = objective.before_step(rng(1), model, objective.init(rng(0), model, batch), batch, mask)

        def loss(params):
            return objective.batch_loss(rng(2), model.with_params(params), state, batch, mask, len(X))[0]

        value, grads = dg.engine.control.value_and_grad(loss)(dict(model.params))
        return model, value, grads, objective.batch_loss(rng(2), model, state, batch, mask, len(X))[1]

    if dg.engine.name != "numpyro":
        return step
    import jax

    return jax.jit(step)


def step_by_hand(dg, name, data, mask=None):
    """(model before the gradient, loss, gradient, state) of one step on named arrays, `x` for what is observed."""
    model, _, _ = parts(dg, name)
    batch = batch_of(dg, model, {model.data_name if k == "x" else k: v for k, v in data.items()})
    mask = None if mask is None else dg.engine.arrays.asarray(np.asarray(mask, float), like=model.like)
    model, value, grads, after = stepper(dg, name)(model, batch, mask)
    return model, float(value), copies(dg, grads), after


def assert_same(a, b, factor=1.0):
    """Two losses and gradients agree, the second times a factor."""
    assert a[1] == pytest.approx(factor * b[1], **{"abs": 1e-9, "rel": 1e-9})
    for k in a[2]:
        np.testing.assert_allclose(a[2][k], factor * b[2][k], **TOL, err_msg=k)


@dataclasses.dataclass(frozen=True)
class Quiet(Objective):
    """An objective whose steps draw the noise of `step_by_hand`."""

    inner: Objective
    engine: Any

    def init(self, rng, model, batch):
        return self.inner.init(self.engine.random.rng(0), model, batch)

    def before_step(self, rng, model, state, batch, mask):
        return self.inner.before_step(self.engine.random.rng(1), model, state, batch, mask)

    def batch_loss(self, rng, model, state, batch, mask, num_data):
        return self.inner.batch_loss(self.engine.random.rng(2), model, state, batch, mask, num_data)


@STEPS
def test_a_step_of_fit_is_the_gradient_of_the_loss(dg, double, name):
    """p <- p - rate dloss/dp, and the loss is what the history keeps."""
    start, objective, optimizer = parts(dg, name)
    fit = dg.fit(start, [X], objective=Quiet(objective, dg.engine), optimizer=optimizer, epochs=1, progress=False)
    model, value, grads, _ = step_by_hand(dg, name, {"x": X})
    before, got = copies(dg, model.params), copies(dg, fit.model.params)
    for k, g in grads.items():
        np.testing.assert_allclose(got[k], before[k] - RATE * g, **TOL, err_msg=k)
    assert max(np.abs(g).max() for g in grads.values()) > 1e-3
    assert fit.history["loss"] == pytest.approx([value], rel=1e-10)


@STEPS
def test_weights_of_one_change_nothing(dg, double, name):
    assert_same(step_by_hand(dg, name, {"x": X, "weight": np.ones(5)}), step_by_hand(dg, name, {"x": X}))


@STEPS
def test_the_loss_is_linear_in_the_weights(dg, double, name):
    """A row of weight two counts as it does twice."""
    a, b = np.array([0.5, 1.0, 0.0, 2.0, 3.0]), np.array([1.5, 0.0, 1.0, 0.25, 0.0])
    both, *parts_ = (step_by_hand(dg, name, {"x": X, "weight": w}) for w in (a + b, a, b))
    assert both[1] == pytest.approx(sum(p[1] for p in parts_), rel=1e-9)
    for k, g in both[2].items():
        np.testing.assert_allclose(g, sum(p[2][k] for p in parts_), **TOL, err_msg=k)


@over(lambda case: not case.noise_of_rows)
def test_a_row_that_comes_twice_has_weight_two(dg, double, name):
    twice = step_by_hand(dg, name, {"x": np.concatenate([X[:1], X])})
    assert_same(twice, step_by_hand(dg, name, {"x": X, "weight": np.array([2.0, 1, 1, 1, 1])}), 5 / 6)


@STEPS
def test_rows_that_pad_a_batch_count_for_nothing(dg, double, name):
    """Whatever is in them; and the loss is that of the rows that count, by their number."""
    mask = np.array([1.0, 1, 1, 0, 0])
    padded = step_by_hand(dg, name, {"x": X}, mask)
    other = np.concatenate([X[:3], 1 - X[3:]])
    assert_same(padded, step_by_hand(dg, name, {"x": other}, mask))
    assert_same(padded, step_by_hand(dg, name, {"x": X, "weight": mask}), 5 / 3)


def leaves(tree):
    if hasattr(tree, "shape"):
        return [tree]
    return [leaf for v in (tree.values() if isinstance(tree, dict) else tree) for leaf in leaves(v)]


@ROWS
def test_the_state_is_a_tree_of_arrays_of_one_shape(dg, double, name):
    """What goes on has the shapes of the first state, whatever the number of rows: a checkpoint fits any batch."""
    model, objective, _ = parts(dg, name)
    batch = batch_of(dg, model, {model.data_name: X})
    first = objective.init(dg.engine.random.rng(0), model, batch)
    for rows in (5, 2):
        batch = batch_of(dg, model, {model.data_name: X[:rows]})
        moved, state = objective.before_step(dg.engine.random.rng(1), model, first, batch, None)
        after = objective.batch_loss(dg.engine.random.rng(2), moved, state, batch, None, 5)[1]
        assert [tuple(v.shape) for v in leaves(after)] == [tuple(v.shape) for v in leaves(first)]


def loss_of_svi(dg, model, objective, x):
    """(loss of the host's own SVI, the generator whose draws it had)."""
    if dg.engine.name == "numpyro":
        import jax
        import optax
        from numpyro.infer import SVI

        svi = SVI(model.model, model.guide, optax.sgd(RATE), objective)
        state = jax.jit(svi.init)(jax.random.key(3), x)
        return float(jax.jit(svi.evaluate)(state, x)), jax.random.split(state.rng_key)[1]
    import torch
    from pyro.infer import SVI
    from pyro.optim import SGD

    with torch.random.fork_rng():
        torch.manual_seed(3)
        loss = SVI(model.model, model.guide, SGD({"lr": RATE}), objective).evaluate_loss(x)
    return loss, torch.Generator().manual_seed(3)


@ROWS
def test_the_host_has_the_loss_of_fit(dg, double, param_store, name):
    """SVI's loss is minus the estimate, and N times the loss of a step, with the same draws."""
    model, objective, _ = parts(dg, name)
    if not (hasattr(objective, "estimate") and objective.has_value):
        pytest.skip(f"{type(objective).__name__} has no value that the host could have")
    x = dg.engine.arrays.asarray(X, like=model.like)
    loss, rng = loss_of_svi(dg, model, objective, x)

    def ours(first, second):
        of_fit, _ = objective.batch_loss(first, model, {}, {model.data_name: x}, None, len(X))
        with dg.engine.host.bound():
            return of_fit, objective.estimate(dg.engine, second, model.model, model.guide, (x,), {})

    of_fit, estimate = (float(numpy(dg, v)) for v in dg.engine.control.compile(ours)(rng, copy.deepcopy(rng)))
    assert loss == pytest.approx(-estimate, rel=1e-10)
    assert loss == pytest.approx(len(X) * of_fit, rel=1e-10)


@ROWS
def test_options_are_frozen_hashable_and_checked(dg, name):
    objective, again = OBJECTIVES[name].build(dg), OBJECTIVES[name].build(dg)
    assert objective == again
    assert hash(objective) == hash(again)
    assert repr(objective).startswith(type(objective).__name__)
    field = dataclasses.fields(objective)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(objective, field, 3)
    for wrong in OBJECTIVES[name].wrong:
        (option,) = wrong
        with pytest.raises(ValueError, match=f"expected .* for {option}, got"):
            dataclasses.replace(objective, **wrong)
    objective.check(OBJECTIVES[name].model(dg, "float32"))
    assert isinstance(objective.has_value, bool)
    kind, rate = objective.default_optimizer
    assert kind in dg.engine.host.optimizers
    assert rate > 0
