"""Convolutions on the sphere: harmonics in closed form, rotations, quadrature, orders, derivatives."""

import math

import numpy as np
import pytest
import torch

from opflow import TrainConfig, fit
from opflow.equivariance import Symmetrize
from opflow.nn.filter_bases import Morlet, PiecewiseLinear
from opflow.nn.sphere import SphericalConv, SphericalIntegral, resolved_degrees
from opflow.operators import LocalSFNO
from pde_data import FieldDataset
from pde_data.sphere import SphereGrid

pytest.importorskip("torch_harmonics")


def unit_vectors(n, m, grid):
    sphere = (SphereGrid.gauss if grid == "gauss" else SphereGrid.equiangular)(n, m)
    latitude, longitude = (torch.from_numpy(np.deg2rad(c)) for c in sphere.coordinates)
    latitude = latitude[:, None]
    return torch.stack(
        [
            latitude.cos() * longitude.cos(),
            latitude.cos() * longitude.sin(),
            latitude.sin() + 0 * longitude,
        ]
    )


def rotation():
    q, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    return q * torch.linalg.det(q)


def smooth(v):
    x, y, z = v
    return torch.exp(0.7 * x - 0.4 * y * z) + torch.sin(2 * z + y)


HARMONICS = {  # degree: a harmonic polynomial
    0: lambda x, y, z: torch.ones_like(x),
    1: lambda x, y, z: x - 2 * z,
    2: lambda x, y, z: x * y + 3 * z**2 - 1,
    3: lambda x, y, z: z * (5 * z**2 - 3) + x * (x**2 - 3 * y**2),
    4: lambda x, y, z: x * y * (7 * z**2 - 1),
}


@pytest.mark.parametrize("n, m, grid", [(9, 16, "equiangular"), (5, 9, "gauss"), (14, 31, "equiangular")])
def test_harmonics_are_multiplied_by_the_matrix_of_their_degree(n, m, grid):
    layer = SphericalConv(2, 3, degrees=5, grid=grid).double()
    v = unit_vectors(n, m, grid)
    for degree, polynomial in HARMONICS.items():
        u = torch.stack([polynomial(*v), -0.5 * polynomial(*v)])[None]
        y = torch.einsum("bixy,io->boxy", u, layer.weight[degree]) + layer.bias.view(-1, 1, 1)
        torch.testing.assert_close(layer(u), y, rtol=0, atol=1e-12)


