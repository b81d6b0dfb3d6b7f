"""Names for the things that annotations speak of, and the axis letters used in every docstring.

Axis letters: N data, C chains, S global particles, K local particles, V visible width, H hidden width, D latent width.
All logarithms are natural; log-probabilities and energies are in nats, per datum unless a docstring says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn, TypeAlias

__all__ = ["Array", "ArrayDict", "Distribution", "Params", "Rng", "State"]

Array: TypeAlias = Any
"""A `jax.Array` on the NumPyro engine, a `torch.Tensor` on the Pyro engine."""

Rng: TypeAlias = Any
"""A JAX key or a `torch.Generator`; wherever a user passes one, an integer seed is accepted too."""

Distribution: TypeAlias = Any
"""A distribution object of the host: `numpyro.distributions.Distribution` or `pyro.distributions.TorchDistribution`."""

State: TypeAlias = Mapping[str, Array]
"""The values of the blocks of an energy: block name -> array of shape (..., block size)."""

Params: TypeAlias = Mapping[str, Array]
"""A flat dict of arrays, the exchange format of every model."""


class ArrayDict(dict[str, Any]):
    """The arrays of a model by name: a dict that cannot be changed, since models are immutable."""

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError("expected model.with_params(...) or with_constants(...) to change arrays: models are immutable")

    __setitem__ = __delitem__ = __ior__ = _refuse  # type: ignore[assignment]
    clear = pop = popitem = setdefault = update = _refuse  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return ArrayDict, (dict(self),)
