"""PDEBench again: files with one group for each sample, and incompressible flow.

A group holds `data` with its components last, `grid/x`, `grid/y`, `grid/t`, and the settings as YAML text in
the attribute `config`. Diffusion-reaction data lie as (t, y, x, component), whatever their description says.
Incompressible flow has no coordinates.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from pde_data.arrays import FileArray
from pde_data.formats import axes
from pde_data.formats.hdf5 import lazily, values, variable
from pde_data.formats.native import attributes_of
from pde_data.storage import DatasetError, Schema, Variable

_LAYOUT = "PDEBench's layout"


@final
@dataclass(frozen=True)
class _Family:
    """An equation whose files have a group for each sample."""

    title: str
    equation: str
    axes: tuple[int, ...]  # of `data`, in the order (t, x[, y])
    components: tuple[tuple[str, str], ...]
    condition: str


# By the number of space axes and of components.
_FAMILIES = {
    (1, 1): _Family(
        "diffusion-sorption",
        "u_t = D/R(u)*u_xx, R = 1 + (1 - por)/por*rho_s*k_f*n_f*u^(n_f - 1)",
        (0, 1),
        (("u", "concentration"),),
        "dirichlet",
    ),
    (2, 1): _Family(
        "shallow water", "shallow water equations", (0, 1, 2), (("h", "depth of the water"),), "open"
    ),
    (2, 2): _Family(
        "diffusion-reaction",
        "u_t = Du*laplace(u) + u - u^3 - k - v, v_t = Dv*laplace(v) + u - v",
        (0, 2, 1),
        (("u", "activator"), ("v", "inhibitor")),
        "neumann",
    ),
}


def recognises(file: Any) -> bool:
    """Whether an open file has numbered groups with `data` and `grid`, or fields of incompressible flow."""
    first = next(iter(file), "")
    if _is_sample(file, first):
        return "data" in file[first] or "grid" in file[first]
    velocity = getattr(file.get("velocity"), "ndim", 0) == 5
    return velocity and any(name in file for name in ("particles", "force"))


def read(path: Path, file: Any) -> Schema:
    """Describe an open file; fields stay on disk."""
    return _incompressible(path, file) if "velocity" in file else _groups(path, file)


def _is_sample(file: Any, name: str) -> bool:
    return re.fullmatch(r"\d{4,9}", name) is not None and hasattr(file[name], "keys")


def _groups(path: Path, file: Any) -> Schema:
    names = [name for name in file if _is_sample(file, name)]
    first = variable(file[names[0]], "data", path, _LAYOUT, (3, 4))
    frames, *stored, components = first.shape
    family = _FAMILIES.get((len(stored), components))
    if family is None:
        raise DatasetError(
            f"{path}: {first.name} has shape {first.shape}; PDEBench has (t, x, 1), (t, y, x, 2) "
            "and (t, x, y, 1)"
        )
    space: tuple[str, ...] = ("x", "y")[: len(stored)]
    sizes = {name: first.shape[axis] for name, axis in zip(("t", *space), family.axes)}
    grid = {name: _coordinate(path, file[names[0]], name, size) for name, size in sizes.items()}
    times = np.empty((len(names), frames), grid["t"].dtype)
    settings = []
    for sample, name in enumerate(names):
        group = file[name]
        data = variable(group, "data", path, _LAYOUT)
        if data.shape != first.shape or data.dtype != first.dtype:
            raise DatasetError(
                f"{path}: {data.name} has shape {data.shape} and type {data.dtype}, but {first.name} "
                f"{first.shape} and {first.dtype}; a set has one grid"
            )
        times[sample] = _coordinate(path, group, "t", frames)
        for x in space:
            if not np.array_equal(_coordinate(path, group, x, sizes[x]), grid[x]):
                raise DatasetError(
                    f"{path}: {name}/grid/{x} differs from {names[0]}/grid/{x}; a set has one grid"
                )
        settings.append(_settings(str(group.attrs.get("config", "")), "sim"))
    conditions: dict[str, str] = dict.fromkeys(space, family.condition)
    dims = ("sample", "time", *space)
    order = (None, *family.axes)
    fields = {
        name: Variable(
            dims,
            FileArray(
                [path] * len(names),
                [f"{sample}/data" for sample in names],
                [1] * len(names),
                tuple(sizes.values()),
                first.dtype,
                order,
                {first.ndim - 1: component},
            ),
            {"units": "1", "long_name": long_name},
        )
        for component, (name, long_name) in enumerate(family.components)
    }
    constant, varying = _parameters(settings)
    return Schema(
        {
            "sample": Variable(
                ("sample",), np.array([int(name) for name in names]), {"long_name": "sample number"}
            ),
            **axes.times(times),
            **axes.space({x: grid[x] for x in space}, conditions, "cell"),
            **varying,
            **fields,
        },
        {
            "title": f"{family.title} data",
            "source": "PDEBench",
            "equation": family.equation,
            **constant,
            "boundary_conditions": axes.in_words(conditions),
            "inputs": " ".join(fields),
        },
    )


def _coordinate(path: Path, group: Any, name: str, size: int) -> np.ndarray:
    found = values(group, f"grid/{name}", path, _LAYOUT, (1,))
    if len(found) != size:
        raise DatasetError(
            f"{path}: {group.name}/grid/{name} has {len(found)} entries, {group.name}/data {size} along it"
        )
    return found


def _incompressible(path: Path, file: Any) -> Schema:
    velocity = variable(file, "velocity", path, _LAYOUT, (5,))
    count, frames, *sizes, components = velocity.shape
    expected = {"particles": (count, frames, *sizes, 1), "force": (count, *sizes, 2), "t": (count, frames)}
    found = {name: variable(file, name, path, _LAYOUT, (len(shape),)) for name, shape in expected.items()}
    wrong = [name for name, shape in expected.items() if found[name].shape != shape]
    if components != 2 or wrong:
        shapes = ", ".join(f"/{name} {item.shape}" for name, item in {"velocity": velocity, **found}.items())
        raise DatasetError(
            f"{path}: {shapes} do not fit; PDEBench has velocity (N, nt, nx, ny, 2), "
            "particles (N, nt, nx, ny, 1), force (N, nx, ny, 2) and t (N, nt)"
        )
    given = attributes_of(file)
    text = str(given.pop("config", ""))
    lengths = re.search(r"^domain_size:\s*\n\s*- (\S+)\n\s*- (\S+)", text, re.MULTILINE)
    lengths = [_number(length) or 1.0 for length in lengths.groups()] if lengths else [1.0, 1.0]
    conditions = {"x": "wall", "y": "wall"}
    grid = {x: axes.centres(size, length) for x, size, length in zip("xy", sizes, lengths)}
    note = "the file has no coordinates: centres of equal cells of the box in its settings"
    dims = ("sample", "time", "x", "y")
    fields = {
        f"velocity_{x}": Variable(
            dims,
            lazily(path, velocity, range(4), {4: axis}),
            {"units": "1", "long_name": f"velocity along {x}", "symmetry": f"vector {x}"},
        )
        for axis, x in enumerate("xy")
    }
    fields["particles"] = Variable(
        dims,
        lazily(path, found["particles"], range(4), {4: 0}),
        {"units": "1", "long_name": "particle density"},
    )
    recommended = " ".join(fields)
    for axis, x in enumerate("xy"):
        about = {"units": "1", "long_name": f"body force along {x}", "symmetry": f"vector {x}"}
        fields[f"force_{x}"] = Variable(
            ("sample", "x", "y"), lazily(path, found["force"], range(3), {3: axis}), about
        )
    settings = _settings(text)
    viscosity = {"viscosity": settings["NU"]} if "NU" in settings else {}
    return Schema(
        {
            **axes.samples(count),
            **axes.times(values(file, "t", path, _LAYOUT)),
            **axes.space(grid, conditions, "cell", dict.fromkeys(grid, note)),
            **fields,
        },
        {
            "title": "incompressible Navier-Stokes data",
            "source": "PDEBench",
            "equation": "v_t + v.grad(v) = -grad(p) + viscosity*laplace(v) + force, div(v) = 0",
            **given,
            **settings,
            **viscosity,
            "boundary_conditions": "no-slip walls in x and y",
            "inputs": recommended,
        },
    )


def _settings(text: str, section: str = "") -> dict[str, float]:
    r"""Numbers in YAML text: `key: number` lines at its top level, or indented by two below `section:`.

    >>> _settings("name: a\nsim:\n  Du: 1E-3\n  seed: 7\nplot:\n  dim: 2", "sim")
    {'Du': 0.001, 'seed': 7.0}
    """
    if section:
        block = re.search(rf"^{section}:\s*\n((?:  .*\n?)*)", text, re.MULTILINE)
        text = re.sub("^  ", "", block[1], flags=re.MULTILINE) if block else ""
    pairs = re.findall(r"^(\w+): *(\S+)[ \t]*(?:#.*)?$", text, re.MULTILINE)
    numbers = {key: _number(value) for key, value in pairs}
    return {key: value for key, value in numbers.items() if value is not None}


def _number(text: str) -> float | None:
    # Not all that float() takes: "nan", "infinity" and "1_000" are words.
    return float(text) if re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", text) else None


def _parameters(settings: list[dict[str, float]]) -> tuple[dict[str, float], dict[str, Variable]]:
    """Numbers that all samples share, and those that differ, as variables over `sample`."""
    shared = {key for key in settings[0] if all(key in other for other in settings)}
    constant, varying = {}, {}
    for key in (key for key in settings[0] if key in shared):
        found = np.array([other[key] for other in settings])
        if (found == found[0]).all():
            constant[key] = float(found[0])
        else:
            varying[key] = Variable(("sample",), found, {"units": "1", "long_name": f"parameter {key}"})
    return constant, varying
