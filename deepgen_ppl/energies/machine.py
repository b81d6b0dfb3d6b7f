r"""Boltzmann machines: layers and terms.

    E(x) = - sum_l [ <b_l, s_l(x_l) - mu_l> + log m_l(x_l) ] - sum_(a,b) < s_a(x_a) - mu_a, W_ab (s_b(x_b) - mu_b) >
           - sum_(a,b,c) sum_ijk W_ijk s_a,i s_b,j s_c,k

with statistic s, base measure m (`units`), biases b, couplings W (`terms`) and centering offsets mu (zero if the
machine is not centered; terms of three layers, and of layers that are always given, have none). Everything else
follows: with eta_l the derivative of the sum of all terms with respect to s_l, b_l + sum_b W_lb (s_b - mu_b) + ..,

    p(x_l | rest) = m_l(x_l) exp( <eta_l, s_l(x_l)> - A_l(eta_l) )
    F(x_keep)     = -log sum_{x_out} exp(-E) for layers `out` that are not coupled: each gives -A(eta) + <eta', mu>,

eta' the part of eta from terms that are centered. Shapes: a state is a dict of arrays (..., n_l) with common leading
axes; energies are (...), in nats. The leading axes of a batch of machines come last among them: states (C, N, n_l) of N
machines.

References: How to Center Deep Boltzmann Machines (Melchior et al., 2016), eq. 7; Exponential Family Harmoniums
(Welling et al., 2004), eq. 5 and 8; Higher-Order Boltzmann Machines (Sejnowski, 1986), eq. 4.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from deepgen_ppl.energies.centering import recentered, uncentered
from deepgen_ppl.energies.clamped import clamped_parts
from deepgen_ppl.energies.parts import Parts
from deepgen_ppl.energies.structure import Structure
from deepgen_ppl.energies.terms import Term
from deepgen_ppl.options import integer, mapping
from deepgen_ppl.typing import Array, Distribution, Params, Rng, State

__all__ = ["BoltzmannMachine"]


class BoltzmannMachine(Parts):
    """A machine made of layers and terms; immutable.

        E(x) = - sum_l [ <b_l, s_l(x_l) - mu_l> + log m_l(x_l) ] - sum_(a,b) < s_a(x_a) - mu_a, W_ab (s_b(x_b) - mu_b) >
               - sum_(a,b,c) sum_ijk W_ijk s_a,i s_b,j s_c,k

    Args:
        layers: layer name -> unit; the first is the visible layer.
        terms: how layers interact (`Dense`, `ThirdOrder`, `Convolution`, `Sparse`), and biases that are shared
            (`SharedBias`); every other layer has a `Bias`.
        params: trained arrays: `LAYER.bias`, `A-B.weight`, `LAYER.log_sigma` where learned.
        constants: arrays that are never differentiated: `LAYER.offset` (centering), `LAYER.log_sigma` where known,
            `energy_offset` (a constant added to the energy).

    Biases, dense weights, the arrays of units and `energy_offset` may have leading axes: the machine is then a batch of
    machines, one a row.

    Raises:
        ValueError: for missing or unknown arrays, wrong shapes, or a machine that has no normalizer.

    Example:
        >>> import numpy as np
        >>> import deepgen_ppl.numpyro as dg
        >>> rng = np.random.default_rng(0)
        >>> layers = {"a": dg.Spin(3), "b": dg.Bernoulli(2), "c": dg.Bernoulli(2)}
        >>> terms = [dg.Dense(("a", "b")), dg.Dense(("b", "c")), dg.Dense(("a", "c"))]
        >>> shapes = {"a.bias": 3, "b.bias": 2, "c.bias": 2, "a-b.weight": (3, 2), "b-c.weight": (2, 2)}
        >>> shapes["a-c.weight"] = (3, 2)
        >>> p = {k: rng.normal(size=shape).astype("float32") for k, shape in shapes.items()}
        >>> machine = dg.BoltzmannMachine(layers, terms, p)
        >>> a, b, c = np.float32([1, -1, 1]), np.float32([0, 1]), np.float32([1, 1])
        >>> E = -a @ p["a.bias"] - b @ p["b.bias"] - c @ p["c.bias"]
        >>> E = E - a @ p["a-b.weight"] @ b - b @ p["b-c.weight"] @ c - a @ p["a-c.weight"] @ c
        >>> bool(np.isclose(machine.energy({"a": a, "b": b, "c": c}), E, atol=1e-5))
        True

    References:
        How to Center Deep Boltzmann Machines (Melchior et al., 2016), eq. 7, https://arxiv.org/abs/1311.1354;
        Exponential Family Harmoniums (Welling et al., 2004), eq. 5 and 8, https://papers.nips.cc/paper/2672;
        Higher-Order Boltzmann Machines (Sejnowski, 1986), eq. 4, https://doi.org/10.1063/1.36246.
    """

    # -- statistics, natural parameters and the multilinear part of the energy -----------------------------------------

    def center(self, name: str, s: Array) -> Array:
        """s - mu for one layer."""
        offset = self.constants.get(f"{name}.offset")
        return s if offset is None else s - offset

    def statistics(self, state: State) -> dict[str, Array]:
        """Centered statistics s_l(x_l) - mu_l of the layers in the state.

        Raises:
            ValueError: for an unknown layer, or values of another width.
        """
        layers, out = self.structure.layers, {}
        for n, x in mapping(state, "a state", "{'v': v, 'h': h}").items():
            if n not in layers:
                raise ValueError(f"expected a state with layers among {list(layers)}, got {n!r}")
            x = x if hasattr(x, "shape") else self.engine.arrays.asarray(x, like=self.like)
            if np.ndim(x) == 0 or x.shape[-1] != layers[n].size:
                raise ValueError(f"expected {n} of shape (..., {layers[n].size}), got shape {tuple(np.shape(x))}")
            out[n] = self.center(n, layers[n].statistic(self.engine, x, self.like, self.layer_arrays(n)))
        return out

    def _read(self, term: Term, s: Mapping[str, Array]) -> Mapping[str, Array]:
        """Centered statistics as a term reads them: raw where it is not centered."""
        if self.structure.centered(term):
            return s
        return {n: s[n] + self.constants.get(f"{n}.offset", 0.0) for n in term.layers if n in s}

    def sent(self, terms: Iterable[Term], name: str, s: Mapping[str, Array]) -> Array:
        """What these terms send to a layer, shape (..., width)."""
        found = [t.natural(self.engine, self.term_arrays(t), self._read(t, s), name) for t in terms if name in t.layers]
        return sum(found[1:], found[0]) if found else self.zeros(name)

    def form(self, terms: Iterable[Term], s: Mapping[str, Array]) -> Array | float:
        """Sum of those of these terms whose layers are all given, shape (...) in nats."""
        whole = (t for t in terms if all(n in s for n in t.layers))
        return sum(t.form(self.engine, self.term_arrays(t), self._read(t, s)) for t in whole)

    @property
    def centered_terms(self) -> list[Term]:
        """The terms that read s - mu."""
        return [t for t in self.structure.terms if self.structure.centered(t)]

    def zeros(self, name: str) -> Array:
        """0 for every component of a layer, shape (width,)."""
        return self.engine.arrays.asarray(np.zeros(self.structure.layers[name].width), like=self.like)

    def bias(self, name: str) -> Array:
        """Bias of every component of a layer, shape (..., width)."""
        return self.sent([t for t in self.structure.terms if t.layers == (name,)], name, {})

    def natural(self, name: str, s: Mapping[str, Array]) -> Array:
        """eta of a layer given the centered statistics of its neighbors, shape (..., width)."""
        eta = self.sent(self.structure.terms, name, s)
        if s and not self.structure.neighbors(name):  # coupled to nothing: as many rows as the state all the same
            lead = np.broadcast_shapes(*(tuple(x.shape[:-1]) for x in s.values()), tuple(eta.shape[:-1]))
            eta = self.engine.xp.broadcast_to(eta, (*lead, eta.shape[-1]))
        return eta

    def linear_energy(self, s: Mapping[str, Array]) -> Array:
        """The part of E that is multilinear in the centered statistics of the layers given, shape (...) in nats."""
        return self.constants.get("energy_offset", 0.0) - self.form(self.structure.terms, s)

    def log_base(self, state: State) -> Array | float:
        """sum_l log m_l(x_l) over the layers in the state, shape (...) in nats."""
        layers, cast = self.structure.layers, self.engine.arrays.cast
        return sum(layers[n].log_base(self.engine, cast(x, self.like), self.layer_arrays(n)) for n, x in state.items())

    # -- the law -------------------------------------------------------------------------------------------------------

    def energy(self, state: State) -> Array:
        """E(x), shape (...) in nats.

        Raises:
            ValueError: if the state lacks a layer, or has values of another width.
        """
        mapping(state, "a state", "{'v': v, 'h': h}")
        if missing := [n for n in self.structure.names if n not in state]:
            raise ValueError(f"expected a state with the blocks {list(self.structure.names)}, got no {missing}")
        return self.linear_energy(self.statistics(state)) - self.log_base(state)

    def _given_neighbors(self, block: str, state: State) -> Array:
        """eta of a layer given its neighbors in the state, one row for each of the state's."""
        neighbors = self.structure.neighbors(block)
        mapping(state, "a state", "{'v': v, 'h': h}")
        if missing := sorted(neighbors - state.keys()):
            raise ValueError(f"expected a state with the neighbors of {block!r}, got no {missing}")
        return self.natural(block, self.statistics({n: state[n] for n in neighbors or state}))

    def conditional(self, block: str, state: State) -> Distribution:
        """p(x_block | its neighbors in the state) as a distribution of the host, event shape (n,).

        Raises:
            ValueError: for an unknown layer, or a state that lacks a neighbor or has values of another width.
        """
        eta = self._given_neighbors(block, state)
        return self.structure.layers[block].distribution(self.engine, eta, self.layer_arrays(block))

    def mean(self, block: str, state: State) -> Array:
        """E[s(x_block) | its neighbors in the state], shape (..., width)."""
        eta = self._given_neighbors(block, state)
        return self.structure.layers[block].mean(self.engine, eta, self.layer_arrays(block))

    def draw(self, rng: Rng, block: str, state: State) -> Array:
        """One draw from the conditional of a layer, shape (..., n), without the host's distribution."""
        eta, rng = self._given_neighbors(block, state), self.engine.random.rng(rng, self.like)
        return self.structure.layers[block].draw(self.engine, rng, eta, self.layer_arrays(block))

    @property
    def sweep(self) -> Sequence[Sequence[str]]:
        """The colors of the layers, the visible layer's own last."""
        return self.structure.sweep

    def start(self, rng: Rng, num_chains: int) -> dict[str, Array]:
        """Draws of all layers as if their couplings were cut, shapes (C, ..., n); exact where there are none.

        Raises:
            ValueError: for a machine that is one for each value of something that is not given.
        """
        self.check_given("draws")
        num_chains = integer(num_chains, "num_chains")
        engine, units, position = self.engine, self.structure.units, {}
        for key, (name, unit) in zip(engine.random.split(rng, len(units)), units, strict=True):
            eta = engine.xp.broadcast_to(self.bias(name), (num_chains, *self.batch_shape, unit.width))
            position[name] = unit.draw(engine, key, eta, self.layer_arrays(name))
        return position

    @property
    def family(self) -> Structure:
        """The structure: machines of two classes with one structure and equal arrays are one law."""
        return self.structure

    @property
    def block_names(self) -> tuple[str, ...]:
        """Names of the layers, in order."""
        return self.structure.names

    def sums_out(self, blocks: Collection[str]) -> bool:
        """Whether no two of these layers are coupled."""
        return self.structure.independent(blocks)

    def free_energy(self, state: State | Array) -> Array:
        """F = -log sum_out exp(-E) with every layer that is not in the state summed out, shape (...) in nats.

        Args:
            state: some layers' values, or an array for the visible layer alone.

        Raises:
            ValueError: if two of the layers summed out are coupled (see `MeanField` for a bound), or for values of
                another width.
        """
        state = self._named(state)
        out = [n for n in self.structure.names if n not in state]
        if not self.sums_out(out):
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
                terms, centered = self.structure.terms, self.structure.centered
                raw = [t for t in terms if name in t.layers and not centered(t)]  # they know no offset
                total = total + (eta - self.sent(raw, name, s) if raw else eta) @ offset
        return total

    # -- the same law in other forms -----------------------------------------------------------------------------------

    def uncentered(self) -> Self:
        """The machine with the same energy, with its constant, and no offsets or shared biases: what sweeps run."""
        return uncentered(self)

    def recentered(self, offsets: Params) -> Self:
        """The same law p(x) about other offsets: biases and constant move with them.

        Args:
            offsets: layer name -> new offset mu, shape (width,); layers not named keep theirs.

        Raises:
            ValueError: for an unknown layer, or where a neighbor has a shared bias, which cannot take what moves.
        """
        return recentered(self, offsets)

    def decoupled(self) -> Self:
        """The machine with its couplings cut about its offsets: independent layers with the same biases."""
        params = {k: v for k, v in self.params.items() if k in self.structure.layer_shapes}
        params |= {f"{n}.bias": self.bias(n) for n in self.structure.names}
        return self._replace(params=params, structure=Structure(self.structure.units, ()))

    def given(self, state: State, *, missing: State | None = None) -> BoltzmannMachine:
        """The machine over the other layers, these clamped: one machine for each row of the values given.

        Clamped layers become biases, and terms of three layers become dense ones; the constant of the energy is kept,
        so that the log Z of each machine is log f of the values given.

        Args:
            state: layer name -> values, shapes (..., n).
            missing: layer name -> mask, true where a value is not known: those units stay in the machine.

        Raises:
            ValueError: for unknown layers, values of another width or that the units cannot take, masks of other
                shapes, or no layer left.
        """
        missing = {} if missing is None else mapping(missing, "missing", "{'v': mask}")
        structure, params, constants = clamped_parts(self, mapping(state, "a state", "{'x': x}"), missing)
        return self.engine.families["BoltzmannMachine"].from_arrays(structure, params, constants)

    def conditioned(self, data: State) -> tuple[BoltzmannMachine, State]:
        """The machine given what these data condition it on, one a row, and the values of its other layers.

        Args:
            data: layer name -> values, shapes (N, n); those of its `conditions` among them.
        """
        known = {n: data[n] for n in self.structure.conditions}
        return (self.given(known), {n: x for n, x in data.items() if n not in known}) if known else (self, data)

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
