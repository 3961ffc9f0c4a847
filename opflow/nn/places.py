"""Places of points, in an order that does not depend on that of the points."""

import numpy as np


def places(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the places of points in ascending order `(m, d)`, the place of each point, and points per place.

    What is made of the places alone cannot depend on the order of the points, not even by the choice between
    equals (neighbours equally far, triangulations of a square).

    Args:
        points: positions `(n, d)`, float64.

    Example:
        >>> at, place, count = places(np.array([[2.0], [0.5], [2.0]]))
        >>> at.tolist(), place.tolist(), count.tolist()
        ([[0.5], [2.0]], [1, 0, 1], [1, 2])
    """
    order = np.lexsort(points.T[::-1])
    ordered = points[order]
    new = np.append(True, (ordered[1:] != ordered[:-1]).any(1))[: len(points)]
    place = np.empty(len(points), np.int64)
    place[order] = np.cumsum(new) - 1
    return ordered[new] + 0.0, place, np.bincount(place, minlength=int(new.sum()))  # and no -0.0
