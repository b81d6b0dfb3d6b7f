"""Checkpoints: runs that are killed go on to the same bits, and files know which run they belong to."""

import functools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from fit_cases import (
    BATCHES,
    RUNS,
    X,
    assert_identical,
    bias,
    options,
    registered,
    scripted,
    train,
    vae,
    values,
)

from deepgen_ppl.array_files import read_arrays, write_arrays

TESTS = Path(__file__).parent

# -- runs that are killed ----------------------------------------------------------------------------------------------

RUN = """
import importlib, os, signal, sys
sys.path.insert(0, {tests!r})
from fit_cases import BATCHES, RUNS, X, train
dg = importlib.import_module("deepgen_ppl.{face}")
runs = [(kind, kind, X) for kind in RUNS] + [("batches", "dbm", BATCHES)]

def run(name, kind, data, **more):
    return train(dg, kind, data=data, epochs=3, checkpoint={folder!r} + "/" + name, **more)

def until_killed(rest):
    if not rest:
        os.kill(os.getpid(), signal.SIGKILL)
    run(*rest[0], callbacks=[lambda epoch, model, history: until_killed(rest[1:]) if epoch == 2 else None])

if {resume}:
    for each in runs:
        dg.save(run(*each, resume=True).model, {folder!r} + "/" + each[0] + ".model")
else:
    until_killed(runs)
"""


def run_in_another_process(dg, folder, *, resume):
    script = RUN.format(face=dg.engine.name, tests=str(TESTS), folder=str(folder), resume=resume)
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", script], cwd=TESTS.parent, capture_output=True, timeout=300
    )


@pytest.mark.parametrize("dg", [pytest.param("numpyro", marks=pytest.mark.slow), "pyro"], indirect=True)
def test_killed_runs_go_on_to_the_same_bits(dg, tmp_path):
    """One process is killed (signal 9) in the second epoch of a run of each kind; another one resumes them all."""
    killed = run_in_another_process(dg, tmp_path, resume=False)
    assert killed.returncode == -9, killed.stderr.decode()
    names = [*RUNS, "batches"]
    for name in names:
        assert read_arrays(tmp_path / name)[1]["epoch"] == 1
    resumed = run_in_another_process(dg, tmp_path, resume=True)
    assert resumed.returncode == 0, resumed.stderr.decode()
    for name in names:
        kind, data = (name, X) if name in RUNS else ("dbm", BATCHES)
        whole = train(dg, kind, epochs=3, data=data).model
        assert_identical(dg, dg.load(tmp_path / f"{name}.model"), whole)
        assert max(np.abs(values(dg, whole)[k] - v).max() for k, v in values(dg, RUNS[kind](dg)[0]).items()) > 1e-3


WRITE = """
import numpy as np
from deepgen_ppl.array_files import write_arrays
for i in range(10**6):
    write_arrays({path!r}, {{"a": np.full(30000, float(i))}}, {{"i": i}})
"""


def test_a_kill_while_writing_leaves_a_whole_file(tmp_path):
    path = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", WRITE.format(path=str(path))], cwd=TESTS.parent) as writer:
        for _ in range(300):
            if path.is_file() and read_arrays(path)[1]["i"] > 20:
                break
            time.sleep(0.05)
        writer.send_signal(signal.SIGKILL)
    arrays, meta = read_arrays(path)
    assert meta["i"] > 20
    np.testing.assert_array_equal(arrays["a"], meta["i"])
    for part in tmp_path.glob(".run.*.part"):
        os.utime(part, (0, 0))
    write_arrays(path, {}, {})
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_writers_on_one_path_never_tear_it(tmp_path):
    """Whoever reads sees the whole file of one writer."""
    path, done, faults = tmp_path / "run", threading.Event(), []
    write_arrays(path, {"a": np.zeros(1)}, {"i": 0})

    def write(i):
        try:
            for _ in range(40):
                write_arrays(path, {"a": np.full(1000 * i, float(i))}, {"i": i})
        except OSError as error:
            faults.append(error)

    def read():
        while not done.is_set():
            try:
                arrays, meta = read_arrays(path)
                assert (arrays["a"] == meta["i"]).all()
            except Exception as error:
                faults.append(error)

    writers = [threading.Thread(target=write, args=(i,)) for i in (1, 2, 3)]
    reader = threading.Thread(target=read)
    for thread in (*writers, reader):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    assert not faults, faults[:3]
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


