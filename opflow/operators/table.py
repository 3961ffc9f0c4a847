"""The operators by name."""

from opflow.operators.base import Operator
from opflow.operators.fno import FNO
from opflow.operators.foreign import NeuralopModel
from opflow.operators.symmetrize import Symmetrize

OPERATORS: dict[str, type[Operator]] = {
    "FNO": FNO,
    "NeuralopModel": NeuralopModel,
    "Symmetrize": Symmetrize,
}


def build(name: str, **arguments) -> Operator:
    """Build an operator by name; `"neuralop:UNO"` wraps that model of neuraloperator.

    Raises:
        ValueError: no operator has that name; the message lists those there are.

    Example:
        >>> build("FNO", n_modes=(4,), in_channels=1, out_channels=1, hidden_channels=8).n_dim
        1
    """
    if name.startswith("neuralop:"):
        return NeuralopModel(name.removeprefix("neuralop:"), arguments)
    if name not in OPERATORS:
        known = ", ".join([*OPERATORS, "neuralop:<model>"])
        raise ValueError(f"no operator is called {name!r}; there are {known}")
    return OPERATORS[name](**arguments)
