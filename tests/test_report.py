"""A report tells what the run folder holds, no more and no less."""

import json

import numpy as np
import pytest

from opflow.report import read_metrics, write_report


def errors(value):
    return {
        m: {"mean": value, "standard_error": value / 10}
        for m in ("relative_l2", "relative_h1", "nrmse", "vrmse")
    }


@pytest.fixture
def folder(tmp_path):
    """A run of three epochs on trajectories of 4 steps."""
    rows = [
        {
            "epoch": n,
            "step": 10 * n,
            "seconds": 1.5 * n,
            "learning_rate": 1e-3,
            "train_loss": 0.5**n,
            "valid_l2": 0.6**n,
        }
        for n in (1, 2, 3)
    ]
    (tmp_path / "metrics.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows) + '{"epoch": 4, "tr'
    )
    numbers = {
        "pairs": 40,
        "errors": errors(0.0125),
        "persistence": errors(0.25),
        "rollout": {
            "times": [1.0, 2.0, 3.0, 4.0],
            "relative_l2": [0.01, 0.02, 0.03, 0.0456],
            "persistence": [0.2, 0.4, 0.6, 0.8],
            "correlation_time": None,
        },
        "spectrum": {
            "wavenumbers": [0.0, 6.28, 12.57],
            "target": [0.1, 1.0, 0.01],
            "prediction": [0.1, 1.1, 0.02],
        },
        "fields": ["vorticity"],
        "units": ["1/s"],
    }
    (tmp_path / "evaluation.json").write_text(json.dumps({"test": numbers}))
    y = np.random.default_rng(0).normal(size=(4, 1, 8, 6))
    np.savez(tmp_path / "sample.npz", target=y, prediction=y * 1.02, times=[1.0, 2, 3, 4], lengths=[1.0, 1.0])
    (tmp_path / "run.json").write_text(json.dumps({"model": "FNO", "train": {"epochs": 3}}))
    (tmp_path / "env.json").write_text(json.dumps({"torch": "2.13.0"}))
    return tmp_path


def test_report_of_a_whole_run(folder):
    text = write_report(folder).read_text()
    assert "| test | 40 | trained | 0.0125 ± 0.001 |" in text
    assert "| test | 40 | persistence | 0.25 ± 0.03 |" in text
    assert "relative L2 0.0456 at t = 4; correlation with the truth stays above 0.8 to the end." in text
    assert '"epochs": 3' in text and '"torch": "2.13.0"' in text
    for name in ("rollout", "comparison", "error_growth", "spectrum", "losses"):
        assert f"]({name}.png)" in text
        assert (folder / f"{name}.png").read_bytes()[:4] == b"\x89PNG"


def test_report_of_a_run_with_curves_alone(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1, "step": 3, "train_loss": 0.123456}\n')
    text = write_report(tmp_path).read_text()
    assert "| train_loss | 0.1235 |" in text
    assert sorted(p.name for p in tmp_path.glob("*.png")) == ["losses.png"]


def test_correlation_time_is_told(folder):
    held = json.loads((folder / "evaluation.json").read_text())
    held["test"]["rollout"]["correlation_time"] = 2.345
    (folder / "evaluation.json").write_text(json.dumps(held))
    assert "stays above 0.8 until t = 2.35 (median)" in write_report(folder).read_text()


def test_numbers_that_are_not_finite_are_told(folder):
    held = json.loads((folder / "evaluation.json").read_text())
    held["test"]["errors"]["vrmse"] = {"mean": None, "standard_error": None}
    (folder / "evaluation.json").write_text(json.dumps(held))
    assert "| not finite |" in write_report(folder).read_text()


def test_middle_plane_of_a_field_in_three_dimensions(folder):
    y = np.random.default_rng(0).normal(size=(1, 1, 6, 5, 4))
    np.savez(folder / "sample.npz", target=y, prediction=y, times=[0.0], lengths=[1.0, 1.0, 2.0])
    assert "comparison.png" in write_report(folder).read_text()


def test_read_metrics_stops_at_a_half_written_line(folder):
    assert [row["epoch"] for row in read_metrics(folder)] == [1, 2, 3]


def test_nothing_to_report(tmp_path):
    with pytest.raises(ValueError, match="holds neither metrics.jsonl nor evaluation.json"):
        write_report(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no run folder"):
        write_report(tmp_path / "missing")


def test_a_sample_file_with_pickled_objects_is_refused(folder):
    np.savez(folder / "sample.npz", target=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        write_report(folder)
