r"""Reweighted wake-sleep, with the wake phase of the guide.

    model: grad log mean_k w_k,     guide: sum_k v_k grad log q(z_k | x),     v_k = w_k / sum_j w_j

The guide's gradient descends a self-normalized estimate of KL(p(z | x) || q(z | x)): its bias is O(1 / K).

Reference: Reweighted Wake-Sleep (Bornschein & Bengio, 2015), eq. 5-6 (model) and 9-10 (wake phase of the guide).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from deepgen_ppl.engine import Engine
from deepgen_ppl.objectives.iwae import IWAE
from deepgen_ppl.typing import Array

__all__ = ["ReweightedWakeSleep"]


@dataclass(frozen=True)
class ReweightedWakeSleep(IWAE):
    """Both wake phases; the loss printed is the importance-weighted bound. Draws are constants, discrete or not.

        model: grad log mean_k w_k,     guide: sum_k v_k grad log q(z_k | x),     v_k = w_k / sum_j w_j

    Args:
        num_particles: number K of draws of the local sites for each datum, at least 2.
        num_global: number S of draws of the global sites; the guide may have none here.
        plate: name of the data plate.
        max_plate_nesting: number of nested plates, the data plate included.

    Raises:
        ValueError: for options that are no positive integers, or fewer than two particles.

    Example:
        >>> import numpy as np
        >>> import deepgen_ppl.numpyro as dg
        >>> w = np.float32([[[1.0], [3.0]]])  # weights p(x, z) / q(z | x), shape (S, K, N): two particles of one datum
        >>> objective = dg.ReweightedWakeSleep(num_particles=2)
        >>> bool(np.allclose(objective.signal(dg.engine, np.log(w)).ravel(), [2 * 1 / 4, 2 * 3 / 4]))  # 2 v_k
        True

    Reference:
        Reweighted Wake-Sleep (Bornschein & Bengio, 2015), eq. 5-6 (model) and 9-10 (wake phase of the guide),
        https://arxiv.org/abs/1406.2751.
    """

    pathwise: ClassVar[bool] = False
    least_particles: ClassVar[int] = 2

    def signal(self, engine: Engine, local: Array) -> Array:
        """2 v_k: the gradient of the bound has -v_k grad log q already, and v_k grad log q is wanted."""
        return 2.0 * engine.special.softmax(local, 1)
