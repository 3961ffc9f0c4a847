"""When a file is looked through before it is read, and when again."""

import h5py
import numpy as np
import pytest

from pde_data import DatasetError, safety
from pde_data.safety import safe_open

VALUES = np.arange(24.0).reshape(4, 6)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "good.h5"
    with h5py.File(path, "w") as made:
        made["u"] = VALUES
    return path


def test_a_file_is_looked_through_once_and_again_when_it_has_changed(file, monkeypatch):
    looked = []
    original = safety._check_links
    monkeypatch.setattr(safety, "_check_links", lambda *about: looked.append(1) or original(*about))
    for _ in range(3):
        safe_open(file).close()
    assert len(looked) == 1
    with h5py.File(file, "r+") as made:
        made["other"] = h5py.ExternalLink("/etc/passwd", "/")
    for count in (2, 3):  # what was refused is looked at again
        with pytest.raises(DatasetError, match="'other' is an external link"):
            safe_open(file)
        assert len(looked) == count


def test_another_file_in_its_place_is_looked_through(file):
    safe_open(file).close()
    evil = file.with_name("evil.h5")
    with h5py.File(evil, "w") as made:
        made["u"] = h5py.SoftLink("/nothing")
    evil.replace(file)
    with pytest.raises(DatasetError, match="'u' is a link that leads nowhere"):
        safe_open(file)


def test_sources_of_virtual_data_are_looked_for_each_time(file):
    joined, layout = file.with_name("joined.h5"), h5py.VirtualLayout(VALUES.shape, "f8")
    layout[:] = h5py.VirtualSource(file.name, "u", VALUES.shape)
    with h5py.File(joined, "w") as made:
        made.create_virtual_dataset("v", layout)
    safe_open(joined).close()
    file.unlink()
    with pytest.raises(DatasetError, match="'good.h5', which is missing"):
        safe_open(joined)
