"""Fourier neural operator."""

from collections.abc import Callable, Sequence
from numbers import Real

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from opflow.nn.activations import ACTIVATIONS, SplitActivation, activation_name
from opflow.nn.arguments import arguments
from opflow.nn.channel_mlp import ChannelLinear, ChannelMLP
from opflow.nn.embed import grid_coordinates
from opflow.nn.fno_block import FNOBlock
from opflow.nn.polynomial import PolynomialBlock, PolynomialNetwork
from opflow.nn.spectral import SpectralConv
from opflow.operators.base import Operator, require_positive


class FNO(Operator):
    r"""Fourier neural operator: lifting, Fourier layers, projection.

    The arguments are those of neuraloperator's `FNO`, and with its weights this is the same function
    wherever that one is right (even grids, real data, no rescaling); see `opflow.interop`. Layers match
    modes by frequency, so one set of weights runs on every grid.

    Args:
        n_modes: modes kept per space axis, negative and positive together; its length is the number of
            space dimensions (1, 2 or 3).
        in_channels: channels of the input field.
        out_channels: channels of the output field.
        hidden_channels: width of the Fourier layers.
        n_layers: number of Fourier layers.
        lifting_channel_ratio: hidden width of the lifting MLP over `hidden_channels`; 0 for one linear map.
        projection_channel_ratio: hidden width of the projection MLP over `hidden_channels`.
        positional_embedding: "grid" appends the coordinates; None makes the model translation-equivariant.
        non_linearity: "gelu", "relu", "silu", "tanh", "identity", or that function of torch; the channel
            MLPs inside the layers always have GELU. Or "polynomial", with `project=True`.
        norm: "instance_norm", "group_norm", "batch_norm" or None.
        complex_data: complex fields in and out.
        use_channel_mlp: follow each spectral convolution by a channel MLP.
        channel_mlp_dropout: dropout in the channel MLPs.
        channel_mlp_expansion: hidden width of the channel MLPs over `hidden_channels`.
        channel_mlp_skip: skip round the channel MLP: "soft-gating", "linear", "identity" or None.
        fno_skip: skip round the spectral convolution, likewise.
        resolution_scaling_factor: output over input size per layer: a number, or a list with one (number or
            list per axis) per layer.
        domain_padding: fraction of zeros added on both sides of each axis, for non-periodic data.
        stabilizer: "tanh" in front of the spectral convolutions, or None.
        max_n_modes: modes held by the weights, at least `n_modes` (to raise `n_modes` later).
        factorization: "tucker", "cp", "tt" or None for the spectral weights.
        rank: relative size of factorised weights.
        fixed_rank_modes: see tensorly-torch.
        separable: one number per channel and mode in place of a matrix.
        preactivation: activate in front of the layers.
        fno_block_precision: "full"; for mixed precision train with `TrainConfig(precision=...)`.
        implementation: how neuraloperator multiplies factorised weights; both of its names are taken, the
            result is the same.
        decomposition_kwargs: None.
        conv_module: None.
        project: with `non_linearity="polynomial"`, layers of products of fields, projected to the modes
            up to K = (n - 1) // 2 of each axis (`opflow.nn.PolynomialBlock`): exactly the same operator on
            every grid of at least 2 K + 1 points, and the cost of its layers that of 3 K + 1. Lifting and
            projection are then linear, `channel_mlp_expansion` sizes the products, and
            `positional_embedding="grid"` appends sines and cosines of the coordinates.

    Shapes:
        `(batch, in_channels, *space)` to `(batch, out_channels, *space)`.

    Raises:
        ValueError: an argument, or the shape of an input, does not fit; the message says what would.

    Source: Li et al., Fourier Neural Operator for Parametric Partial Differential Equations, 2021.

    Example:
        >>> import torch
        >>> model = FNO(n_modes=(8, 8), in_channels=1, out_channels=1, hidden_channels=12)
        >>> model(torch.zeros(2, 1, 16, 16)).shape
        torch.Size([2, 1, 16, 16])
        >>> model(torch.zeros(2, 1, 16, 16), out_grid=(24, 24)).shape
        torch.Size([2, 1, 24, 24])
    """

    def __init__(
        self,
        n_modes: Sequence[int],
        in_channels: int,
        out_channels: int,
        hidden_channels: int,
        n_layers: int = 4,
        lifting_channel_ratio: float = 2,
        projection_channel_ratio: float = 2,
        positional_embedding: str | None = "grid",
        non_linearity: str | Callable[[Tensor], Tensor] = "gelu",
        norm: str | None = None,
        complex_data: bool = False,
        use_channel_mlp: bool = True,
        channel_mlp_dropout: float = 0,
        channel_mlp_expansion: float = 0.5,
        channel_mlp_skip: str | None = "soft-gating",
        fno_skip: str | None = "linear",
        resolution_scaling_factor: float | Sequence | None = None,
        domain_padding: float | Sequence[float] | None = None,
        stabilizer: str | None = None,
        max_n_modes: Sequence[int] | None = None,
        factorization: str | None = None,
        rank: float = 1.0,
        fixed_rank_modes: bool = False,
        separable: bool = False,
        preactivation: bool = False,
        fno_block_precision: str = "full",
        implementation: str = "factorized",
        decomposition_kwargs: None = None,
        conv_module: None = None,
        project: bool = False,
    ):
        _only(fno_block_precision=(fno_block_precision, "full"))
        _only(implementation=(implementation, "factorized", "reconstructed"))
        _only(decomposition_kwargs=(decomposition_kwargs or None, None), conv_module=(conv_module, None))
        del fno_block_precision, implementation, decomposition_kwargs, conv_module
        if non_linearity != "polynomial":
            non_linearity = activation_name(non_linearity)
        config = arguments(locals())
        n_modes = _modes("n_modes", n_modes)
        if max_n_modes is not None:
            max_n_modes = _modes("max_n_modes", max_n_modes)
            if len(max_n_modes) != len(n_modes):
                raise ValueError(f"max_n_modes={max_n_modes} and n_modes={n_modes} need the same length")
        require_positive(
            in_channels=in_channels,
            out_channels=out_channels,
            hidden_channels=hidden_channels,
            n_layers=n_layers,
        )
        if positional_embedding not in ("grid", None):
            raise ValueError(f"positional_embedding={positional_embedding!r} is not one of 'grid', None")
        if max_n_modes is not None and any(m > k for m, k in zip(n_modes, max_n_modes)):
            raise ValueError(f"n_modes={tuple(n_modes)} exceed max_n_modes={tuple(max_n_modes)}")
        n_dim = len(n_modes)
        super().__init__(in_channels, out_channels, n_dim)
        self.config = config
        self.n_modes = n_modes
        self.scaling = _per_layer(resolution_scaling_factor, n_layers, n_dim)
        self.padding = _per_axis("domain_padding", config["domain_padding"] or 0.0, n_dim)
        self.positional_embedding = positional_embedding
        self.project = project
        if project or non_linearity == "polynomial":
            _check_polynomial(config)
            width, hidden = hidden_channels, max(1, round(hidden_channels * channel_mlp_expansion))
            options = {"hidden_channels": hidden, "factorization": factorization, "rank": rank}
            blocks = [PolynomialBlock(width, n_modes, **options) for _ in range(n_layers)]
            self.network = PolynomialNetwork(in_channels, out_channels, blocks, width, positional_embedding)
            return

        activation, gelu = ACTIVATIONS[activation_name(non_linearity)], ACTIVATIONS["gelu"]
        if complex_data:
            activation, gelu = SplitActivation(activation), SplitActivation(gelu)
        width = hidden_channels
        embedded = in_channels + (n_dim if positional_embedding else 0)
        lifting = int(lifting_channel_ratio * width)
        self.lifting = (
            ChannelMLP(embedded, lifting, width, activation, complex_data=complex_data)
            if lifting
            else ChannelLinear(embedded, width, complex_data=complex_data)
        )
        self.blocks = nn.ModuleList(
            FNOBlock(
                SpectralConv(
                    width,
                    width,
                    n_modes,
                    max_n_modes=max_n_modes,
                    separable=separable,
                    complex_data=complex_data,
                    factorization=factorization,
                    rank=rank,
                    fixed_rank_modes=fixed_rank_modes,
                ),
                activation,
                last=layer == n_layers - 1,
                skip=fno_skip,
                mlp=ChannelMLP(
                    width,
                    round(width * channel_mlp_expansion),
                    width,
                    gelu,  # as in neuraloperator, whatever `non_linearity` is
                    dropout=channel_mlp_dropout,
                    complex_data=complex_data,
                )
                if use_channel_mlp
                else None,
                mlp_skip=channel_mlp_skip,
                norm=norm,
                stabilizer=stabilizer,
                preactivation=preactivation,
            )
            for layer in range(n_layers)
        )
        self.projection = ChannelMLP(
            width, int(projection_channel_ratio * width), out_channels, activation, complex_data=complex_data
        )

    def operate(self, x: Tensor, out_grid: Sequence[int] | None) -> Tensor:
        """Map a normalised field to a normalised field; the last layer moves it to `out_grid`."""
        if self.project:
            return self.network(x, out_grid)
        if self.positional_embedding:
            coordinates = grid_coordinates(x.shape[2:], x).expand(x.shape[0], *(-1,) * (x.ndim - 1))
            x = torch.cat([x, coordinates], 1)
        u = self.lifting(x)
        inner = tuple(u.shape[2:])
        u = self._pad(u)
        for layer, block in enumerate(self.blocks):
            inner = tuple(_scaled(n, s) for s, n in zip(self.scaling[layer], inner))
            if out_grid is not None and layer == len(self.blocks) - 1:
                inner = tuple(out_grid)
            grid = tuple(n + 2 * _scaled(n, p) for p, n in zip(self.padding, inner))
            u = block(u, grid)
        if any(self.padding):
            for axis, (n, p) in enumerate(zip(inner, self.padding), start=2):
                u = u.narrow(axis, _scaled(n, p), n)
        return self.projection(u)

    def _pad(self, u: Tensor) -> Tensor:
        if not any(self.padding):
            return u
        margins = [_scaled(n, p) for p, n in zip(self.padding, u.shape[2:])]
        return pad(u, [m for margin in reversed(margins) for m in (margin, margin)])


