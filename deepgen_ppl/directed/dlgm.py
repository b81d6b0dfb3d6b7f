r"""Deep latent Gaussian model.

    p(z_L) = Normal(0, I),  p(z_l | z_(l+1)) = Normal(m_l, s_l),  (m_l, log s_l) = down_l(z_(l+1))
    p(x | z_1) = likelihood(down_0(z_1))
    q(z_1 | x) = Normal(up_0(s(x))),   q(z_(l+1) | z_l) = Normal(up_l(z_l))

with z_l in R^(D_l), x of the likelihood's kind and s(x) its statistic.

References: [Stochastic Backpropagation](https://arxiv.org/abs/1401.4082) (Rezende et al., 2014), eq. 1-4;
[Importance Weighted Autoencoders](https://arxiv.org/abs/1509.00519) (Burda et al., 2016), section 2.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from deepgen_ppl.directed.program import Program
from deepgen_ppl.options import instance, integers, mapping
from deepgen_ppl.typing import Array, Distribution, Params, Rng
from deepgen_ppl.units.base import Unit

__all__ = ["DLGM"]


class DLGM(Program):
    r"""Deep latent Gaussian model: layers of normal variables z1, z2, ..., zL above the data, and a guide upwards.

        p(x, z) = p(z_L) prod_l p(z_l | z_(l+1)) p(x | z_1),   q(z | x) = q(z_1 | x) prod_l q(z_(l+1) | z_l)

    Example:
        >>> import numpy as np, deepgen_ppl.pyro as dg  # on NumPyro the same
        >>> x = np.random.default_rng(0).integers(0, 2, (60, 6)).astype("float32")
        >>> dlgm = dg.DLGM.init(dg.Bernoulli(6), latent=(3, 2), hidden=(8,), rng=0)
        >>> dlgm = dg.fit(dlgm, x, objective=dg.IWAE(num_particles=3), epochs=1, rng=0, progress=False).model
        >>> tuple(dlgm.sample(4, rng=1).shape)
        (4, 6)

    References: [Stochastic Backpropagation](https://arxiv.org/abs/1401.4082) (Rezende et al., 2014), eq. 1-4;
    [Importance Weighted Autoencoders](https://arxiv.org/abs/1509.00519) (Burda et al., 2016), section 2 (the guide).

    Args:
        networks: `down_l` from (.., D_(l+1)) to (.., 2 D_l), location and log scale (`down_0` to the likelihood's
            output), and `up_l` from (.., D_l) to (.., 2 D_(l+1)) (`up_0` from the statistic's width), l = 0..L-1.
        likelihood: unit of the data, such as `Bernoulli(784)`.
        latent: widths (D_1, ..., D_L).
        arrays: trained arrays of the likelihood (`log_sigma` where learned).
        name: prefix of the host parameters.

    Raises:
        TypeError: if a network is not the engine's own kind.
        ValueError: for networks of other names.
    """

    options = ("likelihood", "latent")
    likelihood: Unit
    latent: tuple[int, ...]

    def __init__(
        self,
        networks: Mapping[str, Any],
        *,
        likelihood: Unit,
        latent: Sequence[int],
        arrays: Params | None = None,
        name: str = "",
    ) -> None:
        self.likelihood = instance(likelihood, "the likelihood", Unit, "a unit, such as Bernoulli(784),")
        self.latent = integers(latent, "a width in latent")
        mapping(networks, "networks", "{'down_0': net, 'up_0': net}")
        wanted = {f"{way}_{i}" for way in ("down", "up") for i in range(len(self.latent))}
        if not wanted or wanted != set(networks):
            raise ValueError(f"expected the networks {sorted(wanted)}, got {sorted(networks)}")
        like = next(iter(self.engine.nn.params(self.engine.nn.wrap(networks["down_0"])).values()), None)
        own = {k: self.engine.arrays.asarray(v, like=like) for k, v in likelihood.likelihood_arrays()[0].items()}
        self.build(networks=networks, arrays=own | dict(arrays or {}), name=name)

    @classmethod
    def init(
        cls,
        likelihood: Unit,
        latent: Sequence[int],
        hidden: Sequence[int] = (200,),
        *,
        rng: Rng | int,
        activation: str = "tanh",
        dtype: str = "float32",
        name: str = "",
    ) -> Self:
        """A model of perceptrons.

        Args:
            likelihood: unit of the data, such as `Bernoulli(784)`.
            latent: widths (D_1, ..., D_L), from the data upwards.
            hidden: widths of the hidden layers of each network that leads upwards, reversed downwards.
            rng: seed or generator.
            activation: `tanh`, `relu`, `softplus` or `gelu`.
            dtype: `float32` or `float64`.
            name: prefix of the host parameters.
        """
        instance(likelihood, "the likelihood", Unit, "a unit, such as Bernoulli(784),")
        hidden = integers(hidden, "a width in hidden")
        widths = (likelihood.width, *integers(latent, "a width in latent"))
        keys = iter(cls.engine.random.split(cls.engine.random.rng(rng), 2 * len(widths)))
        networks = {}
        for i, (below, above) in enumerate(itertools.pairwise(widths)):
            out = 2 * below if i else likelihood.output_width
            for name_, sizes in ((f"down_{i}", (above, *hidden[::-1], out)), (f"up_{i}", (below, *hidden, 2 * above))):
                networks[name_] = cls.engine.nn.mlp(next(keys), sizes, activation, dtype)
        return cls(networks, likelihood=likelihood, latent=latent, name=name)

    @property
    def observed(self) -> dict[str, Unit]:
        """x, of the likelihood's kind."""
        return {"x": self.likelihood}

    def _standard(self) -> Distribution:
        zero = self.engine.arrays.asarray(np.zeros(self.latent[-1]), like=self.like)
        return self.engine.host.dist.Normal(zero, zero + 1.0).to_event(1)

    def _normal(self, net: str, x: Array, width: int) -> Distribution:
        """Normal(m, s) with (m, log s) = net(x), event shape (width,)."""
        out = self.net(net)(x)
        if out.shape[-1] != 2 * width:
            raise ValueError(f"expected {net} with outputs of width {2 * width}, got shape {tuple(out.shape)}")
        return self.engine.host.dist.Normal(out[..., :width], self.engine.xp.exp(out[..., width:])).to_event(1)

    def _conditional(self, z: Array) -> Distribution:
        """p(x | z_1), event shape (V,)."""
        trained, fixed = self.likelihood.likelihood_arrays()
        arrays = {k: self.engine.arrays.asarray(v, like=self.like) for k, v in fixed.items()}
        out, width = self.net("down_0")(z), self.likelihood.output_width
        if out.shape[-1] != width:
            raise ValueError(f"expected down_0 with outputs of width {width}, got shape {tuple(out.shape)}")
        return self.likelihood.likelihood(self.engine, out, arrays | {k: self.param(k) for k in trained})

    def model(self, x: Array | None = None, *, size: int | None = None, num_data: int | None = None) -> Array:
        """p(x, z) for every row of x, or for `size` rows to be drawn, from the top down.

        Args:
            x: data (N, V), observed; None to draw them.
            size: number of rows to draw when x is None.
            num_data: size of the data set that the rows stand for; scales their terms.
        """
        ppl, depth = self.engine.host.ppl, len(self.latent)
        self.check_rows(x)
        with self.data_plate(x, size, num_data):
            z = ppl.sample(f"z{depth}", self._standard())
            for i in range(depth - 1, 0, -1):
                z = ppl.sample(f"z{i}", self._normal(f"down_{i}", z, self.latent[i - 1]))
            obs = None if x is None else self.likelihood.observed(self.engine, x, self.like)
            return ppl.sample("x", self._conditional(z), obs=obs)

    def guide(self, x: Array, *, size: int | None = None, num_data: int | None = None) -> None:
        """q(z | x) for every row of x, from the data up."""
        self.check_rows(x)
        with self.data_plate(x, size, num_data):
            z = self.likelihood.statistic(self.engine, x, self.like, {})
            for i, width in enumerate(self.latent):
                z = self.engine.host.ppl.sample(f"z{i + 1}", self._normal(f"up_{i}", z, width))
