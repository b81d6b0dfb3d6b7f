"""`fit`: its steps are those of a loop by hand, runs that are killed go on alike, and nothing else is touched."""

import dataclasses
import functools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fit_cases import (
    BATCHES,
    Register,
    X,
    assert_identical,
    bias,
    one_hot_rbm,
    options,
    rbm,
    registered,
    scripted,
    train,
    vae,
    values,
)
from helpers import numpy

from deepgen_ppl.array_files import read_arrays
from deepgen_ppl.training.method import Fit, Method

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


def test_the_best_model_is_kept_without_patience_too(dg):
    watch = dg.Validation(np.eye(7), scripted([0.0, 3.0, 2.0]), keep_best=True)
    assert bias(dg, registered(dg, epochs=3, validation=watch).model) == pytest.approx(1 - 0.5**6)
    watch = dg.Validation(np.eye(7), scripted([0.0, 3.0, 2.0]), patience=5, keep_best=False)
    assert bias(dg, registered(dg, epochs=3, validation=watch).model) == pytest.approx(1 - 0.5**9)
    with pytest.raises(TypeError, match="expected True, False or None for keep_best, got 1"):
        dg.Validation(np.eye(7), keep_best=1)


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


def test_a_program_that_diverges_stops_like_a_machine(dg):
    """NaN reaches the host's distributions, which would refuse it by an error of their own."""
    first = vae(dg)
    with pytest.warns(RuntimeWarning, match="training stopped: .* not finite"):
        fit = dg.fit(
            first, X, objective=dg.ELBO(), optimizer=dg.sgd(1e30), epochs=2, batch_size=2, rng=0, progress=False
        )
    assert_identical(dg, fit.model, first)
    assert fit.history["epoch"] == []


def test_a_trained_machine_is_evaluated_at_once(dg):
    """Its arrays take no gradient: an estimate without particles is a number there, and NumPy reads them."""
    machine = dg.fit(rbm(dg), X, epochs=1, batch_size=5, rng=0, progress=False).model
    x = dg.engine.arrays.asarray(X, like=machine.like)
    known = machine.marginal(log_normalizer=dg.exact_log_normalizer(machine)).log_prob(x)
    exact = machine.marginal(log_normalizer="exact").log_prob(x)
    np.testing.assert_allclose(np.asarray(known), np.asarray(exact), rtol=1e-5)
    assert np.asarray(machine.params["v.bias"]).shape == (6,)


def test_the_hosts_checks_of_arguments_are_as_they_were(dg):
    """A first run, and one that goes on, leave the host's own switches alone."""
    fit = dg.fit(vae(dg), X, objective=dg.ELBO(), epochs=2, batch_size=2, rng=0, progress=False)
    with pytest.raises(ValueError, match="probs"):
        dg.engine.host.dist.Bernoulli(probs=fit.model.like * 0 + 2.0, validate_args=None)


def test_the_state_of_a_run_that_diverged_is_the_good_one(dg):
    with pytest.warns(RuntimeWarning, match="loss not finite in epoch 3"):
        fit = registered(dg, broken_at=7, epochs=5)
    assert bias(dg, fit.state.model) == pytest.approx(1 - 0.5**6)
    assert float(fit.state.objective["steps"]) == 6


@dataclasses.dataclass(frozen=True)
class Coupled(Register):
    """Pulls the weights up by the learning rate a step."""

    def batch_loss(self, rng, model, state, batch, mask, num_data):
        return -model.engine.xp.sum(model.params["v-h.weight"]), state


def test_a_machine_that_becomes_improper_stops(dg):
    """Two Gaussian units of precision 1 coupled by w have a normalizer for w < 1: 0.9, 0.96, then 1.02."""
    one = np.zeros(1, np.float32)
    machine = dg.BoltzmannMachine(
        {"v": dg.Gaussian(1), "h": dg.Gaussian(1)}, [dg.Dense(("v", "h"))],
        {"v.bias": one, "h.bias": one, "v-h.weight": np.full((1, 1), 0.9, np.float32)},
    )  # fmt: skip
    with pytest.warns(RuntimeWarning, match="training stopped: no normalizer after epoch 2.*eigenvalue"):
        fit = dg.fit(machine, np.ones((3, 1)), objective=Coupled(), optimizer=dg.sgd(0.06), epochs=5, progress=False)
    assert fit.history["epoch"] == [1]
    assert "no normalizer after epoch 2" in fit.stopped
    for model in (fit.model, fit.state.model):
        assert numpy(dg, model.params["v-h.weight"]).item() == pytest.approx(0.96)


