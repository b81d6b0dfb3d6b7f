"""The state of an instance: networks, machines, arrays and constants, each by name, as programs and energies keep it.

All their arrays have the names that the host sees: `decoder.layers.0.kernel`, `prior.v.bias`, `log_sigma`, behind the
instance's own name where it has one.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any, ClassVar, Self

import numpy as np

from deepgen_ppl.engine import Engine
from deepgen_ppl.model import Model
from deepgen_ppl.options import instance, mapping, numbers, text
from deepgen_ppl.typing import Array, ArrayDict, Params

__all__ = ["PARTS", "Stateful"]

PARTS = ("networks", "machines", "arrays", "own_constants")
"""The attributes that hold the state."""


class Stateful(Model):
    """A model whose state `build` sets: networks, machines, arrays and constants; see `Program`."""

    options: ClassVar[tuple[str, ...]] = ()
    name: str = ""
    # what the face's own base gives: the parts of the state, and how to keep them
    networks: Any
    machines: Any
    arrays: Any
    own_constants: Any
    _hold: Any

    def __init_subclass__(cls, engine: Engine | None = None, **kwargs: Any) -> None:
        if cls.dynamic_fields in ((), PARTS):  # else its state is in attributes of its own
            cls.dynamic_fields = PARTS
            cls.static_fields = (*cls.options, "name")
        super().__init_subclass__(engine=engine, **kwargs)

    def build(
        self,
        *,
        networks: Mapping[str, Any] | None = None,
        machines: Mapping[str, Model] | None = None,
        arrays: Params | None = None,
        constants: Params | None = None,
        name: str = "",
    ) -> None:
        """Set the state.

        Args:
            networks: name -> native network of the engine.
            machines: name -> machine of the same face.
            arrays: name -> array to be trained.
            constants: name -> array that is not.
            name: prefix of all names.

        Raises:
            TypeError: for networks or machines of another kind, or something else than dicts of them.
            ValueError: for names that are given twice, or arrays to be trained that are not finite real numbers.
        """
        nn, asarray = self.engine.nn, self.engine.arrays.asarray
        given = {"networks": networks, "machines": machines, "arrays": arrays, "constants": constants}
        named = {k: {} if v is None else mapping(v, k, "{'a': ...}") for k, v in given.items()}
        parts: dict[str, Any] = {
            "networks": {k: nn.wrap(v) for k, v in named["networks"].items()},
            "machines": {k: _machine(k, v) for k, v in named["machines"].items()},
            "arrays": {k: self._trained(k, v) for k, v in named["arrays"].items()},
            "own_constants": {k: asarray(v) for k, v in named["constants"].items()},
        }
        heads = [k for part in ("networks", "machines") for k in parts[part]]
        heads += sorted({k.partition(".")[0] for k in (*parts["arrays"], *parts["own_constants"])})
        names = [k for part in parts.values() for k in part]
        if len(set(heads)) < len(heads) or len(set(names)) < len(names) or any("." in k or not k for k in heads):
            raise ValueError(
                f"expected networks, machines, arrays and constants of different names, got {sorted(names)}"
            )
        self.name = text(name, "name", empty=True)
        self._hold(**parts)

    def _trained(self, name: str, x: Any) -> Array:
        """An array to be trained: real, floating, and finite where its values can be read."""
        x = numbers(x, name)
        x = self.engine.arrays.asarray(x, dtype="float32" if "int" in str(x.dtype) else None)
        if not getattr(x, "requires_grad", False) and self.engine.arrays.is_concrete(x):
            self._check_finite(name, x)
        return x

    def site(self, name: str) -> str:
        """Name of a host parameter: behind the model's own name, if it has one."""
        return f"{self.name}.{name}" if self.name else name

    # -- arrays go in and out ------------------------------------------------------------------------------------------

    @property
    def params(self) -> ArrayDict:
        """All trained arrays, under the names that the host sees."""
        return self._flat(self.engine.nn.params, lambda machine: machine.params, self.arrays)

    @property
    def constants(self) -> ArrayDict:
        """All other arrays: buffers and frozen parameters of networks, constants of machines, and those of its own."""
        return self._flat(self.engine.nn.constants, lambda machine: machine.constants, self.own_constants)

    def _flat(self, of_network: Any, of_machine: Any, own: Params) -> ArrayDict:
        parts = {n: of_network(net) for n, net in self.networks.items()}
        parts |= {n: of_machine(machine) for n, machine in self.machines.items()}
        inner = {self.site(f"{n}.{k}"): v for n, part in parts.items() for k, v in part.items()}
        return ArrayDict(inner | {self.site(k): v for k, v in own.items()})

    @property
    def like(self) -> Array:
        """An array of the model's dtype and device."""
        # asked for several times a step: the first array is found without a dict of all
        parts = chain(
            (self.engine.nn.params(net) for net in self.networks.values()),
            (machine.params for machine in self.machines.values()),
            (self.arrays,),
        )
        first = next((part for part in parts if part), None) or self.constants
        return next(iter(first.values()))

    def with_params(self, params: Params) -> Self:
        """The same model with other trained arrays; names not given keep theirs. Differentiable.

        Raises:
            ValueError: for unknown names, other shapes, or NaN and infinite values that can be seen now.
        """
        return self._with(params, self.params, "parameters")

    def with_constants(self, constants: Params) -> Self:
        """The same model with other untrained arrays; names not given keep theirs.

        Raises:
            ValueError: as `with_params`.
        """
        return self._with(constants, self.constants, "constants")

    def _with(self, given: Params, own: Params, what: str) -> Self:
        trained = what == "parameters"
        mapping(given, what, "{'a': ...}")
        if unknown := sorted(given.keys() - own.keys(), key=str):
            raise ValueError(f"expected {what} among {sorted(own)}, got {unknown}")
        for k, v in given.items():
            if tuple(np.shape(numbers(v, k) if trained else v)) != tuple(own[k].shape):
                raise ValueError(f"expected {k} of shape {tuple(own[k].shape)}, got shape {tuple(np.shape(v))}")
        new = {k: self.engine.arrays.asarray(v, like=own[k]) for k, v in given.items()}
        for k, v in new.items():
            if not getattr(v, "requires_grad", False) and self.engine.arrays.is_concrete(v):
                self._check_finite(k, v)
        update = (lambda m, a: m.with_params(a)) if trained else (lambda m, a: m.with_constants(a))
        inner = {n: self._inside(n, new) for n in (*self.networks, *self.machines)}
        field = "arrays" if trained else "own_constants"
        return self._replace(
            networks={n: self.engine.nn.with_arrays(net, inner[n]) for n, net in self.networks.items()},
            machines={n: update(machine, inner[n]) for n, machine in self.machines.items()},
            **{field: {k: new.get(self.site(k), v) for k, v in getattr(self, field).items()}},
        )

    def _inside(self, part: str, arrays: Params) -> dict[str, Array]:
        head = self.site(part) + "."
        return {k.removeprefix(head): v for k, v in arrays.items() if k.startswith(head)}

    def _check_finite(self, name: str, array: Array) -> None:
        values = self.engine.arrays.to_numpy(array)
        if bad := int((~np.isfinite(values)).sum()):
            raise ValueError(f"expected finite values in {name}, got {bad} NaN or infinite of {values.size}")

    def _replace(self, **changes: Any) -> Self:
        """A model of the same class with some attributes changed."""
        new = type(self).__new__(type(self))
        new._hold(**{f: changes.get(f, getattr(self, f)) for f in self.dynamic_fields})
        for f in self.static_fields:
            setattr(new, f, changes.get(f, getattr(self, f)))
        return new


def _machine(name: str, value: Any) -> Model:
    if not hasattr(instance(value, f"the machine {name!r}", Model, "a machine"), "energy"):
        raise TypeError(f"expected a machine for the machine {name!r}, got {value!r}")
    return value
