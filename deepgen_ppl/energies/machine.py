r"""Boltzmann machines: layers and couplings.

    E(x) = - sum_l [ <b_l, s_l(x_l) - mu_l> + log m_l(x_l) ] - sum_(a,b) < s_a(x_a) - mu_a, W_ab (s_b(x_b) - mu_b) >

with statistic s, base measure m (`units`), biases b, weights W (`couplings`) and centering offsets mu (zero if the
machine is not centered). Everything else follows: with eta_l = b_l + sum_b W_lb (s_b - mu_b),

    p(x_l | rest) = m_l(x_l) exp( <eta_l, s_l(x_l)> - A_l(eta_l) )
    F(x_keep)     = -log sum_{x_out} exp(-E) for layers `out` that are not coupled: each gives -A(eta) + <eta, mu>.

Shapes: a state is a dict of arrays (..., n_l) with common leading axes; energies are (...), in nats.

References: How to Center Deep Boltzmann Machines (Melchior et al., 2016), eq. 7; Exponential Family Harmoniums
(Welling et al., 2004), eq. 5 and 8.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from deepgen_ppl.energies.energy import Block, Energy
from deepgen_ppl.energies.normalizable import check_normalizable, needs_check
from deepgen_ppl.energies.structure import Structure
from deepgen_ppl.energies.terms import Coupling
from deepgen_ppl.typing import Array, ArrayDict, Distribution, Params, Rng, State
from deepgen_ppl.units.base import Unit

__all__ = ["BoltzmannMachine"]


class BoltzmannMachine(Energy):
    """A machine made of layers and couplings; immutable.

    Args:
        layers: layer name -> unit; the first is the visible layer.
        couplings: interactions of the layers.
        params: trained arrays: `LAYER.bias`, `A-B.weight`, `LAYER.log_sigma` where learned.
        constants: arrays that are never differentiated: `LAYER.offset` (centering), `LAYER.log_sigma` where known,
            `energy_offset` (a constant added to the energy).

    Raises:
        ValueError: for missing or unknown arrays, wrong shapes, or a machine that has no normalizer.
    """

    dynamic_fields: ClassVar[tuple[str, ...]] = ("_params", "_constants")
    static_fields: ClassVar[tuple[str, ...]] = ("structure",)
    _params: ArrayDict
    _constants: ArrayDict
    structure: Structure

    def __init__(
        self,
        layers: Mapping[str, Unit],
        couplings: Sequence[Coupling],
        params: Params,
        constants: Params | None = None,
    ) -> None:
        self._build(Structure.of(layers, couplings), params, constants or {})

    def _build(self, structure: Structure, params: Params, constants: Params) -> None:
        asarray = self.engine.arrays.asarray
        params = {k: asarray(v) for k, v in params.items()}
        constants = {k: asarray(v) for k, v in constants.items()}
        for name, unit in structure.units:
            if f"{name}.bias" in params:
                like = params[f"{name}.bias"]
                trained, fixed = unit.init_arrays()  # a layer's own arrays start at these where they are not given
                params = {f"{name}.{k}": asarray(v, like=like) for k, v in trained.items()} | params
                constants = {f"{name}.{k}": asarray(v, like=like) for k, v in fixed.items()} | constants
        arrays = {**params, **constants}
        self._set(structure=structure, _params=ArrayDict(params), _constants=ArrayDict(constants))
        structure.check_shapes({k: tuple(v.shape) for k, v in arrays.items()})
        self._check_finite(arrays)
        self.check_normalizable()

    @classmethod
    def from_arrays(cls, structure: Structure, params: Params, constants: Params) -> Self:
        """A machine of this class from its structure and flat dicts of arrays."""
        machine = object.__new__(cls)
        BoltzmannMachine._build(machine, structure, params, constants)
        return machine

    def _check_finite(self, arrays: Params) -> None:
        for k, v in arrays.items():
            if not self.engine.arrays.is_concrete(v):
                continue
            if bad := int((~np.isfinite(self.engine.arrays.to_numpy(v))).sum()):
                raise ValueError(f"expected finite values in {k}, got {bad} NaN or infinite of {np.size(v)}")

    def check_normalizable(self) -> None:
        """Check that exp(-E) has a finite sum; see `normalizable`.

        Raises:
            ValueError: if it has not. Traced arrays are not checked.
        """
        arrays = {**self.params, **self.constants}
        if needs_check(self.structure) and all(self.engine.arrays.is_concrete(v) for v in arrays.values()):
            check_normalizable(self.structure, {k: self.engine.arrays.to_numpy(v) for k, v in arrays.items()})

    # -- immutable: arrays and attributes are put in once, by `_set` ---------------------------------------------------

    def _set(self, **attributes: Any) -> None:
        for name, value in attributes.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(
            f"expected with_params(...) or with_constants(...) to change a {type(self).__name__}, got an assignment to "
            f"{name!r}: machines are immutable"
        )

    @property
    def params(self) -> ArrayDict:
        """All trained arrays, by name."""
        return self._params

    @property
    def constants(self) -> ArrayDict:
        """All other arrays, by name."""
        return self._constants

    # -- updates -------------------------------------------------------------------------------------------

    def with_params(self, params: Params) -> Self:
        """The same machine with other trained arrays; names not given keep theirs.

        Raises:
            ValueError: for unknown names, other shapes, or a machine that has no normalizer.
        """
        new = self._replace(params=self._updated("params", params))
        new.check_normalizable()
        return new

    def with_constants(self, constants: Params) -> Self:
        """The same machine with other offsets, or known scales.

        Raises:
            ValueError: for unknown names, other shapes, or a machine that has no normalizer.
        """
        new = self._replace(constants=self._updated("constants", constants))
        new.check_normalizable()
        return new

    def _updated(self, field: str, arrays: Params) -> dict[str, Array]:
        own: dict[str, Array] = getattr(self, field)
        if unknown := sorted(arrays.keys() - own.keys()):
            raise ValueError(f"expected {field} among {sorted(own)}, got {unknown}")
        for k, v in arrays.items():
            if tuple(np.shape(v)) != tuple(own[k].shape):
                raise ValueError(f"expected {k} of shape {tuple(own[k].shape)}, got shape {tuple(np.shape(v))}")
        return {**own, **{k: self.engine.arrays.asarray(v, like=own[k]) for k, v in arrays.items()}}

    def _replace(self, *, params: Params | None = None, constants: Params | None = None) -> Self:
        new = copy.copy(self)
        new._set(
            _params=self._params if params is None else ArrayDict(params),
            _constants=self._constants if constants is None else ArrayDict(constants),
        )
        return new

    def astype(self, dtype: str) -> Self:
        """The same machine in `float32` or `float64`."""
        cast = {k: self.engine.arrays.asarray(v, dtype=dtype) for k, v in {**self.params, **self.constants}.items()}
        return self._replace(params={k: cast[k] for k in self.params}, constants={k: cast[k] for k in self.constants})

    # -- the energy and what follows from it ---------------------------------------------------------------------------

    @property
    def blocks(self) -> dict[str, Block]:
        """One block a layer."""
        return {n: Block((u.size,), u.support(self.engine), u.integer) for n, u in self.structure.units}

    @property
    def observed(self) -> dict[str, Unit]:
        """The visible layer."""
        return {self.structure.visible: self.structure.layers[self.structure.visible]}

    @property
    def inputs(self) -> frozenset[str]:
        """The layers."""
        return frozenset(self.structure.names)

    @property
    def like(self) -> Array:
        """An array of the machine's dtype and device."""
        return self.params[f"{self.structure.visible}.bias"]

    def layer_arrays(self, name: str) -> dict[str, Array]:
        """Arrays of the base measure of a layer."""
        trained, fixed = self.structure.layers[name].init_arrays()
        arrays = {**self.params, **self.constants}
        return {k: arrays[f"{name}.{k}"] for k in (*trained, *fixed)}

    def center(self, name: str, s: Array) -> Array:
        """s - mu for one layer."""
        offset = self.constants.get(f"{name}.offset")
        return s if offset is None else s - offset

    def statistics(self, state: State) -> dict[str, Array]:
        """Centered statistics s_l(x_l) - mu_l of the layers in the state."""
        layers = self.structure.layers
        return {n: self.center(n, layers[n].statistic(self.engine, x, self.like)) for n, x in state.items()}

    def natural(self, name: str, s: Mapping[str, Array]) -> Array:
        """eta of a layer given the centered statistics of its neighbors, shape (..., width)."""
        eta = self.params[f"{name}.bias"]
        for c in self.structure.couplings:
            if name in c.layers:
                eta = eta + c.natural(self.engine, self.params[f"{c.name}.weight"], s, name)
        return eta

    def linear_energy(self, s: Mapping[str, Array]) -> Array:
        """The part of E that is multilinear in the centered statistics of the layers given, shape (...) in nats."""
        total = self.constants.get("energy_offset", 0.0)
        for name, value in s.items():
            total = total - value @ self.params[f"{name}.bias"]
        for c in self.structure.couplings:
            if all(name in s for name in c.layers):
                total = total - c.form(self.engine, self.params[f"{c.name}.weight"], s)
        return total

    def log_base(self, state: State) -> Array | float:
        """sum_l log m_l(x_l) over the layers in the state, shape (...) in nats."""
        layers = self.structure.layers
        return sum(layers[n].log_base(self.engine, x, self.layer_arrays(n)) for n, x in state.items())

    def energy(self, state: State) -> Array:
        """E(x), shape (...) in nats.

        Raises:
            ValueError: if the state lacks a block.
        """
        if missing := [n for n in self.structure.names if n not in state]:
            raise ValueError(f"expected a state with the blocks {list(self.structure.names)}, got no {missing}")
        return self.linear_energy(self.statistics(state)) - self.log_base(state)

    def conditional(self, block: str, state: State) -> Distribution:
        """p(x_block | its neighbors in the state) as a distribution of the host, event shape (n,)."""
        eta = self.natural(block, self._around(block, state))
        return self.structure.layers[block].distribution(self.engine, eta, self.layer_arrays(block))

    @property
    def sweep(self) -> Sequence[Sequence[str]]:
        """The colors of the layers, the visible layer's own last."""
        return self.structure.sweep

    def draw(self, rng: Rng, block: str, state: State) -> Array:
        """One draw from the conditional of a layer, shape (..., n), without the host's distribution."""
        eta = self.natural(block, self._around(block, state))
        return self.structure.layers[block].draw(self.engine, rng, eta, self.layer_arrays(block))

    def start(self, rng: Rng, num_chains: int) -> dict[str, Array]:
        """Draws of all layers as if their couplings were cut, shapes (C, n); exact where there are none."""
        engine, units = self.engine, self.structure.units
        position = {}
        for key, (name, unit) in zip(engine.random.split(rng, len(units)), units, strict=True):
            eta = self.params[f"{name}.bias"]
            eta = engine.xp.broadcast_to(eta, (num_chains, *eta.shape))
            position[name] = unit.draw(engine, key, eta, self.layer_arrays(name))
        return position

    def mean(self, block: str, state: State) -> Array:
        """E[s(x_block) | its neighbors in the state], shape (..., width)."""
        eta = self.natural(block, self._around(block, state))
        return self.structure.layers[block].mean(self.engine, eta, self.layer_arrays(block))

    def _around(self, block: str, state: State) -> dict[str, Array]:
        if missing := sorted(self.structure.neighbors(block) - state.keys()):
            raise ValueError(f"expected a state with the neighbors of {block!r}, got no {missing}")
        return self.statistics({n: state[n] for n in self.structure.neighbors(block)})

    def free_energy(self, state: State | Array) -> Array:
        """F = -log sum_out exp(-E) with every layer that is not in the state summed out, shape (...) in nats.

        Args:
            state: some layers' values, or an array for the visible layer alone.

        Raises:
            ValueError: if two of the layers summed out are coupled (see `MeanField` for a bound).
        """
        state = state if isinstance(state, Mapping) else {self.structure.visible: state}
        out = [n for n in self.structure.names if n not in state]
        if not self.structure.independent(out):
            raise ValueError(
                f"expected layers to sum out that are not coupled, got {out}: give one of them in the state, "
                "or bound the free energy with hidden_bound=MeanField(...)"
            )
        s = self.statistics(state)
        total = self.linear_energy(s) - self.log_base(state)
        for name in out:
            eta, unit = self.natural(name, s), self.structure.layers[name]
            total = total - self.engine.xp.sum(unit.log_partition(self.engine, eta, self.layer_arrays(name)), axis=-1)
            if (offset := self.constants.get(f"{name}.offset")) is not None:
                total = total + eta @ offset
        return total

    def uncentered(self) -> Self:
        """The machine with the same energy, with its constant, and no offsets: the form that sweeps run."""
        offsets = {n: self.constants[f"{n}.offset"] for n in self.structure.names if f"{n}.offset" in self.constants}
        if not offsets:
            return self
        # s - mu at s = 0 is -mu: what it sends through the couplings moves into the biases
        zero = {n: -offsets[n] if n in offsets else 0.0 * self.params[f"{n}.bias"] for n in self.structure.names}
        params = dict(self.params)
        for name in self.structure.names:
            params[f"{name}.bias"] = self.natural(name, zero)
        constants = {k: v for k, v in self.constants.items() if not k.endswith(".offset")}
        constants["energy_offset"] = self.linear_energy(zero)
        return self._replace(params=params, constants=constants)

    def decoupled(self) -> Self:
        """The machine with its couplings cut about its offsets: independent layers with the same biases."""
        layers = self.structure.layers
        new = self._replace(params={k: v for k, v in self.params.items() if k.rpartition(".")[0] in layers})
        new._set(structure=Structure(self.structure.units, ()))
        return new

    def recentered(self, offsets: Params) -> Self:
        """The same law p(x) about other offsets: biases and constant move with them.

        Args:
            offsets: layer name -> new offset mu, shape (width,); layers not named keep theirs.
        """
        params, shift = dict(self.params), {}
        for name in self.structure.names:
            old = self.constants.get(f"{name}.offset", 0.0 * self.params[f"{name}.bias"])
            shift[name] = offsets[name] - old if name in offsets else 0.0 * old
        for name in self.structure.names:
            params[f"{name}.bias"] = self.natural(name, shift)
        constants = {**self.constants, **{f"{n}.offset": mu for n, mu in offsets.items()}}
        constants["energy_offset"] = self.linear_energy(shift)
        return self._replace(params=params, constants=constants)

    def marginal(
        self, block: str | None = None, *, log_normalizer: Any = None, hidden_bound: Any = None, sampler: Any = None
    ) -> Distribution:
        """p(x_block) as a native distribution of the host, event shape (n,).

        Args:
            block: layer; the visible one by default. All other layers are summed out.
            log_normalizer: `"exact"` (recomputed from the parameters, differentiable), a `LogNormalizer` (an estimate
                that belongs to these parameters), `Contrastive(particles)` (only its gradient means anything), or None
                (`log_prob` raises).
            hidden_bound: `MeanField(...)` where the layers summed out are coupled: `log_prob` is then a lower bound.
            sampler: kernel whose one step, from independent starts, is taken for a draw where no exact one is possible.
        """
        block = self.structure.visible if block is None else block
        return self.engine.host.marginal(self, block, log_normalizer, hidden_bound, sampler)

    def to_file(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Units and couplings as JSON, and all arrays."""
        structure, to_numpy = self.structure, self.engine.arrays.to_numpy
        config = {
            "layers": [[name, unit.to_json()] for name, unit in structure.units],
            "couplings": [c.to_json() for c in structure.couplings],
        }
        arrays = {f"params.{k}": to_numpy(v) for k, v in self.params.items()}
        return config, arrays | {f"constants.{k}": to_numpy(v) for k, v in self.constants.items()}

    @classmethod
    def from_file(cls, config: Mapping[str, Any], arrays: Mapping[str, np.ndarray], **networks: Any) -> Self:
        """Inverse of `to_file`."""
        if networks:
            raise TypeError(f"expected no networks to load a {cls.__name__}, got {sorted(networks)}")
        structure = Structure(
            tuple((name, Unit.from_json(unit)) for name, unit in config["layers"]),
            tuple(Coupling.from_json(c) for c in config["couplings"]),
        )
        params, constants = (
            {k.removeprefix(own): v for k, v in arrays.items() if k.startswith(own)}
            for own in ("params.", "constants.")
        )
        return cls.from_arrays(structure, params, constants)

    def __repr__(self) -> str:
        centered = ", centered" if any(k.endswith(".offset") for k in self.constants) else ""
        return f"{type(self).__name__}({self.structure.describe()}{centered}; {self.like.dtype})"
