"""What the ledger says as a whole: the state of every request, batch and version, made by reading its entries in order.

Times are microseconds since 1970. Nothing here is written anywhere: the ledger is the only record.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

from srun.errors import ConfigError
from srun.registry import suggest
from srun.service.ledger import Entry, Ledger

SERVICE = "service"
"""What entries about the service itself are filed under."""
DAY = 86_400_000_000
State = Literal["pending", "in_progress", "promoted", "completed", "cancelled", "refused", "on_hold"]


@dataclass(frozen=True)
class Tombstone:
    """What must stay out of any log, by pseudonyms."""

    kind: str
    """user, pair, event or item."""
    user: str
    """Pseudonym of the user; empty where it is about everybody."""
    pseudonym: str
    """Of all that it names."""
    until: int | None
    """Events at or before it; None: all, until it is lifted."""


@dataclass(frozen=True)
class Request:
    """A request as the ledger knows it."""

    id: str
    kind: str
    """events, users or items."""
    received: int
    due: int
    content: str
    """Pseudonym of its rows: the same id with other rows is another request."""
    inbox: str
    """File of the inbox that has its rows."""
    num_rows: int
    tombstones: tuple[Tombstone, ...]
    batch: str = ""
    state: State = "pending"
    reason: str = ""
    """Why it was cancelled, refused or is on hold."""
    hold: str = ""
    review: int | None = None
    lifted: bool = False
    version: int = 0
    """The first that covers it."""
    outcomes: Mapping[str, int] = field(default_factory=dict)
    num_changes: int = 0
    """Of holds and extensions, by which the next one is told from them."""

    @property
    def is_open(self) -> bool:
        """Whether somebody waits for it to be carried out."""
        return self.state in ("pending", "in_progress")


@dataclass(frozen=True)
class Version:
    """A model that was promoted."""

    number: int
    model: str
    """Its folder, from the root."""
    sha256: str
    chain: int
    parent: int
    """0 for the first."""
    batch: str
    method: str
    verdict: str
    covers: frozenset[str]
    """Requests that were carried out on it, or are absent from its training data."""
    data: str
    """Digest of the data version that belongs to it."""
    cell: Mapping[str, Any] | None
    """The cell that made it; None for one that was trained on all data of its chain."""
    promoted: int


@dataclass(frozen=True)
class Batch:
    """Requests that are carried out together."""

    id: str
    number: int
    requests: tuple[str, ...]
    parent: int
    """Version that is served when it begins: the promotion compares with it."""
    start: int
    """Version it is carried out on: the parent, or the one that is rolled back to."""
    forced: str
    """A method that was asked for; empty for the usual order."""
    began: int
    state: Literal["open", "promoted", "settled", "stopped"] = "open"
    reason: str = ""
    gates: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Method -> what the gate said of it."""
    resolved: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Book:
    """Requests, batches and versions by id and number, in the order of the ledger."""

    requests: Mapping[str, Request]
    batches: Mapping[str, Batch]
    versions: Mapping[int, Version]
    qualified: Mapping[str, Mapping[str, Any]]
    """``CHAIN/METHOD/KIND`` -> what thirty simulated requests showed."""
    position: int

    @classmethod
    def read(cls, ledger: Ledger) -> "Book":
        """The book of a ledger as it is now."""
        return cls.of(ledger.entries())

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> "Book":
        """The book of entries, which are all from the first on."""
        pages = _Pages()
        for entry in entries:
            pages.add(entry)
        return cls(pages.requests, pages.batches, pages.versions, pages.qualified, pages.position)

    @property
    def served(self) -> Version:
        """The version that is served; raises ConfigError where none was promoted yet."""
        if not self.versions:
            raise ConfigError("no version was promoted yet: `srun service init` was stopped; give it again")
        return self.versions[max(self.versions)]

    @property
    def carried_out(self) -> frozenset[str]:
        """Every request that a version covers: a servable one covers all of them."""
        return self.served.covers if self.versions else frozenset()

    @property
    def pending(self) -> list[Request]:
        """Requests nobody has begun to carry out, in the order they came in."""
        return [request for request in self.requests.values() if request.state == "pending"]

    @property
    def unfinished(self) -> Batch | None:
        """The batch that was begun, and neither settled nor stopped."""
        open_batches = [batch for batch in self.batches.values() if batch.state in ("open", "promoted")]
        return open_batches[-1] if open_batches else None

    def request(self, name: str) -> Request:
        """The request of an id, or ConfigError."""
        if name not in self.requests:
            raise ConfigError(f'unknown request "{name}"{suggest(name, list(self.requests))}; see `srun requests list`')
        return self.requests[name]

    def version(self, number: int) -> Version:
        """The version of a number, or ConfigError."""
        if number not in self.versions:
            known = ", ".join(map(str, self.versions))
            raise ConfigError(f"unknown version {number}; the ledger has {known}")
        return self.versions[number]

    def tombstones(self) -> list[Tombstone]:
        """Everything that must stay out of any log: of all requests but cancelled, refused and lifted ones."""
        return [
            tombstone
            for request in self.requests.values()
            if request.state not in ("cancelled", "refused") and not request.lifted
            for tombstone in request.tombstones
        ]


