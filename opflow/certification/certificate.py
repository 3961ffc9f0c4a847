"""The table that `certify` returns."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal, final

from opflow.save import write_json


@final
@dataclass(frozen=True)
class Measured:
    """What a check found: its name, what was done, the error, None with a remark where there is none."""

    check: str
    what: str
    error: float | None
    remark: str = ""


@final
@dataclass(frozen=True)
class Row:
    """One measured number: of which check, what was done, how far it may go, the verdict.

    The verdict is "pass" or "fail" where the model claims the property or the caller asked for it, "shown"
    where neither did, and "skipped" where it could not be measured; `remark` then says why.
    """

    check: str
    what: str
    value: float | None
    tolerance: float | None
    verdict: Literal["pass", "fail", "shown", "skipped"]
    remark: str = ""


@final
@dataclass(frozen=True)
class Certificate:
    """The rows of a certificate; a table when printed.

    Example:
        >>> row = Row("grid", "grid of 32 points, against 64", 0.03, 1e-5, "fail")
        >>> certificate = Certificate("FNO", "torch.float32", (row,))
        >>> certificate.passed
        False
        >>> print(certificate)
        FNO, torch.float32                error  tolerance  verdict
        grid of 32 points, against 64   3.0e-02    1.0e-05  FAIL
    """

    model: str
    dtype: str
    rows: Sequence[Row]

    @property
    def passed(self) -> bool:
        """Whether no row that was judged failed."""
        return not self.failed

    @property
    def failed(self) -> list[Row]:
        """The rows that failed."""
        return [row for row in self.rows if row.verdict == "fail"]

    def require(self) -> None:
        """Raise ValueError when a row failed, with the numbers of those that did."""
        if self.failed:
            told = "; ".join(f"{r.what}: {r.value:.1e} above {r.tolerance:.1e}" for r in self.failed)
            judged = sum(row.verdict in ("pass", "fail") for row in self.rows)
            raise ValueError(f"{self.model} fails {len(self.failed)} of {judged} checks: {told}")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        rows = [asdict(row) for row in self.rows]
        return {"model": self.model, "dtype": self.dtype, "passed": self.passed, "rows": rows}

    def write(self, path: str | PathLike) -> None:
        """Write the certificate as JSON, atomically."""
        write_json(Path(path), self.to_dict())

    def __str__(self) -> str:
        return "\n".join(self._lines())

    __repr__ = __str__

    def _lines(self) -> Iterator[str]:
        title = f"{self.model}, {self.dtype}"
        width = max(len(text) for text in [title, *(row.what for row in self.rows)])
        yield f"{title:<{width}}  {'error':>8}  {'tolerance':>9}  verdict"
        for row in self.rows:
            value = "" if row.value is None else f"{row.value:.1e}"
            tolerance = "" if row.tolerance is None else f"{row.tolerance:.1e}"
            verdict = "FAIL" if row.verdict == "fail" else row.verdict
            remark = f": {row.remark}" if row.remark else ""
            yield f"{row.what:<{width}}  {value:>8}  {tolerance:>9}  {verdict}{remark}"
