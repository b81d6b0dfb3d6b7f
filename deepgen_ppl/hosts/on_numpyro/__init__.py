"""The JAX half: NumPyro behind the library's engine."""

from __future__ import annotations

import contextlib
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro import handlers
from numpyro.distributions import constraints

from deepgen_ppl.energies.path import Path
from deepgen_ppl.engine import Engine, Host
from deepgen_ppl.hosts.on_numpyro.arrays import ARRAYS, CONTROL, RANDOM, SPECIAL
from deepgen_ppl.hosts.on_numpyro.distribution import Marginal, Spin, draw
from deepgen_ppl.hosts.on_numpyro.mcmc import HostKernel
from deepgen_ppl.hosts.on_numpyro.nets import NETWORKS, module
from deepgen_ppl.hosts.on_numpyro.objective import HostContrastive, HostObjective, log_weights, persistent
from deepgen_ppl.hosts.on_numpyro.run import run
from deepgen_ppl.hosts.on_numpyro.trainer import OPTIMIZERS, Trainer
from deepgen_ppl.log_z.estimates import Contrastive, LogNormalizer
from deepgen_ppl.typing import ArrayDict

__all__ = ["ENGINE", "HostObjective", "ProgramBase", "register"]


def register(cls: Any) -> None:
    """Register a class as a pytree: its `dynamic_fields` are children, its `static_fields` the tree's own."""
    dynamic, static = cls.dynamic_fields, cls.static_fields

    def flatten(model: Any) -> tuple:
        children = tuple((jax.tree_util.GetAttrKey(f), getattr(model, f)) for f in dynamic)
        return children, tuple(getattr(model, f) for f in static)

    def unflatten(aux: tuple, children: tuple) -> Any:
        model = object.__new__(cls)
        for name, value in (*zip(dynamic, children, strict=True), *zip(static, aux, strict=True)):
            object.__setattr__(model, name, value)
        return model

    jax.tree_util.register_pytree_with_keys(cls, flatten, unflatten)


class ProgramBase:
    """Base of the face's programs: an ordinary class on JAX."""


jax.tree_util.register_pytree_with_keys(
    ArrayDict,
    lambda arrays: (tuple((jax.tree_util.DictKey(k), arrays[k]) for k in sorted(arrays)), tuple(sorted(arrays))),
    lambda names, values: ArrayDict(zip(names, values, strict=True)),
)
for _cls in (Path, LogNormalizer, Contrastive):
    register(_cls)

ENGINE = Engine(
    name="numpyro",
    xp=jnp,
    arrays=ARRAYS,
    special=SPECIAL,
    random=RANDOM,
    control=CONTROL,
    nn=NETWORKS,
    host=Host(
        ppl=numpyro,
        dist=dist,
        constraints=constraints,
        handlers=handlers,
        module=module,
        param=numpyro.param,
        trainable=dict,
        persistent=persistent,
        contrastive=HostContrastive,
        spin=Spin,
        draw=draw,
        marginal=Marginal,
        kernel=HostKernel,
        run=run,
        log_weights=log_weights,
        trainer=Trainer,
        optimizers=OPTIMIZERS,
        bound=contextlib.nullcontext,
    ),
    register=register,
)
