r"""Replicated softmax: an RBM over the word counts of documents of any length.

    E(v, h)  = - sum_k b_k v_k - sum_jk h_j W_kj v_k - D sum_j a_j h_j,    D = sum_k v_k
    p(v | D) = (D! / prod_k v_k!) exp( v'b + sum_j softplus( D a_j + (v'W)_j ) ) / Z_D
    Z_D      = sum_h exp( D a'h ) ( sum_k exp( b_k + (W h)_k ) )^D

with counts v in {0, 1, ..}^K and h in {0,1}^H. p(v | D) is a law over count vectors: the multinomial coefficient, the
number of word sequences with these counts, is part of it, so that it sums to one over all v of length D. The law of
the reference is over the sequences themselves, and smaller by that factor; its perplexity leaves the factor out.

Reference: Replicated Softmax: an Undirected Topic Model (Salakhutdinov & Hinton, 2009), eq. 1-6.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from deepgen_ppl.energies.initial import random_machine
from deepgen_ppl.energies.machine import BoltzmannMachine
from deepgen_ppl.energies.replicated import Replicated
from deepgen_ppl.energies.terms import NoBias
from deepgen_ppl.options import mapping, numbers
from deepgen_ppl.typing import Array, Rng, State
from deepgen_ppl.units.base import Unit
from deepgen_ppl.units.bernoulli import unit_of, unit_or
from deepgen_ppl.units.multinomial import Multinomial

__all__ = ["ReplicatedSoftmax"]

TERMS = (Replicated(("v", "h")), NoBias(("h",)))


class ReplicatedSoftmax(BoltzmannMachine):
    r"""RBM over word counts: E(v, h) = - v'b - v'W h - D a'h with D = sum_k v_k, layers `v` (counts) and `h`.

    `machine.given({"lengths": D})` is the law of documents of these lengths: one machine for each, with a log Z_D each.
    The machine learns from counts `{"v": v}`, rows of any lengths, by `ContrastiveDivergence`; `bounds` and `compare`
    judge log p(v | D), D being the length of each row, in nats a document; `perplexity` is in words.

    Args:
        weight: W, shape (K, H) for K words.
        visible_bias: b, shape (K,); zero by default.
        hidden_bias: a, shape (H,); zero by default.
        longest: largest length D of a document.
        hidden: unit of `h`; `Bernoulli(H)` by default.

    Raises:
        ValueError: for shapes that do not fit.

    Example:
        >>> import numpy as np
        >>> import deepgen_ppl.numpyro as dg
        >>> W = np.random.default_rng(0).normal(size=(3, 2)).astype("float32")
        >>> machine = dg.ReplicatedSoftmax(W, longest=10)
        >>> h = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
        >>> log_z = [np.log((np.exp(W @ h.T).sum(0) ** D).sum()) for D in (1, 4, 10)]
        >>> got = dg.exact_log_normalizer(machine.given({"lengths": np.array([1, 4, 10])})).value
        >>> bool(np.allclose(got, log_z, atol=1e-5))
        True
        >>> v = np.array([[4, 0, 0], [1, 2, 1]])
        >>> machine.given({"lengths": v.sum(1)}).marginal("v", log_normalizer="exact").log_prob(v).shape
        (2,)

    Reference:
        Replicated Softmax: an Undirected Topic Model (Salakhutdinov & Hinton, 2009), eq. 1-6,
        https://papers.nips.cc/paper/3856.
    """

    def __init__(
        self,
        weight: Array,
        visible_bias: Array | None = None,
        hidden_bias: Array | None = None,
        *,
        longest: int = 100,
        hidden: Unit | None = None,
    ) -> None:
        weight = numbers(weight, "the weight")
        if len(np.shape(weight)) != 2:
            how = f"; for random weights use {type(self).__name__}.init(visible=6, hidden=3, rng=0)"
            raise ValueError(f"expected a weight of shape (K, H), got shape {tuple(np.shape(weight))}{how}")
        w = self._array("v-h.weight", weight)
        arrays = {
            "v.bias": 0.0 * w[:, 0] if visible_bias is None else visible_bias,
            "v-h.bias": 0.0 * w[0] if hidden_bias is None else hidden_bias,
            "v-h.weight": w,
        }
        words, topics = np.shape(weight)
        super().__init__({"v": Multinomial(words, longest), "h": unit_or(hidden, topics)}, TERMS, arrays)

    @classmethod
    def init(
        cls,
        visible: int,
        hidden: int | Unit,
        *,
        rng: Rng | int,
        longest: int = 100,
        data: Any = None,
        weight_scale: float = 0.01,
        dtype: str = "float32",
    ) -> Self:
        """A machine with small random weights and no hidden bias.

        Args:
            visible: number of words K.
            hidden: number of Bernoulli units, or a unit.
            rng: seed or generator.
            longest: largest length of a document.
            data: counts (N, K) from which to take the visible bias (the shares of the words).
            weight_scale: standard deviation of the weights.
            dtype: `float32` or `float64`.
        """
        layers = {"v": Multinomial(visible, longest), "h": unit_of(hidden)}
        machine = random_machine(
            cls, rng, layers, TERMS, centered=False, data=data, weight_scale=weight_scale, dtype=dtype
        )
        return machine.with_params({"v-h.bias": 0.0 * machine.params["v-h.bias"]})

    @property
    def conditions(self) -> tuple[str, ...]:
        """The lengths of the documents, which data say by themselves."""
        return ("lengths", *super().conditions)

    def given(self, state: State, *, missing: State | None = None) -> BoltzmannMachine:
        """The machine of documents of these lengths, or with layers clamped: one for each row of the values given.

        Args:
            state: `lengths`, shape (N,), or values of layers by name.
            missing: layer name -> mask, true where a value is not known.

        Raises:
            ValueError: for lengths that are no integers from 0 to the longest, and as `BoltzmannMachine.given`.
        """
        rest = dict(mapping(state, "a state", "{'lengths': lengths}"))
        known = "lengths" in rest
        lengths = rest.pop("lengths", None)
        machine = self if not known else self.with_constants({"v.total": self._checked(lengths)})
        return BoltzmannMachine.given(machine, rest, missing=missing)

    def _checked(self, lengths: Any) -> Array:
        """Lengths as the engine's, checked where they can be read."""
        arrays, longest = self.engine.arrays, self.structure.layers["v"].range[1]
        lengths = arrays.asarray(lengths, like=self.like)
        if arrays.is_concrete(lengths):
            plain = arrays.to_numpy(lengths)
            if not ((plain >= 0) & (plain <= longest) & (plain == np.round(plain))).all():
                raise ValueError(
                    f"expected lengths from 0 to longest={longest:g}, got {plain.min():g} to {plain.max():g}"
                )
        return lengths

    def conditioned(self, data: State) -> tuple[BoltzmannMachine, State]:
        """The machine of the rows' lengths, which are the sums of their counts."""
        return self.given({"lengths": self.engine.xp.sum(data["v"], axis=-1)}), data

    def perplexity(self, v: Array, log_prob: Array) -> float:
        """exp( - 1/N sum_n log p(w_n) / D_n ), the mean over documents, w_n a sequence of words with the counts v_n.

        A sequence is one of the D! / prod_k v_k! with its counts, all equally probable.

        Args:
            v: counts, shape (N, K).
            log_prob: log p(v | D) of each row in nats, shape (N,), such as `bounds(machine, v, rng=0).pointwise`.

        Raises:
            ValueError: for documents without words, or other shapes.
        """
        arrays = self.engine.arrays
        with self.engine.control.double():
            counts = arrays.asarray(arrays.to_numpy(v), dtype="float64")
            log_m = self.structure.layers["v"].log_base(self.engine, counts, {"total": -1.0 + 0.0 * counts[:, 0]})
            log_m = arrays.to_numpy(log_m)
        lengths, log_prob = arrays.to_numpy(v).sum(-1), arrays.to_numpy(log_prob)
        if log_prob.shape != lengths.shape or not (lengths > 0).all():
            raise ValueError(
                f"expected counts of documents with words and one log p each, got {int((lengths <= 0).sum())} without "
                f"words and shapes {tuple(np.shape(v))} and {log_prob.shape}"
            )
        return float(np.exp(-np.mean((log_prob - log_m) / lengths)))
