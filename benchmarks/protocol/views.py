"""The data of a task as a model sees them: fields on a grid, points of meshes, or meshes through a grid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

import pde_data
from protocol.grid_fno import Packing
from protocol.mesh_grid import Box
from protocol.tasks import Setup, Task

PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class View:
    """Data sets for training, validation and test, and what a model must know of them to be built."""

    task: Task
    setup: Setup
    parts: dict[str, Dataset]
    in_channels: int
    out_channels: int
    grid: Any = None
    """Of fields."""
    box: Box | None = None
    """Of points."""
    packing: Packing | None = None
    """Of meshes that are seen through a grid."""


def data_file(task: Task, setup: Setup, scale: str, folder: Path, processes: int | None = None) -> Path:
    """Generate the file of a task, or what is missing of it; at once where it is there.

    Raises:
        pde_data.DatasetError: the folder holds a file of that name with other data.
    """
    path = folder / f"{task.name}{'' if scale == 'default' else '-' + scale}.h5"
    folder.mkdir(parents=True, exist_ok=True)
    return pde_data.generate(
        task.equation, path, samples=setup.samples, seed=0, processes=processes, **setup.options
    )


def fields(task: Task, setup: Setup, path: Path) -> View:
    """Fields on a grid, kept in memory: single steps for training, whole rollouts for the test."""
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
    names = list(task.variables) or None

    def part(split: str, resolution: int | None) -> Dataset:
        frames = {"window": task.window, "horizon": task.steps if split == "test" else 1}
        return pde_data.FieldDataset(
            path,
            names,
            split=split,
            fractions=setup.fractions,
            resolution=resolution,
            **frames if task.window else {},
        ).to(device)

    parts = {split: part(split, setup.resolution) for split in PARTS}
    finer = {f"test on {n}": part("test", n) for n in setup.finer}
    train: Any = parts["train"]
    return View(task, setup, parts | finer, train.in_channels, train.out_channels, grid=train.grid)


def points(task: Task, setup: Setup, path: Path) -> View:
    """Values at the nodes of meshes, kept in memory."""
    parts = _mesh_parts(setup, path)
    train = parts["train"]
    held: dict[str, Any] = {part: list(dataset) for part, dataset in parts.items()}
    return View(task, setup, held, train.in_channels, train.out_channels, box=_box(setup, path))


def grid_as_points(task: Task, setup: Setup, path: Path) -> View:
    """Fields on a grid of the unit square, as values at its points."""
    view = fields(task, setup, path)
    axes = [torch.from_numpy(axis).float() for axis in view.grid.coordinates]
    coords = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, -2)
    weights = torch.full((len(coords),), 1 / len(coords))

    def held(dataset: Any) -> list[pde_data.PointBatch]:
        pairs = (dataset[i] for i in range(len(dataset)))
        return [pde_data.PointBatch(coords, x.flatten(1).mT, y.flatten(1).mT, weights) for x, y in pairs]

    parts: dict[str, Any] = {name: held(part) for name, part in view.parts.items()}
    box = Box((0.0, 0.0), (1.0, 1.0), tuple(view.grid.sizes))
    return View(task, setup, parts, view.in_channels, view.out_channels, box=box)


def meshes_on_grid(task: Task, setup: Setup, path: Path) -> View:
    """The same meshes through a regular grid."""
    parts = _mesh_parts(setup, path)
    train = parts["train"]
    largest = int(pde_data.MeshDataset(path).node_counts.max())
    packing = Packing.fit(train, _box(setup, path), largest)
    packed: dict[str, Any] = {part: packing.pack(dataset) for part, dataset in parts.items()}
    return View(task, setup, packed, train.in_channels, train.out_channels, packing=packing)


def _mesh_parts(setup: Setup, path: Path) -> dict[str, pde_data.MeshDataset]:
    # Both kinds of models see the distances from the boundary.
    return {
        part: pde_data.MeshDataset(path, split=part, fractions=setup.fractions, distances=True)
        for part in PARTS
    }


def _box(setup: Setup, path: Path) -> Box:
    every = pde_data.MeshDataset(path)
    return Box.around([every.meshes.points(i) for i in every.samples.tolist()], setup.cells)
