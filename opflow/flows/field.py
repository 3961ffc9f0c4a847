"""Flows of fields with real values."""

from collections.abc import Iterable, Iterator, Sequence
from typing import cast

from torch import Tensor

from opflow.flows.base import Flow
from opflow.flows.multiscale import Multiscale
from opflow.nn.arguments import arguments
from opflow.nn.invertible import Condition, Standardize


class FieldFlow(Flow):
    r"""A multi-scale flow of fields of a PDE: real numbers in their own units, periodic or not.

    Densities are in nats, of the fields as they are: the normalisation that `fit_normalization` sets is part
    of the flow, saved with it and counted in its density. `opflow.fit` takes pairs of condition and field and
    trains with `-log_prob(x).mean()` by the number of values.

    Args:
        shape: `(channels, rows, columns)`; `2**levels` divides the sides.
        levels: how often the grid is halved.
        steps: steps per level.
        layer: how steps mix: "glow" (channels only), "cinc", "finc" or "inverse".
        hidden_channels: width of the networks of the couplings.
        condition: number of classes, `(d,)` for vectors such as parameters of the PDE, or
            `(c, rows, columns)` for fields; None for none.
        coupling: "affine", "quad" or "spline".
        kernel_size: points per axis of the invertible convolutions.
        gain_bound: keeps the inverses of the convolutions bounded in training, see `CausalWeight`; None
            leaves them free, as published.
        circular: the networks continue fields periodically, else by zeros. The invertible convolutions
            cannot: they start somewhere.

    Shapes:
        log_prob and decode: `(batch, channels, rows, columns)`, the dtype of the parameters.

    Raises:
        ValueError: an argument out of range; the message says what to do.

    Source: as for `ImageFlow`.

    Example:
        >>> import torch
        >>> vorticity = 5 * torch.randn(32, 1, 8, 8)
        >>> flow = FieldFlow((1, 8, 8), levels=1, steps=2, layer="finc", hidden_channels=8)
        >>> flow.fit_normalization(vorticity)
        >>> loss = -flow.log_prob(vorticity).mean()
        >>> bool(flow.eval().sample(200).std() > 3)
        True
    """

    loss_name = "nats_per_dim"

    def __init__(
        self,
        shape: Sequence[int],
        levels: int = 2,
        steps: int = 8,
        layer: str = "finc",
        hidden_channels: int = 64,
        condition: Condition = None,
        coupling: str = "affine",
        kernel_size: int = 3,
        gain_bound: float | None = 0.9,
        circular: bool = True,
    ):
        config = arguments(locals())
        shape = tuple(shape)
        condition = tuple(condition) if isinstance(condition, list) else condition
        steps_as = (layer, coupling, hidden_channels, condition, kernel_size, gain_bound)
        body = Multiscale(shape, levels, steps, *steps_as, circular)
        super().__init__(body, Standardize(shape[0]), shape, condition)
        self.config = config

    def fit_normalization(self, fields: Tensor) -> None:
        """Take mean and deviation of each channel from training fields `(sample, channels, rows, columns)`.

        Raises:
            ValueError: the shape does not fit, values are not finite, or a channel is constant.
        """
        self.fit_statistics([(fields, fields, None)])

    def fit_statistics(self, pairs: Iterable[tuple[Tensor, Tensor, Tensor | None]]) -> None:
        """Take them from the second members of pairs, in batches; raises as `fit_normalization` does."""

        def checked() -> Iterator[Tensor]:
            for _, fields, _ in pairs:
                self._check(fields)
                yield fields

        cast(Standardize, self.door).fit(checked())

    def losses(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the nats per value of each field y, under conditions x."""
        return -self.log_prob(y, self.condition_of(x)) / y.shape[1:].numel()
