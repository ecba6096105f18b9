"""The interim receipt of a request: counts and digests as unsigned JSON, until a signed one takes its place."""

import json
from typing import Any

from srun.errors import DataError
from srun.files import read_json, write_text
from srun.service.book import Book, shown_time
from srun.service.keys import Keys
from srun.service.ledger import Entry, Head
from srun.service.settings import ServiceRoot

INTERIM = "interim: unsigned; what was purged, and a signature, come with a later receipt"
LIMITS = (
    "It shows what srun recorded, and not that nothing else happened: whoever lies about the inputs passes any such"
    " check. Copies elsewhere, such as backups and clones, are not reached, and nothing is said of what can be inferred"
    " from the data of others."
)


def make_receipt(root: ServiceRoot, keys: Keys, book: Book, name: str, head: Head) -> dict[str, Any]:
    """What can be said of a request now; ``head``: of the ledger, by which a cut tail is noticed later."""
    request = book.request(name)
    batch = book.batches.get(request.batch)
    version = book.versions.get(request.version)
    before = None if version is None or batch is None else book.versions.get(batch.parent)
    gate = {} if batch is None or version is None else batch.gates.get(version.method, {})
    return {
        "kind": INTERIM,
        "request": request.id,
        "state": request.state,
        "data": root.settings.data,
        "received": shown_time(request.received),
        "due": shown_time(request.due),
        "promoted": None if version is None else shown_time(version.promoted),
        "rows": dict(request.outcomes),
        "content": request.content,
        "version": None if version is None else version.number,
        "method": None if version is None else version.method,
        "verdict": None if version is None else version.verdict,
        "judged": dict(gate),
        "data_before": None if before is None else before.data,
        "data_after": None if version is None else version.data,
        "model_before": None if before is None else before.sha256,
        "model_after": None if version is None else version.sha256,
        "ledger": {"position": head.position, "hash": head.hash, "mac": keys.sign(_head_bytes(head))},
        "limits": LIMITS,
    }


def write_receipts(root: ServiceRoot, keys: Keys, book: Book, names: list[str], head: Head) -> dict[str, str]:
    """Write a receipt for each request; request -> file, from the root."""
    written = {}
    for name in names:
        path = root.receipts / f"{name}.json"
        write_text(path, json.dumps(make_receipt(root, keys, book, name, head), indent=1) + "\n")
        written[name] = str(path.relative_to(root.folder))
    return written


def check_receipt(keys: Keys, entries: list[Entry], text_file: Any) -> str:
    """Hold a receipt against the ledger: its head has to stand there. Returns the request; raises DataError."""
    values = read_json(text_file, DataError, "name a receipt of this service")
    try:
        head = Head(int(values["ledger"]["position"]), str(values["ledger"]["hash"]))
        mac, request = values["ledger"]["mac"], str(values["request"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{text_file}: no receipt of srun; name a receipt of this service") from error
    if mac != keys.sign(_head_bytes(head)):
        raise DataError(f"{text_file}: the ledger's head in it was not written with this service's key")
    if head.position > len(entries):
        raise DataError(
            f"{text_file}: the ledger had {head.position} entries when it was written and has {len(entries)}: its tail"
            " was cut off; restore a copy"
        )
    if entries[head.position - 1].hash != head.hash:
        raise DataError(f"{text_file}: entry {head.position} of the ledger is another one than when it was written")
    return request


def _head_bytes(head: Head) -> bytes:
    return f"head\n{head.position}\n{head.hash}".encode()
