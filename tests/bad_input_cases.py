"""The table of malformed input: what a call is given, and the sentence that it gets before any work starts.

A row is a public callable, a call with one value that cannot be right, and what the sentence must name beside what was
expected and what came. Calls that take odd but right input are in a table of their own, with the plain input.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["BITS", "ODD", "REFUSED", "USES", "Refused", "models"]

BITS = np.random.default_rng(0).integers(0, 2, (8, 4)).astype(np.float32)
REALS = np.random.default_rng(1).normal(size=(8, 4)).astype(np.float32)


@functools.cache
def models(dg):
    """One small model of each kind, by name; they are never changed."""

    class Ring(dg.Energy):
        """A formula over four spins and two reals."""

        blocks = {  # noqa: RUF012
            "v": dg.Block((4,), dg.engine.host.constraints.boolean, integer=True),
            "h": dg.Block((2,), dg.engine.host.constraints.boolean, integer=True),
        }

        def __init__(self):
            self.build(arrays={"w": np.full((4, 2), 0.1, np.float32)})

        def energy(self, state):
            return -self.engine.xp.sum((state["v"] @ self.param("w")) * state["h"], axis=-1)

    rng = np.random.default_rng(0)
    crbm = dg.ConditionalRBM.init(4, 3, 2, rng=0)
    return {
        "rbm": dg.RBM.init(4, 3, rng=0),
        "other": dg.RBM.init(4, 3, rng=1),
        "dbm": dg.DBM.init(4, (3, 2), rng=0),
        "gaussian": dg.GaussianBernoulliRBM.init(4, 3, rng=0),
        "crbm": crbm,
        "batch": crbm.given({"x": np.zeros((2, 2))}),
        "drbm": dg.DiscriminativeRBM.init(4, 3, 2, rng=0),
        "conv": dg.ConvolutionalRBM.init((1, 2, 2), 1, 1, rng=0),
        "words": dg.ReplicatedSoftmax.init(4, 3, rng=0, longest=9),
        "vae": dg.VAE.init(dg.Bernoulli(4), 2, (3,), rng=0),
        "cvae": dg.VAE.init(dg.Bernoulli(4), 2, (3,), rng=0, num_covariates=1),
        "dlgm": dg.DLGM.init(dg.Bernoulli(4), (3, 2), (3,), rng=0),
        "sbn": dg.SigmoidBeliefNet.init(4, (3, 2), rng=0),
        "ppca": dg.PPCA(rng.normal(size=(4, 2)).astype(np.float32), np.zeros(4, np.float32), np.float32(0.0)),
        "nvp": dg.RealNVP.init(4, rng=0, depth=2, hidden=(3,)),
        "net": dg.BayesianRegression.init((2, 1), rng=0),
        "own": Ring(),
    }


@dataclass(frozen=True)
class Refused:
    """One malformed call.

    Args:
        name: the public callable, and which of its arguments is wrong.
        call: `(face, value)`.
        value: what is wrong, or a function of the face that makes it.
        error: class of the error.
        sentence: what the sentence says somewhere between `expected` and the end.
    """

    name: str
    call: Callable[[Any, Any], Any]
    value: Any
    error: type | tuple[type, ...]
    sentence: str

    def __call__(self, dg):
        """Make the call."""
        value = self.value(dg) if callable(self.value) and getattr(self.value, "of_face", False) else self.value
        return self.call(dg, value)


REFUSED: list[Refused] = []


def of(make):
    """A value that is made from the face."""

    def made(dg):
        return make(dg)

    made.of_face = True
    return made


def refuse(name, call, values, error, sentence):
    """Rows of one argument."""
    REFUSED.extend(Refused(name, call, value, error, sentence) for value in values)


def model(name):
    """One of the models, as a value."""
    return of(lambda dg: models(dg)[name])


def array(x):
    """An array of the engine, as a value."""
    return of(lambda dg: dg.engine.arrays.asarray(np.float32(x)))


NAN, INF = math.nan, math.inf
NO_COUNT = (0, -1, 2.5, True, "3", None, NAN, 1j, [2])
NO_FLAG = ("no", 1, None)
NO_REAL = (True, np.True_, "0.5", b"1", None, NAN, 1j, np.complex64(1), [0.5], np.array([0.5]))
NO_RNG = ("0", None, 1.5, True, [0])
NO_DTYPE = ("float16", "complex64", "int32", None, 32)

# -- units and terms ---------------------------------------------------------------------------------------------------

UNITS = ("AtMostOne", "Bernoulli", "Binomial", "Categorical", "Gaussian", "Given", "Multinomial", "Poisson", "Spin")
for unit in UNITS:
    refuse(f"{unit} size", lambda dg, x, unit=unit: getattr(dg, unit)(x), (0, 2.5, True, "3"), ValueError, unit)
for unit, field in (
    ("AtMostOne", "block"),
    ("Binomial", "trials"),
    ("Categorical", "num_states"),
    ("Multinomial", "longest"),
):
    refuse(
        f"{unit} {field}",
        lambda dg, x, unit=unit: getattr(dg, unit)(3, x),
        (0, 2.5, True, "3", None),
        ValueError,
        field,
    )
refuse(
    "Gaussian scale",
    lambda dg, x: dg.Gaussian(3, scale=x),
    (0, -1.0, INF, True, "big", NAN, 1j, [1.0]),
    ValueError,
    "scale",
)
refuse(
    "Unit data",
    lambda dg, x: dg.Bernoulli(4).check(x, "data"),
    (BITS[:, :3], BITS * 2, BITS[:0], BITS + 1j),
    ValueError,
    "data",
)

refuse(
    "Dense layers",
    lambda dg, x: dg.Dense(x),
    ("vh", None, ("v",), ("v", "v"), (1, 2), ("a", "b", "c")),
    ValueError,
    "Dense",
)
refuse("Bias layers", lambda dg, x: dg.Bias(x), ("v", (), ("v", "h")), ValueError, "Bias")
refuse("NoBias layers", lambda dg, x: dg.NoBias(x), ("v", 3, ("v", "h")), ValueError, "NoBias")
refuse("Replicated layers", lambda dg, x: dg.Replicated(x), ("vh", ("v", "v")), ValueError, "Replicated")
refuse("ThirdOrder layers", lambda dg, x: dg.ThirdOrder(x), (("v", "h"), ("v", "h", "h"), 3), ValueError, "ThirdOrder")
refuse("SharedBias repeats", lambda dg, x: dg.SharedBias(("v",), repeats=x), (0, 1.5, True, "2"), ValueError, "repeats")
refuse(
    "Sparse edges",
    lambda dg, x: dg.Sparse(("v", "h"), edges=x, shape=(4, 3)),
    ((), None, 3, "ab", [(0, 0), (0, 0)], [(0, 9)], [(0.5, 1)], [(0,)], [(0, -1)], [0, 1]),
    ValueError,
    "edge",
)
refuse(
    "Sparse shape",
    lambda dg, x: dg.Sparse(("v", "h"), edges=[(0, 0)], shape=x),
    (3, (4,), (4, 0), "ab", None),
    ValueError,
    "shape",
)
refuse(
    "Convolution image",
    lambda dg, x: dg.Convolution(("v", "h"), image=x),
    (3, (2, 2), (1, 0, 2), (1, 2.5, 2), "abc"),
    ValueError,
    "image",
)
for field in ("filters", "kernel", "pool"):
    refuse(
        f"Convolution {field}",
        lambda dg, x, field=field: dg.Convolution(("v", "h"), **{"image": (1, 4, 4), field: x}),
        (0, 1.5, True, "2"),
        ValueError,
        field,
    )
refuse(
    "Convolution kernel",
    lambda dg, x: dg.Convolution(("v", "h"), image=(1, 4, 4), kernel=x),
    (5,),
    ValueError,
    "at most 4",
)
refuse(
    "Convolution pool", lambda dg, x: dg.Convolution(("v", "h"), image=(1, 4, 4), pool=x), (3,), ValueError, "divides"
)


def own_term(dg, layers):
    """A term of a user's own."""
    kind = type("OwnTerm", (dg.Term,), {"shapes": None, "natural": None})
    return kind(layers)


refuse("Term layers", own_term, ("v", (), ("a", "b", "c", "d"), ("a", "a")), ValueError, "OwnTerm")
refuse(
    "Block shape",
    lambda dg, x: dg.Block(x, dg.engine.host.constraints.real),
    (3, (0,), (2.5,), "ab", None, (True,)),
    ValueError,
    "shape",
)
refuse("Block support", lambda dg, x: dg.Block((2,), x), (None, "real", 3), TypeError, "constraint")
refuse(
    "Block integer", lambda dg, x: dg.Block((2,), dg.engine.host.constraints.real, x), ("no", 1), TypeError, "integer"
)

