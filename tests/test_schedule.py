"""`schedule` on programs compiled for an H100, and for this machine.

`schedules/` has what XLA (jax 0.10.2) made of four layers of 512, batch 2048, with 4
bits; names of files and lines are taken out.
"""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import pytest

import epmc_jax
from epmc_jax._hlo_costs import Costs
from epmc_jax.codecs import GroupQuant, SparseFixedRate

FOLDER = pathlib.Path(__file__).parent / "schedules"


def read(name):
    return epmc_jax.schedule((FOLDER / f"{name}.txt").read_text())


def test_encodes_beside_the_next_layer():
    found = read("mlp")
    assert [c.direction for c in found.calls] == ["encode"] * 4
    assert {c.target for c in found.calls} == {"epmc_group_quant_encode"}
    assert all(c.is_asynchronous for c in found.calls)
    # Nothing that takes long comes behind the last layer.
    assert [c.is_hidden for c in found.calls] == [True, True, True, False]
    assert found.hidden_fraction() == 0.75
    assert found.hidden_fraction("decode") == 1.0
    for call in found.calls[:3]:
        names = [step.name for step in found.steps[call.start + 1 : call.done]]
        assert set(call.beside) <= set(names)


def test_synchronous_calls_hide_nothing():
    found = read("mlp_synchronous")
    assert [c.done - c.start for c in found.calls] == [0] * 4
    assert found.hidden_fraction() == 0
    assert "nothing: synchronous" in str(found)


def test_decodes_that_are_calls():
    found = read("mlp_prefetch")
    decodes = [c for c in found.calls if c.direction == "decode"]
    assert len(decodes) == 4
    assert found.hidden_fraction("decode") == 0.5


def test_the_body_of_a_loop():
    found = read("scan")
    entry = found.computation
    inside = [c for c in found.calls if c.computation != entry]
    assert len(inside) == 2
    assert [c.is_hidden for c in inside] == [True, False]
    assert {s.lane for s in found.steps} == {"layer", "codec", "other"}


@pytest.mark.parametrize(
    ("name", "temp_bytes"),
    [
        ("mlp", 47_326_978),
        ("mlp_synchronous", 46_145_282),
        ("mlp_prefetch", 59_320_320),
    ],
)
def test_live_bytes_are_near_the_compilers_own(name, temp_bytes):
    """`memory_analysis()` is not in the text: the figures were printed beside it."""
    assert max(read(name).live_bytes) == pytest.approx(temp_bytes, rel=0.05)


def test_a_program_for_this_machine():
    def function(x, weights):
        return (GroupQuant(bit_width=8).encode(jnp.sin(x)).rows, x @ weights)

    x = jnp.ones((64, 64))
    found = epmc_jax.schedule(jax.jit(function).lower(x, x).compile())
    assert [c.target for c in found.calls] == ["epmc_group_quant_encode"]
    assert not found.calls[0].is_asynchronous


def test_a_mask_that_bytes_tell_is_a_decode():
    codec = SparseFixedRate()

    def function(x):
        encoded = codec.encode(jnp.maximum(x, 0))
        mask = codec.mask_codec(encoded.dtype)
        return mask.decode(dataclasses.replace(encoded, codec=mask, dtype=jnp.bool_))

    found = epmc_jax.schedule(jax.jit(function).lower(jnp.ones((4, 999))).compile())
    assert [c.direction for c in found.calls] == ["encode", "decode"]
    assert found.calls[1].target == "epmc_sparse_fixed_rate_mask"


def test_what_is_not_compiled_is_refused():
    text = jax.jit(jnp.sin).lower(1.0).as_text("hlo")
    with pytest.raises(ValueError, match=r"compile\(\)"):
        epmc_jax.schedule(text)


def test_the_table_sums_up():
    text = str(read("mlp"))
    assert "3 of 4 encode calls hidden" in text
    assert "custom-call" in text


@pytest.mark.parametrize("name", ["mlp", "scan"])
def test_the_picture(name, tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "lanes.png"
    figure = read(name).plot(str(path))
    assert path.stat().st_size > 0
    assert [a.get_ylabel() for a in figure.axes] == ["", "live MB"]


LIBRARY_IN_A_FUSION = """HloModule m, is_scheduled=true

%sliced (p: f32[4,64,64], i: s32[], x: f32[64,64]) -> (f32[64,64], s8[128]) {
  %p = f32[4,64,64]{2,1,0} parameter(0)
  %i = s32[] parameter(1)
  %x = f32[64,64]{1,0} parameter(2)
  %w = f32[1,64,64]{2,1,0} dynamic-slice(%p, %i), dynamic_slice_sizes={1,64,64}
  %b = f32[64,64]{1,0} bitcast(%w)
  ROOT %y = (f32[64,64]{1,0}, s8[128]{0}) custom-call(%x, %b), \
custom_call_target="__cublas$lt$matmul", backend_config={"gemm_backend_config":\
{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"]}}}
}

%encode (x: f32[64,64]) -> u8[64,32] {
  %x = f32[64,64]{1,0} parameter(0)
  ROOT %e = u8[64,32]{1,0} custom-call(%x), custom_call_target="epmc_group_quant_encode"
}

ENTRY %main (p: f32[4,64,64], i: s32[], x: f32[64,64]) -> u8[64,32] {
  %p = f32[4,64,64]{2,1,0} parameter(0)
  %i = s32[] parameter(1)
  %x = f32[64,64]{1,0} parameter(2)
  %start = ((f32[64,64]{1,0}), u8[64,32]{1,0}) call-start(%x), to_apply=%encode
  %f = (f32[64,64]{1,0}, s8[128]{0}) fusion(%p, %i, %x), kind=kCustom, calls=%sliced
  ROOT %done = u8[64,32]{1,0} call-done(%start)
}
"""


def test_a_product_in_a_fusion_takes_long():
    """As jax 0.12 has it in loops."""
    found = epmc_jax.schedule(LIBRARY_IN_A_FUSION)
    assert [c.beside for c in found.calls] == [("f",)]
    module = found.module
    cost = Costs(module).cost("main", module.computations["main"][4])
    assert cost.flops == 2 * 64**3
    assert cost.nbytes == 3 * 64 * 64 * 4 + 4
