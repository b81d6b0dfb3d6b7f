"""Deep generative models as probabilistic programs, on Pyro and NumPyro.

Take the public names from a face: `import deepgen_ppl.numpyro as dg` or `import deepgen_ppl.pyro as dg`; `face("pyro")`
returns one by name. This module imports neither host.
"""

from __future__ import annotations

import importlib
from types import ModuleType

__all__ = ["face"]

__version__ = "0.1.0"


def face(engine: str) -> ModuleType:
    """The face of an engine, imported on demand.

    Args:
        engine: `numpyro` or `pyro`.

    Raises:
        ValueError: for an unknown engine.
        ImportError: if it is not installed.
    """
    if engine not in ("numpyro", "pyro"):
        raise ValueError(f"expected the engine 'numpyro' or 'pyro', got {engine!r}")
    try:
        return importlib.import_module(f"{__name__}.{engine}")
    except ImportError as error:
        raise ImportError(f"expected the {engine} engine: pip install 'deepgen-ppl[{engine}]' ({error})") from error
