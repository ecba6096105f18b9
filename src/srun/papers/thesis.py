"""Not a stage of the flow: the SRUGA thesis' tables and figures, from what was run of its preset."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from srun.data.raw import write_raw
from srun.data.synthetic import STEAM, steam_like
from srun.errors import DataError
from srun.files import write_folder, write_text
from srun.flow.cells import Cell
from srun.flow.explain import examples
from srun.flow.fetch import fetch, import_file
from srun.flow.layout import Layout
from srun.flow.loading import load_dataset
from srun.flow.report import read_original, read_record
from srun.judging.methods import model_name, style
from srun.judging.records import Record, group_records
from srun.judging.results import long_form, to_csv

NAMES = {
    "beauty": "amazon-beauty",
    "games": "amazon-games",
    "steam": "steam",
    "beauty-5core": "amazon-beauty-5core",
}
MODELS = ("gru4rec", "sasrec", "bert4rec")
METHODS = ("original", "sruga", "retrain", "sisa")  # in the order of what they take
SHARDS = 5

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
        where = "give --data FOLDER" if file is None else f"{file} does not exist"
        raise DataError(f"{raw_root / name} is not there: {where}, which holds {name}/{form}.txt.gz")
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


def assignments(name: str, models: Sequence[str], seeds: Sequence[int]) -> list[str]:
    """The data set, Originals and cells of the parameters, as overrides of the preset."""
    originals: dict[str, Any] = {}
    cells: dict[str, Any] = {}
    for model in models:
        for seed in seeds:
            originals[f"{model}-{seed}"] = {"model": model, "seed": seed, "shards": 1}
            originals[f"{model}-sisa-{seed}"] = {"model": model, "seed": seed, "shards": SHARDS}
            for method in METHODS:
                start = f"{model}-sisa-{seed}" if method == "sisa" else f"{model}-{seed}"
                cell = {"request": "interactions", "original": start, "method": method, "seed": seed}
                cells[f"{model}-{method}-{seed}"] = cell
    return [f"data.name={name}", f"originals={json.dumps(originals)}", f"cells={json.dumps(cells)}"]


def write(
    layout: Layout, cells: Mapping[str, Cell], dataset: str, values: Mapping[str, Any], left: Sequence[str]
) -> dict[str, Any]:
    """Write the tables, figures and results.csv of the cells that are done; returns the paths and the tables.

    ``values``: our value of every key of Table 3. A model whose Retrain is not done is not in results.csv.
    """
    from srun.papers import thesis_tables as thesis

    done = {name: cell for name, cell in cells.items() if not {f"unlearn {name}", f"evaluate {name}"} & set(left)}
    records = [read_record(layout, name, cell) for name, cell in done.items()]
    data = load_dataset(layout)
    num_events = len(data.item)
    sizes = {
        "users": data.num_users,
        "items": data.num_items,
        "actions_per_user": num_events / data.num_users,
        "actions_per_item": num_events / data.num_items,
    }
    found = thesis.tables(dataset, sizes, values, records, _case(layout, done))
    notes = _notes(str(data.info["name"]), records, left)
    out = layout.root
    write_text(out / "tables.md", thesis.write_markdown(f"The SRUGA thesis on {dataset.title()}", notes, found))
    with write_folder(out / "figures") as new:
        for file, png in thesis.draw(dataset, records).items():
            (new / file).write_bytes(png)
    write_text(out / "results.csv", _results(layout, records))
    written = [out / "tables.md", out / "results.csv", out / "figures"]
    return {"written": {path.name: str(path) for path in written}, "tables": found}


def _notes(name: str, records: Sequence[Record], left: Sequence[str]) -> list[str]:
    seeds = sorted({record.seed for record in records})
    notes = [
        f"Data: {name}. Seeds: {', '.join(map(str, seeds)) or 'none yet'}; ± is the standard deviation over them.",
        "D_raw: test after the raw history; D_rem: test after the retained one; D_fgt: forgotten events of the "
        "report half of the request's users, which no stop has looked at (the thesis stops on all that it reports).",
        "Minutes of ours are of one machine, one after the other, to the returned model; the patience is apart.",
    ]
    if name == STEAM:
        notes.insert(0, "The log is synthetic, drawn in the shape of Steam's: its figures say nothing about Steam.")
    if left:
        notes.append(f"Not done yet: {', '.join(left)}.")
    return notes


def _case(layout: Layout, cells: Mapping[str, Cell]) -> list[dict[str, str]]:
    """Rows of Table 6: a user of ours under Original and SRUGA, of the first seed, by item numbers."""
    found = {(cell.original, cell.method) for cell in cells.values()}
    shown = {
        name: cell
        for name, cell in cells.items()
        if cell.method in ("original", "sruga") and {(cell.original, m) for m in ("original", "sruga")} <= found
    }
    rows = []
    for original, study in (examples(layout, shown) if shown else {}).items():
        for asked in study.questions:
            for method, rank in asked.ranks.items():
                rows.append(
                    {
                        "Model": f"{model_name(original.split('-')[0])} (ours, {original})",
                        "Method": style(method).name,
                        "Question": asked.split,
                        "History": ", ".join(map(str, asked.history[-10:])),
                        "Target": str(asked.target),
                        "Rank": f"{rank:g}",
                        "Top": ", ".join(map(str, asked.top[method])),
                    }
                )
    return rows


def _results(layout: Layout, records: Sequence[Record]) -> str:
    judged = {record.model for record in records if record.method == "retrain"}
    kept = [record for record in records if record.model in judged]
    if not kept:
        return to_csv([])
    originals = [read_original(layout, name) for name in dict.fromkeys(record.original for record in kept)]
    return to_csv(long_form(group_records(kept, originals)))
