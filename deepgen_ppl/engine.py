"""What the library asks of an engine: a plain object made of small groups of functions.

A model reads `self.engine` and never asks which engine it runs on. Every function listed here has a row in the engine
tests, which compare it with NumPy or SciPy on both engines. Arrays of the array API standard come from `xp`; the groups
hold only what the standard lacks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np

from deepgen_ppl.sites import Run, Site
from deepgen_ppl.typing import Array, Distribution, Params, Rng

__all__ = ["Arrays", "Control", "Engine", "Host", "Networks", "Random", "Special"]

Elementwise: TypeAlias = Callable[[Array], Array]
Network: TypeAlias = Any
Shape: TypeAlias = Sequence[int]


class AsArray(Protocol):
    """What makes arrays of the engine."""

    def __call__(self, x: Any, like: Array | None = None, dtype: Any = None) -> Array:
        """An array of the engine; see `Arrays`."""


class MakeRng(Protocol):
    """What makes generators."""

    def __call__(self, seed: Any, /, like: Array | None = None) -> Rng:
        """A generator of the engine; see `Random`."""


class Loop(Protocol):
    """A scan."""

    def __call__(
        self, step: Callable[[Any, Any], tuple[Any, Any]], carry: Any, xs: Any = None, length: int | None = None
    ) -> tuple[Any, Any]:
        """(carry, ys) after `step(carry, x) -> (carry, y)` for every x; see `Control`."""


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

    asarray: AsArray
    to_numpy: Callable[[Array], np.ndarray]
    is_concrete: Callable[[Array], bool]
    is_constant: Callable[[Array], bool]
    cast: Callable[[Any, Array], Array]
    mix: Callable[[Any, Array, Array], Array]


@dataclass(frozen=True)
class Special:
    """Elementary functions that the array standard lacks; all accurate over the whole range of their dtype.

    Attributes:
        sigmoid: 1 / (1 + exp(-x)).
        softplus: log(1 + exp(x)).
        logsumexp: `(x, axis)` -> log sum exp(x) over `axis`.
        softmax: `(x, axis)` -> exp(x - logsumexp(x)).
        lgamma: log |Gamma(x)|.
        one_hot: `(x, num_classes, like)` -> one-hot array in the dtype of `like`.
        stop_gradient: the identity, whose derivative is zero.
        conv: `(x, w)` -> out[m, k, i, j] = sum_crs w[k, c, r, s] x[m, c, i + r, j + s], where it fits.
        conv_transpose: `(y, w)` -> the adjoint of `conv` in x, from (M, K, ..) to (M, C, ..).
    """

    sigmoid: Elementwise
    softplus: Elementwise
    logsumexp: Callable[[Array, int], Array]
    softmax: Callable[[Array, int], Array]
    lgamma: Elementwise
    one_hot: Callable[[Array, int, Array], Array]
    stop_gradient: Elementwise
    conv: Callable[[Array, Array], Array]
    conv_transpose: Callable[[Array, Array], Array]


@dataclass(frozen=True)
class Random:
    """Explicit randomness: every function takes the generator first and none touches global state.

    Attributes:
        rng: `(seed, like=None)` -> generator of the engine (a JAX key, a `torch.Generator`).
        split: `(rng, n)` -> n generators, to be used in order.
        uniform: `(rng, shape, like)` -> draws from [0, 1).
        normal: `(rng, shape, like)` -> standard normal draws.
        poisson: `(rng, rate)` -> Poisson counts in the dtype of `rate`.
        bernoulli: `(rng, logits)` -> 0/1 draws in the dtype of `logits`; a probability of 0 never fires.
        categorical: `(rng, logits)` -> integer draws over the last axis.
        state: `rng` -> NumPy array that restores it.
        restore: `(state, like=None)` -> generator.
    """

    rng: MakeRng
    split: Callable[[Rng, int], Sequence[Rng]]
    uniform: Callable[[Rng, Shape, Array], Array]
    normal: Callable[[Rng, Shape, Array], Array]
    poisson: Callable[[Rng, Array], Array]
    bernoulli: Callable[[Rng, Array], Array]
    categorical: Callable[[Rng, Array], Array]
    state: Callable[[Rng], np.ndarray]
    restore: MakeRng


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
        shard: `(x, like)` -> a tree of arrays whose leading axes are spread over the devices that are present, so that
            compiled functions run on all of them; itself where they are fewer than two or do not divide the axes, where
            the user has put `like` on a device, and on torch.
        forget: `()` -> None: what has been compiled is dropped, with its memory, and compiled again when it is called.
    """

    loop: Loop
    map: Callable[[Callable[[Any], Any], Any], Any]
    value_and_grad: Callable[[Callable[..., Array]], Callable[..., tuple[Array, dict[str, Array]]]]
    compile: Callable[[Callable[..., Any]], Callable[..., Any]]
    double: Callable[[], AbstractContextManager]
    shard: Callable[[Any, Array], Any]
    forget: Callable[[], None]


