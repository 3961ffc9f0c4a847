"""GridPoisson: its matrix, exact solutions, symmetries, nullspaces, and what it is made from."""

import numpy as np
import pytest
import scipy.sparse
from scipy.sparse.linalg import cg, spsolve

from pde_data.equations.stencil import Stencil
from solvers import GridPoisson

CASES = {
    "box": ((9, 7), {}),
    "line": ((11,), {"bc": ("neumann")}),
    "cube": ((5, 6, 4), {"bc": {"x": ("neumann", "dirichlet"), "z": "periodic"}}),
    "torus": ((6, 5), {"bc": "periodic"}),
    "narrow": ((1, 8), {"bc": {"x": "neumann"}}),
    "flat": ((4, 1, 3), {}),
    "single": ((1, 1), {}),
    "stretched": ((8, 6), {"spacing": (0.1, 2.0)}),
    "walls": ((8, 9), {"obstacles": "dirichlet", "bc": "neumann"}),
}


def build(name, holes=True, seed=0, **options):
    sizes, given = CASES[name]
    rng = np.random.default_rng(seed)
    mask = rng.random(sizes) < 0.75 if holes and np.prod(sizes) > 1 else np.ones(sizes, bool)
    if not mask.any():
        mask.flat[0] = True
    return GridPoisson(mask, np.exp(rng.standard_normal(sizes)), **given, **options)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("holes", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_products_are_those_of_the_matrix(name, holes, threads, monkeypatch):
    monkeypatch.setattr("solvers.stencil_loops._SMALL", 0)
    op = build(name, holes, num_threads=threads)
    matrix, rng = op.to_csr(), np.random.default_rng(1)
    x = rng.standard_normal(op.shape[0])
    scale = abs(matrix).max()
    np.testing.assert_allclose(op @ x, matrix @ x, atol=1e-14 * scale)
    for columns in (0, 3, 4, 9):
        several = rng.standard_normal((op.shape[0], columns))
        np.testing.assert_allclose(op @ several, matrix @ several, atol=1e-14 * scale)
        both = op @ (several + 1j * np.flip(several))
        np.testing.assert_allclose(
            both, matrix @ several + 1j * (matrix @ np.flip(several)), atol=1e-14 * scale
        )
        assert (op @ several.astype(np.float32)).dtype == np.float64
    np.testing.assert_allclose(op @ x[:, None], (matrix @ x)[:, None], atol=1e-14 * scale)
    np.testing.assert_allclose(op @ (x + 2j * x), matrix @ (x + 2j * x), atol=1e-14 * scale)
    np.testing.assert_allclose(op.T @ x, matrix @ x, atol=1e-14 * scale)
    np.testing.assert_allclose(op.diagonal(), matrix.diagonal(), rtol=1e-14)
    single = build(name, holes, dtype=np.float32)
    assert (single @ x.astype(np.float32)).dtype == np.float32
    np.testing.assert_allclose(single @ x.astype(np.float32), matrix @ x, atol=2e-6 * scale)
    several = rng.standard_normal((op.shape[0], 5)).astype(np.float32)
    assert (single @ several).dtype == np.float32
    np.testing.assert_allclose(single @ several, matrix @ several, atol=2e-6 * scale)


@pytest.mark.parametrize("name", CASES)
def test_it_is_symmetric_and_positive_up_to_its_nullspace(name):
    op = build(name)
    dense = op @ np.eye(op.shape[0])
    assert abs(dense - dense.T).max() <= 1e-14 * abs(dense).max()
    values = np.linalg.eigvalsh(dense)
    k = op.nullspace.shape[1]
    assert values[0] >= -1e-12 * values[-1] and (values > 1e-10 * values[-1]).sum() == len(values) - k
    assert abs(op @ op.nullspace.toarray()).max(initial=0) <= 1e-13 * values[-1]
    b = np.random.default_rng(0).standard_normal(op.shape[0])
    assert abs(op.nullspace.T @ op.project(b)).max(initial=0) <= 1e-12


def test_second_order_on_a_smooth_solution():
    """-u'' in two dimensions with u = cos(pi x / 2) sin(pi y): Neumann at x = 0, Dirichlet elsewhere."""
    errors = []
    for n in (16, 32, 64):
        op = GridPoisson(np.ones((n, n), bool), spacing=1 / n, bc={"x": ("neumann", "dirichlet")})
        x, y = np.meshgrid(*[(np.arange(n) + 0.5) / n] * 2, indexing="ij")
        u = np.cos(np.pi * x / 2) * np.sin(np.pi * y)
        b = op.vector(1.25 * np.pi**2 * u)
        errors.append(abs(op.field(spsolve(op.to_csr().tocsc(), b)) - u).max())
    assert errors[0] > 3.8 * errors[1] > 3.8**2 * errors[2]


def test_fields_and_vectors():
    op = build("box")
    x = np.arange(2.0 * op.shape[0]).reshape(-1, 2)
    assert np.array_equal(op.vector(op.field(x)), x)
    assert np.isnan(op.field(x, np.nan)[~op.mask]).all()
    with pytest.raises(ValueError, match=r"x has shape \(5,\), expected \d+ unknowns"):
        op.field(np.zeros(5))
    with pytest.raises(ValueError, match=r"the field has shape \(3, 3\), the mask \(9, 7\)"):
        op.vector(np.zeros((3, 3)))


@pytest.mark.parametrize(
    "sizes, bc", [((6, 7), "dirichlet"), ((4, 5, 6), {"y": "periodic"}), ((9,), "neumann")]
)
def test_a_stencil_is_recognised_by_its_matrix(sizes, bc):
    rng = np.random.default_rng(0)
    op = GridPoisson(np.ones(sizes, bool), np.exp(rng.standard_normal(sizes)), spacing=0.3, bc=bc)
    again = GridPoisson.from_csr(op.to_csr(), sizes)
    x = rng.standard_normal(op.shape[0])
    np.testing.assert_allclose(again @ x, op @ x, rtol=1e-12, atol=1e-10)
    np.testing.assert_allclose(again.to_csr().toarray(), op.to_csr().toarray(), rtol=1e-12, atol=1e-10)


def test_other_matrices_are_refused():
    grid = GridPoisson(np.ones((6, 6), bool)).to_csr()
    bad = {
        "not symmetric": grid + scipy.sparse.csr_matrix(([1.0], ([0], [1])), grid.shape),
        "positive entries off the diagonal": -grid + 8 * scipy.sparse.eye(36),
        "no neighbours on a grid": grid
        + scipy.sparse.csr_matrix(([-1.0, -1.0], ([0, 14], [14, 0])), grid.shape),
        "negative sums": grid - scipy.sparse.eye(36),
        "a term without derivatives": grid + scipy.sparse.eye(36),
        r"shape \(35, 35\), but a grid of \(6, 6\) has 36 cells": grid[:35, :35],
    }
    for words, matrix in bad.items():
        with pytest.raises(ValueError, match=words):
            GridPoisson.from_csr(matrix, (6, 6))
    with pytest.raises(ValueError, match="GraphPreconditioner for a general matrix"):
        GridPoisson.from_csr(grid + scipy.sparse.eye(36), (6, 6))


def test_images_become_masks(tmp_path):
    image = pytest.importorskip("PIL.Image")
    grey = np.zeros((8, 10), np.uint8)
    grey[2:5, 3:7] = 255
    image.fromarray(grey).save(tmp_path / "rock.png")
    assert np.array_equal(GridPoisson.from_image(tmp_path / "rock.png").mask, grey == 0)
    bright = GridPoisson.from_image(tmp_path / "rock.png", fluid="bright", spacing=0.5)
    assert np.array_equal(bright.mask, grey > 0) and bright.stencil.spacing == (0.5, 0.5)
    stack = np.random.default_rng(0).integers(0, 60000, (4, 6, 8)).astype(np.uint16)
    pages = [image.fromarray(page) for page in stack]
    pages[0].save(tmp_path / "rock.tif", save_all=True, append_images=pages[1:])
    assert np.array_equal(GridPoisson.from_image(tmp_path / "rock.tif", threshold=30000).mask, stack <= 30000)
    image.fromarray(np.zeros((5, 6, 3), np.uint8)).save(tmp_path / "colours.png")
    with pytest.raises(ValueError, match=r"shape \(5, 6, 3\): expected a grey image, or a stack of them"):
        GridPoisson.from_image(tmp_path / "colours.png")
    with pytest.raises(ValueError, match="fluid='red' should be 'dark' or 'bright'"):
        GridPoisson.from_image(tmp_path / "rock.png", fluid="red")


def test_wrong_arguments():
    mask = np.ones((4, 4), bool)
    with pytest.raises(TypeError, match="mask has dtype int64, expected bool"):
        GridPoisson(np.ones((4, 4), np.int64))
    with pytest.raises(ValueError, match="no fluid cell"):
        GridPoisson(~mask)
    with pytest.raises(ValueError, match="dtype=int32 should be float64 or float32"):
        GridPoisson(mask, dtype=np.int32)
    with pytest.raises(ValueError, match="num_threads=0 should be at least 1"):
        GridPoisson(mask, num_threads=0)


def test_scipy_solves_with_it():
    op = GridPoisson.from_stencil(Stencil.poisson(np.ones((12, 13), bool), spacing=0.1))
    b = np.random.default_rng(0).standard_normal(op.shape[0])
    x, info = cg(op, b, rtol=1e-10)
    assert info == 0
    np.testing.assert_allclose(x, spsolve(op.to_csr().tocsc(), b), atol=1e-8 * abs(x).max())
