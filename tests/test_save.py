"""What is saved comes back bit for bit, is data only, and damage is named."""

import json
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from opflow import FNO, build, load, save
from opflow.operators import OPERATORS
from tests import tables

UNO = dict(
    hidden_channels=8,
    uno_out_channels=[8, 8, 8],
    uno_n_modes=[[4, 4]] * 3,
    uno_scalings=[[1, 1], [0.5, 0.5], [2, 2]],
    n_layers=3,
    channel_mlp_skip="linear",
)
KINDS = {
    "FNO": dict(n_modes=(4, 6), hidden_channels=6, n_layers=2),
    "FNO with factors and running statistics": dict(
        n_modes=(4, 4), hidden_channels=6, n_layers=2, factorization="tucker", rank=0.5, norm="batch_norm"
    ),
    "FNO with every other layout": dict(
        n_modes=[3, 5], hidden_channels=4, max_n_modes=[5, 7], domain_padding=[0.25, 0.0], separable=True
    ),
    "LocalNO": dict(n_modes=[4, 6], hidden_channels=6, domain_length=[1.0, 2.0], periodic=[True, False]),
    "LocalSFNO": dict(n_modes=4, hidden_channels=6, n_layers=2),
    "Symmetrize": dict(
        model={"class": "FNO", "config": dict(n_modes=[4, 4], hidden_channels=4, n_layers=1)},
        group="p4m",
        rep_in=["pseudoscalar", "scalar"],
        method="canonical",
    ),
    "GFNO": dict(n_modes=(4, 4), hidden_channels=3, n_layers=2, group="p4m", norm="instance_norm"),
    "neuralop:UNO": UNO,
    "neuralop:FNO": dict(n_modes=(4, 4), hidden_channels=4, factorization="cp", rank=0.5),
}


def model_of(kind):
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = build(kind.split()[0], in_channels=2, out_channels=1, **KINDS[kind])
    model.normalizer.set([1.0, 1 / 3], [2.0, 0.7], [3.0], [4.0], increment=True)
    return model.eval()


def test_every_class_is_among_the_kinds():
    elsewhere = {*tables.OPERATORS, *(case.name for case in tables.POINT_OPERATORS.values())}
    assert {type(model_of(kind)).__name__ for kind in KINDS} | elsewhere == set(OPERATORS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_round_trip_is_bitwise(kind, dtype, tmp_path):
    if dtype == torch.float64 and kind.startswith("neuralop"):
        pytest.skip("neuraloperator's layers are float32")
    model = model_of(kind)
    if dtype == torch.float64:
        model.double()
    with torch.no_grad():
        model(torch.randn(2, 2, 8, 8, dtype=dtype))
    model.save_pretrained(tmp_path, units="m/s")
    again = load(tmp_path)
    assert not again.training and again.normalizer.fitted
    state = model.state_dict()
    assert state.keys() == again.state_dict().keys()
    for name, value in again.state_dict().items():
        assert value.dtype == state[name].dtype and torch.equal(value, state[name]), name
    x = torch.randn(1, 2, 8, 8, dtype=dtype)
    assert torch.equal(again(x), model(x))
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["units"] == "m/s" and config["versions"]["torch"] == torch.__version__


def test_saving_twice_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        model_of("FNO").save_pretrained(tmp_path / name)
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_loaded_model_trains(tmp_path):
    model_of("FNO").save_pretrained(tmp_path)
    model = load(tmp_path)
    model(torch.randn(1, 2, 8, 8)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.fixture
def saved(tmp_path):
    FNO((4,), 1, 1, 4, n_layers=1).save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["weights.pt", "model.pth", "optimizer.pkl", "pytorch_model.bin"])
def test_a_pickle_in_the_folder_is_refused_and_not_read(saved, name):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (saved / "sprung",))

    (saved / name).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match=f"holds {name}, a pickle, which can run code when it is read"):
        load(saved)
    assert not (saved / "sprung").exists()


