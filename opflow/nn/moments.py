"""Mean and spread of data that come in batches."""

import torch
from torch import Tensor


class Moments:
    """Mean and standard deviation per channel, from a stream of batches, in float64.

    Batches are merged by the pairwise update of Chan, Golub and LeVeque (1983), which does not cancel.

    Example:
        >>> moments = Moments()
        >>> moments.add(torch.tensor([[[1.0, 2.0]]]))
        >>> moments.add(torch.tensor([[[6.0, 7.0]]]))
        >>> moments.mean.item(), round(moments.std.item() ** 2, 12)
        (4.0, 6.5)
    """

    def __init__(self):
        self.count = 0.0
        self.mean = self._squares = torch.zeros((), dtype=torch.float64)

    def add(self, fields: Tensor, weights: Tensor | None = None) -> None:
        """Take in `(batch, channel, *space)`, all values alike or by weights `(batch, *space)`.

        Complex fields count as their modulus with both signs: mean zero and the root mean square, because a
        real mean would single out a phase.
        """
        if fields.is_complex():
            fields = torch.cat((fields.abs(), -fields.abs()))
        values = fields.to(torch.float64).transpose(0, 1).flatten(1)
        if weights is None:
            count, mean = values.shape[1], values.mean(1)
            squares = (values - mean[:, None]).square().sum(1)
        else:
            share = weights.to(torch.float64).flatten()
            count = share.sum().item()
            mean = values @ share / count
            squares = (values - mean[:, None]).square() @ share
        shift, total = mean - self.mean, self.count + count
        self._squares = self._squares + squares + shift.square() * (self.count * count / total)
        self.mean = self.mean + shift * (count / total)
        self.count = total

    @property
    def std(self) -> Tensor:
        """Standard deviation, the mean square deviation under the root."""
        return (self._squares / self.count).sqrt()
