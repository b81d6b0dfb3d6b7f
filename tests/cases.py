"""The table of machines: name -> how to build it on either face, and the truth about it. One more family is one row.

Parameters come from a fixed NumPy generator and both engines get the same arrays. Widths are small enough for an oracle
that visits every state in a plain loop, and couplings strong enough that no layer is nearly independent.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import oracles
import pytest
from oracles import BINARY, SPIN, Oracle

__all__ = [
    "CASES",
    "FINITE",
    "COUPLED",
    "ENUMERABLE",
    "Case",
    "arrays",
    "compiled",
    "machine",
    "oracle",
    "to_engine",
    "to_numpy",
]

Blocks = dict[str, tuple[int, np.ndarray | None]]


@dataclass(frozen=True)
class Case:
    """One row.

    Args:
        build: `(dg, params, constants)` -> the machine, from NumPy arrays.
        energy: the paper's energy of flat arrays and one state.
        blocks: block name -> (number of units, their values or None); the first is the visible one.
        params: trained arrays.
        constants: the others.
        coupled: whether hidden layers are coupled.
        enumerable: whether log Z can be summed exactly.
        recenters: whether offsets may move (a shared bias cannot take what moves).
    """

    build: Callable
    energy: Callable
    blocks: Blocks
    params: Mapping[str, np.ndarray]
    constants: Mapping[str, np.ndarray]
    coupled: bool = False
    enumerable: bool = True
    recenters: bool = True

    @property
    def centered(self) -> bool:
        """Whether there are offsets."""
        return any(k.endswith(".offset") for k in self.constants)

    @property
    def finite(self) -> bool:
        """Whether every block has finitely many states."""
        return all(values is not None for _, values in self.blocks.values())


def draw(seed, shapes, scale=0.7):
    """Arrays of these shapes."""
    rng = np.random.default_rng(seed)
    return {k: scale * rng.standard_normal(shape) for k, shape in shapes.items()}


def offsets(seed, sizes):
    """Centering offsets inside (0.2, 0.8)."""
    rng = np.random.default_rng(seed)
    return {f"{k}.offset": rng.uniform(0.2, 0.8, n) for k, n in sizes.items()}


def to_engine(dg, arrays, dtype):
    """NumPy arrays as the engine's."""
    return {k: dg.engine.arrays.asarray(np.asarray(v, dtype)) for k, v in arrays.items()}


def rbm(**units):
    """Builder of `dg.RBM` by its constructor, or by `init` where it is centered."""

    def build(dg, params, constants):
        kinds = {k: getattr(dg, kind)(*args) for k, (kind, *args) in units.items()}
        if not constants:
            return dg.RBM(params["v-h.weight"], params["v.bias"], params["h.bias"], **kinds)
        v, h = (len(params[f"{n}.bias"]) for n in "vh")
        bare = dg.RBM.init(
            kinds.get("visible", v), kinds.get("hidden", h), rng=0, dtype=str(params["v.bias"].dtype)[-7:]
        )
        return bare.with_params(params).with_constants(constants)

    return build


def gaussian_bernoulli_rbm(scale):
    """Builder of `dg.GaussianBernoulliRBM` with a known scale, or learned ones (None)."""

    def build(dg, params, constants):
        v, h = len(params["v.bias"]), len(params["h.bias"])
        dtype = str(params["v.bias"].dtype)[-7:]
        bare = dg.GaussianBernoulliRBM.init(v, h, rng=0, visible_scale=scale, centered=False, dtype=dtype)
        return bare.with_params(params).with_constants(constants)

    return build


def dbm(dg, params, constants):
    """`dg.DBM`."""
    sizes = [len(v) for k, v in params.items() if k.endswith(".bias")]
    dtype = str(params["v.bias"].dtype)[-7:]
    bare = dg.DBM.init(sizes[0], sizes[1:], rng=0, centered=bool(constants), dtype=dtype)
    return bare.with_params(params).with_constants(constants)