# -- options of kernels, objectives, methods and estimates -------------------------------------------------------------

COUNTS = {
    "MeanField": ("iterations",),
    "BlockGibbs": ("sweeps",),
    "HMC": ("num_steps",),
    "StochasticML": ("num_chains",),
    "ELBO": ("num_particles", "num_global", "max_plate_nesting"),
    "IWAE": ("num_particles", "num_global"),
    "NUTS": ("num_samples", "num_chains", "max_tree_depth"),
    "BoundsOptions": ("num_particles", "num_runs"),
}
for kind, fields in COUNTS.items():
    for field in fields:
        refuse(
            f"{kind} {field}",
            lambda dg, x, kind=kind, field=field: getattr(dg, kind)(**{field: x}),
            NO_COUNT,
            ValueError,
            field,
        )
for kind in ("RLOO", "VIMCO", "ReweightedWakeSleep"):
    refuse(
        f"{kind} num_particles",
        lambda dg, x, kind=kind: getattr(dg, kind)(x),
        (1, 0, 2.5, True),
        ValueError,
        "num_particles",
    )
refuse("WakeSleep num_particles", lambda dg, x: dg.WakeSleep(x), (0, 1.5, "2"), ValueError, "num_particles")
refuse("ELBO plate", lambda dg, x: dg.ELBO(plate=x), (3, None, "", True), ValueError, "plate")
refuse("ELBO analytic_kl", lambda dg, x: dg.ELBO(analytic_kl=x), NO_FLAG, TypeError, "analytic_kl")
refuse("NUTS num_warmup", lambda dg, x: dg.NUTS(num_warmup=x), (-1, 2.5, True, "3"), ValueError, "num_warmup")
refuse(
    "NUTS target_accept_prob",
    lambda dg, x: dg.NUTS(target_accept_prob=x),
    (0, 1.5, *NO_REAL),
    ValueError,
    "target_accept_prob",
)
refuse("HMC step_size", lambda dg, x: dg.HMC(x), (0, -0.1, INF, *NO_REAL), ValueError, "step_size")
refuse("HMC blocks", lambda dg, x: dg.HMC(blocks=x), ("v", 3, (1,), ("v", "v")), ValueError, "blocks")
refuse(
    "ParallelTempering betas",
    lambda dg, x: dg.ParallelTempering(x),
    (1, 0, 2.5, True, "10", None, 1j, [0.5], [1, 0], [0, NAN, 1], [-1, 1], ["a", "b"], [[0, 1]], [0, 1j]),
    ValueError,
    "inverse temperatures|betas",
)
for kind in ("StochasticML", "ContrastiveDivergence"):
    make = lambda dg, x, kind=kind: getattr(dg, kind)(x)  # noqa: E731
    refuse(
        f"{kind} kernel",
        make,
        ("gibbs", 3, None, of(lambda dg: dg.BlockGibbs), of(lambda dg: dg.ELBO())),
        TypeError,
        "kernel",
    )
    make = lambda dg, x, kind=kind: getattr(dg, kind)(offset_rate=x)  # noqa: E731
    refuse(f"{kind} offset_rate", make, (-0.1, 1.5, *NO_REAL), ValueError, "offset_rate")
    make = lambda dg, x, kind=kind: getattr(dg, kind)(offsets=x)  # noqa: E731
    refuse(f"{kind} offsets", make, ("model", None, 1, ["data"]), ValueError, "offsets")
refuse(
    "ContrastiveDivergence kernel",
    lambda dg, x: dg.ContrastiveDivergence(x),
    (of(lambda dg: dg.ParallelTempering()),),
    TypeError,
    "kernel",
)
refuse(
    "StochasticML hidden_bound",
    lambda dg, x: dg.StochasticML(hidden_bound=x),
    ("mean field", None, 3),
    TypeError,
    "hidden_bound",
)
refuse(
    "BoundsOptions betas",
    lambda dg, x: dg.BoundsOptions(betas=x),
    (1, 2.5, True, "9", None, [0, 0.5], [0, NAN, 1], [1, 0], ["a"], [0, 1j], [[0, 1]]),
    ValueError,
    "inverse temperatures|betas",
)
refuse(
    "BoundsOptions log_z", lambda dg, x: dg.BoundsOptions(log_z=x), ("exact", None, True, ["ais"]), ValueError, "log_z"
)
for field, more in (("exact_bits", (-1, INF)), ("latent_bits", (-1, 15))):
    refuse(
        f"BoundsOptions {field}",
        lambda dg, x, field=field: dg.BoundsOptions(**{field: x}),
        (*more, *NO_REAL),
        ValueError,
        field,
    )
refuse("BoundsOptions num_particles", lambda dg, x: dg.BoundsOptions(1), (1,), ValueError, "num_particles")
for field, more in (
    ("learning_rate", (-1, INF)),
    ("weight_decay", (-1,)),
    ("b1", (1.5,)),
    ("b2", (-1,)),
    ("eps", (-1,)),
):
    make = lambda dg, x, field=field: dg.adam(**{"learning_rate": 0.1, field: x})  # noqa: E731
    refuse(f"adam {field}", make, (*more, *NO_REAL), ValueError, field)
refuse("sgd momentum", lambda dg, x: dg.sgd(0.1, momentum=x), (-1, 1.5, *NO_REAL), ValueError, "momentum")
refuse("sgd nesterov", lambda dg, x: dg.sgd(0.1, momentum=0.9, nesterov=x), NO_FLAG, TypeError, "nesterov")
for field in ("patience", "every"):
    refuse(
        f"Validation {field}",
        lambda dg, x, field=field: dg.Validation(BITS, **{field: x}),
        (0, -1, 2.5, True, "3"),
        ValueError,
        field,
    )
refuse("Validation metric", lambda dg, x: dg.Validation(BITS, metric=x), ("elbo", 3, True), TypeError, "metric")
refuse("bounds_metric side", lambda dg, x: dg.bounds_metric(x), ("both", None, 3), ValueError, "side")
refuse("bounds_metric rng", lambda dg, x: dg.bounds_metric(rng=x), (1.5, -1, "0", None, True), ValueError, "rng")
refuse("bounds_metric options", lambda dg, x: dg.bounds_metric(options=x), ({}, 0, "many"), TypeError, "options")
refuse(
    "LogNormalizer alpha",
    lambda dg, x: dg.LogNormalizer(1.0, 0.0, "exact", "both", "by hand").certified(x),
    (0, 1, 2, *NO_REAL),
    ValueError,
    "alpha",
)
refuse(
    "LogNormalizer kind", lambda dg, x: dg.LogNormalizer(1.0, 0.0, x, "both", ""), ("true", None, 1), ValueError, "kind"
)
refuse(
    "LogNormalizer side",
    lambda dg, x: dg.LogNormalizer(1.0, 0.0, "bound", x, ""),
    ("left", None, 1),
    ValueError,
    "side",
)
refuse(
    "Contrastive particles",
    lambda dg, x: dg.Contrastive(x),
    (None, 3, [BITS], {}, {"v": "abc"}, {"v": None}),
    TypeError,
    "particles",
)

# -- machines ----------------------------------------------------------------------------------------------------------

B, C, W = np.zeros(4, np.float32), np.zeros(3, np.float32), np.zeros((4, 3), np.float32)
NO_ARRAY = (None, "abc", ["a"], W > 0, W + 1j, W.astype(object), np.full((4, 3), NAN, np.float32), [[1.0], [1.0, 2.0]])

