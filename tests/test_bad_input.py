"""What a user sees for input that cannot be right: a sentence with what was expected and what came, before training."""

import functools
import re

import bad_input_cases
import numpy as np
import pytest
from bad_input_cases import BITS


@functools.cache
def models(dg):
    return {
        "rbm": dg.RBM.init(rng=0, visible=4, hidden=3),
        "dbm": dg.DBM.init(rng=0, visible=4, hidden=(3, 2)),
        "gaussian": dg.GaussianBernoulliRBM.init(rng=0, visible=4, hidden=3),
        "categorical": dg.RBM.init(rng=0, visible=dg.Categorical(4, 3), hidden=3),
        "spin": dg.RBM.init(rng=0, visible=dg.Spin(4), hidden=3),
        "vae": dg.VAE.init(rng=0, likelihood=dg.Bernoulli(4), latent=2, hidden=(3,)),
        "vae_gaussian": dg.VAE.init(rng=0, likelihood=dg.Gaussian(4), latent=2, hidden=(3,)),
        "vae_categorical": dg.VAE.init(rng=0, likelihood=dg.Categorical(4, 3), latent=2, hidden=(3,)),
    }


def fit(dg, name, data, **more):
    return dg.fit(models(dg)[name], data, **{"epochs": 1, "progress": False, **more})


def changed(value, at=(2, 1)):
    x = BITS.copy()
    x[at] = value
    return x


# -- data --------------------------------------------------------------------------------------------------------------

DATA = {
    "gray values for Bernoulli units": (
        ["rbm", "dbm", "vae"], BITS * 0.5, "data: expected only 0 and 1 for Bernoulli units, got values such as 0, 0.5 "
        r"\(range 0 to 0.5\); deepgen_ppl.datasets.binarize makes them binary",
    ),
    "bytes for Bernoulli units": (["rbm", "vae"], (BITS * 255).astype(np.uint8), r"range 0 to 255\).*binarize"),
    "spins for Bernoulli units": (["rbm", "vae"], 2 * BITS - 1, r"only 0 and 1 .* got values such as -1, 1"),
    "bits for Spin units": (["spin"], BITS, r"expected only -1 and \+1 for Spin units, got values such as 0, 1"),
    "a state too many": (
        ["categorical", "vae_categorical"], changed(3), "expected integers from 0 to 2 for Categorical units, got"
    ),
    "a negative state": (["categorical", "vae_categorical"], changed(-1), "integers from 0 to 2 for .*range -1 to 1"),
    "half a state": (["categorical", "vae_categorical"], changed(0.5), "integers from 0 to 2 .* got"),
    "NaN": (
        ["rbm", "gaussian", "vae", "vae_gaussian", "categorical"], changed(np.nan),
        "expected finite values in data, got 1 NaN or infinite of 32",
    ),
    "infinity": (["rbm", "gaussian", "vae_gaussian"], changed(-np.inf), "expected finite values in data, got 1"),
    "no rows": (["rbm", "vae", "gaussian"], BITS[:0], r"with at least one row, got shape \(0, 4\)"),
    "too wide": (["rbm", "vae", "vae_categorical"], np.zeros((8, 5)), r"shape \(\.\.\., 4\).*got shape \(8, 5\)"),
    "too narrow": (["gaussian", "vae_gaussian"], np.zeros((8, 1)), r"shape \(\.\.\., 4\).*got shape \(8, 1\)"),
    "images": (["rbm", "vae"], BITS.reshape(8, 2, 2), r"expected data of shape \(N, V\), got shape \(8, 2, 2\)"),
    "one row without its axis": (["rbm", "vae"], BITS[0], r"expected data of shape \(N, V\), got shape \(4,\)"),
    "words": (["vae", "vae_gaussian"], BITS.astype(str), "expected numbers in data, got dtype"),
    "complex numbers": (["gaussian", "vae_gaussian"], BITS + 1j, "expected numbers in data, got dtype complex64"),
    "objects": (["vae_gaussian"], changed(0).astype(object), "expected numbers in data, got dtype"),
}  # fmt: skip


