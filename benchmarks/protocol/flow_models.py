"""The flows that the benchmarks compare: ours by layer, and normflows' multi-scale Glow."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from opflow.flows import ImageFlow
from opflow.nn.invertible import Logit
from protocol.matching import count_parameters

Shape = tuple[int, int, int]


class NormflowsGlow(nn.Module):
    """normflows' multi-scale Glow as its own example builds it, behind the logit that ours has.

    Args:
        shape: `(channels, rows, columns)`.
        levels: number of levels.
        steps: Glow blocks per level.
        hidden_channels: width of their networks.
        bins: values of a pixel.
    """

    def __init__(self, shape: Shape, levels: int, steps: int, hidden_channels: int, bins: int):
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.lu, which normflows calls
            self.flow = self._build(shape, levels, steps, hidden_channels)
        self.shape, self.bins, self.door = shape, bins, Logit()

    @staticmethod
    def _build(shape: Shape, levels: int, steps: int, hidden: int) -> nn.Module:
        import normflows as nf

        c, h, w = shape
        bases, merges, flows = [], [], []
        for level in range(levels):  # theirs begins at the noise
            width = c * 2 ** (levels + 1 - level)
            blocks = [
                nf.flows.GlowBlock(width, hidden, split_mode="channel", scale=True) for _ in range(steps)
            ]
            flows.append([*blocks, nf.flows.Squeeze()])
            if level:
                merges.append(nf.flows.Merge())
            left = c * 2 ** (levels - level) if level else width
            scale = 2 ** (levels - level)
            bases.append(nf.distributions.DiagGaussian((left, h // scale, w // scale)))
        return nf.MultiscaleFlow(bases, flows, merges, class_cond=False)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log-densities of images in [0, 1]."""
        y, logdet = self.door(x)
        return self.flow.log_prob(y, None) + logdet

    def bits_per_dim(self, x: Tensor, draws: int = 1) -> Tensor:
        """Return bits per dimension of integers, by uniform dequantisation."""
        dims = math.prod(self.shape)
        log_p = sum(self.log_prob((x + torch.rand(x.shape)) / self.bins) for _ in range(draws)) / draws
        return (dims * math.log(self.bins) - log_p) / (dims * math.log(2))

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """Draw images in [0, 1]."""
        return self.door.inverse(self.flow.sample(n)[0])[0]


LAYERS = ("glow", "cinc", "finc", "inverse")


def build(name: str, shape: Shape, levels: int, steps: int, width: int, bins: int) -> nn.Module:
    """Build a flow by name: "normflows", or layer and, behind a hyphen, coupling: "finc-quad"."""
    name = name.removesuffix("-plain")  # which says how to train it
    if name == "normflows":
        return NormflowsGlow(shape, levels, steps, width, bins)
    layer, _, coupling = name.partition("-")
    options = {"layer": layer, "hidden_channels": width, "coupling": coupling or "affine", "bins": bins}
    options["kernel_size"] = 2 if layer == "inverse" else 3  # as published for CIFAR-10
    return ImageFlow(shape, levels, steps, **options)


def widths(
    names: Sequence[str], make: Callable[[str, int], nn.Module], width: int, reference: str = "normflows"
) -> dict[str, int]:
    """Return, for each flow, a multiple of four with parameters within 5 % of the reference's.

    Of several the one with the most factors of two, which fills vectors, then the nearest.
    """
    target = count_parameters(make(reference, width))
    candidates = range(8, 2 * width + 1, 4)

    def distance(name: str, candidate: int) -> float:
        return abs(math.log(count_parameters(make(name, candidate)) / target))

    def rank(name: str, candidate: int) -> tuple:
        off = distance(name, candidate)
        return off > math.log(1.05), off if off > math.log(1.05) else -(candidate & -candidate), off

    return {
        name: width if name == reference else min(candidates, key=lambda c, n=name: rank(n, c))
        for name in names
    }
