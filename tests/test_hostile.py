"""Files that are broken or hostile, made on the spot: each refused in words, or repaired."""

import json
import os
import re
import signal
import struct
import subprocess
import sys
import textwrap
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import xarray as xr

import pde_data
from pde_data import DatasetError, safety, vetting
from pde_data.safety import safe_open
from pde_data.storage import Schema, Variable, write


def small(values):
    """Schema of one field `u` over values (sample, time, x, y)."""
    dims = ("sample", "time", "x", "y")
    coordinates = {dim: Variable((dim,), np.arange(float(size))) for dim, size in zip(dims, values.shape)}
    return Schema({**coordinates, "u": Variable(dims, None, {"units": "m s-1", "long_name": "speed"})})


@pytest.fixture
def good(tmp_path):
    values = np.random.default_rng(0).standard_normal((4, 3, 6, 5)).astype(np.float32)
    path = tmp_path / "good.h5"
    write(path, small(values), [(0, {"u": values})])
    return path, values


# HDF5: something is put into a good file of ours.


def external_link(file, folder):
    file["other"] = h5py.ExternalLink("/etc/passwd", "/")


def external_storage(file, folder):
    file.create_dataset("raw", (10,), "u1", external=[("/etc/passwd", 0, 10)])


def dangling_link(file, folder):
    file["gone"] = h5py.SoftLink("/nothing/here")


def looping_link(file, folder):
    file["a"] = h5py.SoftLink("/b")
    file["b"] = h5py.SoftLink("/a")


def virtual_missing(file, folder):
    layout = h5py.VirtualLayout((4, 2), "f4")
    layout[:] = h5py.VirtualSource("absent.h5", "u", (4, 2))
    file.create_virtual_dataset("v", layout)


def virtual_outside(file, folder):
    layout = h5py.VirtualLayout((4, 2), "f4")
    layout[:] = h5py.VirtualSource("../../outside.h5", "u", (4, 2))
    file.create_virtual_dataset("v", layout)


def declared_huge(file, folder):
    file.create_dataset("huge", (2**20, 2**20), "f4", chunks=(1024, 1024), compression="gzip")


def virtual_huge(file, folder):
    with h5py.File(folder / "source.h5", "w") as source:
        source["u"] = np.zeros((4, 2), np.float32)
    layout = h5py.VirtualLayout((2**20, 2**20), "f4")
    layout[:4, :2] = h5py.VirtualSource("source.h5", "u", (4, 2))
    file.create_virtual_dataset("v", layout)


def declared_and_never_written(file, folder):
    file.create_dataset("huge", (2**20, 2**20), "f4")


def declared_as_dimension(file, folder):
    scale = file.create_dataset("node", (2**40,), ">f4")
    scale.make_scale(f"This is a netCDF dimension but not a netCDF variable. {2**40:10d}")


def missing_external(file, folder):
    file["other"] = h5py.ExternalLink("absent.h5", "/u")


def ragged_field(file, folder):
    ragged = file.create_dataset("ragged", (4, 6), h5py.vlen_dtype(np.float32))
    ragged.dims[0].attach_scale(file["sample"])
    ragged.dims[1].attach_scale(file["x"])


def null_dataspace(file, folder):
    file["nothing"] = h5py.Empty("f4")


def text_field(file, folder):
    text = file.create_dataset("words", (4, 6), h5py.string_dtype())
    text.dims[0].attach_scale(file["sample"])
    text.dims[1].attach_scale(file["x"])


