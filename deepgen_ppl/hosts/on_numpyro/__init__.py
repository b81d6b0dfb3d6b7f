"""The JAX half: NumPyro behind the library's engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

try:
    import jax
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist
    from numpyro import handlers
    from numpyro.distributions import constraints
except ImportError as error:
    raise ImportError(f"expected JAX and NumPyro: pip install 'deepgen-ppl[numpyro]' ({error})") from error

from deepgen_ppl.energies.path import Path
from deepgen_ppl.engine import Engine, Host
from deepgen_ppl.hosts.on_numpyro.arrays import ARRAYS, CONTROL, RANDOM, SPECIAL
from deepgen_ppl.hosts.on_numpyro.distribution import Marginal, Spin, draw
from deepgen_ppl.hosts.on_numpyro.mcmc import HostBlock, HostKernel
from deepgen_ppl.hosts.on_numpyro.nets import NETWORKS, module
from deepgen_ppl.hosts.on_numpyro.nuts import nuts
from deepgen_ppl.hosts.on_numpyro.objective import HostContrastive, HostObjective, persistent
from deepgen_ppl.hosts.on_numpyro.pair import adopted
from deepgen_ppl.hosts.on_numpyro.run import divergence, looking, run
from deepgen_ppl.hosts.on_numpyro.trainer import OPTIMIZERS, Trainer
from deepgen_ppl.hosts.on_numpyro.transform import HostTransform
from deepgen_ppl.hosts.threads import LOCK
from deepgen_ppl.kernels.kernel import Kernel
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
    """Base of the face's programs and energies on JAX: a model is a tree, whose parts are these attributes."""

    model: Any
    networks = machines = arrays = own_constants = ArrayDict()  # of one that builds none

    def _hold(self, **parts: Mapping[str, Any]) -> None:
        """Set the state: networks, machines, arrays and constants of its own, by name."""
        for name, part in parts.items():
            setattr(self, name, ArrayDict(part))

    def _sites(self, rng: jax.Array, inputs: Mapping[str, Any]) -> dict[str, tuple[Any, Any, bool]]:
        """Sites of one run of the model: name -> (value, its log-probability, whether it is observed)."""
        with LOCK:
            trace = handlers.trace(handlers.seed(self.model, rng)).get_trace(**inputs)
        sites = {name: s for name, s in trace.items() if s["type"] == "sample"}
        return {name: (s["value"], s["fn"].log_prob(s["value"]), s["is_observed"]) for name, s in sites.items()}


jax.tree_util.register_pytree_with_keys(
    ArrayDict,
    lambda arrays: (tuple((jax.tree_util.DictKey(k), arrays[k]) for k in sorted(arrays)), tuple(sorted(arrays))),
    lambda names, values: ArrayDict(zip(names, values, strict=True)),
)
for _cls in (Path, LogNormalizer, Contrastive):
    register(_cls)
Kernel.host_block = HostBlock

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
        transform=HostTransform,
        biject_to=dist.biject_to,
        marginal=Marginal,
        kernel=HostKernel,
        run=run,
        looking=looking,
        divergence=divergence,
        adopted=adopted,
        nuts=nuts,
        trainer=Trainer,
        optimizers=OPTIMIZERS,
        bound=lambda: LOCK,
    ),
    register=register,
)
