"""The equation that a file names in its attributes, as something that can be solved."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, final

import numpy as np

from pde_data import ugrid
from pde_data.equations import EQUATIONS, Equation, Evolution
from pde_data.grids import Grid
from pde_data.storage import Schema

# Fields of an equation that say how its data were made and stored, and not what the law is.
SETTINGS = ("resolution", "solve_resolution", "t_end", "records", "dt", "dtype")


@final
@dataclass(frozen=True)
class Known:
    """An equation, the field of the file for each of its variables, and parameters that differ by sample."""

    equation: Equation
    names: Mapping[str, str]
    varying: Mapping[str, np.ndarray]

    def of_sample(self, sample: int) -> Equation:
        """The equation with the parameters of one sample."""
        changes = {name: values[sample].item() for name, values in self.varying.items()}
        return replace(self.equation, **changes) if changes else self.equation  # type: ignore[type-var]

    @property
    def parameters(self) -> list[str]:
        """Names of the real parameters that the law may depend on."""
        return [
            name
            for name, value in self.equation.parameters().items()
            if isinstance(value, float) and value != 0 and name not in (*SETTINGS, "length")
        ]


def recognise(schema: Schema, grid: Grid | str) -> Known | str:
    """The equation of a data set, or in words why it cannot be solved."""
    name = schema.attributes.get("equation_name")
    if name is None:
        return "the attributes name no equation (equation_name)"
    if name not in EQUATIONS:
        return f"equation_name={name!r} is none of pde_data.EQUATIONS"
    cls = EQUATIONS[name]
    known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
    given = {key: _value(v) for key, v in schema.attributes.items() if key in known}
    given = {key: value for key, value in given.items() if value != "default"}
    if isinstance(grid, Grid):
        if "length" in known and "length" not in given and len(set(grid.lengths)) == 1:
            given["length"] = grid.lengths[0]
        if issubclass(cls, Evolution):
            given.setdefault("resolution", max(grid.sizes))
    varying = {
        key: np.asarray(variable.values)
        for key, variable in schema.variables.items()
        if key in known and variable.dims == ("sample",) and np.asarray(variable.values).dtype.kind in "fiu"
    }
    given |= {key: values[0].item() for key, values in varying.items() if len(values)}
    try:
        equation = cls.from_parameters(**given)
    except (ValueError, TypeError) as error:
        return f"its attributes describe no {name}: {error}"
    names = _match(list(equation.variables), schema)
    if isinstance(names, str):
        return names
    return Known(equation, names, varying)


def _value(attribute: Any) -> Any:
    """What `storage.as_attribute` was given."""
    if isinstance(attribute, np.ndarray):
        return tuple(attribute.tolist())
    if isinstance(attribute, str) and (attribute in ("true", "false", "null") or attribute[:1] in ("[", "{")):
        try:
            value = json.loads(attribute)
        except ValueError:
            return attribute
        return tuple(value) if isinstance(value, list) else value
    return attribute


def _match(variables: list[str], schema: Schema) -> dict[str, str] | str:
    held = list(schema.fields or ugrid.fields(schema))
    if set(variables) <= set(held):
        return {name: name for name in variables}
    if len(variables) == len(held) == 1:
        return {variables[0]: held[0]}
    missing = ", ".join(name for name in variables if name not in held)
    return f"no field {missing} that the equation needs; there is {', '.join(held)}"
