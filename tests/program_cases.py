"""The table of programs: name -> how to build it on either face, and the truth about it. One more family is one row.

Arrays come from a fixed NumPy generator and both engines get the same. Oracles are plain NumPy over one datum.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy import special, stats

__all__ = ["CASES", "Case", "arrays", "program"]

N = 6
RNG = np.random.default_rng(0)


@dataclass(frozen=True)
class Case:
    """One row.

    Args:
        build: `(dg, dtype, name)` -> the program, its arrays still to be set.
        data: name -> array of N rows.
        latents: name -> value of each latent site: N rows, or one draw of a global site.
        log_model: `(arrays, row, z)` -> site name -> log-probability under the model, given a row of the data.
        log_guide: the same under the guide.
        log_prob: `(arrays, row)` -> log p(x) where the program gives it.
        global_: names of the latent sites that are drawn once for all rows.
        discrete: whether latent sites are discrete.
        scale: standard deviation of the random arrays.
        variant: whether it is a variant of the family of another row, for the slow tests.
    """

    build: Callable
    data: Mapping[str, np.ndarray]
    latents: Mapping[str, np.ndarray]
    log_model: Callable
    log_guide: Callable = lambda arrays, row, z: {}
    log_prob: Callable | None = None
    global_: frozenset[str] = field(default=frozenset())
    discrete: bool = False
    scale: float = 0.5
    variant: bool = False


def program(dg, name, dtype="float64", prefix=""):
    """The program of a row on one engine, with the row's arrays."""
    case = CASES[name]
    bare = case.build(dg, dtype, prefix)
    return bare.from_canonical({k: v.astype(dtype) for k, v in arrays(name, bare).items()})


_arrays: dict[str, dict[str, np.ndarray]] = {}


def arrays(name, bare=None):
    """Arrays of a row under the common names."""
    if name not in _arrays:
        rng = np.random.default_rng(len(name))
        shapes = {k: v.shape for k, v in sorted(bare.canonical().items())}
        _arrays[name] = {k: CASES[name].scale * rng.normal(size=shape) for k, shape in shapes.items()}
    return _arrays[name]


# -- oracles: one datum ------------------------------------------------------------------------------------------------


def net(a, name, x):
    """A perceptron with tanh between its affine maps."""
    i = 0
    while f"{name}.layers.{i}.weight" in a:
        x = (np.tanh(x) if i else x) @ a[f"{name}.layers.{i}.weight"] + a[f"{name}.layers.{i}.bias"]
        i += 1
    return x


def normal(out, x):
    """log Normal(x; m, s) of (m, log s)."""
    d = len(out) // 2
    return sum(stats.norm(out[i], np.exp(out[d + i])).logpdf(x[i]) for i in range(d))


def bernoulli(logits, x):
    """Sum of log-probabilities of bits."""
    return sum(special.log_expit(eta if bit else -eta) for eta, bit in zip(logits, x, strict=True))


def standard(z):
    """log Normal(z; 0, I)."""
    return stats.norm.logpdf(z).sum()


def vae_model(likelihood):
    """Sites of a VAE whose likelihood is `likelihood(arrays, out, x)`."""
    return lambda a, row, z: {"z": standard(z["z"]), "x": likelihood(a, net(a, "decoder", z["z"]), row["x"])}


def categorical(a, out, x):
    """Three variables of four states."""
    return sum(special.log_softmax(out[4 * i : 4 * i + 4])[int(k)] for i, k in enumerate(x))


def one_hot(row):
    """The statistic of such a row."""
    return np.eye(4)[row["x"].astype(int)].reshape(-1)


def vae_guide(statistic=lambda row: row["x"]):
    """q(z | x) of a VAE."""
    return lambda a, row, z: {"z": normal(net(a, "encoder", statistic(row)), z["z"])}


def ppca_density(a, row):
    """Normal(mu, W W' + sigma^2 I)."""
    cov = a["weight"] @ a["weight"].T + np.exp(2 * a["log_sigma"]) * np.eye(len(a["loc"]))
    return stats.multivariate_normal(a["loc"], cov).logpdf(row["x"])


def real_nvp_density(a, row, depth=3):
    """x is taken back to z, a coupling at a time."""
    z, log_det = (row["x"] - a["loc"]) * np.exp(-a["log_scale"]), -a["log_scale"].sum()
    for i in reversed(range(depth)):
        kept = np.array([(j + i) % 2 == 1 for j in range(len(z))])
        out = net(a, f"coupling_{i}", np.where(kept, z, 0.0))
        s, t = 2 * np.tanh(out[: len(z)] / 2), out[len(z) :]
        z = np.where(kept, z, (z - t) * np.exp(-s))
        log_det -= s[~kept].sum()
    return standard(z) + log_det


def dlgm_model(a, row, z):
    """From the top down."""
    x = stats.norm(net(a, "down_0", z["z1"]), np.exp(a["log_sigma"])).logpdf(row["x"]).sum()
    return {
        "z3": standard(z["z3"]), "z2": normal(net(a, "down_2", z["z3"]), z["z2"]),
        "z1": normal(net(a, "down_1", z["z2"]), z["z1"]), "x": x,
    }  # fmt: skip


def dlgm_guide(a, row, z):
    """From the data up."""
    below = {"z1": row["x"], "z2": z["z1"], "z3": z["z2"]}
    return {k: normal(net(a, f"up_{i}", below[k]), z[k]) for i, k in enumerate(below)}


