"""How straight a flow is, and what makes it straighter."""

import torch
from torch import Tensor

from opflow.rectified.sampling import Velocity, require_finite, time_grid


@torch.no_grad()
def straightness(velocity: Velocity, start: Tensor, n_steps: int = 25) -> Tensor:
    r"""Distance of trajectories from straight lines: :math:`\int_0^1 \|(x_1 - x_0) - v(x_t, t)\|^2 dt`.

    Zero for a flow that one Euler step solves. The integral is a sum over Euler steps, the norm the mean
    square over the numbers of a sample.

    Args:
        velocity: a function of a state and a time.
        start: `(batch, ...)`, at time 0.
        n_steps: number of Euler steps, at least 1.

    Returns:
        `(batch,)`.

    Raises:
        ValueError: `n_steps` is not positive.
        FloatingPointError: the velocity is not finite.

    Source: Liu et al., Flow Straight and Fast, 2023, equation 3.

    Example:
        >>> straightness(lambda x, t: torch.ones_like(x), torch.zeros(2, 3), n_steps=4)
        tensor([0., 0.])
        >>> curved = straightness(lambda x, t: 2 * t * torch.ones_like(x), torch.zeros(1, 1), n_steps=100)
        >>> round(float(curved), 2)  # the variance of 2t
        0.33
    """
    times = time_grid((0.0, 1.0), n_steps).to(start)
    x, velocities = start, []
    for i, (t, dt) in enumerate(zip(times, times.diff())):
        v = velocity(x, t)
        require_finite(v, i, t)
        velocities.append(v)
        x = x + dt * v
    total = x - start
    return torch.stack([(total - v).square().flatten(1).mean(1) for v in velocities]).mean(0)
