"""`python -m bench codecs` reports right sizes, errors and ratios, and judges them."""

import json
import pathlib
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from bench import (
    codecs,
    codecs_data,
    codecs_measure,
    codecs_others,
    codecs_ours,
    codecs_tables,
    record,
)
from bench.codecs_process import BEST, TUNABLES, Configuration, Copier
from bench.codecs_subject import Bar, Subject

IMAGES = 16


@pytest.fixture(autouse=True)
def build_directory(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "BUILD", tmp_path)
    return tmp_path


def _tensors():
    rng = np.random.default_rng(0)
    before_relu = rng.normal(size=(IMAGES, 12, 12, 64)).astype(np.float32)
    return codecs_data.Tensors(before_relu, np.arange(10), before_relu.nbytes)


def _configuration(**changes):
    fields = {
        "threads": 1,
        "isa": BEST,
        "dtype": "float32",
        "names": (),
        "data": "",
        "nbytes": _tensors().nbytes,
        "seconds": 0.0,
    }
    return Configuration(**fields | changes)


def _measured(subject, dtype="float32"):
    x = _tensors().make(subject.data, dtype)
    return codecs_measure.measure(subject, x, _configuration(dtype=dtype))


def _row(**changes):
    """A row as it is recorded, of a call as fast as memcpy."""
    timed = {"memcpy_ms": 4.0, "encode_ms": 4.0, "decode_ms": 4.0, "busy_cores": 1.0}
    ratios = {f"{call}_per_memcpy": [0.9, 1.0, 1.2] for call in ("encode", "decode")}
    fixed = {
        "codec": "GroupQuant 8",
        "data": codecs_data.DENSE,
        "threads": 1,
        "isa": BEST,
        "dtype": "float32",
        "raw_nbytes": 64 << 20,
        "encoded_nbytes": 16 << 20,
        "decoded_nbytes": 64 << 20,
        "csr_nbytes": 64 << 20,
        "rate": 8.25,
        "relative_error": 0.0,
        "note": "",
    }
    return fixed | timed | ratios | changes


# What is lost of normal numbers, and of those with a density of 0.5; bits per element.
OURS = {
    ("Raw", "dense"): (0, 32),
    ("GroupQuant 8", "dense"): (0.01, 8.25),
    ("GroupQuant 8 stochastic", "dense"): (0.015, 8.25),
    ("GroupQuant 4", "dense"): (0.15, 4.25),
    ("GroupQuant 4 stochastic", "dense"): (0.2, 4.25),
    ("GroupQuant 3", "dense"): (0.3, 3.25),
    ("GroupQuant 2", "dense"): (0.7, 2.25),
    ("GroupQuant 2 stochastic", "dense"): (0.9, 2.25),
    ("GroupQuant 1", "dense"): (2.5, 1.25),
    ("GroupQuant 1 stochastic", "dense"): (3, 1.25),
    ("Narrow bfloat16", "dense"): (2**-8, 16),
    ("Narrow float8_e4m3fn", "dense"): (2**-4, 8.05),
    ("Narrow float8_e5m2", "dense"): (2**-3, 8.05),
    ("BitMask", "half"): (0, 1),
    ("GroupQuant 4, groups of 512", "half"): (0.15, 4.125),
    ("GroupQuant 4, groups of 512", "fifth"): (0.2, 4.125),
    ("SparseFixedRate 4.125", "half"): (0.05, 4.125),
    ("SparseFixedRate 4.125", "fifth"): (2e-4, 4.125),
    ("Csr", "half"): (0, 24.76),
    ("Csr", "fifth"): (0, 10.14),
    ("IntPack, 10 values", "labels"): (0, 4),
    ("PoolIndex 2x2", "half"): (0, 0.5),
}


@pytest.mark.parametrize(
    "subject", codecs_ours.SUBJECTS, ids=lambda s: f"{s.name} {s.data}"
)
def test_size_and_error_of_our_codecs(subject):
    row = _measured(subject)
    bound, rate = OURS[subject.name, subject.data]
    assert row["rate"] == pytest.approx(rate, rel=0.02)
    assert bound / 10 <= row["relative_error"] <= bound
    assert row["rounds"] >= 5
    assert row["encode_per_memcpy"] == sorted(row["encode_per_memcpy"])


@pytest.mark.parametrize(
    "subject", codecs_others.SUBJECTS, ids=lambda s: f"{s.name} {s.data}"
)
def test_size_and_error_of_other_packages(subject):
    row = _measured(subject)
    if "missing" in row:
        pytest.skip(f"{row['missing']} is not installed")
    is_exact = subject.name.startswith(("blosc2", "scipy"))
    assert row["rate"] < 34
    if is_exact:
        assert row["relative_error"] == 0
    else:
        assert 0 < row["relative_error"] < 0.5


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_subject_of_a_dtype_decodes_it(dtype):
    for subject in codecs_measure.SUBJECTS:
        if dtype in subject.dtypes and subject.name in ("jnp int4", "BitMask", "Csr"):
            assert _measured(subject, dtype)["dtype"] == dtype


