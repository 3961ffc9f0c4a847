"""The benchmarks of flows run, resume, and compare equals."""

import csv
import dataclasses
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import flow_density  # noqa: E402
import flows  # noqa: E402
from protocol import flow_models, flow_trial, records  # noqa: E402
from protocol.matching import count_parameters  # noqa: E402

pytest.importorskip("normflows")
pytest.importorskip("sklearn")
TINY = dataclasses.replace(flow_trial.TASKS["digits"], levels=1, steps=1, width=16, batch=32)


@pytest.mark.parametrize("shape, levels, steps, width", [((3, 32, 32), 2, 8, 64), ((1, 8, 8), 2, 8, 64)])
def test_flows_have_the_same_number_of_parameters(shape, levels, steps, width):
    def make(name, width):
        return flow_models.build(name, shape, levels, steps, width, 256)

    names = flow_density.MODELS
    sizes = [count_parameters(make(n, w)) for n, w in flow_models.widths(names, make, width).items()]
    assert max(sizes) <= 1.05 * sizes[0] and min(sizes) >= 0.95 * sizes[0]


def test_digits_are_divided_as_the_protocol_says():
    train, held_out, test = flow_trial.TASKS["digits"].images()
    assert [len(part) for part in (train, held_out, test)] == [1350, 150, 297]
    assert train.shape[1:] == (1, 8, 8) and int(train.max()) == 16


def test_mnist_is_divided_as_the_protocol_says(real_data, monkeypatch):
    monkeypatch.setenv("OPFLOW_DATA", str(real_data))
    train, held_out, test = flow_trial.TASKS["mnist"].images()
    assert [len(part) for part in (train, held_out, test)] == [7500, 500, 2000]
    assert train.shape[1:] == (1, 28, 28) and int(train.max()) == 255


def test_trainings_are_recorded_once(tmp_path, capsys):
    path = tmp_path / "rows.csv"
    book = records.Records(path, {"machine": "here", "versions": "these"})
    for _ in range(2):
        flow_density.complete(TINY, ["normflows", "finc"], [0], 0.5, book)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["metric"] for row in rows if row["model"] == "finc"] == [
        *("valid", "test", "test_draw_deviation", "train_sample")
    ]
    assert all(2 < float(row["value"]) < 5 for row in rows if row["metric"] == "test")  # uniform: 4.09
    lines = flow_density.table("digits", ["normflows", "finc"], 0.5, book)
    assert len(lines) == 4 and "one seed has no standard error" in lines[-1]
    assert capsys.readouterr().out.count("seed 0") == 2


def test_judging_leaves_the_random_numbers_of_the_training_alone():
    flow, images = flow_models.build("glow", (1, 8, 8), 1, 1, 8, 17), TINY.images()[1]
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    first, second = (flow_trial._bits(flow, images, draws=1) for _ in range(2))
    assert first == second and torch.equal(torch.rand(3), expected)


def test_the_flow_of_normflows_is_evaluated_and_sampled_consistently():
    flow = flow_models.build("normflows", (1, 8, 8), 2, 2, 8, 17)
    x = torch.rand(6, 1, 8, 8)
    flow.log_prob(x)  # sets its ActNorm
    assert torch.allclose(flow.log_prob(x[:3]), flow.log_prob(x)[:3], atol=1e-3)
    samples = flow.sample(5)
    assert samples.shape == (5, 1, 8, 8) and torch.isfinite(flow.log_prob(samples)).all()


def test_speed_is_measured_of_flows_that_work(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["flows.py", "--small", "--threads", "1", "--repeats", "1"])
    threads = torch.get_num_threads()
    flows.main()
    torch.set_num_threads(threads)
    assert capsys.readouterr().out.count("milliseconds") == 9
