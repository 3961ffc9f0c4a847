"""Check of derivatives against differences."""

import copy
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from opflow.certification.certificate import Measured

_STEP = 1e-3  # the error of the differences is then about that of their rounding, 1e-12


@torch.enable_grad()
def measure(model: nn.Module, call: Callable[[nn.Module, Tensor], Tensor], x: Tensor) -> Iterator[Measured]:
    r"""Measure derivatives in random directions, by the input and by the weights, in float64.

    The functional is :math:`\langle w, f(x) \rangle` with a random w, the difference of fourth order,
    :math:`(8 (f_1 - f_{-1}) - (f_2 - f_{-2})) / 12 h`. The error is relative to the root of
    :math:`\sum_i g_i^2 d_i^2`, the size of a typical derivative: the sum itself may happen to vanish.

    Args:
        model: the model, which is copied; a model that does not run in float64 gives a remark.
        call: how it is called.
        x: the input.
    """
    names = ("derivative by the input, float64", "derivative by the weights, float64")
    try:
        double = copy.deepcopy(model).double()
        x = x.detach().double().requires_grad_()
        y = call(double, x)
    except RuntimeError as error:
        for name in names:
            remark = f"does not run in float64 ({str(error).splitlines()[0]})"
            yield Measured("gradient", name, None, remark)
        return
    noise = torch.Generator().manual_seed(0)

    def random(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=noise, dtype=like.dtype).to(like.device)

    weight = random(y.detach())
    parameters = [p for p in double.parameters() if p.requires_grad]
    of_input, *of_weights = torch.autograd.grad((weight * y).sum(), [x, *parameters], allow_unused=True)
    for name, tensors, found in zip(names, ([x], parameters), ([of_input], of_weights)):
        used = [(t, g) for t, g in zip(tensors, found) if g is not None]
        sizes = [t.detach().abs().square().mean().sqrt().clamp(min=1e-6) for t, _ in used]
        steps = [size * random(t.detach()) for size, (t, _) in zip(sizes, used)]
        exact = sum((g.conj() * d).real.sum().item() for (_, g), d in zip(used, steps))
        spread = sum((g.abs() * d.abs()).square().sum().item() for (_, g), d in zip(used, steps)) ** 0.5
        start = [t.detach().clone() for t, _ in used]
        values = {}
        with torch.no_grad():
            for times in (1, -1, 2, -2):
                for (t, _), at, d in zip(used, start, steps):
                    t.copy_(at + times * _STEP * d)
                values[times] = (weight * call(double, x)).sum().item()
            for (t, _), at in zip(used, start):
                t.copy_(at)
        difference = (8 * (values[1] - values[-1]) - (values[2] - values[-2])) / (12 * _STEP)
        yield Measured("gradient", name, abs(difference - exact) / max(spread, 1e-300))
