"""The accuracy protocol of `benchmarks/operators.py`: equal parameters, resuming, verdicts, small runs."""

import csv
import dataclasses
import doctest
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import operators  # noqa: E402
from protocol import matching, mesh_grid, models, records, scores, trial, verdicts, views  # noqa: E402
from protocol.grid_fno import GridFNO, Packing  # noqa: E402
from protocol.matching import TOLERANCE, count_parameters, match  # noqa: E402
from protocol.mesh_grid import Box, grid_to_nodes, nodes_to_grid  # noqa: E402
from protocol.tasks import TASKS, Task  # noqa: E402

import opflow  # noqa: E402
import pde_data  # noqa: E402
from opflow.operators import OPERATORS  # noqa: E402

DEFAULT = [name for name, task in TASKS.items() if task.small and task.default]
SMALL = {
    "navier_stokes": {"viscosity": 1e-3, "forcing": "sym", "t_end": 4.0, "records": 4, "resolution": 16},
    "kolmogorov_flow": {"reynolds": 10.0, "t_end": 0.5, "records": 2, "burn_in": 1.0, "resolution": 16},
    "polygon_darcy": {"size": 0.05},
}


def small(task: Task, **changes) -> Task:
    """The default setup of a task on data of seconds, with the models that the package has."""
    assert task.small
    known = [m for m in task.small.models if m in OPERATORS or m == "FNO-on-grid"]
    setup = dataclasses.replace(
        task.small,
        samples=8,
        fractions=(0.5, 0.25, 0.25),
        options=SMALL[task.equation],
        n_modes=(7, 7),
        width=16,
        cells=16,
        budget=0.2,
        pilot=0.1,
        models=tuple(known),
        **changes,
    )
    frames = {"window": 2, "steps": 2} if task.window == 10 else {}
    return dataclasses.replace(task, small=setup, rates=task.rates[:2], **frames)


def protocol_of(task: Task, folder: Path, **options) -> operators.Protocol:
    log = records.Records(folder / "results.csv", {"machine": "a machine", "versions": "some"})
    return operators.Protocol(task, task.setup("default"), "default", folder, log, **options)