def layers(pairs, **units):
    """Builder of `dg.BoltzmannMachine` from layers and couplings."""

    def build(dg, params, constants):
        kinds = {k: getattr(dg, kind)(*args) for k, (kind, *args) in units.items()}
        return dg.BoltzmannMachine(kinds, [dg.Dense(pair) for pair in pairs], params, constants)

    return build


def terms(make, **units):
    """Builder of `dg.BoltzmannMachine` from layers and any terms."""

    def build(dg, params, constants):
        kinds = {k: getattr(dg, kind)(*args) for k, (kind, *args) in units.items()}
        return dg.BoltzmannMachine(kinds, make(dg), params, constants)

    return build


def discriminative_rbm(dg, params, constants):
    """`dg.DiscriminativeRBM`."""
    dtype = str(params["v.bias"].dtype)[-7:]
    return dg.DiscriminativeRBM.init(3, 3, 2, rng=0, dtype=dtype).with_params(params).with_constants(constants)


def convolutional_rbm(pool, **visible):
    """Builder of `dg.ConvolutionalRBM` for one image of three rows and columns, with the scale of real pixels."""

    def build(dg, params, _):
        unit = {k: dg.Gaussian(9, scale) for k, scale in visible.items()}
        w, b, c = (params[k] for k in ("v-h.weight", "h.bias", "v.bias"))
        return dg.ConvolutionalRBM(w, c, b, image=(1, 3, 3), pool=pool, **unit)

    return build


def third_order(dg):
    """A term of three layers, and a dense one that shares two of them."""
    return [dg.ThirdOrder(("v", "x", "h")), dg.Dense(("h", "v"))]


def convolution(dg):
    """Two filters over an image of three rows and two columns, a bias a map and one for the image."""
    filters = dg.Convolution(("v", "h"), image=(1, 3, 2), filters=2, kernel=2)
    return [filters, dg.SharedBias(("h",), repeats=2), dg.SharedBias(("v",), repeats=6)]


EDGES = ((0, 0), (0, 2), (3, 1), (2, 2), (1, 0))
THIRD_SHAPES = {"v.bias": 3, "x.bias": 2, "h.bias": 2, "v-x-h.weight": (3, 2, 2), "h-v.weight": (2, 3)}
THIRD_BLOCKS = {"v": (3, BINARY), "x": (2, SPIN), "h": (2, BINARY)}


RBM_SHAPES = {"v.bias": 4, "h.bias": 3, "v-h.weight": (4, 3)}
DBM3_SHAPES = {
    "v.bias": 3, "h1.bias": 2, "h2.bias": 2, "h3.bias": 2,
    "v-h1.weight": (3, 2), "h1-h2.weight": (2, 2), "h2-h3.weight": (2, 2),
}  # fmt: skip
TRIANGLE = (("v", "a"), ("v", "b"), ("a", "b"))
TRIANGLE_SHAPES = {
    "v.bias": 3, "a.bias": 2, "b.bias": 3, "v-a.weight": (3, 2), "v-b.weight": (3, 3), "a-b.weight": (2, 3),
}  # fmt: skip
GAUSSIAN_PAIR = (("v", "h"),)
CATEGORICAL = np.arange(3.0)
COUNTS = np.arange(16.0)
"""The counts that the oracle sums over: at rates up to 0.9, more of them weigh less than 1e-14."""

