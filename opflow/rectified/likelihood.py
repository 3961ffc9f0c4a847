"""The density of a flow, by the divergence of its velocity."""

import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from opflow.rectified.noise import NoiseSource, Where
from opflow.rectified.sampling import Velocity, Watched, check_solver, time_grid


@dataclass(frozen=True)
class LogProb:
    """Log densities, with the error that is left of random probes."""

    value: Tensor
    """`(batch,)`, with respect to Lebesgue measure on the values."""
    standard_error: Tensor
    """`(batch,)`, over the probes: zero for exact divergences, infinite for one probe."""
    nfe: int
    """Evaluations of velocity and divergence."""


def log_prob(
    velocity: Velocity,
    x: Tensor,
    noise: NoiseSource,
    where: Where | None = None,
    *,
    probes: int | None = 8,
    generator: torch.Generator | None = None,
    method: str = "dopri5",
    n_steps: int | None = None,
    tolerance: float = 1e-5,
    differentiable: bool = False,
) -> LogProb:
    r"""Log density of the law at time 1 of a flow that starts from noise.

    .. math:: \log p(x_1) = \log p_0(x_0) - \int_0^1 \nabla \cdot v(x_t, t)\, dt

    along the trajectory that ends in x_1. The divergence is exact, one derivative per number of a sample, or
    :math:`\epsilon^T \nabla v\, \epsilon` for random signs :math:`\epsilon`, the same all along the way
    (Hutchinson): without bias, its error told by the spread over the probes.

    Args:
        velocity: a function of a state and a time.
        x: `(batch, ...)`.
        noise: the law at time 0.
        where: grid or points of the values, for the noise.
        probes: random vectors per sample; None for the exact divergence.
        generator: where they come from.
        method: a solver of torchdiffeq.
        n_steps: steps of a fixed solver.
        tolerance: of an adaptive solver.
        differentiable: keep the graph, for gradients with respect to x and the weights.

    Raises:
        ValueError: the solver is unknown, or `probes` is not positive.
        FloatingPointError: the velocity is not finite.

    Source: Chen et al., Neural Ordinary Differential Equations, 2018; Grathwohl et al., FFJORD, 2019.

    Example:
        >>> from opflow.rectified import White
        >>> x = torch.zeros(1, 1, 3, dtype=torch.float64)
        >>> half = log_prob(lambda x, t: -0.5 * x, x, White(), probes=None)  # shrinks by exp(-1/2)
        >>> round(float(half.value), 4) == round(-1.5 * math.log(2 * math.pi) + 1.5, 4)
        True
    """
    from torchdiffeq import odeint

    if probes is not None and probes < 1:
        raise ValueError(f"probes={probes} must be at least 1, or None for the exact divergence")
    if probes is None:
        size = x[0].numel()
        directions = torch.eye(size, dtype=x.dtype, device=x.device).reshape(size, 1, *x.shape[1:])
        directions = directions.expand(-1, len(x), *x.shape[1:])
    else:
        bits = torch.randint(2, (probes, *x.shape), generator=generator, device=x.device)
        directions = (2 * bits - 1).to(x)
    watched = Watched(velocity)

    def rates(t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            here = (
                state[0] if differentiable and state[0].requires_grad else state[0].detach().requires_grad_()
            )
            v = watched(t, here)
            each = []
            for e in directions:
                graph = {"retain_graph": True, "create_graph": differentiable}
                (pulled,) = torch.autograd.grad(v, here, e, **graph, allow_unused=True)
                pulled = torch.zeros_like(here) if pulled is None else pulled
                each.append((pulled * e).flatten(1).sum(1))
        along = torch.stack(each, 1)
        along = along.sum(1, keepdim=True) if probes is None else along
        return (v, along) if differentiable else (v.detach(), along.detach())

    fixed = check_solver(method)
    times = time_grid((1.0, 0.0), n_steps if fixed else 1).to(x)
    options: dict[str, Any] = {} if fixed else {"rtol": tolerance, "atol": tolerance}
    with torch.set_grad_enabled(differentiable):
        state = (x, x.new_zeros(len(x), probes or 1))
        start, gained = (
            path[-1] for path in cast(Any, odeint(rates, state, times, method=method, **options))
        )
        values = noise.log_prob(start, where)[:, None] + gained  # integrated from 1 to 0: minus the integral
    if probes is None:
        error = x.new_zeros(len(x))
    elif probes == 1:
        error = torch.full_like(values[:, 0], math.inf)
    else:
        error = values.detach().std(1) / math.sqrt(probes)
    return LogProb(values.mean(1), error.detach(), watched.count)
