"""Sets on several grids trained as one, and sets that stay on a device."""

import pickle

import numpy as np
import pytest
import torch
import xarray as xr

import opflow
import pde_data
from opflow import FNO, TrainConfig
from pde_data import FieldDataset, Grid, MixedDataset
from pde_data.equations import NavierStokes


def waves(resolution, n=6, times=5, shift=0):
    """Travelling waves on the unit circle, the same functions on every grid."""
    grid = Grid((resolution,))
    x = grid.coordinates[0]
    t = 0.1 * np.arange(times)[:, None]
    fields = np.stack([np.sin(2 * np.pi * ((i + shift) % 3 + 1) * (x - t) + i) for i in range(n)])
    return FieldDataset.from_arrays(trajectories=fields, grid=grid, time_step=0.1)


def test_a_batch_is_of_one_grid_and_the_sets_are_all_there():
    sets = [waves(16), waves(24, n=3), waves(16, n=2, shift=1)]
    mixed = MixedDataset(sets)
    assert len(mixed) == sum(map(len, sets)) == 44
    assert [len(group) for group in mixed.groups] == [32, 12]
    order = np.random.default_rng(0).permutation(mixed.groups[0])
    x, y = mixed.gather(order)
    for position, number in enumerate(order):
        owner, local = (sets[0], number) if number < 24 else (sets[2], number - 36)
        assert x[position].equal(owner[local][0]) and y[position].equal(owner[local][1])
    assert mixed[-1][0].equal(sets[2][7][0]) and mixed[30][1].equal(sets[1][6][1])
    shapes = [tuple(x.shape[2:]) for x, _ in mixed.loader(5, shuffle=True, seed=3)]
    assert sorted(shapes) == [(16,)] * 7 + [(24,)] * 3 and shapes != sorted(shapes)
    assert pickle.loads(pickle.dumps(mixed)).gather(order)[0].equal(x)


def test_a_set_of_several_files_on_two_grids(tmp_path):
    files = []
    for name, resolution in (("a.h5", 8), ("b.h5", 12), ("folder", 8)):
        equation = NavierStokes(resolution=resolution, t_end=0.5, records=2)
        files.append(pde_data.generate(equation, tmp_path / name, samples=3, seed=len(files), processes=1))
    mixed = MixedDataset([FieldDataset(file) for file in files])
    batches = [x for x, _ in mixed.loader(4)]
    assert [tuple(x.shape) for x in batches] == [(4, 1, 8, 8)] * 3 + [(4, 1, 12, 12), (2, 1, 12, 12)]
    assert batches[2][2].equal(FieldDataset(files[2])[4][0])


def test_what_cannot_be_mixed():
    with pytest.raises(ValueError, match="expected at least one FieldDataset"):
        MixedDataset([])
    with pytest.raises(ValueError, match=r"set 1 \(the data set\) has time step 0.2, set 0 .* has 0.1"):
        MixedDataset([waves(16), FieldDataset.from_arrays(trajectories=np.zeros((2, 3, 8)), time_step=0.2)])
    with pytest.raises(ValueError, match=r"has lengths \(2.0,\), set 0 .* has \(1.0,\): sets are mixed over"):
        grids = [Grid((8,)), Grid((8,), lengths=2.0)]
        MixedDataset(
            [FieldDataset.from_arrays(trajectories=np.zeros((2, 3, 8)), grid=grid) for grid in grids]
        )
    with pytest.raises(ValueError, match=r"has inputs \['field_0', 'field_1'\]"):
        MixedDataset([waves(8), FieldDataset.from_arrays(trajectories=np.zeros((2, 3, 2, 8)), dim=1)])
    mixed = MixedDataset([waves(16), waves(24)])
    with pytest.raises(ValueError, match=r"items of grids \(16,\), \(24,\) cannot share a batch"):
        mixed.gather([0, 30])
    with pytest.raises(IndexError, match="item 48 of a set with 48 items"):
        mixed[48]


class Stop(Exception):
    pass


