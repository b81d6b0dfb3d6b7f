"""What a Boltzmann machine is made of: a structure and two flat dicts of arrays, checked and immutable."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from deepgen_ppl.energies.energy import Block, Energy
from deepgen_ppl.energies.normalizable import check_normalizable
from deepgen_ppl.energies.structure import Structure
from deepgen_ppl.energies.terms import Term
from deepgen_ppl.options import mapping, numbers, precision
from deepgen_ppl.typing import Array, ArrayDict, Params
from deepgen_ppl.units.base import Unit

__all__ = ["Parts"]


class Parts(Energy):
    """Layers, terms and arrays; what law they make is `BoltzmannMachine`'s.

    Names and shapes are always checked. Values are checked where they can be read and no derivative with respect to
    them is taken: inside a potential, NaN or improper arrays make a density that is not finite, and nothing raises.
    """

    dynamic_fields: ClassVar[tuple[str, ...]] = ("_params", "_constants")
    static_fields: ClassVar[tuple[str, ...]] = ("structure",)
    _params: ArrayDict
    _constants: ArrayDict
    structure: Structure

    def __init__(
        self,
        layers: Mapping[str, Unit],
        terms: Sequence[Term],
        params: Params,
        constants: Params | None = None,
    ) -> None:
        structure, arrays = Structure.of(layers, terms), "{'v.bias': b, 'v-h.weight': W}"
        constants = {} if constants is None else mapping(constants, "constants", "{'v.offset': mu}")
        self._build(structure, mapping(params, "params", arrays), constants)

    def _build(self, structure: Structure, params: Params, constants: Params) -> None:
        params = {k: self._array(k, v) for k, v in params.items()}
        constants = {k: self._array(k, v) for k, v in constants.items()}
        for name, unit in structure.units:
            if f"{name}.bias" in params:
                like = params[f"{name}.bias"]
                trained, fixed = unit.init_arrays()  # a layer's own arrays start at these where they are not given
                params = {f"{name}.{k}": self._array(k, v, like) for k, v in trained.items()} | params
                constants = {f"{name}.{k}": self._array(k, v, like) for k, v in fixed.items()} | constants
        structure.check_shapes({k: tuple(v.shape) for k, v in {**params, **constants}.items()})
        self._set(structure=structure, _params=ArrayDict(params), _constants=ArrayDict(constants))
        self._check_values()

    @classmethod
    def from_arrays(cls, structure: Structure, params: Params, constants: Params) -> Self:
        """A machine of this class from its structure and flat dicts of arrays."""
        machine = object.__new__(cls)
        Parts._build(machine, structure, params, constants)
        return machine

    def _array(self, name: str, x: Any, like: Array | None = None) -> Array:
        """An array of the engine, floating; numbers of another kind are refused."""
        x = numbers(x, name)
        if like is not None:
            return self.engine.arrays.asarray(x, like=like)
        return self.engine.arrays.asarray(x, dtype="float32" if "int" in str(x.dtype) else None)

    def _check_values(self) -> None:
        """Check that all arrays are finite and that exp(-E) has a finite sum.

        Raises:
            ValueError: if not. Arrays that are traced or differentiated are not checked.
        """
        arrays = {**self.params, **self.constants}
        if all(self.engine.arrays.is_constant(v) for v in arrays.values()):
            for k, v in arrays.items():
                if bad := int((~np.isfinite(self.engine.arrays.to_numpy(v))).sum()):
                    size = int(np.prod(v.shape))
                    raise ValueError(f"expected finite values in {k}, got {bad} NaN or infinite of {size}")
            self.check_normalizable()

    def check_normalizable(self) -> None:
        """Check that exp(-E) has a finite sum; see `normalizable`.

        Raises:
            ValueError: if it has not, or if that cannot be decided. Arrays that are traced are not checked.
        """
        arrays = {**self.params, **self.constants}
        if all(self.engine.arrays.is_concrete(v) for v in arrays.values()):
            check_normalizable(self.engine, self.structure, arrays)

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

    # -- updates -------------------------------------------------------------------------------------------------------

    def with_params(self, params: Params) -> Self:
        """The same machine with other trained arrays; names not given keep theirs.

        Biases, dense weights and the arrays of the units may have leading axes: one machine a row.

        Raises:
            ValueError: for unknown names, other shapes or kinds, values that are not finite, or a machine that has no
                normalizer.
        """
        return self._updated("params", params)

    def with_constants(self, constants: Params) -> Self:
        """The same machine with other offsets, or known scales.

        Raises:
            ValueError: for unknown names, other shapes or kinds, values that are not finite, or a machine that has no
                normalizer.
        """
        return self._updated("constants", constants)

    def _updated(self, field: str, arrays: Params) -> Self:
        own: dict[str, Array] = getattr(self, field)
        mapping(arrays, field, "{'v.bias': b}")
        if unknown := sorted(arrays.keys() - own.keys(), key=str):
            raise ValueError(f"expected {field} among {sorted(own)}, got {unknown}")
        moved = {**own, **{k: self._array(k, v, own[k]) for k, v in arrays.items()}}
        new = self._replace(params=moved) if field == "params" else self._replace(constants=moved)
        new.structure.check_shapes({k: tuple(v.shape) for k, v in {**new.params, **new.constants}.items()})
        new._check_values()
        return new

    def _replace(
        self, *, params: Params | None = None, constants: Params | None = None, structure: Structure | None = None
    ) -> Self:
        new = copy.copy(self)
        new._set(
            structure=self.structure if structure is None else structure,
            _params=self._params if params is None else ArrayDict(params),
            _constants=self._constants if constants is None else ArrayDict(constants),
        )
        return new

    def astype(self, dtype: str) -> Self:
        """The same machine in `float32` or `float64`."""
        dtype = precision(dtype)
        cast = {k: self.engine.arrays.asarray(v, dtype=dtype) for k, v in {**self.params, **self.constants}.items()}
        return self._replace(params={k: cast[k] for k in self.params}, constants={k: cast[k] for k in self.constants})

    # -- what there is -------------------------------------------------------------------------------------------------

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Leading axes of its arrays: () for one machine, (N,) for one a row."""
        return self.structure.batch_shape({k: tuple(v.shape) for k, v in {**self.params, **self.constants}.items()})

    @property
    def blocks(self) -> dict[str, Block]:
        """One block a layer."""
        return {n: Block((u.size,), u.support(self.engine), u.integer) for n, u in self.structure.units}

    @property
    def observed(self) -> dict[str, Unit]:
        """The visible layer."""
        return {self.structure.visible: self.structure.layers[self.structure.visible]}

    @property
    def units(self) -> dict[str, Unit]:
        """The units of all layers: the data may name any."""
        return self.structure.layers

    @property
    def conditions(self) -> tuple[str, ...]:
        """What must be given before the machine has a law: its layers of `Given` units."""
        return self.structure.conditions

    def check_given(self, what: str) -> None:
        """Check that nothing is left that must be given.

        Args:
            what: what is asked of the machine.

        Raises:
            ValueError: for a machine that is one for each value of something that is not given.
        """
        if names := self.conditions:
            state = ", ".join(f"{n!r}: {n}" for n in names)
            raise ValueError(
                f"expected a machine given {' and '.join(names)} for {what}, got {self!r}, one for each value: "
                f"use machine.given({{{state}}})"
            )

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
        arrays = {k: self.params[f"{name}.{k}"] for k in trained}
        return arrays | {k: self.constants[f"{name}.{k}"] for k in fixed}

    def term_arrays(self, term: Term) -> dict[str, Array]:
        """Arrays of one term."""
        return {k: self.params[f"{term.name}.{k}"] for k in self.structure.keys[term.name]}

    def to_file(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Units and terms as JSON, and all arrays."""
        structure, to_numpy = self.structure, self.engine.arrays.to_numpy
        config = {
            "layers": [[name, unit.to_json()] for name, unit in structure.units],
            "couplings": [t.to_json() for t in (*structure.couplings, *structure.biases)],
        }
        arrays = {f"params.{k}": to_numpy(v) for k, v in self.params.items()}
        return config, arrays | {f"constants.{k}": to_numpy(v) for k, v in self.constants.items()}

    @classmethod
    def from_file(cls, config: Mapping[str, Any], arrays: Mapping[str, np.ndarray], **networks: Any) -> Self:
        """Inverse of `to_file`."""
        if networks:
            raise TypeError(f"expected no networks to load a {cls.__name__}, got {sorted(networks)}")
        layers = {name: Unit.from_json(unit) for name, unit in config["layers"]}
        structure = Structure.of(layers, [Term.from_json(t) for t in config["couplings"]])
        params, constants = (
            {k.removeprefix(own): v for k, v in arrays.items() if k.startswith(own)}
            for own in ("params.", "constants.")
        )
        return cls.from_arrays(structure, params, constants)

    def __repr__(self) -> str:
        centered = ", centered" if any(k.endswith(".offset") for k in self.constants) else ""
        batch = f", {self.batch_shape} machines" if self.batch_shape else ""
        return f"{type(self).__name__}({self.structure.describe()}{centered}{batch}; {self.like.dtype})"
