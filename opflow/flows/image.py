"""Flows of images: integers, dequantised."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from opflow.flows.base import Flow
from opflow.flows.multiscale import Multiscale
from opflow.nn.arguments import arguments
from opflow.nn.invertible import Condition, Logit, UniformDequantization, VariationalDequantization


class ImageFlow(Flow):
    r"""A multi-scale flow of images with integer values.

    Its density is that of dequantised images in [0, 1], :math:`(v + u) / Q` for integers v below Q and noise
    u in [0, 1); `bits_per_dim` bounds from it the bits that the integers take, and is the loss by which
    `opflow.fit` trains on pairs of condition and image.

    Args:
        shape: `(channels, rows, columns)`; `2**levels` divides the sides.
        levels: how often the grid is halved.
        steps: steps per level.
        layer: how steps mix: "glow" (channels only), "cinc", "finc" or "inverse".
        hidden_channels: width of the networks of the couplings.
        condition: number of classes, `(d,)` for vectors, `(c, rows, columns)` for fields; None for none.
        coupling: "affine", "quad" or "spline".
        kernel_size: points per axis of the invertible convolutions.
        gain_bound: keeps the inverses of the convolutions bounded in training, see `CausalWeight`; None
            leaves them free, as published.
        bins: number Q of values; 256 for uint8.
        dequantization: "uniform" or "variational".

    Shapes:
        log_prob and decode: `(batch, channels, rows, columns)` in [0, 1], the dtype of the parameters.

    Raises:
        ValueError: an argument out of range; the message says what to do.

    Source: Kingma and Dhariwal, Glow, 2018; Nagar et al., CInC Flow, 2021; Kallappa et al., FInC Flow, 2023;
    Nagar and Varma, Inverse-Flow, 2025.

    Example:
        >>> flow = ImageFlow((1, 8, 8), levels=2, steps=2, layer="finc", hidden_channels=8, bins=17)
        >>> images = torch.randint(17, (4, 1, 8, 8))
        >>> bits = flow.bits_per_dim(images)
        >>> bits.mean().backward()
        >>> bits.shape, flow.eval().sample(3).shape
        (torch.Size([4]), torch.Size([3, 1, 8, 8]))
    """

    loss_name = "bits_per_dim"

    def __init__(
        self,
        shape: Sequence[int],
        levels: int = 2,
        steps: int = 8,
        layer: str = "glow",
        hidden_channels: int = 64,
        condition: Condition = None,
        coupling: str = "affine",
        kernel_size: int = 3,
        gain_bound: float | None = 0.9,
        bins: int = 256,
        dequantization: str = "uniform",
    ):
        config = arguments(locals())
        shape = tuple(shape)
        condition = tuple(condition) if isinstance(condition, list) else condition
        if bins < 2:
            raise ValueError(f"bins, the number of values of a pixel, must be at least 2, got {bins}")
        if dequantization not in ("uniform", "variational"):
            raise ValueError(f"dequantization must be uniform or variational, got {dequantization!r}")
        steps_as = (layer, coupling, hidden_channels, condition, kernel_size, gain_bound)
        body = Multiscale(shape, levels, steps, *steps_as, circular=False)
        super().__init__(body, Logit(), shape, condition)
        self.config = config
        self.bins = bins
        self.dequantize = (
            UniformDequantization() if dequantization == "uniform" else VariationalDequantization(shape)
        )

    def bits_per_dim(self, x: Tensor, cond: Tensor | None = None, draws: int = 1) -> Tensor:
        r"""Return an upper bound of the bits per pixel and channel that integers take, differentiable.

        .. math:: -\frac{\log p((v + u) / Q) - \log q(u | v) - D \log Q}{D \log 2}

        Args:
            x: integers `(batch, channels, rows, columns)` from 0 to bins - 1.
            cond: as for `log_prob`.
            draws: noises u that are averaged over; the bound does not depend on it, its spread does.

        Returns:
            `(batch,)`, the dtype of the parameters.

        Raises:
            TypeError: x is not of integers.
            ValueError: values out of range, no draws, or shapes that do not fit.
            FloatingPointError: the density is not finite; the message names the layer and the remedy.
        """
        if x.is_floating_point() or x.is_complex() or x.dtype == torch.bool:
            raise TypeError(
                f"bits_per_dim takes integers from 0 to {self.bins - 1}, got {x.dtype}: for dequantised "
                "images in [0, 1] there is log_prob"
            )
        if x.numel() and not 0 <= int(x.min()) <= int(x.max()) < self.bins:
            raise ValueError(
                f"pixels should lie between 0 and {self.bins - 1}, found {int(x.min())} to {int(x.max())}: "
                f"build the flow with bins={int(x.max()) + 1}, or requantise the images"
            )
        if draws < 1:
            raise ValueError(f"draws must be at least 1, got {draws}")
        dims, like = math.prod(self.shape), self._like
        values = x.to(like)
        self._check(values)
        bounds = []
        for _ in range(draws):
            noise, log_q = self.dequantize((values + 0.5) / self.bins)
            log_p = self._log_prob((values + noise) / self.bins, cond)
            bounds.append(log_p - log_q)
        bits = (dims * math.log(self.bins) - torch.stack(bounds).mean(0)) / (dims * math.log(2))
        return bits.to(like.dtype)

    def losses(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the bits per dimension of each image y, integers in any dtype, under conditions x."""
        return self.bits_per_dim(y.round().long(), self.condition_of(x))

    def fit_statistics(self, pairs: Iterable[tuple[Tensor, Tensor, Tensor | None]]) -> None:
        """Do nothing: the range of the values is known."""

    def quantize(self, x: Tensor) -> Tensor:
        """Return the integers of samples in [0, 1], uint8 for up to 256 bins."""
        return (
            (x * self.bins)
            .floor()
            .clamp(0, self.bins - 1)
            .to(torch.uint8 if self.bins <= 256 else torch.long)
        )
