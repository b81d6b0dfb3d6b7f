"""Distribution objects of Pyro: the marginal of a machine, and spins."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution
from torch.distributions import constraints

from deepgen_ppl.hosts.threads import LOCK
from deepgen_ppl.log_z.moments import marginal_entropy, marginal_mean, marginal_variance
from deepgen_ppl.log_z.policies import check_marginal, marginal_draw, marginal_log_prob

__all__ = ["Marginal", "Spin", "draw", "seeded"]


class _SpinConstraint(constraints.Constraint):
    is_discrete = True

    def check(self, value: torch.Tensor) -> torch.Tensor:
        return (value == -1) | (value == 1)


class Spin(TorchDistribution):
    """Spins in {-1, +1} with p(+1) = sigmoid(logits), batch shape that of `logits`."""

    unit_support: ClassVar[constraints.Constraint] = _SpinConstraint()
    arg_constraints: ClassVar[dict] = {"logits": constraints.real}
    support = unit_support
    has_enumerate_support = True

    def __init__(self, logits: torch.Tensor, *, validate_args: bool | None = None) -> None:
        self.logits = torch.as_tensor(logits)
        super().__init__(self.logits.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Spin:
        """The same law over more units."""
        new = self._get_checked_instance(Spin, _instance)
        new.logits = self.logits.expand(torch.Size(batch_shape))
        TorchDistribution.__init__(new, torch.Size(batch_shape), validate_args=False)
        new._validate_args = self._validate_args
        return new

    def sample(self, sample_shape: Any = ()) -> torch.Tensor:
        """Draws in the dtype of `logits`."""
        with torch.no_grad():
            p = torch.sigmoid(self.logits).expand(torch.Size(sample_shape) + self.batch_shape)
            return 2.0 * torch.bernoulli(p) - 1.0

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """log sigmoid(value * logits)."""
        if self._validate_args:
            self._validate_sample(value)
        return torch.nn.functional.logsigmoid(value * self.logits)

    @property
    def mean(self) -> torch.Tensor:
        """tanh(logits / 2)."""
        return torch.tanh(self.logits / 2)

    @property
    def variance(self) -> torch.Tensor:
        """1 - mean^2."""
        return 1 - self.mean**2

    def enumerate_support(self, expand: bool = True) -> torch.Tensor:  # noqa: FBT001, FBT002 - the host's signature
        """-1 and +1."""
        values = torch.tensor([-1.0, 1.0], dtype=self.logits.dtype, device=self.logits.device)
        values = values.reshape((-1,) + (1,) * len(self.batch_shape))
        return values.expand((2, *self.batch_shape)) if expand else values


def _expands(small: torch.Size, large: torch.Size) -> bool:
    """Whether axes may be added on the left and axes of length 1 made longer, and nothing else."""
    try:
        return torch.broadcast_shapes(small, large) == large
    except RuntimeError:
        return False


class Marginal(TorchDistribution):
    """p(x_block) of a machine; see `BoltzmannMachine.marginal`."""

    arg_constraints: ClassVar[dict] = {}
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
        self.log_normalizer = log_normalizer
        batch, event = torch.Size(machine.batch_shape), torch.Size(machine.blocks[block].shape)
        super().__init__(batch, event, validate_args=validate_args)

    @staticmethod
    def constant(value: torch.Tensor, params: dict[str, torch.Tensor]) -> torch.Tensor:
        """The value, unless it is about to be differentiated with respect to `params`."""
        if torch.is_grad_enabled() and any(p.requires_grad for p in params.values()):
            raise RuntimeError(
                "expected a log normalizer that can be differentiated, got an estimate without particles: its gradient "
                "would be zero. Use ais(machine, rng=...) forward, log_normalizer='exact', or StochasticML for training"
            )
        return value

    @constraints.dependent_property(event_dim=1)
    def support(self) -> Any:
        """That of the block's units."""
        return self.machine.support(self.block)

    @property
    def mean(self) -> torch.Tensor:
        """E[x], shape batch_shape + (n,), by enumeration."""
        return marginal_mean(self.machine, self.block).expand(self.batch_shape + self.event_shape)

    @property
    def variance(self) -> torch.Tensor:
        """Var[x], shape batch_shape + (n,), by enumeration."""
        return marginal_variance(self.machine, self.block).expand(self.batch_shape + self.event_shape)

    def entropy(self) -> torch.Tensor:
        """H[x] in nats, shape batch_shape, by enumeration."""
        return marginal_entropy(self.machine, self.block).expand(self.batch_shape)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Marginal:
        """The same law for independent copies.

        Raises:
            ValueError: for a shape to which this batch shape cannot be broadcast.
        """
        new = self._get_checked_instance(Marginal, _instance)
        if not _expands(self.batch_shape, torch.Size(batch_shape)):
            raise ValueError(
                f"expected a batch shape to which {tuple(self.batch_shape)} can be expanded, got {tuple(batch_shape)}"
            )
        for name in ("machine", "block", "log_normalizer", "hidden_bound", "sampler"):
            setattr(new, name, getattr(self, name))
        TorchDistribution.__init__(new, torch.Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """log p(value) in nats, shape that of the value without its last axis."""
        value = torch.as_tensor(value)
        if self._validate_args:
            self._validate_sample(value)
        log_p = marginal_log_prob(self.machine, self.block, value, self.log_normalizer, self.hidden_bound)
        return log_p.expand(torch.broadcast_shapes(log_p.shape, self.batch_shape))

    def sample(self, sample_shape: Any = ()) -> torch.Tensor:
        """Draws by the sampler, or exact ones, seeded from torch's global generator as the host's own are."""
        shape = torch.Size(sample_shape) + self.batch_shape
        rng = torch.Generator(device=self.machine.like.device).manual_seed(int(torch.randint(2**62, ())))
        with torch.no_grad():
            num = math.prod(shape) // math.prod(self.machine.batch_shape)
            x = marginal_draw(rng, self.machine, self.block, num, self.sampler)
        return x.reshape(shape + self.event_shape)

    def __repr__(self) -> str:
        return f"Marginal({self.block!r} of {self.machine!r}, log_normalizer={self.log_normalizer!r})"


@contextlib.contextmanager
def seeded(rng: torch.Generator) -> Iterator[None]:
    """Context in which torch's global generator continues `rng`; both are left as if `rng` had made the draws.

    Other threads wait for its end.
    """
    cuda = rng.device.type == "cuda"
    get, put = (
        (torch.cuda.get_rng_state, torch.cuda.set_rng_state) if cuda else (torch.get_rng_state, torch.set_rng_state)
    )
    with LOCK:
        outside = get()
        put(rng.get_state())
        try:
            yield
        finally:
            rng.set_state(get())
            put(outside)


def draw(rng: torch.Generator, distribution: TorchDistribution) -> torch.Tensor:
    """A draw that uses only `rng`."""
    with seeded(rng), torch.no_grad():
        return distribution.sample()
