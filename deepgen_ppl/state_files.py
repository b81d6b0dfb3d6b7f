"""The state of an instance in files, and under names and layouts that both engines share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from deepgen_ppl.engine import Engine
from deepgen_ppl.registry import Registered, name_in_files
from deepgen_ppl.state import Stateful

__all__ = ["Saved"]


class Saved(Stateful):
    """A model whose state `build` sets; files keep options that are numbers, strings, units or tuples of them."""

    def canonical(self) -> dict[str, np.ndarray]:
        """All arrays, trained or not, as NumPy arrays, with names and layouts common to both engines."""
        to_numpy = self.engine.arrays.to_numpy
        parts = {n: self.engine.nn.canonical(net) for n, net in self.networks.items()}
        parts |= {n: {**machine.params, **machine.constants} for n, machine in self.machines.items()}
        arrays = {f"{n}.{k}": v for n, part in parts.items() for k, v in part.items()}
        arrays |= {**self.arrays, **self.own_constants}
        return {k: np.array(to_numpy(v)) for k, v in arrays.items()}

    def from_canonical(self, arrays: Mapping[str, Any]) -> Self:
        """The same model with these arrays: the inverse of `canonical`, on either engine.

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
