"""Mesh samples in files: UGRID, ragged arrays, shards and joining, and sets for training."""

import json
import pickle
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import xarray as xr
from PIL import Image

import pde_data
from pde_data import DatasetError, MeshDataset, generation
from pde_data.cli import main
from pde_data.equations import PolygonDarcy
from pde_data.storage import sha256
from pde_data.ugrid import Meshes
from tests.cases import by_sample

pytest.importorskip("skfem")

SMALL = {"samples": 5, "size": 0.05, "shard_size": 2, "processes": 1}
EQUATION = PolygonDarcy(size=0.05)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return pde_data.generate("polygon_darcy", tmp_path_factory.mktemp("set") / "set", **SMALL)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return pde_data.generate("polygon_darcy", tmp_path_factory.mktemp("file") / "darcy.h5", **SMALL)


@pytest.fixture(scope="module")
def made():
    return EQUATION.generate(0, range(5))


def changed(file, path, change):
    """Copy a file and let `change` write into the copy."""
    path.write_bytes(file.read_bytes())
    with h5py.File(path, "r+") as opened:
        change(opened)
    return path


def test_xarray_alone_finds_topology_and_samples(file, made):
    with xr.open_dataset(file, engine="h5netcdf") as dataset:
        topology = dataset.mesh.attrs
        assert topology["cf_role"] == "mesh_topology" and topology["topology_dimension"] == 2
        assert topology["node_coordinates"] == "x y" and topology["face_node_connectivity"] == "face_nodes"
        faces = dataset.face_nodes
        assert faces.attrs["cf_role"] == "face_node_connectivity" and faces.attrs["start_index"] == 0
        assert dataset.pressure.attrs["mesh"] == "mesh" and dataset.pressure.attrs["location"] == "node"
        assert dataset.node_count.attrs["sample_dimension"] == "node"
        assert set(dataset.pressure.coords) == {"x", "y"}
        assert dataset.boundary.attrs["flag_meanings"] == "interior outer hole"
        assert dataset.boundary.attrs["flag_values"].dtype == dataset.boundary.dtype == np.int8
        np.testing.assert_array_equal(dataset.pressure, made["pressure"])
        counts = [len(mesh.points) for mesh in made["meshes"]]
        np.testing.assert_array_equal(dataset.node_count, counts)
        assert len(set(counts)) > 1
        np.testing.assert_array_equal(dataset.boundary, np.concatenate([m.tags for m in made["meshes"]]))
        start = 0
        for mesh, faces in zip(
            made["meshes"], np.split(dataset.face_nodes.values, np.cumsum(dataset.face_count.values)[:-1])
        ):
            np.testing.assert_array_equal(faces, mesh.triangles + start)
            start += len(mesh.points)
        areas = [mesh.areas.sum() for mesh in made["meshes"]]
        assert dataset.quadrature_weight.sum() == pytest.approx(sum(areas), rel=1e-12)
        assert dataset.attrs["version_scikit_fem"] and dataset.attrs["targets"] == "pressure"


def test_shards_read_as_the_joined_file(file, folder):
    one, many = pde_data.open(file), pde_data.open(folder)
    xr.testing.assert_identical(one.load(), many.load())
    assert set(one.coords) == {"sample", "x", "y"}
    lazy = pde_data.open(folder)
    last = slice(int(lazy.node_count[:4].sum()), None)
    np.testing.assert_array_equal(lazy.pressure[last], one.pressure[last])
    np.testing.assert_array_equal(lazy.face_nodes[[500, 3, 1400], ::-1], one.face_nodes[[500, 3, 1400], ::-1])
    np.testing.assert_array_equal(lazy.face_nodes[1::300], one.face_nodes[1::300])
    assert lazy.pressure[10:10].size == 0


def test_the_same_bytes_on_two_processes_and_after_a_restart(file, tmp_path, monkeypatch):
    other = pde_data.generate("polygon_darcy", tmp_path / "two.h5", **{**SMALL, "processes": 2})
    assert sha256(other) == sha256(file)
    original = generation.make_shard

    def stops(path, request, shard):
        if shard == 1:
            raise KeyboardInterrupt
        return original(path, request, shard)

    monkeypatch.setattr(generation, "make_shard", stops)
    with pytest.raises(KeyboardInterrupt):
        pde_data.generate("polygon_darcy", tmp_path / "again.h5", **SMALL)
    monkeypatch.undo()
    assert sha256(pde_data.generate("polygon_darcy", tmp_path / "again.h5", **SMALL)) == sha256(file)


