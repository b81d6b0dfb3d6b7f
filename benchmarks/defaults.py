"""What the library's defaults are worth: models trained as they come, beside baselines that anyone can have.

    make result NAME=defaults
    python benchmarks/defaults.py [--smoke] [--engine numpyro] [--seeds 1] [--only SET] [--resume] [--minutes 60]
        [--rows N] [--test-rows 1000] [--validate] [--epochs N] [--rate R] [--out FILE]

Binary sets: an RBM and a VAE by the importance-weighted bound with 5 particles, beside independent units and a mixture
of 20 products of Bernoullis (EM, 5 restarts, the best on validation rows). Real sets: a Gaussian-Bernoulli RBM of the
rows as they come, and a VAE of standardized rows, beside independent normals and a normal law with all covariances. No
option of `fit` is set but the seed. Machines have 16 hidden units, so that their log Z is exact; VAEs have 10 latent
units (as many as columns where these are fewer).

Values are mean log p of the test rows in nats, in the units of the data; those of VAEs are lower sides. Differences are
paired over the rows, and a model beats a baseline where its difference exceeds two standard errors. With several seeds,
values are means over the machines of all, and the errors of differences know the spread between them.

`--validate` judges on validation rows, for choices, and never reads test rows; `--epochs` and `--rate` are for trying.

Data are read from the folder that DEEPGEN_PPL_DATA names: density_estimation_binary/{dna,nips,nltcs,plants}.npz of
https://github.com/UCLA-StarAI/Density-Estimation-Datasets, ocr_letters_stanford.npz (Stanford's letter.data),
frey_faces.npz, bsds300_patches16.npz (patches of BSDS300) and uci_regression/{power-plant,wine-quality-red}.npz (inputs
alone), beside the sets of `deepgen_ppl.datasets`. Sets without a split are cut 80/10/10 by a fixed permutation; so are
OCR letters, as no published split records its rows.
"""

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import common
import numpy as np
import typer
from baselines import best_mixture, best_normal, independent_normal

import deepgen_ppl.numpyro as dgn
import deepgen_ppl.pyro as dgp
from deepgen_ppl.datasets import fixed_permutation, load, standardize

BINARY = ("nltcs", "plants", "digits", "dna", "ocr_letters", "nips", "binarized_mnist")
REAL = ("power_plant", "wine", "frey_faces", "image_patches")
FILES = {"ocr_letters": "ocr_letters_stanford", "image_patches": "bsds300_patches16", "frey_faces": "frey_faces"}
FILES |= {name: f"density_estimation_binary/{name}" for name in ("dna", "nips", "nltcs", "plants")}
FILES |= {"power_plant": "uci_regression/power-plant", "wine": "uci_regression/wine-quality-red"}

HIDDEN, LATENT, COMPONENTS = 16, 10, 20
OPTIONS = {"num_particles": 500}

Rows = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Asked:
    """How to train and judge.

    Args:
        seeds: number of seeds, from the run's own on.
        rows: largest number of training rows, or None.
        test_rows: largest number of rows that are judged.
        validate: whether validation rows are judged.
        fit: options of `fit`; none in a run of the defaults.
        rate: learning rate in place of the default, or None.
        restarts: runs of EM.
    """

    seeds: int
    rows: int | None
    test_rows: int
    validate: bool
    fit: dict
    rate: float | None
    restarts: int = 5


def split(x: np.ndarray) -> Rows:
    """80/10/10 by the fixed permutation."""
    tenth = len(x) // 10
    train, valid, test = np.split(x[fixed_permutation(len(x))], [len(x) - 2 * tenth, len(x) - tenth])
    return train, valid, test


def rows_of(name: str) -> Rows:
    """Train, validation and test rows (N, V) of a set, float32."""
    if name == "diabetes":
        from sklearn.datasets import load_diabetes

        return split(load_diabetes().data.astype(np.float32))
    if name not in FILES:
        found = load(name)
        return found.train, found.valid, found.test
    folder = os.environ.get("DEEPGEN_PPL_DATA", "")
    path = Path(folder) / f"{FILES[name]}.npz"
    if not folder or not path.is_file():
        raise FileNotFoundError(f"expected {FILES[name]}.npz in the folder that DEEPGEN_PPL_DATA names")
    with np.load(path) as z:
        if "n_vars" in z:
            n = int(z["n_vars"])
            return tuple(np.unpackbits(z[k], axis=1)[:, :n].astype(np.float32) for k in ("train", "valid", "test"))
        if "n_pixels" in z:
            return split(np.unpackbits(z["x"], axis=1)[:, : int(z["n_pixels"])].astype(np.float32))
        if "train" in z:
            train, test = (z[k].reshape(len(z[k]), -1).astype(np.float32) for k in ("train", "test"))
            return train[:-2000], train[-2000:], test
        return split(z["x"].reshape(len(z["x"]), -1).astype(np.float32))


