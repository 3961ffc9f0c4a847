"""The how-tos run as they stand, with smaller models."""

import re
from pathlib import Path

import pytest
import torch

import opflow
import pde_data

SMALL = {
    "(24, 24)": "(6, 6)",
    "(16, 16)": "(6, 6)",
    "(17, 17)": "(7, 7)",
    "hidden_channels=32": "hidden_channels=4",
    "hidden_channels=16": "hidden_channels=4",
    "1, 1, 32": "1, 1, 4",
    "grids=[32, 48, 64]": "grids=[16, 24]",
    "levels=2, steps=8, hidden_channels=64": "levels=1, steps=1, hidden_channels=8",
    "(1, 32, 32), levels=3, steps=6, hidden_channels=48": "(1, 16, 16), levels=1, steps=2, hidden_channels=4",
    "epochs=100": "epochs=2",
    "epochs=30": "epochs=4",
    '"resolution": 32': '"resolution": 16',
    "samples=1000": "samples=100, processes=1",
    "-200": "-40",
    "sample(1000": "sample(100",
    "sample(200": "sample(40",
    '"hidden_channels": 32': '"hidden_channels": 4',
    "epochs=60": "epochs=1",
}


def run(page):
    """Run the Python blocks of a page one after the other; return their names, and all models."""
    text = (Path(__file__).parents[1] / "docs" / "how_to" / f"{page}.md").read_text()
    torch.manual_seed(0)
    names = {"opflow": opflow, "pde_data": pde_data}
    made = []
    for block in re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        for size, smaller in SMALL.items():
            block = block.replace(size, smaller)
        # Each model follows another of the same name.
        for statement in re.split(r"^(?=model = )", block, flags=re.MULTILINE):
            exec(statement, names)
            if statement.startswith("model = "):
                made.append(names["model"])
    return names, made


def test_operators():
    _, made = run("operators")
    assert [type(model).__name__ for model in made] == ["FNO", "GFNO", "LocalNO"]
    x = torch.randn(2, 1, 16, 16)
    assert all(model(x).shape == x.shape for model in made)


def test_symmetry(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    law = pde_data.EQUATIONS["navier_stokes"](resolution=24, t_end=1.0, records=3, forcing="none")
    pde_data.generate(law, "flows.h5", samples=32, processes=1)
    names, made = run("symmetry")
    assert [type(model).__name__ for model in made] == ["GFNO", "Symmetrize", "Symmetrize", "FNO"]
    assert made[2].group == "p4m" and made[2].in_kinds == ("pseudoscalar",)
    x = torch.randn(2, 1, 16, 16)
    for model in made[:3]:
        about = model.turns_about
        error = opflow.metrics.equivariance_error(
            model.eval(), x, "p4", in_kinds="pseudoscalar", out_kinds="pseudoscalar", about=about
        )
        assert error.max() < 1e-3  # of a pseudoscalar little is left: its rounding counts for more
    grid = [row for row in names["certificate"].rows if row.check == "grid"]
    assert {row.verdict for row in grid} == {"pass"} and (tmp_path / "certificate.json").exists()


def test_flows(tmp_path, monkeypatch):
    for package in ("normflows", "zuko", "sklearn", "matplotlib"):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    names, _ = run("flows")
    assert names["bits"] < 4.0  # of 4.087 for uniform noise
    assert names["samples"].shape == (8, 4, 16, 16) and torch.isfinite(names["log_q"]).all()
    assert names["sevens"].shape == (100, 1, 8, 8) and names["guess"].max() <= 9
    assert names["p"].shape == (40,) and names["trusted"].dtype == torch.bool
    assert torch.equal(names["trusted"], names["p"] > 0.02)
    # The same layers in both libraries, from the same base: one density.
    x = torch.randn(3, 4, 16, 16)
    expected = names["model"].log_prob(x)
    torch.testing.assert_close(names["density"].log_prob(x), expected, atol=0.01, rtol=1e-4)
    assert (tmp_path / "samples.png").stat().st_size > 2000


def test_rectified(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names, _ = run("rectified")
    assert 0 <= names["iou"] <= 1 and names["drawn"].samples.shape == (40, 1, 32, 32)
    assert names["drawn"].nfe == 16 and names["there"].shape == (4, 500, 1)
    # The same functions: where nothing but modes that both grids hold was learned.
    apart = opflow.metrics.relative_l2(names["fine"][..., ::2, ::2], names["coarse"])
    assert apart.max() < 0.2
    assert names["apart"] < 0.5 and names["density"].value.isfinite().all()
    assert names["floor"] > 0 and names["loss"].isfinite()


def test_linear_systems():
    names, _ = run("linear_systems")
    assert names["info"] == 0 and names["result"].converged and not names["G"].notes


def test_the_notebook_on_linear_systems(monkeypatch):
    """Its cells run one after the other; pictures are drawn but not shown."""
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    text = (Path(__file__).parents[1] / "docs" / "linear_systems_notebook.md").read_text()
    names = {}
    for cell in re.findall(r"^```\{code-cell\} ipython3\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        exec(cell.replace("%matplotlib inline\n", "").replace("192", "64"), names)
    assert names["info"] == 0 and names["found"].rows[-1]["residual"] <= 1.05e-6
