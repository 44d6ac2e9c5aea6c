"""What runs beside the layers in a program for NVIDIA GPUs: as it is handed to XLA."""

import re

import flax.linen
import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import epmc_jax
from epmc_jax import Policy, Rule, _kernels, codecs

CODEC = codecs.GroupQuant(bit_width=8)
X = jax.ShapeDtypeStruct((64, 256), jnp.float32)
LAYERS = [jax.ShapeDtypeStruct((256, 256), jnp.float32)] * 4
STREAMS = "_xla_stream_annotation"


@pytest.fixture(autouse=True)
def library(monkeypatch):
    """As if the CUDA library were there: nothing is compiled."""
    targets = _kernels._CUDA_TARGETS
    monkeypatch.setattr(_kernels, "has_cuda_kernel", lambda target: target in targets)
    monkeypatch.setenv("XLA_FLAGS", "")
    _kernels._has_streams.cache_clear()
    jax.clear_caches()
    yield
    _kernels._has_streams.cache_clear()
    jax.clear_caches()


def mlp(layers, x):
    for weights in layers:
        x = jnp.sin(x @ weights)
    return (x**2).mean()


def policy(**options):
    return Policy(Rule(kind="dense", codec=CODEC), **options)


def lowered(fun, *args):
    return jax.jit(fun).trace(*args).lower(lowering_platforms=("cuda",)).as_text()


def gradient(fun=mlp, **options):
    return jax.grad(epmc_jax.compress(fun, policy=policy(**options)))


def num_encoded():
    """Residuals of `mlp` that are encoded."""
    rows = epmc_jax.plan(mlp, LAYERS, X, policy=policy()).rows
    return sum(row.codec.startswith("GroupQuant") for row in rows)


def on_stream(text, stream):
    """Calls on that stream; what they call has the annotation too."""
    return len(re.findall(rf'call @xla_metadata_call.*{STREAMS} = "{stream}"', text))


def test_encodes_are_on_a_stream_of_their_own():
    text = lowered(gradient(), LAYERS, X)
    assert on_stream(text, 1) == num_encoded()
    assert on_stream(text, 2) == 0
    assert "epmc_group_quant_decode" not in text


def test_lag_0_has_no_streams():
    text = lowered(gradient(lag=0), LAYERS, X)
    assert STREAMS not in text
    assert "epmc_group_quant_encode" in text


def test_prefetch_decodes_each_residual_once_on_another_stream():
    text = lowered(gradient(prefetch=True), LAYERS, X)
    assert on_stream(text, 1) == num_encoded()
    assert on_stream(text, 2) == num_encoded()


