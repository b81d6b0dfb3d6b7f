"""What a session costs before its first number: importing a face, and the first call of what people call first.

    make result NAME=speed_startup      or: python benchmarks/speed_startup.py [--smoke] [--engine both] [--out FILE]

Each turn is a process of its own: Python alone, the host's libraries, a face, and a face with one first call more. A
cost is a difference of two of them, turn by turn, in CPU seconds; on JAX first calls are mostly compilation.
"""

import resource
import statistics
import subprocess
import sys
from pathlib import Path

import common
import typer

HOSTS = {"numpyro": "import jax, flax.nnx, numpyro, optax", "pyro": "import torch, pyro"}
FACE = "import numpy as np; import deepgen_ppl.{engine} as dg; x = np.eye(200, 64, dtype='float32')"
RBM = "; m = dg.RBM.init(64, 16, rng=0)"
VAE = "; m = dg.VAE.init(rng=0, likelihood=dg.Bernoulli(64), latent=4, hidden=(32,))"
CALLS = {
    "RBM.init": RBM,
    "RBM.fit": RBM + "; dg.fit(m, x, epochs=1, batch_size=50, rng=0, progress=False)",
    "RBM.bounds": RBM + "; dg.bounds(m, x, rng=0)",
    "RBM.ais": RBM + "; dg.ais(m, rng=0, betas=100, num_runs=100)",
    "VAE.init": VAE,
    "VAE.fit": VAE + "; dg.fit(m, x, epochs=1, batch_size=50, rng=0, progress=False)",
    "VAE.bounds": VAE + "; dg.bounds(m, x, rng=0)",
}
BEFORE = {"RBM.init": "face", "VAE.init": "face"} | {k: f"{k.split('.')[0]}.init" for k in CALLS if ".init" not in k}


def cpu_seconds(code: str) -> float:
    """CPU seconds of one process that runs the code, those of the system included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, cwd=common.ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(
    engine: str = typer.Option("both", help="numpyro, pyro or both"),
    turns: int = typer.Option(5, min=1),
    seed: int = 0,
    out: Path | None = None,
    smoke: bool = typer.Option(False, help="one turn of the imports, to see that it runs"),
) -> None:
    """Measure and write the file of results."""
    results = common.Results("speed_startup", engine, seed, out)
    for name in HOSTS:
        if engine not in (name, "both"):
            continue
        face = FACE.format(engine=name)
        codes = {"python": "", "host": HOSTS[name], "face": face}
        codes |= {} if smoke else {key: face + call for key, call in CALLS.items()}
        times: dict[str, list[float]] = {key: [] for key in codes}
        for _ in range(1 if smoke else turns):
            for key, code in codes.items():
                times[key].append(cpu_seconds(code))
        for key in codes:
            before = BEFORE.get(key, "python")
            if key != "python":
                costs = [a - b for a, b in zip(times[key], times[before], strict=True)]
                note = f"CPU s more than {before}, smallest of the turns {min(costs):.3g}"
                results.add(f"{name}.{key}.seconds", statistics.median(costs), kind="estimate", note=note)
        ratio = statistics.median(a / b for a, b in zip(times["face"], times["host"], strict=True))
        results.add(f"{name}.face.ratio", ratio, kind="ratio", note="a face's process for that of the host's libraries")
    print(f"wrote {results.write().name}")


if __name__ == "__main__":
    typer.run(main)
