"""Small data sets by name, and arrays from a file: `load`, `binarize`, `standardize`.

| name | rows (train / valid / test) | width | values | labels |
|---|---|---|---|---|
| `digits` | 1,297 / 250 / 250 | 8 x 8 | {0, 1}: pixel >= 8 of 16 | yes |
| `mnist` | 50,000 / 10,000 / 10,000 | 28 x 28 | [0, 1]: pixel / 255 | yes |
| `binarized_mnist` | 50,000 / 10,000 / 10,000 | 28 x 28 | {0, 1}: one fixed draw | no |

`digits` ships with scikit-learn. The others are read from the folder that the environment variable DEEPGEN_PPL_DATA
names, where that folder has them; else they are downloaded once into a cache folder. Either way a SHA-256 checksum is
verified. `NAMES` lists them all.

References:
    Gradient-based learning applied to document recognition (LeCun et al., 1998). https://doi.org/10.1109/5.726791
    On the quantitative analysis of deep belief networks (Salakhutdinov and Murray, 2008): pixel ~ Bernoulli(value).
    https://doi.org/10.1145/1390156.1390266
    The neural autoregressive distribution estimator (Larochelle and Murray, 2011): the fixed draw and its split.
    https://proceedings.mlr.press/v15/larochelle11a.html
"""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepgen_ppl.datasets.scaling import Standardized, standardize
from deepgen_ppl.datasets.sources import (
    BINARIZED_MNIST,
    MNIST,
    DatasetUnavailable,
    import_extra,
    read_file,
    read_source,
)
from deepgen_ppl.options import integer, real

__all__ = [
    "NAMES",
    "Dataset",
    "DatasetUnavailable",
    "Standardized",
    "binarize",
    "fixed_permutation",
    "load",
    "standardize",
]

_SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Train, validation and test rows of one data set, with what was done to them.

    Attributes:
        name: The name or the path it was loaded by.
        train: Training rows, float32 (N, V).
        valid: Validation rows, float32 (N, V).
        test: Test rows, float32 (N, V).
        shape: Shape of one row before it was flattened; its product is V.
        note: The binarization and the split, in words.
        train_labels: Classes of the training rows, int64 (N,), or None.
        valid_labels: Classes of the validation rows, int64 (N,), or None.
        test_labels: Classes of the test rows, int64 (N,), or None.
    """

    name: str
    train: NDArray[np.float32]
    valid: NDArray[np.float32]
    test: NDArray[np.float32]
    shape: tuple[int, ...]
    note: str
    train_labels: NDArray[np.int64] | None = None
    valid_labels: NDArray[np.int64] | None = None
    test_labels: NDArray[np.int64] | None = None

    def __repr__(self) -> str:
        splits = ", ".join(f"{split} {getattr(self, split).shape}" for split in _SPLITS)
        labels = "without labels" if self.train_labels is None else "with labels"
        return f"Dataset({self.name!r}: {splits}, shape {self.shape}, {labels}; {self.note})"


def load(name: str | os.PathLike[str], *, cache: Path | None = None, progress: bool = True) -> Dataset:
    """Load a data set by name, or arrays from a `.npy` or `.npz` file.

    A file holds one array (N, V...), as `.npy` or as the key `x` of an `.npz`, which is split 80/10/10 by a fixed
    permutation; or the keys `train`, `valid` and `test`. Its values are kept as they are (see `binarize`).

    >>> load("digits").train.shape
    (1297, 64)

    Args:
        name: One of `NAMES`, or the path of a file.
        cache: Folder for downloads; default is the user's cache folder for `deepgen_ppl`.
        progress: Whether a download shows a progress bar.

    Returns:
        The three splits as float32 rows.

    Raises:
        DatasetUnavailable: It is not on this machine and cannot be downloaded, or its checksum is wrong.
        FileNotFoundError: `name` is the path of a file that does not exist.
        ModuleNotFoundError: The extra `data` is needed and not installed.
        TypeError: A file whose values are not real numbers.
        ValueError: Neither a name nor a path, or a file whose arrays are not as above.
    """
    if not isinstance(name, (str, os.PathLike)):
        raise TypeError(f"expected the name of a data set or a path, got {name!r}")
    name = os.fspath(name)
    if name in _LOADERS:
        return _LOADERS[name](cache, progress=progress)
    if Path(name).suffix in (".npy", ".npz"):
        return _from_file(Path(name))
    raise ValueError(f"expected one of {', '.join(NAMES)}, or the path of a .npy or .npz file; got {name!r}")


def binarize(
    x: ArrayLike,
    *,
    method: Literal["threshold", "sample"] = "threshold",
    threshold: float = 0.5,
    rng: np.random.Generator | int | None = None,
) -> NDArray[np.float32]:
    """Make values in [0, 1] binary, by a threshold or by a draw.

    `threshold`: y = 1 where x >= threshold, else 0. `sample`: y ~ Bernoulli(x), independently for each value, so that
    E[y] = x. Log-likelihoods under the one and the other are not comparable: say which you used.

    >>> binarize([0.2, 0.5, 0.9])
    array([0., 1., 1.], dtype=float32)

    Args:
        x: Values in [0, 1], of any shape.
        method: `threshold` or `sample`.
        threshold: Smallest value that becomes 1, in (0, 1]; read by `threshold` alone.
        rng: Generator or seed of the draw; required by `sample` and refused by `threshold`.

    Returns:
        Zeros and ones, float32, in the shape of `x`.

    Raises:
        TypeError: Values that are not real numbers.
        ValueError: Values outside [0, 1] or not finite, no value at all, or options that do not fit.
    """
    if np.ma.is_masked(x):
        raise ValueError("binarize: expected values that are not hidden, got a masked array")
    try:
        x = np.asarray(x)
    except ValueError:
        raise ValueError("binarize: expected an array of values, got lists of different lengths") from None
    _check_numbers(x, "binarize")
    if x.min() < 0 or x.max() > 1:
        raise ValueError(f"expected values in [0, 1]; got minimum {x.min()}, maximum {x.max()} in shape {x.shape}")
    if method == "threshold":
        if rng is not None:
            raise ValueError(
                f"expected no rng with method='threshold', which draws nothing, got {rng!r}; use method='sample'"
            )
        if not 0 < real(threshold, "threshold") <= 1:
            raise ValueError(f"expected 0 < threshold <= 1; got {threshold}")
        return (x >= threshold).astype(np.float32)
    if method == "sample":
        if rng is None:
            raise ValueError("expected rng, a numpy.random.Generator or an int seed, with method='sample'; got None")
        if not isinstance(rng, np.random.Generator):
            rng = integer(rng, "rng, a numpy.random.Generator or a seed,", least=0)
        return (np.random.default_rng(rng).random(x.shape, dtype=np.float32) < x).astype(np.float32)
    raise ValueError(f"expected method 'threshold' or 'sample'; got {method!r}")


def _check_numbers(x: NDArray[Any], what: str, *, axes: int = 0) -> None:
    """Raise unless `x` holds finite real numbers, at least one, on at least that many axes."""
    if x.dtype.kind not in "buif":
        raise TypeError(f"{what}: expected real numbers; got dtype {x.dtype}")
    if x.size == 0 or x.ndim < axes:
        raise ValueError(f"{what}: expected at least one value and {axes} axes; got shape {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError(f"{what}: expected finite values; got NaN or infinity in shape {x.shape}")


def fixed_permutation(n: int) -> NDArray[np.intp]:
    """Return a fixed permutation of n rows, the same under every version of NumPy.

    The raw words of a bit generator are frozen, which the methods of `numpy.random.Generator` are not (NEP 19).
    """
    return np.argsort(np.random.PCG64(0).random_raw(n), kind="stable")


def _dataset(
    name: str, parts: Iterable[NDArray[Any]], shape: tuple[int, ...], note: str, labels: Iterable[NDArray[Any]] = ()
) -> Dataset:
    """Assemble train, valid and test: rows (N, V...) flattened to float32 (N, V), labels as int64."""
    train, valid, test = (np.ascontiguousarray(x.reshape(len(x), -1), dtype=np.float32) for x in parts)
    return Dataset(name, train, valid, test, shape, note, *(y.astype(np.int64) for y in labels))


def _digits(cache: Path | None, *, progress: bool) -> Dataset:
    """Return scikit-learn's 8 x 8 digits, binarized at half of the largest pixel value, 16."""
    source = import_extra("sklearn.datasets", "scikit-learn").load_digits()
    order = fixed_permutation(len(source.data))
    x, y = (np.split(rows[order], [1297, 1547]) for rows in (binarize(source.data / 16), source.target))
    return _dataset("digits", x, (8, 8), "binarized: 1 where the pixel, 0 to 16, is >= 8; split: fixed permutation", y)


