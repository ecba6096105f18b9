"""Forget requests, and the partition of the data that follows from one ([T] 3.2.2; [A] 5.1).

A request names events. What it names among the training events is the *forget set*; what stays of them is the
*retain set*; what it names among held-out events leaves the held-out splits. Everything is a mask over event ids
(see ``interactions``), so contexts are slices of retained events and nothing is copied per user.
"""

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field
from safetensors.numpy import save_file

from srun.config import config
from srun.data.interactions import Dataset, Role, draw_events, draw_users, report_users
from srun.data.sequences import Queries, Windows, cut, make_queries, pad
from srun.errors import DataError
from srun.files import read_json, read_tensors, verify_folder, write_folder
from srun.registry import suggest
from srun.rng import numpy_stream

MIN_USERS_TO_TUNE = 20  # below, a request has no tune half
TUNE, REPORT = 1, 2  # groups of users; 0 is neither

Mask = NDArray[np.bool_]


@config
class InteractionsRequest:
    """Single events: drawn as in [T] 3.2.2, or named in a file."""

    kind: Literal["interactions"]
    file: str | None
    """CSV with the columns user_id, item_id and optionally timestamp; null draws."""
    share_of_users: Annotated[float, Field(gt=0, le=1)]
    """Share of the users with at least 3 training items that forget something."""
    max_share_of_items: Annotated[float, Field(gt=0, le=1)]
    """Each of them forgets 1 to this share of the training items, never the first two."""
    catalogue: Literal["full", "retained"]
    """Whether items without a retained event stay in softmax and negatives of training on the retain set."""
    seed: int


@config
class CategoryRequest:
    """Every event whose item has one of the categories, of all users or of the named ones ([A])."""

    kind: Literal["category"]
    categories: tuple[str, ...]
    users: tuple[str, ...] | None
    """Raw user ids; null means everybody."""
    context: Literal["retained", "all"]
    """History of a forgotten event: without the category, or with it ([A])."""
    catalogue: Literal["full", "retained"]
    seed: int


@config
class UsersRequest:
    """All events of users: drawn, or named in a file."""

    kind: Literal["users"]
    file: str | None
    """CSV with the column user_id; null draws."""
    share_of_users: Annotated[float, Field(gt=0, le=1)]
    catalogue: Literal["full", "retained"]
    seed: int


Request = Annotated[InteractionsRequest | CategoryRequest | UsersRequest, Field(discriminator="kind")]
"""What must go."""


