"""The command line: `deepgen-ppl compare` from data to table, files and pictures, and what it says to wrong input."""

import csv
import datetime
import importlib.util
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from conftest import HOSTS, face

pytest.importorskip("typer", exc_type=ModuleNotFoundError)
pytest.importorskip("rich", exc_type=ModuleNotFoundError)
pytest.importorskip("matplotlib", exc_type=ModuleNotFoundError)
pytest.importorskip("arviz", exc_type=ModuleNotFoundError)

from test_arviz import group, groups, opened
from typer.testing import CliRunner

from deepgen_ppl.array_files import read_arrays
from deepgen_ppl.cli.main import app
from deepgen_ppl.cli.report import _whole
from deepgen_ppl.training.checkpoints import Checkpoint

FILES = {
    "bounds.png", "comparison.nc", "curves.csv", "curves.png", "run.json", "samples.png", "table.csv",
    "rbm16.checkpoint", "rbm16.safetensors", "vae.checkpoint", "vae.safetensors",
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """60 binary images of 4 x 4 pixels: stripes, some pixels flipped."""
    rng = np.random.default_rng(0)
    x = np.tile([[1, 1, 0, 0]], (60, 4, 1)) ^ (rng.random((60, 4, 4)) < 0.1)
    path = tmp_path_factory.mktemp("data") / "stripes.npz"
    np.savez(path, x=x.astype(np.uint8))
    return path


def invoke(*args):
    return CliRunner().invoke(app, [str(a) for a in args])


def compare(engine, data, out, *more, models="rbm16,vae", epochs=1):
    return invoke(
        "compare", "--data", data, "--models", models, "--engine", engine, "--epochs", epochs, "--out", out, *more
    )


@pytest.fixture(scope="module", params=list(HOSTS))
def finished(request, data, tmp_path_factory):
    """(engine, folder, result) of one whole run."""
    face(request.param)
    out = tmp_path_factory.mktemp(request.param) / "new" / "folder"
    result = compare(request.param, data, out)
    assert result.exit_code == 0, result.output
    return request.param, out, result


def test_files_are_written(finished):
    _, out, _ = finished
    assert {p.name for p in out.iterdir()} == FILES
    for name in ("bounds", "curves", "samples"):
        content = (out / f"{name}.png").read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) > 3000


def test_table_has_the_rows(finished):
    _, out, _ = finished
    with (out / "table.csv").open(newline="") as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"rbm16", "vae"}
    assert rows["rbm16"]["lower_kind"] == rows["rbm16"]["upper_kind"] == "exact"
    assert (rows["vae"]["lower_kind"], rows["vae"]["upper_kind"], rows["vae"]["upper"]) == ("bound", "none", "nan")
    assert -17 < float(rows["rbm16"]["lower"]) < -2


def test_every_file_says_what_was_run(finished, data):
    """Data, engine, epochs, seed, version and command; `run.json` also when, by what, and on which rows."""
    from deepgen_ppl import __version__

    engine, out, _ = finished
    command = f"deepgen-ppl compare --data {data} --models rbm16,vae --engine {engine} --epochs 1 --out {out}"
    about = {"data": str(data), "engine": engine, "epochs": 1, "seed": 0, "version": __version__}
    about["command"] = f"{command} --seed 0 --max-test 1000"
    run = json.loads((out / "run.json").read_text())
    assert {name: run[name] for name in about} == about
    assert datetime.datetime.fromisoformat(run["date"]).tzinfo is not None
    assert run["options"]["max_test"] == 1000
    assert run["options"]["resume"] is False
    assert run["packages"][{"numpyro": "jax", "pyro": "torch"}[engine]]
    assert run["rows"]["train"]["shape"] == [48, 16]
    assert run["models"]["vae"]["epochs"] == 1
    for name in ("table.csv", "curves.csv"):
        with (out / name).open(newline="") as file:
            for row in csv.DictReader(file):
                assert {k: row[k] for k in about} == {k: str(v) for k, v in about.items()}
    opened_again = opened(out / "comparison.nc")
    for name in ("bounds", "log_likelihood"):
        attrs = group(opened_again, name).attrs
        assert {k: attrs[k] for k in about} == about
        assert attrs["inference_library"] == "deepgen_ppl"


def test_curves_have_their_numbers(finished):
    _, out, _ = finished
    with (out / "curves.csv").open(newline="") as file:
        found = {(row["model"], row["quantity"]): (row["epoch"], float(row["value"])) for row in csv.DictReader(file)}
    assert {name for name, _ in found} == {"rbm16", "vae"}
    assert {"loss", "validation", "seconds"} <= {quantity for name, quantity in found if name == "vae"}
    assert found["vae", "loss"][0] == "1"
    assert 2 < found["vae", "loss"][1] < 17
    assert -17 < found["rbm16", "validation"][1] < -2