# -- optimizers --------------------------------------------------------------------------------------------------------


def sgd_by_hand(b, steps, rate, weight_decay=0.0, momentum=0.0, nesterov=False):  # noqa: FBT002
    m = 0.0
    for _ in range(steps):
        g = b - 1 + weight_decay * b
        m = momentum * m + g
        b = b - rate * (g + momentum * m if nesterov else m)
    return b


def adam_steps_by_hand(b, steps, rate, weight_decay=0.0, b1=0.9, b2=0.999, eps=1e-8):
    m = v = 0.0
    for t in range(1, steps + 1):
        g = b - 1 + weight_decay * b
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        b = b - rate * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
    return b


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("sgd", {}),
        ("sgd", {"weight_decay": 0.3}),
        ("sgd", {"momentum": 0.8, "weight_decay": 0.1}),
        ("sgd", {"momentum": 0.8, "nesterov": True}),
        ("adam", {}),
        ("adam", {"weight_decay": 0.3, "b1": 0.7, "b2": 0.9, "eps": 0.01}),
    ],
)
def test_sgd_and_adam_take_the_same_steps_on_both_engines(dg, double, name, given):
    """Five steps on a bowl, in float64, against the formulas."""
    machine = dg.RBM.init(7, 2, rng=0, centered=False, dtype="float64").with_params({"v.bias": np.full(7, 3.0)})
    optimizer = getattr(dg, name)(0.1, **given)
    assert optimizer == getattr(dg, name)(np.float64(0.1), **given)
    fit = dg.fit(machine, np.eye(7), objective=Register(), optimizer=optimizer, epochs=5, progress=False)
    by_hand = {"sgd": sgd_by_hand, "adam": adam_steps_by_hand}[name]
    np.testing.assert_allclose(numpy(dg, fit.model.params["v.bias"]), by_hand(3.0, 5, 0.1, **given), rtol=1e-12)


def test_options_of_optimizers_are_checked(dg):
    for make, sentence in (
        (lambda: dg.sgd(-1.0), "expected a number that is not negative for learning_rate, got -1.0"),
        (lambda: dg.adam("fast"), "expected a number that is not negative for learning_rate, got 'fast'"),
        (lambda: dg.sgd(0.1, momentum=2), "expected a number between 0 and 1 for momentum, got 2"),
        (lambda: dg.sgd(0.1, nesterov=True), "expected a positive momentum with nesterov=True, got 0"),
        (lambda: dg.adam(0.1, weight_decay=-1), "expected a number that is not negative for weight_decay, got -1"),
    ):
        with pytest.raises(ValueError, match=sentence):
            make()


def test_an_optimizer_that_was_not_called_is_refused(dg):
    for optimizer in (dg.adam, dg.sgd):
        with pytest.raises(TypeError, match="expected a.* got <class '.*'>"):
            train(dg, "vae", optimizer=optimizer)


