"""What can be done with runs: train, evaluate, export, certify, compare."""

import io
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from opflow.report import EVALUATION_FILE, SAMPLE_FILE, read_metrics, write_report
from opflow.runs.config import RUN_FILE, RunConfig, flat
from opflow.runs.evaluation import Evaluation, evaluate
from opflow.runs.images import is_images
from opflow.save import read_json, write_atomically, write_json

if TYPE_CHECKING:
    from opflow.certification import Certificate
    from opflow.runs.images import ImageSet
    from opflow.runs.labels import Labelled
    from opflow.training import FitResult
    from pde_data import FieldDataset, MeshDataset

CERTIFICATE_FILE = "certificate.json"


def train(config: RunConfig, folder: str | Path, *, resume: bool = False) -> "FitResult":
    """Run a configuration in a folder: train, evaluate on the test data, write `report.md`.

    Under torchrun every process calls this; the first one writes.

    Args:
        config: the run.
        folder: where it is written; see `opflow.fit` for its files. `run.json` holds `config`.
        resume: go on with the run in `folder`, if there is one, even where `config` differs from its own in
            what may change (the length of the run for instance). The same configuration goes on anyway.

    Raises:
        ValueError: no data were named, they do not fit the model, or the folder holds another run.
        pde_data.DatasetError: the data cannot be read.
    """
    from opflow.runs.models import build_for
    from opflow.training import fit
    from opflow.training.run_folder import RunFolder

    data, valid, test = (config.dataset(part) for part in ("train", "valid", "test"))
    assert data is not None  # `dataset` raises where there is no training data
    names = {"inputs": tuple(data.input_names), "targets": tuple(data.target_names)}
    config, folder = replace(config, **names), Path(folder)
    if (folder / RUN_FILE).exists():
        _refuse_another(config, folder, resume)
        resume = True
    RunFolder(folder, resume)  # refuses a folder that is not one of a run before anything is written to it
    torch.manual_seed(config.train.seed)
    model = build_for(config, data)
    first = int(os.environ.get("RANK", 0)) == 0
    if first:
        config.write(folder)
    result = fit(model, data, valid, config=config.train, folder=folder, resume=resume)
    if first:
        held_out = test or valid
        if held_out is not None:
            save_evaluation(folder, evaluate(model, held_out), "test" if test else "valid", config, held_out)
        write_report(folder)
    return result


def _refuse_another(config: RunConfig, folder: Path, resume: bool) -> None:
    """Raise ValueError where the run in a folder is not that of `config`, nor one that it may continue."""
    from opflow.training.run_folder import MAY_CHANGE

    changes = config.changes(RunConfig.read(folder))
    if resume:
        changes = {
            name: text for name, text in changes.items() if name.removeprefix("train.") not in MAY_CHANGE
        }
    if not changes:
        return
    told = "; ".join(changes.values())
    if resume:
        raise ValueError(
            f"{folder} cannot be resumed as another run ({told}); only {', '.join(MAY_CHANGE)} may change. "
            "Choose another folder for a new run"
        )
    raise ValueError(
        f"{folder} holds another run already ({told}): go on with it by --resume {folder}, "
        "or choose another folder"
    )


def evaluate_run(
    folder: str | Path, data: str | Path | None = None, *, resolution: int | None = None
) -> dict[str, Any]:
    """Measure the model of a run on its own test data, or on all samples of another file.

    The numbers are added to the `evaluation.json` of the run, under the name of the data and, where it is
    given, the resolution; the report is written again.

    Args:
        folder: the run.
        data: another file with the fields that the run was trained on.
        resolution: resample the fields to so many points per axis.

    Returns:
        `Evaluation.numbers`.

    Raises:
        ValueError: the run has no test data and no others are given, or they do not fit the model.
    """
    from opflow import load

    config = RunConfig.read(folder)
    other = {} if resolution is None else {"resolution": resolution}
    if data is not None:
        held_out, label = config.open(data, **other), Path(data).stem
    else:
        config = RunConfig.from_dict(config.to_dict() | other)
        held_out, label = config.dataset("test"), "test"
    if held_out is None:
        raise ValueError(f"the run {folder} has no test data of its own; give some with --data FILE")
    label += f" at {resolution}" if resolution else ""
    evaluation = evaluate(load(folder), held_out)
    save_evaluation(folder, evaluation, label, config, held_out)
    write_report(folder)
    return evaluation.numbers


