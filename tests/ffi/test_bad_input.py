"""What a handler must refuse: an error that names target, argument, value and limit."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from epmc_jax import _kernels
from tests.cuda.conftest import emulator, emulator_build  # noqa: F401  (fixtures)
from tests.ffi.targets import TARGETS, array

LIBRARIES = (
    pytest.param("", id="cpu"),
    pytest.param("_emulated", id="emulated", marks=pytest.mark.native),
)


@pytest.fixture(params=LIBRARIES)
def library(request):
    """What stands behind the name of a target: of the CPU library, nothing."""
    if request.param:
        target = request.node.callspec.params.get("target")
        if target is not None and not target.has_cuda:
            pytest.skip(f"{target.name} has no CUDA kernel")
        request.getfixturevalue("emulator")
    elif not _kernels.has_cpu_kernels():
        pytest.skip("no CPU library: pip install .")
    return request.param


def _call(target, library, arrays, attributes):
    operands = arrays[: len(target.operands)]
    results = tuple(arrays[len(target.operands) :])
    zeros = [jnp.zeros(one.shape, one.dtype) for one in operands]
    call = jax.ffi.ffi_call(target.name + library, results)
    run = jax.jit(lambda *xs: call(*xs, **attributes))
    return jax.block_until_ready(run(*zeros))


def _refusal(target, library, *, arrays=None, attributes=None):
    arrays = target.arrays() if arrays is None else arrays
    attributes = target.attributes if attributes is None else attributes
    with pytest.raises(jax.errors.JaxRuntimeError) as caught:
        _call(target, library, arrays, attributes)
    return str(caught.value)


def _with(target, place, **changes):
    """The arrays of the right call, one of them with another shape or dtype."""
    arrays = target.arrays()
    old = arrays[place]
    new = {"shape": old.shape, "dtype": old.dtype, **changes}
    arrays[place] = array(new["shape"], new["dtype"])
    return arrays


each_target = pytest.mark.parametrize("target", TARGETS, ids=lambda one: one.name)


@each_target
def test_the_right_call_is_accepted(target, library):
    _call(target, library, target.arrays(), target.attributes)


@each_target
def test_wrong_element_types(target, library):
    for dtype in ("complex64", "float8_e5m2"):
        arrays = _with(target, target.dense, dtype=dtype)
        message = _refusal(target, library, arrays=arrays)
        assert re.search(r"type of x|dtype", message), message


@each_target
def test_rows_of_another_element_type(target, library):
    message = _refusal(target, library, arrays=_with(target, target.rows, dtype="int8"))
    assert "dtype" in message


@each_target
def test_rows_of_another_shape(target, library):
    count, nbytes = target.arrays()[target.rows].shape
    wrong = {
        (count * nbytes,): "rank of rows is 1, expected 2",
        (count + 1, nbytes): f"number of rows is {count + 1}, expected {count}",
        (count, nbytes - 1): f"bytes per row is {nbytes - 1}, expected {nbytes}",
        (count, nbytes + 1): f"bytes per row is {nbytes + 1}, expected {nbytes}",
    }
    if target.rows < len(target.operands):  # XLA calls nothing for an empty result
        wrong[0, nbytes] = f"number of rows is 0, expected {count}"
        wrong[count, 0] = f"bytes per row is 0, expected {nbytes}"
    pools = re.search("pool", target.name)
    wrong[count, 2, nbytes] = (
        "rank of rows is 3, expected 2."
        if pools
        else f"number of rows is {2 * count}, expected"
    )
    for shape, expected in wrong.items():
        arrays = _with(target, target.rows, shape=shape)
        message = _refusal(target, library, arrays=arrays)
        assert f"{target.name}: {expected}" in message


@each_target
def test_attributes_out_of_range(target, library):
    for name, values in target.wrong_attributes.items():
        for value in values:
            for changed in _changed(target.attributes[name], value):
                attributes = {**target.attributes, name: changed}
                message = _refusal(target, library, attributes=attributes)
                assert f"{target.name}: " in message
                assert re.search(name.removesuffix("s"), message), message
                assert "expected" in message
                if isinstance(value, int):
                    assert str(value) in message


def _changed(right, value):
    """`value` of the attribute's type; of an array, with it in each place."""
    if np.ndim(right) == 0:
        return [type(right)(value)]
    arrays = [np.array(right) for _ in right]
    for place, one in enumerate(arrays):
        one[place] = value
    return arrays


@each_target
def test_missing_attributes(target, library):
    for name in target.attributes:
        attributes = {key: v for key, v in target.attributes.items() if key != name}
        message = _refusal(target, library, attributes=attributes)
        assert "Wrong number of attributes" in message  # XLA's own words


@each_target
def test_too_few_axes_in_an_attribute(target, library):
    for name, value in target.attributes.items():
        if np.ndim(value) == 1:
            attributes = {**target.attributes, name: value[:-1]}
            message = _refusal(target, library, attributes=attributes)
            assert f"{target.name}: number of axes" in message
            assert "is 3, expected 4" in message


def test_a_window_whose_size_overflows(library):
    target = next(one for one in TARGETS if one.name == "epmc_max_pool")
    attributes = {**target.attributes, "window": np.array([1, 2**32, 2**32, 1])}
    message = _refusal(target, library, attributes=attributes)
    assert "epmc_max_pool: window is 4294967296, expected 1 to 256" in message


@each_target
def test_no_rows(target, library):
    """Nothing to do is no error."""
    arrays = [array((0, *one.shape[1:]), one.dtype) for one in target.arrays()]
    _call(target, library, arrays, target.attributes)


def test_pin_refuses_a_result_of_another_size(library):
    call = jax.ffi.ffi_call(f"epmc_pin{library}", array((3,), "float32"))
    expected = "epmc_pin: bytes of the result is 12, expected 8"
    with pytest.raises(jax.errors.JaxRuntimeError, match=expected):
        jax.block_until_ready(jax.jit(call)(jnp.zeros(2)))