def test_output_is_readable(finished):
    _, _, result = finished
    assert re.search(r"48 training, 6 test data.*; values as in the file", result.output)
    assert "rbm16: RBM(v: Bernoulli(16), h: Bernoulli(16)" in result.output
    assert re.search(r"AIS both ways puts rbm16 in \[-\d+\.\d+, -\d+\.\d+\]", result.output)
    assert "nan" not in result.output.lower()
    assert max(len(line) for line in result.output.splitlines() if line.startswith("│")) <= 140


def test_models_load_back(finished, data):
    engine, out, _ = finished
    dg = face(engine)
    assert isinstance(dg.load(out / "rbm16.safetensors"), dg.RBM)
    vae = dg.load(out / "vae.safetensors")
    assert isinstance(vae, dg.VAE)
    assert dg.engine.arrays.to_numpy(vae.sample(2, rng=0)).shape == (2, 16)
    with (out / "table.csv").open(newline="") as file:
        (row,) = [row for row in csv.DictReader(file) if row["model"] == "rbm16"]
    from deepgen_ppl import datasets

    e = dg.bounds(dg.load(out / "rbm16.safetensors"), datasets.load(str(data)).test, rng=1)
    assert e.lower.value == pytest.approx(float(row["lower"]), abs=1e-5)


def test_comparison_opens(finished):
    _, out, _ = finished
    data = opened(out / "comparison.nc")
    assert {"log_likelihood", "bounds"} <= groups(data)
    bounds = group(data, "bounds").sel(model="vae")
    assert set(group(data, "bounds")["model"].values) == {"rbm16", "vae"}
    assert (str(bounds["lower_kind"].values), str(bounds["upper_kind"].values)) == ("bound", "none")
    assert np.isnan(bounds["upper_pointwise"].values).all()
    assert float(bounds["lower_pointwise"].values.mean()) == pytest.approx(float(bounds["lower"].values), abs=1e-6)


def test_resume_goes_on(finished, data, tmp_path, monkeypatch):
    """A run that is interrupted goes on to the bits of one that was not; the same run again does nothing."""
    engine, out, _ = finished
    before = (out / "rbm16.safetensors").read_bytes()
    again = compare(engine, data, out, "--resume")
    assert again.exit_code == 0, again.output
    assert (out / "rbm16.safetensors").read_bytes() == before

    def interrupted(self, arrays, record, save=Checkpoint.save):
        save(self, arrays, record)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", interrupted)
        assert compare(engine, data, tmp_path, models="rbm16", epochs=2).exit_code != 0
    assert read_arrays(tmp_path / "rbm16.checkpoint")[1]["epoch"] == 1
    assert compare(engine, data, tmp_path, "--resume", models="rbm16", epochs=2).exit_code == 0
    assert compare(engine, data, tmp_path / "whole", models="rbm16", epochs=2).exit_code == 0
    a, b = (read_arrays(folder / "rbm16.safetensors")[0] for folder in (tmp_path, tmp_path / "whole"))
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])
    assert len(read_arrays(tmp_path / "rbm16.checkpoint")[1]["history"]["epoch"]) == 2


def test_a_checkpoint_of_another_run_is_refused(finished, data):
    """Another seed, data of the same shapes, another number of epochs (the learning rates follow it), or none asked."""
    engine, out, _ = finished
    other = data.with_name("other.npz")
    np.savez(other, x=1 - np.load(data)["x"])
    before = {name: (out / name).read_bytes() for name in ("rbm16.checkpoint", "rbm16.safetensors", "table.csv")}
    for path, arguments, epochs, sentence in (
        (data, ("--resume", "--seed", 5), 1, "expected the seed"),
        (other, ("--resume",), 1, "expected the rows"),
        (data, ("--resume",), 3, "expected the learning rate"),
        (data, (), 1, "expected resume=True to go on from the checkpoint"),
    ):
        check_refused(compare(engine, path, out, *arguments, models="rbm16", epochs=epochs), sentence)
    for name, content in before.items():
        assert (out / name).read_bytes() == content
    (out / "rbm16.checkpoint").write_bytes(b"broken")
    check_refused(compare(engine, data, out, "--resume", models="rbm16"), "expected a safetensors file")


def check_refused(result, *words):
    """Exit code 2 and a sentence of ours, without a traceback."""
    assert result.exit_code == 2, (result.exit_code, result.output, result.exception)
    text = result.stderr.rstrip("\n")
    assert text.startswith("deepgen-ppl: "), text
    assert len(text.splitlines()) == 1, text
    for word in words:
        assert word in text, text


def test_unknown_models(data, tmp_path):
    check_refused(
        compare("numpyro", data, tmp_path / "out", models="rbm,gan"),
        "expected models among rbm16, rbm, dbm, vae, iwae, got gan",
    )
    check_refused(compare("numpyro", data, tmp_path, models=" , "), "expected models among rbm16", "got ' , '")
    assert not list(tmp_path.iterdir())  # nothing is made before the input is right


