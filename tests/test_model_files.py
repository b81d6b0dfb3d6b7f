"""Files of models: whole or not at all, no pickles, readable by either engine."""

import copy
import json
import os
import pickle

import numpy as np
import pytest
from helpers import numpy
from safetensors import safe_open
from safetensors.numpy import save_file

from deepgen_ppl import array_files, model_files

RNG = np.random.default_rng(0)
X = RNG.integers(0, 2, (5, 6)).astype(np.float32)
REAL = RNG.normal(size=(5, 4)).astype(np.float32)

MODELS = {
    "rbm": lambda dg: dg.RBM.init(rng=0, visible=6, hidden=3, data=X, weight_scale=0.5),
    "rbm_bare": lambda dg: dg.RBM(*(RNG.normal(size=s).astype(np.float32) for s in ((6, 3), (6,), (3,)))),
    "rbm_spin": lambda dg: dg.RBM.init(rng=0, visible=dg.Spin(6), hidden=dg.Categorical(2, 3), weight_scale=0.5),
    "gaussian_rbm": lambda dg: dg.GaussianBernoulliRBM.init(4, 3, rng=0, visible_scale=0.6, weight_scale=0.5),
    "gaussian_rbm_learned": lambda dg: dg.GaussianBernoulliRBM.init(
        rng=0, visible=4, hidden=3, visible_scale=None, data=REAL, weight_scale=0.5
    ),
    "dbm": lambda dg: dg.DBM.init(rng=0, visible=6, hidden=(3, 2), data=X, weight_scale=0.5),
    "convolutional_rbm": lambda dg: dg.ConvolutionalRBM.init(
        rng=0, image=(1, 5, 7), filters=2, kernel=2, pool=2, weight_scale=0.5
    ),
    "machine": lambda dg: dg.BoltzmannMachine(
        {"v": dg.Bernoulli(6), "h": dg.Bernoulli(2), "c": dg.Gaussian(2, scale=None)},
        [dg.Dense(("v", "h")), dg.Dense(("c", "h"))],
        {
            "v.bias": np.ones(6, np.float32), "h.bias": np.ones(2, np.float32), "c.bias": np.ones(2, np.float32),
            "c.log_sigma": np.full(2, 0.3, np.float32), "v-h.weight": RNG.normal(size=(6, 2)).astype(np.float32),
            "c-h.weight": RNG.normal(size=(2, 2)).astype(np.float32),
        },
    ),
    "vae": lambda dg: dg.VAE.init(rng=0, likelihood=dg.Bernoulli(6), latent=2, hidden=(5, 4), activation="gelu"),
    "vae_gaussian": lambda dg: dg.VAE.init(
        dg.Gaussian(4, scale=None), 3, (5,), rng=0, activation="softplus", name="mine"
    ),
    "vae_categorical": lambda dg: dg.VAE.init(
        dg.Categorical(3, 4), 2, (5,), rng=0, num_covariates=2, activation="relu"
    ),
}  # fmt: skip


def like(dg, model, x):
    return dg.engine.arrays.asarray(x, like=model.like)


def outputs(dg, model):
    """Numbers that depend on every array of the model."""
    engine = dg.engine
    if hasattr(model, "networks"):
        size = model.likelihood.size
        x = np.arange(3 * size).reshape(3, size) % 2
        c = {"covariates": like(dg, model, np.full((3, 2), 0.5))} if model.num_covariates else {}
        q = model.encode(x, **c)
        z = like(dg, model, np.linspace(-1, 1, 3 * model.latent).reshape(3, -1))
        p = model.decode(z, **c).log_prob(model.likelihood.observed(engine, like(dg, model, x), model.like))
        return [numpy(dg, v) for v in (q.mean, q.variance, p)]
    state = {}
    for name, unit in model.structure.units:
        rng = np.random.default_rng(unit.size)
        values = rng.normal(size=(3, unit.size)) if unit.states is None else rng.choice(unit.states, (3, unit.size))
        state[name] = like(dg, model, values)
    return [numpy(dg, model.energy(state))]


