"""The data of a task as a model sees them: fields on a grid, points of meshes, or meshes through a grid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
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
    """Values at the nodes of meshes."""
    parts = {p: pde_data.MeshDataset(path, split=p, fractions=setup.fractions) for p in PARTS}
    train = parts["train"]
    box = Box.around(_clouds(pde_data.MeshDataset(path)), setup.cells)
    return View(task, setup, parts, train.in_channels, train.out_channels, box=box)


def _clouds(dataset: pde_data.MeshDataset) -> list[np.ndarray]:
    return [dataset.meshes.points(i) for i in dataset.samples.tolist()]


def meshes_on_grid(task: Task, setup: Setup, path: Path) -> View:
    """The same meshes through a regular grid."""
    nodes = points(task, setup, path)
    assert nodes.box is not None
    largest = int(pde_data.MeshDataset(path).node_counts.max())
    packing = Packing.fit(nodes.parts["train"], nodes.box, largest)
    parts = {part: packing.pack(dataset) for part, dataset in nodes.parts.items()}
    return View(task, setup, parts, nodes.in_channels, nodes.out_channels, packing=packing)