@dataclass(frozen=True)
class Partition:
    """A data set split by a request into what is forgotten, what is retained, and what is asked afterwards."""

    data: Dataset
    removed: Mask  # (E,) named by the request, in whatever role
    never_seen: Mask  # (E,) events of calibration users that stand for forgotten ones
    group: NDArray[np.uint8]  # (U,) TUNE, REPORT or 0, of users of the request and of calibration users
    info: dict[str, Any]  # request, with named users counted; name, counts
    named: Mask | None = None  # (U,) the users a category request is for; None means everybody

    @property
    def kind(self) -> str:
        return str(self.info["request"]["kind"])

    @cached_property
    def forget(self) -> Mask:
        """(E,) training events that must be forgotten."""
        return self.removed & (self.data.role == Role.TRAIN)

    @cached_property
    def retain(self) -> Mask:
        """(E,) training events that stay."""
        return ~self.removed & (self.data.role == Role.TRAIN)

    @cached_property
    def catalogue(self) -> Mask | None:
        """(V+1,) items that training on the retain set may score; None means all."""
        if self.info["request"]["catalogue"] == "full":
            return None
        return item_mask(self.data, self.retain)

    @cached_property
    def affected(self) -> Mask:
        """(U,) users with a forgotten event."""
        users = np.zeros(self.data.num_users, dtype=bool)
        users[self.data.user[self.forget]] = True
        return users

    def queries(self, split: str) -> Queries:
        """Return the ranking questions of a split (see SPLITS); contexts are the retained history except for test_raw.

        Raises DataError for a split that this kind of request does not have.
        """
        if split not in self.splits:
            raise DataError(f'a request of kind "{self.kind}" has no split "{split}"; it has {", ".join(self.splits)}')
        return self.splits[split]

    @cached_property
    def splits(self) -> dict[str, Queries]:
        """Every split of this request by name; a split may be empty."""
        role = self.data.role
        known = np.isin(role, (Role.TRAIN, Role.VALIDATION, Role.CONTEXT))
        validation = self._ask(self.retain, role == Role.VALIDATION)
        test = self.test_targets
        gone = self.removed[test.event]
        kept = ~gone
        affected = self.affected[test.user]
        splits = {
            "validation": validation.select(~self.removed[validation.event]),
            "test": test.select(kept),
            "test_affected": test.select(kept & affected),
            "test_unaffected": test.select(kept & ~affected),
            "test_raw": self._ask(known, role == Role.TEST),
        }
        forget, never = self._ask_forget(), self._ask(self._never_seen_context, self.never_seen)
        for name, code in (("tune", TUNE), ("report", REPORT)):
            splits[f"forget_{name}"] = forget.select(self.group[forget.user] == code)
            splits[f"never_seen_{name}"] = never.select(self.group[never.user] == code)
        if self.kind == "interactions":  # once retrained, forgotten events stand as these do
            aside = (role == Role.SET_ASIDE) & ~self.removed
            splits["set_aside"] = self._ask(self.retain, aside)
        if self.kind == "category":
            report = self.group[test.user] == REPORT
            splits["all_targets"] = test.select(report)
            splits["in_category"] = test.select(gone & report)
            splits["out_of_category"] = test.select(kept & report)
            tune = self.group[validation.user] == TUNE
            splits["in_category_tune"] = validation.select(self.removed[validation.event] & tune)
            splits["out_of_category_tune"] = validation.select(~self.removed[validation.event] & tune)
        return splits

    @cached_property
    def test_targets(self) -> Queries:
        """Every test target, those that the request names too, after the retained history."""
        known = np.isin(self.data.role, (Role.TRAIN, Role.VALIDATION, Role.CONTEXT))
        return self._ask(known & ~self.removed, self.data.role == Role.TEST)

    @cached_property
    def masked_pairs(self) -> NDArray[np.int64]:
        """(M, 2) users and items that must not be shown; user -1 stands for everybody.

        Of a category all its items, for the users it concerns; else the items of the users' forgotten events.
        """
        request = self.info["request"]
        if self.kind != "category":
            events = np.stack([self.data.user[self.removed], self.data.item[self.removed]], axis=1)
            return np.unique(events.astype(np.int64), axis=0)
        items = np.flatnonzero(category_items(self.data, request["categories"]))
        users = np.array([-1]) if self.named is None else np.flatnonzero(self.named)
        return np.stack([np.repeat(users, len(items)), np.tile(items, len(users))], axis=1).astype(np.int64)

    def forget_queries(self) -> Queries:
        """Every forget event with a context, of tune and report users alike: what methods may train on."""
        return self._ask_forget()

    @cached_property
    def _never_seen_context(self) -> Mask:
        calibration = self.data.role == Role.CALIBRATION
        if self.kind == "users" or self.info["request"].get("context") == "all":
            return calibration
        return calibration & ~self.never_seen & ~self.removed

    def _ask(self, context: Mask, targets: Mask) -> Queries:
        return make_queries(self.data.item, self.data.user, self.data.offsets, context, targets)

    def _ask_forget(self) -> Queries:
        raw = self.kind == "users" or self.info["request"].get("context") == "all"
        return self._ask(self.data.role == Role.TRAIN if raw else self.retain, self.forget)

    def save(self, folder: Path) -> None:
        """Write the partition as one folder, whole or not at all; the data set itself is not copied."""
        with write_folder(folder, sealed=True) as new:
            flags = {"removed": self.removed.astype(np.uint8), "never_seen": self.never_seen.astype(np.uint8)}
            if self.named is not None:
                flags["named"] = self.named.astype(np.uint8)
            save_file({**flags, "group": self.group}, new / "masks.safetensors")
            (new / "info.json").write_text(json.dumps(self.info, indent=1, sort_keys=True) + "\n")

    @classmethod
    def load(cls, folder: Path, data: Dataset) -> "Partition":
        """Read a folder that ``save`` wrote; raises DataError if it is missing or was made for other data."""
        if not (folder / "info.json").is_file():
            raise DataError(f"{folder}: no partition here; run `srun partition` first")
        fault = DataError, "run `srun partition` again"
        verify_folder(folder, *fault)
        info = read_json(folder / "info.json", *fault)
        names = ("removed", "never_seen", "group", *(("named",) if info["request"].get("users") is not None else ()))
        masks = read_tensors(folder / "masks.safetensors", names, *fault)
        if info["fingerprint"] != data.fingerprint or info.get("prepare") != data.info["config"]:
            raise DataError(f"{folder}: made for other data than the prepared set; run `srun partition` again")
        flags = {name: masks[name].astype(bool) for name in names if name != "group"}
        return cls(data, group=masks["group"], info=info, **flags)