def test_sz3_has_the_error_of_four_bits():
    pytest.importorskip("pysz")
    named = {subject.name: subject for subject in codecs_measure.SUBJECTS}
    found = _measured(named["SZ3"])["relative_error"]
    four_bits = _measured(codecs_ours.SUBJECTS[3])["relative_error"]
    assert found == pytest.approx(four_bits, rel=0.1)


@pytest.mark.parametrize(
    ("package", "name"),
    [("blosc2", "blosc2 lz4"), ("zfpy", "zfp, rate 4"), ("qwix", "qwix int8")],
)
def test_missing_package_is_a_row_that_says_what_to_install(package, name, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    subject = next(s for s in codecs_others.SUBJECTS if s.name == name)
    row = _measured(subject)
    assert row["missing"] == subject.package
    (table,) = codecs_tables.tables([row])
    assert table.cells[0][0] == f"{name}: pip install {subject.package}"
    assert {len(cells) for cells in table.cells} == {len(table.header)}


def test_ratios_are_taken_turn_by_turn():
    found = {
        "memcpy": [2.0, 400.0, 2.0],
        "encode": [1.0, 200.0, 1.0],
        "decode": [4.0, 400.0, 1.0],
        "rival_decode": [8.0, 800.0, 2.0],
    }
    row = codecs_measure.summary(found)
    assert row["encode_per_memcpy"] == [2.0, 2.0, 2.0]
    assert row["decode_per_memcpy"] == [0.75, 1.0, 1.5]
    assert row["decode_per_rival"] == [0.5, 0.5, 0.5]
    assert row["memcpy_ms"] == 2.0
    assert "encode_per_rival" not in row


def test_relative_error():
    x = np.array([3.0, 4.0], np.float32)
    assert codecs_measure.relative_error(x, x) == 0
    assert codecs_measure.relative_error(np.zeros(2), x) == 1
    with pytest.raises(ValueError, match="decoded"):
        codecs_measure.relative_error(np.zeros(3), x)


@pytest.mark.parametrize(
    ("changes", "encode"),
    [
        ({}, 1.3),
        ({"isa": "avx2"}, 1.3 * 0.7),
        ({"isa": "scalar"}, None),
        ({"dtype": "bfloat16"}, None),
        ({"raw_nbytes": 4 << 20}, None),
        ({"data": codecs_data.HALF}, None),
    ],
)
def test_bars_apply_where_they_are_set(changes, encode):
    assert codecs_tables.bar_of(_row(**changes)).encode == encode


def test_table_tells_throughput_and_whether_a_bar_is_met():
    row = _row(encode_ms=2.0, encode_per_memcpy=[1.9, 2.0, 2.1])
    (table,) = codecs_tables.tables([row])
    assert "before ReLU: float32, 64.0 MiB, 1 thread" in table.title
    assert "memcpy 16.8 GB/s; 1.00 cores busy" in table.title
    name, bits, error, *figures = table.cells[0]
    assert (name, bits, error) == ("GroupQuant 8", "8.250", "exact")
    assert figures[:3] == ["33.55", "2.00 ± 0.10", "1.3 met"]
    assert figures[3:] == ["16.78", "1.00 ± 0.15", "1.5 missed"]


def test_table_counts_raw_bytes_and_says_so_where_fewer_are_decoded():
    row = _row(codec="BitMask", data=codecs_data.HALF, decoded_nbytes=16 << 20)
    (table,) = codecs_tables.tables([row])  # nor is it compared with CSR
    assert "per decoded byte it is 0.25 of memcpy" in table.notes[0]


@pytest.mark.parametrize(("found", "word"), [(1.05, "1.1 met"), (1.2, "1.1 missed")])
def test_pool_is_compared_with_xla(found, word):
    row = _row(codec="PoolIndex 2x2", data=codecs_data.HALF)
    for call in ("encode", "decode"):
        row |= {f"rival_{call}_ms": 5.0, f"{call}_per_rival": [found] * 3}
    (table,) = codecs_tables.tables([row])
    assert table.cells[0][1:] == ("4.00 ms", "5.00 ms", f"{found:.2f} ± 0.00", word)


def test_sparse_sizes_are_compared_with_csr_and_errors_with_dense(monkeypatch):
    bar = Bar(csr_per_size=5, dense_per_error=3)
    sparse = Subject("sparse", codecs_data.HALF, codecs_ours.codec_calls, bar=bar)
    monkeypatch.setattr(codecs_tables, "SUBJECTS", (sparse,))
    rows = [
        _row(codec="sparse", data=codecs_data.HALF, relative_error=0.01),
        _row(codec=codecs_ours.DENSE_4, data=codecs_data.HALF, relative_error=0.05),
    ]
    _, table = codecs_tables.tables(rows)
    first, second = table.cells
    assert first[2:] == ("4.00", "5 missed", "1.0e-02", "5.00", "3 met")
    assert second[2:] == ("4.00", "", "5.0e-02", "1.00", "")


def test_markdown_is_a_table():
    (table,) = codecs_tables.tables([_row()])
    lines = table.markdown().splitlines()
    assert lines[2].startswith("| codec | bits |")
    assert lines[3].count("---:") == len(table.header) - 1
    assert {line.count("|") for line in lines[2:5]} == {len(table.header) + 1}


def test_codecs_are_chosen_by_parts_of_their_names():
    assert codecs.select(["quant 8", "RAW"]) == (
        "Raw",
        "GroupQuant 8",
        "GroupQuant 8 stochastic",
    )
    assert set(codecs.select(None)) == {s.name for s in codecs_measure.SUBJECTS}
    with pytest.raises(ValueError, match="no codec zip; there are: Raw, GroupQuant 8"):
        codecs.select(["zip"])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_arrays_have_the_density_and_the_size_asked_for(dtype):
    tensors = _tensors()
    for kind, density in codecs_data.DENSITIES.items():
        x = tensors.make(kind, dtype)
        assert x.dtype == jnp.dtype(dtype)
        assert np.count_nonzero(x) / x.size == pytest.approx(density, abs=1e-3)
        assert x.min() == 0
    assert tensors.make(codecs_data.DENSE, "float32").nbytes == tensors.nbytes
    labels = tensors.make(codecs_data.LABELS, dtype)
    assert labels.dtype == np.int32
    assert labels.nbytes == tensors.nbytes


def test_data_are_a_trained_networks(monkeypatch):
    monkeypatch.setattr(codecs_data, "STEPS", 2)
    nbytes = 2 * 20 * 12 * 12 * 64
    tensors = codecs_data.trained(nbytes)
    assert tensors.make(codecs_data.DENSE, "bfloat16").shape == (20, 12, 12, 64)
    assert 0.2 < np.mean(tensors.before_relu > 0) < 0.8
    assert len(np.unique(tensors.before_relu[:, 6, 6], axis=0)) > 10


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_memcpy_copies_everything(threads):
    x = np.arange(1001, dtype=np.float32)
    copier = Copier(x, threads)
    copier()
    np.testing.assert_array_equal(copier.target.view(np.float32), x)


@pytest.fixture
def data(tmp_path, monkeypatch):
    # A process imports from here, and records where it is.
    monkeypatch.setenv("PYTHONPATH", str(pathlib.Path(__file__).parents[2]))
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "activations.npz"
    _tensors().save(path)
    return str(path)


def test_process_measures_with_as_many_threads_and_keeps_its_pages(data):
    configuration = _configuration(data=data, names=("BitMask",), seconds=0.05)
    started, row = configuration.measure()
    assert started == {"started": "BitMask"}
    assert row["xla_threads"] == 1
    assert row["page_faults_per_call"] < 1
    assert 0 < row["busy_cores"] < 1.1
    recorded = pathlib.Path("build/bench/codecs.jsonl").read_text().splitlines()
    (flags,) = [json.loads(line)["flags"] for line in recorded]
    assert flags["GLIBC_TUNABLES"] == TUNABLES


def test_process_that_fails_says_why(data):
    configuration = _configuration(data=data, names=("BitMask",), threads=4096)
    with pytest.raises(RuntimeError, match="lower --threads"):
        list(configuration.measure())


def test_interrupt_shows_what_was_measured(monkeypatch):
    def interrupted(self):
        yield {"started": "GroupQuant 8"}
        yield _row()
        raise KeyboardInterrupt

    monkeypatch.setattr(Configuration, "measure", interrupted)
    found = codecs._measured(_configuration(), Console(quiet=True))
    assert next(found).cells[0][0] == "GroupQuant 8"
    with pytest.raises(KeyboardInterrupt):
        next(found)


def test_rows_are_recorded_as_they_come(data, build_directory):
    configuration = _configuration(data=data, names=("Raw", "BitMask"))
    messages = codecs_measure.messages(configuration)
    assert next(messages) == {"started": "Raw"}
    next(messages)
    (line,) = (build_directory / "bench" / "codecs.jsonl").read_text().splitlines()
    assert json.loads(line)["codec"] == "Raw"
