r"""Sigmoid belief net of any depth, with the recognition net of a Helmholtz machine.

    p(h_L) = Bernoulli(b),  p(h_l | h_(l+1)) = Bernoulli(down_l(h_(l+1))),  p(x | h_1) = Bernoulli(down_0(h_1))
    q(h_1 | x) = Bernoulli(up_0(x)),  q(h_(l+1) | h_l) = Bernoulli(up_l(h_l))

with x in {0,1}^V, h_l in {0,1}^(H_l), affine maps `down_l`, `up_l`, and logits throughout.

References: [Connectionist learning of belief networks](https://doi.org/10.1016/0004-3702(92)90065-6) (Neal, 1992),
section 3; [The Helmholtz Machine](https://doi.org/10.1162/neco.1995.7.5.889) (Dayan et al., 1995), section 2.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from deepgen_ppl.directed.program import Program
from deepgen_ppl.options import integer, integers, mapping
from deepgen_ppl.typing import Array, Rng
from deepgen_ppl.units.base import mean_statistic
from deepgen_ppl.units.bernoulli import Bernoulli

__all__ = ["SigmoidBeliefNet"]


class SigmoidBeliefNet(Program):
    r"""Sigmoid belief net: layers of binary variables h1, h2, ..., hL above binary data, and a recognition net.

        p(x, h) = p(h_L) prod_l p(h_l | h_(l+1)) p(x | h_1),   q(h | x) = q(h_1 | x) prod_l q(h_(l+1) | h_l)

    Its hidden variables are discrete: it takes objectives that need no pathwise gradient.

    Example:
        >>> import deepgen_ppl.pyro as dg  # on NumPyro the same
        >>> net = dg.SigmoidBeliefNet.init(6, hidden=(4, 2), rng=0)
        >>> tuple(net.sample(3, rng=1).shape), sorted(net.networks)
        ((3, 6), ['down_0', 'down_1', 'up_0', 'up_1'])

    References: [Connectionist learning of belief networks](https://doi.org/10.1016/0004-3702(92)90065-6) (Neal, 1992),
    section 3; [The Helmholtz Machine](https://doi.org/10.1162/neco.1995.7.5.889) (Dayan et al., 1995), section 2.

    Args:
        networks: `down_l` from (.., H_(l+1)) to the logits (.., H_l) and `up_l` from (.., H_l) to the logits
            (.., H_(l+1)), l = 0..L-1, where H_0 = V.
        top: logits b of the top layer, shape (H_L,).
        widths: (V, H_1, ..., H_L).
        name: prefix of the host parameters.

    Raises:
        TypeError: if a network is not the engine's own kind.
        ValueError: for networks of other names, or shapes that do not fit.
    """

    options = ("widths",)
    widths: tuple[int, ...]

    def __init__(self, networks: Mapping[str, Any], top: Any, *, widths: Sequence[int], name: str = "") -> None:
        self.widths = integers(widths, "a width")
        mapping(networks, "networks", "{'down_0': net, 'up_0': net}")
        wanted = {f"{way}_{i}" for way in ("down", "up") for i in range(len(self.widths) - 1)}
        if not wanted or wanted != set(networks):
            raise ValueError(f"expected the networks {sorted(wanted)}, got {sorted(networks)}")
        if tuple(np.shape(top)) != self.widths[-1:]:
            raise ValueError(f"expected top of shape {self.widths[-1:]}, got shape {tuple(np.shape(top))}")
        self.build(networks=networks, arrays={"top": top}, name=name)

    @classmethod
    def init(
        cls,
        visible: int,
        hidden: Sequence[int],
        *,
        rng: Rng | int,
        data: Any = None,
        dtype: str = "float32",
        name: str = "",
    ) -> Self:
        """A net of random affine maps.

        Args:
            visible: number V of binary variables.
            hidden: widths (H_1, ..., H_L), from the data upwards.
            rng: seed or generator.
            data: (N, V) whose base rates become the bias of x.
            dtype: `float32` or `float64`.
            name: prefix of the host parameters.
        """
        engine, visible = cls.engine, integer(visible, "visible")
        widths = (visible, *integers(hidden, "a width in hidden"))
        keys = iter(engine.random.split(engine.random.rng(rng), 2 * len(widths)))
        networks = {}
        for i, (below, above) in enumerate(itertools.pairwise(widths)):
            networks[f"down_{i}"] = engine.nn.mlp(next(keys), (above, below), "tanh", dtype)
            networks[f"up_{i}"] = engine.nn.mlp(next(keys), (below, above), "tanh", dtype)
        if data is not None:
            unit, bias = Bernoulli(visible), "layers.0.bias"
            logits = unit.eta_from_mean(mean_statistic(engine, unit, data, {}), {})
            like = engine.nn.params(networks["down_0"])[bias]
            new = {bias: engine.arrays.asarray(logits, like=like)}
            networks["down_0"] = engine.nn.with_arrays(networks["down_0"], new)
        return cls(networks, np.zeros(widths[-1], dtype), widths=widths, name=name)

    @property
    def observed(self) -> dict[str, Bernoulli]:
        """x, binary."""
        return {"x": Bernoulli(self.widths[0])}

    def _layer(self, name: str, logits: Array, width: int, obs: Array | None = None) -> Array:
        """A layer of `width` binary variables, in the dtype of their logits."""
        if logits.shape[-1] != width:
            raise ValueError(f"expected {width} logits of the layer {name}, got shape {tuple(logits.shape)}")
        host = self.engine.host
        value = host.ppl.sample(name, host.dist.Bernoulli(logits=logits).to_event(1), obs=obs)
        return self.engine.arrays.cast(value, logits)

    def model(self, x: Array | None = None, *, size: int | None = None, num_data: int | None = None) -> Array:
        """p(x, h) for every row of x, or for `size` rows to be drawn, from the top down.

        Args:
            x: data (N, V), observed; None to draw them.
            size: number of rows to draw when x is None.
            num_data: size of the data set that the rows stand for; scales their terms.
        """
        depth, widths = len(self.widths) - 1, self.widths
        self.check_rows(x)
        with self.data_plate(x, size, num_data):
            h = self._layer(f"h{depth}", self.param("top"), widths[depth])
            for i in range(depth - 1, 0, -1):
                h = self._layer(f"h{i}", self.net(f"down_{i}")(h), widths[i])
            obs = None if x is None else self.observed["x"].observed(self.engine, x, self.like)
            return self._layer("x", self.net("down_0")(h), widths[0], obs)

    def guide(self, x: Array, *, size: int | None = None, num_data: int | None = None) -> None:
        """q(h | x) for every row of x, from the data up."""
        self.check_rows(x)
        with self.data_plate(x, size, num_data):
            h = self.engine.arrays.cast(x, self.like)
            for i, width in enumerate(self.widths[1:]):
                h = self._layer(f"h{i + 1}", self.net(f"up_{i}")(h), width)