def training_windows(data: Dataset, events: Mask) -> Windows:
    """Windows of the given events, order kept, by user and oldest first; see ``sequences.cut``."""
    user, item = data.user[events], data.item[events]
    offsets = np.searchsorted(user, np.arange(data.num_users + 1)).astype(np.int64)
    start, stop, _ = cut(offsets, data.max_length, data.drop_short)
    return Windows(pad(item, start, stop, data.max_length + 1), user[start])


def original_validation(data: Dataset) -> Queries:
    """Validation before any request: raw training history, all validation targets."""
    context = np.isin(data.role, (Role.TRAIN, Role.CONTEXT))
    return make_queries(data.item, data.user, data.offsets, context, data.role == Role.VALIDATION)


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


def partition(data: Dataset, name: str, request: Request) -> Partition:
    """Carry out a request on a data set.

    Raises DataError when it names unknown users, items or categories, or when nothing in training answers to it.
    """
    train, calibration = data.role == Role.TRAIN, data.role == Role.CALIBRATION
    never_trained = calibration | (data.role == Role.SET_ASIDE)
    notes: dict[str, Any] = {}
    named: Mask | None = None
    asked = dict(vars(request))
    if isinstance(request, CategoryRequest):
        items = category_items(data, request.categories)
        concerned = _named_users(data, request)
        if request.users is not None:  # raw ids stay with the data
            named, asked["users"] = concerned, len(request.users)
        removed = items[data.item] & concerned[data.user]
        never_seen = items[data.item] & _calibration_training(data)
        report = report_users(data.num_users, int(data.info["config"]["seed"]))
        group = np.where(report, REPORT, TUNE).astype(np.uint8)
        group[_of(data, calibration)] = 0
    else:
        removed = _named_events(data, request) if request.file else _drawn_events(data, request)
        never_seen = _never_seen(data, request)
        group = _halves(_of(data, removed & train), request.seed, "tune")
    group |= _halves(_of(data, calibration), request.seed, "never-seen")
    chosen = _of(data, removed & train)
    if chosen.sum() < MIN_USERS_TO_TUNE:
        group[chosen] = REPORT
        notes["no_tune_half"] = f"fewer than {MIN_USERS_TO_TUNE} users: schedules are fixed, nothing is chosen"
    if not (removed & train).any():
        raise DataError(f'request "{name}": it names no training event, so there is nothing to forget')
    forget = removed & train
    result = Partition(data, removed, never_seen, group, {})
    info = {
        "name": name,
        "fingerprint": data.fingerprint,
        "prepare": data.info["config"],
        "request": asked,
        "num_users": int(_of(data, forget).sum()),
        "num_forget": int(forget.sum()),
        "num_retain": int((train & ~removed).sum()),
        "num_held_out_removed": int((removed & np.isin(data.role, (Role.VALIDATION, Role.TEST))).sum()),
        "num_never_trained_on": 0 if _is_for_everybody(request) else int((removed & never_trained).sum()),
        "num_items_only_forgotten": int((item_mask(data, forget) & ~item_mask(data, train & ~removed)).sum()),
        **notes,
    }
    result = Partition(data, removed, never_seen, group, info, named)
    info["num_forget_without_context"] = int(forget.sum()) - len(result.forget_queries())
    info["splits"] = {split: len(queries) for split, queries in result.splits.items()}
    return result


def _of(data: Dataset, events: Mask) -> Mask:
    users = np.zeros(data.num_users, dtype=bool)
    users[data.user[events]] = True
    return users


