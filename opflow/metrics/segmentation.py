"""How well maps of labels agree."""

from torch import Tensor

from opflow.metrics._checks import pair


def confusion(prediction: Tensor, target: Tensor, n_classes: int) -> Tensor:
    """Count how often each label was taken for each: `(target, prediction)`, int64.

    Args:
        prediction: labels of any shape, int64.
        target: labels, the same shape.
        n_classes: number K of labels, 0 to K - 1.

    Raises:
        ValueError: the shapes differ, or a label is out of range.

    Example:
        >>> import torch
        >>> confusion(torch.tensor([[0, 1, 1]]), torch.tensor([[0, 0, 1]]), 2)
        tensor([[1, 1],
                [0, 1]])
    """
    prediction, target = pair(prediction, target, 1, "(batch, *space)")
    for name, labels in (("prediction", prediction), ("target", target)):
        if labels.is_floating_point() or (
            labels.numel() and not 0 <= labels.min() <= labels.max() < n_classes
        ):
            raise ValueError(f"labels of the {name} should be integers from 0 to {n_classes - 1}")
    index = n_classes * target.flatten().long() + prediction.flatten().long()
    return index.bincount(minlength=n_classes**2).reshape(n_classes, n_classes)


def mean_iou(prediction: Tensor, target: Tensor, n_classes: int) -> float:
    r"""Mean over labels of intersection over union, :math:`|P_k \cap T_k| / |P_k \cup T_k|`.

    Points of the whole batch count together; labels that neither side has are left out.

    Args:
        prediction: labels `(batch, *space)`, int64.
        target: labels, the same shape.
        n_classes: number of labels.

    Raises:
        ValueError: the shapes differ, or a label is out of range.

    Example:
        >>> import torch
        >>> mean_iou(torch.tensor([[0, 1, 1]]), torch.tensor([[0, 0, 1]]), 2)
        0.5
    """
    counts = confusion(prediction, target, n_classes).double()
    both = counts.diagonal()
    either = counts.sum(0) + counts.sum(1) - both
    return float((both[either > 0] / either[either > 0]).mean())


def pixel_accuracy(prediction: Tensor, target: Tensor) -> float:
    """Share of points whose label is right.

    Args:
        prediction: labels of any shape.
        target: labels, the same shape.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> import torch
        >>> pixel_accuracy(torch.tensor([0, 1, 1, 1]), torch.tensor([0, 0, 1, 1]))
        0.75
    """
    prediction, target = pair(prediction, target, 1, "(batch, *space)")
    return float((prediction == target).double().mean())
