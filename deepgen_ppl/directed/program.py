"""Programs: directed models written once as `model` and `guide` against `self.engine`.

The state of a program is its own: networks, machines, arrays and constants, each by name. All their arrays have the
names that the host sees: `decoder.layers.0.kernel`, `prior.v.bias`, `log_sigma`, behind the program's own name where it
has one.
"""

from __future__ import annotations

import contextlib
import inspect
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

import numpy as np

from deepgen_ppl.data import named
from deepgen_ppl.energies.energy import Energy
from deepgen_ppl.engine import Engine
from deepgen_ppl.model import Model
from deepgen_ppl.options import instance, integer
from deepgen_ppl.registry import Registered, name_in_files
from deepgen_ppl.typing import Array, ArrayDict, Params, Rng

__all__ = ["Program"]


class Program(Model):
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

    options: ClassVar[tuple[str, ...]] = ()
    name: str
    # what the face's own base gives: the parts of the state, how to keep them, and the sites of a run of the model
    networks: Any
    machines: Any
    arrays: Any
    own_constants: Any
    _hold: Any
    _sites: Any

    def __init_subclass__(cls, engine: Engine | None = None, **kwargs: Any) -> None:
        cls.dynamic_fields = ("networks", "machines", "arrays", "own_constants")
        cls.static_fields = (*cls.options, "name")
        super().__init_subclass__(engine=engine, **kwargs)

    def build(
        self,
        *,
        networks: Mapping[str, Any] | None = None,
        machines: Mapping[str, Energy] | None = None,
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
            TypeError: for networks or machines of another kind.
            ValueError: for names that are given twice.
        """
        nn, asarray = self.engine.nn, self.engine.arrays.asarray
        parts: dict[str, Any] = {
            "networks": {k: nn.wrap(v) for k, v in (networks or {}).items()},
            "machines": {
                k: instance(v, f"the machine {k!r}", Energy, "a machine") for k, v in (machines or {}).items()
            },
            "arrays": {k: asarray(v) for k, v in (arrays or {}).items()},
            "own_constants": {k: asarray(v) for k, v in (constants or {}).items()},
        }
        heads = [k for part in ("networks", "machines") for k in parts[part]]
        heads += sorted({k.partition(".")[0] for k in (*parts["arrays"], *parts["own_constants"])})
        names = [k for part in parts.values() for k in part]
        if len(set(heads)) < len(heads) or len(set(names)) < len(names) or any("." in k or not k for k in heads):
            raise ValueError(
                f"expected networks, machines, arrays and constants of different names, got {sorted(names)}"
            )
        self.name = name
        self._hold(**parts)

    @abstractmethod
    def model(self, *args: Any, **kwargs: Any) -> Any:
        """The generative program."""

    def guide(self, *args: Any, **kwargs: Any) -> Any:
        """The approximate posterior, with the signature of `model`; empty where nothing is latent."""

    @property
    def inputs(self) -> frozenset[str]:
        """The arguments of `model` that are data."""
        return frozenset(inspect.signature(self.model).parameters) - {"size", "num_data"}

    # -- inside `model` and `guide` ------------------------------------------------------------------------------------

    def site(self, name: str) -> str:
        """Name of a host parameter: behind the program's own name, if it has one."""
        return f"{self.name}.{name}" if self.name else name

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
        size = {"size": integer(num, "num")} if "size" in inspect.signature(self.model).parameters else {}
        given = {k: self.engine.arrays.asarray(v, like=self.like) for k, v in inputs.items()}
        if unknown := sorted(given.keys() - (self.inputs - self.observed.keys())):
            known = sorted(self.inputs - self.observed.keys())
            raise ValueError(f"expected inputs among {known} to draw from {type(self).__name__}, got {unknown}")
        if wrong := {k: tuple(v.shape) for k, v in given.items() if v.shape[0] != num}:
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
        batch = {k: self.engine.arrays.asarray(v, like=self.like) for k, v in named(self, data).items()}
        sites = self._sites(self.engine.random.rng(0, self.like), batch)
        if latent := sorted(name for name, (_, _, observed) in sites.items() if not observed):
            raise ValueError(
                f"expected a program without latent sites for an exact log p(x), got {type(self).__name__} with "
                f"{latent}: bounds(program, data, rng=...) bounds it"
            )
        return sum(log_prob for _, log_prob, _ in sites.values())

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
        """An array of the program's dtype and device."""
        return next(iter((self.params or self.constants).values()))

    def with_params(self, params: Params) -> Self:
        """The same program with other trained arrays; names not given keep theirs. Differentiable.

        Raises:
            ValueError: for unknown names, other shapes, or NaN and infinite values that can be seen now.
        """
        return self._with(params, self.params, "parameters")

    def with_constants(self, constants: Params) -> Self:
        """The same program with other untrained arrays; names not given keep theirs.

        Raises:
            ValueError: as `with_params`.
        """
        return self._with(constants, self.constants, "constants")

    def _with(self, given: Params, own: Params, what: str) -> Self:
        if unknown := sorted(given.keys() - own.keys()):
            raise ValueError(f"expected {what} among {sorted(own)}, got {unknown}")
        for k, v in given.items():
            if tuple(np.shape(v)) != tuple(own[k].shape):
                raise ValueError(f"expected {k} of shape {tuple(own[k].shape)}, got shape {tuple(np.shape(v))}")
        new = {k: self.engine.arrays.asarray(v, like=own[k]) for k, v in given.items()}
        for k, v in new.items():
            if not getattr(v, "requires_grad", False) and self.engine.arrays.is_concrete(v):
                self._check_finite(k, v)
        trained = what == "parameters"
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
        """A program of the same class with some attributes changed."""
        new = type(self).__new__(type(self))
        new._hold(**{f: changes.get(f, getattr(self, f)) for f in self.dynamic_fields})
        for f in self.static_fields:
            setattr(new, f, changes.get(f, getattr(self, f)))
        return new

    # -- both engines, and files ---------------------------------------------------------------------------------------

    def canonical(self) -> dict[str, np.ndarray]:
        """All arrays, trained or not, as NumPy arrays, with names and layouts common to both engines."""
        to_numpy = self.engine.arrays.to_numpy
        parts = {n: self.engine.nn.canonical(net) for n, net in self.networks.items()}
        parts |= {n: {**machine.params, **machine.constants} for n, machine in self.machines.items()}
        arrays = {f"{n}.{k}": v for n, part in parts.items() for k, v in part.items()}
        arrays |= {**self.arrays, **self.own_constants}
        return {k: np.array(to_numpy(v)) for k, v in arrays.items()}

    def from_canonical(self, arrays: Mapping[str, Any]) -> Self:
        """The same program with these arrays: the inverse of `canonical`, on either engine.

        Raises:
            ValueError: for missing or unknown names, or other shapes.
        """
        _check_shapes(self.canonical(), arrays)
        asarray, machines = self.engine.arrays.asarray, {}
        inner = {
            n: {k.removeprefix(f"{n}."): v for k, v in arrays.items() if k.startswith(f"{n}.")}
            for n in (*self.networks, *self.machines)
        }
        for n, machine in self.machines.items():
            trained, fixed = ({k: inner[n][k] for k in own} for own in (machine.params, machine.constants))
            machines[n] = machine.with_params(trained).with_constants(fixed)
        return self._replace(
            networks={n: self.engine.nn.from_canonical(net, inner[n]) for n, net in self.networks.items()},
            machines=machines,
            arrays={k: asarray(arrays[k]) for k in self.arrays},
            own_constants={k: asarray(arrays[k]) for k in self.own_constants},
        )

    def to_file(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Options and what the state is made of as JSON, and all arrays.

        Raises:
            TypeError: for an option that is no number, string, unit or tuple of them.
        """
        nn, to_numpy = self.engine.nn, self.engine.arrays.to_numpy
        machines = {n: machine.to_file() for n, machine in self.machines.items()}
        config = {
            "name": self.name,
            "options": {f: _to_json(getattr(self, f), f) for f in self.options},
            "networks": {
                n: {"activation": nn.activation(net), "frozen": not nn.params(net)} for n, net in self.networks.items()
            },
            "machines": {n: [name_in_files(type(self.machines[n])), form] for n, (form, _) in machines.items()},
            "arrays": list(self.arrays),
            "constants": list(self.own_constants),
        }
        arrays = {f"networks.{n}.{k}": v for n, net in self.networks.items() for k, v in nn.canonical(net).items()}
        arrays |= {f"machines.{n}.{k}": v for n, (_, inner) in machines.items() for k, v in inner.items()}
        arrays |= {f"arrays.{k}": to_numpy(v) for k, v in self.arrays.items()}
        return config, arrays | {f"constants.{k}": to_numpy(v) for k, v in self.own_constants.items()}

    @classmethod
    def from_file(cls, config: Mapping[str, Any], arrays: Mapping[str, np.ndarray], **networks: Any) -> Self:
        """Inverse of `to_file`: networks that the library made are made again, those of the user's own are given.

        Raises:
            ValueError: for networks that are missing or of other shapes, or arrays that are missing.
            TypeError: for networks of unknown names.
        """
        known = config["networks"]
        if unknown := sorted(networks.keys() - known.keys()):
            raise TypeError(f"expected networks among {sorted(known)} to load a {cls.__name__}, got {unknown}")
        if missing := [n for n, made in known.items() if made["activation"] is None and n not in networks]:
            wanted, got = " and ".join(f"{n}=..." for n in missing), sorted(networks) or "none"
            raise ValueError(
                f"expected {wanted} to load a {cls.__name__} that was saved with networks of your own, got {got}"
            )
        lost = [f"{part}.{k}" for part in ("arrays", "constants") for k in config[part] if f"{part}.{k}" not in arrays]
        if lost:
            raise ValueError(f"expected the arrays {lost} in the file of a {cls.__name__}, got none")
        if config["options"].keys() != set(cls.options):
            raise ValueError(f"expected the options {sorted(cls.options)} of a {cls.__name__}, got {config['options']}")
        new = cls.__new__(cls)
        for f, value in config["options"].items():
            setattr(new, f, _from_json(value))
        new.build(
            networks={
                n: _network(cls.engine, n, made, _below(f"networks.{n}.", arrays), networks.get(n))
                for n, made in known.items()
            },
            machines={
                n: cls.engine.families[family].from_file(form, _below(f"machines.{n}.", arrays))
                for n, (family, form) in config["machines"].items()
            },
            arrays={k: arrays[f"arrays.{k}"] for k in config["arrays"]},
            constants={k: arrays[f"constants.{k}"] for k in config["constants"]},
            name=config["name"],
        )
        return new

    def __repr__(self) -> str:
        options = [f"{f}={getattr(self, f)!r}" for f in self.options]
        total = sum(int(np.prod(v.shape)) for v in self.params.values())
        return f"{type(self).__name__}({', '.join(options)}{', ' * bool(options)}{total} parameters; {self.like.dtype})"


def _below(head: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {k.removeprefix(head): v for k, v in arrays.items() if k.startswith(head)}


def _check_shapes(own: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    expected, got = ({k: tuple(np.shape(v)) for k, v in named.items()} for named in (own, arrays))
    if wrong := sorted(k for k in expected.keys() | got.keys() if expected.get(k) != got.get(k)):
        shapes, came = ({k: of.get(k) for k in wrong} for of in (expected, got))
        raise ValueError(f"expected arrays of the shapes {shapes}, got {came}")


def _network(engine: Engine, name: str, made: Mapping[str, Any], arrays: Mapping[str, Any], given: Any) -> Any:
    """A network from a file: the user's, or a perceptron whose widths are those of its arrays."""
    nn = engine.nn
    if given is None:
        weights = [arrays[k].shape for i in range(len(arrays)) if (k := f"layers.{i}.weight") in arrays]
        if not weights or any(len(shape) != 2 for shape in weights):
            raise ValueError(f"expected weights of a perceptron for the network {name!r}, got shapes {weights}")
        sizes = (weights[0][0], *(shape[1] for shape in weights))
        given = nn.mlp(engine.random.rng(0), sizes, made["activation"])
    net = nn.wrap(given)
    own = nn.canonical(net)
    _check_shapes({f"{name}.{k}": v for k, v in own.items()}, {f"{name}.{k}": v for k, v in arrays.items()})
    if wrong := {k: str(arrays[k].dtype) for k, v in own.items() if v.dtype.kind == "f" != arrays[k].dtype.kind}:
        raise ValueError(f"expected real numbers of floating point for the network {name!r}, got {wrong}")
    net = nn.from_canonical(net, arrays)
    return nn.frozen(net) if made["frozen"] else net


def _to_json(value: Any, name: str) -> Any:
    if isinstance(value, Registered):
        return value.to_json()
    if isinstance(value, (tuple, list)):
        return [_to_json(v, name) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"expected numbers, strings, units or tuples of them as options to save, got {name}={value!r}")


def _from_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return Registered.from_json(dict(value))
    return tuple(_from_json(v) for v in value) if isinstance(value, list) else value
