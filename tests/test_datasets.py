import gzip
import hashlib
import io
import os
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from deepgen_ppl import datasets
from deepgen_ppl.datasets import sources

SOURCES = (sources.MNIST, sources.BINARIZED_MNIST)
needs_data = pytest.mark.skipif(
    not all(Path(os.environ.get(sources.DATA_VARIABLE, ""), source.local).is_file() for source in SOURCES),
    reason=f"{sources.DATA_VARIABLE} names no folder with {' and '.join(source.local for source in SOURCES)}",
)


def splits(data):
    return data.train, data.valid, data.test


# --- digits


def test_digits_shapes_values_and_labels():
    data = datasets.load("digits")
    assert [x.shape for x in splits(data)] == [(1297, 64), (250, 64), (250, 64)]
    assert data.shape == (8, 8)
    for x, y in zip(splits(data), (data.train_labels, data.valid_labels, data.test_labels), strict=True):
        assert x.dtype == np.float32
        assert set(np.unique(x)) == {0.0, 1.0}
        assert y.dtype == np.int64
        assert y.shape == (len(x),)
        assert set(np.unique(y)) == set(range(10))


def test_digits_are_the_rows_of_scikit_learn_each_once():
    """The split is disjoint and complete: the fixed permutation takes every row once; rows keep their labels."""
    source = pytest.importorskip("sklearn.datasets").load_digits()
    expected = (source.data >= 8).astype(np.float32)[datasets.fixed_permutation(1797)]
    data = datasets.load("digits")
    np.testing.assert_array_equal(np.concatenate(splits(data)), expected)
    labels = np.concatenate([data.train_labels, data.valid_labels, data.test_labels])
    np.testing.assert_array_equal(labels, source.target[datasets.fixed_permutation(1797)])


def test_digits_split_never_moves():
    """Published numbers hang on these rows: a change here is a change of the data set."""
    data = datasets.load("digits")
    assert [x[0].sum() for x in splits(data)] == [20.0, 24.0, 23.0]
    assert data.train.sum() == 26833.0
    assert data.train_labels[:5].tolist() == [0, 6, 3, 8, 1]


@pytest.mark.parametrize("n", [1, 10, 1797])
def test_permutation_takes_every_row_once(n):
    assert sorted(datasets.fixed_permutation(n)) == list(range(n))


def test_repr_says_name_shapes_and_what_was_done():
    text = repr(datasets.load("digits"))
    for part in (
        "'digits'",
        "train (1297, 64)",
        "test (250, 64)",
        "shape (8, 8)",
        "with labels",
        "pixel, 0 to 16, is >= 8",
    ):
        assert part in text


def test_dataset_is_frozen():
    data = datasets.load("digits")
    with pytest.raises(AttributeError, match="cannot assign to field 'train'"):
        data.train = data.test


# --- MNIST, from the local data folder


@needs_data
def test_mnist():
    data = datasets.load("mnist")
    assert [x.shape for x in splits(data)] == [(50_000, 784), (10_000, 784), (10_000, 784)]
    assert data.shape == (28, 28)
    assert data.train.dtype == np.float32
    assert (data.train.min(), data.train.max()) == (0.0, 1.0)
    # The first images of the two files, a 5 and a 7; sums of their pixels as integers.
    np.testing.assert_allclose(data.train[0].sum() * 255, 27525, rtol=1e-6)
    np.testing.assert_allclose(data.test[0].sum() * 255, 18454, rtol=1e-6)
    assert data.train_labels[:8].tolist() == [5, 0, 4, 1, 9, 2, 1, 3]
    assert data.valid_labels[:3].tolist() == [3, 8, 6]
    assert data.test_labels[:8].tolist() == [7, 2, 1, 0, 4, 1, 4, 9]


@needs_data
def test_binarized_mnist():
    data = datasets.load("binarized_mnist")
    assert [x.shape for x in splits(data)] == [(50_000, 784), (10_000, 784), (10_000, 784)]
    assert [x[0].sum() for x in splits(data)] == [123.0, 90.0, 147.0]
    assert data.train.dtype == np.float32
    assert set(np.unique(data.test)) == {0.0, 1.0}
    assert data.train_labels is None
    assert "Larochelle" in data.note


