"""The recurrence of `causal_solve` in one launch: a program takes a group of an image through all diagonals.

The points of an anti-diagonal are the rows of matrix products with the taps. The taps are loaded once, where
they fit, and stay in shared memory; what a point looks back to was written by the same program a few
diagonals before and comes from the first cache. Programs never wait for each other.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

WIDEST = 128  # channels of a group, for whose products registers suffice
_SHARED = 60 << 10  # bytes of the two sides of a product; the smallest limit of the cards in use is 64 KiB
_LANES = 128  # points at once; longer diagonals come in pieces


def solve(y: Tensor, taps: Tensor, flips: Tensor) -> Tensor:
    """Return x for y `(batch, channel, row, column)`, contiguous, and taps of `divide_by_corner`.

    `flips` `(group,)` has bit 0 set for reversed rows and bit 1 for reversed columns.
    """
    batch, _, rows, columns = y.shape
    groups = len(taps)
    # (group, tap, in, out): the corner comes last.
    matrices = taps.permute(0, 3, 4, 2, 1).flatten(1, 2)
    corner, others = matrices[:, -1].contiguous(), matrices[:, :-1].neg().contiguous()
    x = torch.empty_like(y)
    options = choose(rows, columns, *taps.shape[2:])
    with torch.cuda.device_of(y):
        wavefront[(batch * groups,)](  # pyright: ignore[reportIndexIssue]
            y, corner, others, flips.to(y.device), x, rows, columns, groups, **options
        )
    return x


def choose(rows: int, columns: int, c: int, up: int, left: int) -> dict[str, int]:
    """Return what the kernel is compiled for, with taps `(c, up, left)`; `tl.dot` wants sizes from 16 on."""
    lanes = min(_LANES, max(16, triton.next_power_of_2(min(rows, columns))))
    out = max(16, triton.next_power_of_2(c))
    depth = max(16, triton.next_power_of_2((up * left - 1) * c))
    block = depth
    while block > 16 and 4 * block * (lanes + out) > _SHARED:
        block //= 2
    sizes = {
        "C": c,
        "UP": up - 1,
        "LEFT": left - 1,
        "LANES": lanes,
        "OUT": out,
        "DEPTH": depth,
        "BLOCK": block,
    }
    # One stage: no load may move ahead of the diagonal that it depends on.
    return {**sizes, "num_warps": min(16, max(4, lanes * out // 128)), "num_stages": 1}


@triton.jit
def wavefront(
    y,
    corner,
    others,
    flips,
    x,
    rows,
    columns,
    groups,
    C: tl.constexpr,
    UP: tl.constexpr,
    LEFT: tl.constexpr,
    LANES: tl.constexpr,
    OUT: tl.constexpr,
    DEPTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Solve one group of one image; taps are matrices `(in, out)`, those of `others` with a minus."""
    program = tl.program_id(0)
    group = program % groups
    plane = rows * columns
    taken = ((UP + 1) * (LEFT + 1) - 1) * C
    flip = tl.load(flips + group)
    down = tl.where((flip & 1) != 0, -columns, columns)
    across = tl.where((flip & 2) != 0, -1, 1)
    origin = program.to(tl.int64) * C * plane
    origin += tl.where((flip & 1) != 0, (rows - 1) * columns, 0)
    origin += tl.where((flip & 2) != 0, columns - 1, 0)

    channel = tl.arange(0, OUT)
    real = channel < C
    square = group * C * C + channel[:, None] * C + channel[None, :]
    inverse = tl.load(corner + square, mask=real[:, None] & real[None, :], other=0.0)
    first_block = tl.arange(0, BLOCK)
    if BLOCK == DEPTH:
        place = group * taken * C + first_block[:, None] * C + channel[None, :]
        weights = tl.load(others + place, mask=(first_block < taken)[:, None] & real[None, :], other=0.0)

    for d in range(rows + columns - 1):
        low = tl.maximum(0, d - columns + 1)
        high = tl.minimum(rows, d + 1)
        for first in range(low, high, LANES):
            row = first + tl.arange(0, LANES)
            column = d - row
            inside = (row < high)[:, None] & real[None, :]
            here = origin + row * down + column * across
            at = here[:, None] + channel[None, :] * plane
            right = tl.load(y + at, mask=inside, other=0.0)
            values = tl.dot(right, inverse, input_precision="ieee")
            for start in range(0, DEPTH, BLOCK):
                entry = start + first_block
                tap = entry // C
                a = UP - tap // (LEFT + 1)
                b = LEFT - tap % (LEFT + 1)
                back = (entry % C) * plane - a * down - b * across
                behind = (row[:, None] >= a[None, :]) & (column[:, None] >= b[None, :])
                seen = behind & (row < high)[:, None] & (entry < taken)[None, :]
                window = tl.load(x + here[:, None] + back[None, :], mask=seen, other=0.0)
                if BLOCK < DEPTH:
                    place = group * taken * C + entry[:, None] * C + channel[None, :]
                    weights = tl.load(
                        others + place, mask=(entry < taken)[:, None] & real[None, :], other=0.0
                    )
                values = tl.dot(window, weights, values, input_precision="ieee")
            tl.store(x + at, values, mask=inside)
        tl.debug_barrier()  # the next diagonal reads what other threads of this program wrote
