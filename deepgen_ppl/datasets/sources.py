"""The public files behind named data sets: where they are, how they are read, and their checksums.

Arrays come from the folder that the environment variable DEEPGEN_PPL_DATA names, where that folder has them; else the
public files are downloaded once into a cache folder. Either way a SHA-256 checksum is verified, and no pickle is read.
"""

import gzip
import hashlib
import importlib
import math
import os
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BINARIZED_MNIST",
    "DATA_VARIABLE",
    "MNIST",
    "DatasetUnavailable",
    "Source",
    "import_extra",
    "read_file",
    "read_source",
]

DATA_VARIABLE = "DEEPGEN_PPL_DATA"

LARGEST = 2**34
"""Bytes of one array beyond which a file is refused: what is packed small may not fit the memory."""


class DatasetUnavailable(RuntimeError):
    """A named data set is not on this machine and could not be downloaded, or is not the data it should be."""


def import_extra(module: str, package: str) -> ModuleType:
    """Import a library of the extra `data`, or say how to install it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        message = f"this data set needs {package}, which is not installed: pip install 'deepgen-ppl[data]'"
        raise ModuleNotFoundError(message, name=error.name) from error


@dataclass(frozen=True)
class Source:
    """Where the arrays of a set come from.

    Attributes:
        name: name of the set.
        local: file in the user's data folder that holds them.
        layout: of that file: dtypes and shapes, in words.
        url: public folder.
        parse: reads one public file.
        files: array -> name and SHA-256 of its public file.
        contents: SHA-256 of the bytes of the arrays, one after the other.
    """

    name: str
    local: str
    layout: str
    url: str
    parse: Callable[[Path], NDArray[np.uint8]]
    files: Mapping[str, tuple[str, str]]
    contents: str


def _parse_idx(path: Path) -> NDArray[np.uint8]:
    """Read a gzipped idx file of bytes: two zeros, the type 8, the number of axes, their big-endian sizes, the data."""
    data = gzip.decompress(path.read_bytes())
    sizes = np.frombuffer(data, dtype=">u4", count=data[3], offset=4)
    return np.frombuffer(data, dtype=np.uint8, offset=4 + sizes.nbytes).reshape(sizes.tolist())


def _parse_amat(path: Path) -> NDArray[np.uint8]:
    """Read rows of 784 digits 0 or 1 with white space between, as bits packed along each row: (N, 98)."""
    characters = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    return np.packbits((characters[characters >= ord("0")] - ord("0")).reshape(-1, 784), axis=1)


MNIST = Source(
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

BINARIZED_MNIST = Source(
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


def read_source(source: Source, cache: Path | None, *, progress: bool) -> dict[str, NDArray[np.uint8]]:
    """Return the verified arrays of a source, from the user's data folder if that has them, else downloaded."""
    folder = os.environ.get(DATA_VARIABLE)
    if folder and not Path(folder).is_dir():
        raise DatasetUnavailable(f"{source.name}: expected {DATA_VARIABLE} to name a folder; there is none at {folder}")
    if folder and Path(folder, source.local).is_file():
        arrays = read_file(Path(folder, source.local), tuple(source.files))
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


def _fetch(source: Source, key: str, cache: Path | None, *, progress: bool) -> Path:
    """Return the path of a public file, downloaded into the cache folder unless it is there already."""
    pooch = import_extra("pooch", "pooch")
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


def read_file(path: Path, *choices: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Read a `.npy` file as `x`, or the first choice of keys that an `.npz` file has; pickles are refused.

    Raises:
        ValueError: For other files, or arrays that are larger than the file says or than `LARGEST`.
    """
    try:
        with path.open("rb") as file:
            archived = zipfile.is_zipfile(file)
            file.seek(0)
            if not archived:
                _check_header(file, path.stat().st_size)
                file.seek(0)
                return {"x": np.load(file, allow_pickle=False)}
            members = {info.filename.removesuffix(".npy"): info for info in zipfile.ZipFile(file).infolist()}
            for keys in choices:
                if set(keys) <= members.keys():
                    return {key: _member(file, members[key]) for key in keys}
    except (ValueError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: expected arrays, and no pickles; got a file that does not read: {error}") from error
    wanted = " or ".join(", ".join(keys) for keys in choices)
    raise ValueError(f"{path}: expected the keys {wanted}; got {', '.join(members) or 'none'}")


def _member(file: IO[bytes], info: zipfile.ZipInfo) -> NDArray[Any]:
    """One array of an archive, its header read before its values."""
    archive = zipfile.ZipFile(file)
    with archive.open(info) as member:
        _check_header(member, info.file_size)
    with archive.open(info) as member:
        return np.lib.format.read_array(member, allow_pickle=False)


def _check_header(file: IO[bytes], size: int) -> None:
    """Check that the values which the header of a `.npy` file claims are those that follow it.

    Raises:
        ValueError: with both sizes.
    """
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.hasobject:
        return  # the reader itself refuses pickles
    claimed, there = math.prod(shape) * dtype.itemsize, size - file.tell()
    if claimed > min(there, LARGEST):
        raise ValueError(f"expected at most {min(there, LARGEST)} bytes of values, got a header of shape {shape}")
