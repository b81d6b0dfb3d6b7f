"""Saving and loading models: one safetensors file with the structure in its metadata, readable by either engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from deepgen_ppl.array_files import read_arrays, write_arrays
from deepgen_ppl.engine import Engine
from deepgen_ppl.model import Model
from deepgen_ppl.registry import name_in_files

__all__ = ["loader", "save"]

FORMAT = 2


def save(model: Any, path: str | Path) -> None:
    """Write a model to a file.

    Args:
        model: a machine or a program of this library, or one of your own that has `to_file`.
        path: where to; conventionally `*.safetensors`.

    Raises:
        TypeError: for another kind of object, or a model that cannot be saved.
    """
    if not isinstance(model, Model):
        raise TypeError(f"expected a machine or a program of deepgen_ppl to save, got {type(model).__name__}")
    config, arrays = model.to_file()
    meta = {"format": FORMAT, "kind": "model", "family": name_in_files(type(model)), "config": config}
    write_arrays(path, arrays, meta)


def loader(engine: Engine) -> Callable[..., Any]:
    """The `load` of a face, which knows the engine's families."""

    def load(path: str | Path, **networks: Any) -> Any:
        """A model from a file that `save` wrote, on either engine.

        Args:
            path: the file.
            networks: for a program with networks of the user's own, fresh ones of the same shapes.

        Raises:
            FileNotFoundError: if there is no file.
            ValueError: if it holds no model of a known family, or is of another format.
        """
        arrays, meta = read_arrays(path)
        known = engine.families
        if meta.get("kind") != "model" or meta.get("family") not in known:
            raise ValueError(
                f"expected a model among {sorted(known)} at {path}, got {meta.get('family', meta.get('kind'))}"
            )
        if meta.get("format") != FORMAT:
            raise ValueError(f"expected a file of format {FORMAT} at {path}, got format {meta.get('format')}")
        return known[meta["family"]].from_file(meta["config"], arrays, **networks)

    return load
