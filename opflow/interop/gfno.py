"""Weights of the published G-FNO (divelab/AIRS, OpenPDE/G-FNO)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from opflow.operators.gfno import GFNO

_GROUPS = {4: "p4", 8: "p4m"}


def from_gfno(state_dict: Mapping[str, Any], positional_embedding: str | None = "symmetric") -> GFNO:
    """Build our `GFNO` from the state dict of the published `GFNO2d`: the same function, channels first.

    Theirs maps `(batch, y, x, step)` to `(batch, y, x, 1, 1)`, ours `(batch, step, y, x)` to
    `(batch, 1, y, x)`. Sizes and group are read from the shapes; all channels are scalars.

    Args:
        state_dict: tensors or arrays by parameter name (`torch.load(path, weights_only=True)`).
        positional_embedding: "symmetric" where the model was built with that grid, None where with none; the
            shapes do not tell a grid channel from an input.

    Raises:
        ValueError: a tensor is unknown, missing or of the wrong shape.

    Example:
        >>> from_gfno({"p.W": torch.zeros(3, 1, 2, 1, 1)})  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        ValueError: this is not the state dict of a published GFNO2d: it lacks ...
    """
    # The bias of the last map stands there under two names.
    state = {name: torch.as_tensor(t) for name, t in state_dict.items() if name != "q.mlp2.bias"}
    n_layers = sum(name.endswith("conv.W.00_modes") for name in state)
    missing = {"p.W", "w0.W", "conv0.conv.W.yposx_modes", "q.mlp2.W"} - state.keys()
    if missing:
        raise ValueError(
            f"this is not the state dict of a published GFNO2d: it lacks {', '.join(sorted(missing))}"
        )
    width, _, embedded, *_ = state["p.W"].shape
    order, modes = state["w0.W"].shape[3], state["conv0.conv.W.yposx_modes"].shape[4]
    if order not in _GROUPS:
        raise ValueError(f"w0.W holds {order} group elements; 4 (p4) and 8 (p4m) are known")
    model = GFNO(
        n_modes=(modes, modes),
        in_channels=embedded - (positional_embedding is not None),
        out_channels=len(state["q.mlp2.W"]),
        hidden_channels=width,
        n_layers=n_layers,
        group=_GROUPS[order],
        positional_embedding=positional_embedding,
        norm="instance_norm",
    ).to(state["p.W"].dtype)
    own = model.state_dict()
    try:
        new = _converted(state, n_layers)
        if state:
            raise ValueError(f"{', '.join(sorted(state))} would be left over")
        model.load_state_dict({name: new.get(name, value) for name, value in own.items()})
    except (KeyError, RuntimeError, ValueError) as error:
        raise ValueError(f"this is not the state dict of a published GFNO2d: {error}") from error
    return model.eval()


def _converted(state: dict[str, Tensor], n_layers: int) -> dict[str, Tensor]:
    """Take all tensors out of `state`, and return them under our names."""
    pairs = {"lifting": "p", "projection.first": "q.mlp1", "projection.second": "q.mlp2"}
    new = {}
    for layer in range(n_layers):
        ours = f"blocks.{layer}"
        new[f"{ours}.conv.weight"] = _spectral_weight(state, f"conv{layer}.conv.W")
        pairs |= {
            f"{ours}.skip": f"w{layer}",
            f"{ours}.mlp.first": f"mlp{layer}.mlp1",
            f"{ours}.mlp.second": f"mlp{layer}.mlp2",
        }
    for ours, theirs in pairs.items():
        new[f"{ours}.weight"] = _pointwise_weight(state.pop(f"{theirs}.W"))
        new[f"{ours}.bias"] = state.pop(f"{theirs}.B").flatten()
    return new


def _pointwise_weight(weight: Tensor) -> Tensor:
    """Bring `(out, 1, in, [element,] 1, 1)` to `([element,] out, in)`."""
    weight = weight.flatten(-2).squeeze(-1).squeeze(1)
    return weight.movedim(2, 0) if weight.ndim == 3 else weight


def _spectral_weight(state: dict[str, Tensor], name: str) -> Tensor:
    """Put the pieces of a Hermitian array, `(out, 1, in, element, ky, kx)`, together as one real array."""
    constant, negative_y, positive_x = (
        state.pop(f"{name}.{piece}").squeeze(1) for piece in ("00_modes", "y0_modes", "yposx_modes")
    )
    column = torch.cat([negative_y, constant.to(negative_y.dtype), negative_y.flip(-2).conj()], -2)
    whole = torch.cat([positive_x.flip(-1, -2).conj(), column, positive_x], -1)
    theta = whole.real - whole.imag  # see `GroupSpectralConv`
    return theta.flatten(-2).permute(3, 2, 1, 0)
