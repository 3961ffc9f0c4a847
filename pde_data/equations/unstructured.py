"""Steady problems on triangle meshes, each sample on a random domain of its own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import numpy as np

from pde_data.equations.base import Equation
from pde_data.equations.finite_elements import scikit_fem
from pde_data.meshes import TriangleMesh
from pde_data.random_fields import GaussianRandomField


@final
@dataclass(frozen=True)
class MeshSample:
    """One domain with data and solution: float64 fields ``(node,)`` by name, and numbers about the sample."""

    mesh: TriangleMesh
    fields: Mapping[str, np.ndarray]
    parameters: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class MeshEquation(Equation):
    """A steady problem on random domains, solved with scikit-fem (extra ``mesh``).

    A subclass draws a domain with its data, solves, and measures how well given fields solve.
    """

    libraries: ClassVar[tuple[str, ...]] = ("numpy", "scipy", "scikit-fem")

    solver: ClassVar[str]
    """The discretisation in words."""
    law: ClassVar[str]
    """The law of domains and data in words."""
    conditions: ClassVar[Mapping[str, str]]
    """Condition on each part of the boundary; the parts have the tags 1, 2, ... in this order, and a node
    where two of them meet belongs to the later one."""
    inputs: ClassVar[tuple[str, ...]]
    """Names of the variables that a model maps from; to the others."""

    size: float = 0.025
    """Length of the edges of the mesh."""

    @property
    def times(self) -> None:
        """There are none."""

    @abstractmethod
    def sample(self, seed: int, index: int) -> MeshSample:
        """Draw and solve one sample."""

    @abstractmethod
    def residual(
        self, mesh: TriangleMesh, fields: Mapping[str, np.ndarray], parameters: Mapping[str, float]
    ) -> float:
        """Relative residual of the discrete equations for one sample."""

    def attributes(self) -> dict[str, Any]:
        """Equation, parameters, conditions, seed scheme and solver; ``ImportError`` without scikit-fem."""
        scikit_fem()
        return {
            "equation": self.formula,
            **self.parameters(),
            "boundary_conditions": "; ".join(f"{part}: {text}" for part, text in self.conditions.items()),
            "inputs": " ".join(self.inputs),
            "targets": " ".join(name for name in self.variables if name not in self.inputs),
            "sample_law": self.law,
            "seed_scheme": "numpy.random.SeedSequence(seed, spawn_key=(sample, stream))",
            "solver": f"{self.solver}; scikit-fem, direct sparse solution",
        }

    def generate(
        self, seed: int, indices: Sequence[int], progress: Callable[[int], None] | None = None
    ) -> dict[str, Any]:
        """Solve for the samples of the given indices.

        Returns ``meshes``, a list of :class:`TriangleMesh`; one float32 array ``(node,)`` per variable, with
        the nodes of all samples one after another; ``parameters`` and ``diagnostics``: dicts of arrays
        ``(sample,)``. The diagnostics are the ``residual`` of the fields in float64, and ``min_angle``, the
        least of the mesh in degrees. Raises ``ImportError`` without scikit-fem.
        """
        samples = []
        for index in indices:
            samples.append(self.sample(seed, int(index)))
            if progress is not None:
                progress(1)
        return {
            "meshes": [sample.mesh for sample in samples],
            **{
                name: np.concatenate([sample.fields[name] for sample in samples]).astype(np.float32)
                for name in self.variables
            },
            "parameters": {
                name: np.array([sample.parameters[name] for sample in samples])
                for name in samples[0].parameters
            },
            "diagnostics": {
                "residual": np.array([self.residual(s.mesh, s.fields, s.parameters) for s in samples]),
                "min_angle": np.array([sample.mesh.angles.min() for sample in samples]),
            },
        }


@dataclass(frozen=True)
class PolygonEquation(MeshEquation):
    """A problem on the random polygons of :func:`pde_data.domains.random_domain`."""

    clearance: ClassVar[float] = 0.1
    """Least gap between two boundaries."""

    holes: int = 3
    """Largest number of holes."""

    def __post_init__(self) -> None:
        self.require(positive=("size",))
        if not isinstance(self.holes, int) or self.holes < 0:
            raise ValueError(f"holes={self.holes!r} must be a whole number, 0 or more")
        if self.size > self.clearance / 2:
            raise ValueError(
                f"size={self.size} must be at most {self.clearance / 2}, half of the least gap between "
                "boundaries"
            )


def generator(seed: int, index: int, stream: int) -> np.random.Generator:
    """Random numbers of one sample: streams of different numbers are independent."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index, stream)))


_MODES = 12


def smooth_field(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A Gaussian random field of unit variance, ``tau=3`` and ``alpha=2``, at points of the unit square."""
    law = GaussianRandomField(tau=3.0, alpha=2.0, sigma=1.0)
    return law.at(points, rng, _MODES) / law.deviation(_MODES, points.shape[1])
