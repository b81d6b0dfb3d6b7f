"""Log-weights of a NumPyro model-guide pair, and our objectives as NumPyro's own `ELBO`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from numpyro import handlers
from numpyro.distributions.kl import kl_divergence
from numpyro.infer.elbo import ELBO
from numpyro.primitives import Messenger, mutable

from deepgen_ppl.log_z.policies import NO_VALUE, gradient_only
from deepgen_ppl.objectives.log_weights import LogWeights, Site, Weighing, assemble

__all__ = ["HostContrastive", "HostObjective", "Particles", "log_weights", "persistent"]


class Particles(Messenger):
    """Draws every latent site of the data plate K times, along one new axis left of all plates."""

    def __init__(self, fn: Callable, *, num: int, plate: str, nesting: int) -> None:
        super().__init__(fn)
        self.num, self.plate, self.nesting = num, plate, nesting

    def process_message(self, msg: dict) -> None:
        """Expand the site's distribution."""
        if msg["type"] != "sample" or msg.get("is_observed") or msg["value"] is not None:
            return
        if not any(frame.name == self.plate for frame in msg["cond_indep_stack"]):
            return
        shape = msg["fn"].batch_shape
        if len(shape) <= self.nesting:
            msg["fn"] = msg["fn"].expand((self.num, *(1,) * (self.nesting - len(shape)), *shape))


def _site(name: str, site: Any) -> Site:
    scale = 1.0 if site["scale"] is None else site["scale"]
    plates = tuple((f.name, f.dim) for f in site["cond_indep_stack"])
    return Site(name, site["fn"], site["value"], site["is_observed"], scale, plates)


def _sites(trace: Mapping[str, Any]) -> dict[str, Site]:
    return {name: _site(name, site) for name, site in trace.items() if site["type"] == "sample"}


def log_weights(
    rng: jax.Array,
    model: Callable,
    guide: Callable,
    args: tuple,
    kwargs: Mapping[str, Any],
    how: Weighing,
    params: Mapping[str, Any] | None = None,
) -> LogWeights:
    """Run guide and model; see `LogWeights`."""

    def one(key: jax.Array) -> tuple[jax.Array, jax.Array, Any]:
        guide_key, model_key = jax.random.split(key)
        q, p = (handlers.substitute(fn, data=dict(params)) if params else fn for fn in (guide, model))
        q = Particles(handlers.seed(q, guide_key), num=how.num_local, plate=how.plate, nesting=how.nesting)
        q_trace = handlers.trace(q).get_trace(*args, **kwargs)
        p = handlers.replay(handlers.seed(p, model_key), trace=q_trace)
        p_trace = handlers.trace(p).get_trace(*args, **kwargs)
        return assemble(jnp, _sites(p_trace), _sites(q_trace), how, kl_divergence)

    if how.num_global == 1:
        local, global_, scale = one(rng)
        return LogWeights(local[None], jnp.reshape(global_, (1,)), scale)
    local, global_, scale = jax.vmap(one)(jax.random.split(rng, how.num_global))
    return LogWeights(local, global_, scale[0])


class HostObjective(ELBO):
    """An objective of ours as the loss of `numpyro.infer.SVI`."""

    def __init_subclass__(cls, engine: Any = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if engine is not None:
            cls.engine = engine
            cls.__doc__ = cls.__doc__ or next(base.__doc__ for base in cls.__mro__ if base.__doc__)

    def loss(self, rng_key: Any, param_map: Any, model: Any, guide: Any, *args: Any, **kwargs: Any) -> jax.Array:
        """Minus the bound, in nats for the whole (scaled) data set, as the host's own objectives return it."""
        return -self.estimate(self.engine, rng_key, model, guide, args, kwargs, param_map)

    def loss_with_mutable_state(
        self, rng_key: Any, param_map: Any, model: Any, guide: Any, *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        """The loss; our programs keep no mutable state."""
        return {"loss": self.loss(rng_key, param_map, model, guide, *args, **kwargs), "mutable_state": None}


def persistent(name: str, program: Any) -> Any:
    """Chains of a `MachineLearner`, in a mutable site."""
    return mutable(name, program.chains)


class HostContrastive(ELBO):
    """The gradient of a `MachineLearner`, for `numpyro.infer.SVI`.

    Args:
        program: the program, whose mutable site keeps the chains.
    """

    def __init__(self, program: Any) -> None:
        super().__init__()
        self.program = program

    def loss(self, rng_key: Any, param_map: Any, model: Any, guide: Any, *args: Any, **kwargs: Any) -> jax.Array:
        """Refused: it would mean nothing."""
        raise RuntimeError(NO_VALUE)

    def loss_with_mutable_state(
        self, rng_key: Any, param_map: Any, model: Any, guide: Any, *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        """One step of the chains, then the gap of the free energies, in nats, whose gradient is the likelihood's."""
        program = self.program
        machine = program.machine.with_params({k: param_map[k] for k in program.machine.params})
        chains, _ = program.kernel.step(rng_key, machine, param_map["chains"])
        chains = jax.lax.stop_gradient(chains)
        data = {**param_map, "chains": chains}
        with gradient_only():
            trace = handlers.trace(handlers.substitute(model, data=data)).get_trace(*args, **kwargs)
            terms = log_joint(trace)
        return {"loss": -terms, "mutable_state": {"chains": chains}}


def log_joint(trace: Mapping[str, Any]) -> jax.Array:
    """Scaled sum of the log-probabilities of a trace."""
    sites = [s for s in trace.values() if s["type"] == "sample"]
    return sum((1.0 if s["scale"] is None else s["scale"]) * jnp.sum(s["fn"].log_prob(s["value"])) for s in sites)
