"""Small data sets by name, and arrays from a file: `load`, `binarize`.

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

import gzip
import hashlib
import importlib
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["NAMES", "Dataset", "DatasetUnavailable", "binarize", "load"]

DATA_VARIABLE = "DEEPGEN_PPL_DATA"

_SPLITS = ("train", "valid", "test")


class DatasetUnavailable(RuntimeError):
    """A named data set is not on this machine and could not be downloaded, or is not the data it should be."""


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Train, validation and test rows of one data set, with what was done to them.

    Attributes:
        name: The name or the path it was loaded by.
        train: Training rows, float32 (N, V).
        valid: Validation rows, float32 (N, V).
        test: Test rows, float32 (N, V).
        shape: Shape of one row before it was flattened; its product is V.
        note: The binarisation and the split, in words.
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
    x = np.asarray(x)
    _check_numbers(x, "binarize")
    if x.min() < 0 or x.max() > 1:
        raise ValueError(f"expected values in [0, 1]; got minimum {x.min()}, maximum {x.max()} in shape {x.shape}")
    if method == "threshold":
        if rng is not None:
            raise ValueError("expected no rng with method='threshold', which draws nothing; use method='sample'")
        if not 0 < threshold <= 1:
            raise ValueError(f"expected 0 < threshold <= 1; got {threshold}")
        return (x >= threshold).astype(np.float32)
    if method == "sample":
        if rng is None:
            raise ValueError("expected rng, a numpy.random.Generator or an int seed, with method='sample'; got None")
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


def _permutation(n: int) -> NDArray[np.intp]:
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


def _import(module: str, package: str) -> ModuleType:
    """Import a library of the extra `data`, or say how to install it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        message = f"this data set needs {package}, which is not installed: pip install 'deepgen-ppl[data]'"
        raise ModuleNotFoundError(message, name=error.name) from error


def _digits(cache: Path | None, *, progress: bool) -> Dataset:
    """Return scikit-learn's 8 x 8 digits, binarised at half of the largest pixel value, 16."""
    source = _import("sklearn.datasets", "scikit-learn").load_digits()
    order = _permutation(len(source.data))
    x, y = (np.split(rows[order], [1297, 1547]) for rows in (binarize(source.data / 16), source.target))
    return _dataset("digits", x, (8, 8), "binarised: 1 where the pixel, 0 to 16, is >= 8; split: fixed permutation", y)


@dataclass(frozen=True)
class _Source:
    """Where the arrays of a set come from."""

    name: str
    local: str  # the file in the user's data folder that holds them
    layout: str  # of that file: dtype and shapes, in words
    url: str  # public folder
    parse: Callable[[Path], NDArray[np.uint8]]  # reads one public file
    files: Mapping[str, tuple[str, str]]  # by array: name and SHA-256 of its public file
    contents: str  # SHA-256 of the bytes of the arrays, one after the other


def _parse_idx(path: Path) -> NDArray[np.uint8]:
    """Read a gzipped idx file of bytes: two zeros, the type 8, the number of axes, their big-endian sizes, the data."""
    data = gzip.decompress(path.read_bytes())
    sizes = np.frombuffer(data, dtype=">u4", count=data[3], offset=4)
    return np.frombuffer(data, dtype=np.uint8, offset=4 + sizes.nbytes).reshape(sizes.tolist())


def _parse_amat(path: Path) -> NDArray[np.uint8]:
    """Read rows of 784 digits 0 or 1 with white space between, as bits packed along each row: (N, 98)."""
    characters = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    return np.packbits((characters[characters >= ord("0")] - ord("0")).reshape(-1, 784), axis=1)