def packed(file, folder):
    file["u"].attrs["scale_factor"] = 0.1


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (external_link, "'other' is an external link to '/etc/passwd'"),
        (external_storage, "'/raw' keeps its bytes in another file .*/etc/passwd"),
        (dangling_link, "'gone' is a link that leads nowhere"),
        (looping_link, "'a' is a link that leads nowhere or in a circle"),
        (virtual_missing, "takes its values from 'absent.h5', which is missing"),
        (virtual_outside, "'../../outside.h5', outside of"),
        (missing_external, "'other' is an external link to 'absent.h5'"),
        (declared_and_never_written, "declares 4,398,046,511,104 bytes but only 0 are stored"),
        (declared_as_dimension, r"declares 4,398,046,511,104 bytes but only [\d,]+ are stored"),
        (ragged_field, "'ragged' has type object, expected real numbers"),
        (null_dataspace, r"'nothing' is empty \(a null dataspace\)"),
        (declared_huge, "declares 4,398,046,511,104 bytes but only 0 are stored"),
        (
            virtual_huge,
            r"virtual variable '/v' declares 4,398,046,511,104 bytes but its sources have only \d,",
        ),
        (text_field, "'words' has type object, expected real numbers"),
        (packed, "'u' is packed"),
    ],
)
def test_broken_and_hostile_files(good, damage, words):
    path, _ = good
    with h5py.File(path, "r+") as file:
        damage(file, path.parent)
    for reader in (pde_data.open, pde_data.FieldDataset):
        with pytest.raises(DatasetError, match=f"good.h5.*{words}"):
            reader(path)


def test_long_dimensions_without_coordinates_are_read(good):
    """They have no bytes of their own, as in a file with many meshes; the variables along them do."""
    path, values = good
    with h5py.File(path, "r+") as file:
        scale = file.create_dataset("node", (400_000,), ">f4")
        scale.make_scale("This is a netCDF dimension but not a netCDF variable.     400000")
        weights = file.create_dataset("weights", data=np.ones(400_000))
        weights.dims[0].attach_scale(scale)
    assert np.array_equal(pde_data.open(path)["u"], values)


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_that_takes_the_place_of_another_is_checked_too(good, packed):
    path, values = good
    secret = path.with_name("secret.h5")
    with h5py.File(secret, "w") as file:
        file["u"] = values
    if packed:
        encoding = {"u": {"chunksizes": (1, 1, 6, 5), "zlib": True}}
        pde_data.open(path).load().to_netcdf(path, engine="h5netcdf", encoding=encoding)
    pairs = pde_data.FieldDataset(path)
    if packed:
        pairs.gather([0])  # from now on through a handle, which is opened anew for a new file
    path.unlink()
    with h5py.File(path, "w") as file:
        file["u"] = h5py.ExternalLink("secret.h5", "u")
    with pytest.raises(DatasetError, match="'u' is an external link to 'secret.h5'"):
        pairs.gather([2])
    for other in (values[:2], values.astype(np.float64)):
        path.unlink()
        with h5py.File(path, "w") as file:
            file.create_dataset("u", data=other, compression="gzip" if packed else None)
        with pytest.raises(
            DatasetError, match=r"has changed: it held 'u' of shape \(4, 3, 6, 5\) and type float32"
        ):
            pairs.gather([2])
    path.unlink()
    with pytest.raises(DatasetError, match="there is no file|cannot open"):
        pairs.gather([2])


def test_a_filter_that_is_not_there(good, monkeypatch):
    path, values = good
    with h5py.File(path, "r+") as file:
        file.create_dataset("packed", data=values, chunks=values.shape, compression="gzip")
    # Imported now, it would find its filters there already.
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda code: code != h5py.h5z.FILTER_DEFLATE)
    with pytest.raises(DatasetError, match="filter 1 .*pip install hdf5plugin"):
        pde_data.open(path)


def test_truncated_empty_junk_missing_folder(good, tmp_path):
    path, _ = good
    whole = path.read_bytes()
    cases = {
        "cut.h5": (whole[: len(whole) // 2], "is truncated: its end is missing"),
        "empty.h5": (b"", r"is empty \(0 bytes\)"),
        "junk.h5": (os.urandom(4096), "is in no format that is known here:(.|\n)*neuraloperator .pt"),
    }
    for name, (content, words) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DatasetError, match=words):
            pde_data.open(tmp_path / name)
    with pytest.raises(DatasetError, match=r"there is no file or folder .*absent.h5; .* holds .*good.h5"):
        pde_data.open(tmp_path / "absent.h5")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DatasetError, match="in no format that is known"):
        pde_data.open(tmp_path / "folder")
    with pytest.raises(DatasetError, match="not an HDF5 file"), safe_open(tmp_path / "junk.h5"):
        pass


