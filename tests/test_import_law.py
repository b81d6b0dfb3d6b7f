"""The import law: the package imports no engine, each face imports its own alone, and both live in one process."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARIES = {"numpyro": ("jax", "jaxlib", "numpyro", "flax", "optax"), "pyro": ("torch", "pyro", "pyroapi")}
OPTIONAL = ("arviz", "xarray", "matplotlib", "pandas", "sklearn", "typer", "pooch")
EVERYTHING = {*LIBRARIES["numpyro"], *LIBRARIES["pyro"], "equinox", *OPTIONAL}

BLOCK = """
import importlib.machinery, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self) if name.split(".")[0] in {blocked!r} else None

    def create_module(self, spec):
        raise ImportError(f"{{spec.name}} is blocked")

    def exec_module(self, module):
        pass

sys.meta_path.insert(0, Blocked())
"""

TINY = """
import numpy as np
import deepgen_ppl.{face} as dg

x = np.random.default_rng(0).integers(0, 2, (12, 5)).astype("float32")
rbm = dg.fit(dg.RBM.init(rng=0, visible=5, hidden=3), x, objective=dg.StochasticML(num_chains=4), epochs=2,
             batch_size=5, progress=False)
vae = dg.fit(dg.VAE.init(rng=0, likelihood=dg.Bernoulli(5), latent=2, hidden=(4,)), x, objective=dg.IWAE(), epochs=2,
             batch_size=5, progress=False)
assert np.isfinite(rbm.history["free_energy_gap"]).all() and np.isfinite(vae.history["loss"]).all()
assert tuple(vae.model.encode(x).mean.shape) == (12, 2)
dg.save(rbm.model, {path!r})
assert type(dg.load({path!r})) is dg.RBM
print("done")
"""


def run(script):
    """A fresh process in which every warning is an error, as it is in these tests."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=300
    )


