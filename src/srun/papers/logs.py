"""The logs that the SRUGA thesis and its ablations are made from: where each comes from, and its name in data/raw."""

import logging
from pathlib import Path

from srun.data.raw import write_raw
from srun.data.synthetic import STEAM, steam_like
from srun.errors import DataError
from srun.flow.fetch import fetch, import_file

NAMES = {
    "beauty": "amazon-beauty",
    "games": "amazon-games",
    "steam": "steam",
    "beauty-5core": "amazon-beauty-5core",
}

log = logging.getLogger("srun")


def raw_name(dataset: str, raw_root: Path, source: Path | None) -> str:
    """The raw data set to use, imported from the folder ``source`` unless it is there.

    Beauty and Games are ``source/NAME/pairs.txt.gz``, Beauty 5-core ``source/NAME/sequences.txt.gz``, Steam the
    publisher's file in ``source``; without it Steam is a synthetic log of its shape, called so. Raises DataError where
    one of the others cannot be found.
    """
    name = NAMES[dataset]
    if (raw_root / name).is_dir():
        return name
    if dataset == "steam":
        return _steam(raw_root, source)
    form = "sequences" if dataset == "beauty-5core" else "pairs"
    file = None if source is None else source / name / f"{form}.txt.gz"
    if file is None or not file.is_file():
        cause = "give --data FOLDER" if file is None else f"{file} does not exist"
        raise DataError(f"{raw_root / name} is not there: {cause}, which holds {name}/{form}.txt.gz")
    import_file(file, name, raw_root, form=form)
    return name


def _steam(raw_root: Path, source: Path | None) -> str:
    if source is not None:
        fetch("steam", raw_root / "steam", str(source))
        return "steam"
    if not (raw_root / STEAM).is_dir():
        log.warning("Steam's log is not here: a synthetic one of its shape, %s, takes its place", STEAM)
        write_raw(raw_root / STEAM, steam_like(1.0, seed=0))
    return STEAM
