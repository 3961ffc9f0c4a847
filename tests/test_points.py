"""Sets of points: quadrature weights, neighbours, interpolation, sums over edges, against exact results."""

import math

import numpy as np
import pytest
import torch

from opflow.kernels.edge_sum import edge_sum, edge_sum_reference
from opflow.nn.graph_kernel import GraphKernel
from opflow.nn.point_geometry import interpolation, neighbours
from opflow.nn.point_graph import PointGraph
from opflow.nn.position_code import position_code
from opflow.nn.quadrature import estimate_weights
from tests.cases.point_operators import scattered


@pytest.mark.parametrize("d", [1, 2, 3])
def test_estimated_weights_integrate_linear_functions_exactly(d):
    points = scattered(200, d)
    weights = estimate_weights(points, longest=3.0)
    assert weights.min() >= 0 and weights.sum() == pytest.approx(1, rel=1e-12)
    np.testing.assert_allclose(weights @ points, 0.5, rtol=1e-12)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_points_at_one_place_share_its_weight(d):
    points = scattered(60, d)
    points = np.concatenate([points, points[10:30], points[20:30]])
    once, weights = (estimate_weights(p, longest=3.0) for p in (points[:60], points))
    copies = np.ones(60)
    copies[10:20], copies[20:30] = 2, 3
    expected = once / copies
    np.testing.assert_array_equal(weights, np.concatenate([expected, expected[10:30], expected[20:30]]))


@pytest.mark.parametrize("d", [2, 3])
def test_weights_and_shares_on_a_lattice_do_not_depend_on_its_order(d):
    axis = np.linspace(0, 1, 5)
    points = np.stack(np.meshgrid(*[axis] * d), -1).reshape(-1, d)
    centres = points[(points < 1).all(1)] + 1 / 8
    order = np.random.default_rng(0).permutation(len(points))
    np.testing.assert_array_equal(
        estimate_weights(points[order], longest=3.0), estimate_weights(points, longest=3.0)[order]
    )
    nearest, share = interpolation(points, centres)
    mixed, same = interpolation(points[order], centres)
    np.testing.assert_array_equal(order[mixed], nearest)
    np.testing.assert_array_equal(same, share)


def test_estimated_weights_of_denser_points_are_smaller():
    points = scattered(4000, 2)
    points[:, 0] **= 2  # the density of x is 1 / (2 sqrt x)
    x, y = points.T
    weights = estimate_weights(points, longest=3.0)
    assert weights @ (np.cos(3 * x) * y) == pytest.approx(math.sin(3) / 6, rel=1e-2)
    assert np.mean(np.cos(3 * x) * y) != pytest.approx(math.sin(3) / 6, rel=0.5)


def test_simplices_that_span_a_hole_do_not_count():
    axis = np.linspace(0, 1, 21)
    points = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    points = points[np.abs(points - 0.5).max(1) > 0.24]  # a square hole of side 0.5
    # In the hole lies only a small triangle at each of its corners.
    assert estimate_weights(points, longest=0.08).sum() == pytest.approx(0.75 + 4 * 0.05**2 / 2, rel=1e-9)
    assert estimate_weights(points, longest=1.0).sum() == pytest.approx(1.0, rel=1e-9)


@pytest.mark.parametrize("points", [np.ones((1, 2)), np.linspace(0, 1, 9)[:, None] * [1.0, 2.0]])
def test_points_without_a_volume_need_weights(points):
    with pytest.raises(ValueError, match=r"no quadrature weights can be estimated for \d points in 2 dim"):
        estimate_weights(points, longest=9.0)


def test_neighbours_are_those_within_the_radius():
    points, nodes = scattered(300, 3), scattered(20, 3, seed=1)
    weights = np.random.default_rng(2).random(300)
    weights[5:50] = 0
    edges = neighbours(points, nodes, 0.3, weights)
    distance = np.linalg.norm(nodes[:, None] - points, axis=-1)
    within = (distance <= 0.3) & (weights > 0)
    pairs = np.stack([edges.target, edges.source], 1)
    assert (np.diff(edges.target) >= 0).all()
    np.testing.assert_array_equal(pairs[np.lexsort(pairs.T[::-1])], np.argwhere(within))
    total = within @ weights
    np.testing.assert_allclose(edges.weight * total[edges.target], weights[edges.source], rtol=1e-12)
    shares = np.bincount(edges.target, edges.weight, 20)
    np.testing.assert_allclose(shares[within.any(1)], 1, rtol=1e-12)


def test_interpolation_is_exact_at_points_and_for_linear_functions():
    points = scattered(100, 2)
    nearest, share = interpolation(points, points)
    assert (nearest[:, 0] == np.arange(100)).all() and (share[:, 0] == 1).all()
    queries = scattered(50, 2, seed=3)
    nearest, share = interpolation(points, queries)
    assert nearest.shape == (50, 6) and np.abs(share).sum(1).max() < 3
    exact, found = queries @ [2.0, -3.0] + 1, (share * (points @ [2.0, -3.0] + 1)[nearest]).sum(1)
    # A query far from the middle of its neighbours takes their mean.
    assert np.mean(np.isclose(found, exact, atol=1e-5)) > 0.95


