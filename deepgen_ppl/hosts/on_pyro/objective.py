"""Log-weights of a Pyro model-guide pair, and our objectives as Pyro's own `ELBO`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer.elbo import ELBO
from pyro.poutine.messenger import Messenger
from torch.distributions import kl_divergence

from deepgen_ppl.hosts.on_pyro.distribution import seeded
from deepgen_ppl.log_z.policies import NO_VALUE, gradient_only
from deepgen_ppl.objectives.log_weights import LogWeights, Site, Weighing, assemble

__all__ = ["HostContrastive", "HostObjective", "OwnParams", "Particles", "log_weights", "registered"]


class Particles(Messenger):
    """Draws every latent site of the data plate K times, along one new axis left of all plates."""

    def __init__(self, *, num: int, plate: str, nesting: int) -> None:
        super().__init__()
        self.num, self.plate, self.nesting = num, plate, nesting

    def _pyro_sample(self, msg: Any) -> None:
        if msg["is_observed"] or msg["done"] or msg["value"] is not None or poutine.util.site_is_subsample(msg):
            return
        if not any(frame.name == self.plate for frame in msg["cond_indep_stack"]):
            return
        shape = msg["fn"].batch_shape
        if len(shape) <= self.nesting:
            msg["fn"] = msg["fn"].expand((self.num, *(1,) * (self.nesting - len(shape)), *shape))


class OwnParams(Messenger):
    """Parameters keep the tensors that the program gives them and never reach the global parameter store."""

    def _pyro_param(self, msg: Any) -> None:
        init = msg["args"][1]
        msg["value"] = init() if callable(init) else init
        msg["done"] = msg["stop"] = True


def _site(name: str, site: Any) -> Site:
    fn = site["fn"] if site["mask"] is None else site["fn"].mask(site["mask"])
    plates = tuple((f.name, f.dim) for f in site["cond_indep_stack"])
    return Site(name, fn, site["value"], site["is_observed"], site["scale"], plates)


def _sites(trace: poutine.Trace) -> dict[str, Site]:
    return {
        name: _site(name, site)
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and not poutine.util.site_is_subsample(site)
    }


def log_weights(
    rng: torch.Generator | None,
    model: Callable,
    guide: Callable,
    args: tuple,
    kwargs: Mapping[str, Any],
    how: Weighing,
    params: Mapping[str, Any] | None = None,
) -> LogWeights:
    """Run guide and model; see `LogWeights`. Without `rng` the host's global generator is used."""
    if params:
        model, guide = (poutine.substitute(fn, data=dict(params)) for fn in (model, guide))
    runs = []
    with contextlib.nullcontext() if rng is None else seeded(rng):
        for _ in range(how.num_global):
            with Particles(num=how.num_local, plate=how.plate, nesting=how.nesting):
                q_trace = poutine.trace(guide).get_trace(*args, **kwargs)
            p_trace = poutine.trace(poutine.replay(model, trace=q_trace)).get_trace(*args, **kwargs)
            runs.append(assemble(torch, _sites(p_trace), _sites(q_trace), how, kl_divergence))
    local, totals, scale = zip(*runs, strict=True)
    global_ = [torch.as_tensor(g, dtype=local[0].dtype, device=local[0].device) for g in totals]
    return LogWeights(torch.stack(local), torch.stack(global_), scale[0])


class HostObjective(ELBO):
    """An objective of ours as the loss of `pyro.infer.SVI`."""

    def __init_subclass__(cls, engine: Any = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if engine is not None:
            cls.engine = engine
            cls.__doc__ = cls.__doc__ or next(base.__doc__ for base in cls.__mro__ if base.__doc__)

    def _get_trace(self, model: Callable, guide: Callable, args: tuple, kwargs: Mapping[str, Any]) -> tuple:
        q_trace = poutine.trace(guide).get_trace(*args, **kwargs)
        return poutine.trace(poutine.replay(model, trace=q_trace)).get_trace(*args, **kwargs), q_trace

    def differentiable_loss(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Minus the bound, in nats for the whole (scaled) data set."""
        return -self.estimate(self.engine, None, model, guide, args, kwargs)

    def loss(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> float:
        """The loss without its graph."""
        with torch.no_grad():
            return float(self.differentiable_loss(model, guide, *args, **kwargs))

    def loss_and_grads(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> float:
        """The loss, after its backward pass."""
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        loss.backward()
        return float(loss.detach())


class HostContrastive(ELBO):
    """The gradient of a `MachineLearner`, for `pyro.infer.SVI`.

    Args:
        program: the program, which keeps the chains.
    """

    def __init__(self, program: Any) -> None:
        super().__init__()
        self.program = program

    def _get_trace(self, model: Callable, guide: Callable, args: tuple, kwargs: Mapping[str, Any]) -> tuple:
        return poutine.trace(model).get_trace(*args, **kwargs), poutine.trace(guide).get_trace(*args, **kwargs)

    def loss(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> float:
        """Refused: it would mean nothing."""
        raise RuntimeError(NO_VALUE)

    def loss_and_grads(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> float:
        """One step of the chains, then the gradient; returns the gap of the free energies, in nats."""
        program = self.program
        with torch.no_grad():
            program.chains, _ = program.kernel.step(program.rng, program.machine, program.chains)
        with gradient_only():
            trace, _ = self._get_trace(model, guide, args, kwargs)
            loss = -trace.log_prob_sum()
        loss.backward()
        return float(loss.detach())


def registered(name: str, own: torch.Tensor) -> torch.Tensor:
    """The tensor registered as a host parameter, or what a handler puts in its place.

    Raises:
        RuntimeError: if the global store holds another tensor under this name.
    """
    value = pyro.param(name, own)
    store = pyro.get_param_store()
    if name in store and value is store[name] and value is not own:
        raise RuntimeError(
            f"expected Pyro's parameter store to hold this model's own {name!r}, got another tensor of shape "
            f"{tuple(value.shape)} from an earlier model: this one would not train. Give the model another name "
            "(init(..., name=...)), call pyro.clear_param_store(), or train with fit, which does not use the store"
        )
    return value