def test_the_first_samples_of_a_larger_set_are_those_of_a_smaller_one(file, tmp_path):
    small = pde_data.generate("polygon_darcy", tmp_path / "small.h5", **{**SMALL, "samples": 2})
    for index in range(2):
        for a, b in zip(MeshDataset(small)[index], MeshDataset(file)[index]):
            assert torch.equal(a, b)


def test_solutions_that_are_not_finite_name_their_sample(tmp_path, monkeypatch):
    original = PolygonDarcy.generate

    def broken(self, seed, indices, progress=None):
        result = original(self, seed, indices, progress)
        result["pressure"][len(result["meshes"][0].points)] = np.nan
        return result

    monkeypatch.setattr(PolygonDarcy, "generate", broken)
    with pytest.raises(
        DatasetError, match="pressure of sample 1 became NaN or infinite; choose other parameters"
    ):
        pde_data.generate("polygon_darcy", tmp_path / "a.h5", **{**SMALL, "samples": 2})


@pytest.mark.parametrize("source", ["file", "folder", "xarray"])
def test_items_are_the_samples(source, file, folder, made):
    data = MeshDataset({"file": file, "folder": folder, "xarray": pde_data.open(file)}[source])
    assert (len(data), data.in_channels, data.out_channels) == (5, 2, 1)
    assert data.input_names == ["permeability", "source"] and data.target_names == ["pressure"]
    start = 0
    for index, mesh in enumerate(made["meshes"]):
        nodes = slice(start, start + len(mesh.points))
        coords, x, y, weights = data[index]
        np.testing.assert_array_equal(coords, mesh.points.astype(np.float32))
        np.testing.assert_array_equal(x, np.stack([made["permeability"], made["source"]], 1)[nodes])
        np.testing.assert_array_equal(y[:, 0], made["pressure"][nodes])
        np.testing.assert_array_equal(weights, mesh.weights.astype(np.float32))
        assert {part.dtype for part in data[index]} == {torch.float32} and data[index].mask.all()
        for a, b in zip(vars(data.mesh(index)).values(), vars(mesh).values()):
            np.testing.assert_array_equal(a, b)
        start = nodes.stop
    assert torch.equal(data[-1].y, data[4].y)
    with pytest.raises(IndexError):
        data[5]


def test_batches_fill_up_with_points_of_no_weight(file):
    data = MeshDataset(file)
    (batch,) = data.loader(batch_size=5)
    longest = int(data.node_counts.max())
    assert batch.coords.shape == (5, longest, 2) and batch.x.shape == (5, longest, 2)
    assert batch.mask.sum(1).tolist() == data.node_counts.tolist()
    for number, item in enumerate(data[i] for i in range(5)):
        count = len(item.coords)
        for part, whole in zip(item, batch):
            assert torch.equal(whole[number, :count], part)
        assert (batch.coords[number, count:] == item.coords[0]).all()
        assert not batch.weights[number, count:].any() and not batch.y[number, count:].any()
        integral = (batch.weights[number, :, None] * batch.y[number]).sum()
        assert integral == pytest.approx(float((item.weights[:, None] * item.y).sum()), rel=1e-5)


def test_the_order_of_batches_is_that_of_seed_and_epoch(file):
    data = MeshDataset(file)

    def order(epoch):
        loader = data.loader(batch_size=2, shuffle=True, seed=3)
        loader.set_epoch(epoch)
        return [n for batch in loader for n in batch.mask.sum(1).tolist()]

    assert order(0) == order(0) and order(0) != order(1)
    assert sorted(order(0)) == sorted(data.node_counts.tolist())
    shares = [data.loader(batch_size=4, rank=rank, processes=2) for rank in range(2)]
    assert [len(batch.coords) for share in shares for batch in share] == [2, 1, 2, 1]


def test_a_set_on_disk_goes_to_other_processes_as_its_path(folder):
    data = MeshDataset(folder)
    text = pickle.dumps(data)
    assert len(text) < 20_000 and torch.equal(pickle.loads(text)[3].y, data[3].y)


