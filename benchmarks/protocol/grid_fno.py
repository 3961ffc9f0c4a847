"""FNO for meshes: node values interpolated to a grid, predicted there, interpolated back to the nodes.

A strong form of the usual baseline. The inputs are interpolated linearly within the triangles, once per mesh,
and get the mask of the domain as a channel; the grid is the same for all meshes; the loss is that of the
score, taken at the nodes with quadrature weights, so that the network also learns which values beside the
boundary interpolate best, and no target is interpolated.

`opflow.fit` sees pairs of tensors of equal shape in each sample. So a sample is packed into one row: the
fields on the grid, then for every node four grid points, their weights, and the root of its quadrature
weight, filled up to the largest mesh. Targets and predictions carry that root, whence the plain relative L2
of the loop is the weighted one, and a filled-up node, of weight zero, does not count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import opflow
import pde_data
from protocol.mesh_grid import Box, grid_to_nodes, nodes_to_grid


@dataclass(frozen=True)
class Packing:
    """How samples of one file are packed into rows: the grid, the largest mesh, the scales of the fields."""

    box: Box
    nodes: int
    input_mean: np.ndarray
    input_std: np.ndarray
    output_mean: np.ndarray
    output_std: np.ndarray

    @classmethod
    def fit(cls, train: pde_data.MeshDataset, box: Box, nodes: int) -> Packing:
        """Take the scales of the fields from the training set."""
        values = [(x.numpy(), y.numpy(), w.numpy()[:, None]) for _, x, y, w in train]
        total = sum(w.sum() for *_, w in values)
        scales = []
        for side in (0, 1):
            mean = sum((v[side] * v[2]).sum(0) for v in values) / total
            square = sum(((v[side] - mean) ** 2 * v[2]).sum(0) for v in values) / total
            scales += [mean, np.sqrt(square)]
        return cls(box, nodes, *scales)

    def pack(self, dataset: pde_data.MeshDataset) -> TensorDataset:
        """Return the samples as rows `(row,)` and targets `(channel, node)`."""
        rows, targets = zip(*(self._sample(dataset, i) for i in range(len(dataset))))
        return TensorDataset(torch.stack(rows), torch.stack(targets))

    def _sample(self, dataset: pde_data.MeshDataset, index: int) -> tuple[Tensor, Tensor]:
        coords, x, y, weights = (part.double().numpy() for part in dataset[index])
        to_grid = nodes_to_grid(dataset.mesh(index), self.box)
        mask = (np.diff(to_grid.indptr) > 0).astype(float)
        # Outside of the domain a normalised field is 0.
        fields = to_grid @ ((x - self.input_mean) / self.input_std)
        root = np.sqrt(weights)[:, None]
        rest = ((0, self.nodes - len(coords)), (0, 0))
        at_nodes = [np.pad(part, rest).ravel() for part in (*grid_to_nodes(coords, self.box), root)]
        row = np.concatenate([fields.T.ravel(), mask, *at_nodes]).astype(np.float32)
        target = np.pad(y * root, rest).T.astype(np.float32)
        return torch.from_numpy(row), torch.from_numpy(target.copy())


class GridFNO(nn.Module):
    """FNO between meshes, by way of a grid: packed rows in, weighted values at the nodes out.

    Args:
        packing: what packed the rows.
        in_channels: input fields, without the mask.
        out_channels: output fields.
        options: arguments of `opflow.FNO`.

    Shapes:
        `(batch, row)` to `(batch, out_channels, node)`, see `Packing`.
    """

    def __init__(self, packing: Packing, in_channels: int, out_channels: int, **options):
        super().__init__()
        self.sizes, self.nodes = packing.box.sizes, packing.nodes
        self.fno = opflow.build("FNO", in_channels=in_channels + 1, out_channels=out_channels, **options)
        self.fno.normalizer.set(
            [0.0] * (in_channels + 1),
            [1.0] * (in_channels + 1),
            packing.output_mean.tolist(),
            packing.output_std.tolist(),
        )

    def forward(self, rows: Tensor) -> Tensor:
        """Return the prediction at the nodes, times the root of the quadrature weights."""
        grid = self.fno.in_channels * self.sizes[0] * self.sizes[1]
        fields, points, weights, root = rows.split((grid, 4 * self.nodes, 4 * self.nodes, self.nodes), dim=1)
        y = self.fno(fields.unflatten(1, (-1, *self.sizes))).flatten(2)
        corners = y.gather(2, points.long()[:, None].expand(-1, y.shape[1], -1)).unflatten(2, (-1, 4))
        values = (corners * weights.unflatten(1, (-1, 4))[:, None]).sum(-1)
        return values * root[:, None]
