r"""Wake-sleep.

    wake,  z ~ q(z | x):     grad of the model log p(x, z)
    sleep, (x, z) ~ p(x, z): grad of the guide log q(z | x)

Reference: The Wake-Sleep Algorithm for Unsupervised Neural Networks (Hinton et al., 1995), eq. 5-8.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from deepgen_ppl.engine import Engine
from deepgen_ppl.objectives.log_weights import LogWeights
from deepgen_ppl.objectives.objective import ProgramObjective
from deepgen_ppl.sites import Sites
from deepgen_ppl.typing import Array, Params, Rng

__all__ = ["WakeSleep"]


@dataclass(frozen=True)
class WakeSleep(ProgramObjective):
    """Both phases; the loss printed is the ELBO. Draws are constants, discrete or not.

        wake,  z ~ q(z | x):     grad of the model log p(x, z)
        sleep, (x, z) ~ p(x, z): grad of the guide log q(z | x)

    The sleep phase runs the model with its observed sites drawn and gives them to the guide, whose arguments of the
    same names they are.

    Args:
        num_particles: number K of draws of the local sites for each datum in the wake phase.
        num_global: number S of draws of the global sites; the guide may have none here.
        plate: name of the data plate.
        max_plate_nesting: number of nested plates, the data plate included.

    Raises:
        ValueError: for options that are no positive integers.

    Example:
        >>> import numpy as np
        >>> import deepgen_ppl.numpyro as dg
        >>> w = np.float32([[[1.0], [3.0]]])  # weights p(x, z) / q(z | x), shape (S, K, N): two particles of one datum
        >>> bool(np.isclose(dg.WakeSleep(num_particles=2).bound(dg.engine, np.log(w)), np.log(3) / 2))
        True

    Reference:
        The Wake-Sleep Algorithm for Unsupervised Neural Networks (Hinton et al., 1995), eq. 5-8,
        https://doi.org/10.1126/science.7761831.
    """

    pathwise: ClassVar[bool] = False

    def bound(self, engine: Engine, local: Array) -> Array:
        """Mean over the particles."""
        return engine.xp.mean(local, axis=1)

    def signal(self, engine: Engine, local: Array) -> Array:
        """1 / K: takes back the gradient of -log q, so that the wake phase trains the model alone."""
        return engine.xp.ones_like(local) / local.shape[1]

    def log_weights(
        self,
        engine: Engine,
        rng: Rng,
        model: Callable,
        guide: Callable,
        args: tuple,
        kwargs: Mapping[str, Any],
        params: Params | None = None,
    ) -> LogWeights:
        """Those of the wake phase, to which the sleep phase adds zeros with its gradient, one a row."""
        first, second = (None, None) if rng is None else engine.random.split(rng, 2)
        w = super().log_weights(engine, first, model, guide, args, kwargs, params)
        log_q = self.sleep(engine, second, model, guide, args, kwargs, params)
        return replace(w, local=w.local + (log_q - engine.special.stop_gradient(log_q)))

    def sleep(
        self,
        engine: Engine,
        rng: Rng,
        model: Callable,
        guide: Callable,
        args: tuple,
        kwargs: Mapping[str, Any],
        params: Params | None,
    ) -> Array:
        """log q(z | x) of one draw (x, z) of the model for each row, shape (N,)."""
        stop, run = engine.special.stop_gradient, engine.host.run
        place: dict[str, Any] = {"params": params, "plate": self.plate, "nesting": self.max_plate_nesting}
        data = dict(inspect.signature(guide).bind(*args, **kwargs).arguments)
        keys = [None] * 3 if rng is None else engine.random.split(rng, 3)
        observed = {n for n, s in run(model, kwargs, rng=keys[0], args=args, **place).items() if s.observed}
        if missing := sorted(observed - data.keys()):
            raise ValueError(
                f"expected a guide with the arguments {missing}, the observed sites of the model, got {sorted(data)}: "
                "the sleep phase gives it what the model draws"
            )
        dream = run(engine.host.handlers.uncondition(model), kwargs, rng=keys[1], args=args, **place)
        values = {name: stop(site.value) for name, site in dream.items()} | dream.rows
        dreamt = {name: engine.arrays.cast(values.pop(name), data[name]) for name in observed}
        return _log_q(engine, run(guide, {**data, **dreamt}, rng=keys[2], values=values, **place))


def _log_q(engine: Engine, sites: Sites) -> Array:
    """Sum over the sites and all axes but the rows."""
    total: Any = 0.0
    for site in sites.values():
        axes = tuple(range(len(site.log_prob.shape) - 1))
        total = total + (engine.xp.sum(site.log_prob, axis=axes) if axes else site.log_prob)
    return total