def save_evaluation(
    folder: str | Path,
    evaluation: Evaluation,
    label: str,
    config: RunConfig,
    dataset: "FieldDataset | MeshDataset | ImageSet | Labelled",
) -> None:
    """Add an evaluation to a run folder: `evaluation.json`, and the arrays of its pictures."""
    path = Path(folder) / EVALUATION_FILE
    held = read_json(path) if path.is_file() else {}
    held.pop(label, None)
    shown = {"fields": dataset.target_names, "units": _units(dataset)}
    write_json(path, {**held, label: evaluation.numbers | shown})
    arrays: dict[str, Any] = dict(evaluation.sample)
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    write_atomically(Path(folder) / SAMPLE_FILE, packed.getvalue())


def _units(dataset: "FieldDataset | MeshDataset | ImageSet | Labelled") -> list[str]:
    import pde_data

    if is_images(dataset.name) or not Path(dataset.name).exists():
        return [""] * len(dataset.target_names)
    with pde_data.open(dataset.name) as file:
        return [str(file[name].attrs.get("units", "")) for name in dataset.target_names]


def export(folder: str | Path, to: Literal["onnx", "pt2"]) -> Path:
    """Write the model of a run as `model.onnx` or `model.pt2` into its folder, for any batch size and grid.

    Returns:
        the path of the file.

    Raises:
        ValueError: the model cannot be exported, ONNX is asked for without the extra `export`, or the run has
            never been evaluated, so that its grid is not known.
    """
    from opflow.export import to_onnx, to_pt2
    from opflow.operators.points import PointOperator
    from opflow.save import load_operator

    model, sample = load_operator(folder), Path(folder) / SAMPLE_FILE
    if isinstance(model, PointOperator):
        raise ValueError(
            f"the model of {folder} works on points and is exported with a set of them: "
            "opflow.export.to_pt2(model, path, values, model.geometry(coords, weights))"
        )
    if not sample.is_file():
        raise ValueError(
            f"{folder} has no {SAMPLE_FILE}, which tells the grid: run `opflow evaluate {folder}` first"
        )
    with np.load(sample, allow_pickle=False) as arrays:
        grid = arrays["target"].shape[2:]
    # The example must resolve the modes; the exported model takes any grid.
    modes = getattr(model, "n_modes", (0,) * len(grid))
    example = torch.zeros(2, model.in_channels, *(max(n, 2 * m) for n, m in zip(grid, modes)))
    path = Path(folder) / f"model.{to}"
    try:
        {"onnx": to_onnx, "pt2": to_pt2}[to](model, path, example)
    except ImportError as error:
        raise ValueError(str(error)) from error
    return path


def certify(folder: str | Path, **arguments: Any) -> "Certificate":
    """Certify the model of a run, or of any folder that `opflow.load` reads.

    The certificate is written there as `certificate.json`.

    Args:
        folder: the run.
        arguments: those of `opflow.certify`.

    Returns:
        The certificate.

    Raises:
        ValueError: an argument does not fit the model.
    """
    from opflow.certification import certify
    from opflow.save import load_operator

    certificate = certify(load_operator(folder), **arguments)
    certificate.write(Path(folder) / CERTIFICATE_FILE)
    return certificate


def compare(first: str | Path, second: str | Path) -> list[tuple[str, str, str]]:
    """Return what differs between two runs, settings first, then results: rows of name and two values.

    Results are the mean errors of all evaluations that either run has, whether they differ or not.

    Raises:
        FileNotFoundError: one of the folders is not one of a run.
    """
    settings = [
        {name: json.dumps(value) for name, value in flat(RunConfig.read(folder).to_dict()).items()}
        for folder in (first, second)
    ]
    rows = [row for row in _joined(*settings) if row[1] != row[2]]
    return rows + _joined(*(_results(Path(folder)) for folder in (first, second)))


def _results(folder: Path) -> dict[str, str]:
    path, results = folder / EVALUATION_FILE, {}
    for label, numbers in (read_json(path) if path.is_file() else {}).items():
        for metric, value in numbers["errors"].items():
            results[f"{label}: {metric}"] = "not finite" if value["mean"] is None else f"{value['mean']:.4g}"
    rows = read_metrics(folder)
    if rows:
        results["seconds of training"] = f"{rows[-1]['seconds']:.4g}"
    return results


def _joined(first: dict[str, str], second: dict[str, str]) -> list[tuple[str, str, str]]:
    return [(name, first.get(name, "-"), second.get(name, "-")) for name in dict.fromkeys([*first, *second])]
