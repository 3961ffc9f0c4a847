"""FieldDataset: what items are, how they are divided, batched, resampled and refused."""

import pickle

import accelerate
import numpy as np
import pytest
import torch
import xarray as xr
from torch.utils.data import DataLoader

import pde_data
from pde_data import DatasetError, FieldDataset, Grid
from pde_data.sources import coordinate_variables
from pde_data.splits import SPLITS, split_mask
from pde_data.storage import Schema, Variable, write

N, T, H, W = 6, 7, 8, 5


def coded(variables=("u", "v"), n=N):
    """Fields whose value tells variable, sample, frame and point: 1000 v + 100 i + 10 t + small."""
    i, t, x, y = np.ix_(range(n), range(T), np.arange(H) / 10, np.arange(W) / 100)
    return {
        name: (1000 * v + 100 * i + 10 * t + x + y).astype(np.float32) for v, name in enumerate(variables)
    }


def schema_of(fields, grid, dt=0.5):
    n = len(next(iter(fields.values())))
    dims = ("sample", "time", "x", "y")
    return Schema(
        {
            "sample": Variable(("sample",), np.arange(n)),
            "time": Variable(("time",), dt * np.arange(T)),
            **coordinate_variables(grid),
            **{name: Variable(dims, None) for name in fields},
        }
    )


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    fields = coded()
    path = tmp_path_factory.mktemp("set") / "set.h5"
    write(path, schema_of(fields, Grid((H, W), lengths=(1.0, 2.0))), [(0, fields)])
    return path


def windows(fields, names_in, names_out, window, horizon, stride):
    """The definition, in loops: every item as (x, y), frames first, variables within a frame."""
    for i in range(N):
        for s in range(T - (window + horizon - 1) * stride):
            x = [fields[name][i, s + f * stride] for f in range(window) for name in names_in]
            y = [fields[name][i, s + (window + f) * stride] for f in range(horizon) for name in names_out]
            yield np.stack(x), np.stack(y)


@pytest.mark.parametrize(
    ("window", "horizon", "stride"), [(1, 1, 1), (3, 1, 1), (1, 4, 1), (2, 2, 2), (1, 1, 6)]
)
@pytest.mark.parametrize("names", [(["u"], ["u"]), (["u", "v"], ["v"]), (["v", "u"], ["u", "v"])])
def test_items_are_the_windows(file, window, horizon, stride, names):
    pairs = FieldDataset(file, *names, window=window, horizon=horizon, stride=stride)
    expected = list(windows(coded(), *names, window, horizon, stride))
    assert len(pairs) == len(expected)
    assert (pairs.in_channels, pairs.out_channels) == (window * len(names[0]), horizon * len(names[1]))
    assert pairs.time_step == pytest.approx(0.5 * stride)
    order = np.random.default_rng(0).permutation(len(pairs))
    xs, ys = pairs.gather(order)
    for position, number in enumerate(order):
        x, y = pairs[int(number)]
        np.testing.assert_array_equal(x.numpy(), expected[number][0])
        np.testing.assert_array_equal(y.numpy(), expected[number][1])
        assert torch.equal(xs[position], x) and torch.equal(ys[position], y)
    assert x.dtype == torch.float32 and x.is_contiguous()


def test_horizon_unflattens_into_frames(file):
    _, y = FieldDataset(file, ["u", "v"], horizon=3)[0]
    np.testing.assert_array_equal(y.unflatten(0, (3, -1))[2, 1].numpy(), coded()["v"][0, 3])


def test_grid_comes_back_exactly(tmp_path):
    for grid in (
        Grid((H, W), lengths=(1.0, 2.0)),
        Grid((H, W), lengths=(3.0, 0.1), periodic=(False, True), location="cell", origin=(-1.0, 2.0)),
    ):
        path = tmp_path / "grid.h5"
        write(path, schema_of(coded(), grid), [(0, coded())])
        assert FieldDataset(path, "u").grid == grid


def test_trajectories(file):
    pairs = FieldDataset(file, ["u", "v"], ["v"], split="train", window=2)
    for position, sample in enumerate(pairs.samples):
        np.testing.assert_array_equal(pairs.trajectory(position)[:, 0].numpy(), coded()["v"][sample])
    with pytest.raises(ValueError, match="no time axis"):
        FieldDataset.from_arrays(inputs=np.zeros((2, 4)), targets=np.zeros((2, 4))).trajectory(0)