refuse(
    "RBM weight",
    lambda dg, x: dg.RBM(x, B, C),
    (*NO_ARRAY, B, W[None], np.zeros((0, 3), np.float32), {"w": W}),
    ValueError,
    "weight|Bernoulli units",
)
refuse(
    "RBM visible_bias",
    lambda dg, x: dg.RBM(W, x, C),
    (C, W, "abc", B > 0, B + 1j, B + np.float32(INF)),
    ValueError,
    "v.bias",
)
refuse("RBM hidden_bias", lambda dg, x: dg.RBM(W, B, x), (B, np.float32(0.5), ["a"] * 3, {}), ValueError, "h.bias")
refuse("RBM visible", lambda dg, x: dg.RBM(W, visible=x), (4, "v", of(lambda dg: dg.Bernoulli), 0), TypeError, "'v'")
refuse("RBM visible", lambda dg, x: dg.RBM(W, visible=x), (of(lambda dg: dg.Bernoulli(3)),), ValueError, "v.bias")
for family, more in (
    ("RBM", {}),
    ("GaussianBernoulliRBM", {}),
    ("DiscriminativeRBM", {"labels": 2}),
    ("ConditionalRBM", {"input": 2}),
    ("GatedRBM", {"input": 2}),
    ("ReplicatedSoftmax", {}),
):
    init = lambda dg, family=family, more=more, **k: getattr(dg, family).init(  # noqa: E731
        **{"visible": 4, "hidden": 3, "rng": 0, **more, **k}
    )
    for field in ("visible", "hidden", *more):
        refuse(
            f"{family}.init {field}",
            lambda dg, x, init=init, field=field: init(dg, **{field: x}),
            (0, 2.5, "3", None, True),
            ValueError,
            "units|num_states|input",
        )
    refuse(f"{family}.init rng", lambda dg, x, init=init: init(dg, rng=x), NO_RNG, TypeError, "seed")
    refuse(f"{family}.init dtype", lambda dg, x, init=init: init(dg, dtype=x), NO_DTYPE, ValueError, "dtype")
    refuse(
        f"{family}.init weight_scale",
        lambda dg, x, init=init: init(dg, weight_scale=x),
        (-1, NAN, "1", True, None),
        ValueError,
        "weight_scale",
    )
    refuse(
        f"{family}.init data",
        lambda dg, x, init=init: init(dg, data=x),
        (
            BITS[0],
            BITS[None],
            BITS[:, :3],
            BITS[:0],
            BITS * NAN,
            BITS + 1j,
            BITS.astype(str),
            np.ma.masked_equal(BITS, 1),
        ),
        ValueError,
        "data",
    )
    refuse(
        f"{family}.init data",
        lambda dg, x, init=init: init(dg, data=x),
        ("digits", 3, {"v": BITS}, [[1], [1, 0]]),
        (TypeError, ValueError),
        "data",
    )
for family in ("RBM", "GaussianBernoulliRBM", "DiscriminativeRBM", "ConditionalRBM"):
    more = {"DiscriminativeRBM": {"labels": 2}, "ConditionalRBM": {"input": 2}}.get(family, {})
    refuse(
        f"{family}.init centered",
        lambda dg, x, family=family, more=more: getattr(dg, family).init(
            visible=4, hidden=3, rng=0, centered=x, **more
        ),
        NO_FLAG,
        TypeError,
        "centered",
    )
refuse(
    "GaussianBernoulliRBM visible_scale",
    lambda dg, x: dg.GaussianBernoulliRBM(W, visible_scale=x),
    (0, -1, "1", True, 1j),
    ValueError,
    "scale",
)
refuse("GaussianBernoulliRBM weight", lambda dg, x: dg.GaussianBernoulliRBM(x), (B, "abc", None), ValueError, "weight")
refuse("DBM.init hidden", lambda dg, x: dg.DBM.init(4, x, rng=0), (3, (), None, "ab", 2.5), ValueError, "hidden layers")
refuse(
    "DBM.init hidden", lambda dg, x: dg.DBM.init(4, x, rng=0), ((3, 0), (2.5,), (True,), ("3",)), ValueError, "units"
)
refuse("DBM layers", lambda dg, x: dg.DBM(x, [dg.Dense(("v", "h"))], {}), ([4, 3], None, "vh"), TypeError, "layers")
refuse("DiscriminativeRBM weight", lambda dg, x: dg.DiscriminativeRBM(x, W[:2]), (B, "abc", None), ValueError, "weight")
refuse(
    "DiscriminativeRBM.label_log_prob v",
    lambda dg, x: models(dg)["drbm"].label_log_prob(x),
    (BITS[:, :3], BITS * 2),
    ValueError,
    "v",
)
refuse(
    "ConditionalRBM weight",
    lambda dg, x: dg.ConditionalRBM(x, W[:, :2], W[:3, :2]),
    (B, "abc", None),
    ValueError,
    "weight",
)
refuse("GatedRBM weight", lambda dg, x: dg.GatedRBM(x), (W, "abc", None), ValueError, "weight")
refuse(
    "ConvolutionalRBM weight",
    lambda dg, x: dg.ConvolutionalRBM(x, image=(1, 2, 2)),
    (W, "abc", None),
    ValueError,
    "weight",
)
refuse(
    "ConvolutionalRBM image",
    lambda dg, x: dg.ConvolutionalRBM(np.zeros((1, 1, 1, 1), np.float32), image=x),
    (4, (2, 2), None),
    ValueError,
    "image",
)
refuse(
    "ConvolutionalRBM.init filters",
    lambda dg, x: dg.ConvolutionalRBM.init((1, 2, 2), x, 1, rng=0),
    (0, 1.5, True),
    ValueError,
    "filters",
)
refuse(
    "ConvolutionalRBM.values maps",
    lambda dg, x: models(dg)["conv"].values(x),
    (BITS, np.full((1, 1, 2, 2), 0.5)),
    ValueError,
    "maps",
)
refuse("ReplicatedSoftmax weight", lambda dg, x: dg.ReplicatedSoftmax(x), (B, "abc", None), ValueError, "weight")
refuse(
    "ReplicatedSoftmax longest",
    lambda dg, x: dg.ReplicatedSoftmax(W, longest=x),
    (0, 2.5, "9", True),
    ValueError,
    "longest",
)
refuse(
    "ReplicatedSoftmax.given lengths",
    lambda dg, x: models(dg)["words"].given({"lengths": x}),
    (np.array([10]), np.array([-1]), np.array([0.5]), np.array([NAN])),
    ValueError,
    "lengths",
)
refuse(
    "ReplicatedSoftmax.given lengths",
    lambda dg, x: models(dg)["words"].given({"lengths": x}),
    ("9", None),
    ValueError,
    "real numbers",
)


def machine(dg, layers=None, terms=None, params=None, constants=None):
    """A machine from its parts."""
    layers = {"v": dg.Bernoulli(4), "h": dg.Bernoulli(3)} if layers is None else layers
    terms = [dg.Dense(("v", "h"))] if terms is None else terms
    params = {"v.bias": B, "h.bias": C, "v-h.weight": W} if params is None else params
    return dg.BoltzmannMachine(layers, terms, params, constants)


refuse("BoltzmannMachine layers", lambda dg, x: machine(dg, layers=x), ([4, 3], "vh", 3), TypeError, "layers")
refuse(
    "BoltzmannMachine layers", lambda dg, x: machine(dg, layers=x), ({"v": 4, "h": 3}, {"v": None}), TypeError, "'v'"
)
refuse("BoltzmannMachine layers", lambda dg, x: machine(dg, layers=x), ({},), ValueError, "layer")
refuse(
    "BoltzmannMachine layers",
    lambda dg, x: machine(dg, layers=x(dg)),
    (
        lambda dg: {"1v": dg.Bernoulli(4)},
        lambda dg: {0: dg.Bernoulli(4)},
        lambda dg: {"": dg.Bernoulli(4)},
        lambda dg: {"a.b": dg.Bernoulli(4)},
    ),
    ValueError,
    "layer names",
)
refuse(
    "BoltzmannMachine terms",
    lambda dg, x: machine(dg, terms=x),
    ("v-h", ["v-h"], 3, of(lambda dg: dg.Dense(("v", "h")))),
    TypeError,
    "terms",
)
refuse(
    "BoltzmannMachine terms",
    lambda dg, x: machine(dg, terms=x),
    (of(lambda dg: [dg.Dense(("v", "z"))]), of(lambda dg: [dg.Dense(("v", "h")), dg.Dense(("h", "v"))])),
    ValueError,
    "layers",
)
refuse("BoltzmannMachine params", lambda dg, x: machine(dg, params=x), ([B, C, W], "abc", 3), TypeError, "params")
refuse(
    "BoltzmannMachine params", lambda dg, x: machine(dg, params=x), ({}, {"v.bias": B}, {"z": B}), ValueError, "arrays"
)
refuse("BoltzmannMachine constants", lambda dg, x: machine(dg, constants=x), ([B], "abc", 3), TypeError, "constants")
refuse(
    "BoltzmannMachine constants",
    lambda dg, x: machine(dg, constants=x),
    ({"v.offset": C}, {"v.offset": B * NAN}),
    ValueError,
    "v.offset",
)

for name, key in (("rbm", "v.bias"), ("vae", "decoder.layers.1.bias")):
    for method in ("with_params", "with_constants"):
        call = lambda dg, x, name=name, method=method: getattr(models(dg)[name], method)(x)  # noqa: E731
        refuse(f"{'RBM' if name == 'rbm' else 'VAE'}.{method}", call, (None, 3, "abc", [B]), TypeError, "dict")
        refuse(f"{'RBM' if name == 'rbm' else 'VAE'}.{method}", call, ({"z": B}, {3: B}), ValueError, "among")
    call = lambda dg, x, name=name, key=key: models(dg)[name].with_params({key: x})  # noqa: E731
    refuse(
        f"{'RBM' if name == 'rbm' else 'VAE'}.with_params value",
        call,
        (C, B * NAN, B + 1j, B > 0, "abcd", None, list("abcd"), B.astype(object)),
        ValueError,
        key,
    )
