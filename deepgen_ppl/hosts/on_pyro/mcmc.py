"""Our kernels as Pyro's own `MCMCKernel`: C chains move together in each chain of the host's own."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from pyro.infer.mcmc.mcmc_kernel import MCMCKernel

from deepgen_ppl.options import integer

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
        self.kernel, self.target, self.num_chains = kernel, target, integer(num_chains, "num_chains")
        self.transforms: dict[str, Any] = {}
        self._starts: list[dict[str, torch.Tensor]] = []
        self._state: Any = None
        self._info: list[dict[str, torch.Tensor]] = []

    def setup(self, warmup_steps: int, *args: Any, **kwargs: Any) -> None:
        """Reset for a new run; the randomness is seeded from torch's global generator as the host's own is.

        Raises:
            ValueError: for `initial_params` of chains in processes of their own, which the host would mix up.
        """
        del args, kwargs
        if len(self._starts) > 1:
            raise ValueError(
                f"expected kernel.on(machine, num_chains=C) in MCMC(num_chains=1) for initial_params, got "
                f"MCMC(num_chains={len(self._starts)}), which runs them in processes that would all start where the "
                "last is told to"
            )
        self._warmup = warmup_steps
        device = getattr(getattr(self.target, "like", None), "device", "cpu")
        self._rng = torch.Generator(device=device).manual_seed(int(torch.randint(2**62, ())))
        with torch.no_grad():
            state = self.kernel.init(self._rng, self.target, self.num_chains)
            for start in self._starts:
                at = {k: state.position[k] for k in start}
                state = self.kernel.place(state, {k: v.to(at[k]).reshape(at[k].shape) for k, v in start.items()})
        self._state, self._info, self._starts = state, [], []

    @property
    def initial_params(self) -> dict[str, torch.Tensor] | None:
        """Where the chains start; the host puts it in before a run."""
        return None if self._state is None else self._state.position

    @initial_params.setter
    def initial_params(self, params: dict[str, torch.Tensor]) -> None:
        self._starts.append(params)

    def sample(self, params: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """One step of all chains from `params`."""
        with torch.no_grad():
            state = self._state._replace(position=dict(params))
            self._state, info = self.kernel.step(self._rng, self.target, state)
        self._info.append({k: torch.as_tensor(v) for k, v in info._asdict().items()})
        return self._state.position

    def diagnostics(self) -> dict[str, Any]:
        """Of the run that ends: Info by field, arrays (draws, C, ...), as the host hands it on from each chain."""
        steps = self._info[self._warmup :]
        info = {k: np.stack([self._by_chain(step[k]) for step in steps]) for k in steps[0]} if steps else {}
        rate = float(np.mean(info["acceptance_rate"])) if steps else float("nan")
        return {"divergences": [], "acceptance rate": rate, "info": info}

    def _by_chain(self, x: torch.Tensor) -> np.ndarray:
        x = x.detach().cpu().numpy()
        return np.broadcast_to(x, (self.num_chains,)) if x.ndim == 0 else x

    @staticmethod
    def by_chain(mcmc: Any) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Blocks (chain, draw, n) and statistics (chain, draw, ...) of a run: the host's chains times C."""

        def chains_first(x: np.ndarray) -> np.ndarray:
            x = np.moveaxis(x, 2, 1)
            return x.reshape(-1, *x.shape[2:])

        samples = mcmc.get_samples(group_by_chain=True)
        position = {k: chains_first(v.cpu().numpy()) for k, v in samples.items()}
        runs = [diagnostics["info"] for diagnostics in mcmc._diagnostics]
        return position, {k: chains_first(np.stack([run[k] for run in runs])) for k in runs[0]}

    def logging(self) -> OrderedDict:
        """For the progress bar."""
        return OrderedDict([("chains", str(self.num_chains))])

    def cleanup(self) -> None:
        """Let go of what a run keeps."""
        self._info = []

    def __repr__(self) -> str:
        return f"{self.kernel!r}.on({self.target!r}, num_chains={self.num_chains})"
