"""The model of a machine, what hides on it in a plan, and what does in a program."""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import pytest

import epmc_jax
from epmc_jax import Policy, Rule, _hlo, machines
from epmc_jax._hlo_costs import Costs
from epmc_jax.codecs import GroupQuant
from epmc_jax.machines import H100, Cost, Load, slowdown

FOLDER = pathlib.Path(__file__).parent / "schedules"
# Rates of one: seconds are what is counted.
UNIT = machines.Machine(
    name="unit",
    bytes_per_s=1,
    flops_per_s={"float32": 1, "bfloat16": 2},
    efficiency=0.5,
    instructions_per_s=1,
)
POLICY = Policy(Rule(kind="dense", codec=GroupQuant(bit_width=4)))


def read(name):
    return epmc_jax.schedule((FOLDER / f"{name}.txt").read_text())


def test_a_kernel_takes_as_long_as_the_resource_it_needs_longest():
    assert UNIT.seconds(Cost(nbytes=3, flops=1, instructions=1)) == 3
    assert UNIT.seconds(Cost(nbytes=3, flops=4)) == 8
    assert UNIT.seconds(Cost(flops=4, dtype="bfloat16")) == 4
    assert UNIT.seconds(Cost(nbytes=1, instructions=5)) == 5
    late = dataclasses.replace(UNIT, launch_s=1)
    assert late.load(Cost(nbytes=3)) == Load(4, (0.75, 0, 0))


def test_kernels_at_once_slow_down_by_what_both_need():
    memory, matrix = Load(1, (1, 0.2, 0)), Load(1, (0.4, 1, 0))
    assert slowdown(memory) == 1
    assert slowdown(memory, matrix) == 1.4
    assert slowdown(memory, memory) == 2
    assert slowdown(Load(1, (0.5, 0, 0)), Load(1, (0.5, 0, 0))) == 1


def test_costs_add_up():
    total = Cost(nbytes=1, flops=2, dtype="bfloat16") + Cost(nbytes=3, instructions=1)
    assert total == Cost(nbytes=4, flops=2, dtype="bfloat16", instructions=1)
    assert total.times(2).nbytes == 8


def test_this_cpu_is_measured_and_overlaps_nothing():
    machine = machines.this_cpu()
    assert machine.bytes_per_s > 0
    assert machine.flops_per_s["float32"] > 0
    assert not machine.overlaps


def costs_of(name):
    module = _hlo.parse((FOLDER / f"{name}.txt").read_text())
    costs = Costs(module)
    body = module.computations[module.entry]
    return [(i, costs.cost(module.entry, i)) for i in body]


def test_flops_of_matrix_products():
    """Four layers of 512, batch 2048: forward, and both gradients but one."""
    found = costs_of("mlp")
    products = [c.flops for i, c in found if i.opcode == "custom-call" and c.flops]
    assert products == [2 * 2048 * 512 * 512] * len(products)
    assert len(products) == 11


def test_bytes_of_encodes():
    encodes = [c for i, c in costs_of("mlp") if i.opcode == "call-start"]
    dense, encoded = 2048 * 512 * 4, 2048 * 288
    assert [c.nbytes for c in encodes] == [dense + encoded] * 4
    assert all(c.instructions == 36 * 2048 * 512 for c in encodes)


CONVOLUTION = """HloModule m, is_scheduled=true

ENTRY %main (x: bf16[8,32,32,64], k: bf16[128,3,3,64]) -> bf16[8,16,16,128] {
  %x = bf16[8,32,32,64]{3,2,1,0} parameter(0)
  %k = bf16[128,3,3,64]{3,2,1,0} parameter(1)
  %made = (bf16[8,16,16,128]{3,2,1,0}, u8[4096]{0}) custom-call(%x, %k), \
window={size=3x3 stride=2x2}, dim_labels=b01f_o01i->b01f, \
custom_call_target="__cudnn$convForward"
  %y = bf16[8,16,16,128]{3,2,1,0} get-tuple-element(%made), index=0
  %back = (bf16[8,32,32,64]{3,2,1,0}, u8[4096]{0}) custom-call(%y, %k), \
window={size=3x3 stride=2x2}, dim_labels=b01f_o01i->b01f, \
custom_call_target="__cudnn$convBackwardInput"
  ROOT %filter = (bf16[128,3,3,64]{3,2,1,0}, u8[0]{0}) custom-call(%x, %y), \
window={size=3x3 stride=2x2}, dim_labels=b01f_o01i->b01f, \
custom_call_target="__cudnn$convBackwardFilter"
}
"""


