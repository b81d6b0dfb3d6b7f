"""Which functions of the engines the tests of this folder cover, and the machine that several of them take."""

import numpy as np

COVERED = set()


def covers(*names):
    """Say which engine functions a test is the row of."""
    COVERED.update(names)
    return lambda test: test


def small_rbm(dg, seed=0):
    """An RBM of 3 visible and 2 hidden units, and its arrays in double precision."""
    rng = np.random.default_rng(seed)
    w, b, c = rng.normal(size=(3, 2)), rng.normal(size=3), rng.normal(size=2)
    return dg.RBM(w.astype(np.float32), b.astype(np.float32), c.astype(np.float32)), (w, b, c)
