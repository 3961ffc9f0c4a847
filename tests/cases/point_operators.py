"""What the tests of all point operators need to know of one."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import opflow


@dataclass(frozen=True)
class PointOperatorCase:
    """An operator on points of the plane, small enough for seconds, from two channels to one."""

    name: str
    arguments: dict[str, Any]

    def build(self, **others: Any) -> opflow.PointOperator:
        """Build the operator at a generic point of its parameters: some of them start from zero."""
        torch.manual_seed(0)
        model = opflow.build(self.name, **({"in_channels": 2, "out_channels": 1} | self.arguments | others))
        assert isinstance(model, opflow.PointOperator)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
        n_in, n_out = model.in_channels, model.out_channels
        model.normalizer.set([0.3] * n_in, [2.0] * n_in, [1.0] * n_out, [3.0] * n_out)
        return model.eval()


def scattered(n: int, d: int = 2, seed: int = 0) -> np.ndarray:
    """Return random points in the unit box, its corners among them."""
    corners = np.stack(np.meshgrid(*[[0.0, 1.0]] * d, indexing="ij"), -1).reshape(-1, d)
    return np.concatenate([corners, np.random.default_rng(seed).random((n - len(corners), d))])


def points(n: int, d: int = 2, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return `scattered` points as a tensor."""
    return torch.tensor(scattered(n, d, seed), dtype=dtype)


def field(coords: torch.Tensor, batch: int = 2) -> torch.Tensor:
    """Return two smooth fields at points, with another phase in each sample."""
    phase = torch.arange(batch, dtype=coords.dtype)[:, None]
    s = coords.sum(-1)
    return torch.stack([torch.sin(4 * s + phase), torch.cos(3 * s - phase)], -1)


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float) -> None:
    """Assert a relative distance."""
    assert a.shape == b.shape
    assert (a - b).norm() <= tolerance * b.norm()
