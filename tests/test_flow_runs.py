"""Named runs of flows, in small, by the commands that a user types; sets of images."""

import gzip
import json
import struct

import numpy as np
import pytest
import torch

import pde_data
from opflow import load, runs
from opflow.cli import main
from opflow.runs.images import open_images, read_idx

SMALL = ["--options", "levels=1", "steps=1", "hidden_channels=4", "--epochs", "1"]


def idx(path, values):
    head = struct.pack(">HBB", 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wb") as file:
        file.write(head + values.astype(np.uint8).tobytes())
    return path


@pytest.fixture
def mnist(tmp_path):
    """A small file in the format of MNIST, each digit brighter than the one before."""
    rng = np.random.default_rng(0)
    labels = rng.integers(10, size=60)
    images = rng.integers(100, size=(60, 8, 12)) + 10 * labels[:, None, None]
    idx(tmp_path / "some-labels-idx1-ubyte.gz", labels)
    return idx(tmp_path / "some-images-idx3-ubyte.gz", images)


def test_digits(tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", "finc-digits", "--folder", str(run), *SMALL]) == 0, capsys.readouterr().err
    numbers = json.loads((run / "evaluation.json").read_text())["test"]
    assert numbers["pairs"] == 297
    assert 0 < numbers["errors"]["bits_per_dim"]["mean"] < np.log2(17)
    assert max(numbers["round_trip"].values()) < 1e-3
    report = (run / "report.md").read_text()
    assert "bits/dim" in report and "![Samples](samples.png)" in report
    assert main(["sample", str(run), "--n", "10", "--out", str(tmp_path / "sheet.png")]) == 0
    assert "sheet.png: 10 samples in " in capsys.readouterr().out
    assert main(["evaluate", str(run)]) == 0
    assert "bits_per_dim" in capsys.readouterr().out


def test_images_from_a_file_by_class(mnist, tmp_path, capsys):
    run = tmp_path / "run"
    words = ["train", "inverse-mnist", "--data", str(mnist), "--folder", str(run), *SMALL]
    words.insert(words.index("--epochs"), "condition=10")
    assert main(words) == 0, capsys.readouterr().err
    flow = load(run)
    assert flow.shape == (1, 8, 12) and flow.bins == 256 and flow.condition == 10
    for out in ("some.h5", "again.h5"):
        runs.sample(run, tmp_path / out, n=3, label=7, seed=5)
    some, again = (pde_data.open(tmp_path / out)["image"].values for out in ("some.h5", "again.h5"))
    assert some.shape == (3, 8, 12) and np.array_equal(some, again) and np.array_equal(some, some.round())
    with pytest.raises(ValueError, match="samples are written as .png, .h5 or .nc"):
        runs.sample(run, tmp_path / "some.jpg")


def test_vorticity(tmp_path, capsys):
    data, run = str(tmp_path / "flow.h5"), tmp_path / "run"
    options = dict(resolution=16, viscosity=1e-2, t_end=1.0, records=4)
    pde_data.generate("navier_stokes", data, samples=10, seed=0, processes=1, **options)
    words = ["train", "finc-vorticity", "--data", data, "--folder", str(run), *SMALL]
    assert main(words) == 0, capsys.readouterr().err
    numbers = json.loads((run / "evaluation.json").read_text())["test"]
    assert np.isfinite(numbers["errors"]["nats_per_dim"]["mean"])
    assert len(numbers["spectrum"]["target"]) == len(numbers["spectrum"]["prediction"])
    assert "values.png" in (run / "report.md").read_text()
    runs.sample(run, n=4)
    assert (run / "samples.png").stat().st_size > 1000


def test_operators_have_no_samples(tmp_path):
    from opflow import FNO

    FNO((4, 4), 1, 1, 4, n_layers=1).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is a FNO, not a flow: use opflow predict"):
        runs.sample(tmp_path)


def test_parts_of_the_digits_are_those_of_the_benchmarks():
    parts = [open_images("digits", part) for part in ("train", "valid", "test")]
    assert list(map(len, parts)) == [1350, 150, 297] and len(open_images("digits")) == 1797
    label, image = parts[2][0]
    assert label.shape == (1,) and image.shape == (1, 8, 8) and parts[2].bins == 17


def test_real_mnist(real_data):
    images = open_images(real_data / "t10k-images-idx3-ubyte.gz", "test")
    labels, pixels = images.tensors
    assert pixels.shape == (2000, 1, 28, 28) and pixels.max() == 255
    assert torch.bincount(labels.long().flatten()).min() > 100


def test_damaged_files_are_named(tmp_path, mnist):
    whole = gzip.decompress(mnist.read_bytes())
    cases = {
        "short": (whole[:-1], "announces 5760 bytes and holds 5759"),
        "long": (whole + b"x", "announces 5760 bytes and holds more"),
        "bomb": (struct.pack(">HBB3I", 0, 8, 3, 2**31, 2**31, 4), "more than the 2147483648 that are read"),
        "text": (b"P5 28 28 255 ...", "is no IDX file"),
        "none": (b"", "is damaged"),
    }
    for name, (content, words) in cases.items():
        path = tmp_path / f"{name}-images.idx3-ubyte"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=words):
            read_idx(path)
    path = tmp_path / "cut-images-idx3-ubyte.gz"
    path.write_bytes(mnist.read_bytes()[:100])
    with pytest.raises(ValueError, match="is damaged"):
        open_images(path)
    labels = mnist.with_name("some-labels-idx1-ubyte.gz")
    idx(labels, np.zeros(7))
    with pytest.raises(ValueError, match=r"\(60, 8, 12\) and its labels one of \(7,\)"):
        open_images(mnist)
