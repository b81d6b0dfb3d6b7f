r"""Variational autoencoder.

    p(z) = Normal(0, I),   p(x | z) = likelihood(decoder(z)),   q(z | x) = Normal(m, s),  (m, log s) = encoder(s(x))

with z in R^D and x of the likelihood's kind; s(x) is its statistic (one-hot for categorical data). With covariates c,
networks read (s(x), c) and (z, c).

Reference: Auto-Encoding Variational Bayes (Kingma & Welling, 2014), eq. 9-10 and appendix C.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from deepgen_ppl.directed.program import Program
from deepgen_ppl.options import instance, integer, integers
from deepgen_ppl.typing import Array, Distribution, Params, Rng
from deepgen_ppl.units.base import Unit, mean_statistic

__all__ = ["VAE"]


class VAE(Program):
    """Variational autoencoder: a model-guide pair with native networks.

        p(x, z) = Normal(z; 0, I) likelihood(x; decoder(z)),    q(z | x) = Normal(z; m, s),  (m, log s) = encoder(s(x))

    The decoder's output are natural parameters of the likelihood; s(x) is the statistic of the data. With covariates c
    networks read (s(x), c) and (z, c). `init` makes one with perceptrons.

    A subclass may override `prior`, `posterior` and `conditional`, the three laws, and reads what it adds to the state
    by `self.net`, `self.machine`, `self.param` and `self.constant`.

    Args:
        encoder: network from (.., width [+ covariates]) to (.., 2 D): location and log scale of q(z | x).
        decoder: network from (.., D [+ covariates]) to (.., output width): the likelihood's natural parameters (for
            `Gaussian` means, with `scale="network"` means and log scales).
        likelihood: unit of the data, such as `Bernoulli(784)`.
        latent: number D of latent variables.
        num_covariates: width of the covariates; 0 for none.
        arrays: trained arrays of the likelihood (`log_sigma` where learned), and of a subclass.
        networks: further networks of a subclass.
        machines: machines of a subclass, such as a prior.
        constants: untrained arrays of a subclass.
        name: prefix of the host parameters; needed only where two programs meet in Pyro's parameter store.

    Raises:
        TypeError: if a network is not the engine's own kind.

    Example:
        >>> import deepgen_ppl.pyro as dg  # on NumPyro the same
        >>> vae = dg.VAE.init(likelihood=dg.Bernoulli(6), latent=2, hidden=(5,), rng=0)
        >>> vae
        VAE(likelihood=Bernoulli(size=6), latent=2, num_covariates=0, 110 parameters; torch.float32)
        >>> x = vae.sample(4, rng=1)
        >>> tuple(x.shape), tuple(vae.encode(x).mean.shape), tuple(vae.reconstruct(x).shape)
        ((4, 6), (4, 2), (4, 6))

    Reference:
        Auto-Encoding Variational Bayes (Kingma & Welling, 2014), eq. 9-10 and appendix C,
        https://arxiv.org/abs/1312.6114.
    """

    options = ("likelihood", "latent", "num_covariates")
    likelihood: Unit
    latent: int
    num_covariates: int

    def __init__(
        self,
        encoder: Any,
        decoder: Any,
        *,
        likelihood: Unit,
        latent: int,
        num_covariates: int = 0,
        arrays: Params | None = None,
        networks: Mapping[str, Any] | None = None,
        machines: Mapping[str, Any] | None = None,
        constants: Params | None = None,
        name: str = "",
    ) -> None:
        self.likelihood = instance(likelihood, "the likelihood", Unit, "a unit, such as Bernoulli(784),")
        self.latent = integer(latent, "latent")
        self.num_covariates = integer(num_covariates, "num_covariates", least=0)
        both = {"encoder": encoder, "decoder": decoder}
        like = next(iter(self.engine.nn.params(self.engine.nn.wrap(decoder)).values()), None)
        own = {k: self.engine.arrays.asarray(v, like=like) for k, v in likelihood.likelihood_arrays()[0].items()}
        self.build(
            networks={**both, **(networks or {})},
            machines=machines,
            arrays={**own, **(arrays or {})},
            constants=constants,
            name=name,
        )

    @classmethod
    def init(
        cls,
        likelihood: Unit,
        latent: int,
        hidden: Sequence[int] = (200, 200),
        *,
        rng: Rng | int,
        activation: str = "tanh",
        num_covariates: int = 0,
        encoder: Any = None,
        decoder: Any = None,
        data: Any = None,
        dtype: str = "float32",
        **state: Any,
    ) -> Self:
        """A VAE with perceptrons, or with the user's own networks in their place.

        Args:
            likelihood: unit of the data, such as `Bernoulli(784)`.
            latent: number D of latent variables.
            hidden: widths of the encoder's hidden layers; the decoder has them in reverse.
            rng: seed or generator.
            activation: `tanh`, `relu`, `softplus` or `gelu`.
            num_covariates: width of the covariates; 0 for none.
            encoder: own network in place of the perceptron.
            decoder: own network in place of the perceptron.
            data: (N, V) whose base rates become the decoder's last bias.
            dtype: `float32` or `float64`.
            state: further arguments of the constructor: `name`, and what a subclass adds.
        """
        if not isinstance(likelihood, Unit):
            raise TypeError(f"expected a unit for the likelihood, such as Bernoulli(784), got {likelihood!r}")
        latent, num_covariates = integer(latent, "latent"), integer(num_covariates, "num_covariates", least=0)
        nn, width = cls.engine.nn, likelihood.width
        first, second = cls.engine.random.split(cls.engine.random.rng(rng), 2)
        hidden = integers(hidden, "a width in hidden")
        if encoder is None:
            encoder = nn.mlp(first, (width + num_covariates, *hidden, 2 * latent), activation, dtype)
        if decoder is None:
            sizes = (latent + num_covariates, *hidden[::-1], likelihood.output_width)
            decoder = nn.mlp(second, sizes, activation, dtype)
            if data is not None:
                decoder = _with_base_rates(cls, decoder, f"layers.{len(hidden)}.bias", likelihood, data)
        return cls(encoder, decoder, likelihood=likelihood, latent=latent, num_covariates=num_covariates, **state)

    @property
    def conditions(self) -> tuple[str, ...]:
        """The covariates, where there are some."""
        return ("covariates",) if self.num_covariates else ()

    @property
    def observed(self) -> dict[str, Unit]:
        """x, of the likelihood's kind."""
        return {"x": self.likelihood}

    @property
    def inputs(self) -> frozenset[str]:
        """x, and covariates where the networks read them."""
        return frozenset({"x", "covariates"} if self.num_covariates else {"x"})

    # -- the three laws: what a subclass overrides ---------------------------------------------------------------------

    def prior(self, covariates: Array | None = None) -> Distribution:
        """p(z), or p(z | covariates): a distribution of the host with event shape (D,)."""
        zero = self.engine.arrays.asarray(np.zeros(self.latent), like=self.like)
        return self.engine.host.dist.Normal(zero, zero + 1.0).to_event(1)

    def posterior(self, x: Array, covariates: Array | None = None) -> Distribution:
        """q(z | x), batch shape (N,), event shape (D,)."""
        if not x.ndim or x.shape[-1] != self.likelihood.size:
            raise ValueError(f"expected x of shape (..., {self.likelihood.size}), got {_shape(x)}")
        s = self.likelihood.statistic(self.engine, x, self.like, self._likelihood_arrays())
        out = self.net("encoder")(self.with_covariates(s, covariates))
        _check_width("encoder", out, 2 * self.latent)
        loc, log_scale = out[..., : self.latent], out[..., self.latent :]
        return self.engine.host.dist.Normal(loc, self.engine.xp.exp(log_scale)).to_event(1)

    def conditional(self, z: Array, covariates: Array | None = None) -> Distribution:
        """p(x | z), event shape (V,)."""
        return self.likelihood.likelihood(self.engine, self._decoded(z, covariates), self._likelihood_arrays())

    def _decoded(self, z: Array, covariates: Array | None) -> Array:
        if not z.ndim or z.shape[-1] != self.latent:
            raise ValueError(f"expected z of shape (..., {self.latent}), got {_shape(z)}")
        out = self.net("decoder")(self.with_covariates(z, covariates))
        _check_width("decoder", out, self.likelihood.output_width)
        return out

    def _likelihood_arrays(self) -> dict[str, Array]:
        trained, fixed = self.likelihood.likelihood_arrays()
        known = {k: self.engine.arrays.asarray(v, like=self.like) for k, v in fixed.items()}
        return known | {k: self.param(k) for k in trained}

    def with_covariates(self, x: Array, covariates: Array | None) -> Array:
        """(x, covariates) along the last axis, for a network to read.

        Raises:
            ValueError: for covariates of another width or number of rows.
        """
        width = 0 if covariates is None else covariates.shape[-1]
        if width != self.num_covariates:
            raise ValueError(f"expected covariates of width {self.num_covariates}, got {_shape(covariates)}")
        if covariates is None:
            return x
        if covariates.shape[0] != x.shape[-2]:
            raise ValueError(f"expected covariates of {x.shape[-2]} rows, got {_shape(covariates)}")
        c = self.engine.arrays.cast(covariates, x)
        c = self.engine.xp.broadcast_to(c, (*x.shape[:-1], c.shape[-1]))
        return self.engine.xp.concat([x, c], axis=-1)

    def model(
        self,
        x: Array | None = None,
        *,
        covariates: Array | None = None,
        size: int | None = None,
        num_data: int | None = None,
    ) -> Array:
        """p(z) p(x | z) for every row of x, or for `size` rows to be drawn.

        Args:
            x: data (N, V), observed; None to draw them.
            covariates: (N, num_covariates).
            size: number of rows to draw when x is None.
            num_data: size of the data set that the rows stand for; scales their terms.
        """
        ppl = self.engine.host.ppl
        self.check_rows(x)
        with self.data_plate(x, size, num_data):
            z = ppl.sample("z", self.prior(covariates))
            obs = None if x is None else self.likelihood.observed(self.engine, x, self.like)
            return ppl.sample("x", self.conditional(z, covariates), obs=obs)

    def guide(
        self,
        x: Array | None = None,
        *,
        covariates: Array | None = None,
        size: int | None = None,
        num_data: int | None = None,
    ) -> Array:
        """q(z | x) for every row of x; the prior for `size` rows when x is None."""
        self.check_rows(x)
        with self.data_plate(x, size, num_data):
            law = self.prior(covariates) if x is None else self.posterior(x, covariates)
            return self.engine.host.ppl.sample("z", law)

    def encode(self, x: Any, *, covariates: Array | None = None) -> Distribution:
        """q(z | x) as a distribution of the host, batch shape (N,), event shape (D,)."""
        with self.engine.host.bound():
            return self.posterior(self.engine.arrays.asarray(x, like=self.like), covariates)

    def decode(self, z: Any, *, covariates: Array | None = None) -> Distribution:
        """p(x | z) as a distribution of the host, event shape (V,)."""
        with self.engine.host.bound():
            return self.conditional(self.engine.arrays.asarray(z, like=self.like), covariates)

    def reconstruct(self, x: Any, *, covariates: Array | None = None) -> Array:
        """Mean statistic of p(x | z) at the mean of q(z | x), shape (N, width)."""
        z = self.encode(x, covariates=covariates).mean
        with self.engine.host.bound():
            out = self._decoded(z, covariates)
            return self.likelihood.expectation(self.engine, out, self._likelihood_arrays())


def _check_width(name: str, out: Array, width: int) -> None:
    if out.shape[-1] != width:
        raise ValueError(f"expected a {name} with outputs of width {width}, got {_shape(out)}")


def _shape(x: Any) -> str:
    return "None" if x is None else f"shape {tuple(x.shape)}"


def _with_base_rates(cls: type[VAE], decoder: Any, bias: str, likelihood: Unit, data: Any) -> Any:
    nn = cls.engine.nn
    trained, fixed = likelihood.likelihood_arrays()
    mean = mean_statistic(cls.engine, likelihood, data, trained | fixed)
    output = likelihood.output_from_mean(mean, trained | fixed)
    params = nn.params(decoder)
    return nn.with_arrays(decoder, {bias: cls.engine.arrays.asarray(output, like=params[bias])})
