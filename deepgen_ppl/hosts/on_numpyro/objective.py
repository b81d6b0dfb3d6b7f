"""Our objectives as NumPyro's own `ELBO`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from numpyro import handlers
from numpyro.infer.elbo import ELBO
from numpyro.primitives import mutable

from deepgen_ppl.log_z.policies import NO_VALUE, gradient_only

__all__ = ["HostContrastive", "HostObjective", "persistent"]


class HostObjective(ELBO):
    """An objective of ours as the loss of `numpyro.infer.SVI`."""

    def __init_subclass__(cls, engine: Any = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if engine is not None:
            cls.engine = engine
            cls.__doc__ = cls.__doc__ or next(base.__doc__ for base in cls.__mro__ if base.__doc__)

    @property
    def can_infer_discrete(self) -> bool:
        """What the host asks before it warns: whether discrete sites of the guide are trained, by their score."""
        return bool(self.scores)

    def loss(self, rng_key: Any, param_map: Any, model: Any, guide: Any, *args: Any, **kwargs: Any) -> jax.Array:
        """Minus the bound, in nats for the whole (scaled) data set, as the host's own objectives return it."""
        return self.loss_with_mutable_state(rng_key, param_map, model, guide, *args, **kwargs)["loss"]

    def loss_with_mutable_state(
        self, rng_key: Any, param_map: Any, model: Any, guide: Any, *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        """The loss, and the mutable sites of the pair after the run."""
        w = self.log_weights(self.engine, rng_key, model, guide, args, kwargs, param_map)
        return {"loss": -self.evaluate(self.engine, w), "mutable_state": dict(w.state) or None}


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