def test_hdf5_of_another_layout_says_what_it_holds(tmp_path):
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["tensor"] = np.zeros((3, 4, 5), np.float32)
    with pytest.raises(
        DatasetError,
        match=r"foreign.h5 is in no format that is known(.|\n)*no dimension scales: tensor \(3, 4, 5\)(.|\n)*"
        r"It is HDF5 and holds tensor \(3, 4, 5\)\. With the samples first.*from_arrays\(trajectories=h5py",
    ):
        pde_data.open(tmp_path / "foreign.h5")


def flip(path, where):
    """Change one bit of one byte."""
    content = bytearray(path.read_bytes())
    content[where] ^= 0b10000
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    "options", [{"fletcher32": True}, {"compression": "gzip"}], ids=["fletcher32", "gzip"]
)
def test_a_flipped_bit_in_a_chunk_with_a_checksum(good, options):
    path, values = good
    with h5py.File(path, "r+") as file:
        dataset = file.create_dataset("v", data=values, chunks=(1, 1, 6, 5), **options)
        for axis, dim in enumerate(("sample", "time", "x", "y")):
            dataset.dims[axis].attach_scale(file[dim])
        chunk = dataset.id.get_chunk_info(7)
    flip(path, chunk.byte_offset + chunk.size // 2)
    pairs = pde_data.FieldDataset(path, "v")
    sample = chunk.chunk_offset[0]
    pairs.gather([0])
    with pytest.raises(
        DatasetError, match="good.h5: 'v'.* cannot be read, its checksum or its compressed bytes"
    ):
        pairs.gather([2 * sample])
    with pytest.raises(DatasetError, match="good.h5: 'v'"):
        pde_data.open(path).v.load()


def test_a_flipped_bit_in_a_shard_is_found_before_its_values_are_used(tmp_path):
    request = {"samples": 3, "shard_size": 1, "resolution": 8, "t_end": 0.2, "records": 1, "processes": 1}
    pde_data.generate("navier_stokes", tmp_path / "set", **request, viscosity=2e-3)
    shard = tmp_path / "set" / "shard-00001.h5"
    with h5py.File(shard) as file:
        where = file["vorticity"].id.get_offset() + 100
    before = pde_data.open(tmp_path / "set").vorticity.values
    flip(shard, where)
    pairs = pde_data.FieldDataset(tmp_path / "set")
    pairs.gather([0, 2])
    with pytest.raises(
        DatasetError, match="shard-00001.h5 is not what manifest.json recorded .SHA-256 differs.*again"
    ):
        pairs.gather([1])
    shard.unlink()
    pde_data.generate("navier_stokes", tmp_path / "set", **request, viscosity=2e-3)  # what the message says
    np.testing.assert_array_equal(pde_data.open(tmp_path / "set").vorticity.values, before)


# Other formats: a file is made, and the words with which it is refused.


def npy(shape, dtype="<f4", content=b""):
    def make(path):
        with path.open("wb") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": dtype, "fortran_order": False, "shape": shape}
            )
            file.write(content)

    return make


def npy_damaged_header(path):
    with path.open("wb") as file:
        np.save(file, np.zeros((3, 17, 4, 4)))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"'shape'", b"'shame'"))


def npy_objects(path):
    with path.open("wb") as file:
        np.save(file, np.array([{}], dtype=object), allow_pickle=True)


def npz(**members):
    def make(path):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, write_member in members.items():
                inside = path.with_name(name)
                write_member(inside)
                archive.write(inside, f"{name}.npy")
                inside.unlink()

    return make


def npz_flipped(path):
    with path.open("wb") as file:
        np.savez(file, u=np.zeros((3, 7)), x=np.arange(7.0))
    flip(path, 250)


def mat(variables, change=lambda content: content, **options):
    def make(path):
        with path.open("wb") as file:
            scipy.io.savemat(file, variables, **options)
        path.write_bytes(change(path.read_bytes()))

    return make


def mat_bomb(path):
    """A compressed element that announces 4 GB."""
    inner = zlib.compress(struct.pack("<II", 14, 2**32 - 8) + bytes(64))
    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    path.write_bytes(header + struct.pack("<II", 15, len(inner)) + inner)


