"""Runs on Pyro take one handler of ours in place of a stack of the host's: they leave what the host's trace does."""

import functools

import numpy as np
import pytest
from helpers import array
from test_host_programs import PROGRAMS, Host, X


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", list(PROGRAMS))
def test_sites_are_those_of_the_hosts_trace(dg_pyro, name):
    """Values, rows, log-probabilities, scales, masks and plates of guide and model, to the last bit."""
    import pyro
    from pyro import poutine

    dg = dg_pyro
    model, guide = PROGRAMS[name][0](Host(dg))
    x, run = array(dg, X), dg.engine.host.run
    pyro.set_rng_seed(0)
    q_trace = poutine.trace(guide).get_trace(x)
    p_trace = poutine.trace(poutine.replay(model, trace=q_trace)).get_trace(x)
    pyro.set_rng_seed(0)
    q = run(guide, {"x": x})
    latent = {n: site for n, site in q.items() if not site.observed}
    p = run(model, {"x": x}, values=latent | q.rows)
    for trace, sites in ((q_trace, q), (p_trace, p)):
        trace.compute_log_prob()
        nodes = {n: m for n, m in trace.nodes.items() if m["type"] == "sample"}
        assert [*sites.rows, *sites] == sorted(nodes, key=lambda n: (n not in sites.rows, list(nodes).index(n)))
        for n, node in nodes.items():
            if n in sites.rows:
                assert (sites.rows[n] == node["value"]).all()
                continue
            site = sites[n]
            assert (site.value == node["value"]).all()
            assert np.array_equal(site.log_prob * site.scale, node["log_prob"])
            assert site.observed == node["is_observed"]
            assert [place.name for place in site.plates] == [frame.name for frame in node["cond_indep_stack"]]


def net_under(dg, inside):
    """A program that runs its network inside a handler."""

    class Nets(dg.Program):
        def __init__(self):
            self.build(networks={"net": dg.engine.nn.mlp(dg.engine.random.rng(0), (2, 3), "tanh")})

        def model(self, x):
            with inside():
                return dg.engine.host.ppl.deterministic("out", self.net("net")(x), event_dim=1)

    return Nets()


def test_params_of_networks_are_asked_for_where_a_handler_could_answer(dg_pyro):
    """Handlers of the user's and params put in are respected; plates, scales and masks leave them alone."""
    import pyro
    import torch
    from pyro import poutine
    from pyro.poutine.messenger import Messenger

    class Zeros(Messenger):
        def _pyro_param(self, msg):
            msg["value"], msg["done"], msg["stop"] = torch.zeros_like(msg["args"][1]), True, True

    class Asked(Messenger):
        def _pyro_param(self, msg):
            asked.append(msg["name"])

    class Scaled(poutine.scale_messenger.ScaleMessenger):
        def _process_message(self, msg):
            asked.append(msg["name"])

    dg, x, asked = dg_pyro, torch.ones(4, 2), []
    host = dg.engine.host

    def out(inside, outside=Asked, **options):
        asked.clear()
        program = net_under(dg, inside)
        with outside(), host.bound():
            return program, host.run(program.model, {"x": x}, **options)["out"].value

    program, plain = out(functools.partial(pyro.plate, "p", 4, dim=-1))
    assert torch.equal(plain, program.networks["net"](x))
    for blind in (
        functools.partial(poutine.scale, scale=2.0),
        functools.partial(poutine.mask, mask=torch.tensor(True)),
    ):
        assert torch.equal(out(blind)[1], plain)
        assert asked == []
    names = ["net.layers.0.weight", "net.layers.0.bias"]
    for aware in (Asked, functools.partial(Scaled, 2.0)):
        assert torch.equal(out(aware)[1], plain)
        assert asked[:2] == names
    assert (out(Zeros)[1] == 0).all()
    given = {k: torch.zeros_like(v) for k, v in program.params.items()}
    assert (out(functools.partial(pyro.plate, "p", 4, dim=-1), params=given)[1] == 0).all()
