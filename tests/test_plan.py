"""The plan: what will be stored, as table, JSON and picture."""

import json

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import epmc_jax
from epmc_jax import policies
from tests.models import Cnn, ConvBlock, cnn_loss


def test_the_sums_are_those_of_the_rows():
    loss, args = cnn_loss()
    plan = epmc_jax.plan(loss, *args)
    assert plan.stored_bytes == sum(r.encoded_bytes for r in plan.rows)
    assert plan.dense_bytes == sum(r.dense_bytes for r in plan.rows)
    assert plan.stored_bytes < plan.dense_bytes < plan.plain_bytes


def test_the_encoded_bytes_are_those_that_are_stored():
    """The residuals of the traced VJP have the sizes that the plan promised."""
    loss, args = cnn_loss()
    compressed = epmc_jax.compress(loss)

    def residuals(params):
        return jax.vjp(lambda p: compressed(p, *args[1:])[0], params)[1]

    shapes = jax.tree.leaves(jax.eval_shape(residuals, args[0]))
    codes = sum(s.size for s in shapes if s.dtype.name == "uint8")
    plan = epmc_jax.plan(compressed, *args)
    assert codes == sum(r.encoded_bytes for r in plan.rows if r.codec != "Raw")
    assert codes > 0


def test_a_plan_runs_nothing_and_takes_shapes():
    loss, args = cnn_loss()
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), args)
    assert (
        epmc_jax.plan(loss, *shapes).stored_bytes
        == epmc_jax.plan(loss, *args).stored_bytes
    )


def test_compressed_modules_inside_a_loss_are_found():
    loss, args = cnn_loss(Cnn(block=epmc_jax.compress(ConvBlock)))
    assert epmc_jax.plan(loss, *args).regions == 4


def test_what_jit_has_traced_before_is_found():
    loss, args = cnn_loss(Cnn(block=epmc_jax.compress(ConvBlock)))
    jitted = jax.jit(loss)
    jax.eval_shape(jax.grad(jitted, has_aux=True), *args)
    for _ in range(2):
        assert epmc_jax.plan(lambda *args: jitted(*args), *args).regions == 4


def test_the_table_names_site_codec_and_reason():
    loss, args = cnn_loss()
    text = str(epmc_jax.plan(loss, *args, policy=policies.balanced()))
    for part in (
        "ConvBlock_0/Conv_0",
        "GroupQuant(4)",
        "PoolIndex",
        "ratio",
        "live bytes",
    ):
        assert part in text


def test_json_has_every_row():
    loss, args = cnn_loss()
    plan = epmc_jax.plan(loss, *args)
    content = json.loads(plan.to_json())
    assert len(content["rows"]) == len(plan.rows)
    assert content["stored_bytes"] == plan.stored_bytes


def test_the_picture_is_written(tmp_path):
    loss, args = cnn_loss()
    epmc_jax.plan(loss, *args).plot(str(tmp_path / "plan.png"))
    assert (tmp_path / "plan.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("names", "width", "is_gathered"),
    [
        (("data", None), 64, False),
        (("data", "model"), 64, True),
        (("data", "model"), 128, False),
        (("data", PartitionSpec.UNCONSTRAINED), 64, False),
    ],
)
def test_what_is_gathered_is_noted(names, width, is_gathered):
    axes = ("data", "model")
    mesh = jax.sharding.AbstractMesh((2, 2), axes, axis_types=(AxisType.Auto,) * 2)
    split = NamedSharding(mesh, PartitionSpec(*names))

    def loss(x):
        return jnp.sum(jnp.sin(jax.lax.with_sharding_constraint(x * x, split)))

    x = jax.ShapeDtypeStruct((64, width), jnp.float32)
    text = str(epmc_jax.plan(loss, x))
    assert ("gathered before" in text) == is_gathered


def test_two_policies_are_refused():
    loss, args = cnn_loss()
    with pytest.raises(ValueError, match="compressed already"):
        epmc_jax.plan(epmc_jax.compress(loss), *args, policy=policies.exact())
