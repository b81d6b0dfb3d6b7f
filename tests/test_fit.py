"""`fit`: its steps are those of a loop by hand, runs that are killed go on alike, and nothing else is touched."""

import functools

import numpy as np
import pytest
from fit_cases import (
    BATCHES,
    Register,
    X,
    assert_identical,
    bias,
    numpy,
    one_hot_rbm,
    options,
    rbm,
    registered,
    scripted,
    train,
    vae,
    values,
)

from deepgen_ppl.array_files import read_arrays

KINDS = pytest.mark.parametrize("kind", ["vae", "rbm"])


# -- steps are those of a loop by hand ---------------------------------------------------------------------------------


def adam_by_hand(arrays, batches, epochs, rate):
    """Adam on the ELBO of a VAE whose guide is a point: written out in torch, from the formulas alone."""
    import torch

    p = {k: torch.tensor(v, requires_grad=True) for k, v in arrays.items()}
    optimizer = torch.optim.Adam(list(p.values()), lr=rate)
    losses = []
    for _ in range(epochs):
        for batch in batches:
            x = torch.tensor(batch, dtype=torch.float64)
            h = torch.tanh(x @ p["encoder.layers.0.weight"] + p["encoder.layers.0.bias"])
            out = h @ p["encoder.layers.1.weight"] + p["encoder.layers.1.bias"]
            m, log_s = out[:, :2], out[:, 2:]
            h = torch.tanh(m @ p["decoder.layers.0.weight"] + p["decoder.layers.0.bias"])
            logits = h @ p["decoder.layers.1.weight"] + p["decoder.layers.1.bias"]
            log_p = -torch.nn.functional.softplus(torch.where(x == 1, -logits, logits)).sum(-1)
            kl = (0.5 * (torch.exp(2 * log_s) + m**2 - 1) - log_s).sum(-1)
            loss = (kl - log_p).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    means = np.average(np.reshape(losses, (epochs, -1)), axis=1, weights=[len(batch) for batch in batches])
    return {k: v.detach().numpy() for k, v in p.items()}, means


def test_steps_of_a_program_are_those_of_a_loop_by_hand(dg, double):
    """Three epochs over batches of 4, 4 and 2 rows; the guide is so narrow that its draws are its means."""
    rng = np.random.default_rng(1)
    model = dg.VAE.init(dg.Bernoulli(6), 2, (5,), rng=0, dtype="float64")
    arrays = {k: 0.5 * rng.normal(size=v.shape) for k, v in model.canonical().items()}
    arrays["encoder.layers.1.weight"][:, 2:] *= 1e-3
    arrays["encoder.layers.1.bias"][2:] = -35.0
    fit = dg.fit(
        model.from_canonical(arrays), BATCHES, objective=dg.ELBO(analytic_kl=True), optimizer=dg.adam(0.01), epochs=3,
        progress=False,
    )  # fmt: skip
    expected, losses = adam_by_hand(arrays, BATCHES, 3, 0.01)
    for k, v in fit.model.canonical().items():
        np.testing.assert_allclose(v, expected[k], atol=1e-7, rtol=0, err_msg=k)
        assert np.abs(v - arrays[k]).max() > 0.01, k
    np.testing.assert_allclose(fit.history["loss"], losses, rtol=1e-8)


