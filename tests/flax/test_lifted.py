"""linen and nnx: other lifted transformations around and inside compressed modules."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import epmc_jax
from tests.models import relative_error, same_bits

X = jax.random.normal(jax.random.key(0), (8, 16, 64))
KEY = jax.random.key(1)


class Layer(nn.Module):
    """A residual layer with BatchNorm and dropout, as the body of a scan."""

    @nn.compact
    def __call__(self, x, _=None):
        y = nn.BatchNorm(use_running_average=False)(nn.Dense(64)(x))
        y = nn.Dropout(0.1, deterministic=False)(nn.gelu(y))
        return x + nn.Dense(64)(y), None


class Stack(nn.Module):
    """Two layers by name."""

    layer: type[nn.Module]

    @nn.compact
    def __call__(self, x, _=None):
        for i in range(2):
            x, _ = self.layer(name=f"layer_{i}")(x, None)
        return x, None


class Shared(nn.Module):
    """A layer whose parameters are those of its parent, by `share_scope`."""

    layer: type[nn.Module]

    def setup(self):
        self.inner = self.layer()
        nn.share_scope(self, self.inner)

    def __call__(self, x, _=None):
        return self.inner(x, None)


def scanned(layer):
    return nn.scan(
        layer,
        variable_axes={"params": 0, "batch_stats": 0},
        split_rngs={"params": True, "dropout": True},
        length=3,
    )


COMPRESS = epmc_jax.compress
LINEN = {
    "scan of compressed": (scanned(Layer), scanned(COMPRESS(Layer))),
    "compressed scan": (scanned(Layer), COMPRESS(scanned(Layer))),
    "remat of compressed": (nn.remat(Layer), nn.remat(COMPRESS(Layer))),
    "compressed remat": (nn.remat(Layer), COMPRESS(nn.remat(Layer))),
    "scan of compressed remat": (
        scanned(nn.remat(Layer)),
        scanned(COMPRESS(nn.remat(Layer))),
    ),
}


def linen_step(model):
    """Initial variables; value, statistics and gradients of one step."""
    variables = model.init({"params": KEY, "dropout": KEY}, X, None)

    def loss(params):
        (y, _), updates = model.apply(
            {**variables, "params": params},
            X,
            None,
            mutable=["batch_stats"],
            rngs={"dropout": KEY},
        )
        return (y**2).mean(), updates

    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    return variables, *step(variables["params"])


def check_linen(plain, compressed):
    expected, found = linen_step(plain), linen_step(compressed)
    assert same_bits(expected[0], found[0])
    assert relative_error(expected[1], found[1]) < 1e-6
    assert relative_error(expected[2], found[2]) < 0.02


@pytest.mark.parametrize(("plain", "compressed"), LINEN.values(), ids=LINEN)
def test_linen(plain, compressed):
    check_linen(plain(), compressed())


def test_share_scope():
    check_linen(Shared(Layer), Shared(COMPRESS(Layer)))
    check_linen(Shared(Layer), COMPRESS(Shared)(Layer))


def test_a_linen_instance_is_refused_with_advice():
    with pytest.raises(TypeError, match=r"compress\(Layer\)\(\.\.\.\)"):
        COMPRESS(Layer())


def test_checkpoints_are_interchangeable(tmp_path):
    """What the plain model saved is restored into the compressed one, and back."""
    checkpoint = pytest.importorskip("orbax.checkpoint")
    models = Stack(Layer), Stack(COMPRESS(Layer)), COMPRESS(Stack)(Layer)
    variables = [m.init({"params": KEY, "dropout": KEY}, X, None) for m in models]
    with checkpoint.StandardCheckpointer() as checkpointer:
        for i, saved in enumerate(variables):
            checkpointer.save(tmp_path / str(i), saved)
            checkpointer.wait_until_finished()
            for like in variables:
                restored = checkpointer.restore(tmp_path / str(i), like)
                assert same_bits(saved, restored)


class NnxLayer(nnx.Module):
    """`Layer` in nnx."""

    def __init__(self, rngs):
        self.up = nnx.Linear(64, 64, rngs=rngs)
        self.norm = nnx.BatchNorm(64, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.down = nnx.Linear(64, 64, rngs=rngs)

    def __call__(self, x):
        y = self.dropout(nnx.gelu(self.norm(self.up(x))))
        return x + self.down(y)


call = lambda layer, x: layer(x)  # noqa: E731


def nnx_step(call, num_layers=None):
    """Value, gradients, and state after one step; scanned over `num_layers`."""

    def make(rngs):
        return NnxLayer(rngs)

    if num_layers is not None:
        make = nnx.split_rngs(splits=num_layers)(nnx.vmap(make))
    layer = make(nnx.Rngs(0))

    def loss(layer, x):
        return (call(layer, x) ** 2).mean()

    value, gradients = nnx.jit(nnx.value_and_grad(loss))(layer, X)
    state = nnx.to_pure_dict(nnx.state(layer, nnx.BatchStat))
    counts = jax.tree.leaves(nnx.to_pure_dict(nnx.state(layer, nnx.RngCount)))
    return (value, state), nnx.to_pure_dict(gradients), [c.tolist() for c in counts]


def nnx_scan(call):
    return nnx.scan(
        lambda x, layer: call(layer, x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry
    )


def of_scan(scan):
    return lambda layer, x: scan(x, layer)


NNX = {
    "remat of compressed": (nnx.remat(call), nnx.remat(COMPRESS(call)), None),
    "compressed remat": (nnx.remat(call), COMPRESS(nnx.remat(call)), None),
    "jit of compressed": (nnx.jit(call), nnx.jit(COMPRESS(call)), None),
    "compressed jit": (nnx.jit(call), COMPRESS(nnx.jit(call)), None),
    "scan of compressed": (
        of_scan(nnx_scan(call)),
        of_scan(nnx_scan(COMPRESS(call))),
        3,
    ),
    "compressed scan": (of_scan(nnx_scan(call)), COMPRESS(of_scan(nnx_scan(call))), 3),
}


def test_nnx_checkpoints_are_interchangeable(tmp_path):
    """Plain saves, compressed restores and computes the same; and back."""
    checkpoint = pytest.importorskip("orbax.checkpoint")
    kept = (nnx.Param, nnx.BatchStat)
    makes = NnxLayer, COMPRESS(NnxLayer)
    with checkpoint.StandardCheckpointer() as checkpointer:
        for i, (saves, restores) in enumerate((makes, makes[::-1])):
            saved, restored = saves(rngs=nnx.Rngs(0)), restores(rngs=nnx.Rngs(1))
            saved(X)  # so that the statistics are not those of the start
            checkpointer.save(tmp_path / str(i), nnx.state(saved, kept))
            checkpointer.wait_until_finished()
            like = nnx.state(restored, kept)
            assert not same_bits(nnx.state(saved, kept), like)
            nnx.update(restored, checkpointer.restore(tmp_path / str(i), like))
            assert same_bits(nnx.state(saved, kept), nnx.state(restored, kept))
            for layer in (saved, restored):
                layer.eval()
            assert same_bits(saved(X), restored(X))


@pytest.mark.parametrize(("plain", "compressed", "num_layers"), NNX.values(), ids=NNX)
def test_nnx(plain, compressed, num_layers):
    expected, found = nnx_step(plain, num_layers), nnx_step(compressed, num_layers)
    assert relative_error(expected[0], found[0]) < 1e-6
    assert relative_error(expected[1], found[1]) < 0.02
    assert expected[2] == found[2]
    assert jnp.isfinite(found[0][0])
