"""The page of results is what its records come to; the bars can be missed."""

import json
import math

import pytest

from bench import deviceless, pages, pictures, readme, record, results, summaries
from bench.largest_batch import MOST_BATCH, largest_batch

CONTEXT = {
    "machine": {"processor": "CPU", "cores": 2},
    "versions": {"python": "3.11", "jax": "0.10"},
    "flags": {},
    "commit": "abc",
    "time": "2026-01-01T00:00:00",
}


def _memory_row(network, method, temp_bytes):
    where = {"dtype": "f32", "device": "this machine"}
    row = {"network": network, "problem": network, "method": method, **where}
    return row | {"temp_bytes": temp_bytes} | CONTEXT


MEMORY = [
    _memory_row("A", "plain", 100),
    _memory_row("A", "precise", 50),
    _memory_row("A", "balanced", 20),
    _memory_row("B", "plain", 800),
    _memory_row("B", "precise", 100),
    _memory_row("B", "balanced", 200),
]


def _trained(method, seed, final, metric="accuracy"):
    row = {"task": "T", "method": method, "seed": seed, "metric": metric}
    return row | {"final": final, "epochs": 1, "steps_per_epoch": 1} | CONTEXT


@pytest.fixture
def directory(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "BUILD", tmp_path / "build")
    monkeypatch.setattr(results, "DOCS", tmp_path / "docs")
    return tmp_path


def test_the_page_in_the_documentation_is_that_of_its_records():
    found = {command: results.read(command) for command in results.KEYS}
    assert (results.DOCS / "results.md").read_text() == pages.page(found)


def test_the_summary_in_the_readme_is_that_of_the_records():
    found = {command: results.read(command) for command in results.KEYS}
    assert readme.START + readme.summary(found) + readme.END in readme.PATH.read_text()


