"""Fronts and hypervolume, of figures of which less is better.

Shapes: N points, M objectives.
"""

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]


def front(points: Points) -> NDArray[np.bool_]:
    """(N,) which points (N, M) no other dominates: as good in every objective and better in one. Equals both stay."""
    better = (points[:, None] <= points[None]).all(2) & (points[:, None] < points[None]).any(2)  # (N, N)
    return np.asarray(~better.any(0))


def hypervolume(points: Points, reference: NDArray[np.float64]) -> float:
    """Volume between points (N, M) and a reference point (M,); points beyond it in any objective add nothing.

    By slices along the last objective (Zitzler 1999): exact, for the few hundred points of a search.
    """
    inside = points[(points < reference).all(1)]
    if not len(inside):
        return 0.0
    if inside.shape[1] == 1:
        return float(reference[0] - inside.min())
    inside = inside[np.argsort(inside[:, -1], kind="stable")]
    edges = np.append(inside[1:, -1], reference[-1])
    if inside.shape[1] == 2:  # the best so far in the first objective, slice by slice
        return float(((reference[0] - np.minimum.accumulate(inside[:, 0])) * (edges - inside[:, 1])).sum())
    volumes = [
        hypervolume(inside[: index + 1, :-1], reference[:-1]) * (edge - inside[index, -1])
        for index, edge in enumerate(edges)
        if edge > inside[index, -1]
    ]
    return float(sum(volumes))


def hypervolume_over_time(points: Points, reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) hypervolume of the first 1, 2, ... N points."""
    return np.array([hypervolume(points[: n + 1], reference) for n in range(len(points))])