def test_degrees_beyond_a_grid_are_left_out_and_other_grids_agree():
    layer = SphericalConv(1, 1, degrees=9).double()
    assert resolved_degrees(9, 16, "equiangular") == 5
    u = [HARMONICS[3](*unit_vectors(n, m, "equiangular"))[None, None] for n, m in ((9, 16), (20, 41))]
    torch.testing.assert_close(layer(u[0], (20, 41)), layer(u[1]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("basis", [PiecewiseLinear(3, 1), PiecewiseLinear(2, 4), Morlet(2, 2)], ids=str)
def test_rotation_about_the_axis_is_exact(basis):
    layer = SphericalIntegral(2, 3, basis, radius=0.6).double()
    x = torch.randn(2, 2, 9, 15, dtype=torch.float64)
    torch.testing.assert_close(layer(x.roll(4, -1)), layer(x).roll(4, -1), rtol=0, atol=1e-13)


@pytest.mark.parametrize("grid", ["equiangular", "gauss"])
def test_other_rotations_up_to_an_error_that_vanishes_with_the_spacing(grid):
    layer = SphericalIntegral(1, 3, PiecewiseLinear(3, 1), radius=0.5, grid=grid).double()
    errors = []
    for n in (17, 33, 65):
        v = unit_vectors(n, 2 * n - 2, grid)
        # A zonal kernel only scales harmonics, by one number per degree.
        factors = [layer(h(*v)[None, None])[0] / h(*v) for h in (HARMONICS[1], HARMONICS[3])]
        errors.append(
            max(
                ((f * h(*v) - f.median() * h(*v)).norm() / h(*v).norm()).item()
                for factor, h in zip(factors, (HARMONICS[1], HARMONICS[3]))
                for f in factor
            )
        )
    assert errors[2] < errors[1] / 2 < errors[0] / 4 and errors[2] < 0.01, errors


def test_the_limit_is_the_integral_over_the_disc():
    """A hat over the harmonic z: Funk and Hecke give its factor as an integral over the disc."""
    radius = 0.5
    layer = SphericalIntegral(1, 1, PiecewiseLinear(1, 1), radius=radius).double()
    torch.nn.init.ones_(layer.weight)
    r = (np.arange(4000) + 0.5) / 4000
    area = np.sum((1 - r) * r)
    expected = np.sum((1 - r) * np.cos(radius * r) * np.sin(radius * r)) / radius / area
    z = unit_vectors(129, 256, "equiangular")[2]
    torch.testing.assert_close(layer(z[None, None])[0, 0], expected * z, rtol=0, atol=3e-3)


def test_the_sum_over_points_defines_the_integral():
    """Point by point, from distances and bearings of unit vectors."""
    basis, radius, n, m = PiecewiseLinear(2, 3), 0.7, 8, 11
    layer = SphericalIntegral(1, 1, basis, radius=radius, grid="gauss").double()
    u = torch.randn(n, m, dtype=torch.float64)
    sphere, v = SphereGrid.gauss(n, m), unit_vectors(n, m, "gauss").flatten(1).T
    weights = torch.from_numpy(sphere.quadrature()).flatten()
    pole = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    expected = []
    for at in v:
        north = pole - (pole @ at) * at
        north = north / north.norm()
        distance = torch.arccos((v @ at).clamp(-1, 1))
        bearing = torch.atan2(v @ torch.linalg.cross(north, at), v @ north)
        psi = basis(distance / radius * bearing.cos(), distance / radius * bearing.sin()) / radius**2
        expected.append((layer.weight[0] @ psi * weights * u.flatten()).sum())
    y = layer(u[None, None]).flatten()
    torch.testing.assert_close(y, torch.stack(expected), rtol=0, atol=1e-7)


def test_gradients_and_weights_at_work():
    for layer in (
        SphericalIntegral(2, 2, PiecewiseLinear(3, 2), radius=1.0),
        SphericalConv(2, 2, degrees=3),
    ):
        x = torch.randn(1, 2, 6, 7, dtype=torch.float64, requires_grad=True)
        layer = layer.double()

        def apply(x, weight, layer=layer):
            return torch.func.functional_call(layer, {"weight": weight}, x)

        assert torch.autograd.gradcheck(apply, (x, layer.weight))
        (gradient,) = torch.autograd.grad(layer(x).square().sum(), layer.weight)
        assert (gradient != 0).all()


# The model.


def model_of(seed=0, **options):
    torch.manual_seed(seed)
    options = (
        dict(n_modes=6, in_channels=1, out_channels=1, hidden_channels=8, n_layers=2, grid="gauss") | options
    )
    return LocalSFNO(**options)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (torch.float64, 1e-13)])
@pytest.mark.parametrize("embedding", ["latitude", None])
def test_the_model_commutes_with_rotations_about_the_axis(dtype, tolerance, embedding):
    model = model_of(positional_embedding=embedding).to(dtype)
    x = torch.randn(2, 1, 12, 25, dtype=dtype)
    a, b = model(x.roll(7, -1)), model(x).roll(7, -1)
    assert (a - b).norm() <= tolerance * b.norm()