def test_optimizers_of_pyro(dg_pyro, tmp_path):
    """Pyro's own constructors, with options for all or by the name of a parameter; their state is resumed."""
    import pyro
    import torch

    dg = dg_pyro
    ours, theirs = (
        train(dg, "vae", epochs=2, optimizer=o).model for o in (dg.adam(0.01), pyro.optim.Adam({"lr": 0.01}))
    )
    assert_identical(dg, ours, theirs)
    only = pyro.optim.SGD(lambda name: {"lr": 0.1 if name.startswith("encoder") else 0.0})
    before, after = values(dg, vae(dg)), values(dg, train(dg, "vae", epochs=1, optimizer=only).model)
    assert {k.partition(".")[0] for k in before if (before[k] != after[k]).any()} == {"encoder"}
    decaying = lambda: pyro.optim.ClippedAdam({"lr": 0.05, "lrd": 0.7})  # noqa: E731 - its rate falls as it runs
    train(dg, "vae", epochs=1, optimizer=decaying(), checkpoint=tmp_path / "run")
    again = train(dg, "vae", epochs=3, optimizer=decaying(), checkpoint=tmp_path / "run", resume=True)
    assert_identical(dg, again.model, train(dg, "vae", epochs=3, optimizer=decaying()).model)
    schedule = pyro.optim.ExponentialLR({"optimizer": torch.optim.SGD, "optim_args": {"lr": 0.1}, "gamma": 0.9})
    for wrong, sentence in (
        (schedule, "expected an optimizer of pyro.optim without a scheduler and clip_args"),
        (pyro.optim.Adam({"lr": 0.1}, {"clip_norm": 1.0}), "expected an optimizer of pyro.optim without a scheduler"),
        (functools.partial(torch.optim.LBFGS, lr=0.1), "expected an optimizer whose steps need gradients alone"),
        (lambda named: None, "expected a constructor of a torch optimizer, got .*, which makes None"),
    ):
        with pytest.raises(TypeError, match=sentence):
            train(dg, "vae", optimizer=wrong)


def test_optimizers_of_torch_see_names(dg_pyro):
    import torch

    seen = []

    def make(named):
        seen.append([name for name, _ in named])
        return torch.optim.SGD(named, lr=0.1)

    train(dg_pyro, "vae", epochs=1, optimizer=make)
    assert seen[-1] == list(vae(dg_pyro).params)


def test_optimizers_of_optax(dg_numpyro, tmp_path):
    """One that goes by names, one that keeps a key of its own (and is resumed), and one that needs more."""
    import optax

    dg = dg_numpyro
    labels = lambda params: {k: k.partition(".")[0] for k in params}  # noqa: E731
    by_name = optax.multi_transform({"encoder": optax.sgd(0.1), "decoder": optax.set_to_zero()}, labels)
    before, after = values(dg, vae(dg)), values(dg, train(dg, "vae", epochs=1, optimizer=by_name).model)
    assert {k.partition(".")[0] for k in before if (before[k] != after[k]).any()} == {"encoder"}
    noisy = optax.chain(optax.add_noise(0.1, 0.5, 0), optax.sgd(0.01))
    train(dg, "vae", epochs=1, optimizer=noisy, checkpoint=tmp_path / "run")
    again = train(dg, "vae", epochs=2, optimizer=noisy, checkpoint=tmp_path / "run", resume=True)
    assert_identical(dg, again.model, train(dg, "vae", epochs=2, optimizer=noisy).model)
    with pytest.raises(TypeError, match="expected an optimizer that needs gradients and parameters alone"):
        train(dg, "vae", optimizer=optax.lbfgs())


def test_a_refit_of_equal_options_does_not_compile_again(dg_numpyro):
    """A new model, new data of the same shape, a fresh optimizer and objective: compiled once, and no memory grows."""
    from deepgen_ppl.hosts.on_numpyro import trainer
    from deepgen_ppl.training.validation import _default_metric

    dg, sizes = dg_numpyro, []
    for i in range(3):
        model = dg.VAE.init(rng=i, likelihood=dg.Bernoulli(6), latent=2, hidden=(5,))
        more = {"objective": dg.ELBO(num_particles=2), "optimizer": dg.adam(0.003), "validation": X[:3]}
        dg.fit(model, X if i else 1 - X, epochs=1, batch_size=4, rng=i, progress=False, **more)
        compiled = trainer._compiled(dg.ELBO(num_particles=2), trainer.native(dg.adam(0.003)), 10)
        sizes.append([fn._cache_size() for fn in compiled[:2]])
        sizes[-1] += [trainer._compiled.cache_info().misses, _default_metric.cache_info().misses]
    assert sizes[0] == sizes[1] == sizes[2]
    assert sizes[0][:2] == [1, 1]


# -- methods and options -----------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Nothing(Method):
    """A method that takes epochs alone, and trains nothing."""

    def run(self, model, data, *, rng, epochs=1):
        return Fit(model, {"epoch": [epochs]}, None)


