r"""A model and a guide of the user's own, functions of the host, as a program.

    log p(x, z) of the model,   log q(z) of the guide (an autoguide of the host is one),   log w = log p - log q

They are run as they are. Their parameters become the program's arrays, unconstrained: a `param` site with a constraint
is the image of its array under the host's own bijection.

References: NumPyro (Phan et al., 2019) and Pyro (Bingham et al., 2019), whose functions these are.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np

from deepgen_ppl.data import num_rows, take
from deepgen_ppl.directed.pair_form import Form, Observed, check_plate, checked_data, form_of
from deepgen_ppl.directed.program import Program
from deepgen_ppl.sites import Sites
from deepgen_ppl.typing import Array, ArrayDict, Rng

__all__ = ["Pair"]

ROWS = "rows."
"""What stands before the names of the rows of data that a pair keeps."""


def nothing(*args: Any, **kwargs: Any) -> None:
    """The guide of a model without latent sites."""


class Pair(Program):
    r"""A model and a guide of the host, written without this library, as a program of it.

        log w = log p(x, z) - log q(z),   z ~ q

    Arguments of the model are the names of the data. Rows stand in a plate named "data" over the rows at hand,
    `plate("data", x.shape[0], dim=-1)`, so that the pair runs on any number of them; latents outside it are shared by
    all data. `params` are unconstrained, under the names that the host gives them; `host_params` are constrained.

    Both are run once, so that an autoguide is set up and parameters are found. On Pyro the parameters of modules are
    trained in copies, in no parameter store: the modules stay as they were.

    Example:
        >>> import numpy as np, numpyro, numpyro.distributions as dist, deepgen_ppl.numpyro as dg
        >>> from numpyro.infer.autoguide import AutoNormal
        >>> def model(x, y=None):
        ...     w = numpyro.sample("w", dist.Normal(0.0, 1.0))
        ...     with numpyro.plate("data", x.shape[0], dim=-1):
        ...         numpyro.sample("y", dist.Normal(w * x, 0.5), obs=y)
        >>> x = np.linspace(-1, 1, 50, dtype="float32")
        >>> pair = dg.Pair(model, AutoNormal(model), data={"x": x, "y": 0.7 * x}, rng=0)
        >>> fit = dg.fit(pair, {"x": x, "y": 0.7 * x}, optimizer=dg.adam(0.05), epochs=200, rng=0, progress=False)
        >>> bool(abs(float(fit.model.host_params["w_auto_loc"]) - 0.7) < 0.1)
        True

    References: NumPyro (Phan et al., 2019), https://arxiv.org/abs/1912.11554; Pyro (Bingham et al., 2019),
    https://arxiv.org/abs/1810.09538.

    Args:
        model: function of named data.
        guide: function of the same data, or None where nothing is latent. Autoguides that are weighed: Normal,
            DiagonalNormal, MultivariateNormal, LowRankMultivariateNormal and IAFNormal, for latents that all data
            share; BNAFNormal and DAIS on NumPyro; Structured, Gaussian, NormalizingFlow and GuideList on Pyro. Delta
            and LaplaceApproximation are points: `fit` finds the mode, and `bounds` puts it in.
        data: named data, all of those to be trained on: DAIS looks at them. Two rows are kept, also in files.
        rng: seed or generator of the first run.
        dtype: dtype of the data.

    Raises:
        TypeError: for a guide that cannot be weighed, or a network that keeps a state.
        ValueError: for a model whose rows are no plate of the rows at hand, or a guide that is tied to its first rows.
    """

    options = ("form",)
    form: Form

    def __init__(
        self,
        model: Callable,
        guide: Callable | None = None,
        *,
        data: Mapping[str, Any],
        rng: Rng | int = 0,
        dtype: str = "float32",
    ) -> None:
        for which, fn in (("model", model), ("guide", guide)):
            if not callable(fn) and not (which == "guide" and fn is None):
                raise TypeError(f"expected a function of named data for the {which}, got {fn!r}")
        engine, batch = self.engine, checked_data(self.engine, data, dtype)
        takes = inspect.signature(model).parameters
        closed = not any(p.kind is p.VAR_KEYWORD for p in takes.values())
        if closed and (unknown := sorted(data.keys() - takes.keys(), key=str)):
            raise ValueError(f"expected data among {list(takes)}, the arguments of the model, got {unknown}")
        key, own = engine.random.split(engine.random.rng(rng, next(iter(batch.values()))), 2)
        host, trained, fixed = engine.host.adopted(model, nothing if guide is None else guide, batch, key)
        rows = {f"{ROWS}{name}": x for name, x in take(batch, slice(0, 2)).items()}
        self.form = Form(host)
        self.build(arrays=trained, constants={**fixed, **rows})
        _, sites = self._run(batch, own)
        few = 3 if num_rows(batch) == 2 else 2
        try:
            self._run(take(batch, np.arange(few) % num_rows(batch)), own)
        except Exception as error:
            if str(error).startswith("expected"):
                raise  # a sentence of ours
            raise ValueError(
                f"expected a model and a guide that run on any number of rows, as no autoguide of latents of each "
                f"datum does, got an error at {few} rows of {num_rows(batch)}: {error}"
            ) from error
        self.form = form_of(engine, host, sites, batch)

    def _run(self, batch: Mapping[str, Any], rng: Rng) -> tuple[Sites, Sites]:
        """(guide, model): one run of the guide, and of the model with its draws.

        Raises:
            ValueError: for sites in the plate of the data that are not those of the rows at hand.
        """
        engine = self.engine
        first, second = engine.random.split(rng, 2)
        with engine.host.bound():
            q = engine.host.run(self.guide, batch, rng=first)
            check_plate(q, num_rows(batch), "guide")
            p = engine.host.run(self.model, batch, rng=second, values={n: s for n, s in q.items() if not s.observed})
            check_plate(p, num_rows(batch), "model")
        return q, p

    # -- the program ---------------------------------------------------------------------------------------------------

    def model(self, *args: Any, size: int | None = None, num_data: int | None = None, **data: Any) -> Any:
        """The user's model; `size` and `num_data` reach it where it takes them."""
        return self._call("model", args, data, size=size, num_data=num_data)

    def guide(self, *args: Any, size: int | None = None, num_data: int | None = None, **data: Any) -> Any:
        """The user's guide."""
        return self._call("guide", args, data, size=size, num_data=num_data)

    def _call(self, which: str, args: tuple, data: Mapping[str, Any], **sizes: int | None) -> Any:
        host, param = self.form.host, self.engine.host.param
        arrays, constants = self.arrays, self.own_constants
        cast, takes = self.engine.arrays.cast, inspect.signature(host.fns["model"]).parameters
        read = host.names[which]
        own = {k: param(k, arrays[k]) for k in read if k in arrays} | {k: constants[k] for k in read if k in constants}
        rows = {k: x if x is None else cast(x, constants[ROWS + k]) for k, x in data.items()}
        if len(args) + len(rows) == 0 and "size" not in takes:
            raise ValueError(f"expected data, or a model that takes size=..., to run {self!r}, got neither")
        if not args:  # what is observed is left out to draw it
            rows = {k: None for k, _ in self.form.observed if takes[k].default is inspect.Parameter.empty} | rows
        given = {k: n for k, n in sizes.items() if n is not None and k in takes}
        return host.call(which, own, dict(self.form.renamed), args, {**rows, **given})

    @property
    def observed(self) -> dict[str, Observed]:
        """The arguments of the model that it observes."""
        return dict(self.form.observed)

    @property
    def units(self) -> dict[str, Any]:
        """No unit checks the values: the host's own laws do."""
        return {}

    @property
    def inputs(self) -> frozenset[str]:
        """The arguments of the model that are data."""
        return frozenset(k.removeprefix(ROWS) for k in self.own_constants if k.startswith(ROWS))

    @property
    def conditions(self) -> tuple[str, ...]:
        """The arguments that are given and have no default."""
        parameters = inspect.signature(self.form.host.fns["model"]).parameters
        given = sorted(self.inputs - self.observed.keys())
        return tuple(n for n in given if n not in parameters or parameters[n].default is inspect.Parameter.empty)

    @property
    def like(self) -> Array:
        """An array of the pair's dtype and device."""
        named = {**self.arrays, **self.own_constants}
        return next(x for x in named.values() if "float" in str(x.dtype))

    @property
    def host_params(self) -> ArrayDict:
        """All trained arrays as the host's own tools take them: constrained, under the names of the host's sites."""
        fixed = {k: x for k, x in self.own_constants.items() if not k.startswith(ROWS)}
        return ArrayDict(self.form.host.host_params({**self.arrays, **fixed}))

    # -- files ---------------------------------------------------------------------------------------------------------

    def to_file(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Names and a fingerprint as JSON, and all arrays: `load(path, model=..., guide=...)` puts them in."""
        to_numpy = self.engine.arrays.to_numpy
        config = {
            "arrays": list(self.arrays),
            "constants": list(self.own_constants),
            "log_weight": self._log_weight(),
        }
        parts = {"arrays": self.arrays, "constants": self.own_constants}
        return config, {f"{part}.{k}": to_numpy(v) for part, own in parts.items() for k, v in own.items()}

    @classmethod
    def from_file(cls, config: Mapping[str, Any], arrays: Mapping[str, np.ndarray], **given: Any) -> Self:
        """Inverse of `to_file`, given the model and the guide.

        Args:
            config: its JSON.
            arrays: its arrays.
            given: `model` and `guide`, where an autoguide may be a fresh one; `data`, those that the pair was made
                with, where the guide looks at all of them.

        Raises:
            ValueError: without a model, or for a model or a guide that gives other numbers than the one saved.
            TypeError: for other names.
        """
        if unknown := sorted(given.keys() - {"model", "guide", "data"}):
            raise TypeError(f"expected model=..., guide=... and data=... to load a Pair, got {unknown}")
        if given.get("model") is None:
            raise ValueError("expected model=... and guide=... to load a Pair, which are functions, got no model")
        kept = {k: arrays[f"{part}.{k}"] for part in ("arrays", "constants") for k in config[part]}
        rows = {k.removeprefix(ROWS): x for k, x in kept.items() if k.startswith(ROWS)}
        dtype = next((str(kept[k].dtype) for k in kept if kept[k].dtype.kind == "f"), "float32")
        data = given.get("data", rows)
        pair = cls(given["model"], given.get("guide"), data=data, dtype=dtype).from_canonical(kept)
        expected, got = config["log_weight"], pair._log_weight()
        if not math.isclose(expected, got, rel_tol=1e-3, abs_tol=1e-3):
            raise ValueError(
                f"expected the model and the guide that were saved, with the log-weight {expected:.6g} of one draw at "
                f"the rows of the file, got {got:.6g}: pass the same functions, and data=... where the guide looks at "
                "all data (AutoDAIS)"
            )
        return pair

    def _log_weight(self) -> float:
        """log p - log q of one draw at the rows that are kept: what tells another model or guide apart."""
        engine = self.engine
        rows = {k.removeprefix(ROWS): x for k, x in self.own_constants.items() if k.startswith(ROWS)}
        q, p = self._run(rows, engine.random.rng(0, self.like))
        signed = [(s, 1.0) for s in p.values()] + [(s, -1.0) for s in q.values()]
        return float(sum(sign * float(engine.arrays.to_numpy(s.log_prob).sum()) for s, sign in signed))

    def __repr__(self) -> str:
        fns = [getattr(fn, "__name__", type(fn).__name__) for fn in self.form.host.fns.values()]
        total = sum(int(np.prod(v.shape)) for v in self.params.values())
        return f"Pair({', '.join(fns)}; {total} parameters; {self.like.dtype})"
