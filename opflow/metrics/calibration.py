"""Whether ensembles are as wide as they should be: ranks, spread, scores.

Ensembles are `(batch, member, ...)`, what came true `(batch, ...)`.
"""

import torch
from torch import Tensor


def crps(ensemble: Tensor, truth: Tensor, fair: bool = True) -> Tensor:
    r"""Continuous ranked probability score, mean over the values of a sample; less is better.

    .. math:: \frac1m \sum_i |x_i - y| - \frac{1}{2 m (m - 1)} \sum_{i, j} |x_i - x_j|

    With m in place of m - 1 it is the score of the ensemble as it stands; the fair one is, in expectation,
    that of the law from which members are drawn. For one member it is the absolute error.

    Args:
        ensemble: `(batch, member, ...)`.
        truth: `(batch, ...)`.
        fair: whether to correct for the number of members.

    Returns:
        `(batch,)`.

    Raises:
        ValueError: the shapes do not fit.

    Source: Gneiting, Raftery, Strictly Proper Scoring Rules, 2007; Ferro, Fair Scores, 2014.

    Example:
        >>> crps(torch.tensor([[[0.0], [1.0]]]), torch.tensor([[0.5]]), fair=False)
        tensor([0.2500])
    """
    _check(ensemble, truth)
    m = ensemble.shape[1]
    error = (ensemble - truth[:, None]).abs().mean(1)
    # Sorted, x_(i) is the greater one of i - 1 pairs and the lesser one of m - i.
    weight = 2 * torch.arange(1, m + 1, dtype=ensemble.dtype, device=ensemble.device) - m - 1
    ordered = ensemble.sort(1).values.movedim(1, -1)
    pairs = 2 * (ordered * weight).sum(-1)
    return (error - pairs / (2 * m * max(m - 1, 1) if fair else 2 * m * m)).flatten(1).mean(1)


def energy_score(ensemble: Tensor, truth: Tensor, fair: bool = True) -> Tensor:
    r"""Energy score of whole fields, :math:`\mathbb{E}|X - y| - \frac12 \mathbb{E}|X - X'|`; less is better.

    Norms are root mean squares over the values of a sample. Unlike the CRPS it sees how values depend on each
    other.

    Args:
        ensemble: `(batch, member, ...)`.
        truth: `(batch, ...)`.
        fair: as for `crps`.

    Returns:
        `(batch,)`.

    Raises:
        ValueError: the shapes do not fit.

    Source: Gneiting, Raftery, 2007, section 4.3.

    Example:
        >>> energy_score(torch.tensor([[[0.0], [2.0]]]), torch.tensor([[1.0]]), fair=False)
        tensor([0.5000])
    """
    _check(ensemble, truth)
    x, m = ensemble.flatten(2), ensemble.shape[1]
    root = x.shape[2] ** 0.5
    error = (x - truth.flatten(1)[:, None]).norm(dim=2).mean(1)
    pairs = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").sum((1, 2))
    return (error - pairs / (2 * m * max(m - 1, 1) if fair else 2 * m * m)) / root


def rank_histogram(ensemble: Tensor, truth: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Count at which rank among the members the truth lies, value by value: flat if calibrated.

    Ends that are too high tell of ensembles that are too narrow, a heap in the middle of ones too wide. Ties
    are resolved at random.

    Args:
        ensemble: `(batch, member, ...)`.
        truth: `(batch, ...)`.
        generator: for ties.

    Returns:
        `(member + 1,)`, int64.

    Raises:
        ValueError: the shapes do not fit.

    Source: Hamill, Interpretation of Rank Histograms for Verifying Ensemble Forecasts, 2001.

    Example:
        >>> rank_histogram(torch.tensor([[[1.0], [2.0]], [[1.0], [2.0]]]), torch.tensor([[0.0], [1.5]]))
        tensor([1, 1, 0])
    """
    _check(ensemble, truth)
    below = (ensemble < truth[:, None]).sum(1)
    ties = (ensemble == truth[:, None]).sum(1)
    lot = torch.rand(ties.shape, generator=generator, device=ties.device)
    rank = below + (lot * (ties + 1)).long()
    return rank.flatten().bincount(minlength=ensemble.shape[1] + 1)


def spread_skill(ensemble: Tensor, truth: Tensor) -> float:
    r"""Ratio of the spread of ensembles to the error of their mean; 1 if calibrated.

    :math:`\sqrt{\frac{m + 1}{m} \langle s^2 \rangle / \langle (\bar x - y)^2 \rangle}` with the unbiased
    variance s^2 of the m members, means over samples and values.

    Args:
        ensemble: `(batch, member, ...)`, two members or more.
        truth: `(batch, ...)`.

    Raises:
        ValueError: the shapes do not fit, or there is one member.

    Source: Fortin et al., Why Should Ensemble Spread Match the RMSE of the Ensemble Mean?, 2014.

    Example:
        >>> spread_skill(torch.tensor([[[-1.0], [1.0]]]), torch.tensor([[3.0 ** 0.5]])).__round__(4)
        1.0
    """
    _check(ensemble, truth, members=2)
    m = ensemble.shape[1]
    error = (ensemble.mean(1) - truth).square().mean()
    return float((ensemble.var(1).mean() * (m + 1) / m / error).sqrt())


def diversity_ratio(generated: Tensor, truth: Tensor) -> Tensor:
    r"""Ratio of the spread of generated fields to that of true fields, for each condition; 1 is right.

    :math:`\sqrt{\langle s_g^2 \rangle / \langle s_t^2 \rangle}` with unbiased variances over members, means
    over the values of a field.

    Args:
        generated: `(condition, member, ...)`, two members or more.
        truth: `(condition, member, ...)`, likewise; the numbers of members may differ.

    Returns:
        `(condition,)`.

    Raises:
        ValueError: the shapes do not fit, or there is one member.

    Example:
        >>> truth = torch.tensor([[[-1.0], [1.0]]])
        >>> diversity_ratio(0.5 * truth, truth)
        tensor([0.5000])
    """
    _check(generated, truth[:, 0], members=2)
    _check(truth, generated[:, 0], members=2)
    return (generated.var(1).flatten(1).mean(1) / truth.var(1).flatten(1).mean(1)).sqrt()


def _check(ensemble: Tensor, truth: Tensor, members: int = 1) -> None:
    if ensemble.ndim < 3 or ensemble.shape[:1] + ensemble.shape[2:] != truth.shape:
        raise ValueError(
            f"an ensemble is (batch, member, ...) of what came true, (batch, ...); got "
            f"{tuple(ensemble.shape)} and {tuple(truth.shape)}"
        )
    if ensemble.shape[1] < members:
        raise ValueError(f"there should be {members} members or more, got {ensemble.shape[1]}")