def _halves(users: Mask, seed: int, name: str) -> NDArray[np.uint8]:
    order = numpy_stream(seed, f"halves-{name}").permutation(np.flatnonzero(users))
    group = np.zeros(len(users), dtype=np.uint8)
    group[order[: len(order) // 2]] = TUNE
    group[order[len(order) // 2 :]] = REPORT
    return group


def _drawn_events(data: Dataset, request: InteractionsRequest | UsersRequest) -> Mask:
    rng = numpy_stream(request.seed, "request")
    train = data.role == Role.TRAIN
    length = np.bincount(data.user[train], minlength=data.num_users)

    def some_users(eligible: Mask) -> Mask:
        return draw_users(eligible, max(1, round(request.share_of_users * int(eligible.sum()))), rng)

    if isinstance(request, UsersRequest):
        return some_users(length >= 1)[data.user] & (data.role != Role.CALIBRATION)
    return draw_events(data.user, train & some_users(length >= 3)[data.user], request.max_share_of_items, rng)


def _never_seen(data: Dataset, request: InteractionsRequest | UsersRequest) -> Mask:
    """Events of calibration users that stand for forgotten ones, drawn as those are."""
    left = _calibration_training(data)
    if isinstance(request, UsersRequest):
        return left
    length = np.bincount(data.user[left], minlength=data.num_users)
    rng = numpy_stream(request.seed, "never-seen")
    return draw_events(data.user, left & (length >= 3)[data.user], request.max_share_of_items, rng)


def _calibration_training(data: Dataset) -> Mask:
    """Events of calibration users without the last two of each, which are set aside as if held out."""
    left = data.role == Role.CALIBRATION
    for back in (1, 2):
        has = np.diff(data.offsets) >= back
        left[data.offsets[1:][has] - back] = False
    return left


def _is_for_everybody(request: Request) -> bool:
    """Whether a request names no user; then nobody needs to be told that their events were never trained on."""
    return isinstance(request, CategoryRequest) and request.users is None


def category_items(data: Dataset, categories: Sequence[str]) -> Mask:
    """(V+1,) items with one of the categories; raises DataError for a category that no item has."""
    items = np.zeros(data.num_items + 1, dtype=bool)
    known = list(data.categories)
    if not known:
        raise DataError(f'data set "{data.info["name"]}" has no item categories; import an item table with them')
    for category in categories:
        if category not in data.categories:
            raise DataError(f'unknown category "{category}"{suggest(category, known)}; known: {", ".join(known[:30])}')
        items |= data.categories[category]
    return items


def _named_users(data: Dataset, request: CategoryRequest) -> Mask:
    """(U,) the users a category request is for."""
    if request.users is None:
        return np.ones(data.num_users, dtype=bool)
    named = pd.Series(request.users)
    _check_known(named, data.users["user_id"], "user", lambda row: "users of the request")
    return np.asarray(data.users["user_id"].isin(named))


def _named_events(data: Dataset, request: InteractionsRequest | UsersRequest) -> Mask:
    """Events that a request file names; a user may stand for several windows (holdout window).

    A named event that was held out was never trained on, yet it leaves the held-out splits and their contexts: whoever
    asks for it to go means all of it.
    """
    path = Path(str(request.file))
    wanted = ["user_id"] if isinstance(request, UsersRequest) else ["user_id", "item_id"]
    table = _read_request(path, wanted)

    def where(row: int) -> str:
        return f"{path}:{table['line'].iloc[row]}"

    _check_known(table["user_id"], data.users["user_id"], "user", where)
    if isinstance(request, UsersRequest):
        raw = data.users["user_id"].isin(table["user_id"]).to_numpy()
        return np.asarray(raw[data.user])
    _check_known(table["item_id"], data.items["item_id"], "item", where)
    events = pd.DataFrame(
        {
            "user_id": data.users["user_id"].to_numpy()[data.user],
            "item_id": data.items["item_id"].to_numpy()[data.item - 1],
            "timestamp": data.time.astype(str),
        }
    )
    on = [column for column in ("user_id", "item_id", "timestamp") if column in table]
    named = pd.MultiIndex.from_frame(table[on].drop_duplicates())
    present = pd.MultiIndex.from_frame(events[on])
    missing = ~pd.MultiIndex.from_frame(table[on]).isin(present)
    if missing.any():
        row = int(np.flatnonzero(missing)[0])
        named_so = ", ".join(f"{column} {table[column].iloc[row]}" for column in on)
        raise DataError(f"{where(row)}: no such interaction in the prepared data: {named_so}")
    return np.asarray(present.isin(named))


def _read_request(path: Path, wanted: list[str]) -> pd.DataFrame:
    """The rows of a request file, each with its ``line``; blank lines are left out."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, skipinitialspace=True, strict=True)
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a readable CSV file of what to forget ({error})") from error
    if not rows:
        raise DataError(f"{path}: is empty; expected the header {','.join(wanted)} and a line for each thing to forget")
    header = rows[0][1]
    missing = [column for column in wanted if column not in header]
    if missing:
        raise DataError(f"{path}:1: column {missing[0]} is missing; expected the header {','.join(wanted)}")
    for line, row in rows[1:]:
        if len(row) != len(header):
            raise DataError(f"{path}:{line}: {len(row)} fields, expected the {len(header)} of the header")
    if len(rows) == 1:
        raise DataError(f"{path}: names nothing to forget; expected a line for each")
    table = pd.DataFrame([row for _, row in rows[1:]], columns=header, dtype=str)
    return table.assign(line=[line for line, _ in rows[1:]])


def _check_known(names: pd.Series, known: pd.Series, what: str, where: Callable[[int], str]) -> None:
    """Raise DataError for the first raw id that is not known; ``where`` says in which place a row stands."""
    unknown = ~names.isin(known)
    if unknown.any():
        row = int(np.flatnonzero(unknown)[0])
        raise DataError(f'{where(row)}: unknown {what} "{names.iloc[row]}" in the prepared data (was it filtered out?)')