def test_a_flag_that_forbids_streams_is_told(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", f"{_kernels._STREAMS_FLAG}=false")
    with pytest.warns(RuntimeWarning, match="not hidden"):
        text = lowered(gradient(), LAYERS, X)
    assert STREAMS not in text
    assert "epmc_group_quant_encode" in text


def test_the_last_of_two_flags_counts(monkeypatch):
    flag = _kernels._STREAMS_FLAG
    monkeypatch.setenv("XLA_FLAGS", f"{flag}=false {flag}=true")
    assert STREAMS in lowered(gradient(), LAYERS, X)


ONE_OPERAND = re.compile(r"(%\d+) = stablehlo.optimization_barrier (%\d+) :")
BARRIER = re.compile(r"%\d+:\d+ = stablehlo.optimization_barrier (.*?) :")


def test_an_encode_is_waited_for_before_a_max_pool():
    """Else what was encoded is in memory beside the pool's operand and its result."""

    def network(layers, x):
        x = jnp.sin(jnp.sin(x @ layers[0]) @ layers[1]).reshape(1, 8, 8, 256)
        pooled = flax.linen.max_pool(x, (2, 2), (2, 2)).reshape(16, 256)
        return (jnp.sin(pooled @ layers[2]) ** 2).mean()

    compressed = epmc_jax.compress(network, policy=epmc_jax.policies.balanced())
    text = lowered(jax.grad(compressed), LAYERS, X)
    before, pool, _ = text.partition("epmc_max_pool")
    assert pool
    encodes = re.findall(rf'(%\d+) = call @xla_metadata_call.*{STREAMS} = "1"', before)
    awaited = [
        name
        for operands in BARRIER.findall(before)
        for name in re.findall(r"%\d+", operands)
    ]
    assert encodes[0] in awaited


@pytest.mark.parametrize("lag", [1, 2])
def test_an_encode_is_waited_for_lag_layers_later(lag):
    """The barrier that has its bytes is between two later matrix products."""
    lines = lowered(gradient(lag=lag), LAYERS, X).splitlines()
    products = [i for i, line in enumerate(lines) if "dot_general" in line]
    encodes = [line.split()[0] for line in lines if f'{STREAMS} = "1"' in line]
    same = dict(found.groups() for found in map(ONE_OPERAND.search, lines) if found)

    def origin(name):
        return origin(same[name]) if name in same else name

    waited = {}
    for i, line in enumerate(lines):
        if found := BARRIER.search(line):
            names = {origin(name.strip()) for name in found[1].split(",")}
            waited = dict.fromkeys(names.intersection(encodes), i) | waited
    for layer, rows in enumerate(encodes[: 4 - lag]):
        assert products[layer + lag] < waited[rows] < products[layer + lag + 1]


def test_what_a_call_reads_is_written_first():
    """A barrier of its own: XLA would take it from a kernel with several results when
    the call is awaited."""
    alone = re.compile(r" = stablehlo.optimization_barrier %\d+ : tensor")
    assert len(alone.findall(lowered(gradient(), LAYERS, X))) == num_encoded()
    assert not alone.findall(lowered(gradient(lag=0), LAYERS, X))


@pytest.mark.parametrize("lag", [1, 2])
def test_a_decode_starts_lag_layers_before_its_use(lag):
    """What it waits for moves on with the layers, `lag` layers behind."""
    text = lowered(gradient(prefetch=True, lag=lag), 2 * LAYERS, X)
    of_layers = r"tensor<64x288xui8>, tensor<64x256xf32>"
    call = rf'call @xla_metadata_call\w*\(%\w+, (%\w+)\).*{STREAMS} = "2".*{of_layers}'
    # The last layer, the one before it whose activation it reads, and `lag` more wait
    # for the cotangent of the loss, a number.
    assert len({*re.findall(call, text)}) == 2 * len(LAYERS) - 2 - lag


def test_vmap_keeps_the_streams():
    x = jax.ShapeDtypeStruct((3, *X.shape), X.dtype)
    text = lowered(jax.vmap(gradient(prefetch=True), in_axes=(None, 0)), LAYERS, x)
    assert on_stream(text, 1) == num_encoded()
    assert on_stream(text, 2) == num_encoded()


def test_scan_keeps_the_streams():
    def scanned(layers, x):
        return (jax.lax.scan(lambda x, w: (jnp.sin(x @ w), None), x, layers)[0]).sum()

    layers = jax.ShapeDtypeStruct((4, 256, 256), jnp.float32)
    text = lowered(gradient(scanned, prefetch=True), layers, X)
    assert on_stream(text, 1) >= 2
    assert on_stream(text, 2) >= 2


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
def test_sharding_keeps_the_streams(axis_type):
    mesh = jax.make_mesh((1,), ("data",), axis_types=(axis_type,))
    split = NamedSharding(mesh, PartitionSpec("data"))
    whole = NamedSharding(mesh, PartitionSpec())
    with jax.set_mesh(mesh):
        layers = [
            jax.ShapeDtypeStruct(w.shape, w.dtype, sharding=whole) for w in LAYERS
        ]
        x = jax.ShapeDtypeStruct(X.shape, X.dtype, sharding=split)
        text = lowered(gradient(), layers, x)
    assert STREAMS in text


@pytest.mark.parametrize(
    "options",
    [{"lag": 0}, {"lag": 2}, {"prefetch": True}, {"lag": 2, "prefetch": True}],
)
def test_on_the_cpu_nothing_changes(options):
    keys = jax.random.split(jax.random.key(0), 5)
    layers = [
        jax.random.normal(k, w.shape) / 16
        for k, w in zip(keys[:4], LAYERS, strict=True)
    ]
    x = jax.random.normal(keys[4], X.shape)
    plain, other = jax.jit(gradient()), jax.jit(gradient(**options))
    for a, b in zip(plain(layers, x), other(layers, x), strict=True):
        assert jnp.array_equal(a, b)
    temps = [
        fun.lower(layers, x).compile().memory_analysis().temp_size_in_bytes
        for fun in (plain, other)
    ]
    assert temps[0] == temps[1]


def test_prefetch_under_vmap_is_right():
    keys = jax.random.split(jax.random.key(0), 5)
    layers = [
        jax.random.normal(k, w.shape) / 16
        for k, w in zip(keys[:4], LAYERS, strict=True)
    ]
    x = jax.random.normal(keys[4], (3, *X.shape))
    mapped = jax.vmap(gradient(prefetch=True), in_axes=(None, 0))(layers, x)
    for i in range(3):
        one = gradient()(layers, x[i])
        for a, b in zip(mapped, one, strict=True):
            assert jnp.allclose(a[i], b, rtol=1e-2, atol=1e-4)


def test_a_cast_gradient_is_tied_as_it_is_returned():
    """Else the barrier has an element without a reader, and XLA drops it."""

    def mixed(layers, x):
        return mlp([w.astype(jnp.bfloat16) for w in layers], x.astype(jnp.bfloat16))

    lines = lowered(gradient(mixed), LAYERS, X).splitlines()
    square = "tensor<256x256xf32>"
    tied = [line for line in lines if "optimization_barrier" in line and square in line]
    # The first layer's leads nowhere: nothing comes behind it.
    assert len(tied) == len(LAYERS) - 1
    returned = next(line for line in lines if "return" in line and square in line)
    names = [line.split()[0].partition(":")[0] for line in tied]
    assert sum(f"{name}#" in returned for name in names) == len(names)
