"""Saving and loading models: one safetensors file with the structure in its metadata, readable by either engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from deepgen_ppl.directed.program import Program
from deepgen_ppl.files import read_arrays, write_arrays
from deepgen_ppl.undirected.machine import BoltzmannMachine
from deepgen_ppl.undirected.parts import from_json, to_json
from deepgen_ppl.undirected.structure import Structure

__all__ = ["loader", "save"]


def save(model: Any, path: str | Path) -> None:
    """Write a model to a file.

    Args:
        model: a machine or a program of this library.
        path: where to; conventionally `*.safetensors`.

    Raises:
        TypeError: for another kind of object, or a machine with units of the user's own.
    """
    if isinstance(model, BoltzmannMachine):
        to_numpy = model.engine.arrays.to_numpy
        meta: dict[str, Any] = {
            "family": type(model).__name__,
            "layers": [[n, to_json(u)] for n, u in model.structure.items],
            "couplings": [to_json(c) for c in model.structure.couplings],
        }
        arrays = {f"params.{k}": to_numpy(v) for k, v in model.params.items()}
        arrays |= {f"buffers.{k}": to_numpy(v) for k, v in model.buffers.items()}
    elif isinstance(model, Program):
        meta = {"family": type(model).__name__, "config": model.config()}
        arrays = {f"params.{k}": v for k, v in model.canonical().items()}
    else:
        raise TypeError(f"expected a machine or a program of deepgen_ppl to save, got {type(model).__name__}")
    write_arrays(path, arrays, {"format": 1, "kind": "model", **meta})


def loader(*families: Any) -> Callable[..., Any]:
    """The `load` of a face, which knows these families."""
    known = {cls.__name__: cls for cls in families}

    def load(path: str | Path, **networks: Any) -> Any:
        """A model from a file that `save` wrote, on either engine.

        Args:
            path: the file.
            networks: for a program with networks of the user's own, fresh ones of the same shapes.

        Raises:
            FileNotFoundError: if there is no file.
            ValueError: if it holds no model of a known family.
        """
        arrays, meta = read_arrays(path)
        if meta.get("kind") != "model" or meta["family"] not in known:
            raise ValueError(
                f"expected a model among {sorted(known)} at {path}, got {meta.get('family', meta['kind'])}"
            )
        cls = known[meta["family"]]
        own = {k.split(".", 1)[1]: v for k, v in arrays.items() if k.startswith("params.")}
        if issubclass(cls, Program):
            return cls.from_config(meta["config"], **networks).from_canonical(own)
        buffers = {k.split(".", 1)[1]: v for k, v in arrays.items() if k.startswith("buffers.")}
        structure = Structure(
            tuple((n, from_json(u)) for n, u in meta["layers"]), tuple(from_json(c) for c in meta["couplings"])
        )
        return cls.from_arrays(structure, own, buffers)

    return load
