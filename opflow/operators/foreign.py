"""Models of neuraloperator, trained and saved through our pipeline."""

import warnings
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from opflow.operators.base import Operator
from opflow.operators.own_grid import check_own_grid


class NeuralopModel(Operator):
    """A model of neuraloperator by class name, with our normalisation, training and saving.

    Args:
        name: a class in `neuralop.models`, for instance "UNO".
        arguments: its constructor arguments (JSON values), `in_channels` and `out_channels` among them.

    Raises:
        ValueError: neuraloperator has no such model, or cannot build it from these arguments.

    Example:
        >>> import torch
        >>> arguments = dict(n_modes=(4, 4), in_channels=1, out_channels=2, hidden_channels=4)
        >>> NeuralopModel("FNO", arguments)(torch.zeros(1, 1, 8, 8)).shape
        torch.Size([1, 2, 8, 8])
    """

    def __init__(self, name: str, arguments: dict[str, Any]):
        with warnings.catch_warnings():  # neuraloperator adds global filters and warns when imported
            warnings.simplefilter("ignore")
            from neuralop import models

            known = {
                n: m for n, m in vars(models).items() if isinstance(m, type) and issubclass(m, nn.Module)
            }
            if name not in known:
                raise ValueError(
                    f"neuraloperator has no model {name!r}; there are {', '.join(sorted(known))}"
                )
            try:
                super().__init__(arguments["in_channels"], arguments["out_channels"], n_dim=None)
                self.model = known[name](**arguments)
            except Exception as error:  # neuraloperator checks arguments by assert, or not at all
                raise ValueError(
                    f"neuraloperator's {name} cannot be built with {arguments}: "
                    f"{type(error).__name__}: {error}"
                ) from error
            self.config = {"name": name, "arguments": arguments}
        self.register_state_dict_post_hook(_drop_metadata)

    def operate(self, x: Tensor, out_grid: Sequence[int] | None) -> Tensor:
        """Apply the model; only its own grid is possible."""
        check_own_grid(f"neuraloperator's {self.config['name']}", x.shape[2:], out_grid)
        return self.model(x)


def _drop_metadata(_module, state: dict[str, Any], _prefix, _local) -> None:
    """Take out the constructor arguments, functions among them, that neuraloperator puts with the tensors."""
    state.pop("_metadata", None)