def test_the_package_imports_no_engine():
    script = f"""
import sys
import deepgen_ppl
import deepgen_ppl.hosts, deepgen_ppl.engine, deepgen_ppl.typing, deepgen_ppl.array_files, deepgen_ppl.datasets
import deepgen_ppl.undirected.rbm, deepgen_ppl.undirected.dbm, deepgen_ppl.directed.vae, deepgen_ppl.training.fit
import deepgen_ppl.model_files, deepgen_ppl.log_z.ais, deepgen_ppl.log_p.compare, deepgen_ppl.kernels.block_gibbs
print(sorted({EVERYTHING!r} & {{name.split(".")[0] for name in sys.modules}}))
"""
    done = run(script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_the_package_itself_is_its_version():
    done = run("import sys, deepgen_ppl; print(deepgen_ppl.__version__, 'numpy' in sys.modules)")
    assert done.returncode == 0, done.stderr
    version, numpy = done.stdout.split()
    assert version.count(".") >= 1
    assert numpy == "False"


STATE = {
    "numpyro": """
import jax, numpyro, optax, flax.nnx, numpyro.distributions as dist
def state():
    return (jax.config.jax_enable_x64, jax.config.jax_debug_nans, jax.config.jax_platforms,
            dist.Distribution._validate_args, jax.config.jax_default_prng_impl)
""",
    "pyro": """
import torch, pyro, pyro.distributions as dist
torch.nn.utils.skip_init(torch.nn.Linear, 1, 1)  # torch itself imports SymPy here, which adds a filter of its own
def state():
    return (torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled(), torch.get_rng_state().sum(),
            torch.distributions.Distribution._validate_args, dist.is_validation_enabled(),
            tuple(pyro.get_param_store().keys()), pyro.settings.get("validate_distributions_pyro"))
""",
}


@pytest.mark.parametrize("face", list(STATE))
def test_a_face_changes_nothing_in_its_host(face):
    """Not at import, not by making a model."""
    script = f"""
import warnings, logging, os, random
import numpy as np
{STATE[face]}
def everything():
    root = logging.getLogger()
    return dict(
        host=state(), warnings=list(warnings.filters), numpy=(np.geterr(), np.random.get_state()[1].tolist()),
        random=random.getstate(), logging=(root.level, list(root.handlers)), environment=dict(os.environ),
    )
before = everything()
import deepgen_ppl.{face} as dg
dg.VAE.init(rng=0, likelihood=dg.Bernoulli(5), latent=2, hidden=(4,))
dg.RBM.init(rng=0, visible=5, hidden=3)
after = everything()
changed = {{k: (before[k], after[k]) for k in before if before[k] != after[k]}}
assert not changed, changed
"""
    done = run(script)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("face", list(LIBRARIES))
def test_a_face_works_without_the_other_engine(face, tmp_path):
    (other,) = LIBRARIES.keys() - {face}
    path = str(tmp_path / "rbm.safetensors")
    # JAX itself needs SciPy; torch does not.
    blocked = {*LIBRARIES[other], *OPTIONAL, *(["scipy"] if face == "pyro" else [])}
    done = run(BLOCK.format(blocked=blocked) + TINY.format(face=face, path=path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "done"


@pytest.mark.parametrize("face", list(LIBRARIES))
def test_a_face_without_its_engine_does_not_import(face):
    done = run(BLOCK.format(blocked=set(LIBRARIES[face])) + f"import deepgen_ppl.{face}")
    assert done.returncode != 0
    assert "is blocked" in done.stderr
    assert f"pip install 'deepgen-ppl[{face}]'" in done.stderr


def public(dg):
    """Public names and what they are, modules apart."""
    kinds = {k: type(v).__name__ for k, v in vars(dg).items() if not k.startswith("_")}
    return {k: kind for k, kind in kinds.items() if kind not in ("module", "_Feature")}


def test_both_faces_have_the_same_names(dg_numpyro, dg_pyro):
    ours, theirs = public(dg_numpyro), public(dg_pyro)
    assert ours.keys() == theirs.keys()
    for name in ("RBM", "VAE", "DBM", "ELBO", "IWAE", "StochasticML", "BlockGibbs", "fit", "save", "load", "ais"):
        assert name in ours


def test_classes_of_a_face_are_its_own(dg):
    """Annotations, pickles and help name the face, and each class says what its family says."""
    for name in ("RBM", "GaussianBernoulliRBM", "DBM", "BoltzmannMachine", "VAE", "ELBO", "IWAE"):
        cls = getattr(dg, name)
        assert cls.__module__ == dg.__name__
        assert cls.__qualname__ == name
        assert cls.__doc__ == next(base.__doc__ for base in cls.__mro__[1:] if base.__name__ == name)
        assert cls.__doc__


def test_both_engines_live_in_one_process(dg_numpyro, dg_pyro):
    """The same model is made and evaluated by both, in turn."""
    import numpy as np

    x = np.random.default_rng(0).integers(0, 2, (4, 5)).astype(np.float32)
    arrays = [np.random.default_rng(1).normal(size=s).astype(np.float32) for s in ((5, 3), (5,), (3,))]
    energies = [
        dg.engine.arrays.to_numpy(dg.RBM(*arrays).free_energy(dg.engine.arrays.asarray(x)))
        for dg in (dg_numpyro, dg_pyro, dg_numpyro, dg_pyro)
    ]
    for e in energies[1:]:
        np.testing.assert_allclose(e, energies[0], rtol=1e-5)


def test_no_source_asks_which_engine_it_runs_on():
    """No engine's library and no engine's name outside `hosts/` and the faces."""
    banned = {name for names in LIBRARIES.values() for name in names}
    for path in (ROOT / "deepgen_ppl").rglob("*.py"):
        inside = path.relative_to(ROOT / "deepgen_ppl")
        if inside.parts[0] == "hosts" or str(inside) in ("numpyro.py", "pyro.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not {a.name.split(".")[0] for a in node.names} & banned, path
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                assert node.module.split(".")[0] not in banned, path
            if isinstance(node, ast.Compare):
                parts = [node.left, *node.comparators]
                names = [p for p in parts if isinstance(p, ast.Attribute) and p.attr == "name"]
                assert not any(ast.unparse(n).endswith("engine.name") for n in names), f"{path}:{node.lineno}"
