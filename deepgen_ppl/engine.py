"""What the library asks of an engine: a plain object made of small groups of functions.

A model reads `self.engine` and never asks which engine it runs on. Every function listed here has a row in the engine
tests, which compare it with NumPy or SciPy on both engines. Arrays of the array API standard come from `xp`; the groups
hold only what the standard lacks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

__all__ = ["Arrays", "Control", "Engine", "Host", "Networks", "Plate", "Random", "RunSite", "Special", "check_shapes"]


@dataclass(frozen=True)
class Arrays:
    """Making arrays and looking at them.

    Attributes:
        asarray: `(x, like=None, dtype=None)` -> array of the engine. Without `like` and `dtype`, floating input keeps
            float64 or becomes float32; float64 that the engine would round silently raises `TypeError`.
        to_numpy: array -> `numpy.ndarray`, detached and on the host.
        is_concrete: whether the value of an array can be read now (false while a program is traced).
        cast: `(x, like)` -> x in the dtype and on the device of `like`.
        mix: `(beta, a, b)` -> (1 - beta) a + beta b.
    """

    asarray: Callable
    to_numpy: Callable
    is_concrete: Callable
    cast: Callable
    mix: Callable


@dataclass(frozen=True)
class Special:
    """Elementary functions that the array standard lacks; all accurate over the whole range of their dtype.

    Attributes:
        sigmoid: 1 / (1 + exp(-x)).
        softplus: log(1 + exp(x)).
        log_sigmoid: -log(1 + exp(-x)).
        logsumexp: `(x, axis)` -> log sum exp(x) over `axis`.
        softmax: `(x, axis)` -> exp(x - logsumexp(x)).
        lgamma: log |Gamma(x)|.
        one_hot: `(x, num_classes, like)` -> one-hot array in the dtype of `like`.
        stop_gradient: the identity, whose derivative is zero.
    """

    sigmoid: Callable
    softplus: Callable
    log_sigmoid: Callable
    logsumexp: Callable
    softmax: Callable
    lgamma: Callable
    one_hot: Callable
    stop_gradient: Callable


@dataclass(frozen=True)
class Random:
    """Explicit randomness: every function takes the generator first and none touches global state.

    Attributes:
        rng: `(seed_or_rng, like=None)` -> generator of the engine (a JAX key, a `torch.Generator`).
        split: `(rng, n)` -> n generators, to be used in order.
        uniform: `(rng, shape, like)` -> draws from [0, 1).
        normal: `(rng, shape, like)` -> standard normal draws.
        gumbel: `(rng, shape, like)` -> standard Gumbel draws.
        poisson: `(rng, rate)` -> Poisson counts in the dtype of `rate`.
        bernoulli: `(rng, logits)` -> 0/1 draws in the dtype of `logits`; a probability of 0 never fires.
        categorical: `(rng, logits)` -> integer draws over the last axis.
        state: `rng` -> NumPy array that restores it.
        restore: `(state, like=None)` -> generator.
    """

    rng: Callable
    split: Callable
    uniform: Callable
    normal: Callable
    gumbel: Callable
    poisson: Callable
    bernoulli: Callable
    categorical: Callable
    state: Callable
    restore: Callable


@dataclass(frozen=True)
class Control:
    """Loops, derivatives, compilation.

    Attributes:
        loop: `(step, carry, xs=None, length=None)` -> `(carry, ys)` with `step(carry, x) -> (carry, y)`; `xs` and `ys`
            are trees of arrays with a leading time axis (a compiled scan on JAX, a loop on torch).
        value_and_grad: `(fn)` -> `(params, *args) -> (value, gradient)` over a flat dict of arrays.
        compile: `(fn)` -> the same function for evaluation only: compiled on JAX, without an autograd graph on torch.
        double: context in which float64 arrays may be made and used, whatever the process has configured.
    """

    loop: Callable
    value_and_grad: Callable
    compile: Callable
    double: Callable[[], AbstractContextManager]


@dataclass(frozen=True)
class Networks:
    """Native networks (torch `nn.Module`, flax `nnx.Module`).

    Attributes:
        mlp: `(rng, sizes, activation, dtype)` -> multilayer perceptron.
        wrap: native network -> object whose arrays the engine can see (checks that it has no hidden state).
        params: network -> flat dict of trained arrays.
        with_params: `(network, params)` -> a network of its own with these arrays.
        canonical: network -> the same flat dict with NumPy arrays and names and layouts common to both engines.
        from_canonical: `(network, arrays)` -> a network with these arrays.
    """

    mlp: Callable
    wrap: Callable
    params: Callable
    with_params: Callable
    canonical: Callable
    from_canonical: Callable


@dataclass(frozen=True)
class Host:
    """The probabilistic programming language under the engine.

    Attributes:
        ppl: module with `sample`, `plate`, `param`, `deterministic`, `factor`.
        dist: the host's distributions.
        constraints: the host's constraints.
        handlers: the host's effect handlers.
        module: `(name, network, event_dim)` -> callable; registers the arrays of a network as host parameters and
            flattens all leading axes before the network is called.
        param: `(name, value)` -> the value of a host parameter that starts at `value`.
        trainable: flat dict of arrays -> the same, of which the host can take gradients.
        persistent: `(name, program)` -> chains of a `MachineLearner`, kept by the host from step to step.
        contrastive: `(program)` -> loss of a `MachineLearner` for the host's SVI.
        spin: `(logits)` -> distribution of a spin in {-1, +1} with p(+1) = sigmoid(logits).
        draw: `(rng, distribution)` -> a draw that uses only `rng`.
        marginal: class of the host distribution behind `machine.marginal`.
        kernel: class of the host MCMC kernel behind `kernel.on(machine)`.
        run: `(program, batch, *, rng, values=None)` -> name -> `RunSite` of one run of a model or a guide, called with
            `**batch`; `values` are put in at latent sites.
        log_weights: runs a model-guide pair and returns its `LogWeights`.
        trainer: the engine's training loop behind `fit`.
        optimizers: name -> constructor of a host-neutral optimizer.
        bound: `()` -> context in which a program's parameters are its own arrays and never reach a global store.
    """

    ppl: Any
    dist: Any
    constraints: Any
    handlers: Any
    module: Callable
    param: Callable
    trainable: Callable
    persistent: Callable
    contrastive: Callable
    spin: Any
    draw: Callable
    marginal: Any
    kernel: Any
    run: Callable
    log_weights: Callable
    trainer: Any
    optimizers: Any
    bound: Callable


class Plate(NamedTuple):
    """A plate around a site: its axis `dim`, counted from the right, and its size."""

    name: str
    dim: int
    size: int


@dataclass(frozen=True)
class RunSite:
    """A sample site of one run of a program.

    Attributes:
        name: its name.
        fn: its distribution.
        value: (*batch, *event).
        observed: whether its value was given by the program; factors are.
        scale: what the program multiplies its log-probability by.
        plates: the plates around it.
        auxiliary: whether it serves its guide alone and has no partner in the model.
        score: `()` -> log-probability of the value, masked and unscaled.
    """

    name: str
    fn: Any
    value: Any
    observed: bool
    scale: Any
    plates: tuple[Plate, ...]
    auxiliary: bool
    score: Callable[[], Any]

    @cached_property
    def log_prob(self) -> Any:
        """Log-probability of the value, masked and unscaled, (*batch) in nats."""
        return self.score()

    def inside(self, plate: str) -> bool:
        """Whether the site is inside the plate of this name."""
        return any(p.name == plate for p in self.plates)

    @property
    def law(self) -> str:
        """Name of the distribution that the user wrote."""
        fn = self.fn
        while (base := getattr(fn, "base_dist", None)) is not None:
            fn = base
        return type(fn).__name__


@dataclass(frozen=True)
class Engine:
    """One probabilistic programming language with its arrays. Compared by identity; hashable.

    `families` are the models that the engine's classes are known by in files: name -> class.
    """

    name: str
    xp: Any
    arrays: Arrays
    special: Special
    random: Random
    control: Control
    nn: Networks
    host: Host
    register: Callable[[type], None]
    families: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<engine {self.name}>"

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return hash(self.name)


def check_shapes(arrays: Mapping[str, Any], expected: Sequence[tuple[int, ...]]) -> None:
    """Check that a checkpoint's arrays `state.0`, `state.1`, ... have the shapes of a fresh training state.

    Raises:
        ValueError: with both.
    """
    got = {k: tuple(v.shape) for k, v in arrays.items() if k.removeprefix("state.").isdigit()}
    wanted = {f"state.{i}": tuple(shape) for i, shape in enumerate(expected)}
    if got != wanted:
        raise ValueError(
            f"expected a checkpoint of the same model, objective and optimizer, with arrays of the shapes "
            f"{list(wanted.values())}, got {list(got.values())}"
        )
