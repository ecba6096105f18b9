"""Figures of single events: how near they rank to where Retrains rank them, and what is left of their memory.

Shapes: Q forgotten events of report users, n Retrains, V items of the catalogue, X features.
"""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from srun.metrics.memory import fidelity, memory_left, z_rank

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Witness:
    """What tells memory from what is known without it: ranks (Q,) under two Originals, and what retained data say."""

    own: Floats
    """Under the Original that a model came from."""
    other: Floats
    """Under an Original of another seed."""
    features: Floats  # (Q, X)
    users: NDArray[np.integer]  # (Q,)


def event_figures(
    ranks: Floats, retrains: Floats, num_items: int, witness: Witness | None, rng: np.random.Generator
) -> dict[str, float]:
    """The figures of the split ``by_event`` from ranks (Q,) of a model and (n, Q) of Retrains that it is not one of.

    ``event_corr``, ``event_mae``, and what each is beside a Retrain's own (``metrics.memory.Fidelity``); with a witness
    ``memory_left`` and the ends of its interval, ``_low`` and ``_high``. n >= 2.
    """
    z, z_retrains = z_rank(ranks, num_items), z_rank(retrains, num_items)
    figures: dict[str, float] = asdict(fidelity(z, z_retrains))
    if witness is None:
        return figures
    own, other = z_rank(witness.own, num_items), z_rank(witness.other, num_items)
    left = memory_left(z, own, other, z_retrains, witness.features, witness.users.astype(np.int64), rng)
    return figures | {"memory_left": left.value, "memory_left_low": left.low, "memory_left_high": left.high}
