"""Every format, written in its exact layout by an independent writer and read back equal."""

import pickle

import numpy as np
import pytest

import pde_data
from tests.writers import differences, every_case


@pytest.mark.parametrize("case", every_case(), ids=lambda case: case.name)
def test_what_others_write_is_read_equal(case, tmp_path):
    path = tmp_path / case.file
    expected = case.write(path, np.random.default_rng(0))
    found = pde_data.open(path)
    assert not differences(found, expected)
    # Through pieces and through a pickle too, as loaders read.
    again = pickle.loads(pickle.dumps(found))
    for name in expected.data_vars:
        last = {dim: -1 for dim in expected[name].dims[:2]}
        np.testing.assert_array_equal(again[name].isel(last).values, expected[name].isel(last).values)
    name = next(n for n in expected.data_vars if set(expected[n].dims) - {"sample", "time"})
    if not np.isnan(expected[name]).any() and "lat" not in expected.dims:
        pairs = pde_data.FieldDataset(path, name, name)
        x, y = pairs.gather(range(len(pairs)))
        field = expected[name].values.astype(np.float32)
        frames = (
            field[:, :-1].reshape(len(pairs), *field.shape[2:]) if "time" in expected[name].dims else field
        )
        np.testing.assert_array_equal(x[:, 0].numpy(), frames)