def test_values_at_one_place_are_averaged():
    points, queries = scattered(50, 2), scattered(30, 2, seed=3)
    values = np.random.default_rng(0).random(62)
    mean = values[:50].copy()
    mean[5] = (values[5] + values[50] + values[51]) / 3
    mean[20:30] = (values[20:30] + values[52:]) / 2
    more = np.concatenate([points, points[[5, 5]], points[20:30]])
    for at in (queries, points):
        (nearest, share), (several, parts) = (interpolation(p, at) for p in (points, more))
        found, expected = (parts * values[several]).sum(1), (share * mean[nearest]).sum(1)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_interpolation_from_points_on_a_line_or_from_few():
    line = np.linspace(0, 1, 20)[:, None] * [1.0, 2.0]
    nearest, share = interpolation(line, scattered(50, 2))
    np.testing.assert_allclose(share.sum(1), 1, rtol=1e-6)
    assert np.abs(share).max() < 3
    nearest, share = interpolation(line[:1], scattered(5, 2))
    assert (nearest == 0).all()
    np.testing.assert_allclose(share, 1, rtol=1e-6)


def test_interpolation_converges_at_second_order():
    queries = scattered(200, 2, seed=3)
    errors = []
    for n in (400, 6400):
        points = scattered(n, 2)
        nearest, share = interpolation(points, queries)
        found = (share * np.sin(4 * points.sum(1))[nearest]).sum(1)
        errors.append(np.sqrt(np.mean((found - np.sin(4 * queries.sum(1))) ** 2)))
    assert errors[0] < 0.1 and errors[1] < errors[0] / 8  # four times as fine: 16


def edges(e=200, points=23, n=14, seed=0):
    draw = torch.Generator().manual_seed(seed)
    source = torch.randint(points, (e,), generator=draw)
    target = torch.randint(n, (e,), generator=draw).sort().values
    return source, target, torch.rand(e, generator=draw)


@pytest.mark.parametrize("batch, channels, rows", [(3, 130, 14), (1, 7, 7)])
def test_compiled_sums_over_edges_are_those_of_the_reference(batch, channels, rows):
    torch.manual_seed(0)
    source, target, weight = edges()
    a, b = torch.randn(batch, 23, channels), torch.randn(rows, channels)
    into = torch.randn(batch, 14, channels)
    results = []
    for function, dtype in ((edge_sum, torch.float32), (edge_sum_reference, torch.float64)):
        inputs = [t.to(dtype).requires_grad_() for t in (a, b)]
        out = function(*inputs, source, target, weight.to(dtype), 14)
        assert (type(out.grad_fn).__name__ == "_EdgeSumBackward") == (function is edge_sum)
        results.append([out, *torch.autograd.grad(out, inputs, into.to(dtype))])
    for ours, exact in zip(*results):
        assert (ours - exact).norm() <= 1e-6 * exact.norm()


@pytest.mark.parametrize("weights", [torch.bfloat16, torch.float32])
def test_sums_of_half_precision_are_rounded_once(weights):
    """Of 1,000 ones, a sum in bfloat16 would end at 256."""
    a, b = torch.full((1, 1, 1), 20.0, dtype=torch.bfloat16), torch.zeros(1, 1, dtype=torch.bfloat16)
    source = target = torch.zeros(1000, dtype=torch.int64)
    out = edge_sum(a, b, source, target, torch.full((1000,), 0.05).to(weights), 1)
    assert out.dtype == torch.bfloat16 and out.item() == pytest.approx(1000, rel=4e-3)


def test_sums_over_edges_are_twice_differentiable():
    source, target, weight = edges(12, 4, 6)
    a = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    b = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(
        lambda a, b: edge_sum(a, b, source, target, weight.double(), 6), (a, b)
    )
    single = [t.detach().float().requires_grad_() for t in (a, b)]
    out = edge_sum(*single, source, target, weight, 6)
    (first,) = torch.autograd.grad(out.square().sum(), single[:1], create_graph=True)
    assert torch.autograd.grad(first.square().sum(), single[1])[0].isfinite().all()


@pytest.mark.parametrize("quadrature", [True, False])
def test_the_graph_kernel_is_its_definition(quadrature):
    """Node by node, edge by edge, on concatenated features, in float64."""
    torch.manual_seed(0)
    width, radius = 8, 0.25
    points, nodes = scattered(60, 2), scattered(9, 2, seed=1)
    nodes[-1] = 3.0  # sees nothing
    weights = torch.rand(60, dtype=torch.float64)
    kernel = GraphKernel(3, width).double()
    values = torch.randn(2, 60, 3, dtype=torch.float64)
    coords, at = torch.tensor(points), torch.tensor(nodes)
    geometry = PointGraph(nodes, radius, quadrature)(coords, weights, None)
    tokens = kernel(values, geometry, position_code(coords, width), position_code(at, width))
    for node in range(9):
        near = (coords - at[node]).norm(dim=1) <= radius
        if not near.any():
            assert not tokens[:, node].any()
            continue
        n = int(near.sum())
        features = torch.cat(
            [
                position_code(coords[near], width).expand(2, n, width),
                position_code(at[node], width).expand(2, n, width),
                kernel.lift(values[:, near]),
            ],
            -1,
        )
        messages = kernel.second(torch.nn.functional.gelu(kernel.first(features)))
        share = weights[near] if quadrature else torch.ones(n, dtype=torch.float64)
        expected = (share[:, None] * messages).sum(1) / share.sum()
        torch.testing.assert_close(tokens[:, node], expected, rtol=1e-10, atol=1e-10)


def test_the_position_code_tells_coordinates_by_waves():
    x = torch.tensor([[0.3, -1.2]], dtype=torch.float64)
    code = position_code(x, 14)
    omega = 128 * 10_000.0 ** -(torch.arange(3, dtype=torch.float64) / 3)
    waves = [f(omega * c) for c in x[0] for f in (torch.sin, torch.cos)]
    torch.testing.assert_close(code[0], torch.cat([*waves, torch.zeros(2, dtype=torch.float64)]))
