"""What the tests of all operators need to know of one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

import opflow


@dataclass(frozen=True)
class OperatorCase:
    """An operator on grids, small enough for seconds: constructor arguments, and grids that it takes.

    The first grid is the one it is exported from. Among the others are odd and non-square ones.
    """

    arguments: dict[str, Any]
    grids: Sequence[tuple[int, ...]] = ((16, 12), (9, 16), (11, 13))

    def build(self, name: str) -> opflow.Operator:
        """Build the operator at a generic point of its parameters: some of them start from zero."""
        torch.manual_seed(0)
        model = opflow.build(name, **self.arguments)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
        channels = torch.rand(model.in_channels).tolist(), torch.rand(model.out_channels).tolist()
        model.normalizer.set(channels[0], [2.0] * model.in_channels, channels[1], [3.0] * model.out_channels)
        return model

    def field(self, grid: Sequence[int], batch: int = 2, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Return a random input on a grid."""
        return torch.randn(batch, self.arguments["in_channels"], *grid, dtype=dtype)
