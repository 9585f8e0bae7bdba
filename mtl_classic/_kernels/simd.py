"""Vectors in registers for numba: a handful of intrinsics on LLVM's vector type.

A `lanes` argument is a tuple of zeros whose *length* says how many numbers a vector holds, in eights: `(0, 0)` means
16. Its value is never read; it is there because numba specializes functions on types, and the length of a tuple is a
part of its type; the empty tuple means one plain number, so that the same lines serve a vector of factors and a
linear weight. A vector lives only inside one compiled function: arrays go in, arrays come out.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

LANE_BLOCK = 8
# No "nnan", no "ninf": a compiler that may assume that there are no NaN removes the tests for unlabelled rows.
FAST_FLAGS = ("contract", "arcp", "nsz", "reassoc", "afn")


class Vector(types.Type):
    """The numba type of `n` numbers of type `dtype` in registers."""

    def __init__(self, dtype: types.Float, n: int) -> None:
        self.dtype = dtype
        self.n = n
        super().__init__(name=f"Vector({dtype}, {n})")

    @property
    def key(self) -> tuple[types.Float, int]:
        return self.dtype, self.n


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Vector) -> None:
        super().__init__(dmm, fe_type, _llvm_vector(fe_type))


def make_lanes(n: int) -> tuple[int, ...]:
    """Return the `lanes` argument for vectors of n numbers, n a multiple of 8."""
    return (0,) * (n // LANE_BLOCK)


@intrinsic
def pointer(typingctx, array):  # type: ignore[no-untyped-def]
    """Return where a flat, contiguous array's numbers start; None stays None.

    Inner functions take pointers, not arrays: numba counts references to an array at every call, and two counts per
    array and row cost more than the row.
    """
    if isinstance(array, types.NoneType):
        return array(array), lambda context, builder, signature, args: context.get_dummy_value()

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return context.make_array(signature.args[0])(context, builder, args[0]).data

    return types.CPointer(array.dtype)(array), codegen


@intrinsic
def line_numbers(typingctx, array):  # type: ignore[no-untyped-def]
    """Return how many numbers of the array's type a cache line of 64 bytes holds, a constant of the compiled code."""
    count = 512 // array.dtype.bitwidth
    return types.int64(array), lambda context, builder, signature, args: ir.Constant(ir.IntType(64), count)


@intrinsic
def load(typingctx, lanes, array, offset):  # type: ignore[no-untyped-def]
    """Return array[offset .

    Offset + n] as a vector, or the number array[offset] for `lanes` = (). The array is a flat, contiguous one or a
    `pointer`; the offset is not checked.
    """
    kind = _kind(array.dtype, lanes)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        pointer = _pointer(context, builder, signature.args[1], args[1], args[2], kind)
        return builder.load(pointer, align=array.dtype.bitwidth // 8)

    return kind(lanes, array, types.int64), codegen


@intrinsic
def store(typingctx, array, offset, value):  # type: ignore[no-untyped-def]
    """Write a vector to array[offset : offset + n], or a number to array[offset]."""
    kind = value if isinstance(value, Vector) else array.dtype

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1], kind)
        builder.store(args[2], pointer, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.int64, kind), codegen


@intrinsic
def prefetch(typingctx, array, offset):  # type: ignore[no-untyped-def]
    """Ask for the cache line of array[offset]: it will be read and written soon."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1], None)
        i32 = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, i32, i32, i32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [pointer, i32(0), i32(3), i32(1)])
        return context.get_dummy_value()

    return types.void(array, types.int64), codegen


@intrinsic
def fill(typingctx, lanes, array, number):  # type: ignore[no-untyped-def]
    """Return `number` in all places of a vector (or alone, for `lanes` = ()) of the array's type."""
    kind = _kind(array.dtype, lanes)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        value = context.cast(builder, args[2], signature.args[2], array.dtype)
        return _splat(builder, value, kind) if isinstance(kind, Vector) else value

    return kind(lanes, array, number), codegen


@intrinsic
def total(typingctx, a):  # type: ignore[no-untyped-def]
    """Return the sum over the places of a: halves are added to each other, so the order is fixed."""
    if not isinstance(a, Vector):
        return a(a), lambda context, builder, signature, args: args[0]

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        value, n = args[0], a.n
        while n > 1:
            n //= 2
            low, high = (_take(builder, value, range(i, i + n)) for i in (0, n))
            value = builder.fadd(low, high, flags=FAST_FLAGS)
        return builder.extract_element(value, ir.IntType(32)(0))

    return a.dtype(a), codegen


