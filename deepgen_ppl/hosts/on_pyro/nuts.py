"""Pyro's NUTS over the latent sites of a program, one chain after another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from pyro.infer import MCMC, NUTS

from deepgen_ppl.hosts.on_pyro.distribution import seeded
from deepgen_ppl.hosts.on_pyro.objective import OwnParams

__all__ = ["nuts"]


def nuts(
    program: Any, batch: Mapping[str, Any], rng: torch.Generator, options: Any, *, progress: bool
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Draws (C, D, ...) of all latent sites, and statistics (C, D); see `Host`."""
    chains, diverging = [], []
    frozen = program.with_params({name: p.detach() for name, p in program.params.items()})
    for _ in range(options.num_chains):
        model = OwnParams()(frozen.model)  # inside: the host's MCMC hides parameters from all handlers around it
        kernel = NUTS(model, target_accept_prob=options.target_accept_prob, max_tree_depth=options.max_tree_depth)
        mcmc = MCMC(kernel, options.num_samples, warmup_steps=options.num_warmup, disable_progbar=not progress)
        with seeded(rng):
            mcmc.run(**batch)
        chains.append({name: v.detach().cpu().numpy() for name, v in mcmc.get_samples().items()})
        found = np.zeros(options.num_samples, bool)
        found[list(mcmc.diagnostics()["divergences"]["chain 0"])] = True
        diverging.append(found)
    draws = {name: np.stack([chain[name] for chain in chains]) for name in chains[0]}
    return draws, {"diverging": np.stack(diverging)}
