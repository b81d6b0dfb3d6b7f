"""Programs: directed models written once as `model` and `guide` against `self.engine`.

The state of a program is its own: networks, machines, arrays and constants, each by name. All their arrays have the
names that the host sees: `decoder.layers.0.kernel`, `prior.v.bias`, `log_sigma`, behind the program's own name where it
has one.
"""

from __future__ import annotations

import contextlib
import inspect
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

from deepgen_ppl.data import check_names, named
from deepgen_ppl.options import integer
from deepgen_ppl.state_files import Saved
from deepgen_ppl.typing import Array, Rng

__all__ = ["Program"]


class Program(Saved):
    """A model-guide pair; subclass it from a face (`dg.Program`), which gives it an engine.

    A family calls `build` with its state, names its hashable attributes in `options`, and implements `model`; `guide`
    is empty where nothing is latent. `observed` says what it draws of each datum. What is built so can be saved.

    Attributes:
        networks: name -> network of the engine.
        machines: name -> machine.
        arrays: name -> trained array that belongs to neither.
        own_constants: name -> array that belongs to neither and is not trained.
        name: what stands before all names of arrays; needed only where two programs meet in Pyro's parameter store.
    """

    _sites: Any  # of a run of the model; the base of the face gives them

    @abstractmethod
    def model(self, *args: Any, **kwargs: Any) -> Any:
        """The generative program."""

    def guide(self, *args: Any, **kwargs: Any) -> Any:
        """The approximate posterior, with the signature of `model`; empty where nothing is latent."""

    @property
    def inputs(self) -> frozenset[str]:
        """The arguments of `model` that are data."""
        return frozenset(inspect.signature(self.model).parameters) - {"size", "num_data"}

    @property
    def conditions(self) -> tuple[str, ...]:
        """The arguments of `model` that are given and have no default."""
        parameters = inspect.signature(self.model).parameters
        return tuple(n for n in self.inputs - self.observed.keys() if parameters[n].default is inspect.Parameter.empty)

    # -- inside `model` and `guide` ------------------------------------------------------------------------------------

    def net(self, name: str, event_dim: int = 1) -> Any:
        """A network, registered with the host: a callable that flattens all axes left of the last `event_dim`."""
        return self.engine.host.module(self.site(name), self.networks[name], event_dim=event_dim)

    def param(self, name: str, constraint: Any = None) -> Array:
        """A trained array, registered with the host.

        Args:
            name: its name.
            constraint: of the host; what is kept and trained is then unconstrained, and this its image under the
                host's own bijection (exp for `positive`).
        """
        value = self.engine.host.param(self.site(name), self.arrays[name])
        return value if constraint is None else self.engine.host.biject_to(constraint)(value)

    def machine(self, name: str) -> Any:
        """A machine whose trained arrays are registered with the host."""
        machine, param = self.machines[name], self.engine.host.param
        return machine.with_params({k: param(self.site(f"{name}.{k}"), v) for k, v in machine.params.items()})

    def constant(self, name: str) -> Array:
        """An array that is not trained."""
        return self.own_constants[name]

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

    def check_rows(self, x: Array | None, name: str = "x") -> None:
        """Check the shape of an observed array, traced or not.

        Raises:
            ValueError: with both shapes.
        """
        size = self.observed[name].size
        if x is not None and (x.ndim != 2 or x.shape[-1] != size):
            raise ValueError(f"expected {name} of shape (N, {size}), got shape {tuple(x.shape)}")

    # -- outside -------------------------------------------------------------------------------------------------------

    def sample(self, num: int, *, rng: Rng | int, **inputs: Any) -> Any:
        """Draws of the observed variables from the model.

        Args:
            num: number of rows.
            rng: seed or generator.
            inputs: what the model is given, arrays of `num` rows.

        Returns:
            An array (num, ...), or a dict of them by name where several are observed.
        """
        num = integer(num, "num")
        size = {"size": num} if "size" in inspect.signature(self.model).parameters else {}
        given = {k: self.engine.arrays.asarray(v, like=self.like) for k, v in inputs.items()}
        if unknown := sorted(given.keys() - (self.inputs - self.observed.keys())):
            known = sorted(self.inputs - self.observed.keys())
            raise ValueError(f"expected inputs among {known} to draw from {type(self).__name__}, got {unknown}")
        if wrong := {k: tuple(v.shape) for k, v in given.items() if tuple(v.shape[:1]) != (num,)}:
            raise ValueError(f"expected inputs of {num} rows, got the shapes {wrong}")
        sites = self._sites(self.engine.random.rng(rng, self.like), {**given, **size})
        draws = {k: self.engine.special.stop_gradient(sites[k][0]) for k in self.observed}
        return draws if len(draws) > 1 else next(iter(draws.values()))

    def log_prob(self, data: Any) -> Array:
        """log p(x) of each row, shape (N,) in nats, where nothing is latent; differentiable.

        Args:
            data: one array, or named arrays.

        Raises:
            ValueError: for a program with latent sites: `bounds` bounds its log p(x).
        """
        arrays = named(self, data)
        check_names(self, arrays, "data")
        batch = {k: self.engine.arrays.asarray(v, like=self.like) for k, v in arrays.items()}
        sites = self._sites(self.engine.random.rng(0, self.like), batch)
        if latent := sorted(name for name, (_, _, observed) in sites.items() if not observed):
            raise ValueError(
                f"expected a program without latent sites for an exact log p(x), got {type(self).__name__} with "
                f"{latent}: bounds(program, data, rng=...) bounds it"
            )
        return sum(log_prob for _, log_prob, _ in sites.values())
