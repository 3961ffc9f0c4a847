"""Every format that `pde_data.open` knows: one file each, one row each in `FORMATS`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, final

import numpy as np

from pde_data import ugrid
from pde_data.arrays import check_finite
from pde_data.formats import (
    apebench,
    cfdbench,
    fno_mat,
    matlab,
    native,
    netcdf,
    neuralop,
    numpy_arrays,
    pdearena,
    pdebench,
    shards,
    the_well,
    zarr_store,
)
from pde_data.formats.recognition import Verdict, hdf5_layout
from pde_data.storage import DatasetError, Schema, Variable, write

if TYPE_CHECKING:
    import xarray


@final
@dataclass(frozen=True)
class Format:
    """A kind of file: how to recognise it by content, and how to read it.

    `recognises` gives a bool, or a `Verdict` that also says why. A `generic` format takes what no other one
    recognises.
    """

    name: str
    recognises: Callable[[Path], bool | Verdict]
    read: Callable[[Path], Schema]
    generic: bool = False


FORMATS = (
    Format("shard folder (manifest.json and shard-*.h5)", shards.recognises, shards.read),
    Format("PDEBench HDF5 (tensor, density, 0000/data or velocity)", pdebench.recognises, pdebench.read),
    Format("The Well HDF5, or a folder of it (t0_fields, ...)", the_well.recognises, the_well.read),
    Format("PDEArena HDF5 (groups train, valid, test)", pdearena.recognises, pdearena.read),
    Format("our netCDF-4", native.recognises, native.read),
    Format("neuraloperator .pt (dict of tensors x, y)", neuralop.recognises, neuralop.read),
    Format("FNO .mat (vorticity, Darcy, Burgers)", fno_mat.recognises, fno_mat.read),
    Format("MATLAB with coordinates", matlab.recognises, matlab.read, generic=True),
    Format("APEBench .npy with its .json", apebench.recognises, apebench.read),
    Format("PINO Kolmogorov .npy", numpy_arrays.recognises_kolmogorov, numpy_arrays.read_kolmogorov),
    Format("NumPy .npz with coordinates", numpy_arrays.recognises_npz, numpy_arrays.read_npz),
    Format("CFDBench folder", cfdbench.recognises, cfdbench.read),
    Format("Poseidon netCDF", netcdf.recognises_poseidon, netcdf.read_poseidon),
    Format("netCDF-4 of the CF conventions", netcdf.recognises, netcdf.read, generic=True),
    Format("PDEArena Zarr (shallow water)", zarr_store.recognises_pdearena, zarr_store.read_pdearena),
    Format("Zarr v2 or v3 folder", zarr_store.recognises, zarr_store.read, generic=True),
    Format("classic netCDF-3", netcdf.recognises_classic, netcdf.read_classic),
)


_SUFFIXES = {".h5", ".hdf5", ".nc", ".pt", ".mat", ".npy", ".npz", ".zarr"}  # shown when a name is wrong


def read(path: str | os.PathLike) -> Schema:
    """Describe a data set of any known format; large arrays are read later, when asked.

    An address such as `https://...` is first copied to the cache of `pde_data.remote`. Raises `DatasetError`
    when there is nothing at `path`, or nothing that a row of `FORMATS` recognises.
    """
    from pde_data import remote

    path = remote.fetch(os.fspath(path)) if remote.is_address(path) else Path(path)
    if not path.exists():
        near = sorted(p.name for p in path.parent.glob("*") if p.suffix in _SUFFIXES)[:8]
        here = f"; {path.parent} holds {', '.join(near)}" if near else ""
        raise DatasetError(f"there is no file or folder {path}{here}")
    if path.is_file() and path.stat().st_size == 0:
        raise DatasetError(f"{path} is empty (0 bytes); write or download it again")
    try:
        schema = _read(path)
        _check(schema, path)
    except DatasetError:
        raise
    except Exception as error:  # what a damaged file ends in depends on the byte that is wrong
        raise DatasetError(
            f"{path} is damaged ({type(error).__name__}: {error}); download or write it again"
        ) from error
    return schema


def _check(schema: Schema, path: Path) -> None:
    """Raise `DatasetError` for sizes that contradict each other and coordinates that are no numbers."""
    sizes: dict[str, int] = {}
    for name, variable in schema.variables.items():
        shape = variable.values.shape
        known = {dim: sizes.setdefault(dim, size) for dim, size in zip(variable.dims, shape)}
        if len(shape) != len(variable.dims) or tuple(known[dim] for dim in variable.dims) != shape:
            raise DatasetError(
                f"{path}: variable {name!r} has shape {shape} over {variable.dims}, where the others have "
                f"{known}; the file is damaged"
            )
    for name in set(sizes) & set(schema.variables) - {"sample"}:
        values, dims = schema.variables[name].values, schema.variables[name].dims
        if dims != (name,) or values.dtype.kind not in "fiub":
            raise DatasetError(
                f"{path}: coordinate {name!r} has type {values.dtype} over {dims}, expected real numbers "
                f"over {name!r} alone"
            )


def _read(path: Path) -> Schema:
    verdicts = [(row, row.recognises(path)) for row in FORMATS]
    found = [(row, verdict) for row, verdict in verdicts if verdict]
    found = [(row, verdict) for row, verdict in found if not row.generic] or found
    if len(found) == 1:
        return found[0][0].read(path)
    if found:
        raise DatasetError(
            f"{path} may be of {len(found)} formats:\n{_listed(found)}\n"
            "Leave in it what belongs to one of them, or read it yourself and give the arrays to "
            "pde_data.FieldDataset.from_arrays"
        )
    raise DatasetError(f"{path} is in no format that is known here:\n{_listed(verdicts)}{_advice(path)}")


def _listed(verdicts: Sequence[tuple[Format, bool | Verdict]]) -> str:
    return "\n".join(
        f"  - {row.name}: {verdict.reason}" if isinstance(verdict, Verdict) else f"  - {row.name}"
        for row, verdict in verdicts
    )


def _advice(path: Path) -> str:
    """How to use the arrays of a file all the same."""
    layout, array = hdf5_layout(path) if path.is_file() else None, numpy_arrays.header(path)
    if layout is not None:
        held, name = f"It is HDF5 and holds {layout}", next(iter(layout.datasets), "NAME")
        read = f"h5py.File({str(path)!r})[{name!r}][:]"
    elif array is not None:
        held = (
            f"It is a NumPy array of {array.dtype}, shape {array.shape}, which does not say what its axes are"
        )
        read = f"numpy.load({str(path)!r}, mmap_mode='r')"
    else:
        return ""
    return (
        f"\n{held}. With the samples first, use pde_data.FieldDataset.from_arrays(trajectories={read}), or "
        "inputs=... and targets=... without a time axis"
    )


def open(path: str | os.PathLike) -> xarray.Dataset:
    """Open a data set of any known format, found by its content, as a lazy `xarray.Dataset`.

    Dimensions are `(sample, time, x[, y[, z]])`. Values are read when they are used; no file stays open that
    would have to be closed. An address that fsspec knows, such as `https://...` or `s3://...`, is fetched
    once, into `$PDE_DATA_CACHE` or the user's folder of caches. Raises `DatasetError` for files that are
    broken, hostile or of no known format.

    >>> import pde_data
    >>> pde_data.open("no-such-file.h5")
    Traceback (most recent call last):
        ...
    pde_data.storage.DatasetError: there is no file or folder no-such-file.h5
    """
    from pde_data.view import to_xarray

    return to_xarray(read(path))


def convert(
    source: str | os.PathLike,
    target: str | os.PathLike,
    layout: Literal["netcdf", "the-well"] = "netcdf",
    compress: str | None = None,
) -> None:
    """Write a data set of any known format as one file with float32 fields, sample by sample.

    `layout` "netcdf" is that of our own files, "the-well" the HDF5 layout that the package `the_well` reads.
    Fields are contiguous, which reads fastest; with `compress="lz4"` (needs hdf5plugin) each frame is
    compressed for itself and checked by a checksum whenever it is read.

    Raises `DatasetError` like `open`, for NaN, infinity and values beyond float32 in a field, when the
    target cannot be written, and for sets without time in The Well's layout; `ValueError` for options that do
    not go together.
    """
    if layout not in ("netcdf", "the-well"):
        raise ValueError(f"layout={layout!r} is unknown: choose netcdf or the-well")
    if compress and layout != "netcdf":
        raise ValueError(f"compress={compress!r} is for layout='netcdf'; leave it out")
    schema = read(source)
    if ugrid.is_mesh(schema):
        if layout != "netcdf":
            raise DatasetError(f"{os.fspath(source)} has meshes, which only layout='netcdf' can hold")
        return ugrid.copy(schema, target, os.fspath(source), compress)
    fields = schema.fields

    def values(name: str, sample: int) -> np.ndarray:
        with np.errstate(over="ignore"):
            result = np.asarray(fields[name].values[sample], np.float32)
        remedy = "repair the data first (fields are written as float32, up to 3.4e38)"
        check_finite(result, os.fspath(source), name, sample, "time" in fields[name].dims, remedy)
        return result

    if layout == "the-well":
        from pde_data.formats.the_well_export import write_the_well

        return write_the_well(target, schema, values)
    count = schema.sizes["sample"]
    variables = {
        name: Variable(variable.dims, None, variable.attributes) if name in fields else variable
        for name, variable in schema.variables.items()
    }
    if "sample" not in variables:
        variables["sample"] = Variable(("sample",), np.arange(count), {"long_name": "sample number"})
    blocks = ((sample, {name: values(name, sample)[None] for name in fields}) for sample in range(count))
    write(target, Schema(variables, schema.attributes, schema.sizes), blocks, compress)
