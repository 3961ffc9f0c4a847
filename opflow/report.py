"""A run folder told on one page: numbers, pictures, configuration, environment."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from opflow.save import write_atomically

EVALUATION_FILE = "evaluation.json"
SAMPLE_FILE = "sample.npz"


def write_report(folder: str | Path) -> Path:
    """Write `report.md` and its PNG pictures from what a run folder holds.

    Every file is optional: `metrics.jsonl` gives the curves, `evaluation.json` the table, spectra and errors
    against time, `sample.npz` the panels and the rollout strip, `run.json` or `config.json` and `env.json`
    the rest.

    Returns:
        the path of `report.md`.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: the folder holds nothing to report.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no run folder {folder}")
    rows, evaluations = read_metrics(folder), _json(folder / EVALUATION_FILE)
    if not rows and not evaluations:
        raise ValueError(f"nothing to report: {folder} holds neither metrics.jsonl nor {EVALUATION_FILE}")
    parts = [f"# Run {folder.resolve().name}"]
    if evaluations:
        parts += ["## Errors", _error_table(evaluations)]
    elif rows:
        parts += [
            "## Last epoch",
            _table(("quantity", "value"), [(k, _number(v)) for k, v in rows[-1].items()]),
        ]
    for caption, name, figure in _figures(folder, rows, evaluations):
        picture = io.BytesIO()
        figure.savefig(picture, format="png")
        write_atomically(folder / name, picture.getvalue())
        parts += [f"## {caption}", f"![{caption}]({name})"]
    settings = _json(folder / "run.json") or _json(folder / "config.json")
    for title, values in (("Configuration", settings), ("Environment", _json(folder / "env.json"))):
        if values:
            parts += [f"## {title}", f"```json\n{json.dumps(values, indent=2)}\n```"]
    path = folder / "report.md"
    write_atomically(path, ("\n\n".join(parts) + "\n").encode())
    return path


def read_metrics(folder: str | Path) -> list[dict[str, Any]]:
    """Read the rows of `metrics.jsonl` that belong to epochs; a half-written last line is left out."""
    path, rows = Path(folder) / "metrics.jsonl", []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            break
        if "train_loss" in row:
            rows.append(row)
    return rows


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.is_file() else {}


def _error_table(evaluations: dict[str, Any]) -> str:
    found = {metric for numbers in evaluations.values() for metric in numbers["errors"]}
    shown = {metric: name for metric, name in _METRIC_NAMES.items() if metric in found}
    header = ("data", "pairs", "model", *shown.values())
    lines = []
    for label, numbers in evaluations.items():
        for who, key in (("trained", "errors"), ("persistence", "persistence")):
            if key in numbers:
                cells = [_with_error(**numbers[key][m]) if m in numbers[key] else "" for m in shown]
                lines.append((label, numbers["pairs"], who, *cells))
    text = _table(header, lines) + "\n\nMean over pairs ± standard error."
    for label, numbers in evaluations.items():
        if "rollout" in numbers:
            rollout = numbers["rollout"]
            time = rollout["correlation_time"]
            text += (
                f" Rollouts on {label}: relative L2 {_number(rollout['relative_l2'][-1])} at "
                f"t = {rollout['times'][-1]:g}; correlation with the truth stays above 0.8 "
                + ("to the end." if time is None else f"until t = {time:.3g} (median).")
            )
    return text


_METRIC_NAMES = {
    "relative_l2": "relative L2",
    "relative_h1": "relative H1",
    "nrmse": "nRMSE",
    "vrmse": "VRMSE",
    "bits_per_dim": "bits/dim",
    "nats_per_dim": "nats/dim",
    "loss": "loss",
    "mean_iou": "mIoU",
    "pixel_accuracy": "points right",
    "accuracy": "accuracy",
    "histogram": "histograms apart",
    "swd": "SWD of samples",
    "swd_floor": "SWD of two halves of the data",
}


