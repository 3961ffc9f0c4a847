"""Statistics in one pass against two passes, and pictures."""

import numpy as np
import pytest

import pde_data
from pde_data import FieldDataset, Grid, moments
from pde_data.plotting import shell_power


def two_pass(values, weights):
    """Mean and deviation over items and points of (item, channel, *space), in extended precision."""
    values, weights = values.astype(np.longdouble), (weights / weights.sum()).astype(np.longdouble)
    axes = (0, *range(2, values.ndim))
    mean = (values * weights).sum(axes) / len(values)
    square = ((values - mean.reshape(-1, *[1] * weights.ndim)) ** 2 * weights).sum(axes) / len(values)
    return mean.astype(float), np.sqrt(square).astype(float)


@pytest.mark.parametrize("batch_values", [2**21, 700])
@pytest.mark.parametrize("periodic", [True, (False, True)])
def test_agrees_with_two_passes_where_the_mean_is_large(monkeypatch, batch_values, periodic):
    monkeypatch.setattr(moments, "_BATCH_VALUES", batch_values)
    grid = Grid((9, 6), lengths=(1.0, 3.0), periodic=periodic)
    fields = (1000 + 0.5 * np.random.default_rng(0).standard_normal((11, 7, 2, 9, 6))).astype(np.float32)
    pairs = FieldDataset.from_arrays(trajectories=fields, grid=grid, window=2, horizon=2, split="train")
    found = pde_data.statistics(pairs)
    x, y = (tensor.numpy().astype(np.float64) for tensor in pairs.gather(range(len(pairs))))
    increments = y - np.concatenate([x[:, 2:], x[:, 2:]], axis=1)
    for one, values in ((found.inputs, x), (found.targets, y), (found.increments, increments)):
        mean, std = two_pass(values, grid.quadrature())
        np.testing.assert_allclose(one.mean, mean, rtol=1e-13, atol=1e-14)
        np.testing.assert_allclose(one.std, std, rtol=1e-13)
        np.testing.assert_array_equal(one.min, values.min(axis=(0, 2, 3)))
        np.testing.assert_array_equal(one.max, values.max(axis=(0, 2, 3)))


def test_quadrature_weighs_the_ends_of_a_closed_axis_by_half():
    grid = Grid((5,), periodic=False)
    x = grid.coordinates[0]
    # A plain mean of x would be right too, but not of this spike.
    spike = np.where(x == 0, 8.0, 0.0)
    pairs = FieldDataset.from_arrays(inputs=np.stack([spike]), targets=np.stack([x]), grid=grid)
    found = pde_data.statistics(pairs)
    assert found.inputs.mean == pytest.approx([1.0]) and found.targets.mean == pytest.approx([0.5])


def test_increments_only_where_the_targets_are_inputs():
    fields = np.random.default_rng(0).standard_normal((3, 4, 2, 8, 8)).astype(np.float32)
    both = FieldDataset.from_arrays(trajectories=fields)
    assert len(pde_data.statistics(both).increments.mean) == 2
    static = FieldDataset.from_arrays(inputs=fields[:, 0], targets=fields[:, 1])
    assert pde_data.statistics(static).increments is None


def test_points_are_weighted_alike():
    fields = np.random.default_rng(0).standard_normal((5, 3, 8, 8)).astype(np.float32)
    pairs = FieldDataset.from_arrays(trajectories=fields, dim=2, points=[3, 9, 60])
    taken = fields[:, :-1].reshape(5, 2, 64)[..., [3, 9, 60]].astype(np.float64)
    np.testing.assert_allclose(pde_data.statistics(pairs).inputs.mean, [taken.mean()], rtol=1e-13)


def test_the_same_twice():
    fields = np.random.default_rng(0).standard_normal((5, 3, 8, 8)).astype(np.float32)
    first, second = (
        pde_data.statistics(FieldDataset.from_arrays(trajectories=fields, dim=2)).to_dict() for _ in range(2)
    )
    assert first == second


def test_shells_hold_all_the_power_that_is_resolved():
    x, y = np.meshgrid(np.arange(16) / 16, np.arange(20) / 20, indexing="ij")
    power = shell_power(np.sin(2 * np.pi * (3 * x + 4 * y)) + 2 * np.cos(2 * np.pi * y))
    np.testing.assert_allclose(power, [0, 2, 0, 0, 0, 0.5, 0, 0, 0], atol=1e-14)