def test_missing_files_are_named(saved):
    with pytest.raises(FileNotFoundError, match="there is no folder .*nowhere"):
        load(saved / "nowhere")
    (saved / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no config\.json; it holds model\.safetensors"):
        load(saved)
    (saved / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no config\.json; it holds nothing"):
        load(saved)


def test_unknown_classes_are_answered_with_those_there_are(saved):
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**config, "class": "os.system"}))
    with pytest.raises(ValueError, match="describes a 'os.system'; this version knows FNO, .*NeuralopModel"):
        load(saved)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_truncated_weights_are_named(saved, keep):
    file = saved / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"model\.safetensors is truncated or was not written by opflow"):
        load(saved)


def test_damaged_json_and_weights_of_another_model_are_named(saved, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    FNO((4,), 1, 1, 4, n_layers=1, use_channel_mlp=False).save_pretrained(other)
    (saved / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
    with pytest.raises(ValueError, match=r"is not of the model in its config\.json: blocks\.0\.mlp"):
        load(saved)
    (saved / "config.json").write_text('{"class": "FNO", ')
    with pytest.raises(ValueError, match=r"config\.json is damaged \(.*copy it again, or remove it"):
        load(saved)


def test_a_crash_while_writing_leaves_the_old_file(saved, monkeypatch):
    files = sorted(saved.iterdir())
    old = (saved / "model.safetensors").read_bytes()

    def crash(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(OSError, match="no space left"):
        save.save_pretrained(FNO((4,), 1, 1, 8, n_layers=1), saved, {})
    assert (saved / "model.safetensors").read_bytes() == old
    assert sorted(saved.iterdir()) == files
    monkeypatch.undo()
    assert load(saved).config["hidden_channels"] == 4


def test_metadata_cannot_replace_what_the_model_says(tmp_path):
    model = FNO((4,), 1, 1, 4, n_layers=1)
    with pytest.raises(TypeError):
        model.save_pretrained(tmp_path, grid=object())  # not JSON
    assert not (tmp_path / "config.json").exists()


DESCRIBED = {"n_modes": [4], "in_channels": 1, "out_channels": 1, "hidden_channels": 4, "n_layers": 1}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ([], "should hold a JSON object, it holds a list"),
        ("[" * 100_000, r"config\.json is damaged"),
        ({}, "describes no model: expected"),
        ({"class": "FNO"}, "describes no model: expected"),
        ({"class": ["FNO"], "config": {}}, "describes no model: expected"),
        ({"class": "FNO", "config": ["n_modes"]}, "describes no model: expected"),
        (
            {"class": "FNO", "config": {**DESCRIBED, "depth": 3}},
            "FNO that cannot be built: TypeError: .*'depth'",
        ),
        ({"class": "FNO", "config": {**DESCRIBED, "n_modes": None}}, "FNO that cannot be built: TypeError"),
        (
            {"class": "FNO", "config": {**DESCRIBED, "hidden_channels": 5}},
            "(?s)not of the model .*size mismatch",
        ),
        (
            {"class": "NeuralopModel", "config": {"name": "get_model", "arguments": {}}},
            "has no model 'get_model'",
        ),
        (
            {"class": "NeuralopModel", "config": {"name": "UNO", "arguments": {}}},
            "UNO cannot be built with {}",
        ),
        (
            {"class": "NeuralopModel", "config": {"name": ["UNO"], "arguments": {}}},
            "cannot be built: TypeError",
        ),
    ],
)
def test_a_configuration_that_is_none_is_named(saved, config, words):
    text = config if isinstance(config, str) else json.dumps(config)
    (saved / "config.json").write_text(text)
    with pytest.raises(ValueError, match=words) as error:
        load(saved)
    assert str(saved) in str(error.value)


def test_what_a_killed_writer_left_is_removed_and_a_living_ones_work_is_not(tmp_path):
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    (tmp_path / "last").mkdir()
    stale = [tmp_path / f".run.json.{killed.pid}.tmp", tmp_path / "last" / f".state.{killed.pid}.tmp"]
    others = [tmp_path / f".run.json.{os.getpid()}.tmp", tmp_path / "notes.tmp", tmp_path / ".notes.tmp"]
    for path in stale + others:
        path.write_text("")
    save.remove_unfinished(tmp_path)
    assert not any(path.exists() for path in stale) and all(path.exists() for path in others)
