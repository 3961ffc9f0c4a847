"""Spectral convolution: a learned linear map on each kept Fourier mode."""

import math
import warnings
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from opflow.kernels import dft
from opflow.kernels.dft import Slot
from opflow.kernels.modes import multiply_modes

# A product costs in proportion to the modes kept, an FFT hardly depends on them: products while the most
# kept on an axis are so few, and always under export.
_MAX_MODES_FOR_PRODUCT = 64


class SpectralConv(nn.Module):
    r"""Multiply the Fourier coefficients of a field by learned matrices, mode by mode.

    .. math:: Y_o(k) = \sum_i W_{io}(k) X_i(k) \text{ for kept } k, \quad y = F^{-1} Y + b

    Modes are matched by *frequency*, so the same weights act as the same operator on every grid, odd or
    even: per axis :math:`k = -\lfloor m/2 \rfloor, \dots, \lceil m/2 \rceil - 1`, on the last axis of real
    data :math:`0, \dots, \lfloor m/2 \rfloor`. A grid too coarse for a mode leaves it out; a Nyquist mode
    takes part when input and output grid are the same and is left out between different grids, where its
    phase is not known. Real output takes the real part, so zero and Nyquist columns are Hermitian.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        n_modes: modes kept per axis, counted over negative and positive frequencies.
        max_n_modes: modes held by the weight, at least `n_modes`; the modes beyond stay unused.
        bias: add a constant per output channel.
        separable: one complex number per channel and mode in place of a matrix.
        complex_data: complex input and output, full spectrum on every axis.
        factorization: "tucker", "cp" or "tt" for a factorised weight (needs tensorly-torch), or None.
        rank: relative size of the factorised weight.
        fixed_rank_modes: passed to tensorly-torch.

    Shapes:
        `(batch, in_channels, *space)` to `(batch, out_channels, *out_grid)`; float32 or float64, or the
        complex dtypes with `complex_data`.

    Source: Li et al., Fourier Neural Operator for Parametric Partial Differential Equations, 2021.

    Example:
        >>> import torch
        >>> conv = SpectralConv(1, 1, n_modes=(4,), bias=False)
        >>> with torch.no_grad():
        ...     _ = conv.weight.zero_()
        ...     conv.weight[..., 0, :] = 1.0  # the identity on kept modes
        >>> x = torch.cos(2 * torch.pi * torch.arange(9) / 9).view(1, 1, 9)
        >>> torch.allclose(conv(x), x, atol=1e-6)
        True
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        n_modes: Sequence[int],
        *,
        max_n_modes: Sequence[int] | None = None,
        bias: bool = True,
        separable: bool = False,
        complex_data: bool = False,
        factorization: str | None = None,
        rank: float = 1.0,
        fixed_rank_modes: bool = False,
    ):
        super().__init__()
        if separable and in_channels != out_channels:
            raise ValueError(
                f"a separable SpectralConv maps channels one to one: in_channels={in_channels} must equal "
                f"out_channels={out_channels}"
            )
        if min(n_modes) < 1:
            raise ValueError(f"n_modes must be at least 1 per axis, got {tuple(n_modes)}")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.n_modes = tuple(n_modes)
        self.separable, self.complex_data = separable, complex_data
        self.slots = _slots(n_modes, complex_data)  # in use
        self.held = _slots(n_modes if max_n_modes is None else max_n_modes, complex_data)

        std = math.sqrt(2 / (in_channels + out_channels))
        kept = [count for _, count in self.held]
        channels = (in_channels,) if separable else (in_channels, out_channels)
        self.factors: nn.Module | None = None
        if factorization is None or factorization.lower() == "dense":
            # (*modes, in, [real, imaginary], out): the layout of the batched product that uses it.
            shape = (*kept, 2, in_channels) if separable else (*kept, in_channels, 2, out_channels)
            self.weight = nn.Parameter(torch.randn(shape) * (std / math.sqrt(2)))
        else:
            self.factors = _factorised((*channels, *kept), factorization, rank, fixed_rank_modes, std)
        self.bias = nn.Parameter(std * torch.randn(out_channels)) if bias else None

    def forward(self, x: Tensor, out_grid: Sequence[int] | None = None) -> Tensor:
        """Apply the layer; the output lives on `out_grid`, or on the grid of `x` when None."""
        grid = tuple(x.shape[2:])
        out_grid = grid if out_grid is None else tuple(out_grid)
        slots = self.slots_on(grid, out_grid)
        analyse, synthesise = transforms(slots, self.complex_data)
        y = self._multiply(analyse(x.movedim(1, -1), slots), self.weights(slots))
        if self.bias is not None:
            y[:, 0, dft.zero_mode(slots)] += self.bias
        return synthesise(y, slots, out_grid).movedim(-1, 1)

    def slots_on(self, grid: Sequence[int], out_grid: Sequence[int]) -> list[Slot]:
        """Return the range of modes per axis that take part between two grids."""
        halves = [False] * (len(self.slots) - 1) + [not self.complex_data]
        return [_resolved(*arguments) for arguments in zip(self.slots, grid, out_grid, halves)]

    def uses_products(self, slots: Sequence[Slot]) -> bool:
        """Whether the transforms are matrix products; else they are FFTs."""
        return not self.complex_data and uses_products(slots)

    def _apply(self, fn, recurse=True):
        # `.to(dtype)` of torch would drop the imaginary part of complex factors, and `.double()` skip them.
        def on_pairs(t: Tensor) -> Tensor:
            return torch.view_as_complex(fn(torch.view_as_real(t))) if t.is_complex() else fn(t)

        return super()._apply(on_pairs, recurse)

    def dense_weight(self) -> Tensor:
        """Return the complex weight `(in, [out,] *modes)`, modes in ascending order."""
        if self.factors is not None:
            return self.factors.to_tensor()  # pyright: ignore[reportCallIssue]
        weight = torch.complex(self.weight.select(-2, 0), self.weight.select(-2, 1))
        return weight.movedim(-1, 0) if self.separable else weight.movedim((-2, -1), (0, 1))

    def load_dense_weight(self, weight: Tensor) -> None:
        """Take the complex weight `(in, [out,] *modes)`, for a layer without factorisation."""
        with torch.no_grad():
            self.weight.copy_(self._stored(weight))

    def _stored(self, weight: Tensor) -> Tensor:
        """Bring a complex weight `(in, [out,] *modes)` to the layout of the parameter."""
        parts = torch.view_as_real(weight.resolve_conj())
        modes = range(1 if self.separable else 2, parts.ndim - 1)
        return parts.permute(*modes, -1, 0) if self.separable else parts.permute(*modes, 0, -1, 1)

    def weights(self, slots: Sequence[Slot]) -> Tensor:
        """Return the real weights of the modes in `slots`: `(modes, in, 2, out)` or `(modes, 2, in)`."""
        weight = self.weight if self.factors is None else self._stored(self.dense_weight())
        for axis, ((first, count), held) in enumerate(zip(slots, self.held)):
            if (first, count) != held:  # a narrow that keeps all would still copy its gradient
                weight = weight.narrow(axis, first - held[0], count)
        return weight.flatten(0, len(slots) - 1)

    def _multiply(self, x: Tensor, weight: Tensor) -> Tensor:
        if not self.separable:
            return multiply_modes(x, weight)
        (real, imag), (w_real, w_imag) = x.unbind(1), weight.unbind(1)
        return torch.stack([real * w_real - imag * w_imag, real * w_imag + imag * w_real], 1)


def uses_products(slots: Sequence[Slot]) -> bool:
    """Whether the transforms of real fields to these modes are matrix products; else they are FFTs."""
    return max(count for _, count in slots) <= _MAX_MODES_FOR_PRODUCT or torch.compiler.is_exporting()


def transforms(slots: Sequence[Slot], complex_data: bool = False):
    """Return the functions that do the work of `dft.analyse` and `dft.synthesise` for these modes."""
    if not complex_data and uses_products(slots):
        return dft.analyse, dft.synthesise
    return _analyse_by_fft, partial(_synthesise_by_fft, complex_data=complex_data)


def _slots(n_modes: Sequence[int], complex_data: bool) -> list[Slot]:
    slots = [(-(m // 2), m) for m in n_modes]
    if not complex_data:
        slots[-1] = (0, n_modes[-1] // 2 + 1)
    return slots


def _resolved(slot: Slot, n: int, out_n: int, half: bool = False) -> Slot:
    """Return the part of a range of modes that n points resolve, and out_n points too."""
    first, count = slot
    last = first + count - 1
    if n > 2 * max(-first, last) and out_n > 2 * max(-first, last):
        return slot  # also the branch that export takes, with symbolic sizes
    coarse = min(n, out_n)
    if n == out_n:
        low, high = -(n // 2), (n // 2 if half else (n - 1) // 2)
    else:
        low, high = -((coarse - 1) // 2), (coarse - 1) // 2
    first, last = max(first, low), min(last, high)
    return first, last - first + 1


def _positions(slot: Slot, n: int, device: torch.device) -> Tensor:
    """Return where an FFT of n points keeps the modes of `slot`."""
    first, count = slot
    return torch.arange(first, first + count, device=device) % n


def _analyse_by_fft(x: Tensor, slots: Sequence[Slot]) -> Tensor:
    """Do the work of `dft.analyse` by FFT; complex `x` gives the full spectrum."""
    axes = tuple(range(1, x.ndim - 1))
    transform = torch.fft.fftn if x.is_complex() else torch.fft.rfftn
    spectrum = transform(x, dim=axes, norm="forward")
    for axis, slot in zip(axes, slots):
        spectrum = spectrum.index_select(axis, _positions(slot, x.shape[axis], x.device))
    return torch.view_as_real(spectrum.flatten(1, -2)).movedim(-1, 1)


def _synthesise_by_fft(y: Tensor, slots: Sequence[Slot], grid: Sequence[int], complex_data: bool) -> Tensor:
    """Do the work of `dft.synthesise` by FFT."""
    spectrum = torch.view_as_complex(y.movedim(1, -1).contiguous())  # (batch, modes, channel)
    spectrum = spectrum.unflatten(1, [count for _, count in slots])
    for axis, (slot, n) in enumerate(zip(slots, grid), start=1):
        size = n // 2 + 1 if axis == len(grid) and not complex_data else n
        full = spectrum.new_zeros(*spectrum.shape[:axis], size, *spectrum.shape[axis + 1 :])
        spectrum = full.index_copy(axis, _positions(slot, n, spectrum.device), spectrum)
    transform = torch.fft.ifftn if complex_data else torch.fft.irfftn
    return transform(spectrum, s=tuple(grid), dim=tuple(range(1, len(grid) + 1)), norm="forward")


def fourier_resample(x: Tensor, out_grid: Sequence[int]) -> Tensor:
    """Move periodic fields `(batch, channel, *space)` to another grid by their Fourier series.

    Modes that either grid leaves unresolved (its Nyquist mode among them) are dropped.

    Example:
        >>> import torch
        >>> wave = lambda n: torch.sin(2 * torch.pi * torch.arange(n) / n).view(1, 1, n)
        >>> torch.allclose(fourier_resample(wave(8), (12,)), wave(12), atol=1e-6)
        True
    """
    grid = tuple(x.shape[2:])
    if grid == tuple(out_grid):
        return x
    complex_data = x.is_complex()
    slots = [_resolved(slot, n, m) for slot, n, m in zip(_slots(grid, complex_data), grid, out_grid)]
    y = _analyse_by_fft(x.movedim(1, -1), slots)
    return _synthesise_by_fft(y, slots, out_grid, complex_data).movedim(-1, 1)


def _factorised(shape: Sequence[int], factorization: str, rank: float, fixed: bool, std: float) -> nn.Module:
    with warnings.catch_warnings():  # its import adds global filters
        from tltorch import FactorizedTensor

    tensor = FactorizedTensor.new(
        shape,
        rank=rank,  # pyright: ignore[reportArgumentType]  (annotated as a string there)
        factorization=factorization,
        fixed_rank_modes=[0] if fixed else None,
        dtype=torch.cfloat,
    )
    tensor.normal_(0, std)
    return tensor
