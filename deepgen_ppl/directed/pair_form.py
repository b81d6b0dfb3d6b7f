"""What a pair of a model and a guide of the user's own is made of, and what it must be: found by one run of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepgen_ppl.data import RESERVED, num_rows
from deepgen_ppl.engine import Engine
from deepgen_ppl.options import precision
from deepgen_ppl.sites import Site
from deepgen_ppl.typing import Array

__all__ = ["Form", "Observed", "check_plate", "checked_data", "form_of"]

PLATE = "data"


@dataclass(frozen=True)
class Observed:
    """What is observed of each datum.

    Attributes:
        measure: the space of its values; scores on one measure can be compared.
    """

    measure: str


@dataclass(frozen=True)
class Form:
    """What a pair is besides its arrays.

    Attributes:
        host: the pair as the host runs it.
        observed: (argument, what it looks like) of each argument that is observed.
        renamed: (observed site, its argument) where their names differ.
    """

    host: Any
    observed: tuple[tuple[str, Observed], ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()

    def __deepcopy__(self, memo: Any) -> Form:
        """Itself: the functions stay the user's own."""
        return self


def checked_data(engine: Engine, data: Mapping[str, Any], dtype: str) -> dict[str, Array]:
    """Named arrays of one length; floating ones in the given dtype.

    Raises:
        TypeError: for something else than a mapping of arrays.
        ValueError: for no rows, lengths that differ, or a name that is reserved.
    """
    if not isinstance(data, Mapping) or not data or not all(np.ndim(x) for x in data.values()):
        got = type(data).__name__
        raise TypeError(f"expected data as a dict of arrays by the names of the model's arguments, got {got}")
    dtype = precision(dtype)
    for name, x in data.items():
        if not hasattr(x, "shape") or any(word in str(x.dtype) for word in ("complex", "<U", "|S", "object")):
            raise ValueError(
                f"expected arrays of numbers in data, got {name} of {getattr(x, 'dtype', type(x).__name__)}"
            )
    shapes = {name: tuple(np.shape(x)) for name, x in data.items()}
    if len({shape[0] for shape in shapes.values()}) > 1 or not num_rows(data):
        raise ValueError(f"expected data of one length, got the shapes {shapes}")
    if taken := sorted(data.keys() & RESERVED):
        raise ValueError(f"expected other names of data than {taken}, which are reserved, got {sorted(data)}")
    asarray = engine.arrays.asarray
    return {k: asarray(x, dtype=dtype) if "float" in str(x.dtype) else asarray(x) for k, x in data.items()}


def check_plate(sites: Mapping[str, Site], rows: int, which: str) -> None:
    """What belongs to a datum lies in the plate of the rows at hand, each row once.

    Raises:
        ValueError: naming the site.
    """
    for name, site in sites.items():
        if not site.inside(PLATE):
            continue
        if hasattr(site.scale, "shape") or site.scale != 1:
            raise ValueError(
                f"expected the site {name!r} of the {which} to count each row once, got the scale {site.scale}: fit "
                f"draws the rows of a step and scales them; write plate({PLATE!r}, x.shape[0]) without subsample_size"
            )
        if (size := next(plate.size for plate in site.plates if plate.name == PLATE)) != rows:
            raise ValueError(
                f"expected the site {name!r} of the {which} in a plate of the rows at hand, "
                f"plate({PLATE!r}, x.shape[0]), got {size} for {rows} rows: what is tied to the rows that it was made "
                "with, as an autoguide of latents of each datum, has no weight for another datum; draw those in a "
                "guide of your own"
            )


def form_of(engine: Engine, host: Any, sites: Mapping[str, Site], batch: Mapping[str, Array]) -> Form:
    """Which arguments are observed: those that a site of their name, or of their values, observes.

    Raises:
        ValueError: for an observed site in the plate of the data that has no such argument.
    """
    observed: dict[str, Observed] = {}
    renamed = {}
    plain = {name: engine.arrays.to_numpy(x) for name, x in batch.items()}
    for name, site in sites.items():
        if not site.observed or site.law in ("Delta", "Unit") or not site.inside(PLATE):
            continue
        value = engine.arrays.to_numpy(site.value)
        equal = [k for k, x in plain.items() if x.shape == value.shape and np.array_equal(x, value)]
        if name not in batch and len(equal) != 1:
            raise ValueError(
                f"expected the observed site {name!r} to observe one argument of the model as it is, among "
                f"{sorted(batch)}: give the site the argument's name"
            )
        argument = name if name in batch else equal[0]
        observed[argument] = Observed(_measure(site))
        if argument != name:
            renamed[name] = argument
    return Form(host, tuple(observed.items()), tuple(renamed.items()))


def _measure(site: Site) -> str:
    """The space of a datum's values: a power of the support of one of them."""
    fn = site.fn
    size = math.prod(site.value.shape) // next(plate.size for plate in site.plates if plate.name == PLATE)
    while getattr(fn, "base_dist", None) is not None and not hasattr(fn, "transforms"):
        fn = fn.base_dist
    support = fn.support
    while (base := getattr(support, "base_constraint", None)) is not None:
        support = base
    if not support.is_discrete:
        return f"R^{size}" if not support.event_dim else f"{type(support).__name__} of {size}"
    if not fn.has_enumerate_support or fn.event_shape:
        return f"N^{size}"
    states = np.asarray(fn.enumerate_support(expand=False).tolist()).reshape(-1)
    return "{" + ", ".join(f"{v:g}" for v in states) + f"}}^{size}"