CASES: dict[str, Case] = {
    "rbm": Case(
        rbm(), oracles.energy_rbm, {"v": (4, BINARY), "h": (3, BINARY)}, draw(1, RBM_SHAPES), {},
    ),
    "rbm_centered": Case(
        rbm(), oracles.energy_rbm, {"v": (4, BINARY), "h": (3, BINARY)}, draw(2, RBM_SHAPES),
        offsets(2, {"v": 4, "h": 3}),
    ),
    "rbm_spin": Case(
        rbm(visible=("Spin", 4), hidden=("Spin", 3)), oracles.energy_rbm, {"v": (4, SPIN), "h": (3, SPIN)},
        draw(3, RBM_SHAPES, 0.4), {},
    ),
    "rbm_categorical_visible": Case(
        rbm(visible=("Categorical", 2, 3)),
        oracles.energy_layers({"v": ("categorical", 3), "h": "bernoulli"}, [("v", "h")]),
        {"v": (2, CATEGORICAL), "h": (3, BINARY)}, draw(4, {"v.bias": 6, "h.bias": 3, "v-h.weight": (6, 3)}), {},
    ),
    "gaussian_bernoulli_rbm": Case(
        gaussian_bernoulli_rbm(0.8), oracles.energy_gaussian_bernoulli_rbm, {"v": (3, None), "h": (3, BINARY)},
        draw(5, {"v.bias": 3, "h.bias": 3, "v-h.weight": (3, 3)}), {"v.log_sigma": np.full(3, np.log(0.8))},
    ),
    "gaussian_bernoulli_rbm_learned_scale": Case(
        gaussian_bernoulli_rbm(None), oracles.energy_gaussian_bernoulli_rbm, {"v": (3, None), "h": (3, BINARY)},
        draw(6, {"v.bias": 3, "h.bias": 3, "v-h.weight": (3, 3), "v.log_sigma": 3}, 0.5), {},
    ),
    "dbm2": Case(
        dbm, oracles.energy_dbm, {"v": (3, BINARY), "h1": (3, BINARY), "h2": (2, BINARY)},
        draw(7, {"v.bias": 3, "h1.bias": 3, "h2.bias": 2, "v-h1.weight": (3, 3), "h1-h2.weight": (3, 2)}), {},
        coupled=True,
    ),
    "dbm3_centered": Case(
        dbm, oracles.energy_dbm, {"v": (3, BINARY), "h1": (2, BINARY), "h2": (2, BINARY), "h3": (2, BINARY)},
        draw(8, DBM3_SHAPES), offsets(8, {"v": 3, "h1": 2, "h2": 2, "h3": 2}), coupled=True,
    ),
    "triangle": Case(
        layers(TRIANGLE, v=("Bernoulli", 3), a=("Spin", 2), b=("Categorical", 1, 3)),
        oracles.energy_layers({"v": "bernoulli", "a": "spin", "b": ("categorical", 3)}, TRIANGLE),
        {"v": (3, BINARY), "a": (2, SPIN), "b": (1, CATEGORICAL)},
        draw(9, TRIANGLE_SHAPES),
        offsets(9, {"v": 3, "b": 3}), coupled=True,
    ),
    "third_order": Case(
        terms(third_order, v=("Bernoulli", 3), x=("Spin", 2), h=("Bernoulli", 2)), oracles.energy_third_order,
        THIRD_BLOCKS, draw(21, THIRD_SHAPES), {}, coupled=True,
    ),
    "third_order_centered": Case(
        terms(third_order, v=("Bernoulli", 3), x=("Spin", 2), h=("Bernoulli", 2)), oracles.energy_third_order,
        THIRD_BLOCKS, draw(22, THIRD_SHAPES), offsets(22, {"v": 3, "x": 2, "h": 2}), coupled=True,
    ),
    "third_order_gaussian": Case(
        terms(third_order, v=("Gaussian", 2, 0.6), x=("Bernoulli", 2), h=("Gaussian", 2, 0.7)),
        oracles.energy_third_order, {"v": (2, None), "x": (2, BINARY), "h": (2, None)},
        draw(23, {"v.bias": 2, "x.bias": 2, "h.bias": 2, "v-x-h.weight": (2, 2, 2), "h-v.weight": (2, 2)}, 0.3),
        {"v.log_sigma": np.full(2, np.log(0.6)), "h.log_sigma": np.full(2, np.log(0.7)), "v.offset": np.full(2, 0.3)},
        coupled=True, enumerable=False,
    ),
    "convolution": Case(
        terms(convolution, v=("Bernoulli", 6), h=("Bernoulli", 4)), oracles.energy_convolution,
        {"v": (6, BINARY), "h": (4, BINARY)}, draw(24, {"v.bias": 1, "h.bias": 2, "v-h.weight": (2, 1, 2, 2)}),
        offsets(24, {"v": 6}), recenters=False,
    ),
    "convolutional_rbm": Case(
        convolutional_rbm(2), oracles.energy_convolutional_rbm((1, 3, 3), 2),
        {"v": (9, BINARY), "h": (1, np.arange(5.0))},
        draw(31, {"v.bias": 1, "h.bias": 1, "v-h.weight": (1, 1, 2, 2)}), {}, recenters=False,
    ),
    "convolutional_rbm_gaussian": Case(
        convolutional_rbm(2, visible=0.7), oracles.energy_convolutional_rbm((1, 3, 3), 2),
        {"v": (9, None), "h": (2, np.arange(5.0))},
        draw(32, {"v.bias": 1, "h.bias": 2, "v-h.weight": (2, 1, 2, 2)}), {"v.log_sigma": np.full(9, np.log(0.7))},
        recenters=False,
    ),
    "sparse": Case(
        terms(lambda dg: [dg.Sparse(("v", "h"), edges=EDGES, shape=(4, 3))], v=("Bernoulli", 4), h=("Spin", 3)),
        oracles.energy_sparse(EDGES), {"v": (4, BINARY), "h": (3, SPIN)},
        draw(25, {"v.bias": 4, "h.bias": 3, "v-h.weight": 5}), offsets(25, {"v": 4, "h": 3}),
    ),
    "uncoupled": Case(
        layers((("v", "h"),), v=("Bernoulli", 3), h=("Spin", 2), alone=("Bernoulli", 2)),
        oracles.energy_layers({"v": "bernoulli", "h": "spin", "alone": "bernoulli"}, [("v", "h")]),
        {"v": (3, BINARY), "h": (2, SPIN), "alone": (2, BINARY)},
        draw(26, {"v.bias": 3, "h.bias": 2, "alone.bias": 2, "v-h.weight": (3, 2)}), offsets(26, {"alone": 2}),
    ),
    "without_couplings": Case(
        layers((), v=("Bernoulli", 3), h=("Spin", 2)), oracles.energy_layers({"v": "bernoulli", "h": "spin"}, []),
        {"v": (3, BINARY), "h": (2, SPIN)}, draw(27, {"v.bias": 3, "h.bias": 2}), offsets(27, {"h": 2}),
    ),
    "gated_rbm": Case(
        lambda dg, p, _: dg.GatedRBM(p["v-x-h.weight"], p["v.bias"], p["x.bias"], p["h.bias"]),
        oracles.energy_gated_rbm,
        {n: (size, BINARY) for n, size in (("v", 3), ("x", 2), ("h", 2))},
        draw(28, {k: v for k, v in THIRD_SHAPES.items() if k != "h-v.weight"}), {}, coupled=True,
    ),
    "discriminative_rbm": Case(
        discriminative_rbm, oracles.energy_discriminative_rbm,
        {"v": (3, BINARY), "y": (1, CATEGORICAL), "h": (2, BINARY)},
        draw(29, {"v.bias": 3, "y.bias": 3, "h.bias": 2, "v-h.weight": (3, 2), "y-h.weight": (3, 2)}),
        offsets(29, {"v": 3, "y": 3, "h": 2}), coupled=True,
    ),
    "binomial": Case(
        layers((("v", "h"),), v=("Binomial", 3, 2), h=("Bernoulli", 2)),
        oracles.energy_layers({"v": ("binomial", 2), "h": "bernoulli"}, [("v", "h")]),
        {"v": (3, CATEGORICAL), "h": (2, BINARY)}, draw(30, {"v.bias": 3, "h.bias": 2, "v-h.weight": (3, 2)}),
        offsets(30, {"v": 3}),
    ),
    "gaussian_gaussian": Case(
        layers(GAUSSIAN_PAIR, v=("Gaussian", 2, 1.3), h=("Gaussian", 2, None)),
        oracles.energy_layers({"v": "gaussian", "h": "gaussian"}, GAUSSIAN_PAIR),
        {"v": (2, None), "h": (2, None)},
        draw(10, {"v.bias": 2, "h.bias": 2, "v-h.weight": (2, 2), "h.log_sigma": 2}, 0.3),
        {"v.log_sigma": np.full(2, np.log(1.3)), "v.offset": np.array([0.4, -0.3])}, enumerable=False,
    ),
    "poisson": Case(
        layers(GAUSSIAN_PAIR, v=("Poisson", 2), h=("Bernoulli", 2)),
        oracles.energy_layers({"v": "poisson", "h": "bernoulli"}, GAUSSIAN_PAIR),
        {"v": (2, COUNTS), "h": (2, BINARY)},
        {"v.bias": np.array([-0.6, -1.0]), "h.bias": np.array([0.3, -0.4]),
         "v-h.weight": np.array([[0.4, -0.7], [-0.5, 0.6]])}, offsets(31, {"v": 2, "h": 2}),
    ),
    "standardized": Case(
        layers((("v", "h"),), v=("Gaussian", 3, None, True), h=("Bernoulli", 3)),
        oracles.energy_standardized_rbm, {"v": (3, None), "h": (3, BINARY)},
        draw(40, {"v.bias": 3, "h.bias": 3, "v-h.weight": (3, 3), "v.log_sigma": 3}, 0.5),
        {
            "v.location": np.array([1.5, -2.0, 0.3]), "v.log_unit": np.array([0.6, -0.7, 0.2]),
            "v.offset": np.array([0.4, -0.3, 0.1]),
        },
    ),
}  # fmt: skip

