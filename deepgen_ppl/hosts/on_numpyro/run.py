"""One run of a NumPyro program: its sample sites, with K particles of the local ones by `vmap`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from numpyro import handlers
from numpyro.distributions import kl
from numpyro.primitives import Messenger

from deepgen_ppl.hosts.threads import one_at_a_time
from deepgen_ppl.sites import Plate, Site, Sites

__all__ = ["divergence", "looking", "run"]


class Looking(ValueError):
    """What has one value for all particles looks at the draws of each: the sites of these names, where it is sites."""

    def __init__(self, names: list[str]) -> None:
        self.names = tuple(names)
        super().__init__(
            "expected sites outside the data plate that look at no draw of a datum, got "
            f"{', '.join(map(repr, names or ['a mutable site']))}: with several particles they have no one value; put "
            "them inside the plate, or use num_particles=1"
        )


class Keys(Messenger):
    """Keys of the draws: sites inside the data plate and control flow take the particle's own, others a shared one."""

    def __init__(self, fn: Callable, shared: jax.Array, own: jax.Array, plate: str) -> None:
        super().__init__(fn)
        self.shared, self.own, self.plate = shared, own, plate

    def process_message(self, msg: dict) -> None:
        """Give the message a key, as the host's `seed` does."""
        if msg["type"] not in ("sample", "prng_key", "plate", "control_flow"):
            return
        if msg["kwargs"]["rng_key"] is not None or msg["value"] is not None:
            return
        local = any(frame.name == self.plate for frame in msg.get("cond_indep_stack", ()))
        if local or msg["type"] in ("prng_key", "control_flow"):
            self.own, msg["kwargs"]["rng_key"] = jax.random.split(self.own)
        else:
            self.shared, msg["kwargs"]["rng_key"] = jax.random.split(self.shared)


class Constants(Messenger):
    """Draws without a pathwise gradient, or all draws, become constants; values that were put in stay as they are."""

    def __init__(self, fn: Callable, given: Mapping[str, Any], *, pathwise: bool) -> None:
        super().__init__(fn)
        self.given, self.pathwise = given, pathwise

    def postprocess_message(self, msg: dict) -> None:
        """Cut the gradient of a draw."""
        if msg["type"] != "sample" or msg["is_observed"] or msg["name"] in self.given:
            return
        if self.pathwise and msg["fn"].has_rsample:
            return
        if msg["fn"].has_rsample and msg.get("_control_flow_done"):
            raise ValueError(
                f"expected an objective with pathwise gradients for the site {msg['name']!r} inside the host's scan, "
                "got one that takes draws as constants: write the time steps as a Python loop"
            )
        msg["value"] = jax.lax.stop_gradient(msg["value"])


def _score(msg: dict) -> Callable[[], jax.Array]:
    fn, value, intermediates = msg["fn"], msg["value"], msg["intermediates"]
    return lambda: fn.log_prob(value, intermediates) if intermediates else fn.log_prob(value)


def _site(name: str, msg: dict) -> Site:
    return Site(
        name=name,
        fn=msg["fn"],
        value=msg["value"],
        observed=msg["is_observed"],
        scale=1.0 if msg["scale"] is None else msg["scale"],
        plates=tuple(Plate(f.name, f.dim, f.size) for f in msg["cond_indep_stack"]),
        auxiliary=bool(msg["infer"].get("is_auxiliary")),
        particles=None,
        score=_score(msg),
    )


def _subsampled(msg: dict) -> bool:
    size, drawn = msg["args"]
    return drawn is not None and drawn != size


@one_at_a_time
def run(
    program: Callable,
    batch: Mapping[str, Any],
    *,
    rng: jax.Array | None = None,
    params: Mapping[str, Any] | None = None,
    values: Mapping[str, Any] | None = None,
    particles: int | None = None,
    plate: str = "data",
    nesting: int = 1,
    pathwise: bool = True,
    args: tuple = (),
) -> Sites:
    """The sample sites of one run; see `Host`. The program never sees the axis of the particles."""
    del nesting
    given = dict(values or {})
    draws = {name: v for name, v in given.items() if isinstance(v, Site) and v.particles}
    shared = {name: v.value if isinstance(v, Site) else v for name, v in given.items() if name not in draws}

    def once(seeded: Callable, own: Mapping[str, Any]) -> Sites:
        fn = seeded(handlers.substitute(program, data={**(params or {}), **shared, **own}))
        fn = Constants(fn, given, pathwise=pathwise)
        trace = handlers.trace(fn).get_trace(*args, **batch)
        sites = {name: _site(name, msg) for name, msg in trace.items() if msg["type"] == "sample"}
        rows = {name: msg["value"] for name, msg in trace.items() if msg["type"] == "plate" and _subsampled(msg)}
        state = {name: msg["value"] for name, msg in trace.items() if msg["type"] == "mutable"}
        return Sites(sites, rows, state)

    num = next((site.particles for site in draws.values()), None if particles == 1 else particles)
    if num is None:
        return once(lambda fn: fn if rng is None else handlers.seed(fn, rng), {})
    return _mapped(once, num, rng, {name: site.value for name, site in draws.items()}, plate)


