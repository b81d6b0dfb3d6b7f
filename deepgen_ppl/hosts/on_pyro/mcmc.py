"""Our kernels as Pyro's own `MCMCKernel`: all chains move together under the host's `num_chains=1`."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from pyro.infer.mcmc.mcmc_kernel import MCMCKernel

__all__ = ["HostKernel"]


class HostKernel(MCMCKernel):
    """A kernel of ours over an energy, for `pyro.infer.MCMC`.

    A draw is a dict block name -> (C, block size): `MCMC.get_samples()` has the shapes (draws, C, block size).

    Args:
        kernel: the kernel.
        target: the energy.
        num_chains: number of chains C that move together.
    """

    model = None

    def __init__(self, kernel: Any, target: Any, num_chains: int = 1) -> None:
        if num_chains < 1:
            raise ValueError(f"expected at least one chain, got num_chains={num_chains}")
        self.kernel, self.num_chains = kernel, num_chains
        self.target = target
        self.transforms: dict[str, Any] = {}
        self._initial_params: dict[str, torch.Tensor] | None = None
        self._state: Any = None
        self._acceptance: list[float] = []

    def setup(self, warmup_steps: int, *args: Any, **kwargs: Any) -> None:
        """Reset for a new run; the randomness is seeded from torch's global generator as the host's own is."""
        del warmup_steps, args, kwargs
        device = getattr(getattr(self.target, "like", None), "device", "cpu")
        self._rng = torch.Generator(device=device).manual_seed(int(torch.randint(2**62, ())))
        with torch.no_grad():
            self._state = self.kernel.init(self._rng, self.target, self.num_chains)
        if self._initial_params is not None:
            start = {k: v.to(self._state.position[k]) for k, v in self._initial_params.items()}
            self._state = self._state._replace(position={**self._state.position, **start})
        self._acceptance = []

    @property
    def initial_params(self) -> dict[str, torch.Tensor] | None:
        """Where the chains start."""
        return self._state.position if self._state is not None else self._initial_params

    @initial_params.setter
    def initial_params(self, params: dict[str, torch.Tensor]) -> None:
        self._initial_params = params

    def sample(self, params: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """One step of all chains from `params`."""
        with torch.no_grad():
            state = self._state._replace(position=dict(params))
            self._state, info = self.kernel.step(self._rng, self.target, state)
        self._acceptance.append(float(torch.as_tensor(info.acceptance_rate).mean()))
        return self._state.position

    @staticmethod
    def by_chain(mcmc: Any) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Blocks (chain, draw, n) and statistics (chain, draw) of a run."""
        position = {k: np.moveaxis(v.cpu().numpy(), 1, 0) for k, v in mcmc.get_samples().items()}
        chains, draws = next(iter(position.values())).shape[:2]
        rates = np.asarray(mcmc.sampler.kernel._acceptance[-draws:])
        return position, {"acceptance_rate": np.broadcast_to(rates, (chains, draws))}

    def logging(self) -> OrderedDict:
        """For the progress bar."""
        return OrderedDict([("chains", str(self.num_chains))])

    def diagnostics(self) -> dict[str, Any]:
        """What ArviZ asks of a kernel."""
        return {"divergences": {}, "acceptance rate": {}}

    def cleanup(self) -> None:
        """Nothing is held."""

    def __repr__(self) -> str:
        return f"{self.kernel!r}.on({self.target!r}, num_chains={self.num_chains})"
