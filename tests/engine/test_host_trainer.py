"""The trainers of the hosts, and what JAX has to know of a model."""

import dataclasses
import functools

import numpy as np
import pytest
from helpers import array, numpy
from rows import covers, small_rbm


@functools.cache
def bowl(dg):
    """Objective sum_n |b - x_n|^2 / 2 over the rows, for the visible bias b of an RBM; its state counts the steps."""
    from deepgen_ppl.objectives.objective import Objective

    @dataclasses.dataclass(frozen=True)
    class Bowl(Objective):
        def init(self, rng, model, batch):
            return {"steps": array(dg, 0.0)}

        def before_step(self, rng, model, state, batch, mask):
            return model, {"steps": state["steps"] + 1.0}

        def batch_loss(self, rng, model, state, batch, mask, num_data):
            x = batch["v"]
            xp = model.engine.xp
            rows = 0.5 * xp.sum((model.params["v.bias"] - x) ** 2, axis=-1)
            return (xp.mean(rows) if mask is None else xp.sum(mask * rows) / xp.sum(mask)), state

    return Bowl()


@covers("host.trainer", "host.optimizers")
def test_trainer_and_optimizers(dg):
    """SGD on a bowl: b <- b - rate (b - mean x); a mask leaves rows out; the exported state goes on alike."""
    x = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    machine, (_, b, _) = small_rbm(dg)
    host, rng = dg.engine.host, dg.engine.random.rng(0)
    trainer = host.trainer(bowl(dg), host.optimizers["sgd"](0.1), 6)
    state = trainer.init(machine, rng, {"v": array(dg, x[:3])})
    rows = np.array([[0, 1, 2], [3, 4, 5], [5, 0, 0]])
    mask = np.array([[1, 1, 1], [1, 1, 1], [1, 0, 0]], bool)
    state, losses = trainer.run(state, {"v": array(dg, x)}, rows, mask)
    expected = b.astype(np.float32).astype(float)
    exact_losses = []
    for r, m in zip(rows, mask, strict=True):
        exact_losses.append(0.5 * ((expected - x[r[m]]) ** 2).sum(-1).mean())
        expected = expected - 0.1 * (expected - x[r[m]].mean(0))
    np.testing.assert_allclose(losses, exact_losses, rtol=1e-5)
    np.testing.assert_allclose(numpy(dg, trainer.model(state).params["v.bias"]), expected, rtol=1e-5)
    np.testing.assert_array_equal(numpy(dg, machine.params["v.bias"]), b.astype(np.float32))

    saved = trainer.export(state)
    assert all(isinstance(v, np.ndarray) for v in saved.values())
    fresh = trainer.restore(trainer.init(machine, dg.engine.random.rng(9), {"v": array(dg, x[:3])}), saved)
    for i, s in enumerate((fresh, state)):
        s, _ = trainer.step(s, {"v": array(dg, x[:3])}, np.array([True, True, False]))
        np.testing.assert_allclose(
            numpy(dg, trainer.model(s).params["v.bias"]), expected - 0.1 * (expected - x[:2].mean(0)), rtol=1e-5
        )
        assert float(s.objective["steps"]) == 4, i


def test_what_an_objective_keeps_is_no_array_that_moves(dg):
    """The bias and the rows of a step stay as they were in it, also where the objective keeps these very arrays."""
    from deepgen_ppl.objectives.objective import Objective

    @dataclasses.dataclass(frozen=True)
    class Keeps(Objective):
        def init(self, rng, model, batch):
            return self.batch_loss(rng, model, None, batch, None, 0)[1]

        def before_step(self, rng, model, state, batch, mask):
            return model, state

        def batch_loss(self, rng, model, state, batch, mask, num_data):
            bias, rows = model.params["v.bias"], batch["v"]
            return (bias**2).sum(), {"bias": bias, "row": rows[:1], "both": bias + rows}

    machine, (_, b, _) = small_rbm(dg)
    x = array(dg, np.ones((2, 3)))
    trainer = dg.engine.host.trainer(Keeps(), dg.engine.host.optimizers["sgd"](0.1), 2)
    state = trainer.init(machine, dg.engine.random.rng(0), {"v": x})
    for i in range(2):
        state, _ = trainer.step(state, {"v": x}, None)
        bias = b.astype(np.float32) * 0.8**i
        np.testing.assert_allclose(numpy(dg, state.objective["bias"]), bias, rtol=1e-5)
        np.testing.assert_allclose(numpy(dg, state.objective["both"]), bias + np.ones((2, 3)), rtol=1e-5)
    if dg.engine.name == "pyro":
        x.zero_()
    np.testing.assert_array_equal(numpy(dg, state.objective["row"]), 1.0)


