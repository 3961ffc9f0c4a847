"""Operators that answer on the grid they are asked on."""

from collections.abc import Sequence


def check_own_grid(name: str, grid: Sequence[int], out_grid: Sequence[int] | None) -> None:
    """Refuse an output grid other than that of the input.

    Raises:
        ValueError: `out_grid` is another grid.
    """
    if out_grid is not None and tuple(out_grid) != tuple(grid):
        raise ValueError(
            f"{name} is evaluated on the grid of its input, {tuple(grid)}, not on {tuple(out_grid)}; "
            "resample the input first"
        )