def mat_references(path):
    """v7.3 with a cell array: references to other places of the file."""
    with h5py.File(path, "w", userblock_size=512) as file:
        file["#refs#/a"] = np.zeros(3)
        cells = file.create_dataset("c", (1, 1), h5py.ref_dtype)
        cells[0, 0] = file["#refs#/a"].ref
        cells.attrs["MATLAB_class"] = np.bytes_("cell")


def classic(cut):
    def make(path):
        with scipy.io.netcdf_file(path, "w") as file:
            for name, size in (("time", 4), ("x", 300)):
                file.createDimension(name, size)
                file.createVariable(name, "f8", (name,))[:] = np.arange(size)
            file.createVariable("u", "f8", ("time", "x"))[:] = 1.0
        path.write_bytes(path.read_bytes()[:cut])

    return make


def netcdf_two_times(path):
    with h5py.File(path, "w") as file:
        for name, standard in (("valid", "time"), ("run", "time"), ("x", "")):
            file[name] = np.arange(3.0)
            file[name].make_scale(name)
            file[name].attrs["standard_name"] = standard
        file["u"] = np.zeros((3, 3, 3))
        for axis, name in enumerate(("valid", "run", "x")):
            file["u"].dims[axis].attach_scale(file[name])


def netcdf_unpacking(path):
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(3.0)
        file["x"].make_scale("x")
        file["u"] = np.zeros(3, np.int16)
        file["u"].dims[0].attach_scale(file["x"])
        file["u"].attrs["scale_factor"] = "a tenth"


def zarr_array(**changes):
    def make(path):
        metadata = {
            "zarr_format": 3,
            "node_type": "array",
            "shape": [2, 8],
            "data_type": "float32",
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2, 8]}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": 0.0,
            "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
            "dimension_names": ["sample", "x"],
        } | changes
        (path / "u" / "c" / "0").mkdir(parents=True)
        (path / "zarr.json").write_text(json.dumps({"zarr_format": 3, "node_type": "group"}))
        (path / "u" / "zarr.json").write_text(json.dumps(metadata))
        (path / "u" / "c" / "0" / "0").write_bytes(bytes(64))

    return make


def zarr_link(path):
    zarr_array()(path)
    (path / "u" / "c" / "0" / "0").unlink()
    (path / "u" / "c" / "0" / "0").symlink_to("/etc/passwd")


def zarr_damaged(path):
    zarr_array()(path)
    (path / "u" / "zarr.json").write_text('{"shape": [2')


def cfdbench(shapes):
    def make(path):
        for number, shape in enumerate(shapes):
            case = path / "bc" / f"case{number:04d}"
            case.mkdir(parents=True)
            (case / "case.json").write_text('{"density": 1.0}')
            for name in "uv":
                np.save(case / f"{name}.npy", np.zeros(shape))

    return make


def cfdbench_link(path):
    cfdbench([(2, 3, 4)])(path)
    secret = path.with_name("secret.npy")
    np.save(secret, np.zeros((2, 3, 4)))
    (path / "bc" / "case0000" / "u.npy").unlink()
    (path / "bc" / "case0000" / "u.npy").symlink_to(secret)


def two_formats(path):
    """What FNO and what Poseidon stores, in one file."""
    with h5py.File(path, "w") as file:
        for name, shape in (("u", (5, 4, 4, 3)), ("a", (4, 4, 3)), ("velocity", (3, 5, 2, 4, 4))):
            file[name] = np.zeros(shape)
            file[name].attrs["MATLAB_class"] = np.bytes_("double")