def trained(folder, stop=None):
    torch.manual_seed(0)
    model = FNO(n_modes=(8,), in_channels=1, out_channels=1, hidden_channels=4, n_layers=1)
    calls = []

    def loss(prediction, target):
        calls.append(target.shape)
        if len(calls) == stop:
            raise Stop
        return (prediction - target).square().mean()

    config = TrainConfig(epochs=2, batch_size=5, save_seconds=0.0)
    train = MixedDataset([waves(16), waves(24, n=3), waves(16, n=2, shift=1)])
    result = opflow.fit(model, train, loss=loss, config=config, folder=folder, resume=True)
    return result.model.state_dict(), calls


def test_fit_takes_a_mixture_and_resumes_it_in_the_middle_of_an_epoch(tmp_path):
    whole, calls = trained(tmp_path / "whole")
    assert len(calls) == 20 and {shape[2:] for shape in calls} == {(16,), (24,)}
    with pytest.raises(Stop):
        trained(tmp_path / "parts", stop=14)
    parts, rest = trained(tmp_path / "parts")
    assert rest == calls[13:]
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.parametrize("names", [(["u"], ["u"]), (["v", "u"], ["u"])])
@pytest.mark.parametrize("options", [{}, {"window": 2, "stride": 2}, {"horizon": 2, "points": [3, 1, 17]}])
def test_a_set_in_the_memory_of_a_device_reads_the_same(names, options):
    values = np.random.default_rng(0).standard_normal((2, 5, 6, 4, 5))
    dims = ("sample", "time", "x", "y")
    fields = xr.Dataset({name: (dims, array) for name, array in zip("uv", values.copy())})
    pairs = FieldDataset(fields, *names, samples=[4, 1, 2], **options)
    resident = pairs.to("cpu")
    fields["u"][:] = 0.0
    order = np.random.default_rng(1).permutation(len(pairs))
    reference = FieldDataset(
        xr.Dataset({name: (dims, array) for name, array in zip("uv", values)}),
        *names,
        samples=[4, 1, 2],
        **options,
    )
    for ours, expected in zip(resident.gather(order), reference.gather(order), strict=True):
        assert ours.equal(expected) and ours.is_contiguous()
    assert resident.trajectory(1).equal(reference.trajectory(1))
    assert resident.device == pairs.device == torch.device("cpu")


def test_static_pairs_and_mixtures_in_the_memory_of_a_device():
    a, u = np.random.default_rng(0).standard_normal((2, 5, 3, 8, 6))
    pairs = FieldDataset.from_arrays(inputs=a, targets=u[:, :1])
    for ours, expected in zip(pairs.to("cpu").gather([4, 0]), pairs.gather([4, 0]), strict=True):
        assert ours.equal(expected)
    mixed = MixedDataset([waves(16), waves(24)])
    for batch, expected in zip(mixed.to("cpu").loader(7), mixed.loader(7), strict=True):
        assert all(map(torch.equal, batch, expected))


def test_another_device_gathers_there_and_takes_no_workers():
    pairs = waves(16).to("meta")  # stands for a GPU: shapes and devices without values
    x, y = pairs.gather([3, 1])
    assert x.device.type == y.device.type == "meta" and x.shape == (2, 1, 16)
    loader = pairs.loader(4, pin_memory=True)
    assert not loader.pin_memory and next(iter(loader))[0].device.type == "meta"
    with pytest.raises(ValueError, match="num_workers=2, but the set is on meta, where no worker reads it"):
        pairs.loader(4, num_workers=2)
    with pytest.raises(ValueError, match="has device meta, set 0 .* has cpu|has device cpu"):
        MixedDataset([waves(16), pairs])


def test_not_a_number_is_found_before_it_is_on_the_device():
    fields = np.zeros((3, 4, 8))
    fields[1, 2, 3] = np.nan
    with pytest.raises(pde_data.DatasetError, match="'field_0' of sample 1 holds 1 values that are NaN"):
        FieldDataset.from_arrays(trajectories=fields).to("cpu")
