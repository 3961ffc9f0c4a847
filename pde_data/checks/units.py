"""Units of fields and coordinates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from pde_data.checks.base import Row, Subject, judged
from pde_data.storage import Variable


def units(subject: Subject) -> Iterator[Row]:
    """Every field and coordinate says its units; "1" stands for none."""
    variables = subject.schema.variables
    wanted = [*subject.schema.fields, *(d for d in ("time", *subject.space) if d in variables)]
    yield row({name: variables[name] for name in wanted})


def row(variables: Mapping[str, Variable]) -> Row:
    """How many variables do not say their units."""
    values = {name: variable.attributes.get("units", "") for name, variable in variables.items()}
    missing = [name for name, value in values.items() if np.ndim(value) or not str(value).strip()]
    remedy = f"{', '.join(missing)} without units; write the attribute `units` ('1' where there is none)"
    return judged("units", "attributes", len(missing), 0, remedy)
