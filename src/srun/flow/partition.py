"""Stage partition: a forget request -> the events that are forgotten, retained, and ranked afterwards."""

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from srun.config import build
from srun.data.dataset import Dataset
from srun.data.raw import RawData
from srun.errors import DataError
from srun.files import SUMS, read_json, read_sums, sha256
from srun.requests.draws import load_draw
from srun.requests.kinds import CategoryRequest, ExpectedInteractions, GivenRequest, Request, input_files, kind
from srun.requests.partition import RECORD, ROWS, Partition, partition
from srun.requests.request_file import read_request
from srun.tracking import Tracker

log = logging.getLogger("srun.data")


def run(
    prepared: Path,
    out: Path,
    name: str,
    request: Request,
    read_raw: Callable[[], RawData],
    after: Path | None,
    draws: Path | None,
    tracker: Tracker,
) -> dict[str, Any]:
    """Write the partition of a named request; return its counts, and in ``not_forgotten`` the rows that are not.

    ``after``: the partition of the request before it in a chain, if there is one. ``draws``: where the Original that
    draws its events leaves them, if one does.
    Raises DataError where it would draw a request in the place of a given one.
    """
    before = given_request(out)
    if before is not None and kind(request) != "given":
        raise DataError(
            f'{out}: holds the request given in {before.file}; the parameters draw "{name}" instead. Give the'
            f" drawn request another name, or remove {out} if the given one is not needed any more"
        )
    data = Dataset.load(prepared)
    if before is not None and before != request:
        log.warning("%s: in the place of the request given in %s", out, before.file)
    try:
        earlier = None if after is None else Partition.load(after, data)
        result = _carry_out(data, name, request, read_raw, earlier, draws)
    except DataError as error:
        if not (out / "info.json").is_file():
            raise
        raise DataError(f"{error}; {out} still holds the earlier partition") from error
    record = {"block": asdict(request), "files": digests(request)}
    result.save(out, record if after is None else {**record, "after": after.name})
    figures = {key: float(value) for key, value in result.info.items() if key.startswith("num_")}
    tracker.metrics(figures | {f"splits/{split}": float(size) for split, size in result.info["splits"].items()})
    return result.info | _not_forgotten(result, out)


def _carry_out(
    data: Dataset,
    name: str,
    request: Request,
    read_raw: Callable[[], RawData],
    after: Partition | None,
    draws: Path | None,
) -> Partition:
    """The partition that follows from a request, and its file or its draw."""
    drawn = load_draw(draws, name, request, data) if draws and isinstance(request, ExpectedInteractions) else None
    rows = read_rows(request, data)
    if rows is not None and "timestamp" in rows and read_raw().info.get("time") == "order":
        log.warning('request "%s": the log has no times, so those of the request do not count', name)
        rows = rows.drop(columns="timestamp")
    return partition(data, name, request, rows, read_raw, after, drawn)


def read_rows(request: Request, data: Dataset) -> pd.DataFrame | None:
    """What the file of a request says, by the columns that its kind goes by; None for a request without one."""
    recorded = data.info.get("columns")
    if isinstance(request, CategoryRequest) and request.users is not None:
        return read_request(Path(request.users), recorded=recorded)[["user_id", "line"]]
    if not isinstance(request, GivenRequest):
        return None
    path = Path(request.file)
    rows = read_request(path, form=request.format, columns=request.columns, recorded=recorded)
    if request.kind == "users":
        if "item_id" in rows:
            log.warning("%s: of kind users, so items do not count: all events of its users are forgotten", path)
        return rows[["user_id", "line"]]
    if "item_id" not in rows:
        raise DataError(f"{path}: names users and no items; to forget all events of its users say kind: users")
    return rows


def _not_forgotten(result: Partition, out: Path) -> dict[str, Any]:
    if result.rows is None:
        return {}
    log.info("%s: what became of each row of the request", out / ROWS)
    others = result.rows[result.rows["outcome"] != "forgotten"]
    return {"not_forgotten": others.to_dict("records")}


def digests(request: Request) -> dict[str, str]:
    """The sha256 of every file that a request names; raises DataError for one that cannot be read."""
    by_key = {}
    for key, path in input_files(request).items():  # a file's name may hold a raw id, and DVC shares what is written
        try:
            by_key[key] = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise DataError(
                f"{path}: the request file cannot be read ({error.strerror}); is the path right?"
            ) from error
    return by_key


def given_request(folder: Path) -> GivenRequest | None:
    """The given request that a partition was made of; None for another partition, or none."""
    record = _record(folder)
    return build(GivenRequest, record["block"], RECORD) if record and kind(record["block"]) == "given" else None


def given_kind(
    file: str, form: str | None, columns: dict[str, str] | None, recorded: dict[str, str] | None
) -> Literal["interactions", "users"]:
    """Whether a file names single events or whole users."""
    rows = read_request(Path(file), form=form, columns=columns, recorded=recorded)
    return "interactions" if "item_id" in rows else "users"


def known_blocks(folder: Path) -> dict[str, Any]:
    """The blocks of all requests whose partitions are in a folder, by name."""
    records = {path.parent.name: _record(path.parent) for path in sorted(folder.glob(f"[!.]*/{RECORD}"))}
    return {name: record["block"] for name, record in records.items() if record}


def known_chain(folder: Path) -> dict[str, str]:
    """Which request each one comes after, of those whose partitions are in a folder and are part of a chain."""
    records = {path.parent.name: _record(path.parent) for path in sorted(folder.glob(f"[!.]*/{RECORD}"))}
    return {name: record["after"] for name, record in records.items() if record and "after" in record}


def check(folder: Path, name: str, request: Request, after: str | None) -> None:
    """Raise DataError, which says both, where a partition is of another request than the parameters have now.

    ``after``: the request that comes before it in the parameters' chain.
    """
    record = _record(folder)
    if record is None:
        raise DataError(f'{folder}: no partition of request "{name}"; make it with `srun partition --request {name}`')
    there = {**record["block"], "after": record.get("after")}
    here = {**json.loads(json.dumps(asdict(request))), "after": after}
    differ = [key for key in {**there, **here} if there.get(key) != here.get(key)]
    differences = [f"{key} is {there.get(key)} there and {here.get(key)} in the parameters" for key in differ]
    files = {key: path for key, path in input_files(request).items() if path.is_file()}
    differences += [
        f"{path} has changed since" for key, path in files.items() if record["files"].get(key) != sha256(path)
    ]
    if differences:
        raise DataError(f"{folder}: {'; '.join(differences)}; run `srun partition --request {name}`")


def _record(folder: Path) -> dict[str, Any] | None:
    file = folder / RECORD
    if not file.is_file():
        return None
    mend = "remove the folder, then run `srun partition` with the request's file again"
    try:
        written = read_sums(folder, DataError, mend).get(RECORD) == sha256(file)
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}); {mend}") from error
    if not written:
        raise DataError(f"{file}: not what was written (its sha256 differs from {SUMS}); {mend}")
    record = read_json(file, DataError, mend)
    if not all(isinstance(record.get(key), dict) for key in ("block", "files")):
        raise DataError(f"{file}: says no block and no files; {mend}")
    return record
