"""FInC Flow on one page, in plain torch: a density of images that is exact, with samples in one pass.

A convolution padded at one corner is a block-triangular matrix: its determinant is known, and its inverse is
a recurrence that runs over all pixels of an anti-diagonal at once. This file learns scikit-learn's digits,
prints bits per dimension on digits that it has not seen, and draws samples.

    python examples/standalone_finc.py                # half a minute on one core
    python examples/standalone_finc.py --seconds 100  # better
"""

import argparse
import math
import time

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

LEVELS = 17  # of grey: the digits hold integers from 0 to 16
MARGIN = 0.05  # kept from the ends of [0, 1] before the logit


def causal_conv(x: Tensor, weight: Tensor) -> Tensor:
    """Convolve `(batch, channel, row, column)`: a pixel sees itself and what is above and to the left."""
    k = weight.shape[-1]
    return F.conv2d(F.pad(x, (k - 1, 0, k - 1, 0)), weight)


def causal_solve(y: Tensor, weight: Tensor) -> Tensor:
    """Solve `causal_conv(x, weight) == y` for x, anti-diagonal by anti-diagonal: H + W - 1 steps.

    The last tap A mixes the channels of the pixel itself. Divided by it, the equation of a pixel is
    x = y - (sum over the other taps), and the pixels it names lie on earlier anti-diagonals.
    """
    k, (height, width) = weight.shape[-1], y.shape[2:]
    corner = weight[:, :, -1, -1]
    y = torch.linalg.solve(corner, y.flatten(2)).view_as(y)
    taps = torch.linalg.solve(corner, weight.flatten(1)).view_as(weight)
    x = F.pad(torch.zeros_like(y), (k - 1, 0, k - 1, 0))
    rows, columns = torch.meshgrid(torch.arange(k), torch.arange(k), indexing="ij")
    for d in range(height + width - 1):
        i = torch.arange(max(0, d - width + 1), min(d, height - 1) + 1)
        j = d - i
        patches = x[
            :, :, i[:, None, None] + rows, j[:, None, None] + columns
        ]  # at the pixel itself still zero
        x[:, :, i + k - 1, j + k - 1] = y[:, :, i, j] - torch.einsum("oiab,ziNab->zoN", taps, patches)
    return x[:, :, k - 1 :, k - 1 :]


