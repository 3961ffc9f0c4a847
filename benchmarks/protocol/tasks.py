"""The tasks of the accuracy protocol: which data, which models, which score; one row each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from opflow.training import TrainConfig


@dataclass(frozen=True)
class Setup:
    """A task at one scale: its data, and what a training may cost."""

    samples: int
    """Trajectories or samples, divided into train, valid and test."""
    options: Mapping[str, Any]
    """Fields of the equation for `pde_data.generate`."""
    n_modes: tuple[int, ...]
    """Modes of the spectral layers, the same for all models of the task."""
    width: int
    """Width of the first model; the widths of all are then moved until their parameters agree."""
    budget: float
    """Seconds of a training: CPU time of its one thread, or wall time on a GPU."""
    pilot: float
    """Seconds of a pilot, by which the learning rate is chosen."""
    models: tuple[str, ...]
    """Rows of `MODELS`; the first is the baseline that the others are compared with."""
    seeds: tuple[int, ...]
    """Seeds of weights and order of samples; the data stay the same."""
    fractions: tuple[float, float, float] = (0.75, 0.1, 0.15)
    """Parts for training, validation and test, by trajectory."""
    resolution: int | None = None
    """Training grid, where the file holds a finer one."""
    finer: tuple[int, ...] = ()
    """Grids on which the trained weights are tested too."""
    cells: int = 48
    """Grid points along the longer side of the box, for models that see meshes through a grid."""


@dataclass(frozen=True)
class Task:
    """One comparison: the equation, what is predicted from what, and how both sides are trained."""

    name: str
    equation: str
    about: str
    train: TrainConfig
    small: Setup | None
    """The default scale, minutes on a CPU; None for tasks of the full protocol only."""
    full: Setup
    window: int | None = None
    """Input frames; None for steady problems."""
    steps: int = 1
    """Length of the rollouts that are scored; training is on single steps."""
    variables: tuple[str, ...] = ()
    """Variables over time that are stepped; empty for what the file recommends."""
    kinds: tuple[str, ...] = ("scalar",)
    """How each variable turns, for equivariant models."""
    rotated: bool = False
    """Whether the law allows quarter turns, so that turned test data are fair."""
    default: bool = True
    """Whether the default run includes the small scale; otherwise `--tasks` has to name it."""
    rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    """Learning rates that the pilots of every model choose from."""

    def setup(self, scale: str) -> Setup:
        """Return the setup of a scale, "default" or "full".

        Raises:
            ValueError: the task has no such scale.
        """
        found = {"default": self.small, "full": self.full}.get(scale)
        if found is None:
            raise ValueError(f"the task {self.name} has no scale {scale!r}; run it with --full")
        return found


@dataclass(frozen=True)
class _Row:
    """What the setups of several tasks share."""

    values: dict[str, Any] = field(default_factory=dict)

    def __call__(self, **changes: Any) -> Setup:
        return Setup(**self.values | changes)


_CPU = _Row({"budget": 300.0, "pilot": 60.0, "seeds": (0, 1)})
_SHORT = _Row({"budget": 150.0, "pilot": 30.0, "seeds": (0, 1)})
_GPU = _Row({"budget": 1200.0, "pilot": 120.0, "seeds": (0, 1, 2)})
_STEADY = TrainConfig(batch_size=16, loss="l2", schedule="cosine", weight_decay=1e-4)
_STEPPING = replace(_STEADY, predict="increment")
_MESHES = replace(_STEADY, batch_size=8)
_MESH_RATES = (1e-3, 2e-3, 4e-3)

# The equation of G-FNO's Navier-Stokes sets; its learning rates include theirs, 1e-3.
_NAVIER_STOKES = {"viscosity": 1e-4, "resolution": 64, "solve_resolution": 256}
_PUBLISHED = {"samples": 1200, "fractions": (10 / 12, 1 / 12, 1 / 12)}
_GRID_BASELINES = ("neuralop-FNO", "TFNO", "UNO", "UNet", "ConvNeXtUNet", "PatchTransformer")

_ROWS = (
    Task(
        name="symmetric-navier-stokes",
        equation="navier_stokes",
        about="vorticity under 0.1 (cos 4 pi x + cos 4 pi y), viscosity 1e-4: ten frames, then the next ten",
        train=_STEPPING,
        window=10,
        steps=10,
        kinds=("pseudoscalar",),
        rotated=True,
        # Few trajectories and many tests: as often as in the published trainings, the data are seen about a
        # hundred times, and the errors are those on new data.
        small=_CPU(
            samples=320,
            fractions=(0.375, 0.125, 0.5),
            options={
                **_NAVIER_STOKES,
                "forcing": "sym",
                "t_end": 20.0,
                "records": 20,
                "resolution": 32,
                "solve_resolution": 128,
            },
            n_modes=(24, 24),
            width=20,
            models=("FNO", "GFNO"),
        ),
        full=_GPU(
            **_PUBLISHED,
            options={**_NAVIER_STOKES, "forcing": "sym", "t_end": 20.0, "records": 20},
            n_modes=(24, 24),
            width=20,
            models=("FNO", "GFNO", "GFNO-p4m", *_GRID_BASELINES),
        ),
    ),
    Task(
        name="navier-stokes",
        equation="navier_stokes",
        about="vorticity under 0.1 (sin + cos)(2 pi (x + y)), viscosity 1e-4: ten frames, then the next 20",
        train=_STEPPING,
        window=10,
        steps=20,
        kinds=("pseudoscalar",),
        small=None,
        full=_GPU(
            **_PUBLISHED,
            options={**_NAVIER_STOKES, "forcing": "fno", "t_end": 30.0, "records": 30},
            n_modes=(24, 24),
            width=20,
            models=("FNO", "GFNO", "GFNO-p4m", *_GRID_BASELINES),
        ),
    ),
    Task(
        name="kolmogorov",
        equation="kolmogorov_flow",
        about="turbulent vorticity, Re 500, from one frame to the next, 0.25 later",
        train=_STEPPING,
        window=1,
        kinds=("pseudoscalar",),
        small=_CPU(
            samples=60,
            options={
                "reynolds": 500.0,
                "t_end": 15.0,
                "records": 60,
                "burn_in": 20.0,
                "resolution": 32,
                "solve_resolution": 128,
            },
            n_modes=(16, 16),
            width=32,
            models=("FNO", "LocalNO"),
        ),
        full=_GPU(
            samples=500,
            options={"reynolds": 500.0, "t_end": 10.0, "records": 40, "resolution": 128},
            n_modes=(40, 40),
            width=40,
            models=("FNO", "LocalNO", *_GRID_BASELINES),
        ),
    ),
    Task(
        name="darcy",
        equation="darcy",
        about="pressure from a permeability of two phases",
        train=_STEADY,
        default=False,
        small=_SHORT(
            samples=600,
            options={"resolution": 32},
            n_modes=(16, 16),
            width=13,
            models=("FNO", "PatchTransformer", "MINO-on-grid"),
        ),
        full=_GPU(
            **_PUBLISHED,
            options={"resolution": 256},
            resolution=64,
            finer=(128, 256),
            n_modes=(24, 24),
            width=32,
            models=("FNO", "LocalNO", *_GRID_BASELINES),
        ),
    ),
    Task(
        name="diffusion-reaction",
        equation="fitzhugh_nagumo",
        about="activator and inhibitor of FitzHugh and Nagumo: ten frames, then the next forty",
        train=_STEPPING,
        window=10,
        steps=40,
        kinds=("scalar", "scalar"),
        rotated=True,
        small=None,
        full=_GPU(
            **_PUBLISHED,
            options={"resolution": 128, "records": 50},
            n_modes=(24, 24),
            width=24,
            models=("FNO", "GFNO", "LocalNO", *_GRID_BASELINES),
        ),
    ),
    Task(
        name="shallow-water",
        equation="shallow_water",
        about="depth and wind on a rotating sphere, from one frame to the next, 6 hours later",
        train=_STEPPING,
        window=1,
        variables=("height", "u", "v"),
        kinds=("scalar", "scalar", "scalar"),
        default=False,
        small=_SHORT(
            samples=40,
            options={"resolution": 64, "solve_resolution": 128},
            n_modes=(16, 16),
            width=16,
            models=("SFNO", "LocalSFNO"),
        ),
        full=_GPU(
            samples=300,
            options={"resolution": 128},
            n_modes=(32, 32),
            width=32,
            models=("SFNO", "LocalSFNO", "FNO"),
        ),
    ),
    Task(
        name="polygon-darcy",
        equation="polygon_darcy",
        about="pressure from permeability and source at the nodes of random meshes with holes",
        train=_MESHES,
        rates=_MESH_RATES,
        small=_CPU(
            samples=600,
            options={},
            n_modes=(16, 16),
            width=13,
            cells=32,
            models=("FNO-on-grid", "MINO"),
        ),
        full=_GPU(
            **_PUBLISHED,
            options={},
            n_modes=(32, 32),
            width=32,
            cells=64,
            models=("FNO-on-grid", "MINO"),
        ),
    ),
    Task(
        name="elasticity",
        equation="elasticity",
        about="displacement from stiffness and force at the nodes of random meshes with holes",
        train=_MESHES,
        rates=_MESH_RATES,
        small=None,
        full=_GPU(
            **_PUBLISHED,
            options={},
            n_modes=(32, 32),
            width=32,
            cells=64,
            models=("FNO-on-grid", "MINO"),
        ),
    ),
    Task(
        name="cylinder-flow",
        equation="cylinder_flow",
        about="velocity and pressure from the distance to a cylinder, at the nodes of meshes round it",
        train=_MESHES,
        rates=_MESH_RATES,
        small=None,
        full=_GPU(
            **_PUBLISHED,
            options={},
            n_modes=(48, 16),
            width=32,
            cells=128,
            models=("FNO-on-grid", "MINO"),
        ),
    ),
)

TASKS: dict[str, Task] = {task.name: task for task in _ROWS}
"""The tasks by name."""