@pytest.mark.parametrize(("case", "name"), [(case, name) for case, row in DATA.items() for name in row[0]])
def test_data_for_fit(dg, case, name):
    _, data, sentence = DATA[case]
    with pytest.raises(ValueError, match=sentence):
        fit(dg, name, data)


@pytest.mark.parametrize("case", ["gray values for Bernoulli units", "NaN", "no rows", "too wide", "images"])
def test_data_for_validation(dg, case):
    _, data, sentence = DATA[case]
    with pytest.raises(ValueError, match=re.sub(r"\bdata\b", "validation data", sentence)):
        fit(dg, "vae", BITS, validation=data)


@pytest.mark.parametrize("case", ["gray values for Bernoulli units", "NaN", "too wide", "no rows"])
def test_data_for_init(dg, case):
    _, data, sentence = DATA[case]
    for make in (
        lambda: dg.RBM.init(rng=0, visible=4, hidden=3, data=data),
        lambda: dg.VAE.init(rng=0, likelihood=dg.Bernoulli(4), latent=2, hidden=(3,), data=data),
    ):
        with pytest.raises(ValueError, match=sentence):
            make()


def test_data_of_the_engine_are_checked_too(dg):
    with pytest.raises(ValueError, match="only 0 and 1 for Bernoulli units"):
        fit(dg, "rbm", dg.engine.arrays.asarray(BITS * 0.5))


# -- iterables of batches ----------------------------------------------------------------------------------------------


def test_a_generator_is_exhausted_after_an_epoch(dg):
    with pytest.raises(
        ValueError, match="expected an iterable that can be iterated once an epoch, got one that is exhaust"
    ):
        fit(dg, "vae", (x for x in (BITS[:4], BITS[4:])))


@pytest.mark.parametrize(
    ("batches", "sentence"),
    [
        ([], "expected at least one batch with rows, got none"),
        ([BITS[:0]], "expected at least one batch with rows, got none"),
        ([BITS[:4], BITS[4:] * 0.5], "a batch: expected only 0 and 1 for Bernoulli units"),
        ([BITS[:4], changed(np.nan)], "expected finite values in a batch"),
        ([BITS[:4], BITS[:, :3]], r"expected a batch of shape \(\.\.\., 4\).* got shape \(8, 3\)"),
        ([BITS[0], BITS[1]], r"expected a batch of shape \(N, V\), got shape \(4,\)"),
    ],
)
def test_batches(dg, batches, sentence):
    with pytest.raises(ValueError, match=sentence):
        fit(dg, "vae", batches)


def test_a_loader_of_tuples_or_dicts(dg):
    """Tuples have no names, and the sentence says what to give in their place; a dict has them."""
    from torch.utils.data import DataLoader, TensorDataset

    torch = pytest.importorskip("torch")
    rows = torch.tensor(BITS)
    with pytest.raises(TypeError, match=r"a batch as one array, or a dict of arrays by name \(among 'x'\), got a list"):
        fit(dg, "vae", DataLoader(TensorDataset(rows), batch_size=4))
    loader = DataLoader([{"x": row} for row in rows], batch_size=3)
    assert np.isfinite(fit(dg, "vae", loader).history["loss"]).all()


def test_masked_arrays(dg):
    for name in ("rbm", "vae"):
        with pytest.raises(ValueError, match="expected .* without hidden values, got a masked array"):
            fit(dg, name, np.ma.masked_equal(BITS, 1))


@pytest.mark.parametrize("data", [None, 3, 2.5])
def test_neither_an_array_nor_batches(dg, data):
    with pytest.raises(
        TypeError, match="expected data as an array, a dict of arrays by name, or an iterable of batches, got"
    ):
        fit(dg, "vae", data)


# -- options of fit ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("option", "value"), [("epochs", 0), ("epochs", -1), ("batch_size", 0), ("batch_size", -5)])
def test_epochs_and_rows(dg, option, value):
    with pytest.raises(ValueError, match=f"expected a positive integer for {option}, got {value}"):
        fit(dg, "vae", BITS, **{option: value})


