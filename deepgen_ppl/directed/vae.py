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
from deepgen_ppl.options import integer
from deepgen_ppl.typing import Array, Distribution, Params, Rng
from deepgen_ppl.units.base import Unit, mean_statistic

__all__ = ["VAE"]

Recipe = tuple[tuple[int, ...], str]


class VAE(Program):
    """Variational autoencoder: a model-guide pair with native networks.

    Args:
        encoder: network from (.., width [+ covariates]) to (.., 2 D): location and log scale of q(z | x).
        decoder: network from (.., D [+ covariates]) to (.., width): the likelihood's natural parameters (means for
            `Gaussian`).
        likelihood: unit of the data, such as `Bernoulli(784)`.
        latent: number D of latent variables.
        num_covariates: width of the covariates; 0 for none.
        arrays: trained arrays of the likelihood (`log_sigma` where learned).
        name: prefix of the host parameters; needed only where two programs meet in Pyro's parameter store.
        recipe: (hidden widths, activation) of perceptrons made by `init`, so that `load` can make them again.

    Raises:
        TypeError: if a network is not the engine's own kind.
    """

    networks = ("encoder", "decoder")
    options = ("likelihood", "latent", "num_covariates", "recipe")

    def __init__(
        self,
        encoder: Any,
        decoder: Any,
        *,
        likelihood: Unit,
        latent: int,
        num_covariates: int = 0,
        arrays: Params | None = None,
        name: str = "",
        recipe: Recipe | None = None,
    ) -> None:
        self.encoder, self.decoder = self.engine.nn.wrap(encoder), self.engine.nn.wrap(decoder)
        self.likelihood, self.latent, self.num_covariates, self.name = likelihood, latent, num_covariates, name
        self.recipe = recipe
        like = next(iter(self.engine.nn.params(self.decoder).values()))
        own = {k: self.engine.arrays.asarray(v, like=like) for k, v in likelihood.init_arrays()[0].items()}
        self.arrays = own | dict(arrays or {})

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
        name: str = "",
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
            name: prefix of the host parameters.
        """
        if not isinstance(likelihood, Unit):
            raise TypeError(f"expected a unit for the likelihood, such as Bernoulli(784), got {likelihood!r}")
        latent, num_covariates = integer(latent, "latent"), integer(num_covariates, "num_covariates", least=0)
        nn = cls.engine.nn
        first, second = cls.engine.random.split(cls.engine.random.rng(rng), 2)
        width, hidden = likelihood.width, tuple(integer(h, "a width in hidden") for h in hidden)
        recipe = (hidden, activation) if encoder is None and decoder is None else None
        if encoder is None:
            encoder = nn.mlp(first, (width + num_covariates, *hidden, 2 * latent), activation, dtype)
        if decoder is None:
            decoder = nn.mlp(second, (latent + num_covariates, *hidden[::-1], width), activation, dtype)
            if data is not None:
                decoder = _with_base_rates(cls, decoder, f"layers.{len(hidden)}.bias", likelihood, data)
        like = next(iter(nn.params(nn.wrap(decoder)).values()))
        arrays = {k: cls.engine.arrays.asarray(v, like=like) for k, v in likelihood.init_arrays()[0].items()}
        return cls(
            encoder,
            decoder,
            likelihood=likelihood,
            latent=latent,
            num_covariates=num_covariates,
            arrays=arrays,
            name=name,
            recipe=recipe,
        )

    def config(self) -> dict[str, Any]:
        """Options and recipe as JSON."""
        recipe = None if self.recipe is None else {"hidden": list(self.recipe[0]), "activation": self.recipe[1]}
        own = {"latent": self.latent, "num_covariates": self.num_covariates, "name": self.name, "recipe": recipe}
        return {"likelihood": self.likelihood.to_json(), **own}

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], *, encoder: Any = None, decoder: Any = None, **networks: Any
    ) -> Self:
        """A VAE of this shape, its arrays still to be set.

        Raises:
            ValueError: if it was saved with networks of the user's own and none are given.
        """
        if networks:
            raise TypeError(f"expected the networks encoder and decoder, got {sorted(networks)}")
        recipe = config["recipe"]
        if recipe is None and (encoder is None or decoder is None):
            raise ValueError(
                "expected encoder=... and decoder=... to load a VAE that was saved with networks of your own, got none"
            )
        return cls.init(
            Unit.from_json(config["likelihood"]),
            config["latent"],
            rng=0,
            encoder=encoder,
            decoder=decoder,
            num_covariates=config["num_covariates"],
            name=config["name"],
            **(recipe or {}),
        )

    @property
    def observed(self) -> dict[str, Unit]:
        """x, of the likelihood's kind."""
        return {"x": self.likelihood}

    @property
    def inputs(self) -> frozenset[str]:
        """x, and covariates where the networks read them."""
        return frozenset({"x", "covariates"} if self.num_covariates else {"x"})

    def _likelihood_arrays(self) -> dict[str, Array]:
        _, fixed = self.likelihood.init_arrays()
        trained = {k: self.engine.host.param(self.site(k), v) for k, v in self.arrays.items()}
        return trained | {k: self.engine.arrays.asarray(v, like=self.like) for k, v in fixed.items()}

    def _with(self, x: Array, covariates: Array | None) -> Array:
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

    def _decode(self, net: Any, z: Array, covariates: Array | None, arrays: Params) -> Distribution:
        out = net(self._with(z, covariates))
        self._check_width("decoder", out, self.likelihood.width)
        return self.likelihood.likelihood(self.engine, out, arrays)

    @staticmethod
    def _check_width(name: str, out: Array, width: int) -> None:
        if out.shape[-1] != width:
            raise ValueError(f"expected a {name} with outputs of width {width}, got {_shape(out)}")

    def _encode(self, net: Any, x: Array, covariates: Array | None) -> Distribution:
        if x.shape[-1] != self.likelihood.size:
            raise ValueError(f"expected x of shape (..., {self.likelihood.size}), got {_shape(x)}")
        s = self.likelihood.statistic(self.engine, x, self.like)
        out = net(self._with(s, covariates))
        self._check_width("encoder", out, 2 * self.latent)
        loc, log_scale = out[..., : self.latent], out[..., self.latent :]
        return self.engine.host.dist.Normal(loc, self.engine.xp.exp(log_scale)).to_event(1)

    def _prior(self) -> Distribution:
        zero = self.engine.arrays.asarray(np.zeros(self.latent), like=self.like)
        return self.engine.host.dist.Normal(zero, zero + 1.0).to_event(1)

    def _check_data(self, x: Array | None) -> None:
        if x is not None and (x.ndim != 2 or x.shape[-1] != self.likelihood.size):
            raise ValueError(f"expected x of shape (N, {self.likelihood.size}), got {_shape(x)}")

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
        decoder = self.engine.host.module(self.site("decoder"), self.decoder, event_dim=1)
        arrays = self._likelihood_arrays()
        self._check_data(x)
        with self.data_plate(x, size, num_data):
            z = ppl.sample("z", self._prior())
            obs = None if x is None else self.likelihood.observed(self.engine, x, self.like)
            return ppl.sample("x", self._decode(decoder, z, covariates, arrays), obs=obs)

    def guide(
        self,
        x: Array | None = None,
        *,
        covariates: Array | None = None,
        size: int | None = None,
        num_data: int | None = None,
    ) -> Array:
        """q(z | x) for every row of x; the prior for `size` rows when x is None."""
        ppl = self.engine.host.ppl
        encoder = self.engine.host.module(self.site("encoder"), self.encoder, event_dim=1)
        self._check_data(x)
        with self.data_plate(x, size, num_data):
            return ppl.sample("z", self._prior() if x is None else self._encode(encoder, x, covariates))

    def encode(self, x: Any, *, covariates: Array | None = None) -> Distribution:
        """q(z | x) as a distribution of the host, batch shape (N,), event shape (D,)."""
        return self._encode(self.encoder, self.engine.arrays.asarray(x, like=self.like), covariates)

    def decode(self, z: Any, *, covariates: Array | None = None) -> Distribution:
        """p(x | z) as a distribution of the host, event shape (V,)."""
        with self.engine.host.bound():
            arrays = self._likelihood_arrays()
        return self._decode(self.decoder, self.engine.arrays.asarray(z, like=self.like), covariates, arrays)

    def reconstruct(self, x: Any, *, covariates: Array | None = None) -> Array:
        """Mean statistic of p(x | z) at the mean of q(z | x), shape (N, width)."""
        z = self.encode(x, covariates=covariates).mean
        with self.engine.host.bound():
            arrays = self._likelihood_arrays()
        return self.likelihood.expectation(self.engine, self.decoder(self._with(z, covariates)), arrays)

    def sample(self, num: int, *, rng: Rng | int, covariates: Array | None = None) -> Array:
        """Draws of x from the model, shape (num, V)."""
        engine = self.engine
        first, second = engine.random.split(engine.random.rng(rng, self.like), 2)
        z = engine.random.normal(first, (num, self.latent), self.like)
        return engine.host.draw(second, self.decode(z, covariates=covariates))

    def __repr__(self) -> str:
        shapes = {k: tuple(v.shape) for k, v in self.params.items()}
        total = sum(int(np.prod(s)) for s in shapes.values())
        return (
            f"{type(self).__name__}({self.likelihood!r}, latent={self.latent}, {total} parameters; {self.like.dtype})"
        )


def _shape(x: Any) -> str:
    return "None" if x is None else f"shape {tuple(x.shape)}"


def _with_base_rates(cls: type[VAE], decoder: Any, bias: str, likelihood: Unit, data: Any) -> Any:
    nn = cls.engine.nn
    trained, fixed = likelihood.init_arrays()
    mean = mean_statistic(cls.engine, likelihood, data)
    output = likelihood.output_from_mean(mean, trained | fixed)
    params = nn.params(decoder)
    return nn.with_params(decoder, {**params, bias: cls.engine.arrays.asarray(output, like=params[bias])})