refuse("RBM.astype", lambda dg, x: models(dg)["rbm"].astype(x), NO_DTYPE, ValueError, "dtype")

RBM_STATE = {"v": BITS, "h": BITS[:, :3]}
for method in ("energy", "free_energy"):
    call = lambda dg, x, method=method: getattr(models(dg)["rbm"], method)(x)  # noqa: E731
    refuse(
        f"RBM.{method} state",
        call,
        ({**RBM_STATE, "z": BITS}, {**RBM_STATE, "v": BITS[:, :3]}, {**RBM_STATE, "v": np.float32(1)}),
        ValueError,
        "state|v of shape",
    )
    refuse(
        f"RBM.{method} state",
        call,
        (None, 3, "abc", {**RBM_STATE, "v": None}, {**RBM_STATE, "v": "abcd"}, {**RBM_STATE, "v": BITS + 1j}),
        (TypeError, ValueError),
        "state|array|shape",
    )
refuse("RBM.energy state", lambda dg, x: models(dg)["rbm"].energy(x), ({}, {"v": BITS}), ValueError, "'h'")
refuse(
    "RBM.free_energy state",
    lambda dg, x: models(dg)["rbm"].free_energy(x),
    (BITS[:, :3], BITS[0, 0]),
    ValueError,
    "v of shape",
)
refuse("DBM.free_energy state", lambda dg, x: models(dg)["dbm"].free_energy(x), (BITS,), ValueError, "hidden_bound")
for method in ("conditional", "mean"):
    call = lambda dg, x, method=method: getattr(models(dg)["rbm"], method)(x, {"v": BITS})  # noqa: E731
    refuse(f"RBM.{method} block", call, ("z", None, 0, ["h"]), ValueError, "layer")
    call = lambda dg, x, method=method: getattr(models(dg)["rbm"], method)("h", x)  # noqa: E731
    refuse(f"RBM.{method} state", call, ({}, {"v": BITS[:, :3]}), ValueError, "v")
    refuse(f"RBM.{method} state", call, (None, "abc", BITS), TypeError, "state")
refuse("RBM.draw rng", lambda dg, x: models(dg)["rbm"].draw(x, "h", {"v": BITS}), NO_RNG, TypeError, "seed")
refuse("RBM.start rng", lambda dg, x: models(dg)["rbm"].start(x, 3), NO_RNG, TypeError, "seed")
refuse("RBM.start num_chains", lambda dg, x: models(dg)["rbm"].start(0, x), NO_COUNT, ValueError, "num_chains")
refuse("RBM.given state", lambda dg, x: models(dg)["rbm"].given(x), (None, "abc", BITS, 3), TypeError, "state")
refuse(
    "RBM.given state",
    lambda dg, x: models(dg)["rbm"].given(x),
    (
        {"z": BITS},
        {"v": BITS[:, :3]},
        {"v": BITS * 2},
        {"v": BITS * NAN},
        {"v": BITS + 1j},
        {"v": "abcd"},
        {"v": None},
        RBM_STATE,
    ),
    ValueError,
    "v|layer|real numbers",
)
refuse(
    "RBM.given missing",
    lambda dg, x: models(dg)["rbm"].given({"v": BITS}, missing=x),
    ({"h": BITS}, {"v": BITS[:, :3]}, {"v": BITS[0]}),
    ValueError,
    "missing|masks",
)
refuse(
    "RBM.given missing",
    lambda dg, x: models(dg)["rbm"].given({"v": BITS}, missing=x),
    (3, "v", BITS > 0),
    TypeError,
    "missing",
)
refuse("ConditionalRBM.marginal", lambda dg, x: models(dg)["crbm"].marginal(x), ("v", None), ValueError, "given")
refuse("ConditionalRBM.start", lambda dg, x: models(dg)["crbm"].start(0, x), (3,), ValueError, "given")
refuse(
    "RBM.recentered offsets",
    lambda dg, x: models(dg)["rbm"].recentered(x),
    ({"z": B}, {"v": C}, {"v": B * NAN}),
    ValueError,
    "offset",
)
refuse(
    "RBM.recentered offsets", lambda dg, x: models(dg)["rbm"].recentered(x), (None, B, "abc", 3), TypeError, "offsets"
)
for name in ("rbm", "own"):
    title = "RBM" if name == "rbm" else "Energy"
    call = lambda dg, x, name=name: models(dg)[name].marginal(x)  # noqa: E731
    refuse(f"{title}.marginal block", call, (0, "", "z", ["v"], True), ValueError, "layer|block")
    call = lambda dg, x, name=name: models(dg)[name].marginal(log_normalizer=x)  # noqa: E731
    refuse(
        f"{title}.marginal log_normalizer",
        call,
        ("approx", 1.5, True, np.array([1.0, 2.0])),
        TypeError,
        "log_normalizer",
    )
    call = lambda dg, x, name=name: models(dg)[name].marginal(sampler=x)  # noqa: E731
    refuse(
        f"{title}.marginal sampler",
        call,
        ("gibbs", 3, of(lambda dg: dg.ELBO()), of(lambda dg: dg.BlockGibbs)),
        TypeError,
        "sampler",
    )
refuse(
    "DBM.marginal hidden_bound",
    lambda dg, x: models(dg)["dbm"].marginal(hidden_bound=x),
    ("mean field", 3, True),
    TypeError,
    "hidden_bound",
)
refuse(
    "DBM.marginal hidden_bound",
    lambda dg, x: models(dg)["dbm"].marginal(hidden_bound=x),
    (None,),
    ValueError,
    "hidden_bound",
)
refuse(
    "RBM.marginal log_normalizer",
    lambda dg, x: models(dg)["rbm"].marginal(log_normalizer=dg.exact_log_normalizer(x)),
    (model("other"),),
    ValueError,
    "parameters",
)
refuse(
    "RBM.marginal log_normalizer",
    lambda dg, x: models(dg)["rbm"].marginal(log_normalizer=dg.Contrastive(x)),
    ({"z": BITS}, {"v": BITS[:, :3]}),
    ValueError,
    "particles",
)
refuse(
    "MeanField.solve v",
    lambda dg, x: dg.MeanField().solve(models(dg)["dbm"], x),
    (BITS[:, :3], {"z": BITS}),
    ValueError,
    "v of shape|layers",
)

# -- energies of one's own ---------------------------------------------------------------------------------------------

refuse(
    "IndependentBlocks blocks",
    lambda dg, x: dg.IndependentBlocks(x),
    (None, [2], {"v": 3}, {"v": (2,)}),
    TypeError,
    "block",
)
refuse("IndependentBlocks blocks", lambda dg, x: dg.IndependentBlocks(x), ({},), ValueError, "block")
refuse(
    "IndependentBlocks arrays",
    lambda dg, x: dg.IndependentBlocks({"v": dg.Block((2,), dg.engine.host.constraints.real)}, x),
    ({"z": B}, {"v.mean": B}, {"v.mean": "ab"}, {"v.mean": np.float32([NAN, 0])}),
    ValueError,
    "array|v.mean",
)
refuse("Energy.free_energy state", lambda dg, x: models(dg)["own"].free_energy(x), (None, 3, "abc"), TypeError, "state")
refuse(
    "Energy.free_energy state",
    lambda dg, x: models(dg)["own"].free_energy(x),
    ({"z": BITS}, BITS[:, :3]),
    ValueError,
    "block|shape",
)
refuse("Energy.start num_chains", lambda dg, x: models(dg)["own"].start(0, x), NO_COUNT, ValueError, "num_chains")


def built(dg, **parts):
    """An energy whose state is built from these parts."""

    class Own(dg.Energy):
        blocks = {"v": dg.Block((4,), dg.engine.host.constraints.real)}  # noqa: RUF012

        def __init__(self):
            self.build(**parts)

        def energy(self, state):
            return 0.0

    return Own()


refuse(
    "Energy.build arrays",
    lambda dg, x: built(dg, arrays=x),
    ({"a": "abc"}, {"a": B + 1j}, {"a": B > 0}, {"a": None}, {"a": B * NAN}, {"": B}),
    ValueError,
    "a|names",
)
refuse("Energy.build arrays", lambda dg, x: built(dg, arrays=x), ([B], "abc", 3), TypeError, "arrays")
refuse(
    "Energy.build networks",
    lambda dg, x: built(dg, networks=x),
    ({"f": np.tanh}, {"f": "mlp"}, [3], 3),
    TypeError,
    "etworks|Module",
)
refuse(
    "Energy.build machines", lambda dg, x: built(dg, machines=x), ({"m": 3}, {"m": "rbm"}, [3], 3), TypeError, "machine"
)
refuse("Energy.build name", lambda dg, x: built(dg, arrays={"a": B}, name=x), (3, None, True), ValueError, "name")

# -- kernels -----------------------------------------------------------------------------------------------------------