def sbn_model(a, row, z):
    """From the top down."""
    logits = {"h2": a["top"], "h1": net(a, "down_1", z["h2"]), "x": net(a, "down_0", z["h1"])}
    return {k: bernoulli(eta, {**z, **row}[k]) for k, eta in logits.items()}


def sbn_guide(a, row, z):
    """From the data up."""
    logits = {"h1": net(a, "up_0", row["x"]), "h2": net(a, "up_1", z["h1"])}
    return {k: bernoulli(eta, z[k]) for k, eta in logits.items()}


def regression_model(a, row, w):
    """Weights under the prior, y given x and them."""
    mean = net({f"f.{k}": v for k, v in w.items()}, "f", row["x"])
    return {
        **{k: stats.norm(0, 0.7).logpdf(v).sum() for k, v in w.items()},
        "y": stats.norm(mean, np.exp(a["log_sigma"])).logpdf(row["y"]).sum(),
    }


def regression_guide(a, row, w):
    """Each weight by itself."""
    return {k: stats.norm(a[f"{k}.loc"], np.exp(a[f"{k}.log_scale"])).logpdf(v).sum() for k, v in w.items()}


# -- the table ---------------------------------------------------------------------------------------------------------

BITS = RNG.integers(0, 2, (N, 5)).astype(float)
REAL = RNG.normal(size=(N, 3))
STATES = RNG.integers(0, 4, (N, 3)).astype(float)
Z = RNG.normal(size=(N, 2))


def affine_sizes(*sizes):
    """Names and values of the weights of a perceptron."""
    rng = np.random.default_rng(7)
    named = {}
    for i, (a, b) in enumerate(zip(sizes, sizes[1:], strict=False)):
        named |= {f"layers.{i}.weight": rng.normal(size=(a, b)), f"layers.{i}.bias": rng.normal(size=b)}
    return named


def vae(unit):
    """Builder of a VAE with one hidden layer."""
    return lambda dg, dtype, name: dg.VAE.init(unit(dg), 2, (4,), rng=0, dtype=dtype, name=name)


def real_nvp(dg, dtype, name):
    """Three couplings of three variables."""
    return dg.RealNVP.init(3, rng=0, depth=3, hidden=(4,), dtype=dtype, name=name)


def dlgm(dg, dtype, name):
    """Three layers and a learned scale."""
    return dg.DLGM.init(dg.Gaussian(3, scale=None), (2, 3, 2), (4,), rng=0, dtype=dtype, name=name)


def regression(dg, dtype, name):
    """A perceptron with one hidden layer and two outputs."""
    return dg.BayesianRegression.init((3, 4, 2), rng=0, dtype=dtype, name=name, prior_scale=0.7)


WEIGHTS = affine_sizes(3, 4, 2)

CASES: dict[str, Case] = {
    "vae_bernoulli": Case(
        vae(lambda dg: dg.Bernoulli(5)), {"x": BITS}, {"z": Z},
        vae_model(lambda a, out, x: bernoulli(out, x)), vae_guide(),
    ),
    "vae_categorical": Case(
        vae(lambda dg: dg.Categorical(3, 4)), {"x": STATES}, {"z": Z}, vae_model(categorical), vae_guide(one_hot),
        variant=True,
    ),
    "vae_gaussian": Case(
        vae(lambda dg: dg.Gaussian(3, scale=None)), {"x": REAL}, {"z": Z},
        vae_model(lambda a, out, x: stats.norm(out, np.exp(a["log_sigma"])).logpdf(x).sum()), vae_guide(),
        variant=True,
    ),
    "vae_network_scale": Case(
        vae(lambda dg: dg.Gaussian(3, scale="network")), {"x": REAL}, {"z": Z},
        vae_model(lambda a, out, x: normal(out, x)), vae_guide(), variant=True,
    ),
    "ppca": Case(
        lambda dg, dtype, name: dg.PPCA(
            np.zeros((3, 2), dtype), np.zeros(3, dtype), np.zeros((), dtype), name=name
        ), {"x": REAL}, {}, lambda a, row, z: {"x": ppca_density(a, row)}, log_prob=ppca_density,
    ),
    "real_nvp": Case(
        real_nvp, {"x": REAL}, {}, lambda a, row, z: {"x": real_nvp_density(a, row)}, log_prob=real_nvp_density,
    ),
    "dlgm": Case(
        dlgm, {"x": REAL}, {"z1": Z, "z2": RNG.normal(size=(N, 3)), "z3": RNG.normal(size=(N, 2))},
        dlgm_model, dlgm_guide,
    ),
    "sigmoid_belief_net": Case(
        lambda dg, dtype, name: dg.SigmoidBeliefNet.init(5, (3, 2), rng=0, dtype=dtype, name=name), {"x": BITS},
        {"h1": RNG.integers(0, 2, (N, 3)).astype(float), "h2": RNG.integers(0, 2, (N, 2)).astype(float)},
        sbn_model, sbn_guide, discrete=True,
    ),
    "bayesian_regression": Case(
        regression, {"x": REAL, "y": RNG.normal(size=(N, 2))}, WEIGHTS, regression_model, regression_guide,
        global_=frozenset(WEIGHTS),
    ),
}  # fmt: skip
