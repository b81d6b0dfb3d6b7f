"""Checkpoints: files that know which run they belong to."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deepgen_ppl.array_files import read_arrays, try_path, write_arrays

__all__ = ["Checkpoint"]

FORMAT = 2


class Checkpoint:
    """The checkpoint of one run.

    Args:
        path: the file; it is tried before work starts.
        resume: whether the run may go on from what is there.

    Raises:
        TypeError: for something else than a path.
        OSError: if the file cannot be written, or exists while `resume` is not set.
    """

    def __init__(self, path: str | Path, *, resume: bool) -> None:
        self.path = try_path(path)
        self.exists = self.path.is_file()
        if self.exists and not resume:
            raise FileExistsError(
                f"expected resume=True to go on from the checkpoint at {path}, or the path of a new file: "
                "a run that starts anew would overwrite it"
            )
        self.settings: dict[str, Any] = {}

    def belongs_to(self, **settings: Any) -> None:
        """What the run is known by: JSON by name."""
        self.settings = json.loads(json.dumps(settings))

    def save(self, arrays: Mapping[str, np.ndarray], record: Mapping[str, Any]) -> None:
        """Write the state and the record of the run."""
        write_arrays(self.path, arrays, {"format": FORMAT, "kind": "checkpoint", "settings": self.settings, **record})

    def load(self, *, epochs: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """State and record of the run whose settings these are.

        Args:
            epochs: how many epochs the run is to have.

        Raises:
            ValueError: if it is no checkpoint, belongs to another run, or is further already.
        """
        arrays, meta = read_arrays(self.path)
        if meta.get("kind") != "checkpoint":
            raise ValueError(f"expected a checkpoint at {self.path}, got a file of the kind {meta.get('kind')!r}")
        if meta.get("format") != FORMAT:
            raise ValueError(
                f"expected a checkpoint of format {FORMAT} at {self.path}, got format {meta.get('format')!r}"
            )
        there, here = (dict(settings) for settings in (meta["settings"], self.settings))
        if not meta["same_order"]:  # a reader that shuffles: another order, and so another first batch
            for settings in (there, here):
                settings["data"] = {**settings["data"], "order_of_rows": None}
                settings["first_loss"] = None
        if found := _difference(there, here):
            where, there, here = found
            raise ValueError(
                f"expected the {where[-1].replace('_', ' ')} {there}, got {here}: "
                f"the checkpoint at {self.path} is of a run with another {'.'.join(where)}"
            )
        if meta["epoch"] > epochs:
            raise ValueError(f"expected epochs of at least {meta['epoch']}, which the checkpoint has, got {epochs}")
        return arrays, meta


def _difference(there: Any, here: Any, where: tuple[str, ...] = ()) -> tuple[tuple[str, ...], Any, Any] | None:
    """The first place in which two descriptions differ: (its name, one value, the other)."""
    if isinstance(there, dict) and isinstance(here, dict):
        for name in (*here, *(there.keys() - here.keys())):
            if found := _difference(there.get(name), here.get(name), (*where, name)):
                return found
        return None
    if where == ("first_loss",) and isinstance(there, float) and isinstance(here, float):
        same = math.isclose(there, here, rel_tol=1e-3, abs_tol=1e-6)  # sums in another order, on another machine
    else:
        same = there == here
    return None if same else (where, there, here)
