"""What `pde_data.validate` looks at: one idea per file, one row per check."""

from pde_data.checks import (
    boundary,
    budgets,
    coordinates,
    divergence,
    duplicates,
    frames,
    integrity,
    law,
    meshes,
    spectrum,
    units,
)
from pde_data.checks.base import Check, Row, Subject, skipped

CHECKS: tuple[tuple[str, Check], ...] = (
    ("checksum", integrity.checksums),
    ("units", units.units),
    ("coordinates", coordinates.spacing),
    ("domain", coordinates.consistent),
    ("finite", frames.finite),
    ("constant", frames.constant),
    ("repeated", frames.repeated),
    ("duplicates", duplicates.duplicated),
    ("leakage", duplicates.leaked),
    ("periodic", coordinates.periodicity),
    ("boundary", boundary.boundary),
    ("spectrum", spectrum.tails),
    ("divergence", divergence.divergence),
    ("budget", budgets.budgets),
    ("equation", law.law),
)

MESH_CHECKS: tuple[tuple[str, Check], ...] = (
    ("checksum", integrity.checksums),
    ("units", meshes.units),
    ("finite", meshes.finite),
    ("duplicates", meshes.duplicated),
    ("mesh", meshes.geometry),
    ("equation", meshes.law),
)

__all__ = ["CHECKS", "MESH_CHECKS", "Check", "Row", "Subject", "skipped"]
