"""The desk of a service: what is looked at and written down without any model. It loads nothing heavy."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from srun.errors import RunError
from srun.service.book import DAY, Book, Request, Version, now, shown_time
from srun.service.keys import Keys
from srun.service.ledger import Entry, Ledger, New
from srun.service.receipt import check_receipt
from srun.service.settings import ServiceRoot, model_digest, point_to


@dataclass(frozen=True)
class Service:
    """A service that was opened: its root, its ledger and its keys."""

    root: ServiceRoot
    ledger: Ledger
    keys: Keys

    @classmethod
    def open(cls, folder: Path) -> "Service":
        """The service in a folder, its link set right by the ledger if it was not."""
        root = ServiceRoot.open(folder)
        service = cls(root, Ledger(root.ledger_url), Keys.load(root))
        book = service.book()
        if book.versions and (root.folder / book.served.model).is_dir():
            point_to(root, book.served.model)
        return service

    def book(self) -> Book:
        """What the ledger says now."""
        return Book.read(self.ledger)


def status(service: Service) -> dict[str, Any]:
    """What is served and what it covers, and requests by state; overdue ones are named."""
    book, moment = service.book(), now()
    states: dict[str, int] = {}
    for request in book.requests.values():
        states[request.state] = states.get(request.state, 0) + 1
    waiting = [request for request in book.requests.values() if request.is_open]
    served = book.served
    batch = book.batches[served.batch]
    gate = batch.gates.get(served.method)
    carried_out = [
        request.id for request in book.requests.values() if request.state in ("promoted", "on_hold", "completed")
    ]
    return {
        "service": str(service.root.folder),
        "data": service.root.settings.data,
        "served": {
            "version": served.number,
            "model": served.model,
            "sha256": served.sha256,
            "method": served.method,
            "verdict": served.verdict,
            "promoted": shown_time(served.promoted),
            "covers": len(served.covers),
            "servable": set(carried_out) <= served.covers,
            "gate": None if gate is None else gate["reason"],
        },
        "requests": states,
        "open": len(waiting),
        "due_next": shown_time(min(request.due for request in waiting)) if waiting else None,
        "overdue": [request.id for request in waiting if request.due < moment],
        "unfinished": None if book.unfinished is None else book.unfinished.id,
        "versions": [_version_row(version, served) for version in book.versions.values()],
        "last_purge": None,
        "does_not_follow": [
            "a server that loaded a model earlier, such as `mlflow models serve`, until it is restarted",
        ],
    }


def _version_row(version: Version, served: Version) -> dict[str, Any]:
    return {
        "version": version.number,
        "method": version.method,
        "verdict": version.verdict,
        "parent": version.parent,
        "covers": len(version.covers),
        "promoted": shown_time(version.promoted),
        "servable": served.covers <= version.covers,
    }


def verify(service: Service, receipt: Path | None) -> dict[str, Any]:
    """Check the whole ledger, and a receipt against it; raises DataError that names what is wrong."""
    head = service.ledger.verify()
    entries = service.ledger.entries()
    book = Book.of(entries)
    checked: dict[str, Any] = {"entries": head.position, "head": head.hash, "receipt": None}
    if receipt is not None:
        checked["receipt"] = check_receipt(service.keys, entries, receipt)
    if book.versions:
        served = book.served
        if model_digest(service.root.folder / served.model) != served.sha256:
            raise RunError(f"{served.model}: is not the model of version {served.number} that the ledger has")
    return checked


def cancel(service: Service, name: str, reason: str) -> Request:
    """Withdraw a pending request; its rows leave the inbox."""

    def make(request: Request) -> New:
        if request.state != "pending":
            raise RunError(f'request "{name}" is {request.state}; only a pending one can be cancelled')
        return New(name, "cancelled", {"at": str(now()), "reason": reason})

    change(service.ledger, name, make)
    from srun.service.inbox import forget_rows

    forget_rows(service.root, service.book().request(name))
    return service.book().request(name)


def hold(service: Service, name: str, reason: str, review: int | None) -> Request:
    """Keep what a request names from being purged, for a legal reason; it is forgotten and not served all the same."""

    def make(request: Request) -> New:
        if request.state in ("cancelled", "refused", "completed"):
            raise RunError(f'request "{name}" is {request.state}; there is nothing to hold')
        body = {"at": str(now()), "reason": reason, "review": "" if review is None else str(review)}
        return New(name, f"held-{request.num_changes + 1}", body)

    change(service.ledger, name, make)
    return service.book().request(name)


def release(service: Service, name: str, reason: str) -> Request:
    """End a hold."""

    def make(request: Request) -> New:
        if not request.hold:
            raise RunError(f'request "{name}" is not on hold')
        return New(name, f"released-{request.num_changes + 1}", {"at": str(now()), "reason": reason})

    change(service.ledger, name, make)
    return service.book().request(name)


def lift(service: Service, name: str, reason: str) -> Request:
    """Let what a request names come back with new logs: consent given again, a mistake, an id used again.

    No old model and no removed event comes back by it.
    """

    def make(request: Request) -> New:
        if request.state not in ("promoted", "on_hold", "completed"):
            raise RunError(f'request "{name}" is {request.state}; only one that was carried out can be lifted')
        if request.lifted:
            raise RunError(f'request "{name}" was lifted already ({request.reason})')
        return New(name, "lifted", {"at": str(now()), "reason": reason})

    change(service.ledger, name, make)
    return service.book().request(name)


def extend(service: Service, name: str, days: float, reason: str) -> Request:
    """Give a request more time, with a reason."""

    def make(request: Request) -> New:
        if not request.is_open:
            raise RunError(f'request "{name}" is {request.state}; only an open one can be extended')
        due = request.due + round(days * DAY)
        return New(name, f"extended-{request.num_changes + 1}", {"at": str(now()), "reason": reason, "due": str(due)})

    change(service.ledger, name, make)
    return service.book().request(name)


def change(ledger: Ledger, name: str, make: Callable[[Request], New]) -> Entry:
    """Append one entry about a request, made of what it is at that moment."""
    [entry] = ledger.append(lambda entries: [make(Book.of(entries).request(name))])
    return entry
