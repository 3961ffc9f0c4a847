"""What all figures share: paper, ink, labels."""

import io
from functools import partial
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, MUTED = "#222222", "#777777"
# Okabe and Ito's palette, black last.
LINE_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def new_figure(
    width: float, height: float, layout: Literal["constrained", "compressed"] = "constrained"
) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout=layout, dpi=150)
    FigureCanvasAgg(figure)
    # Notebooks ask for this method; without pyplot nothing else tells them how to show a figure.
    figure._repr_png_ = partial(_png, figure)  # pyright: ignore[reportAttributeAccessIssue]
    return figure


def _png(figure: "Figure") -> bytes:
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=75)
    return picture.getvalue()


def open_frame(ax) -> None:
    ax.spines[["top", "right"]].set_visible(False)


def space_units(units: str) -> str:
    return f" {units}" if units not in ("", "1") else ""


def label_with(name: str, units: str) -> str:
    return f"{name} [{units}]" if units not in ("", "1") else name
