"""The command line from end to end, on small data, in this process."""

import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import opflow
import pde_data
from opflow import metrics
from opflow.cli import main
from opflow.runs import RunConfig
from opflow.training import loop

SMALL = ["--options", "n_modes=[6,6]", "hidden_channels=4", "n_layers=2", "--batch-size", "8"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Twenty short trajectories on 12 x 12 points."""
    path = tmp_path_factory.mktemp("data") / "ns.h5"
    options = {"samples": 20, "resolution": 12, "t_end": 4, "records": 4, "processes": 1}
    return Path(pde_data.generate("navier_stokes", path, **options))


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "ns"
    assert (
        main(
            [
                "train",
                "fno-navier-stokes",
                "--data",
                str(data),
                "--epochs",
                "2",
                "--folder",
                str(folder),
                *SMALL,
            ]
        )
        == 0
    )
    return folder


@pytest.fixture(scope="module")
def darcy(real_data, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "darcy"
    files = ["--data", str(real_data / "darcy_test_16.pt"), "--test", str(real_data / "darcy_test_32.pt")]
    assert main(["train", "fno-darcy", *files, "--epochs", "1", "--folder", str(folder), *SMALL]) == 0
    return folder


def refused(capsys, *words):
    """The message of a command that fails."""
    assert main([str(word) for word in words]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("opflow: error: "), lines
    return lines[0]


def test_a_run_can_be_read_again_whole(run, data):
    config = RunConfig.read(run)
    assert (config.data, config.model, config.train.epochs) == (str(data), "FNO", 2)
    assert config.inputs == config.targets == ("vorticity",)  # resolved, not left to the file
    assert config.options == {"n_modes": [6, 6], "hidden_channels": 4, "n_layers": 2}
    model = opflow.load(run)
    assert (type(model).__name__, model.in_channels, model.out_channels) == ("FNO", 1, 1)
    text = (run / "report.md").read_text()
    for picture in ("rollout", "comparison", "error_growth", "spectrum", "losses"):
        assert f"]({picture}.png)" in text and (run / f"{picture}.png").stat().st_size > 5000


def test_options_that_are_not_given_stay_those_of_the_named_run(data, tmp_path, capsys):
    words = ["--data", str(data), "--epochs", "1", "--folder", str(tmp_path / "run")]
    assert (
        main(["train", "fno-navier-stokes", *words, "--options", "n_modes=[4,4]", "hidden_channels=3"]) == 0
    )
    assert RunConfig.read(tmp_path / "run").options == {
        "n_modes": [4, 4],
        "hidden_channels": 3,
        "n_layers": 4,
    }


def test_evaluation_is_the_mean_over_test_pairs(run, data, capsys):
    assert main(["evaluate", str(run)]) == 0
    held_out = RunConfig.read(run).dataset("test")
    x, y = held_out.gather(range(len(held_out)))
    ours = metrics.relative_l2(opflow.load(run).predict(x), y).mean().item()
    persistence = metrics.relative_l2(x, y).mean().item()
    assert f"relative_l2        {ours:.4g}".split() + [f"{persistence:.4g}"] in [
        line.split() for line in capsys.readouterr().out.splitlines()
    ]
    numbers = json.loads((run / "evaluation.json").read_text())["test"]
    assert numbers["errors"]["relative_l2"]["mean"] == pytest.approx(ours, rel=1e-5)


def test_evaluation_at_another_resolution_is_kept_beside(run):
    assert main(["evaluate", str(run), "--resolution", "17"]) == 0
    numbers = json.loads((run / "evaluation.json").read_text())
    assert {"test", "test at 17"} <= set(numbers)
    coarse, fine = (numbers[k]["persistence"]["relative_l2"]["mean"] for k in ("test", "test at 17"))
    assert fine == pytest.approx(coarse, rel=1e-3)  # the fields are band-limited: one function, two grids
    assert "| test at 17 |" in (run / "report.md").read_text()


def test_prediction_is_the_rollout_from_the_first_frame(run, data, tmp_path):
    out = tmp_path / "out.h5"
    assert main(["predict", str(run), "--data", str(data), "--out", str(out), "--steps", "6"]) == 0
    with pde_data.open(data) as given, pde_data.open(out) as predicted:
        assert predicted.vorticity.dims == ("sample", "time", "x", "y")
        assert predicted.vorticity.attrs["units"] == given.vorticity.attrs["units"]
        np.testing.assert_allclose(predicted.time, np.arange(7.0))
        np.testing.assert_array_equal(predicted.x, given.x)
        first = torch.from_numpy(given.vorticity.values[:, :1])
        expected = torch.cat([first, opflow.load(run)(first)[:, :1]], 1).detach()
        np.testing.assert_allclose(predicted.vorticity.values[:, :2], expected, atol=1e-6)
    again = pde_data.FieldDataset(out)
    assert (again.n_samples, again.time_step, again.grid) == (20, 1.0, pde_data.FieldDataset(data).grid)


def changed(data, path, change) -> Path:
    with pde_data.open(data) as fields:
        change(fields.load()).to_netcdf(path, engine="h5netcdf")
    return path


def test_prediction_refuses_what_is_not_finite(run, data, tmp_path, capsys):
    def spoil(fields):
        fields.vorticity[3, 0, 1, 2] = np.nan
        return fields

    out, bad = tmp_path / "out.h5", changed(data, tmp_path / "bad.h5", spoil)
    message = refused(capsys, "predict", run, "--data", bad, "--out", out)
    assert "bad.h5: variable 'vorticity' of sample 3 holds 1 values that are NaN or infinite" in message
    assert not out.exists()


def test_prediction_of_frames_without_times_counts_them(run, data, tmp_path):
    bare = changed(data, tmp_path / "bare.h5", lambda fields: fields.drop_vars("time"))
    out = tmp_path / "out.h5"
    for words in ([], ["--steps", "2"]):
        assert main(["predict", str(run), "--data", str(bare), "--out", str(out), *words]) == 0
        with pde_data.open(out) as predicted:
            np.testing.assert_array_equal(predicted.time, np.arange(3.0 if words else 5.0))


def test_prediction_on_a_finer_grid_keeps_the_function(run, data, tmp_path):
    out = tmp_path / "out.h5"
    words = ["--data", str(data), "--out", str(out), "--steps", "1", "--resolution", "24"]
    assert main(["predict", str(run), *words]) == 0
    with pde_data.open(data) as given, pde_data.open(out) as predicted:
        np.testing.assert_allclose(
            predicted.vorticity.values[:, 0, ::2, ::2], given.vorticity.values[:, 0], atol=1e-5
        )
        np.testing.assert_allclose(predicted.x[::2], given.x, atol=1e-12)


def test_fields_without_time_from_another_formats_file(darcy, real_data, tmp_path):
    out = tmp_path / "out.h5"
    words = ["--data", str(real_data / "darcy_test_16.pt"), "--out", str(out)]
    assert main(["predict", str(darcy), *words]) == 0
    x, _ = pde_data.FieldDataset(real_data / "darcy_test_16.pt").gather(range(50))
    with pde_data.open(out) as predicted:
        assert list(predicted.data_vars) == ["y"]
        np.testing.assert_allclose(predicted.y.values[:, None], opflow.load(darcy).predict(x), atol=1e-6)
    assert main(["predict", str(darcy), *words, "--resolution", "32"]) == 0
    with pde_data.open(out) as predicted, pde_data.open(real_data / "darcy_test_32.pt") as fine:
        np.testing.assert_allclose(predicted.x1, fine.x1, atol=1e-12)  # the nodes of the published finer set


@pytest.mark.parametrize("to", ["pt2", "onnx"])
def test_exported_models_run_at_another_batch_and_grid(run, to):
    if to == "onnx":
        pytest.importorskip("onnxscript", reason="the extra `export` is not installed")
        runtime = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    assert main(["export", str(run), "--to", to]) == 0
    x = torch.randn(3, 1, 14, 17, generator=torch.Generator().manual_seed(0))
    if to == "onnx":
        session = runtime.InferenceSession(str(run / "model.onnx"), providers=["CPUExecutionProvider"])
        y = torch.from_numpy(session.run(None, {"x": x.numpy()})[0])
    else:
        y = torch.export.load(run / "model.pt2").module()(x)
    torch.testing.assert_close(y.detach(), opflow.load(run).predict(x), rtol=1e-5, atol=1e-5)
    assert main(["evaluate", str(run)]) == 0  # the exported file is no reason to refuse the folder


def test_resume_goes_on_where_the_run_stopped(run, capsys):
    assert main(["train", "--resume", str(run), "--epochs", "3"]) == 0
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows if "train_loss" in row] == [1, 2, 3]
    assert RunConfig.read(run).train.epochs == 3


@pytest.fixture
def short(data, tmp_path):
    """Make a command that trains for one epoch, in a folder beside the others of the test."""

    def command(*words, folder="run"):
        files = ["--data", str(data), "--folder", str(tmp_path / folder)]
        return ["train", "fno-navier-stokes", *files, "--epochs", "1", *SMALL, *words]

    return command


def test_the_same_command_goes_on_and_another_one_is_refused(short, tmp_path, capsys):
    assert main(short()) == 0
    weights = (tmp_path / "run" / "model.safetensors").read_bytes()
    configuration = (tmp_path / "run" / "run.json").read_bytes()
    message = refused(capsys, *short("--learning-rate", "0.1", "--horizon", "2"))
    assert "(horizon was 1, now 2; train.learning_rate was 0.002, now 0.1)" in message
    assert main(short()) == 0  # done already
    (tmp_path / "run" / "last" / "state.safetensors").unlink()  # killed before the first save
    assert main(short()) == 0
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == weights
    assert (tmp_path / "run" / "run.json").read_bytes() == configuration


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (["--learning-rate", "0.1"], "train.learning_rate was 0.002, now 0.1"),
        (["--horizon", "2"], "horizon was 1, now 2"),
        (["--options", "hidden_channels=6"], "options.hidden_channels was 4, now 6"),
        (["--data", "COPY"], "data was "),
    ],
)
def test_a_resume_that_is_refused_leaves_the_run_alone(change, told, run, data, tmp_path, capsys):
    copy = shutil.copy(data, tmp_path / "copy.h5")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    words = [str(copy) if word == "COPY" else word for word in change]
    message = refused(capsys, "train", "--resume", run, *words)
    assert f"{run} cannot be resumed as another run ({told}" in message and "; only epochs, " in message
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_a_run_without_its_configuration_is_not_taken_over(short, tmp_path, capsys):
    assert main(short()) == 0
    (tmp_path / "run" / "run.json").unlink()
    assert "holds a run already; pass resume=True to go on with it" in refused(capsys, *short())
    assert not (tmp_path / "run" / "run.json").exists()


def test_ctrl_c_names_the_command_that_goes_on(short, tmp_path, capsys, monkeypatch):
    steps = iter(range(5))

    def interrupted(*arguments):
        if next(steps, None) is None:
            raise KeyboardInterrupt
        return learning_rate(*arguments)

    learning_rate = loop.learning_rate
    monkeypatch.setattr(loop, "learning_rate", interrupted)
    assert main(short("--save-seconds", "0")) == 130
    message = capsys.readouterr().err.strip()
    assert message == f"opflow: stopped; opflow train --resume {tmp_path / 'run'} goes on"
    monkeypatch.undo()
    assert main(["train", "--resume", str(tmp_path / "run")]) == 0
    assert main(short(folder="whole")) == 0
    first, second = (tmp_path / folder / "model.safetensors" for folder in ("run", "whole"))
    assert first.read_bytes() == second.read_bytes()


def test_failures_in_training_are_one_line(short, capsys):
    diverging = ["--optimizer", "sgd", "--learning-rate", "1e30", "--clip-norm", "0", "--loss", "l2"]
    assert "the loss is not finite any more at step " in refused(capsys, *short(*diverging))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # neuraloperator's own
        message = refused(capsys, *short("--model", "neuralop:UNO", folder="other"))
    assert "neuraloperator's UNO cannot be built with " in message


def test_a_model_of_neuraloperator_is_trained_and_evaluated(short, tmp_path, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # neuraloperator's own
        assert main(short("--model", "neuralop:FNO")) == 0
        capsys.readouterr()
        assert main(["evaluate", str(tmp_path / "run")]) == 0
    held = json.loads((tmp_path / "run" / "evaluation.json").read_text())["test"]
    assert f"{held['errors']['relative_l2']['mean']:.4g}" in capsys.readouterr().out


def test_compare_shows_what_differs_and_the_results(run, darcy, capsys):
    assert main(["compare", str(run), str(darcy)]) == 0
    table = {line.split("  ")[0]: line.split() for line in capsys.readouterr().out.splitlines()}
    assert table["train.predict"][1:] == ['"increment"', '"field"']
    assert "model" not in table  # the same in both
    assert "test: relative_l2" in table


def test_list_names_runs_and_operators(capsys):
    assert main(["list"]) == 0
    names = [line.split(" ")[0] for line in capsys.readouterr().out.splitlines()]
    assert {"fno-navier-stokes", "fno-darcy", "quickstart", "FNO", "neuralop:NAME"} <= set(names)


def test_errors_are_one_line(run, data, capsys, tmp_path):
    folder = tmp_path / "new"
    assert "no data were named: give --data FILE" in refused(capsys, "train", "fno-darcy", "--folder", folder)
    train = ["train", "fno-navier-stokes", "--folder", folder, "--data"]
    assert "there is no file or folder nowhere.h5" in refused(capsys, *train, "nowhere.h5")
    message = refused(capsys, *train, data, "--inputs", "vortcity")
    assert "has no field 'vortcity'; it has vorticity" in message and "did you mean" in message
    message = refused(capsys, *train, data, "--options", "hidden=3")
    assert "FNO cannot be built with options" in message and "'hidden'" in message
    assert "no operator is called 'FNN'; there are FNO" in refused(capsys, *train, data, "--model", "FNN")
    assert not folder.exists()
    message = refused(capsys, "train", "fno-navier-stokes", "--folder", run, "--data", data)
    assert "holds another run already (" in message and "train.batch_size was 8, now 16" in message
    assert f"go on with it by --resume {run}, or choose another folder" in message
    assert "is not a run folder" in refused(capsys, "train", "--resume", tmp_path)
    assert "--resume needs the folder of a run" in refused(capsys, "train", "--resume")
    assert "is not a run folder" in refused(capsys, "evaluate", tmp_path)
    message = refused(capsys, "predict", run, "--data", data, "--out", tmp_path / "out.h5", "--steps", "0")
    assert "say how many to predict" in message


def test_a_misspelt_option_is_answered_with_the_nearest(capsys):
    with pytest.raises(SystemExit) as status:
        main(["train", "fno-darcy", "--learning-rat", "1e-3"])
    assert status.value.code == 2
    assert "--learning-rate" in capsys.readouterr().err


def test_a_value_out_of_range_is_named(run, capsys):
    message = refused(capsys, "train", "fno-darcy", "--epochs", "0")
    assert message == "opflow: error: epochs must be at least 1, got 0"
    message = refused(capsys, "train", "--resume", run, "--warmup", "2")
    assert message == "opflow: error: warmup must be in [0, 1), got 2.0"


@pytest.mark.parametrize(
    "words, taught",
    [
        ([], "opflow train fno-navier-stokes --data ns.h5 --epochs 20"),
        (["train", "fno-darcy"], "--options KEY=VALUE"),
        (["evaluate"], "example: opflow evaluate runs/ns"),
        (["predict"], "example: opflow predict runs/ns --data start.h5 --out prediction.h5"),
        (["compare"], "example: opflow compare"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_help_teaches_by_example(words, taught, capsys):
    with pytest.raises(SystemExit) as status:
        main([*words, "--help"])
    assert status.value.code == 0
    assert taught in " ".join(capsys.readouterr().out.split())


def test_help_imports_nothing_slow():
    code = (
        "import sys\nfrom opflow.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
        "slow = {'matplotlib', 'neuralop', 'xarray', 'accelerate', 'h5py', 'numba'} & set(sys.modules)\n"
        "assert not slow, slow"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1], stdout=subprocess.DEVNULL
    )


def test_a_wrapped_model_is_trained_and_certified(data, tmp_path, capsys):
    folder, inner = str(tmp_path / "run"), '{"class":"FNO","config":{"n_modes":[6,6],"hidden_channels":4}}'
    words = ["--data", str(data), "--epochs", "1", "--folder", folder, "--batch-size", "8"]
    options = ["--options", f"model={inner}", "group=p4", "rep_in=pseudoscalar", "rep_out=pseudoscalar"]
    assert main(["train", "fno-navier-stokes", "--model", "Symmetrize", *words, *options]) == 0
    assert main(["certify", folder]) == 0
    assert "p4: rotation by 90" in capsys.readouterr().out
    assert "of 7 checks: translation by" in refused(capsys, "certify", folder, "--translation", "True")
