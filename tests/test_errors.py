"""Every error names the value, the limit and the way out."""

import ast
import pathlib
import traceback

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import epmc_jax
from epmc_jax import Policy, Rule, SecondOrderError, _kernels, codecs, policies

PACKAGE = pathlib.Path(epmc_jax.__file__).parent
X = jnp.linspace(-1, 1, 64 * 64).reshape(64, 64)


def total(x):
    return jnp.sum(jnp.tanh(x @ x) ** 2)


class Grows(nnx.Module):
    def __call__(self, x):
        self.seen = nnx.Variable(x)
        return x


def offloading(x):
    offload = jax.checkpoint_policies.offload_dot_with_no_batch_dims(
        "device", "pinned_host"
    )
    return jax.grad(epmc_jax.compress(total, policy=Policy(recompute=offload)))(x)


def stale_library():
    return _kernels._register.__wrapped__(
        _kernels._CPU_LIBRARY, ("epmc_of_tomorrow",), "cpu"
    )


def pool(*, window=(1, 2), strides=(1, 2), padding=((0, 0), (0, 0)), ways=1):
    return codecs.PoolIndex(window=window, strides=strides, padding=padding, ways=ways)


CUT_OFF = """HloModule jit_f, is_scheduled=true
ENTRY %main (x: f32[2]) -> f32[2] {
  %y = f32[2] add(%x, f32[2]"""
