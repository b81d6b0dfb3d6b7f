r"""Bayesian regression with a network of the user's own: its weights are latent, x is given, y is observed.

    w_j ~ Normal(0, prior_scale),   y | x, w ~ Normal(f(x; w), sigma),      q(w_j) = Normal(m_j, s_j)

for every trained weight w_j of the network f, with m, log s and log sigma trained.

Reference: [Weight Uncertainty in Neural Networks](https://arxiv.org/abs/1505.05424) (Blundell et al., 2015), section 3.
"""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np

from deepgen_ppl.directed.program import Program
from deepgen_ppl.options import integer, integers, real
from deepgen_ppl.typing import Array, Params, Rng
from deepgen_ppl.units.gaussian import Gaussian

__all__ = ["BayesianRegression"]


class BayesianRegression(Program):
    r"""Regression of y on x by a network whose weights are latent, with a mean-field guide.

        log p(y, w | x) = sum_j log Normal(w_j; 0, prior_scale) + sum_n log Normal(y_n; f(x_n; w), sigma)

    The weights are sites of the model, drawn once for all rows, under the names and in the layouts that both engines
    share (`layers.0.weight` is (in, out)).

    Example:
        >>> import numpy as np, deepgen_ppl.pyro as dg  # on NumPyro the same
        >>> x = np.linspace(-1, 1, 50, dtype="float32")[:, None]
        >>> net = dg.BayesianRegression.init((1, 8, 1), rng=0)
        >>> net = dg.fit(net, {"x": x, "y": x**2}, epochs=1, rng=0, progress=False).model
        >>> tuple(net.sample(50, rng=1, x=x).shape)
        (50, 1)

    Reference: [Weight Uncertainty in Neural Networks](https://arxiv.org/abs/1505.05424) (Blundell et al., 2015),
    section 3.

    Args:
        network: network from (.., inputs) to (.., num_outputs), whose trained arrays become the weights; its own values
            are where the means of q start.
        num_outputs: number of outputs.
        prior_scale: standard deviation of every weight under the prior.
        guide_scale: where the standard deviations of q start.
        noise_scale: where sigma starts.
        name: prefix of the host parameters.

    Raises:
        TypeError: if the network is not the engine's own kind.
        ValueError: for a network without weights, or scales that are not positive.
    """

    options = ("num_outputs", "prior_scale")
    num_outputs: int
    prior_scale: float

    def __init__(
        self,
        network: Any,
        num_outputs: int,
        *,
        prior_scale: float = 1.0,
        guide_scale: float = 0.1,
        noise_scale: float = 1.0,
        name: str = "",
    ) -> None:
        self.num_outputs = integer(num_outputs, "num_outputs")
        self.prior_scale = real(prior_scale, "prior_scale", low=0, open_low=True)
        guide_scale = real(guide_scale, "guide_scale", low=0, open_low=True)
        noise_scale = real(noise_scale, "noise_scale", low=0, open_low=True)
        nn = self.engine.nn
        net = nn.wrap(network)
        weights = {k: v for k, v in nn.canonical(net).items() if k not in nn.constants(net)}
        if not weights:
            raise ValueError(f"expected a network with trained arrays, got {net!r}")
        dtype = next(iter(weights.values())).dtype
        arrays: dict[str, Any] = {"log_sigma": np.full(self.num_outputs, math.log(noise_scale), dtype)}
        for k, v in weights.items():
            arrays |= {f"{k}.loc": v, f"{k}.log_scale": np.full(v.shape, math.log(guide_scale), dtype)}
        self.build(networks={"network": nn.frozen(net)}, arrays=arrays, name=name)

    @classmethod
    def init(
        cls,
        sizes: tuple[int, ...],
        *,
        rng: Rng | int,
        activation: str = "tanh",
        dtype: str = "float32",
        **options: Any,
    ) -> Self:
        """Regression with a perceptron.

        Args:
            sizes: widths (inputs, hidden..., outputs).
            rng: seed or generator.
            activation: `tanh`, `relu`, `softplus` or `gelu`.
            dtype: `float32` or `float64`.
            options: further arguments of the constructor.

        Raises:
            TypeError: for something else than widths; a network of one's own goes into the constructor.
        """
        if not isinstance(sizes, (tuple, list)):
            raise TypeError(
                f"expected sizes as (inputs, hidden..., outputs), got {type(sizes).__name__}: a network of your own "
                f"goes into {cls.__name__}(network, num_outputs)"
            )
        sizes = integers(sizes, "a width in sizes")
        if len(sizes) < 2:
            raise ValueError(f"expected sizes as (inputs, hidden..., outputs), got {sizes}")
        network = cls.engine.nn.mlp(cls.engine.random.rng(rng), sizes, activation, dtype)
        return cls(network, sizes[-1], **options)

    @property
    def observed(self) -> dict[str, Gaussian]:
        """y, real."""
        return {"y": Gaussian(self.num_outputs)}

    @property
    def conditions(self) -> tuple[str, ...]:
        """x, which the network reads."""
        return ("x",)

    @property
    def weights(self) -> dict[str, Array]:
        """Name of each weight -> the mean of q."""
        return {k.removesuffix(".loc"): v for k, v in self.arrays.items() if k.endswith(".loc")}

    def model(self, x: Array | None = None, y: Array | None = None, *, num_data: int | None = None) -> Array:
        """p(w) p(y | x, w).

        Args:
            x: inputs (N, ..).
            y: outputs (N, num_outputs), observed; None to draw them.
            num_data: size of the data set that the rows stand for; scales their terms.

        Raises:
            ValueError: without x, or for shapes that do not fit.
        """
        host, xp = self.engine.host, self.engine.xp
        self._check(x, y)
        w: Params = {k: self._weight(k, 0.0 * v, 0.0 * v + self.prior_scale) for k, v in self._still().items()}
        log_sigma = self.param("log_sigma")
        net = self.engine.nn.call(self.networks["network"], w)
        with self.data_plate(x, None, num_data):
            out = net(x)
            if out.shape[-1] != self.num_outputs:
                raise ValueError(f"expected {self.num_outputs} outputs of the network, got shape {tuple(out.shape)}")
            sigma = xp.broadcast_to(xp.exp(log_sigma), out.shape)
            return host.ppl.sample("y", host.dist.Normal(out, sigma).to_event(1), obs=y)

    def guide(self, x: Array | None = None, y: Array | None = None, *, num_data: int | None = None) -> None:
        """q(w)."""
        for k in self.weights:
            self._weight(k, self.param(f"{k}.loc"), self.engine.xp.exp(self.param(f"{k}.log_scale")))

    def _weight(self, name: str, loc: Array, scale: Array) -> Array:
        host = self.engine.host
        return host.ppl.sample(name, host.dist.Normal(loc, scale).to_event(loc.ndim))

    def _still(self) -> Params:
        return {k: self.engine.special.stop_gradient(v) for k, v in self.weights.items()}

    def _check(self, x: Array | None, y: Array | None) -> None:
        if x is None:
            raise ValueError("expected x, the inputs on which y is regressed, got None")
        self.check_rows(y, "y")
        if y is not None and y.shape[0] != x.shape[0]:
            raise ValueError(f"expected x and y of one length, got shapes {tuple(x.shape)} and {tuple(y.shape)}")
