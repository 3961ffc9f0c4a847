"""The models of the accuracy protocol: how each is built for a task, at any width; one row each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from torch import nn

import opflow
from protocol import views
from protocol.grid_fno import GridFNO
from protocol.matching import match
from protocol.tasks import Setup, Task
from protocol.views import View


@dataclass(frozen=True)
class Model:
    """A row: how a model sees the data, how it is built from that and a width, what its training has more."""

    view: Callable[..., View]
    build: Callable[[View, int], nn.Module]
    train: Mapping[str, Any] = field(default_factory=dict)


def _operator(name: str, width: str = "hidden_channels", **fixed: Any) -> Callable[[View, int], nn.Module]:
    """Build an operator of the package by name; `fixed` holds arguments, or functions of the view."""

    def build(view: View, size: int) -> nn.Module:
        arguments = {key: value(view) if callable(value) else value for key, value in fixed.items()}
        channels = {"in_channels": view.in_channels, "out_channels": view.out_channels}
        return opflow.build(name, **channels, **arguments, **{width: size})

    return build


def _modes(view: View) -> list[int]:
    return list(view.setup.n_modes)


def _kinds(frames: str) -> Callable[[View], list[str]]:
    return lambda view: list(view.task.kinds) * ((view.task.window or 1) if frames == "in" else 1)


def _group(group: str) -> Callable[[View, int], nn.Module]:
    kinds = {"in_kinds": _kinds("in"), "out_kinds": _kinds("out")}
    # Turns about the origin: those of the array are off by a point, which a forcing does not allow.
    return _operator("GFNO", n_modes=_modes, group=group, positional_embedding="periodic", **kinds)


def _peer(name: str, **fixed: Any) -> Callable[[View, int], nn.Module]:
    return _operator(f"neuralop:{name}", **fixed)


def _uno(view: View, size: int) -> nn.Module:
    modes = _modes(view)
    half = [m // 2 for m in modes]
    layers = {
        "n_layers": 4,
        "uno_out_channels": [size] * 4,
        "uno_n_modes": [modes, half, half, modes],
        "uno_scalings": [[1, 1], [0.5, 0.5], [1, 1], [2, 2]],
        "channel_mlp_skip": "linear",
    }
    return _peer("UNO", **layers)(view, size)


def _grid_fno(view: View, size: int) -> nn.Module:
    assert view.packing is not None
    return GridFNO(
        view.packing, view.in_channels, view.out_channels, n_modes=_modes(view), hidden_channels=size
    )


def _circular(view: View) -> bool:
    return all(view.grid.periodic)


def _mino(view: View, size: int) -> nn.Module:
    """MINO of 4 heads: a width of 4 for each unit of `size`."""
    assert view.box is not None
    sides = [high - low for low, high in zip(view.box.low, view.box.high)]
    side = max(sides)
    latent = [round(10 * s / side) + 1 for s in sides]
    arguments = {
        "coord_dim": len(sides),
        "domain": list(zip(view.box.low, view.box.high)),
        "latent": latent,
        "radius": 0.08 * side,
        "n_layers": 4,
    }
    return _operator("MINO", **arguments)(view, 4 * size)


_SPHERE = {"n_modes": lambda view: view.setup.n_modes[0], "grid": "gauss"}

MODELS: dict[str, Model] = {
    "FNO": Model(views.fields, _operator("FNO", n_modes=_modes)),
    "GFNO": Model(views.fields, _group("p4")),
    "GFNO-p4m": Model(views.fields, _group("p4m")),
    "LocalNO": Model(
        views.fields,
        _operator(
            "LocalNO",
            n_modes=_modes,
            domain_length=lambda view: list(view.grid.lengths),
            periodic=lambda view: list(view.grid.periodic),
        ),
    ),
    "neuralop-FNO": Model(views.fields, _peer("FNO", n_modes=_modes)),
    "TFNO": Model(views.fields, _peer("TFNO", n_modes=_modes, factorization="Tucker", rank=0.2)),
    "UNO": Model(views.fields, _uno),
    "UNet": Model(views.fields, _operator("UNet", circular=_circular)),
    "ConvNeXtUNet": Model(views.fields, _operator("ConvNeXtUNet", circular=_circular)),
    # Its width is counted in heads of 8 numbers.
    "PatchTransformer": Model(
        views.fields,
        lambda view, size: _operator("PatchTransformer", heads=size, circular=_circular)(view, 8 * size),
    ),
    "SFNO": Model(views.fields, _operator("LocalSFNO", **_SPHERE, disco_layers=False)),
    "LocalSFNO": Model(views.fields, _operator("LocalSFNO", **_SPHERE)),
    "FNO-on-grid": Model(views.meshes_on_grid, _grid_fno),
    "MINO": Model(views.points, _mino, {"query_points": 256}),
    "MINO-on-grid": Model(views.grid_as_points, _mino, {"query_points": 256}),
}
"""The models by name."""


def widths(task: Task, setup: Setup, path: Path) -> dict[str, int]:
    """Return the width of each model of a task, at equal parameters; see `match`."""
    view = cache(lambda make: make(task, setup, path))
    builders = {
        name: lambda width, row=MODELS[name]: row.build(view(row.view), width) for name in setup.models
    }
    return match(builders, setup.width)
