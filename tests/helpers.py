"""Arrays in and out of an engine, for all tests."""

import numpy as np


def array(dg, x, dtype="float32"):
    """An array of the engine."""
    return dg.engine.arrays.asarray(np.asarray(x, dtype))


def numpy(dg, x):
    """What an array of the engine holds, as NumPy's."""
    return dg.engine.arrays.to_numpy(x)


def dtype_of(dg, x):
    """Its dtype."""
    return numpy(dg, x).dtype