@dataclass(frozen=True)
class Networks:
    """Native networks (torch `nn.Module`; flax `nnx.Module` or a callable pytree of arrays).

    A network has trained arrays and constants: buffers, variables that are no parameters, frozen parameters. It may not
    have a state that changes as it runs, and maps row by row.

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

    mlp: Callable[..., Network]
    activation: Callable[[Network], str | None]
    wrap: Callable[[Any], Network]
    params: Callable[[Network], dict[str, Array]]
    constants: Callable[[Network], dict[str, Array]]
    with_arrays: Callable[[Network, Params], Network]
    frozen: Callable[[Network], Network]
    call: Callable[[Network, Params], Callable[..., Any]]
    canonical: Callable[[Network], dict[str, np.ndarray]]
    from_canonical: Callable[[Network, Mapping[str, Any]], Network]


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
        looking: `(program, batch, sites, *, rng=None, params=None, plate="data", nesting=1, args=())` -> names of the
            sites outside `plate` whose law looks at a draw inside it; `sites` are those of a run with the same
            arguments. Found by tracing, or by other draws, once for each program and shape.
        divergence: `(q, p)` -> KL(q || p) of two sites, shaped like `log_prob`; `NotImplementedError` where the host
            knows none.
        adopted: `(model, guide, batch, rng)` -> (pair, trained arrays, other arrays) of a model and a guide of the
            user's own, found by a run of each: flat dicts of unconstrained arrays. `pair.call(which, arrays, renamed,
            args, batch)` runs the "model" or the "guide" with these arrays; no handler outside sees its params, and
            observed sites have the names `renamed[site]`. `pair.names[which]` are the arrays that it reads, and
            `pair.host_params(arrays)` are constrained, under the names of their sites.
        nuts: `(program, batch, rng, options, *, progress)` -> (draws (C, D, ...) of all latent sites, stats (C, D))
            by the host's no-U-turn sampler.
        trainer: the engine's training loop behind `fit`.
        optimizers: name -> constructor of a host-neutral optimizer.
        bound: `()` -> context in which a program's parameters are its own arrays and never reach a global store; other
            threads wait for its end.
    """

    ppl: Any
    dist: Any
    constraints: Any
    handlers: Any
    module: Callable[..., Callable[..., Any]]
    param: Callable[[str, Array], Array]
    trainable: Callable[[Params], dict[str, Array]]
    persistent: Callable[[str, Any], Any]
    contrastive: Callable[[Any], Any]
    spin: Any
    draw: Callable[[Rng, Distribution], Array]
    transform: Callable[[Any], Any]
    biject_to: Callable[[Any], Any]
    marginal: Any
    kernel: Any
    run: Run
    looking: Callable[..., tuple[str, ...]]
    divergence: Callable[[Site, Site], Array]
    adopted: Callable[..., tuple[Any, dict[str, Array], dict[str, Array]]]
    nuts: Callable[..., tuple[dict[str, Array], dict[str, Array]]]
    trainer: Any
    optimizers: Any
    bound: Callable[[], AbstractContextManager[Any]]


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
