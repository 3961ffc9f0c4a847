"""The examples run as they are, on small data, and do what they say."""

import ast
import re
import runpy
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(monkeypatch, capsys, name, *words):
    monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return capsys.readouterr().out


def imports(name):
    for node in ast.walk(ast.parse((EXAMPLES / name).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]


def test_standalone_fno_learns_and_needs_torch_alone(monkeypatch, capsys):
    assert set(imports("standalone_fno.py")) == {"argparse", "math", "torch"}
    assert len((EXAMPLES / "standalone_fno.py").read_text().splitlines()) < 150
    out = run(monkeypatch, capsys, "standalone_fno.py", "--epochs", 15, "--samples", 100, "--points", 32)
    coarse, fine = (
        float(number)
        for number in re.findall(r"points: ([\d.]+)|L2: ([\d.]+)", out)
        for number in number
        if number
    )
    assert coarse < 0.3
    assert fine < 2 * coarse  # the same weights on twice the points


def test_standalone_solver_is_right():
    """Cole-Hopf: u = -2 nu d/dx log(theta), theta a solution of the heat equation."""
    import math

    import torch

    solve = runpy.run_path(str(EXAMPLES / "standalone_fno.py"))["burgers"]
    nu, time, k = 0.02, 0.5, 2 * math.pi
    x = torch.arange(64, dtype=torch.float64) / 64

    def exact(t):
        decay = 0.6 * math.exp(-nu * k**2 * t)
        return 2 * nu * k * decay * torch.sin(k * x) / (1 + decay * torch.cos(k * x))

    solution = solve(exact(0.0)[None], time, viscosity=nu)[0].double()
    assert (solution - exact(time)).norm() / exact(time).norm() < 1e-6


def standalone_finc():
    import torch

    torch.manual_seed(0)
    return runpy.run_path(str(EXAMPLES / "standalone_finc.py"))


def test_standalone_causal_solve_is_the_kernel():
    import torch

    from opflow.kernels import causal_conv, causal_solve
    from opflow.nn.invertible import ORIENTATIONS

    names = standalone_finc()
    for channels, k, grid in ((3, 3, (5, 8)), (2, 2, (7, 2)), (1, 4, (4, 6))):
        weight = 0.1 * torch.randn(channels, channels, k, k, dtype=torch.float64)
        weight[..., -1, -1] += torch.eye(channels)
        y = torch.randn(3, channels, *grid, dtype=torch.float64)
        torch.testing.assert_close(names["causal_solve"](y, weight), causal_solve(y, weight))
        torch.testing.assert_close(names["causal_conv"](y, weight), causal_conv(y, weight))
    layer = names["FInCConv"](8, 3).double()
    layer.taps.data.normal_(std=0.2)
    x = torch.randn(2, 8, 6, 4, dtype=torch.float64)
    with torch.no_grad():
        weight = layer.weights().flatten(0, 1)
        expected = causal_conv(x, weight, reverse=ORIENTATIONS, groups=4)
        torch.testing.assert_close(layer(x)[0], expected)
        torch.testing.assert_close(layer.inverse(expected), x)


def test_standalone_flow_is_exact():
    """Its noise comes back from the image, and its log-determinant is the dense one."""
    import torch

    flow = standalone_finc()["FInCFlow"](steps=2, hidden=8)
    flow(torch.rand(64, 1, 8, 8))  # sets ActNorm
    for parameter in flow.double().eval().parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    x = torch.rand(1, 1, 8, 8, dtype=torch.float64)
    dense = torch.autograd.functional.jacobian(lambda x: flow(x)[0], x).reshape(64, 64)
    torch.testing.assert_close(flow(x)[1][0], torch.linalg.slogdet(dense)[1], rtol=1e-9, atol=1e-9)
    with torch.no_grad():
        z = torch.randn(20, 64, dtype=torch.float64)
        assert (flow(flow.inverse(z))[0] - z).abs().max() < 1e-8
        assert (flow.inverse(flow(x)[0]) - x).abs().max() < 1e-9


def test_standalone_finc_learns_digits(monkeypatch, capsys, tmp_path):
    allowed = {"argparse", "math", "time", "numpy", "torch", "matplotlib", "sklearn"}
    assert set(imports("standalone_finc.py")) == allowed
    assert len((EXAMPLES / "standalone_finc.py").read_text().splitlines()) < 260
    picture = tmp_path / "samples.png"
    words = ["--seconds", 3, "--steps", 2, "--hidden", 16, "--out", picture]
    out = run(monkeypatch, capsys, "standalone_finc.py", *words)
    bits, error = re.search(r"([\d.]+) bits .*unseen", out), re.search(r"differ by ([\d.e-]+)", out)
    assert bits and float(bits[1]) < 3.2  # 4.087 for uniform noise
    assert error and float(error[1]) < 1e-4 and picture.stat().st_size > 5000


def test_train_navier_stokes(monkeypatch, capsys, tmp_path):
    assert len((EXAMPLES / "train_navier_stokes.py").read_text().splitlines()) < 100
    out = run(monkeypatch, capsys, "train_navier_stokes.py", "--smoke", "--folder", tmp_path)
    assert "80 pairs for training, 10 for validation, 10 for the test" in out
    assert len(re.findall(r"t = .*: relative L2 error \d\.\d{4}", out)) == 5
    for picture in ("rollout.png", "spectrum.png"):
        assert (tmp_path / picture).stat().st_size > 5000


def test_quickstart(monkeypatch, capsys, tmp_path):
    folder = tmp_path / "quickstart"
    (folder / "FNO").mkdir(parents=True)
    (folder / "FNO" / "run.json").write_text("{}")  # the remains of an earlier quickstart
    words = ["--seconds", 0.5, "--train", 10, "--test", 2, "--resolution", 12, "--steps", 2]
    out = run(
        monkeypatch, capsys, "quickstart.py", "--folder", folder, *words, "--options", "hidden_channels=4"
    )
    rows = {
        cells[1].strip(): [cell.strip() for cell in cells[2:-1]]
        for cells in (line.split("|") for line in out.splitlines() if line.startswith("|"))
    }
    assert rows["neuraloperator FNO"][0] == rows["opflow FNO"][0]  # equal size
    errors = [float(cell) for name in ("persistence", "opflow FNO") for cell in rows[name][2:]]
    assert all(0 < error < 2 for error in errors)
    report = (folder / "report.md").read_text()
    for name in ("rollout.png", "rollout.gif", "error_growth.png", "FNO/report.md", "neuralop-FNO/report.md"):
        assert name in report and (folder / name).stat().st_size > 500


def test_a_learned_preconditioner_takes_fewer_iterations(monkeypatch, capsys, tmp_path):
    picture = tmp_path / "comparison.png"
    out = run(monkeypatch, capsys, "learned_preconditioner.py", "--size", 96, "--out", picture)
    steps = {name: int(n) for name, n in re.findall(r"^(.+?)  +[\d.]+ +[\d.]+ +(\d+)", out, re.MULTILINE)}
    assert steps["multigrid, learned"] < steps["multigrid, classical"] < steps["cg"]
    residual = re.search(r"true residual ([\d.e-]+)", out)
    assert residual and float(residual[1]) <= 1e-6 and picture.is_file()


def test_smoke_flows_without_divergence(monkeypatch, capsys, tmp_path):
    picture = tmp_path / "plume.png"
    out = run(monkeypatch, capsys, "smoke_plume.py", "--size", 16, "--steps", 3, "--out", picture)
    left = re.search(r"over the speed: (\S+)", out)
    assert left and float(left[1]) < 1e-4 and picture.is_file()
