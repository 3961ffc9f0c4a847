"""The command `pde-data`, as a user meets it."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import pde_data
from pde_data import generation
from pde_data.cli import main


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "ns.h5"
    words = (
        f"generate navier-stokes {path} --samples 3 --resolution 8 --t-end 0.4 --records 2 --viscosity 2e-3"
    )
    assert main([*words.split(), "--processes", "1"]) == 0
    return path


def test_generate_is_the_python_function(file, tmp_path):
    options = {"samples": 3, "resolution": 8, "t_end": 0.4, "records": 2, "viscosity": 2e-3, "processes": 1}
    same = pde_data.generate("navier_stokes", tmp_path / "same.h5", **options)
    assert same.read_bytes() == file.read_bytes()


def test_info_shows_sizes_units_and_provenance(file, capsys):
    assert main(["info", str(file)]) == 0
    text = capsys.readouterr().out
    for words in (
        "sample 3, time 3, x 8, y 8",
        "vorticity of the flow [1]",
        ":viscosity = 0.002",
        ":seed = 0",
    ):
        assert words in text


def test_stats_are_those_of_the_python_function(file, tmp_path, capsys):
    assert (
        main(["stats", str(file), str(tmp_path / "s.json"), "--inputs", "vorticity", "--split", "train"]) == 0
    )
    content = json.loads((tmp_path / "s.json").read_text())
    expected = pde_data.statistics(pde_data.FieldDataset(file, split="train")).to_dict()
    assert {key: content[key] for key in expected} == expected
    capsys.readouterr()
    assert main(["stats", str(file)]) == 0
    assert json.loads(capsys.readouterr().out)["input_names"] == ["vorticity"]


def test_convert_and_plot(file, tmp_path, real_data):
    assert main(["convert", str(real_data / "darcy_test_16.pt"), str(tmp_path / "darcy.h5")]) == 0
    for variable in "xy":
        np.testing.assert_array_equal(
            pde_data.open(tmp_path / "darcy.h5")[variable],
            pde_data.open(real_data / "darcy_test_16.pt")[variable],
        )
    assert main(["plot", str(file), str(tmp_path / "ns.png"), "--sample", "2"]) == 0
    assert (tmp_path / "ns.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("info absent.h5", "there is no file or folder absent.h5"),
        ("stats {file} --inputs vorticty", "did you mean 'vorticity'?"),
        ("plot {file} {folder}/a.png --sample 9", "sample=9 is not there"),
        ("generate navier-stokes {file} --samples 4", "was begun by another request"),
        (
            "generate navier-stokes {folder}/a.h5 --samples 1 --forcing kolmogorov --amplitude 1e25 "
            "--resolution 16 --t-end 1 --records 1",
            "blows up near t=0 even with dt=",
        ),
        ("convert {file} {folder}/nowhere/a.h5", "there is no folder"),
    ],
)
def test_problems_are_one_line_and_status_1(file, tmp_path, capsys, words, message):
    assert main(words.format(file=file, folder=tmp_path).split()) == 1
    error = capsys.readouterr().err
    assert error.startswith("pde-data: error: ") and message in error and error.count("\n") == 1


SMALL = "--samples 3 --shard-size 1 --resolution 8 --t-end 0.4 --records 2 --viscosity 2e-3".split()


def test_an_interrupt_is_one_line_and_the_same_command_resumes(file, tmp_path, capsys, monkeypatch):
    command = ["generate", "navier-stokes", str(tmp_path / "a.h5"), *SMALL, "--processes", "1"]
    original = generation.make_shard

    def interrupted(path, request, shard):
        if shard == 1:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.5)
        return original(path, request, shard)

    monkeypatch.setattr(generation, "make_shard", interrupted)
    # A shell that starts the tests in the background has them ignore the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main(command) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == "pde-data: interrupted; run the same command again to resume\n"
    monkeypatch.undo()
    assert main(command) == 0
    np.testing.assert_array_equal(pde_data.open(tmp_path / "a.h5").vorticity, pde_data.open(file).vorticity)


def test_a_worker_that_dies_is_one_line_and_status_1(tmp_path, capsys, monkeypatch):
    original = generation.Worker.run
    monkeypatch.setattr(generation.Worker, "run", lambda self, *job: original(self, os._exit, 3))
    command = ["generate", "navier-stokes", str(tmp_path / "a.h5"), *SMALL, "--processes", "2"]
    assert main(command) == 1
    error = capsys.readouterr().err
    assert (
        error == "pde-data: error: a worker process died with code 3; run the same command again to resume\n"
    )


def test_a_misspelt_option_is_answered_with_the_nearest(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["generate", "navier-stokes", str(tmp_path / "a.h5"), "--viscocity", "1e-3"])
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert "--viscosity" in captured.err + captured.out
    assert not list(tmp_path.iterdir())


def test_a_bad_value_is_named_before_anything_is_made(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["generate", "navier-stokes", str(tmp_path / "a.h5"), "--viscosity", "-1"])
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert "viscosity=-1.0 must be finite" in " ".join((captured.err + captured.out).split())
    assert not list(tmp_path.iterdir())


def test_help_teaches(capsys):
    for words, expected in (
        (["--help"], "pde-data generate navier-stokes ns.h5"),
        (["generate", "navier-stokes", "--help"], "Kinematic viscosity"),
        (["stats", "--help"], "--split train"),
    ):
        with pytest.raises(SystemExit):
            main(words)
        assert expected in " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_the_package_imports_at_once():
    slow = ["torch", "h5py", "xarray", "matplotlib", "tyro"]
    code = f"import sys, pde_data; print([name for name in {slow} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_public_name_is_there_and_stays_after_its_module_is_imported():
    import pde_data.generation
    import pde_data.moments
    import pde_data.plotting

    for name in pde_data.__all__:
        assert not hasattr(getattr(pde_data, name), "__path__") and name in dir(pde_data)
    assert callable(pde_data.generate) and callable(pde_data.statistics) and callable(pde_data.plot)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        pde_data.nothing  # noqa: B018
