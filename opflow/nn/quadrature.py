"""Quadrature weights of scattered points, where nobody knows their mesh."""

import numpy as np

from opflow.nn.places import places


def estimate_weights(points: np.ndarray, longest: float) -> np.ndarray:
    r"""Return the volume that belongs to each point: an equal share of every simplex around it.

    The points are joined by a Delaunay triangulation (in one dimension: in their order), of which the
    simplices with an edge above `longest` are left out: they span holes and notches of the domain. On what
    remains, the weights integrate linear functions exactly. Points at one place share its weight, and a point
    without a neighbour has the weight 0. The order of the points does not matter, also where several
    triangulations are possible, as on a lattice.

    Args:
        points: positions `(n, d)`, float64.
        longest: length of the longest edge that lies within the domain.

    Raises:
        ValueError: the points span no volume: there are too few, they lie on a line, plane or surface, or
            further apart than `longest`.

    Example:
        >>> estimate_weights(np.array([[0.0], [1.0], [4.0]]), longest=10.0).round(9).tolist()
        [0.5, 2.0, 1.5]
    """
    given, d = points.shape
    points, place, count = places(points)
    n = len(points)
    if d == 1:
        simplices = np.stack([np.arange(n - 1), np.arange(1, n)], axis=1)
    else:
        from scipy.spatial import Delaunay, QhullError

        try:
            simplices = Delaunay(points).simplices if n > d else np.empty((0, d + 1), int)
        except QhullError:  # flat
            simplices = np.empty((0, d + 1), int)
    corners = points[simplices]
    edges = corners[:, :, None] - corners[:, None]
    within = np.linalg.norm(edges, axis=-1).max((1, 2), initial=0.0) <= longest
    volumes = np.abs(np.linalg.det(edges[within, 1:, 0])) / float(np.prod(np.arange(1, d + 1)))
    shares = np.repeat(volumes / (d + 1), d + 1)
    weights = np.bincount(simplices[within].ravel(), shares, minlength=n)
    if not weights.any():
        raise ValueError(
            f"no quadrature weights can be estimated for {given} points in {d} dimensions: they span no "
            f"volume with edges up to {longest:g}. Give weights, the length, area or volume that belongs to "
            "each point"
        )
    return (weights / count)[place]