# -- resume ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["vae", "rbm"])
def test_resume_with_more_epochs(dg, tmp_path, kind):
    path = tmp_path / "run"
    first = train(dg, kind, epochs=2, checkpoint=path)
    seen = []
    again = train(dg, kind, checkpoint=path, resume=True, callbacks=[lambda epoch, model, history: seen.append(epoch)])
    whole = train(dg, kind)
    assert seen == [3, 4]
    assert_identical(dg, again.model, whole.model)
    monitor = options(dg, kind)[1]["objective"].monitor
    assert again.history[monitor] == whole.history[monitor]
    assert again.history[monitor][:2] == first.history[monitor]
    assert_identical(dg, train(dg, kind, checkpoint=path, resume=True).model, whole.model)


def test_resume_of_momentum(dg, tmp_path):
    """The optimizer's own arrays are in the checkpoint."""
    optimizer = dg.sgd(0.05, momentum=0.9)
    path = tmp_path / "run"
    train(dg, "vae", epochs=1, checkpoint=path, optimizer=optimizer)
    again = train(dg, "vae", epochs=3, checkpoint=path, resume=True, optimizer=optimizer)
    assert_identical(dg, again.model, train(dg, "vae", epochs=3, optimizer=optimizer).model)


def test_resume_of_batches(dg, tmp_path):
    path = tmp_path / "run"
    train(dg, "vae", epochs=1, checkpoint=path, data=BATCHES)
    again = train(dg, "vae", epochs=3, checkpoint=path, resume=True, data=BATCHES)
    assert_identical(dg, again.model, train(dg, "vae", epochs=3, data=BATCHES).model)


def test_resume_without_a_file_starts(dg, tmp_path):
    fresh = train(dg, "vae", epochs=1, checkpoint=tmp_path / "run", resume=True)
    assert_identical(dg, fresh.model, train(dg, "vae", epochs=1).model)


def test_without_resume_a_checkpoint_is_never_overwritten(dg, tmp_path):
    path = tmp_path / "run"
    train(dg, "vae", epochs=2, checkpoint=path)
    with pytest.raises(FileExistsError, match="expected resume=True to go on from the checkpoint at .*run"):
        train(dg, "vae", epochs=1, checkpoint=path)
    assert read_arrays(path)[1]["epoch"] == 2


def test_a_run_that_validation_stopped_stays_stopped(dg, tmp_path):
    path = tmp_path / "run"
    script = [1.0, 0.0, 5.0]

    def run(values, **more):
        watch = dg.Validation(np.eye(7), scripted(values), patience=1)
        return registered(dg, epochs=3, validation=watch, checkpoint=path, **more)

    stopped = run(script)
    again = run(script[2:], resume=True)
    assert again.history["validation"] == stopped.history["validation"] == [1.0, 0.0]
    assert again.stopped
    assert bias(dg, again.model) == bias(dg, stopped.model) == pytest.approx(1 - 0.5**3)


def test_the_best_model_is_in_the_checkpoint(dg, tmp_path):
    def watch(values):
        return dg.Validation(np.eye(7), scripted(values), patience=5)

    path = tmp_path / "run"
    registered(dg, epochs=2, validation=watch([3.0, 1.0]), checkpoint=path)
    again = registered(dg, epochs=4, validation=watch([2.0, 2.5]), checkpoint=path, resume=True)
    assert again.history["validation"] == [3.0, 1.0, 2.0, 2.5]
    assert bias(dg, again.model) == pytest.approx(1 - 0.5**3)


def relu(dg):
    return dg.VAE.init(rng=0, likelihood=dg.Bernoulli(6), latent=2, hidden=(5,), activation="relu")


