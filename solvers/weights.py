"""What can be learned about a cycle: its smoother, and what happens at faces of coarse cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from solvers.hierarchy import Joint


@dataclass(frozen=True, eq=False)
class CycleWeights:
    """Weights of a V-cycle; the defaults are those of a classical one.

    Attributes:
        steps: factors of the smoothing steps on the way down, on the way up in reverse order. The defaults
            are the Chebyshev points for eigenvalues of the scaled matrix from 0.5 to 2.
    """

    steps: tuple[float, ...] = (1.389, 0.588)

    def at_faces(self, joint: Joint, axis: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Factor of the conductance, weight of the lower and of the upper neighbour, at each face."""
        across = joint.across
        greatest = np.maximum(across, np.maximum(*joint.inside))
        open_part = np.divide(across, greatest, out=np.zeros_like(across), where=greatest > 0)
        quarter = 0.25 * open_part
        return np.ones_like(across), quarter, quarter
