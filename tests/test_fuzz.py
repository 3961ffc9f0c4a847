"""Whatever is written is read, and whatever is damaged is refused in words or read right."""

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import pde_data
from pde_data.storage import Schema, Variable, write
from tests.fuzzing import MEMORY, run

NUMBERS = st.sampled_from([np.float32, np.float64, np.int16, np.int32, np.uint8])
NAMES = st.text(
    st.characters(categories=("Ll", "Lu", "Nd"), include_characters="_-+ "), min_size=1, max_size=8
)
ATTRIBUTES = st.dictionaries(
    # Those names are taken by HDF5's dimension scales.
    NAMES.filter(str.strip).filter(lambda name: name not in ("NAME", "CLASS")),
    st.one_of(
        st.integers(-(2**62), 2**62),
        st.floats(allow_nan=False, allow_subnormal=False),
        st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1),
        st.lists(st.floats(-1e9, 1e9), min_size=2, max_size=4),
    ),
    max_size=4,
)


@st.composite
def sets(draw):
    """A schema of fields and parameters over random dimensions, with the values of the fields."""
    space = draw(st.lists(NAMES.map(str.strip).filter(bool), min_size=1, max_size=3, unique=True))
    space = [f"x_{name}" for name in space]
    timed = draw(st.booleans())
    dims = ["sample", *["time"] * timed, *space]
    sizes = {dim: draw(st.integers(1, 4)) for dim in dims}
    values = {
        f"f_{number}": draw(
            arrays.arrays(draw(NUMBERS), tuple(sizes.values()), elements={"allow_nan": False})
        )
        if draw(st.booleans())
        else np.zeros(tuple(sizes.values()), draw(NUMBERS))
        for number in range(draw(st.integers(1, 3)))
    }
    coordinates = {
        dim: Variable((dim,), np.arange(float(size)), draw(ATTRIBUTES))
        for dim, size in sizes.items()
        if draw(st.booleans())
    }
    parameters = {"nu": Variable(("sample",), draw(arrays.arrays(np.float64, sizes["sample"])))}
    fields = {name: Variable(tuple(dims), None, draw(ATTRIBUTES), v.dtype.name) for name, v in values.items()}
    return Schema({**coordinates, **parameters, **fields}, draw(ATTRIBUTES), sizes), values


@settings(max_examples=60, deadline=None, derandomize=True)
@given(sets(), st.integers(0, 4))
def test_whatever_is_written_is_read(made, cut):
    schema, values = made
    count = schema.sizes["sample"]
    cut = min(cut, count)
    blocks = [
        (first, {name: v[first:last] for name, v in values.items()})
        for first, last in ((cut, count), (0, cut))
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        write(path, schema, blocks)
        found = pde_data.open(path).load()
    for name, variable in schema.variables.items():
        expected = values.get(name, variable.values)
        assert found[name].dims == variable.dims and found[name].dtype == expected.dtype
        np.testing.assert_array_equal(found[name].values, expected)
        for key, value in variable.attributes.items():
            np.testing.assert_array_equal(found[name].attrs[key], value)
    for key, value in schema.attributes.items():
        np.testing.assert_array_equal(found.attrs[key], value)


def test_damaged_files_are_refused_or_read_right(tmp_path):
    """No crash, hang or other exception, no wrong value under a checksum, no memory above the cap."""
    *_, report = run(tmp_path, 300)
    assert not report.failures, "\n".join(report.failures)
    assert sum(report.kinds.values()) == 300
    assert report.kinds["refused"] > 100 and report.kinds["read"] > 50
    assert report.peak < MEMORY + 2**30  # the limit, beyond what the imports take