def test_statistics_weigh_each_domain_alike(file, made, tmp_path, capsys):
    found = pde_data.statistics(MeshDataset(file))
    parts = [
        (mesh.weights / mesh.weights.sum(), values.astype(np.float64))
        for mesh, values in zip(made["meshes"], by_sample(made, "pressure"))
    ]
    mean = np.mean([weights @ values for weights, values in parts])
    square = np.mean([weights @ (values - mean) ** 2 for weights, values in parts])
    np.testing.assert_allclose([found.targets.mean[0], found.targets.std[0]], [mean, square**0.5], rtol=1e-6)
    assert found.targets.max == made["pressure"].max() and found.increments is None
    assert main(["stats", str(file)]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["inputs"]["mean"] == found.inputs.mean.tolist() and shown["target_names"] == ["pressure"]


def test_splits_divide_the_samples(file):
    parts = [
        MeshDataset(file, split=s, fractions=(0.4, 0.2, 0.4)).samples for s in ("train", "valid", "test")
    ]
    assert sorted(np.concatenate(parts).tolist()) == list(range(5)) and all(len(part) for part in parts)
    assert MeshDataset(file, samples=[3]).node_counts.tolist() == [MeshDataset(file).node_counts[3]]


def test_convert_joins_a_folder_and_info_and_plot_read_it(folder, file, tmp_path, capsys):
    target = tmp_path / "joined.h5"
    assert main(["convert", str(folder), str(target)]) == 0
    xr.testing.assert_identical(pde_data.open(target).load(), pde_data.open(file).load())
    capsys.readouterr()
    assert main(["info", str(target)]) == 0
    shown = capsys.readouterr().out
    assert "sample 5" in shown and "number of nodes" in shown and "part of the boundary" in shown
    assert main(["plot", str(target), str(tmp_path / "a.png"), "--sample", "4"]) == 0
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size[0] > picture.size[1]


def test_a_picture_has_the_triangles_and_the_values_of_the_sample(file, made):
    figure = pde_data.plot(file, "pressure", sample=2)
    (colours,) = figure.axes[0].collections
    mesh, start = made["meshes"][2], sum(len(m.points) for m in made["meshes"][:2])
    np.testing.assert_array_equal(colours._triangulation.triangles, mesh.triangles)
    np.testing.assert_array_equal(colours._triangulation.x, mesh.points[:, 0])
    np.testing.assert_array_equal(colours.get_array(), made["pressure"][start : start + len(mesh.points)])
    with pytest.raises(DatasetError, match="sample=5 is not there: .* has 5 samples"):
        pde_data.plot(file, sample=5)


def test_notebooks_show_a_table_and_a_picture(file):
    html = MeshDataset(file, samples=[1, 2])._repr_html_()
    low, high = sorted(MeshDataset(file).node_counts[1:3])
    for text in ("2 of 5", f"{low} to {high} nodes", "permeability, source", "data:image/png;base64,"):
        assert text in html


def test_the_stored_problem_can_be_checked(file):
    dataset, meshes = pde_data.open(file), Meshes(pde_data.sources.describe(file)[0], "the file")
    for sample in range(5):
        fields = {name: meshes.values(name, sample) for name in EQUATION.variables}
        assert EQUATION.residual(meshes[sample], fields, {}) < 1e-4
    assert (dataset.min_angle > 20).all()


def swap(opened):
    opened["face_nodes"][0] = opened["face_nodes"][-1]


def outside(opened):
    opened["face_nodes"][0, 0] = -3


def counts(opened):
    opened["node_count"][0] += 1


def negative(opened):
    opened["node_count"][:2] = [-1, opened["node_count"][0] + opened["node_count"][1] + 1]


def nameless(opened):
    del opened["face_count"]


def empty(opened):
    opened["quadrature_weight"][3] = 0.0


def nan(opened):
    opened["pressure"][5] = np.nan


def far(opened):
    opened["x"][5] = np.inf


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (swap, "'face_nodes' of sample 0 names nodes of other samples"),
        (outside, "'face_nodes' of sample 0 names nodes of other samples"),
        (counts, "node_count should hold positive whole numbers that sum to the .* entries along 'node'"),
        (negative, "node_count should hold positive whole numbers"),
        (nameless, "has no face_count over 'sample', so no meshes"),
        (empty, "sample 0 has positions that are not finite, or weights that are not positive"),
        (far, "sample 0 has positions that are not finite"),
        (
            nan,
            r"'pressure' of sample 0 holds 1 values that are NaN .*leave the sample out with samples=",
        ),
    ],
)
def test_damaged_files_are_refused(change, words, file, tmp_path):
    path = changed(file, tmp_path / "bad.h5", change)
    with pytest.raises(DatasetError, match=words):
        data = MeshDataset(path)
        data.mesh(0)
        data[0]


def test_what_is_asked_of_the_wrong_kind_of_file(file, tmp_path):
    with pytest.raises(DatasetError, match="has a mesh for each sample; read it with pde_data.MeshDataset"):
        pde_data.FieldDataset(file)
    with pytest.raises(
        DatasetError, match="no field 'presure'; it has permeability, pressure, source; did you mean"
    ):
        MeshDataset(file, targets="presure")
    flat = xr.Dataset({"u": (("sample", "x"), np.zeros((2, 8)))})
    with pytest.raises(DatasetError, match="has no meshes; read it with pde_data.FieldDataset"):
        MeshDataset(flat)
    with pytest.raises(DatasetError, match="no field over time here, so nothing to animate"):
        pde_data.animate(file, tmp_path / "a.gif")
    bad = changed(file, tmp_path / "nan.h5", nan)
    with pytest.raises(DatasetError, match="'pressure' holds NaN or infinity; repair the data first"):
        pde_data.formats.convert(bad, tmp_path / "b.h5")
    assert not (tmp_path / "b.h5").exists()


