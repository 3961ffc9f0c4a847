"""What can be learned about a cycle: its smoother, and what happens at faces of coarse cells."""

from __future__ import annotations

import math
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from opflow.save import read_json, write_json

if TYPE_CHECKING:
    from solvers.hierarchy import Joint

_CLASS = "MultigridPreconditioner"

FEATURES = 12
"""Inputs of the network at a face, for the cell on one side of it; see `features`."""
_INTERIOR = 1e-5  # features closer than this to those of faces amid fluid are those


@dataclass(frozen=True, eq=False)
class FaceNetwork:
    """A perceptron with ReLU, seen from one side of a face: from features to a factor and a weight.

    Attributes:
        layers: matrices `(out, in)` and offsets `(out,)`; the last layer has two outputs.
    """

    layers: tuple[tuple[np.ndarray, np.ndarray], ...]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Map features `(face, FEATURES)` to `(face, 2)`."""
        for matrix, offset in self.layers[:-1]:
            x = np.maximum(x @ matrix.T + offset, 0)
        matrix, offset = self.layers[-1]
        return x @ matrix.T + offset


@dataclass(frozen=True, eq=False)
class CycleWeights:
    r"""Weights of a V-cycle; the defaults are those of a classical one.

    At a face between two coarse cells of fluid, with the learned outputs $a, b$ of the network as seen from
    each of them, less those amid fluid, so that there all stays classical, the conductance is multiplied by
    $e^{(a_0+b_0)/2}$, and the children of a cell take the share $\tfrac12 s\,\sigma(a_1)$ from the neighbour,
    $s$ being how far the face is open.

    Attributes:
        lowest: for each level, the last one for all below: where the range of eigenvalues begins that the
            smoother damps, between 0 and 2. It ends at 2, which no eigenvalue of a scaled stencil exceeds.
        n_steps: smoothing steps before and after the coarse correction.
        network: what was learned; None for a classical cycle.
        ndim: number of axes of the domains it was learned on; None for any.

    Raises:
        ValueError: a range begins outside of (0, 2), there is no step, or the network has other sizes.
    """

    lowest: tuple[float, ...] = (0.5,)
    n_steps: int = 2
    network: FaceNetwork | None = None
    ndim: int | None = None

    def __post_init__(self) -> None:
        if not self.lowest or not all(0 < low < 2 for low in self.lowest):
            raise ValueError(f"lowest={self.lowest} should be numbers between 0 and 2, one for each level")
        if self.n_steps < 1:
            raise ValueError(f"n_steps={self.n_steps} should be at least 1")
        layers = () if self.network is None else self.network.layers
        widths = [FEATURES, *(len(offset) for _, offset in layers)]
        shapes = [(m, n) for n, m in zip(widths, widths[1:])]
        if layers and (widths[-1] != 2 or [np.shape(matrix) for matrix, _ in layers] != shapes):
            raise ValueError(
                f"the network has matrices of shapes {[np.shape(matrix) for matrix, _ in layers]}; expected "
                f"{FEATURES} inputs, 2 outputs, and layers that fit"
            )

    def save(self, path: str | PathLike) -> None:
        """Write the weights to a JSON file."""
        layers = () if self.network is None else self.network.layers
        arrays = [[matrix.astype(float).tolist(), offset.astype(float).tolist()] for matrix, offset in layers]
        about = {"class": _CLASS, "lowest": list(self.lowest), "n_steps": self.n_steps, "ndim": self.ndim}
        write_json(Path(path), {**about, "layers": arrays})

    @classmethod
    def load(cls, path: str | PathLike) -> Self:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it holds something else; the message says what.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path}")
        found = read_json(path)
        if found.get("class") != _CLASS:
            raise ValueError(f"{path} holds {found.get('class')!r}, expected weights of a {_CLASS}")
        try:
            layers = tuple(
                (np.array(matrix, float), np.array(offset, float)) for matrix, offset in found["layers"]
            )
            network = FaceNetwork(layers) if layers else None
            if not all(np.isfinite(a).all() for layer in layers for a in layer):
                raise ValueError("numbers that are not finite")
            return cls(tuple(map(float, found["lowest"])), int(found["n_steps"]), network, found["ndim"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} holds no weights of a {_CLASS}: {type(error).__name__}, {error}"
            ) from error

    def steps(self, level: int) -> tuple[float, ...]:
        r"""Factors of the smoothing steps on a level.

        They are the inverse Chebyshev points of $[l, 2]$. The error polynomial they make is below 1 in
        absolute value on all of $(0, 2]$: it equals $T_n(t(x)) / T_n(t(0))$ with $|t(x)| < |t(0)|$.
        """
        low = self.lowest[min(level, len(self.lowest) - 1)]
        middle, half = 1 + low / 2, 1 - low / 2
        n = self.n_steps
        points = [middle - half * math.cos(math.pi * (2 * k + 1) / (2 * n)) for k in range(n)]
        return tuple(1 / x for x in points)

    def at_faces(self, joint: Joint, level: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Factor of the conductance, share from the lower and from the upper neighbour, at each face.

        `level` is that of the coarse cells, from 1.
        """
        around = np.maximum(joint.across, np.maximum(*joint.inside))
        opened = np.divide(joint.across, around, out=np.zeros_like(joint.across), where=around > 0)
        factor, lower, upper = np.ones_like(opened), 0.25 * opened, 0.25 * opened
        if self.network is None:
            return factor, lower, upper
        usual = interior(level, opened.ndim)
        sides = features(joint, opened, around, level)
        there = np.zeros(opened.shape, bool)
        for feature, value in zip(sides[0], usual):
            there |= np.abs(feature - value) > _INTERIOR
        there &= joint.across > 0
        amid = self.network(usual[None])
        a, b = (self.network(np.stack([f[there] for f in side], 1)) - amid for side in sides)
        factor[there] = np.exp(np.clip(0.5 * (a[:, 0] + b[:, 0]), -4, 4))
        # The cell below a face takes from above it what the network says as seen from below.
        upper[there] = 0.5 * opened[there] / (1 + np.exp(-a[:, 1]))
        lower[there] = 0.5 * opened[there] / (1 + np.exp(-b[:, 1]))
        return factor, lower, upper


def features(
    joint: Joint, opened: np.ndarray, around: np.ndarray, level: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """What the network sees at each face, from below and from above; no scale of lengths or coefficients.

    How far the face is open, its conductance over the greatest `around` it, and the columns through it; for
    the near and the far cell the conductance inside over the greatest, the share of fluid, those of Dirichlet
    walls and of the face in the diagonal; whether the cells are the finest coarse ones, or the second.
    """
    safe = np.where(around > 0, around, 1)
    sides = zip(joint.inside, joint.fluid, joint.wall, joint.part)
    below, above = ([i / safe, f, w, p] for i, f, w, p in sides)
    depth = [np.full_like(opened, float(level == k)) for k in (1, 2)]
    shared = [opened, joint.series]
    return [*shared, *below, *above, *depth], [*shared, *above, *below, *depth]


def interior(level: int, ndim: int) -> np.ndarray:
    """The features of a face amid fluid of one conductance."""
    cell = [1, 1, 0, 0.5 / ndim]
    return np.array([1, 1, *cell, *cell, level == 1, level == 2], float)