@pytest.mark.parametrize("name", DEFAULT)
def test_default_tasks_run_from_data_to_table_and_are_not_run_again(name, tmp_path, monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "1")
    task = small(TASKS[name])
    protocol = protocol_of(task, tmp_path)
    protocol.prepare(processes=1)
    assert len(list(protocol.pilots())) == len(task.rates) * len(protocol.setup.models)
    operators.complete(protocol)
    with (tmp_path / "results.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["stage"] == "final"]
    found = {(row["model"], row["seed"], row["metric"]): float(row["value"]) for row in rows}
    metrics = {"valid", "test"} | ({"test, turned"} if task.rotated else set())
    assert found.keys() == {(m, s, k) for m in protocol.setup.models for s in "01" for k in metrics}
    assert all(0 < value < 3 for value in found.values())
    assert all(row["machine"] == "a machine" and int(row["steps"]) > 0 for row in rows)
    sizes = {row["model"]: int(row["parameters"]) for row in rows}
    assert all(abs(n / sizes[protocol.setup.models[0]] - 1) <= TOLERANCE for n in sizes.values())
    text = "\n".join(protocol.table())
    assert all(f"| {model} |" in text for model in protocol.setup.models)
    assert "±" in text and "Validation errors of the pilots" in text
    assert not list((tmp_path / "unfinished").iterdir())

    later = protocol_of(task, tmp_path)
    later.prepare(processes=1)
    assert not list(later.pilots()) and not list(later.finals())
    assert later.table() == protocol.table()
    again = protocol_of(task, tmp_path, again=True)
    again.prepare(processes=1)
    assert len(list(again.finals())) == 2 * len(task.small.models)
    changed = protocol_of(small(TASKS[name], seeds=(0, 1, 2)), tmp_path)
    changed.prepare(processes=1)
    assert {job[0].seed for job in changed.finals()} == {2}


def test_results_of_other_machines_versions_and_budgets_do_not_count(tmp_path):
    log = records.Records(tmp_path / "r.csv", {"machine": "here", "versions": "1"})
    log.append([{"task": "a", "budget": 300.0, "value": 0.125}, {"task": "b", "budget": 300.0}])
    assert [row["value"] for row in log.rows(task="a", budget=300.0)] == ["0.125"]
    assert not log.rows(task="a", budget=60.0)
    for other in ({"machine": "there", "versions": "1"}, {"machine": "here", "versions": "2"}):
        assert not records.Records(tmp_path / "r.csv", other).rows(task="a")


def test_best_learning_rate_is_that_of_the_least_validation_error(tmp_path):
    task = small(TASKS["kolmogorov"])
    protocol = protocol_of(task, tmp_path)
    protocol.widths = {"FNO": 16}
    row = {"scale": "default", "task": "kolmogorov", "stage": "pilot", "model": "FNO", "width": 16}
    row |= {"budget": task.small.pilot, "metric": "valid"}
    values = {1e-3: 0.5, 3e-3: 0.25, 1e-2: math.inf}
    protocol.records.append([row | {"learning_rate": r, "value": v} for r, v in values.items()])
    assert protocol.rate("FNO") == 3e-3


def test_a_pilot_that_diverges_is_recorded_and_not_chosen(tmp_path, monkeypatch):
    def diverge(*args, **options):
        raise FloatingPointError("the loss is not finite any more")

    task = small(TASKS["kolmogorov"])
    setup = task.setup("default")
    views.data_file(task, setup, "default", tmp_path, processes=1)
    monkeypatch.setattr(trial, "_warm_up", lambda *args: None)
    monkeypatch.setattr(opflow, "fit", diverge)
    pilot = trial.Trial("default", "kolmogorov", "pilot", "FNO", 8, 0, 1.0, 0.1)
    assert trial.run(pilot, task, setup, tmp_path)["valid"] == math.inf
    with pytest.raises(FloatingPointError):
        trial.run(dataclasses.replace(pilot, stage="final"), task, setup, tmp_path)


def test_budget_is_cpu_time_of_the_process(tmp_path, monkeypatch):
    """A training that sleeps between its steps gets as many of them as one that does not."""
    task = small(TASKS["kolmogorov"])
    setup = task.setup("default")
    view = views.fields(task, setup, views.data_file(task, setup, "default", tmp_path, processes=1))
    torch.manual_seed(0)

    class Slow(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, x):
            trial.time.sleep(0.05)
            return self.model(x)

    config = opflow.TrainConfig(budget_seconds=0.2, batch_size=4)
    with trial._cpu_clock():
        history = opflow.fit(Slow(), view.parts["train"], config=config).history
    assert history[-1]["step"] * 0.05 > 4 * 0.2  # by the wall clock there were four steps


# Equal parameters.


def fourier(width):
    return opflow.FNO(n_modes=(8, 8), in_channels=1, out_channels=1, hidden_channels=width)


def test_matching_solves_for_the_widths():
    def perceptron(width):
        return nn.Sequential(nn.Linear(3, 7 * width), nn.Linear(7 * width, 7 * width))

    widths = match({"fno": fourier, "mlp": perceptron}, 16)
    sizes = [count_parameters(fourier(widths["fno"])), count_parameters(perceptron(widths["mlp"]))]
    assert abs(sizes[1] / sizes[0] - 1) <= 0.05
    assert abs(widths["fno"] - 16) <= 4
    # The widths are no accident: next to it nothing is as near.
    for other in (-1, 1):
        moved = count_parameters(perceptron(widths["mlp"] + other))
        assert abs(math.log(moved / sizes[0])) >= abs(math.log(sizes[1] / sizes[0]))


def test_complex_weights_count_twice_and_frozen_ones_not():
    model = nn.ParameterList(
        [
            nn.Parameter(torch.zeros(3, dtype=torch.complex64)),
            nn.Parameter(torch.zeros(5), requires_grad=False),
        ]
    )
    assert count_parameters(model) == 6


def test_sizes_that_cannot_agree_are_refused():
    def coarse(width):
        return nn.Linear(10 ** (width // 4 + 1), 100)

    with pytest.raises(ValueError, match="same number of parameters within 5 %"):
        match({"fno": fourier, "coarse": coarse}, 8)


@pytest.mark.parametrize("name", DEFAULT)
def test_default_models_have_equal_parameters(name, tmp_path):
    task = TASKS[name]
    known = tuple(m for m in task.small.models if m in OPERATORS or m == "FNO-on-grid")
    if len(known) < 2:
        pytest.skip(f"{name} needs {' and '.join(task.small.models)}, and there is only {' '.join(known)}")
    tiny = dataclasses.replace(
        task.small, samples=8, fractions=(0.5, 0.25, 0.25), options=SMALL[task.equation], models=known
    )
    frames = {"window": 2, "steps": 2} if task.window == 10 else {}
    path = views.data_file(task, tiny, "default", tmp_path, processes=1)
    task = dataclasses.replace(task, small=tiny, **frames)
    widths = models.widths(task, tiny, path)
    rows = {m: models.MODELS[m] for m in widths}
    sizes = [count_parameters(rows[m].build(rows[m].view(task, tiny, path), w)) for m, w in widths.items()]
    assert all(abs(size / sizes[0] - 1) <= 0.05 for size in sizes)


# Meshes through a grid.


def meshes(tmp_path, samples=4):
    path = pde_data.generate("polygon_darcy", tmp_path / "p.h5", samples=samples, size=0.05, processes=1)
    return pde_data.MeshDataset(path)


def packing_of(dataset, cells):
    box = Box.around([dataset.meshes.points(i) for i in range(len(dataset))], cells)
    return Packing.fit(dataset, box, int(dataset.node_counts.max()))


def test_interpolation_to_the_grid_is_exact_for_linear_fields_and_empty_outside(tmp_path):
    dataset = meshes(tmp_path, 2)
    mesh = dataset.mesh(0)
    box = Box.around([mesh.points], 33)
    matrix = nodes_to_grid(mesh, box)
    inside = np.diff(matrix.indptr) > 0
    grid = matrix @ (1 + mesh.points @ [2.0, -3.0])
    assert np.abs(grid - 1 - box.points @ [2.0, -3.0])[inside].max() < 1e-12
    assert not grid[~inside].any()
    # The share of the points that are inside is that of the area.
    area = np.prod(np.subtract(box.high, box.low))
    assert abs(inside.mean() * area - mesh.areas.sum()) < 0.05 * area


def test_interpolation_to_the_nodes_is_exact_for_bilinear_fields():
    points = np.random.default_rng(0).uniform(-1, 2, (50, 2))
    box = Box((-1.0, -1.0), (2.0, 2.0), (9, 14))

    def field(p):
        return 1 + 2 * p[:, 0] - p[:, 1] + 3 * p[:, 0] * p[:, 1]

    columns, weights = grid_to_nodes(points, box)
    assert np.allclose((field(box.points)[columns] * weights).sum(1), field(points), atol=1e-12)
    assert np.allclose(weights.sum(1), 1)
    corners, weights = grid_to_nodes(np.array([[2.0, 2.0], [-1.0, -1.0]]), box)
    assert np.allclose((field(box.points)[corners] * weights).sum(1), [1 + 4 - 2 + 12, 1 - 2 + 1 + 3])


def test_both_ways_converge_at_second_order(tmp_path):
    mesh = meshes(tmp_path, 1).mesh(0)
    fine = mesh.refined().refined()

    def field(p):
        return np.sin(3 * p[:, 0] + 2 * p[:, 1])

    errors = []
    for cells in (17, 33, 65):
        box = Box.around([mesh.points], cells)
        columns, weights = grid_to_nodes(fine.points, box)
        errors.append(np.abs((field(box.points)[columns] * weights).sum(1) - field(fine.points)).max())
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert np.all(orders > 1.8)


def test_loss_of_packed_samples_is_the_weighted_error_at_the_nodes(tmp_path):
    dataset = meshes(tmp_path)
    packing = packing_of(dataset, cells=16)
    packed = packing.pack(dataset)
    torch.manual_seed(0)
    model = GridFNO(packing, 2, 1, n_modes=(6, 6), hidden_channels=8)
    rows, targets = packed[:]
    with torch.no_grad():
        predictions = model(rows)
    loss = float(opflow.training.RelativeL2()(predictions, targets))
    errors = []
    for i, (coords, _, y, weights) in enumerate(dataset):
        assert not predictions[i, :, len(coords) :].any()
        values = predictions[i, :, : len(coords)] / weights.sqrt()
        error, size = ((weights * u.square()).sum() for u in (values[0] - y[:, 0], y[:, 0]))
        errors.append(math.sqrt(error / size))
    assert loss == pytest.approx(np.mean(errors), rel=1e-5)
    assert float(scores.relative(predictions, targets).mean()) == pytest.approx(loss, rel=1e-6)


def test_fno_on_a_grid_overfits_a_mesh(tmp_path):
    """Nothing is lost on the way: what the nodes hold can be learnt to a few percent."""
    dataset = meshes(tmp_path, 1)
    packing = packing_of(dataset, cells=24)
    torch.manual_seed(0)
    model = GridFNO(packing, 2, 1, n_modes=(12, 12), hidden_channels=12)
    config = opflow.TrainConfig(epochs=150, learning_rate=1e-2, loss="l2", batch_size=1)
    history = opflow.fit(model, packing.pack(dataset), config=config).history
    assert history[-1]["train_loss"] < 0.05


@pytest.mark.parametrize(
    "module", [matching, mesh_grid, models, records, scores, verdicts], ids=lambda m: m.__name__
)
def test_examples_of_docstrings(module):
    assert doctest.testmod(module).failed == 0


# Scores.


def test_rollouts_are_scored_over_all_their_steps():
    """A map that multiplies by c instead of 1: the error of step k is c^k - 1."""
    task = dataclasses.replace(small(TASKS["symmetric-navier-stokes"]), window=1, steps=3, rotated=False)
    fields = np.random.default_rng(0).normal(size=(8, 4, 6, 6)).astype(np.float32)
    fields[:] = fields[:, :1]
    data = pde_data.FieldDataset.from_arrays(trajectories=fields, window=1, horizon=3)
    view = views.View(task, task.small, {"test": data}, 1, 1, grid=data.grid)

    class Grow(nn.Module):
        def __init__(self):
            super().__init__()
            self.factor = nn.Parameter(torch.tensor(1.1))

        def forward(self, x):
            return self.factor * x

    expected = math.sqrt(sum((1.1**k - 1) ** 2 for k in (1, 2, 3)) / 3)
    assert scores.scores(Grow(), view) == {"test": pytest.approx(expected, rel=1e-5)}


def test_turned_data_are_as_hard_for_a_model_without_axes():
    task = dataclasses.replace(small(TASKS["kolmogorov"]), rotated=True)
    fields = np.random.default_rng(0).normal(size=(8, 2, 6, 6)).astype(np.float32)
    data = pde_data.FieldDataset.from_arrays(trajectories=fields)
    view = views.View(task, task.small, {"test": data}, 1, 1, grid=data.grid)
    symmetric, along = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, (1, 3), padding=(0, 1))
    with torch.no_grad():
        along.weight.copy_(torch.tensor([0.0, 0.0, 1.0]).reshape(1, 1, 1, 3))
    found = scores.scores(symmetric, view)
    assert found["test, turned"] == pytest.approx(found["test"], rel=1e-6)
    found = scores.scores(along, view)
    assert abs(found["test, turned"] - found["test"]) > 1e-3


# Verdicts.


def test_mean_and_standard_error():
    mean, error = verdicts.estimate([1.0, 2.0, 4.0, 5.0])
    assert mean == 3.0
    assert error == pytest.approx(math.sqrt(10 / 3) / 2)
    assert math.isnan(verdicts.estimate([1.0]).error)


@pytest.mark.parametrize(
    "candidate, baseline, words",
    [
        ([0.10, 0.12], [0.20, 0.22], "below by more than two standard errors (7.1), -48 %"),
        ([0.20, 0.22], [0.10, 0.12], "above by more than two standard errors (7.1), +91 %"),
        ([0.10, 0.30], [0.25, 0.35], "within two standard errors (0.9), -33 %"),
        ([0.10, 0.10], [0.20, 0.20], "below by more than two standard errors (inf), -50 %"),
        ([0.30], [0.20], "above, +50 %; one seed has no standard error"),
    ],
)
def test_verdicts(candidate, baseline, words):
    assert verdicts.verdict(candidate, baseline) == words


def test_tables_take_the_newest_of_each_seed():
    row = {"parameters": "100", "learning_rate": "0.001", "steps": "7", "metric": "test"}
    rows = [
        row | {"model": "FNO", "seed": "0", "value": "9"},
        row | {"model": "FNO", "seed": "0", "value": "0.3"},
        row | {"model": "FNO", "seed": "1", "value": "0.5"},
        row | {"model": "GFNO", "seed": "0", "value": "0.1"},
        row | {"model": "GFNO", "seed": "1", "value": "0.1"},
    ]
    lines = verdicts.table(rows, ("FNO", "GFNO"))
    assert lines[2] == "| FNO | 100 | 0.001 | 7 | 0.4000 ± 0.1000 |  |"
    assert lines[3].endswith("| 0.1000 ± 0.0000 | below by more than two standard errors (3.0), -75 % |")


def test_page_keeps_its_prose(tmp_path):
    page = tmp_path / "operators.md"
    page.write_text(operators.PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    operators.write_page("default", ["one"], page)
    operators.write_page("default", ["two"], page)
    text = page.read_text(encoding="utf-8")
    assert "two" in text and "one\n" not in text
    assert text.startswith("# Accuracy of the operators") and "## A GPU" in text


def test_every_model_of_every_task_has_a_row():
    for task in TASKS.values():
        for setup in filter(None, (task.small, task.full)):
            assert set(setup.models) <= models.MODELS.keys(), task.name
            assert sum(setup.fractions) == pytest.approx(1)
            assert pde_data.EQUATIONS[task.equation].from_parameters(**setup.options)
