"""Our objectives as Pyro's own `ELBO`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer.elbo import ELBO
from pyro.poutine.mask_messenger import MaskMessenger
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import _PYRO_STACK
from pyro.poutine.scale_messenger import ScaleMessenger

from deepgen_ppl.hosts.on_pyro.run import Record
from deepgen_ppl.hosts.threads import LOCK
from deepgen_ppl.log_z.policies import NO_VALUE, gradient_only

__all__ = ["HostContrastive", "HostObjective", "OwnParams", "keeps_own", "registered"]

BLIND = (MaskMessenger, ScaleMessenger, pyro.plate)
"""Handlers of Pyro that change nothing of a param statement without batch axes."""


class OwnParams(Messenger):
    """Parameters keep the tensors that the program gives them and never reach the global parameter store.

    Other threads wait for its end.
    """

    def __enter__(self) -> Any:
        LOCK.acquire()
        return super().__enter__()

    def __exit__(self, *error: Any) -> Any:
        try:
            return super().__exit__(*error)
        finally:
            LOCK.release()

    def _pyro_param(self, msg: Any) -> None:
        init = msg["args"][1]
        msg["value"] = init() if callable(init) else init
        msg["done"] = msg["stop"] = True


def keeps_own() -> bool:
    """Whether param statements are sure to be answered with the program's own tensors, so that none need be made."""
    for handler in reversed(_PYRO_STACK):
        if isinstance(handler, OwnParams):
            return True
        if type(handler) not in BLIND and not (isinstance(handler, Record) and not handler.params):
            return False
    return False


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
        """The loss, after its backward pass.

        Raises:
            ValueError: for tensors of the model or guide that have a gradient and that the host does not know.
        """
        with poutine.trace(param_only=True) as known:
            loss = self.differentiable_loss(model, guide, *args, **kwargs)
        loss.backward()
        _check_registered((model, guide), known.trace)
        return float(loss.detach())


def _check_registered(programs: tuple[Callable, ...], known: poutine.Trace) -> None:
    """Check that the host's optimizer sees all tensors of the modules among the programs that the loss depends on."""
    modules = [m for m in (getattr(f, "__self__", f) for f in programs) if isinstance(m, torch.nn.Module)]
    own = {id(p): n for m in modules for n, p in m.named_parameters() if p.grad is not None}
    if not own:
        return
    sites = [site["value"] for site in known.nodes.values() if site["type"] == "param"]
    seen = {id(v) for value in sites for v in (value, getattr(value, "unconstrained", lambda: None)())}
    if missed := sorted(name for at, name in own.items() if at not in seen):
        raise ValueError(
            f"expected parameters that Pyro knows, got {missed}, which would stay untrained: call "
            "pyro.module(name, self) in the program, or make it a pyro.nn.PyroModule"
        )


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
