"""Gaussian fields drawn mode by mode: one function on every grid and at any points."""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from opflow.rectified.noise import NoiseSource, Where, device_of, field_shape
from pde_data import Grid
from pde_data.random_fields import half_modes

_HELD = 2**22  # complex numbers held at a time while functions are evaluated at points


@dataclass(frozen=True)
class GaussianProcess(NoiseSource):
    r"""Centred Gaussian field with a Matérn covariance on a periodic box.

    .. math:: u(x) = \sum_k \hat u_k e^{2\pi i k \cdot x / L}, \qquad \mathbb{E}|\hat u_k|^2 =
        \frac{\sigma^2}{L^d} \frac{2^d \pi^{d/2} \Gamma(\nu + d/2)}{\Gamma(\nu)} \frac{\lambda^\nu}
        {(\lambda + |2 \pi k / L|^2)^{\nu + d/2}}, \qquad \lambda = 2 \nu / \ell^2

    Its covariance is the Matérn function summed over all images of the box, so that of the whole space where
    :math:`\ell \ll L`; :math:`\nu = \infty` is the squared exponential. Random numbers belong to modes and
    are drawn shell by shell: the same generator state gives the same function on every grid and at any
    points, up to the modes that a coarser grid lacks. Grids that divide the box take an FFT, other grids one
    product per axis, points one product with the waves at the points; nothing is factorised to draw.

    Args:
        length: correlation length :math:`\ell`, in the units of the coordinates.
        nu: smoothness :math:`\nu`; samples are :math:`\lceil \nu \rceil - 1` times differentiable.
        std: standard deviation :math:`\sigma`.
        box: side L of the periodic box, of which a domain may be a part: at least its longest side, and some
            lengths more where ends of the domain should not know of each other.
        highest: modes per axis, up to this one, of functions at points and on grids that do not divide the
            box; grids that do carry what they resolve.
        nugget: standard deviation of independent noise on top, the part that is no function.

    Raises:
        ValueError: a number is not positive.

    Source: Rasmussen, Williams, Gaussian Processes for Machine Learning, 2006, equation 4.15.

    Example:
        >>> noise = GaussianProcess(length=0.2, highest=7)
        >>> draw = lambda where: noise.sample(where, 2, torch.Generator().manual_seed(0), dtype=torch.float64)
        >>> on_grid, points = draw((15, 15)), torch.tensor([[0.0, 0.0], [2 / 15, 1 / 15]]).double()
        >>> torch.allclose(draw(points)[:, 1, 0], on_grid[:, 0, 2, 1])
        True
    """

    length: float = 0.2
    nu: float = 1.5
    std: float = 1.0
    box: float = 1.0
    highest: int = 32
    nugget: float = 0.0

    def __post_init__(self):
        for name in ("length", "nu", "std", "box", "highest"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be positive")
        if not self.nugget >= 0:
            raise ValueError(f"nugget={self.nugget} must not be negative")

    def spectrum(self, modes: Tensor) -> Tensor:
        r"""Return :math:`\mathbb{E}|\hat u_k|^2` of modes `(..., dim)`, float64."""
        dim = modes.shape[-1]
        square = (2 * math.pi / self.box * modes.double()).square().sum(-1)
        scale = self.std**2 / self.box**dim
        if math.isinf(self.nu):
            return scale * (2 * math.pi * self.length**2) ** (dim / 2) * (-square * self.length**2 / 2).exp()
        rate = 2 * self.nu / self.length**2
        front = math.lgamma(self.nu + dim / 2) - math.lgamma(self.nu) + self.nu * math.log(rate)
        front += dim * math.log(2) + dim / 2 * math.log(math.pi)
        return scale * (front - (self.nu + dim / 2) * (rate + square).log()).exp()

    def covariance(self, lag: Tensor) -> Tensor:
        """Return the covariance of the function, without nugget, at lags `(..., dim)`, float64."""
        modes = _modes(self.highest, lag.shape[-1])
        power = self.spectrum(modes)
        waves = (2 * math.pi / self.box * lag.double() @ modes.double().T).cos()
        return power[0] + 2 * waves[..., 1:] @ power[1:]

    def sample(
        self,
        where: Where,
        n: int,
        generator: torch.Generator | None = None,
        *,
        channels: int = 1,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """See `NoiseSource.sample`."""
        shape = field_shape(where, n, channels)
        if isinstance(where, Tensor):
            u = self._at_points(where, n, generator, channels, dtype)
        else:
            grid = _grid(where, self.box)
            on = self._on_divisor if self._divides(grid) else self._on_product
            u = on(grid, n * channels, generator, dtype).reshape(shape)
        if self.nugget:
            u = u + self.nugget * torch.randn(shape, generator=generator, dtype=dtype, device=u.device)
        return u

    def log_prob(self, values: Tensor, where: Where | None = None) -> Tensor:
        """See `NoiseSource.log_prob`.

        On grids that divide the box it takes an FFT. At points it factorises a matrix of the number of
        points, or of that of waves with a nugget, once per call.

        Raises:
            ValueError: there are more points than waves, and no nugget: the law has no density.
        """
        if isinstance(where, Tensor):
            if where.ndim == 3:
                each = [self._log_prob_at(v[None], p) for v, p in zip(values, where, strict=True)]
                return torch.cat(each)
            return self._log_prob_at(values, where)
        grid = _grid(values.shape[2:] if where is None else where, self.box)
        if not self._divides(grid):
            points = torch.as_tensor(_points(grid), dtype=values.dtype, device=values.device)
            return self._log_prob_at(values.flatten(2).mT, points)
        axes = tuple(range(2, values.ndim))
        waves = torch.view_as_real(torch.fft.fftn(values, dim=axes, norm="ortho"))
        power = waves.square().sum(-1)  # not by `abs`, which has no derivative at zero
        indices = [torch.fft.fftfreq(m, 1 / m, dtype=torch.float64) for m in grid.sizes]
        modes = torch.stack(torch.meshgrid(*indices, indexing="ij"), -1)
        variance = math.prod(grid.sizes) * self.spectrum(modes) + self.nugget**2
        variance = variance.to(values)
        return -0.5 * (power / variance + (2 * math.pi * variance).log()).flatten(1).sum(1)

    def features(self, points: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        """Return waves at points `(point, dim)` whose products are the covariance: `(point, feature)`."""
        modes = _modes(self.highest, points.shape[1]).to(points.device)
        cos, sin = _waves(points.double(), modes, self.highest, self.box, dtype)
        size = self.spectrum(modes).sqrt().to(dtype)
        size[1:] *= math.sqrt(2)
        return torch.cat([cos * size, (sin * size)[:, 1:]], 1)

    def _divides(self, grid: Grid) -> bool:
        """Whether the points of a grid are those of a regular grid of the whole box, perhaps shifted."""
        return all(math.isclose(h * m, self.box) for h, m in zip(grid.spacing, grid.sizes))

    def _coefficients(self, highest: int, dim: int, m: int, generator, dtype) -> tuple[Tensor, Tensor]:
        """Coefficients `(m, mode)` of half of the modes, complex, and the modes; the first is the mean."""
        modes = _modes(highest, dim)
        place = {"generator": generator, "dtype": dtype, "device": device_of(generator)}
        parts = [torch.cat([torch.randn(1, m, 1, **place), torch.zeros(1, m, 1, **_less(place))])]
        for shell in range(1, highest + 1):
            count = ((2 * shell + 1) ** dim - (2 * shell - 1) ** dim) // 2
            parts.append(torch.randn(2, m, count, **place) * math.sqrt(0.5))
        real, imaginary = torch.cat(parts, 2)
        size = self.spectrum(modes).sqrt().to(real)
        return torch.complex(real * size, imaginary * size), modes.to(real.device)

    def _on_divisor(self, grid: Grid, m: int, generator, dtype) -> Tensor:
        sizes, dim = grid.sizes, grid.ndim
        highest = [(size - 1) // 2 for size in sizes]
        c, modes = self._coefficients(max(highest), dim, m, generator, dtype)
        resolved = (modes.abs() <= torch.tensor(highest, device=modes.device)).all(1)
        c, modes = c[:, resolved], modes[resolved]
        if any(grid.first):
            first = torch.tensor(grid.first, dtype=torch.float64, device=modes.device)
            phase = 2 * math.pi / self.box * (modes.double() @ first)
            c = c * torch.polar(torch.ones_like(phase), phase).to(c)
        wrapped = modes % torch.tensor(sizes, device=modes.device)
        spectrum = c.new_zeros(m, *sizes[:-1], sizes[-1] // 2 + 1)
        spectrum[(slice(None), *wrapped.T)] = c
        flat = modes[:, -1] == 0
        mirror = -modes[flat] % torch.tensor(sizes, device=modes.device)
        spectrum[(slice(None), *mirror.T)] = c[:, flat].conj()
        if any(size % 2 == 0 for size in sizes):  # what a finer grid resolves, this one as waves of +-1
            indices = [torch.fft.fftfreq(size, 1 / size) for size in sizes]
            indices[-1] = torch.arange(sizes[-1] // 2 + 1.0)
            waves = torch.stack(torch.meshgrid(*indices, indexing="ij"), -1).to(modes.device)
            nyquist = (2 * waves.abs() == torch.tensor(sizes, device=modes.device)).any(-1)
            white = torch.randn(m, *sizes, generator=generator, dtype=dtype, device=c.device)
            axes = tuple(range(1, dim + 1))
            drawn = torch.fft.rfftn(white, dim=axes, norm="ortho") * self.spectrum(waves).sqrt().to(dtype)
            spectrum = torch.where(nyquist, drawn, spectrum)
        return torch.fft.irfftn(spectrum, s=sizes, dim=tuple(range(1, dim + 1)), norm="forward")

    def _cube(self, dim: int, m: int, generator, dtype) -> Tensor:
        """Coefficients `(m, 2 highest + 1, ..., highest + 1)` by modes in ascending order; twice their real
        part, summed against the waves, is the function.
        """
        c, modes = self._coefficients(self.highest, dim, m, generator, dtype)
        shape = (2 * self.highest + 1,) * (dim - 1) + (self.highest + 1,)
        cube = c.new_zeros(m, *shape)
        shifted = modes + torch.tensor([self.highest] * (dim - 1) + [0], device=modes.device)
        cube[(slice(None), *shifted.T)] = c
        cube[(slice(None), *shifted[0])] /= 2
        return cube

    def _axis_waves(self, x: Tensor, last: bool, like: Tensor) -> Tensor:
        """Waves :math:`e^{ikx}` of all k along one axis, `(point, k)`."""
        k = torch.arange(0 if last else -self.highest, self.highest + 1, device=like.device)
        phase = 2 * math.pi / self.box * x.to(like.device).double()[:, None] * k
        return torch.complex(phase.cos(), phase.sin()).to(like)

    def _on_product(self, grid: Grid, m: int, generator, dtype) -> Tensor:
        u = self._cube(grid.ndim, m, generator, dtype)
        for axis, x in enumerate(grid.coordinates):
            waves = self._axis_waves(torch.as_tensor(x), axis == grid.ndim - 1, u)
            u = torch.tensordot(u.movedim(1, -1), waves.mT, 1)
        return 2 * u.real

    def _at_points(self, points: Tensor, n: int, generator, channels: int, dtype) -> Tensor:
        cube = self._cube(points.shape[-1], n * channels, generator, dtype)
        if points.ndim == 2:
            return self._evaluate(cube, points).unflatten(1, (n, channels)).movedim(1, 0)
        each = zip(cube.unflatten(0, (n, channels)), points)
        return torch.stack([self._evaluate(c, own) for c, own in each])

    def _evaluate(self, cube: Tensor, points: Tensor) -> Tensor:
        """Values of the functions `(m, ...)` at points `(point, dim)`: `(point, m)`."""
        dim = points.shape[1]
        waves = [self._axis_waves(points[:, a], a == dim - 1, cube) for a in range(dim)]
        row = points.shape[0] * cube[0].numel() // cube.shape[1]
        found = []
        for part in cube.split(max(1, _HELD // max(row, 1))):
            u = torch.tensordot(waves[0], part.movedim(1, 0), 1).flatten(2) if dim > 1 else None
            if u is None:
                found.append(2 * (waves[0] @ part.T).real)
                continue
            rest = waves[1]
            for wave in waves[2:]:
                rest = (rest[:, :, None] * wave[:, None]).flatten(1)
            found.append(2 * (u @ rest[..., None])[..., 0].real)
        return torch.cat(found, 1)

    def _log_prob_at(self, values: Tensor, points: Tensor) -> Tensor:
        waves = self.features(points).to(values)
        count, rank = waves.shape
        if not self.nugget and count > rank:
            raise ValueError(
                f"at {count} points the law of {rank} waves has no density: raise `highest` above "
                f"{self.highest} or give a `nugget`"
            )
        if count <= rank or not self.nugget:
            factor = torch.linalg.cholesky(waves @ waves.T + self.nugget**2 * torch.eye(count).to(values))
            scaled = torch.linalg.solve_triangular(factor, values, upper=False)
            square, log_det = scaled.square(), 2 * factor.diagonal().log().sum()
        else:  # the matrix-inversion lemma
            inner = torch.eye(rank).to(values) + waves.T @ waves / self.nugget**2
            factor = torch.linalg.cholesky(inner)
            seen = torch.linalg.solve_triangular(factor, waves.T @ values / self.nugget**2, upper=False)
            square = torch.cat([values.square() / self.nugget**2, -seen.square()], 1)
            log_det = 2 * factor.diagonal().log().sum() + 2 * count * math.log(self.nugget)
        constant = log_det + count * math.log(2 * math.pi)
        return -0.5 * (square.flatten(1).sum(1) + values.shape[2] * constant)


@lru_cache(maxsize=16)
def _modes(highest: int, dim: int) -> Tensor:
    """Mode zero and one of each pair of others, in shells: `(mode, dim)`."""
    half = torch.as_tensor(half_modes(highest, dim).copy()).reshape(-1, dim)
    return torch.cat([half.new_zeros(1, dim), half])


def _waves(
    points: Tensor, modes: Tensor, highest: int, box: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Cosines and sines of all modes at points, as products of those along each axis."""
    k = torch.arange(highest + 1, device=points.device)
    cos = sin = None
    for axis in range(points.shape[1]):
        phase = 2 * math.pi / box * points[:, axis, None] * k
        along = modes[:, axis]
        c = phase.cos().to(dtype)[:, along.abs()]
        s = phase.sin().to(dtype)[:, along.abs()] * along.sign().to(dtype)
        cos, sin = (c, s) if cos is None or sin is None else (cos * c - sin * s, sin * c + cos * s)
    assert cos is not None and sin is not None
    return cos, sin


def _grid(where, box: float) -> Grid:
    return where if isinstance(where, Grid) else Grid(tuple(where), lengths=box)


def _points(grid: Grid):
    import numpy as np

    return np.stack(np.meshgrid(*grid.coordinates, indexing="ij"), -1).reshape(-1, grid.ndim)


def _less(place: dict) -> dict:
    return {key: value for key, value in place.items() if key != "generator"}