@intrinsic
def reciprocal_sqrt(typingctx, a):  # type: ignore[no-untyped-def]
    """Return 1 / sqrt(a) for a > 0, in float32 with a relative error below 1e-4.

    That is AVX-512's estimate as it is; elsewhere an estimate with a Newton step, or the true root. A step length
    needs no more, and the refinement would be a third of a row's arithmetic.
    """

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        dtype, n = (a.dtype, a.n) if isinstance(a, Vector) else (a, 0)
        if dtype == types.float32 and n in (0, 8, 16, 32) and _has_avx512():
            return _estimate(builder, args[0], n)
        return builder.fdiv(_constant(args[0].type, 1.0), _root(builder, args[0], dtype, n), flags=FAST_FLAGS)

    return a(a), codegen


@intrinsic
def square_root(typingctx, a):  # type: ignore[no-untyped-def]
    """Return sqrt(a), rounded correctly."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        dtype, n = (a.dtype, a.n) if isinstance(a, Vector) else (a, 0)
        return _root(builder, args[0], dtype, n, flags=())

    return a(a), codegen


def _root(builder, value, dtype, n, flags=FAST_FLAGS):  # type: ignore[no-untyped-def]
    function = ir.FunctionType(value.type, [value.type])
    name = f"llvm.sqrt.{f'v{n}' if n else ''}f{dtype.bitwidth}"
    return builder.call(cgutils.get_or_insert_function(builder.module, function, name), [value], fastmath=flags)


def _has_avx512() -> bool:
    """Whether numba compiles for a processor with AVX-512: the host's, unless its settings say otherwise."""
    if config.CPU_NAME is not None or config.CPU_FEATURES is not None:
        return False
    features = get_host_cpu_features()
    return bool(features.get("avx512f") and features.get("avx512vl"))


def _estimate(builder, value, n: int):  # type: ignore[no-untyped-def]
    if n == 32:
        halves = [_estimate(builder, _take(builder, value, range(i, i + 16)), 16) for i in (0, 16)]
        return builder.shuffle_vector(*halves, _places(range(32)))
    if n == 0:
        kind, mask = ir.VectorType(value.type, 4), ir.IntType(8)
        single = builder.insert_element(ir.Constant(kind, [0.0] * 4), value, ir.IntType(32)(0))
        function = ir.FunctionType(kind, [kind, kind, kind, mask])
        estimate = cgutils.get_or_insert_function(builder.module, function, "llvm.x86.avx512.rsqrt14.ss")
        return builder.extract_element(builder.call(estimate, [single] * 3 + [mask(1)]), ir.IntType(32)(0))
    mask = ir.IntType(n)
    function = ir.FunctionType(value.type, [value.type, value.type, mask])
    estimate = cgutils.get_or_insert_function(builder.module, function, f"llvm.x86.avx512.rsqrt14.ps.{32 * n}")
    return builder.call(estimate, [value, value, mask(2**n - 1)])


@intrinsic
def random_mask(typingctx, lanes, array, seed, keep):  # type: ignore[no-untyped-def]
    """Return a vector of 0 and 1 / keep, the latter with probability `keep`.

    A hash of the seed (int64, its low half counts) and the place, the same whenever it is asked for.
    """
    kind = _kind(array.dtype, lanes)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        integers = ir.VectorType(ir.IntType(32), kind.n)
        low = builder.trunc(args[2], ir.IntType(32))
        x = builder.add(_splat_int(builder, low, integers), ir.Constant(integers, _lane_salts(kind.n)))
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
            x = builder.mul(builder.xor(x, builder.lshr(x, _constant(integers, shift))), _constant(integers, factor))
        threshold = builder.fptoui(builder.fmul(args[3], args[3].type(2.0**24)), ir.IntType(32))
        kept = builder.icmp_unsigned(
            "<", builder.lshr(x, _constant(integers, 8)), _splat_int(builder, threshold, integers)
        )
        inverse = context.cast(builder, builder.fdiv(args[3].type(1.0), args[3]), types.float64, array.dtype)
        return builder.select(kept, _splat(builder, inverse, kind), _constant(_llvm_vector(kind), 0.0))

    return kind(lanes, array, types.int64, types.float64), codegen


def _lane_salts(n: int) -> list[int]:
    return [place * 0x9E3779B9 % 2**32 for place in range(n)]


def _splat_int(builder, number, kind):  # type: ignore[no-untyped-def]
    nothing = ir.Constant(kind, ir.Undefined)
    return builder.shuffle_vector(
        builder.insert_element(nothing, number, ir.IntType(32)(0)), nothing, _places([0] * kind.count)
    )


