"""The sum of a differential and an integral kernel, as one convolution where it can be one."""

from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

from opflow.nn.axes import extend
from opflow.nn.differential import DifferentialConv
from opflow.nn.local_integral import IntegralConv


class LocalSum(nn.Module):
    """Apply a differential and an integral operator of the plane and add up.

    On a periodic box both are convolutions, and so is their sum: the taps are added. On bounded axes they
    continue the field in different ways, and a large integral kernel is better off with an FFT.

    Args:
        differential: channels to channels on the plane.
        integral: with the same channels, groups and periodic axes, without stride.

    Example:
        >>> import torch
        >>> from opflow.nn.filter_bases import PiecewiseLinear
        >>> d, i = DifferentialConv(2, 2), IntegralConv(2, 2, PiecewiseLinear(2, 4), radius=0.2)
        >>> x = torch.randn(1, 2, 16, 20)
        >>> torch.allclose(LocalSum(d, i)(x), d(x) + i(x), atol=1e-4)
        True
    """

    def __init__(self, differential: DifferentialConv, integral: IntegralConv):
        super().__init__()
        self.differential, self.integral = differential, integral

    def forward(self, x: Tensor) -> Tensor:
        """Map `(batch, in_channels, n, m)` to `(batch, out_channels, n, m)`."""
        grid, differential, integral = tuple(x.shape[2:]), self.differential, self.integral
        support, groups = integral.support, differential.groups
        by_fft = support.prefers_fft(x.shape[0], grid, integral.weight, 1, groups)
        if by_fft or not all(support.periodic):
            return differential(x) + integral(x)
        half = differential.kernel_size // 2
        reach = support.reach(grid)
        margins = [max(half, r) for r in reach]
        taps = _padded(differential.kernel(grid), [m - half for m in margins])
        taps = taps + _padded(support.kernel(integral.weight, grid), [m - r for m, r in zip(margins, reach)])
        x = x.movedim(1, -1)  # so that the padded field is channels-last in memory too
        for axis, margin in enumerate(margins, start=1):
            x = extend(x, axis, margin, True, degree=None)
        return conv2d(x.movedim(-1, 1), taps, groups=groups)


def _padded(taps: Tensor, margins: list[int]) -> Tensor:
    rows, columns = margins
    return pad(taps, (columns, columns, rows, rows))