def own_networks(dg, activation):
    """A VAE whose encoder is the user's own: what it computes is known to its code alone."""
    if dg.engine.name == "numpyro":
        import jax
        from flax import nnx

        class Encoder(nnx.Module):
            def __init__(self):
                self.layer = nnx.Linear(6, 4, rngs=nnx.Rngs(0))

            def __call__(self, x):
                return getattr(jax.nn, activation)(self.layer(x))
    else:
        import torch

        class Encoder(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = torch.nn.utils.skip_init(torch.nn.Linear, 6, 4)
                torch.nn.init.constant_(self.layer.weight, 0.3)
                torch.nn.init.constant_(self.layer.bias, -0.7)

            def forward(self, x):
                return getattr(torch.nn.functional, activation)(self.layer(x))

    return dg.VAE.init(dg.Bernoulli(6), 2, (5,), rng=0, encoder=Encoder())


OTHERS = {
    "batch_size": (lambda dg: {"batch_size": 5}, "expected the batch size 4, got 5: the checkpoint at .*run is of"),
    "rng": (lambda dg: {"rng": 6}, "expected the seed .*, got .*: the checkpoint"),
    "particles": (lambda dg: {"objective": dg.IWAE(num_particles=4)}, "expected the num particles 3, got 4: "),
    "objective": (lambda dg: {"objective": dg.ELBO(num_particles=3)}, "expected the kind .*IWAE, got .*ELBO: "),
    "fewer rows": (lambda dg: {"data": X[:9]}, "expected the rows .*, got .* data.rows"),
    "values": (lambda dg: {"data": 1 - X}, "expected the rows .*, got .* data.rows"),
    "order": (lambda dg: {"data": X[::-1]}, "expected the order of rows .*, got .* data.order_of_rows"),
    "batches": (lambda dg: {"data": BATCHES}, "expected the kind arrays, got batches"),
    "optimizer": (lambda dg: {"optimizer": dg.sgd(0.01)}, "expected the kind .*Adam, got .*SGD"),
    "rate": (lambda dg: {"optimizer": dg.adam(0.1)}, "expected the learning rate 0.01, got 0.1: .*optimizer.l"),
    "decay": (lambda dg: {"optimizer": dg.adam(0.01, weight_decay=1.0)}, "expected the weight decay 0.0, got 1.0"),
    "validation": (lambda dg: {"validation": X[:3]}, "expected the validation None, got {"),
    "fewer epochs": (lambda dg: {"epochs": 1}, "expected epochs of at least 2, which the checkpoint has, got 1"),
    "model": (
        lambda dg: {"model": dg.VAE.init(dg.Bernoulli(6), 2, (4,), rng=0)},
        r"expected the encoder.layers.0.\w+ \['float32', 5.*\], got \['float32', 4.*\]: .*model.shapes",
    ),
    "first parameters": (
        lambda dg: {"model": dg.VAE.init(dg.Bernoulli(6), 2, (5,), rng=1)},
        "expected the (en|de)coder.layers.* model.first_arrays",
    ),
    "activation": (lambda dg: {"model": relu(dg)}, "expected the activation tanh, got relu"),
}  # fmt: skip


@pytest.mark.parametrize("other", list(OTHERS))
def test_resume_of_another_run_is_refused(dg, tmp_path, other):
    """Each difference by its name, and the file stays as it was."""
    train(dg, "vae", epochs=2, checkpoint=tmp_path / "run")
    before = (tmp_path / "run").read_bytes()
    change, sentence = OTHERS[other]
    model, common = options(dg, "vae")
    asked = {"epochs": 3, "batch_size": 4, "rng": 5, "progress": False, "model": model, "data": X, **common}
    with pytest.raises(ValueError, match=sentence):
        dg.fit(**{**asked, **change(dg)}, checkpoint=tmp_path / "run", resume=True)
    assert (tmp_path / "run").read_bytes() == before


def test_resume_with_other_code_is_refused(dg, tmp_path):
    """The same arrays, options and names: the first loss tells the code of a network apart."""

    def run(activation, epochs):
        return dg.fit(
            own_networks(dg, activation), X, epochs=epochs, batch_size=4, checkpoint=tmp_path / "run", resume=True,
            progress=False,
        )  # fmt: skip

    run("relu", 1)
    run("relu", 2)
    with pytest.raises(ValueError, match="expected the first loss .*, got .*: the checkpoint at .*"):
        run("sigmoid", 3)


def test_resume_with_another_schedule_is_refused(dg, tmp_path):
    def run(last, epochs):
        return train(
            dg, "vae", optimizer=dg.sgd(lambda i: 0.1 * (1 - i / last)), checkpoint=tmp_path / "run", resume=True,
            epochs=epochs,
        )  # fmt: skip

    run(20, 1)
    run(20, 2)
    with pytest.raises(ValueError, match="expected the learning rate .*lambda.*, got .*lambda"):
        run(40, 3)


def native(dg, rate):
    """An optimizer of the host's own."""
    if dg.engine.name == "numpyro":
        import optax

        return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
    import torch

    return functools.partial(torch.optim.AdamW, lr=rate)


def test_the_rate_of_a_native_optimizer_is_known(dg, tmp_path):
    path = tmp_path / "run"
    train(dg, "vae", epochs=1, checkpoint=path, optimizer=native(dg, 0.01))
    again = train(dg, "vae", epochs=2, checkpoint=path, resume=True, optimizer=native(dg, 0.01))
    assert_identical(dg, again.model, train(dg, "vae", epochs=2, optimizer=native(dg, 0.01)).model)
    with pytest.raises(ValueError, match="a run with another optimizer"):
        train(dg, "vae", epochs=3, checkpoint=path, resume=True, optimizer=native(dg, 0.02))


def test_other_chains_are_refused(dg, tmp_path):
    train(dg, "rbm", epochs=1, checkpoint=tmp_path / "run")
    objective = dg.StochasticML(num_chains=9)
    with pytest.raises(ValueError, match="expected the num chains 8, got 9"):
        train(dg, "rbm", epochs=2, checkpoint=tmp_path / "run", resume=True, objective=objective)


def test_a_file_that_is_no_checkpoint_is_refused(dg, tmp_path):
    path = tmp_path / "run"
    train(dg, "vae", epochs=1, checkpoint=path)
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], whole[:5], b"", b"not a checkpoint at all" * 20):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match="expected a safetensors file at .*run"):
            train(dg, "vae", checkpoint=path, resume=True)
    dg.save(vae(dg), path)
    with pytest.raises(ValueError, match="expected a checkpoint at .*run, got a file of the kind 'model'"):
        train(dg, "vae", checkpoint=path, resume=True)


