"""Spectral convolution of features of a point group: learned matrices per mode, tied by the symmetry."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from opflow.kernels import dft
from opflow.kernels.dft import Slot
from opflow.kernels.group_modes import GroupProduct
from opflow.nn.point_group import IDENTITY, PointGroup
from opflow.nn.spectral import transforms


class GroupSpectralConv(nn.Module):
    r"""Convolve features over a point group and space, in Fourier space.

    .. math:: Y_o(g, k) = \sum_{i,h} W_{oi}(g^{-1} h, g^{-1} k)\, X_i(h, k), \quad y = F^{-1} Y + b

    for the modes :math:`|k_a| \le \lfloor (m_a - 1) / 2 \rfloor`, a set that no turn leaves. W is the
    transform of a real kernel, :math:`W(-k) = \overline{W(k)}`, held as one real number :math:`\theta` per
    mode of the whole set, as a Hartley transform:

    .. math:: W(k) = \tfrac12 (\theta(k) + \theta(-k)) - \tfrac{i}{2} (\theta(k) - \theta(-k))

    So an array of parameters turns by moving its entries, and the Hermitian symmetry needs no cases. The
    first two axes are space and turn; a third one, such as time, does not. Features are those of
    `opflow.nn.group_linear`. A grid that is too coarse for a mode leaves it out, together with its images.

    Args:
        in_channels: channels of the input, each with a slot per element.
        out_channels: channels of the output, likewise.
        n_modes: modes kept per axis, negative and positive together; the first two are equal.
        group: the group.
        bias: add a constant per output channel.
        radial: plain channels, one slot, and kernels that are constant on the orbits of the group; in the
            plane W is then real.

    Shapes:
        `(batch, order * in_channels, *space)` to `(batch, order * out_channels, *out_grid)`.

    Source: Helwig et al., Group Equivariant Fourier Neural Operators for Partial Differential Equations,
        2023.

    Example:
        >>> conv = GroupSpectralConv(2, 2, (8, 8), PointGroup.named("p4"), bias=False)
        >>> conv.weight.numel() == 7**2 * 4 * 2 * 2
        True
        >>> x = torch.randn(1, 8, 9, 9)
        >>> turned = x.rot90(1, (2, 3)).unflatten(1, (4, 2)).roll(1, 1).flatten(1, 2)
        >>> expected = conv(x).rot90(1, (2, 3)).unflatten(1, (4, 2)).roll(1, 1).flatten(1, 2)
        >>> torch.allclose(conv(turned), expected, atol=1e-6)
        True
    """

    sources: Tensor
    families: Tensor
    orbits: Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        n_modes: Sequence[int],
        group: PointGroup,
        *,
        bias: bool = True,
        radial: bool = False,
    ):
        super().__init__()
        if n_modes[0] != n_modes[1]:
            raise ValueError(
                f"n_modes={tuple(n_modes)}: the two axes that turn into each other need the same number"
            )
        self.in_channels, self.out_channels = in_channels, out_channels
        self.halves = tuple((m - 1) // 2 for m in n_modes)
        slots = IDENTITY if radial else group
        self.order = slots.order
        count = math.prod(2 * h + 1 for h in self.halves)
        orbits = group.orbits(self.halves) if radial else None
        parameters = count if orbits is None else int(orbits.max()) + 1
        std = math.sqrt(2 / ((in_channels + out_channels) * self.order))
        self.weight = nn.Parameter(std * torch.randn(parameters, self.order, in_channels, out_channels))
        self.bias = nn.Parameter(std * torch.randn(out_channels)) if bias else None

        # For each k of the half spectrum: where theta(g^-1 h, g^-1 k) stands, (*modes, g, h), and which modes
        # share it, (*modes,).
        box = [2 * h + 1 for h in self.halves]
        turned = slots.turned_modes(self.halves)
        families = torch.minimum(turned, count - 1 - turned).amin(1)
        sources = turned[..., None] * self.order + slots.quotients()
        upper = slice(self.halves[-1], None)
        sources = sources.unflatten(0, box)[..., upper, :, :].contiguous()  # views cannot be exported
        self.register_buffer("sources", sources, persistent=False)
        self.register_buffer(
            "families", families.unflatten(0, box)[..., upper].contiguous(), persistent=False
        )
        self.register_buffer("orbits", orbits, persistent=False)

    def forward(self, u: Tensor, out_grid: Sequence[int] | None = None) -> Tensor:
        """Apply the layer; the output lives on `out_grid`, or on the grid of `u` when None."""
        grid = tuple(u.shape[2:])
        out_grid = grid if out_grid is None else tuple(out_grid)
        slots = self.slots_on(grid, out_grid)
        analyse, synthesise = transforms(slots)
        y = self.product(slots)(analyse(u.movedim(1, -1), slots), self.theta())
        if self.bias is not None:
            y = y + dft.constant(slots, y)[..., None] * self.vector()
        return synthesise(y, slots, out_grid).movedim(-1, 1)

    def slots_on(self, grid: Sequence[int], out_grid: Sequence[int]) -> list[Slot]:
        """Return the range of modes per axis that take part between two grids."""
        halves = [_resolved(*arguments) for arguments in zip(self.halves, grid, out_grid)]
        return [*((-h, 2 * h + 1) for h in halves[:-1]), (0, halves[-1] + 1)]

    def theta(self) -> Tensor:
        r"""Return :math:`\theta` on the whole set of modes: `(modes, order, in, out)`."""
        return self.weight if self.orbits is None else self.weight.index_select(0, self.orbits)

    def product(self, slots: Sequence[Slot]) -> GroupProduct:
        """Return how the modes in `slots` are multiplied by `theta`."""
        sources, families = self.sources, self.families
        for axis, ((first, count), half) in enumerate(zip(slots, self.halves)):
            held = 0 if axis == len(slots) - 1 else -half
            sources, families = (t.narrow(axis, first - held, count) for t in (sources, families))
        return GroupProduct(sources.flatten(0, len(slots) - 1).contiguous(), families.flatten())

    def vector(self) -> Tensor:
        """Return the bias of the plain layer, `(order * out,)`."""
        assert self.bias is not None
        return self.bias.repeat(self.order)


def _resolved(half: int, n: int, out_n: int) -> int:
    if n > 2 * half and out_n > 2 * half:
        return half  # also the branch that export takes, with symbolic sizes
    return (min(n, out_n) - 1) // 2  # without a Nyquist mode: its image under a turn is not kept
