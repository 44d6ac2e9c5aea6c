"""Order and memory on an H100 that is not there; needs jax's CUDA plug-in."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

from bench import environment

ROOT = pathlib.Path(__file__).parent.parent.parent
HAS_PLUGIN = any(
    map(importlib.util.find_spec, ("jax_cuda13_plugin", "jax_cuda12_plugin"))
)
HAS_LIBRARY = (ROOT / "epmc_jax" / "_epmc_cuda.so").exists()
DEPTH, BATCH, WIDTH = 6, 2048, 512
ARRAY_BYTES = 4 * BATCH * WIDTH
# In processes of their own: what makes jax compile for CUDA stands before it starts.
LAGS = f"""
import json
import sys
import epmc_jax
from bench import overlap, problems
from bench.measure import temp_bytes
problem = problems.gelu_mlp(batch={BATCH}, width={WIDTH}, depth={DEPTH})
rows = []
for variant in overlap.VARIANTS:
    compiled = overlap.compile_method(problem, variant.method("balanced"))
    found = epmc_jax.schedule(compiled)
    rows.append(overlap.count(found) | {{
        "temp_bytes": temp_bytes(compiled),
        "live_bytes": max(found.live_bytes),
    }})
json.dump(rows, sys.stdout)
"""
TRANSFORMED = f"""
import json
import sys
import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec as P
import epmc_jax
from bench import deviceless, overlap

def mlp(layers, x, activation=jax.nn.gelu):
    for weights in layers:
        x = activation(x @ weights)
    return (x**2).mean()

def relus(layers, x):
    return mlp(layers, x, jax.nn.relu)

balanced = epmc_jax.policies.balanced()
gradient = jax.grad(epmc_jax.compress(mlp, policy=balanced))
split_features = epmc_jax.Policy(*balanced.rules, ways=2)
by_features = jax.grad(epmc_jax.compress(mlp, policy=split_features))
masks_by_features = jax.grad(epmc_jax.compress(relus, policy=split_features))
topology = topologies.get_topology_desc(
    platform="cuda", target_config=deviceless.h100(), topology="1x1x2"
)
devices = topologies.make_mesh(topology, (2,), ("data",)).devices
found = {{}}

def compiled(name, fun, kind, shape, spec, layer_specs=(P(), P())):
    mesh = Mesh(devices, ("data",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        def on(shape, spec):
            split = NamedSharding(mesh, spec)
            return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=split)
        layers = [on(({WIDTH}, {WIDTH}), spec) for spec in layer_specs * ({DEPTH} // 2)]
        traced = jax.jit(fun).trace(layers, on(shape, spec))
        program = traced.lower(lowering_platforms=("cuda",)).compile()
    found[name] = overlap.count(epmc_jax.schedule(program))
    found[name]["gathers"] = program.as_text().count(" all-gather")

two = ({BATCH}, {WIDTH})
compiled("auto", gradient, AxisType.Auto, two, P("data"))
compiled("explicit", gradient, AxisType.Explicit, two, P("data"))
mapped = jax.vmap(gradient, in_axes=(None, 0))
compiled("vmap", mapped, AxisType.Auto, (2, *two), P("data"))
in_turn = P(None, "data"), P("data", None)
compiled("features", by_features, AxisType.Auto, two, P(), in_turn)
compiled("masks", masks_by_features, AxisType.Auto, two, P(), in_turn)
json.dump(found, sys.stdout)
"""
# Of each kernel that makes masks of dropout, how many, and whether it packs them.
DROPOUTS = f"""
import json
import sys
import jax
import jax.numpy as jnp
from bench import deviceless, methods
from tests.models import dropouts

def loss(weights, state, *args):
    return dropouts(weights, *args), state

weights = [jax.ShapeDtypeStruct(({WIDTH}, {WIDTH}), jnp.float32)] * {DEPTH}
x = jax.ShapeDtypeStruct(({BATCH}, {WIDTH}), jnp.float32)
key = jax.eval_shape(jax.random.PRNGKey, 0)
compressed = methods.BALANCED.wrap(loss)
program = deviceless.compile_gradient(compressed, (weights, None, x, key))
lines = program.as_text().splitlines()
results = [line.partition(" fusion(")[0] for line in lines if " fusion(" in line]
masks = "pred[{BATCH},{WIDTH}]"
found = [(r.count(masks), "u32[{BATCH}," in r) for r in results if masks in r]
json.dump(found, sys.stdout)
"""


def run(program):
    if not (HAS_PLUGIN and HAS_LIBRARY):
        pytest.skip('needs pip install "jax[cuda13]" and the CUDA library')
    variables = os.environ | environment.DEVICELESS | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program]
    out = subprocess.run(
        command, env=variables, capture_output=True, text=True, cwd=ROOT
    )
    assert out.returncode == 0, out.stderr[-2000:]
    return json.loads(out.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def rows():
    return run(LAGS)


def test_all_but_the_last_encode_are_hidden(rows):
    assert [row["encode_calls"] for row in rows] == [DEPTH] * 3
    assert rows[0]["encode_hidden"] == 0
    assert rows[1]["encode_hidden"] >= DEPTH - 1


def test_memory_grows_by_no_more_than_the_lag(rows):
    synchronous = rows[0]["temp_bytes"]
    for lag, row in enumerate(rows):
        assert row["temp_bytes"] <= synchronous + (lag + 0.1) * ARRAY_BYTES


def test_the_estimate_is_near(rows):
    for row in rows:
        assert row["live_bytes"] == pytest.approx(row["temp_bytes"], rel=0.2)


def test_shards_and_batches_keep_the_order():
    found = run(TRANSFORMED)
    for name, counted in found.items():
        assert counted["encode_calls"] == DEPTH
        assert counted["gathers"] == 0
        # Where features are split, XLA starts every second one beside an all-reduce.
        beside_reduce = DEPTH // 2 if name in ("features", "masks") else 0
        assert counted["encode_hidden"] + beside_reduce >= DEPTH - 1


def test_dropouts_are_drawn_one_after_the_other_and_packed_there():
    assert run(DROPOUTS) == [[1, True]] * DEPTH
