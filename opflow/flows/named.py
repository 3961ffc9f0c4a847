"""The published flows by name."""

from collections.abc import Sequence

from opflow.flows.image import ImageFlow


def CInCFlow(shape: Sequence[int], coupling: str = "quad", **arguments) -> ImageFlow:
    """Return an `ImageFlow` of the layers of CInC Flow: causal convolutions and quad-couplings.

    Args:
        shape: `(channels, rows, columns)`.
        coupling: a row of `COUPLINGS`; the published one by default.
        arguments: further ones of `ImageFlow`.

    Source: Nagar, Dufraisse and Varma, CInC Flow, 2021.

    Example:
        >>> CInCFlow((1, 8, 8), steps=1, hidden_channels=8).sample(2).shape
        torch.Size([2, 1, 8, 8])
    """
    return ImageFlow(shape, layer="cinc", coupling=coupling, **arguments)


def FInCFlow(shape: Sequence[int], **arguments) -> ImageFlow:
    """Return an `ImageFlow` of the layers of FInC Flow: causal convolutions from four corners, then 1 x 1.

    Args:
        shape: `(channels, rows, columns)`.
        arguments: further ones of `ImageFlow`.

    Source: Kallappa, Nagar and Varma, FInC Flow, 2023.

    Example:
        >>> FInCFlow((1, 8, 8), steps=1, hidden_channels=8).sample(2).shape
        torch.Size([2, 1, 8, 8])
    """
    return ImageFlow(shape, layer="finc", **arguments)


def InverseFlow(shape: Sequence[int], **arguments) -> ImageFlow:
    """Return an `ImageFlow` of the layers of Inverse-Flow: inverse convolutions, which sample by convolving.

    Args:
        shape: `(channels, rows, columns)`.
        arguments: further ones of `ImageFlow`.

    Source: Nagar and Varma, Inverse-Flow, 2025.

    Example:
        >>> InverseFlow((1, 8, 8), steps=1, hidden_channels=8).sample(2).shape
        torch.Size([2, 1, 8, 8])
    """
    return ImageFlow(shape, layer="inverse", **arguments)