def test_reads_the_same_from_file_xarray_arrays_and_shards(file, tmp_path):
    reference = FieldDataset(file, "u").gather([0, 11, 35])
    fields = coded()["u"]
    others = {
        "open": FieldDataset(pde_data.open(file), "u"),
        "xarray": FieldDataset.from_xarray(xr.open_dataset(file, engine="h5netcdf").transpose("x", ...), "u"),
        "arrays": FieldDataset.from_arrays(trajectories=fields, dim=2),
        "channels": FieldDataset.from_arrays(trajectories=torch.from_numpy(fields)[:, :, None]),
        "double": FieldDataset.from_arrays(trajectories=fields.astype(np.float64), dim=2),
    }
    for name, other in others.items():
        x, y = other.gather([0, 11, 35])
        assert torch.equal(x, reference[0]) and torch.equal(y, reference[1]), name


def test_static_pairs():
    a, u = np.random.default_rng(0).standard_normal((2, 5, 3, 8, 6))
    pairs = FieldDataset.from_arrays(inputs=a, targets=u[:, :1])
    x, y = pairs.gather([4, 0])
    np.testing.assert_array_equal(x.numpy(), a[[4, 0]].astype(np.float32))
    np.testing.assert_array_equal(y.numpy(), u[[4, 0], :1].astype(np.float32))
    assert pairs.input_names == ["input_0", "input_1", "input_2"] and pairs.target_names == ["target_0"]
    assert pairs.time_step is None
    line = FieldDataset.from_arrays(inputs=a[:, :, 0], targets=u[:, :, 0], dim=1)
    assert line[0][0].shape == (3, 6)


def test_static_pairs_from_a_compressed_file(tmp_path):
    a, u = np.random.default_rng(0).standard_normal((2, 5, 8, 6)).astype(np.float32)
    fields = xr.Dataset({"a": (("sample", "x", "y"), a), "u": (("sample", "x", "y"), u)})
    packed = {"zlib": True, "chunksizes": (1, 4, 6)}
    fields.to_netcdf(tmp_path / "s.nc", engine="h5netcdf", encoding={"a": packed, "u": packed})
    x, y = FieldDataset(tmp_path / "s.nc", "a", "u").gather([4, 0])
    np.testing.assert_array_equal(x[:, 0].numpy(), a[[4, 0]])
    np.testing.assert_array_equal(y[:, 0].numpy(), u[[4, 0]])


# Splits


def test_splits_divide_samples_and_stay_when_the_set_grows():
    for seed in range(5):
        masks = [split_mask(range(1000), split, (0.8, 0.1, 0.1), seed) for split in SPLITS]
        assert np.array_equal(np.sum(masks, axis=0), np.ones(1000))
        assert [mask.sum() for mask in masks] == [800, 100, 100]
        for n in (10, 37, 500):
            for split, mask in zip(SPLITS, masks):
                assert np.array_equal(split_mask(range(n), split, (0.8, 0.1, 0.1), seed), mask[:n])
    uneven = [split_mask(range(2000), split, (0.655, 0.345, 0.0), 0).sum() for split in SPLITS]
    assert uneven == [1310, 690, 0]


def test_splits_look_random():
    # No stretch of sample numbers, and no residue, is preferred: chi-square over 50 seeds.
    chosen = np.array([split_mask(range(100), "valid", (0.8, 0.1, 0.1), seed) for seed in range(400)])
    expected = 400 * 0.1
    chi2 = ((chosen.sum(axis=0) - expected) ** 2 / (expected * 0.9)).sum()
    assert 60 < chi2 < 145
    together = (chosen[:, 0] & chosen[:, 10]).mean()
    assert together < 0.03


def test_splits_follow_the_sample_number_not_the_place(file):
    whole = FieldDataset(file, "u", split="train")
    part = pde_data.open(file).isel(sample=[5, 3, 1])
    same = FieldDataset(part, "u", split="train")
    assert set(np.array([5, 3, 1])[same.samples]) == set(whole.samples) & {1, 3, 5}


