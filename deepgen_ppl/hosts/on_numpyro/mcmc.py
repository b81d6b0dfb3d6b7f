"""Our kernels as NumPyro's own `MCMCKernel`: one key is one chain, a batch of keys the batch axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.infer.gibbs import GIBBS_SITES_KWARG
from numpyro.infer.mcmc import MCMCKernel
from numpyro.util import is_prng_key

__all__ = ["HostBlock", "HostKernel", "HostState"]


class HostState(NamedTuple):
    """What NumPyro's MCMC carries of one chain.

    Attributes:
        z: block name -> values, shape (block size,).
        inner: state of our kernel.
        info: Info of the last step; `extra_fields=("info.NAME",)` collects a field of it.
        rng_key: the chain's key.
    """

    z: dict[str, jax.Array]
    inner: Any
    info: Any
    rng_key: jax.Array

    @property
    def acceptance_rate(self) -> jax.Array:
        """That of the last step."""
        return self.info.acceptance_rate


def _one_chain(tree: Any) -> Any:
    """Arrays of one chain without their axis of chains; numbers as they are."""
    return jax.tree.map(lambda x: x[0] if jnp.ndim(x) else jnp.asarray(x), tree)


def _as(tree: Any, like: Any) -> Any:
    """The leaves in the dtypes of `like`, so that a loop may carry them."""
    return jax.tree.map(lambda x, old: x if x.dtype == old.dtype else x.astype(old.dtype), tree, like)


class _Chain(MCMCKernel):
    """One chain of a kernel of ours; the kernel sees it with an axis of chains of length 1."""

    sample_field = "z"

    def __init__(self, kernel: Any, target: Any) -> None:
        self.kernel, self.target = kernel, target

    def _start(self, target: Any, key: jax.Array, start: Any) -> HostState:
        key, first = jax.random.split(key)
        state = self.kernel.init(first, target, 1)
        if start:
            known = {k: v for k, v in state.position.items() if k in start}
            state = self.kernel.place(state, {k: start[k].reshape(1, -1).astype(v.dtype) for k, v in known.items()})
        info = jax.eval_shape(lambda s: _one_chain(self.kernel.step(first, target, s)[1]), state)
        inner = _one_chain(state)
        return HostState(inner.position, inner, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), info), key)

    def _next(self, target: Any, state: HostState) -> HostState:
        key, sub = jax.random.split(state.rng_key)
        shapes = jax.eval_shape(lambda k: self.kernel.init(k, target, 1), sub)
        whole = jax.tree.map(lambda x, shape: x[None] if shape.ndim else x, state.inner, shapes)
        inner, info = map(_one_chain, self.kernel.step(sub, target, whole))
        inner = _as(inner, state.inner)
        return HostState(inner.position, inner, _as(info, state.info), key)


class HostKernel(_Chain):
    """A kernel of ours over an energy, for `numpyro.infer.MCMC`.

    Args:
        kernel: the kernel.
        target: the energy.
        num_chains: must stay 1: `MCMC(num_chains=...)` says how many chains there are.
    """

    model = None

    def __init__(self, kernel: Any, target: Any, num_chains: int = 1) -> None:
        if num_chains != 1:
            raise ValueError(f"expected num_chains in MCMC(..., num_chains={num_chains}), got it in kernel.on(...)")
        super().__init__(kernel, target)
        self._sample_fn: Any = None

    @property
    def default_fields(self) -> tuple[str, ...]:
        """The sites and all that the kernel's Info holds, which ArviZ calls `sample_stats`."""
        info = jax.eval_shape(lambda key: self._start(self.target, key, None), jax.random.key(0)).info
        return ("z", "acceptance_rate", *(f"info.{k}" for k in info._fields if k != "acceptance_rate"))

    def init(self, rng_key: Any, num_warmup: int, init_params: Any, model_args: Any, model_kwargs: Any) -> HostState:
        """First state of one chain, or of a batch of keys."""
        del num_warmup, model_args, model_kwargs
        self._sample_fn = self.sample

        def one(key: jax.Array, start: Any) -> HostState:
            return self._start(self.target, key, start)

        if is_prng_key(rng_key):
            return one(rng_key, init_params)
        return jax.vmap(one, in_axes=(0, None if init_params is None else 0))(rng_key, init_params)

    def sample(self, state: HostState, model_args: Any, model_kwargs: Any) -> HostState:
        """One step of one chain, or of a batch of chains."""
        del model_args, model_kwargs

        def one(state: HostState) -> HostState:
            return self._next(self.target, state)

        return one(state) if is_prng_key(state.rng_key) else jax.vmap(one)(state)

    @staticmethod
    def by_chain(mcmc: Any) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Blocks (chain, draw, n) and statistics (chain, draw, ...) of a run."""
        position = {k: np.asarray(v) for k, v in mcmc.get_samples(group_by_chain=True).items()}
        extra = mcmc.get_extra_fields(group_by_chain=True)
        return position, {k.removeprefix("info."): np.asarray(v) for k, v in extra.items()}

    def get_diagnostics_str(self, state: HostState) -> str:
        """For the progress bar."""
        del state
        return repr(self.kernel)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_sample_fn": None}

    def __repr__(self) -> str:
        return f"{self.kernel!r}.on({self.target!r})"


class HostBlock(_Chain):
    """A kernel of ours as a block of `numpyro.infer.Gibbs`, over an energy that depends on all other sites.

    It has no attribute `model`, by which `Gibbs` tells that there is no program to condition, and keeps nothing that
    depends on other sites, so that there is nothing to refresh.

    Args:
        kernel: the kernel.
        target: from the values of all other sites to the energy.
    """

    def _energy(self, model_kwargs: Any) -> Any:
        target = self.target((model_kwargs or {}).get(GIBBS_SITES_KWARG, {}))
        engine = getattr(target, "engine", None)
        if engine is None or engine.host.kernel is not HostKernel:
            raise TypeError(
                f"expected an energy of deepgen_ppl.numpyro from the target of a block of NumPyro's Gibbs, got {target}"
            )
        return target

    def init(self, rng_key: Any, num_warmup: int, init_params: Any, model_args: Any, model_kwargs: Any) -> HostState:
        """First state of one chain, at the values that `Gibbs` gives."""
        del num_warmup, model_args
        start = {k: jnp.asarray(v) for k, v in (init_params or {}).items()}
        return self._start(self._energy(model_kwargs), rng_key, start)

    def sample(self, state: HostState, model_args: Any, model_kwargs: Any) -> HostState:
        """One step given all other sites."""
        del model_args
        return self._next(self._energy(model_kwargs), state)

    def refresh(self, state: HostState, model_args: Any, model_kwargs: Any) -> HostState:
        """The state itself."""
        del model_args, model_kwargs
        return state

    def get_constrain_fn(self, model_args: Any, model_kwargs: Any) -> Callable:
        """The identity: values are those of the sites."""
        del model_args, model_kwargs
        return lambda z: z

    def __repr__(self) -> str:
        return f"{self.kernel!r}.block({self.target!r})"
