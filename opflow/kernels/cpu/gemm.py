"""Matrix product of small float32 matrices at addresses, close to the peak of one core.

BLAS libraries reach half of the peak, or less, where one side has the few dozen rows or columns of a layer's
channels, and cannot be called from compiled code without a dispatch per product. This is the register tile at
the heart of such libraries (Van Zee and van de Geijn, BLIS, 2015): R rows by V vectors of the result stay in
registers while rank-one updates stream by.
"""

from llvmlite import binding, ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from opflow.kernels.cpu.team import compiled

# As many as a register of this machine holds.
_LANES = 16 if binding.get_host_cpu_features().get("avx512f") else 8
_INT, _LANE, _FLOAT = ir.IntType(64), ir.IntType(32), ir.FloatType()
_VECTOR, _MASK = ir.VectorType(_FLOAT, _LANES), ir.VectorType(ir.IntType(1), _LANES)


def _tile(rows: int, vectors: int):
    """Return a function that computes C = S + A B for `rows` rows and `vectors` vectors of C.

    Addresses and strides between rows (and columns of A), in elements; `start` 0 stands for S = 0. A
    one-vector tile touches only the first `width` lanes.
    """
    name = f"opflow_tile_{rows}_{vectors}"

    @intrinsic
    def tile(typing, c, c_row, a, a_row, a_col, b, b_row, depth, start, start_row, width):
        def generate(context, builder, signature, arguments):
            function = _function(builder, name, ir.VoidType(), [_INT] * 11)
            if function.is_declaration:
                function.linkage = "internal"
                function.attributes.add("noinline")  # once in a library, not at each of many calls
                _write_tile(ir.IRBuilder(function.append_basic_block()), function.args, rows, vectors)
            builder.call(function, arguments)
            return context.get_dummy_value()

        return types.void(*(types.intp,) * 11), generate

    return tile


def _write_tile(builder, arguments, rows: int, vectors: int) -> None:
    c, c_row, a, a_row, a_col, b, b_row, depth, start, start_row, width = arguments
    memory = _Lanes(builder, width if vectors == 1 else None)
    row_c, row_a, step_a, step_b, row_s = (
        builder.mul(s, ir.Constant(_INT, 4)) for s in (c_row, a_row, a_col, b_row, start_row)
    )
    places = [(r, 4 * _LANES * v) for r in range(rows) for v in range(vectors)]
    registers = [cgutils.alloca_once_value(builder, _zero()) for _ in places]
    with builder.if_then(builder.icmp_signed("!=", start, ir.Constant(_INT, 0))):
        for place, register in zip(places, registers):
            builder.store(memory.load(_offset(builder, start, row_s, *place)), register)
    multiply_add = _function(builder, f"llvm.fmuladd.v{_LANES}f32", _VECTOR, [_VECTOR] * 3)
    with cgutils.for_range(builder, depth) as loop:
        at_a = builder.add(a, builder.mul(loop.index, step_a))
        at_b = builder.add(b, builder.mul(loop.index, step_b))
        right = [memory.load(_offset(builder, at_b, None, 0, 4 * _LANES * v)) for v in range(vectors)]
        for r in range(rows):
            left = memory.spread(_offset(builder, at_a, row_a, r))
            for register, vector in zip(registers[r * vectors :], right):
                total = builder.call(multiply_add, [left, vector, builder.load(register)])
                builder.store(total, register)
    for place, register in zip(places, registers):
        memory.store(builder.load(register), _offset(builder, c, row_c, *place))
    builder.ret_void()


class _Lanes:
    """Moves vectors between addresses and registers, all lanes or the first `width`."""

    def __init__(self, builder, width):
        self.builder, self.mask = builder, None
        if width is not None:
            lanes = ir.Constant(ir.VectorType(_INT, _LANES), list(range(_LANES)))
            self.mask = builder.icmp_signed("<", lanes, _splat(builder, width))

    def load(self, address):
        pointer = self.builder.inttoptr(address, _VECTOR.as_pointer())
        if self.mask is None:
            return self.builder.load(pointer, align=4)
        arguments = [_VECTOR.as_pointer(), _LANE, _MASK, _VECTOR]
        function = _function(self.builder, f"llvm.masked.load.v{_LANES}f32.p0", _VECTOR, arguments)
        return self.builder.call(function, [pointer, ir.Constant(_LANE, 4), self.mask, _zero()])

    def store(self, vector, address):
        pointer = self.builder.inttoptr(address, _VECTOR.as_pointer())
        if self.mask is None:
            self.builder.store(vector, pointer, align=4)
            return
        arguments = [_VECTOR, _VECTOR.as_pointer(), _LANE, _MASK]
        function = _function(self.builder, f"llvm.masked.store.v{_LANES}f32.p0", ir.VoidType(), arguments)
        self.builder.call(function, [vector, pointer, ir.Constant(_LANE, 4), self.mask])

    def spread(self, address):
        scalar = self.builder.load(self.builder.inttoptr(address, _FLOAT.as_pointer()), align=4)
        return _splat(self.builder, scalar)