# What provokes the error; its class; its words for the value, the limit, the way out.
COMPRESS = [
    (lambda: epmc_jax.compress(3), TypeError, "got 3", "a function", "give what is"),
    (lambda: epmc_jax.compress(int), TypeError, "'int'", "a function", "give what is"),
    (lambda: epmc_jax.compress(nn.Dense(3)), TypeError, "instance of Dense",
     "class or method", "write compress(Dense)(...)"),
    (lambda: epmc_jax.compress(total, policy="8bit"), TypeError, "'8bit'", "a Policy",
     "epmc_jax.policies.balanced()"),
    (lambda: epmc_jax.compress(nn.Dense, encode_argnums=(1,)), ValueError, "(1,)",
     "for functions", "Leave it out"),
    (lambda: epmc_jax.compress(total, encode_argnums=(3,))(X), ValueError, "has 3",
     "has 1 positional", "give positions from 0"),
    (lambda: epmc_jax.compress(total, encode_argnums=-1)(X), ValueError, "has -1",
     "has 1 positional", "give positions from 0"),
    (lambda: epmc_jax.compress(Grows())(X), ValueError, "Grows",
     "can only change the values", "Create them in __init__"),
]  # fmt: skip
POLICY = [
    (lambda: Policy(codecs.Raw()), TypeError, "Raw", "takes rules", "write Rule("),
    (lambda: Policy(recompute="some"), ValueError, "'some'", "recompute must be",
     '"cheap", "none"'),
    (lambda: Policy(min_bytes=-1), ValueError, "got -1", "at least 0", "0 encodes"),
    (lambda: Policy(lag=-1), ValueError, "got -1", "at least 0", "1 beside the next"),
    (lambda: Policy(lag=0, prefetch=True), ValueError, "got 0", "at least 1",
     "start lag layers before"),
    (lambda: Policy(ways=0), ValueError, "got 0", "at least 1", "1 is for arrays"),
    (lambda: Rule(codec="int8"), TypeError, "'int8'", "must be a codec",
     "GroupQuant(bit_width=8)"),
    (lambda: Rule(codec=codecs.Raw(), kind="masks"), ValueError, "'masks'",
     "must be one of", "mask, index"),
    (lambda: Rule(codec=codecs.Raw(), path="("), ValueError, "'('",
     "regular expression", "escape"),
    (lambda: offloading(X), ValueError, "dot_general", "save or recompute",
     "without offloading"),
]  # fmt: skip
CODECS = [
    (lambda: codecs.GroupQuant(bit_width=5), ValueError, "got 5", "1, 2, 3, 4 or 8",
     "Round up: 5..7 -> 8"),
    (lambda: codecs.GroupQuant(group_size=100), ValueError, "got 100", "multiple of",
     "multiple of"),
    (lambda: codecs.GroupQuant(rounding="up"), ValueError, "'up'", "must be",
     '"nearest" or "stochastic"'),
    (lambda: codecs.GroupQuant(seed=-1), ValueError, "got -1", "2**32 - 1", "from 0"),
    (lambda: codecs.GroupQuant().encode(jnp.arange(3)), TypeError, "int32",
     "GroupQuant takes", "Raw() keeps any"),
    (lambda: codecs.IntPack(num_values=0), ValueError, "got 0", "1 to 2**32", "Raw()"),
    (lambda: codecs.Csr(capacity=0.0), ValueError, "got 0.0", "at most 1",
     "1 keeps any row"),
    (lambda: codecs.Narrow(dtype="int8"), ValueError, "'int8'", "must be one of",
     "GroupQuant keeps"),
    (lambda: codecs.Narrow(dtype="bfloat16", group_size=48), ValueError, "got 48",
     "multiple of 32 from 32", "to "),
    (lambda: codecs.SparseFixedRate(group_size=100), ValueError, "got 100",
     "must be one of", "(64, "),
    (lambda: codecs.SparseFixedRate(rate=99), ValueError, "got 99", "rate must be from",
     "Raw everything"),
    (lambda: codecs.SparseFixedRate(rate=1.5, group_size=64), ValueError, "got 1.5",
     "above 2.0 with group_size 64", "Raise rate or group_size"),
    (lambda: codecs.SparseFixedRate(rounding="up"), ValueError, "'up'", "must be",
     '"nearest" or "stochastic"'),
    (lambda: codecs.SparseFixedRate(seed=-1), ValueError, "got -1", "2**32 - 1",
     "from 0"),
    (lambda: codecs.BitMask(ways=-1), ValueError, "got -1", "at least 1",
     "1 is for arrays"),
    (lambda: pool(ways=2), ValueError, "got 2", "must be 1", "leave it out"),
    (lambda: pool(window=(1,)), ValueError, "got (1,)", "one entry per axis",
     "Axes without pooling have window 1"),
    (lambda: pool().encode(X[None]), ValueError, "(1, 64, 64)", "pools 2 axes",
     "for every axis"),
]  # fmt: skip
PLAN = [
    (lambda: epmc_jax.plan(epmc_jax.compress(total), X, policy=policies.exact()),
     ValueError, "policy= is given", "compressed already", "leave policy= out"),
    (lambda: epmc_jax.plan(total, X, policy="8bit"), TypeError, "'8bit'", "a Policy",
     "epmc_jax.policies.balanced()"),
    (lambda: epmc_jax.plan(total), ValueError, "no array", "first argument",
     "give the parameters"),
    (lambda: epmc_jax.plan(total, jnp.arange(4)), ValueError, "int32",
     "first argument", "as floats, first"),
]  # fmt: skip
DERIVATIVES = [
    (lambda: jax.jvp(epmc_jax.compress(total), (X,), (X,)), SecondOrderError,
     "forward-mode", "one backward pass", "with epmc_jax.disable():"),
    (lambda: jax.hessian(epmc_jax.compress(total))(X), SecondOrderError,
     "GroupQuant(bit_width=8", "have no derivative", "with epmc_jax.disable():"),
]  # fmt: skip
SCHEDULE = [
    (lambda: epmc_jax.schedule("HloModule jit_f"), ValueError, "no compiled program",
     "is_scheduled=true", "Give jax.jit(fun)"),
    (lambda: epmc_jax.schedule(CUT_OFF), ValueError, "'(%x, f32[2]'",
     "never closed", "give the whole text"),
]  # fmt: skip
LIBRARY = [
    (stale_library, ImportError, "epmc_of_tomorrow", "built from other sources",
     "`pip install .`"),
]  # fmt: skip
ERRORS = COMPRESS + POLICY + CODECS + PLAN + DERIVATIVES + SCHEDULE + LIBRARY


@pytest.mark.parametrize(
    ("provoke", "error", "value", "limit", "way_out"),
    ERRORS,
    ids=[f"{error.__name__}-{value}" for _, error, value, _, _ in ERRORS],
)
def test_an_error_names_value_limit_and_way_out(provoke, error, value, limit, way_out):
    with pytest.raises(error) as raised:
        provoke()
    assert raised.type is error
    text = " ".join(str(raised.value).split())
    for part in (value, limit, way_out):
        assert part in text, text


def test_every_raise_is_provoked():
    written = {
        (str(file), node.lineno)
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Raise)
    }
    reached = set()
    for provoke, *_ in ERRORS:
        try:
            provoke()
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            reached.update((frame.filename, frame.lineno) for frame in frames)
    assert written - reached == set()


def test_a_missing_library_is_a_warning_that_names_the_way_out():
    with pytest.warns(RuntimeWarning, match=r"absent\.so .* `pip install \.`"):
        assert not _kernels._register.__wrapped__("absent.so", (), "cpu")


def test_one_position_to_encode_may_be_given_without_a_tuple():
    one = epmc_jax.compress(lambda w, x: (jnp.sin(x) @ w).sum(), encode_argnums=1)
    assert epmc_jax.plan(one, X, X).stored_bytes > 0
