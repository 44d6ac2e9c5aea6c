"""The demo's images arrive whole, balanced and normalised, or with a clear error."""

import gzip

import numpy as np
import pytest

from bench import data


def _write_idx(path, array, *, compress=False):
    header = bytes([0, 0, data.IDX_UBYTE, array.ndim])
    sizes = np.asarray(array.shape, ">u4").tobytes()
    content = header + sizes + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if compress else content)


@pytest.fixture
def directory(tmp_path):
    rng = np.random.default_rng(0)
    for stem, count in (("train", 30), ("t10k", 10)):
        images = rng.integers(0, 256, (count, 28, 28))
        _write_idx(tmp_path / f"{stem}-images-idx3-ubyte.gz", images, compress=True)
        _write_idx(tmp_path / f"{stem}-labels-idx1-ubyte", np.arange(count) % 10)
    return tmp_path


def test_mnist_is_balanced_and_normalised():
    mnist = data.mnist_5k()
    assert mnist.train.images.shape == (4000, 28, 28, 1)
    assert np.bincount(mnist.train.labels).tolist() == [400] * 10
    assert np.bincount(mnist.test.labels).tolist() == [100] * 10
    assert abs(mnist.train.images.mean()) < 1e-4
    assert abs(mnist.train.images.std() - 1) < 1e-4


def test_mnist_splits_do_not_share_images():
    mnist = data.mnist_5k()
    train = {image.tobytes() for image in mnist.train.images}
    assert not any(image.tobytes() in train for image in mnist.test.images)


def test_idx_files_plain_and_gzipped(directory):
    found = data.idx_dataset(directory)
    assert found.train.images.shape == (30, 28, 28, 1)
    assert found.test.labels.tolist() == list(range(10))


def test_missing_file_is_named(tmp_path):
    with pytest.raises(data.DataError, match="train-images-idx3-ubyte"):
        data.idx_dataset(tmp_path)


def test_malformed_file_is_named(directory):
    (directory / "t10k-labels-idx1-ubyte").write_bytes(b"not idx")
    with pytest.raises(data.DataError, match="t10k-labels-idx1-ubyte"):
        data.idx_dataset(directory)