for kind in ("BlockGibbs", "HMC", "ParallelTempering"):
    call = lambda dg, x, kind=kind: getattr(dg, kind)().on(x)  # noqa: E731
    refuse(f"{kind}.on target", call, ("rbm", None, 3, model("vae"), of(lambda dg: dg.RBM)), TypeError, "energy")
    call = lambda dg, x, kind=kind: getattr(dg, kind)().on(models(dg)["rbm"], num_chains=x)  # noqa: E731
    refuse(f"{kind}.on num_chains", call, (0, -1, 2.5, "3", None), ValueError, "num_chains")
    call = lambda dg, x, kind=kind: getattr(dg, kind)().init(0, models(dg)["rbm"], x)  # noqa: E731
    refuse(f"{kind}.init num_chains", call, (0, 2.5, "3", True), ValueError, "num_chains")
    call = lambda dg, x, kind=kind: getattr(dg, kind)().init(x, models(dg)["rbm"], 3)  # noqa: E731
    refuse(f"{kind}.init rng", call, ("0", None, 1.5), TypeError, "seed")
    call = lambda dg, x, kind=kind: getattr(dg, kind)().init(0, x, 3)  # noqa: E731
    refuse(f"{kind}.init target", call, ("rbm", None, model("vae")), TypeError, "energy")
    call = lambda dg, x, kind=kind: getattr(dg, kind)().step(0, models(dg)["rbm"], x)  # noqa: E731
    refuse(f"{kind}.step state", call, (None, "abc", {"v": BITS}), TypeError, "state")
refuse(
    "HMC.init blocks",
    lambda dg, x: dg.HMC(blocks=x).init(0, models(dg)["gaussian"], 3),
    (("z",), ("h",)),
    ValueError,
    "real blocks",
)
refuse(
    "ParallelTempering.init target",
    lambda dg, x: dg.ParallelTempering().init(0, x, 3),
    (model("own"),),
    (TypeError, ValueError, NotImplementedError),
    "machine",
)
refuse("Kernel.on target", lambda dg, x: dg.Kernel.on(dg.BlockGibbs(), x), (BITS, {}), TypeError, "energy")
refuse(
    "StochasticML.on machine",
    lambda dg, x: dg.StochasticML().on(x),
    ("rbm", None, model("vae"), model("own")),
    TypeError,
    "machine|model with",
)
refuse("StochasticML.on rng", lambda dg, x: dg.StochasticML().on(models(dg)["rbm"], rng=x), NO_RNG, TypeError, "seed")

# -- log Z -------------------------------------------------------------------------------------------------------------

refuse(
    "exact_log_normalizer machine",
    lambda dg, x: dg.exact_log_normalizer(x),
    ("rbm", None, BITS, model("vae")),
    TypeError,
    "machine",
)
refuse("exact_log_normalizer machine", lambda dg, x: dg.exact_log_normalizer(x), (model("crbm"),), ValueError, "given")
refuse(
    "exact_log_normalizer machine",
    lambda dg, x: dg.exact_log_normalizer(dg.RBM.init(*x, rng=0)),
    ((30, 30),),
    ValueError,
    "2\\^25",
)
refuse("ais machine", lambda dg, x: dg.ais(x, rng=0), ("rbm", None, 3, model("vae")), TypeError, "machine")
refuse("ais machine", lambda dg, x: dg.ais(x, rng=0), (model("crbm"), model("words")), ValueError, "given")
AIS = {"betas": 3, "num_runs": 100}
for name in ("rbm", "own"):
    title = "ais" if name == "rbm" else "ais of an energy:"
    for field, values, error, sentence in (
        ("rng", NO_RNG, TypeError, "seed"),
        ("num_runs", NO_COUNT, ValueError, "num_runs"),
        (
            "betas",
            (1, 0, 2.5, True, "9", None, [0, 0.5], [0, NAN, 1], [1, 0], ["a", "b"], [[0, 1]]),
            ValueError,
            "inverse temperatures|betas",
        ),
        ("reverse", NO_FLAG, TypeError, "reverse"),
        ("progress", ("no", 1), TypeError, "progress"),
        ("data", (BITS[:, :3], BITS * 2, BITS[0], BITS[:0], BITS * NAN), ValueError, "data"),
        ("data", ("digits", 3), (TypeError, ValueError), "data"),
        ("start", ("rbm", 3, model("vae")), TypeError, "start"),
        ("start", (model("gaussian"), model("dbm")), ValueError, "layers|blocks"),
        ("kernel", ("hmc", 3), TypeError, "kernel"),
        ("initial", ({"v": BITS}, {"v": BITS * NAN}), ValueError, "reverse=True"),
    ):
        call = lambda dg, x, name=name, field=field: dg.ais(  # noqa: E731
            models(dg)[name], **{"rng": 0, **AIS, field: x}
        )
        refuse(f"{title} {field}", call, values, error, sentence)
    call = lambda dg, x, name=name: dg.ais(models(dg)[name], rng=0, reverse=True, initial=x, **AIS)  # noqa: E731
    refuse(f"{title} initial", call, ({"v": BITS}, {"z": BITS}, {}), ValueError, "initial")
    refuse(f"{title} initial", call, (3, "abc", BITS), TypeError, "initial")

# -- bounds and comparisons --------------------------------------------------------------------------------------------

refuse(
    "bounds model",
    lambda dg, x: dg.bounds(x, BITS, rng=0),
    ("rbm", None, 3, of(lambda dg: dg.RBM)),
    TypeError,
    "machine or a program",
)
refuse("bounds model", lambda dg, x: dg.bounds(x, BITS, rng=0), (model("batch"),), ValueError, "batch")
NO_DATA = ("digits", None, 3, [BITS], (BITS, BITS), {"v": "abc", "x": "abc"})
NO_ROWS = (
    BITS[:, :3],
    BITS * 0.5,
    BITS[0],
    BITS[:0],
    BITS[None],
    BITS * NAN,
    BITS + 1j,
    BITS.astype(str),
    np.ma.masked_equal(BITS, 1),
    {"z": BITS},
    {},
)
for name in ("rbm", "vae", "own"):
    call = lambda dg, x, name=name: dg.bounds(models(dg)[name], x, rng=0)  # noqa: E731
    refuse(f"bounds data of {name}", call, NO_DATA, (TypeError, ValueError), "data")
    refuse(f"bounds data of {name}", call, NO_ROWS, ValueError, "data")
refuse("bounds rng", lambda dg, x: dg.bounds(models(dg)["rbm"], BITS, rng=x), NO_RNG, TypeError, "seed")
refuse(
    "bounds options",
    lambda dg, x: dg.bounds(models(dg)["rbm"], BITS, rng=0, options=x),
    ({}, False, 0, "fast", {"betas": 9}, of(lambda dg: dg.BoundsOptions)),
    TypeError,
    "BoundsOptions",
)
refuse(
    "bounds progress",
    lambda dg, x: dg.bounds(models(dg)["rbm"], BITS, rng=0, progress=x),
    ("no", 1),
    TypeError,
    "progress",
)
refuse(
    "compare models",
    lambda dg, x: dg.compare(x, BITS, rng=0),
    (None, "rbm", [3], model("rbm"), {"a": 3}, {"a": None}),
    TypeError,
    "model",
)
refuse("compare models", lambda dg, x: dg.compare(x, BITS, rng=0), ({},), ValueError, "model")
refuse(
    "compare models",
    lambda dg, x: dg.compare({x: models(dg)["rbm"]}, BITS, rng=0),
    (1, None, ("a",)),
    TypeError,
    "name",
)
refuse(
    "compare models",
    lambda dg, x: dg.compare({"a": models(dg)["rbm"], "b": x}, BITS, rng=0),
    (model("gaussian"), of(lambda dg: dg.RBM.init(5, 3, rng=0))),
    ValueError,
    "one kind of data",
)
refuse(
    "compare data",
    lambda dg, x: dg.compare({"a": models(dg)["rbm"]}, x, rng=0),
    NO_DATA,
    (TypeError, ValueError),
    "data",
)
refuse("compare rng", lambda dg, x: dg.compare({"a": models(dg)["rbm"]}, BITS, rng=x), NO_RNG, TypeError, "seed")
refuse(
    "compare options",
    lambda dg, x: dg.compare({"a": models(dg)["rbm"]}, BITS, rng=0, options=x),
    ({}, 0, "fast"),
    TypeError,
    "BoundsOptions",
)


@functools.cache
def comparison(dg):
    """A comparison, as `compare` makes it, by hand."""
    estimate = _estimate()
    found = dg.Bounds(estimate, estimate, estimate, 0.1, 0.0, np.zeros(8), 0.0)
    return dg.Comparison({"a": found, "b": found}, 8, "{0, 1}^4")


