"""A flow as a distribution of torch."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

if TYPE_CHECKING:
    from opflow.flows.base import Flow


class FlowDistribution(Distribution):
    """The distribution of a flow under a condition.

    Event shape `(channels, rows, columns)`; the batch shape is that of the condition, empty without one.
    `rsample` is differentiable in the parameters of the flow and in the condition.

    Args:
        flow: the flow.
        cond: its condition, with a batch axis or without.
    """

    arg_constraints = {}  # pyright: ignore[reportAssignmentType]
    support = constraints.independent(constraints.real, 3)  # pyright: ignore[reportAssignmentType]
    has_rsample = True

    def __init__(self, flow: "Flow", cond: Tensor | None = None):
        axes = 0 if flow.condition is None or isinstance(flow.condition, int) else len(flow.condition)
        cond = None if cond is None else torch.as_tensor(cond)
        batch = cond.shape[: cond.ndim - axes] if cond is not None else torch.Size()
        self.flow, self.cond = flow, cond
        super().__init__(batch, torch.Size(flow.shape), validate_args=False)

    def rsample(self, sample_shape=torch.Size()) -> Tensor:  # noqa: B008 (as torch's own)
        """Draw samples `(*sample_shape, *batch_shape, channels, rows, columns)`."""
        shape = self._extended_shape(torch.Size(sample_shape))
        outer = shape[: -len(self.event_shape)]
        like = next(self.flow.body.parameters())
        z = torch.randn(outer.numel(), math.prod(self.event_shape), dtype=like.dtype, device=like.device)
        return self.flow.decode(z, self._conditions(outer)).view(shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log-densities `(*sample_shape, *batch_shape)` of values."""
        outer = torch.broadcast_shapes(value.shape[: -len(self.event_shape)], self.batch_shape)
        flat = value.expand(*outer, *value.shape[-len(self.event_shape) :]).reshape(-1, *value.shape[-3:])
        return self.flow.log_prob(flat, self._conditions(outer)).view(outer)

    def expand(self, batch_shape, _instance=None) -> "FlowDistribution":
        """Return the distribution with a larger batch shape."""
        batch = torch.Size(batch_shape)
        new = FlowDistribution.__new__(FlowDistribution)
        new.flow = self.flow
        new.cond = (
            None if self.cond is None else self.cond.expand(*batch, *self.cond.shape[len(self.batch_shape) :])
        )
        Distribution.__init__(new, batch, self.event_shape, validate_args=False)
        return new

    def _conditions(self, outer: torch.Size) -> Tensor | None:
        if self.cond is None:
            return None
        inner = self.cond.shape[len(self.batch_shape) :]
        return self.cond.expand(*outer, *inner).reshape(-1, *inner)
