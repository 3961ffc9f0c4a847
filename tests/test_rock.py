"""Voxels of a real rock: a part of the micro-CT volume of Ketton limestone, from the image to the flux."""

import io
import zipfile

import numpy as np
import pytest

from solvers import GridPoisson, MultigridPreconditioner, fcg

PART = range(128, 192)


@pytest.fixture(scope="module")
def rock(real_data, tmp_path_factory):
    """A stack of 64^3 grey values as a TIFF file, the pores dark."""
    image = pytest.importorskip("PIL.Image")
    path = tmp_path_factory.mktemp("rock") / "part.tif"
    with zipfile.ZipFile(real_data / "ketton.zip") as archive:
        whole = image.open(io.BytesIO(archive.read("ketton.tif")))
    assert (whole.n_frames, *whole.size) == (256, 256, 256)
    pages = []
    for page in PART:
        whole.seek(page)
        pages.append(whole.crop((PART[0], PART[0], PART[-1] + 1, PART[-1] + 1)))
    pages[0].save(path, save_all=True, append_images=pages[1:])
    return path


def test_diffusion_through_the_pores(rock):
    """A gradient along x: between the values at the ends, as much flows in as out, pockets stay at rest."""
    op = GridPoisson.from_image(rock, spacing=3e-6, bc={"y": "neumann", "z": "neumann"})
    assert op.mask.shape == (64, 64, 64) and op.mask.mean() == pytest.approx(0.166, abs=0.001)
    pockets = op.nullspace.shape[1]
    assert pockets > 20
    at_the_ends = np.zeros((65, 1, 1))
    at_the_ends[0] = 1.0
    b = op.vector(op.stencil.boundary_terms(values=[at_the_ends, 0.0, 0.0]))
    M = MultigridPreconditioner.from_pretrained("poisson3d").setup(op)
    result = fcg(op, b, M=M, rtol=1e-9)
    assert result.converged and result.iterations <= 20, result.reason
    assert np.linalg.norm(b - op @ result.x) <= 1e-9 * np.linalg.norm(b)
    assert -1e-8 < result.x.min() and result.x.max() < 1 + 1e-8
    u, first, last = op.field(result.x), op.mask[0], op.mask[-1]
    inflow, outflow = (1 - u[0][first]).sum(), u[-1][last].sum()
    assert inflow > 0 and outflow == pytest.approx(inflow, rel=1e-6)
    assert abs(op.nullspace.T @ result.x).max() < 1e-8