def _figures(folder: Path, rows: list[dict[str, Any]], evaluations: dict[str, Any]):
    """Yield caption, file name and figure of every picture there is something to show in."""
    from opflow import plot

    last = evaluations[list(evaluations)[-1]] if evaluations else {}
    if (folder / SAMPLE_FILE).is_file():
        with np.load(folder / SAMPLE_FILE, allow_pickle=False) as file:
            sample = {name: file[name] for name in file.files}
        yield from _sample_figures(sample, last)
    if "rollout" in last:
        curves = {"trained": last["rollout"]["relative_l2"], "persistence": last["rollout"]["persistence"]}
        yield "Error against time", "error_growth.png", plot.error_growth(last["rollout"]["times"], curves)
    if "spectrum" in last:
        curves = {"truth": last["spectrum"]["target"], "prediction": last["spectrum"]["prediction"]}
        name = r"$\sum_{\mathrm{shell}} |\hat u_k|^2$"
        figure = plot.spectra(last["spectrum"]["wavenumbers"], curves, name=name)
        yield "Spectrum", "spectrum.png", figure
    if any(key.startswith(("train_", "valid_")) for row in rows for key in row):
        yield "Training", "losses.png", plot.losses(rows)


def _sample_figures(sample: dict[str, np.ndarray], numbers: dict[str, Any]):
    from opflow import plot
    from pde_data.meshes import TriangleMesh

    if "samples" in sample and "triangles" in sample:
        mesh = TriangleMesh(sample["points"], sample["triangles"], sample["tags"])
        yield "Samples on one mesh", "samples.png", plot.mesh_grid(mesh, sample["samples"])
        yield "Data", "data.png", plot.mesh_grid(mesh, sample["data"], columns=3)
        return
    if "samples" in sample:
        images = "bits_per_dim" in numbers.get("errors", {}) or numbers.get("images", False)
        yield "Samples", "samples.png", plot.sample_grid(sample["samples"], images=images)
        yield "Data", "data.png", plot.sample_grid(sample["data"], images=images)
        if "labels" in sample:
            yield "Labels", "labels.png", plot.sample_grid(sample["labels"])
            yield "Labels found in the data", "found.png", plot.sample_grid(sample["found"])
        yield "Values", "values.png", plot.histograms({k: sample[k] for k in ("data", "samples")})
        return
    target, prediction = sample["target"], sample["prediction"]
    names = numbers.get("fields") or [f"field {c}" for c in range(target.shape[1])]
    units = (numbers.get("units") or [""])[0]
    if "triangles" in sample:
        mesh = TriangleMesh(sample["points"], sample["triangles"], sample["tags"])
        figure = plot.mesh_comparison(mesh, target[0], prediction[0], channel_names=names, units=units)
        yield "Prediction of one sample", "comparison.png", figure
        return
    lengths = sample["lengths"].tolist()
    if target.ndim > 4:  # three space dimensions: the middle plane
        middle = target.shape[-1] // 2
        target, prediction, lengths = target[..., middle], prediction[..., middle], lengths[:2]
    if len(target) > 1 and target.ndim == 4:
        figure = plot.rollout_strip(
            target[:, 0], prediction[:, 0], sample["times"], name=names[0], units=units, lengths=lengths
        )
        yield "Rollout", "rollout.png", figure
    step = f" at t = {sample['times'][0]:g}" if len(target) > 1 else ""
    figure = plot.comparison(target[0], prediction[0], channel_names=names, units=units, lengths=lengths)
    yield f"Prediction of one sample{step}", "comparison.png", figure


def _table(header: tuple[str, ...], rows: list[tuple]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _with_error(mean: float | None, standard_error: float | None) -> str:
    if mean is None:
        return "not finite"
    return f"{mean:.4g}" + ("" if standard_error is None else f" ± {standard_error:.1g}")


def _number(value: Any) -> str:
    if value is None:
        return "not finite"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
