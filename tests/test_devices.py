"""Several JAX devices: work stays where the model is, wherever data, keys and checkpoints come from."""

import os
import subprocess
import sys

import pytest

CODE = """
import jax, numpy as np
import deepgen_ppl.numpyro as dg

first, second = jax.devices()
x = (np.random.default_rng(0).random((12, 4)) < 0.5).astype(np.float32)
here = jax.device_put(x, first)
key = jax.device_put(jax.random.key(0), first)
model = jax.device_put(dg.VAE.init(dg.Bernoulli(4), 2, (3,), rng=0), second)

def devices(model):
    return {d for v in model.params.values() for d in v.devices()}

options = {"checkpoint": "run", "validation": dg.Validation(here, patience=3), "rng": key, "progress": False}
whole = dg.fit(model, here, epochs=2, **options | {"checkpoint": "whole"}).model
dg.fit(model, here, epochs=1, **options)
fit = dg.fit(model, here, epochs=2, resume=True, **options)
assert devices(whole) == devices(fit.model) == {second}
for name, value in fit.model.params.items():
    np.testing.assert_array_equal(value, whole.params[name])
assert model.encode(here).mean.devices() == model.sample(3, rng=key).devices() == {second}
assert np.isfinite(dg.bounds(model, here, rng=key, options=dg.BoundsOptions(num_particles=5)).lower.value)
machine = jax.device_put(dg.RBM.init(4, 3, rng=0), second)
assert devices(dg.fit(machine, here, epochs=1, rng=key, progress=False).model) == {second}
put_in = machine.with_params({"v.bias": jax.device_put(np.ones(4, np.float32), first)})
assert devices(put_in) == {second}
hidden = jax.device_put(np.ones((12, 3), np.float32), first)
calls = (
    lambda: machine.energy({"v": here, "h": hidden}),
    lambda: machine.free_energy(here),
    lambda: machine.conditional("h", {"v": here}),
)
for call in calls:
    try:
        call()
    except ValueError as error:
        assert str(first) in str(error) and str(second) in str(error), error
    else:
        raise AssertionError("an array of another device was taken")
assert machine.free_energy(np.asarray(here)).devices() == {second}
"""


@pytest.mark.slow
def test_work_stays_on_the_device_of_the_model(dg_numpyro, tmp_path):
    flags = "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", CODE]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=600, check=False, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stderr
