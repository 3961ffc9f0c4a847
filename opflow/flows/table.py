"""How the steps of a flow mix and couple channels: a new layer is a row here."""

from collections.abc import Callable

from opflow.nn.invertible import (
    ORIENTATIONS,
    AffineCoupling,
    Bijection,
    CInCConv,
    FInCConv,
    InverseConv,
    PointwiseConv,
    QuadCoupling,
    SplineCoupling,
)


def _glow(channels: int, step: int, kernel_size: int, gain_bound: float | None) -> list[Bijection]:
    return [PointwiseConv(channels, actnorm=True)]


def _cinc(channels: int, step: int, kernel_size: int, gain_bound: float | None) -> list[Bijection]:
    return [CInCConv(channels, kernel_size, "plu", ORIENTATIONS[step % 4], gain_bound, actnorm=True)]


def _finc(channels: int, step: int, kernel_size: int, gain_bound: float | None) -> list[Bijection]:
    return [FInCConv(channels, kernel_size, gain_bound), PointwiseConv(channels, actnorm=True)]


def _inverse(channels: int, step: int, kernel_size: int, gain_bound: float | None) -> list[Bijection]:
    return [InverseConv(channels, kernel_size, "plu", ORIENTATIONS[step % 4], gain_bound, actnorm=True)]


LAYERS: dict[str, Callable[[int, int, int, float | None], list[Bijection]]] = {
    "glow": _glow,
    "cinc": _cinc,
    "finc": _finc,
    "inverse": _inverse,
}
"""From channels, number of the step, kernel size and gain bound to the layers that mix. The convolutions
that look back from one corner take the four in turn."""

COUPLINGS: dict[str, Callable[..., Bijection]] = {
    "affine": AffineCoupling,
    "quad": QuadCoupling,
    "spline": SplineCoupling,
}
"""From channels, width of the network, `condition` and `circular` to the layer that couples."""
