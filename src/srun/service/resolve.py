"""What rows of requests mean in the data of a service: events of the prepared data, rows of the log, outcomes.

A row names events at or before the moment its request was received. Shapes: E events of the prepared data, N rows of
the log, R rows of requests.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from srun.data.dataset import Dataset, Mask, Role
from srun.data.raw import RawData
from srun.requests.rows import FILTERED, OTHER_TIMES, OUTCOMES, REASONS

EARLIER = "by an earlier request"


@dataclass(frozen=True)
class Resolved:
    """What becomes of requests."""

    events: Mask
    """(E,) events that they name, in whatever role."""
    log: Mask
    """(N,) rows of the log that they name."""
    rows: pd.DataFrame
    """request, line, outcome, reason of every row."""

    def outcomes(self) -> dict[str, dict[str, int]]:
        """Request -> how many rows have which outcome."""
        counts: dict[str, dict[str, int]] = {}
        for (request, outcome), number in self.rows.groupby(["request", "outcome"], sort=False).size().items():
            counts.setdefault(str(request), {})[str(outcome)] = int(number)
        return counts

    def totals(self) -> dict[str, int]:
        """How many rows have which outcome, of all requests."""
        counts = self.rows["outcome"].value_counts()
        return {outcome: int(counts.get(outcome, 0)) for outcome in OUTCOMES}


def resolve(rows: pd.DataFrame, data: Dataset, raw: RawData) -> Resolved:
    """Find what ``rows`` of the inbox (see ``inbox.read_inbox``) name in prepared data and log.

    ``data`` has the role FORGOTTEN where an earlier batch forgot.
    """
    rows = rows.reset_index(drop=True)
    prepared = _prepared_events(rows, data)
    row, event = _match(rows, prepared)
    events = np.zeros(data.num_events, dtype=bool)
    events[event] = True
    outcome, reason = _by_role(len(rows), row, data.role[event])
    table = raw.interactions
    concerned = _concerned(rows, table["user_id"], table["item_id"])
    log_row, place = _match(rows, _log_events(table, concerned))
    log = np.zeros(len(table), dtype=bool)
    log[place] = True
    filtered = np.zeros(len(rows), dtype=bool)
    filtered[log_row] = True
    filtered &= outcome == ""
    outcome[filtered], reason[filtered] = "never_trained", FILTERED
    _unmatched(rows, outcome, reason, raw)
    told = pd.DataFrame({"request": rows["request"], "line": rows["line"], "outcome": outcome, "reason": reason})
    return Resolved(events, log, told)


def _concerned(rows: pd.DataFrame, users: pd.Series, items: pd.Series) -> Mask:
    """Which of some events are of a user or an item that a row names: all that need to be looked at closely."""
    of_everybody = rows.loc[rows["user_id"] == "", "item_id"]
    mask = np.zeros(len(users), dtype=bool)
    for column, ids in ((users, rows["user_id"]), (items, of_everybody)):
        named = column.cat.categories.isin(ids[ids != ""])  # by category: a log has few ids and many rows
        mask |= named[column.cat.codes.to_numpy()]
    return mask


def _prepared_events(rows: pd.DataFrame, data: Dataset) -> pd.DataFrame:
    """The events that rows may name: user_id, item_id, time, place."""
    everybody = rows.loc[rows["user_id"] == "", "item_id"]
    users = data.users["user_id"].isin(rows.loc[rows["user_id"] != "", "user_id"]).to_numpy()
    items = np.zeros(data.num_items + 1, dtype=bool)
    items[1:] = data.items["item_id"].isin(everybody[everybody != ""]).to_numpy()
    event = np.flatnonzero(users[data.user] | items[data.item])
    return pd.DataFrame(
        {
            "user_id": data.users["user_id"].to_numpy()[data.user[event]],
            "item_id": data.items["item_id"].to_numpy()[data.item[event] - 1],
            "time": data.time[event],
            "place": event,
        }
    )


def _log_events(table: pd.DataFrame, concerned: Mask) -> pd.DataFrame:
    place = np.flatnonzero(concerned)
    part = table.iloc[place]
    return pd.DataFrame(
        {
            "user_id": part["user_id"].astype(str).to_numpy(),
            "item_id": part["item_id"].astype(str).to_numpy(),
            "time": part["timestamp"].to_numpy(),
            "place": place,
        }
    )


def _match(rows: pd.DataFrame, events: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(row, place) of every event that a row names."""
    row, place = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    numbered = rows.assign(row=np.arange(len(rows)))
    by_user, by_item, timed = (numbered["user_id"] != "", numbered["item_id"] != "", numbered["time"] >= 0)
    for chosen, on in (
        (by_user & ~by_item, ["user_id"]),
        (by_user & by_item & ~timed, ["user_id", "item_id"]),
        (by_user & by_item & timed, ["user_id", "item_id", "time"]),
        (~by_user & by_item, ["item_id"]),
    ):
        if not chosen.any():
            continue
        named = numbered.loc[chosen, [*on, "until", "row"]]
        matched = named.merge(events, on=on)
        in_time = (matched["until"] < 0) | (matched["time"] <= matched["until"])
        row.append(matched.loc[in_time, "row"].to_numpy(np.int64))
        place.append(matched.loc[in_time, "place"].to_numpy(np.int64))
    return np.concatenate(row), np.concatenate(place)


def _by_role(
    num_rows: int, row: NDArray[np.int64], role: NDArray[np.uint8]
) -> tuple[NDArray[np.object_], NDArray[np.object_]]:
    """Outcome and reason (R,) by the roles of matched events; the last that applies stands, and training before all."""
    outcome, reason = np.full(num_rows, "", dtype=object), np.full(num_rows, "", dtype=object)
    for kind, text in REASONS.items():
        outcome[row[role == kind]], reason[row[role == kind]] = "never_trained", text
    for kind, text in {Role.FORGOTTEN: EARLIER, Role.TRAIN: ""}.items():
        outcome[row[role == kind]], reason[row[role == kind]] = "forgotten", text
    return outcome, reason


def _unmatched(rows: pd.DataFrame, outcome: NDArray[np.object_], reason: NDArray[np.object_], raw: RawData) -> None:
    """Outcomes of rows that name nothing the service has."""
    left = outcome == ""
    if not left.any():
        return
    items, users = raw.interactions["item_id"].cat.categories, raw.interactions["user_id"].cat.categories
    named = rows["item_id"] != ""
    of_everybody = (rows["user_id"] == "") & (rows["kind"] == "items")
    unknown_user = left & ~of_everybody.to_numpy() & ~rows["user_id"].isin(users).to_numpy()
    unknown_item = left & ~unknown_user & named.to_numpy() & ~rows["item_id"].isin(items).to_numpy()
    outcome[left] = "no_such_event"
    outcome[unknown_item], outcome[unknown_user] = "unknown_item", "unknown_user"
    timed = left & (outcome == "no_such_event") & (rows["time"] >= 0).to_numpy()
    if timed.any():
        pairs = raw.interactions[["user_id", "item_id"]].astype(str).drop_duplicates()
        known = rows[["user_id", "item_id"]].merge(pairs, how="left", indicator=True)["_merge"] == "both"
        reason[timed & known.to_numpy()] = OTHER_TIMES
