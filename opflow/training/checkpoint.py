"""The state of a run as named tensors and JSON values, and back."""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from opflow.save import PICKLES, as_in
from opflow.training.optim import EMA


def refuse_pickles(folder: Path) -> None:
    """Raise ValueError when a folder holds files that would run code when they are loaded."""
    found = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.suffix in PICKLES)
    if found:
        raise ValueError(
            f"{folder} holds {', '.join(found)}: pickles, which can run any code when loaded. A run of "
            "opflow keeps weights and state in .safetensors files; move the pickles away, or bring their "
            "weights into the model yourself with torch.load(..., weights_only=True) and load_state_dict"
        )


def weights(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of the state dict on the CPU, whole where it is sharded."""
    return {name: _whole(value).detach().cpu().clone() for name, value in model.state_dict().items()}


def pack(model: nn.Module, optimizer: torch.optim.Optimizer, ema: EMA | None) -> dict[str, Tensor]:
    """Collect weights, optimiser state and weight averages under the names of the parameters."""
    tensors = {f"model.{name}": _whole(value) for name, value in model.state_dict().items()}
    for name, parameter in _trained(model).items():
        for key, value in optimizer.state.get(parameter, {}).items():
            if value is not None:  # SGD holds no momentum before its first step
                tensors[f"optimizer.{name}.{key}"] = _whole(value)
    if ema:
        tensors |= {f"ema.{name}": _whole(a) for name, a in zip(_trained(model), ema.averages)}
    return tensors


def unpack_weights(tensors: Mapping[str, Tensor], model: nn.Module) -> None:
    """Put back the weights that `pack` collected.

    Raises:
        ValueError: the state belongs to another model.
    """
    load_weights(model, _under("model.", tensors))


@torch.no_grad()
def unpack_optimizer(
    tensors: Mapping[str, Tensor], model: nn.Module, optimizer: torch.optim.Optimizer, ema: EMA | None
) -> None:
    """Put back the optimiser state and the weight averages that `pack` collected."""
    trained = _trained(model)
    state = {}
    for i, (name, parameter) in enumerate(trained.items()):
        found = _under(f"optimizer.{name}.", tensors)
        if found:
            state[i] = {key: _like(v, parameter) if v.ndim else v for key, v in found.items()}
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    if ema:
        for name, average in zip(trained, ema.averages):
            average.copy_(_like(tensors[f"ema.{name}"], average))


def load_weights(model: nn.Module, saved: Mapping[str, Tensor]) -> None:
    """Load a state dict, sharding it where the model is sharded.

    Raises:
        ValueError: names or shapes are not those of the model.
    """
    own = model.state_dict()
    try:
        model.load_state_dict({name: _like(v, own[name]) if name in own else v for name, v in saved.items()})
    except RuntimeError as error:
        raise ValueError(f"the saved weights are those of another model: {error}") from error


def _trained(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _whole(tensor: Any) -> Tensor:
    """Gather a tensor that FSDP has sharded."""
    return tensor.full_tensor() if isinstance(tensor, _sharded()) else tensor


def _like(saved: Tensor, reference: Any) -> Tensor:
    """Bring a saved tensor to the form of `reference`: complex if that is, sharded if that is."""
    saved = as_in(reference, saved)
    if isinstance(reference, _sharded()):
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(saved.to(reference.device), reference.device_mesh, reference.placements)
    return saved


def _sharded() -> tuple[type, ...]:
    # The import takes a second, and only a distributed run has done it already or has any use for it.
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return ()
    from torch.distributed.tensor import DTensor

    return (DTensor,)


def random_state() -> dict[str, Any]:
    """Return the state of the generators of Python, NumPy and torch as JSON values."""
    state = {
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=False),  # noqa: NPY002 (data sets may draw from it)
        "torch": bytes(torch.get_rng_state().tolist()).hex(),
    }
    state["numpy"]["state"]["key"] = state["numpy"]["state"]["key"].tolist()
    if torch.cuda.is_available():
        state["cuda"] = bytes(torch.cuda.get_rng_state().tolist()).hex()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Put back what `random_state` returned."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    numbers = state["numpy"]
    key = np.array(numbers["state"]["key"], dtype=np.uint32)
    np.random.set_state({**numbers, "state": {**numbers["state"], "key": key}})  # noqa: NPY002
    torch.set_rng_state(torch.tensor(list(bytes.fromhex(state["torch"])), dtype=torch.uint8))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(torch.tensor(list(bytes.fromhex(state["cuda"])), dtype=torch.uint8))
