"""What notebooks show of a data set: a table and a small picture, made when they are asked for."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

from pde_data.storage import DatasetError, Schema

if TYPE_CHECKING:
    from pde_data.dataset import FieldDataset
    from pde_data.mesh_dataset import MeshDataset


def summary(dataset: FieldDataset | MeshDataset, schema: Schema, rows: Mapping[str, str]) -> str:
    """HTML of the source, its samples and variables, more `rows`, and the first sample of the set."""
    total = schema.sizes["sample"]
    content = {
        "source": dataset.name,
        "samples": f"{len(dataset.samples)} of {total}",
        "split": dataset.split or "none",
        **rows,
        "inputs": ", ".join(_with_units(schema, name) for name in dataset.input_names),
        "targets": ", ".join(_with_units(schema, name) for name in dataset.target_names),
    }
    # Names and units may come from a stranger's file.
    left = "style='text-align:left'"
    lines = "".join(
        f"<tr><th {left}>{escape(key)}</th><td {left}>{escape(text)}</td></tr>"
        for key, text in content.items()
    )
    return f"<div><b>{type(dataset).__name__}</b><table>{lines}</table>{_picture(dataset, schema)}</div>"


def _with_units(schema: Schema, name: str) -> str:
    units = str(schema.variables[name].attributes.get("units", "1"))
    return name if units in ("1", "") else f"{name} [{units}]"


def _picture(dataset: FieldDataset | MeshDataset, schema: Schema) -> str:
    from pde_data.plotting import preview

    names = list(dict.fromkeys((*dataset.input_names, *dataset.target_names)))
    try:
        image = preview(schema, dataset.name, names, int(dataset.samples[0]))
    except DatasetError as error:
        return f"<p>{escape(str(error))}</p>"
    return f"<img alt='first sample' src='data:image/png;base64,{base64.b64encode(image).decode()}'>"
