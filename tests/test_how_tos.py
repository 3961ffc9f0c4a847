"""The how-tos on operators and symmetry run as they stand, with smaller models."""

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
