"""Sampling on a ladder of grids: early steps of the ODE on coarser ones."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from opflow.nn.spectral import fourier_resample
from opflow.rectified.fixed_steps import FixedSteps
from opflow.rectified.paths import Path
from opflow.rectified.sampling import Flowed


@torch.no_grad()
def coarse_to_fine(
    velocity: Callable[[Tensor, Tensor], Tensor],
    noise: Tensor,
    grids: Sequence[Sequence[int]],
    switches: Sequence[float],
    path: Path,
    *,
    method: str = "euler",
    n_steps: int = 25,
) -> Flowed:
    r"""Integrate a flow from a coarse to a fine grid; periodic fields.

    The state starts as the coarse modes of the noise, and at each switch is brought to the next grid by its
    Fourier series. Modes that are new there come as :math:`a(t) \hat x_0`, as on a path to data without
    them: noise that has faded up to then. For a velocity that is the same operator on every grid, in the band
    of the coarse grid the result is that of the fine grid alone, but for what fine modes do to coarse ones.

    Args:
        velocity: a function of a state on any of the grids and a time.
        noise: `(batch, channel, *finest grid)`, where the flow starts.
        grids: sizes, from the coarsest to that of the noise.
        switches: times between 0 and 1, ascending, at which the grid changes; one less than grids.
        path: along which the flow was trained.
        method: as for `FixedSteps`.
        n_steps: steps in all, shared out by time.

    Returns:
        The samples on the finest grid; `nfe` counts evaluations in units of one on that grid, rounded up.

    Raises:
        ValueError: the grids do not become finer, the last is not that of the noise, or the switches do not
            lie between them.
        FloatingPointError: the velocity is not finite.

    Source: the idea of the ladder, Teng et al., Relay Diffusion, 2024.

    Example:
        >>> from opflow.rectified import Straight
        >>> noise = torch.randn(2, 1, 8, 8)
        >>> still = lambda x, t: torch.zeros_like(x)
        >>> coarse_to_fine(still, noise, [(4, 4), (8, 8)], [0.5], Straight(), n_steps=4).nfe
        3
    """
    shapes = [tuple(g) for g in grids]
    finer = all(all(a <= b for a, b in zip(x, y, strict=True)) for x, y in zip(shapes, shapes[1:]))
    if not shapes or shapes[-1] != tuple(noise.shape[2:]) or not finer:
        raise ValueError(
            f"grids={shapes} should become finer, up to that of the noise, {tuple(noise.shape[2:])}"
        )
    stops = [0.0, *switches, 1.0]
    if len(switches) != len(shapes) - 1 or any(a >= b for a, b in zip(stops, stops[1:])):
        raise ValueError(
            f"switches={list(switches)} should be {len(shapes) - 1} ascending times within (0, 1)"
        )
    x, cost = fourier_resample(noise, shapes[0]), 0.0
    for i, (shape, first, last) in enumerate(zip(shapes, stops, stops[1:])):
        steps = max(1, round(n_steps * (last - first)))
        flowed = FixedSteps(velocity, method, steps, (first, last))(x)
        cost += flowed.nfe * torch.Size(shape).numel() / noise[0, 0].numel()
        x = flowed.samples
        if i + 1 < len(shapes):
            fine = fourier_resample(noise, shapes[i + 1])
            missing = fine - fourier_resample(fourier_resample(noise, shape), shapes[i + 1])
            faded = path.coefficients(noise.new_tensor(last))[0]
            x = fourier_resample(x, shapes[i + 1]) + faded * missing
    return Flowed(x, -int(-cost // 1), noise.new_tensor([0.0, 1.0]), None)
