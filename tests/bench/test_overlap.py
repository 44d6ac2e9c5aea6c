"""What `python -m bench overlap` compares and judges; nothing is compiled for a GPU."""

import io
import pathlib

import jax
import jax.numpy as jnp
import pytest
from rich.console import Console

import epmc_jax
from bench import methods, overlap, overlap_bars, overlap_problems, problems

SCHEDULES = pathlib.Path(__file__).parent.parent / "schedules"


def read(name):
    return epmc_jax.schedule((SCHEDULES / f"{name}.txt").read_text())


def test_the_unoptimised_scheme_is_exact_and_encodes_what_is_kept():
    problem = problems.gelu_mlp(batch=64, width=128, depth=3)
    args = problem.arguments(0)

    def gradient(method):
        return jax.jit(jax.grad(problem.loss(method), has_aux=True))

    plain, encoded = gradient(methods.PLAIN), gradient(methods.UNOPTIMISED)
    in_jnp = gradient(methods.UNOPTIMISED_JNP)
    for one in (encoded, in_jnp):
        leaves = map(jax.tree.leaves, (plain(*args), one(*args)))
        assert all(
            jnp.allclose(a, b, rtol=1e-5, atol=1e-7)
            for a, b in zip(*leaves, strict=True)
        )
    assert "epmc_csr" not in in_jnp.lower(*args).as_text()
    calls = epmc_jax.schedule(encoded.lower(*args).compile()).calls
    assert {c.target for c in calls} == {"epmc_csr_encode", "epmc_csr_decode"}
    assert sum(c.direction == "encode" for c in calls) >= 3
    assert not any(c.is_asynchronous for c in calls)


@pytest.mark.parametrize("name", [*overlap_problems.IN_BFLOAT16])
def test_layers_compute_in_bfloat16(name):
    make = {
        "resnet50": lambda: problems.resnet50_imagenet(batch=1, size=32),
        "vgg16": lambda: problems.vgg16_imagenet(batch=1, size=32),
        "gpt": lambda: problems.gpt_small(batch=1, time=8, depth=1),
        "gpt-scanned": lambda: problems.gpt_small(
            batch=1, time=8, depth=2, is_scanned=True
        ),
        "vit": lambda: problems.vit_small(batch=1, depth=1),
    }[name]
    problem = make().in_dtype(overlap_problems.BFLOAT16)
    jaxpr = str(jax.make_jaxpr(problem.loss(methods.PLAIN))(*problem.avals()))
    products = [
        line
        for line in jaxpr.splitlines()
        if " conv_general_dilated[" in line or " dot_general[" in line
    ]
    assert products
    of_float32 = [line for line in products if ":f32" in line]
    assert len(of_float32) <= len(products) // 4  # attention's scores


def test_first_and_last_layers_are_not_judged():
    found = read("mlp")
    assert [c.is_hidden for c in found.calls] == [True, True, True, False]
    assert overlap_bars.judged(found) == list(found.calls[:3])
    counted = overlap.count(found, lag=2)
    assert (counted["judged_hidden"], counted["judged_calls"]) == (3, 3)
    assert counted["lagging_bytes"] == 2 * 2048 * 512 * 4


def rows(**changes):
    default = {"problem": "net", "lagging_bytes": 100, "temp_bytes": 1000}
    default |= {"judged_calls": 10, "judged_hidden": 9}
    default |= {"step_s": 1.0, "codec_s": 0.1, "exposed_s": 0.02}
    ways = ("unoptimised", "lag 0", "lag 1", "lag 2")
    found = {way: default | {"way": way} for way in ways}
    found["unoptimised"] |= {"codec_s": 0.3, "exposed_s": 0.3}
    for way, change in changes.items():
        found[way.replace("_", " ")] |= change
    return list(found.values())


def test_all_bars_are_met():
    bars = overlap_bars.of_problem(rows())
    assert len(bars) == 7
    assert all(bar.is_met for bar in bars)


@pytest.mark.parametrize(
    ("changes", "missed", "fails"),
    [
        ({"lag_1": {"judged_hidden": 8}}, "calls, hidden", False),
        ({"lag_1": {"exposed_s": 0.04}}, "exposed of simulated step", False),
        ({"lag_1": {"temp_bytes": 1101, "lagging_bytes": 200}}, "against lag 0", True),
        ({"lag_2": {"temp_bytes": 1101}}, "of 2 layers", True),
        ({"unoptimised": {"codec_s": 0.2}}, "all codec time", False),
    ],
)
def test_a_bar_that_is_missed_is_told(changes, missed, fails):
    bars = overlap_bars.of_problem(rows(**changes))
    assert [missed in bar.name for bar in bars if not bar.is_met] == [True]
    console = Console(file=io.StringIO(), width=200)
    if fails:
        with pytest.raises(SystemExit) as stopped:
            overlap_bars.report(console, bars)
        assert stopped.value.code == 1
    else:
        overlap_bars.report(console, bars)
    assert "missed" in console.file.getvalue()


def test_bars_of_steps():
    bars = overlap_bars.of_steps({"unoptimised": 3.1, "balanced": 1.03}, "balanced")
    assert [bar.is_met for bar in bars] == [True, False]
    assert bars[0].shown == "3.01"
