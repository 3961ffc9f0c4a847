"""Save and load models: weights as safetensors, everything else as JSON, nothing pickled."""

import json
import os
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from opflow.operators.base import Operator

PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt", ".joblib")  # suffixes that are refused


def save_pretrained(model: "Operator", folder: str | PathLike, metadata: dict[str, Any]) -> None:
    """Write `model.safetensors` and `config.json` into `folder`, each atomically."""
    import torch
    from safetensors.torch import save

    import opflow

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "class": type(model).__name__,
        "config": model.config,
        **metadata,
        "versions": {"opflow": opflow.__version__, "torch": torch.__version__},
    }
    # One parameter may stand for several names: safetensors wants separate storage, and no complex128.
    state = {
        name: _real(value.detach()).cpu().contiguous().clone() for name, value in model.state_dict().items()
    }
    write_atomically(folder / "model.safetensors", save(state))
    write_atomically(folder / "config.json", (json.dumps(config, indent=2) + "\n").encode())


def load(folder: str | PathLike) -> "Operator":
    """Load a model written by `save_pretrained`, normalisation included, in evaluation mode.

    Nothing is unpickled: a folder is data, whoever it comes from.

    Args:
        folder: a folder with `model.safetensors` and `config.json`, a run folder for instance.

    Raises:
        FileNotFoundError: one of the two files is missing.
        ValueError: the folder holds a pickle instead of safetensors, a damaged file, or a model that this
            version does not know.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from opflow.operators import OPERATORS

    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLES)
    if pickles:
        raise ValueError(
            f"{folder} holds {', '.join(pickles)}, a pickle, which can run code when it is read; opflow "
            "loads model.safetensors and config.json only. If you trust the file, load it with torch "
            "yourself, call save_pretrained, and remove it"
        )
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            found = ", ".join(sorted(p.name for p in folder.iterdir())) or "nothing"
            raise FileNotFoundError(f"{folder} has no {name}; it holds {found}")
    try:
        config = json.loads((folder / "config.json").read_text())
        state = load_file(folder / "model.safetensors")
    except (SafetensorError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{folder} holds a damaged config.json or model.safetensors ({error}); copy or train it again"
        ) from error
    if config.get("class") not in OPERATORS:
        raise ValueError(
            f"{folder}/config.json describes a {config.get('class')!r}; this version knows "
            f"{', '.join(OPERATORS)}"
        )
    model = OPERATORS[config["class"]](**config["config"])
    own = model.state_dict()
    unlike = sorted(own.keys() ^ state.keys())
    if unlike:
        raise ValueError(
            f"{folder}/model.safetensors is not of the model in its config.json: {', '.join(unlike)} "
            "are in one of them only"
        )
    for name, value in own.items():
        if value.is_complex():
            state[name] = torch.view_as_complex(state[name])
    # Assigned, not copied: the parameters take the dtype they were saved in.
    model.load_state_dict(state, assign=True)
    return model.eval()


def _real(value: "Tensor") -> "Tensor":
    import torch

    return torch.view_as_real(value.resolve_conj()) if value.is_complex() else value


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a crash leaves the old file or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
