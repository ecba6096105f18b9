"""The prepared data set: filtered, with dense ids, and every event in one role (training, validation, test, ...).

Shapes: E events, U users, V items. Events are sorted by user and, within a user, by time; an *event id* is the
position in that order, and everything downstream (requests, contexts, splits) is a mask over event ids.
Item ids run from 1 to V; 0 is padding and V+1 the mask of cloze models.
"""

import json
import logging
import math
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field
from safetensors.numpy import save_file

from srun.config import config
from srun.data.raw import FEW_ITEMS, RawData
from srun.data.sequences import Queries, Windows, cut, make_queries, pad, ragged_rows
from srun.errors import DataError
from srun.files import read_json, read_tensors, verify_folder, write_folder
from srun.rng import numpy_stream
from srun.tables import read_table, write_table

log = logging.getLogger("srun.data")

PADDING = 0
SPLIT_SHARE = 0.8  # of the users, for the category splits and holdout users_80_20 ([A] 5.1)
MAX_SHARE_SET_ASIDE = (
    0.5  # of a user's training events: floor(len / 2), as [T] draws; of never-seen events beside a given request too
)

MIN_TO_DRAW = 3  # training events of a user of whom events are drawn ([T] 3.2.2)
NUM_SET_ASIDE, NUM_USERS_SET_ASIDE = 8_000, 400  # that are expected where calibration_events goes by the size
SHARES_SET_ASIDE = (0.02, 0.2)  # least and most of that share

Mask = NDArray[np.bool_]


@config
class PrepareConfig:
    """How raw data become training sequences and held-out targets."""

    filter: Literal["none", "once", "k_core"]
    """Drop users and items with fewer than ``min_interactions``: never, once on the raw counts, or until stable."""
    min_interactions: Annotated[int, Field(ge=1)]
    max_length: Annotated[int, Field(ge=2)]
    """n: inputs of a training window, and items of history a model sees."""
    holdout: Literal["user", "window", "users_80_20"]
    drop_short: bool
    """Drop left-over windows of two items or fewer from longer sequences ([T] 3.2.1)."""
    calibration_users: Annotated[float, Field(ge=0, lt=1)]
    """Share of users kept out of all training: the events never seen."""
    calibration_events: Annotated[float, Field(ge=0, lt=1)] | None
    """Share of the other users of whom single training events are set aside, drawn as a request draws its own: those
    that forgotten events would stand like, had they never been trained on. None: by the size of the data (see
    ``share_by_size``)."""
    seed: int


class Role(IntEnum):
    """What an event is used for."""

    TRAIN = 0
    VALIDATION = 1
    TEST = 2
    CALIBRATION = 3  # of a user kept out of all training
    CONTEXT = 4  # history of a report user under holdout users_80_20: never trained on
    SET_ASIDE = 5  # a single event of a user who trains: never trained on, in no context, as if forgotten long ago
    FORGOTTEN = 6  # trained on, and forgotten since by an earlier request of a chain; prepare makes none