def _zero():
    return ir.Constant(_VECTOR, [0.0] * _LANES)


def _splat(builder, scalar):
    kind = ir.VectorType(scalar.type, _LANES)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(_LANE, 0))
    places = ir.Constant(ir.VectorType(_LANE, _LANES), [0] * _LANES)
    return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), places)


def _offset(builder, address, row, r: int, extra: int = 0):
    at = builder.add(address, builder.mul(row, ir.Constant(_INT, r))) if r else address
    return builder.add(at, ir.Constant(_INT, extra))


def _function(builder, name: str, result, arguments):
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, arguments), name)


_wide_6, _wide_4, _wide_1 = _tile(6, 2), _tile(4, 2), _tile(1, 2)
_narrow_12, _narrow_4, _narrow_1 = _tile(12, 1), _tile(4, 1), _tile(1, 1)


def _multiply(c, c_row, a, a_row, a_col, b, b_row, m, n, k, start, start_row):
    while n > 0:  # a panel of columns of B stays in the first cache while all rows of A go by
        width = 2 * _LANES if n >= 2 * _LANES else min(_LANES, n)
        ci, ai, si, rows = c, a, start, m
        while rows > 0:
            if width == 2 * _LANES:
                if rows >= 12 or rows == 10 or rows == 6:  # leave fours, not ones
                    _wide_6(ci, c_row, ai, a_row, a_col, b, b_row, k, si, start_row, width)
                    done = 6
                elif rows >= 4:
                    _wide_4(ci, c_row, ai, a_row, a_col, b, b_row, k, si, start_row, width)
                    done = 4
                else:
                    _wide_1(ci, c_row, ai, a_row, a_col, b, b_row, k, si, start_row, width)
                    done = 1
            elif rows >= 12:
                _narrow_12(ci, c_row, ai, a_row, a_col, b, b_row, k, si, start_row, width)
                done = 12
            elif rows >= 4:
                _narrow_4(ci, c_row, ai, a_row, a_col, b, b_row, k, si, start_row, width)
                done = 4
            else:
                _narrow_1(ci, c_row, ai, a_row, a_col, b, b_row, k, si, start_row, width)
                done = 1
            ci += 4 * done * c_row
            ai += 4 * done * a_row
            si += 4 * done * start_row if start else 0
            rows -= done
        n -= width
        b += 4 * width
        c += 4 * width
        start += 4 * width if start else 0


def _external(function):
    """Return a function for other kernels that calls a compiled one where it is: they need no copy of it."""
    symbol = function.__qualname__
    binding.add_symbol(symbol, function.address)

    @intrinsic
    def call(typing, c, c_row, a, a_row, a_col, b, b_row, m, n, k, start, start_row):
        def generate(context, builder, signature, arguments):
            builder.call(_function(builder, symbol, ir.VoidType(), [_INT] * 12), arguments)
            return context.get_dummy_value()

        return types.void(*(types.int64,) * 12), generate

    return call


# C = S + A B for A (m, k) of any strides, B (k, n), C and S (m, n) with unit columns. S may be C, to add to,
# or one row for all with stride 0, a bias, or none with address 0.
multiply = _external(compiled(_multiply, types.void(*(types.int64,) * 12)))


@njit(nogil=True, error_model="numpy")
def multiply_blocks(c, a, b, m, n, k, blocks, start, start_row):
    """Multiply the columns of each block of A `(m, blocks * k)` by a matrix of its own: C `(m, blocks * n)`.

    B holds the matrices `(k, n)` one behind the other; C and A have no gaps between rows.
    """
    for j in range(blocks):
        at = start + 4 * j * n if start else 0
        c_j, a_j, b_j = c + 4 * j * n, a + 4 * j * k, b + 4 * j * k * n
        multiply(c_j, blocks * n, a_j, blocks * k, 1, b_j, n, m, n, k, at, start_row)


@njit(nogil=True, error_model="numpy")
def add_outer_blocks(c, a, b, m, n, k, blocks):
    """Add to each matrix `(n, k)` at C the sum over rows of outer products of its columns of A and of B.

    A is `(m, blocks * n)`, B `(m, blocks * k)`.
    """
    for j in range(blocks):
        c_j, a_j, b_j = c + 4 * j * n * k, a + 4 * j * n, b + 4 * j * k
        multiply(c_j, k, a_j, 1, blocks * n, b_j, blocks * k, n, k, m, c_j, k)
