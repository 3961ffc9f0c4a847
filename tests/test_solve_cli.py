"""The command `opflow-solve` and the comparison of solvers, from end to end."""

from typing import get_args, get_type_hints

import numpy as np
import pytest

from solvers import GridPoisson, MultigridPreconditioner
from solvers.cli import main, train
from solvers.cycle_losses import LOSSES
from solvers.domains import KINDS, random_stencil
from solvers.recipes import RECIPES, train_recipe


@pytest.fixture
def mask(tmp_path):
    path = tmp_path / "mask.npy"
    np.save(path, random_stencil(np.random.default_rng(1), (32, 24), "blobs").mask)
    return path


def test_solve(mask, tmp_path, capsys):
    out, rhs = tmp_path / "x.npy", tmp_path / "b.npy"
    op = GridPoisson(np.load(mask), spacing=0.1, bc={"x": ("neumann", "dirichlet"), "y": "periodic"})
    b = np.random.default_rng(0).standard_normal(op.mask.shape)
    np.save(rhs, b)
    words = [str(mask), "--spacing", "0.1", "--bc", "x=neumann,dirichlet", "y=periodic", "--rtol", "1e-9"]
    assert main(["solve", *words, "--rhs", str(rhs), "--out", str(out)]) == 0
    assert "iterations, set-up" in capsys.readouterr().out
    x = np.load(out)
    assert np.linalg.norm(op.vector(b) - op @ op.vector(x)) <= 1e-9 * np.linalg.norm(op.vector(b))
    assert not x[~op.mask].any()
    assert main(["solve", *words, "--maxiter", "1"]) == 1


def test_check_and_compare(mask, tmp_path, capsys):
    assert main(["check", str(mask), "--weights", "classical"]) == 0
    assert "symmetric positive definite: scipy cg will do" in capsys.readouterr().out
    picture = tmp_path / "comparison.png"
    assert main(["compare", str(mask), "--plot", str(picture)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:20].strip() for line in lines[2:]] == [
        *("cg", "pyamg SA", "pyamg RS", "multigrid, classical", "multigrid, learned")
    ]
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_train_resume_and_use(mask, tmp_path, capsys):
    folder = tmp_path / "run"
    small = ["--size", "24", "--samples", "8", "--hidden", "4", "--iterations", "3", "--batch-size", "4"]
    assert main(["train", "--folder", str(folder), *small, "--epochs", "1"]) == 0
    assert main(["train", "--folder", str(folder), *small, "--epochs", "2", "--resume"]) == 0
    assert len((folder / "stage1" / "metrics.jsonl").read_text().splitlines()) == 2
    assert "weights.json: residual, a factor of 0." in capsys.readouterr().out
    weights = MultigridPreconditioner.load(folder / "weights.json").weights
    assert weights.ndim == 2 and weights.network is not None
    assert main(["solve", str(mask), "--weights", str(folder / "weights.json")]) == 0


@pytest.mark.parametrize("recipe", ["poisson2d", "poisson3d"])
def test_the_recipe_of_the_weights_of_the_package(recipe, tmp_path):
    """The stages of the recipe one after another, scaled down."""
    small = ["--size", "24", "--samples", "8", "--hidden", "4", "--batch-size", "8", "--epochs", "1"]
    words = ["train", "--folder", str(tmp_path), "--recipe", recipe, "--loss", "energy", *small]
    assert main(words) == 0
    first = MultigridPreconditioner.load(tmp_path / "weights.json").weights
    assert first.ndim == int(recipe[-2])
    count = len(RECIPES[recipe].stages)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        *(f"stage{k + 1}" for k in range(count)),
        "weights.json",
    ]
    # Each stage starts from the one before, and none is done twice.
    kept = [(tmp_path / f"stage{k + 1}" / "model.safetensors").read_bytes() for k in range(count)]
    assert len(set(kept)) == count
    assert main([*words, "--resume"]) == 0
    again = MultigridPreconditioner.load(tmp_path / "weights.json").weights
    assert again.lowest == first.lowest
    with pytest.raises(ValueError, match="recipe='poisson4d' is unknown, choose one of quick2d"):
        train_recipe("poisson4d")


def test_the_command_knows_every_recipe_and_loss():
    hints = get_type_hints(train)
    assert get_args(hints["recipe"]) == tuple(RECIPES) and get_args(hints["loss"]) == tuple(LOSSES)


def test_errors_are_told_in_a_line(mask, tmp_path, capsys):
    text = tmp_path / "text.npy"
    text.write_text("no array")
    for words, told in (
        (["solve", str(mask), "--bc", "q=neumann"], "bc names the axes q, but the grid has x, y"),
        (["solve", str(mask), "--weights", "poisson9d"], "there are no weights 'poisson9d'"),
        (["solve", str(tmp_path / "none.npy")], "No such file"),
        (["solve", str(text)], "text.npy"),
        (["train", "--folder", str(tmp_path / "run"), "--size", "20"], "size=20 should be a multiple of 8"),
    ):
        assert main(words) == 1
        error = capsys.readouterr().err
        assert error.startswith("opflow-solve: error: ") and told in error and error.count("\n") == 1


@pytest.mark.parametrize("kind", KINDS)
def test_random_domains_are_connected_and_not_singular(kind):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        stencil = random_stencil(rng, rng.integers(1, 30, rng.integers(1, 4)), kind, contrast=1.0)
        part, singular = stencil.components
        assert stencil.size > 0 and len(singular) == 1 and not singular.any()
    one, same = (random_stencil(np.random.default_rng(3), (20, 20), kind).mask for _ in range(2))
    assert np.array_equal(one, same)
    with pytest.raises(ValueError, match="kind='sponge' is not one of 'box', 'blobs', 'plates', 'porous'"):
        random_stencil(np.random.default_rng(0), (4, 4), "sponge")
