"""Distribution objects of NumPyro: the marginal of a machine, and spins."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.distributions import constraints
from numpyro.distributions.util import promote_shapes, validate_sample

from deepgen_ppl.log_z.moments import marginal_entropy, marginal_mean, marginal_variance
from deepgen_ppl.log_z.policies import check_marginal, marginal_draw, marginal_log_prob

__all__ = ["Marginal", "Spin", "draw"]


class _SpinConstraint(constraints.Constraint):
    is_discrete = True

    def __call__(self, x: Any) -> Any:
        return (x == -1) | (x == 1)

    def feasible_like(self, prototype: Any) -> Any:
        return jnp.ones_like(prototype)

    def tree_flatten(self) -> tuple:
        return (), ((), {})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _SpinConstraint)

    def __hash__(self) -> int:
        return hash(_SpinConstraint)


class Spin(dist.Distribution):
    """Spins in {-1, +1} with p(+1) = sigmoid(logits), batch shape that of `logits`."""

    unit_support: ClassVar[constraints.Constraint] = _SpinConstraint()
    arg_constraints: ClassVar[dict] = {"logits": constraints.real}
    support = unit_support
    has_enumerate_support = True

    def __init__(self, logits: Any, *, validate_args: bool | None = None) -> None:
        (self.logits,) = promote_shapes(jnp.asarray(logits))
        super().__init__(batch_shape=jnp.shape(self.logits), validate_args=validate_args)

    def sample(self, key: jax.Array, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Integer draws."""
        up = jax.random.bernoulli(key, jax.nn.sigmoid(self.logits), sample_shape + self.batch_shape)
        return jnp.where(up, 1, -1)

    @validate_sample
    def log_prob(self, value: Any, intermediates: Any = None) -> jax.Array:
        """log sigmoid(value * logits)."""
        return jax.nn.log_sigmoid(value * self.logits)

    @property
    def mean(self) -> jax.Array:
        """tanh(logits / 2)."""
        return jnp.tanh(self.logits / 2)

    @property
    def variance(self) -> jax.Array:
        """1 - mean^2."""
        return 1 - self.mean**2

    def enumerate_support(self, expand: bool = True) -> jax.Array:  # noqa: FBT001, FBT002 - the host's signature
        """-1 and +1."""
        values = jnp.array([-1, 1]).reshape((-1,) + (1,) * len(self.batch_shape))
        return jnp.broadcast_to(values, (2, *self.batch_shape)) if expand else values


@jax.custom_jvp
def _constant(value: jax.Array, params: Any) -> jax.Array:
    del params
    return value


@_constant.defjvp
def _(primals: Any, tangents: Any) -> Any:
    raise RuntimeError(
        "expected a log normalizer that can be differentiated, got an estimate without particles: its gradient "
        "would be zero. Use ais(machine, rng=...) forward, log_normalizer='exact', or StochasticML for training"
    )


class Marginal(dist.Distribution):
    """p(x_block) of a machine; see `BoltzmannMachine.marginal`."""

    arg_constraints: ClassVar[dict] = {}
    pytree_data_fields = ("machine", "normalizer")
    pytree_aux_fields = ("block", "exact", "hidden_bound", "sampler")
    has_rsample = False

    def __init__(
        self,
        machine: Any,
        block: str,
        log_normalizer: Any = None,
        hidden_bound: Any = None,
        sampler: Any = None,
        *,
        validate_args: bool | None = None,
    ) -> None:
        check_marginal(machine, block, log_normalizer, hidden_bound, sampler)
        self.machine, self.block, self.hidden_bound, self.sampler = machine, block, hidden_bound, sampler
        self.exact = isinstance(log_normalizer, str)
        self.normalizer = None if self.exact else log_normalizer
        super().__init__(machine.batch_shape, machine.blocks[block].shape, validate_args=validate_args)

    @staticmethod
    def constant(value: jax.Array, params: Any) -> jax.Array:
        """The value, which raises where it is differentiated with respect to `params`."""
        return _constant(value, params)

    @property
    def log_normalizer(self) -> Any:
        """The policy given."""
        return "exact" if self.exact else self.normalizer

    @constraints.dependent_property(event_dim=1)
    def support(self) -> Any:
        """That of the block's units."""
        return self.machine.support(self.block)

    @property
    def mean(self) -> jax.Array:
        """E[x], shape (n,), by enumeration."""
        return marginal_mean(self.machine, self.block)

    @property
    def variance(self) -> jax.Array:
        """Var[x], shape (n,), by enumeration."""
        return marginal_variance(self.machine, self.block)

    def entropy(self) -> jax.Array:
        """H[x] in nats, by enumeration."""
        return marginal_entropy(self.machine, self.block)

    @validate_sample
    def log_prob(self, value: Any, intermediates: Any = None) -> jax.Array:
        """log p(value) in nats, shape that of the value without its last axis."""
        return marginal_log_prob(self.machine, self.block, jnp.asarray(value), self.log_normalizer, self.hidden_bound)

    def sample(self, key: jax.Array, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Draws by the sampler, or exact ones."""
        x = marginal_draw(key, self.machine, self.block, math.prod(sample_shape), self.sampler)
        x = x.astype(jnp.int32) if self.machine.blocks[self.block].integer else x
        return x.reshape(sample_shape + self.batch_shape + self.event_shape)

    def __repr__(self) -> str:
        return f"Marginal({self.block!r} of {self.machine!r}, log_normalizer={self.log_normalizer!r})"


def draw(rng: jax.Array, distribution: dist.Distribution) -> jax.Array:
    """A draw that uses only `rng`."""
    return distribution.sample(rng)
