r"""Real NVP: a density of real vectors by affine couplings.

    x = loc + exp(log_scale) (f_L o ... o f_1)(z),   z ~ Normal(0, I_V)
    f_l(z) = m_l z + (1 - m_l) (z exp(s_l) + t_l),   (s_l, t_l) = net_l(m_l z)

with masks m_l of alternating zeros and ones. Nothing is latent: log p(x) is exact.

Reference: [Density Estimation using Real NVP](https://arxiv.org/abs/1605.08803) (Dinh et al., 2017), eq. 2-9.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from deepgen_ppl.directed.program import Program
from deepgen_ppl.flows.bijection import Affine, AffineCoupling
from deepgen_ppl.options import integer, integers, numbers
from deepgen_ppl.typing import Array, Distribution, Rng
from deepgen_ppl.units.base import checked_rows
from deepgen_ppl.units.gaussian import Gaussian

__all__ = ["RealNVP"]


class RealNVP(Program):
    r"""Real NVP: affine couplings between a standard normal and the data, with an exact log p(x).

        log p(x) = log Normal(z; 0, I) - sum_l sum_i s_li - sum_i log_scale_i

    Example:
        >>> import numpy as np, deepgen_ppl.pyro as dg  # on NumPyro the same
        >>> x = np.random.default_rng(0).normal(size=(200, 2)).astype("float32")
        >>> flow = dg.RealNVP.init(2, rng=0, data=x)
        >>> flow = dg.fit(flow, x, epochs=1, rng=0, progress=False).model
        >>> tuple(flow.log_prob(x[:5]).shape), tuple(flow.sample(3, rng=1).shape)
        ((5,), (3, 2))

    Reference: [Density Estimation using Real NVP](https://arxiv.org/abs/1605.08803) (Dinh et al., 2017), eq. 2-9.

    Args:
        couplings: networks from (.., V) to (.., 2 V): scales and shifts, in the order in which they act on z.
        loc: shape (V,).
        log_scale: shape (V,).
        name: prefix of the host parameters.

    Raises:
        TypeError: if a network is not the engine's own kind.
        ValueError: for shapes that do not fit, or V < 2.
    """

    options = ("depth",)
    depth: int

    def __init__(self, couplings: Sequence[Any], loc: Any, log_scale: Any, *, name: str = "") -> None:
        loc, log_scale = numbers(loc, "loc"), numbers(log_scale, "log_scale")
        if not isinstance(couplings, (list, tuple)):
            raise TypeError(f"expected couplings as a list of networks, got {couplings!r}")
        if np.ndim(loc) != 1 or np.shape(loc) != np.shape(log_scale) or np.shape(loc)[0] < 2:
            raise ValueError(
                f"expected loc and log_scale of one shape (V,) with V >= 2, got the shapes {tuple(np.shape(loc))} and "
                f"{tuple(np.shape(log_scale))}"
            )
        self.depth = integer(len(couplings), "the number of couplings")
        networks = {f"coupling_{i}": net for i, net in enumerate(couplings)}
        self.build(networks=networks, arrays={"loc": loc, "log_scale": log_scale}, name=name)

    @classmethod
    def init(
        cls,
        visible: int,
        *,
        rng: Rng | int,
        depth: int = 4,
        hidden: Sequence[int] = (64,),
        activation: str = "tanh",
        data: Any = None,
        dtype: str = "float32",
        name: str = "",
    ) -> Self:
        """A flow of perceptrons.

        Args:
            visible: number V of real variables.
            rng: seed or generator.
            depth: number of couplings.
            hidden: widths of the hidden layers of each.
            activation: `tanh`, `relu`, `softplus` or `gelu`.
            data: (N, V) whose means and standard deviations the last map starts from.
            dtype: `float32` or `float64`.
            name: prefix of the host parameters.
        """
        visible, depth = integer(visible, "visible", least=2), integer(depth, "depth")
        sizes = (visible, *integers(hidden, "a width in hidden"), 2 * visible)
        keys = cls.engine.random.split(cls.engine.random.rng(rng), depth)
        couplings = [cls.engine.nn.mlp(key, sizes, activation, dtype) for key in keys]
        loc, scale = np.zeros(visible), np.ones(visible)
        if data is not None:
            x = checked_rows(cls.engine, Gaussian(visible), data).astype(float)
            loc, scale = x.mean(0), x.std(0)
            if not (scale > 0).all():
                raise ValueError(f"expected data that vary in every column, got standard deviations {scale}")
        return cls(couplings, loc.astype(dtype), np.log(scale).astype(dtype), name=name)

    @property
    def observed(self) -> dict[str, Gaussian]:
        """x, real."""
        return {"x": Gaussian(self.arrays["loc"].shape[0])}

    def law(self) -> Distribution:
        """p(x) as a distribution of the host, event shape (V,)."""
        engine, host = self.engine, self.engine.host
        zero = engine.xp.zeros_like(engine.special.stop_gradient(self.arrays["loc"]))
        masks = [engine.arrays.asarray((np.arange(zero.shape[0]) + i) % 2, like=zero) for i in range(self.depth)]
        maps = [AffineCoupling(engine.xp, self.net(f"coupling_{i}"), mask) for i, mask in enumerate(masks)]
        last = Affine(engine.xp, self.param("loc"), self.param("log_scale"))
        base = host.dist.Normal(zero, zero + 1.0).to_event(1)
        return host.dist.TransformedDistribution(base, [host.transform(f) for f in (*maps, last)])

    def model(self, x: Array | None = None, *, size: int | None = None, num_data: int | None = None) -> Array:
        """p(x) for every row of x, or for `size` rows to be drawn.

        Args:
            x: data (N, V), observed; None to draw them.
            size: number of rows to draw when x is None.
            num_data: size of the data set that the rows stand for; scales their terms.
        """
        self.check_rows(x)
        law = self.law()
        with self.data_plate(x, size, num_data):
            return self.engine.host.ppl.sample("x", law, obs=x)
