"""The measurements mean what their names say, and would notice a difference."""

import argparse
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import epmc_jax
from bench import demo, demo_training, fidelity, measure, methods, problems, record
from bench.data import Dataset, Split

# At 32x32 the last stage is 2x2, which XLA:CPU convolves very slowly.
SMALL_VGG = problems.vgg16_small(batch=2, size=64)


@pytest.fixture(autouse=True)
def build_directory(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "BUILD", tmp_path)
    monkeypatch.setattr(demo, "OUTPUT", tmp_path / "demo")
    return tmp_path


def _chain(params, state, x):
    for weights in params:
        x = jnp.sin(x @ weights)
    return jnp.mean(x**2), state


CHAIN_ARGS = ([jnp.ones((64, 64))] * 8, None, jnp.ones((512, 64)))
ACTIVATION_BYTES = 512 * 64 * 4


def test_saved_bytes_counts_residuals_but_not_arguments():
    # sin saves cos(x), the next product saves sin(x), and the mean its argument.
    saved = measure.saved_bytes(_chain, CHAIN_ARGS)
    assert 16 <= saved / ACTIVATION_BYTES < 16.1


def test_saved_bytes_of_a_compressed_loss_is_what_its_plan_says():
    loss = methods.PRECISE.wrap(_chain)
    plan = epmc_jax.plan(loss, *CHAIN_ARGS)
    saved = measure.saved_bytes(loss, CHAIN_ARGS)
    assert saved == pytest.approx(plan.stored_bytes, rel=0.01)


def test_compressed_temp_bytes_are_fewer():
    plain = measure.compile_gradient(_chain, CHAIN_ARGS)
    precise = measure.compile_gradient(methods.PRECISE.wrap(_chain), CHAIN_ARGS)
    assert measure.temp_bytes(precise) < measure.temp_bytes(plain)


def test_interleaved_times_exclude_the_warm_up():
    calls = []
    times = measure.interleaved_ms(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")},
        rounds=4,
        warm_up=2,
    )
    assert [len(found) for found in times.values()] == [4, 4]
    assert "".join(calls) == "abbaabbaabba"


def test_relative_time_is_taken_round_by_round():
    times = {"plain": [1.0, 100.0, 1.0], "other": [2.0, 200.0, 2.0]}
    assert measure.relative_time(times, "plain") == {"plain": 1.0, "other": 2.0}


def test_unknown_method_is_named():
    with pytest.raises(ValueError, match="no method prcise; there are: plain, exact"):
        methods.select(["prcise"], methods.DEMO)


def test_fidelity_finds_decisions_unchanged():
    (row,) = fidelity.measure(SMALL_VGG, [methods.PRECISE], seed=0)
    assert row["mask_flips"] == row["index_changes"] == 0
    assert 0 < row["gradient_error"] < 0.05


def test_fidelity_would_see_changed_decisions():
    def disturb(loss):
        return lambda probes, params, state, images, labels: loss(
            probes, params, state, images + 0.1 * jnp.cos(images), labels
        )

    args = SMALL_VGG.arguments(0)
    disturbed = methods.Method("disturbed", disturb)
    for tap in ("before_relu", "before_pool"):
        right = fidelity.zero_pattern(SMALL_VGG, methods.PLAIN, tap, args)
        wrong = fidelity.zero_pattern(SMALL_VGG, disturbed, tap, args)
        assert sum(np.sum(a != b) for a, b in zip(right, wrong, strict=True)) > 0


def test_batches_repeat_with_the_seed_and_cover_an_epoch():
    labels = np.arange(20, dtype=np.int32)
    split = Split(np.ones((20, 28, 28, 1), np.float32), labels)
    settings = demo_training.Settings(batch=5, steps=4, crop=24)
    first = list(demo_training.batches(split, settings, seed=3))
    again = list(demo_training.batches(split, settings, seed=3))
    for (images, chosen), (same_images, same_chosen) in zip(first, again, strict=True):
        assert images.shape == (5, 24, 24, 1)
        np.testing.assert_array_equal(images, same_images)
        np.testing.assert_array_equal(chosen, same_chosen)
    assert sorted(np.concatenate([chosen for _, chosen in first])) == labels.tolist()


def test_too_small_images_are_refused():
    split = Split(np.ones((2, 20, 20, 1), np.float32), np.zeros(2, np.int32))
    with pytest.raises(ValueError, match="needs 26: lower --crop"):
        demo_training.require_size(
            Dataset("small", split, split), demo_training.Settings()
        )


def test_demo_writes_table_json_and_picture(build_directory, capsys):
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    options = parser.parse_args(
        ["--steps", "5", "--batch", "4", "--methods", "balanced"]
    )
    demo.run(options, Console(width=120))
    written = json.loads((build_directory / "demo" / "demo.json").read_text())
    plain, balanced = written["rows"]
    assert (plain["method"], balanced["method"]) == ("plain", "balanced")
    assert balanced["saved_bytes"] < plain["saved_bytes"] / 5
    assert [len(run["losses"]) for run in written["runs"]] == [5, 5]
    # The same initial state and the same first batch: the forward value is exact.
    assert written["runs"][0]["losses"][0] == pytest.approx(
        written["runs"][1]["losses"][0], rel=1e-5
    )
    assert written["versions"]["jax"] == jax.__version__
    picture = (build_directory / "demo" / "demo.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert "balanced" in capsys.readouterr().out