@pytest.mark.parametrize(
    ("option", "value"), [("epochs", 1.5), ("batch_size", 2.5), ("epochs", "3"), ("batch_size", None)]
)
def test_epochs_and_rows_are_integers(dg, option, value):
    with pytest.raises(ValueError, match=f"expected a positive integer for {option}, got {value!r}"):
        fit(dg, "vae", BITS, **{option: value})


def test_objectives_of_the_wrong_kind(dg):
    wrong = {
        "vae": (dg.StochasticML(), dg.ContrastiveDivergence(), "elbo", dg.ELBO),
        "rbm": (dg.ELBO(), dg.IWAE(), dg.BlockGibbs()),
    }
    sentences = r"expected (a model with .* for .*, got .*, which has no|an objective, such as ELBO\(\) or .*, got)"
    for name, objective in ((name, objective) for name, row in wrong.items() for objective in row):
        with pytest.raises(TypeError, match=sentences):
            fit(dg, name, BITS, objective=objective)


def test_models_of_the_wrong_kind(dg):
    vae = dg.VAE.init(dg.Bernoulli(6), 2, (4,), rng=0)
    with pytest.raises(TypeError, match="expected a machine or a program to train, got str"):
        dg.fit("rbm", BITS)
    with pytest.raises(TypeError, match="expected a Boltzmann machine, got VAE"):
        dg.ais(vae, rng=0)
    with pytest.raises(TypeError, match="expected a Boltzmann machine, got VAE"):
        dg.exact_log_normalizer(vae)


@pytest.mark.parametrize("rng", ["0", None, 1.5])
def test_seeds(dg, rng):
    with pytest.raises(TypeError, match="expected an integer seed or a .*, got"):
        fit(dg, "vae", BITS, rng=rng)
    with pytest.raises(TypeError, match="expected an integer seed or a .*, got"):
        dg.VAE.init(rng=rng, likelihood=dg.Bernoulli(4), latent=2)


@pytest.mark.parametrize("callbacks", [len, [3], "abc", 3])
def test_callbacks_are_tried_before_work(dg, callbacks):
    with pytest.raises(TypeError, match="expected callbacks as a list of functions"):
        fit(dg, "vae", BITS, callbacks=callbacks)


def test_metrics(dg):
    with pytest.raises(TypeError, match="expected a function of .model, data. for metric, got 'elbo'"):
        dg.Validation(BITS, metric="elbo")
    with pytest.raises(TypeError, match="expected a number from the validation metric in epoch 1, got None"):
        fit(dg, "vae", BITS, validation=dg.Validation(BITS, lambda model, data: None))
    with pytest.raises(ValueError, match="expected a number from the validation metric in epoch 1, got NaN: with"):
        fit(dg, "vae", BITS, validation=dg.Validation(BITS, lambda model, data: float("nan"), patience=2))


