"""NumPyro's NUTS over the latent sites of a program."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from numpyro import handlers
from numpyro.infer import MCMC, NUTS

from deepgen_ppl.hosts.threads import one_at_a_time

__all__ = ["nuts"]

STATS = {
    "potential_energy": "energy_of_position",
    "diverging": "diverging",
    "accept_prob": "acceptance_rate",
    "num_steps": "n_steps",
}


@one_at_a_time
def nuts(
    program: Any, batch: Mapping[str, Any], rng: jax.Array, options: Any, *, progress: bool
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Draws (C, D, ...) of all latent sites, and statistics (C, D); see `Host`."""
    model = handlers.substitute(program.model, data=dict(program.params))
    kernel = NUTS(model, target_accept_prob=options.target_accept_prob, max_tree_depth=options.max_tree_depth)
    mcmc = MCMC(
        kernel,
        num_warmup=options.num_warmup,
        num_samples=options.num_samples,
        num_chains=options.num_chains,
        chain_method="sequential" if options.num_chains == 1 else "vectorized",
        progress_bar=progress,
    )
    mcmc.run(rng, **batch, extra_fields=tuple(STATS))
    draws = {name: np.asarray(v) for name, v in mcmc.get_samples(group_by_chain=True).items()}
    fields = mcmc.get_extra_fields(group_by_chain=True)
    stats = {ours: np.asarray(fields[name]) for name, ours in STATS.items()}
    stats["lp"] = -stats.pop("energy_of_position")
    return draws, stats
