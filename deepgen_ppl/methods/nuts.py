r"""The no-U-turn sampler of the host, over the latent sites of a program.

    theta_s ~ p(theta | D),    p(theta, D) = p(theta) prod_n p(x_n | theta)

The program's own trained arrays stay as they are. Its guide is not used.

Reference: The No-U-Turn Sampler (Hoffman & Gelman, 2014), algorithm 6.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Any

from deepgen_ppl.data import checked
from deepgen_ppl.options import check_options, integer, real
from deepgen_ppl.training.method import Fit, Method
from deepgen_ppl.training.posterior import Posterior
from deepgen_ppl.typing import Rng

__all__ = ["NUTS"]

PLATE = "data"


@dataclass(frozen=True, kw_only=True)
class NUTS(Method):
    """The host's no-U-turn sampler as a method of `fit`: draws of the global latent sites given all data.

        theta_s ~ p(theta | D),    p(theta, D) = p(theta) prod_n p(x_n | theta)

    Args:
        num_warmup: steps of adaptation of each chain, which are not kept.
        num_samples: draws of each chain.
        num_chains: number of chains.
        target_accept_prob: mean acceptance to which the step size is adapted.
        max_tree_depth: at most 2^depth leapfrog steps a draw.

    Raises:
        ValueError: for options out of range.

    Example:
        >>> import deepgen_ppl.numpyro as dg
        >>> dg.NUTS(num_warmup=200, num_samples=300)
        NUTS(num_warmup=200, num_samples=300, num_chains=1, target_accept_prob=0.8, max_tree_depth=10)

    Reference:
        The No-U-Turn Sampler (Hoffman & Gelman, 2014), algorithm 6, https://arxiv.org/abs/1111.4246.
    """

    num_warmup: int = 500
    num_samples: int = 500
    num_chains: int = 1
    target_accept_prob: float = 0.8
    max_tree_depth: int = 10

    def __post_init__(self) -> None:
        counts = {name: integer(getattr(self, name), name) for name in ("num_samples", "num_chains", "max_tree_depth")}
        check_options(
            self,
            num_warmup=integer(self.num_warmup, "num_warmup", least=0),
            target_accept_prob=real(self.target_accept_prob, "target_accept_prob", low=0, high=1, open_low=True),
            **counts,
        )

    def run(self, model: Any, data: Any, *, rng: Rng | int, progress: bool | None = None) -> Fit:
        """Draw from the posterior; the model comes back as it was, with the draws in `Fit.posterior()`.

        Args:
            model: a program with global latent sites.
            data: one array, or named arrays.
            rng: seed or generator.
            progress: whether to show the host's progress bar; by default where standard error is a terminal.

        Raises:
            TypeError: for a model that is no program.
            ValueError: for a program without global latent sites, or with latent sites of each datum.
        """
        if not hasattr(model, "guide"):
            raise TypeError(f"expected a program for NUTS, got {type(model).__name__}")
        engine, batch, began = model.engine, checked(model, data), time.perf_counter()
        first, second = engine.random.split(engine.random.rng(rng, model.like), 2)
        with engine.host.bound():
            sites = engine.host.run(model.model, batch, rng=first)
        latent = {name: s for name, s in sites.items() if not s.observed}
        if local := sorted(name for name, s in latent.items() if s.inside(PLATE)):
            raise ValueError(f"expected a program whose latent sites all data share, got {local} of each datum")
        if not latent:
            raise ValueError(f"expected a program with latent sites, got {model!r}, which has none")
        show = sys.stderr.isatty() if progress is None else progress
        draws, stats = engine.host.nuts(model, batch, second, self, progress=show)
        flat = {n: v.reshape(-1, *v.shape[2:]) for n, v in stats.items()}
        sampled = {n: engine.arrays.asarray(v.reshape(-1, *v.shape[2:]), like=model.like) for n, v in draws.items()}
        posterior = Posterior(model, sampled, num_chains=self.num_chains, stats=flat)
        return Fit(model, {"seconds": [time.perf_counter() - began]}, None, draws=posterior)
