"""Hand-over to ArviZ, both lines of it (0.x `InferenceData`, 1.x `DataTree`).

Draws of a machine's states become summaries by default (means of the blocks, energies), not every pixel; they have
chain plots and R-hat, and no `loo`, which wants draws of parameters.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from deepgen_ppl.log_p.compare import Comparison

__all__ = ["from_groups", "to_arviz"]

Groups = Mapping[str, Mapping[str, np.ndarray]]


def _arviz() -> Any:
    try:
        return importlib.import_module("arviz")
    except ImportError as error:
        raise ImportError("expected ArviZ for the hand-over: pip install 'deepgen-ppl[arviz]'") from error


def from_groups(groups: Groups, dims: Mapping[str, list[str]], coords: Mapping[str, Any] | None = None) -> Any:
    """ArviZ's container from group -> variable -> array; all but `bounds` start with the axes (chain, draw)."""
    az = _arviz()
    options = {"dims": dict(dims), "coords": dict(coords or {})}
    sampled = {k: dict(v) for k, v in groups.items() if k != "bounds"}
    if int(az.__version__.split(".")[0]) >= 1:
        data = az.from_dict(sampled, **options)
    else:
        data = az.from_dict(**sampled, **options)
    if "bounds" in groups:
        _add_bounds(az, data, groups["bounds"], dict(coords or {}))
    return data


def _add_bounds(az: Any, data: Any, arrays: Mapping[str, np.ndarray], coords: Mapping[str, Any]) -> None:
    xarray = importlib.import_module("xarray")
    group = xarray.Dataset({k: ("model", v) for k, v in arrays.items()}, coords={"model": coords["model"]})
    if hasattr(data, "add_groups"):
        data.add_groups({"bounds": group})
    else:
        data["bounds"] = xarray.DataTree(group)


def to_arviz(source: Any, *, model: Any = None, states: bool = False) -> Any:
    """ArviZ's container from a host MCMC run over a machine, or from a comparison.

    Args:
        source: `numpyro.infer.MCMC` or `pyro.infer.MCMC` that ran a kernel of ours, or a `Comparison`.
        model: the machine that was sampled.
        states: whether to keep every unit of every block in `posterior` as well.

    Returns:
        For a run: `posterior` with `BLOCK_mean` (mean value of a block's units), and `sample_stats` with `energy` (E,
        unnormalized, in nats), `lp` (-E) and `acceptance_rate`. For a comparison: `log_likelihood` with the pointwise
        best guess of each model, and `bounds`.

    Raises:
        TypeError: for another source, or a run of a kernel that is not ours.
        ValueError: for a run that has no draws yet.
    """
    if isinstance(source, Comparison):
        return _comparison(source)
    if model is None:
        raise TypeError("expected model=... (the machine that was sampled) to hand over an MCMC run, got None")
    host_kernel = model.engine.host.kernel
    sampler = getattr(source, "sampler", None)
    kernel = getattr(sampler, "kernel", sampler) if not isinstance(sampler, host_kernel) else sampler
    if not isinstance(kernel, host_kernel):
        raise TypeError(
            f"expected an MCMC run of a kernel of deepgen_ppl, got {type(source).__name__} of "
            f"{type(kernel).__name__}: for draws of parameters use ArviZ's own converter"
        )
    try:
        position, stats = host_kernel.by_chain(source)
    except (AssertionError, AttributeError):
        raise ValueError("expected a run that has draws, got one that has not run: call mcmc.run(...) first") from None
    return _run(model, position, stats, states=states)


def _run(model: Any, position: Mapping[str, np.ndarray], stats: Mapping[str, np.ndarray], *, states: bool) -> Any:
    """Groups of a run; blocks have the shape (chain, draw, n)."""
    asarray, to_numpy = model.engine.arrays.asarray, model.engine.arrays.to_numpy
    energy_of, like = model.engine.control.compile(model.energy), getattr(model, "like", None)
    rows = [
        to_numpy(energy_of({k: asarray(v[c], like=like) for k, v in position.items()}))
        for c in range(len(next(iter(position.values()))))
    ]
    energy = np.stack(rows).astype(float)
    posterior = {f"{name}_mean": x.mean(-1) for name, x in position.items()}
    dims: dict[str, list[str]] = {}
    if states:
        for name, x in position.items():
            posterior[name] = x.astype(np.int8) if model.blocks[name].integer else x
            dims[name] = [f"{name}_unit"]
    return from_groups({"posterior": posterior, "sample_stats": {"energy": energy, "lp": -energy, **stats}}, dims)


def _comparison(comparison: Comparison) -> Any:
    found = comparison.bounds
    pointwise = {name: e.pointwise[None, None] for name, e in found.items()}
    bounds = {
        "lower": np.array([e.lower.value for e in found.values()]),
        "upper": np.array([e.upper.value for e in found.values()]),
        "estimate": np.array([e.estimate.value for e in found.values()]),
        "se_data": np.array([e.se_data for e in found.values()]),
        "se_log_z": np.array([e.se_log_z for e in found.values()]),
        "method": np.array([e.estimate.method for e in found.values()]),
    }
    dims = {name: ["datum"] for name in found}
    coords = {"model": list(found), "datum": np.arange(comparison.num_data)}
    return from_groups({"log_likelihood": pointwise, "bounds": bounds}, dims, coords)
