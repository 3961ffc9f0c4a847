"""Sparse matrices for the graph preconditioner: two families on meshes, and others that a user may bring."""

from functools import cache

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import cg

from pde_data.domains import random_domain
from pde_data.equations.elasticity import CLAMPED, plane_strain
from pde_data.equations.polygon_darcy import darcy
from pde_data.equations.unstructured import generator, smooth_field
from pde_data.meshing import triangulate


def flow(size, index, contrast=1.0):
    """Matrix and load of Darcy flow on a polygon with holes."""
    mesh = triangulate(random_domain(generator(50, index, 0), 3, 0.1), size, seed=index)
    permeability = np.exp(contrast * smooth_field(mesh.points, generator(50, index, 1)))
    problem = darcy(mesh, permeability, np.ones(len(mesh.points)), mesh.tags == 1)
    free = ~problem.fixed
    return problem.matrix[free][:, free].tocsr(), problem.load[free], None


def body(size, index):
    """Matrix, load and rigid-body modes of a plate clamped on its left."""
    mesh = triangulate(random_domain(generator(50, index, 0), 3, 0.1), size, seed=index)
    x, y = (mesh.points - mesh.points.mean(0)).T
    fixed = (x < np.quantile(x, 0.1)) & (mesh.tags > 0)
    force = np.stack([np.ones_like(x), x], axis=1)
    problem = plane_strain(mesh, np.exp(0.5 * x), 0.3, force, np.where(fixed, CLAMPED, 1) == CLAMPED)
    free = ~problem.fixed
    zero, one = np.zeros_like(x), np.ones_like(x)
    modes = np.stack([np.stack([one, zero], 1), np.stack([zero, one], 1), np.stack([-y, x], 1)], axis=2)
    return problem.matrix[free][:, free].tocsr(), problem.load[free], modes.reshape(-1, 3)[free]


@cache
def plate():
    """Elasticity that training has not seen."""
    return body(0.03, 1)


@cache
def rock():
    """Darcy flow that training has not seen."""
    return flow(0.025, 1)


PROBLEMS = {"rock": rock, "plate": plate}


def steps(A, b, M, rtol=1e-6):
    count = []
    x, info = cg(A, b, M=M, rtol=rtol, maxiter=2000, callback=count.append)
    assert info == 0
    assert np.linalg.norm(b - A @ x) <= 1.01 * rtol * np.linalg.norm(b)
    return len(count)


def laplacian_of_a_random_graph(n, degree, seed):
    """Laplacian plus a thousandth."""
    rng = np.random.default_rng(seed)
    i, j = rng.integers(0, n, (2, n * degree))
    W = sparse.coo_array((rng.uniform(0.1, 1, i.size) * (i != j), (i, j)), (n, n))
    W = sparse.csr_array(W + W.T)
    return sparse.csr_array(sparse.diags_array(np.asarray(W.sum(axis=1)).ravel() + 1e-3) - W)


def anisotropic(n, ratio):
    one = sparse.diags_array([2.0 * np.ones(n), -np.ones(n - 1), -np.ones(n - 1)], offsets=[0, 1, -1])
    unit = sparse.eye_array(n)
    return sparse.csr_array(sparse.kron(one, unit) + ratio * sparse.kron(unit, one))


LAPLACIAN = anisotropic(4, 1.0)
