"""Samples on triangle meshes in our files.

The file follows the UGRID conventions (ugrid-conventions.github.io, version 1.0): one topology whose nodes
and faces are those of all samples, one sample after another. How many of them belong to each sample is said
by `node_count` and `face_count`, as for contiguous ragged arrays in section 9.3.3 of the CF conventions.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, final

import numpy as np

from pde_data.arrays import FieldArray
from pde_data.meshes import TriangleMesh
from pde_data.storage import DatasetError, Schema, Variable, write

TOPOLOGY, FACES, BOUNDARY, WEIGHTS = "mesh", "face_nodes", "boundary", "quadrature_weight"
COUNTS = {"node": "node_count", "face": "face_count"}

_ROWS = 2**20  # copied at a time
_ON_NODES = {"mesh": TOPOLOGY, "location": "node", "coordinates": "x y"}


def variables(fields: Mapping[str, Mapping[str, str]], parts: Mapping[str, str]) -> dict[str, Variable]:
    """Variables of a file, to be written later: fields on nodes, and parts of the boundary by name."""
    tags = np.arange(len(parts) + 1, dtype=np.int8)
    position = {"units": "1", "mesh": TOPOLOGY, "location": "node"}
    return {
        TOPOLOGY: Variable(
            (),
            np.zeros((), np.int32),
            {
                "cf_role": "mesh_topology",
                "long_name": "triangle meshes of all samples, one after another",
                "topology_dimension": np.int32(2),
                "node_coordinates": "x y",
                "face_node_connectivity": FACES,
                "face_dimension": "face",
            },
        ),
        **{
            name: Variable(
                ("node",),
                None,
                {**position, "axis": name.upper(), "long_name": f"position along {name}"},
                "float64",
            )
            for name in ("x", "y")
        },
        FACES: Variable(
            ("face", "corner"),
            None,
            {
                "cf_role": "face_node_connectivity",
                "long_name": "nodes of each triangle, anticlockwise",
                "start_index": np.int32(0),
            },
            "int32",
        ),
        BOUNDARY: Variable(
            ("node",),
            None,
            {
                "long_name": "part of the boundary",
                "flag_values": tags,
                "flag_meanings": " ".join(("interior", *parts)),
                **_ON_NODES,
            },
            "int8",
        ),
        WEIGHTS: Variable(
            ("node",),
            None,
            {"units": "1", "long_name": "quadrature weight (lumped mass)", **_ON_NODES},
            "float64",
        ),
        **{name: Variable(("node",), None, {**about, **_ON_NODES}) for name, about in fields.items()},
    }


def arrays(meshes: list[TriangleMesh]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What a file says of the meshes: arrays over all nodes or faces, and over samples."""
    counts = {
        "node_count": np.array([len(mesh.points) for mesh in meshes]),
        "face_count": np.array([len(mesh.triangles) for mesh in meshes]),
    }
    starts = np.concatenate([[0], np.cumsum(counts["node_count"])])
    if starts[-1] > np.iinfo(np.int32).max:
        raise DatasetError(f"{starts[-1]:,} nodes are too many for one file; write a folder of shards")
    points = np.concatenate([mesh.points for mesh in meshes])
    return {
        "x": points[:, 0],
        "y": points[:, 1],
        FACES: np.concatenate([mesh.triangles + start for mesh, start in zip(meshes, starts)]),
        BOUNDARY: np.concatenate([mesh.tags for mesh in meshes]),
        WEIGHTS: np.concatenate([mesh.weights for mesh in meshes]),
    }, counts


def ragged_dimensions(schema: Schema) -> dict[str, str]:
    """Dimensions along which the samples follow one another, and the names of the variables that count."""
    return {
        str(variable.attributes["sample_dimension"]): name
        for name, variable in schema.variables.items()
        if "sample_dimension" in variable.attributes
    }


def is_mesh(schema: Schema) -> bool:
    """Whether the samples are on meshes."""
    return "node" in ragged_dimensions(schema)


def fields(schema: Schema) -> dict[str, Variable]:
    """Variables on the nodes, but for what belongs to the meshes."""
    return {
        name: variable
        for name, variable in schema.variables.items()
        if variable.dims == ("node",)
        and variable.attributes.get("location") == "node"
        and name not in ("x", "y", BOUNDARY, WEIGHTS)
    }


