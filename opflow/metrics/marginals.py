"""What two samples of fields have in common one point, two points, or one shell of waves at a time."""

from collections.abc import Sequence

import torch
from torch import Tensor

from opflow.metrics.spectra import spectrum


def histogram_distance(a: Tensor, b: Tensor, bins: int = 100) -> Tensor:
    r"""Wasserstein-1 distance of the laws of single values, per channel, over the deviation in b.

    Values of all samples and points count together; the distance is that of histograms, by their cumulative
    sums :math:`\int |F_a - F_b|`, with bins over the range of both.

    Args:
        a: `(n, channel, *space)`.
        b: `(m, channel, *space)`, the reference; its grid may be another.
        bins: number of bins.

    Returns:
        `(channel,)`.

    Raises:
        ValueError: the channels differ.

    Example:
        >>> u = torch.rand(50, 1, 20)
        >>> bool((histogram_distance(u + 0.29, u, 1000) - 1.0).abs() < 0.02)  # a uniform law deviates by 0.29
        True
    """
    _channels(a, b)
    distances = []
    for x, y in zip(a.transpose(0, 1).flatten(1).double(), b.transpose(0, 1).flatten(1).double()):
        low, high = min(x.min(), y.min()).item(), max(x.max(), y.max()).item()
        if low == high:
            distances.append(x.new_zeros(()))
            continue
        counts = [torch.histc(v, bins, low, high) / v.numel() for v in (x, y)]
        apart = (counts[0] - counts[1]).cumsum(0).abs().sum() * (high - low) / bins
        distances.append(apart / y.std().clamp_min(torch.finfo(y.dtype).tiny))
    return torch.stack(distances)


def autocovariance(u: Tensor) -> Tensor:
    r"""Covariance of values against the shift between them, on periodic grids: `(channel, *space)`.

    :math:`C(r) = \langle u'(x) u'(x + r) \rangle`, means over samples and points, u' the deviation from the
    mean of the channel over both. By FFT (Wiener, Khinchin).

    Args:
        u: `(n, channel, *space)`.

    Raises:
        ValueError: there is no space axis.

    Example:
        >>> u = torch.tensor([1.0, -1.0, 1.0, -1.0]).reshape(1, 1, 4)
        >>> autocovariance(u)
        tensor([[ 1., -1.,  1., -1.]])
    """
    if u.ndim < 3:
        raise ValueError(f"expected (n, channel, *space), got a tensor of shape {tuple(u.shape)}")
    axes = tuple(range(2, u.ndim))
    centred = u - u.mean((0, *axes), keepdim=True)
    power = torch.fft.fftn(centred, dim=axes, norm="forward").abs().square().mean(0)
    return torch.fft.ifftn(power, dim=tuple(axis - 1 for axis in axes), norm="forward").real


def autocovariance_distance(a: Tensor, b: Tensor) -> Tensor:
    r"""Relative distance of two autocovariances, :math:`\|C_a - C_b\| / \|C_b\|`, per channel.

    Args:
        a: `(n, channel, *space)`.
        b: `(m, channel, *space)` on the same grid, the reference.

    Returns:
        `(channel,)`.

    Raises:
        ValueError: the channels or grids differ.

    Example:
        >>> u = torch.randn(5, 1, 16)
        >>> torch.allclose(autocovariance_distance(2 * u, u), torch.tensor([3.0]))
        True
    """
    _channels(a, b)
    if a.shape[2:] != b.shape[2:]:
        raise ValueError(
            f"grids {tuple(a.shape[2:])} and {tuple(b.shape[2:])} differ: resample one of the samples"
        )
    first, second = autocovariance(a).flatten(1), autocovariance(b).flatten(1)
    return (first - second).norm(dim=1) / second.norm(dim=1)


def spectrum_distance(
    a: Tensor, b: Tensor, lengths: float | Sequence[float] = 1.0, shells: int | None = None
) -> Tensor:
    r"""Mean distance of the logarithms of mean spectra, :math:`\langle |\log S_a - \log S_b| \rangle_j`.

    Spectra are those of `spectrum`, :math:`\sum |\hat u|^2` over shells, averaged over the samples; shell 0,
    the mean, is left out, and so are shells in which the reference is empty.

    Args:
        a: `(n, channel, *space)`.
        b: `(m, channel, *space)`, the reference; its grid may be another.
        lengths: side lengths of the box.
        shells: shells that count, from the first; up to half of the points of the shorter axis of the coarser
            grid when None.

    Returns:
        `(channel,)`.

    Raises:
        ValueError: the channels differ, or there are no such shells.

    Example:
        >>> u = torch.randn(5, 1, 16)
        >>> torch.allclose(spectrum_distance(torch.e ** 0.5 * u, u), torch.ones(1))
        True
    """
    _channels(a, b)
    resolved = min(*a.shape[2:], *b.shape[2:]) // 2
    shells = resolved if shells is None else shells
    if not 1 <= shells <= resolved:
        raise ValueError(f"shells={shells} should be 1 to {resolved}, what the coarser grid resolves")
    first, second = (spectrum(x, lengths)[1].mean(0)[:, 1 : shells + 1] for x in (a, b))
    tiny = torch.finfo(first.dtype).tiny
    there = second > tiny
    apart = (first.clamp_min(tiny).log() - second.clamp_min(tiny).log()).abs() * there
    return apart.sum(1) / there.sum(1).clamp_min(1)


def _channels(a: Tensor, b: Tensor) -> None:
    if a.ndim < 3 or a.ndim != b.ndim or a.shape[1] != b.shape[1]:
        raise ValueError(
            f"samples are (n, channel, *space) with the same channels, got {tuple(a.shape)} "
            f"and {tuple(b.shape)}"
        )
