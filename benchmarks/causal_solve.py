"""causal_solve in float32 with 3x3 kernels, beside F.conv2d and three other ways to solve.

    python benchmarks/causal_solve.py
    python benchmarks/causal_solve.py --shapes 4,3,8,8 --sides 8 16 --repeats 3

For each shape (batch, channels, rows, columns): seconds of the solution, and of the solution with its
gradients for the right-hand side and the kernel, against

- F.conv2d with the same kernel: what the opposite direction of the flow costs;
- anti-diagonals in plain torch, one batched product each (the reference of `opflow.kernels`), backward by the
  transposed solve and one weight gradient, as ours;
- substitution point by point in raster order, all images at once, likewise;
- Gaussian elimination of the assembled matrix with torch's own gradient, up to 4096 unknowns.

Then the exponent e of time per point ~ side^e, fitted at batch 32. Wall time on two threads, both sides in
turn; before, all are checked to agree.
"""

import argparse
import time
from itertools import product

import harness

harness.pin_threads(2)

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch.nn.functional import conv2d, pad  # noqa: E402

from opflow.kernels import causal_solve  # noqa: E402
from opflow.kernels.causal_convolve import transpose, weight_gradient  # noqa: E402
from opflow.kernels.causal_reference import wavefront  # noqa: E402
from opflow.kernels.corner import divide_by_corner  # noqa: E402

K = 3
SHAPES = [(64, 12, 16, 16), (64, 24, 8, 8), (16, 12, 32, 32), (8, 12, 64, 64)]
MOST_UNKNOWNS = 4096  # of a matrix: 64 MiB
PACKAGES = ("numba", "opflow-sciml")


def diagonals(y, weight):
    return wavefront(y.unsqueeze(1), divide_by_corner(weight, 1)).squeeze(1)


def serial(y, weight):
    """Substitute point by point."""
    taps = divide_by_corner(weight, 1)[0]
    matrix = -taps.flatten(1)
    matrix[:, K * K - 1 :: K * K] *= -1  # the corner stands for A^-1 y
    x = pad(y, (K - 1, 0, K - 1, 0))
    rows, columns = y.shape[2:]
    for i, j in product(range(rows), range(columns)):
        x[:, :, i + K - 1, j + K - 1] = x[:, :, i : i + K, j : j + K].flatten(1) @ matrix.T
    return x[:, :, K - 1 :, K - 1 :]


class _Adjoint(torch.autograd.Function):
    """A way to solve, with the gradient by the same way."""

    @staticmethod
    def forward(ctx, y, weight, solve):
        x = solve(y, weight)
        ctx.save_for_backward(x, weight)
        ctx.solve = solve
        return x

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        adjoint = ctx.solve(grad.flip(2, 3), transpose(weight, 1)).flip(2, 3)
        return adjoint, -weight_gradient(x, adjoint, weight, [0], 1), None


def entries(channels, rows, columns):
    """Return where each entry of the matrix lies in the flattened kernel, and which entries are not zero."""
    row, column = torch.arange(rows), torch.arange(columns)
    down = (row[:, None] - row)[:, None, :, None]
    across = (column[:, None] - column)[None, :, None, :]
    used = (down >= 0) & (down < K) & (across >= 0) & (across < K)
    tap = ((K - 1 - down) * K + K - 1 - across).clamp(0, K * K - 1)
    channel = torch.arange(channels**2).view(channels, 1, 1, channels, 1, 1) * K * K
    size = channels * rows * columns
    index = channel + tap[None, :, :, None]
    return index.reshape(size, size), used[None, :, :, None].expand_as(index).reshape(size, size)


def gaussian_elimination(shape):
    index, used = entries(*shape[1:])

    def solve(y, weight):
        matrix = weight.flatten()[index] * used
        return torch.linalg.solve(matrix, y.flatten(1).T).T.view(y.shape)

    return solve


def problem(shape):
    torch.manual_seed(0)
    channels = shape[1]
    weight = 0.03 * torch.randn(channels, channels, K, K)
    weight[..., -1, -1] += torch.eye(channels)
    return torch.randn(shape), weight


def with_gradients(function, y, weight, direction):
    leaves = [t.clone().requires_grad_() for t in (y, weight)]
    return lambda: torch.autograd.grad(function(*leaves), leaves, direction)


def compare(shape, repeats: int) -> None:
    y, weight = problem(shape)
    direction = torch.randn(shape)
    peers = {
        "F.conv2d": lambda y, w: conv2d(y, w, padding=1),
        "torch anti-diagonals": lambda y, w: _Adjoint.apply(y, w, diagonals),
        "point by point": lambda y, w: _Adjoint.apply(y, w, serial),
    }
    if np.prod(shape[1:]) <= MOST_UNKNOWNS:
        peers["Gaussian elimination"] = gaussian_elimination(shape)
    case = f"causal_solve, {'x'.join(map(str, shape))}"
    ours = with_gradients(causal_solve, y, weight, direction)
    for name, peer in peers.items():
        theirs = with_gradients(peer, y, weight, direction)
        if name != "F.conv2d":
            torch.testing.assert_close(peer(y, weight), causal_solve(y, weight), rtol=0, atol=1e-4)
            for a, b in zip(theirs(), ours()):
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * float(b.abs().max()))
        n = repeats if name in ("F.conv2d", "torch anti-diagonals") else max(3, repeats // 10)
        pairs = (
            ("solution", lambda: causal_solve(y, weight), lambda peer=peer: peer(y, weight)),
            ("solution and gradients", ours, theirs),
        )
        for words, a, b in pairs:
            seconds = harness.interleave(a, b, n, clock=time.perf_counter)
            harness.report(f"{case}: {words}, seconds, {name}", *seconds, threads=2, packages=PACKAGES)


def growth(sides, repeats: int) -> None:
    """Fit the exponent of the time per point at batch 32, from the median of each side."""
    per_point = []
    for side in sides:
        y, weight = problem((32, 12, side, side))
        causal_solve(y, weight)
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            causal_solve(y, weight)
            seconds.append(time.perf_counter() - start)
        per_point.append(np.median(seconds) / y[:, 0].numel())
        print(f"side {side}: {per_point[-1] * 1e9:.2f} ns per point")
    exponent = np.polyfit(np.log(sides), np.log(per_point), 1)[0]
    claim = f"causal_solve, 32x12, sides {sides[0]} to {sides[-1]}: exponent of time per point"
    print(f"{claim}: {exponent:.3f}")
    harness.record(claim, f"{exponent:.3f}", threads=2, packages=PACKAGES)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", nargs="+", default=SHAPES, type=lambda s: tuple(map(int, s.split(","))))
    parser.add_argument("--sides", nargs="+", default=[8, 16, 32, 64, 128], type=int)
    parser.add_argument("--repeats", default=50, type=int)
    arguments = parser.parse_args()
    for shape in arguments.shapes:
        compare(shape, arguments.repeats)
    growth(arguments.sides, arguments.repeats)


if __name__ == "__main__":
    main()