class _Pages:
    """A book while it is written."""

    def __init__(self) -> None:
        self.requests: dict[str, Request] = {}
        self.batches: dict[str, Batch] = {}
        self.versions: dict[int, Version] = {}
        self.qualified: dict[str, Mapping[str, Any]] = {}
        self.position = 0

    def add(self, entry: Entry) -> None:
        """Take an entry into account; steps that this version does not know change nothing."""
        self.position = entry.position
        step = entry.step.partition("-")[0]
        if step == "received":
            self.requests[entry.request] = _received(entry)
        elif entry.request in self.requests:
            self.requests[entry.request] = _changed(self.requests[entry.request], step, entry.body)
        elif step == "intent":
            self._begin(entry)
        elif step == "qualified":
            self.qualified[entry.body["key"]] = entry.body
        elif entry.request in self.batches:
            self._go_on(self.batches[entry.request], step, entry)

    def _begin(self, entry: Entry) -> None:
        body = entry.body
        self.batches[entry.request] = Batch(
            id=entry.request,
            number=int(body["number"]),
            requests=tuple(body["requests"]),
            parent=int(body["parent"]),
            start=int(body["start"]),
            forced=body["forced"],
            began=int(body["at"]),
        )
        self._mark(body["requests"], state="in_progress", batch=entry.request, only_pending=True)

    def _go_on(self, batch: Batch, step: str, entry: Entry) -> None:
        body = entry.body
        if step == "gate":
            batch = replace(batch, gates={**batch.gates, body["method"]: body})
        elif step == "resolved":
            batch = replace(batch, resolved=body)
            for name, outcomes in body["outcomes"].items():
                counts = {outcome: int(number) for outcome, number in outcomes.items()}
                self.requests[name] = replace(self.requests[name], outcomes=counts)
        elif step == "promoted":
            batch = replace(batch, state="promoted")
            self._promote(batch, body)
        elif step == "settled":
            batch = replace(batch, state="settled")
        elif step == "stopped":
            batch = replace(batch, state="stopped", reason=body["reason"])
            self._reopen(batch)
        self.batches[batch.id] = batch

    def _reopen(self, batch: Batch) -> None:
        for name in batch.requests:
            request = self.requests[name]
            if request.state == "in_progress":
                self.requests[name] = replace(request, state="pending", batch="")

    def _promote(self, batch: Batch, body: Mapping[str, Any]) -> None:
        parent = self.versions.get(batch.parent)
        covers = (frozenset() if parent is None else parent.covers) | frozenset(batch.requests)
        version = Version(
            number=int(body["version"]),
            model=body["model"],
            sha256=body["sha256"],
            chain=int(body["chain"]),
            parent=batch.parent,
            batch=batch.id,
            method=body["method"],
            verdict=body["verdict"],
            covers=covers,
            data=body["data"],
            cell=body["cell"],
            promoted=int(body["at"]),
        )
        self.versions[version.number] = version
        for name in batch.requests:
            request = self.requests[name]
            if request.state == "in_progress":
                state: State = "on_hold" if request.hold else "promoted"
                self.requests[name] = replace(request, state=state, version=version.number)

    def _mark(self, names: Iterable[str], *, state: State, batch: str, only_pending: bool) -> None:
        for name in names:
            request = self.requests[name]
            if not only_pending or request.state == "pending":
                self.requests[name] = replace(request, state=state, batch=batch)


def _received(entry: Entry) -> Request:
    body = entry.body
    return Request(
        id=entry.request,
        kind=body["kind"],
        received=int(body["received"]),
        due=int(body["due"]),
        content=body["content"],
        inbox=body["inbox"],
        num_rows=int(body["num_rows"]),
        tombstones=tuple(_tombstone(*row) for row in body["tombstones"]),
    )


def _tombstone(kind: str, user: str, pseudonym: str, until: str) -> Tombstone:
    return Tombstone(kind, user, pseudonym, int(until) if until else None)


def _changed(request: Request, step: str, body: Mapping[str, Any]) -> Request:
    """A request after a step of its own."""
    if step in ("cancelled", "refused"):
        state: State = "cancelled" if step == "cancelled" else "refused"
        return replace(request, state=state, reason=body["reason"])
    if step == "lifted":
        return replace(request, lifted=True, reason=body["reason"])
    request = replace(request, num_changes=request.num_changes + 1)
    if step == "extended":
        return replace(request, due=int(body["due"]))
    if step == "held":
        held: State = "on_hold" if request.state == "promoted" else request.state
        review = int(body["review"]) if body["review"] else None
        return replace(request, hold=body["reason"], reason=body["reason"], review=review, state=held)
    if step == "released":
        freed: State = "promoted" if request.state == "on_hold" else request.state
        return replace(request, hold="", reason=body["reason"], review=None, state=freed)
    return request


def now() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000


def shown_time(moment: int) -> str:
    """A moment as ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(moment / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def day_of(text: str, option: str) -> int:
    """The moment of a date, or of a date and a time, which is UTC unless it says otherwise; ConfigError for others."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f'{option} "{text}": expected a date such as 2026-12-31') from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1_000_000)