def _mapped(once: Callable, num: int, rng: jax.Array | None, draws: Mapping[str, Any], plate: str) -> Sites:
    """K particles: sites inside the plate lead with them, what is outside must be the same for all."""
    seen: dict[str, Site] = {}

    def arrays(own: dict[str, Any]) -> dict[str, Any]:
        sites = once(lambda fn: Keys(fn, shared, own["key"], plate) if "key" in own else fn, own["draws"])
        seen.update(sites)
        local = {name: _arrays(site) for name, site in sites.items() if site.inside(plate)}
        alike = {name: _arrays(site) for name, site in sites.items() if not site.inside(plate)}
        scale = {name: site.scale for name, site in sites.items() if hasattr(site.scale, "shape")}
        return {"local": local, "shared": alike, "scale": scale, "rows": sites.rows, "state": sites.state}

    each: dict[str, Any] = {"draws": dict(draws)}
    if rng is not None:
        shared, key = jax.random.split(rng)
        each["key"] = jax.random.split(key, num)
    axes = {"local": 0, "shared": None, "scale": None, "rows": None, "state": None}
    try:
        out = jax.vmap(arrays, out_axes=axes)(each)
    except ValueError as error:
        if "at vmap out_axes" in str(error):
            raise Looking([name for name in seen if f"['{name}']" in str(error)]) from None
        raise
    read = out["local"] | out["shared"]

    def site(name: str, s: Site) -> Site:
        at = read[name]
        scale, many = out["scale"].get(name, s.scale), num if name in out["local"] else None
        score = lambda: at["log_prob"]  # noqa: E731
        return Site(name, at.get("fn"), at["value"], s.observed, scale, s.plates, s.auxiliary, many, score)

    return Sites({name: site(name, s) for name, s in seen.items()}, out["rows"], out["state"])


def _arrays(site: Site) -> dict[str, Any]:
    read = {"value": site.value, "log_prob": site.log_prob}
    return read if site.observed else read | {"fn": site.fn}


def looking(
    program: Callable,
    batch: Mapping[str, Any],
    sites: Sites,
    *,
    rng: jax.Array | None = None,
    params: Mapping[str, Any] | None = None,
    plate: str = "data",
    nesting: int = 1,
    args: tuple = (),
) -> tuple[str, ...]:
    """Sites outside the plate that look at a draw inside it; see `Host`. It is traced with two particles, never run."""

    def twice(site: Site) -> Site:
        if not site.inside(plate):
            return site
        return dataclasses.replace(site, value=jnp.stack([site.value] * 2), particles=2)

    values = {name: twice(site) for name, site in sites.items() if not site.observed} | sites.rows

    def traced() -> None:
        run(program, batch, rng=rng, params=params, values=values, plate=plate, nesting=nesting, args=args)

    try:
        jax.eval_shape(traced)
    except Looking as found:
        return tuple(name for name in found.names if not sites[name].inside(plate))
    except Exception:  # a program that JAX cannot map is run with one particle alone
        return ()
    return ()


def divergence(q: Site, p: Site) -> jax.Array:
    """KL(q || p) of two sites; see `Host`.

    Raises:
        NotImplementedError: where the host knows none, and for point masses, whose density is relative to themselves.
    """
    if q.law == "Delta":
        raise NotImplementedError("no divergence of a point mass")
    known = kl.kl_divergence
    if q.particles is None and p.particles is None:
        return known(q.fn, p.fn)
    axes = (0 if q.particles else None, 0 if p.particles else None)
    return jax.vmap(known, in_axes=axes)(q.fn, p.fn)
