"""Fields in chunks: every layout reads the same as the array that was written, or is refused."""

import pickle
import subprocess
import sys

import h5py
import numpy as np
import pytest

import pde_data
from pde_data import DatasetError, FieldDataset
from pde_data.chunks import MappedChunks
from pde_data.formats import convert
from pde_data.storage import Schema, Variable, sha256, write

N, T, H, W = 5, 6, 7, 9
VALUES = np.cumsum(np.random.default_rng(0).standard_normal((2, N, T, H, W)), axis=-1).astype(np.float32)
DIMS = ("sample", "time", "x", "y")
LAYOUTS = {
    "contiguous": {},
    "frames": {"chunks": (1, 1, H, W)},
    "trajectories": {"chunks": (1, T, H, W)},
    "pieces": {"chunks": (2, 3, 4, W)},
    "gzip": {"chunks": (1, 1, H, W), "compression": "gzip"},
    "checksum": {"chunks": (1, 1, H, W), "fletcher32": True},
    "big-endian": {"chunks": (1, 1, H, W), "dtype": ">f4"},
    "double": {"chunks": (1, 1, H, W), "dtype": "f8"},
}


def write_layout(path, **storage):
    with h5py.File(path, "w") as file:
        for dim, size in zip(DIMS, VALUES.shape[1:]):
            file[dim] = np.arange(float(size))
            file[dim].make_scale(dim)
        for name, values in zip("uv", VALUES):
            made = file.create_dataset(name, data=values, **storage)
            for axis, dim in enumerate(DIMS):
                made.dims[axis].attach_scale(file[dim])
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_reads_as_the_array(tmp_path, layout):
    path = write_layout(tmp_path / "a.h5", **LAYOUTS[layout])
    opened = pde_data.open(path).u
    np.testing.assert_array_equal(opened.values, VALUES[0])
    np.testing.assert_array_equal(opened[[3, 0], 1:5:2, ::-1, 4].values, VALUES[0][[3, 0], 1:5:2, ::-1, 4])
    np.testing.assert_array_equal(opened[-1, 2].values, VALUES[0][-1, 2])
    np.testing.assert_array_equal(opened[2, [4, 1, 1]].values, VALUES[0][2, [4, 1, 1]])
    assert opened[1, 2:2].values.shape == (0, H, W)
    for names in ("u", ["v"]), (["u", "v"], ["u", "v"]), (["v", "u"], ["u"]):
        for options in {}, {"window": 2, "horizon": 2}, {"window": 2, "stride": 2}, {"points": [1, 4, 40]}:
            pairs = FieldDataset(path, *names, **options)
            memory = FieldDataset(pde_data.open(path).load(), *names, **options)
            order = np.random.default_rng(1).permutation(len(pairs))
            for ours, expected in zip(pairs.gather(order), memory.gather(order), strict=True):
                assert ours.equal(expected) and ours.is_contiguous()
            assert pairs.trajectory(3).equal(memory.trajectory(3))


@pytest.mark.parametrize("layout", ["frames", "trajectories"])
def test_chunks_stored_as_they_are_are_mapped(tmp_path, layout):
    path = write_layout(tmp_path / "a.h5", **LAYOUTS[layout])
    pairs = FieldDataset(path, "u")
    pairs.gather([0])
    (array,) = pairs._arrays.values()
    assert isinstance(array._mapped(0), MappedChunks)
    assert pickle.loads(pickle.dumps(pairs))[3][0].equal(pairs[3][0])


def test_chunks_that_were_never_written_are_read_as_hdf5_does(tmp_path):
    path = write_layout(tmp_path / "a.h5", **LAYOUTS["frames"])
    with h5py.File(path, "r+") as file:
        partial = file.create_dataset("w", VALUES[0].shape, "f4", chunks=(1, 1, H, W), fillvalue=7.0)
        partial[1:3] = VALUES[0][1:3]
        for axis, dim in enumerate(DIMS):
            partial.dims[axis].attach_scale(file[dim])
    expected = np.full(VALUES[0].shape, 7.0, np.float32)
    expected[1:3] = VALUES[0][1:3]
    np.testing.assert_array_equal(pde_data.open(path).w.values, expected)


def test_chunks_beyond_the_end_are_refused(tmp_path):
    path = write_layout(tmp_path / "a.h5", **LAYOUTS["frames"])
    with h5py.File(path) as file:
        last = max(file["u"].id.get_chunk_info(i).byte_offset for i in range(N * T))
    # An address of the index of chunks that leads out of the file, everything else intact.
    content = path.read_bytes().replace(last.to_bytes(8, "little"), (2**40).to_bytes(8, "little"))
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="a.h5"):
        FieldDataset(path, "u").gather(range(N * (T - 1)))


def test_a_flipped_bit_is_noticed_where_there_is_a_checksum(tmp_path):
    path = write_layout(tmp_path / "a.h5", **LAYOUTS["checksum"])
    with h5py.File(path) as file:
        place = file["u"].id.get_chunk_info_by_coord((2, 3, 0, 0)).byte_offset
    content = bytearray(path.read_bytes())
    content[place + 11] ^= 16
    path.write_bytes(content)
    pairs = FieldDataset(path, "u")
    pairs.gather([0])
    for read in (lambda: pairs.gather([2 * (T - 1) + 2]), lambda: pde_data.open(path).u[2, 3].values):
        with pytest.raises(DatasetError, match="a.h5.*'u' of sample 2.*checksum.*copy it again"):
            read()


def test_lz4_is_smaller_checked_by_frame_and_read_by_a_fresh_process(tmp_path):
    pytest.importorskip("hdf5plugin")
    x, y = np.meshgrid(np.arange(64) / 64, np.arange(64) / 64, indexing="ij")
    u = np.stack([[np.round(np.sin(6 * (x + i * y) + t), 3) for t in range(3)] for i in range(4)])
    variables = {dim: Variable((dim,), np.arange(float(n))) for dim, n in zip(DIMS, u.shape)}
    write(tmp_path / "a.h5", Schema({**variables, "u": Variable(DIMS)}), [(0, {"u": u.astype(np.float32)})])
    for name in "bc":
        convert(tmp_path / "a.h5", tmp_path / f"{name}.h5", compress="lz4")
    assert sha256(tmp_path / "b.h5") == sha256(tmp_path / "c.h5")
    assert (tmp_path / "b.h5").stat().st_size < 0.8 * (tmp_path / "a.h5").stat().st_size
    with h5py.File(tmp_path / "b.h5") as file:
        assert file["u"].chunks == (1, 1, 64, 64) and file["u"].fletcher32
    code = f"import pde_data; print(float(pde_data.open({str(tmp_path / 'b.h5')!r}).u.astype(float).sum()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) == pytest.approx(float(u.astype(np.float32).astype(float).sum()), rel=1e-12)
    for a, b in zip(*(FieldDataset(tmp_path / f"{name}.h5").gather([7, 0, 2]) for name in "ab")):
        assert a.equal(b)
    convert(tmp_path / "b.h5", tmp_path / "d.h5")
    np.testing.assert_array_equal(pde_data.open(tmp_path / "d.h5").u.values, u.astype(np.float32))


def test_other_compressions_and_no_plugin(tmp_path, monkeypatch):
    path = write_layout(tmp_path / "a.h5")
    with pytest.raises(ValueError, match="compress='zip' is unknown; expected 'lz4' or None"):
        convert(path, tmp_path / "b.h5", compress="zip")
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    with pytest.raises(DatasetError, match="pip install hdf5plugin, or leave it out"):
        convert(path, tmp_path / "b.h5", compress="lz4")
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]