@needs_data
def test_public_amat_files_are_the_local_arrays(tmp_path):
    """The text of the public files, written from the local bits, has the checksum that a download must have."""
    source = sources.BINARIZED_MNIST
    arrays = np.load(os.path.join(os.environ[sources.DATA_VARIABLE], source.local))
    for key, (name, sha256) in source.files.items():
        bits = np.unpackbits(arrays[key], axis=1)
        text = np.full((len(bits), 2 * 784), ord(" "), dtype=np.uint8)
        text[:, ::2], text[:, -1] = bits + ord("0"), ord("\n")
        assert hashlib.sha256(text.tobytes()).hexdigest() == sha256
        (tmp_path / name).write_bytes(text.tobytes())
        np.testing.assert_array_equal(source.parse(tmp_path / name), arrays[key])


@needs_data
def test_amat_files_in_the_cache_folder_need_no_network(tmp_path, monkeypatch, offline):
    local = datasets.load("binarized_mnist")
    for name, x in zip(("train", "valid", "test"), splits(local), strict=True):
        text = np.full((len(x), 2 * 784), ord(" "), dtype=np.uint8)
        text[:, ::2], text[:, -1] = x.astype(np.uint8) + ord("0"), ord("\n")
        (tmp_path / f"binarized_mnist_{name}.amat").write_bytes(text.tobytes())
    monkeypatch.delenv(sources.DATA_VARIABLE)
    cached = datasets.load("binarized_mnist", cache=tmp_path)
    for x, y in zip(splits(local), splits(cached), strict=True):
        np.testing.assert_array_equal(x, y)


# --- downloads


@pytest.fixture
def offline(monkeypatch):
    """A machine without network: every download fails as `requests` fails."""
    pooch = pytest.importorskip("pooch")

    def download(self, url, *args, **kwargs):
        raise ConnectionError(f"no route to {url}")

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", download)