def test_steps_of_a_machine_are_those_of_a_loop_by_hand(dg):
    """Chains that cannot move make the gradient of every batch exact, the short one's too."""
    expit = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    w = np.random.default_rng(0).normal(size=(6, 2)) * 0.5
    b, c = np.array([60.0, -60.0] * 3), np.array([0.3, -0.7])
    chain = np.array([1.0, 0.0] * 3)
    machine = dg.RBM(*(a.astype(np.float32) for a in (w, b, c)))
    objective = dg.StochasticML(num_chains=5, offset_rate=0.0)
    fit = dg.fit(machine, BATCHES, objective=objective, optimizer=dg.sgd(0.1), epochs=2, progress=False)
    for batch in BATCHES * 2:
        data, model = expit(c + batch @ w), expit(c + chain @ w)
        gradients = batch.mean(0) - chain, data.mean(0) - model, batch.T @ data / len(batch) - np.outer(chain, model)
        b, c, w = (a + 0.1 * g for a, g in zip((b, c, w), gradients, strict=True))
    for name, expected in (("v.bias", b), ("h.bias", c), ("v-h.weight", w)):
        np.testing.assert_allclose(numpy(dg, fit.model.params[name]), expected, atol=2e-5, err_msg=name)
    np.testing.assert_array_equal(numpy(dg, fit.state.objective.chains.position["v"]), np.tile(chain, (5, 1)))


@pytest.mark.parametrize("as_batches", [False, True])
def test_every_row_is_seen_once_an_epoch(dg, as_batches):
    rows = np.eye(7, dtype=np.float32)
    data = [rows[:3], rows[3:6], rows[6:]] if as_batches else rows
    fit = registered(dg, data=data, epochs=3)
    np.testing.assert_array_equal(numpy(dg, fit.state.objective["seen"]), 3.0)
    assert float(fit.state.objective["steps"]) == 9
    assert fit.history["epoch"] == [1, 2, 3]


def test_rows_come_in_a_new_order_each_epoch(dg):
    """The order is fixed by the seed, is another one in the next epoch, and the short batch is the last."""
    orders = [
        numpy(dg, registered(dg, rng=seed, epochs=e).state.objective["when"])
        for seed, e in ((0, 1), (0, 1), (1, 1), (0, 2))
    ]
    np.testing.assert_array_equal(orders[0], orders[1])
    assert (orders[0] != orders[2]).any()
    # Weights 8^2 1, 8 2, 3 for the three steps of an epoch.
    assert sorted(orders[0]) == [3, 16, 16, 16, 64, 64, 64]
    second = orders[3] - 512 * orders[0]
    assert sorted(second) == [6, 40, 40, 40, 256, 256, 256]
    assert (np.argsort(second, kind="stable") != np.argsort(orders[0], kind="stable")).any()


def test_a_batch_larger_than_the_data(dg):
    fit = registered(dg, batch_size=100, epochs=2)
    assert float(fit.state.objective["steps"]) == 2
    np.testing.assert_array_equal(numpy(dg, fit.state.objective["seen"]), 2.0)


def test_arrays_of_the_engine_and_integers_are_data_too(dg):
    a = train(dg, "vae", epochs=1)
    for data in (X.astype(int), X.astype(bool), X.astype(np.float64), dg.engine.arrays.asarray(X)):
        assert_identical(dg, train(dg, "vae", epochs=1, data=data).model, a.model)
    b = train(dg, "vae", epochs=1, data=BATCHES)
    c = train(dg, "vae", epochs=1, data=[dg.engine.arrays.asarray(x) for x in BATCHES])
    assert_identical(dg, b.model, c.model)


def test_the_defaults(dg):
    x = np.tile(X, (2, 1))
    for model, monitor in ((vae(dg), "loss"), (rbm(dg), "free_energy_gap")):
        fit = dg.fit(model, x, epochs=2, progress=False)
        assert type(fit.model) is type(model)
        assert set(fit.history) == {"epoch", "seconds", monitor}
        assert all(len(v) == 2 for v in fit.history.values())
        assert np.isfinite(fit.history[monitor]).all()
        assert fit.stopped is None
        assert monitor in repr(fit)


# -- callbacks and validation ------------------------------------------------------------------------------------------


def test_callbacks(dg):
    seen = []

    def look(epoch, model, history):
        seen.append((epoch, type(model), len(history["loss"])))
        return epoch == 2

    fit = registered(dg, epochs=5, callbacks=[look])
    assert seen == [(1, dg.RBM, 1), (2, dg.RBM, 2)]
    assert fit.history["epoch"] == [1, 2]
    assert fit.stopped == "a callback asked for it in epoch 2"


