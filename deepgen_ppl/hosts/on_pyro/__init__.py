"""The torch half: Pyro behind the library's engine."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

try:
    import array_api_compat.torch as xp
    import pyro
    import pyro.distributions as dist
    import torch
    from pyro import poutine
    from torch.distributions import constraints
except ImportError as error:
    raise ImportError(f"expected torch and Pyro: pip install 'deepgen-ppl[pyro]' ({error})") from error

from deepgen_ppl.engine import Engine, Host
from deepgen_ppl.hosts.on_pyro.arrays import ARRAYS, CONTROL, RANDOM, SPECIAL
from deepgen_ppl.hosts.on_pyro.distribution import Marginal, Spin, draw, seeded
from deepgen_ppl.hosts.on_pyro.looking import looking
from deepgen_ppl.hosts.on_pyro.mcmc import HostKernel
from deepgen_ppl.hosts.on_pyro.nets import NETWORKS, held, module
from deepgen_ppl.hosts.on_pyro.nuts import nuts
from deepgen_ppl.hosts.on_pyro.objective import HostContrastive, HostObjective, OwnParams, registered
from deepgen_ppl.hosts.on_pyro.pair import adopted
from deepgen_ppl.hosts.on_pyro.run import divergence, run
from deepgen_ppl.hosts.on_pyro.trainer import OPTIMIZERS, Trainer
from deepgen_ppl.hosts.on_pyro.transform import HostTransform
from deepgen_ppl.typing import ArrayDict

__all__ = ["ENGINE", "HostObjective", "ProgramBase", "register"]


def register(cls: type) -> None:
    """Nothing to do: torch needs no registration."""


class ProgramBase(torch.nn.Module):
    """Base of the face's programs and energies on torch: an `nn.Module`, whose own protocol works on their tensors.

    Networks are its submodules, arrays its parameters, constants its buffers, all under the names of `params` (less the
    program's own): `state_dict()["decoder.layers.0.weight"]`.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Make the module before the program's own `__init__` runs."""
        self = super().__new__(cls)
        torch.nn.Module.__init__(self)
        self._hold({}, {}, {}, {})
        return self

    def _hold(
        self,
        networks: Mapping[str, torch.nn.Module],
        machines: Mapping[str, Any],
        arrays: Mapping[str, torch.Tensor],
        own_constants: Mapping[str, torch.Tensor],
    ) -> None:
        """Set the state: networks, machines, arrays and constants of its own, by name."""
        self._modules.clear()
        self._modules.update(networks)
        self._networks, self._arrays, self._constants = tuple(networks), tuple(arrays), tuple(own_constants)
        self._machines = dict(machines)  # their forms; the tensors are those of this module
        for trained, kept in ((True, arrays), (False, own_constants)):
            for name, tensor in kept.items():
                _put(self, name, tensor, trained=trained)
            for name, machine in machines.items():
                for k, tensor in (machine.params if trained else machine.constants).items():
                    _put(self, f"{name}.{k}", tensor, trained=trained)

    @property
    def networks(self) -> ArrayDict:
        """Name -> network."""
        return ArrayDict((name, self._modules[name]) for name in self._networks)

    @property
    def arrays(self) -> ArrayDict:
        """Name -> other trained array."""
        return ArrayDict((name, _get(self, name)) for name in self._arrays)

    @property
    def own_constants(self) -> ArrayDict:
        """Name -> array that is not trained, networks' and machines' apart."""
        return ArrayDict((name, _get(self, name)) for name in self._constants)

    @property
    def machines(self) -> ArrayDict:
        """Name -> machine, over the tensors of this module."""
        return ArrayDict((name, self._machine(name, form)) for name, form in self._machines.items())

    def _machine(self, name: str, form: Any) -> Any:
        arrays = {**form.params, **form.constants}
        memo = {id(tensor): _get(self, f"{name}.{k}") for k, tensor in arrays.items()}
        memo |= {id(value): value for value in (getattr(form, field) for field in form.static_fields)}
        return copy.deepcopy(form, memo)

    def _sites(self, rng: torch.Generator, inputs: Mapping[str, Any]) -> dict[str, tuple[Any, Any, bool]]:
        """Sites of one run of the model: name -> (value, its log-probability, whether it is observed)."""
        with seeded(rng), OwnParams():
            trace = poutine.trace(self.model).get_trace(**inputs)
        sites = {name: trace.nodes[name] for name in (*trace.stochastic_nodes, *trace.observation_nodes)}
        kept = {name: s for name, s in sites.items() if not poutine.util.site_is_subsample(s)}
        return {name: (s["value"], s["fn"].log_prob(s["value"]), s["is_observed"]) for name, s in kept.items()}


def _put(module: torch.nn.Module, name: str, tensor: torch.Tensor, *, trained: bool) -> None:
    """Register a tensor under a name with dots; not by attribute, for which some names are taken."""
    *path, leaf = name.split(".")
    for part in path:
        module = module._modules.setdefault(part, torch.nn.Module())
    (module._parameters if trained else module._buffers)[leaf] = held(tensor, trained=trained)


def _get(module: torch.nn.Module, name: str) -> torch.Tensor:
    *path, leaf = name.split(".")
    for part in path:
        module = module._modules[part]
    return module._parameters[leaf] if leaf in module._parameters else module._buffers[leaf]


ENGINE = Engine(
    name="pyro",
    xp=xp,
    arrays=ARRAYS,
    special=SPECIAL,
    random=RANDOM,
    control=CONTROL,
    nn=NETWORKS,
    host=Host(
        ppl=pyro,
        dist=dist,
        constraints=constraints,
        handlers=poutine,
        module=module,
        param=registered,
        trainable=lambda params: {k: v.detach().clone().requires_grad_() for k, v in params.items()},
        persistent=lambda name, program: program.chains,
        contrastive=HostContrastive,
        spin=Spin,
        draw=draw,
        transform=HostTransform,
        biject_to=torch.distributions.biject_to,
        marginal=Marginal,
        kernel=HostKernel,
        run=run,
        looking=looking,
        divergence=divergence,
        adopted=adopted,
        nuts=nuts,
        trainer=Trainer,
        optimizers=OPTIMIZERS,
        bound=OwnParams,
    ),
    register=register,
)
