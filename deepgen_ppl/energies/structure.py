"""The static half of a Boltzmann machine: which layers there are and how they are coupled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from deepgen_ppl.energies.terms import Coupling
from deepgen_ppl.units.base import Unit

__all__ = ["Structure"]


@dataclass(frozen=True)
class Structure:
    """Layers by name and the couplings between them; hashable, so that compiled functions can be keyed by it.

    Args:
        units: (name, unit) of every layer; the first is the visible one.
        couplings: interactions of the layers.
    """

    units: tuple[tuple[str, Unit], ...]
    couplings: tuple[Coupling, ...]

    @classmethod
    def of(cls, layers: Mapping[str, Unit], couplings: Sequence[Coupling]) -> Structure:
        """Check the names and build the structure.

        Raises:
            ValueError: for an unknown layer in a coupling, a pair coupled twice, or no layer at all.
        """
        if not layers:
            raise ValueError("expected at least one layer, got none")
        for c in couplings:
            if unknown := [name for name in c.layers if name not in layers]:
                raise ValueError(f"expected couplings between the layers {list(layers)}, got {unknown} in {c}")
        pairs = [frozenset(c.layers) for c in couplings]
        if len(set(pairs)) < len(pairs):
            raise ValueError(f"expected each set of layers to be coupled once, got {[c.layers for c in couplings]}")
        return cls(tuple(layers.items()), tuple(couplings))

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

    def neighbors(self, name: str) -> frozenset[str]:
        """Layers coupled to a layer."""
        return frozenset(other for c in self.couplings if name in c.layers for other in c.layers if other != name)

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

    def array_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the biases and weights by name (`v.bias`, `v-h.weight`)."""
        widths = {name: unit.width for name, unit in self.units}
        shapes: dict[str, tuple[int, ...]] = {f"{name}.bias": (width,) for name, width in widths.items()}
        shapes |= {f"{c.name}.weight": c.weight_shape(widths) for c in self.couplings}
        return shapes

    def check_shapes(self, got: Mapping[str, tuple[int, ...]]) -> None:
        """Check names and shapes of all arrays of a machine.

        Raises:
            ValueError: for missing or unknown names, or other shapes.
        """
        needed = self.array_shapes()
        optional: dict[str, tuple[int, ...]] = {"energy_offset": ()}
        for name, unit in self.units:
            trained, fixed = unit.init_arrays()
            needed |= {f"{name}.{k}": v.shape for k, v in (trained | fixed).items()}
            optional |= {f"{name}.offset": (unit.width,)}
        missing, unknown = needed.keys() - got.keys(), got.keys() - needed.keys() - optional.keys()
        if missing or unknown:
            raise ValueError(
                f"expected the arrays {sorted(needed)}, got {sorted(got)}: "
                f"missing {sorted(missing)}, unknown {sorted(unknown)}"
            )
        for k, shape in got.items():
            if shape != (expected := (needed | optional)[k]):
                raise ValueError(f"expected {k} of shape {expected}, got shape {shape}")

    def describe(self) -> str:
        """One line with kinds and sizes, as in `v: Bernoulli(784), h: Bernoulli(500); v-h`."""
        return (
            ", ".join(f"{n}: {u!r}".replace("size=", "") for n, u in self.units)
            + "; "
            + ", ".join(c.name for c in self.couplings)
        )
