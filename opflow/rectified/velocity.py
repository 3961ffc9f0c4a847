"""Networks of the operators' registry as functions of a state and of times."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from opflow.nn.embed import TimeEmbedding
from opflow.nn.point_geometry import PointGeometry
from opflow.nn.unet import UNet
from opflow.operators import OPERATORS, Operator, PointOperator, build


class VelocityNetwork(nn.Module):
    """A network of a state and times: U-Net, FNO, LocalNO, MINO, or any other operator.

    There is one embedding of time for all. A U-Net takes it in every residual block; an operator on grids as
    constant channels beside the field, so that `Symmetrize` takes it for scalars; a `PointOperator` has a
    time of its own, and takes further times as channels.

    Args:
        network: `{"class": name, "config": arguments}`, arguments without channels: a name of the registry of
            operators.
        in_channels: channels of the state and of what is given beside it.
        out_channels: channels of the output.
        n_times: number of times.
        embedding: channels of the embedding of a time.

    Shapes:
        state `(batch, in_channels, *space)`, at points `(batch, point, in_channels)`; times
        `(batch, n_times)`; the output likewise with `out_channels`.

    Raises:
        ValueError: the description is none, or names no operator.

    Example:
        >>> net = VelocityNetwork({"class": "UNet", "config": {"hidden_channels": 8}}, 2, 1)
        >>> net(torch.zeros(3, 2, 9, 12), torch.rand(3, 1)).shape
        torch.Size([3, 1, 9, 12])
    """

    def __init__(
        self,
        network: Mapping[str, Any],
        in_channels: int,
        out_channels: int,
        n_times: int = 1,
        embedding: int = 32,
    ):
        super().__init__()
        name, options = network.get("class"), dict(network.get("config", {}))
        if not isinstance(name, str) or not {"class", "config"} >= network.keys():
            raise ValueError(
                f'network={dict(network)} should be {{"class": name, "config": arguments}}, with one of '
                f"{', '.join(OPERATORS)}"
            )
        self.n_times, self.out_channels = n_times, out_channels
        if name == "UNet":
            width = {"channels": options.pop("hidden_channels", 64)}
            self.net = UNet(in_channels, out_channels, **width, **options, embedding_channels=embedding)
            embedded = n_times
        elif name == "MINO":
            embedded = n_times - 1
            extra = embedding if embedded else 0
            self.net = build(
                name, **options, in_channels=in_channels + extra, out_channels=out_channels, time=True
            )
        else:
            embedded = n_times
            self.net = build(name, **options, in_channels=in_channels + embedding, out_channels=out_channels)
        # Velocities that change within a hundredth of the way would need as many steps.
        self.embeddings = nn.ModuleList(TimeEmbedding(embedding, fastest=100.0) for _ in range(embedded))

    @property
    def on_points(self) -> bool:
        """Whether states are values at points."""
        return isinstance(self.net, PointOperator)

    def forward(self, state: Tensor, times: Tensor, coords: Tensor | PointGeometry | None = None) -> Tensor:
        """Map states to outputs; `coords` are the points of a network on points, or their geometry."""
        if isinstance(self.net, PointOperator):
            if coords is None:
                raise ValueError("a network on points needs the points: give coords, or a geometry")
            if len(self.embeddings):
                code = self._code(times[:, 1:])[:, None].expand(-1, state.shape[1], -1)
                state = torch.cat([state, code], 2)
            return self.net(state, coords, time=times[:, 0])
        code = self._code(times)
        if isinstance(self.net, UNet):
            return self.net(state, code)
        channels = code.reshape(*code.shape, *(1,) * (state.ndim - 2)).expand(-1, -1, *state.shape[2:])
        return cast(Operator, self.net)(torch.cat([state, channels], 1))

    def geometry(self, coords: Tensor, weights: Tensor | None = None) -> PointGeometry:
        """Find the neighbours of points once, to be passed in the place of `coords` again and again.

        Arguments as for `PointOperator.geometry`; points of weight zero are filling.
        """
        if not isinstance(self.net, PointOperator):
            raise ValueError(f"a {type(self.net).__name__} works on grids and has no geometry")
        return self.net.geometry(coords, weights)

    def _code(self, times: Tensor) -> Tensor:
        return sum((embed(t) for embed, t in zip(self.embeddings, times.unbind(1))), times.new_zeros(()))


def beside(state: Tensor, others: Sequence[Tensor], on_points: bool) -> Tensor:
    """Put fields beside a state, as further channels.

    Raises:
        ValueError: a field lies on another grid, or at other points.

    Example:
        >>> beside(torch.zeros(2, 1, 4), [torch.zeros(2, 3, 4)], on_points=False).shape
        torch.Size([2, 4, 4])
    """
    axis = state.ndim - 1 if on_points else 1

    def outer(x: Tensor) -> tuple[int, ...]:
        return tuple(x.shape[:axis] + x.shape[axis + 1 :])

    for other in others:
        if other.ndim != state.ndim or outer(other) != outer(state):
            raise ValueError(
                f"a field of shape {tuple(other.shape)} does not lie on the grid of one of shape "
                f"{tuple(state.shape)}: resample one of them (pde_data.resample)"
            )
    return torch.cat([state, *others], axis)
