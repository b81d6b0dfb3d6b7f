r"""The geometric path between machines.

    E_beta = (1 - beta) E_a + beta E_b,    0 <= beta <= 1

is again a machine with the same layers: energies are linear in biases, weights and precisions. A ladder of machines
E_0, .., E_K is a path of K such segments of equal length,

    E_beta = E_0 + sum_k t_k(beta) (E_k - E_(k-1)),    t_k(beta) = min(max(K beta - k + 1, 0), 1)

`Path` never builds E_beta in a hot loop: it keeps the natural parameters that all its machines send to a layer, so that
one matrix product serves every beta, and none is spent on a machine without couplings. beta is a number or an array
(...) that is broadcast against the leading axes of the states: (R,) for replicas, (C, R) for chains of them.

References: Annealed Importance Sampling (Neal, 2001), eq. 3; On the Quantitative Analysis of Deep Belief Networks
(Salakhutdinov & Murray, 2008), eq. 16-19.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from deepgen_ppl.energies.machine import BoltzmannMachine
from deepgen_ppl.typing import Array, Rng, State

__all__ = ["Path"]


def _check_statistics(a: BoltzmannMachine, b: BoltzmannMachine) -> None:
    """Check that layers of two machines have one statistic, where arrays can be read.

    Raises:
        ValueError: with the array that differs.
    """
    arrays = a.engine.arrays
    for name, unit in a.structure.units:
        for key in unit.statistic_arrays:
            own, other = a.layer_arrays(name)[key], b.layer_arrays(name)[key]
            readable = arrays.is_concrete(own) and arrays.is_concrete(other)
            if readable and not np.array_equal(arrays.to_numpy(own), arrays.to_numpy(other)):
                raise ValueError(f"expected two machines with the same {name}.{key}, got {a!r} and {b!r}")


Sent = tuple[Array, ...]
"""What each machine of the path sends to a layer."""


class Path:
    """E_beta between two machines, or along a ladder of several. Their offsets are folded into their biases.

    Args:
        machines: two or more with the same layers, in the order of beta; the couplings of all are among the last one's.

    Raises:
        ValueError: if the layers differ, or a machine has couplings of its own.
    """

    dynamic_fields: ClassVar[tuple[str, ...]] = ("machines",)
    static_fields: ClassVar[tuple[str, ...]] = ()

    def __init__(self, *machines: BoltzmannMachine) -> None:
        if len(machines) < 2:
            raise ValueError(f"expected at least two machines, got {len(machines)}")
        end = machines[-1].structure
        for m in machines[:-1]:
            if m.structure.units != end.units:
                raise ValueError(f"expected two machines with the same layers, got {m!r} and {machines[-1]!r}")
            _check_statistics(m, machines[-1])
            if own := [c.name for c in m.structure.couplings if c not in end.couplings]:
                raise ValueError(f"expected couplings that the last machine has too, got {own} in {m!r}")
        self.machines = tuple(m.uncentered() for m in machines)

    @property
    def start(self) -> BoltzmannMachine:
        """The machine at beta = 0, uncentered."""
        return self.machines[0]

    @property
    def end(self) -> BoltzmannMachine:
        """The machine at beta = 1, uncentered."""
        return self.machines[-1]

    def _parts(self, beta: Array) -> list[Array]:
        """t_k(beta) of each segment."""
        count = len(self.machines) - 1
        if count == 1:
            return [beta]
        beta = self._array(beta)
        return [self.end.engine.xp.clip(count * beta - k, 0.0, 1.0) for k in range(count)]

    def _array(self, beta: Array) -> Array:
        return self.end.engine.arrays.asarray(beta, like=self.end.like)

    def _of_units(self, beta: Array) -> Array:
        """beta beside arrays whose last axis is that of units."""
        beta = self._array(beta)
        return beta[..., None] if beta.ndim else beta

    def _mix(self, beta: Array, values: Sent) -> Array:
        mixed, mix = values[0], self.end.engine.arrays.mix
        for k, t in enumerate(self._parts(beta)):
            mixed = mix(t, mixed, values[k + 1])
        return mixed

    def at(self, beta: float) -> BoltzmannMachine:
        """The machine at one beta (an uncentered one)."""
        end = self.end
        params = {
            k: self._mix(beta, tuple(m.params.get(k, 0.0 * v) for m in self.machines)) for k, v in end.params.items()
        }
        constants = dict(end.constants)
        for name in end.structure.names:
            for k, v in self.layer_arrays(name, beta).items():
                (params if f"{name}.{k}" in params else constants)[f"{name}.{k}"] = v
        zero = 0.0 * end.like[0]
        constants["energy_offset"] = self._mix(
            beta, tuple(m.constants.get("energy_offset", zero) for m in self.machines)
        )
        return end._replace(params=params, constants=constants)

    def layer_arrays(self, name: str, beta: Array) -> dict[str, Array]:
        """Arrays of the base measure of a layer at beta, a number or an array (..., 1)."""
        unit, arrays = self.end.structure.layers[name], self.start.layer_arrays(name)
        if not arrays:
            return arrays
        for t, machine in zip(self._parts(beta), self.machines[1:], strict=True):
            arrays = unit.mix(self.end.engine, t, arrays, machine.layer_arrays(name))
        return arrays

    def natural(self, name: str, s: Mapping[str, Array]) -> Sent:
        """What all machines send to a layer, from which its natural parameter at any beta is mixed."""
        return tuple(m.natural(name, s) for m in self.machines)

    def summed_out(self, keep: State) -> dict[str, Sent]:
        """`natural` of the color of layers that is summed out, given the layers kept (`Structure.smaller_side`)."""
        s = self.end.statistics(keep)
        return {name: self.natural(name, s) for name in self.end.structure.smaller_side[1]}

    def draw(self, rng: Rng, name: str, sent: Sent, beta: Array) -> Array:
        """A draw of a layer from its conditional at beta, shape (..., n)."""
        unit = self.end.structure.layers[name]
        beta = self._of_units(beta)
        return unit.draw(self.end.engine, rng, self._mix(beta, sent), self.layer_arrays(name, beta))

    def transition(
        self, rng: Rng, keep: State, sent: Mapping[str, Sent], beta: Array, *, backward: bool = False
    ) -> dict[str, Array]:
        """Draw the layers summed out, then the layers kept, color by color: leaves p_beta invariant.

        Args:
            rng: generator.
            keep: values of the layers kept, shapes (..., n).
            sent: `summed_out(keep)`.
            beta: inverse temperatures.
            backward: draw the layers kept in the reversed order. The two orders are each other's reversal, as moves of
                the layers kept: p(x) T(x, x') = p(x') T_backward(x', x).

        Returns:
            Values of all layers; those summed out are given the old values of the layers kept.
        """
        structure, split = self.end.structure, self.end.engine.random.split
        groups = [group for group in structure.sweep if group[0] in keep]
        keys = iter(split(rng, len(structure.names)))
        state = {name: self.draw(next(keys), name, pair, beta) for name, pair in sent.items()} | dict(keep)
        for group in reversed(groups) if backward else groups:
            s = self.end.statistics(state)
            state = state | {name: self.draw(next(keys), name, self.natural(name, s), beta) for name in group}
        return state

    def _rises(self, keep: State) -> list[Array]:
        """E_k - E_(k-1) of each segment, of the layers kept, shapes (...) in nats."""
        s = self.end.statistics(keep)
        energies = [m.linear_energy(s) - m.log_base(keep) for m in self.machines]
        return [high - low for low, high in itertools.pairwise(energies)]

    def slope(self, state: State, beta: Array = 0.0) -> Array:
        """dE_beta/d beta of full states, shape (...) in nats; the same at every beta between two machines."""
        rises = self._rises(state)
        count, xp = len(rises), self.end.engine.xp
        segment = xp.clip(xp.floor(count * self._array(beta)), 0, count - 1)
        return sum(xp.where(segment == k, count * rise, 0.0 * rise) for k, rise in enumerate(rises))

    def log_ratio(self, keep: State, sent: Mapping[str, Sent], low: Array, high: Array) -> Array:
        """log f_high(x_keep) - log f_low(x_keep) with the layers of `sent` summed out, shape (...) in nats.

        The linear part is scaled by (high - low) at once and the rest differs unit by unit, so that nothing is lost to
        the cancellation of two large free energies. Full states have an empty `sent`.

        Args:
            keep: values of the layers kept.
            sent: for each layer summed out, `natural` given the layers kept.
            low: one beta.
            high: the other.
        """
        engine, total = self.end.engine, 0.0
        for t_low, t_high, rise in zip(self._parts(low), self._parts(high), self._rises(keep), strict=True):
            total = total - (t_high - t_low) * rise
        for name, pair in sent.items():
            unit = self.end.structure.layers[name]
            low_a, high_a = (
                unit.log_partition(engine, self._mix(beta, pair), self.layer_arrays(name, beta))
                for beta in (self._of_units(low), self._of_units(high))
            )
            total = total + engine.xp.sum(high_a - low_a, axis=-1)
        return total