def test_a_checkpoint_that_lacks_arrays_is_refused(dg, tmp_path):
    path = tmp_path / "run"
    train(dg, "vae", epochs=1, checkpoint=path)
    arrays, meta = read_arrays(path)
    write_arrays(path, {k: v for k, v in arrays.items() if k != "state.1"}, meta)
    with pytest.raises(ValueError, match="expected a checkpoint of the same model"):
        train(dg, "vae", epochs=2, checkpoint=path, resume=True)
    for lost in ("settings", "history", "same_order"):
        write_arrays(path, arrays, {k: v for k, v in meta.items() if k != lost})
        with pytest.raises(ValueError, match=f"expected a whole checkpoint at .*{lost}"):
            train(dg, "vae", epochs=2, checkpoint=path, resume=True)


def test_resume_needs_a_path(dg):
    with pytest.raises(ValueError, match=r"expected checkpoint=\.\.\. with resume=True, got None"):
        train(dg, "vae", resume=True)


# -- files -------------------------------------------------------------------------------------------------------------


def test_the_path_is_tried_before_work_starts(dg, tmp_path):
    (tmp_path / "file").write_text("")
    wrong = {
        tmp_path: (IsADirectoryError, "expected the path of a file, got the directory"),
        tmp_path / "nowhere" / "run": (FileNotFoundError, "expected a folder at .*nowhere to write run to, found none"),
        tmp_path / "file" / "run": (FileNotFoundError, "expected a folder at .*file to write run to, found none"),
        "": (TypeError, "expected the path of a file, got ''"),
        3: (TypeError, "expected the path of a file, got 3"),
    }
    for path, (kind, sentence) in wrong.items():
        with pytest.raises(kind, match=sentence):
            train(dg, "vae", data=iter([]), checkpoint=path)  # the data are not even looked at


