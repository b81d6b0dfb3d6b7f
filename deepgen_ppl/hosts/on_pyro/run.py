"""One run of a Pyro program: its sample sites, with K particles of the local ones along an axis left of all plates.

Torch cannot map over a program, so the program sees the axis. One that is not written for it (indexing from the left, a
sum over everything) is found when it first runs: particles are scored once more, one by one.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from pyro.poutine.trace_messenger import TraceMessenger
from torch.distributions import kl_divergence

from deepgen_ppl.hosts.on_pyro.distribution import seeded
from deepgen_ppl.hosts.threads import one_at_a_time
from deepgen_ppl.sites import Plate, Site, Sites

__all__ = ["Given", "Record", "alike", "divergence", "remembered", "run", "site_of", "traced"]


class Given(Messenger):
    """Puts in parameters, draws and rows of subsampled plates; sites stay latent."""

    def __init__(self, params: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        super().__init__()
        self.params, self.values = params, values

    def _pyro_param(self, msg: Any) -> None:
        if msg["name"] in self.params:
            msg["value"], msg["done"], msg["stop"] = self.params[msg["name"]], True, True

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.values and not msg["is_observed"]:
            msg["value"], msg["done"] = self.values[msg["name"]], True


class Record(Given, TraceMessenger):
    """All that is done to the sites of one run, and their trace, in one handler: a stack of them is dear in every step.

    Latent sites of the data plate are drawn K times where there is an axis of particles. Draws without a pathwise
    gradient, or all draws, become constants; values that were put in stay as they are.
    """

    def __init__(
        self, params: Mapping[str, Any], values: Mapping[str, Any], axis: Axis | None = None, *, pathwise: bool = True
    ) -> None:
        TraceMessenger.__init__(self)
        self.params, self.values, self.axis, self.pathwise = params, values, axis, pathwise

    def _process_message(self, msg: Any) -> None:
        if msg["type"] == "sample":
            if self.axis is not None:
                self.axis.widen(msg)
            self._pyro_sample(msg)
        elif msg["type"] == "param":
            self._pyro_param(msg)

    def _pyro_post_sample(self, msg: Any) -> None:
        drawn = not msg["is_observed"] and msg["name"] not in self.values and not poutine.util.site_is_subsample(msg)
        if drawn and not (self.pathwise and msg["fn"].has_rsample):
            msg["value"] = msg["value"].detach()
        super()._pyro_post_sample(msg)


class Axis:
    """The axis of the particles: K, the plate inside which it is, and the number of plates' axes right of it."""

    def __init__(self, num: int, plate: str, nesting: int) -> None:
        self.num, self.plate, self.nesting = num, plate, nesting

    def widen(self, msg: Any) -> None:
        """Give the law of a latent site of the data plate that is to be drawn the axis, left of all plates."""
        if msg["is_observed"] or msg["done"] or msg["value"] is not None or poutine.util.site_is_subsample(msg):
            return
        if not any(frame.name == self.plate for frame in msg["cond_indep_stack"]):
            return
        shape = msg["fn"].batch_shape
        if len(shape) <= self.nesting:
            msg["fn"] = msg["fn"].expand((self.num, *(1,) * (self.nesting - len(shape)), *shape))

    def put_in(self, site: Site) -> torch.Tensor:
        """The value (K, *batch, *event) of a site as programs see it, (K, 1, .., *batch, *event)."""
        value, event = site.value, len(site.fn.event_shape)
        batch = value.dim() - 1 - event
        return value.reshape(value.shape[0], *(1,) * (self.nesting - batch), *value.shape[1:])

    def read(self, x: torch.Tensor, name: str, plates: tuple[Plate, ...], event: int = 0) -> torch.Tensor:
        """(K, *batch, *event), from (K, 1, .., *batch, *event), or without the axis where all particles have one value.

        Raises:
            ValueError: for an axis that no plate declares; it would be taken for particles, or they for it.
        """
        depth = max((-p.dim for p in plates), default=0)
        if depth > self.nesting:
            raise ValueError(
                f"expected at most max_plate_nesting={self.nesting} nested plates, got {depth} at {name!r}"
            )
        lead = x.shape[: max(x.dim() - event - depth, 0)]
        rest = x.shape[len(lead) :]
        inside = any(p.name == self.plate for p in plates)
        own = inside and bool(lead) and len(lead) == self.nesting + 1 - depth and lead[0] in (1, self.num)
        if any(n != 1 for n in (lead[1:] if own else lead)):
            where = f"inside the plates {[p.name for p in plates]}" if plates else "outside all plates"
            raise ValueError(
                f"expected the site {name!r}, {where}, to have the axes of its plates alone, got the shape "
                f"{tuple(x.shape)} with {self.num} particles: declare the axis with a plate or .to_event, put a site "
                f"that looks at the draws of each datum inside the plate {self.plate!r}, or use num_particles=1"
            )
        x = x.reshape((*(lead[:1] if own else ()), *rest))
        if not inside:
            return x
        return x.expand(self.num, *rest)


