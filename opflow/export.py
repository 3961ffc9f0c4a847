"""Write a model as a graph that runs without this package: torch.export (`.pt2`) and ONNX.

The graph maps raw fields to raw fields, normalisation included, for any batch size and any grid with more
points per axis than the model has modes. That of a point operator holds one set of points.
"""

import warnings
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from opflow.nn.point_geometry import PointGeometry
    from opflow.operators.base import Operator
    from opflow.operators.points import PointOperator


def to_pt2(
    model: "Operator | PointOperator",
    path: str | PathLike,
    example: Tensor,
    geometry: "PointGeometry | None" = None,
) -> None:
    """Write `model` as a torch.export archive; `load_pt2(path)` or `torch.export.load(path)` reads it.

    Args:
        model: the model; it is exported in evaluation mode and in its dtype.
        path: the file to write, by custom `*.pt2`.
        example: an input `(batch, in_channels, *space)` on a grid with more points per axis than modes. Its
            batch size and grid do not limit the exported model. For a point operator `(batch, point,
            in_channels)`.
        geometry: for a point operator, `model.geometry(coords, weights)`; the exported model has these points
            and takes values, and the time `(batch,)` where the model does.

    Raises:
        ValueError: the model cannot be traced for every grid, or the grid of `example` is too coarse; the
            message says why.

    Example:
        >>> import tempfile
        >>> from opflow import FNO
        >>> model = FNO(n_modes=(4,), in_channels=1, out_channels=1, hidden_channels=4, n_layers=1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     to_pt2(model, f"{folder}/model.pt2", torch.zeros(2, 1, 8))
        ...     exported = load_pt2(f"{folder}/model.pt2")
        >>> x = torch.randn(5, 1, 13)
        >>> torch.allclose(exported(x), model(x), atol=1e-5)
        True
    """
    from torch._export.serde.serialize import SerializeError

    program = _trace(model, example, geometry)
    try:
        torch.export.save(program, path)
    except SerializeError as error:
        raise ValueError(
            f"{type(model).__name__} computes sizes that a .pt2 file cannot hold (domain_padding and "
            "resolution_scaling_factor round them); to_onnx has no such limit"
        ) from error


def load_pt2(path: str | PathLike) -> nn.Module:
    """Read a model written by `to_pt2`; opflow is not needed for it, only torch.

    Only for files from people you trust: torch's format can hold pickles, which run code when they are read.
    Weights from strangers are safe in a folder of `save_pretrained` (`opflow.load`) or in ONNX.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}")
    return torch.export.load(path).module()


def to_onnx(
    model: "Operator | PointOperator",
    path: str | PathLike,
    example: Tensor,
    geometry: "PointGeometry | None" = None,
) -> None:
    """Write `model` as an ONNX graph with input `x`, output `y`, dynamic batch and grid.

    Args:
        model: the model; it is exported in evaluation mode and in its dtype, which must be real.
        path: the file to write, by custom `*.onnx`. Weights beyond 2 GB go to a file beside it.
        example: as for `to_pt2`.
        geometry: as for `to_pt2`.

    Raises:
        ImportError: the extra `export` (onnx, onnxscript) is not installed.
        ValueError: as for `to_pt2`, and for operations that ONNX does not have, complex ones for instance.

    Example:
        To run the file::

            session = onnxruntime.InferenceSession("model.onnx")
            (y,) = session.run(None, {"x": x})  # x: float32 array (batch, in_channels, *space)
    """
    try:
        from onnxscript import opset18 as op
    except ImportError as error:
        raise ImportError(
            'ONNX export needs onnx and onnxscript: pip install "opflow-sciml[export]"'
        ) from error
    if example.is_complex():
        raise ValueError("ONNX has no complex numbers: this model can be exported with to_pt2 only")
    int64 = 7  # onnx.TensorProto.INT64
    # Sizes that are computed from the grid: torch's converter lacks these two for symbolic integers.
    sizes: dict[Callable, Callable] = {
        round: lambda x, _digits=None: op.Cast(op.Round(x), to=int64),  # pyright: ignore
        torch.ops.aten.remainder.Scalar: lambda x, n: op.Mod(x, op.CastLike(n, x)),  # pyright: ignore
    }
    program = _trace(model, example, geometry)
    with warnings.catch_warnings():  # deprecations inside torch's converter
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                program,
                (),
                str(path),
                input_names=["x", "time"][: len(program.graph_signature.user_inputs)],
                output_names=["y"],
                custom_translation_table=sizes,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise ValueError(
                f"{type(model).__name__} uses an operation that ONNX does not have; to_pt2 has no such "
                f"limit. {error.__cause__ or error}"
            ) from error


def _trace(
    model: "Operator | PointOperator", example: Tensor, geometry: "PointGeometry | None"
) -> "ExportedProgram":
    from opflow.operators.points import PointOperator

    if isinstance(model, PointOperator) != (geometry is not None):
        raise ValueError(
            f"{type(model).__name__} works on "
            + ("grids and takes no geometry" if geometry else "points: give geometry=model.geometry(coords)")
        )
    if len(example) < 2:
        example = example.expand(2, *example.shape[1:])  # a batch of one would be taken for a constant
    dynamic = torch.export.Dim.DYNAMIC
    if isinstance(model, PointOperator) and geometry is not None:
        model._check(example, geometry)
        if not geometry.shared:
            raise ValueError(
                "the geometry has points of its own for each sample, which would fix the batch: export with "
                "one set of points, (point, dim)"
            )
        traced, sizes = _AtPoints(model, geometry), [{0: dynamic}]
        inputs = [example.contiguous()]
        if model.timed:
            inputs, sizes = [*inputs, example.new_zeros(len(example))], [*sizes, {0: dynamic}]
    else:
        _check_grid(model, example)
        traced, inputs = model, [example.contiguous()]
        sizes = [{axis: dynamic for axis in range(example.ndim) if axis != 1}]
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.export(traced, tuple(inputs), dynamic_shapes=tuple(sizes), strict=False)
    except (RuntimeError, ValueError) as error:  # what torch.export raises is not one class
        raise ValueError(
            f"{type(model).__name__} cannot be traced for every batch size and grid: {error}"
        ) from error
    finally:
        model.train(was_training)


def _check_grid(model: "Operator", example: Tensor) -> None:
    model._check(example)
    n_modes = getattr(model, "n_modes", None)
    grid = tuple(example.shape[2:])
    if n_modes is not None and any(n <= m for n, m in zip(grid, n_modes)):
        raise ValueError(
            f"the example has a grid of {grid} points; a model with n_modes={tuple(n_modes)} is exported "
            "on a grid with more points than modes on every axis"
        )


class _AtPoints(nn.Module):
    """A point operator together with its points, which become constants of the graph."""

    def __init__(self, model: "PointOperator", geometry: "PointGeometry"):
        super().__init__()
        self.model, self.kind = model, type(geometry)
        for name, part in geometry._asdict().items():
            self.register_buffer(name, part)

    def forward(self, values: Tensor, time: Tensor | None = None) -> Tensor:
        geometry = self.kind(*(getattr(self, name) for name in self.kind._fields))
        return self.model(values, geometry, time=time)
