"""The trainers of the hosts, and what JAX has to know of a model."""

import dataclasses
import functools

import numpy as np
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


def test_adam(dg):
    """The first step of Adam is the rate times the sign of the gradient."""
    x = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    machine, (_, b, _) = small_rbm(dg)
    trainer = dg.engine.host.trainer(bowl(dg), dg.engine.host.optimizers["adam"](0.01), 6)
    state = trainer.init(machine, dg.engine.random.rng(0), {"v": array(dg, x)})
    state, _ = trainer.step(state, {"v": array(dg, x)}, None)
    moved = numpy(dg, trainer.model(state).params["v.bias"]) - b.astype(np.float32)
    np.testing.assert_allclose(moved, -0.01 * np.sign(b - x.mean(0)), rtol=1e-4)


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
