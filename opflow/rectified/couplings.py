"""Which noise goes with which data: independently, or by optimal transport within a batch."""

import abc
from dataclasses import dataclass

import torch
from torch import Tensor


class Coupling(abc.ABC):
    """A rule that assigns to each data item of a batch one item of noise, and every item once."""

    @abc.abstractmethod
    def __call__(self, noise: Tensor, data: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the permutation p, `(batch,)`, such that `noise[p]` goes with `data`.

        Args:
            noise: `(batch, ...)`.
            data: `(batch, ...)`.
            condition: what each data item is conditioned on, `(batch, ...)`, or None.

        Raises:
            ValueError: the coupling is not for this kind of batch, or sizes differ.
        """


@dataclass(frozen=True)
class Independent(Coupling):
    """Noise and data as they come.

    Example:
        >>> Independent()(torch.zeros(3, 1), torch.zeros(3, 1))
        tensor([0, 1, 2])
    """

    def __call__(self, noise: Tensor, data: Tensor, condition: Tensor | None = None) -> Tensor:
        """See `Coupling`."""
        return torch.arange(len(data), device=data.device)


@dataclass(frozen=True)
class PermutationOT(Coupling):
    r"""The permutation of least total squared distance between noise and data.

    All items stay in the batch, unlike with draws from the transport plan with replacement. It is for flows
    without a condition: paired like this, noise tells what the condition is.

    Source: Pooladian et al., Multisample Flow Matching, 2023; Tong et al., 2024.

    Example:
        >>> noise, data = torch.tensor([[5.0], [0.0], [1.0]]), torch.tensor([[0.1], [1.1], [4.0]])
        >>> PermutationOT()(noise, data)
        tensor([1, 2, 0])
    """

    def __call__(self, noise: Tensor, data: Tensor, condition: Tensor | None = None) -> Tensor:
        """See `Coupling`."""
        if condition is not None:
            raise ValueError(
                "PermutationOT would make the noise depend on the condition, and samples for one condition "
                "would start from the wrong law: use ConditionalOT or Independent"
            )
        return _assign(_squares(noise, data))


@dataclass(frozen=True)
class ConditionalOT(Coupling):
    r"""The permutation of least total cost :math:`|x_0 - x_1|^2 / D + w |c_0 - c_1|^2 / D_c`.

    The noise of item i is taken to come with the condition of item i, of which it is independent; noise may
    move to data of other, near conditions only. For large w samples of one condition start from the law of
    the noise.

    Args:
        weight: w.

    Source: Kerrigan et al., Dynamic Conditional Optimal Transport through Simulation-Free Flows, 2024.

    Raises:
        ValueError: a weight that is not positive.

    Example:
        >>> noise, data = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[1.0], [0.0], [0.0]])
        >>> ConditionalOT()(noise, data, condition=torch.tensor([[0.0], [0.0], [1.0]]))
        tensor([1, 0, 2])
    """

    weight: float = 100.0

    def __post_init__(self):
        if not self.weight > 0:
            raise ValueError(f"weight={self.weight} must be positive")

    def __call__(self, noise: Tensor, data: Tensor, condition: Tensor | None = None) -> Tensor:
        """See `Coupling`."""
        if condition is None:
            raise ValueError("ConditionalOT needs a condition: without one, use PermutationOT")
        return _assign(_squares(noise, data) + self.weight * _squares(condition, condition))


def _squares(a: Tensor, b: Tensor) -> Tensor:
    if len(a) != len(b):
        raise ValueError(f"{len(a)} items of noise cannot be paired with {len(b)} items of data")
    a, b = a.flatten(1).double(), b.flatten(1).double()
    return torch.cdist(a, b).square() / a.shape[1]


def _assign(cost: Tensor) -> Tensor:
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(cost.detach().cpu().numpy())
    permutation = torch.empty(len(rows), dtype=torch.long)
    permutation[torch.as_tensor(columns)] = torch.as_tensor(rows)
    return permutation.to(cost.device)