def test_a_convolution_and_its_gradients_have_the_same_flops():
    module = _hlo.parse(CONVOLUTION)
    costs = Costs(module)
    found = [costs.cost("main", i) for i in module.computations["main"]]
    flops = [c.flops for c in found if c.flops]
    assert flops == [2 * 8 * 16 * 16 * 128 * 3 * 3 * 64] * 3
    x, y, kernel = 8 * 32 * 32 * 64, 8 * 16 * 16 * 128, 128 * 3 * 3 * 64
    assert found[2].nbytes == 2 * (x + y + kernel)  # without the workspace
    assert found[2].dtype == "bfloat16"


SLICED = """HloModule m, is_scheduled=true

%fused (p: f32[12,100], i: s32[], u: f32[1,100], all: f32[12,100]) -> f32[12,100] {
  %p = f32[12,100]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %u = f32[1,100]{1,0} parameter(2)
  %all = f32[12,100]{1,0} parameter(3)
  %one = f32[1,100]{1,0} dynamic-slice(%p, %i), dynamic_slice_sizes={1,100}
  %sum = f32[1,100]{1,0} add(%one, %u)
  ROOT %put = f32[12,100]{1,0} dynamic-update-slice(%all, %sum, %i)
}

ENTRY %main (p: f32[12,100], i: s32[], u: f32[1,100], all: f32[12,100]) -> f32[12,100] {
  %p = f32[12,100]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %u = f32[1,100]{1,0} parameter(2)
  %all = f32[12,100]{1,0} parameter(3)
  ROOT %f = f32[12,100]{1,0} fusion(%p, %i, %u, %all), kind=kLoop, calls=%fused
}
"""


def test_of_what_is_sliced_only_the_slice_counts():
    module = _hlo.parse(SLICED)
    cost = Costs(module).cost("main", module.computations["main"][-1])
    assert cost.nbytes == 3 * 400 + 4
    assert cost.instructions == 100


def test_a_simulated_step_feels_synchronous_codecs():
    beside, in_turn = read("mlp").simulate(H100), read("mlp_synchronous").simulate(H100)
    assert in_turn.exposed_s == pytest.approx(in_turn.codec_s)
    assert beside.codec_s == pytest.approx(in_turn.codec_s)
    assert 0 <= beside.exposed_s < 0.75 * in_turn.exposed_s
    assert beside.step_s > beside.codec_s
    assert "hidden" in str(beside)


def test_a_machine_without_spare_memory_hides_nothing():
    """Everything is limited by memory: beside or in turn is the same."""
    slow = dataclasses.replace(
        H100, bytes_per_s=1e9, instructions_per_s=1e30, launch_s=0
    )
    found = read("mlp").simulate(slow)
    assert found.exposed_s == pytest.approx(found.codec_s, rel=0.1)


def test_the_body_of_a_loop_counts_once_per_iteration():
    text = (FOLDER / "scan.txt").read_text()
    once = epmc_jax.schedule(text.replace('"known_trip_count":{"n":"', '"n":{"n":"'))
    assert read("scan").simulate(H100).step_s > 1.5 * once.simulate(H100).step_s


def layers(count, width):
    return [jax.ShapeDtypeStruct((width, width), jnp.bfloat16)] * count


def mlp(weights, x):
    for w in weights:
        x = jnp.sin(x @ w)
    return (x.astype(jnp.float32) ** 2).mean()


