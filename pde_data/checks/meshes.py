"""Samples on triangle meshes: their geometry, their values, and the discrete equations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from pde_data import ugrid
from pde_data.checks.base import Row, Subject, judged, skipped
from pde_data.checks.known import recognise
from pde_data.checks.units import row
from pde_data.equations import MeshEquation
from pde_data.meshes import TriangleMesh

_LEAST = 1e-6  # residual that a direct solver in float64 stays below
_CHANGE = 1e-2  # of values, relative, large enough to hide what they do not solve
_FLAT = 1.0  # degrees


def units(subject: Subject) -> Iterator[Row]:
    """Every field and position says its units; "1" stands for none."""
    fields = ugrid.fields(subject.schema)
    yield row({**fields, **{name: subject.schema.variables[name] for name in "xy"}})


def finite(subject: Subject) -> Iterator[Row]:
    """NaN and infinity at nodes."""
    meshes = ugrid.Meshes(subject.schema, subject.name)
    for name in ugrid.fields(subject.schema):
        bad = [s for s in range(len(meshes)) if not np.isfinite(meshes.values(name, s)).all()]
        remedy = f"sample {', '.join(map(str, bad[:3]))}; leave the sample out, or make it again"
        yield judged("finite", name, len(bad), 0, remedy)


def duplicated(subject: Subject) -> Iterator[Row]:
    """Samples with the same nodes and the same values."""
    meshes, seen, twice = ugrid.Meshes(subject.schema, subject.name), {}, []
    for sample in range(len(meshes)):
        parts = [meshes.values(name, sample).tobytes() for name in ("x", "y", *ugrid.fields(subject.schema))]
        first = seen.setdefault(hash(tuple(parts)), sample)
        if first != sample:
            twice.append((first, sample))
    remedy = f"samples {' and '.join(map(str, twice[0] if twice else ()))} are the same; leave one out"
    yield judged("duplicates", "samples", len(twice), 0, remedy)


def geometry(subject: Subject) -> Iterator[Row]:
    """Triangles turn one way and are not flat, weights are the lumped mass, tags mark the boundary."""
    meshes = ugrid.Meshes(subject.schema, subject.name)
    angles, masses, untagged = [], [], 0
    for sample in subject.chosen.tolist():
        mesh = meshes[sample]
        angles.append(float(mesh.angles.min()))
        masses.append(float(np.abs(meshes.weights(sample) / mesh.weights - 1).max()))
        outline = np.zeros(len(mesh.points), bool)
        outline[mesh.boundary] = True
        untagged += (
            int((outline != (mesh.tags > 0)).any()) if ugrid.BOUNDARY in subject.schema.variables else 0
        )
    worst = int(subject.chosen[int(np.argmin(angles))])
    remedy = f"sample {worst} has an angle of {min(angles):.3g} degrees: triangles are flat or turn clockwise"
    yield judged("mesh", "angles", _FLAT - min(angles), 0, remedy, f"least angle {min(angles):.3g} degrees")
    remedy = f"{ugrid.WEIGHTS} is not a third of the area of the triangles around each node"
    yield judged("mesh", ugrid.WEIGHTS, max(masses), 1e-6, remedy)
    remedy = f"{ugrid.BOUNDARY} of {untagged} samples does not mark the nodes of the outline, and no others"
    yield judged("mesh", ugrid.BOUNDARY, untagged, 0, remedy)


def law(subject: Subject) -> Iterator[Row]:
    """Residual of the discrete equations that the attributes name."""
    known = recognise(subject.schema, "each sample has a mesh")
    if isinstance(known, str) or not isinstance(known.equation, MeshEquation):
        yield skipped("equation", "fields", known if isinstance(known, str) else "no equation on meshes")
        return
    meshes, equation = ugrid.Meshes(subject.schema, subject.name), known.equation
    scalars = {n: v.values for n, v in subject.schema.variables.items() if v.dims == ("sample",)}
    residuals, rounding = {}, {}
    for sample in subject.chosen.tolist():
        fields = {name: meshes.values(held, sample) for name, held in known.names.items()}
        try:
            about = {name: float(values[sample]) for name, values in scalars.items()}
            residuals[sample] = equation.residual(meshes[sample], fields, about)
            rounding[sample] = _rounding(equation, meshes[sample], fields, about, residuals[sample])
        except (ImportError, KeyError, ValueError) as error:
            yield skipped("equation", equation.name, str(error))
            return
    tolerance = {sample: max(_LEAST, 4 * rounding[sample]) for sample in residuals}
    worst = max(residuals, key=lambda sample: residuals[sample] / tolerance[sample])
    remedy = f"sample {worst} does not solve the equation with these parameters; make it again"
    about = f"discrete equations, {len(residuals)} of {len(meshes)} samples"
    yield judged("equation", equation.name, residuals[worst], tolerance[worst], remedy, about)


def _rounding(
    equation: MeshEquation,
    mesh: TriangleMesh,
    fields: Mapping[str, np.ndarray],
    about: Mapping[str, float],
    residual: float,
) -> float:
    """Residual that storing the solution as float32 causes: that of a larger random change, scaled down."""
    rng = np.random.default_rng(0)
    changed = {
        name: values if name in equation.inputs else values * (1 + _CHANGE * rng.uniform(-1, 1, len(values)))
        for name, values in fields.items()
    }
    found = equation.residual(mesh, changed, about)
    return 2**-24 / _CHANGE * float(np.sqrt(max(found**2 - residual**2, 0.0)))