def test_the_summary_has_geometric_means_of_enough_networks():
    methods = {"exact": 2, "precise": 4, "balanced": 8, "jax.checkpoint": 1}
    rows = []
    for network, share in (("A", 1), ("B", 1), ("C", 4), ("D", 4)):
        rows += [_memory_row(network, "plain", 800)]
        rows += [
            _memory_row(network, m, 800 // (n * share)) for m, n in methods.items()
        ]
    steps = [
        {"network": row["network"], "method": row["method"]}
        | {"relative_step_times": [0, 800 / row["temp_bytes"], 9]}
        for row in rows
    ]
    found = readme.summary({"memory": rows, "step": steps})
    assert "4 networks, XLA:CPU, f32 | 4.00 | 8.00 | 16.00 | 2.00 |" in found
    assert "this / plain: 4 networks, XLA:CPU | 4.00 | 8.00 | 16.00 | 2.00 |" in found
    few = [row for row in rows if row["network"] != "D"]
    assert "networks, XLA:CPU" not in readme.summary({"memory": few})


def test_a_readme_without_a_place_for_the_summary(tmp_path, monkeypatch):
    monkeypatch.setattr(readme, "PATH", tmp_path / "README.md")
    readme.PATH.write_text(f"a\n{readme.START}old\n{readme.END}b\n")
    readme.write({})
    assert "old" not in readme.PATH.read_text()
    assert readme.PATH.read_text().endswith(f"{readme.END}b\n")
    readme.PATH.write_text("a\nb\n")
    with pytest.raises(ValueError, match="put them where it belongs"):
        readme.write({})
    assert readme.PATH.read_text() == "a\nb\n"


def test_every_picture_of_the_page_is_there():
    page = (results.DOCS / "results.md").read_text()
    for line in page.splitlines():
        if line.startswith("!["):
            assert (results.DOCS / line.partition("(")[2].rstrip(")")).exists()


def test_geometric_means_are_judged():
    precise, balanced = summaries.memory_bars(MEMORY)
    assert precise.figure == pytest.approx(4)
    assert precise.verdict == "met"
    assert balanced.figure == pytest.approx(20**0.5)
    missed = summaries.memory_bars([*MEMORY[:2], _memory_row("A", "balanced", 40)])
    assert [bar.verdict for bar in missed] == ["missed", "missed"]


def test_a_checkpoint_that_needs_less_of_both_beats():
    def row(network, method, temp_bytes, time):
        found = _memory_row(network, method, temp_bytes)
        return found | {"relative_step_times": [time, time, time]}

    rows = [row(network, "balanced", 20, 1.05) for network in "AB"]
    cheaper = row("A", "jax.checkpoint, whole", 10, 1.3)
    faster = row("A", "jax.checkpoint", 30, 1.0)
    bar = summaries.step_bar([*rows, cheaper, faster])
    assert (bar.figure, bar.verdict) == (0, "met")
    bar = summaries.step_bar([*rows, row("B", "jax.checkpoint", 20, 1.0)])
    assert (bar.figure, bar.verdict) == (1, "missed")


def test_a_network_that_does_not_compile_is_left_out_of_the_mean():
    broken = {**_memory_row("B", "balanced", 0), "error": "no"}
    del broken["temp_bytes"]
    assert summaries.memory_ratios([*MEMORY[:5], broken], "balanced") == {"A": 5}


def test_worse_training_misses_both_bars():
    plain = [_trained("plain", seed, 90 + 0.1 * seed) for seed in range(3)]
    same = [_trained("balanced", seed, 90.1) for seed in range(3)]
    worse = [_trained("balanced", seed, 89 + 0.1 * seed) for seed in range(3)]
    assert [b.verdict for b in summaries.training_bars(plain + same)] == ["met"] * 2
    found = summaries.training_bars(plain + worse)
    assert [bar.verdict for bar in found] == ["missed"] * 2
    assert found[0].figure == pytest.approx(1)


def test_a_higher_loss_is_worse():
    rows = [_trained("plain", s, 2 + 0.1 * s, "loss") for s in range(2)]
    rows += [_trained("balanced", s, 2.1 + 0.1 * s, "loss") for s in range(2)]
    assert summaries.training_bars(rows)[0].verdict == "missed"


def test_differences_are_taken_seed_by_seed():
    rows = [_trained("plain", s, 90 + s) for s in (0, 1, 2)]
    rows += [_trained("balanced", s, 90.1 + s + 0.01 * s) for s in (2, 1)]
    balanced = summaries.training(rows)[1]
    assert balanced.difference == pytest.approx(0.115)
    assert balanced.p_value is not None
    assert balanced.p_value < 0.05


def test_page_and_pictures_of_given_records(directory):
    path = directory / "docs" / "results" / "memory.jsonl"
    path.parent.mkdir(parents=True)
    rows = [row | {"temp_bytes": 10**6 * row["temp_bytes"]} for row in MEMORY]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = {command: results.read(command) for command in results.KEYS}
    page = pages.page(found)
    assert "| A | 100 MB | 2.00 | 5.00 |" in page
    assert "| geometric mean |  | 4.00 | 4.47 |" in page
    assert "Not measured." in page
    (picture,) = pictures.draw(directory / "pictures", found)
    first = picture.read_bytes()
    pictures.draw(directory / "pictures", found)
    assert picture.read_bytes() == first


def test_newer_rows_replace_older_ones(directory):
    for temp_bytes in (1, 2):
        record.append("memory", [_memory_row("A", "plain", temp_bytes)])
    results.take_over("memory")
    record.append("memory", [_memory_row("A", "balanced", 3)])
    results.take_over("memory")
    assert [row["temp_bytes"] for row in results.read("memory")] == [2, 3]


def test_what_this_commit_recorded_is_found_again(directory):
    record.append("memory", [{"network": "A", "temp_bytes": 1}])
    row = record.already("memory", network="A")
    assert row is not None
    assert row["temp_bytes"] == 1
    assert record.already("memory", network="B") is None
    path = record.path_of("memory")
    path.write_text(path.read_text().replace(row["commit"], "another"))
    assert record.already("memory", network="A") is None


def test_pareto_front():
    points = [(1.0, 1.0), (0.5, 2.0), (0.9, 1.0), (2.0, 0.5), (2.0, 0.6)]
    assert pictures.pareto_front(points) == {1, 2, 3}


@pytest.mark.parametrize("limit", [150, 1000, 12345, 10**6])
def test_largest_batch_is_the_last_that_fits(limit):
    def nbytes(batch):
        return 100 + 7 * batch + 13 * (batch % 3 == 0)  # not quite a line

    found = largest_batch(nbytes, limit, (1, 16))
    assert nbytes(found) <= limit
    above = range(found + 1, MOST_BATCH + 1)
    last = max((b for b in above if nbytes(b) <= limit), default=found)
    assert last - found <= max(2, found // 64)


@pytest.mark.parametrize("shape", [math.sqrt, lambda b: b**1.5, lambda b: 1 + b // 999])
def test_largest_batch_of_what_is_no_line(shape):
    found = largest_batch(lambda batch: int(1e6 * shape(batch)), 5e6, (1, 16))
    assert shape(found) <= 5
    assert shape(found + found // 64 + 1) > 5


def test_on_a_line_four_probes_find_the_largest_batch():
    probes = []

    def nbytes(batch):
        probes.append(batch)
        return 10**6 + 1000 * batch

    assert 990 <= largest_batch(nbytes, 2e6, (1, 16)) <= 1000
    assert len(probes) <= 4


def test_a_gpu_of_each_size_is_described():
    assert "device_memory_size: 16000000000\n" in deviceless.h100(16 * 10**9)
    assert "$" not in deviceless.h100()


def test_no_batch_fits():
    assert largest_batch(lambda batch: 100 * batch, 99, (1, 16)) == 0
