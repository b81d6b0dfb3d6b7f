"""Saving and loading models: one safetensors file with the structure in its metadata, readable by either engine."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deepgen_ppl.array_files import read_arrays, try_path, write_arrays
from deepgen_ppl.engine import Engine
from deepgen_ppl.model import Model
from deepgen_ppl.registry import name_in_files

__all__ = ["loader", "save"]

FORMAT = 3

SIZES = {"block", "hidden", "latent", "num_covariates", "num_states", "size", "sizes"}
"""What files call the sizes of layers and networks."""

LAYER = 2**24
"""Units of a layer of a machine that are taken on trust: biases may be shared, and little memory belongs to a layer."""


def save(model: Any, path: str | Path) -> None:
    """Write a model to a file.

    Args:
        model: a machine or a program of this library, or one of your own that has `to_file`.
        path: where to; conventionally `*.safetensors`.

    Raises:
        TypeError: for another kind of object, a model that cannot be saved, or something else than a path.
        OSError: for a folder that is missing or cannot be written to.
        ValueError: for a model with NaN or infinite values.

    Example:
        >>> import deepgen_ppl.pyro as dg  # on NumPyro the same
        >>> rbm = dg.RBM.init(visible=6, hidden=3, rng=0)
        >>> dg.save(rbm, "rbm.safetensors")
        >>> dg.load("rbm.safetensors")
        RBM(v: Bernoulli(6), h: Bernoulli(3); v-h, centered; torch.float32)
    """
    if not isinstance(model, Model):
        raise TypeError(f"expected a machine or a program of deepgen_ppl to save, got {type(model).__name__}")
    path = try_path(path)
    config, arrays = model.to_file()
    _check_values(arrays, "in the model to save")
    meta = {"format": FORMAT, "kind": "model", "family": name_in_files(type(model)), "config": config}
    write_arrays(path, arrays, meta)


def loader(engine: Engine) -> Callable[..., Any]:
    """The `load` of a face, which knows the engine's families."""

    def load(path: str | Path, **networks: Any) -> Any:
        """A model from a file that `save` wrote, on either engine.

        Args:
            path: the file.
            networks: for a program with networks of the user's own, fresh ones of the same shapes; for a `Pair`,
                `model` and `guide`, and `data` where its guide looks at all of them.

        Raises:
            FileNotFoundError: if there is no file.
            ValueError: if it holds no model of a known family, is damaged, or is of another format.
            TypeError: for float64 on JAX without x64, or networks that the model does not have.

        Example:
            >>> import deepgen_ppl.pyro as dg  # on NumPyro the same
            >>> rbm = dg.RBM.init(visible=6, hidden=3, rng=0)
            >>> dg.save(rbm, "rbm.safetensors")
            >>> dg.load("rbm.safetensors")
            RBM(v: Bernoulli(6), h: Bernoulli(3); v-h, centered; torch.float32)
        """
        arrays, meta = read_arrays(path)
        known, family = engine.families, meta.get("family")
        if meta.get("kind") != "model" or not isinstance(family, str) or family not in known:
            got = meta.get("family", meta.get("kind"))
            raise ValueError(f"expected a model among {sorted(known)} at {path}, got {got}")
        if meta.get("format") != FORMAT:
            raise ValueError(f"expected a file of format {FORMAT} at {path}, got format {meta.get('format')}")
        _check_values(arrays, f"in the file at {path}")
        try:
            _check_sizes(meta["config"], sum(x.size for x in arrays.values()))
            return known[family].from_file(meta["config"], arrays, **networks)
        except Exception as error:
            if isinstance(error, (TypeError, ValueError)) and str(error).startswith("expected"):
                raise  # a sentence of ours
            raise ValueError(
                f"expected a file that describes a {family} at {path}, got one that does not: {error!r}"
            ) from error

    return load


def _check_values(arrays: Mapping[str, np.ndarray], where: str) -> None:
    """Check that arrays are finite real numbers, and trained ones of floating point.

    Raises:
        ValueError: naming the first that is not.
    """
    for name, x in arrays.items():
        if x.dtype.kind not in ("f" if name.startswith("params.") else "fiub"):
            raise ValueError(f"expected real numbers of floating point for {name} {where}, got dtype {x.dtype}")
        if bad := int((~np.isfinite(x)).sum()):
            raise ValueError(f"expected finite values in {name} {where}, got {bad} NaN or infinite of {x.size}")


def _check_sizes(config: Any, numbers: int) -> None:
    """Check, before memory is taken, that no layer is larger than all arrays of the file together, or `LAYER`.

    Raises:
        ValueError: naming the size.
    """
    for key, value in config.items() if isinstance(config, dict) else enumerate(config):
        if isinstance(value, dict | list):
            _check_sizes(value, max(numbers, LAYER) if key == "layers" else numbers)
        sizes = value if isinstance(value, list) else [value]
        weights = [a * b for a, b in itertools.pairwise(sizes)] if all(isinstance(n, int) for n in sizes) else []
        if key in SIZES and any(isinstance(n, int) and n > numbers for n in (*sizes, *weights)):
            raise ValueError(
                f"expected arrays of the size that the file gives for {key!r}, {value}, got {numbers} values"
            )