def test_the_model_of_a_callback_stays_as_it_was(dg):
    kept = []
    fit = registered(dg, epochs=3, callbacks=[lambda epoch, model, history: kept.append(model)])
    biases = [numpy(dg, m.params["v.bias"])[0] for m in (*kept, fit.model)]
    np.testing.assert_allclose(biases, [1 - 0.5**3, 1 - 0.5**6, 1 - 0.5**9, 1 - 0.5**9], rtol=1e-6)


def test_validation_stops_early_and_returns_the_best(dg):
    watch = dg.Validation(np.eye(7), scripted([0.0, 3.0, 2.0, 1.0, 9.0]), patience=2)
    fit = registered(dg, epochs=5, validation=watch)
    assert fit.history["validation"] == [0.0, 3.0, 2.0, 1.0]
    assert "no better validation value in 2 evaluations" in fit.stopped
    assert bias(dg, fit.model) == pytest.approx(1 - 0.5**6)


def test_validation_without_patience_never_stops(dg):
    watch = dg.Validation(np.eye(7), scripted([0.0, 3.0, 2.0, 1.0]))
    fit = registered(dg, epochs=4, validation=watch)
    assert fit.stopped is None
    assert bias(dg, fit.model) == pytest.approx(1 - 0.5**12)


def test_validation_every_so_many_epochs(dg):
    fit = registered(dg, epochs=5, validation=dg.Validation(np.eye(7), scripted([1.0, 2.0]), every=2))
    assert fit.history["validation"] == [1.0, 2.0]


def test_the_default_metric_is_the_bound_of_the_objective(dg):
    """Of a guide that is a point, the bound is known exactly; plain data serve as a Validation."""
    arrays = {k: 0 * v for k, v in vae(dg).canonical().items()}
    arrays["encoder.layers.1.bias"] = np.array([0.3, 0, -30, -30], np.float32)
    arrays["decoder.layers.1.bias"] = np.full(6, 2.0, np.float32)
    fit = dg.fit(
        vae(dg).from_canonical(arrays), X, objective=dg.ELBO(analytic_kl=True), optimizer=dg.sgd(0.0), epochs=1,
        validation=X[:3], progress=False,
    )  # fmt: skip
    log_p = np.where(X == 1, -np.logaddexp(0, -2), -np.logaddexp(0, 2)).sum(-1)
    kl = 60 + 0.5 * (0.09 - 2)
    assert fit.history["validation"][0] == pytest.approx(log_p[:3].mean() - kl, rel=1e-5)
    assert fit.history["loss"][0] == pytest.approx(kl - log_p.mean(), rel=1e-5)


# -- faults ------------------------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_model(dg, tmp_path):
    """Three steps an epoch; the loss is NaN in the eighth, so the model is that of two epochs."""
    with pytest.warns(RuntimeWarning, match="training stopped: loss not finite in epoch 3"):
        fit = registered(dg, broken_at=7, epochs=5, checkpoint=tmp_path / "run")
    assert bias(dg, fit.model) == pytest.approx(1 - 0.5**6)
    assert fit.history["epoch"] == [1, 2]
    assert "not finite in epoch 3" in fit.stopped
    assert read_arrays(tmp_path / "run")[1]["epoch"] == 2


def test_parameters_that_are_not_finite_are_never_returned(dg):
    """The step overflows, after a loss that was still finite."""
    machine, _ = one_hot_rbm(dg)
    with pytest.warns(RuntimeWarning, match="training stopped: parameters not finite after epoch 1"):
        fit = dg.fit(
            machine, np.eye(7), objective=Register(steepness=1e3), optimizer=dg.sgd(1e38), epochs=3, progress=False
        )
    assert_identical(dg, fit.model, machine)
    assert "not finite" in fit.stopped
    assert fit.history["epoch"] == []


# -- nothing else is touched -------------------------------------------------------------------------------------------