@pytest.mark.parametrize("grid", ["equiangular", "gauss"])
def test_the_error_of_other_rotations_shrinks_with_resolution(grid):
    model = model_of(grid=grid, positional_embedding=None, radius_cutoff=0.5).double()
    turn, errors = rotation(), []
    for n in (13, 25, 49):
        v = unit_vectors(n, 2 * n, grid)
        turned = torch.einsum("ij,jxy->ixy", turn, v)
        # Both see the turned field; the reference evaluates the first output at the turned points.
        y, z = model(smooth(v)[None, None])[0, 0], model(smooth(turned)[None, None])[0, 0]
        degree = min(n - 3, 18)
        modes = harmonics_of(y, n, grid, degree)
        errors.append(((evaluate(modes, turned, degree) - z).norm() / z.norm()).item())
    assert errors[2] < errors[1] < errors[0] / 8 and errors[2] < 1e-3, errors


def polynomials(v, degree):
    x, y, z = v.flatten(1)
    found = [x**a * y**b * z**c for a in range(degree + 1) for b in range(degree + 1 - a) for c in (0, 1)
             if a + b + c <= degree]  # fmt: skip
    return torch.stack(found, 1)


def harmonics_of(y, n, grid, degree):
    """Coefficients of the polynomial on the sphere that fits a smooth field in the least squares sense."""
    basis = polynomials(unit_vectors(n, 2 * n, grid), degree)
    return torch.linalg.lstsq(basis, y.detach().flatten()[:, None]).solution


def evaluate(modes, v, degree):
    return (polynomials(v, degree) @ modes).view(v.shape[1:])


def test_every_parameter_of_the_model_trains():
    model = model_of(positional_embedding="latitude", disco_kernel_shape=(2, 3))
    model(torch.randn(2, 1, 12, 20)).square().sum().backward()
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not still


@pytest.mark.parametrize("wrap", [lambda model: model, lambda model: Symmetrize(model, "mx")])
@pytest.mark.parametrize("grid, degrees", [("equiangular", 9), ("gauss", 16)])
def test_degrees_that_the_training_grid_does_not_resolve_are_refused(grid, degrees, wrap):
    x = np.random.default_rng(0).normal(size=(2, 1, 17, 32))
    data = FieldDataset.from_arrays(inputs=x, targets=x)
    config = TrainConfig(epochs=1, batch_size=2)
    words = rf"keeps n_modes={degrees + 1}, .* have \(17, 32\) points.*build it with n_modes={degrees}, or"
    with pytest.raises(ValueError, match=words):
        fit(wrap(model_of(n_modes=degrees + 1, grid=grid, radius_cutoff=0.5)), data, config=config)
    model = model_of(n_modes=degrees, grid=grid, radius_cutoff=0.5)
    (first, *_) = [module for module in model.modules() if isinstance(module, SphericalConv)]
    before = first.weight.detach().clone()
    fit(wrap(model), data, config=config)
    assert (first.weight != before).flatten(1).any(1).all()


@pytest.mark.parametrize(
    "options, words",
    [
        ({"n_modes": 0}, "n_modes must be a number of at least 1, got 0"),
        ({"grid": "healpix"}, "grid='healpix' is not one of 'equiangular', 'gauss'"),
        ({"disco_layers": [True]}, r"disco_layers=\[True\] needs one bool, or one per layer, 2"),
        ({"radius_cutoff": 2.0}, r"radius_cutoff=2.0 must be a local disc, of at most pi / 2"),
        ({"positional_embedding": "grid"}, "positional_embedding='grid' is not one of 'latitude', None"),
    ],
)
def test_wrong_arguments_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        model_of(**options)


def test_what_does_not_fit_a_grid_is_named():
    model = model_of(radius_cutoff=0.1)
    with pytest.raises(
        ValueError, match="radius_cutoff=0.1 reaches no neighbouring latitude on a grid of 12"
    ):
        model(torch.zeros(1, 1, 12, 20))
    with pytest.raises(ValueError, match=r"on the grid of its input, \(40, 80\), not on \(20, 40\)"):
        model(torch.zeros(1, 1, 40, 80), out_grid=(20, 40))
    assert math.isfinite(model(torch.zeros(1, 1, 40, 80)).sum().item())
