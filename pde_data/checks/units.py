"""Units of fields and coordinates."""

from __future__ import annotations

from collections.abc import Iterator

from pde_data.checks.base import Row, Subject, judged


def units(subject: Subject) -> Iterator[Row]:
    """Every field and coordinate says its units; "1" stands for none."""
    variables = subject.schema.variables
    wanted = [*subject.schema.fields, *(d for d in ("time", *subject.space) if d in variables)]
    missing = [name for name in wanted if not str(variables[name].attributes.get("units", "")).strip()]
    remedy = f"{', '.join(missing)} without units; write the attribute `units` ('1' where there is none)"
    yield judged("units", "attributes", len(missing), 0, remedy)