def test_a_method_names_the_arguments_that_it_takes(dg):
    assert dg.fit(vae(dg), X, method=Nothing(), epochs=3).history == {"epoch": [3]}
    with pytest.raises(TypeError, match=r"arguments of fit among \['epochs', 'rng'\] for Nothing, got \['batch_size'"):
        dg.fit(vae(dg), X, method=Nothing(), batch_size=3, optimizer=dg.sgd(0.1))
    with pytest.raises(TypeError, match="expected a method, such as GradientSteps\\(\\) for method, got 'nuts'"):
        dg.fit(vae(dg), X, method="nuts")


def test_integers_of_numpy(dg, tmp_path):
    watch = dg.Validation(X[:3], every=np.int64(1), patience=np.int32(3))
    numbers = {"epochs": np.int64(1), "batch_size": np.int32(4), "rng": np.int64(5), "validation": watch}
    a = train(dg, "vae", checkpoint=tmp_path / "run", **numbers)
    assert_identical(dg, a.model, train(dg, "vae", epochs=1).model)


def test_large_seeds_are_seeds_of_their_own(dg):
    random = dg.engine.random
    states = {random.state(random.rng(seed)).tobytes() for seed in (0, 1, 2**32, 2**32 + 1, 2**33, 2**63, -1)}
    assert len(states) == 7


def test_a_seed_beyond_torchs(dg_pyro):
    with pytest.raises(ValueError, match="expected a seed from -2.63 to 2.64 - 1 on the Pyro engine, got"):
        train(dg_pyro, "vae", rng=2**64)


@dataclasses.dataclass(frozen=True)
class Weights(Register):
    """Sums the row weights that reach it."""

    def before_step(self, rng, model, state, batch, mask):
        w = batch["weight"] if mask is None else mask * batch["weight"]
        return model, {**state, "steps": state["steps"] + model.engine.xp.sum(w)}


def test_row_weights_reach_the_objective(dg):
    machine, optimizer = one_hot_rbm(dg)
    data = {"v": np.eye(7), "weight": np.arange(7.0)}
    fit = dg.fit(machine, data, objective=Weights(), optimizer=optimizer, epochs=1, batch_size=3, progress=False)
    assert float(fit.state.objective["steps"]) == 21


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


def test_fit_without_gradients_around_it(dg_pyro):
    import torch

    with torch.no_grad():
        fit = train(dg_pyro, "vae", epochs=1)
    assert_identical(dg_pyro, fit.model, train(dg_pyro, "vae", epochs=1).model)
    with (
        torch.inference_mode(),
        pytest.raises(RuntimeError, match=r"expected fit outside torch.inference_mode\(\)"),
    ):
        train(dg_pyro, "vae", epochs=1)


def test_an_outer_handler_sees_nothing(dg):
    with dg.engine.host.handlers.trace() as outer:
        train(dg, "vae", epochs=1, objective=dg.IWAE(num_particles=2))
    assert not set(getattr(getattr(outer, "trace", outer), "nodes", getattr(outer, "trace", {}))) & {"x", "z"}


def test_fits_in_threads_do_not_disturb_each_other(dg_pyro):
    """Pyro has one stack of handlers for the process: steps wait for each other."""
    whole = [train(dg_pyro, "vae", rng=seed).model for seed in (1, 2)]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda seed: train(dg_pyro, "vae", rng=seed).model, (1, 2)))
    for a, b in zip(whole, found, strict=True):
        assert_identical(dg_pyro, a, b)


def test_the_progress_bar_can_be_turned_off(dg, capfd):
    registered(dg, epochs=2, progress=False)
    assert capfd.readouterr() == ("", "")
    registered(dg, epochs=2, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "RBM" in err


# -- what cannot be trained is refused ---------------------------------------------------------------------------------


def test_a_machine_has_no_loss_to_stop_on(dg):
    sentence = r"expected Validation\(data, metric=\.\.\.\) with StochasticML, .*metric=bounds_metric\(\) judges"
    with pytest.raises(ValueError, match=sentence):
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