@KINDS
def test_the_model_passed_in_is_not_changed(dg, kind):
    model, _ = options(dg, kind)
    before = values(dg, model)
    fit = train(dg, kind, epochs=1)
    for k, v in values(dg, model).items():
        np.testing.assert_array_equal(v, before[k])
    assert any((v != before[k]).any() for k, v in values(dg, fit.model).items())


@KINDS
def test_the_same_seed_gives_the_same_model(dg, kind):
    a, b, c = (train(dg, kind, epochs=1, rng=seed) for seed in (5, 5, 6))
    assert_identical(dg, a.model, b.model)
    assert any((values(dg, a.model)[k] != v).any() for k, v in values(dg, c.model).items())


@KINDS
def test_no_global_state_is_touched(dg, kind, param_store):
    import jax
    import pyro
    import torch

    def state():
        return (
            torch.get_rng_state().numpy().tobytes(),
            np.random.get_state()[1].tobytes(),  # noqa: NPY002 - the state that must stay
            tuple(pyro.get_param_store().keys()),
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            jax.config.jax_enable_x64,
        )

    before = state()
    train(dg, kind, epochs=1)
    assert state() == before


def test_a_name_in_pyros_store_does_not_disturb_fit(dg_pyro, param_store):
    """Training by the host first, then by `fit`, twice: every model trains."""
    import pyro

    pyro.param("encoder.layers.0.weight", dg_pyro.engine.arrays.asarray(np.ones((2, 2), np.float32)))
    fit = train(dg_pyro, "vae", epochs=1)
    before = values(dg_pyro, vae(dg_pyro))
    assert (values(dg_pyro, fit.model)["encoder.layers.0.weight"] != before["encoder.layers.0.weight"]).any()


def test_the_progress_bar_can_be_turned_off(dg, capfd):
    registered(dg, epochs=2, progress=False)
    assert capfd.readouterr() == ("", "")
    registered(dg, epochs=2, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "RBM" in err


# -- what cannot be trained is refused ---------------------------------------------------------------------------------


def test_a_machine_has_no_loss_to_stop_on(dg):
    with pytest.raises(ValueError, match=r"expected Validation\(data, metric=\.\.\.\) with StochasticML"):
        train(dg, "rbm", validation=X[:3])


def test_an_optimizer_of_the_wrong_kind_is_refused(dg):
    import optax
    import torch

    wrong = {
        "numpyro": [functools.partial(torch.optim.Adam, lr=0.1), "adam", 0.1],
        "pyro": [optax.adam(0.1), "adam", 0.1, torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)],
    }
    kind = {
        "numpyro": "expected an optax.GradientTransformation",
        "pyro": "expected a constructor of a torch optimizer",
    }
    for optimizer in wrong[dg.engine.name]:
        with pytest.raises(TypeError, match=kind[dg.engine.name]):
            train(dg, "vae", optimizer=optimizer)


def test_native_optimizers(dg):
    """The host's own constructors are taken as they are."""
    if dg.engine.name == "numpyro":
        import optax

        optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.01))
    else:
        import torch

        optimizer = functools.partial(torch.optim.AdamW, lr=0.01)
    before = values(dg, vae(dg))
    after = values(dg, train(dg, "vae", epochs=1, optimizer=optimizer).model)
    assert min(np.abs(after[k] - before[k]).max() for k in after) > 1e-3


def test_a_learning_rate_may_follow_a_schedule(dg):
    """b goes to 1 by the factor 1 - rate a step: rates of 1/2, 1/4 and 0."""
    machine, _ = one_hot_rbm(dg)
    rate = lambda step: 0.5 * (step == 0) + 0.25 * (step == 1)  # noqa: E731
    fit = dg.fit(
        machine, np.eye(7, dtype=np.float32), objective=Register(), optimizer=dg.sgd(rate), epochs=1, batch_size=3,
        progress=False,
    )  # fmt: skip
    assert bias(dg, fit.model) == pytest.approx(1 - 0.5 * 0.75)