def _estimate():
    from deepgen_ppl.log_z.estimates import Estimate

    return Estimate(-2.0, 0.0, "exact", "by hand")


refuse("Comparison.versus", lambda dg, x: comparison(dg).versus("a", x), ("z", None, 0), ValueError, "model among")
refuse(
    "Comparison.versus z",
    lambda dg, x: comparison(dg).versus("a", "b", z=x),
    (-1, 0, NAN, "3", None, True),
    ValueError,
    "z",
)
refuse("Comparison.better_than", lambda dg, x: comparison(dg).better_than(x), ("z", None, 0), ValueError, "model among")
refuse(
    "Bounds.interval z",
    lambda dg, x: comparison(dg).bounds["a"].interval(x),
    (-1, NAN, "3", None, True),
    ValueError,
    "z",
)
refuse("to_elpd", lambda dg, x: dg.to_elpd(x), ("comparison", None, model("rbm")), TypeError, "Comparison")
refuse("to_arviz source", lambda dg, x: dg.to_arviz(x), ("mcmc", None, 3), TypeError, "model=|source")
refuse("to_arviz source", lambda dg, x: dg.to_arviz(x, model=models(dg)["rbm"]), ("mcmc", None, 3), TypeError, "MCMC")
refuse(
    "to_arviz model", lambda dg, x: dg.to_arviz(object(), model=x), ("rbm", 3, model("vae")), TypeError, "model|MCMC"
)
refuse("to_arviz data", lambda dg, x: dg.to_arviz(object(), data=x), (BITS,), TypeError, "Posterior")
refuse("to_arviz attrs", lambda dg, x: dg.to_arviz(comparison(dg), attrs=x), (3, "abc", [1]), TypeError, "attrs")
refuse("to_arviz states", lambda dg, x: dg.to_arviz(comparison(dg), states=x), NO_FLAG, TypeError, "states")

# -- programs ----------------------------------------------------------------------------------------------------------

for family, good in (("VAE", {"latent": 2}), ("DLGM", {"latent": (3, 2)})):
    call = lambda dg, family=family, good=good, **k: getattr(dg, family).init(  # noqa: E731
        **{"likelihood": dg.Bernoulli(4), "rng": 0, **good, **k}
    )
    refuse(
        f"{family}.init likelihood",
        lambda dg, x, call=call: call(dg, likelihood=x),
        (4, "bernoulli", None, BITS),
        TypeError,
        "likelihood",
    )
    refuse(
        f"{family}.init hidden",
        lambda dg, x, call=call: call(dg, hidden=x),
        (3, "ab", (0,), (2.5,), None, (True,)),
        ValueError,
        "hidden",
    )
    refuse(f"{family}.init rng", lambda dg, x, call=call: call(dg, rng=x), NO_RNG, TypeError, "seed")
    refuse(
        f"{family}.init activation",
        lambda dg, x, call=call: call(dg, activation=x),
        ("sine", None, np.tanh, ["tanh"]),
        ValueError,
        "activation",
    )
    refuse(f"{family}.init dtype", lambda dg, x, call=call: call(dg, dtype=x), NO_DTYPE, ValueError, "dtype")
    refuse(f"{family}.init name", lambda dg, x, call=call: call(dg, name=x), (3, None), ValueError, "name")
refuse("VAE.init latent", lambda dg, x: dg.VAE.init(dg.Bernoulli(4), x, rng=0), NO_COUNT, ValueError, "latent")
refuse(
    "DLGM.init latent",
    lambda dg, x: dg.DLGM.init(dg.Bernoulli(4), x, rng=0),
    (3, (), "ab", (0,), (2.5,), None),
    ValueError,
    "latent|networks",
)
refuse(
    "VAE.init num_covariates",
    lambda dg, x: dg.VAE.init(dg.Bernoulli(4), 2, rng=0, num_covariates=x),
    (-1, 1.5, True, "1"),
    ValueError,
    "num_covariates",
)
refuse(
    "VAE.init data",
    lambda dg, x: dg.VAE.init(dg.Bernoulli(4), 2, rng=0, data=x),
    (BITS[:, :3], BITS * 0.5, BITS[0], BITS[:0], BITS * NAN, np.ma.masked_equal(BITS, 1)),
    ValueError,
    "data",
)
refuse(
    "VAE.init encoder",
    lambda dg, x: dg.VAE.init(dg.Bernoulli(4), 2, rng=0, encoder=x),
    (np.tanh, "mlp", 3),
    TypeError,
    "Module",
)


def vae(dg, **options):
    """A VAE by its constructor."""
    parts = models(dg)["vae"].networks
    return dg.VAE(parts["encoder"], parts["decoder"], **{"likelihood": dg.Bernoulli(4), "latent": 2, **options})


refuse("VAE likelihood", lambda dg, x: vae(dg, likelihood=x), (4, None, "bernoulli"), TypeError, "likelihood")
refuse("VAE latent", lambda dg, x: vae(dg, latent=x), (0, 2.5, True, None), ValueError, "latent")
refuse("VAE num_covariates", lambda dg, x: vae(dg, num_covariates=x), (-1, 1.5, True), ValueError, "num_covariates")
refuse(
    "VAE.encode x",
    lambda dg, x: models(dg)["vae"].encode(x),
    (BITS[:, :3], BITS[0, 0], "abcd", None, BITS + 1j),
    (TypeError, ValueError),
    "x|array",
)
refuse(
    "VAE.decode z",
    lambda dg, x: models(dg)["vae"].decode(x),
    (BITS, BITS[0, 0], "ab", None),
    (TypeError, ValueError),
    "z|array",
)
refuse(
    "VAE.reconstruct covariates",
    lambda dg, x: models(dg)["cvae"].reconstruct(BITS, covariates=x),
    (None, BITS, BITS[:3, :1]),
    ValueError,
    "covariates",
)
refuse("VAE.sample num", lambda dg, x: models(dg)["vae"].sample(x, rng=0), NO_COUNT, ValueError, "num")
refuse("VAE.sample rng", lambda dg, x: models(dg)["vae"].sample(2, rng=x), NO_RNG, TypeError, "seed")
refuse(
    "VAE.sample inputs",
    lambda dg, x: models(dg)["cvae"].sample(2, rng=0, **x),
    ({"c": BITS}, {"covariates": BITS[:3, :1]}, {"covariates": 3}, {"covariates": "ab"}, {}),
    ValueError,
    "inputs|covariates|real numbers",
)
refuse("VAE.log_prob data", lambda dg, x: models(dg)["vae"].log_prob(x), (BITS,), ValueError, "latent")
refuse(
    "Program.sample num",
    lambda dg, x: models(dg)["net"].sample(x, rng=0, x=BITS[:, :2]),
    (0, 2.5, "3", None),
    ValueError,
    "num",
)
refuse(
    "SigmoidBeliefNet.init visible",
    lambda dg, x: dg.SigmoidBeliefNet.init(x, (2,), rng=0),
    (0, 2.5, "3", True),
    ValueError,
    "visible",
)
refuse(
    "SigmoidBeliefNet.init hidden",
    lambda dg, x: dg.SigmoidBeliefNet.init(4, x, rng=0),
    (3, (), (0,), "ab", None),
    ValueError,
    "hidden|networks",
)
refuse(
    "SigmoidBeliefNet.init data",
    lambda dg, x: dg.SigmoidBeliefNet.init(4, (2,), rng=0, data=x),
    (BITS[:, :3], BITS * 2),
    ValueError,
    "data",
)
refuse(
    "SigmoidBeliefNet.init dtype",
    lambda dg, x: dg.SigmoidBeliefNet.init(4, (2,), rng=0, dtype=x),
    NO_DTYPE,
    ValueError,
    "dtype",
)
refuse(
    "SigmoidBeliefNet networks",
    lambda dg, x: dg.SigmoidBeliefNet(x, C, widths=(4, 3)),
    ({}, {"f": 3}, None, [3]),
    (TypeError, ValueError),
    "networks",
)
refuse(
    "DLGM networks",
    lambda dg, x: dg.DLGM(x, likelihood=dg.Bernoulli(4), latent=(2,)),
    ({}, {"f": 3}, None, [3]),
    (TypeError, ValueError),
    "networks",
)
refuse("PPCA weight", lambda dg, x: dg.PPCA(x, B, 0.0), (B, W[:3], "abc", None, W * NAN, W + 1j), ValueError, "weight")
refuse(
    "PPCA.maximum_likelihood data",
    lambda dg, x: dg.PPCA.maximum_likelihood(x, 2),
    (REALS * NAN, REALS[0], REALS[:0], REALS.astype(str), REALS + 1j, REALS[None], np.ma.masked_less(REALS, 0)),
    ValueError,
    "data",
)
refuse(
    "PPCA.maximum_likelihood data",
    lambda dg, x: dg.PPCA.maximum_likelihood(x, 2),
    ("digits", None, 3),
    (TypeError, ValueError),
    "data",
)
refuse(
    "PPCA.maximum_likelihood latent",
    lambda dg, x: dg.PPCA.maximum_likelihood(REALS, x),
    (0, 4, 2.5, "2", True, None),
    ValueError,
    "latent|components",
)
refuse(
    "PPCA.maximum_likelihood dtype",
    lambda dg, x: dg.PPCA.maximum_likelihood(REALS, 2, dtype=x),
    NO_DTYPE,
    ValueError,
    "dtype",
)
for name, title in (("ppca", "PPCA"), ("nvp", "RealNVP")):
    call = lambda dg, x, name=name: models(dg)[name].log_prob(x)  # noqa: E731
    refuse(f"{title}.log_prob data", call, (REALS[:, :3], REALS[0], REALS[None], {"z": REALS}), ValueError, "x|data")
    refuse(
        f"{title}.log_prob data",
        call,
        ("abc", None, 3, [REALS], REALS + 1j, {"x": "abc"}),
        (TypeError, ValueError),
        "data|real numbers",
    )
