"""Runs: configuration there and back, and evaluations against numbers known in closed form."""

import json
import math
import os

import numpy as np
import pytest
import torch

import pde_data
from opflow.operators.base import Operator
from opflow.report import write_report
from opflow.runs import RUNS, RunConfig, evaluate, save_evaluation


class Shift(Operator):
    """Moves a field by a number of points along its last axis."""

    def __init__(self, points: int):
        super().__init__(1, 1, n_dim=None)
        self.points = points
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def operate(self, x, out_grid):
        return x.roll(self.points, -1)


def travelling_wave(samples=3, steps=9, n=16):
    """`sin(x - t)` on `n` points, one point per step, each sample from its own phase."""
    angle = 2 * np.pi / n
    t, x = np.meshgrid(np.arange(steps), np.arange(n), indexing="ij")
    waves = np.stack([np.sin(angle * (x - t) + phase) for phase in range(samples)])
    return pde_data.FieldDataset.from_arrays(trajectories=waves.astype(np.float32), dim=1, time_step=0.5)


@pytest.mark.parametrize("name", RUNS)
def test_configurations_survive_json(name):
    _, config = RUNS[name]
    assert RunConfig.from_dict(config.to_dict()) == config


def test_configuration_in_a_folder(tmp_path):
    config = RunConfig(data="a.h5", inputs=("u",), options={"n_modes": [4, 4]})
    config.write(tmp_path)
    assert RunConfig.read(tmp_path) == config
    with pytest.raises(FileNotFoundError, match="is not a run folder: there is no run.json in it"):
        RunConfig.read(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="RunConfig has no field modle; it has data, valid"):
        RunConfig.from_dict({"modle": "FNO"})
    (tmp_path / "run.json").write_text("")
    with pytest.raises(ValueError, match=r"run\.json is damaged \(.*; copy it again, or remove it"):
        RunConfig.read(tmp_path)


def test_what_differs_between_configurations():
    config = RunConfig(data="a.h5", options={"n_modes": [4, 4], "rank": 1})
    other = RunConfig(data="a.h5", window=2, options={"n_modes": [4, 6], "rank": 1.0, "norm": None})
    assert other.changes(config) == {
        "window": "window was 1, now 2",
        "options.n_modes": "options.n_modes was [4, 4], now [4, 6]",
        "options.norm": "options.norm was not given, now null",
    }


def test_a_crash_while_writing_leaves_the_old_files(tmp_path, monkeypatch):
    waves, model = travelling_wave(), Shift(1)
    config, evaluation = RunConfig(data="a.h5"), evaluate(model, waves)

    def write():
        config.write(tmp_path)
        save_evaluation(tmp_path, evaluation, "test", config, waves)
        write_report(tmp_path)

    write()
    files = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert {"run.json", "evaluation.json", "sample.npz", "report.md", "spectrum.png"} <= {
        p.name for p in files
    }
    config, evaluation = RunConfig(data="b.h5"), evaluate(Shift(2), waves)
    for survived in (0, 1, 3):
        left = iter(range(survived))

        def crash(*_, left=left):
            if next(left, None) is None:
                raise OSError("no space left on device")

        monkeypatch.setattr(os, "fsync", crash)
        with pytest.raises(OSError, match="no space left"):
            write()
        assert {path.name for path in tmp_path.iterdir()} == {path.name for path in files}
        changed = [path for path, old in files.items() if path.read_bytes() != old]
        assert len(changed) <= survived
        for path in (tmp_path / "run.json", tmp_path / "evaluation.json"):
            json.loads(path.read_text())