def assert_same(dg, a, other, b, rtol):
    for u, v in zip(outputs(dg, a), outputs(other, b), strict=True):
        np.testing.assert_allclose(u, v, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("name", list(MODELS))
def test_round_trip(dg, dg_numpyro, dg_pyro, tmp_path, name):
    """The same engine gets back the same bits; the other one the same outputs."""
    other = dg_pyro if dg is dg_numpyro else dg_numpyro
    model, path = MODELS[name](dg), tmp_path / "model.safetensors"
    dg.save(model, path)
    again = dg.load(path)
    assert type(again) is type(model)
    assert repr(again) == repr(model)
    for group in ("params", "constants"):
        a, b = getattr(model, group), getattr(again, group)
        assert set(a) == set(b)
        for k in a:
            np.testing.assert_array_equal(numpy(dg, b[k]), numpy(dg, a[k]), err_msg=k)
            assert numpy(dg, b[k]).dtype == numpy(dg, a[k]).dtype
    assert_same(dg, model, dg, again, 0)
    there = other.load(path)
    assert type(there).__name__ == type(model).__name__
    assert type(there).__module__ == other.__name__
    assert_same(dg, model, other, there, 2e-5)
    other.save(there, path)
    assert_same(dg, model, dg, dg.load(path), 0)


def test_round_trip_changes_something(dg):
    """The outputs that the round trip compares do depend on each array."""
    for name in ("rbm", "gaussian_rbm_learned", "dbm", "vae_gaussian"):
        model = MODELS[name](dg)
        before = outputs(dg, model)
        for k, v in model.params.items():
            after = outputs(dg, model.with_params({k: v + 0.5}))
            assert any(np.abs(a - b).max() > 1e-3 for a, b in zip(after, before, strict=True)), (name, k)


@pytest.mark.parametrize("name", ["rbm", "vae"])
def test_double_precision_is_kept(dg, dg_pyro, double, tmp_path, name):
    options = {"rbm": lambda: dg.RBM.init(6, 3, rng=0, weight_scale=0.5, dtype="float64"),
               "vae": lambda: dg.VAE.init(dg.Bernoulli(6), 2, (5,), rng=0, dtype="float64")}  # fmt: skip
    model, path = options[name](), tmp_path / "model"
    dg.save(model, path)
    for face in (dg, dg_pyro):
        again = face.load(path)
        assert {numpy(face, v).dtype for v in again.params.values()} == {np.dtype("float64")}
        assert_same(dg, model, face, again, 1e-12)


@pytest.mark.parametrize("name", ["rbm", "vae"])
def test_double_precision_is_not_rounded_on_jax_without_x64(dg_numpyro, dg_pyro, tmp_path, name):
    models = {"rbm": lambda: dg_pyro.RBM.init(6, 3, rng=0, dtype="float64"),
              "vae": lambda: dg_pyro.VAE.init(dg_pyro.Bernoulli(6), 2, (5,), rng=0, dtype="float64")}  # fmt: skip
    dg_pyro.save(models[name](), tmp_path / "model")
    with pytest.raises(TypeError, match="got float64 while JAX runs without x64"):
        dg_numpyro.load(tmp_path / "model")


def test_a_loaded_program_trains_by_the_hosts_svi(dg_pyro, tmp_path, param_store):
    """Pyro's parameter store takes the tensors of a loaded program as they are."""
    import pyro

    dg_pyro.save(MODELS["vae"](dg_pyro), tmp_path / "vae")
    vae = dg_pyro.load(tmp_path / "vae")
    before = vae.canonical()
    pyro.infer.SVI(vae.model, vae.guide, pyro.optim.SGD({"lr": 0.1}), dg_pyro.ELBO()).step(
        dg_pyro.engine.arrays.asarray(X)
    )
    assert all((vae.canonical()[k] != v).any() for k, v in before.items())


# -- what is in the file -----------------------------------------------------------------------------------------------


def test_the_file_is_safetensors_with_json_and_no_pickle(dg, tmp_path):
    for name in ("rbm", "vae"):
        path = tmp_path / name
        dg.save(MODELS[name](dg), path)
        with safe_open(path, framework="np") as file:
            meta = json.loads(file.metadata()["deepgen_ppl"])
            assert all(file.get_tensor(k).dtype == np.float32 for k in file.keys())  # noqa: SIM118 - not a mapping
        assert meta["kind"] == "model"
        assert meta["family"] == name.upper()
        with pytest.raises((pickle.UnpicklingError, ValueError, EOFError, KeyError, IndexError, AttributeError)):
            pickle.loads(path.read_bytes())


def test_nothing_pickled_is_ever_read():
    """No source of the package unpickles: neither by pickle nor by what uses it."""
    from pathlib import Path

    for path in Path(array_files.__file__).parent.rglob("*.py"):
        text = path.read_text()
        for banned in ("pickle.load", "torch.load", "allow_pickle=True", "joblib", "cloudpickle", "dill"):
            assert banned not in text, f"{path}: {banned}"


def test_a_crash_before_the_rename_leaves_the_old_file(dg, tmp_path, monkeypatch):
    path = tmp_path / "model"
    old, new = MODELS["rbm"](dg), MODELS["dbm"](dg)
    dg.save(old, path)
    before = path.read_bytes()
    for broken in ("fsync", "replace"):
        with monkeypatch.context() as patch:

            def crash(*args, **kwargs):
                raise OSError("the power is gone")

            if broken == "fsync":
                patch.setattr(os, "fsync", crash)
            else:
                patch.setattr(type(path), "replace", crash)
                patch.setattr(os, "replace", crash)
            with pytest.raises(OSError, match="the power is gone"):
                dg.save(new, path)
        assert path.read_bytes() == before
        assert type(dg.load(path)) is dg.RBM
    dg.save(new, path)
    assert type(dg.load(path)) is dg.DBM


def test_equal_models_make_equal_files(dg, tmp_path):
    for name in "abcdef":
        dg.save(dg.RBM.init(6, 3, rng=0), tmp_path / name)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_no_other_file_is_left(dg, tmp_path):
    dg.save(MODELS["rbm"](dg), tmp_path / "model")
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_saving_into_no_folder(dg, tmp_path):
    with pytest.raises(FileNotFoundError):
        dg.save(MODELS["rbm"](dg), tmp_path / "nowhere" / "model")


def test_paths_are_strings_too(dg, tmp_path):
    dg.save(MODELS["rbm"](dg), str(tmp_path / "model"))
    assert type(dg.load(str(tmp_path / "model"))) is dg.RBM


# -- what is no model --------------------------------------------------------------------------------------------------


def test_no_file(dg, tmp_path):
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(FileNotFoundError, match="expected a file at .*found none"):
            dg.load(path)


@pytest.mark.parametrize("content", [b"", b"{", b"\x80\x04K\x01.", b"x" * 500])
def test_a_file_of_another_kind(dg, tmp_path, content):
    (tmp_path / "model").write_bytes(content)
    with pytest.raises(ValueError, match="expected a safetensors file at .*model"):
        dg.load(tmp_path / "model")


def test_a_torn_file(dg, tmp_path):
    path = tmp_path / "model"
    dg.save(MODELS["vae"](dg), path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    with pytest.raises(ValueError, match="expected a safetensors file at"):
        dg.load(path)


def test_a_safetensors_file_of_somebody_else(dg, tmp_path):
    save_file({"a": np.ones(2, np.float32)}, tmp_path / "model")
    with pytest.raises(ValueError, match="expected a file written by deepgen_ppl at"):
        dg.load(tmp_path / "model")


def test_a_checkpoint_is_no_model(dg, tmp_path):
    dg.fit(MODELS["rbm"](dg), X, epochs=1, checkpoint=tmp_path / "run", progress=False)
    with pytest.raises(ValueError, match=r"expected a model among \[.*'RBM'.*\] at .*run, got checkpoint"):
        dg.load(tmp_path / "run")


def test_an_unknown_family(dg, tmp_path):
    array_files.write_arrays(tmp_path / "model", {}, {"kind": "model", "family": "Perceptron"})
    with pytest.raises(ValueError, match=r"expected a model among .*got Perceptron"):
        dg.load(tmp_path / "model")


def test_a_model_file_without_some_of_its_arrays(dg, tmp_path):
    path = tmp_path / "model"
    for name, lost in (("rbm", "params.v.bias"), ("vae", "networks.decoder.layers.0.bias")):
        dg.save(MODELS[name](dg), path)
        arrays, meta = array_files.read_arrays(path)
        del arrays[lost]
        array_files.write_arrays(path, arrays, meta)
        with pytest.raises(ValueError, match=lost.removeprefix("params.").removeprefix("networks.")):
            dg.load(path)


def wrong_configs(config):
    """Copies of a config in which one entry, however deep, is missing or is something else."""
    for key in config if isinstance(config, dict) else range(len(config)):
        for wrong in (None, -1, "x", [], {}, [[]], 2.5, 10**9):
            if wrong != config[key]:
                changed = copy.copy(config)
                changed[key] = wrong
                yield changed
        lacking = copy.copy(config)
        del lacking[key]
        yield lacking
        if isinstance(config[key], dict | list):
            for inner in wrong_configs(config[key]):
                changed = copy.copy(config)
                changed[key] = inner
                yield changed


@pytest.mark.parametrize(
    "name", ["rbm", "gaussian_rbm", pytest.param("convolutional_rbm", marks=pytest.mark.slow), "vae"]
)
def test_a_hostile_file_ends_in_a_sentence(dg, tmp_path, name):
    """Whatever a file says of a model, it loads as something of its own shapes or is refused."""
    path = tmp_path / "model"
    dg.save(MODELS[name](dg), path)
    arrays, meta = array_files.read_arrays(path)
    shapes = {v.shape for v in arrays.values()}
    for config in (None, 3, [], *wrong_configs(meta["config"])):
        array_files.write_arrays(path, arrays, meta | {"config": config})
        try:
            model = dg.load(path)
        except ValueError as error:
            assert str(error).startswith("expected"), (config, error)  # noqa: PT017 - either this or a model
        else:
            assert {v.shape for v in model.to_file()[1].values()} <= shapes, config
    for wrong in ({}, {"kind": "model"}, meta | {"family": ["RBM"]}, meta | {"family": None}, meta | {"format": 2}):
        array_files.write_arrays(path, arrays, wrong)
        with pytest.raises(ValueError, match="^expected"):
            dg.load(path)


def test_metadata_that_are_no_json_object(tmp_path):
    for text in ("{", "[" * 100_000, "3", "[1, 2]", ""):
        save_file({}, tmp_path / "a", metadata={array_files.KEY: text})
        with pytest.raises(ValueError, match="^expected a JSON object in the metadata of the file"):
            array_files.read_arrays(tmp_path / "a")


def test_a_size_that_the_arrays_do_not_have_takes_no_memory(dg, tmp_path):
    """A small file that asks for billions of units: refused before anything is made."""
    path = tmp_path / "model"
    dg.save(MODELS["vae"](dg), path)
    arrays, meta = array_files.read_arrays(path)
    for name, option in (("latent", 10**9), ("size", {"kind": "Bernoulli", "size": 10**9})):
        options = meta["config"]["options"] | {"latent" if name == "latent" else "likelihood": option}
        array_files.write_arrays(path, arrays, meta | {"config": meta["config"] | {"options": options}})
        with pytest.raises(ValueError, match=f"expected arrays of the size that the file gives for '{name}'"):
            dg.load(path)
    dg.save(MODELS["convolutional_rbm"](dg), path)
    arrays, meta = array_files.read_arrays(path)
    for size, message in ((10**9, "arrays of the size that the file gives for 'size'"), (10**7, "repeats that divide")):
        layers = [["v", {"kind": "Bernoulli", "size": size}], *meta["config"]["layers"][1:]]
        array_files.write_arrays(path, arrays, meta | {"config": meta["config"] | {"layers": layers}})
        with pytest.raises(ValueError, match=f"expected {message}"):
            dg.load(path)


@pytest.mark.parametrize("name", ["rbm", "vae"])
def test_values_that_are_no_finite_floats(dg, tmp_path, name):
    path = tmp_path / "model"
    model = MODELS[name](dg)
    dg.save(model, path)
    arrays, meta = array_files.read_arrays(path)
    key = next(k for k in arrays if not k.startswith("constants."))
    for wrong, sentence in (
        (np.full_like(arrays[key], np.nan), f"expected finite values in {key} in the file at .*model, got"),
        (
            arrays[key].astype(np.int64),
            "expected real numbers of floating point for .*int64",
        ),
        (
            arrays[key].astype(np.complex64),
            f"expected real numbers of floating point for {key} .* dtype complex64",
        ),
    ):
        array_files.write_arrays(path, arrays | {key: wrong}, meta)
        with pytest.raises(ValueError, match=sentence):
            dg.load(path)


def test_a_program_with_nan_is_not_saved(dg, tmp_path):
    model = MODELS["vae"](dg)
    broken = model.from_canonical({k: np.full_like(v, np.nan) for k, v in model.canonical().items()})
    with pytest.raises(ValueError, match="expected finite values in .* in the model to save, got"):
        dg.save(broken, tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_only_models_are_saved(dg, tmp_path):
    for wrong in (np.ones(3), {"a": 1}, None, dg.Bernoulli(3)):
        with pytest.raises(TypeError, match="expected a machine or a program of deepgen_ppl to save, got"):
            dg.save(wrong, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_units_of_the_users_own_are_saved(dg, tmp_path):
    """By name, beside the library's own of that name; one that is not known here is named."""

    class Odd(dg.Bernoulli):
        pass

    class Bernoulli(dg.Bernoulli):
        pass

    machine = dg.RBM.init(Odd(3), Bernoulli(2), rng=0)
    dg.save(machine, tmp_path / "model")
    again = dg.load(tmp_path / "model")
    assert again.structure == machine.structure
    assert [type(u) for _, u in again.structure.units] == [Odd, Bernoulli]
    dg.save(dg.RBM.init(3, 2, rng=0), tmp_path / "plain")
    assert type(dg.load(tmp_path / "plain").structure.layers["v"]) is dg.Bernoulli
    arrays, meta = array_files.read_arrays(tmp_path / "model")
    meta["config"]["layers"][0][1]["kind"] = "own:Odder"
    array_files.write_arrays(tmp_path / "model", arrays, meta)
    with pytest.raises(ValueError, match="expected a Unit among .*'own:Odd'.*, got 'own:Odder': a class of your own"):
        dg.load(tmp_path / "model")


def own_networks(dg, seed):
    if dg.engine.name == "numpyro":
        from flax import nnx

        rngs = nnx.Rngs(seed)
        return nnx.Linear(6, 4, rngs=rngs), nnx.Linear(2, 6, rngs=rngs)
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return torch.nn.Linear(6, 4), torch.nn.Linear(2, 6)


def test_networks_of_the_users_own_come_back_by_the_user(dg, tmp_path):
    encoder, decoder = own_networks(dg, 0)
    model = dg.VAE.init(dg.Bernoulli(6), 2, rng=0, encoder=encoder, decoder=decoder)
    dg.save(model, tmp_path / "model")
    with pytest.raises(ValueError, match=r"expected encoder=\.\.\. and decoder=\.\.\. to load a VAE .* of your own"):
        dg.load(tmp_path / "model")
    encoder, decoder = own_networks(dg, 1)
    again = dg.load(tmp_path / "model", encoder=encoder, decoder=decoder)
    assert_same(dg, model, dg, again, 0)


def test_one_network_of_the_users_own(dg, tmp_path):
    """The other one is a perceptron that `init` made, which `load` makes again."""
    encoder, _ = own_networks(dg, 0)
    model = dg.VAE.init(dg.Bernoulli(6), 2, (3,), rng=0, encoder=encoder, activation="relu")
    dg.save(model, tmp_path / "model")
    with pytest.raises(ValueError, match=r"expected encoder=\.\.\. to load a VAE that .* of your own, got none"):
        dg.load(tmp_path / "model")
    with pytest.raises(TypeError, match=r"expected networks among \['decoder', 'encoder'\] .* got \['coder'\]"):
        dg.load(tmp_path / "model", coder=encoder)
    assert_same(dg, model, dg, dg.load(tmp_path / "model", encoder=own_networks(dg, 1)[0]), 0)


def test_networks_of_another_shape_do_not_load(dg, tmp_path):
    encoder, decoder = own_networks(dg, 0)
    dg.save(dg.VAE.init(dg.Bernoulli(6), 2, rng=0, encoder=encoder, decoder=decoder), tmp_path / "model")
    with pytest.raises(ValueError, match="shape"):
        dg.load(tmp_path / "model", encoder=decoder, decoder=encoder)


# -- arrays in files ---------------------------------------------------------------------------------------------------


def test_arrays_of_any_layout(tmp_path):
    """Transposed, sliced, empty and scalar arrays come back as they were."""
    x = np.arange(12.0).reshape(3, 4)
    arrays = {
        "transposed": x.T, "sliced": x[:, ::2], "scalar": np.float32(2.5), "empty": np.zeros((0, 3)),
        "integer": np.arange(3), "bool": np.array([True, False]), "bytes": np.arange(5, dtype=np.uint8),
    }  # fmt: skip
    array_files.write_arrays(tmp_path / "a", arrays, {"note": "ü", "list": [1, None, 0.1]})
    again, meta = array_files.read_arrays(tmp_path / "a")
    assert meta == {"note": "ü", "list": [1, None, 0.1]}
    assert again.keys() == arrays.keys()
    for k, v in arrays.items():
        np.testing.assert_array_equal(again[k], v)
        assert again[k].dtype == np.asarray(v).dtype


def test_the_faces_share_one_save(dg_numpyro, dg_pyro):
    assert dg_numpyro.save is dg_pyro.save is model_files.save


def test_sizes_from_numpy_are_saved(dg, tmp_path):
    """Integers of NumPy in constructors are integers in files."""
    two, three = np.int64(2), np.int32(3)
    for model in (
        dg.RBM.init(np.int64(4), three, rng=0),
        dg.DBM.init(np.int64(4), np.array([3, 2]), rng=0),
        dg.VAE.init(dg.Bernoulli(np.int64(4)), two, (three,), rng=0),
        dg.RBM.init(dg.Categorical(two, num_states=three), two, rng=0),
    ):
        dg.save(model, tmp_path / "model")
        assert repr(dg.load(tmp_path / "model")) == repr(model)
