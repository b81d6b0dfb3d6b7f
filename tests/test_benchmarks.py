"""Every benchmark runs at smoke size and writes its results in the one form."""

import datetime
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if path.stem not in ("common", "baselines"))
KEYS = {"name", "command", "commit", "date", "machine", "engine", "seed", "seconds", "values"}
KINDS = {"exact", "lower", "upper", "estimate", "ratio"}


def check(record: dict, name: str) -> None:
    """Check one file of results against its form."""
    assert record.keys() == KEYS
    assert record["name"] == name
    assert record["command"].startswith(f"python benchmarks/{name}.py")
    assert record["engine"] in ("numpyro", "pyro", "both")
    assert datetime.date.fromisoformat(record["date"])
    assert isinstance(record["seed"], int)
    assert record["seconds"] > 0
    assert not {"/", "\\"} & set(record["machine"])
    assert record["values"]
    for key, entry in record["values"].items():
        assert entry.keys() == {"value", "se", "kind", "published", "note"}, key
        assert entry["kind"] in KINDS, key
        assert entry["value"] is None or math.isfinite(entry["value"]), key
        assert entry["se"] is None or entry["se"] >= 0, key
        assert entry["published"] is None or math.isfinite(entry["published"]), key
        assert isinstance(entry["note"], str), key


def run(script: str, out: Path, *arguments: str) -> dict:
    """Run a benchmark in a process of its own, since it fixes threads before its imports."""
    env = {**os.environ, "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    command = [sys.executable, str(ROOT / "benchmarks" / f"{script}.py"), "--smoke", "--out", str(out), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=out.parent, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(out.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_smoke(script: str, tmp_path: Path) -> None:
    record = run(script, tmp_path / "results.json")
    check(record, script)
    assert "--out" not in record["command"]


@pytest.mark.slow
def test_one_key_on_pyro(tmp_path: Path) -> None:
    record = run("mnist_rbm", tmp_path / "results.json", "--engine", "pyro", "--only", "rbm16_plain")
    check(record, "mnist_rbm")
    assert record["values"].keys() == {"rbm16_plain"}


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "results").glob("*.json")), ids=lambda path: path.stem)
def test_kept_results(path: Path) -> None:
    record = json.loads(path.read_text())
    if (ROOT / "benchmarks" / f"{path.stem}.py").is_file():
        check(record, path.stem)
        assert "--smoke" not in record["command"]