@pytest.mark.parametrize(
    ("name", "local", "first", "other"),
    [
        ("mnist", "mnist.npz", "train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
        ("binarized_mnist", "binarized_mnist_fixed.npz", "binarized_mnist_train.amat", "binarized_mnist_valid.amat"),
    ],
)
def test_offline_says_how_to_get_the_files_by_hand(name, local, first, other, tmp_path, monkeypatch, offline):
    monkeypatch.delenv(sources.DATA_VARIABLE, raising=False)
    with pytest.raises(datasets.DatasetUnavailable, match=rf"{name}: cannot download http\S+{first}") as caught:
        datasets.load(name, cache=tmp_path, progress=False)
    for part in ("ConnectionError: no route to", other, str(tmp_path), sources.DATA_VARIABLE, local):
        assert part in str(caught.value)
    assert isinstance(caught.value, RuntimeError)


def test_a_data_folder_without_the_file_falls_back_to_the_download(tmp_path, monkeypatch, offline):
    monkeypatch.setenv(sources.DATA_VARIABLE, str(tmp_path))
    with pytest.raises(datasets.DatasetUnavailable, match="cannot download"):
        datasets.load("mnist", cache=tmp_path, progress=False)


def test_a_data_folder_that_is_not_there_is_no_reason_to_download(tmp_path, monkeypatch, offline):
    monkeypatch.setenv(sources.DATA_VARIABLE, str(tmp_path / "typo"))
    with pytest.raises(datasets.DatasetUnavailable, match="to name a folder; there is none at .*typo"):
        datasets.load("mnist", cache=tmp_path, progress=False)


def test_a_download_with_another_checksum_is_refused(tmp_path, monkeypatch):
    pooch = pytest.importorskip("pooch")

    def download(self, url, output_file, *args, **kwargs):
        Path(output_file).write_bytes(b"not MNIST")

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", download)
    monkeypatch.delenv(sources.DATA_VARIABLE, raising=False)
    with pytest.raises(datasets.DatasetUnavailable, match=r"ValueError: (SHA256|sha256) hash of downloaded file"):
        datasets.load("mnist", cache=tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_a_local_file_with_other_contents_is_refused(tmp_path, monkeypatch):
    x, y = np.zeros((3, 28, 28), np.uint8), np.zeros(3, np.uint8)
    np.savez(tmp_path / "mnist.npz", train_x=x, train_y=y, test_x=x, test_y=y)
    monkeypatch.setenv(sources.DATA_VARIABLE, str(tmp_path))
    with pytest.raises(
        datasets.DatasetUnavailable, match=r"expected contents with SHA-256 \w{64}; got .*\(3, 28, 28\)"
    ):
        datasets.load("mnist")


def test_a_local_file_with_other_keys_is_refused(tmp_path, monkeypatch):
    np.savez(tmp_path / "mnist.npz", images=np.zeros((3, 28, 28), np.uint8))
    monkeypatch.setenv(sources.DATA_VARIABLE, str(tmp_path))
    with pytest.raises(ValueError, match="expected the keys train_x, train_y, test_x, test_y; got images"):
        datasets.load("mnist")


def test_idx_parser_reads_big_endian_sizes(tmp_path):
    x = np.arange(300 * 2 * 3).reshape(300, 2, 3).astype(np.uint8)
    header = struct.pack(">HBB3I", 0, 8, 3, *x.shape)
    (tmp_path / "x.gz").write_bytes(gzip.compress(header + x.tobytes()))
    np.testing.assert_array_equal(sources._parse_idx(tmp_path / "x.gz"), x)


@pytest.mark.parametrize("end", ["\n", " \n", "\r\n"])
def test_amat_parser_does_not_mind_white_space(tmp_path, end):
    x = np.random.default_rng(0).integers(0, 2, size=(3, 784))
    (tmp_path / "x.amat").write_bytes("".join(" ".join(map(str, row)) + end for row in x).encode())
    np.testing.assert_array_equal(np.unpackbits(sources._parse_amat(tmp_path / "x.amat"), axis=1), x)


@pytest.mark.parametrize(
    ("name", "package", "module"), [("digits", "scikit-learn", "sklearn"), ("mnist", "pooch", "pooch")]
)
def test_a_missing_library_names_the_extra(name, package, module, monkeypatch):
    for loaded in [key for key in sys.modules if key.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delenv(sources.DATA_VARIABLE, raising=False)
    with pytest.raises(ModuleNotFoundError, match=rf"needs {package}.*pip install 'deepgen-ppl\[data\]'"):
        datasets.load(name)


def test_unknown_name_lists_the_names():
    with pytest.raises(ValueError, match=r"expected one of digits, mnist, binarized_mnist, or .*; got 'minst'"):
        datasets.load("minst")


# --- files


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_one_array_is_split_80_10_10_without_a_row_lost(tmp_path, suffix):
    x = np.arange(25 * 2 * 3, dtype=np.float64).reshape(25, 2, 3)
    path = tmp_path / f"x.{suffix}"
    np.save(path, x) if suffix == "npy" else np.savez(path, x=x)
    data = datasets.load(path)
    assert [part.shape for part in splits(data)] == [(21, 6), (2, 6), (2, 6)]
    assert data.shape == (2, 3)
    assert data.name == str(path)
    assert data.train.dtype == np.float32
    rows = np.concatenate(splits(data))
    np.testing.assert_array_equal(rows[np.argsort(rows[:, 0])], x.reshape(25, 6))
    assert not np.array_equal(rows, x.reshape(25, 6))  # shuffled: files are often sorted by class
    np.testing.assert_array_equal(datasets.load(str(path)).train, data.train)


def test_the_splits_of_a_file_are_kept(tmp_path):
    parts = {"train": np.ones((4, 3)), "valid": np.zeros((2, 3)), "test": np.full((1, 3), 0.5)}
    np.savez(tmp_path / "x.npz", **parts)
    data = datasets.load(tmp_path / "x.npz")
    for key, x in parts.items():
        np.testing.assert_array_equal(getattr(data, key), x)
    assert "the file's own" in data.note


def test_missing_file():
    with pytest.raises(FileNotFoundError, match=r"expected a \.npy or \.npz file; there is none at nowhere\.npz"):
        datasets.load("nowhere.npz")


@pytest.mark.parametrize(
    ("arrays", "error", "message"),
    [
        ({"a": np.ones((20, 3)), "b": np.ones(3)}, ValueError, "expected the keys x or train, valid, test; got a, b"),
        ({"x": np.ones(20)}, ValueError, r"array 'x' \(N, V...\): expected .* 2 axes; got shape \(20,\)"),
        ({"x": np.ones((0, 3))}, ValueError, r"expected at least one value and 2 axes; got shape \(0, 3\)"),
        ({"x": np.ones((9, 3))}, ValueError, r"expected at least 10 rows to split 80/10/10; got shape \(9, 3\)"),
        (
            {"x": np.full((20, 3), np.nan)},
            ValueError,
            r"expected finite values; got NaN or infinity in shape \(20, 3\)",
        ),
        ({"x": np.full((20, 3), "a")}, TypeError, "expected real numbers; got dtype <U1"),
        ({"x": np.ones((20, 3), complex)}, TypeError, "expected real numbers; got dtype complex128"),
        (
            {"train": np.ones((4, 3)), "valid": np.ones((4, 3)), "test": np.ones((4, 2))},
            ValueError,
            r"expected rows of one shape in train, valid, test; got \[\(3,\), \(3,\), \(2,\)\]",
        ),
    ],
)
def test_bad_arrays_in_a_file(tmp_path, arrays, error, message):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(error, match=message):
        datasets.load(tmp_path / "x.npz")


def test_pickles_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{"a": 1}] * 20, dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="expected arrays, and no pickles"):
        datasets.load(tmp_path / "x.npy")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 cut short"])
def test_a_file_that_is_no_archive(tmp_path, content):
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.npz: expected arrays, and no pickles; got a file that does not read"):
        datasets.load(tmp_path / "x.npz")


def header(shape):
    """The header of a file that claims an array of this shape."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return file.getvalue()


def zipped(path, name, content):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)


def test_members_that_are_no_arrays(tmp_path):
    for name, content in (("x", b"text"), ("x.npy", b"text"), ("x.npy", b"")):
        zipped(tmp_path / "x.npz", name, content)
        with pytest.raises(ValueError, match=r"x\.npz: expected arrays, and no pickles; got a file that does not read"):
            datasets.load(tmp_path / "x.npz")


def test_encrypted_members(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.ones((20, 3)))
    content = bytearray((tmp_path / "x.npz").read_bytes())
    for sign, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flag of encryption, beside and in the directory
        content[content.index(sign) + at] |= 1
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"got a file that does not read: .*encrypted"):
        datasets.load(tmp_path / "x.npz")


def test_headers_that_claim_more_than_there_is(tmp_path):
    """Refused before memory is taken."""
    (tmp_path / "x.npy").write_bytes(header((10**9, 784)) + bytes(800))
    zipped(tmp_path / "x.npz", "x.npy", header((10**9, 784)) + bytes(800))
    for name in ("x.npy", "x.npz"):
        with pytest.raises(ValueError, match=r"at most 800 bytes of values, got a header of shape \(1000000000"):
            datasets.load(tmp_path / name)


def test_what_is_packed_small_and_unpacks_large(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "LARGEST", 10_000)
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros((1000, 10)))
    assert (tmp_path / "x.npz").stat().st_size < 10_000
    with pytest.raises(ValueError, match=r"expected at most 10000 bytes of values, got a header of shape \(1000, 10\)"):
        datasets.load(tmp_path / "x.npz")


# --- binarize


def test_threshold_is_the_smallest_value_that_becomes_one():
    x = np.array([[0.0, 0.49], [0.5, 1.0]])
    y = datasets.binarize(x)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, [[0, 0], [1, 1]])
    np.testing.assert_array_equal(datasets.binarize(x, threshold=1), [[0, 0], [0, 1]])
    np.testing.assert_array_equal(datasets.binarize([True, False]), [1, 0])


def test_sample_has_the_values_as_probabilities():
    """The mean of n Bernoulli(p) draws is within 4 standard errors of p; 0 and 1 are certain."""
    p, n = np.array([0.0, 0.1, 0.5, 0.9, 1.0]), 20_000
    y = datasets.binarize(np.tile(p, (n, 1)), method="sample", rng=0)
    assert y.dtype == np.float32
    assert set(np.unique(y)) == {0.0, 1.0}
    assert (np.abs(y.mean(0) - p) <= 4 * np.sqrt(p * (1 - p) / n)).all()


def test_sample_is_fixed_by_its_seed():
    x = np.full((10, 10), 0.5)
    first = datasets.binarize(x, method="sample", rng=1)
    np.testing.assert_array_equal(first, datasets.binarize(x, method="sample", rng=np.random.default_rng(1)))
    assert not np.array_equal(first, datasets.binarize(x, method="sample", rng=2))


@pytest.mark.parametrize(
    ("x", "options", "error", "message"),
    [
        ([0.0, 1.5], {}, ValueError, r"expected values in \[0, 1\]; got minimum 0.0, maximum 1.5 in shape \(2,\)"),
        ([-0.1, 0.5], {}, ValueError, r"expected values in \[0, 1\]; got minimum -0.1"),
        ([0.0, np.nan], {}, ValueError, "expected finite values; got NaN or infinity"),
        (np.ones((0, 3)), {}, ValueError, r"expected at least one value .*got shape \(0, 3\)"),
        (["a"], {}, TypeError, "expected real numbers; got dtype <U1"),
        ([0.5], {"threshold": 0.0}, ValueError, "expected 0 < threshold <= 1; got 0.0"),
        ([0.5], {"rng": 0}, ValueError, "expected no rng with method='threshold'"),
        ([0.5], {"method": "sample"}, ValueError, "expected rng, .* with method='sample'; got None"),
        ([0.5], {"method": "round"}, ValueError, "expected method 'threshold' or 'sample'; got 'round'"),
    ],
)
def test_bad_input_of_binarize(x, options, error, message):
    with pytest.raises(error, match=message):
        datasets.binarize(x, **options)