FOREIGN = {
    "npy objects": (npy_objects, "holds pickled Python objects.*can run code"),
    "npy shape beyond the file": (
        npy((2**40, 17, 8, 8)),
        "is truncated: values of shape .* end at byte 4,785",
    ),
    "npy damaged header": (npy_damaged_header, "has a damaged header"),
    "npy text": (npy((3, 17, 4, 4), "<U4", bytes(3264)), "has type <U4, expected numbers"),
    "npy of unknown axes": (
        npy((3, 4), content=bytes(48)),
        r"in no format that is known.*NumPy array of float32, shape \(3, 4\), which does not .*from_arrays",
    ),
    "npz with objects": (npz(u=npy_objects), "'u.npy' holds pickled Python objects"),
    "npz bomb": (npz(u=npy((2**20,), "|u1", bytes(2**24))), "'u.npy'.*declares|'u.npy' has 16,777,216 bytes"),
    "npz flipped bit": (npz_flipped, "'u.npy' has a damaged header .Bad CRC-32"),
    "npz without coordinates": (
        npz(u=npy((3, 4), content=bytes(48))),
        r"the axes of 'u' \(3, 4\) are not known; coordinates: none.*from_arrays",
    ),
    "mat truncated": (
        mat({"u": np.zeros((3, 64, 64))}, lambda content: content[:-5000]),
        "is truncated: the variable at byte 128 has 98,3.. bytes, of which 93,... are there",
    ),
    "mat flipped": (
        mat({"u": np.zeros((3, 64, 64))}, lambda content: content[:128] + b"\x63" + content[129:]),
        "the element at byte 128 is of unknown kind 99; it is damaged",
    ),
    "mat compressed and cut short": (
        mat({"u": np.arange(999.0)}, lambda c: c[:200] + bytes(20) + c[220:], do_compression=True),
        "the variable at byte 128 is damaged .*download or write it again|cannot read .* as a MATLAB file",
    ),
    "mat cells": (mat({"c": np.array([[1, "a"]], object)}), "in no format.*numeric variables none"),
    "mat bomb": (mat_bomb, "it declares 4,294,967,288 bytes but only"),
    "mat references": (mat_references, "has no array over space"),
    "netCDF-3 truncated": (classic(9000), "cannot read .* as netCDF-3"),
    "netCDF-3 without values": (classic(40), "cannot read .* as netCDF-3"),
    "two dimensions of time": (netcdf_two_times, "dimensions .* all look like time"),
    "netCDF packed by a word": (netcdf_unpacking, "'u' cannot be unpacked with .*a tenth"),
    "zarr pickle codec": (
        zarr_array(codecs=[{"name": "numcodecs.pickle"}]),
        "stored with 'numcodecs.pickle', which is not run",
    ),
    "zarr declared huge": (
        zarr_array(shape=[2**20, 2**20]),
        "declares 4,398,046,511,104 bytes but only 64 are",
    ),
    "zarr chunk beyond the cap": (
        zarr_array(chunk_grid={"configuration": {"chunk_shape": [2**20, 2**20]}}),
        "has chunks of 4,398,046,511,104 bytes",
    ),
    "zarr link": (zarr_link, "is a link to /etc/passwd, outside of"),
    "zarr damaged metadata": (zarr_damaged, "zarr.json as JSON"),
    "zarr negative shape": (zarr_array(shape=[-2, 8]), "has damaged metadata"),
    "CFDBench of two shapes": (
        cfdbench([(2, 3, 4), (2, 3, 5)]),
        r"several shapes.*\(2, 3, 4\) float64 in 2 files \(bc/case0000/u.npy.*bc/case0001",
    ),
    "CFDBench link": (cfdbench_link, "in no format"),
    "two formats in one": (
        two_formats,
        r"may be of 2 formats:\n  - FNO .*u \(3, 4, 4, 5\).*- Poseidon.*velocity \(3, 5, 2, 4, 4\)\nLeave in",
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_broken_and_hostile_files_of_others(name, tmp_path):
    make, words = FOREIGN[name]
    path = tmp_path / "stranger"
    make(path)
    with pytest.raises(DatasetError, match=f"{re.escape(str(path))}") as refusal:
        pde_data.open(path)
    assert re.search(words, str(refusal.value), re.DOTALL), refusal.value


def test_a_damaged_zarr_chunk(tmp_path):
    zarr_array(codecs=[{"name": "bytes"}, {"name": "gzip", "configuration": {"level": 1}}])(tmp_path / "a")
    with pytest.raises(DatasetError, match="'u' cannot be read at 0 .* a chunk is damaged"):
        pde_data.open(tmp_path / "a").u.load()


def test_coordinates_that_make_no_grid(tmp_path):
    path = tmp_path / "a.nc"
    fields = xr.Dataset({"u": (("sample", "x"), np.zeros((5, 4)))}, {"x": [0.0, 1.0, 3.0, 2.0]})
    fields.to_netcdf(path, engine="h5netcdf")
    with pytest.raises(DatasetError, match="not increasing and uniform"):
        pde_data.FieldDataset(path, "u", "u")


MEMORY = 2**28


def test_what_a_file_declares_is_not_what_it_gets(tmp_path):
    """With 256 MB more than the imports take, every forged size is refused and nothing runs out."""
    forged = [name for name in FOREIGN if "bomb" in name or "huge" in name or "beyond" in name]
    for name in forged:
        FOREIGN[name][0](tmp_path / name)
    for damage in (declared_huge, declared_and_never_written, virtual_huge):
        values = np.zeros((4, 3, 6, 5), np.float32)
        path = tmp_path / f"{damage.__name__}.h5"
        write(path, small(values), [(0, {"u": values})])
        with h5py.File(path, "r+") as file:
            damage(file, tmp_path)
    (tmp_path / "source.h5").unlink(missing_ok=True)
    code = f"""
    import os, resource, sys
    import scipy.io, zarr, h5py, torch, pde_data.dataset, pde_data.view, pde_data.formats as formats
    import pde_data
    size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + {MEMORY},) * 2)
    for name in sorted(os.listdir(sys.argv[1])):
        try:
            pde_data.open(os.path.join(sys.argv[1], name)).load()
            print("read", name)
        except pde_data.DatasetError as error:
            print("refused", name)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == sorted(f"refused {name}" for name in os.listdir(tmp_path))
    assert len(forged) >= 5


@pytest.mark.parametrize(
    ("helper", "words"),
    [
        ("import os; input(); os.abort()", r"the HDF5 library crashes on it \(Aborted\)"),
        ("import time; input(); time.sleep(60)", "the HDF5 library does not come back from it"),
    ],
)
def test_a_file_that_the_library_does_not_survive(good, monkeypatch, helper, words):
    """The helper process stands for the library; the next file meets a new one, and this one in a minute."""
    path, values = good
    vetting._end()
    monkeypatch.setattr(vetting, "_START", helper)
    monkeypatch.setattr(vetting, "_SECONDS", 2.0)
    with pytest.raises(DatasetError, match=f"good.h5 is damaged: {words}; download"):
        pde_data.open(path)
    monkeypatch.undo()
    with pytest.raises(DatasetError, match=f"good.h5 is damaged: {words}; download"):
        pde_data.open(path)
    monkeypatch.setattr(safety, "_FORGET", 0.0)
    np.testing.assert_array_equal(pde_data.open(path).u.values, values)


@pytest.mark.parametrize(
    "attached", [np.zeros(4), np.bytes_(b"x"), h5py.Empty("f8"), np.array(["a"], dtype=h5py.string_dtype())]
)
def test_dimension_scales_that_are_something_else(good, attached):
    """HDF5's own functions for dimension scales read such an attribute as pointers."""
    path, _ = good
    with h5py.File(path, "r+") as file:
        del file["u"].attrs["DIMENSION_LIST"]
        file["u"].attrs["DIMENSION_LIST"] = attached
    with pytest.raises(DatasetError, match="no variable over a dimension named 'sample'"):
        pde_data.open(path)


@pytest.mark.skipif(not hasattr(signal, "alarm"), reason="no alarm on this system")
def test_a_lost_helper_ends_without_its_parent(tmp_path):
    """A process that is killed leaves nobody to end a helper that HDF5 does not give back."""
    code = "from pde_data import vetting; vetting._walk = lambda path: any(iter(int, 1)); vetting.main()"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as helper:
        assert helper.stdin is not None
        helper.stdin.write(f"-4 {bytes(tmp_path).hex()}\n".encode())  # five seconds are added
        helper.stdin.flush()
        assert helper.wait(60) == -signal.SIGALRM
