"""Distances between two samples of fields, and the floor that sampling alone puts under them."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

_CHUNK = 1024  # rows of a matrix of distances that are held at a time


def sliced_wasserstein(
    a: Tensor,
    b: Tensor,
    projections: int = 256,
    p: float = 2.0,
    generator: torch.Generator | None = None,
) -> float:
    r"""Sliced Wasserstein distance of two samples.

    :math:`(\mathbb{E}_\theta W_p^p(\theta a, \theta b))^{1/p}` with random unit vectors :math:`\theta`; on a
    line the distance is exact, by the quantile functions, for samples of any two sizes.

    Args:
        a: `(n, ...)`, flattened.
        b: `(m, ...)`, of the same shape but for m.
        projections: number of directions.
        p: order.
        generator: where the directions come from.

    Raises:
        ValueError: the shapes of single samples differ, or a sample is empty.

    Source: Bonneel et al., Sliced and Radon Wasserstein Barycenters of Measures, 2015.

    Example:
        >>> a = torch.randn(100, 1)
        >>> round(sliced_wasserstein(a, a + 2.0), 4)
        2.0
    """
    a, b = _two(a, b)
    directions = torch.randn(a.shape[1], projections, generator=generator, dtype=a.dtype, device=a.device)
    directions = directions / directions.norm(dim=0)
    x, y = (a @ directions).sort(0).values, (b @ directions).sort(0).values
    if len(x) == len(y):
        powers = (x - y).abs().pow(p).mean(0)
    else:
        n, m = len(x), len(y)
        common = math.lcm(n, m)  # quantile functions are constant between multiples of 1/n and 1/m
        ends = torch.cat([torch.arange(1, n + 1) * (common // n), torch.arange(1, m + 1) * (common // m)])
        ends = ends.unique().to(a.device)
        widths = ends.diff(prepend=ends.new_zeros(1)).to(a) / common
        i, j = (ends - 1) // (common // n), (ends - 1) // (common // m)
        powers = (widths[:, None] * (x[i] - y[j]).abs().pow(p)).sum(0)
    return float(powers.mean() ** (1 / p))


def mmd(a: Tensor, b: Tensor, bandwidth: str | float = "median") -> float:
    r"""Maximum mean discrepancy of two samples with a Gaussian kernel.

    The square root of the unbiased square, or zero where that is negative, with

    .. math:: k(x, y) = \exp(-|x - y|^2 / 2 h^2)

    Args:
        a: `(n, ...)`, flattened to D numbers.
        b: `(m, ...)`, of the same shape but for m.
        bandwidth: h; "median" takes the median distance between different items of both samples together,
            "published" :math:`h^2 = D / 2`, as MINO evaluates: that one hardly tells samples apart whose
            fields differ by little in the mean square.

    Raises:
        ValueError: the shapes of single samples differ, a sample has fewer than two items, or the bandwidth
            is not positive.

    Source: Gretton et al., A Kernel Two-Sample Test, 2012, equation 3.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> a, b = torch.randn(200, 3, generator=g), torch.randn(200, 3, generator=g)
        >>> mmd(a, b) < 0.1 < mmd(a, b + 2)
        True
    """
    a, b = _two(a, b)
    if min(len(a), len(b)) < 2:
        raise ValueError(f"an unbiased MMD needs two items of each sample, got {len(a)} and {len(b)}")
    if bandwidth == "published":
        h2 = a.shape[1] / 2
    elif bandwidth == "median":
        h2 = float(torch.pdist(_thinned(a, b)).median().square())
    elif isinstance(bandwidth, str):
        raise ValueError(f"bandwidth={bandwidth!r} is not 'median', 'published', or a number")
    else:
        h2 = float(bandwidth) ** 2
    if not h2 > 0:
        raise ValueError(f"the bandwidth must be positive, its square is {h2}")
    within = sum((_kernel_sum(x, x, h2) - len(x)) / (len(x) * (len(x) - 1)) for x in (a, b))
    square = within - 2 * _kernel_sum(a, b, h2) / (len(a) * len(b))
    return math.sqrt(max(square, 0.0))


def two_halves(
    distance: Callable[[Tensor, Tensor], float],
    sample: Tensor,
    draws: int = 50,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Distances between random halves of one sample: the floor of the distance, and its spread.

    A generated sample whose distance from as many true fields is not above them cannot be told from the
    truth.

    Args:
        distance: a function of two samples `(n, ...)`.
        sample: `(2 n, ...)`; a last item of an odd number is left out.
        draws: number of divisions.
        generator: where they come from.

    Returns:
        `(draws,)`, ascending.

    Raises:
        ValueError: there are fewer than four items.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> floor = two_halves(sliced_wasserstein, torch.randn(64, 2, generator=g), 10, g)
        >>> bool((floor < 1).all())
        True
    """
    n = len(sample) // 2
    if n < 2:
        raise ValueError(f"halves need at least four items, got {len(sample)}")
    found = []
    for _ in range(draws):
        order = torch.randperm(len(sample), generator=generator)
        found.append(distance(sample[order[:n]], sample[order[n : 2 * n]]))
    return torch.tensor(found).sort().values