FINITE = [name for name, case in CASES.items() if case.finite]
ENUMERABLE = [name for name, case in CASES.items() if case.enumerable]
COUPLED = [name for name, case in CASES.items() if case.coupled]


def machine(dg, name, dtype=np.float64):
    """The machine of a row on one engine."""
    case = CASES[name]
    return case.build(dg, to_engine(dg, case.params, dtype), to_engine(dg, case.constants, dtype))


_oracles: dict[str, Oracle] = {}


def oracle(name):
    """The truth about a row (kept: its sums are slow)."""
    if name not in _oracles:
        case = CASES[name]
        _oracles[name] = Oracle(case.energy, {**case.params, **case.constants}, case.blocks)
    return _oracles[name]


def arrays(dg, state, like):
    """A state of NumPy arrays as the engine's, in the dtype of `like`."""
    return {k: dg.engine.arrays.asarray(v, like=like) for k, v in state.items()}


def to_numpy(dg, x):
    """Arrays (a dict of them, or one) as NumPy's."""
    return {k: to_numpy(dg, v) for k, v in x.items()} if isinstance(x, dict) else dg.engine.arrays.to_numpy(x)


_compiled: dict[tuple, Callable] = {}


def compiled(dg, fn):
    """`fn` compiled once for all tests on JAX, and as it is on torch; machines may be arguments."""
    if dg.engine.name != "numpyro":
        return fn
    if fn not in _compiled:
        import jax

        _compiled[fn] = jax.jit(fn)
    return _compiled[fn]


def in_turn(names):
    """Parameters of which every third is fast and the others are marked slow: for contracts that cost much a row."""
    return [pytest.param(n, marks=() if i % 3 == 0 else pytest.mark.slow) for i, n in enumerate(names)]