refuse(
    "PPCA.encode x",
    lambda dg, x: models(dg)["ppca"].encode(x),
    (REALS[:, :3], "abc", None),
    (TypeError, ValueError),
    "x|array",
)
refuse("RealNVP.init visible", lambda dg, x: dg.RealNVP.init(x, rng=0), (1, 0, 2.5, "3", True), ValueError, "visible")
refuse("RealNVP.init depth", lambda dg, x: dg.RealNVP.init(4, rng=0, depth=x), (0, 2.5, "3", True), ValueError, "depth")
refuse(
    "RealNVP.init hidden",
    lambda dg, x: dg.RealNVP.init(4, rng=0, hidden=x),
    (3, (0,), "ab", None),
    ValueError,
    "hidden",
)
refuse(
    "RealNVP.init data",
    lambda dg, x: dg.RealNVP.init(4, rng=0, data=x),
    (REALS[:, :3], REALS[0], REALS * NAN, np.ones((8, 4)), REALS[None], np.ma.masked_less(REALS, 0)),
    ValueError,
    "data",
)
refuse("RealNVP.init dtype", lambda dg, x: dg.RealNVP.init(4, rng=0, dtype=x), NO_DTYPE, ValueError, "dtype")
refuse("RealNVP couplings", lambda dg, x: dg.RealNVP(x, B, B), (None, 3, ()), (TypeError, ValueError), "couplings")
refuse(
    "RealNVP loc",
    lambda dg, x: dg.RealNVP([models(dg)["nvp"].networks["coupling_0"]], x, B),
    (C, W, "abc", None),
    ValueError,
    "loc",
)
refuse(
    "BayesianRegression.init sizes",
    lambda dg, x: dg.BayesianRegression.init(x, rng=0),
    (3, "ab", None),
    TypeError,
    "sizes",
)
refuse(
    "BayesianRegression.init sizes",
    lambda dg, x: dg.BayesianRegression.init(x, rng=0),
    ((), (2,), (2, 0), (2.5, 1)),
    ValueError,
    "sizes",
)
for field in ("prior_scale", "guide_scale", "noise_scale"):
    refuse(
        f"BayesianRegression {field}",
        lambda dg, x, field=field: dg.BayesianRegression.init((2, 1), rng=0, **{field: x}),
        (0, -1, INF, *NO_REAL),
        ValueError,
        field,
    )
refuse(
    "BayesianRegression network", lambda dg, x: dg.BayesianRegression(x, 1), (np.tanh, None, "mlp"), TypeError, "Module"
)


def pair(dg, **options):
    """A pair of a model of one site."""
    dist, ppl = dg.engine.host.dist, dg.engine.host.ppl

    def normal(x=None):
        with ppl.plate("data", x.shape[0], dim=-1):
            ppl.sample("x", dist.Normal(0.0 * x[:, 0], 1.0), obs=x[:, 0])

    options = {"model": normal, "guide": None, "data": {"x": REALS}, "rng": 0, **options}
    return dg.Pair(options.pop("model"), options.pop("guide"), **options)


refuse("Pair model", lambda dg, x: pair(dg, model=x), (None, "model", 3), TypeError, "model")
refuse("Pair guide", lambda dg, x: pair(dg, guide=x), ("guide", 3), TypeError, "guide")
refuse(
    "Pair data",
    lambda dg, x: pair(dg, data=x),
    (None, REALS, {}, {"x": 3}, {"x": "abc"}, {"x": None}),
    TypeError,
    "data",
)
refuse(
    "Pair data",
    lambda dg, x: pair(dg, data=x),
    (
        {"x": REALS[:0]},
        {"x": REALS, "y": REALS[:3]},
        {"weight": REALS},
        {"z": REALS},
        {"x": REALS + 1j},
        {"x": REALS.astype(str)},
    ),
    ValueError,
    "data|argument",
)
refuse("Pair rng", lambda dg, x: pair(dg, rng=x), NO_RNG, TypeError, "seed")
refuse("Pair dtype", lambda dg, x: pair(dg, dtype=x), NO_DTYPE, ValueError, "dtype")


def posterior(dg, program=None, draws=None, num_chains=1):
    """Draws of the weights of a regression."""
    program = models(dg)["net"] if program is None else program
    sites = {"layers.0.weight": np.zeros((6, 2, 1), np.float32), "layers.0.bias": np.zeros((6, 1), np.float32)}
    sites = {name: dg.engine.arrays.asarray(x) for name, x in sites.items()}
    return dg.Posterior(program, sites if draws is None else draws, num_chains)


REGRESSION = {"x": REALS[:, :2], "y": REALS[:, :1]}
refuse("Posterior program", lambda dg, x: posterior(dg, program=x), ("net", 3, model("rbm")), TypeError, "program")
refuse("Posterior draws", lambda dg, x: posterior(dg, draws=x), ("abc", 3, [BITS]), TypeError, "draws")
refuse(
    "Posterior draws",
    lambda dg, x: posterior(dg, draws=x),
    ({}, {"a": B, "b": C}, {"a": np.float32(1)}),
    ValueError,
    "draws",
)
refuse(
    "Posterior num_chains",
    lambda dg, x: posterior(dg, num_chains=x),
    (0, 4, 1.5, "2", True, None),
    ValueError,
    "chains",
)
refuse(
    "Posterior.log_likelihood data",
    lambda dg, x: posterior(dg).log_likelihood(x),
    ({"x": REALS[:, :2]}, {**REGRESSION, "z": REALS}, {**REGRESSION, "y": REALS}, {**REGRESSION, "x": REALS[:3, :2]}),
    ValueError,
    "data",
)
refuse(
    "Posterior.log_likelihood data", lambda dg, x: posterior(dg).log_likelihood(x), ("abc", None, 3), TypeError, "data"
)
refuse(
    "Posterior.predict data",
    lambda dg, x: posterior(dg).predict(x),
    ({"z": REALS}, {"x": REALS[:, :2] * NAN}, {"x": "abc"}),
    ValueError,
    "inputs|data",
)
refuse("Posterior.predict data", lambda dg, x: posterior(dg).predict(x), ("abc", None, 3), TypeError, "inputs")
refuse(
    "Fit.posterior num_draws",
    lambda dg, x: dg.Fit(models(dg)["net"], {}, None, rows=REGRESSION).posterior(num_draws=x),
    (0, 2.5, "3", True),
    ValueError,
    "num_draws",
)
refuse("Fit.posterior model", lambda dg, x: dg.Fit(x, {}, None).posterior(), (model("rbm"), 3), TypeError, "program")

# -- fit ---------------------------------------------------------------------------------------------------------------

refuse("fit model", lambda dg, x: dg.fit(x, BITS), ("rbm", None, 3, of(lambda dg: dg.RBM)), TypeError, "to train")
for name in ("rbm", "vae", "own"):
    call = lambda dg, x, name=name: dg.fit(models(dg)[name], x)  # noqa: E731
    refuse(f"fit data of {name}", call, NO_ROWS, ValueError, "data")
    refuse(
        f"fit data of {name}",
        call,
        ("digits", b"digits", None, 3, {3: BITS}, {"v": "abc", "x": "abc"}, (BITS, BITS)),
        (TypeError, ValueError),
        "data",
    )
    refuse(
        f"fit batches of {name}",
        call,
        (
            [],
            [BITS[:0]],
            [BITS, BITS * 0.5],
            [BITS, BITS[:, :3]],
            [BITS[0]],
            ["abc"],
            [3],
            [None],
            [{"z": BITS}],
            [{}],
            [[0, 1, 0, 1], [0, 1, 1, 1]],
            of(lambda dg: iter([BITS])),
            of(lambda dg: (x for x in [BITS])),
            {BITS.tobytes()},
        ),
        (TypeError, ValueError),
        "batch|exhausted",
    )