@dataclass(frozen=True)
class Dataset:
    """Events as arrays, sorted by user and time, with the id maps that lead back to the raw ids."""

    user: NDArray[np.int32]  # (E,) 0..U-1
    item: NDArray[np.int32]  # (E,) 1..V
    time: NDArray[np.int64]  # (E,)
    role: NDArray[np.uint8]  # (E,) Role
    users: pd.DataFrame  # U rows: user_id
    items: pd.DataFrame  # V rows: item_id, title, categories; row v-1 is item v
    info: dict[str, Any]  # name, fingerprint, config, counts

    @property
    def num_users(self) -> int:
        return len(self.users)

    @property
    def num_items(self) -> int:
        return len(self.items)

    @property
    def num_events(self) -> int:
        return len(self.item)

    @property
    def max_length(self) -> int:
        return int(self.info["config"]["max_length"])

    @property
    def drop_short(self) -> bool:
        return bool(self.info["config"]["drop_short"])

    @property
    def fingerprint(self) -> str:
        return str(self.info["fingerprint"])

    def has_role(self, role: Role) -> NDArray[np.bool_]:
        """(E,) the events of a role."""
        events: NDArray[np.bool_] = self.role == role
        return events

    def forgetting(self, events: Mask) -> "Dataset":
        """The same data where the training events among ``events`` (E,) are forgotten: in no training, in no context.

        Ids, other roles and whatever the data seed drew stay, so that figures before and after are of the same events.
        """
        role = np.where(events & self.has_role(Role.TRAIN), np.uint8(Role.FORGOTTEN), self.role)
        return replace(self, role=role)

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """(U+1,) events of user u are offsets[u]:offsets[u+1]."""
        return np.searchsorted(self.user, np.arange(self.num_users + 1)).astype(np.int64)

    @cached_property
    def categories(self) -> dict[str, NDArray[np.bool_]]:
        """Category name -> (V+1,) which items have it; items may have several categories, or none."""
        exploded = self.items["categories"].fillna("").astype(str).str.split("|").explode()
        exploded = exploded[exploded != ""]
        members: dict[str, NDArray[np.bool_]] = {}
        for name, rows in exploded.groupby(exploded).groups.items():
            flags = np.zeros(self.num_items + 1, dtype=bool)
            flags[np.asarray(rows, dtype=np.int64) + 1] = True
            members[str(name)] = flags
        return members

    def save(self, folder: Path) -> None:
        """Write the data set as one folder, whole or not at all."""
        with write_folder(folder, sealed=True) as new:
            arrays: dict[str, NDArray[Any]] = {
                "user": self.user,
                "item": self.item,
                "time": self.time,
                "role": self.role,
            }
            save_file(arrays, new / "events.safetensors")
            write_table(new / "users.csv", self.users)
            write_table(new / "items.csv", self.items)
            (new / "info.json").write_text(json.dumps(self.info, indent=1, sort_keys=True) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "Dataset":
        """Read a folder that ``save`` wrote; raises DataError if there is none, or it is damaged."""
        if not (folder / "info.json").is_file():
            raise DataError(f"{folder}: no prepared data set here; run `srun prepare` first")
        fault = DataError, "run `srun prepare` again"
        verify_folder(folder, *fault)
        info = read_json(folder / "info.json", *fault)
        users = read_table(folder / "users.csv", ["user_id"], *fault)
        items = read_table(folder / "items.csv", ["item_id", "title", "categories"], *fault)
        arrays = read_tensors(folder / "events.safetensors", ("user", "item", "time", "role"), *fault)
        return cls(users=users, items=items, info=info, **arrays)


def filter_interactions(table: pd.DataFrame, how: str, minimum: int) -> pd.DataFrame:
    """Drop users and items with fewer than ``minimum`` interactions; ``once`` counts both on the table as given."""
    while how != "none":
        per_user = table.groupby("user_id", observed=True)["item_id"].transform("size")
        per_item = table.groupby("item_id", observed=True)["user_id"].transform("size")
        keep = (per_user >= minimum) & (per_item >= minimum)
        if keep.all():
            break
        table = table[keep]
        if how == "once":
            break
    return table


def counts(table: pd.DataFrame) -> dict[str, int]:
    """Return the numbers of users, items and interactions of a canonical table."""
    return {
        "num_users": int(table["user_id"].nunique()),
        "num_items": int(table["item_id"].nunique()),
        "num_interactions": len(table),
    }


def describe(raw: RawData, settings: PrepareConfig) -> dict[str, Any]:
    """Name, fingerprint, numbers before and after the filter, and what would be set aside where anything is left."""
    kept = filter_interactions(raw.interactions, settings.filter, settings.min_interactions)
    described = {
        "name": raw.name,
        "fingerprint": raw.info["fingerprint"],
        "before": counts(raw.interactions),
        "after": counts(kept),
    }
    return described if kept.empty else described | {"set_aside": prepare(raw, settings).info["set_aside"]}


def prepare(raw: RawData, settings: PrepareConfig) -> Dataset:
    """Filter, make ids dense and give every event its role; raises DataError if nothing is left to train on."""
    table = filter_interactions(raw.interactions, settings.filter, settings.min_interactions)
    if table.empty:
        raise DataError(
            f'data set "{raw.name}": no interactions are left after filter "{settings.filter}" with '
            f"min_interactions {settings.min_interactions}; lower it, or set prepare.filter=none"
        )
    if table["item_id"].nunique() <= FEW_ITEMS:
        log.warning(
            'data set "%s": %d items are left, so that each is among the first %d and every Hit@10 is 1; keep more by'
            " a weaker prepare.filter or a lower prepare.min_interactions, or look at ranks and Hit@1 only",
            raw.name,
            table["item_id"].nunique(),
            FEW_ITEMS,
        )
    user, users = pd.factorize(table["user_id"])  # the canonical table is sorted, so codes follow its order
    item, items = pd.factorize(table["item_id"], sort=True)
    user, item = user.astype(np.int32), item.astype(np.int32) + 1
    time = table["timestamp"].to_numpy(np.int64)
    user_table = pd.DataFrame({"user_id": pd.Series(users).astype(str)})
    num_dropped = 0  # left-over windows, here or when training windows are cut
    if settings.holdout == "window":
        rows, user, num_dropped = _windows_as_users(user, settings)
        user_table = user_table.iloc[user[1]].reset_index(drop=True)
        user, item, time = user[0], item[rows], time[rows]
    item_table = _item_table(raw, pd.Series(items))
    role, left_over = _roles(user, len(user_table), settings)
    if settings.holdout != "window":
        offsets = np.searchsorted(user[role == Role.TRAIN], np.arange(len(user_table) + 1)).astype(np.int64)
        num_dropped = cut(offsets, settings.max_length, settings.drop_short)[2]
    info = {
        "name": raw.name,
        "fingerprint": raw.info["fingerprint"],
        "config": dict(vars(settings)),
        "before": counts(raw.interactions),
        "after": counts(table),
        "num_windows_dropped": num_dropped,
        "roles": {r.name.lower(): int((role == r).sum()) for r in Role if r != Role.FORGOTTEN},
        **left_over,
        **{key: raw.info[key] for key in ("columns",) if key in raw.info},  # by which a request's file is read too
    }
    return Dataset(user=user, item=item, time=time, role=role, users=user_table, items=item_table, info=info)


def report_users(num_users: int, seed: int) -> NDArray[np.bool_]:
    """(U,) the 20 % of users whose targets are reported when users are split 80/20 ([A] 5.1)."""
    order = numpy_stream(seed, "report-users").permutation(num_users)
    chosen = np.zeros(num_users, dtype=bool)
    chosen[order[round(SPLIT_SHARE * num_users) :]] = True
    return chosen


def _roles(
    user: NDArray[np.int32], num_users: int, settings: PrepareConfig
) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """(E,) roles, and for ``info`` what they leave out of training."""
    offsets = np.searchsorted(user, np.arange(num_users + 1))
    length = np.diff(offsets)
    calibration = np.zeros(num_users, dtype=bool)
    order = numpy_stream(settings.seed, "calibration-users").permutation(num_users)
    calibration[order[: round(settings.calibration_users * num_users)]] = True

    role = np.full(len(user), Role.TRAIN, dtype=np.uint8)
    role[calibration[user]] = Role.CALIBRATION
    if settings.holdout == "users_80_20":
        report = report_users(num_users, settings.seed) & ~calibration
        role[report[user]] = Role.CONTEXT
        role[offsets[1:][report & (length >= 2)] - 1] = Role.TEST
        held = ~report & ~calibration & (length >= 2)
        role[offsets[1:][held] - 1] = Role.VALIDATION
    else:
        held = (length >= 3) & ~calibration  # shorter ones train and are not evaluated
        role[offsets[1:][held] - 1] = Role.TEST
        role[offsets[1:][held] - 2] = Role.VALIDATION
    train = role == Role.TRAIN
    share = settings.calibration_events
    if share is None:
        share = share_by_size(np.bincount(user[train], minlength=num_users))
    aside = _set_aside(user, train, num_users, share, settings.seed)
    role[aside] = Role.SET_ASIDE
    set_aside = {
        "share_of_users": share,
        "share_of_training_events": round(float(aside.sum() / max(train.sum(), 1)), 4),  # that nobody trains on
        "num_users": len(np.unique(user[aside])),
    }
    not_evaluated = int((~held & ~calibration & (length > 0)).sum()) if settings.holdout != "users_80_20" else 0
    return role, {
        "num_calibration_users": int(calibration.sum()),
        "num_users_too_short": not_evaluated,
        "set_aside": set_aside,
    }


def share_by_size(length: NDArray[np.int64]) -> float:
    """The share of users of whom events are set aside, by the training events ``length`` (U,) of every user.

    The smallest for which NUM_SET_ASIDE events of NUM_USERS_SET_ASIDE users are expected, in thousandths, within
    SHARES_SET_ASIDE; 0 where no user has 3 training events. Half of the users are for methods to learn levels from,
    the other half for the audit.
    """
    length = length[length >= MIN_TO_DRAW]
    if not len(length):
        return 0.0
    events = (1 + _most_drawn(length, MAX_SHARE_SET_ASIDE)) / 2  # expected of a user who is drawn
    share = max(NUM_SET_ASIDE / float(events.sum()), NUM_USERS_SET_ASIDE / len(length))
    low, high = SHARES_SET_ASIDE
    return min(max(math.ceil(share * 1000) / 1000, low), high)


def _set_aside(
    user: NDArray[np.int32], train: NDArray[np.bool_], num_users: int, share: float, seed: int
) -> NDArray[np.bool_]:
    """(E,) events of a ``share`` of the users, drawn as [T] draws those to forget."""
    rng = numpy_stream(seed, "set-aside")
    eligible = np.bincount(user[train], minlength=num_users) >= MIN_TO_DRAW
    users = draw_users(eligible, round(share * int(eligible.sum())), rng)
    return draw_events(user, train & users[user], MAX_SHARE_SET_ASIDE, rng)


def draw_users(eligible: NDArray[np.bool_], number: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """(U,) ``number`` of the ``eligible`` users (U,), drawn; all if there are fewer."""
    chosen = np.zeros(len(eligible), dtype=bool)
    chosen[rng.permutation(np.flatnonzero(eligible))[:number]] = True
    return chosen


def draw_events(
    user: NDArray[np.int32], events: NDArray[np.bool_], max_share: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """[T] 3.2.2: of each user's ``events`` (E,) draw k ~ Uniform{1 .. floor(len * share)}, never one of the first two.

    ``user`` (E,) is sorted; returned is (E,) what was drawn.
    """
    event = np.flatnonzero(events)
    owner = user[event]
    place = np.arange(len(event)) - np.searchsorted(owner, owner)  # among the user's events
    length = np.bincount(owner, minlength=int(user[-1]) + 1)
    wanted = rng.integers(1, _most_drawn(length, max_share) + 1)
    key = rng.random(len(event))
    key[place < 2] = 2.0
    order = np.lexsort((key, owner))  # users stay in place
    take = (place < wanted[owner]) & (key[order] < 1.0)
    drawn = np.zeros(len(user), dtype=bool)
    drawn[event[order[take]]] = True
    return drawn


def _most_drawn(length: NDArray[np.int64], max_share: float) -> NDArray[np.int64]:
    """(U,) the most events that are drawn of users with ``length`` (U,) events.

    At least one and at most all but the first two, for shares other than the thesis' half.
    """
    most: NDArray[np.int64] = np.clip(np.floor(length * max_share), 1, np.maximum(length - 2, 1)).astype(np.int64)
    return most


def _windows_as_users(
    user: NDArray[np.int32], settings: PrepareConfig
) -> tuple[NDArray[np.int64], tuple[NDArray[np.int32], NDArray[np.int32]], int]:
    """[T]'s variant: cut whole sequences into windows and make each its own user.

    Returns the event rows of all windows in order (an item shared by two windows appears twice), for each its
    new user and for each new user the old one, and the number of windows dropped as too short.
    """
    offsets = np.searchsorted(user, np.arange(int(user[-1]) + 2)).astype(np.int64)
    start, stop, num_dropped = cut(offsets, settings.max_length, settings.drop_short, singles=True)
    new_user, rows = ragged_rows(start, stop)
    return rows, (new_user.astype(np.int32), user[start]), num_dropped


def _item_table(raw: RawData, item_ids: pd.Series) -> pd.DataFrame:
    table = pd.DataFrame({"item_id": item_ids.astype(str), "title": "", "categories": ""})
    if raw.items is None:
        return table
    known = raw.items.assign(item_id=raw.items["item_id"].astype(str)).set_index("item_id")
    for column in ("title", "categories"):
        if column in known:
            table[column] = table["item_id"].map(known[column]).fillna("").astype(str)
    return table


def training_windows(data: Dataset, events: Mask) -> Windows:
    """Windows of the given events, order kept, by user and oldest first; see ``sequences.cut``."""
    user, item = data.user[events], data.item[events]
    offsets = np.searchsorted(user, np.arange(data.num_users + 1)).astype(np.int64)
    start, stop, _ = cut(offsets, data.max_length, data.drop_short)
    return Windows(pad(item, start, stop, data.max_length + 1), user[start], np.flatnonzero(events)[stop - 1])


def original_validation(data: Dataset) -> Queries:
    """Validation before any request: raw training history, all validation targets."""
    context = np.isin(data.role, (Role.TRAIN, Role.CONTEXT))
    return make_queries(data.item, data.user, data.offsets, context, data.has_role(Role.VALIDATION))


def item_mask(data: Dataset, events: Mask) -> Mask:
    """(V+1,) which items occur in the given events."""
    items = np.zeros(data.num_items + 1, dtype=bool)
    items[data.item[events]] = True
    return items


def user_items(data: Dataset, events: Mask) -> NDArray[np.int64]:
    """Sorted keys user * (V + 1) + item of the given events: who has what, for exact negatives and candidates."""
    keys = data.user[events].astype(np.int64) * (data.num_items + 1) + data.item[events]
    keys.sort()  # np.unique hashes, which takes many times as long
    new = np.ones(len(keys), dtype=bool)
    new[1:] = keys[1:] != keys[:-1]
    return keys[new]