def _mnist(cache: Path | None, *, progress: bool) -> Dataset:
    """Return MNIST in [0, 1]; the validation rows are the last 10,000 of the training file."""
    raw = read_source(MNIST, cache, progress=progress)
    x = [*np.split(raw["train_x"] / np.float32(255), [50_000]), raw["test_x"] / np.float32(255)]
    y = [*np.split(raw["train_y"], [50_000]), raw["test_y"]]
    note = "not binarized: pixel / 255; split: validation is the last 10,000 rows of the training file"
    return _dataset("mnist", x, (28, 28), note, y)


def _binarized_mnist(cache: Path | None, *, progress: bool) -> Dataset:
    """Return MNIST under Larochelle's fixed draw; the order of the rows is not MNIST's, and there are no labels."""
    raw = read_source(BINARIZED_MNIST, cache, progress=progress)
    x = (np.unpackbits(raw[key], axis=1) for key in _SPLITS)
    note = "binarized: Larochelle's fixed draw, pixel ~ Bernoulli(value); split: its three files"
    return _dataset("binarized_mnist", x, (28, 28), note)


def _from_file(path: Path) -> Dataset:
    """Return the arrays of a `.npy` or `.npz` file, split 80/10/10 if there is only one."""
    if not path.is_file():
        raise FileNotFoundError(f"expected a .npy or .npz file; there is none at {path}")
    arrays = read_file(path, ("x",), _SPLITS)
    for key, x in arrays.items():
        _check_numbers(x, f"{path.name}, array {key!r} (N, V...)", axes=2)
    if "x" in arrays:
        parts, split = _split_80_10_10(arrays["x"], path), "80/10/10 by a fixed permutation"
    else:
        parts, split = [arrays[key] for key in _SPLITS], "the file's own"
    shapes = [part.shape[1:] for part in parts]
    if len(set(shapes)) > 1:
        raise ValueError(f"{path.name}: expected rows of one shape in {', '.join(_SPLITS)}; got {shapes}")
    return _dataset(str(path), parts, shapes[0], f"values as in the file; split: {split}")


def _split_80_10_10(x: NDArray[Any], path: Path) -> list[NDArray[Any]]:
    """Cut the rows of one array into train, valid and test by the fixed permutation."""
    tenth = len(x) // 10
    if tenth == 0:
        raise ValueError(f"{path.name}: expected at least 10 rows to split 80/10/10; got shape {x.shape}")
    return np.split(x[fixed_permutation(len(x))], [len(x) - 2 * tenth, len(x) - tenth])


_LOADERS: Mapping[str, Callable[..., Dataset]]
_LOADERS = {"digits": _digits, "mnist": _mnist, "binarized_mnist": _binarized_mnist}

NAMES = tuple(_LOADERS)
