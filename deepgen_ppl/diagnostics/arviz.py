"""Hand-over to ArviZ, both lines of it (0.x `InferenceData`, 1.x `DataTree`).

Draws of a machine's states become summaries by default (means of the blocks, energies), not every pixel; they have
chain plots and R-hat, and no `loo`, which wants draws of parameters.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from deepgen_ppl import __version__
from deepgen_ppl.energies.energy import Energy
from deepgen_ppl.log_p.compare import Comparison
from deepgen_ppl.options import flag, instance, mapping
from deepgen_ppl.training.posterior import Posterior

__all__ = ["from_groups", "to_arviz"]

ABOUT = {"inference_library": "deepgen_ppl", "inference_library_version": __version__}
"""Attributes of every group: what made it."""

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
    sampled = {k: dict(v) for k, v in groups.items() if k != "bounds" and v}
    if int(az.__version__.split(".")[0]) >= 1:
        data = az.from_dict(sampled, **options)
    else:
        data = az.from_dict(**sampled, **options)
    for name in sampled:
        data[name].attrs.update(ABOUT)
    if "bounds" in groups:
        _add_bounds(az, data, groups["bounds"], dict(coords or {}))
    return data


def _add_bounds(az: Any, data: Any, arrays: Mapping[str, np.ndarray], coords: Mapping[str, Any]) -> None:
    """A group without chains: arrays (model,), or (model, datum)."""
    xarray = importlib.import_module("xarray")
    variables = {k: (("model", "datum")[: v.ndim], v) for k, v in arrays.items()}
    group = xarray.Dataset(variables, coords=dict(coords), attrs=ABOUT)
    if hasattr(data, "add_groups"):
        data.add_groups({"bounds": group})
    else:
        data["bounds"] = xarray.DataTree(group)


def to_arviz(
    source: Any,
    *,
    model: Any = None,
    states: bool = False,
    data: Any = None,
    attrs: Mapping[str, str | int | float] | None = None,
) -> Any:
    """ArviZ's container from a host MCMC run over a machine, from a posterior, or from a comparison.

    Args:
        source: `numpyro.infer.MCMC` or `pyro.infer.MCMC` that ran a kernel of ours, a `Posterior`, or a
            `Comparison`.
        model: the machine that was sampled.
        states: whether to keep every unit of every block in `posterior` as well.
        data: for a posterior, the data whose pointwise log-likelihoods are wanted, for `az.loo`.
        attrs: what every group is to say of its making, besides library and version.

    Returns:
        For a run: `posterior` with `BLOCK_mean` (mean value of a block's units), and `sample_stats` with `energy` (E,
        unnormalized, in nats), `lp` (-E) and `acceptance_rate`. For a posterior: `Posterior.groups`.
        For a comparison: `log_likelihood` with the rows of the
        models that have a lower side, and `bounds` with both sides of all: values, kinds, errors, methods, reasons,
        flags and rows.

    Raises:
        TypeError: for another source, or a run of a kernel that is not ours.
        ValueError: for a run that has no draws yet, or the log-likelihoods of draws of a guide.

    Example:
        >>> import numpy as np
        >>> import deepgen_ppl.pyro as dg  # on NumPyro the same
        >>> x = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
        >>> models = {f"ppca{d}": dg.PPCA.maximum_likelihood(x, latent=d) for d in (1, 2)}
        >>> table = dg.compare(models, x, rng=0)
        >>> dg.to_arviz(table).log_likelihood["ppca1"].shape[-1]  # rows
        40
    """
    flag(states, "states")
    if attrs is not None:
        mapping(attrs, "attrs", "{'note': 'first run'}")
    made = _made(source, model, data, states=states)
    for group in ("posterior", "sample_stats", "log_likelihood", "bounds"):
        if attrs and group in _groups(made):
            made[group].attrs.update(attrs)
    return made


def _groups(made: Any) -> list[str]:
    """Names of the groups, in both lines of ArviZ."""
    return made.groups() if hasattr(made, "add_groups") else list(made.children)


def _made(source: Any, model: Any, data: Any, *, states: bool) -> Any:
    if isinstance(source, Comparison):
        return _comparison(source)
    if isinstance(source, Posterior):
        return from_groups(source.groups(data), {})
    if data is not None:
        raise TypeError(f"expected data=... with a Posterior alone, got it with {type(source).__name__}")
    if model is None:
        raise TypeError("expected model=... (the machine that was sampled) to hand over an MCMC run, got None")
    instance(model, "model", Energy, "the machine or energy that was sampled")
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
    """Rows of lower sides as `log_likelihood`; both sides with kinds, errors, methods and flags as `bounds`."""
    found = comparison.bounds
    scores = {name: e.lower_pointwise[None, None] for name, e in found.items() if e.lower_pointwise is not None}
    missing = np.full(comparison.num_data, np.nan)
    bounds = {
        "se_data": np.array([e.se_data for e in found.values()]),
        "se_log_z": np.array([e.se_log_z for e in found.values()]),
        "flags": np.array([" ".join(e.flags) for e in found.values()]),
        "better_than": np.array([" ".join(comparison.better_than(name)) for name in found]),
    }
    for name in ("lower", "upper", "estimate"):
        sides = [getattr(e, name) for e in found.values()]
        bounds[name] = np.array([side.value for side in sides])
        bounds |= {f"{name}_{what}": np.array([getattr(side, what) for side in sides]) for what in ("kind", "method")}
        bounds[f"{name}_se"] = np.array([side.mc_se for side in sides])
        bounds[f"{name}_missing"] = np.array([side.reason for side in sides])
    for name in ("lower_pointwise", "upper_pointwise"):
        rows = [getattr(e, name) for e in found.values()]
        bounds[name] = np.stack([missing if row is None else row for row in rows])
    dims = {name: ["datum"] for name in scores}
    coords = {"model": list(found), "datum": np.arange(comparison.num_data)}
    return from_groups({"log_likelihood": scores, "bounds": bounds}, dims, coords)
