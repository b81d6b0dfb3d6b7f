"""The static half of a Boltzmann machine: which layers there are and which terms join them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from deepgen_ppl.energies.terms import Bias, NoBias, Term
from deepgen_ppl.options import mapping
from deepgen_ppl.units.base import Unit

__all__ = ["Structure"]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Structure:
    """Layers by name and the terms of the energy; hashable, so that compiled functions can be keyed by it.

    Args:
        units: (name, unit) of every layer; the first is the visible one.
        couplings: terms of several layers.
        biases: terms of one layer that take the place of its own bias.
    """

    units: tuple[tuple[str, Unit], ...]
    couplings: tuple[Term, ...]
    biases: tuple[Term, ...] = ()

    @classmethod
    def of(cls, layers: Mapping[str, Unit], terms: Sequence[Term]) -> Structure:
        """Check the names and build the structure.

        Raises:
            TypeError: for a layer that is no unit, or a term that is none.
            ValueError: for names that are no identifiers, an unknown layer in a term, layers joined twice, or no layer.
        """
        mapping(layers, "layers", "{'v': Bernoulli(4), 'h': Bernoulli(3)}")
        if not layers:
            raise ValueError("expected at least one layer, got none")
        if not isinstance(terms, (list, tuple)):
            raise TypeError(f"expected a list of terms, such as [Dense(('v', 'h'))], got {terms!r}")
        for name, unit in layers.items():
            if not isinstance(name, str) or not name.isidentifier():
                raise ValueError(f"expected layer names that are identifiers, such as 'v' or 'h1', got {name!r}")
            if not isinstance(unit, Unit):
                raise TypeError(f"expected a unit such as Bernoulli(4) for the layer {name!r}, got {unit!r}")
        for term in terms:
            if not isinstance(term, Term):
                raise TypeError(f"expected terms such as Dense(('v', 'h')), got {term!r}")
            if unknown := [name for name in term.layers if name not in layers]:
                raise ValueError(f"expected terms over the layers {list(layers)}, got {unknown} in {term}")
        sets = [frozenset(term.layers) for term in terms]
        if len(set(sets)) < len(sets):
            raise ValueError(f"expected each set of layers to be coupled once, got {[t.layers for t in terms]}")
        several = tuple(t for t in terms if len(t.layers) > 1)
        structure = cls(tuple(layers.items()), several, tuple(t for t in terms if len(t.layers) == 1))
        arrays = structure.array_shapes()
        if both := sorted(k for k in structure.layer_shapes if k in arrays or k.endswith((".bias", ".offset"))):
            raise ValueError(f"expected other names for the arrays of the units, got {both}")
        return structure

    @cached_property
    def terms(self) -> tuple[Term, ...]:
        """A bias for every layer that has one, in order, then the couplings."""
        own = {t.layers[0]: t for t in self.biases}
        biases = (own.get(name, Bias((name,))) for name, _ in self.units)
        return (*(t for t in biases if not isinstance(t, NoBias)), *self.couplings)

    @cached_property
    def without_shared_biases(self) -> Structure:
        """The same layers and couplings, with a bias for every component."""
        return Structure(self.units, self.couplings) if self.biases else self

    @cached_property
    def layers(self) -> dict[str, Unit]:
        """Layer name -> unit."""
        return dict(self.units)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Layer names in order."""
        return tuple(self.layers)

    @cached_property
    def visible(self) -> str:
        """Name of the visible layer, the first."""
        return self.names[0]

    @cached_property
    def hidden(self) -> tuple[str, ...]:
        """Names of the other layers."""
        return self.names[1:]

    @cached_property
    def conditions(self) -> tuple[str, ...]:
        """Names of the layers that have no law: their values are always given."""
        return tuple(name for name, unit in self.units if not unit.free)

    def centered(self, term: Term) -> bool:
        """Whether a term reads s - mu: not where it meets values that are given, which take no bias that moves."""
        return term.name in self._centered

    @cached_property
    def _centered(self) -> frozenset[str]:
        return frozenset(t.name for t in self.terms if t.centered and all(self.layers[n].free for n in t.layers))

    @cached_property
    def _neighbors(self) -> dict[str, frozenset[str]]:
        return {
            name: frozenset(n for t in self.couplings if name in t.layers for n in t.layers if n != name)
            for name in self.layers
        }

    def neighbors(self, name: str) -> frozenset[str]:
        """Layers coupled to a layer.

        Raises:
            ValueError: for an unknown layer.
        """
        if name not in self.names:
            raise ValueError(f"expected a layer among {list(self.names)}, got {name!r}")
        return self._neighbors[name]

    def independent(self, names: Iterable[str]) -> bool:
        """Whether no two of these layers are coupled, so that they are independent given the rest."""
        names = set(names)
        return all(not self.neighbors(name) & names for name in names)

    @cached_property
    def colors(self) -> tuple[tuple[str, ...], ...]:
        """Layers grouped so that no two in a group are coupled: greedy, in order; the visible layer has color 0."""
        color: dict[str, int] = {}
        for name in self.names:
            used = {color[other] for other in self.neighbors(name) if other in color}
            color[name] = min(set(range(len(self.names))) - used)
        return tuple(tuple(n for n in self.names if color[n] == k) for k in range(max(color.values()) + 1))

    @cached_property
    def sweep(self) -> tuple[tuple[str, ...], ...]:
        """Order of block Gibbs: the colors, the visible layer's own last."""
        return (*self.colors[1:], self.colors[0])

    def log2_states(self, names: Iterable[str]) -> float:
        """log2 of the number of joint states of these layers; infinite for densities."""
        counts = [(unit.size, unit.states) for unit in (self.layers[n] for n in names)]
        return float(sum(np.inf if states is None else size * np.log2(len(states)) for size, states in counts))

    @cached_property
    def smaller_side(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(keep, out): the color `out` that leaves the fewest joint states in `keep` when it is summed out."""
        options = [(tuple(n for n in self.names if n not in out), out) for out in self.colors]
        return min(options, key=lambda option: self.log2_states(option[0]))

    # -- arrays: their names, shapes and leading axes

    @cached_property
    def keys(self) -> dict[str, tuple[str, ...]]:
        """Name of a term -> names of its arrays."""
        widths = {name: unit.width for name, unit in self.units}
        return {t.name: tuple(t.shapes(widths)) for t in self.terms}

    def array_shapes(self) -> dict[str, Shape]:
        """Shapes of the arrays of all terms by name (`v.bias`, `v-h.weight`)."""
        widths = {name: unit.width for name, unit in self.units}
        return {f"{t.name}.{k}": shape for t in self.terms for k, shape in t.shapes(widths).items()}

    @cached_property
    def layer_shapes(self) -> dict[str, Shape]:
        """Shapes of the units' own arrays (`v.log_sigma`)."""
        return {f"{n}.{k}": v.shape for n, unit in self.units for own in unit.init_arrays() for k, v in own.items()}

    @cached_property
    def batched(self) -> dict[str, Shape]:
        """Shapes of the arrays that may have leading axes, one machine a row."""
        own = {f"{t.name}.{k}" for t in self.terms if t.batched for k in self.keys[t.name]}
        return {k: v for k, v in self.array_shapes().items() if k in own} | self.layer_shapes | {"energy_offset": ()}

    def batch_shape(self, got: Mapping[str, Shape]) -> Shape:
        """Leading axes of all arrays, broadcast: () for one machine.

        Raises:
            ValueError: if they do not broadcast.
        """
        leads = {k: got[k][: len(got[k]) - len(core)] for k, core in self.batched.items() if k in got}
        try:
            return np.broadcast_shapes(*leads.values())
        except ValueError:
            leads = {k: lead for k, lead in leads.items() if lead}
            raise ValueError(f"expected leading axes that broadcast, one machine a row, got {leads}") from None

    def check_shapes(self, got: Mapping[str, Shape]) -> None:
        """Check names and shapes of all arrays of a machine.

        Raises:
            ValueError: for missing or unknown names, or other shapes.
        """
        needed = self.array_shapes() | self.layer_shapes
        optional: dict[str, Shape] = {"energy_offset": ()} | {f"{n}.offset": (u.width,) for n, u in self.units}
        missing, unknown = needed.keys() - got.keys(), got.keys() - needed.keys() - optional.keys()
        if missing or unknown:
            raise ValueError(
                f"expected the arrays {sorted(needed)}, got {sorted(got)}: "
                f"missing {sorted(missing)}, unknown {sorted(unknown)}"
            )
        for k, shape in got.items():
            core = (needed | optional)[k]
            fits = shape == core or (k in self.batched and shape[len(shape) - len(core) :] == core)
            if not fits or len(shape) < len(core):
                raise ValueError(f"expected {k} of shape {core}, got shape {shape}")
        self.batch_shape(got)

    def describe(self) -> str:
        """One line with kinds and sizes, as in `v: Bernoulli(784), h: Bernoulli(500); v-h`."""
        units = ", ".join(f"{n}: {u!r}".replace("size=", "") for n, u in self.units)
        return f"{units}; {', '.join(t.name for t in self.couplings)}"
