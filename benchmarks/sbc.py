"""Simulation-based calibration by 200 refits of 300 steps, and what a refit costs.

    make result NAME=sbc                    or: python benchmarks/sbc.py [--smoke] [--engine both] [--out FILE]

    t ~ Normal(0, 1),  x_n ~ Normal(t, 1) for n = 1..10,  q(t) = Normal(m, s), trained by `fit` on two rows a step

A mean-field guide is exact here. For each pair (t, x) drawn from the program the guide is trained from the start, and
the ranks of t and of log p(x | t) among 99 of its draws are counted: they are uniform where q is the posterior (Talts
et al., 2018, theorem 1). `p_*` is the tail probability of the likelihood-ratio test over ten bins. The first refit
compiles; `refit.wall_ms` and `refit.cpu_ms` are medians over the others. `error` and `spread` say how far the fits are
from the posterior, in its standard deviations: the rms of m less its mean, and the mean of s over its own.
"""

import math
import time
from pathlib import Path

import common
import numpy as np
import typer
from scipy import stats

import deepgen_ppl.numpyro as dgn
import deepgen_ppl.pyro as dgp

ROWS, DRAWS, BINS = 10, 99, 10


def program_of(dg: object) -> type:
    """The mean of a normal, with a normal guide."""
    one = dg.engine.arrays.asarray(np.float32(1.0))

    class Mean(dg.Program):
        def __init__(self) -> None:
            self.build(arrays={"loc": np.float32(0.0), "log_scale": np.float32(0.0)})

        def model(self, x: object = None, *, size: int | None = None, num_data: int | None = None) -> object:
            host = self.engine.host
            t = host.ppl.sample("t", host.dist.Normal(0.0 * one, one))
            with self.data_plate(x, size, num_data):
                return host.ppl.sample("x", host.dist.Normal(t, one), obs=x)

        def guide(self, x: object = None, *, size: int | None = None, num_data: int | None = None) -> None:
            law = self.engine.host.dist.Normal(self.param("loc"), self.engine.xp.exp(self.param("log_scale")))
            self.engine.host.ppl.sample("t", law)

    return Mean


def refits(dg: object, num: int, epochs: int, seed: int) -> dict[str, np.ndarray]:
    """Ranks (num, 2), seconds (num, 2) of wall and CPU, errors (num, 2) of each refit."""
    family, to_numpy = program_of(dg), dg.engine.arrays.to_numpy
    options = {"objective": dg.ELBO(), "optimizer": dg.adam(0.03), "epochs": epochs, "batch_size": 2, "progress": False}
    found: dict[str, list] = {"ranks": [], "seconds": [], "errors": []}
    for i in range(num):
        rng = np.random.default_rng([seed, i])
        t = rng.normal()
        x = (t + rng.normal(size=ROWS)).astype(np.float32)
        wall, cpu = time.perf_counter(), time.process_time()
        fitted = dg.fit(family(), x, rng=i, **options)
        found["seconds"].append([time.perf_counter() - wall, time.process_time() - cpu])
        posterior = fitted.posterior(rng=i, num_draws=DRAWS)
        draws = to_numpy(posterior.draws["t"])
        both = {"t": dg.engine.arrays.asarray(np.concatenate([[t], draws]).astype(np.float32))}
        log_p = dg.Posterior(posterior.program, both).log_likelihood(x).sum(-1)
        found["ranks"].append([(draws < t).sum(), (log_p[1:] < log_p[0]).sum()])
        m, log_s = (float(to_numpy(posterior.program.arrays[k])) for k in ("loc", "log_scale"))
        sd = (ROWS + 1) ** -0.5
        found["errors"].append([(m - x.sum() / (ROWS + 1)) / sd, math.exp(log_s) / sd])
    return {name: np.array(rows) for name, rows in found.items()}


def uniform(ranks: np.ndarray) -> float:
    """Tail probability of the likelihood-ratio test that ranks in 0..L fall alike into the bins."""
    counts = np.histogram(ranks, BINS, (0, DRAWS + 1))[0]
    return float(stats.power_divergence(counts, lambda_="log-likelihood").pvalue)


def main(
    engine: str = typer.Option("both", help="numpyro, pyro or both"),
    seed: int = 0,
    out: Path | None = None,
    smoke: bool = typer.Option(False, help="few short refits, to see that it runs"),
) -> None:
    """Refit, rank, time, and write the file of results."""
    results = common.Results("sbc", engine, seed, out)
    num, epochs = (5, 2) if smoke else (200, 60)
    for name, dg in (("numpyro", dgn), ("pyro", dgp)):
        if engine in (name, "both"):
            found = refits(dg, num, epochs, seed)
            how = f"{num} refits of {5 * epochs} steps"
            for quantity, ranks in zip(("t", "log_likelihood"), found["ranks"].T, strict=True):
                note = f"ranks of {quantity}; {how}; uniform where the fit is the posterior"
                results.add(f"{name}.p_{quantity}", uniform(ranks), kind="estimate", note=note)
            error, spread = found["errors"].T
            rms = math.sqrt((error**2).mean())
            results.add(f"{name}.error", rms, kind="estimate", note="rms of the mean, in posterior s.d.s")
            se = spread.std(ddof=1) / math.sqrt(num)
            results.add(f"{name}.spread", spread.mean(), se=se, kind="estimate", note="s.d. of q by the posterior's")
            first, later = found["seconds"][0], found["seconds"][1:] * 1e3
            results.add(f"{name}.first_s", first[0], kind="estimate", note="wall seconds of the first fit")
            target = "; target at most 50" if name == "numpyro" else ""
            timing = common.Timing({"wall": later[:, 0], "cpu": later[:, 1]})
            for clock in timing.times:
                value, se = timing.ms(clock)
                note = f"{clock} ms of a refit after the first, median{target}"
                results.add(f"{name}.refit.{clock}_ms", value, se=se, kind="estimate", note=note)
    print(f"wrote {results.write().name}")


if __name__ == "__main__":
    typer.run(main)
