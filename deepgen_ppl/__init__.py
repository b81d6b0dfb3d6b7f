"""Deep generative models as probabilistic programs, on Pyro and NumPyro.

Take the public names from a face: `import deepgen_ppl.numpyro as dg` or `import deepgen_ppl.pyro as dg`. This module
imports neither host.
"""

__version__ = "0.1.0"
