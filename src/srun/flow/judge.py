"""Stage judge: evaluations -> results.csv, results.parquet and judgement.json, which hold every figure of a report."""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from srun.errors import DataError
from srun.files import read_json, verify_folder, write_text
from srun.flow.cells import Cell
from srun.flow.layout import FEATURES, CellPaths, Layout
from srun.flow.loading import weights_sha256
from srun.judging.comparison import judge_groups, verdicts_by_cell
from srun.judging.judgement import Judgement, to_json
from srun.judging.records import (
    KINDS,
    SPLIT,
    Group,
    History,
    LinearProbeScores,
    Record,
    Trained,
    group_records,
)
from srun.judging.results import Row, audit_rows, check_keys, long_form, over_all_seeds, to_csv, write_rows
from srun.judging.styles import REFERENCE
from srun.metrics.forgetting import MIN_RETRAINS
from srun.metrics.ranking import EventRanks
from srun.models.published import HISTORY_FILE, load_history
from srun.tracking import Tracker


class NotEvaluatedError(DataError):
    """A row, or the Original it starts from, of which there is no evaluation, or none of the model as it is now."""


class Measured(BaseModel):
    """The parts of a run file that are read."""

    model_config = ConfigDict(strict=True)
    cost: dict[str, float] | None = None
    machine: dict[str, str] | None = None


def run(
    layout: Layout,
    cells: Mapping[str, Cell],
    tracker: Tracker,
    options: Sequence[str] = (),
    audits: Sequence[str] = (),
) -> Judgement:
    """Write every figure of the cells that are evaluated; the others are listed with the command that makes them.

    ``options``: words that commands which are shown need to do the same. ``audits``: cells whose audits' figures are
    written too; one that is not there, or of another model, is listed as missing.
    Raises DataError when no cell is evaluated, or when rows do not belong together.
    """
    records, missing = read_records(layout, cells, options)
    if not records:
        why = next(iter(missing.values()), "params.yaml has no cells")
        raise DataError(f"nothing to report: {why}")
    originals = dict.fromkeys(record.original for record in records)
    groups = group_records(records, [read_original(layout, name) for name in originals])
    rows = long_form(groups)
    audited, unaudited = read_audits(layout, {name: cells[name] for name in audits}, records, options)
    rows += audited
    pending = [cells[name] for name in missing]
    commands = [to_judge(group, pending, options) for group in groups]
    judgement = judge_groups(groups, commands, [*missing.values(), *unaudited])
    for group, comparison in zip(groups, judgement.comparisons, strict=True):
        rows += over_all_seeds(group, comparison)
    check_keys(rows)
    table, parquet, whole = layout.judged
    write_text(table, to_csv(rows))
    write_rows(rows, parquet)
    write_text(whole, to_json(judgement))
    tracker.params({"verdict": verdicts_by_cell(judgement)})
    for file in layout.judged:
        tracker.artifact(file, "report")
    return judgement


def read_records(
    layout: Layout, cells: Mapping[str, Cell], options: Sequence[str] = ()
) -> tuple[list[Record], dict[str, str]]:
    """Records of the cells that are evaluated, and by name what is missing of the others, with the command for it."""
    records, missing = [], {}
    for name, cell in cells.items():
        try:
            records.append(read_record(layout, name, cell, options))
        except NotEvaluatedError as error:
            missing[name] = str(error)
    return records, missing


def read_audits(
    layout: Layout, cells: Mapping[str, Cell], records: Sequence[Record], options: Sequence[str] = ()
) -> tuple[list[Row], list[str]]:
    """Rows of the audits of these cells, and what is missing of the others, with the command for it."""
    by_cell = {record.cell: record for record in records}
    rows: list[Row] = []
    missing = []
    for name, cell in cells.items():
        command, file = shlex.join(["srun", "audit", name, *options]), layout.audit(name)
        if name not in by_cell:
            continue  # which is missing itself
        if not file.is_file():
            missing.append(f"cell {name}: its audit is not there; make it with `{command}`")
            continue
        audit = read_json(file, DataError, f"make it again with `{command}`")
        if audit["weights_sha256"] != weights_sha256(layout.cell(cell).model):
            missing.append(f"cell {name}: its model is newer than its audit; make it again with `{command}`")
        else:
            rows += audit_rows(by_cell[name], audit)
    return rows, missing


def to_judge(group: Group, pending: Sequence[Cell], options: Sequence[str] = ()) -> str:
    """The command that makes the Retrains a group lacks; empty where there are enough.

    ``pending``: cells that are asked for and not evaluated yet. Retrains beyond these get seeds that no Retrain and no
    Original of the group has, for a Retrain shares nothing with an Original.
    """
    names = {record.original for record in group.records}
    coming = [c for c in pending if c.method == REFERENCE and c.request == group.request and c.original in names]
    needed = MIN_RETRAINS if group.first.kind in KINDS else 1
    lacking = needed - len(group.retrains)
    if lacking <= 0:
        return ""
    taken = {record.seed for record in group.retrains} | {cell.seed for cell in coming}
    taken |= {int(trained.info["seed"]) for trained in group.originals}
    seeds = [seed for seed in range(len(taken) + lacking) if seed not in taken][: max(0, lacking - len(coming))]
    start = min(group.originals, key=lambda trained: (trained.info.get("shards", 1), trained.name)).name
    words = ["srun", "run", *options]
    for seed in seeds:
        name = re.sub(r"[^A-Za-z0-9_-]", "-", f"{start}-{group.request}-{REFERENCE}-{seed}")
        words += [
            "--set",
            f"cells.{name}={{request: {group.request}, original: {start}, method: {REFERENCE}, seed: {seed}}}",
        ]
    return shlex.join(words)


