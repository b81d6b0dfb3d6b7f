"""The table of energies of a user's own: name -> how to build it on either face, and the truth about it.

One more energy is one row: a class written once against `self.engine`, its arrays, and its energy as plain NumPy.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import special

__all__ = ["ENERGIES", "FINITE", "REAL", "Row", "build"]

SIZES = {"binary": (4, 6, 1), "hidden": (5, 6, 1), "ring": (2, 8, 1)}
"""Widths of the networks."""


def perceptron(arrays, x):
    """tanh perceptron f of flat arrays, (..., inputs) to (...)."""
    hidden = np.tanh(x @ arrays["f.layers.0.weight"] + arrays["f.layers.0.bias"])
    return (hidden @ arrays["f.layers.1.weight"] + arrays["f.layers.1.bias"])[..., 0]


def weights(seed, sizes, scale):
    """Arrays of a perceptron."""
    rng = np.random.default_rng(seed)
    return {
        f"f.layers.{i}.{k}": scale * rng.standard_normal(shape)
        for i, (a, b) in enumerate(zip(sizes, sizes[1:], strict=False))
        for k, shape in (("weight", (a, b)), ("bias", (b,)))
    }


def network(dg, name, dtype):
    """A fresh network of the library's own kind."""
    return dg.engine.nn.mlp(dg.engine.random.rng(0), SIZES[name], "tanh", dtype)


def quadratic(dg, dtype):
    """E(v) = sum_i exp(a_i) (v_i - m_i)^2 / 2, m not trained."""

    class Quadratic(dg.Energy):
        blocks = {"v": dg.Block((2,), dg.engine.host.constraints.real)}  # noqa: RUF012

        def __init__(self, a, m):
            self.build(arrays={"a": a}, constants={"m": m})

        def energy(self, state):
            xp = self.engine.xp
            return 0.5 * xp.sum(xp.exp(self.param("a")) * (state["v"] - self.constant("m")) ** 2, axis=-1)

    return Quadratic(np.zeros(2, dtype), np.zeros(2, dtype))


def ring(dg, dtype):
    """E(v) = f(v) + b (|v|^2 - 1)^2 / 2, a network over the plane, b = exp(log_b)."""

    class RingEnergy(dg.Energy):
        blocks = {"v": dg.Block((2,), dg.engine.host.constraints.real)}  # noqa: RUF012

        def __init__(self, net, log_b):
            self.build(networks={"f": net}, arrays={"log_b": log_b})

        def energy(self, state):
            xp, b = self.engine.xp, self.param("log_b", constraint=self.engine.host.constraints.positive)
            return self.net("f")(state["v"])[..., 0] + 0.5 * b * (xp.sum(state["v"] ** 2, axis=-1) - 1.0) ** 2

    return RingEnergy(network(dg, "ring", dtype), np.zeros((), dtype))


def binary(dg, dtype):
    """E(v) = f(v), v in {0, 1}^4."""

    class BinaryEnergy(dg.Energy):
        blocks = {"v": dg.Block((4,), dg.engine.host.constraints.boolean, integer=True)}  # noqa: RUF012

        def __init__(self, net):
            self.build(networks={"f": net})

        def energy(self, state):
            return self.net("f")(state["v"])[..., 0]

    return BinaryEnergy(network(dg, "binary", dtype))


def hidden(dg, dtype):
    """E(v, h) = f([v, h]) - <c, h>, v in {0, 1, 2}^3, h in {-1, 1}^2, with p(h | v) given where c alone decides it."""

    class HiddenEnergy(dg.Energy):
        options = ("scale",)

        def __init__(self, net, c, *, scale=1.0):
            self.scale = scale
            self.build(networks={"f": net}, arrays={"c": c})

        @property
        def blocks(self):
            constraints = self.engine.host.constraints
            spins = constraints.independent(self.engine.host.spin.unit_support, 1)
            return {
                "v": dg.Block((3,), constraints.integer_interval(0, 2), integer=True),
                "h": dg.Block((2,), spins, integer=True),
            }

        def energy(self, state):
            xp = self.engine.xp
            f = self.net("f")(xp.concat([state["v"], state["h"]], axis=-1))[..., 0]
            return self.scale * f - xp.sum(self.param("c") * state["h"], axis=-1)

    return HiddenEnergy(network(dg, "hidden", dtype), np.zeros(2, dtype), scale=1.5)


def mixed(dg, dtype):
    """E(v, h) = |v|^2 / 2 - <h, W' v>, v in R^2, h in {0, 1}^3, with p(h | v) by the user: Bernoulli(sigmoid(W' v))."""

    class MixedEnergy(dg.Energy):
        blocks = {  # noqa: RUF012
            "v": dg.Block((2,), dg.engine.host.constraints.real),
            "h": dg.Block((3,), dg.engine.host.constraints.boolean, integer=True),
        }

        def __init__(self, w):
            self.build(arrays={"W": w})

        def energy(self, state):
            xp = self.engine.xp
            sent = xp.sum(state["h"] * (state["v"] @ self.param("W")), axis=-1)
            return 0.5 * xp.sum(state["v"] ** 2, axis=-1) - sent

        def conditional(self, block, state):
            if block != "h":
                return super().conditional(block, state)
            return self.engine.host.dist.Bernoulli(logits=state["v"] @ self.param("W")).to_event(1)

    return MixedEnergy(np.zeros((2, 3), dtype))


