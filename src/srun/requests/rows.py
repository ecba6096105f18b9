"""The rows of a request, and what becomes of each of them.

Every row has one outcome, and a row that cannot be carried out never stops the others:

- ``forgotten``: at least one training event answers to it, or did until an earlier request of a chain;
- ``never_trained``: the log has such an event, and no model was trained on it; the reason says why;
- ``unknown_user``, ``unknown_item``: the log has no such id;
- ``no_such_event``: the log has both ids, and no such event.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from srun.data.dataset import Dataset, Role
from srun.data.raw import RawData
from srun.errors import DataError

OUTCOMES = ("forgotten", "never_trained", "unknown_user", "unknown_item", "no_such_event")
REASONS = {
    Role.VALIDATION: "held out for validation",
    Role.TEST: "held out for test",
    Role.CALIBRATION: "of a user kept out of training",
    Role.CONTEXT: "of a user who is only reported on",
    Role.SET_ASIDE: "set aside before training",
}
FILTERED = "left out when the data were prepared"
OTHER_TIMES = "the user has this item, at other times"
WHOLE = 'the log has this id, but for ".0" at its end'
IDENTITY = ["user_id", "item_id", "timestamp"]
"""Columns that a row may name an event by."""


def carry_out(
    data: Dataset, rows: pd.DataFrame, eligible: NDArray[np.bool_], read_raw: Callable[[], RawData]
) -> tuple[NDArray[np.bool_], pd.DataFrame]:
    """Return the events that rows name, in whatever role (E,), and an outcome for every row.

    ``rows``: text columns user_id and, where the request has them, item_id; int64 timestamp; ``line``. ``eligible``
    (E,): the events that a row can name: all, but for requests that are about some items only. ``read_raw`` gives the
    log that the data were prepared from; it is called only where a row names nothing in the prepared data. The outcomes
    have a row for each of ``rows``: line, outcome, reason.
    """
    on = [column for column in IDENTITY if column in rows]
    row, event = _matches(rows, on, data, eligible)
    removed = np.zeros(data.num_events, dtype=bool)
    removed[event] = True
    outcome, reason = np.full(len(rows), "", dtype=object), np.full(len(rows), "", dtype=object)
    role = data.role[event]
    for kind, text in REASONS.items():  # the last that applies stands, and training before all
        outcome[row[role == kind]], reason[row[role == kind]] = "never_trained", text
    for kind, text in {Role.FORGOTTEN: "by an earlier request", Role.TRAIN: ""}.items():
        outcome[row[role == kind]], reason[row[role == kind]] = "forgotten", text
    left = np.flatnonzero(outcome == "")
    if len(left):
        raw = read_raw()
        if raw.fingerprint != data.fingerprint:
            raise DataError(f'data set "{raw.name}" has changed since it was prepared; run `srun prepare` again')
        outcome[left], reason[left] = _unmatched(rows.iloc[left], on, raw)
    return removed, pd.DataFrame({"line": rows["line"].to_numpy(), "outcome": outcome, "reason": reason})


def _matches(
    rows: pd.DataFrame, on: list[str], data: Dataset, eligible: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(row, event) of every event that a row names; under holdout ``window`` one event may stand several times."""
    of_user = data.users["user_id"].isin(rows["user_id"]).to_numpy()
    event = np.flatnonzero(of_user[data.user] & eligible)
    events = pd.DataFrame(
        {
            "user_id": data.users["user_id"].to_numpy()[data.user[event]],
            "item_id": data.items["item_id"].to_numpy()[data.item[event] - 1],
            "timestamp": data.time[event],
            "event": event,
        }
    )
    matched = rows[on].assign(row=np.arange(len(rows))).merge(events, on=on)
    return matched["row"].to_numpy(np.int64), matched["event"].to_numpy(np.int64)


def _unmatched(rows: pd.DataFrame, on: list[str], raw: RawData) -> tuple[NDArray[np.object_], NDArray[np.object_]]:
    """Outcome and reason of rows that name nothing in the prepared data."""
    log = raw.interactions[raw.interactions["user_id"].isin(rows["user_id"])]
    outcome, reason = np.full(len(rows), "no_such_event", dtype=object), np.full(len(rows), "", dtype=object)
    if "timestamp" in on:
        reason[_among(rows, on[:-1], log)] = OTHER_TIMES
    if "item_id" in on:
        outcome[~rows["item_id"].isin(raw.interactions["item_id"].cat.categories).to_numpy()] = "unknown_item"
    outcome[~rows["user_id"].isin(raw.interactions["user_id"].cat.categories).to_numpy()] = "unknown_user"
    for column, unknown in (("user_id", "unknown_user"), ("item_id", "unknown_item")):
        if column in on:
            reason[(outcome == unknown) & _whole_numbers(rows[column], raw.interactions[column])] = WHOLE
    in_log = _among(rows, on, log)
    outcome[in_log], reason[in_log] = "never_trained", FILTERED
    return outcome, reason


def _whole_numbers(ids: pd.Series, known: pd.Series) -> NDArray[np.bool_]:
    """(R,) which ids would be known if they were written with a decimal place, or without it."""
    known = known.cat.categories
    return np.asarray(ids.str.removesuffix(".0").isin(known) | (ids + ".0").isin(known))


def _among(rows: pd.DataFrame, on: list[str], log: pd.DataFrame) -> NDArray[np.bool_]:
    """(R,) which rows name an event of the log."""
    keys = log[on].astype({column: "str" for column in on if column != "timestamp"}).drop_duplicates()
    return np.asarray(rows[on].merge(keys, on=on, how="left", indicator=True)["_merge"] == "both")