def read_record(layout: Layout, name: str, cell: Cell, options: Sequence[str] = ()) -> Record:
    """What was measured of a cell; NotEvaluatedError with the command when it was not, or by another model."""
    paths = layout.cell(cell)
    command = _command(layout, cell, options)
    if lacking := _lacking(layout, name, cell):
        raise NotEvaluatedError(f"{lacking}; make it with `{command}`")
    files = paths.evaluation / "report.json", paths.model / "model.json"
    evaluation, info = (_read_sealed(file, f"cell {name}", command) for file in files)
    run, events = _read_run(paths), _read_events(paths.evaluation / "events.parquet")
    return Record(
        cell=name,
        request=cell.request,
        model=evaluation["model"],
        method=cell.method,
        original=cell.original,
        seed=cell.seed,
        dataset=evaluation["dataset"],
        fingerprint=evaluation["fingerprint"],
        partition=evaluation["request"],
        metrics=evaluation["metrics"],
        untrained_raw=evaluation["untrained_raw"],
        counts=evaluation["cost"],
        measured=run.get("cost"),
        machine=run.get("machine"),
        info=info,
        history=_history(paths),
        linear_probe=_read_linear_probe(paths.evaluation / "linear_probe.parquet"),
        relearning=evaluation.get("relearning", {}),
        events=events,
        features=_read_features(paths.evaluation / FEATURES, events),
    )


def _lacking(layout: Layout, name: str, cell: Cell) -> str:
    """What a cell's row lacks; empty where all is there."""
    paths, original = layout.cell(cell), layout.original(cell.original)
    if not (original.model / "model.json").is_file():
        return f"cell {name}: its Original {cell.original} is not there"
    if not (paths.model / "model.json").is_file():
        return f"cell {name}: its model is not there"
    files = (paths.evaluation / "report.json", paths.evaluation / "events.parquet")
    if not all(file.is_file() for file in files):
        return f"cell {name}: its evaluation is not there"
    evaluation = _read_sealed(files[0], f"cell {name}", _command(layout, cell, ()))
    newer = evaluation["weights_sha256"] != weights_sha256(paths.model)
    return f"cell {name}: its model is newer than its evaluation" if newer else ""


def _command(layout: Layout, cell: Cell, options: Sequence[str]) -> str:
    """What makes a cell's evaluation, from the first step that is not there."""
    selectors = ["--request", cell.request, "--original", cell.original, "--method", cell.method]
    selectors += ["--seed", str(cell.seed)]
    has_original = (layout.original(cell.original).model / "model.json").is_file()
    has_model = (layout.cell(cell).model / "model.json").is_file()
    steps = [] if has_original else [["train", "--original", cell.original]]
    steps += [] if has_original and has_model else [["unlearn", *selectors]]
    return " && ".join(shlex.join(["srun", *words, *options]) for words in [*steps, ["evaluate", *selectors]])


def _read_events(file: Path) -> dict[str, EventRanks]:
    """Ranks by split, in the order of the evaluation."""
    import pandas as pd

    table = pd.read_parquet(file, columns=["split", "event", "user", "rank"])
    parts = {str(split): part for split, part in table.groupby("split", sort=False)}
    return {
        split: EventRanks(*(part[name].to_numpy() for name in ("event", "user", "rank")))
        for split, part in parts.items()
    }


def _read_features(file: Path, events: Mapping[str, EventRanks]) -> NDArray[np.float64] | None:
    """(Q, X) of the forgotten events of report users, in the order of their ranks; None where there is no such file."""
    import pandas as pd

    if not file.is_file() or SPLIT not in events:
        return None
    table = pd.read_parquet(file).set_index("event").loc[events[SPLIT].event]
    return np.asarray(table.to_numpy(), dtype=np.float64)


def _read_linear_probe(file: Path) -> LinearProbeScores | None:
    """Of report users; None for a request that is not of a category."""
    import pandas as pd

    if not file.is_file():
        return None
    table = pd.read_parquet(file)
    table = table[table["report"]]
    return LinearProbeScores(*(table[name].to_numpy() for name in ("user", "score", "inside")))


def read_original(layout: Layout, name: str) -> Trained:
    """What is known of a trained Original; raises DataError naming the command when it is not there."""
    paths = layout.original(name)
    info = _read_sealed(paths.model / "model.json", f"Original {name}", f"srun train --original {name}")
    return Trained(name, info, _read_run(paths).get("cost"), _history(paths))


def _read_run(paths: CellPaths) -> dict[str, Any]:
    """What was measured; nothing where the results came from a cache and were not computed here."""
    if not paths.run.is_file():
        return {}
    mend = "remove it, and costs are not measured here; or compute it anew"
    values = read_json(paths.run, DataError, mend)
    try:
        Measured.model_validate(values)
    except ValidationError as error:
        where = ascii(".".join(map(str, error.errors()[0]["loc"])))[:60]
        raise DataError(f"{paths.run}: {where}: not what a run writes; {mend}") from error
    return values


def _read_sealed(file: Path, owner: str, command: str) -> dict[str, Any]:
    """A JSON file of a published folder; raises DataError where it is not there, or the folder is damaged."""
    if not file.is_file():
        raise DataError(f"{file}: {owner} is not there yet; make it with `{command}`")
    mend = f"make it again with `{command}`"
    verify_folder(file.parent, DataError, mend)
    return read_json(file, DataError, mend)


def _history(paths: CellPaths) -> History:
    """Curves of a published model, if it has any."""
    return load_history(paths.model) if (paths.model / HISTORY_FILE).is_file() else []
