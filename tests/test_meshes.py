"""Domains, meshes and the mesher: exact cover, quality, determinism, refinement."""

import numpy as np
import pytest

from pde_data.domains import Domain, circle, random_domain
from pde_data.grids import Grid
from pde_data.meshes import TriangleMesh
from pde_data.meshing import MeshingError, triangulate
from pde_data.random_fields import GaussianRandomField

SQUARE = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])


def square(*holes):
    return Domain((SQUARE, *holes), (np.arange(1, 5), *(np.full(len(hole), 5) for hole in holes)))


def domain(seed):
    return random_domain(np.random.default_rng(seed), holes=3, clearance=0.1)


@pytest.fixture(scope="module")
def mesh():
    return triangulate(square(circle((0.4, 0.5), 0.2, 7)[::-1]), 0.11)


@pytest.mark.parametrize("seed", range(12))
def test_random_polygons_are_covered_exactly_by_well_shaped_triangles(seed):
    polygon = domain(seed)
    mesh = triangulate(polygon, 0.05, seed=seed)
    assert mesh.areas.min() > 0 and mesh.areas.sum() == pytest.approx(polygon.area, rel=1e-13)
    assert mesh.angles.min() > 25 and np.median(mesh.angles.min(1)) > 45
    assert 0.02 < np.linalg.norm(np.diff(mesh.points[mesh.edges], axis=1)[:, 0], axis=1).min()
    assert mesh.size < 0.09
    # Euler's formula, with a component of the boundary for the outside and for each hole.
    edges = len(np.unique(np.sort(mesh.edges, axis=1), axis=0))
    assert len(mesh.points) - edges + len(mesh.triangles) == 2 - len(polygon.loops)
    # The nodes with tags are those of the boundary, which lie on it.
    assert np.array_equal(np.flatnonzero(mesh.tags), np.unique(mesh.boundary))
    outline = mesh.points[mesh.tags > 0]
    assert np.abs(polygon.nearest(outline)[0] - outline).max() < 1e-14
    for loop in polygon.loops:
        assert all((mesh.points == corner).all(1).any() for corner in loop)


@pytest.mark.slow
def test_no_random_polygon_is_hard():
    angles = [triangulate(domain(seed), 0.05, seed=seed).angles.min() for seed in range(300)]
    assert min(angles) > 20 and np.median(angles) > 33


def test_the_same_seed_gives_the_same_mesh_and_another_one_the_same_boundary():
    first, again, other = (triangulate(domain(3), 0.05, seed=seed) for seed in (1, 1, 2))
    for a, b in zip(vars(first).values(), vars(again).values()):
        assert a.tobytes() == b.tobytes()
    assert len(first.points) != len(other.points) or not np.array_equal(first.points, other.points)
    assert np.array_equal(first.points[first.tags > 0], other.points[other.tags > 0])


def test_a_domain_far_from_the_origin_is_meshed_in_the_same_way():
    moved = Domain((SQUARE + [1000.0, -500.0],), (np.ones(4, int),))
    mesh = triangulate(moved, 0.1)
    assert mesh.areas.sum() == pytest.approx(1.0, rel=1e-12) and mesh.angles.min() > 25


def test_edges_are_as_long_as_asked_where_they_are():
    centre = np.array([0.3, 0.5])
    size = lambda points: np.minimum(0.02 + 0.3 * np.linalg.norm(points - centre, axis=1), 0.1)  # noqa: E731
    mesh = triangulate(square(), size)
    ends = mesh.points[mesh.edges]
    ratio = np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1) / size(ends.mean(1))
    assert 0.6 < np.median(ratio) < 1.3 and ratio.max() < 2.2 and mesh.angles.min() > 25


def test_weights_integrate_linear_functions_exactly(mesh):
    area = 1 - 7 / 2 * 0.2**2 * np.sin(2 * np.pi / 7)
    assert mesh.weights.min() > 0 and mesh.weights.sum() == pytest.approx(area, rel=1e-13)
    # The hole is symmetric about its centre, so the first moments are those of square less hole.
    moment = np.array([0.5, 0.5]) - (1 - area) * np.array([0.4, 0.5])
    np.testing.assert_allclose(mesh.weights @ mesh.points, moment, rtol=1e-12)


