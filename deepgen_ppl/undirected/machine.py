r"""Boltzmann machines: layers and couplings.

    E(x) = - sum_l [ <b_l, s_l(x_l) - mu_l> + log m_l(x_l) ] - sum_(a,b) < s_a(x_a) - mu_a, W_ab (s_b(x_b) - mu_b) >

with statistic s, base measure m (`units`), biases b, weights W (`couplings`) and centring offsets mu (zero if the
machine is not centred). Everything else follows: with eta_l = b_l + sum_b W_lb (s_b - mu_b),

    p(x_l | rest) = m_l(x_l) exp( <eta_l, s_l(x_l)> - A_l(eta_l) )
    F(x_keep)     = -log sum_{x_out} exp(-E) for layers `out` that are not joined: each gives -A(eta) + <eta, mu>.

Shapes: a state is a dict of arrays (..., n_l) with common leading axes; energies are (...), in nats.

References: How to Center Deep Boltzmann Machines (Melchior et al., 2016), eq. 7; Exponential Family Harmoniums
(Welling et al., 2004), eq. 5 and 8.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from deepgen_ppl.typing import Array, Distribution, Params, Rng, State
from deepgen_ppl.undirected.couplings import Coupling
from deepgen_ppl.undirected.energy import Block, Energy, draw_block
from deepgen_ppl.undirected.normalisable import check_normalisable
from deepgen_ppl.undirected.structure import Structure
from deepgen_ppl.undirected.unit import Unit

__all__ = ["BoltzmannMachine"]


class BoltzmannMachine(Energy):
    """A machine made of layers and couplings; immutable.

    Args:
        layers: layer name -> unit; the first is the visible layer.
        couplings: interactions of the layers.
        params: trained arrays: `LAYER.bias`, `A-B.weight`, `LAYER.log_sigma` where learned.
        buffers: arrays that are never differentiated: `LAYER.offset` (centring), `LAYER.log_sigma` where known,
            `energy_offset` (a constant added to the energy).

    Raises:
        ValueError: for missing or unknown arrays, wrong shapes, or a machine that has no normaliser.
    """

    dynamic_fields: ClassVar[tuple[str, ...]] = ("params", "buffers")
    static_fields: ClassVar[tuple[str, ...]] = ("structure",)
    params: dict[str, Array]
    buffers: dict[str, Array]
    structure: Structure

    def __init__(
        self,
        layers: Mapping[str, Unit],
        couplings: Sequence[Coupling],
        params: Params,
        buffers: Params | None = None,
    ) -> None:
        self._build(Structure.of(layers, couplings), params, buffers or {})

    def _build(self, structure: Structure, params: Params, buffers: Params) -> None:
        asarray = self.engine.arrays.asarray
        self.structure = structure
        self.params = {k: asarray(v) for k, v in params.items()}
        self.buffers = {k: asarray(v) for k, v in buffers.items()}
        for name, unit in structure.items:
            if f"{name}.bias" in self.params:
                for own, defaults in zip((self.params, self.buffers), unit.init_arrays(), strict=True):
                    for k, v in defaults.items():
                        own.setdefault(f"{name}.{k}", asarray(v, like=self.params[f"{name}.bias"]))
        arrays = {**self.params, **self.buffers}
        structure.check_shapes({k: tuple(v.shape) for k, v in arrays.items()})
        self._check_finite(arrays)
        self.check_normalisable()

    @classmethod
    def from_arrays(cls, structure: Structure, params: Params, buffers: Params) -> Self:
        """A machine of this class from its structure and flat dicts of arrays."""
        machine = object.__new__(cls)
        BoltzmannMachine._build(machine, structure, params, buffers)
        return machine

    def _check_finite(self, arrays: Params) -> None:
        for k, v in arrays.items():
            if not self.engine.arrays.is_concrete(v):
                continue
            if bad := int((~np.isfinite(self.engine.arrays.to_numpy(v))).sum()):
                raise ValueError(f"expected finite values in {k}, got {bad} NaN or infinite of {np.size(v)}")

    def check_normalisable(self) -> None:
        """Check that exp(-E) has a finite sum; see `normalisable`.

        Raises:
            ValueError: if it has not. Traced arrays are not checked.
        """
        check_normalisable(self)

    # -- immutable updates -------------------------------------------------------------------------------------------

    def with_params(self, params: Params) -> Self:
        """The same machine with other trained arrays; names not given keep theirs.

        Raises:
            ValueError: for unknown names, other shapes, or a machine that has no normaliser.
        """
        new = self._replace(params=self._updated("params", params))
        new.check_normalisable()
        return new

    def with_buffers(self, buffers: Params) -> Self:
        """The same machine with other offsets."""
        return self._replace(buffers=self._updated("buffers", buffers))

    def _updated(self, field: str, arrays: Params) -> dict[str, Array]:
        own: dict[str, Array] = getattr(self, field)
        if unknown := sorted(arrays.keys() - own.keys()):
            raise ValueError(f"expected {field} among {sorted(own)}, got {unknown}")
        for k, v in arrays.items():
            if tuple(v.shape) != tuple(own[k].shape):
                raise ValueError(f"expected {k} of shape {tuple(own[k].shape)}, got shape {tuple(v.shape)}")
        return {**own, **arrays}

    def _replace(self, **fields: Any) -> Self:
        new = copy.copy(self)
        for name, value in fields.items():
            setattr(new, name, value)
        return new

    def astype(self, dtype: str) -> Self:
        """The same machine in `float32` or `float64`."""
        cast = {k: self.engine.arrays.asarray(v, dtype=dtype) for k, v in {**self.params, **self.buffers}.items()}
        return self._replace(params={k: cast[k] for k in self.params}, buffers={k: cast[k] for k in self.buffers})

    # -- the energy and what follows from it ---------------------------------------------------------------------------

    @property
    def blocks(self) -> dict[str, Block]:
        """One block a layer."""
        return {n: Block((u.size,), u.support(self.engine), u.integer) for n, u in self.structure.items}

    @property
    def data_unit(self) -> Unit:
        """Unit of the visible layer: what data must look like."""
        return self.structure.layers[self.structure.visible]

    @property
    def like(self) -> Array:
        """An array of the machine's dtype and device."""
        return self.params[f"{self.structure.visible}.bias"]

    def layer_arrays(self, name: str) -> dict[str, Array]:
        """Arrays of the base measure of a layer."""
        trained, fixed = self.structure.layers[name].init_arrays()
        arrays = {**self.params, **self.buffers}
        return {k: arrays[f"{name}.{k}"] for k in (*trained, *fixed)}

    def centre(self, name: str, s: Array) -> Array:
        """s - mu for one layer."""
        offset = self.buffers.get(f"{name}.offset")
        return s if offset is None else s - offset

    def statistics(self, state: State) -> dict[str, Array]:
        """Centred statistics s_l(x_l) - mu_l of the layers in the state."""
        layers = self.structure.layers
        return {n: self.centre(n, layers[n].statistic(self.engine, x, self.like)) for n, x in state.items()}

    def natural(self, name: str, s: Mapping[str, Array]) -> Array:
        """eta of a layer given the centred statistics of its neighbours, shape (..., width)."""
        eta = self.params[f"{name}.bias"]
        for c in self.structure.couplings:
            if name in c.layers:
                eta = eta + c.natural(self.engine, self.params[f"{c.name}.weight"], s, name)
        return eta

    def linear_energy(self, s: Mapping[str, Array]) -> Array:
        """The part of E that is multilinear in the centred statistics of the layers given, shape (...) in nats."""
        total = self.buffers.get("energy_offset", 0.0)
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
        """p(x_block | its neighbours in the state) as a distribution of the host, event shape (n,)."""
        eta = self.natural(block, self._around(block, state))
        return self.structure.layers[block].distribution(self.engine, eta, self.layer_arrays(block))

    def mean(self, block: str, state: State) -> Array:
        """E[s(x_block) | its neighbours in the state], shape (..., width)."""
        eta = self.natural(block, self._around(block, state))
        return self.structure.layers[block].mean(self.engine, eta, self.layer_arrays(block))

    def _around(self, block: str, state: State) -> dict[str, Array]:
        if missing := sorted(self.structure.neighbours(block) - state.keys()):
            raise ValueError(f"expected a state with the neighbours of {block!r}, got no {missing}")
        return self.statistics({n: state[n] for n in self.structure.neighbours(block)})

    def free_energy(self, state: State | Array) -> Array:
        """F = -log sum_out exp(-E) with every layer that is not in the state summed out, shape (...) in nats.

        Args:
            state: some layers' values, or an array for the visible layer alone.

        Raises:
            ValueError: if two of the layers summed out are joined (see `MeanField` for a bound).
        """
        state = state if isinstance(state, Mapping) else {self.structure.visible: state}
        out = [n for n in self.structure.names if n not in state]
        if not self.structure.independent(out):
            raise ValueError(
                f"expected layers to sum out that are not joined, got {out}: give one of them in the state, "
                "or bound the free energy with hidden=MeanField(...)"
            )
        s = self.statistics(state)
        total = self.linear_energy(s) - self.log_base(state)
        for name in out:
            eta, unit = self.natural(name, s), self.structure.layers[name]
            total = total - self.engine.xp.sum(unit.log_partition(self.engine, eta, self.layer_arrays(name)), axis=-1)
            if (offset := self.buffers.get(f"{name}.offset")) is not None:
                total = total + eta @ offset
        return total

    def uncentred(self) -> Self:
        """The machine with the same energy, to the constant, and no offsets: the form that kernels run."""
        offsets = {n: self.buffers[f"{n}.offset"] for n in self.structure.names if f"{n}.offset" in self.buffers}
        if not offsets:
            return self
        zero = {n: -offsets[n] if n in offsets else 0.0 * self.params[f"{n}.bias"] for n in self.structure.names}
        params = dict(self.params)
        for name in self.structure.names:
            params[f"{name}.bias"] = self.natural(name, zero)
        buffers = {k: v for k, v in self.buffers.items() if not k.endswith(".offset")}
        buffers["energy_offset"] = self.linear_energy(zero)
        return self._replace(params=params, buffers=buffers)

    def recentred(self, offsets: Params) -> Self:
        """The same law p(x) about other offsets: biases and constant move with them.

        Args:
            offsets: layer name -> new offset mu, shape (width,); layers not named keep theirs.
        """
        params, shift = dict(self.params), {}
        for name in self.structure.names:
            old = self.buffers.get(f"{name}.offset", 0.0 * self.params[f"{name}.bias"])
            shift[name] = offsets[name] - old if name in offsets else 0.0 * old
        for name in self.structure.names:
            params[f"{name}.bias"] = self.natural(name, shift)
        buffers = {**self.buffers, **{f"{n}.offset": mu for n, mu in offsets.items()}}
        buffers["energy_offset"] = self.linear_energy(shift)
        return self._replace(params=params, buffers=buffers)

    def marginal(
        self, block: str | None = None, *, log_normalizer: Any = None, hidden: Any = None, sampler: Any = None
    ) -> Distribution:
        """p(x_block) as a native distribution of the host, event shape (n,).

        Args:
            block: layer; the visible one by default. All other layers are summed out.
            log_normalizer: `"exact"` (recomputed from the parameters, differentiable), a `LogNormalizer` (an estimate
                that belongs to these parameters), `Contrastive(particles)` (only its gradient means anything), or None
                (`log_prob` raises).
            hidden: `MeanField(...)` where the layers summed out are joined: `log_prob` is then a lower bound.
            sampler: kernel whose one step, from independent starts, is taken for a draw where no exact one is possible.
        """
        return self.engine.host.marginal(self, block or self.structure.visible, log_normalizer, hidden, sampler)

    def __repr__(self) -> str:
        centred = ", centred" if any(k.endswith(".offset") for k in self.buffers) else ""
        return f"{type(self).__name__}({self.structure.describe()}{centred}; {self.like.dtype})"


@draw_block.register
def _(target: BoltzmannMachine, rng: Rng, block: str, state: State) -> Array:
    eta = target.natural(block, target._around(block, state))
    return target.structure.layers[block].draw(target.engine, rng, eta, target.layer_arrays(block))