@intrinsic
def soft_threshold(typingctx, a, limit):  # type: ignore[no-untyped-def]
    """Return sign(a) · max(|a| − limit, 0), place by place, limit ≥ 0."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        value, edge = args[0], context.cast(builder, args[1], limit, a.dtype if isinstance(a, Vector) else a)
        edge = _splat(builder, edge, a) if isinstance(a, Vector) else edge
        zero = _constant(value.type, 0.0)
        minus = builder.fsub(zero, edge)
        above, below = builder.fcmp_ordered(">", value, edge), builder.fcmp_ordered("<", value, minus)
        shrunk = builder.select(above, builder.fsub(value, edge), builder.fadd(value, edge))
        return builder.select(builder.or_(above, below), shrunk, zero)

    return a(a, limit), codegen


@intrinsic
def _add(typingctx, a, b):  # type: ignore[no-untyped-def]
    return a(a, a), _elementwise("fadd")


@intrinsic
def _subtract(typingctx, a, b):  # type: ignore[no-untyped-def]
    return a(a, a), _elementwise("fsub")


@intrinsic
def _multiply(typingctx, a, b):  # type: ignore[no-untyped-def]
    return a(a, a), _elementwise("fmul")


@intrinsic
def _scale(typingctx, a, number):  # type: ignore[no-untyped-def]
    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        factor = context.cast(builder, args[1], number, a.dtype)
        return builder.fmul(args[0], _splat(builder, factor, a), flags=FAST_FLAGS)

    return a(a, number), codegen


@overload(operator.add)
def _overload_add(a, b):  # type: ignore[no-untyped-def]
    if isinstance(a, Vector) and a == b:
        return lambda a, b: _add(a, b)
    return None


@overload(operator.sub)
def _overload_subtract(a, b):  # type: ignore[no-untyped-def]
    if isinstance(a, Vector) and a == b:
        return lambda a, b: _subtract(a, b)
    return None


@overload(operator.mul)
def _overload_multiply(a, b):  # type: ignore[no-untyped-def]
    if isinstance(a, Vector) and a == b:
        return lambda a, b: _multiply(a, b)
    if isinstance(a, Vector) and isinstance(b, types.Number):
        return lambda a, b: _scale(a, b)
    return None


def _kind(dtype, lanes):  # type: ignore[no-untyped-def]
    return Vector(dtype, LANE_BLOCK * len(lanes)) if len(lanes) else dtype


def _llvm_vector(vector: Vector) -> ir.VectorType:
    number = ir.FloatType() if vector.dtype == types.float32 else ir.DoubleType()
    return ir.VectorType(number, vector.n)


def _pointer(context, builder, array_type, array, offset, kind):  # type: ignore[no-untyped-def]
    data = (
        array
        if isinstance(array_type, types.CPointer)
        else context.make_array(array_type)(context, builder, array).data
    )
    wanted = ir.IntType(8) if kind is None else context.get_value_type(kind)
    return builder.bitcast(builder.gep(data, [offset]), wanted.as_pointer())


def _splat(builder, number, vector: Vector):  # type: ignore[no-untyped-def]
    kind = _llvm_vector(vector)
    single = builder.insert_element(ir.Constant(kind, ir.Undefined), number, ir.IntType(32)(0))
    return builder.shuffle_vector(single, ir.Constant(kind, ir.Undefined), _places([0] * vector.n))


def _take(builder, value, places):  # type: ignore[no-untyped-def]
    return builder.shuffle_vector(value, ir.Constant(value.type, ir.Undefined), _places(places))


def _places(places):  # type: ignore[no-untyped-def]
    places = list(places)
    return ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places)


def _constant(kind, value):  # type: ignore[no-untyped-def]
    if isinstance(kind, ir.VectorType):
        return ir.Constant(kind, [ir.Constant(kind.element, value)] * kind.count)
    return ir.Constant(kind, value)


def _elementwise(operation: str):  # type: ignore[no-untyped-def]
    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return getattr(builder, operation)(*args, flags=FAST_FLAGS)

    return codegen


def aligned_zeros(size: int, dtype: Any = np.float32, alignment: int = 64) -> np.ndarray:
    """Return `size` zeros that start at a cache line, so that a row of 16 float32 is one line and not two."""
    itemsize = np.dtype(dtype).itemsize
    raw = np.zeros(size + alignment // itemsize, dtype=dtype)
    shift = (-raw.ctypes.data // itemsize) % (alignment // itemsize)
    return raw[shift : shift + size]
