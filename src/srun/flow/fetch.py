"""Stage fetch: bring a known data set, or a file of the user's own, into a raw data folder; list what there is."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from srun.data.importing import read_import
from srun.data.raw import FEW_ITEMS, canonical, check_name, read_info, read_raw, write_raw
from srun.data.sources import SOURCES, Source, load_source
from srun.errors import DataError

log = logging.getLogger("srun.data")


def fetch(name: str, out: Path, place: str | None = None) -> dict[str, Any]:
    """Fetch the known data set ``name`` into the folder ``out`` and return what its dataset.json says.

    ``place`` is a path or an address to try before the source's own places. Does nothing if ``out`` already holds the
    pinned table (or, where none is pinned and no place is given, any intact table of that name). Raises ConfigError for
    an unknown name, DataError if no place has it, RunError if ``out`` cannot be written.
    """
    source = SOURCES[name]
    present = _present(source, out, place)
    if present is not None:
        log.info("%s: already there in %s", name, out)
        return present
    data = load_source(source, place)
    write_raw(out, data)
    log.info("%s: %d interactions written to %s", name, len(data.interactions), out)
    return data.info


def import_file(
    path: Path,
    name: str,
    raw_root: Path,
    *,
    form: str | None = None,
    columns: Mapping[str, str] | None = None,
    items: Path | None = None,
    item_columns: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Import a file as ``raw_root/name`` and return what its dataset.json says; see ``importing.read_import``.

    Raises DataError for anything wrong with the files, RunError if the folder cannot be written.
    """
    check_name(name)
    if name in SOURCES and SOURCES[name].fingerprint is not None:
        raise DataError(f'--name "{name}" is the name of a known data set (srun data fetch {name}); choose another')
    table = read_import(path, form=form, columns=columns, items=items, item_columns=item_columns)
    licence = "not stated (imported file)"
    data = canonical(table.interactions, table.items, name=name, time=table.time, licence=licence)
    if data.info["num_duplicates_dropped"]:
        log.info("%s: %d exact duplicates dropped", path, data.info["num_duplicates_dropped"])
    if table.columns:
        data = replace(data, info={**data.info, "columns": table.columns})
    if data.info["num_items"] <= FEW_ITEMS:
        log.warning(
            "%s: %d items, so that each is among the first %d and every Hit@10 is 1; import a log with more items, or"
            " look at ranks and Hit@1 only",
            path,
            data.info["num_items"],
            FEW_ITEMS,
        )
    if (before := _fingerprint(raw_root / name)) and before != data.info["fingerprint"]:
        log.warning("%s: in the place of the data set that was there, which had other content", raw_root / name)
    write_raw(raw_root / name, data)
    log.info("%s: %d interactions written to %s", name, len(data.interactions), raw_root / name)
    return data.info


def list_sources(raw_root: Path) -> list[dict[str, Any]]:
    """Return a row for each known data set and for each other one in ``raw_root``: what, how large, licence, present.

    Counts are those of the folder where it is present, else the known ones, else None. Nothing is verified here.
    """
    rows = [_row(raw_root, name, SOURCES[name]) for name in SOURCES]
    others = sorted(path.parent.name for path in raw_root.glob("*/dataset.json"))
    return rows + [_row(raw_root, name, None) for name in others if name not in SOURCES and not name.startswith(".")]


def _fingerprint(folder: Path) -> str | None:
    """Of the data set in a folder; None where there is none, or a broken one."""
    try:
        return str(read_info(folder)["fingerprint"])
    except DataError:
        return None


def _present(source: Source, out: Path, place: str | None) -> dict[str, Any] | None:
    """Return the info of the table in ``out`` if fetching would change nothing."""
    try:
        info = read_info(out)
        wanted = source.fingerprint or (info["fingerprint"] if place is None else None)
        if info["name"] == source.name and info["fingerprint"] == wanted:
            return read_raw(out).info
    except DataError as error:
        log.debug("%s: to be fetched: %s", source.name, error)
    return None


def _row(raw_root: Path, name: str, source: Source | None) -> dict[str, Any]:
    try:
        info: dict[str, Any] = read_info(raw_root / name)
        present = True
    except DataError:
        info, present = {}, False
    known = source.counts if source and source.counts else (None, None, None)
    return {
        "name": name,
        "what": source.about if source else "imported",
        "num_users": info.get("num_users", known[0]),
        "num_items": info.get("num_items", known[1]),
        "num_interactions": info.get("num_interactions", known[2]),
        "licence": source.licence if source else info.get("licence", ""),
        "present": present,
    }
