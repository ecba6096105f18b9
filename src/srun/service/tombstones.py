"""Tombstones: what requests forgot stays out of every log that comes in later. Shapes: N rows of a log.

A log comes with raw ids, and tombstones are pseudonyms of them, so it takes the key. Users are looked up first, and
then only the rows of users that are hit.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from srun.data.dataset import Mask
from srun.data.raw import RawData
from srun.service.book import Tombstone
from srun.service.keys import Keys

MICROSECONDS = 1_000_000


def buried(raw: RawData, keys: Keys, tombstones: Iterable[Tombstone]) -> Mask:
    """(N,) the rows of a log with raw ids that tombstones keep out: those at or before the moment of the tombstone."""
    until: dict[str, dict[str, int]] = {"user": {}, "item": {}, "pair": {}, "event": {}}
    owners: set[str] = set()
    for stone in tombstones:
        last = np.iinfo(np.int64).max if stone.until is None else stone.until // MICROSECONDS
        known = until[stone.kind]
        known[stone.pseudonym] = max(last, known.get(stone.pseudonym, -1))
        if stone.kind in ("pair", "event"):
            owners.add(stone.user)
    table = raw.interactions
    time = table["timestamp"].to_numpy()
    gone = np.zeros(len(table), dtype=bool)
    for kind, column in (("user", table["user_id"]), ("item", table["item_id"])):
        if until[kind]:
            ends = [until[kind].get(keys.pseudonym(kind, name), -1) for name in column.cat.categories]
            gone |= time <= np.array(ends, dtype=np.int64)[column.cat.codes.to_numpy()]
    if owners:
        gone |= _single(raw, keys, owners, until["pair"], until["event"])
    return gone


def _single(
    raw: RawData, keys: Keys, owners: set[str], pairs: dict[str, int], events: dict[str, int]
) -> NDArray[np.bool_]:
    """(N,) rows of single events, of users that have a tombstone for one."""
    table = raw.interactions
    users, items = table["user_id"].cat.categories, table["item_id"].cat.categories
    hit = np.array([keys.pseudonym("user", name) in owners for name in users], dtype=bool)
    user, item = table["user_id"].cat.codes.to_numpy(), table["item_id"].cat.codes.to_numpy()
    time = table["timestamp"].to_numpy()
    gone = np.zeros(len(table), dtype=bool)
    for row in np.flatnonzero(hit[user]):
        names, moment = (str(users[user[row]]), str(items[item[row]])), int(time[row])
        is_pair = moment <= pairs.get(keys.pseudonym("pair", *names), -1)
        gone[row] = is_pair or keys.pseudonym("event", *names, str(moment * MICROSECONDS)) in events
    return gone