@dataclass(frozen=True)
class Row:
    """One row.

    Args:
        build: `(dg, dtype)` -> the energy, with arrays of the right shapes.
        arrays: its arrays under the common names.
        energy: `(arrays, state)` -> E, in NumPy.
        values: block name -> (size, values), None for real blocks, which are integrated over a grid.
        networks: whether it has a network, to be given to `load`.
    """

    build: Callable
    arrays: dict
    energy: Callable
    values: dict
    networks: bool = True

    @property
    def finite(self):
        """Whether it can be enumerated."""
        return all(values is not None for _, values in self.values.values())

    @cached_property
    def states(self):
        """(all joint states as a dict of arrays, log volume of a cell): a grid stands for the plane."""
        axis = np.linspace(-7, 7, 281)
        digits = [axis if values is None else values for size, values in self.values.values() for _ in range(size)]
        grid = np.stack(np.meshgrid(*digits, indexing="ij"), -1).reshape(-1, len(digits))
        out, at, cell = {}, 0, 0.0
        for name, (size, values) in self.values.items():
            out[name], at = grid[:, at : at + size], at + size
            cell += 0.0 if values is not None else size * np.log(axis[1] - axis[0])
        return out, cell

    def log_z(self, arrays=None):
        """log Z by enumeration, or by quadrature."""
        states, cell = self.states
        return special.logsumexp(-self.energy(arrays or self.arrays, states)) + cell

    @cached_property
    def probabilities(self):
        """p of each of `states`."""
        return special.softmax(-self.energy(self.arrays, self.states[0]))

    def draws(self, num, seed):
        """Exact draws (to the grid, within whose cells real blocks are uniform)."""
        rng = np.random.default_rng(seed)
        index = rng.choice(len(self.probabilities), num, p=self.probabilities)
        out = {name: x[index] for name, x in self.states[0].items()}
        wide = 14 / 280
        return {
            name: x + (0 if self.values[name][1] is not None else rng.uniform(-wide / 2, wide / 2, x.shape))
            for name, x in out.items()
        }

    def mean(self, fn):
        """E of a function of states, shape (S, ...)."""
        return np.tensordot(self.probabilities, fn(self.states[0]), 1)


BINARY, SPIN, THREE = np.array([0.0, 1.0]), np.array([-1.0, 1.0]), np.array([0.0, 1.0, 2.0])
RNG = np.random.default_rng(7)
W = RNG.standard_normal((2, 3))

ENERGIES = {
    "quadratic": Row(
        quadratic, {"a": np.array([0.8, -0.6]), "m": np.array([1.0, -0.5])},
        lambda p, s: 0.5 * (np.exp(p["a"]) * (s["v"] - p["m"]) ** 2).sum(-1), {"v": (2, None)}, networks=False,
    ),
    "ring": Row(
        ring, {**weights(1, SIZES["ring"], 0.8), "log_b": np.array(1.0)},
        lambda p, s: perceptron(p, s["v"]) + 0.5 * np.exp(p["log_b"]) * ((s["v"] ** 2).sum(-1) - 1) ** 2,
        {"v": (2, None)},
    ),
    "binary": Row(
        binary, weights(2, SIZES["binary"], 1.2), lambda p, s: perceptron(p, s["v"]), {"v": (4, BINARY)},
    ),
    "hidden": Row(
        hidden, {**weights(3, SIZES["hidden"], 0.9), "c": np.array([0.5, -0.3])},
        lambda p, s: 1.5 * perceptron(p, np.concatenate([s["v"], s["h"]], -1)) - (p["c"] * s["h"]).sum(-1),
        {"v": (3, THREE), "h": (2, SPIN)},
    ),
    "mixed": Row(
        mixed, {"W": W},
        lambda p, s: 0.5 * (s["v"] ** 2).sum(-1) - (s["h"] * (s["v"] @ p["W"])).sum(-1),
        {"v": (2, None), "h": (3, BINARY)}, networks=False,
    ),
}  # fmt: skip
"""The energies."""

FINITE = [name for name, row in ENERGIES.items() if row.finite]
REAL = [name for name, row in ENERGIES.items() if not row.finite]


def build(dg, name, dtype="float32"):
    """The energy of a row on a face, at the row's arrays."""
    row = ENERGIES[name]
    return row.build(dg, dtype).from_canonical({k: v.astype(dtype) for k, v in row.arrays.items()})