def cut(parts: Rows, asked: Asked) -> Rows:
    """At most so many rows each, drawn by a fixed permutation; validation rows in place of test rows if asked."""
    train, valid, test = parts
    if asked.validate:
        test = valid
    limits = (asked.rows, 2000, asked.test_rows)
    train, valid, test = (
        x if most is None else x[fixed_permutation(len(x))[:most]]
        for x, most in zip((train, valid, test), limits, strict=True)
    )
    return train, valid, test


def trained(dg: object, model: object, x: np.ndarray, seed: int, asked: Asked, **options: object) -> object:
    """The model after `fit` with its defaults."""
    if asked.rate is not None:
        options["optimizer"] = (dg.adam if "objective" in options else dg.sgd)(asked.rate)
    return dg.fit(model, x, rng=seed, **options, **asked.fit, progress=False).model


def vae_of(dg: object, x: np.ndarray, seed: int, asked: Asked, *, binary: bool) -> object:
    """A VAE trained by the importance-weighted bound."""
    width = x.shape[1]
    likelihood = dg.Bernoulli(width) if binary else dg.Gaussian(width, scale=None)
    vae = dg.VAE.init(likelihood, min(LATENT, width), rng=seed, data=x)
    return trained(dg, vae, x, seed, asked, objective=dg.IWAE(num_particles=5))


def log_p_binary(dg: object, parts: Rows, seed: int, asked: Asked) -> dict[str, np.ndarray]:
    """log p of each row that is judged, by model."""
    train, valid, test = parts
    options = dg.BoundsOptions(**OPTIONS)
    base_rates = dg.RBM.init(train.shape[1], 1, rng=seed, data=train, weight_scale=0.0).decoupled()
    rbm = trained(dg, dg.RBM.init(train.shape[1], HIDDEN, rng=seed, data=train), train, seed, asked)
    vae = vae_of(dg, train, seed, asked, binary=True)
    mixture = best_mixture(
        train, valid, components=COMPONENTS, restarts=asked.restarts, steps=200 if asked.restarts > 1 else 2, seed=seed
    )
    return {
        "independent": dg.bounds(base_rates, test, rng=seed).lower_pointwise,
        "mixture": mixture.log_prob(test.astype(float)),
        "rbm": dg.bounds(rbm, test, rng=seed).lower_pointwise,
        "vae": dg.bounds(vae, test, rng=seed, options=options, progress=False).lower_pointwise,
    }


def log_p_real(dg: object, parts: Rows, seed: int, asked: Asked) -> dict[str, np.ndarray]:
    """log p of each row that is judged, by model, in the units of the data."""
    train, valid, test = parts
    gbrbm = dg.GaussianBernoulliRBM.init(train.shape[1], HIDDEN, rng=seed, data=train)
    gbrbm = trained(dg, gbrbm, train, seed, asked)
    scaled = standardize(train)
    vae = vae_of(dg, scaled.splits[0], seed, asked, binary=False)
    found = dg.bounds(vae, scaled.apply(test), rng=seed, options=dg.BoundsOptions(**OPTIONS), progress=False)
    return {
        "independent": independent_normal(train).log_prob(test.astype(float)),
        "normal": best_normal(train, valid).log_prob(test.astype(float)),
        "gbrbm": dg.bounds(gbrbm, test, rng=seed).lower_pointwise,
        "vae": found.shifted(scaled.log_jacobian).lower_pointwise,
    }


