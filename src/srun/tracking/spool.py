"""What a tracker should have, kept on disk until it has it: a folder a run, its events as lines of JSON.

A spool is locked by the process that writes or delivers it, so one that nobody holds is that of a run which has ended.
Only its owner may read it. A disk that is full or read-only costs the spool, never the run: events stay in memory then.
"""

import contextlib
import fcntl
import json
import logging
import os
import shutil
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from srun.files import claimed, sha256

EVENTS, DELIVERED, FILES = "events.jsonl", "delivered.json", "files"
SYNC_SECONDS = 5.0
"""Between two moments at which the rows of a curve are on the disk; a kill loses none, a power cut these."""

LINKED_BYTES = 1 << 20
"""Files that are larger are linked rather than copied."""

Event = dict[str, Any]

log = logging.getLogger(__name__)


def spool_root(root: Path) -> Path:
    """Where the spools of a project lie."""
    return root / "runs" / "spool"


class Spool:
    """The events of one run, in order; ``folder`` is made with the first of them."""

    def __init__(self, folder: Path, events: list[Event], handle: int | None) -> None:
        self.folder, self._events, self._handle = folder, events, handle
        self._saved, self._size, self._synced = len(events), 0, 0.0
        self._num_files = sum("place" in event for event in events)
        self._access = threading.Lock()  # of a run that writes and its courier, which reads
        if handle is not None:
            self._size = os.fstat(handle).st_size

    @classmethod
    def create(cls, root: Path) -> "Spool":
        """A new spool of a project; names sort by age."""
        return cls(spool_root(root) / f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}", [], None)

    @property
    def is_whole(self) -> bool:
        """Whether all events are on the disk."""
        return self._saved == len(self._events)

    def pending(self, start: int) -> list[Event]:
        """The events from number ``start`` on."""
        with self._access:
            return self._events[start:]

    def append(self, event: Event, sync: bool) -> None:
        """Add an event; ``sync``: have it on the disk before this returns, and else within seconds."""
        with self._access:
            self._events.append(event)
            self._save(sync)

    def _save(self, sync: bool) -> None:
        """Write what is in memory only; a disk that takes none of it is asked again with the next event."""
        try:
            if self._handle is None:
                self.folder.mkdir(parents=True, mode=0o700, exist_ok=True)
                self._handle = os.open(self.folder / EVENTS, os.O_RDWR | os.O_CREAT, 0o600)
                fcntl.flock(self._handle, fcntl.LOCK_EX)
            lines = "".join(json.dumps(event) + "\n" for event in self._events[self._saved :]).encode()
            os.ftruncate(self._handle, self._size)  # half a line of the last try, or of a killed process
            if os.pwrite(self._handle, lines, self._size) < len(lines):
                return
            if sync or time.monotonic() - self._synced > SYNC_SECONDS:
                os.fsync(self._handle)
                self._synced = time.monotonic()
        except OSError as error:
            log.debug("%s: cannot be written (%s)", self.folder, error)
            return
        self._size += len(lines)
        self._saved = len(self._events)

    def keep(self, path: Path) -> Mapping[str, Any]:
        """Keep a file or folder as it is now; returns what an event needs to say of it.

        Its files are copied; large ones are linked, for what is published is replaced and never changed. Where that
        cannot be, it is only named, and what lies there later counts if it is the same.
        """
        self._num_files += 1
        name = f"{FILES}/{self._num_files:04d}/{path.name}"
        place = self.folder / name
        try:
            place.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
            if path.is_dir():
                shutil.copytree(path, place, copy_function=_link_or_copy)
            else:
                _link_or_copy(path, place)
        except OSError as error:  # shutil.Error is one
            log.debug("%s: cannot be kept (%s)", path, error)
            shutil.rmtree(place.parent, ignore_errors=True)
            name = str(path.resolve())
        return {"place": name, "sums": _sums(path)}

    def kept(self, event: Event) -> Path | None:
        """The file or folder that an event names, or None where it is no longer as it was then."""
        path = self.folder / event["place"]
        try:
            return path if _sums(path) == event["sums"] else None
        except OSError:
            return None

    def read_mark(self) -> dict[str, Any]:
        """What the last ``mark`` said; empty where there is none that can be read."""
        try:
            mark = json.loads((self.folder / DELIVERED).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return mark if isinstance(mark, dict) else {}

    def mark(self, run_id: str, number: int) -> None:
        """Note that so many events were delivered, to a run of this id; one that is lost is made up by comparing."""
        new = self.folder / f"{DELIVERED}.new"
        with contextlib.suppress(OSError):
            new.write_text(json.dumps({"run_id": run_id, "number": number}), encoding="utf-8")
            os.replace(new, self.folder / DELIVERED)

    def remove(self) -> None:
        """Remove the spool: everything was delivered. Its events go before what says that they were."""
        shutil.rmtree(self.folder / FILES, ignore_errors=True)
        with contextlib.suppress(OSError):
            (self.folder / EVENTS).unlink()
        shutil.rmtree(self.folder, ignore_errors=True)

    def close(self) -> None:
        """Try once more to have everything on the disk, and leave the spool to others."""
        with self._access:
            if not self.is_whole:
                self._save(sync=True)
            if self._handle is not None:
                os.close(self._handle)
                self._handle = None


def _link_or_copy(source: str | Path, target: str | Path) -> None:
    if os.path.getsize(source) > LINKED_BYTES:
        with contextlib.suppress(OSError):  # another file system, or one without links
            os.link(source, target)
            return
    shutil.copyfile(source, target)


def _sums(path: Path) -> dict[str, str]:
    """The sha256 of a file, or of every file of a folder."""
    if not path.is_dir():
        return {path.name: sha256(path)}
    return {file.relative_to(path).as_posix(): sha256(file) for file in sorted(path.rglob("*")) if file.is_file()}


def spools(root: Path) -> list[Path]:
    """The folders of spools, oldest first, whoever holds them."""
    place = spool_root(root)
    return sorted(place.iterdir()) if place.is_dir() else []


@contextlib.contextmanager
def left(folder: Path) -> Iterator[Spool | None]:
    """A spool that nobody holds: its run has ended, or was killed; None where one does, or it is gone.

    A run that was killed is closed as such, at the time of its last event.
    """
    with claimed(folder / EVENTS) as handle:
        if handle is None:
            if not (folder / EVENTS).exists():  # killed while it was removed, or before its first event
                shutil.rmtree(folder, ignore_errors=True)
            yield None
            return
        events, size = _whole_lines(os.pread(handle, os.fstat(handle).st_size, 0))
        spool = Spool(folder, events, os.dup(handle))
        spool._size = size
        if events and events[-1]["kind"] != "end":
            spool.append({"kind": "end", "status": "KILLED", "time": events[-1]["time"]}, sync=True)
        try:
            yield spool
        finally:
            spool.close()


def read_events(folder: Path) -> list[Event]:
    """The events of a spool as they are on the disk, whoever holds it."""
    try:
        return _whole_lines((folder / EVENTS).read_bytes())[0]
    except OSError:
        return []


def _whole_lines(text: bytes) -> tuple[list[Event], int]:
    """The events of a file and their bytes, up to the first line that a kill or a power cut left half written."""
    events: list[Event] = []
    size = 0
    for line in text.splitlines(keepends=True):
        try:
            event = json.loads(line)
        except ValueError:
            break
        if not line.endswith(b"\n") or not isinstance(event, dict):
            break
        events.append(event)
        size += len(line)
    return events, size