def traced(
    program: Callable, batch: Mapping[str, Any], args: tuple, record: Record
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(sample sites, rows of subsampled plates) of one run under this handler."""
    record(program)(*args, **batch)
    sites = {n: m for n, m in record.trace.nodes.items() if m["type"] == "sample"}
    rows = {n: m["value"] for n, m in sites.items() if poutine.util.site_is_subsample(m)}
    return {n: m for n, m in sites.items() if n not in rows}, rows


def site_of(name: str, msg: dict, axis: Axis | None) -> Site:
    """The site of a node of the host's trace."""
    fn = msg["fn"] if msg["mask"] is None else msg["fn"].mask(msg["mask"])
    plates = tuple(Plate(f.name, f.dim, f.size) for f in msg["cond_indep_stack"] if f.dim is not None)
    value, score, num = msg["value"], (lambda: fn.log_prob(msg["value"])), None
    if axis is not None:
        inside = any(p.name == axis.plate for p in plates)
        num = axis.num if inside else None
        if inside and not msg["is_observed"]:
            value = axis.read(value, name, plates, len(fn.event_shape))
        score = lambda: axis.read(fn.log_prob(msg["value"]), name, plates)  # noqa: E731
    auxiliary = bool(msg["infer"].get("is_auxiliary"))
    return Site(name, fn, value, msg["is_observed"], msg["scale"], plates, auxiliary, num, score)


@one_at_a_time
def run(
    program: Callable,
    batch: Mapping[str, Any],
    *,
    rng: torch.Generator | None = None,
    params: Mapping[str, Any] | None = None,
    values: Mapping[str, Any] | None = None,
    particles: int | None = None,
    plate: str = "data",
    nesting: int = 1,
    pathwise: bool = True,
    args: tuple = (),
) -> Sites:
    """The sample sites of one run; see `Host`. Without `rng` the host's global generator is used."""
    draws = {name: v for name, v in (values or {}).items() if isinstance(v, Site) and v.particles}
    num = next((site.particles for site in draws.values()), None if particles == 1 else particles)
    axis = None if num is None else Axis(num, plate, nesting)
    given = {name: v.value if isinstance(v, Site) else v for name, v in (values or {}).items()}
    if axis is not None:
        given |= {name: axis.put_in(site) for name, site in draws.items()}
    with contextlib.nullcontext() if rng is None else seeded(rng):
        found, rows = traced(program, batch, args, Record(params or {}, given, axis, pathwise=pathwise))
    sites = Sites({name: site_of(name, msg, axis) for name, msg in found.items()}, rows, {})
    if axis is not None:
        seen, case = remembered(program, batch, args, axis.num, plate, nesting)
        if case not in seen:
            _check_one_by_one(program, batch, args, params or {}, sites)
            seen[case] = ()
    return sites


_FOUND: weakref.WeakKeyDictionary[Any, dict[tuple, tuple[str, ...]]] = weakref.WeakKeyDictionary()


def remembered(
    program: Callable, batch: Mapping[str, Any], args: tuple, *how: Any
) -> tuple[dict[tuple, tuple[str, ...]], tuple]:
    """What has been found of the owner of a program by running it once more, and the case that this run is."""
    shapes = tuple((k, getattr(v, "shape", None)) for k, v in (*enumerate(args), *batch.items()))
    case = (getattr(program, "__func__", None), shapes, *how)
    try:
        return _FOUND.setdefault(getattr(program, "__self__", program), {}), case
    except TypeError:  # an owner that cannot be remembered is looked at every time
        return {}, case


def _check_one_by_one(
    program: Callable, batch: Mapping[str, Any], args: tuple, params: Mapping[str, Any], sites: Sites
) -> None:
    """Check that two particles scored alone have the log-probabilities that they have side by side.

    Raises:
        ValueError: naming the site where they differ.
    """
    # Point masses are computed again from what they depend on: put in, they would have to agree to the last bit.
    latent = {n: s for n, s in sites.items() if not s.observed and s.law != "Delta"}
    among = {n: s.log_prob.detach() for n, s in sites.items()}
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for k in range(2):
            values = {n: s.value[k] if s.particles else s.value for n, s in latent.items()} | sites.rows
            alone, _ = traced(program, batch, args, Record(params, values))
            for name, site in sites.items():
                side = among[name][k] if site.particles else among[name]
                one = site_of(name, alone[name], None).log_prob if name in alone else None
                if one is None or not alike(side, one):
                    raise ValueError(
                        f"expected the site {name!r} to have the same log-probability for a particle alone and among "
                        f"others along an axis left of all plates, got {_summary(one)} and {_summary(side)}: index "
                        "from the right and sum over named axes, or use num_particles=1"
                    )


def alike(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors differ by no more than rounding."""
    tolerance = torch.finfo(a.dtype if a.is_floating_point() else torch.float32).eps ** 0.5
    return a.shape == b.shape and torch.allclose(a, b.to(a.dtype), rtol=tolerance, atol=tolerance, equal_nan=True)


def _summary(x: torch.Tensor | None) -> str:
    return "no site" if x is None else f"{float(x.sum()):.6g} of shape {tuple(x.shape)}"


def divergence(q: Site, p: Site) -> torch.Tensor:
    """KL(q || p) of two sites; see `Host`.

    Raises:
        NotImplementedError: where the host knows none, and for point masses, whose density is relative to themselves.
    """
    if q.law == "Delta":
        raise NotImplementedError("no divergence of a point mass")
    value = kl_divergence(q.fn, p.fn)
    if q.particles is None:
        return value
    return Axis(q.particles, q.plates[0].name, value.dim() - 1).read(value, q.name, q.plates)
