"""Local spherical neural operator: spherical harmonics and integrals over geodesic discs."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from opflow.nn.activations import ACTIVATIONS
from opflow.nn.arguments import arguments
from opflow.nn.channel_mlp import ChannelMLP
from opflow.nn.filter_bases import filter_basis
from opflow.nn.local_block import LocalBlock, per_layer
from opflow.nn.sphere import SphericalConv, SphericalIntegral, resolved_degrees, sines_of_latitude
from opflow.operators.base import Operator
from opflow.operators.own_grid import check_own_grid


class LocalSFNO(Operator):
    r"""Local spherical neural operator: `LocalNO` on the sphere.

    Layers add a convolution in spherical harmonics and an integral over the geodesic disc round every point,
    :math:`u' = \sigma(M\,\sigma(K u + L I u + S u) + g \odot u)`. Fields live on the grids of
    `pde_data.SphereGrid`, latitudes from south to north. Without embedding and with isotropic kernels, the
    default, the model commutes with rotations: about the axis by whole points to rounding, and with others
    up to an error that vanishes with the spacing.

    Args:
        n_modes: degrees of spherical harmonics kept, all orders of each.
        in_channels: channels of the input field.
        out_channels: channels of the output field.
        hidden_channels: width of the layers.
        n_layers: number of layers.
        disco_layers: whether the layers have an integral kernel: one answer, or one per layer.
        disco_kernel_shape: (rings, angles), (waves_x, waves_y) or (degree,) of the integral kernels; x is
            north. More than one angle tells directions apart.
        disco_basis: "piecewise_linear", "morlet" or "zernike".
        radius_cutoff: radius of the integral kernels in radians; half the shortest wave kept when None.
        grid: "equiangular", with both poles, or "gauss", Gauss-Legendre latitudes.
        positional_embedding: "latitude" appends its sine, which tells a rotating planet's latitudes apart;
            None makes the model equivariant under rotations.

    Shapes:
        `(batch, in_channels, latitude, longitude)` to `(batch, out_channels, latitude, longitude)`.

    Raises:
        ValueError: an argument, or the shape of an input, does not fit; the message says what would.
        ImportError: torch-harmonics, the extra `sphere`, is not installed.

    Source: Liu-Schiaffini et al., Neural Operators with Localized Integral and Differential Kernels, 2024;
    Bonev et al., Spherical Fourier Neural Operators, 2023.

    Example:
        >>> import torch
        >>> model = LocalSFNO(n_modes=8, in_channels=1, out_channels=1, hidden_channels=8, n_layers=2)
        >>> model(torch.zeros(2, 1, 17, 32)).shape
        torch.Size([2, 1, 17, 32])
    """

    exports_any_grid = False  # the Legendre functions of a grid are tables

    def __init__(
        self,
        n_modes: int,
        in_channels: int,
        out_channels: int,
        hidden_channels: int,
        n_layers: int = 4,
        disco_layers: bool | Sequence[bool] = True,
        disco_kernel_shape: Sequence[int] = (3, 1),
        disco_basis: str = "piecewise_linear",
        radius_cutoff: float | None = None,
        grid: str = "equiangular",
        positional_embedding: str | None = "latitude",
    ):
        config = arguments(locals())
        n_modes, disco_layers = config["n_modes"], config["disco_layers"]
        for name in ("n_modes", "in_channels", "out_channels", "hidden_channels", "n_layers"):
            size = config[name]
            if not isinstance(size, int) or size < 1:
                raise ValueError(f"{name} must be a number of at least 1, got {size!r}")
        if positional_embedding not in ("latitude", None):
            raise ValueError(f"positional_embedding={positional_embedding!r} is not one of 'latitude', None")
        super().__init__(in_channels, out_channels, 2)
        self.config = config
        self.n_modes = n_modes
        self.grid, self.positional_embedding = grid, positional_embedding
        width, activation = hidden_channels, ACTIVATIONS["gelu"]
        disco = per_layer("disco_layers", disco_layers, n_layers)
        radius = math.pi / n_modes if radius_cutoff is None else radius_cutoff
        basis = filter_basis(disco_basis, disco_kernel_shape)
        self.lifting = ChannelMLP(in_channels + bool(positional_embedding), 2 * width, width, activation)
        self.blocks = nn.ModuleList(
            LocalBlock(
                width,
                spectral=SphericalConv(width, width, n_modes, grid),
                local=SphericalIntegral(width, width, basis, radius=radius, grid=grid, groups=width)
                if disco[layer]
                else None,
                last=layer == n_layers - 1,
            )
            for layer in range(n_layers)
        )
        self.projection = ChannelMLP(width, 2 * width, out_channels, activation)

    def resolved_modes(self, grid: Sequence[int]) -> int:
        """Return how many degrees a grid `(latitudes, longitudes)` resolves; it leaves out others."""
        latitudes, longitudes = grid
        return resolved_degrees(latitudes, longitudes, self.grid)

    def operate(self, x: Tensor, out_grid: Sequence[int] | None) -> Tensor:
        """Map a normalised field to a normalised field on the same grid."""
        check_own_grid("LocalSFNO", x.shape[2:], out_grid)
        if self.positional_embedding:
            sines = sines_of_latitude(x.shape[2], self.grid, x)
            x = torch.cat([x, sines[:, None].expand(x.shape[0], 1, *x.shape[2:])], 1)
        u = self.lifting(x)
        for block in self.blocks:
            u = block(u)
        return self.projection(u)
