"""Core and edge draws: requests for benchmarks of the events with the most or least of something that is expected.

Random events of small data sets are hardly remembered, so that nothing can be shown by them. Shapes: E events.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from srun.data.dataset import Dataset, Mask, Role
from srun.errors import DataError
from srun.files import read_json, read_tensors, verify_folder, write_folder
from srun.requests.kinds import ExpectedInteractions, Extreme

SPARED = 2
"""First training events of a user that no draw takes, as in [T]: others would lose their context."""
RECORD = "info.json"


def draw_extreme(data: Dataset, expected: NDArray[np.float64], number: int, extreme: Extreme, max_share: float) -> Mask:
    """(E,) the ``number`` training events with the most or least ``expected`` (E,), at most ``max_share`` of a user's.

    Events whose expectation is NaN and the first SPARED of a user are never taken; of equals the earlier event is.
    Raises DataError where there are fewer than ``number``.
    """
    train = np.flatnonzero(data.has_role(Role.TRAIN))
    owner = data.user[train]
    place = np.arange(len(train)) - np.searchsorted(owner, owner)  # among the user's events
    limit = np.floor(np.bincount(owner, minlength=data.num_users) * max_share)
    event = train[(place >= SPARED) & np.isfinite(expected[train])]
    value = -expected[event] if extreme == "most" else expected[event]
    by_user = np.lexsort((value, data.user[event]))
    users = data.user[event[by_user]]
    taken = by_user[np.arange(len(users)) - np.searchsorted(users, users) < limit[users]]
    if len(taken) < number:
        raise DataError(
            f"{number} events cannot be drawn: with at most {max_share:.0%} of a user's training events and never the"
            f" first {SPARED} there are {len(taken)}; lower share_of_events"
        )
    drawn = np.zeros(data.num_events, dtype=bool)
    drawn[event[taken[np.lexsort((taken, value[taken]))][:number]]] = True
    return drawn


def save_draws(
    folder: Path, data: Dataset, draws: Mapping[str, Mask], records: Mapping[str, Mapping[str, Any]]
) -> None:
    """Write masks (E,) by the name of the request, and how each was drawn, as one folder, whole or not at all."""
    info = {"fingerprint": data.fingerprint, "prepare": data.info["config"], "requests": records}
    with write_folder(folder, sealed=True) as new:
        for name, drawn in draws.items():
            save_file({"removed": drawn.astype(np.uint8)}, mask_file(new, name))
        (new / RECORD).write_text(json.dumps(info, indent=1, sort_keys=True) + "\n")


def mask_file(folder: Path, name: str) -> Path:
    """Where a folder of ``save_draws`` has the mask of a request."""
    return folder / f"{name}.safetensors"


def load_draw(folder: Path, name: str, request: ExpectedInteractions, data: Dataset) -> Mask:
    """(E,) the events that were drawn for a request.

    Raises DataError where they are not there, were drawn by another rule, or from other data.
    """
    mend = f"run `srun draw --original {request.original}`"
    if not (folder / RECORD).is_file():
        raise DataError(
            f'{folder}: request "{name}" is of events that {request.original} draws, and they are not there; {mend},'
            " once that is trained, or let `srun run` do all of it"
        )
    verify_folder(folder, DataError, mend)
    info = read_json(folder / RECORD, DataError, mend)
    if info["fingerprint"] != data.fingerprint or info["prepare"] != data.info["config"]:
        raise DataError(f"{folder}: drawn from other data than the prepared set; {mend}")
    if info["requests"].get(name, {}).get("rule") != request.rule:
        raise DataError(f'{folder}: request "{name}" was not drawn as partition.{name} says; {mend}')
    return read_tensors(mask_file(folder, name), ("removed",), DataError, mend)["removed"].astype(bool)