def test_a_folder_that_cannot_be_written_to(dg, tmp_path, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.raises(PermissionError, match="expected a folder that can be written to at"):
        train(dg, "vae", data=iter([]), checkpoint=tmp_path / "run")


def test_nothing_is_left_of_a_write_that_failed(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_arrays(tmp_path / "run", {"a": np.zeros(3)}, {})
    assert not list(tmp_path.iterdir())


def test_permissions_and_links_are_kept(tmp_path):
    write_arrays(tmp_path / "run", {}, {"i": 0})
    (tmp_path / "run").chmod(0o640)
    (tmp_path / "link").symlink_to(tmp_path / "run")
    write_arrays(tmp_path / "link", {}, {"i": 1})
    assert (tmp_path / "link").is_symlink()
    assert read_arrays(tmp_path / "run")[1] == {"i": 1}
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o640


def test_a_flipped_bit_is_seen(tmp_path):
    """Wherever it falls: in the numbers, the shapes, the names, the metadata or the checksum."""
    path = tmp_path / "run"
    write_arrays(path, {"a": np.arange(5.0), "b": np.ones((2, 3), np.float32)}, {"note": "x", "epoch": 3})
    whole = path.read_bytes()
    for byte in range(len(whole)):
        for bit in (0, 5):
            flipped = bytearray(whole)
            flipped[byte] ^= 1 << bit
            path.write_bytes(flipped)
            with pytest.raises(ValueError, match="^expected"):
                read_arrays(path)


def test_the_format_is_read(dg, tmp_path):
    path = tmp_path / "run"
    train(dg, "vae", epochs=1, checkpoint=path)
    arrays, meta = read_arrays(path)
    write_arrays(path, arrays, meta | {"format": 999})
    with pytest.raises(ValueError, match="expected a checkpoint of format 2 at .*run, got format 999"):
        train(dg, "vae", checkpoint=path, resume=True)


# -- what interrupts a run ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [KeyboardInterrupt, ZeroDivisionError])
def test_what_ends_a_run_carries_the_fit_so_far(dg, tmp_path, fault):
    """The checkpoint has the last whole epoch, the exception the model as it stood, and a resumed run its bits."""

    def broken(epoch, model, history):
        if epoch == 3:
            raise fault

    with pytest.raises(fault) as caught:
        registered(dg, epochs=5, callbacks=[broken], checkpoint=tmp_path / "run")
    assert caught.value.fit.history["epoch"] == [1, 2, 3]
    assert bias(dg, caught.value.fit.model) == pytest.approx(1 - 0.5**9)
    assert "attribute `fit` of this exception" in caught.value.__notes__[0]
    assert read_arrays(tmp_path / "run")[1]["epoch"] == 2
    again = registered(dg, epochs=5, checkpoint=tmp_path / "run", resume=True)
    assert_identical(dg, again.model, registered(dg, epochs=5).model)


def test_an_epoch_that_is_interrupted_leaves_the_last_good_state(dg):
    """The second batch of the third epoch does not come: model and state are those of two epochs."""
    rows, passes = np.eye(7, dtype=np.float32), []

    class Reader:
        def __iter__(self):
            passes.append(1)
            yield rows[:3]
            if len(passes) == 4:
                raise OSError("the disk is gone")
            yield rows[3:]

    with pytest.raises(OSError, match="the disk is gone") as caught:
        registered(dg, data=Reader(), epochs=5)
    fit = caught.value.fit
    assert fit.history["epoch"] == [1, 2]
    for model in (fit.model, fit.state.model):
        assert bias(dg, model) == pytest.approx(1 - 0.5**4)
    assert float(fit.state.objective["steps"]) == 4
    assert len(passes) == 4  # one before the first step, one an epoch


class Shuffling:
    """A reader that gives the same rows in another order at each pass."""

    def __init__(self):
        self.rng = np.random.default_rng()

    def __iter__(self):
        order = self.rng.permutation(7)
        yield from (np.eye(7, dtype=np.float32)[part] for part in (order[:3], order[3:]))


def test_a_reader_that_shuffles_is_resumed_with_a_warning(dg, tmp_path):
    """Its rows are known, their order is not: the run cannot have the bits of one that was not interrupted."""
    registered(dg, data=Shuffling(), epochs=4, checkpoint=tmp_path / "run")
    with pytest.warns(RuntimeWarning, match="the batches came in another order in each epoch"):
        fit = registered(dg, data=Shuffling(), epochs=5, checkpoint=tmp_path / "run", resume=True)
    assert fit.history["epoch"] == [1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match="expected the rows"):
        registered(dg, data=[np.eye(7, dtype=np.float32)[:4]] * 2, epochs=5, checkpoint=tmp_path / "run", resume=True)
