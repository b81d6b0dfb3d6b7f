"""What a run of a model or a guide leaves: its sample sites, the same on both hosts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

from deepgen_ppl.typing import Params, Rng

__all__ = ["Plate", "Run", "Site", "Sites"]


class Plate(NamedTuple):
    """A plate around a site: its axis `dim`, counted from the right, and its size (of the rows drawn)."""

    name: str
    dim: int
    size: int


@dataclass(frozen=True)
class Site:
    """A sample site of one run of a program.

    Attributes:
        name: its name.
        fn: its distribution; where there are particles, to be read by `host.divergence` alone.
        value: (*batch, *event), or (K, *batch, *event) where each particle has its own.
        observed: whether its value was given by the program; factors are.
        scale: what the program multiplies its log-probability by: a number or an array.
        plates: the plates around it.
        auxiliary: whether it serves its guide alone and has no partner in the model.
        particles: K where value and log-probability lead with an axis of particles, else None.
        score: `()` -> log-probability of the value, masked and unscaled.
    """

    name: str
    fn: Any
    value: Any
    observed: bool
    scale: Any
    plates: tuple[Plate, ...]
    auxiliary: bool
    particles: int | None
    score: Callable[[], Any]

    @cached_property
    def log_prob(self) -> Any:
        """Log-probability of the value, masked and unscaled: (*batch) or (K, *batch), in nats."""
        return self.score()

    def inside(self, plate: str) -> bool:
        """Whether the site is inside the plate of this name."""
        return any(p.name == plate for p in self.plates)

    @property
    def pathwise(self) -> bool:
        """Whether its draws have a pathwise gradient."""
        return bool(self.fn.has_rsample)

    @property
    def law(self) -> str:
        """Name of the distribution that the user wrote."""
        fn = self.fn
        while (base := getattr(fn, "base_dist", None)) is not None:
            fn = base
        return type(fn).__name__


class Sites(dict[str, Site]):
    """The sample sites of one run, by name and in order.

    Attributes:
        rows: the rows that each subsampled plate has drawn; `values` of another run.
        state: the host's mutable sites after the run.
    """

    def __init__(self, sites: Mapping[str, Site], rows: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        super().__init__(sites)
        self.rows, self.state = dict(rows), dict(state)


class Run(Protocol):
    """One run of a model or a guide."""

    def __call__(
        self,
        program: Callable[..., Any],
        batch: Mapping[str, Any],
        *,
        rng: Rng | None = None,
        params: Params | None = None,
        values: Mapping[str, Any] | None = None,
        particles: int | None = None,
        plate: str = "data",
        nesting: int = 1,
        pathwise: bool = True,
        args: tuple[Any, ...] = (),
    ) -> Sites:
        """Its sample sites; see `Host`."""
