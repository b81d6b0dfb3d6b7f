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

import numpy as np

__all__ = [
    "Arrays",
    "Control",
    "Engine",
    "Host",
    "Networks",
    "Plate",
    "Random",
    "Site",
    "Sites",
    "Special",
    "check_shapes",
    "impure",
    "native",
]


@dataclass(frozen=True)
class Arrays:
    """Making arrays and looking at them.

    Attributes:
        asarray: `(x, like=None, dtype=None)` -> array of the engine. Without `like` and `dtype`, floating input keeps
            float64 or becomes float32; float64 that the engine would round silently raises `TypeError`.
        to_numpy: array -> `numpy.ndarray`, detached and on the host.
        is_concrete: whether the value of an array can be read now (false while a program is traced).
        is_constant: whether it can be read and no derivative with respect to it is being taken.
        cast: `(x, like)` -> x in the dtype and on the device of `like`.
        mix: `(beta, a, b)` -> (1 - beta) a + beta b.
    """

    asarray: Callable
    to_numpy: Callable
    is_concrete: Callable
    is_constant: Callable
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
        conv: `(x, w)` -> out[m, k, i, j] = sum_crs w[k, c, r, s] x[m, c, i + r, j + s], where it fits.
        conv_transpose: `(y, w)` -> the adjoint of `conv` in x, from (M, K, ..) to (M, C, ..).
    """

    sigmoid: Callable
    softplus: Callable
    log_sigmoid: Callable
    logsumexp: Callable
    softmax: Callable
    lgamma: Callable
    one_hot: Callable
    stop_gradient: Callable
    conv: Callable
    conv_transpose: Callable


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
        map: `(fn, xs)` -> `fn(x)` for every x along the leading axis, stacked (`vmap` on JAX, a loop on torch).
        value_and_grad: `(fn)` -> `(params, *args) -> (value, gradient)` over a flat dict of arrays.
        compile: `(fn)` -> the same function for evaluation only: compiled on JAX, without an autograd graph on torch.
        double: context in which float64 arrays may be made and used, whatever the process has configured.
    """

    loop: Callable
    map: Callable
    value_and_grad: Callable
    compile: Callable
    double: Callable[[], AbstractContextManager]


@dataclass(frozen=True)
class Networks:
    """Native networks (torch `nn.Module`; flax `nnx.Module` or a callable pytree of arrays).

    A network has trained arrays and constants: buffers, variables that are no parameters, frozen parameters. It may not
    have a state that changes as it runs.

    Attributes:
        mlp: `(rng, sizes, activation, dtype)` -> multilayer perceptron.
        activation: network -> name of the activation if `mlp` made it, else None.
        wrap: native network -> object whose arrays the engine can see.
        params: network -> flat dict of trained arrays.
        constants: network -> flat dict of its other arrays.
        with_arrays: `(network, arrays)` -> a network of its own with these arrays, trained ones and constants;
            differentiable. Names not given keep theirs.
        frozen: network -> the same whose arrays are all constants.
        call: `(network, arrays)` -> the network as a function, with arrays under the common names put in.
        canonical: network -> all its arrays as NumPy arrays, with names and layouts common to both engines.
        from_canonical: `(network, arrays)` -> a network with these arrays.
    """

    mlp: Callable
    activation: Callable
    wrap: Callable
    params: Callable
    constants: Callable
    with_arrays: Callable
    frozen: Callable
    call: Callable
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
        transform: `(bijection)` -> a `Bijection` of ours as the host's own transform of vectors.
        biject_to: `(constraint)` -> the host's bijection from unconstrained arrays.
        marginal: class of the host distribution behind `machine.marginal`.
        kernel: class of the host MCMC kernel behind `kernel.on(machine)`.
        run: `(program, batch, *, rng=None, params=None, values=None, particles=None, plate="data", nesting=1,
            pathwise=True, args=())` -> `Sites` of one run of a model or a guide, called with `*args, **batch`. `params`
            stand in for host parameters. `values` are put in at latent sites and subsampled plates: arrays, or the
            `Site` of another run with its particles. `particles` draws the latent sites inside `plate` K times, at most
            `nesting` plates deep. Draws without a pathwise gradient, or all where `pathwise` is false, are constants.
            Without `rng` the host's own generator is used, where it has one.
        divergence: `(q, p)` -> KL(q || p) of two sites, shaped like `log_prob`; `NotImplementedError` where the host
            knows none.
        nuts: `(program, batch, rng, options, *, progress)` -> (draws (C, D, ...) of all latent sites, stats (C, D))
            by the host's no-U-turn sampler.
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
    transform: Callable
    biject_to: Callable
    marginal: Any
    kernel: Any
    run: Callable
    divergence: Callable
    nuts: Callable
    trainer: Any
    optimizers: Any
    bound: Callable


class Plate(NamedTuple):
    """A plate around a site: its axis `dim`, counted from the right, and its size (of the rows drawn)."""

    name: str
    dim: int
    size: int


@dataclass(frozen=True)
class Site:
    """A sample site of one run of a program.

    Attributes:
        name: its name.
        fn: its distribution; where there are particles, to be read by `host.divergence` alone.
        value: (*batch, *event), or (K, *batch, *event) where each particle has its own.
        observed: whether its value was given by the program; factors are.
        scale: what the program multiplies its log-probability by: a number or an array.
        plates: the plates around it.
        auxiliary: whether it serves its guide alone and has no partner in the model.
        particles: K where value and log-probability lead with an axis of particles, else None.
        score: `()` -> log-probability of the value, masked and unscaled.
    """

    name: str
    fn: Any
    value: Any
    observed: bool
    scale: Any
    plates: tuple[Plate, ...]
    auxiliary: bool
    particles: int | None
    score: Callable[[], Any]

    @cached_property
    def log_prob(self) -> Any:
        """Log-probability of the value, masked and unscaled: (*batch) or (K, *batch), in nats."""
        return self.score()

    def inside(self, plate: str) -> bool:
        """Whether the site is inside the plate of this name."""
        return any(p.name == plate for p in self.plates)

    @property
    def pathwise(self) -> bool:
        """Whether its draws have a pathwise gradient."""
        return bool(self.fn.has_rsample)

    @property
    def law(self) -> str:
        """Name of the distribution that the user wrote."""
        fn = self.fn
        while (base := getattr(fn, "base_dist", None)) is not None:
            fn = base
        return type(fn).__name__


class Sites(dict[str, Site]):
    """The sample sites of one run, by name and in order.

    Attributes:
        rows: the rows that each subsampled plate has drawn; `values` of another run.
        state: the host's mutable sites after the run.
    """

    def __init__(self, sites: Mapping[str, Site], rows: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        super().__init__(sites)
        self.rows, self.state = dict(rows), dict(state)


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


def native(x: Any) -> np.ndarray:
    """A NumPy array that every engine can take: contiguous, in the byte order of this machine, at most float64."""
    x = np.asarray(x)
    dtype = np.dtype(np.float64) if x.dtype.kind == "f" and x.dtype.itemsize > 8 else x.dtype.newbyteorder("=")
    return np.array(x, dtype, order="C")  # a copy: a reversed array of one row counts as contiguous


def impure(kind: str, what: str) -> TypeError:
    """What is raised for a network that is no function of its input and its arrays.

    Args:
        kind: class of the network.
        what: what differed: "other outputs for equal inputs", or names of arrays that it changed.
    """
    return TypeError(
        f"expected a network that gives equal outputs for equal inputs and changes none of its arrays, got {kind} with "
        f"{what}: use LayerNorm instead of BatchNorm, leave dropout out, or put it in evaluation mode (.eval())"
    )
