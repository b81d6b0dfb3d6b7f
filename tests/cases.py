"""The table of machines: name -> how to build it on either face, and the truth about it. One more family is one row.

Parameters come from a fixed NumPy generator and both engines get the same arrays. Widths are small enough for an oracle
that visits every state in a plain loop, and couplings strong enough that no layer is nearly independent.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import oracles
from oracles import BINARY, SPIN, Oracle

__all__ = ["CASES", "FINITE", "COUPLED", "Case", "arrays", "compiled", "machine", "oracle", "to_engine", "to_numpy"]

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
    """

    build: Callable
    energy: Callable
    blocks: Blocks
    params: Mapping[str, np.ndarray]
    constants: Mapping[str, np.ndarray]
    coupled: bool = False

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
    "gaussian_gaussian": Case(
        layers(GAUSSIAN_PAIR, v=("Gaussian", 2, 1.3), h=("Gaussian", 2, None)),
        oracles.energy_layers({"v": "gaussian", "h": "gaussian"}, GAUSSIAN_PAIR),
        {"v": (2, None), "h": (2, None)},
        draw(10, {"v.bias": 2, "h.bias": 2, "v-h.weight": (2, 2), "h.log_sigma": 2}, 0.3),
        {"v.log_sigma": np.full(2, np.log(1.3)), "v.offset": np.array([0.4, -0.3])},
    ),
}  # fmt: skip

FINITE = [name for name, case in CASES.items() if case.finite]
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