def test_repeated_models(data, tmp_path):
    check_refused(compare("numpyro", data, tmp_path, models="vae,vae"), "expected each model once")


def test_unknown_engine(data, tmp_path):
    check_refused(compare("stan", data, tmp_path), "expected the engine 'numpyro' or 'pyro', got 'stan'")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.npz", "expected a .npy or .npz file; there is none at"),
        ("brackets[old].npz", "brackets[old].npz"),
        ("unknown", "expected one of digits, mnist, binarized_mnist, or the path of a .npy or .npz file; got"),
    ],
)
def test_data_that_are_not_there(tmp_path, name, message):
    check_refused(compare("numpyro", tmp_path / name, tmp_path / "out"), message)
    assert not (tmp_path / "out").exists()


WRONG = {
    "text": (np.array([["a", "b"]] * 20), "expected real numbers; got dtype"),
    "complex": (np.zeros((20, 4), complex), "expected real numbers; got dtype complex128"),
    "flat": (np.zeros(20), "2 axes; got shape (20,)"),
    "few": (np.zeros((5, 4)), "expected at least 10 rows to split 80/10/10; got shape (5, 4)"),
    "nan": (np.full((20, 4), np.nan), "expected finite values"),
    "large": (np.full((20, 4), 7.0), "expected values in [0, 1]; got minimum 7.0, maximum 7.0"),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_data_of_the_wrong_kind(tmp_path, name):
    values, message = WRONG[name]
    np.save(tmp_path / "x.npy", values)
    check_refused(compare("numpyro", tmp_path / "x.npy", tmp_path / "out"), message)


def test_files_that_do_not_read(tmp_path):
    (tmp_path / "x.npz").write_text("no zip file")
    check_refused(compare("numpyro", tmp_path / "x.npz", tmp_path / "out"), "expected arrays, and no pickles")
    np.savez(tmp_path / "keys.npz", images=np.zeros((20, 4)))
    check_refused(compare("numpyro", tmp_path / "keys.npz", tmp_path / "out"), "expected the keys x or", "got images")


def test_folder_that_cannot_be_made(data, tmp_path):
    (tmp_path / "taken").write_text("a file")
    check_refused(compare("numpyro", data, tmp_path / "taken"), "taken")


def test_an_output_folder_without_a_name(data, tmp_path, monkeypatch):
    """An empty variable of a script is not the current folder."""
    monkeypatch.chdir(tmp_path)
    check_refused(compare("numpyro", data, ""), "expected the path of a folder for --out, got ''")
    assert not list(tmp_path.iterdir())


def test_a_seed_that_the_engine_does_not_take(data, tmp_path):
    check_refused(compare("pyro", data, tmp_path / "out", "--seed", 2**70), "expected a seed from -2^63 to 2^64 - 1")
    assert not (tmp_path / "out").exists()


def test_files_are_whole_or_not_there(tmp_path):
    """A writer that fails leaves what was there, and nothing beside it."""

    def half(path):
        path.write_text("half")
        raise OSError("disk full")

    (tmp_path / "table.csv").write_text("old")
    with pytest.raises(OSError, match="disk full"):
        _whole(tmp_path / "table.csv", half)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"table.csv": "old"}


@pytest.mark.parametrize(
    "option", [("--epochs", 0), ("--epochs", 10**30), ("--max-test", 1), ("--seed", "x"), ("--color", 1)]
)
def test_wrong_options(data, tmp_path, option):
    result = invoke("compare", "--data", data, "--out", tmp_path / "out", *option)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_help_and_version():
    from deepgen_ppl import __version__

    text = invoke("compare", "--help").output
    for word in ("--data", "--models", "--engine", "--resume", "rbm16"):
        assert word in text
    assert __version__ in invoke("version").output


def test_as_a_program(tmp_path):
    """The command in a process of its own, on gray rows without a shape: no warnings, no samples, and it says so."""
    engine = next(name for name in reversed(HOSTS) if importlib.util.find_spec(HOSTS[name][1]))
    np.save(tmp_path / "gray.npy", np.random.default_rng(0).random((40, 9), dtype=np.float32))
    code = "from deepgen_ppl.cli.main import main; main()"
    command = [sys.executable, "-W", "error::UserWarning:deepgen_ppl", "-c", code, "compare", "--engine", engine]
    command += [
        "--data",
        str(tmp_path / "gray.npy"),
        "--models",
        "vae",
        "--epochs",
        "1",
        "--out",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "binarized: 1 where the pixel is >= 0.5" in done.stdout
    assert re.search("written to .*: bounds.png, comparison.nc", done.stdout)
    assert not (tmp_path / "out" / "samples.png").exists()
    wrong = subprocess.run([*command, "--models", "gan"], capture_output=True, text=True, timeout=600, check=False)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("deepgen-ppl: expected models among")
    assert wrong.stdout == ""
