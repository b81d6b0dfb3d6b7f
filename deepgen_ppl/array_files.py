"""Files of arrays: safetensors with JSON in the metadata, written whole or not at all. No pickles."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialize

__all__ = ["read_arrays", "write_arrays"]

KEY = "deepgen_ppl"


def write_arrays(path: str | Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Write beside, sync, and rename over `path`, so that a kill leaves the old file or the new one."""
    path = Path(path)
    data = serialize({k: np.array(v, order="C") for k, v in arrays.items()}, metadata={KEY: json.dumps(meta)})
    beside = path.with_name(f"{path.name}.part")
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_arrays(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and metadata of a file.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is not a file of this library.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"expected a file at {path}, found none")
    try:
        with safe_open(path, framework="np") as file:
            meta = (file.metadata() or {}).get(KEY)
            arrays = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 - not a mapping
    except SafetensorError as error:
        raise ValueError(f"expected a safetensors file at {path}, got one that does not read: {error}") from None
    if meta is None:
        raise ValueError(f"expected a file written by deepgen_ppl at {path}, got one without its metadata")
    return arrays, json.loads(meta)
