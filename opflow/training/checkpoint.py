"""The state of a run in one safetensors file: tensors and JSON, never pickle, written atomically."""

import contextlib
import json
import os
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path; what is written there takes the place of `path` at once, or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        for written in (temporary, path.parent):
            handle = os.open(written, os.O_RDONLY)
            os.fsync(handle)
            os.close(handle)
            if written == temporary:
                os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], record: Any = None) -> None:
    """Write tensors and a JSON record. Complex tensors are kept as pairs of reals."""
    from safetensors.torch import save_file

    plain = {
        name: (torch.view_as_real(t) if t.is_complex() else t).detach().cpu().contiguous()
        for name, t in tensors.items()
    }
    with replacing(path) as temporary:
        save_file(plain, temporary, metadata={"record": json.dumps(record)})


def read_tensors(path: Path) -> tuple[dict[str, Tensor], Any]:
    """Read back what `write_tensors` wrote.

    Raises:
        ValueError: the file is not a safetensors file of ours, or is cut off.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            record = json.loads((file.metadata() or {})["record"])
            return {name: file.get_tensor(name) for name in file.keys()}, record
    except (SafetensorError, KeyError) as error:
        raise ValueError(
            f"{path} is truncated or was not written by opflow ({error}); remove it to start afresh"
        ) from error


def refuse_pickles(folder: Path) -> None:
    """Raise ValueError when a folder holds files that would run code when they are loaded."""
    found = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.suffix in PICKLES)
    if found:
        raise ValueError(
            f"{folder} holds {', '.join(found)}: pickles, which can run any code when loaded. A run of opflow "
            "keeps its weights and its state in .safetensors files; move the pickles away, or convert them "
            "first with torch.load(weights_only=True) and load_state_dict"
        )


def pack(model: nn.Module, optimizer: torch.optim.Optimizer, averages: list[Tensor]) -> dict[str, Tensor]:
    """Collect weights, optimiser state and weight averages under the names of the parameters."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for (name, parameter), average in zip(model.named_parameters(), averages):
        tensors[f"ema.{name}"] = average
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if value is not None:  # SGD keeps an empty momentum before its first step
                tensors[f"optimizer.{name}.{key}"] = value
    return tensors


def unpack(
    tensors: Mapping[str, Tensor], model: nn.Module, optimizer: torch.optim.Optimizer, averages: list[Tensor]
) -> None:
    """Put back what `pack` collected.

    Raises:
        ValueError: the state belongs to another model.
    """
    load_weights(model, _under("model.", tensors))
    for (name, _), average in zip(model.named_parameters(), averages):
        average.copy_(like(tensors[f"ema.{name}"], average))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state = {i: _under(f"optimizer.{names[id(p)]}.", tensors, p) for i, p in enumerate(parameters)}
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": {i: s for i, s in state.items() if s}, "param_groups": groups})


def load_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load a state dict whose complex tensors may be pairs of reals.

    Raises:
        ValueError: names or shapes are not those of the model.
    """
    own = model.state_dict()
    try:
        model.load_state_dict({k: like(v, own[k]) if k in own else v for k, v in weights.items()})
    except RuntimeError as error:
        raise ValueError(f"the saved weights are those of another model: {error}") from error


def like(saved: Tensor, reference: Tensor) -> Tensor:
    """Return a saved tensor as complex numbers where `reference` holds such."""
    if reference.is_complex() and not saved.is_complex() and saved.ndim == reference.ndim + 1:
        return torch.view_as_complex(saved)
    return saved


def _under(prefix: str, tensors: Mapping[str, Tensor], reference: Tensor | None = None) -> dict[str, Tensor]:
    found = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    return found if reference is None else {name: like(t, reference) for name, t in found.items()}


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


def weights(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of the state dict on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
