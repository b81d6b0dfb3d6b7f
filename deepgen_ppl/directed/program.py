"""Programs: directed models written once as `model` and `guide` against `self.engine`.

A program names its networks in `networks`; their arrays are the program's trained parameters, under the names that the
host sees (`decoder.layers.0.kernel`, behind the program's own name where it has one).
"""

from __future__ import annotations

import contextlib
import inspect
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

import numpy as np

from deepgen_ppl.engine import Engine
from deepgen_ppl.model import Model
from deepgen_ppl.typing import Array, ArrayDict, Params

__all__ = ["Program"]


class Program(Model):
    """A model-guide pair; subclass it from a face (`dg.Program`), which gives it an engine.

    A family implements `model` and `guide` and names its attributes: `networks` are networks, `options` hashable
    values, and `arrays` a flat dict of other trained arrays. To be saved, it has `config` and `from_config` too.
    """

    networks: ClassVar[tuple[str, ...]] = ()
    options: ClassVar[tuple[str, ...]] = ()
    name: str
    arrays: dict[str, Array]

    def __init_subclass__(cls, engine: Engine | None = None, **kwargs: Any) -> None:
        cls.dynamic_fields, cls.static_fields = (*cls.networks, "arrays"), (*cls.options, "name")
        super().__init_subclass__(engine=engine, **kwargs)

    @abstractmethod
    def model(self, *args: Any, **kwargs: Any) -> Any:
        """The generative program."""

    @abstractmethod
    def guide(self, *args: Any, **kwargs: Any) -> Any:
        """The approximate posterior, with the signature of `model`."""

    @property
    def inputs(self) -> frozenset[str]:
        """The arguments of `model` that are data."""
        return frozenset(inspect.signature(self.model).parameters) - {"size", "num_data"}

    def config(self) -> dict[str, Any]:
        """What `from_config` needs, besides arrays, to build the program again; JSON.

        Raises:
            TypeError: for a family that cannot be saved.
        """
        raise TypeError(f"expected a program that can be saved, got {type(self).__name__}, which has no config")

    def site(self, name: str) -> str:
        """Name of a host parameter: behind the program's own name, if it has one."""
        return f"{self.name}.{name}" if self.name else name

    @classmethod
    def from_config(cls, config: Mapping[str, Any], **networks: Any) -> Self:
        """A program of this shape, its arrays still to be set: the inverse of `config`.

        Raises:
            TypeError: for a family that cannot be saved.
        """
        raise TypeError(f"expected a program that can be loaded, got {cls.__name__}, which has no from_config")

    @contextlib.contextmanager
    def data_plate(self, x: Array | None, size: int | None, num_data: int | None = None) -> Iterator[None]:
        """The plate "data" at dim -1, over the rows of x or over `size` rows to be drawn.

        Args:
            x: data (N, ...), or None.
            size: number of rows where x is None.
            num_data: size of the data set that the rows stand for; scales their terms.

        Raises:
            ValueError: unless exactly one of x and size is given.
        """
        if (x is None) == (size is None):
            got = None if x is None else f"shape {tuple(x.shape)}"
            raise ValueError(f"expected either x or size, got x of {got} and size={size}")
        host = self.engine.host
        rows: Any = size if x is None else x.shape[0]
        scale = contextlib.nullcontext() if num_data is None else host.handlers.scale(scale=num_data / rows)
        with scale, host.ppl.plate("data", rows, dim=-1):
            yield

    @property
    def params(self) -> ArrayDict:
        """All trained arrays, under the names that the host sees."""
        nets = {
            self.site(f"{n}.{k}"): v for n in self.networks for k, v in self.engine.nn.params(getattr(self, n)).items()
        }
        return ArrayDict(nets | {self.site(k): v for k, v in self.arrays.items()})

    def with_params(self, params: Params) -> Self:
        """The same program with other trained arrays; names not given keep theirs.

        Raises:
            ValueError: for unknown names or other shapes.
        """
        own = self.params
        if unknown := sorted(params.keys() - own.keys()):
            raise ValueError(f"expected parameters among {sorted(own)}, got {unknown}")
        for k, v in params.items():
            if tuple(v.shape) != tuple(own[k].shape):
                raise ValueError(f"expected {k} of shape {tuple(own[k].shape)}, got shape {tuple(v.shape)}")
        new = {**own, **params}
        nets = {}
        for n in self.networks:
            net = getattr(self, n)
            inner = {k: new[self.site(f"{n}.{k}")] for k in self.engine.nn.params(net)}
            nets[n] = self.engine.nn.with_params(net, inner)
        return self._replace(**nets, arrays={k: new[self.site(k)] for k in self.arrays})

    def with_constants(self, constants: Params) -> Self:
        """The same program: it has no constants."""
        return self

    def _replace(self, **changes: Any) -> Self:
        """A program of the same class with some attributes changed."""
        fields = (*self.networks, "arrays", *self.options, "name")
        new = type(self).__new__(type(self))
        for f in fields:
            setattr(new, f, changes.get(f, getattr(self, f)))
        return new

    def canonical(self) -> dict[str, Any]:
        """All trained arrays as NumPy arrays, with names and layouts common to both engines."""
        nets = {f"{n}.{k}": v for n in self.networks for k, v in self.engine.nn.canonical(getattr(self, n)).items()}
        return nets | {k: self.engine.arrays.to_numpy(v).copy() for k, v in self.arrays.items()}

    def from_canonical(self, arrays: Mapping[str, Any]) -> Self:
        """The same program with these arrays: the inverse of `canonical`, on either engine.

        Raises:
            ValueError: for missing or unknown names, or other shapes.
        """
        own = {k: tuple(v.shape) for k, v in self.canonical().items()}
        got = {k: tuple(np.shape(v)) for k, v in arrays.items()}
        if own != got:
            wrong = sorted(k for k in own.keys() | got.keys() if own.get(k) != got.get(k))
            expected, came = ({k: shapes.get(k) for k in wrong} for shapes in (own, got))
            raise ValueError(f"expected arrays of the shapes {expected}, got {came}")
        nets = {}
        for n in self.networks:
            inner = {k[len(n) + 1 :]: v for k, v in arrays.items() if k.startswith(f"{n}.")}
            nets[n] = self.engine.nn.from_canonical(getattr(self, n), inner)
        trained = {k: self.engine.arrays.asarray(arrays[k]) for k in self.arrays}
        return self._replace(**nets, arrays=trained)

    def to_file(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """`config`, and all trained arrays under the names common to both engines."""
        return self.config(), {f"params.{k}": v for k, v in self.canonical().items()}

    @classmethod
    def from_file(cls, config: Mapping[str, Any], arrays: Mapping[str, np.ndarray], **networks: Any) -> Self:
        """Inverse of `to_file`."""
        own = {k.removeprefix("params."): v for k, v in arrays.items()}
        return cls.from_config(config, **networks).from_canonical(own)
