"""Labels of flows: regions of vortices, viscosities, and obstacles."""

import numpy as np
import torch
from torch import Tensor

from pde_data.equations.navier_stokes import NavierStokes
from pde_data.equations.obstacles import random_mask
from pde_data.equations.stokes import Stokes
from protocol.pairs import GRID, TRAINING, Pairs
from protocol.recogniser import recogniser


def vorticity(n: int, seed: int, viscosity: float = 1e-3) -> Tensor:
    """Fields of decaying turbulence at time 2, `(n, 1, *grid)`."""
    equation = NavierStokes(resolution=GRID, t_end=2.0, records=1, viscosity=viscosity)
    return torch.as_tensor(equation.generate(seed, range(n))["vorticity"][:, -1:])


def okubo_weiss(vorticity: Tensor) -> Tensor:
    r"""Regions of flows `(n, *grid)`: quiet, strain, vortices that turn left, and such that turn right.

    By :math:`W = s_n^2 + s_s^2 - \omega^2` over its deviation within a field: strain above 0.2, vortices
    below -0.2 (Okubo 1970, Weiss 1991).
    """
    n = vorticity.shape[-1]
    k = 2 * torch.pi * torch.fft.fftfreq(n, 1 / n, dtype=torch.float64)
    kx, ky = k[:, None], k[None]
    spectrum = torch.fft.fft2(vorticity[:, 0].double())
    square = kx**2 + ky**2
    psi = spectrum / torch.where(square > 0, square, 1.0)
    psi[:, 0, 0] = 0
    normal, shear = 2 * torch.fft.ifft2(-kx * ky * psi).real, torch.fft.ifft2((kx**2 - ky**2) * psi).real
    w = vorticity[:, 0].double()
    weiss = normal**2 + shear**2 - w**2
    weiss = weiss / weiss.std((1, 2), keepdim=True)
    regions = (weiss > 0.2).long()
    regions[(weiss < -0.2) & (w > 0)] = 2
    regions[(weiss < -0.2) & (w <= 0)] = 3
    return regions


class Vortices(Pairs):
    """Regions of a flow and its vorticity, a map of which is known."""

    n_classes = 4

    def __init__(self, masks: int, draws: int, seed: int = 0):
        fields = vorticity(TRAINING + masks, seed)
        labels = okubo_weiss(fields)
        self.training = fields[:TRAINING], labels[:TRAINING]
        self.tests = fields[TRAINING:], labels[TRAINING:]

    def known(self, fields: Tensor) -> dict[str, Tensor]:
        """Return the regions of drawn fields."""
        return {"labels": okubo_weiss(fields)}


class Viscosity(Pairs):
    """Four viscosities and vorticity, one label per field."""

    n_classes = 4
    _VALUES = (2.5e-4, 1e-3, 4e-3, 1.6e-2)

    def __init__(self, masks: int, draws: int, seed: int = 0):
        n = (TRAINING + masks) // 4
        fields = torch.stack(
            [vorticity(n, seed + i, value) for i, value in enumerate(self._VALUES)], 1
        ).flatten(0, 1)
        labels = torch.arange(4).repeat(n)
        self.training = fields[:TRAINING], labels[:TRAINING]
        self.tests = fields[TRAINING:], labels[TRAINING:]
        self._recognise = recogniser(*self.training, seconds=30.0)

    def known(self, fields: Tensor) -> dict[str, Tensor]:
        """Return the labels that a network says which was trained apart."""
        return {"labels": self._recognise(fields).argmax(1)}


class Obstacles(Pairs):
    """Porous obstacles, and velocity and pressure of a slow flow, of hidden direction and force."""

    n_classes = 2

    def __init__(self, masks: int, draws: int, seed: int = 0):
        equation = Stokes(resolution=GRID, setting="periodic", obstacles=3, permeability=1e-3)
        fluid = np.stack([random_mask(seed, i, 3, equation.grid) for i in range(TRAINING + masks)])
        labels = torch.as_tensor(~fluid).long()
        # Of a force along either axis; the equation is linear in it.
        basis = torch.stack([self._solve(equation, mask) for mask in fluid])
        self._unit = basis[:, 0].std((0, 2, 3))[:, None, None]
        rng = np.random.default_rng(seed + 1)
        fields = self._drawn(basis, 1, rng)[:, 0]
        self.training = fields[:TRAINING], labels[:TRAINING]
        self.tests = fields[TRAINING:], labels[TRAINING:]
        # Twice the draws, stratified, are the reference: its means are those of the law up to a percent.
        self.law = self._drawn(basis[TRAINING:], 2 * draws, rng, stratified=True)
        self.perfect = self._drawn(basis[TRAINING:], draws, rng)

    @staticmethod
    def _solve(equation: Stokes, mask: np.ndarray) -> Tensor:
        flow, found = equation.discretised(mask, equation.grid), []
        for force in ((1.0, 0.0), (0.0, 1.0)):
            faces, pressure, _ = flow.solve(force, None)
            found.append(np.stack([*flow.centred(faces), pressure]))
        return torch.as_tensor(np.stack(found).astype(np.float32))

    def _drawn(self, basis: Tensor, draws: int, rng, stratified: bool = False) -> Tensor:
        """Flows under forces of angles up to 60 degrees and sizes from 1/2 to 3/2, with noise of 1 %."""
        u = rng.random((2, len(basis), draws))
        if stratified:
            u = (rng.permuted(np.broadcast_to(np.arange(draws), u.shape), axis=2) + u) / draws
        u = torch.as_tensor(u, dtype=basis.dtype)
        angle, size = (2 * u[0] - 1) * torch.pi / 3, 0.5 + u[1]
        force = torch.stack([size * angle.cos(), size * angle.sin()], -1)
        flows = torch.einsum("ndf,nfcxy->ndcxy", force, basis)
        noise = torch.as_tensor(rng.standard_normal(flows.shape), dtype=flows.dtype)
        return flows + 0.01 * self._unit * noise

    def known(self, fields: Tensor) -> dict[str, Tensor]:
        """Return the divergence of the velocity over the norm of its gradient, per field."""
        u, v = fields[:, 0], fields[:, 1]
        slopes = [(w.roll(-1, axis) - w.roll(1, axis)).double() for w in (u, v) for axis in (1, 2)]
        divergence = (slopes[0] + slopes[3]).square().mean((1, 2)).sqrt()
        gradient = sum(s.square() for s in slopes).mean((1, 2)).sqrt()
        return {"divergence": divergence / gradient}
