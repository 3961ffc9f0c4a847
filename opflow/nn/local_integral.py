r"""Local integral operators on uniform plane grids (discrete-continuous convolutions).

.. math:: (I u)_o(x) = \sum_i \int_{|y - x| \le r} \kappa_{oi}(y - x)\, u_i(y)\, dy, \qquad
   \kappa_{oi}(z) = r^{-2} \sum_l \theta_{oil}\, \psi_l(z / r)

The radius is a physical length, so the integral has one meaning on every grid. On a grid the kernel is
averaged over the cell of each point before it is summed: that keeps second order for bases that jump at the
edge of their support, and leaves every weight at work on grids too coarse to put a point there. Outside a
bounded axis there is nothing to integrate; its end points count half.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d

from opflow.kernels.backend import is_eager
from opflow.nn.axes import extend, intervals, per_axis, periodic_axes
from opflow.nn.differential import require_groups
from opflow.nn.filter_bases import FilterBasis

_SAMPLES = 8  # points per axis and cell at which a basis is averaged


class IntegralConv(nn.Module):
    r"""Integrate a field against a learned local kernel round every point, or every `stride`-th.

    A direct convolution or one by FFT, whichever has the lower estimated cost; they agree to rounding.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        basis: the functions :math:`\psi_l` on the unit disc.
        radius: radius of the support, in the unit of `domain_length`.
        domain_length: size of the box, one number or one per axis.
        periodic: whether an axis is periodic, one answer or one per axis. Points of a bounded axis include
            both ends.
        stride: take the integral at every so many points only, on both axes.
        groups: groups of channels that do not see each other, as in `torch.nn.Conv2d`.

    Shapes:
        `(batch, in_channels, n, m)` to `(batch, out_channels, n', m')`, float32 or float64; n' is n / stride
        on a periodic axis and (n - 1) / stride + 1 on a bounded one.

    Raises:
        ValueError: an argument does not fit, or the stride does not divide the intervals of a grid.

    Source: Ocampo, Price and McEwen, Scalable and Equivariant Spherical CNNs by Discrete-Continuous (DISCO)
    Convolutions, 2023; Liu-Schiaffini et al., Neural Operators with Localized Integral and Differential
    Kernels, 2024, section 4.2.

    Example:
        >>> import torch
        >>> from opflow.nn.filter_bases import PiecewiseLinear
        >>> layer = IntegralConv(1, 1, PiecewiseLinear(1, 1), radius=0.25)
        >>> _ = torch.nn.init.ones_(layer.weight)
        >>> bool(((layer(torch.ones(1, 1, 32, 32)) - 1).abs() < 2e-3).all())  # hats have integral one
        True
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        basis: FilterBasis,
        *,
        radius: float,
        domain_length: float | Sequence[float] = 1.0,
        periodic: bool | Sequence[bool] = True,
        stride: int = 1,
        groups: int = 1,
    ):
        super().__init__()
        self.support = GridSupport(basis, radius, domain_length, periodic)
        require_groups(groups, in_channels, out_channels)
        _require_stride(stride)
        self.stride, self.groups = stride, groups
        self.weight = initial_weight(out_channels, in_channels // groups, len(basis))

    def forward(self, x: Tensor) -> Tensor:
        """Integrate round the points of the grid of `x`."""
        _require_plane(x)
        support, stride = self.support, self.stride
        grid = tuple(x.shape[2:])
        if stride > 1 and any(m % stride for m in intervals(grid, support.periodic)):
            raise ValueError(
                f"stride={stride} does not divide the intervals {intervals(grid, support.periodic)} of the "
                f"grid {grid}: the points left would not be a grid of the same box"
            )
        x = support.half_ends(x)
        if support.prefers_fft(x.shape[0], grid, self.weight, stride, self.groups):
            spectrum = support.spectrum(self.weight, grid).conj().unflatten(0, (self.groups, -1))
            return _multiply_spectrum(support.padded(x), spectrum, grid)[..., ::stride, ::stride]
        x = support.extended(x, support.reach(grid))
        return conv2d(x, support.kernel(self.weight, grid), stride=stride, groups=self.groups)


class IntegralConvTranspose(nn.Module):
    r"""The adjoint of `IntegralConv`: spread a field on a coarse grid to one with `stride` times the points.

    With the same `weight`, :math:`\sum_i Q_i (I u)_i v_i = \sum_j q_j u_j (I^* v)_j` for the quadrature
    weights q and Q of the two grids. Arguments and errors are those of `IntegralConv`.

    Shapes:
        `(batch, in_channels, n, m)` to `(batch, out_channels, n', m')`; n' is n stride on a periodic axis and
        (n - 1) stride + 1 on a bounded one.

    Example:
        >>> import torch
        >>> from opflow.nn.filter_bases import PiecewiseLinear
        >>> layer = IntegralConvTranspose(2, 1, PiecewiseLinear(2, 4), radius=0.3, stride=2)
        >>> layer(torch.zeros(1, 2, 8, 6)).shape
        torch.Size([1, 1, 16, 12])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        basis: FilterBasis,
        *,
        radius: float,
        domain_length: float | Sequence[float] = 1.0,
        periodic: bool | Sequence[bool] = True,
        stride: int = 1,
        groups: int = 1,
    ):
        super().__init__()
        self.support = GridSupport(basis, radius, domain_length, periodic)
        require_groups(groups, in_channels, out_channels)
        _require_stride(stride)
        self.stride, self.groups = stride, groups
        self.weight = initial_weight(in_channels, out_channels // groups, len(basis))

    def forward(self, x: Tensor) -> Tensor:
        """Spread a field on a coarse grid."""
        _require_plane(x)
        support, stride = self.support, self.stride
        pieces = intervals(x.shape[2:], support.periodic)
        grid = tuple(m * stride + (not wraps) for m, wraps in zip(pieces, support.periodic))
        x = support.half_ends(x) * stride**2  # the cells of this grid, over those of the fine one
        if support.prefers_fft(x.shape[0], grid, self.weight, stride, self.groups):
            spread = x.new_zeros(*x.shape[:2], *grid)
            spread[..., ::stride, ::stride] = x
            spectrum = support.spectrum(self.weight, grid).unflatten(0, (self.groups, -1))
            return _multiply_spectrum(support.padded(spread), spectrum.transpose(1, 2), grid)
        reach = support.reach(grid)
        ghosts = [r // stride + 1 for r in reach]
        kernel = support.kernel(self.weight, grid)
        y = conv_transpose2d(support.extended(x, ghosts), kernel, stride=stride, groups=self.groups)
        for axis, (n, ghost, r) in enumerate(zip(grid, ghosts, reach), start=2):
            y = y.narrow(axis, ghost * stride + r, n)
        return y


class GridSupport:
    """A basis on a disc of fixed physical radius, sampled on the grids of a box."""

    def __init__(
        self,
        basis: FilterBasis,
        radius: float,
        domain_length: float | Sequence[float],
        periodic: bool | Sequence[bool],
    ):
        self.basis = basis
        self.domain_length = per_axis("domain_length", domain_length, 2)
        self.periodic = periodic_axes(periodic, 2)
        (self.radius,) = per_axis("radius_cutoff", radius, 1)
        for length, wraps in zip(self.domain_length, self.periodic):
            if wraps and self.radius > length / 2:
                raise ValueError(
                    f"radius_cutoff={radius} is more than half of the periodic axis of length {length}: the "
                    "kernel would meet itself; use a smaller radius"
                )
        # Radius over length of each axis as a ratio of integers: sizes in an exported graph must be integers.
        self._ratios = [
            Fraction(self.radius / length).limit_denominator(10**6) for length in self.domain_length
        ]

    def reach(self, grid: Sequence[int]) -> list[int]:
        """Return how many points the kernel reaches to either side, per axis: cells that touch the disc."""
        return [
            (2 * m * ratio.numerator + ratio.denominator) // (2 * ratio.denominator)
            for m, ratio in zip(intervals(grid, self.periodic), self._ratios)
        ]

    def samples(self, grid: Sequence[int], like: Tensor) -> Tensor:
        """Return the basis averaged over cells, times their area: `(len(basis), 2 r + 1, 2 s + 1)`."""
        build = _cached_samples if is_eager(like) else _samples
        cells = tuple(intervals(grid, self.periodic))
        lengths = tuple(length / self.radius for length in self.domain_length)
        return build(self.basis, tuple(self.reach(grid)), cells, lengths, like.dtype, like.device)

    def kernel(self, weight: Tensor, grid: Sequence[int]) -> Tensor:
        """Return the taps on a grid: `(*weight.shape[:2], 2 r + 1, 2 s + 1)`."""
        samples = self.samples(grid, weight)
        return (weight @ samples.flatten(1)).unflatten(-1, samples.shape[1:])

    def half_ends(self, x: Tensor) -> Tensor:
        """Halve the values at both ends of bounded axes: the trapezoidal rule."""
        for axis, wraps in enumerate(self.periodic, start=2):
            if not wraps:
                inner = x.new_ones(x.shape[axis] - 2)
                end = x.new_full((1,), 0.5)
                x = x * torch.cat([end, inner, end]).view(-1, *(1,) * (x.ndim - 1 - axis))
        return x

    def extended(self, x: Tensor, margins: Sequence[int]) -> Tensor:
        """Continue a field `(batch, channel, n, m)`: periodically, or by zeros."""
        x = x.movedim(1, -1)  # so that the padded field is channels-last in memory too
        for axis, (margin, wraps) in enumerate(zip(margins, self.periodic), start=1):
            x = extend(x, axis, margin, wraps, degree=None)
        return x.movedim(-1, 1)

    def padded_grid(self, grid: Sequence[int]) -> list[int]:
        """Return a grid on which a circular convolution is that of the box."""
        return [
            n if wraps else 8 * ((n + r + 7) // 8)
            for n, r, wraps in zip(grid, self.reach(grid), self.periodic)
        ]

    def padded(self, x: Tensor) -> Tensor:
        """Add zeros at the end of bounded axes, up to `padded_grid`."""
        n, m = x.shape[2:]
        height, width = self.padded_grid((n, m))
        return torch.nn.functional.pad(x, (0, width - m, 0, height - n))

    def spectrum(self, weight: Tensor, grid: Sequence[int]) -> Tensor:
        """Return the Fourier coefficients of the kernels on the padded grid: `(*weight.shape[:2], k, l)`."""
        values = self.samples(grid, weight)
        for axis, (n, reach) in enumerate(zip(self.padded_grid(grid), self.reach(grid)), start=1):
            place = torch.arange(-reach, reach + 1, device=weight.device).remainder(n)
            wrapped = (place == torch.arange(n, device=weight.device)[:, None]).to(values.dtype)
            values = (values.movedim(axis, -1) @ wrapped.T).movedim(-1, axis)
        modes = torch.fft.rfft2(values)
        parts = torch.view_as_real(modes).flatten(1)
        return torch.view_as_complex((weight @ parts).unflatten(-1, (*modes.shape[1:], 2)))

    def prefers_fft(self, batch: int, grid: Sequence[int], weight: Tensor, stride: int, groups: int) -> bool:
        """Whether a convolution by FFT is the cheaper one; never in an exported graph, whose sizes vary."""
        if torch.compiler.is_exporting():
            return False
        direct, by_fft = costs(
            batch=batch,
            grid=grid,
            padded=self.padded_grid(grid),
            kernel=[2 * r + 1 for r in self.reach(grid)],
            weights=tuple(weight.shape),
            stride=stride,
            groups=groups,
        )
        return by_fft < direct


def costs(
    *,
    batch: int,
    grid: Sequence[int],
    padded: Sequence[int],
    kernel: Sequence[int],
    weights: Sequence[int],
    stride: int,
    groups: int,
) -> tuple[float, float]:
    """Estimate a training step of a direct convolution and of one by FFT, in multiplications of the former.

    `weights` are `(channels, channels per group, functions)`.
    """
    first, per_group, functions = weights
    alone = per_group == 1 < groups
    pairs, points, modes = first * per_group, math.prod(grid), math.prod(padded) / 2
    direct = batch * points / stride**2 * pairs * math.prod(kernel) * (_DEPTHWISE if alone else 1)
    if max(kernel) > _LARGEST_KERNEL:
        direct = direct * _UNBLOCKED
    transforms = batch * (first + per_group * groups) * modes * _FFT
    products = (_PRODUCT if alone else _COMPLEX_MATRIX) * modes * pairs * (batch + functions)
    return direct, transforms + products


# Measured on a CPU, forward and backward, where a multiplication in a convolution took 0.035 ns.
_DEPTHWISE = 8.0  # one channel at a time leaves the vector units waiting for memory
_LARGEST_KERNEL, _UNBLOCKED = 13, 80.0  # beyond it oneDNN falls back on plain loops
_FFT = 300.0  # of one mode of one channel
_PRODUCT, _COMPLEX_MATRIX = 16.0, 130.0


def _samples(basis: FilterBasis, reach, cells, lengths, dtype: torch.dtype, device: torch.device) -> Tensor:
    axes, area = [], 1.0
    # ONNX Runtime has no arctangent in double precision.
    precise = dtype if torch.compiler.is_exporting() else torch.float64
    for r, count, length in zip(reach, cells, lengths):
        # An integer tensor first: exported graphs hold no real numbers that depend on the grid.
        step = length / torch.full((), count, device=device).to(precise)
        offsets = torch.arange(-r, r + 1, device=device).to(precise)[:, None]
        within = (torch.arange(_SAMPLES, device=device).to(precise) + 0.5) / _SAMPLES - 0.5
        axes.append(((offsets + within) * step).flatten())
        area = area * step
    values = basis(*torch.meshgrid(*axes, indexing="ij"))
    means = values.unflatten(2, (-1, _SAMPLES)).mean(3).unflatten(1, (-1, _SAMPLES)).mean(2)
    return (means * area).to(dtype)


@lru_cache(maxsize=64)
def _cached_samples(basis: FilterBasis, reach, cells, lengths, dtype, device) -> Tensor:
    with torch.inference_mode(False), torch.no_grad():
        return _samples(basis, reach, cells, lengths, dtype, device)


def _multiply_spectrum(x: Tensor, weight: Tensor, grid: Sequence[int]) -> Tensor:
    """Multiply the modes of a padded field by `(groups, out, in, k, l)`, and crop the field they make."""
    modes = torch.fft.rfft2(x).unflatten(1, (weight.shape[0], -1))
    if weight.shape[1] == weight.shape[2] == 1:
        y = modes * weight[:, 0]
    else:
        y = torch.einsum("bgi...,goi...->bgo...", modes, weight)
    y = torch.fft.irfft2(y.flatten(1, 2), s=tuple(x.shape[2:]))
    return y[..., : grid[0], : grid[1]]


def initial_weight(first: int, second: int, functions: int) -> nn.Parameter:
    """Return random weights `(first, second, functions)` that keep the size of smooth fields."""
    return nn.Parameter(torch.randn(first, second, functions) / math.sqrt(second * functions))


def _require_stride(stride: int) -> None:
    if stride < 1:
        raise ValueError(f"stride={stride} must be at least 1")


def _require_plane(x: Tensor) -> None:
    if x.ndim != 4:
        raise ValueError(
            f"local integrals are over the plane and take (batch, channel, n, m), got shape {tuple(x.shape)}"
        )