_MNIST = _Source(
    name="mnist",
    local="mnist.npz",
    layout="uint8 arrays train_x (60000, 28, 28), train_y (60000,), test_x (10000, 28, 28), test_y (10000,)",
    url="https://ossci-datasets.s3.amazonaws.com/mnist/",
    parse=_parse_idx,
    files={
        "train_x": ("train-images-idx3-ubyte.gz", "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
        "train_y": ("train-labels-idx1-ubyte.gz", "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
        "test_x": ("t10k-images-idx3-ubyte.gz", "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
        "test_y": ("t10k-labels-idx1-ubyte.gz", "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
    },
    contents="06b0d1f124c4e5fa796686ade41a9b778edacc8622f2195a352ef479ad44fc16",
)

_BINARIZED_MNIST = _Source(
    name="binarized_mnist",
    local="binarized_mnist_fixed.npz",
    layout="uint8 arrays train (50000, 98), valid (10000, 98), test (10000, 98): rows of 784 bits by numpy.packbits",
    url="http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/",
    parse=_parse_amat,
    files={
        "train": ("binarized_mnist_train.amat", "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d"),
        "valid": ("binarized_mnist_valid.amat", "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2"),
        "test": ("binarized_mnist_test.amat", "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c"),
    },
    contents="c462f82a020638a4d5d8d44e4c83242ee0145ee1d125869d0e030c35011837e6",
)


def _mnist(cache: Path | None, *, progress: bool) -> Dataset:
    """Return MNIST in [0, 1]; the validation rows are the last 10,000 of the training file."""
    raw = _arrays(_MNIST, cache, progress=progress)
    x = [*np.split(raw["train_x"] / np.float32(255), [50_000]), raw["test_x"] / np.float32(255)]
    y = [*np.split(raw["train_y"], [50_000]), raw["test_y"]]
    note = "not binarised: pixel / 255; split: validation is the last 10,000 rows of the training file"
    return _dataset("mnist", x, (28, 28), note, y)


def _binarized_mnist(cache: Path | None, *, progress: bool) -> Dataset:
    """Return MNIST under Larochelle's fixed draw; the order of the rows is not MNIST's, and there are no labels."""
    raw = _arrays(_BINARIZED_MNIST, cache, progress=progress)
    x = (np.unpackbits(raw[key], axis=1) for key in _SPLITS)
    note = "binarised: Larochelle's fixed draw, pixel ~ Bernoulli(value); split: its three files"
    return _dataset("binarized_mnist", x, (28, 28), note)


def _arrays(source: _Source, cache: Path | None, *, progress: bool) -> dict[str, NDArray[np.uint8]]:
    """Return the verified arrays of a source, from the user's data folder if that has them, else downloaded."""
    folder = os.environ.get(DATA_VARIABLE)
    if folder and Path(folder, source.local).is_file():
        arrays = _read(Path(folder, source.local), tuple(source.files))
    else:
        arrays = {key: source.parse(_fetch(source, key, cache, progress=progress)) for key in source.files}
    got = hashlib.sha256(b"".join(x.tobytes() for x in arrays.values())).hexdigest()
    if got != source.contents:
        shapes = {key: x.shape for key, x in arrays.items()}
        raise DatasetUnavailable(
            f"{source.name}: expected contents with SHA-256 {source.contents}; got {got}, with shapes {shapes}. "
            f"{source.local} in the folder of {DATA_VARIABLE} must hold {source.layout}, or not be there."
        )
    return arrays


def _fetch(source: _Source, key: str, cache: Path | None, *, progress: bool) -> Path:
    """Return the path of a public file, downloaded into the cache folder unless it is there already."""
    pooch = _import("pooch", "pooch")
    folder = Path(pooch.os_cache("deepgen_ppl") if cache is None else cache)
    name, sha256 = source.files[key]
    url = source.url + name
    try:
        return Path(pooch.retrieve(url, f"sha256:{sha256}", fname=name, path=folder, progressbar=progress))
    except (OSError, ValueError) as error:  # no network (requests' errors are OSErrors), or a wrong checksum
        names = ", ".join(name for name, _ in source.files.values())
        raise DatasetUnavailable(
            f"{source.name}: cannot download {url} ({type(error).__name__}: {error}). By hand: put "
            f"{names} from {source.url} into {folder}, or set {DATA_VARIABLE} to a folder with {source.local} "
            f"({source.layout})."
        ) from error


def _from_file(path: Path) -> Dataset:
    """Return the arrays of a `.npy` or `.npz` file, split 80/10/10 if there is only one."""
    if not path.is_file():
        raise FileNotFoundError(f"expected a .npy or .npz file; there is none at {path}")
    arrays = _read(path, ("x",), _SPLITS)
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
    return np.split(x[_permutation(len(x))], [len(x) - 2 * tenth, len(x) - tenth])


def _read(path: Path, *choices: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Read a `.npy` file as `x`, or the first choice of keys that an `.npz` file has; pickles are refused."""
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"x": loaded}
            for keys in choices:
                if set(keys) <= set(loaded.files):
                    return {key: loaded[key] for key in keys}
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: expected arrays, and no pickles; got a file that does not read: {error}") from error
    wanted = " or ".join(", ".join(keys) for keys in choices)
    raise ValueError(f"{path}: expected the keys {wanted}; got {', '.join(loaded.files) or 'none'}")


_LOADERS: Mapping[str, Callable[..., Dataset]]
_LOADERS = {"digits": _digits, "mnist": _mnist, "binarized_mnist": _binarized_mnist}

NAMES = tuple(_LOADERS)
