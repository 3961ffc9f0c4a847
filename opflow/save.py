"""Save and load models: weights as safetensors, everything else as JSON, nothing pickled."""

import json
import os
import re
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from opflow.operators.base import BaseOperator, Operator
    from opflow.operators.points import PointOperator
    from opflow.rectified import RectifiedFlow

PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt", ".joblib")  # suffixes that are refused


def save_pretrained(
    model: "BaseOperator | RectifiedFlow", folder: str | PathLike, metadata: dict[str, Any]
) -> None:
    """Write `model.safetensors` and `config.json` into `folder`, each atomically."""
    import torch

    import opflow

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "class": type(model).__name__,
        "config": model.config,
        **metadata,
        "versions": {"opflow": opflow.__version__, "torch": torch.__version__},
    }
    write_tensors(folder / "model.safetensors", model.state_dict())
    write_json(folder / "config.json", config)


def load(folder: str | PathLike) -> "Operator | PointOperator | RectifiedFlow":
    """Load a model written by `save_pretrained` or by a run, normalisation included, in evaluation mode.

    Nothing is unpickled: a folder is data, whoever it comes from.

    Args:
        folder: a folder with `model.safetensors` and `config.json`, a run folder for instance.

    Raises:
        FileNotFoundError: one of the two files is missing.
        ValueError: the folder holds a pickle instead of safetensors, a damaged file, or a model that this
            version does not know or cannot build.
    """
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
    state, _ = read_tensors(folder / "model.safetensors")
    model = _built(folder / "config.json")
    own = model.state_dict()
    unlike = sorted(own.keys() ^ state.keys())
    if unlike:
        raise ValueError(
            f"{folder}/model.safetensors is not of the model in its config.json: {', '.join(unlike)} "
            "are in one of them only"
        )
    try:
        # Assigned, not copied: the parameters take the dtype they were saved in.
        model.load_state_dict({name: as_in(value, state[name]) for name, value in own.items()}, assign=True)
    except RuntimeError as error:
        raise ValueError(
            f"{folder}/model.safetensors is not of the model in its config.json: {error}"
        ) from error
    return model.eval()


def load_operator(folder: str | PathLike) -> "Operator | PointOperator":
    """Load a model as `load` does, for uses that only a map from fields to fields has.

    Raises:
        ValueError: the folder holds a rectified flow, or as for `load`.
    """
    from opflow.rectified import RectifiedFlow

    model = load(folder)
    if isinstance(model, RectifiedFlow):
        raise ValueError(
            f"{folder} holds a {type(model).__name__}, which draws fields and is no map from fields to "
            "fields: use opflow.load(folder) and its methods"
        )
    return model


def _built(path: Path) -> "Operator | PointOperator | RectifiedFlow":
    """Build the model that a `config.json` describes, whatever somebody has put there."""
    from opflow.operators import OPERATORS
    from opflow.rectified import FLOWS

    known = {**OPERATORS, **FLOWS}
    config = read_json(path)
    name, arguments = config.get("class"), config.get("config")
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise ValueError(
            f'{path} describes no operator: expected {{"class": NAME, "config": {{ARGUMENT: VALUE, ...}}}}. '
            "A model of your own is built by your program, and takes its weights from model.safetensors"
        )
    if name not in known:
        raise ValueError(f"{path} describes a {name!r}; this version knows {', '.join(known)}")
    try:
        return known[name](**arguments)
    except Exception as error:  # the arguments may be anything, and so may what they lead to
        raise ValueError(
            f"{path} describes a {name} that cannot be built: {type(error).__name__}: {error}"
        ) from error


def write_tensors(path: Path, tensors: Mapping[str, "Tensor"], record: Any = None) -> None:
    """Write tensors and a JSON record into a safetensors file, atomically.

    Complex tensors become pairs of reals, because the format has no complex128. Tensors that share memory
    are written one by one, because it has no sharing either.
    """
    from safetensors.torch import save

    plain = {name: _real(value.detach()).cpu().contiguous().clone() for name, value in tensors.items()}
    write_atomically(path, save(plain, metadata={"record": json.dumps(record)}))


def read_tensors(path: Path) -> tuple[dict[str, "Tensor"], Any]:
    """Read what `write_tensors` wrote: tensors, complex ones by `as_in`, and the record, None without one.

    Raises:
        ValueError: the file is not a safetensors file, or is cut off.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            record = json.loads((file.metadata() or {}).get("record", "null"))
            return {name: file.get_tensor(name) for name in file.keys()}, record
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} is truncated or was not written by opflow ({error}); copy it again, or remove it to "
            "start afresh"
        ) from error


def as_in(reference: "Tensor", saved: "Tensor") -> "Tensor":
    """Return what `read_tensors` read for `reference`: complex again if that is.

    Raises:
        RuntimeError: `reference` is complex and `saved` does not hold pairs.
    """
    import torch

    return torch.view_as_complex(saved) if reference.is_complex() and not saved.is_complex() else saved


def _real(value: "Tensor") -> "Tensor":
    import torch

    return torch.view_as_real(value.resolve_conj()) if value.is_complex() else value


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ValueError: the file holds something else, or is cut off.
    """
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}); copy it again, or remove it") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} should hold a JSON object, it holds a {type(content).__name__}")
    return content


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object, atomically."""
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a crash leaves the old file or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Remove, from a folder and those in it, what `write_atomically` left in processes that were killed."""
    for path in folder.rglob(".*.tmp"):
        writer = re.fullmatch(r"\..+\.(\d+)\.tmp", path.name)
        if writer and not _runs(int(writer[1])):
            path.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    if os.name != "posix":  # elsewhere signal 0 is a signal
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
