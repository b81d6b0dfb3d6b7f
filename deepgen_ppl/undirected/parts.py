"""Units and couplings as JSON, for files."""

from __future__ import annotations

import dataclasses
from typing import Any

from deepgen_ppl.undirected.couplings import Dense
from deepgen_ppl.undirected.units import Bernoulli, Categorical, Gaussian, Spin

__all__ = ["from_json", "to_json"]

PARTS: dict[str, Any] = {cls.__name__: cls for cls in (Bernoulli, Categorical, Gaussian, Spin, Dense)}


def to_json(part: Any) -> dict[str, Any]:
    """A unit or coupling as JSON."""
    if type(part).__name__ not in PARTS:
        raise TypeError(f"expected units and couplings among {sorted(PARTS)} to save, got {part!r}")
    return {"kind": type(part).__name__, **dataclasses.asdict(part)}


def from_json(config: dict[str, Any]) -> Any:
    """Inverse of `to_json`."""
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items() if k != "kind"}
    return PARTS[config["kind"]](**options)
