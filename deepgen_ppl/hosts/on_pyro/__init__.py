"""The torch half: Pyro behind the library's engine."""

from __future__ import annotations

from typing import Any

import array_api_compat.torch as xp
import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch.distributions import constraints

from deepgen_ppl.engine import Engine, Host
from deepgen_ppl.hosts.on_pyro.arrays import ARRAYS, CONTROL, RANDOM, SPECIAL
from deepgen_ppl.hosts.on_pyro.distribution import Marginal, Spin, draw
from deepgen_ppl.hosts.on_pyro.mcmc import HostKernel
from deepgen_ppl.hosts.on_pyro.nets import NETWORKS, module
from deepgen_ppl.hosts.on_pyro.objective import HostContrastive, HostObjective, OwnParams, log_weights, registered
from deepgen_ppl.hosts.on_pyro.run import run
from deepgen_ppl.hosts.on_pyro.trainer import OPTIMIZERS, Trainer

__all__ = ["ENGINE", "HostObjective", "ProgramBase", "register"]


def register(cls: type) -> None:
    """Nothing to do: torch needs no registration."""


class ProgramBase(torch.nn.Module):
    """Base of the face's programs: an `nn.Module`, so that `.to`, `.parameters` and `state_dict` work."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Make the module before the program's own `__init__` runs."""
        self = super().__new__(cls)
        torch.nn.Module.__init__(self)
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        """Trained arrays become parameters of the module, of its own."""
        if name == "arrays":
            value = torch.nn.ParameterDict({k: v.detach().clone() for k, v in value.items()})
        super().__setattr__(name, value)


ENGINE = Engine(
    name="pyro",
    xp=xp,
    arrays=ARRAYS,
    special=SPECIAL,
    random=RANDOM,
    control=CONTROL,
    nn=NETWORKS,
    host=Host(
        ppl=pyro,
        dist=dist,
        constraints=constraints,
        handlers=poutine,
        module=module,
        param=registered,
        trainable=lambda params: {k: v.detach().clone().requires_grad_() for k, v in params.items()},
        persistent=lambda name, program: program.chains,
        contrastive=HostContrastive,
        spin=Spin,
        draw=draw,
        marginal=Marginal,
        kernel=HostKernel,
        run=run,
        log_weights=log_weights,
        trainer=Trainer,
        optimizers=OPTIMIZERS,
        bound=OwnParams,
    ),
    register=register,
)
