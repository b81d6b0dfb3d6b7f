"""Our kernels as NumPyro's own `MCMCKernel`: one key is one chain, a batch of keys the batch axis."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np
from numpyro.infer.mcmc import MCMCKernel
from numpyro.util import is_prng_key

__all__ = ["HostKernel", "HostState"]


class HostState(NamedTuple):
    """What NumPyro's MCMC carries.

    Attributes:
        z: block name -> values of one chain, shape (block size,).
        inner: state of our kernel.
        acceptance_rate: of the last step.
        rng_key: the chain's key.
    """

    z: dict[str, jax.Array]
    inner: Any
    acceptance_rate: jax.Array
    rng_key: jax.Array


class HostKernel(MCMCKernel):
    """A kernel of ours over an energy, for `numpyro.infer.MCMC`.

    Args:
        kernel: the kernel.
        target: the energy.
        num_chains: must stay 1: `MCMC(num_chains=...)` says how many chains there are.
    """

    sample_field = "z"
    model = None

    def __init__(self, kernel: Any, target: Any, num_chains: int = 1) -> None:
        if num_chains != 1:
            raise ValueError(f"expected num_chains in MCMC(..., num_chains={num_chains}), got it in kernel.on(...)")
        self.kernel = kernel
        self.target = target
        self._sample_fn: Any = None

    @property
    def default_fields(self) -> tuple[str, ...]:
        """The sites, and what ArviZ calls `sample_stats`."""
        return ("z", "acceptance_rate")

    def init(self, rng_key: Any, num_warmup: int, init_params: Any, model_args: Any, model_kwargs: Any) -> HostState:
        """First state of one chain, or of a batch of keys."""
        del num_warmup, model_args, model_kwargs
        self._sample_fn = self._step

        def one(key: jax.Array, start: Any) -> HostState:
            key, first = jax.random.split(key)
            inner = self.kernel.init(first, self.target, 1)
            if start is not None:
                position = {k: start[k].reshape(1, -1).astype(v.dtype) for k, v in inner.position.items()}
                inner = inner._replace(position=position)
            inner = jax.tree.map(lambda x: x[0], inner)
            return HostState(inner.position, inner, jax.numpy.ones(()), key)

        if is_prng_key(rng_key):
            return one(rng_key, init_params)
        return jax.vmap(one, in_axes=(0, None if init_params is None else 0))(rng_key, init_params)

    def _step(self, state: HostState) -> HostState:
        key, sub = jax.random.split(state.rng_key)
        inner = jax.tree.map(lambda x: x[None], state.inner)
        inner, info = self.kernel.step(sub, self.target, inner)
        inner = jax.tree.map(lambda x: x[0], inner)
        rate = jax.numpy.mean(jax.numpy.asarray(info.acceptance_rate, jax.numpy.result_type(float)))
        return HostState(inner.position, inner, rate, key)

    def sample(self, state: HostState, model_args: Any, model_kwargs: Any) -> HostState:
        """One step of one chain, or of a batch of chains."""
        del model_args, model_kwargs
        return self._step(state) if is_prng_key(state.rng_key) else jax.vmap(self._step)(state)

    @staticmethod
    def by_chain(mcmc: Any) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Blocks (chain, draw, n) and statistics (chain, draw) of a run."""
        position = {k: np.asarray(v) for k, v in mcmc.get_samples(group_by_chain=True).items()}
        extra = mcmc.get_extra_fields(group_by_chain=True)
        return position, {k: np.asarray(v) for k, v in extra.items()}

    def get_diagnostics_str(self, state: HostState) -> str:
        """For the progress bar."""
        del state
        return repr(self.kernel)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_sample_fn": None}

    def __repr__(self) -> str:
        return f"{self.kernel!r}.on({self.target!r})"