def test_samples(file):
    assert FieldDataset(file, "u", samples=2).samples.tolist() == [0, 1]
    assert FieldDataset(file, "u", samples=[4, 2]).trajectory(0)[0, 0, 0, 0] == 400
    with pytest.raises(DatasetError, match="samples=7 asked of .*, which has 6"):
        FieldDataset(file, "u", samples=7)
    with pytest.raises(DatasetError, match="not all among the 6 samples"):
        FieldDataset(file, "u", samples=[0, 9])
    with pytest.raises(DatasetError, match="'valid' split of 6 samples .* is empty; use more samples"):
        FieldDataset(file, "u", split="valid", fractions=(1.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="split='validation' is unknown; expected one of 'train'"):
        FieldDataset(file, "u", split="validation")
    with pytest.raises(ValueError, match="sum to 1"):
        FieldDataset(file, "u", split="train", fractions=(0.8, 0.1, 0.2))


# Other grids and points


def test_resolution_is_resampling_of_each_frame(tmp_path):
    def wave(grid):
        x, y = np.meshgrid(*grid.coordinates, indexing="ij")
        t = np.arange(T)[:, None, None]
        return np.stack([np.sin(2 * np.pi * (x + i * y) + t) for i in range(3)]).astype(np.float32)

    fine, coarse = Grid((16, 18)), Grid((8, 9))
    write(tmp_path / "wave.h5", schema_of({"u": wave(fine)}, fine), [(0, {"u": wave(fine)})])
    pairs = FieldDataset(tmp_path / "wave.h5", resolution=(8, 9), window=2)
    assert pairs.grid == coarse
    x, y = pairs.gather(range(len(pairs)))
    np.testing.assert_allclose(x.unflatten(0, (3, -1))[:, 0, 0].numpy(), wave(coarse)[:, 0], atol=2e-6)
    np.testing.assert_allclose(y.unflatten(0, (3, -1))[2, :, 0].numpy(), wave(coarse)[2, 2:], atol=2e-6)
    again = pickle.loads(pickle.dumps(pairs))
    assert torch.equal(again[4][0], pairs[4][0])
    with pytest.raises(ValueError, match=r"resolution=\(8,\) has 1 entries, the fields have 2 axes"):
        FieldDataset(tmp_path / "wave.h5", resolution=(8,))
    with pytest.raises(ValueError, match="give grid="):
        FieldDataset.from_arrays(trajectories=wave(fine), resolution=8)


def test_points(file):
    everything = FieldDataset(file, ["u", "v"], window=2)
    chosen = [0, 7, 39]
    pairs = FieldDataset(file, ["u", "v"], window=2, points=chosen)
    x, y = pairs.gather([3, 1])
    full = everything.gather([3, 1])
    assert x.shape == (2, 3, 4)
    for tensor, reference in zip((x, y), full):
        assert torch.equal(tensor, reference.flatten(2)[:, :, chosen].transpose(1, 2))
    np.testing.assert_allclose(pairs.coords.numpy(), [[0, 0], [1 / 8, 0.8], [7 / 8, 1.6]], rtol=1e-6)
    assert torch.equal(pairs.trajectory(2), everything.trajectory(2).flatten(2)[:, :, chosen].transpose(1, 2))
    drawn = FieldDataset(file, "u", points=10, seed=1)
    assert drawn[0][0].shape == (10, 1) and len(np.unique(drawn.coords, axis=0)) == 10
    assert torch.equal(drawn.coords, FieldDataset(file, "u", points=10, seed=1).coords)
    with pytest.raises(ValueError, match="points=41, but the grid"):
        FieldDataset(file, "u", points=41)


# Loaders


def batches(loader):
    return [(x.clone(), y.clone()) for x, y in loader]


def test_loader_is_the_default_loader_and_the_items(file):
    pairs = FieldDataset(file, "u")
    ours, default = batches(pairs.loader(8)), batches(DataLoader(pairs, 8))
    assert [len(x) for x, _ in ours] == [8, 8, 8, 8, 4]
    for (x, y), (p, q) in zip(ours, default, strict=True):
        assert torch.equal(x, p) and torch.equal(y, q)
    assert torch.equal(torch.cat([x for x, _ in ours]), torch.stack([pairs[i][0] for i in range(len(pairs))]))
    assert len(pairs.loader(8, drop_last=True)) == 4


@pytest.mark.parametrize(
    ("context", "workers", "ours"), [("fork", 2, True), ("fork", 2, False), ("spawn", 1, True)]
)
def test_workers_read_what_this_process_reads(file, tmp_path, context, workers, ours):
    path = tmp_path / "half-chunked.h5"
    encoding = {"u": {"chunksizes": (1, 1, H, W), "zlib": True}}
    pde_data.open(file).to_netcdf(path, engine="h5netcdf", encoding=encoding)
    pairs = FieldDataset(path, "u", "v")
    expected = batches(pairs.loader(9))  # handles are open in this process before the others start
    collate = {"collate_fn": pairs.loader(9).collate_fn} if ours else {}
    loader = DataLoader(pairs, 9, num_workers=workers, multiprocessing_context=context, **collate)
    for (x, y), (p, q) in zip(loader, expected, strict=True):
        assert torch.equal(x, p) and torch.equal(y, q)


def test_order_depends_on_seed_and_epoch_alone(file):
    pairs = FieldDataset(file, "u")

    def order(seed, epoch, passes=1):
        loader = pairs.loader(5, shuffle=True, seed=seed)
        for number in range(passes):
            loader.set_epoch(epoch + number + 1 - passes)
            torch.rand(3)  # whatever else draws random numbers
            items = torch.cat([x[:, 0, 0, 0] for x, _ in loader])
        return items.tolist()

    everything = sorted(order(0, 0))
    assert order(0, 3) == order(0, 3, passes=3)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9
    assert sorted(order(2, 5)) == everything and len(set(everything)) == len(pairs)
    with pytest.raises(ValueError, match="either shuffle=True or a sampler"):
        pairs.loader(5, shuffle=True, sampler=pairs.loader(5).sampler)


def test_accelerate_takes_the_loader_and_sets_its_epoch(file):
    pairs = FieldDataset(file, "u")
    prepared = accelerate.Accelerator(cpu=True).prepare(pairs.loader(6, shuffle=True, seed=1))
    reference = pairs.loader(6, shuffle=True, seed=1)
    for epoch in (0, 4):
        prepared.set_epoch(epoch)
        reference.set_epoch(epoch)
        for (x, y), (p, q) in zip(prepared, reference, strict=True):
            assert torch.equal(x, p) and torch.equal(y, q)


def test_accelerate_divides_batches_among_processes(file):
    pairs = FieldDataset(file, "u")
    loader = pairs.loader(4, shuffle=True, seed=1)
    parts = [
        batches(
            accelerate.data_loader.prepare_data_loader(
                loader, num_processes=2, process_index=rank, put_on_device=False
            )
        )
        for rank in range(2)
    ]
    seen = torch.cat([x[:, 0, 0, 0] for part in parts for x, _ in part])
    expected = torch.cat([x[:, 0, 0, 0] for x, _ in loader])
    assert set(seen.tolist()) == set(expected.tolist())


def test_batches_do_not_share_memory(file):
    pairs = FieldDataset(file, "u")
    x, _ = pairs.gather([0, 1])
    before = x.clone()
    x += 1
    assert torch.equal(pairs.gather([0, 1])[0], before)


def test_pickles_hold_no_data(file):
    pairs = FieldDataset(file, "u")
    pairs.gather(range(len(pairs)))
    frozen = pickle.dumps(pairs)
    assert len(frozen) < 4000
    assert torch.equal(pickle.loads(frozen)[3][0], pairs[3][0])


def test_a_file_put_in_the_place_of_another_is_read_anew(file, tmp_path):
    path = tmp_path / "chunked.h5"
    for factor in (1.0, 2.0):
        dataset = pde_data.open(file)
        dataset["u"] = factor * dataset.u
        dataset.to_netcdf(
            tmp_path / "new.h5", engine="h5netcdf", encoding={"u": {"chunksizes": (1, 1, H, W)}}
        )
        (tmp_path / "new.h5").replace(path)
        np.testing.assert_array_equal(FieldDataset(path, "u")[3][0][0].numpy(), factor * coded()["u"][0, 3])


# What is refused


def test_not_a_number_is_found_when_its_sample_is_read(file):
    fields = coded()["u"]
    fields[2, 4, 1, 1] = np.nan
    fields[2, 5] = np.inf
    pairs = FieldDataset.from_arrays(trajectories=fields, dim=2)
    pairs.gather([0, 11])
    with pytest.raises(
        DatasetError,
        match=r"'field_0' of sample 2 holds 41 values that are NaN or infinite \(first in frame 4\)",
    ):
        pairs.gather([0, 12])
    with pytest.raises(DatasetError, match="sample 2"):
        pde_data.statistics(pairs)
    assert (
        len(FieldDataset.from_arrays(trajectories=fields, dim=2, samples=[0, 1, 3]).gather(range(18))[0])
        == 18
    )


def test_names(file):
    with pytest.raises(DatasetError, match="has no field 'vorticty'; it has u, v"):
        FieldDataset(file, "vorticty")
    with pytest.raises(DatasetError, match="several fields, choose inputs .* among u, v"):
        FieldDataset(file)
    with pytest.raises(DatasetError, match="did you mean 'pressure'"):
        FieldDataset(xr.Dataset({"pressure": (("sample", "x"), np.zeros((2, 3)))}), "presure", "pressure")
    with pytest.raises(DatasetError, match="no time axis, so name targets"):
        FieldDataset(xr.Dataset({"p": (("sample", "x"), np.zeros((2, 3)))}), "p")
    with pytest.raises(ValueError, match="at least one variable"):
        FieldDataset(file, [])


def test_mixed_grids():
    fields = xr.Dataset({"a": (("sample", "x"), np.zeros((2, 3))), "b": (("sample", "z"), np.zeros((2, 4)))})
    with pytest.raises(
        DatasetError, match=r"'b' has shape {'sample': 2, 'z': 4} but 'a' {'sample': 2, 'x': 3}.*one grid"
    ):
        FieldDataset(fields, "a", "b")
    with pytest.raises(DatasetError, match="one grid"):
        FieldDataset.from_arrays(inputs=np.zeros((2, 8, 8)), targets=np.zeros((2, 4, 4)))


def test_windows_that_do_not_fit(file):
    with pytest.raises(ValueError, match="window=4, horizon=4, stride=1 need 8 frames; .* has 7"):
        FieldDataset(file, "u", window=4, horizon=4)
    with pytest.raises(ValueError, match="window=0, expected at least 1"):
        FieldDataset(file, "u", window=0)
    with pytest.raises(ValueError, match="no time axis: window, horizon and stride must be 1"):
        FieldDataset.from_arrays(inputs=np.zeros((2, 8)), targets=np.zeros((2, 8)), window=2)


def test_wrong_arrays(file):
    with pytest.raises(TypeError, match="inputs have type complex128, expected real"):
        FieldDataset.from_arrays(inputs=np.zeros((2, 8), complex), targets=np.zeros((2, 8)))
    with pytest.raises(ValueError, match=r"input has shape \(2,\), expected \(n, \[channel,\] \*space\)"):
        FieldDataset.from_arrays(inputs=np.zeros(2), targets=np.zeros(2))
    with pytest.raises(ValueError, match=r"grid has sizes \(8, 4\), but the arrays have \(8, 5\) points"):
        FieldDataset.from_arrays(trajectories=np.zeros((2, 3, 8, 5)), grid=Grid((8, 4)))
    with pytest.raises(ValueError, match="inputs and targets, or trajectories alone"):
        FieldDataset.from_arrays(inputs=np.zeros((2, 8)))
    with pytest.raises(
        TypeError, match="expected a path or an xarray.Dataset, got ndarray; arrays go to from_arrays"
    ):
        FieldDataset(np.zeros((2, 8)))
    with pytest.raises(DatasetError, match=r"has dimensions \('n', 'x'\), expected 'sample' .*rename"):
        FieldDataset(xr.Dataset({"a": (("n", "x"), np.zeros((2, 3)))}), "a")
    with pytest.raises(IndexError, match="item 36 of a set with 36 items"):
        FieldDataset(file, "u")[36]
    with pytest.raises(DatasetError, match="not increasing and uniform"):
        FieldDataset(xr.Dataset({"a": (("sample", "x"), np.zeros((2, 3)))}, {"x": [0.0, 1.0, 5.0]}), "a", "a")


def test_negative_numbers_count_from_the_end(file):
    pairs = FieldDataset(file, "u")
    assert torch.equal(pairs[-1][0], pairs[len(pairs) - 1][0])
    assert len(list(pairs)) == len(pairs)