def test_parts_of_the_data_do_not_overlap(tmp_path):
    u = np.random.default_rng(0).normal(size=(40, 3, 4, 4)).astype(np.float32)
    pde_data.FieldDataset.from_arrays(trajectories=u, dim=2)
    path = write_trajectories(tmp_path / "u.h5", u)
    parts = [RunConfig(data=path).dataset(part).samples for part in ("train", "valid", "test")]
    assert sorted(np.concatenate(parts)) == list(range(40))
    assert [len(part) for part in parts] == [32, 4, 4]
    with_test = RunConfig(data=path, test=path)
    assert [with_test.dataset(part).n_samples for part in ("train", "valid", "test")] == [36, 4, 40]
    with_valid = RunConfig(data=path, valid=path)
    assert [with_valid.dataset(part).n_samples for part in ("train", "valid")] == [40, 40]
    assert with_valid.dataset("test") is None


def write_trajectories(path, u):
    import xarray

    space = ("x", "y")[: u.ndim - 2]
    coordinates = {d: np.arange(n) / n for d, n in zip(space, u.shape[2:])} | {
        "time": np.arange(u.shape[1]) * 1.0
    }
    xarray.Dataset({"u": (("sample", "time", *space), u)}, coordinates).to_netcdf(path, engine="h5netcdf")
    return str(path)


def test_a_model_that_is_exact_has_no_error():
    numbers = evaluate(Shift(1), travelling_wave()).numbers
    assert numbers["pairs"] == 3 * 8
    for metric, value in numbers["errors"].items():
        assert value["mean"] < 1e-6, metric
    assert max(numbers["rollout"]["relative_l2"]) < 1e-6
    assert numbers["rollout"]["correlation_time"] is None
    assert numbers["rollout"]["times"] == [0.5 * n for n in range(1, 9)]
    spectrum = numbers["spectrum"]
    assert spectrum["wavenumbers"][1] == pytest.approx(2 * math.pi)
    assert spectrum["target"][1] == pytest.approx(0.5, rel=1e-5)
    assert spectrum["prediction"] == pytest.approx(spectrum["target"], abs=1e-9)


def test_a_model_that_does_nothing_is_persistence():
    # sin(a) - sin(a + s) has the norm 2 sin(s / 2) of that of sin: s grows by 2 pi / 16 per step.
    numbers = evaluate(Shift(0), travelling_wave()).numbers
    exact = [2 * abs(math.sin(math.pi * n / 16)) for n in range(1, 9)]
    assert numbers["errors"] == numbers["persistence"]
    assert numbers["errors"]["relative_l2"]["mean"] == pytest.approx(exact[0], rel=1e-5)
    assert numbers["errors"]["relative_l2"]["standard_error"] < 1e-6
    assert numbers["rollout"]["relative_l2"] == pytest.approx(exact, rel=1e-5)
    assert numbers["rollout"]["persistence"] == pytest.approx(exact, rel=1e-5)
    # the correlation is cos(s): between step 1 (0.924) and step 2 (0.707) it falls below 0.8
    c1, c2 = math.cos(math.pi / 8), math.cos(math.pi / 4)
    assert numbers["rollout"]["correlation_time"] == pytest.approx(
        0.5 * (1 + (c1 - 0.8) / (c1 - c2)), rel=1e-4
    )


def test_fields_without_time_have_neither_persistence_nor_rollout():
    a = np.random.default_rng(0).normal(size=(7, 6, 5)).astype(np.float32)
    numbers = evaluate(
        Shift(0), pde_data.FieldDataset.from_arrays(inputs=a, targets=2 * a), batch_size=3
    ).numbers
    assert numbers["pairs"] == 7
    assert numbers["errors"]["relative_l2"]["mean"] == pytest.approx(0.5, rel=1e-6)
    assert not {"persistence", "rollout"} & set(numbers)


def test_a_model_that_blows_up_is_told_as_null():
    class Explosive(Shift):
        def operate(self, x, out_grid):
            return x * float("nan")

    numbers = evaluate(Explosive(0), travelling_wave()).numbers
    assert numbers["errors"]["relative_l2"] == {"mean": None, "standard_error": None}
    assert numbers["rollout"]["relative_l2"] == [None] * 8
    json.dumps(numbers, allow_nan=False)


def test_missing_data_are_asked_for():
    with pytest.raises(ValueError, match="no data were named: give --data FILE"):
        RUNS["fno-darcy"][1].dataset("train")
