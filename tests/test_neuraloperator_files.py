"""neuraloperator's `.pt` files."""

import os
import zipfile

import numpy as np
import pytest
import torch

import pde_data
from pde_data import DatasetError


def test_neuraloperator_darcy(real_data, tmp_path):
    file = real_data / "darcy_test_32.pt"
    tensors = torch.load(file, weights_only=True)
    dataset = pde_data.open(file)
    assert dataset.x.dims == ("sample", "x1", "x2") and dataset.x.dtype == np.float32
    np.testing.assert_array_equal(dataset.x.values, tensors["x"].float().numpy())
    np.testing.assert_array_equal(dataset.y.values, tensors["y"].numpy())
    pde_data.formats.convert(file, tmp_path / "darcy.h5")
    pairs = pde_data.FieldDataset(tmp_path / "darcy.h5")
    assert (pairs.input_names, pairs.target_names) == (["x"], ["y"])
    x, y = pairs[7]
    np.testing.assert_array_equal(x[0].numpy(), tensors["x"][7].float().numpy())
    np.testing.assert_array_equal(y[0].numpy(), tensors["y"][7].numpy())


def test_neuraloperator_darcy_nodes_are_where_we_say(real_data):
    coarse, fine = (pde_data.open(real_data / f"darcy_test_{n}.pt") for n in (16, 32))
    # Shared coordinates hold the same values: 16 is every second node of 32.
    np.testing.assert_array_equal(coarse.x1.values, fine.x1.values[::2])
    np.testing.assert_array_equal(coarse.x.values, fine.x.sel(x1=coarse.x1, x2=coarse.x2).values)
    np.testing.assert_allclose(coarse.y.values, fine.y.sel(x1=coarse.x1, x2=coarse.x2).values, rtol=0, atol=0)
    # The pressure vanishes on the boundary, which is at 0 and not at the last node.
    size = np.abs(fine.y).mean("sample")
    assert size.isel(x1=0).max() < 0.2 * size.isel(x1=-1).max()


@pytest.fixture
def saved(tmp_path):
    def save(**content):
        torch.save(content, tmp_path / "a.pt")
        return tmp_path / "a.pt"

    return save


def test_neuraloperator_singleton_channels(saved):
    dataset = pde_data.open(saved(x=torch.zeros(3, 1, 8, 6, dtype=torch.bool), y=torch.ones(3, 1, 8, 6)))
    assert dict(dataset.sizes) == {"sample": 3, "x1": 8, "x2": 6}


@pytest.mark.parametrize(
    ("x_shape", "y_shape"), [((3, 2, 8, 6), (3, 1, 8, 6)), ((3, 4, 8), (3, 8)), ((3, 1, 8), (3, 3, 8))]
)
def test_neuraloperator_inputs_and_targets_of_several_channels(saved, tmp_path, x_shape, y_shape):
    x, y = torch.randn(x_shape), torch.randn(y_shape, requires_grad=True)
    pde_data.formats.convert(saved(x=x, y=y), tmp_path / "a.h5")
    for path in (tmp_path / "a.pt", tmp_path / "a.h5"):
        pairs = pde_data.FieldDataset(path)
        several = [
            name for name, tensor in (("x", x), ("y", y)) if tensor.ndim == x.ndim and tensor.shape[1] > 1
        ]
        assert pairs.input_names == ([f"x_{c}" for c in range(x_shape[1])] if "x" in several else ["x"])
        assert pairs.target_names == ([f"y_{c}" for c in range(y_shape[1])] if "y" in several else ["y"])
        read = pairs.gather([2, 0])
        assert torch.equal(read[0], x[[2, 0]]) and torch.equal(read[1], y[[2, 0]].detach().view_as(read[1]))


def test_neuraloperator_burgers_has_a_trajectory_for_each_input(saved):
    path = saved(x=torch.randn(3, 16), y=torch.randn(3, 5, 16))
    dataset, tensors = pde_data.open(path), torch.load(path)
    assert dataset.y.dims == ("sample", "time", "x1")
    with pytest.raises(DatasetError, match=r"'x' has no time axis but 'y' has one; .*from_arrays\(.*dim=1\)"):
        pde_data.FieldDataset(path)
    # What the message says to do:
    x, y = pde_data.FieldDataset.from_arrays(inputs=dataset["x"], targets=dataset["y"], dim=1).gather([2, 1])
    assert torch.equal(x, tensors["x"][[2, 1], None]) and torch.equal(y, tensors["y"][[2, 1]])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"u": torch.zeros(3, 16)}, r"tensors 'x' and 'y', it holds \['u'\]"),
        ({"x": torch.zeros(3, 16), "y": torch.zeros(2, 16)}, r"x has shape \(3, 16\), y \(2, 16\)"),
        ({"x": torch.zeros(3, 16), "y": torch.zeros(3, 0, 16)}, r"x has shape .* y \(3, 0, 16\); no match"),
        ({"x": torch.tensor(1.0), "y": torch.tensor(2.0)}, r"'x' has shape \(\), expected \(sample, "),
        (
            {"x": torch.zeros(3, 16), "y": torch.zeros(3, 16, dtype=torch.complex64)},
            "'y' is a tensor of torch.complex64.*expected dense real numbers; save real and imaginary",
        ),
        ({"x": torch.zeros(3, 16).to_sparse(), "y": torch.zeros(3, 16)}, "'x' is a tensor of .*sparse_coo"),
    ],
)
def test_neuraloperator_files_of_another_kind(saved, content, words):
    with pytest.raises(DatasetError, match=f"a.pt.*{words}"):
        pde_data.open(saved(**content))


def test_neuraloperator_files_with_a_wrong_byte(saved):
    """Whichever byte of the pickle is wrong: read, or refused in our words."""
    path = saved(x=torch.zeros(3, 16), y=torch.ones(3, 16))
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    (pickled,) = (name for name in members if name.endswith("data.pkl"))
    refused = 0
    for position in range(len(members[pickled])):
        damaged = bytearray(members[pickled])
        damaged[position] ^= 0b101
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in {**members, pickled: bytes(damaged)}.items():
                archive.writestr(name, content)
        try:
            pde_data.open(path)
        except DatasetError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > len(members[pickled]) / 2
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DatasetError, match="a.pt is in no format"):
        pde_data.open(path)


class Trap:
    """Unpickling this would make a folder."""

    def __reduce__(self):
        return os.mkdir, ("/tmp/should-not-exist-pde-data",)


def test_a_pickle_with_code_does_not_run(tmp_path):
    torch.save({"x": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(DatasetError, match="as tensors alone: .* can run code hidden in the file") as refusal:
        pde_data.open(tmp_path / "trap.pt")
    # torch's own advice is to allow it.
    assert "weights_only" not in str(refusal.value) and refusal.value.__suppress_context__
    assert not os.path.exists("/tmp/should-not-exist-pde-data")
    with zipfile.ZipFile(tmp_path / "other.pt", "w") as archive:
        archive.writestr("hello.txt", "no tensors")
    with pytest.raises(DatasetError, match="in no format"):
        pde_data.open(tmp_path / "other.pt")