@pytest.mark.parametrize("option", ["patience", "every"])
@pytest.mark.parametrize("value", [0, -1])
def test_validation_options(dg, option, value):
    with pytest.raises(ValueError, match=f"expected .*{option}.*got .*{value}"):
        fit(dg, "vae", BITS, validation=dg.Validation(BITS, **{option: value}))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda dg: dg.StochasticML(num_chains=0), "expected a positive integer for num_chains, got 0"),
        (lambda dg: dg.StochasticML(offset_rate=1.5), "expected a number between 0 and 1 for offset_rate, got 1.5"),
        (lambda dg: dg.StochasticML(offsets="model"), "expected one of 'data', 'average' for offsets, got 'model'"),
        (lambda dg: dg.BlockGibbs(sweeps=0), "expected a positive integer for sweeps, got 0"),
    ],
)
def test_options_of_contrastive_objectives(dg, make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make(dg)


def test_contrastive_divergence_of_coupled_hidden_layers(dg):
    with pytest.raises(
        ValueError, match="whose hidden layers are not coupled for ContrastiveDivergence, got DBM.*StochasticML"
    ):
        fit(dg, "dbm", BITS, objective=dg.ContrastiveDivergence())


# -- programs ----------------------------------------------------------------------------------------------------------


def test_a_program_takes_either_data_or_a_size(dg, param_store):
    model, x = models(dg)["vae"], dg.engine.arrays.asarray(BITS)
    for half in (model.model, model.guide):
        with dg.engine.host.bound():
            with pytest.raises(ValueError, match="expected either x or size, got x of None and size=None"):
                half()
            with pytest.raises(ValueError, match=r"expected either x or size, got x of shape \(8, 4\) and size=3"):
                half(x, size=3)
            for wrong in (x[0], x[:, :3], x[None]):
                with pytest.raises(ValueError, match=r"expected x of shape \(N, 4\), got shape"):
                    half(wrong)


def test_encode_checks_the_width(dg):
    for wrong in (BITS[:, :3], np.zeros((2, 5), np.float32)):
        with pytest.raises(ValueError, match=r"expected x of shape \(.*4\), got shape"):
            models(dg)["vae"].encode(wrong)
        with pytest.raises(ValueError, match=r"expected x of shape \(.*4\), got shape"):
            models(dg)["vae"].reconstruct(wrong)


@pytest.mark.parametrize("likelihood", [4, "bernoulli", None])
def test_likelihoods(dg, likelihood):
    with pytest.raises(TypeError, match=r"expected a unit for the likelihood, such as Bernoulli\(784\), got"):
        dg.VAE.init(rng=0, likelihood=likelihood, latent=2)


@pytest.mark.parametrize("latent", [0, -1, 1.5])
def test_latent_sizes(dg, latent):
    with pytest.raises(ValueError, match=f"expected a positive (integer|number) .*latent.* got .*{latent}"):
        dg.VAE.init(rng=0, likelihood=dg.Bernoulli(4), latent=latent)


def linear(dg, width_in, width_out):
    if dg.engine.name == "numpyro":
        from flax import nnx

        return nnx.Linear(width_in, width_out, rngs=nnx.Rngs(0))
    import torch

    layer = torch.nn.utils.skip_init(torch.nn.Linear, width_in, width_out)
    for p in layer.parameters():
        p.data.zero_()
    return layer


@pytest.mark.parametrize("width", [3, 2, 8])
def test_encoders_of_the_wrong_width(dg, width):
    """Three outputs for two latent variables would be broadcast: a location (2) and one log scale for both."""
    with pytest.raises(ValueError, match=f"4.*got .*{width}"):
        dg.VAE.init(rng=0, likelihood=dg.Bernoulli(4), latent=2, encoder=linear(dg, 4, width)).encode(BITS)


@pytest.mark.parametrize("width", [1, 3])
def test_decoders_of_the_wrong_width(dg, width):
    """One output for four units would be broadcast."""
    with pytest.raises(ValueError, match=f"4.*got .*{width}"):
        dg.VAE.init(rng=0, likelihood=dg.Bernoulli(4), latent=2, decoder=linear(dg, 2, width)).decode(np.zeros((3, 2)))


@pytest.mark.parametrize("network", [np.tanh, "mlp", 3])
def test_networks_of_the_wrong_kind(dg, network):
    for side in ("encoder", "decoder"):
        with pytest.raises(TypeError, match=r"expected a (flax.nnx|torch.nn).Module on the (NumPyro|Pyro) engine, got"):
            dg.VAE.init(rng=0, likelihood=dg.Bernoulli(4), latent=2, **{side: network})


def test_networks_of_the_other_engine(dg_numpyro, dg_pyro):
    for dg, other, kind in ((dg_numpyro, dg_pyro, "flax.nnx"), (dg_pyro, dg_numpyro, "torch.nn")):
        with pytest.raises(TypeError, match=f"expected a {kind}.Module on the .* engine, got Linear"):
            dg.VAE.init(rng=0, likelihood=dg.Bernoulli(4), latent=2, encoder=linear(other, 4, 4))


def test_an_unknown_activation(dg):
    with pytest.raises(ValueError, match="expected an activation among .*'tanh'.* got 'sine'"):
        dg.VAE.init(rng=0, likelihood=dg.Bernoulli(4), latent=2, activation="sine")


# -- precision ---------------------------------------------------------------------------------------------------------


def test_double_precision_on_jax_without_x64(dg_numpyro):
    dg = dg_numpyro
    w, b, c = (np.zeros(s) for s in ((4, 3), (4,), (3,)))
    sentence = (
        r"expected float32 parameters, got float64 while JAX runs without x64.*astype\('float32'\).*jax_enable_x64"
    )
    for make in (
        lambda: dg.RBM(w, b, c),
        lambda: dg.RBM.init(rng=0, visible=4, hidden=3, dtype="float64"),
        lambda: dg.VAE.init(rng=0, likelihood=dg.Bernoulli(4), latent=2, hidden=(3,), dtype="float64"),
        lambda: models(dg)["rbm"].astype("float64"),
    ):
        with pytest.raises(TypeError, match=sentence):
            make()


def test_double_data_for_a_single_model(dg):
    """Data are cast to the model's precision: only parameters would lose theirs."""
    result = fit(dg, "gaussian", BITS.astype(np.float64))
    assert result.model.like.dtype == models(dg)["gaussian"].like.dtype


# -- machines ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda dg, a: dg.RBM(a(4), a(4), a(3)), r"expected a weight of shape \(V, H\), got shape \(4,\)"),
        (lambda dg, a: dg.RBM(a(4, 3), a(3), a(3)), r"expected v.bias of shape \(4,\), got shape \(3,\)"),
        (lambda dg, a: dg.RBM(a(4, 3), a(4), a(4)), r"expected h.bias of shape \(3,\), got shape \(4,\)"),
        (
            lambda dg, a: dg.RBM.init(0, 3, rng=0),
            "expected a positive integer for the number of Bernoulli units, got 0",
        ),
        (lambda dg, a: dg.Bernoulli(2.5), "expected a positive integer for the number of Bernoulli units, got 2.5"),
        (lambda dg, a: dg.Categorical(3, 1), "expected an integer of at least 2 for num_states, got 1"),
        (lambda dg, a: dg.Gaussian(3, scale=-1.0), "expected a positive number for scale .None learns it., got -1.0"),
        (lambda dg, a: dg.DBM.init(4, (), rng=0), "expected the sizes of the hidden layers"),
        (lambda dg, a: dg.DBM.init(4, 3, rng=0), "expected the sizes of the hidden layers"),
        (lambda dg, a: dg.Dense(("v", "v")), "expected two different layers in Dense, got"),
    ],
)
def test_machines(dg, make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make(dg, lambda *shape: np.zeros(shape, np.float32))


def test_parameters_that_are_not_finite(dg):
    w = np.full((4, 3), np.nan, np.float32)
    with pytest.raises(ValueError, match="expected finite .*v-h.weight"):
        dg.RBM(w, np.zeros(4, np.float32), np.zeros(3, np.float32))


def test_data_without_what_a_program_is_given(dg):
    """Covariates, inputs of a regression, an argument without a default: named before work starts."""
    net = dg.BayesianRegression.init((3, 1), rng=0)
    vae = dg.VAE.init(rng=0, likelihood=dg.Bernoulli(4), latent=2, hidden=(3,), num_covariates=1)
    for model, data, missing in ((net, {"y": np.zeros((5, 1))}, "x"), (vae, np.zeros((5, 4)), "covariates")):
        for call, options in ((dg.fit, {"epochs": 1}), (dg.bounds, {"rng": 0})):
            with pytest.raises(ValueError, match=rf"expected .*data with \['{missing}'\], on which .* is conditioned"):
                call(model, data, **options)
    with pytest.raises(TypeError, match=r"a network of your own goes into BayesianRegression\(network, num_outputs\)"):
        dg.BayesianRegression.init(net, rng=0)


# -- the table of malformed calls --------------------------------------------------------------------------------------


class WorkStarted(BaseException):
    """Work began before its input was refused."""


WORK = (
    "deepgen_ppl.training.run.Run.one_epoch",
    "deepgen_ppl.log_z.ais.anneal",
    "deepgen_ppl.log_z.ais.log_z_of_start",
    "deepgen_ppl.log_z.annealed._annealed",
    "deepgen_ppl.log_p.bounds._machine",
    "deepgen_ppl.log_p.bounds.conditional_bounds",
    "deepgen_ppl.log_p.bounds.program_bounds",
)
"""Where training, annealing and weighing begin."""

FORM = re.compile("expected .*(got|found|there is none)", re.DOTALL)
"""What every sentence says: what was expected, and what came."""


def groups():
    """Rows by the argument that is wrong."""
    found = {}
    for row in bad_input_cases.REFUSED:
        found.setdefault(row.name, []).append(row)
    return found


GROUPS = groups()


@pytest.fixture
def no_work(monkeypatch, tmp_path):
    """Whatever starts to work raises; the current folder is empty."""
    monkeypatch.chdir(tmp_path)

    def start(*args, **kwargs):
        raise WorkStarted

    for place in WORK:
        monkeypatch.setattr(place, start)


def wrong(dg, row):
    """What is wrong with the answer to a malformed call, or None."""
    try:
        got = row(dg)
    except WorkStarted:
        return f"{row}: refused after work began, or not at all"
    except Exception as error:
        if isinstance(error, row.error) and FORM.search(str(error)) and re.search(row.sentence, str(error)):
            return None
        return f"{row}: {type(error).__name__}: {error}"
    return f"{row}: accepted, {type(got).__name__}"


@pytest.mark.parametrize("argument", GROUPS)
def test_malformed_calls_are_refused_before_work(dg, argument, no_work):
    found = [problem for row in GROUPS[argument] if (problem := wrong(dg, row))]
    assert not found, "\n".join(found)


def test_the_table_is_whole(dg):
    """At least 200 rows, and every name of the face but the engine in one of them."""
    assert len(bad_input_cases.REFUSED) >= 200
    missing = {name for name in dg.__all__ if not any(re.match(rf"{name}\b", argument) for argument in GROUPS)}
    assert missing == {"engine"}


def test_a_wrong_answer_is_seen(dg):
    """Refused in other words, by another class, late, or accepted: each fails its row."""

    def late(dg, x):
        raise WorkStarted

    def foreign(dg, x):
        raise TypeError("'int' object is not iterable")

    def other_class(dg, x):
        raise KeyError("expected a, got b")

    for call in (late, foreign, other_class, lambda dg, x: x):
        assert wrong(dg, bad_input_cases.Refused("made up", call, 3, TypeError, ""))


@pytest.mark.parametrize("use", bad_input_cases.USES)
def test_odd_arrays_give_the_plain_answer(dg, use):
    to_numpy, call = dg.engine.arrays.to_numpy, bad_input_cases.USES[use]
    plain = to_numpy(call(dg, BITS))
    for kind, clothe in bad_input_cases.ODD.items():
        np.testing.assert_allclose(to_numpy(call(dg, clothe(dg, BITS))), plain, rtol=1e-6, err_msg=kind)


@pytest.mark.parametrize("kind", [np.int64, np.int8, np.uint16, np.array])
def test_sizes_of_numpy(dg, kind):
    rbm = dg.RBM.init(kind(4), kind(3), rng=0)
    assert repr(rbm) == repr(dg.RBM.init(4, 3, rng=0))
    dbm = dg.DBM.init(kind(4), np.array([3, 2]), rng=0)
    assert repr(dbm) == repr(dg.DBM.init(4, (3, 2), rng=0))
    assert dg.BlockGibbs(kind(2)) == dg.BlockGibbs(2)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--engine", "tensorflow"], "expected .*got 'tensorflow'"),
        (["--models", "perceptron"], "expected models among .*got perceptron"),
        (["--models", ","], "expected models among .*got ','"),
        (["--models", "vae,vae"], "expected each model once, got vae,vae"),
        (["--data", "imagenet"], "expected one of .*got 'imagenet'"),
        (["--out", ""], "expected the path of a folder for --out, got ''"),
        (["--epochs", "0"], "--epochs"),
        (["--epochs", "many"], "--epochs"),
        (["--seed", "one"], "--seed"),
        (["--max-test", "1"], "--max-test"),
    ],
)
def test_options_of_the_command_line(options, sentence, no_work):
    testing = pytest.importorskip("typer.testing", exc_type=ModuleNotFoundError)
    pytest.importorskip("rich", exc_type=ModuleNotFoundError)
    from deepgen_ppl.cli.main import app

    result = testing.CliRunner().invoke(app, ["compare", *options])
    assert result.exit_code == 2
    assert re.search(sentence, result.output)
