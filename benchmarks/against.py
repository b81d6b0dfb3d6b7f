"""Whether the code got slower: the benchmarks with the code of another tree and of this one, in turns.

    git worktree add ../before COMMIT
    make result NAME=against ARGS="--old ../before"
    python benchmarks/against.py [--old TREE] [--only NAME] [--engine both] [--rounds 3] [--turns 4] [--out FILE]

Each round runs every benchmark once in the other tree and once in this one, in processes of their own, with at most
`--turns` turns of the contestants in each. A value is the median over the rounds of a ratio in this tree (`ours` to its
limit in the same run), divided by the median in the other. Of `mnist_rbm`, one training run of 50 epochs, it is the CPU
time of the process. Without `--old`, the tree is held against itself.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import common
import typer

SPEED = ("speed_ais", "speed_gibbs", "speed_pcd", "speed_svi")
TRAINING = ("mnist_rbm", "rbm16_plain")
LIMIT = 1.1

RUN = """
import runpy, sys
turns, *sys.argv = sys.argv[1:]
sys.path.insert(0, "benchmarks")
import common
ratios, marginal = common.ratios, common.marginal
common.ratios = lambda contestants, repeats: ratios(contestants, min(repeats, int(turns)))
common.marginal = lambda runs, repeats: marginal(runs, min(repeats, int(turns)))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def measure(tree: Path, name: str, turns: int, arguments: list[str]) -> dict[str, float]:
    """The ratios of `ours` in one run, by their keys; of the training run, its CPU seconds."""
    path = os.pathsep.join(filter(None, (str(tree), os.environ.get("PYTHONPATH"))))
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "results.json"
        command = [sys.executable, "-c", RUN, str(turns), f"benchmarks/{name}.py", "--out", str(out), *arguments]
        done = subprocess.run(command, cwd=tree, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"expected {name} to run in {tree.name}, got {done.stderr[-2000:]}")
        values = json.loads(out.read_text())["values"]
    if name == TRAINING[0]:
        return {f"{name}.cpu_seconds": resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before}
    ours = {key: entry["value"] for key, entry in values.items() if entry["kind"] == "ratio" and is_ours(key)}
    return {f"{name}.{key}".replace("centred", "centered"): value for key, value in ours.items()}


def is_ours(key: str) -> bool:
    """Whether a ratio is of our code: `ours`, or a chain of ours in the host's MCMC."""
    contestant = key.split(".")[-2]
    return contestant.startswith(("ours", "mcmc"))


def main(
    old: Path = typer.Option(common.ROOT, help="a tree with the code before"),
    only: list[str] = typer.Option([], help=f"one of {', '.join((*SPEED, TRAINING[0]))}; may be repeated"),
    engine: str = typer.Option("both", help="numpyro, pyro or both"),
    rounds: int = typer.Option(3, min=1),
    turns: int = typer.Option(4, min=1),
    seed: int = 0,
    out: Path | None = None,
    smoke: bool = typer.Option(False, help="tiny sizes of one benchmark, to see that it runs"),
) -> None:
    """Measure and write the file of results."""
    if not (old / "benchmarks" / "common.py").is_file():
        raise typer.BadParameter(f"expected a tree of this project for --old, got {old}")
    if unknown := sorted(set(only) - {*SPEED, TRAINING[0]}):
        raise typer.BadParameter(f"expected names among {', '.join((*SPEED, TRAINING[0]))}, got {', '.join(unknown)}")
    results = common.Results("against", engine, seed, out)
    names = only or (["speed_pcd"] if smoke else [*SPEED, TRAINING[0]])
    found: dict[str, tuple[list[float], list[float]]] = {}
    before_at = f"at {common.commit(old)}; target at most {LIMIT:g}"
    for name in names:
        arguments = ["--seed", str(seed)]
        arguments += ["--only", TRAINING[1]] if name == TRAINING[0] else ["--engine", engine]
        for _ in range(1 if smoke else rounds):
            for side, tree in enumerate((old.resolve(), common.ROOT)):
                values = measure(tree, name, turns, [*arguments, *(["--smoke"] if smoke else [])])
                for key, value in values.items():
                    found.setdefault(key, ([], []))[side].append(value)
        for key, (before, now) in found.items():
            if key.startswith(name) and before and now:
                note = f"{median(now):.4g} for {median(before):.4g} {before_at}"
                results.add(key, median(now) / median(before), kind="ratio", note=note)
        results.write()
    print(f"wrote {results.write().name}")


if __name__ == "__main__":
    typer.run(main)
