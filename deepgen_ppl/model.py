"""What every model of the library is, directed or undirected: arrays, an engine, and a name that files know."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np

from deepgen_ppl.engine import Engine
from deepgen_ppl.registry import name_in_files
from deepgen_ppl.typing import Array, Params

__all__ = ["Model"]


class Model(ABC):
    """Base of programs and energies. It gets its engine from a face, or from a base class that has one.

    To be an argument of compiled functions on JAX a class names its attributes: arrays (or trees of them) in
    `dynamic_fields`, hashable ones in `static_fields`.
    """

    engine: ClassVar[Engine]
    dynamic_fields: ClassVar[tuple[str, ...]] = ()
    static_fields: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, engine: Engine | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if engine is not None:
            cls.engine = engine
            cls.__doc__ = cls.__doc__ or next(base.__doc__ for base in cls.__mro__ if base.__doc__)
        if hasattr(cls, "engine"):
            cls.engine.families[name_in_files(cls)] = cls
            if cls.dynamic_fields:
                cls.engine.register(cls)

    @property
    @abstractmethod
    def params(self) -> Mapping[str, Array]:
        """All trained arrays, by the names that the host sees."""

    @property
    def constants(self) -> Mapping[str, Array]:
        """Arrays that are never trained: none by default."""
        return {}

    @abstractmethod
    def with_params(self, params: Params) -> Self:
        """The same model with other trained arrays; names not given keep theirs."""

    @abstractmethod
    def with_constants(self, constants: Params) -> Self:
        """The same model with other untrained arrays; names not given keep theirs."""

    @property
    def observed(self) -> Mapping[str, Any]:
        """What is observed of each datum: name -> unit that says what it looks like. Nothing is checked by default."""
        return {}

    @property
    def conditions(self) -> tuple[str, ...]:
        """Names of what the law of the data is conditioned on, which data must have where they are among `inputs`."""
        return ()

    @property
    def inputs(self) -> frozenset[str]:
        """Names of all arrays of data that the model takes."""
        return frozenset(self.observed)

    @property
    def units(self) -> Mapping[str, Any]:
        """Name -> unit that checks the values, for the arrays of data of which one is known: those observed."""
        return self.observed

    @property
    def data_name(self) -> str:
        """Name of an array that comes alone: the first that is observed, or `x`."""
        return next(iter(self.observed), "x")

    @property
    def like(self) -> Array:
        """An array of the model's dtype and device."""
        return next(iter(self.params.values()))

    def to_file(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What files keep: JSON and NumPy arrays, from which `from_file` makes the model again.

        Raises:
            TypeError: for a model that cannot be saved.
        """
        raise TypeError(f"expected a model that can be saved, got {type(self).__name__}, which has no to_file")

    @classmethod
    def from_file(cls, config: Mapping[str, Any], arrays: Mapping[str, np.ndarray], **networks: Any) -> Self:
        """Inverse of `to_file`.

        Args:
            config: its JSON.
            arrays: its arrays.
            networks: for a program with networks of the user's own, fresh ones of the same shapes.
        """
        raise TypeError(f"expected a model that can be loaded, got {cls.__name__}, which has no from_file")