refuse(
    "fit weight",
    lambda dg, x: dg.fit(models(dg)["rbm"], {"v": BITS, "weight": x}),
    (-np.ones(8), np.full(8, NAN), np.ones((8, 1)), np.ones(3), np.full(8, "a"), np.ones(8) + 1j),
    ValueError,
    "weight|length",
)
OPTIONS = [
    ("epochs", NO_COUNT, ValueError, "epochs"),
    ("batch_size", NO_COUNT, ValueError, "batch_size"),
    ("rng", NO_RNG, TypeError, "seed"),
    ("objective", ("elbo", 3, of(lambda dg: dg.ELBO), of(lambda dg: dg.BlockGibbs())), TypeError, "objective"),
    ("method", ("nuts", 3, of(lambda dg: dg.NUTS)), TypeError, "method"),
    ("optimizer", ("adam", 0.1, of(lambda dg: dg.adam), True), TypeError, "optimizer|optax"),
    ("validation", ("digits", 3, [BITS], True), TypeError, "validation"),
    ("callbacks", (len, [3], "abc", 3, None), TypeError, "callbacks"),
    ("checkpoint", (3, "", True, b"x", ["a"]), TypeError, "path"),
    ("resume", NO_FLAG, TypeError, "resume"),
    ("resume", (True,), ValueError, "checkpoint"),
    ("progress", ("no", 1), TypeError, "progress"),
]
for field, values, error, sentence in OPTIONS:
    call = lambda dg, x, field=field: dg.fit(models(dg)["vae"], BITS, **{field: x})  # noqa: E731
    refuse(f"fit {field}", call, values, error, sentence)
refuse(
    "fit validation",
    lambda dg, x: dg.fit(models(dg)["vae"], BITS, validation=x),
    (BITS[:, :3], BITS * 0.5, {"z": BITS}),
    ValueError,
    "validation",
)
refuse("fit validation", lambda dg, x: dg.fit(models(dg)["rbm"], BITS, validation=x), (BITS,), ValueError, "metric")
refuse(
    "fit objective",
    lambda dg, x: dg.fit(models(dg)["rbm"], BITS, objective=x),
    (of(lambda dg: dg.ELBO()), of(lambda dg: dg.WakeSleep())),
    TypeError,
    "model with",
)
refuse(
    "fit objective",
    lambda dg, x: dg.fit(models(dg)["crbm"], {"v": BITS, "x": REALS[:, :2]}, objective=x),
    (of(lambda dg: dg.StochasticML()),),
    ValueError,
    "ContrastiveDivergence",
)
refuse(
    "fit checkpoint",
    lambda dg, x: dg.fit(models(dg)["vae"], BITS, checkpoint=x),
    ("/", "no/such/folder/run"),
    OSError,
    "path|folder",
)
refuse(
    "fit method",
    lambda dg, x: dg.fit(models(dg)["net"], REGRESSION, method=dg.NUTS(), **x),
    ({"epochs": 3},),
    TypeError,
    "epochs",
)
refuse("NUTS model", lambda dg, x: dg.fit(x, BITS, method=dg.NUTS()), (model("rbm"), "vae", 3), TypeError, "program")
refuse("NUTS model", lambda dg, x: dg.fit(x, BITS, method=dg.NUTS()), (model("vae"),), ValueError, "latent")

# -- files -------------------------------------------------------------------------------------------------------------

refuse(
    "save model",
    lambda dg, x: dg.save(x, "model.safetensors"),
    ("rbm", None, 3, of(lambda dg: dg.RBM)),
    TypeError,
    "machine or a program",
)
refuse("save path", lambda dg, x: dg.save(models(dg)["rbm"], x), (3, None, "", True, b"x"), TypeError, "path")
refuse("save path", lambda dg, x: dg.save(models(dg)["rbm"], x), ("/", "no/such/folder/model"), OSError, "path|folder")
refuse("load path", lambda dg, x: dg.load(x), (3, None, "", True, b"x"), TypeError, "path")
refuse("load path", lambda dg, x: dg.load(x), ("/", "no/such/file"), OSError, "file")
refuse("load path", lambda dg, x: dg.load(x), (__file__,), ValueError, "safetensors")


def load_data(dg, name, **options):
    """A data set; the face has no part in it."""
    from deepgen_ppl import datasets

    return datasets.load(name, **options)


def binarize(dg, x, **options):
    """Binary values."""
    from deepgen_ppl import datasets

    return datasets.binarize(x, **options)


refuse("datasets.load name", load_data, (3, None, b"digits", True, ["digits"]), TypeError, "path")
refuse("datasets.load name", load_data, ("imagenet", "", "x.csv"), ValueError, "one of")
refuse("datasets.load name", load_data, ("no.npy", "no.npz"), FileNotFoundError, "file")
refuse("datasets.binarize x", binarize, (["a"], BITS + 1j, None, [{}]), TypeError, "numbers")
refuse("datasets.binarize x", binarize, (BITS * 2, BITS - 1, BITS * NAN, [], [[1], [1, 0]]), ValueError, "value|array")
refuse("datasets.binarize x", binarize, (np.ma.masked_equal(BITS, 1),), ValueError, "masked")
refuse(
    "datasets.binarize method",
    lambda dg, x: binarize(dg, BITS, method=x),
    ("draw", None, 3, ["sample"]),
    ValueError,
    "method",
)
refuse(
    "datasets.binarize threshold",
    lambda dg, x: binarize(dg, BITS, threshold=x),
    (0, 1.5, *NO_REAL),
    ValueError,
    "threshold",
)
refuse("datasets.binarize rng", lambda dg, x: binarize(dg, BITS, method="sample", rng=x), (None,), ValueError, "rng")
refuse(
    "datasets.binarize rng",
    lambda dg, x: binarize(dg, BITS, method="sample", rng=x),
    ("a", 1.5, -1, True),
    (TypeError, ValueError),
    "rng",
)
refuse("datasets.binarize rng", lambda dg, x: binarize(dg, BITS, rng=x), (0,), ValueError, "rng")

# -- odd input that is right -------------------------------------------------------------------------------------------


def strided(x):
    """Every second row and column of a larger array."""
    wide = np.full((2 * x.shape[0], 2 * x.shape[1]), 7, x.dtype)
    wide[::2, ::2] = x
    return wide[::2, ::2]


def readonly(x):
    """A view that cannot be written to."""
    x = x.copy()
    x.setflags(write=False)
    return x


def frame(x):
    """A data frame of pandas."""
    import pandas

    return pandas.DataFrame(x)


def other_engine(dg, x):
    """An array of the engine that the face does not run on."""
    if dg.engine.name == "numpyro":
        import torch

        return torch.tensor(x)
    import jax

    return jax.numpy.asarray(x)


ODD = {
    "big-endian": lambda dg, x: x.astype(">f4"),
    "big-endian float64": lambda dg, x: x.astype(">f8"),
    "bool": lambda dg, x: x.astype(bool),
    "data frame": lambda dg, x: frame(x),
    "float16": lambda dg, x: x.astype(np.float16),
    "float64": lambda dg, x: x.astype(np.float64),
    "Fortran order": lambda dg, x: np.asfortranarray(x),
    "int64": lambda dg, x: x.astype(np.int64),
    "int8": lambda dg, x: x.astype(np.int8),
    "longdouble": lambda dg, x: x.astype(np.longdouble),
    "memoryview": lambda dg, x: memoryview(np.ascontiguousarray(x)),
    "negative strides": lambda dg, x: x[::-1].copy()[::-1],
    "nothing masked": lambda dg, x: np.ma.masked_array(x),
    "of the engine": lambda dg, x: dg.engine.arrays.asarray(x),
    "of the other engine": other_engine,
    "read-only": lambda dg, x: readonly(x),
    "strided": lambda dg, x: strided(x),
    "uint8": lambda dg, x: x.astype(np.uint8),
}
"""The same bits in other clothes: `(face, x)` -> what is passed."""

USES = {
    "RBM.init": lambda dg, x: dg.RBM.init(4, 3, rng=0, data=x).params["v.bias"],
    "RBM.free_energy": lambda dg, x: models(dg)["rbm"].free_energy({"v": x}),
    "RBM.given": lambda dg, x: models(dg)["drbm"].given({"v": x}).params["h.bias"],
    "VAE.encode": lambda dg, x: models(dg)["vae"].encode(x).mean,
    "PPCA.log_prob": lambda dg, x: models(dg)["ppca"].log_prob({"x": x}),
    "bounds": lambda dg, x: dg.bounds(models(dg)["rbm"], x, rng=0).pointwise,
}
"""What takes rows of data, and the number that must not depend on their clothes."""