def test_adam(dg):
    """The first step of Adam is the rate times the sign of the gradient."""
    x = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    machine, (_, b, _) = small_rbm(dg)
    trainer = dg.engine.host.trainer(bowl(dg), dg.engine.host.optimizers["adam"](0.01), 6)
    state = trainer.init(machine, dg.engine.random.rng(0), {"v": array(dg, x)})
    state, _ = trainer.step(state, {"v": array(dg, x)}, None)
    moved = numpy(dg, trainer.model(state).params["v.bias"]) - b.astype(np.float32)
    np.testing.assert_allclose(moved, -0.01 * np.sign(b - x.mean(0)), rtol=1e-4)


@pytest.mark.parametrize("layout", ["rows", "columns"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_adam_is_that_of_torch(dg_pyro, dtype, layout):
    """In one pass where all tensors are laid out row by row; the state goes on from either to the other."""
    import torch

    from deepgen_ppl.hosts.on_pyro.optimizers import constructor, made, numbers, put_state, state_arrays

    ours = constructor(dg_pyro.adam(0.01, weight_decay=0.1, b1=0.8, b2=0.99, eps=1e-6))
    theirs = functools.partial(torch.optim.Adam, lr=0.01, weight_decay=0.1, betas=(0.8, 0.99), eps=1e-6)
    rng = np.random.default_rng(0)
    draw = lambda *shape: torch.tensor(rng.normal(size=shape), dtype=getattr(torch, dtype))  # noqa: E731
    matrix = draw(5, 7) if layout == "rows" else draw(7, 5).T
    first = {"matrix": matrix, "number": draw(), "nothing": draw(0), "unused": draw(3)}
    grads = [{k: draw(*v.shape) for k, v in first.items() if k != "unused"} for _ in range(6)]
    makes = (ours, theirs)
    params = [{k: v.clone().requires_grad_() for k, v in first.items()} for _ in makes]
    optimizers = [made(make, p) for make, p in zip(makes, params, strict=True)]
    assert [optimizer.defaults["fused"] for optimizer in optimizers] == [True if layout == "rows" else None, None]
    for i, step in enumerate(grads):
        if i == 3:
            kept = [state_arrays(*both) for both in zip(optimizers, params, strict=True)]
            assert kept[0].keys() == kept[1].keys()
            assert numbers(optimizers[0]) == numbers(optimizers[1])
            optimizers = [made(make, p) for make, p in zip(makes, params, strict=True)]
            for make, optimizer, p, arrays in zip(makes, optimizers, params, reversed(kept), strict=True):
                put_state(make, optimizer, p, arrays)
        for optimizer, p in zip(optimizers, params, strict=True):
            optimizer.zero_grad()
            sum((p[k].mT * g.mT if g.ndim == 2 else p[k] * g).sum() for k, g in step.items()).backward()
            optimizer.step()
        for k in first:
            a, b = (p[k].detach().numpy() for p in params)
            np.testing.assert_allclose(a, b, rtol=1e-5 if dtype == "float32" else 1e-13, atol=0, err_msg=k)
    assert (params[0]["unused"] == first["unused"]).all()


def test_what_is_chosen_for_adam_is_kept(dg_pyro):
    """Pyro's Adam is ours, unless its options say how it steps; the user's own constructors are left alone."""
    import pyro
    import torch

    from deepgen_ppl.hosts.on_pyro.optimizers import constructor, made

    fused = lambda o: made(constructor(o), {"b": torch.zeros(2)}).defaults["fused"]  # noqa: E731
    assert fused(pyro.optim.Adam({"lr": 0.1}))
    assert fused(pyro.optim.Adam({"lr": 0.1, "fused": False})) is False
    assert fused(pyro.optim.Adam({"lr": 0.1, "foreach": True})) is None
    assert fused(functools.partial(torch.optim.Adam, lr=0.1)) is None


def test_register(dg):
    """On JAX a model is a tree of its arrays that is rebuilt whole; on torch there is nothing to do."""
    machine, _ = small_rbm(dg)
    if dg.engine.name == "pyro":
        assert dg.engine.register(type("Anything", (), {})) is None
        return
    import jax

    leaves, tree = jax.tree.flatten(machine)
    assert sorted(x.shape for x in leaves) == sorted(
        tuple(x.shape) for x in {**machine.params, **machine.constants}.values()
    )
    again = jax.tree.unflatten(tree, leaves)
    assert type(again) is type(machine)
    assert again.structure == machine.structure
    np.testing.assert_array_equal(np.asarray(again.params["v-h.weight"]), np.asarray(machine.params["v-h.weight"]))
