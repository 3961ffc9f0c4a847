"""Training and measuring at points: weights, batches of meshes that are filled up, exact resuming, runs."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import Dataset, TensorDataset

import pde_data
from opflow import FNO, MINO, TrainConfig, fit, metrics, plot
from opflow.cli import main
from opflow.runs import RunConfig, evaluate
from opflow.training import RelativeL2
from opflow.training.batches import Batches
from opflow.training.objective import Objective
from opflow.training.statistics import fit_normalizer
from pde_data import PointBatch
from pde_data.meshes import TriangleMesh
from tests.cases.point_operators import scattered


class Clouds(Dataset):
    """Smooth fields at random points, other points and another number of them in each sample."""

    def __init__(self, n=10, seed=0, frames=1):
        self.items = []
        for i in range(n):
            draw = np.random.default_rng((seed, i))
            coords = torch.tensor(
                scattered(20 + draw.integers(20), 2, seed=100 * seed + i), dtype=torch.float32
            )
            phase, weights = draw.random(), torch.tensor(draw.random(len(coords)) + 0.1, dtype=torch.float32)
            x = torch.sin(4 * coords.sum(-1, keepdim=True) + phase)
            y = torch.cat([2 * x + 0.5 + k for k in range(frames)], 1)
            self.items.append(PointBatch(coords, x, y, weights / weights.sum()))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def small(**options):
    torch.manual_seed(0)
    return MINO(1, 1, hidden_channels=16, radius=0.4, latent=(4, 4), n_layers=1, **options)


def test_losses_and_errors_are_integrals():
    """A point of weight w counts like two of weight w / 2 at its place, and one of weight 0 not at all."""
    torch.manual_seed(0)
    y, p, w = torch.randn(3, 2, 9), torch.randn(3, 2, 9), torch.rand(3, 9)
    twice = [torch.cat([u, u, torch.randn(3, 2, 4)], -1) for u in (p, y)]
    weights = torch.cat([w / 2, w / 2, torch.zeros(3, 4)], -1)
    for measure in (metrics.relative_l2, metrics.nrmse, metrics.vrmse, RelativeL2()):
        torch.testing.assert_close(measure(*twice, weights=weights), measure(p, y, weights=w))
        ones = torch.ones(3, 9)
        torch.testing.assert_close(measure(p, y, weights=ones), measure(p, y))
    expected = ((w[:, None] * (p - y) ** 2).sum(-1) / (w[:, None] * y**2).sum(-1)).sqrt().mean()
    torch.testing.assert_close(RelativeL2()(p, y, w), expected)
    with pytest.raises(ValueError, match=r"weights need the shape \(batch, \*space\), \(3, 9\), got \(9,\)"):
        metrics.nrmse(p, y, weights=w[0])


def test_the_weighted_loss_has_the_gradient_of_its_formula():
    y, w = torch.randn(2, 1, 6, dtype=torch.float64), torch.rand(2, 6, dtype=torch.float64)
    w[0, 4:] = 0
    p = torch.randn(2, 1, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: RelativeL2()(p, y, w), p)


def test_statistics_are_by_weight():
    data = Clouds()
    model = small()
    fit_normalizer(model.normalizer, data, increment=False)
    x, w = (torch.cat([getattr(item, k).double() for item in data.items]) for k in ("x", "weights"))
    mean = (w @ x[:, 0]) / w.sum()
    assert model.normalizer.input_mean.item() == pytest.approx(mean.item(), rel=1e-6)
    std = ((w @ (x[:, 0] - mean) ** 2) / w.sum()).sqrt().item()
    assert model.normalizer.input_std.item() == pytest.approx(std, rel=1e-6)
    fit_normalizer(model.normalizer, data, increment=True)
    change = torch.cat([(item.y - item.x).double()[:, 0] for item in data.items])
    assert model.normalizer.output_mean.item() == pytest.approx(((w @ change) / w.sum()).item(), rel=1e-6)


def test_pieces_of_a_batch_are_the_batch():
    data, model = Clouds(7), small()
    objective = Objective(model, RelativeL2(), channels=1)
    losses = []
    for pieces in (1, 3):
        (batch,) = Batches(data, 7, pieces=pieces).epoch(0)
        losses.append(sum(p.count * objective(p.x, p.y, *p.points) for p in batch.pieces) / batch.size)
        assert all(p.x.shape[2] == p.points[1].shape[1] for p in batch.pieces)
    torch.testing.assert_close(*losses)


def test_fit_learns_and_what_is_not_there_is_not_learnt(tmp_path):
    config = TrainConfig(
        epochs=15, batch_size=5, learning_rate=5e-3, loss="l2", schedule="constant", noise=0.01
    )
    result = fit(
        small(), Clouds(20), Clouds(4, seed=1), config=config, folder=tmp_path, test={"other": Clouds(3, 2)}
    )
    assert result.history[-1]["train_loss"] < 0.5 * result.history[0]["train_loss"]
    assert result.test["other"]["l2"] == pytest.approx(result.test["other"]["loss"], rel=1e-5)
    assert json.loads((tmp_path / "config.json").read_text())["class"] == "MINO"


@pytest.mark.parametrize("pushforward", [False, True])
def test_targets_of_several_frames_unroll_the_model(pushforward):
    data, model = Clouds(4, frames=2), small()
    objective = Objective(model, RelativeL2(), channels=1, pushforward=pushforward)
    (batch,) = Batches(data, 4).epoch(0)
    x, y, _, (coords, weights) = batch.pieces[0]
    first = model(x.mT, coords, weights=weights)
    second = model(first, coords, weights=weights).mT
    expected = second if pushforward else torch.cat([first.mT, second], 1)
    loss = RelativeL2()(expected, y[:, -1:] if pushforward else y, weights)
    torch.testing.assert_close(objective(x, y, coords, weights), loss)


def test_the_loss_at_some_points_is_that_of_the_output_there():
    data, model = Clouds(3), small()
    objective = Objective(model, RelativeL2(), channels=1, query_points=12)
    (batch,) = Batches(data, 3).epoch(0)
    x, y, _, (coords, weights) = batch.pieces[0]
    seen = []

    def loss(prediction, target, measure):
        seen.append((prediction, target, measure))
        return prediction.sum()

    objective.loss = loss
    objective(x, y, coords, weights)
    prediction, target, measure = seen[0]
    assert prediction.shape == (3, 1, 12) and (measure > 0).all()
    whole = model(x.mT, coords, weights=weights).mT
    for i in range(3):
        # Each drawn point is one of the sample, drawn once, with its output, its target and its weight.
        place = [(weights[i] == w).nonzero()[0].item() for w in measure[i]]
        assert len(set(place)) == 12
        torch.testing.assert_close(prediction[i, 0], whole[i, 0, place])
        assert torch.equal(target[i], y[i][:, place])
    objective.eval()
    torch.testing.assert_close(objective(x, y, coords, weights), whole)
    objective.train()
    objective.query_points = 1000  # all points of the smallest sample
    objective(x, y, coords, weights)
    assert seen[-1][0].shape[2] == (weights > 0).sum(1).min()
    with pytest.raises(ValueError, match="query_points is for single steps .* a target of 2 frames"):
        objective(x, y.repeat(1, 2, 1), coords, weights)
    with pytest.raises(ValueError, match="query_points is for single steps .* fields on a grid"):
        Objective(FNO((4,), 1, 1, 4), RelativeL2(), 1, query_points=5)(
            torch.zeros(1, 1, 8), torch.zeros(1, 1, 8)
        )


class Stopped(Exception):
    """Stands in for a kill."""


def test_a_stopped_run_goes_on_as_if_nothing_had_happened(tmp_path):
    config = TrainConfig(
        epochs=3, batch_size=4, loss="l2", ema=0.9, noise=0.1, save_seconds=0.0, query_points=15
    )

    def run(folder, calls):
        left = iter(range(calls))

        def loss(prediction, target, weights):
            if next(left, None) is None:
                raise Stopped
            return RelativeL2()(prediction, target, weights)

        return fit(small(), Clouds(), Clouds(3, 1), loss=loss, config=config, folder=folder, resume=True)

    run(tmp_path / "whole", 1000)
    with pytest.raises(Stopped):
        run(tmp_path / "parts", 6)  # an epoch has three steps and one validation
    run(tmp_path / "parts", 1000)
    for file in ("model.safetensors", "last/state.safetensors"):
        whole, parts = (load_file(tmp_path / name / file) for name in ("whole", "parts"))
        assert [name for name in whole if not torch.equal(whole[name], parts[name])] == []


def test_models_and_data_that_do_not_go_together():
    config = TrainConfig(epochs=1, loss="l2")
    with pytest.raises(
        ValueError, match="FNO works on grids, and the data lie on points: use a point operator"
    ):
        fit(FNO((4,), 1, 1, 4), Clouds(), config=config)
    grids = TensorDataset(torch.zeros(4, 1, 8), torch.zeros(4, 1, 8))
    with pytest.raises(
        ValueError, match="MINO works on points, and the data lie on grids: use a pde_data.Mesh"
    ):
        fit(small(), grids, config=config)
    with pytest.raises(ValueError, match="the target is"):
        fit(MINO(1, 2, hidden_channels=8, radius=0.4, latent=(4, 4)), Clouds(), config=config)


@pytest.fixture(scope="module")
def polygons(tmp_path_factory):
    pytest.importorskip("skfem")
    path = tmp_path_factory.mktemp("data") / "polygons.h5"
    pde_data.generate("polygon_darcy", path, samples=10, size=0.05, seed=0, processes=1)
    return path


def test_h1_needs_a_grid(polygons):
    data = pde_data.MeshDataset(polygons)
    model = MINO(2, 1, hidden_channels=8, radius=0.3, latent=(4, 4))
    with pytest.raises(
        ValueError, match="the loss 'h1' takes differences along the axes of a grid.* loss='l2'"
    ):
        fit(model, data)


def test_h1_needs_a_grid_whatever_the_class_of_the_data():
    with pytest.raises(
        ValueError, match="the loss 'h1' takes differences along the axes of a grid.* loss='l2'"
    ):
        fit(small(), Clouds(4))


def test_training_in_half_precision_learns():
    config = TrainConfig(epochs=8, batch_size=5, learning_rate=5e-3, loss="l2", precision="bf16")
    history = fit(small(), Clouds(20), config=config).history
    assert history[-1]["train_loss"] < 0.7 * history[0]["train_loss"]


def test_evaluation_is_by_weight(polygons):
    data = pde_data.MeshDataset(polygons, samples=3)
    model = MINO(2, 1, hidden_channels=8, radius=0.3, latent=(4, 4))
    evaluation = evaluate(model, data, batch_size=2)
    assert evaluation.numbers["pairs"] == 3
    errors = []
    for coords, x, y, w in data:
        difference = model.predict(x, coords, weights=w) - y
        errors.append(math.sqrt((w @ difference**2).item() / (w @ y**2).item()))
    found = evaluation.numbers["errors"]["relative_l2"]
    assert found["mean"] == pytest.approx(np.mean(errors), rel=1e-5)
    assert found["standard_error"] == pytest.approx(np.std(errors, ddof=1) / math.sqrt(3), rel=1e-4)
    assert evaluation.sample["prediction"].shape == (1, 1, len(data[0].coords))
    with pytest.raises(ValueError, match="FNO works on grids, and .* has meshes"):
        evaluate(FNO((4, 4), 2, 1, 4), data)


def test_the_run_trains_is_measured_and_drawn(polygons, tmp_path, capsys):
    run, options = tmp_path / "run", ["--options", "hidden_channels=16", "n_layers=1", "latent=[8,8]"]
    assert (
        main(
            ["train", "mino-darcy", "--data", str(polygons), "--folder", str(run), "--epochs", "2", *options]
        )
        == 0
    )
    assert main(["train", "--resume", str(run), "--epochs", "3"]) == 0
    assert main(["evaluate", str(run), "--data", str(polygons)]) == 0
    report = (run / "report.md").read_text()
    assert "| polygons | 10 | trained |" in report and "comparison.png" in report
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 3
    capsys.readouterr()
    for command, told in (
        (["export", str(run), "--to", "pt2"], "works on points and is exported with a set of them"),
        (
            ["predict", str(run), "--data", str(polygons), "--out", str(tmp_path / "p.h5")],
            "written on grids only",
        ),
        (["evaluate", str(run), "--resolution", "16"], "without times or a grid: leave out resolution=16"),
    ):
        assert main(command) == 1
        assert told in capsys.readouterr().err


def test_grids_and_meshes_are_told_apart(polygons):
    assert isinstance(RunConfig().open(polygons), pde_data.MeshDataset)
    assert len(RunConfig(data=str(polygons)).dataset("train")) == 8
    with pytest.raises(ValueError, match="without times or a grid: leave out horizon=3"):
        RunConfig(horizon=3).open(polygons)
    grids = polygons.with_name("grids.h5")
    pde_data.generate("heat", grids, samples=1, resolution=16, processes=1)
    with pytest.raises(ValueError, match="on a grid, without a boundary: leave out distances"):
        RunConfig(distances=True).open(grids)


def test_distances_from_the_boundary_are_inputs(polygons):
    plain, data = (pde_data.MeshDataset(polygons, distances=d) for d in (False, True))
    assert data.boundary_parts == ("outer", "hole") and data.in_channels == plain.in_channels + 2
    for i in range(3):
        mesh, x = data.mesh(i), data[i].x
        assert torch.equal(x[:, :2], plain[i].x)
        of = mesh.tags[mesh.boundary].min(1)
        for part in (1, 2):
            a, b = mesh.points[mesh.boundary[of == part]].transpose(1, 0, 2)
            dense = (a + np.linspace(0, 1, 401)[:, None, None] * (b - a)).reshape(-1, 2)
            nearest = np.linalg.norm(mesh.points[:, None] - dense, axis=-1).min(1)
            np.testing.assert_allclose(x[:, 1 + part], nearest, atol=1e-4)
            assert x[mesh.tags == part, 1 + part].max() < 1e-6
    with pytest.raises(pde_data.DatasetError, match="names no parts of the boundary .* leave out distances"):
        pde_data.MeshDataset(pde_data.open(polygons).drop_vars("boundary"), distances=True)


def test_pictures_need_a_value_for_each_node():
    mesh = TriangleMesh(np.eye(3, 2), np.array([[0, 1, 2]]), np.ones(3, int))
    with pytest.raises(ValueError, match=r"target of shape \(1, 4\) .* on a mesh of 3 nodes"):
        plot.mesh_comparison(mesh, np.ones(4), np.ones(4))
