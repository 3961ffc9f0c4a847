"""Measure what a model promises."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from opflow.certification import derivatives, on_grids, on_points, on_sphere
from opflow.certification.certificate import Certificate, Measured, Row
from opflow.certification.claims import channels_in, claims_of, takes_sphere
from opflow.certification.on_points import Cloud
from opflow.nn.grid_turns import ALIASES, GRID_GROUPS
from opflow.nn.point_poses import POINT_GROUPS
from opflow.nn.spectral import fourier_resample

_ROUNDING = {torch.float64: 1e-12, torch.float32: 1e-5}


@torch.no_grad()
def certify(
    model: nn.Module,
    group: str | None = None,
    grids: Sequence[int] | None = None,
    *,
    translation: bool | None = None,
    fields: Tensor | tuple[Tensor, Tensor] | None = None,
    in_kinds: str | Sequence[str] | None = None,
    out_kinds: str | Sequence[str] | None = None,
    tolerance: float | Mapping[str, float] | None = None,
    strict: bool = False,
) -> Certificate:
    r"""Measure symmetries, independence of grid or mesh, and derivatives of a model.

    Each row of the result is one relative L2 error. It is judged where the model claims the property by its
    arguments, or where the caller asks for it; otherwise it is shown. Claims are: equivariance under the
    `group` that the model was built with; translations with `positional_embedding=None`; rotations about the
    axis on the sphere; the same operator on every grid for alias-free layers; independence of the order of
    points; derivatives in any case. What is asked for and cannot be measured is refused.

    - equivariance: :math:`f(gx)` against :math:`g f(x)` for every element of the group, or for some random
      ones of the continuous groups of point clouds, combined with a translation;
    - translation: shifts of a periodic grid; rotation: of the sphere about its axis;
    - grid: f on a coarse grid against f on the finest, on the modes that both resolve;
    - permutation: other orders of the points; mesh: more points, and twice as many in one half of the domain;
    - gradient: derivatives against finite differences, in float64.

    Args:
        model: an operator on grids, or one on point clouds, called as `model(values, coords, query_coords)`,
            with weights in float32 or float64, or the complex numbers of these.
        group: judge this group: "p4", "p4m" or another of `opflow.metrics.GROUPS`; on the sphere those that
            mirror, "mx", "my", "p2mm"; for clouds "SO(2)", "O(2)", "SO(3)", "O(3)".
        grids: judge the change between these grids (points per axis), at least two; of given `fields` the
            grid is the finest of them. For clouds: points per axis of the meshes of random functions.
        translation: judge translations of a grid (True), or only show them (False).
        fields: the inputs `(batch, in_channels, *space)`, on the finest grid; for clouds values and
            coordinates. Random functions with as many modes as the model when None.
        in_kinds: how the input fields turn ("scalar", "pseudoscalar", "vector"); what the model claims, or
            scalars, when None.
        out_kinds: how the output fields turn, likewise.
        tolerance: for all checks, or by check ("equivariance", "translation", "rotation", "grid",
            "permutation", "mesh", "gradient"). By default 1e-5 in float32 and 1e-12 in float64, 1e-6 for
            derivatives, and 0.02 for meshes, where the quadrature counts.
        strict: raise when a check fails.

    Returns:
        The rows, which print as a table; `.passed`, and `.write(path)` for JSON.

    Raises:
        ValueError: an argument is unknown or does not fit the model, or asks for what cannot be measured of
            it, or the model has another dtype; with `strict`, a check failed.

    Example:
        >>> from opflow import FNO
        >>> model = FNO((6, 6), 1, 1, 4, n_layers=2, positional_embedding=None)
        >>> certificate = certify(model)
        >>> {row.check: row.verdict for row in certificate.rows}
        {'equivariance': 'shown', 'translation': 'pass', 'grid': 'shown', 'gradient': 'pass'}
        >>> certify(model, group="p4").passed
        False
    """
    claims = claims_of(model)
    like = _like(next(model.parameters()))
    limits = _tolerances(tolerance, like.dtype)
    on_clouds = on_points.takes_points(model)
    _check_group(group, on_clouds)
    group = group or claims.group
    measure = _on_points if on_clouds else _on_sphere if takes_sphere(model) else _on_grids
    _check_asked(measure, group, grids, translation, fields)
    kinds = (in_kinds or claims.in_kinds, out_kinds or claims.out_kinds)
    judged = {
        "equivariance": group is not None,
        "translation": claims.translation if translation is None else translation,
        "rotation": claims.rotation,
        "grid": grids is not None or claims.alias_free,
        "mesh": grids is not None,
        "permutation": True,
        "gradient": True,
    }
    was_training = model.training
    model.eval()
    try:
        measured = [*measure(model, group, grids, fields, kinds, like)]
    finally:
        model.train(was_training)
    rows = [_row(found, judged[found.check], limits[found.check]) for found in measured]
    certificate = Certificate(_name(model), str(like.dtype).removeprefix("torch."), rows)
    if strict:
        certificate.require()
    return certificate


def _on_grids(model, group, grids, fields, kinds, like) -> Iterator[Measured]:
    if fields is None:
        channels = channels_in(model, kinds[0], 2)
        inputs = on_grids.GridInputs.random(model, channels, like, grids)
        x = fourier_resample(inputs.fields, inputs.ladder[0])
    else:
        inputs = on_grids.GridInputs.given(fields.to(like), grids)
        x = inputs.fields
    if group is not None and x.ndim < 4:
        raise ValueError(
            f"group={group!r} turns two space axes, and the fields have one: leave group out for these"
        )
    if x.ndim > 3:
        yield from on_grids.equivariance(model, x, group or "p4m", *kinds)
    yield from on_grids.translation(model, x)
    yield from on_grids.grid_shift(model, inputs)
    yield from derivatives.measure(model, lambda double, x: double(x), x[:1])


def _on_sphere(model, group, grids, fields, kinds, like) -> Iterator[Measured]:
    if fields is None:
        x = on_sphere.random_fields(model, channels_in(model, kinds[0], 2), like)
    else:
        x = fields.to(like)
    if group is not None:
        yield from on_grids.equivariance(model, x, group, *kinds)
    yield from on_sphere.rotation(model, x)
    yield from derivatives.measure(model, lambda double, x: double(x), x[:1])


def _on_points(model, group, grids, fields, kinds, like) -> Iterator[Measured]:
    n_dim = on_points.n_dim_of(model, group)
    if fields is None:
        channels = channels_in(model, kinds[0], n_dim)
        cloud = on_points.sampled(model, channels, on_points.oblong(n_dim), like)
    else:
        values, coords = fields
        channels, cloud = values.shape[-1], Cloud(values.to(like), coords.to(like), None)
    if group is not None:
        yield from on_points.equivariance(model, cloud, group, kinds)
    yield from on_points.permutation(model, cloud)
    if fields is None:
        yield from on_points.mesh(model, channels, grids or on_points.MESHES, n_dim, like)
    yield from derivatives.measure(model, lambda double, x: cloud.at(x).through(double), cloud.values[:1])


def _row(found: Measured, judged: bool, limit: float) -> Row:
    if found.error is None:
        return Row(found.check, found.what, None, None, "skipped", found.remark)
    if not judged:
        return Row(found.check, found.what, found.error, None, "shown", found.remark)
    passed = found.error <= limit  # not a number fails
    return Row(found.check, found.what, found.error, limit, "pass" if passed else "fail", found.remark)


def _like(parameter: Tensor) -> Tensor:
    """Return a number of the precision and on the device of a weight."""
    dtype = parameter.dtype.to_real() if parameter.is_complex() else parameter.dtype
    if dtype not in _ROUNDING:
        raise ValueError(
            f"the model has weights in {parameter.dtype}, and certificates are made in torch.float32 or "
            "torch.float64: convert it with model.float() or model.double()"
        )
    return torch.zeros((), dtype=dtype, device=parameter.device)


def _tolerances(given: float | Mapping[str, float] | None, dtype: torch.dtype) -> dict[str, float]:
    rounding = _ROUNDING[dtype]
    limits = dict.fromkeys(("equivariance", "translation", "rotation", "grid", "permutation"), rounding)
    limits |= {"mesh": 0.02, "gradient": 1e-6}
    if not isinstance(given, Mapping):
        return limits if given is None else dict.fromkeys(limits, given)
    unknown = sorted(set(given) - set(limits))
    if unknown:
        raise ValueError(f"tolerance names no check {', '.join(unknown)}; there are {', '.join(limits)}")
    return limits | dict(given)


def _check_group(group: str | None, on_clouds: bool) -> None:
    known = POINT_GROUPS if on_clouds else GRID_GROUPS | dict.fromkeys(ALIASES)
    if group is not None and group not in known:
        kind = "point clouds" if on_clouds else "grids"
        raise ValueError(f"unknown group {group!r}: for models on {kind} there are {', '.join(known)}")


def _check_asked(measure, group, grids, translation, fields) -> None:
    """Refuse what would be asked for and have no row."""
    if measure is _on_sphere:
        on_sphere.require_what_is_measured(group, translation, grids)
    if measure is _on_points and translation:
        raise ValueError(
            "translation=True asks for shifts of a periodic grid, and the model works at points: give group, "
            'such as "SO(2)", whose turns are followed by translations'
        )
    if measure is _on_points and fields is not None and grids is not None:
        raise ValueError(
            f"grids={list(grids)} asks for meshes of one function, and the given fields are known at their "
            "points alone: leave out fields, for random functions, or grids"
        )
    if grids is not None and fields is None and len({n if isinstance(n, int) else (*n,) for n in grids}) < 2:
        raise ValueError(
            f"grids={list(grids)} leaves nothing to compare: give at least two different ones, the finest is "
            "the reference"
        )


def _name(model: nn.Module) -> str:
    inner: Any = getattr(model, "model", None)
    name = type(model).__name__
    if name == "NeuralopModel":
        return f"neuralop:{type(inner).__name__}"
    return f"{name}({_name(inner)})" if name == "Symmetrize" else name
