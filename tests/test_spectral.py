"""The solver core on equations of its own: 1-D, 2-D with unequal sides, 3-D, complex linear operators."""

from decimal import Decimal, getcontext

import numpy as np
import pytest
import torch

from pde_data.grids import Grid
from pde_data.integrate import Integrator
from pde_data.spectral import ETDRK4, Nonlinear, Spectrum, phi_functions

GRIDS = [Grid((16,)), Grid((15,)), Grid((12, 18), (1.0, 2.0)), Grid((9, 14)), Grid((6, 8, 9))]


@pytest.mark.parametrize("grid", GRIDS, ids=lambda g: "x".join(map(str, g.sizes)))
def test_transforms_agree_with_numpy_and_undo_each_other(grid):
    spectrum = Spectrum(grid, torch.float64)
    values = np.random.default_rng(0).normal(size=(3, *grid.sizes))
    modes = spectrum.project(torch.from_numpy(values))
    full = np.fft.fftn(values, axes=range(1, grid.ndim + 1))
    for k in np.ndindex(*((n - 1) // 3 + 1 for n in grid.sizes)):
        np.testing.assert_allclose(modes[:, k[-1], *k[:-1]].numpy(), full[:, *k], atol=1e-12)
    for a, n in enumerate(grid.sizes):
        cut = np.abs(np.fft.fftfreq(n, 1 / n)) * 3 >= n
        full[(slice(None), *[slice(None)] * a, cut)] = 0
    truncated = np.fft.ifftn(full, axes=range(1, grid.ndim + 1)).real
    np.testing.assert_allclose(spectrum.to_values(modes).numpy(), truncated, atol=1e-13)
    assert torch.allclose(spectrum.project(spectrum.to_values(modes)), modes, atol=1e-12)


def test_products_of_two_fields_are_free_of_aliasing():
    grid, fine = Grid((12, 9)), Grid((24, 27))
    coarse, exact = Spectrum(grid, torch.float64), Spectrum(fine, torch.float64)
    a, b = (coarse.project(torch.randn(1, 12, 9, dtype=torch.float64)) for _ in range(2))
    product = coarse.project(coarse.to_values(a) * coarse.to_values(b)) / (12 * 9)
    wide = []
    for modes in (a, b):
        padded = torch.zeros(1, *exact.shape, dtype=torch.complex128)
        for k0 in range(-3, 4):
            padded[:, : coarse.shape[0], k0] = modes[:, :, k0]
        wide.append(exact.to_values(padded) * (24 * 27) / (12 * 9))
    reference = exact.project(wide[0] * wide[1]) / (24 * 27)
    for k0 in range(-3, 4):
        torch.testing.assert_close(product[:, :, k0], reference[:, : coarse.shape[0], k0])


@pytest.mark.parametrize("z", [0.0, -1e-12, -1e-6, -0.3, -0.999, -1.0, -1.001, -7.5, -300.0, 0.7])
def test_phi_functions_are_exact_to_rounding(z):
    getcontext().prec = 60
    x = Decimal(z)
    if z == 0:
        expected = [1.0, 1 / 2, 1 / 6]
    else:
        phi, factorial, expected = x.exp(), Decimal(1), []
        for j in range(3):
            phi = (phi - 1 / factorial) / x
            factorial *= j + 1
            expected.append(float(phi))
    computed = [float(p) for p in phi_functions(torch.tensor(z, dtype=torch.float64))]
    np.testing.assert_allclose(computed, expected, rtol=4e-15)


class Burgers(Nonlinear):
    """-(u^2)_x / 2 in one dimension; with `speed`, seen from a frame that moves."""

    def __init__(self, spectrum):
        self.spectrum = spectrum
        self.ik = -0.5j * spectrum.wavenumbers[0] * spectrum.mask

    def __call__(self, modes, out):
        self.values = self.spectrum.to_values(modes)
        out.copy_(self.spectrum.to_modes(self.values**2) * self.ik)

    def rate(self):
        return self.values.abs().amax(1) * self.spectrum.highest_wavenumbers[0]


def solve_burgers(n, viscosity, t, dt=None, speed=0.0):
    grid = Grid((n,), lengths=2 * np.pi)
    spectrum = Spectrum(grid, torch.float64)
    k = spectrum.wavenumbers[0]
    linear = -viscosity * k**2 - (1j * speed * k if speed else 0)
    stepper = ETDRK4(spectrum, linear, Burgers(spectrum), batch=4)
    x = grid.coordinates[0]
    modes = spectrum.project(torch.from_numpy(cole_hopf(x, 0.0, viscosity)[None]))
    for final in Integrator(stepper, dt=dt)(modes, [t]):
        return spectrum.to_values(final)[0].numpy(), cole_hopf(x - speed * t, t, viscosity)


def cole_hopf(x, t, viscosity):
    """u = -2 viscosity (log phi)_x with phi = 2 + exp(-viscosity t) cos(x) from the heat equation."""
    decay = np.exp(-viscosity * t)
    return 2 * viscosity * decay * np.sin(x) / (2 + decay * np.cos(x))


def test_burgers_matches_cole_hopf_at_order_four():
    errors = []
    for steps in (8, 16, 32):
        u, exact = solve_burgers(128, 0.5, 1.0, dt=1 / steps)
        errors.append(np.linalg.norm(u - exact) / np.linalg.norm(exact))
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert orders[-1] >= 3.8, (errors, orders)


def test_chosen_steps_reach_a_small_error():
    u, exact = solve_burgers(128, 0.2, 2.0)
    assert np.linalg.norm(u - exact) <= 1e-5 * np.linalg.norm(exact)


def test_complex_linear_operators_translate():
    u, exact = solve_burgers(96, 0.5, 1.0, dt=0.01, speed=3.0)
    assert np.linalg.norm(u - exact) <= 1e-8 * np.linalg.norm(exact)


class Nothing(Nonlinear):
    def __call__(self, modes, out):
        self.batch = len(out.zero_())

    def rate(self):
        return torch.zeros(self.batch)


@pytest.mark.parametrize("grid", GRIDS, ids=lambda g: "x".join(map(str, g.sizes)))
def test_the_linear_part_is_solved_exactly_in_any_dimension(grid):
    """Heat equation from random values, at times that share no step."""
    spectrum = Spectrum(grid, torch.float64)
    k2 = sum(k**2 for k in spectrum.wavenumbers)
    stepper = ETDRK4(spectrum, -0.01 * k2, Nothing(), batch=2)
    first = spectrum.project(torch.randn(5, *grid.sizes, dtype=torch.float64))
    times = [0.1, 0.35, 2.0]
    for t, modes in zip(times, Integrator(stepper)(first.clone(), times), strict=True):
        torch.testing.assert_close(modes, first * torch.exp(-0.01 * k2 * t), rtol=1e-12, atol=1e-14)


def test_bad_input_is_explained():
    with pytest.raises(ValueError, match="needs a periodic grid"):
        Spectrum(Grid((8, 8), periodic=(True, False)), torch.float32)
    with pytest.raises(TypeError, match=r"float32 or torch.float64, got torch.float16"):
        Spectrum(Grid((8, 8)), torch.float16)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_agrees_with_cpu():
    from pde_data.equations import simulate

    w0 = torch.randn(3, 32, 32, dtype=torch.float64)
    w0 -= w0.mean((1, 2), keepdim=True)
    a = simulate("navier_stokes", w0, [0.5, 1.0], forcing="fno")
    b = simulate("navier_stokes", w0.cuda(), [0.5, 1.0], forcing="fno")
    assert b.is_cuda
    torch.testing.assert_close(a, b.cpu(), rtol=1e-9, atol=1e-9)
