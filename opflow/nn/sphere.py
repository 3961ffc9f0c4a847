r"""Convolutions on the sphere: global ones in spherical harmonics, local integrals over geodesic discs.

Fields are `(batch, channel, latitude, longitude)` on the grids of `pde_data.SphereGrid`: latitudes from south
to north, at Gauss-Legendre nodes ("gauss") or equidistant with both poles ("equiangular").

The Legendre functions come from torch-harmonics. Its local convolution (DISCO) shifts a field once per
longitude on a CPU and knows only float32; along circles of latitude a local integral is a circular
convolution, so here it is a product per zonal mode and per pair of near latitudes, in either precision.
"""

import math
import operator
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from opflow.nn.axes import per_axis
from opflow.nn.differential import require_groups
from opflow.nn.filter_bases import FilterBasis
from opflow.nn.local_integral import initial_weight

GRIDS = ("equiangular", "gauss")


class SphericalConv(nn.Module):
    r"""Multiply the spherical harmonic coefficients of a field by learned real matrices, degree by degree.

    .. math:: Y_{o}^{lm} = \sum_i W_{io}^l X_i^{lm}, \qquad l < \mathrm{degrees}

    One matrix serves all orders m of a degree, and it is real: those are the linear maps of real fields that
    commute with every rotation. A grid resolves degrees below its number of latitudes ("gauss"), or half of
    it ("equiangular", where the quadrature is exact that far), and up to half its longitudes; higher ones
    are left out there.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        degrees: number of degrees kept.
        grid: "equiangular" or "gauss".

    Shapes:
        `(batch, in_channels, n, m)` to `(batch, out_channels, *out_grid)`, float32 or float64.

    Raises:
        ImportError: torch-harmonics, the extra `sphere`, is not installed.

    Source: Bonev et al., Spherical Fourier Neural Operators, 2023 (with complex matrices, which do not
    commute with rotations).

    Example:
        >>> import torch
        >>> SphericalConv(2, 3, degrees=4)(torch.zeros(1, 2, 8, 16)).shape
        torch.Size([1, 3, 8, 16])
    """

    def __init__(self, in_channels: int, out_channels: int, degrees: int, grid: str = "equiangular"):
        super().__init__()
        _require_grid(grid)
        if degrees < 1:
            raise ValueError(f"degrees={degrees} must be at least 1")
        self.degrees, self.grid = degrees, grid
        std = math.sqrt(2 / (in_channels + out_channels))
        self.weight = nn.Parameter(std * torch.randn(degrees, in_channels, out_channels))
        self.bias = nn.Parameter(std * torch.randn(out_channels))

    def forward(self, x: Tensor, out_grid: Sequence[int] | None = None) -> Tensor:
        """Apply the layer; the output lives on `out_grid`, or on the grid of `x` when None."""
        grid = tuple(x.shape[2:])
        out_grid = grid if out_grid is None else tuple(out_grid)
        degrees = min(self.degrees, *(resolved_degrees(n, m, self.grid) for n, m in (grid, out_grid)))
        analysis = _as(_table("legendre", grid[0], degrees, self.grid, True), x)  # (order, degree, latitude)
        synthesis = _as(_table("legendre", out_grid[0], degrees, self.grid, False), x)
        modes = torch.view_as_real(torch.fft.rfft(x, norm="forward")[..., :degrees])
        coefficients = torch.einsum("mlk,bikmr->lmrbi", analysis, modes)
        y = torch.bmm(coefficients.flatten(1, 3), self.weight[:degrees])
        y = y.view(*coefficients.shape[:4], -1)
        modes = torch.einsum("mlk,lmrbo->bokmr", synthesis, y).contiguous()
        y = torch.fft.irfft(torch.view_as_complex(modes), n=out_grid[1], norm="forward")
        return y + self.bias.view(-1, 1, 1)


