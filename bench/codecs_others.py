"""Other packages beside the codecs of this one in `python -m bench codecs`.

All are optional (the `bench` extra has them), so each is imported where its row is
made. They get the same arrays, as many threads where they take a number of threads, and
their calls return a new result each, as ours do.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench.codecs_data import DENSE, FIFTH, HALF
from bench.codecs_subject import Calls, Subject
from epmc_jax.codecs import GroupQuant

GROUP = 256
F32 = ("float32",)


def _blosc2(codec: str, x: np.ndarray, threads: int) -> Calls:
    """Lossless: bits shuffled, then LZ4 or Zstandard at the default level, 5."""
    import blosc2

    options = {
        "codec": blosc2.Codec[codec],
        "filters": [blosc2.Filter.BITSHUFFLE],
        "typesize": x.dtype.itemsize,
        "nthreads": threads,
    }
    raw = x.view(f"u{x.dtype.itemsize}")  # it does not know bfloat16

    def decode(encoded: bytes) -> np.ndarray:
        out = np.empty_like(x)
        blosc2.decompress2(encoded, dst=out.view(raw.dtype), nthreads=threads)
        return out

    return Calls(lambda: blosc2.compress2(raw, **options), decode, len, x)


def _zfp(rate: int, x: np.ndarray, threads: int) -> Calls:
    """Fixed rate; the wheel has no parallel execution."""
    import zfpy

    del threads
    return Calls(
        encode=lambda: zfpy.compress_numpy(x, rate=rate),
        decode=zfpy.decompress_numpy,
        nbytes=len,
        expected=x,
        note="1 thread always",
    )


def _sz3(x: np.ndarray, threads: int) -> Calls:
    """Absolute error bound, chosen so that the relative error is GroupQuant 4's.

    Errors that are uniform within a bound `b` have a root mean square of `b / sqrt(3)`.
    From there, two steps of `b *= wanted / found` on a part of the array.
    """
    import pysz

    codec = GroupQuant(bit_width=4)
    part = np.ascontiguousarray(x[: max(1, len(x) // 16)])
    found = np.asarray(jax.jit(lambda x: codec.encode(x).decode())(part))
    wanted = float(np.sqrt(np.mean((found - part) ** 2)))
    bound = math.sqrt(3) * wanted
    for _ in range(2):
        encoded = _sz3_encode(pysz, part, bound, threads)
        found, _ = pysz.sz.decompress(encoded, part.dtype, part.shape)
        bound *= wanted / float(np.sqrt(np.mean((found - part) ** 2)))
    return Calls(
        encode=lambda: _sz3_encode(pysz, x, bound, threads),
        decode=lambda encoded: pysz.sz.decompress(encoded, x.dtype, x.shape)[0],
        nbytes=lambda encoded: encoded.nbytes,
        expected=x,
        note=f"absolute bound {bound:.3g}: the error of GroupQuant 4",
    )


def _sz3_encode(pysz: Any, x: np.ndarray, bound: float, threads: int) -> np.ndarray:
    config = pysz.szConfig(x.shape)
    config.errorBoundMode = pysz.szErrorBoundMode.ABS
    config.absErrorBound = bound
    config.openmp = threads > 1
    return pysz.sz.compress(x, config)[0]


def _scipy_csr(x: np.ndarray, threads: int) -> Calls:
    """One sparse row per image: float32 values, int32 indices and row starts."""
    import scipy.sparse

    del threads
    rows = x.reshape(len(x), -1)
    return Calls(
        encode=lambda: scipy.sparse.csr_array(rows),
        decode=lambda encoded: encoded.toarray().reshape(x.shape),
        nbytes=lambda csr: csr.data.nbytes + csr.indices.nbytes + csr.indptr.nbytes,
        expected=x,
        note="1 thread always",
    )


def _jnp(bit_width: int, x: np.ndarray, threads: int) -> Calls:
    """Symmetric, one float32 scale per 256 neighbours, as one would write it in jnp."""
    del threads
    top = 2 ** (bit_width - 1) - 1

    @jax.jit
    def encode(x: Any) -> Any:
        groups = x.reshape(-1, GROUP).astype(jnp.float32)
        scale = jnp.max(jnp.abs(groups), axis=1, keepdims=True) / top
        safe = jnp.where(scale > 0, scale, 1)
        codes = jnp.clip(jnp.round(groups / safe), -top, top).astype(jnp.int8)
        if bit_width == 4:
            # XLA:CPU keeps an int4 in a byte.
            codes = (codes[:, ::2] & 15) | (codes[:, 1::2] << 4)
        return codes, scale

    @jax.jit
    def decode(encoded: Any) -> Any:
        codes, scale = encoded
        if bit_width == 4:
            low = jnp.right_shift(jnp.left_shift(codes, 4), 4)
            codes = jnp.stack([low, jnp.right_shift(codes, 4)], axis=-1)
        groups = codes.reshape(-1, GROUP) * scale
        return groups.astype(x.dtype).reshape(x.shape)

    return _jax_calls(encode, decode, x)


def _qwix(bit_width: int, x: np.ndarray, threads: int) -> Calls:
    """Its quantised array: symmetric, one scale per 256 neighbours."""
    import qwix

    del threads
    qtype = {8: jnp.int8, 4: jnp.int4}[bit_width]

    @jax.jit
    def encode(x: Any) -> Any:
        tiles = {0: 1, 1: GROUP}
        return qwix.quantize(x.reshape(len(x), -1), qtype, tiled_axes=tiles)

    decode = jax.jit(lambda encoded: qwix.dequantize(encoded).reshape(x.shape))
    note = "XLA:CPU keeps an int4 in a byte" if bit_width == 4 else ""
    return _jax_calls(encode, decode, x, note=note)


def _jax_calls(encode: Any, decode: Any, x: np.ndarray, *, note: str = "") -> Calls:
    operand = jnp.asarray(x)
    return Calls(
        encode=lambda: encode(operand),
        decode=decode,
        nbytes=lambda encoded: sum(leaf.nbytes for leaf in jax.tree.leaves(encoded)),
        expected=x,
        note=note,
    )


def _other(name: str, data: str, make: Any, *arguments: Any, **options: Any) -> Subject:
    return Subject(name, data, functools.partial(make, *arguments), **options)


SUBJECTS = (
    _other("jnp int8", DENSE, _jnp, 8),
    _other("jnp int4", DENSE, _jnp, 4),
    _other("qwix int8", DENSE, _qwix, 8, package="qwix"),
    _other("qwix int4", DENSE, _qwix, 4, package="qwix"),
    _other("zfp, rate 8", DENSE, _zfp, 8, package="zfpy==1.0.1", dtypes=F32),
    _other("zfp, rate 4", DENSE, _zfp, 4, package="zfpy==1.0.1", dtypes=F32),
    _other("SZ3", DENSE, _sz3, package="pysz", dtypes=F32),
    *(
        _other(f"blosc2 {codec}", data, _blosc2, codec.upper(), package="blosc2")
        for data in (DENSE, HALF)
        for codec in ("lz4", "zstd")
    ),
    *(
        _other("scipy CSR", data, _scipy_csr, package="scipy", dtypes=F32)
        for data in (HALF, FIFTH)
    ),
)