def test_the_how_to_works(tmp_path, monkeypatch):
    text = (Path(__file__).parents[1] / "docs" / "how_to" / "meshes.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 3 and "samples=200, size=0.03" in blocks[0]
    monkeypatch.chdir(tmp_path)
    small = {
        "samples=200, size=0.03": "samples=10, size=0.05, processes=1",
        "hidden_channels=64": "hidden_channels=8",
        "epochs=60": "epochs=1",
    }
    names = {}
    for block in blocks:
        for size, smaller in small.items():
            block = block.replace(size, smaller)
        exec(block, names)
    assert names["pressure"].shape == names["y"].shape and names["somewhere"].shape == (100, 1)
    assert names["second"].size == names["data"].node_count[1]


def scaled(opened):
    opened["pressure"][:] *= 1.0003


def swapped_corners(opened):
    opened["face_nodes"][0] = opened["face_nodes"][0][::-1]


def heavier(opened):
    opened["quadrature_weight"][7] *= 1.01


def untagged(opened):
    opened["boundary"][int(np.flatnonzero(opened["boundary"][:])[0])] = 0


def other_contrast(opened):
    opened["permeability"][:] **= 1.0003


@pytest.mark.parametrize(
    ("change", "check", "words"),
    [
        (scaled, "equation", "does not solve the equation with these parameters"),
        (other_contrast, "equation", "does not solve the equation with these parameters"),
        (swapped_corners, "mesh", "triangles are flat or turn clockwise"),
        (heavier, "mesh", "is not a third of the area"),
        (untagged, "mesh", "boundary of 1 samples does not mark the nodes of the outline"),
        (nan, "finite", "sample 0; leave the sample out"),
        (outside, "mesh", "names nodes of other samples"),
    ],
)
def test_faults_are_found(change, check, words, file, tmp_path):
    report = pde_data.validate(changed(file, tmp_path / "bad.h5", change))
    assert any(row.check == check and words in row.remark for row in report.failures), report


def test_validation_of_clean_files_and_of_the_same_sample_twice(file, folder, made, tmp_path, monkeypatch):
    assert pde_data.validate(folder).passed
    report = pde_data.validate(file)
    assert report.passed and {row.check for row in report.rows} >= {"mesh", "equation", "duplicates"}
    (solved,) = [row for row in report.rows if row.check == "equation"]
    assert solved.number < 1e-4 and "discrete equations, 5 of 5 samples" in solved.remark
    original = PolygonDarcy.sample
    monkeypatch.setattr(PolygonDarcy, "sample", lambda self, seed, index: original(self, seed, 0))
    twice = pde_data.generate("polygon_darcy", tmp_path / "twice.h5", **{**SMALL, "samples": 2})
    assert [row.remark for row in pde_data.validate(twice).failures] == [
        "samples 0 and 1 are the same; leave one out"
    ]


def test_compressed_files_read_the_same(file, tmp_path):
    pytest.importorskip("hdf5plugin")
    pde_data.formats.convert(file, tmp_path / "small.h5", compress="lz4")
    xr.testing.assert_identical(pde_data.open(tmp_path / "small.h5").load(), pde_data.open(file).load())
    assert torch.equal(MeshDataset(tmp_path / "small.h5")[3].x, MeshDataset(file)[3].x)
    with pytest.raises(DatasetError, match="has meshes, which only layout='netcdf' can hold"):
        pde_data.formats.convert(file, tmp_path / "well.h5", "the-well")


def test_a_damaged_shard_is_found_before_its_values_are_used(folder, tmp_path):
    copy = tmp_path / "set"
    shutil.copytree(folder, copy)
    with h5py.File(copy / "shard-00001.h5") as file:
        place = file["pressure"].id.get_offset()
    content = bytearray((copy / "shard-00001.h5").read_bytes())
    content[place] ^= 1
    (copy / "shard-00001.h5").write_bytes(content)
    data = MeshDataset(copy)
    assert torch.equal(data[0].y, MeshDataset(folder)[0].y)
    with pytest.raises(DatasetError, match="shard-00001.h5 is not what manifest.json recorded"):
        data[2]
