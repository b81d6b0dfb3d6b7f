"""Files of arrays: safetensors with JSON in the metadata, written whole or not at all, with a checksum. No pickles."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save as serialize

__all__ = ["digest", "read_arrays", "try_path", "write_arrays"]

KEY = "deepgen_ppl"
"""The one entry of the metadata: two would come in an order of their own in each process."""

FORGOTTEN = 3600.0
"""Seconds after which the unfinished file of another writer is taken for one that was killed."""


def write_arrays(path: str | Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Write beside under a name of one's own, sync, and rename over `path`.

    Readers see the old file or the new one, whoever else writes and whenever a writer is killed. A link is followed,
    and an existing file keeps its permissions.
    """
    path = Path(os.path.realpath(path))
    arrays = {k: np.array(v, order="C") for k, v in arrays.items()}
    checksum = digest(arrays, json.dumps(meta))
    data = serialize(arrays, metadata={KEY: json.dumps({"checksum": checksum, **meta})})
    _remove_forgotten(path)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with beside.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _remove_forgotten(path: Path) -> None:
    for part in path.parent.iterdir():
        if part.name.startswith(f".{path.name}.") and part.suffix == ".part":
            with contextlib.suppress(OSError):  # another writer may be faster
                if time.time() - part.stat().st_mtime > FORGOTTEN:
                    part.unlink()


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def try_path(path: str | Path) -> Path:
    """The path, if a file can be written there.

    Raises:
        TypeError: for something else than a path.
        OSError: for a directory, or a folder that is missing or cannot be written to.
    """
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
        raise TypeError(f"expected the path of a file, got {path!r}")
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"expected the path of a file, got the directory {path}")
    folder = Path(os.path.realpath(path)).parent
    if not folder.is_dir():
        raise FileNotFoundError(f"expected a folder at {folder} to write {path.name} to, found none")
    trial = folder / f".{path.name}.{uuid.uuid4().hex}.part"
    try:
        trial.touch(exist_ok=False)
    except OSError as error:
        raise type(error)(f"expected a folder that can be written to at {folder}: {error}") from None
    trial.unlink()
    return path


def digest(arrays: Mapping[str, np.ndarray], text: str = "") -> str:
    """Checksum of names, dtypes, shapes and values of arrays, and of a text."""
    total = hashlib.blake2b(text.encode(), digest_size=16)
    for name in sorted(arrays):
        x = np.array(arrays[name], order="C")
        total.update(f"{name} {x.dtype} {x.shape}".encode())
        total.update(x.data if x.size else b"")
    return total.hexdigest()


def read_arrays(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and metadata of a file.

    Raises:
        TypeError: for something else than a path.
        FileNotFoundError: if there is none.
        ValueError: if it is not a file of this library, or is damaged.
    """
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
        raise TypeError(f"expected the path of a file, got {path!r}")
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"expected a file at {path}, found none")
    try:
        with safe_open(path, framework="np") as file:
            extra = file.metadata() or {}
            arrays = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 - not a mapping
    except OSError:
        raise
    except Exception as error:  # what a damaged header makes the reader raise has no common class
        raise ValueError(f"expected a safetensors file at {path}, got one that does not read: {error}") from None
    if KEY not in extra:
        raise ValueError(f"expected a file written by deepgen_ppl at {path}, got one without its metadata")
    try:
        meta = json.loads(extra[KEY])
        text = json.dumps({k: v for k, v in meta.items() if k != "checksum"})
    except (AttributeError, ValueError, RecursionError) as error:
        raise ValueError(f"expected a JSON object in the metadata of the file at {path}, got other: {error}") from None
    if meta.pop("checksum", None) != digest(arrays, text):
        raise ValueError(f"expected the checksum of the file at {path} to fit its contents: the file is damaged")
    return arrays, meta
