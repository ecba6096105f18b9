"""Forget requests, and the partition of the data that follows from one ([T] 3.2.2; [A] 5.1).

A request names events. What it names among the training events is the *forget set*; what stays of them is the
*retain set*; what it names among held-out events leaves the held-out splits. Everything is a mask over event ids
(see ``data.dataset``), so contexts are slices of retained events and nothing is copied per user.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors.numpy import save_file

from srun.data.dataset import (
    MAX_SHARE_SET_ASIDE,
    Dataset,
    Mask,
    Role,
    draw_events,
    draw_users,
    item_mask,
    report_users,
)
from srun.data.raw import RawData
from srun.data.sequences import Queries, make_queries
from srun.errors import DataError
from srun.files import read_json, read_tensors, verify_folder, write_folder
from srun.registry import suggest
from srun.requests.kinds import (
    CategoryRequest,
    DrawnInteractions,
    DrawnUsers,
    ExpectedInteractions,
    GivenRequest,
    Request,
)
from srun.requests.rows import OUTCOMES, carry_out
from srun.rng import numpy_stream

log = logging.getLogger("srun.data")

NUM_SHOWN = 10  # lines of a request in a message; rows.csv has them all
MIN_USERS_TO_TUNE = 20  # below, a request has no tune half
TUNE, REPORT = 1, 2  # groups of users; 0 is neither
MASKS = "masks.safetensors"
ROWS = "rows.csv"
RECORD = "request.json"


@dataclass(frozen=True)
class Partition:
    """A data set split by a request into what is forgotten, what is retained, and what is asked afterwards."""

    data: Dataset
    removed: Mask  # (E,) named by the request, in whatever role
    never_seen: Mask  # (E,) events of calibration users that stand for forgotten ones
    group: NDArray[np.uint8]  # (U,) TUNE, REPORT or 0, of users of the request and of calibration users
    named: Mask  # (U,) whom the request is for; everybody unless it names users
    info: dict[str, Any]  # request, name, counts; nothing in it identifies a user
    rows: pd.DataFrame | None = None  # line, outcome, reason of every row of a given request
    earlier: Mask | None = None  # (E,) named by earlier requests of a chain; what was trained on is Role.FORGOTTEN

    @classmethod
    def by_mask(cls, data: Dataset, removed: Mask) -> "Partition":
        """What a request of single interactions that names ``removed`` (E,) would retain, for looks at training events.

        Nobody made such a request, so it has no groups of users and no counts.
        """
        nobody, everybody = np.zeros(data.num_users, dtype=np.uint8), np.ones(data.num_users, dtype=bool)
        info = {"request": {"kind": "interactions", "catalogue": "full"}}
        return cls(data, removed, np.zeros(data.num_events, dtype=bool), nobody, everybody, info)

    @property
    def kind(self) -> str:
        return str(self.info["request"]["kind"])

    @cached_property
    def gone(self) -> Mask:
        """(E,) named by the request or by an earlier one of its chain: nothing of it is shown, asked or trained on."""
        return self.removed if self.earlier is None else self.removed | self.earlier

    @property
    def chain(self) -> list[str]:
        """Names of the requests of its chain up to this one, the oldest first."""
        return [*self.info.get("after", []), self.info["name"]]

    @property
    def afterwards(self) -> Dataset:
        """The data once the request is carried out: what the next request of a chain is about."""
        return self.data.forgetting(self.forget)

    @cached_property
    def forget(self) -> Mask:
        """(E,) training events that must be forgotten; those of earlier requests are no training events any more."""
        return self.removed & self.data.has_role(Role.TRAIN)

    @cached_property
    def retain(self) -> Mask:
        """(E,) training events that stay."""
        return ~self.removed & self.data.has_role(Role.TRAIN)

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
        validation = self._ask(self.retain, (role == Role.VALIDATION) & ~self._gone_earlier)
        test = self.test_targets
        gone = self.removed[test.event]
        kept = ~gone
        affected = self.affected[test.user]
        splits = {
            "validation": validation.select(~self.removed[validation.event]),
            "test": test.select(kept),
            "test_affected": test.select(kept & affected),
            "test_unaffected": test.select(kept & ~affected),
            "test_raw": self._ask(known & ~self._gone_earlier, (role == Role.TEST) & ~self._gone_earlier),
        }
        forget, never = self._ask_forget(), self._ask(self._never_seen_context, self.never_seen)
        for name, code in (("tune", TUNE), ("report", REPORT)):
            splits[f"forget_{name}"] = forget.select(self.group[forget.user] == code)
            splits[f"never_seen_{name}"] = never.select(self.group[never.user] == code)
        if self.kind == "interactions":  # once retrained, forgotten events stand as these do
            aside = (role == Role.SET_ASIDE) & ~self.gone
            splits["set_aside"] = self._ask(self.retain, aside)
        if self.earlier is not None:
            splits["forgotten_earlier"] = self._ask_forgotten_earlier()
        if self.kind == "category":
            report = self.group[test.user] == REPORT
            splits["all_targets"] = test.select(report)
            splits["in_category"] = test.select(gone & report)
            outside = ~category_items(self.data, self.info["request"]["categories"])  # by the item, whoever is named
            splits["out_of_category"] = test.select(kept & report & outside[test.target])
            tune = self.group[validation.user] == TUNE
            splits["in_category_tune"] = validation.select(self.removed[validation.event] & tune)
            splits["out_of_category_tune"] = validation.select(outside[validation.target] & tune)
        return splits

    @cached_property
    def test_targets(self) -> Queries:
        """Every test target, those that the request names too, after the retained history."""
        known = np.isin(self.data.role, (Role.TRAIN, Role.VALIDATION, Role.CONTEXT))
        return self._ask(known & ~self.gone, self.data.has_role(Role.TEST) & ~self._gone_earlier)

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
        users = np.array([-1])
        if request["users"] is not None:
            users = np.flatnonzero(self.named)
        return np.stack([np.repeat(users, len(items)), np.tile(items, len(users))], axis=1).astype(np.int64)

    def forget_queries(self) -> Queries:
        """Every forget event with a context, of tune and report users alike: what methods may train on."""
        return self._ask_forget()

    def never_trained(self, *, audit: bool) -> Queries:
        """Events set aside before training, after the retained history, of one half of their users.

        One half is what methods may learn from; the other is for the audit only, which would else compare forgotten
        events with what the method was fitted to. The halves are drawn by the data seed, whatever the request.
        """
        events = (self.data.role == Role.SET_ASIDE) & ~self.gone
        return set_aside_queries(self.data, self.retain, events, audit=audit)

    @cached_property
    def _never_seen_context(self) -> Mask:
        calibration = self.data.has_role(Role.CALIBRATION) & ~self._gone_earlier
        if self.kind == "users" or self.info["request"].get("context") == "all":
            return calibration
        return calibration & ~self.never_seen & ~self.gone

    @property
    def _gone_earlier(self) -> Mask:
        return np.zeros(self.data.num_events, dtype=bool) if self.earlier is None else self.earlier

    def _ask_forgotten_earlier(self) -> Queries:
        """Events that earlier requests took out of training, after what their users retain, or after their own."""
        forgotten = self.data.has_role(Role.FORGOTTEN)
        whole = forgotten & ~_users_of(self.data, self.retain)[self.data.user]
        return self._ask(self.retain | whole, forgotten)

    def _ask(self, context: Mask, targets: Mask) -> Queries:
        return make_queries(self.data.item, self.data.user, self.data.offsets, context, targets)

    def _ask_forget(self) -> Queries:
        raw = self.kind == "users" or self.info["request"].get("context") == "all"
        return self._ask(self.data.has_role(Role.TRAIN) if raw else self.retain, self.forget)

    def save(self, folder: Path, record: Mapping[str, Any] | None = None) -> None:
        """Write the partition as one folder, whole or not at all; the data set itself is not copied.

        ``record``: the block it was made of, and the content of its files. It may hold raw user ids, so it stays here.
        """
        with write_folder(folder, sealed=True) as new:
            masks = {"removed": self.removed, "never_seen": self.never_seen, "named": self.named}
            masks |= {} if self.earlier is None else {"earlier": self.earlier}
            flags = {name: mask.astype(np.uint8) for name, mask in masks.items()}
            save_file({**flags, "group": self.group}, new / MASKS)
            if self.rows is not None:
                self.rows.to_csv(new / ROWS, index=False, lineterminator="\n")
            if record is not None:
                (new / RECORD).write_text(json.dumps(record, indent=1) + "\n")
            (new / "info.json").write_text(json.dumps(self.info, indent=1, sort_keys=True) + "\n")

    @classmethod
    def load(cls, folder: Path, data: Dataset) -> "Partition":
        """Read a folder that ``save`` wrote; raises DataError if it is missing or was made for other data."""
        if not (folder / "info.json").is_file():
            raise DataError(f"{folder}: no partition here; run `srun partition --request {folder.name}` first")
        mend = f"run `srun partition --request {folder.name}` again"
        fault = DataError, mend
        verify_folder(folder, *fault)
        info = read_json(folder / "info.json", *fault)
        names = ("removed", "never_seen", "named", *(["earlier"] if "after" in info else []))
        masks = read_tensors(folder / MASKS, (*names, "group"), *fault)
        if info["fingerprint"] != data.fingerprint or info.get("prepare") != data.info["config"]:
            raise DataError(f"{folder}: made for other data than the prepared set; {mend}")
        flags = {name: masks[name].astype(bool) for name in names}
        if "earlier" in flags:
            data = data.forgetting(flags["earlier"])
        return cls(data, group=masks["group"], info=info, **flags)


def partition(
    data: Dataset,
    name: str,
    request: Request,
    request_rows: pd.DataFrame | None = None,
    read_raw: Callable[[], RawData] | None = None,
    after: Partition | None = None,
    drawn: Mask | None = None,
) -> Partition:
    """Carry out a request on a data set.

    ``after``: the request before it in a chain, which was carried out already. What it and those before it forgot is
    not trained on, not in a context, and not forgotten again: ``forget`` has new events only, and the split
    ``forgotten_earlier`` asks for the old ones.

    ``request_rows``: what the file of a request says, if it has one (see ``rows.carry_out``). Rows that cannot be
    carried out never stop the others: ``rows`` has an outcome for each. ``read_raw`` gives the log that the data were
    prepared from, which such a request needs too. ``drawn`` (E,): the events of a request of expected memory.
    Raises DataError for an unknown category, and when no training event answers to the request.
    """
    data = data if after is None else after.afterwards
    removed, named, rows = _events(data, name, request, request_rows, read_raw, drawn)
    return partition_of_events(data, name, request, removed, named, rows, after)


def partition_of_events(
    data: Dataset,
    name: str,
    request: Request,
    removed: Mask,
    named: Mask,
    rows: pd.DataFrame | None,
    after: Partition | None,
) -> Partition:
    """The same of the events ``removed`` (E,) themselves, which a request for users ``named`` (U,) names.

    ``data``: as they are after the requests before it. Raises DataError as ``partition``.
    """
    train, calibration = data.has_role(Role.TRAIN), data.has_role(Role.CALIBRATION)
    forget = removed & train
    if not forget.any():
        outcomes = "" if rows is None else f" ({_shown(rows)})"
        outcomes += "" if after is None else f', or request "{after.info["name"]}" before it forgot that already'
        raise DataError(
            f'request "{name}": no model was trained on what it names, so there is nothing to unlearn{outcomes}'
        )
    if not (train & ~removed).any():
        raise DataError(f'request "{name}": it names every training event, so nothing stays that a model could keep')
    group, notes = _groups(data, request, forget), {}
    if _users_of(data, forget).sum() < MIN_USERS_TO_TUNE:
        group[_users_of(data, forget)] = REPORT
        notes["no_tune_half"] = f"fewer than {MIN_USERS_TO_TUNE} users: schedules are fixed, nothing is chosen"
    never_trained, never_seen = removed & (calibration | data.has_role(Role.SET_ASIDE)), _never_seen(data, request)
    if rows is not None:  # whoever asked to go stands for nobody else
        never_seen &= ~removed
        group[_users_of(data, calibration) & ~_users_of(data, calibration & ~removed)] = 0
    elif isinstance(request, CategoryRequest):  # for everybody, so nobody needs to be told
        never_trained[:] = False
    if after is not None:
        never_seen &= ~after.gone
    info = {"name": name, "request": _public(request, int(named.sum())), **_counts(data, removed, never_trained)}
    info |= notes | _about_rows_and_chain(data, rows, after)
    result = Partition(data, removed, never_seen, group, named, info, rows, None if after is None else after.gone)
    info["num_forget_without_context"] = int(forget.sum()) - len(result.forget_queries())
    info["splits"] = {split: len(queries) for split, queries in result.splits.items()}
    return result


def _counts(data: Dataset, removed: Mask, never_trained: Mask) -> dict[str, Any]:
    """What the data are, and how many events the ones ``removed`` (E,) take from which role."""
    train = data.has_role(Role.TRAIN)
    forget, retain = train & removed, train & ~removed
    return {
        "fingerprint": data.fingerprint,
        "prepare": data.info["config"],
        "num_users": int(_users_of(data, forget).sum()),
        "num_forget": int(forget.sum()),
        "num_retain": int(retain.sum()),
        "num_held_out_removed": int((removed & np.isin(data.role, (Role.VALIDATION, Role.TEST))).sum()),
        "num_never_trained_on": int(never_trained.sum()),
        "num_items_only_forgotten": int((item_mask(data, forget) & ~item_mask(data, retain)).sum()),
    }


def _about_rows_and_chain(data: Dataset, rows: pd.DataFrame | None, after: Partition | None) -> dict[str, Any]:
    info: dict[str, Any] = {}
    if rows is not None:
        counts = rows["outcome"].value_counts()
        info["rows"] = {outcome: int(counts.get(outcome, 0)) for outcome in OUTCOMES}
    if after is not None:
        info["after"] = after.chain
        info["num_forgotten_earlier"] = int(data.has_role(Role.FORGOTTEN).sum())
    return info


def _events(
    data: Dataset,
    name: str,
    request: Request,
    request_rows: pd.DataFrame | None,
    read_raw: Callable[[], RawData] | None,
    drawn: Mask | None,
) -> tuple[Mask, Mask, pd.DataFrame | None]:
    """(E,) the events that a request names, (U,) whom it is for, and the outcomes of its rows if it has any."""
    everybody, inside = np.ones(data.num_users, dtype=bool), np.ones(data.num_events, dtype=bool)
    if isinstance(request, DrawnInteractions | DrawnUsers):
        return _drawn_events(data, request), everybody, None
    if isinstance(request, ExpectedInteractions):
        assert drawn is not None, "an Original has drawn its events"
        return drawn, everybody, None
    categories = request.categories if isinstance(request, CategoryRequest) else None
    if categories is not None:
        inside = category_items(data, categories)[data.item]
        if request_rows is None:
            return inside, everybody, None
    assert request_rows is not None, "a given request has rows"
    assert read_raw is not None, "and rows are looked up in the raw log"
    raw = read_raw if categories is None else partial(_within, read_raw, categories)
    removed, rows = carry_out(data, request_rows, inside, raw)
    for outcome, unforgotten in rows[rows["outcome"] != "forgotten"].groupby("outcome"):
        log.warning('request "%s": %s', name, _lines(str(outcome), unforgotten))
    return removed, data.users["user_id"].isin(request_rows["user_id"]).to_numpy(), rows


def _within(read_raw: Callable[[], RawData], categories: Sequence[str]) -> RawData:
    """The log without the events that are in none of the categories; ids stay known."""
    raw = read_raw()
    items = raw.items if raw.items is not None else pd.DataFrame(columns=["item_id", "categories"])
    inside = items[[bool(set(str(text).split("|")) & set(categories)) for text in items["categories"]]]
    return replace(raw, interactions=raw.interactions[raw.interactions["item_id"].isin(inside["item_id"])])


def _public(request: Request, num_users: int) -> dict[str, Any]:
    """What is told of a request wherever its results go: nothing that identifies a user, so no ids and no file."""
    told = {key: value for key, value in vars(request).items() if key not in ("file", "format", "columns", "users")}
    if isinstance(request, CategoryRequest):
        told["users"] = None if request.users is None else num_users
    return {**told, "given": True} if isinstance(request, GivenRequest) else told


def _lines(outcome: str, rows: pd.DataFrame) -> str:
    """One outcome in a line: how many rows, why, and where the first of them stand."""
    reasons = ", ".join(text for text in dict.fromkeys(rows["reason"]) if text)
    lines = rows["line"].drop_duplicates()  # a line of a sequence has several rows
    shown = ", ".join(map(str, lines[:NUM_SHOWN])) + (", ..." if len(lines) > NUM_SHOWN else "")
    number = f"{len(rows)} rows" if len(rows) > 1 else "1 row"
    return f"{number} {outcome}{f' ({reasons})' if reasons else ''}: line {shown}"


def _shown(rows: pd.DataFrame) -> str:
    return "; ".join(_lines(str(outcome), part) for outcome, part in rows.groupby("outcome"))


def _groups(data: Dataset, request: Request, forget: Mask) -> NDArray[np.uint8]:
    """(U,) the tune and report users of a request, and those of the never-seen events."""
    calibration = _users_of(data, data.has_role(Role.CALIBRATION))
    if isinstance(request, CategoryRequest):
        report = report_users(data.num_users, int(data.info["config"]["seed"]))
        group = np.where(report, REPORT, TUNE).astype(np.uint8)
        group[calibration] = 0
    else:
        group = _halves(_users_of(data, forget), request.seed, "tune")
    return group | _halves(calibration, request.seed, "never-seen")


def _users_of(data: Dataset, events: Mask) -> Mask:
    users = np.zeros(data.num_users, dtype=bool)
    users[data.user[events]] = True
    return users


def _halves(users: Mask, seed: int, name: str) -> NDArray[np.uint8]:
    order = numpy_stream(seed, f"halves-{name}").permutation(np.flatnonzero(users))
    group = np.zeros(len(users), dtype=np.uint8)
    group[order[: len(order) // 2]] = TUNE
    group[order[len(order) // 2 :]] = REPORT
    return group


def _drawn_events(data: Dataset, request: DrawnInteractions | DrawnUsers) -> Mask:
    rng = numpy_stream(request.seed, "request")
    train = data.has_role(Role.TRAIN)
    length = np.bincount(data.user[train], minlength=data.num_users)

    def some_users(eligible: Mask) -> Mask:
        return draw_users(eligible, max(1, round(request.share_of_users * int(eligible.sum()))), rng)

    if isinstance(request, DrawnUsers):
        return some_users(length >= 1)[data.user] & ~data.has_role(Role.CALIBRATION)
    return draw_events(data.user, train & some_users(length >= 3)[data.user], request.max_share_of_items, rng)


def _never_seen(data: Dataset, request: Request) -> Mask:
    """Events of calibration users that stand for forgotten ones, drawn as those are."""
    left = data.has_role(Role.CALIBRATION)
    for back in (1, 2):  # the last two of each user are set aside as if held out
        has = np.diff(data.offsets) >= back
        left[data.offsets[1:][has] - back] = False
    if isinstance(request, CategoryRequest):
        return left & category_items(data, request.categories)[data.item]
    if request.kind == "users":
        return left
    length = np.bincount(data.user[left], minlength=data.num_users)
    share = MAX_SHARE_SET_ASIDE if isinstance(request, GivenRequest) else request.max_share_of_items
    return draw_events(data.user, left & (length >= 3)[data.user], share, numpy_stream(request.seed, "never-seen"))


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


def set_aside_queries(data: Dataset, context: Mask, events: Mask, *, audit: bool) -> Queries:
    """Those of ``events`` (E,), set aside before training, whose users are in one half; after ``context`` (E,)."""
    owners = np.unique(data.user[data.role == Role.SET_ASIDE])
    order = numpy_stream(data.info["config"]["seed"], "audit").permutation(len(owners))
    chosen = np.zeros(data.num_users, dtype=bool)
    chosen[owners[order[len(owners) // 2 :] if audit else order[: len(owners) // 2]]] = True
    return make_queries(data.item, data.user, data.offsets, context, events & chosen[data.user])
