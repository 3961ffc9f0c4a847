"""Local neural operator: an FNO with differential and local integral kernels beside its modes."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from opflow.nn.activations import ACTIVATIONS
from opflow.nn.arguments import arguments
from opflow.nn.axes import per_axis, periodic_axes, smooth_coordinates
from opflow.nn.channel_mlp import ChannelMLP
from opflow.nn.differential import DifferentialConv
from opflow.nn.filter_bases import filter_basis
from opflow.nn.local_block import LocalBlock, per_layer
from opflow.nn.local_integral import IntegralConv
from opflow.nn.local_sum import LocalSum
from opflow.nn.spectral import SpectralConv
from opflow.operators.base import Operator, require_positive


class LocalNO(Operator):
    r"""Local neural operator: Fourier layers with differential and local integral kernels added.

    .. math:: u' = \sigma(M\,\sigma(K u + L (D + I) u + S u) + g \odot u)

    The spectral convolution K sees the whole domain through few modes; the differential operator D and the
    integral I over a disc see everything, through little of the domain. Both have physical units, so that
    one set of weights is one operator on every grid. D and I act channel by channel, and a matrix L mixes.

    Args:
        n_modes: modes kept per space axis, negative and positive together; its length is the number of
            space dimensions (1, 2 or 3).
        in_channels: channels of the input field.
        out_channels: channels of the output field.
        hidden_channels: width of the layers.
        n_layers: number of layers.
        spectral_layers: whether the layers have a spectral convolution: one answer, or one per layer.
        diff_layers: whether they have a differential kernel, likewise.
        disco_layers: whether they have an integral kernel, likewise; two dimensions only. None for what the
            dimensions allow.
        fin_diff_kernel_size: points per axis of the differential kernels, odd.
        disco_kernel_shape: (rings, angles), (waves_x, waves_y) or (degree,) of the integral kernels.
        disco_basis: "piecewise_linear", "morlet" or "zernike".
        radius_cutoff: radius of the integral kernels, in the unit of `domain_length`; half the shortest wave
            that K keeps when None, and at most half of a periodic axis.
        domain_length: size of the domain, one number or one per axis.
        periodic: whether the axes are periodic, one answer or one per axis. Points of a bounded axis include
            both ends.
        positional_embedding: "grid" appends coordinates, as cosine and sine on periodic axes, where the
            coordinate itself has no derivative; None makes the model translation-equivariant on them.

    Shapes:
        `(batch, in_channels, *space)` to `(batch, out_channels, *space)`.

    Raises:
        ValueError: an argument, or the shape of an input, does not fit; the message says what would.

    Source: Liu-Schiaffini et al., Neural Operators with Localized Integral and Differential Kernels, 2024.

    Example:
        >>> import torch
        >>> model = LocalNO(n_modes=(8, 8), in_channels=1, out_channels=1, hidden_channels=12)
        >>> model(torch.zeros(2, 1, 16, 16)).shape
        torch.Size([2, 1, 16, 16])
    """

    def __init__(
        self,
        n_modes: Sequence[int],
        in_channels: int,
        out_channels: int,
        hidden_channels: int,
        n_layers: int = 4,
        spectral_layers: bool | Sequence[bool] = True,
        diff_layers: bool | Sequence[bool] = True,
        disco_layers: bool | Sequence[bool] | None = None,
        fin_diff_kernel_size: int = 3,
        disco_kernel_shape: Sequence[int] = (2, 4),
        disco_basis: str = "piecewise_linear",
        radius_cutoff: float | None = None,
        domain_length: float | Sequence[float] = 1.0,
        periodic: bool | Sequence[bool] = True,
        positional_embedding: str | None = "grid",
    ):
        config = arguments(locals())
        n_modes, domain_length, periodic = config["n_modes"], config["domain_length"], config["periodic"]
        if isinstance(n_modes, int) or not 1 <= len(n_modes) <= 3 or min(n_modes) < 1:
            raise ValueError(
                f"n_modes={n_modes!r} needs one number of modes per space axis, such as (16, 16)"
            )
        require_positive(
            in_channels=in_channels,
            out_channels=out_channels,
            hidden_channels=hidden_channels,
            n_layers=n_layers,
        )
        if positional_embedding not in ("grid", None):
            raise ValueError(f"positional_embedding={positional_embedding!r} is not one of 'grid', None")
        n_modes, n_dim, width = tuple(n_modes), len(n_modes), hidden_channels
        super().__init__(in_channels, out_channels, n_dim)
        self.config = config
        self.n_modes = n_modes
        self.positional_embedding = positional_embedding
        self.periodic = periodic_axes(periodic, n_dim)
        lengths = per_axis("domain_length", domain_length, n_dim)
        spectral = per_layer("spectral_layers", config["spectral_layers"], n_layers)
        diff = per_layer("diff_layers", config["diff_layers"], n_layers)
        everywhere = n_dim == 2 if disco_layers is None else config["disco_layers"]
        disco = per_layer("disco_layers", everywhere, n_layers)
        if any(disco) and n_dim != 2:
            raise ValueError(f"disco_layers are for two dimensions, and n_modes={n_modes} has {n_dim}")
        shortest = [2 * length / m for length, m in zip(lengths, n_modes)]
        largest = min(
            (length / 2 for length, wraps in zip(lengths, self.periodic) if wraps), default=math.inf
        )
        radius = min(max(shortest) / 2, largest) if radius_cutoff is None else radius_cutoff
        # Waves that K keeps then have derivatives of size one.
        length_scale = [wave / (2 * math.pi) for wave in shortest]

        basis = filter_basis(disco_basis, disco_kernel_shape)

        def differential() -> DifferentialConv:
            return DifferentialConv(
                width,
                width,
                n_dim=n_dim,
                kernel_size=fin_diff_kernel_size,
                domain_length=lengths,
                periodic=self.periodic,
                length_scale=length_scale,
                groups=width,
            )

        def integral() -> IntegralConv:
            return IntegralConv(
                width,
                width,
                basis,
                radius=radius,
                domain_length=lengths,
                periodic=self.periodic,
                groups=width,
            )

        def local(layer: int) -> nn.Module | None:
            if diff[layer] and disco[layer]:
                return LocalSum(differential(), integral())
            return differential() if diff[layer] else integral() if disco[layer] else None

        activation = ACTIVATIONS["gelu"]
        embedded = in_channels
        if positional_embedding:
            embedded += sum(2 if wraps else 1 for wraps in self.periodic)
        self.lifting = ChannelMLP(embedded, 2 * width, width, activation)
        self.blocks = nn.ModuleList(
            LocalBlock(
                width,
                spectral=SpectralConv(width, width, n_modes) if spectral[layer] else None,
                local=local(layer),
                last=layer == n_layers - 1,
            )
            for layer in range(n_layers)
        )
        self.projection = ChannelMLP(width, 2 * width, out_channels, activation)

    def operate(self, x: Tensor, out_grid: Sequence[int] | None) -> Tensor:
        """Map a normalised field to a normalised field; the last layer moves it to `out_grid`."""
        grid = tuple(x.shape[2:])
        if out_grid is not None:
            self._check_grid(grid, out_grid)
        if self.positional_embedding:
            coordinates = smooth_coordinates(grid, self.periodic, x)
            x = torch.cat([x, coordinates.expand(x.shape[0], *(-1,) * (x.ndim - 1))], 1)
        u = self.lifting(x)
        for block in self.blocks[:-1]:
            u = block(u)
        return self.projection(self.blocks[-1](u, out_grid))

    def _check_grid(self, grid: Sequence[int], out_grid: Sequence[int]) -> None:
        if any(n != m and not wraps for n, m, wraps in zip(grid, out_grid, self.periodic)):
            raise ValueError(
                f"out_grid={tuple(out_grid)} differs from the grid {grid} on a bounded axis, where the "
                "Fourier series that carries fields over does not hold: use pde_data.resample before"
            )