def report(results: common.Results, name: str, runs: list[dict[str, np.ndarray]], note: str) -> None:
    """The means of one set, and the paired differences of models from baselines."""
    baselines = [k for k in ("independent", "mixture", "normal") if k in runs[0]]
    for model in runs[0]:
        rows = np.mean([run[model] for run in runs], axis=0)
        kind, se = ("lower" if model == "vae" else "exact"), rows.std(ddof=1) / math.sqrt(len(rows))
        results.add(
            f"{name}.{model}",
            rows.mean(),
            se=0.0 if kind == "exact" else None,
            kind=kind,
            note=f"nats; {note}; s.e. over rows {se:.3g}",
        )
    for model in (k for k in runs[0] if k not in baselines):
        for baseline in baselines:
            d = np.stack([run[model] - run[baseline] for run in runs])
            rows, of_seeds = d.mean(0), d.mean(1)
            spread = of_seeds.var(ddof=1) / len(runs) if len(runs) > 1 else 0.0
            se = math.sqrt(rows.var(ddof=1) / len(rows) + spread)
            results.add(
                f"{name}.{model}_less_{baseline}",
                rows.mean(),
                se=se,
                kind="lower" if model == "vae" else "exact",
                note="nats, paired over the rows",
            )


def count(results: common.Results) -> None:
    """The numbers of sets on which defaults beat a baseline, over the sets that are there."""
    for key, sets, difference in (
        ("binary_sets_rbm_beats_mixture", (*BINARY,), "rbm_less_mixture"),
        ("binary_sets_vae_beats_mixture", (*BINARY,), "vae_less_mixture"),
        ("real_sets_gbrbm_beats_independent", (*REAL, "diabetes"), "gbrbm_less_independent"),
        ("real_sets_gbrbm_beats_normal", (*REAL, "diabetes"), "gbrbm_less_normal"),
    ):
        found = {
            name: results.values[f"{name}.{difference}"] for name in sets if f"{name}.{difference}" in results.values
        }
        won = [name for name, entry in found.items() if entry["value"] is not None and entry["value"] > 2 * entry["se"]]
        note = f"of {len(found)} sets, by more than two standard errors: {', '.join(won) or 'none'}"
        results.add(key, len(won), kind="exact", note=note)


def main(
    engine: str = typer.Option("numpyro", help="numpyro or pyro"),
    seed: int = typer.Option(0, help="the first seed"),
    seeds: int = typer.Option(1, min=1, help="number of seeds"),
    out: Path | None = None,
    only: list[str] = typer.Option([], help=f"one of {', '.join((*BINARY, *REAL))}; may be repeated"),
    resume: bool = typer.Option(False, help="keep the sets that the file has"),
    minutes: float = typer.Option(math.inf, help="no set is begun after so many"),
    rows: int | None = typer.Option(None, min=50, help="at most so many training rows"),
    test_rows: int = typer.Option(1000, min=20, help="at most so many rows to judge"),
    validate: bool = typer.Option(False, help="judge on validation rows, for choices"),
    epochs: int | None = typer.Option(None, min=1, help="in place of the default, for trying"),
    rate: float | None = typer.Option(None, help="learning rate in place of the default, for trying"),
    smoke: bool = typer.Option(False, help="a few rows of two small sets, to see that it runs"),
) -> None:
    """Train, judge, and write the file of results after each set."""
    if unknown := sorted(set(only) - {*BINARY, *REAL}):
        raise typer.BadParameter(f"expected sets among {', '.join((*BINARY, *REAL))}, got {', '.join(unknown)}")
    dg = {"numpyro": dgn, "pyro": dgp}[engine]
    results = common.Results("defaults", engine, seed, out)
    if only or resume:
        results.keep()
    asked = Asked(seeds, rows, test_rows, validate, {} if epochs is None else {"epochs": epochs}, rate)
    names = only or (*BINARY, *REAL)
    if smoke:
        asked, names = Asked(1, 100, 30, validate, {"epochs": 1}, rate, restarts=1), ("digits", "diabetes")
    began = time.monotonic()
    for name in names:
        if resume and f"{name}.independent" in results.values:
            continue
        if time.monotonic() - began > 60 * minutes:
            print(f"left: {', '.join(names[names.index(name) :])}")
            break
        parts = cut(rows_of(name), asked)
        judge = log_p_binary if name in BINARY else log_p_real
        found = [judge(dg, parts, seed + i, asked) for i in range(asked.seeds)]
        judged = f"{len(parts[2])} {'validation' if validate else 'test'} rows of {parts[0].shape[1]}"
        report(results, name, found, f"{len(parts[0])} training, {judged}; {asked.seeds} seeds{_tried(asked)}")
        count(results)
        results.write()
    print(f"wrote {results.write().name}")


def _tried(asked: Asked) -> str:
    tried = [f"{k}={v}" for k, v in asked.fit.items()] + ([] if asked.rate is None else [f"rate={asked.rate:g}"])
    return f"; NOT the defaults: {', '.join(tried)}" if tried else ""


if __name__ == "__main__":
    typer.run(main)
