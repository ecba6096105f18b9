"""Core and edge draws: requests for benchmarks of the events with the most or least of something that is expected.

Random events of small data sets are hardly remembered, so that nothing can be shown by them. Shapes: E events.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from srun.data.dataset import Dataset, Mask, Role
from srun.errors import DataError

MAX_SHARE = 0.3
"""Of a user's training events that a draw may take."""
SPARED = 2
"""First training events of a user that no draw takes, as in [T]: others would lose their context."""
Extreme = Literal["most", "least"]


def draw_extreme(data: Dataset, expected: NDArray[np.float64], number: int, extreme: Extreme) -> Mask:
    """(E,) the ``number`` training events with the most or least ``expected`` (E,), at most MAX_SHARE of a user's.

    Events whose expectation is NaN and the first SPARED of a user are never taken; of equals the earlier event is.
    Raises DataError where there are fewer than ``number``.
    """
    train = np.flatnonzero(data.has_role(Role.TRAIN))
    owner = data.user[train]
    place = np.arange(len(train)) - np.searchsorted(owner, owner)  # among the user's events
    limit = np.floor(np.bincount(owner, minlength=data.num_users) * MAX_SHARE)
    event = train[(place >= SPARED) & np.isfinite(expected[train])]
    value = -expected[event] if extreme == "most" else expected[event]
    by_user = np.lexsort((value, data.user[event]))
    users = data.user[event[by_user]]
    taken = by_user[np.arange(len(users)) - np.searchsorted(users, users) < limit[users]]
    if len(taken) < number:
        raise DataError(
            f"{number} events cannot be drawn: with at most {MAX_SHARE:.0%} of a user's training events and never the"
            f" first {SPARED} there are {len(taken)}; draw fewer"
        )
    drawn = np.zeros(data.num_events, dtype=bool)
    drawn[event[taken[np.lexsort((taken, value[taken]))][:number]]] = True
    return drawn
