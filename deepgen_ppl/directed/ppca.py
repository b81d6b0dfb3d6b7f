r"""Probabilistic principal component analysis, its latent variables summed out.

    x = W z + mu + sigma e,   z ~ Normal(0, I_D),  e ~ Normal(0, I_V):     p(x) = Normal(mu, W W' + sigma^2 I)

Reference: [Probabilistic Principal Component Analysis](https://doi.org/10.1111/1467-9868.00196) (Tipping & Bishop,
1999), eq. 2-8.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from deepgen_ppl.data import plain
from deepgen_ppl.directed.program import Program
from deepgen_ppl.options import integer, numbers, precision
from deepgen_ppl.typing import Array, Distribution
from deepgen_ppl.units.base import checked_rows
from deepgen_ppl.units.gaussian import Gaussian

__all__ = ["PPCA"]


class PPCA(Program):
    r"""Probabilistic PCA with an exact log p(x): p(x) = Normal(mu, W W' + sigma^2 I).

    Example:
        >>> import numpy as np, deepgen_ppl.pyro as dg  # on NumPyro the same
        >>> x = np.random.default_rng(0).normal(size=(100, 5)).astype("float32")
        >>> ppca = dg.PPCA.maximum_likelihood(x, latent=2)
        >>> tuple(ppca.log_prob(x[:3]).shape), tuple(ppca.encode(x[:3]).mean.shape)
        ((3,), (3, 2))

    Reference: [Probabilistic Principal Component Analysis](https://doi.org/10.1111/1467-9868.00196) (Tipping & Bishop,
    1999), eq. 2-4 (the law), 6-8 (posterior and maximum likelihood).

    Args:
        weight: W, shape (V, D).
        loc: mu, shape (V,).
        log_sigma: log sigma, shape ().
        name: prefix of the host parameters.

    Raises:
        ValueError: for shapes that do not fit.
    """

    def __init__(self, weight: Any, loc: Any, log_sigma: Any, *, name: str = "") -> None:
        arrays = {k: numbers(v, k) for k, v in (("weight", weight), ("loc", loc), ("log_sigma", log_sigma))}
        shapes = {k: tuple(np.shape(v)) for k, v in arrays.items()}
        if len(shapes["weight"]) != 2 or shapes["loc"] != shapes["weight"][:1] or shapes["log_sigma"] != ():
            raise ValueError(f"expected weight (V, D), loc (V,) and log_sigma (), got the shapes {shapes}")
        self.build(arrays=arrays, name=name)

    @classmethod
    def maximum_likelihood(cls, data: Any, latent: int, *, dtype: str = "float32", name: str = "") -> Self:
        """W = U (L - sigma^2 I)^(1/2) and sigma^2 the mean of the eigenvalues left out: eq. 7-8, with R = I.

        Args:
            data: (N, V).
            latent: number D < V of components.
            dtype: `float32` or `float64`.
            name: prefix of the host parameters.

        Raises:
            ValueError: for D >= V, or data without variance outside the first D components.
        """
        latent, dtype = integer(latent, "latent"), precision(dtype)
        x = plain(cls.engine, data, "data")
        if x.ndim != 2:
            raise ValueError(f"expected data of shape (N, V), got shape {x.shape}")
        x = checked_rows(cls.engine, Gaussian(x.shape[1]), x).astype(float)
        if latent >= x.shape[-1]:
            raise ValueError(f"expected fewer components than the {x.shape[-1]} columns of data, got latent={latent}")
        values, vectors = np.linalg.eigh(np.cov(x.T, ddof=0))
        values, vectors = values[::-1], vectors[:, ::-1]
        variance = values[latent:].mean()
        if not variance > 1e-12 * values[0]:
            raise ValueError(f"expected data with variance outside the first {latent} components, got {variance:.3g}")
        weight = vectors[:, :latent] * np.sqrt(values[:latent] - variance)
        arrays = (weight, x.mean(0), 0.5 * np.log(variance))
        return cls(*(np.asarray(a, dtype) for a in arrays), name=name)

    @property
    def observed(self) -> dict[str, Gaussian]:
        """x, real."""
        return {"x": Gaussian(self.arrays["loc"].shape[0])}

    def model(self, x: Array | None = None, *, size: int | None = None, num_data: int | None = None) -> Array:
        """p(x) for every row of x, or for `size` rows to be drawn.

        Args:
            x: data (N, V), observed; None to draw them.
            size: number of rows to draw when x is None.
            num_data: size of the data set that the rows stand for; scales their terms.
        """
        host, xp = self.engine.host, self.engine.xp
        weight, loc, log_sigma = (self.param(k) for k in ("weight", "loc", "log_sigma"))
        variance = xp.exp(2.0 * log_sigma) * xp.ones_like(loc)
        self.check_rows(x)
        with self.data_plate(x, size, num_data):
            return host.ppl.sample("x", host.dist.LowRankMultivariateNormal(loc, weight, variance), obs=x)

    def encode(self, x: Any) -> Distribution:
        """p(z | x) = Normal(M^-1 W'(x - mu), sigma^2 M^-1), M = W'W + sigma^2 I: batch shape (N,), event shape (D,)."""
        xp, a = self.engine.xp, self.arrays
        variance = xp.exp(2.0 * a["log_sigma"])
        identity = self.engine.arrays.asarray(np.eye(a["weight"].shape[1]), like=self.like)
        m = a["weight"].mT @ a["weight"] + variance * identity
        x = self.engine.arrays.asarray(x, like=self.like)
        if tuple(x.shape[-1:]) != tuple(a["loc"].shape):
            raise ValueError(f"expected x of shape (..., {a['loc'].shape[0]}), got shape {tuple(x.shape)}")
        mean = xp.linalg.solve(m, a["weight"].mT @ (x - a["loc"]).mT).mT
        return self.engine.host.dist.MultivariateNormal(mean, precision_matrix=m / variance)
