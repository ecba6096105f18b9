"""Annealing: how much of a value is left in an epoch."""

import math
from typing import Literal

Anneal = Literal["none", "linear", "cosine", "exponential"]


def annealed(epoch: int, shape: Anneal, epochs: int, floor: float) -> float:
    """The factor in an epoch (from 0): 1 falling to ``floor`` over ``epochs``, and staying there.

    With p = min(epoch / epochs, 1) and f the floor: linear 1 - (1 - f) p; cosine f + (1 - f) (1 + cos(pi p)) / 2;
    exponential f^p, so f > 0; none 1. [T] names no shape.
    """
    progress = min(epoch / epochs, 1.0)
    if shape == "linear":
        return 1.0 - (1.0 - floor) * progress
    if shape == "cosine":
        return floor + (1.0 - floor) * (1.0 + math.cos(math.pi * progress)) / 2.0
    if shape == "exponential":
        return float(floor**progress)
    return 1.0
