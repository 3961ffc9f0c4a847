"""From values at scattered points to features at nodes: an integral against a learned kernel."""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from opflow.kernels.edge_sum import edge_sum
from opflow.nn.point_geometry import PointGeometry


class GraphKernel(nn.Module):
    r"""Average a learned kernel over the points around each node.

    :math:`v(x) = \sum_{|y - x| \le r} w_{xy} \, \kappa(y, x, f(y))` with weights that sum to one and
    :math:`\kappa = W_2 \, \mathrm{GELU}(W_y e(y) + W_x e(x) + W_f (L f(y) + l) + b_1) + b_2`, where e is the
    position code. What depends on y alone is computed once for each point rather than for each of its edges,
    what depends on y but not on f once for all samples that share the points, and :math:`W_2`, being linear,
    behind the sum. A node without points has the value 0.

    Args:
        in_channels: channels of f.
        channels: width C of the position codes and of the output; the hidden layer has 2 C.

    Source: Li et al., Neural Operator: Graph Kernel Network for Partial Differential Equations, 2020; in this
    form Shi et al., Mesh-Informed Neural Operator, 2025.
    """

    def __init__(self, in_channels: int, channels: int):
        super().__init__()
        self.lift = nn.Linear(in_channels, channels)
        self.first = nn.Linear(3 * channels, 2 * channels)  # columns: e(y), e(x), lifted f(y)
        self.second = nn.Linear(2 * channels, channels)

    def forward(self, values: Tensor, geometry: PointGeometry, code: Tensor, node_code: Tensor) -> Tensor:
        """Map values at the points to features at the nodes.

        Args:
            values: `(batch, point, in_channels)`.
            geometry: the edges.
            code: position code of the points `([batch,] point, channels)`.
            node_code: position code of the nodes `(node, channels)`.

        Returns:
            `(batch, node, channels)`.
        """
        by_point, by_node, by_value = self.first.weight.chunk(3, 1)
        a = linear(code, by_point) + linear(
            values, by_value @ self.lift.weight, self.first.bias + by_value @ self.lift.bias
        )
        b = linear(node_code, by_node)
        nodes, batch = len(node_code), values.shape[0]
        if geometry.shared:
            sums = edge_sum(a, b, geometry.source, geometry.target, geometry.weight, nodes)
        else:
            edges = (geometry.source, geometry.target, geometry.weight)
            sums = edge_sum(a.flatten(0, 1)[None], b, *edges, batch * nodes).view(batch, nodes, -1)
        return torch.where(geometry.covered[..., None], self.second(sums), 0.0)
