r"""The geometric path between two machines.

    E_beta = (1 - beta) E_a + beta E_b,    0 <= beta <= 1

is again a machine with the same layers: energies are linear in biases, weights and precisions. `Path` never builds it
in a hot loop: it keeps the natural parameters that both ends send to a layer, so that one matrix product serves every
beta, and none is spent on an end without couplings.

Reference: Annealed Importance Sampling (Neal, 2001), eq. 3; On the Quantitative Analysis of Deep Belief Networks
(Salakhutdinov & Murray, 2008), eq. 16-19.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from deepgen_ppl.energies.machine import BoltzmannMachine
from deepgen_ppl.typing import Array, Rng

__all__ = ["Path"]

Pair = tuple[Array, Array]


class Path:
    """E_beta = (1 - beta) E_a + beta E_b. The offsets of both ends are folded into their biases.

    Args:
        start: machine at beta = 0.
        end: machine at beta = 1, with the same layers.

    Raises:
        ValueError: if the layers differ.
    """

    dynamic_fields: ClassVar[tuple[str, ...]] = ("start", "end")
    static_fields: ClassVar[tuple[str, ...]] = ()

    def __init__(self, start: BoltzmannMachine, end: BoltzmannMachine) -> None:
        if start.structure.units != end.structure.units:
            raise ValueError(f"expected two machines with the same layers, got {start!r} and {end!r}")
        self.start, self.end = start.uncentered(), end.uncentered()

    def at(self, beta: float) -> BoltzmannMachine:
        """The machine at beta (an uncentered one)."""
        a, b, mix = self.start, self.end, self.end.engine.arrays.mix
        params = {k: mix(beta, a.params.get(k, 0.0 * v), v) for k, v in b.params.items()}
        constants = dict(b.constants)
        for name in b.structure.names:
            for k, v in self.layer_arrays(name, beta).items():
                (params if f"{name}.{k}" in params else constants)[f"{name}.{k}"] = v
        constants["energy_offset"] = mix(beta, *self._offsets())
        return b._replace(params=params, constants=constants)

    def _offsets(self) -> Pair:
        zero = 0.0 * self.end.like[0]
        return tuple(m.constants.get("energy_offset", zero) for m in (self.start, self.end))

    def layer_arrays(self, name: str, beta: Array) -> dict[str, Array]:
        """Arrays of the base measure of a layer at beta."""
        unit = self.end.structure.layers[name]
        return unit.mix(self.end.engine, beta, self.start.layer_arrays(name), self.end.layer_arrays(name))

    def natural(self, name: str, s: Mapping[str, Array]) -> Pair:
        """What both ends send to a layer; `mix` of the two is its natural parameter at any beta."""
        return self.start.natural(name, s), self.end.natural(name, s)

    def draw(self, rng: Rng, name: str, pair: Pair, beta: Array) -> Array:
        """A draw of a layer from its conditional at beta."""
        engine = self.end.engine
        unit = self.end.structure.layers[name]
        return unit.draw(engine, rng, engine.arrays.mix(beta, *pair), self.layer_arrays(name, beta))

    def log_ratio(self, keep: Mapping[str, Array], pairs: Mapping[str, Pair], low: Array, high: Array) -> Array:
        """log f_high(x_keep) - log f_low(x_keep) with the layers of `pairs` summed out, shape (...) in nats.

        The linear part is scaled by (high - low) at once and the rest differs unit by unit, so that nothing is lost to
        the cancellation of two large free energies.

        Args:
            keep: values of the layers kept.
            pairs: for each layer summed out, `natural` given the layers kept.
            low: the smaller beta.
            high: the larger beta.
        """
        a, b, engine = self.start, self.end, self.end.engine
        s = b.statistics(keep)
        slope = (a.linear_energy(s) - a.log_base(keep)) - (b.linear_energy(s) - b.log_base(keep))
        total = (high - low) * slope
        for name, pair in pairs.items():
            unit = b.structure.layers[name]
            low_a, high_a = (
                unit.log_partition(engine, engine.arrays.mix(beta, *pair), self.layer_arrays(name, beta))
                for beta in (low, high)
            )
            total = total + engine.xp.sum(high_a - low_a, axis=-1)
        return total
