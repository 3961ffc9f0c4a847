"""A Fourier neural operator on one page, in plain torch.

It learns the map from u(0, x) to u(1/2, x) of Burgers' equation, u_t + u u_x = nu u_xx on the periodic unit
interval, from data that it makes itself, and is then asked about a grid twice as fine.

    python examples/standalone_fno.py                # about a minute on two cores
    python examples/standalone_fno.py --epochs 200   # better
"""

import argparse
import math

import torch
from torch import nn
from torch.nn import functional as F


def initial_states(samples: int, points: int, generator: torch.Generator) -> torch.Tensor:
    """Smooth random functions with 8 waves; a function does not depend on the number of points."""
    k = torch.arange(1, 9)
    amplitude = torch.randn(samples, 2, 8, generator=generator) / (1 + (k / 3) ** 2)
    phase = 2 * math.pi * k[:, None] * torch.arange(points) / points
    return amplitude[:, 0] @ phase.cos() + amplitude[:, 1] @ phase.sin()


def burgers(u: torch.Tensor, time: float = 0.5, steps: int = 400, viscosity: float = 0.02) -> torch.Tensor:
    """Solve Burgers' equation: Fourier in space, Runge-Kutta 4 with integrating factor in time."""
    u = u.double()
    n, dt = u.shape[-1], time / steps
    k = 2 * math.pi * torch.arange(n // 2 + 1, dtype=torch.float64)
    half = torch.exp(-viscosity * k**2 * dt / 2)
    keep = k <= k[-1] * 2 / 3  # the product of two fields has twice their modes

    def nonlinear(v):
        return -0.5j * k * keep * torch.fft.rfft(torch.fft.irfft(v, n) ** 2)

    v = torch.fft.rfft(u)
    for _ in range(steps):
        a = nonlinear(v)
        b = nonlinear(half * (v + dt / 2 * a))
        c = nonlinear(half * v + dt / 2 * b)
        d = nonlinear(half**2 * v + dt * half * c)
        v = half**2 * v + dt / 6 * (half**2 * a + 2 * half * (b + c) + d)
    return torch.fft.irfft(v, n).float()


class SpectralConv(nn.Module):
    """Multiply each of the lowest Fourier modes by a matrix between channels."""

    def __init__(self, channels: int, modes: int):
        super().__init__()
        self.modes = modes
        self.weight = nn.Parameter(torch.randn(channels, channels, modes, 2) / channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(batch, channel, point)` to the same shape."""
        spectrum = torch.fft.rfft(x, norm="forward")[..., : self.modes]
        mixed = torch.einsum("bik,iok->bok", spectrum, torch.view_as_complex(self.weight))
        return torch.fft.irfft(mixed, n=x.shape[-1], norm="forward")  # the other modes are zero


class FNO(nn.Module):
    """Lift to many channels, four Fourier layers, project: a map of functions, on any grid."""

    def __init__(self, channels: int = 32, modes: int = 16, layers: int = 4):
        super().__init__()
        self.lift = nn.Conv1d(2, channels, 1)
        self.spectral = nn.ModuleList(SpectralConv(channels, modes) for _ in range(layers))
        self.local = nn.ModuleList(nn.Conv1d(channels, channels, 1) for _ in range(layers))
        self.project = nn.Sequential(nn.Conv1d(channels, 64, 1), nn.GELU(), nn.Conv1d(64, 1, 1))

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """Map `(batch, point)` to the same shape."""
        position = torch.arange(u.shape[-1]) / u.shape[-1]
        x = self.lift(torch.stack((u, position.expand_as(u)), dim=1))
        for i, (spectral, local) in enumerate(zip(self.spectral, self.local)):
            x = spectral(x) + local(x)
            x = F.gelu(x) if i < len(self.local) - 1 else x
        return self.project(x)[:, 0]


def relative_error(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return ((prediction - target).norm(dim=-1) / target.norm(dim=-1)).mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--points", type=int, default=64)
    args = parser.parse_args()

    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    fine = initial_states(args.samples + 100, 2 * args.points, generator)
    fine_solution = burgers(fine)
    u, y = fine[:, ::2], fine_solution[:, ::2]  # every second node: the same functions on a coarser grid
    train_u, train_y = u[: args.samples], y[: args.samples]

    model = FNO()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-4)
    batches = math.ceil(args.samples / 20)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=args.epochs * batches)
    for epoch in range(1, args.epochs + 1):
        for batch in torch.randperm(args.samples, generator=generator).split(20):
            loss = relative_error(model(train_u[batch]), train_y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        if epoch % 10 == 0:
            print(f"epoch {epoch}: loss of the last batch {loss.item():.4f}")

    with torch.no_grad():
        test, test_fine = slice(args.samples, None), (fine[args.samples :], fine_solution[args.samples :])
        error = relative_error(model(u[test]), y[test])
        error_fine = relative_error(model(test_fine[0]), test_fine[1])
    print(f"test error, relative L2: {error:.4f} on {args.points} points")
    print(f"same weights on {2 * args.points} points: {error_fine:.4f}")


if __name__ == "__main__":
    main()