class SphericalIntegral(nn.Module):
    r"""Integrate a field against a learned kernel over the geodesic disc round every point.

    .. math:: (I u)_o(x) = \sum_i \int_{d(x, y) \le r} \kappa_{oi}(y)\, u_i(y)\, dy

    with :math:`\kappa` as in `opflow.nn.IntegralConv`, at the geodesic distance of y from x and its bearing
    from north. It commutes with rotations about the axis to rounding, and with others, up to the quadrature,
    if the basis is isotropic, such as `PiecewiseLinear(rings, 1)`: bearings turn with the rotation.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        basis: the functions on the unit disc.
        radius: radius of the support in radians.
        grid: "equiangular" or "gauss".
        groups: groups of channels that do not see each other, as in `torch.nn.Conv2d`.

    Shapes:
        `(batch, in_channels, n, m)` to `(batch, out_channels, n, m)`, float32 or float64.

    Raises:
        ValueError: an argument does not fit, or the latitudes of a grid are further apart than the radius.

    Source: Ocampo, Price and McEwen, Scalable and Equivariant Spherical CNNs by Discrete-Continuous (DISCO)
    Convolutions, 2023.

    Example:
        >>> import torch
        >>> from opflow.nn.filter_bases import PiecewiseLinear
        >>> layer = SphericalIntegral(1, 1, PiecewiseLinear(1, 1), radius=0.5)
        >>> _ = torch.nn.init.ones_(layer.weight)
        >>> bool(((layer(torch.ones(1, 1, 33, 64)) - 1).abs() < 0.05).all())  # hats have integral one
        True
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        basis: FilterBasis,
        *,
        radius: float,
        grid: str = "equiangular",
        groups: int = 1,
    ):
        super().__init__()
        _require_grid(grid)
        require_groups(groups, in_channels, out_channels)
        (self.radius,) = per_axis("radius_cutoff", radius, 1)
        if self.radius > math.pi / 2:
            raise ValueError(f"radius_cutoff={radius} must be a local disc, of at most pi / 2 radians")
        self.basis, self.grid, self.groups = basis, grid, groups
        self.weight = initial_weight(out_channels, in_channels // groups, len(basis))

    def forward(self, x: Tensor) -> Tensor:
        """Integrate round every point of the grid of `x`."""
        n, m = x.shape[2:]
        table = _as(_table("filters", self.basis, self.radius, n, m, self.grid), x)
        reach = table.shape[2] // 2  # latitudes to either side
        modes = torch.fft.rfft(x).unflatten(1, (self.groups, -1))
        modes = torch.nn.functional.pad(modes, (0, 0, reach, reach))
        kernels = torch.view_as_complex((self.weight @ table.flatten(1)).unflatten(-1, table.shape[1:]))
        kernels = kernels.unflatten(0, (self.groups, -1))  # (group, out, in, n, 2 reach + 1, modes)
        rule = "bgikm,goikm->bgokm"
        if kernels.shape[1] == kernels.shape[2] == 1:
            rule, kernels, modes = "bgkm,gkm->bgkm", kernels[:, 0, 0], modes[:, :, 0]
        y = torch.einsum(rule, modes.narrow(-2, 0, n), kernels[..., 0, :])
        for k in range(1, 2 * reach + 1):
            y = y + torch.einsum(rule, modes.narrow(-2, k, n), kernels[..., k, :])
        return torch.fft.irfft(y.view(x.shape[0], -1, *y.shape[-2:]), n=m)


def resolved_degrees(n_latitudes: int, n_longitudes: int, grid: str) -> int:
    """Return how many degrees a grid resolves, with exact quadrature of their products.

    Example:
        >>> resolved_degrees(33, 64, "equiangular"), resolved_degrees(32, 64, "gauss")
        (17, 32)
    """
    by_latitude = n_latitudes if grid == "gauss" else (n_latitudes + 1) // 2
    return min(by_latitude, (n_longitudes + 1) // 2)


def sines_of_latitude(n_latitudes: int, grid: str, like: Tensor) -> Tensor:
    """Return the sine of each latitude, from south to north: `(n_latitudes,)`."""
    return _as(_table("latitudes", n_latitudes, grid), like)


def _require_grid(grid: str) -> None:
    if grid not in GRIDS:
        raise ValueError(f"grid={grid!r} is not one of {', '.join(map(repr, GRIDS))}")


def _as(table: Tensor, x: Tensor) -> Tensor:
    return table.to(x.device, x.dtype)


class _Tables:
    """Tables as attributes: a compiler reads those one by one, and a dictionary as it was at first."""


_tables = _Tables()
_names: dict[tuple, str] = {}


def _table(kind: str, *about) -> Tensor:
    """Return a table of `_BUILDERS`, kept from the last time."""
    if torch.compiler.is_exporting():  # what is made then belongs to the graph
        return _BUILDERS[kind](*about)
    about = [
        operator.index(a) if isinstance(a, int) else a for a in about
    ]  # a compiler's sizes become numbers
    return getattr(_tables, _keep(kind, *about))


def _keep(kind: str, *about) -> str:
    key = (kind, *about)
    if key not in _names:
        with torch.inference_mode(False), torch.no_grad():
            table = _BUILDERS[kind](*about)
        name = f"{kind}_{len(_names)}"
        setattr(_tables, name, table)
        _names[key] = name
    return _names[key]


# A compiler calls it for its name instead of tracing it: torch.compiler.assume_constant_result, without the
# import that takes.
_keep._dynamo_marked_constant = True  # pyright: ignore[reportFunctionMemberAccess]


def _latitudes(n: int, grid: str) -> Tensor:
    return torch.from_numpy(np.sin(np.deg2rad(_sphere(n, 1, grid).coordinates[0])))


def _legendre(n: int, degrees: int, grid: str, analysis: bool) -> Tensor:
    """Associated Legendre functions `(order, degree, latitude)`, with quadrature weights for the analysis."""
    try:
        from torch_harmonics.legendre import legpoly
    except ImportError as error:
        raise ImportError(
            'harmonics on the sphere need torch-harmonics: pip install "opflow-sciml[sphere]"'
        ) from error
    sphere = _sphere(n, 1, grid)
    functions = torch.from_numpy(legpoly(degrees, degrees, np.sin(np.deg2rad(sphere.coordinates[0]))))
    # Normalised to 1 over the sphere; the mean over longitudes stands for the integral over them.
    return functions * torch.from_numpy(2 * math.pi * sphere.weights[0]) if analysis else functions


def _filters(basis: FilterBasis, radius: float, n: int, m: int, grid: str) -> Tensor:
    """Zonal modes of the basis times quadrature weights: `(len, latitude, near latitude, mode, 2)`.

    The near latitudes go from `reach` rows south of a row to `reach` rows north, beyond the poles as zeros.
    """
    sphere = _sphere(n, m, grid)
    latitudes, longitudes = (np.deg2rad(c) for c in sphere.coordinates)
    reach = _reach(n, radius, grid)
    rows = np.arange(n)[:, None] + np.arange(-reach, reach + 1)
    weights = np.where((rows >= 0) & (rows < n), sphere.quadrature()[rows.clip(0, n - 1), 0], 0.0)
    near = torch.from_numpy(latitudes[rows.clip(0, n - 1)])[..., None]
    x, y = _tangent(torch.from_numpy(latitudes)[:, None, None], near, torch.from_numpy(longitudes))
    values = basis(x / radius, y / radius) * torch.from_numpy(weights / radius**2)[..., None]
    modes = torch.view_as_real(torch.fft.rfft(values))
    return torch.stack([modes[..., 0], -modes[..., 1]], -1)  # a correlation: the conjugate spectrum


def _reach(n: int, radius: float, grid: str) -> int:
    """Return how many latitudes north or south of another the radius reaches."""
    latitudes = np.deg2rad(_sphere(n, 1, grid).coordinates[0])
    near = np.abs(latitudes[:, None] - latitudes) <= radius
    if n < 2 or near.sum(1).min() < 2:
        raise ValueError(
            f"radius_cutoff={radius:.4g} reaches no neighbouring latitude on a grid of {n} latitudes: use at "
            f"least {2 * math.pi / max(n - 1, 1):.4g}, two rows, or a finer grid"
        )
    rows = np.arange(n)
    return int((near * np.abs(rows[:, None] - rows)).max())


def _tangent(at: Tensor, latitude: Tensor, longitude: Tensor) -> tuple[Tensor, Tensor]:
    """Return where points lie on the tangent plane at longitude 0, by distance and bearing: north, east."""
    north = latitude.sin() * at.cos() - latitude.cos() * at.sin() * longitude.cos()
    east = latitude.cos() * longitude.sin()
    up = latitude.sin() * at.sin() + latitude.cos() * at.cos() * longitude.cos()
    sine = (north.square() + east.square()).sqrt()
    scale = torch.atan2(sine, up) / sine.clamp(min=1e-300)
    return north * scale, east * scale


def _sphere(n: int, m: int, grid: str):
    from pde_data.sphere import SphereGrid

    return (SphereGrid.gauss if grid == "gauss" else SphereGrid.equiangular)(n, m)


_BUILDERS = {"latitudes": _latitudes, "legendre": _legendre, "filters": _filters}