class FInCConv(nn.Module):
    """Four groups of channels, each convolved from another corner of the image; keeps volumes."""

    FLIPS = ((), (3,), (2,), (2, 3))  # that bring the corner to the top left

    def __init__(self, channels: int, k: int):
        super().__init__()
        c = channels // 4
        self.taps = nn.Parameter(0.01 * torch.randn(4, c, c, k, k))

    def weights(self) -> Tensor:
        """The corner is triangular with ones on its diagonal, whatever the optimiser does: invertible."""
        corner = self.taps[..., -1, -1].tril(-1) + torch.eye(self.taps.shape[1]).to(self.taps)
        mask = torch.zeros_like(self.taps)
        mask[..., -1, -1] = 1
        return self.taps * (1 - mask) + corner[..., None, None] * mask

    def _each(self, function, x: Tensor) -> Tensor:
        groups = zip(x.chunk(4, 1), self.weights(), self.FLIPS)
        return torch.cat([function(x.flip(axes), weight).flip(axes) for x, weight, axes in groups], 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Convolve; the log-determinant is zero."""
        return self._each(causal_conv, x), x.new_zeros(())

    def inverse(self, z: Tensor) -> Tensor:
        """Solve."""
        return self._each(causal_solve, z)


class ActNorm(nn.Module):
    """Scale and shift per channel, set so that the first batch has mean 0 and deviation 1."""

    def __init__(self, channels: int):
        super().__init__()
        self.log_scale, self.shift = (nn.Parameter(torch.zeros(channels, 1, 1)) for _ in range(2))
        self.register_buffer("fitted", torch.tensor(False))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scale, then shift."""
        if self.training and not self.fitted:
            std, mean = torch.std_mean(x.detach(), (0, 2, 3), keepdim=True)
            self.log_scale.data.copy_(-(std + 1e-6).log()[0])
            self.shift.data.copy_((-mean / (std + 1e-6))[0])
            self.fitted.fill_(True)
        return x * self.log_scale.exp() + self.shift, self.log_scale.sum() * x.shape[2] * x.shape[3]

    def inverse(self, z: Tensor) -> Tensor:
        """Undo both."""
        return (z - self.shift) * (-self.log_scale).exp()


class Mix(nn.Module):
    """A 1 x 1 convolution by P L U: any invertible matrix, with a determinant that is read off."""

    def __init__(self, channels: int):
        super().__init__()
        p, lower, upper = torch.linalg.lu(torch.linalg.qr(torch.randn(channels, channels))[0])
        self.register_buffer("permutation", p)
        self.register_buffer("sign", upper.diagonal().sign())
        self.lower, self.upper = nn.Parameter(lower), nn.Parameter(upper)
        self.log_diagonal = nn.Parameter(upper.diagonal().abs().log())

    def matrix(self) -> Tensor:
        """Return P L U."""
        lower = self.lower.tril(-1) + torch.eye(len(self.lower)).to(self.lower)
        return self.permutation @ lower @ (self.upper.triu(1) + (self.sign * self.log_diagonal.exp()).diag())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mix the channels of each pixel."""
        mixed = F.conv2d(x, self.matrix()[..., None, None])
        return mixed, self.log_diagonal.sum() * x.shape[2] * x.shape[3]

    def inverse(self, z: Tensor) -> Tensor:
        """Unmix them."""
        return torch.linalg.solve(self.matrix(), z.flatten(2)).view_as(z)


class Coupling(nn.Module):
    """Half of the channels scale and shift the other half."""

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.net = nn.Sequential(
            *(nn.Conv2d(channels // 2, hidden, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(hidden, hidden, 1), nn.ReLU()),
            nn.Conv2d(hidden, channels, 3, padding=1),
        )
        nn.init.zeros_(self.net[-1].weight)  # the identity at the start
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Transform the second half."""
        kept, moved = x.chunk(2, 1)
        shift, raw = self.net(kept).chunk(2, 1)
        log_scale = 2 * torch.tanh(raw / 2)
        return torch.cat([kept, moved * log_scale.exp() + shift], 1), log_scale.sum((1, 2, 3))

    def inverse(self, z: Tensor) -> Tensor:
        """Undo it: the first half, and so the answer of the network, is as it was."""
        kept, moved = z.chunk(2, 1)
        shift, raw = self.net(kept).chunk(2, 1)
        return torch.cat([kept, (moved - shift) * (-2 * torch.tanh(raw / 2)).exp()], 1)


class FInCFlow(nn.Module):
    """Images in [0, 1] to standard normal noise, in levels; half of the channels leave after each."""

    def __init__(self, shape=(1, 8, 8), levels: int = 2, steps: int = 6, hidden: int = 64):
        super().__init__()
        self.levels, self.priors, self.sizes = nn.ModuleList(), nn.ModuleList(), []
        channels, height, width = shape
        for _ in range(levels):
            channels, height, width = 4 * channels, height // 2, width // 2
            k = min(3, height, width)
            level = nn.ModuleList()
            for _ in range(steps):
                level += [FInCConv(channels, k), Mix(channels), ActNorm(channels), Coupling(channels, hidden)]
            self.levels.append(level)
            self.priors.append(Coupling(channels, hidden))  # what leaves, standardised by what stays
            self.sizes.append((channels // 2, height, width))
            channels //= 2

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the noise `(batch, pixels)` and the log-determinants `(batch,)`."""
        x = torch.logit(MARGIN + (1 - 2 * MARGIN) * x)
        slopes = F.softplus(x) + F.softplus(-x) + math.log(1 - 2 * MARGIN)
        total, noise = slopes.flatten(1).sum(1), []
        for level, prior in zip(self.levels, self.priors):
            x = F.pixel_unshuffle(x, 2)
            for layer in (*level, prior):
                x, logdet = layer(x)
                total = total + logdet
            x, leaves = x.chunk(2, 1)
            noise.append(leaves.flatten(1))
        return torch.cat([*noise, x.flatten(1)], 1), total

    def inverse(self, z: Tensor) -> Tensor:
        """Return the images of noise."""
        sizes = [math.prod(size) for size in self.sizes]
        *noise, x = z.split([*sizes, sizes[-1]], 1)
        x = x.unflatten(1, self.sizes[-1])
        for level, prior, leaves, size in reversed(list(zip(self.levels, self.priors, noise, self.sizes))):
            x = torch.cat([x, leaves.unflatten(1, size)], 1)
            for layer in reversed((*level, prior)):
                x = layer.inverse(x)
            x = F.pixel_shuffle(x, 2)
        return (x.sigmoid() - MARGIN) / (1 - 2 * MARGIN)

    def bits_per_dim(self, images: Tensor) -> Tensor:
        """Bound the bits that a pixel takes, by the density of integers with uniform noise."""
        z, logdet = self((images + torch.rand_like(images)) / LEVELS)
        log_prob = logdet - (z**2 + math.log(2 * math.pi)).sum(1) / 2
        return math.log2(LEVELS) - log_prob.mean() / (z.shape[1] * math.log(2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--steps", type=int, default=6, help="per level")
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--out", default="samples.png")
    args = parser.parse_args()

    torch.manual_seed(0)
    digits = torch.from_numpy(load_digits().images.astype(np.float32))[:, None]
    digits = digits[torch.randperm(len(digits))]
    train, test = digits[:1500], digits[1500:]

    flow = FInCFlow(steps=args.steps, hidden=args.hidden)
    optimizer = torch.optim.Adamax(flow.parameters())
    started, step = time.perf_counter(), 0
    while (share := (time.perf_counter() - started) / args.seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1, step / 50) * math.cos(math.pi / 2 * share) ** 2
        loss = flow.bits_per_dim(train[torch.randint(len(train), (128,))])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(flow.parameters(), 10.0)
        optimizer.step()
        if step % 100 == 0:
            print(f"step {step}: {loss.item():.3f} bits per dimension")
        step += 1

    flow.eval()
    with torch.no_grad():
        bits = torch.stack([flow.bits_per_dim(test) for _ in range(5)]).mean().item()
        z = torch.randn(100, 64)
        samples = flow.inverse(z)
        error = (flow.inverse(flow(samples)[0]) - samples).abs().max().item()
    print(f"{step} steps, {bits:.3f} bits per dimension on {len(test)} unseen digits (uniform: 4.087)")
    print(f"100 samples; encoded and decoded again they differ by {error:.1e}")

    framed = F.pad(samples, (1, 1, 1, 1), value=0.5)
    sheet = framed.view(10, 10, 10, 10).permute(0, 2, 1, 3).reshape(100, 100)
    figure = Figure(figsize=(5, 5))
    axes = figure.add_axes((0, 0, 1, 1), frame_on=False, xticks=[], yticks=[])
    axes.imshow(sheet.numpy(), cmap="gray", vmin=0, vmax=1)
    figure.savefig(args.out)
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