def copy(schema: Schema, target: str | os.PathLike, where: str, compress: str | None = None) -> None:
    """Write all meshes and fields into one file, piece by piece; `DatasetError` for NaN or infinity."""
    lazy = {name: v.values for name, v in schema.variables.items() if isinstance(v.values, FieldArray)}
    variables = {
        name: Variable(v.dims, None, v.attributes, str(v.values.dtype)) if name in lazy else v
        for name, v in schema.variables.items()
    }

    def blocks() -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        for name, values in lazy.items():
            for start in range(0, len(values), _ROWS):
                block = values[start : start + _ROWS]
                if not np.isfinite(block).all():
                    raise DatasetError(
                        f"{where}: variable {name!r} holds NaN or infinity; repair the data first"
                    )
                yield start, {name: block}

    write(target, Schema(variables, schema.attributes, schema.sizes), blocks(), compress)


@final
class Meshes:
    """The meshes of a schema, read one by one.

    Raises `DatasetError`, when made or when a mesh is read, for variables that are missing or contradict each
    other.
    """

    def __init__(self, schema: Schema, where: str):
        self._where = where
        dims = {"x": "node", "y": "node", FACES: "face", **dict.fromkeys(COUNTS.values(), "sample")}
        missing = [
            f"{name} over {dim!r}"
            for name, dim in dims.items()
            if name not in schema.variables or schema.variables[name].dims[:1] != (dim,)
        ]
        if missing:
            raise DatasetError(
                f"{where} has no {', '.join(missing)}, so no meshes; open it with pde_data.open"
            )
        self._variables = {name: variable.values for name, variable in schema.variables.items()}
        about = schema.variables[BOUNDARY].attributes if BOUNDARY in schema.variables else {}
        self._parts = tuple(str(about.get("flag_meanings", "")).split()[1:])  # the first one is the inside
        self._starts = {dim: self._ends(dim, schema.sizes[dim]) for dim in COUNTS}

    def _ends(self, dim: str, size: int) -> np.ndarray:
        counts = np.asarray(self._variables[COUNTS[dim]])
        if counts.dtype.kind not in "iu" or counts.min(initial=1) < 1 or counts.sum() != size:
            raise DatasetError(
                f"{self._where}: {COUNTS[dim]} should hold positive whole numbers that sum to the {size} "
                f"entries along {dim!r}; the file is damaged"
            )
        return np.concatenate([[0], np.cumsum(counts)])

    def __len__(self) -> int:
        return len(self._starts["node"]) - 1

    @property
    def node_counts(self) -> np.ndarray:
        """Number of nodes of each sample."""
        return np.diff(self._starts["node"])

    def values(self, name: str, sample: int) -> np.ndarray:
        """Values of a variable over nodes, of one sample, `(node,)`."""
        start, stop = self._starts["node"][sample : sample + 2].tolist()
        return np.asarray(self._variables[name][start:stop])

    def points(self, sample: int) -> np.ndarray:
        """Positions of the nodes of one sample, `(node, 2)`."""
        return np.stack([self.values(name, sample) for name in "xy"], axis=1).astype(np.float64)

    def weights(self, sample: int) -> np.ndarray:
        """Quadrature weights of the nodes of one sample, `(node,)`; if none are stored, the lumped mass."""
        return self.values(WEIGHTS, sample) if WEIGHTS in self._variables else self[sample].weights

    @property
    def boundary_parts(self) -> tuple[str, ...]:
        """Names of the parts of the boundary, in the order of their tags 1, 2, ..."""
        return self._parts

    def __getitem__(self, sample: int) -> TriangleMesh:
        points = self.points(sample)
        start, stop = self._starts["face"][sample : sample + 2].tolist()
        faces = np.asarray(self._variables[FACES][start:stop]).astype(np.int64) - self._starts["node"][sample]
        if faces.shape[1:] != (3,) or faces.min(initial=0) < 0 or faces.max(initial=0) >= len(points):
            raise DatasetError(
                f"{self._where}: {FACES!r} of sample {sample} names nodes of other samples, or is not of "
                "triangles; the file is damaged"
            )
        tags = self.values(BOUNDARY, sample) if BOUNDARY in self._variables else np.zeros(len(points))
        return TriangleMesh(points, faces, tags.astype(np.int64))


def count_attributes(name: str) -> dict[str, Any]:
    """Attributes of a variable over samples: those that make it count nodes or faces, if it does."""
    dims = {count: dim for dim, count in COUNTS.items()}
    return {"long_name": f"number of {dims[name]}s", "sample_dimension": dims[name]} if name in dims else {}
