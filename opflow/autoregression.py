"""Step a model through time by feeding its predictions back."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from opflow.nn.point_geometry import PointGeometry


def slide(window: Tensor, frame: Tensor) -> Tensor:
    """Drop the oldest frame of a window `(batch, window * c, *space)` and append `(batch, c, *space)`."""
    return torch.cat((window[:, frame.shape[1] :], frame), 1)


def rollout(
    model: nn.Module,
    x0: Tensor,
    steps: int,
    *,
    geometry: PointGeometry | None = None,
    batch_size: int | None = None,
    grad: bool = False,
) -> Tensor:
    r"""Apply a one-step model `steps` times, each time to its own latest predictions.

    :math:`u_{n+1} = G(u_{n-w+1}, \dots, u_n)` for a window of `w` frames, starting from the frames in `x0`.
    Without `grad` the model is evaluated in evaluation mode and keeps nothing for a backward pass.

    Args:
        model: maps `(batch, window * c, *space)` to `(batch, c, *space)`.
        x0: `(batch, window * c, *space)`, the first frames, oldest first, on the device of the model.
        steps: number of frames to predict.
        geometry: for a point operator, `model.geometry(coords, weights)` of one set of points; `x0` is then
            `(batch, point, window * c)` and the result `(batch, steps, point, c)`.
        batch_size: trajectories stepped at a time, to bound the memory; all of them when None.
        grad: keep the graph, to differentiate through the whole rollout.

    Returns:
        `(batch, steps, c, *space)`.

    Raises:
        ValueError: `steps` or `batch_size` is not positive, or the channels of the output do not divide
            those of the input, so that predictions cannot take the place of frames; or the geometry has
            points of its own for each sample.

    Example:
        >>> double = torch.nn.Conv1d(1, 1, 1, bias=False)
        >>> _ = torch.nn.init.constant_(double.weight, 2.0)
        >>> rollout(double, torch.ones(1, 1, 4), steps=3)[0, :, 0, 0].tolist()
        [2.0, 4.0, 8.0]
    """
    if steps < 1:
        raise ValueError(f"a rollout needs at least one step, got steps={steps}")
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if geometry is not None and not geometry.shared:
        raise ValueError("a rollout at points needs one set of them, coords (point, dim), for all samples")
    was_training = model.training
    model.train(was_training and grad)
    try:
        with torch.set_grad_enabled(grad):
            parts = x0.split(batch_size or len(x0))
            if geometry is None:
                return torch.cat([_rollout(model, x, steps) for x in parts])
            return torch.cat([_rollout(lambda u: model(u.mT, geometry).mT, x.mT, steps).mT for x in parts])
    finally:
        model.train(was_training)


def _rollout(model: Callable[[Tensor], Tensor], window: Tensor, steps: int) -> Tensor:
    frames = []
    for _ in range(steps):
        frame = model(window)
        if window.shape[1] % frame.shape[1] or frame.shape[2:] != window.shape[2:]:
            raise ValueError(
                f"the model maps {tuple(window.shape)} to {tuple(frame.shape)}: its output cannot take the "
                "place of a frame of its input. A rollout needs input channels = window * output channels on "
                "one grid"
            )
        frames.append(frame)
        window = slide(window, frame)
    return torch.stack(frames, 1)
