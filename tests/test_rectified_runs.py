"""Named runs of rectified flows, in small, by the commands that a user types; pairs of fields and labels."""

import json

import numpy as np
import pytest
import torch
import xarray

import pde_data
from opflow import load, metrics, runs
from opflow.cli import main
from opflow.runs import RunConfig
from opflow.runs.images import ImageSet
from opflow.runs.labels import Labelled

UNET = 'network={"class":"UNet","config":{"hidden_channels":4,"multipliers":[1,2]}}'


def train(name, run, *words, network=UNET, epochs=1):
    arguments = ["train", name, "--folder", str(run), *words, "--options", network, "--epochs", str(epochs)]
    assert main(arguments) == 0
    return json.loads((run / "evaluation.json").read_text())["test"], (run / "report.md").read_text()


@pytest.fixture(scope="module")
def darcy(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "darcy.h5"
    pde_data.generate("darcy", path, samples=60, resolution=12, processes=1)
    return str(path)


@pytest.mark.parametrize("name", ["semflow-darcy", "symmflow-darcy"])
def test_phases_and_pressure(name, darcy, tmp_path, capsys):
    run = tmp_path / "run"
    numbers, report = train(name, run, "--data", darcy)
    errors = {metric: row["mean"] for metric, row in numbers["errors"].items()}
    assert 0 <= errors["mean_iou"] <= errors["pixel_accuracy"] <= 1 and np.isfinite(errors["loss"])
    assert "swd_floor" in errors and 0 <= numbers["round_trip"]["mean_iou"] <= 1
    for picture in ("samples.png", "labels.png", "found.png"):
        assert picture in report and (run / picture).stat().st_size > 500
    film, out = tmp_path / "flow.gif", tmp_path / "samples.h5"
    assert main(["sample", str(run), "--n", "4", "--out", str(out), "--film", str(film)]) == 0
    from PIL import Image, ImageSequence

    with Image.open(film) as frames:
        assert (
            sum(1 for _ in ImageSequence.Iterator(frames)) == 52
        )  # 25 steps there and back, with the first states
    assert pde_data.open(out)["u"].shape == (4, 12, 12)
    assert main(["evaluate", str(run)]) == 0
    assert "mean_iou" in capsys.readouterr().out


def test_what_a_trained_run_measures_is_right(tmp_path):
    """Two classes that the sign of the field tells: trained for a moment, it is nearly always right."""
    rng = np.random.default_rng(0)
    wave = np.sin(2 * np.pi * (np.arange(8) / 8 + rng.random((200, 1, 1)))) + np.zeros((1, 8, 1))
    a = np.where(wave > 0, 1.0, -1.0) + 0.2 * rng.normal(size=wave.shape)
    values = {"u": (("sample", "x", "y"), a), "phase": (("sample", "x", "y"), np.where(wave > 0, 7.0, -2.0))}
    path = tmp_path / "signs.h5"
    xarray.Dataset({k: (d, v.astype(np.float32)) for k, (d, v) in values.items()}).to_netcdf(path)
    words = f"--data {path} --targets phase --classes -2 7 --ema 0.9 --learning-rate 0.01".split()
    numbers, _ = train("symmflow-darcy", tmp_path / "run", *words, epochs=30)
    assert numbers["errors"]["mean_iou"]["mean"] > 0.9 and numbers["round_trip"]["mean_iou"] > 0.7
    flow, data = load(tmp_path / "run"), RunConfig.read(tmp_path / "run").dataset("test")
    assert isinstance(data, Labelled)
    x, y = data.gather(range(len(data)))
    found = metrics.mean_iou(flow.segment(x, seed=0).labels, y[:, 0].long(), 2)
    assert abs(found - numbers["errors"]["mean_iou"]["mean"]) < 0.05


def test_digits_by_class(tmp_path):
    run = tmp_path / "run"
    numbers, _ = train("symmflow-mnist", run, "--data", "digits")
    assert numbers["pairs"] == 297 and numbers["errors"]["accuracy"]["mean"] > 0.05
    flow = load(run)
    assert flow.codec.n_classes == 10 and flow.channels == 1
    runs.sample(run, n=4, label=3, film=tmp_path / "three.gif")
    assert (run / "samples.png").stat().st_size > 500 and (tmp_path / "three.gif").is_file()


def test_a_law_of_vorticity(tmp_path, capsys):
    data, run = str(tmp_path / "flow.h5"), tmp_path / "run"
    law = pde_data.EQUATIONS["navier_stokes"].from_parameters(
        resolution=16, viscosity=1e-2, t_end=1.0, records=4
    )
    pde_data.generate(law, data, samples=20, seed=0, processes=1)
    fno = 'network={"class":"FNO","config":{"n_modes":[4,4],"hidden_channels":4}}'
    numbers, report = train("functional-navier-stokes", run, "--data", data, network=fno)
    assert len(numbers["spectrum"]["target"]) == len(numbers["spectrum"]["prediction"])
    assert numbers["errors"]["swd"]["mean"] > numbers["errors"]["swd_floor"]["mean"] > 0
    assert "values.png" in report and "spectrum.png" in report
    runs.sample(run, n=4)
    with pytest.raises(ValueError, match="a film shows the way between labels and fields"):
        runs.sample(run, film=tmp_path / "no.gif")
    with pytest.raises(ValueError, match="has no classes: leave label=1 out"):
        runs.sample(run, label=1)
    with pytest.raises(ValueError, match="samples at temperature 1"):
        runs.sample(run, temperature=0.5)


def test_a_law_on_meshes(tmp_path):
    pytest.importorskip("skfem")
    data, run = str(tmp_path / "plates.h5"), tmp_path / "run"
    law = pde_data.EQUATIONS["polygon_darcy"].from_parameters(size=0.05)
    pde_data.generate(law, data, samples=40, seed=0, processes=1)
    mino = '{"class":"MINO","config":{"hidden_channels":8,"radius":0.15,"latent":[5,5],"n_layers":1}}'
    numbers, report = train("functional-darcy-mesh", run, "--data", data, network=f"network={mino}")
    assert np.isfinite(numbers["errors"]["swd"]["mean"]) and "Samples on one mesh" in report
    runs.sample(run, n=4)
    with pytest.raises(ValueError, match=r"samples on a mesh are drawn as \.png"):
        runs.sample(run, tmp_path / "some.h5", n=2)


def test_cosine_means_are_integrals_on_any_mesh():
    """Midpoints and random points with their weights give the same integral, and filling counts nothing."""
    n = 200
    x = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    points = torch.stack(torch.meshgrid(2 * x, 3 * x, indexing="ij"), -1).reshape(1, -1, 2)
    u = (torch.cos(torch.pi * points[..., 0] / 2) * torch.cos(torch.pi * 2 * points[..., 1] / 3))[:, None]
    weights = torch.ones(1, n * n, dtype=torch.float64)
    found = metrics.cosine_means(u, points, weights, 2, lengths=(2.0, 3.0)).reshape(3, 3)
    exact = torch.zeros(3, 3, dtype=torch.float64)
    exact[1, 2] = 0.25
    torch.testing.assert_close(found, exact, atol=1e-9, rtol=0)
    more = torch.cat([u, 1e3 * torch.ones(1, 1, 5).double()], 2)
    filled = metrics.cosine_means(
        more,
        torch.cat([points, points[:, :5]], 1),
        torch.cat([weights, torch.zeros(1, 5).double()], 1),
        2,
        lengths=(2.0, 3.0),
    )
    torch.testing.assert_close(filled.reshape(3, 3), exact, atol=1e-9, rtol=0)
    with pytest.raises(ValueError, match=r"positions \(batch, point, dim\)"):
        metrics.cosine_means(u, points[:, 1:], weights)


def test_labels_are_the_nearest_values():
    fields = torch.arange(12.0).reshape(3, 4)
    pairs = pde_data.FieldDataset.from_arrays(inputs=2 * fields, targets=fields)
    labelled = Labelled(pairs, (0.0, 5.0, 100.0))
    x, y = labelled.gather([0, 2])
    assert torch.equal(x[:, 0], 2 * fields[[0, 2]])
    assert torch.equal(y[:, 0], torch.tensor([[0.0, 0, 0, 1], [1, 1, 1, 1]]))
    images = ImageSet("digits", torch.tensor([3, 1]), torch.ones(2, 1, 4, 4, dtype=torch.uint8), 17)
    image, label = Labelled(images)[1]
    assert image.shape == (1, 4, 4) and label.tolist() == [1.0] and Labelled(images).n_classes == 4
    with pytest.raises(ValueError, match="images bring their labels"):
        Labelled(images, (0.0, 1.0))
    with pytest.raises(ValueError, match=r"should be the values of 'target_0' in .* such as"):
        Labelled(pairs)
    with pytest.raises(ValueError, match="are for models of labels, SemFlow, SymmFlow, not for FNO"):
        RunConfig(data="digits", classes=(0.0, 1.0)).dataset("train")