def plan(batch, width, **options):
    x = jax.ShapeDtypeStruct((batch, width), jnp.bfloat16)
    policy = Policy(*POLICY.rules, **options)
    return epmc_jax.plan(mlp, layers(4, width), x, policy=policy, machine=H100)


def encoded(plan):
    return [row for row in plan.rows if row.codec.startswith("GroupQuant")]


def test_an_encode_hides_behind_a_large_product():
    rows = encoded(plan(8192, 8192))
    assert len(rows) == 4
    for row in rows[:3]:
        assert "mlp" in row.beside
        assert row.exposed_us < 0.3 * row.hidden_us
    # Nothing takes long behind the last one.
    assert (rows[3].beside, rows[3].hidden_us) == (None, 0)
    assert rows[3].exposed_us > 0


def test_an_encode_does_not_hide_behind_a_small_product():
    """Reading and writing takes such a product longer than multiplying."""
    large, small = encoded(plan(8192, 8192)), encoded(plan(1 << 20, 64))
    share = [r.exposed_us / (r.hidden_us + r.exposed_us) for r in (large[0], small[0])]
    assert share[0] < 0.25 < 0.35 < share[1]


def test_without_a_lag_everything_is_exposed():
    assert all(row.hidden_us == 0 for row in encoded(plan(8192, 8192, lag=0)))


def test_a_lag_of_two_hides_no_less():
    totals = [
        sum(row.exposed_us for row in plan(1 << 18, 256, lag=lag).rows)
        for lag in (0, 1, 2)
    ]
    assert totals == sorted(totals, reverse=True)


def test_a_mask_costs_the_bytes_that_it_adds():
    """It is packed in the kernel that makes the array, which reads what there is."""

    def relus(weights, x):
        for w in weights:
            x = jax.nn.relu(x @ w)
        return (x.astype(jnp.float32) ** 2).mean()

    x = jax.ShapeDtypeStruct((8192, 8192), jnp.bfloat16)
    policy = epmc_jax.policies.balanced()
    found = epmc_jax.plan(relus, layers(4, 8192), x, policy=policy, machine=H100)
    masks = [row for row in found.rows if row.codec == "BitMask"]
    assert len(masks) == 4
    for row in masks:
        assert (row.beside, row.hidden_us) == (None, 0)
        assert row.exposed_us == 1e6 * row.encoded_bytes / H100.bytes_per_s


def test_a_loop_has_the_times_of_all_iterations():
    def scanned(weights, x):
        return jax.lax.scan(lambda x, w: (jnp.sin(x @ w), None), x, weights)[0].sum()

    x = jax.ShapeDtypeStruct((8192, 4096), jnp.bfloat16)
    plans = [
        epmc_jax.plan(
            scanned,
            jax.ShapeDtypeStruct((n, 4096, 4096), jnp.bfloat16),
            x,
            policy=POLICY,
            machine=H100,
        )
        for n in (3, 6)
    ]
    times = [
        sum(r.hidden_us + r.exposed_us for r in p.rows if r.codec.startswith("Group"))
        for p in plans
    ]
    assert times[1] == pytest.approx(2 * times[0], rel=0.01)


def test_a_plan_with_a_machine_names_it():
    text = str(plan(8192, 4096))
    for part in ("beside", "hidden us", "exposed us", "encoding on H100, estimated"):
        assert part in text
    assert "producer" not in text
    content = json.loads(plan(8192, 4096).to_json())
    assert content["machine"] == "H100"
    assert content["rows"][0]["hidden_us"] is not None


def test_a_plan_without_a_machine_has_no_times():
    x = jax.ShapeDtypeStruct((64, 512), jnp.bfloat16)
    found = epmc_jax.plan(mlp, layers(4, 512), x, policy=POLICY)
    assert {row.hidden_us for row in found.rows} == {None}
    assert "beside" not in str(found)
    assert json.loads(found.to_json())["machine"] is None