def frechet_distance(a: Tensor, b: Tensor) -> float:
    r"""Fréchet distance of the normal laws with the moments of two samples of features.

    .. math:: |\mu_a - \mu_b|^2 + \mathrm{tr}(C_a + C_b - 2 (C_a C_b)^{1/2})

    With the features of an Inception network it is the FID of images; here they are those of any network,
    and the number is to be compared with that of two halves of the truth.

    Args:
        a: features `(n, feature)`.
        b: features `(m, feature)`.

    Raises:
        ValueError: the numbers of features differ, or a sample has fewer than two items.

    Source: Heusel et al., GANs Trained by a Two Time-Scale Update Rule, 2017.

    Example:
        >>> a = torch.randn(500, 2, dtype=torch.float64)
        >>> round(frechet_distance(a, a + torch.tensor([3.0, 0.0])), 6)
        9.0
    """
    a, b = (x.double() for x in _two(a, b))
    if min(len(a), len(b)) < 2:
        raise ValueError(f"moments need two items of each sample, got {len(a)} and {len(b)}")
    means, covariances = (a.mean(0), b.mean(0)), (torch.cov(a.T), torch.cov(b.T))
    first, second = (c.reshape(a.shape[1], a.shape[1]) for c in covariances)
    values, vectors = torch.linalg.eigh(first)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    # The eigenvalues of C_a C_b are those of the symmetric product.
    cross = torch.linalg.eigvalsh(root @ second @ root).clamp_min(0).sqrt().sum()
    return float((means[0] - means[1]).square().sum() + first.trace() + second.trace() - 2 * cross)


def _two(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    a, b = torch.as_tensor(a), torch.as_tensor(b)
    if a.shape[1:] != b.shape[1:] or a.ndim < 2 or not (len(a) and len(b)):
        raise ValueError(
            f"samples are (n, ...) and (m, ...) of fields of one shape, got {tuple(a.shape)} and "
            f"{tuple(b.shape)}: resample one of them to the grid of the other first"
        )
    return a.flatten(1), b.flatten(1).to(a)


def _thinned(a: Tensor, b: Tensor) -> Tensor:
    """Items spread evenly over both samples, few enough for all their distances."""
    return torch.cat([x[:: max(1, math.ceil(len(x) / _CHUNK))] for x in (a, b)])


def _kernel_sum(a: Tensor, b: Tensor, h2: float) -> float:
    # Not by |a|^2 + |b|^2 - 2ab, which cancels.
    mode = "donot_use_mm_for_euclid_dist"
    rows = a.split(_CHUNK)
    return sum(float((torch.cdist(r, b, compute_mode=mode).square() / (-2 * h2)).exp().sum()) for r in rows)