def test_refined_triangles_are_similar_and_tags_follow_the_boundary(mesh):
    fine = mesh.refined()
    np.testing.assert_allclose(np.tile(mesh.areas / 4, 4), fine.areas, rtol=1e-12)
    angles = np.sort(mesh.angles, axis=1)
    np.testing.assert_allclose(np.sort(fine.angles, axis=1), np.tile(angles, (4, 1)), rtol=1e-9)
    assert len(fine.boundary) == 2 * len(mesh.boundary) and fine.size == pytest.approx(mesh.size / 2)
    assert np.array_equal(np.flatnonzero(fine.tags), np.unique(fine.boundary))
    x, y = fine.points.T
    sides = np.stack([y == 0, x == 1, y == 1, x == 0], axis=1)
    for number, side in enumerate(sides.T, 1):
        assert set(fine.tags[side]) <= set(range(number, 5)) and (fine.tags[side] == number).sum() > 8
    assert (fine.tags[(fine.tags > 0) & ~sides.any(1)] == 5).all()


def test_coarsening_undoes_refinement(mesh):
    for a, b in zip(vars(mesh.refined().coarsened()).values(), vars(mesh).values()):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="not a refined one"):
        mesh.coarsened()
    empty = TriangleMesh(mesh.points, mesh.triangles[:3], mesh.tags)
    with pytest.raises(ValueError, match="not a refined one"):
        empty.coarsened()


def test_nearest_points_and_inside():
    annulus = square(circle((0.5, 0.5), 0.25, 64)[::-1])
    points = np.array([[0.5, 0.1], [0.9, 0.6], [0.5, 0.5], [1.5, 0.5], [-1.0, -1.0], [0.5, 0.2]])
    feet, edges = annulus.nearest(points)
    np.testing.assert_allclose(feet[[0, 1, 3, 4]], [[0.5, 0], [1, 0.6], [1, 0.5], [0, 0]], atol=1e-15)
    assert np.linalg.norm(feet[5] - [0.5, 0.25]) < 1e-2 and edges[0] == 0 and edges[1] == 1
    assert annulus.contains(points).tolist() == [True, True, False, False, False, True]


@pytest.mark.parametrize(
    ("loops", "tags", "words"),
    [
        ((SQUARE[::-1],), (np.ones(4),), "loop 0 turns the wrong way round; reverse"),
        ((SQUARE, SQUARE), (np.ones(4), np.ones(4)), "loop 1 turns the wrong way round"),
        ((SQUARE[:2],), (np.ones(2),), r"loop 0 has shape \(2, 2\), expected \(corners, 2\)"),
        ((SQUARE,), (np.ones(3),), "loop 0 has 4 edges and the tags"),
        ((SQUARE,), (np.zeros(4),), "each at least 1"),
        ((SQUARE,), (), "1 loops have tags for 0"),
    ],
)
def test_wrong_domains(loops, tags, words):
    with pytest.raises(ValueError, match=words):
        Domain(loops, tags)


def test_what_cannot_be_meshed():
    with pytest.raises(ValueError, match="size=-0.1 on the boundary must be positive"):
        triangulate(square(), -0.1)
    needle = Domain((np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 0.05]]),), (np.ones(3, int),))
    with pytest.raises(
        MeshingError, match="above 20.0 degrees in 8 attempts: the best has one of 2.*smaller size"
    ):
        triangulate(needle, 0.05)


def test_a_random_field_at_points_is_the_one_on_the_grid():
    law, grid = GaussianRandomField(tau=3.0, alpha=2.0), Grid((17, 17), lengths=2.0)
    points = np.stack(np.meshgrid(*grid.coordinates, indexing="ij"), axis=-1).reshape(-1, 2)
    rng = np.random.default_rng(np.random.SeedSequence(5, spawn_key=(3,)))
    on_grid = law.sample(5, [3], grid)[0].ravel()
    np.testing.assert_allclose(law.at(points, rng, highest=8, length=2.0), on_grid, atol=1e-12)


def test_the_deviation_is_that_of_many_draws():
    law, points = GaussianRandomField(tau=3.0, alpha=2.0), np.array([[0.2, 0.7]])
    draws = [law.at(points, np.random.default_rng(seed), highest=6)[0] for seed in range(1500)]
    # The deviation of 1500 draws scatters by 1.8 per cent.
    assert np.std(draws) == pytest.approx(law.deviation(6, 2), rel=0.05)
