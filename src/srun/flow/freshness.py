"""Whether an output is still what its step would make now; one answer, for `srun run` and for DVC.

An output is made of *parts*: parameters, the content of every file that its step reads, and code. The step writes them
into a key file, beside the digest of what it made. A later step looks at that output's bytes alone, so a change of code
that leaves them as they were runs no later step again.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from srun.errors import RunError
from srun.files import SUMS, read_json, read_sums, sha256, verify_folder, write_text

ABSENT = "absent"
"""The digest of a file that is not there."""
MAX_REASONS = 4
"""Reasons that a line tells."""


@dataclass(frozen=True)
class Parts:
    """What an output is made of. Threads and device, which move the last bits only, are not part of it."""

    parameters: Mapping[str, Any]
    """Values by dotted key; plain ones, as JSON has them."""
    files: Mapping[str, str]
    """Digests by path."""
    code: Mapping[str, str]
    """Digests by module."""

    @property
    def key(self) -> str:
        """The sha256 of all of it."""
        return digest(asdict(self))

    def changes(self, then: Mapping[str, Any]) -> Iterator[str]:
        """How these parts differ from those of a key file, a text for each difference."""
        for name, before, now in _differences(then, "parameters", _plain(self.parameters)):
            yield f"{name} {_shown(before)} -> {_shown(now)}"
        for name, before, now in _differences(then, "files", self.files):
            verb = "is gone" if now in (ABSENT, None) else "is new" if before in (ABSENT, None) else "changed"
            yield f"file {name} {verb}"
        for name, before, now in _differences(then, "code", self.code):
            if before is None or now is None:
                yield f"code of {name} {'is read now' if before is None else 'is read no more'}"
            else:
                yield f"code of {name} changed"


@dataclass(frozen=True)
class Output:
    """What a step leaves behind, and the key file that says what it was made of."""

    paths: tuple[Path, ...]
    """Folders and files."""
    key_file: Path

    def is_there(self) -> bool:
        """Whether there is one, however it was made."""
        return all(output_digest(path) != ABSENT for path in self.paths)

    def stale(self, parts: Callable[[], Parts]) -> list[str]:
        """Why it has to be made (again) of ``parts``, a text a reason; empty where it is up to date."""
        if not self.is_there():
            return ["not there yet"]
        try:
            record = self._record()
        except RunError as error:
            return [str(error)]
        if replaced := self._replaced(record):
            return [f"{replaced} is not the one that was made"]
        now = parts()
        return [] if now.key == record["key"] else list(now.changes(record["parts"]))

    def check_intact(self) -> None:
        """Raise RunError unless it is there, byte for byte as its key file describes it."""
        if not self.is_there():
            raise RunError(f"{self.paths[0]}: not there; `srun run` makes it")
        if replaced := self._replaced(self._record()):
            raise RunError(f"{replaced}: not the one that was made; `srun run` makes it again")
        for path in self.paths:
            if (path / SUMS).is_file():
                verify_folder(path, RunError, "remove it, and `srun run` makes it again")

    def write_key(self, parts: Parts) -> None:
        """Say that what is there is made of ``parts``."""
        record = {"key": parts.key, "output": self._digests(), "parts": asdict(parts)}
        write_text(self.key_file, json.dumps(record, indent=1, sort_keys=True) + "\n")

    def _digests(self) -> dict[str, str]:
        return {path.name: output_digest(path) for path in self.paths}

    def _replaced(self, record: Mapping[str, Any]) -> Path | None:
        """The first of the paths that is not the one which the key file describes."""
        return next((path for path in self.paths if record["output"].get(path.name) != output_digest(path)), None)

    def _record(self) -> dict[str, Any]:
        mend = f"so nothing says what {self.paths[0]} was made of; `srun run` makes it again"
        if not self.key_file.is_file():
            raise RunError(f"{self.key_file}: not there, {mend}")
        record = read_json(self.key_file, RunError, mend)
        kinds = {"key": str, "output": dict, "parts": dict}
        if any(not isinstance(record.get(name), kind) for name, kind in kinds.items()):
            raise RunError(f"{self.key_file}: not a key file, {mend}")
        return record


def reasons_text(reasons: Sequence[str]) -> str:
    """Reasons in a line; of many the first ones."""
    more = len(reasons) - MAX_REASONS
    return "; ".join(reasons[:MAX_REASONS]) + (f"; and {more} more" if more > 0 else "")


def digest(values: Mapping[str, Any]) -> str:
    """The sha256 of plain values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def output_digest(path: Path) -> str:
    """The digest of an output: of a sealed folder's list of checksums, of another folder's files, or of a file."""
    if (path / SUMS).is_file():
        return sha256(path / SUMS)
    if path.is_dir():
        return digest({file.relative_to(path).as_posix(): sha256(file) for file in path.rglob("*") if file.is_file()})
    return sha256(path) if path.is_file() else ABSENT


def file_digests(root: Path, *paths: Path) -> dict[str, str]:
    """Digests of files and sealed folders by their path below ``root``, or as it is where it lies elsewhere.

    A file of a sealed folder has the digest that the folder lists, which loading verifies: weights are not read twice.
    """
    return {_below(root, path): _file_digest(path) for path in paths}


def _file_digest(path: Path) -> str:
    if (path.parent / SUMS).is_file():
        return read_sums(path.parent, RunError, "remove the folder, then run again").get(path.name, ABSENT)
    return output_digest(path)


def _below(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _differences(then: Mapping[str, Any], kind: str, now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    before = then.get(kind)
    before = before if isinstance(before, dict) else {}
    for name in {**before, **now}:
        if before.get(name) != now.get(name):
            yield name, before.get(name), now.get(name)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return plain


def _shown(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value)[:60]