def _scaled(n: int, factor: float) -> int:
    # A symbolic size stays an integer expression where it can: exported grids would be guarded by rounding.
    return n * int(factor) if factor in (0, 1) else round(factor * n)


def _only(**arguments: tuple) -> None:
    """Refuse an argument of neuraloperator's FNO that has no meaning here: name=(value, *accepted)."""
    for name, (value, *accepted) in arguments.items():
        if value not in accepted:
            raise ValueError(f"{name}={value!r} is not supported, only {' or '.join(map(repr, accepted))}")


_NOT_IN_THE_BAND = {
    "norm": None,
    "complex_data": False,
    "use_channel_mlp": True,
    "channel_mlp_dropout": 0,
    "channel_mlp_skip": "soft-gating",
    "fno_skip": "linear",
    "resolution_scaling_factor": None,
    "domain_padding": None,
    "stabilizer": None,
    "max_n_modes": None,
    "fixed_rank_modes": False,
    "separable": False,
    "preactivation": False,
}
"""Options, with their defaults, that polynomial layers do not have."""


def _check_polynomial(config: dict) -> None:
    if not (config["project"] and config["non_linearity"] == "polynomial"):
        raise ValueError(
            f"project={config['project']} with non_linearity={config['non_linearity']!r} would alias: only "
            "products are exact, and only once projected; give both non_linearity='polynomial' and "
            "project=True"
        )
    for name, default in _NOT_IN_THE_BAND.items():
        if config[name] != default:
            raise ValueError(
                f"{name}={config[name]!r} has no meaning for polynomial layers: leave it at {default!r}"
            )


def _modes(name: str, value: Sequence[int]) -> tuple[int, ...]:
    if isinstance(value, int) or not 1 <= len(value) <= 3 or min(value) < 1:
        raise ValueError(f"{name}={value!r} needs one number of modes per space axis, such as (16, 16)")
    return tuple(value)


def _per_axis(name: str, value, n_dim: int) -> list[float]:
    values = [float(value)] * n_dim if isinstance(value, Real) else [float(v) for v in value]
    if len(values) != n_dim:
        raise ValueError(f"{name}={value!r} needs one number, or one per space axis, {n_dim} of them")
    return values


def _per_layer(scaling, n_layers: int, n_dim: int) -> list[list[float]]:
    name = "resolution_scaling_factor"
    if scaling is None or isinstance(scaling, Real):
        scaling = [1.0 if scaling is None else scaling] * n_layers
    if len(scaling) != n_layers:
        raise ValueError(f"{name} needs one entry per layer, {n_layers}, got {scaling}")
    return [_per_axis(name, factor, n_dim) for factor in scaling]
