import csv
import hashlib
import json
from dataclasses import replace

import pandas as pd
import pytest

from srun.errors import CheckpointError, DataError
from srun.files import seal
from srun.stages import report
from srun.stages.cells import Cell
from srun.stages.common import has_key
from srun.stages.layout import Layout
from srun.tracking import NullTracker

HITS = {("retrain", 0): 0.20, ("retrain", 1): 0.22, ("retrain", 2): 0.24, ("original", 0): 0.5, ("sruga", 0): 0.05}
CELLS = {f"{method}-{seed}": Cell(request="r", original="sasrec-0", method=method, seed=seed) for method, seed in HITS}
INFO = {"version": "1", "prepare": {}, "train": {}, "settings": {}, "models": [], "cost": {"target_gradients": 9.0}}
MACHINE = {"python": "3.11", "torch": "2", "system": "Linux", "processor": "P", "threads": "2", "gpu": "none"}


class Recorder(NullTracker):
    def __init__(self):
        self.kept = []

    def artifact(self, path, where):
        assert path.exists()
        self.kept.append((path.name, where))


@pytest.fixture
def layout(tmp_path):
    """A project with every cell evaluated."""
    layout = Layout(tmp_path, tmp_path)
    original = layout.original("sasrec-0")
    write(original.model / "model.json", {**INFO, "seed": 0, "shards": 1})
    (original.model / "history.csv").write_text("epoch,train/loss,validation/ndcg_10\n1,2.5,\n2,2.25,0.1\n")
    seal(original.model)
    for cell in CELLS.values():
        write_cell(layout, cell, HITS[cell.method, cell.seed])
    return layout


def write(file, values):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(values))


def write_cell(layout, cell, hit):
    paths = layout.cell(cell)
    sizes = {"num_users": 20.0, "num_events": 150.0}
    record = {
        "cell": vars(cell),
        "model": "sasrec",
        "dataset": "tiny",
        "fingerprint": "f" * 64,
        "request": {
            "name": "r",
            "num_users": 40,
            "num_forget": 300,
            "num_retain": 5000,
            "request": {"kind": "interactions", "seed": 7, "file": None},
        },
        "cost": {"steps": 10, "target_gradients": 100.0},
        "metrics": {
            "test": {**sizes, "ndcg_10": 0.1, "recall_10": 0.2},
            "forget_report": {**sizes, "hit_10": hit},
        },
        "untrained_raw": None,
        "weights_sha256": hashlib.sha256(b"weights").hexdigest(),
    }
    write(paths.evaluation / "report.json", record)
    ranks = [1.0 + (event >= 150 * hit) * (20 + (event * 7 + cell.seed * 3) % 100) for event in range(150)]
    table = {"split": "forget_report", "event": range(150), "user": [event // 8 for event in range(150)], "rank": ranks}
    pd.DataFrame(table).to_parquet(paths.evaluation / "events.parquet", index=False)
    write(paths.model / "model.json", INFO)
    (paths.model / "weights.safetensors").write_bytes(b"weights")
    (paths.model / "history.csv").write_text("\n")  # as published where there are no curves
    seal(paths.evaluation)
    seal(paths.model)
    write(paths.run, {"cost": {"seconds": 4.0}, "machine": MACHINE, "mlflow_run_id": None})


def results(layout):
    with (layout.reports / "results.csv").open() as file:
        return list(csv.DictReader(file))


def test_writes_table_summary_figures_and_page(layout):
    tracker = Recorder()
    printed = report.run(layout, CELLS, tracker)
    assert {file.name for file in layout.reports.iterdir()} == {"results.csv", "summary.md", "figures", "index.html"}
    assert {row["method"] for row in results(layout)} == {"original", "retrain", "sruga"}
    verdicts = {row["Method"]: row["Verdict"] for row in printed["tables"]["SASRec, request “r”"]}
    assert verdicts["SRUGA"] == "over-unlearning"
    found = {(row["method"], row["seed"]): row["metric"] for row in results(layout) if row["metric"] == "pass"}
    assert set(found) == {("original", "0"), ("sruga", "0")}  # of three Retrains each has two to be judged by
    names = {row["metric"] for row in results(layout) if row["method"] == "retrain"}
    assert {"ks_d", "ks_d_retrain_max", "ks_p"} <= names
    assert set(printed["written"]) == {"index.html", "summary.md", "results.csv", "figures"}
    assert ("index.html", "report") in tracker.kept
    assert ("figures", "figures") in tracker.kept
    assert "| SRUGA | over-unlearning |" in (layout.reports / "summary.md").read_text()


def test_running_it_again_changes_no_byte(layout):
    def written():
        return {file: file.read_bytes() for file in layout.reports.rglob("*") if file.is_file()}

    report.run(layout, CELLS, NullTracker())
    first = written()
    report.run(layout, CELLS, NullTracker())
    assert written() == first


def test_only_the_cells_asked_for_are_reported(layout):
    report.run(layout, {name: cell for name, cell in CELLS.items() if cell.method != "sruga"}, NullTracker())
    assert {row["method"] for row in results(layout)} == {"original", "retrain"}


def test_without_run_files_costs_are_not_measured_rather_than_zero(layout):
    for cell in CELLS.values():
        layout.cell(cell).run.unlink()
    report.run(layout, CELLS, NullTracker())
    costs = {row["metric"] for row in results(layout) if row["split"] == "cost"}
    assert costs == {"steps", "target_gradients", "speedup_target_gradients"}
    assert "not measured here" in (layout.reports / "index.html").read_text()


def test_a_missing_evaluation_names_the_command_that_makes_it(layout):
    (layout.cell(CELLS["sruga-0"]).evaluation / "report.json").unlink()
    command = "srun evaluate --request r --original sasrec-0 --method sruga --seed 0"
    with pytest.raises(DataError, match=f"cell sruga-0 is not there yet; make it with `{command}`"):
        report.run(layout, CELLS, NullTracker())
    assert not layout.reports.exists()


def test_a_missing_retrain_is_an_error(layout):
    without = {name: cell for name, cell in CELLS.items() if cell.method != "retrain"}
    with pytest.raises(DataError, match="has method retrain"):
        report.run(layout, without, NullTracker())
    assert not layout.reports.exists()


def test_a_broken_record_names_the_file(layout):
    (layout.cell(CELLS["sruga-0"]).evaluation / "report.json").write_text("{")
    with pytest.raises(DataError, match=r"report\.json: not what was written .*`srun evaluate"):
        report.run(layout, CELLS, NullTracker())
    seal(layout.cell(CELLS["sruga-0"]).evaluation)
    with pytest.raises(DataError, match=r"report\.json:1: not valid JSON"):
        report.run(layout, CELLS, NullTracker())


def test_cells_that_share_a_row_are_refused(layout):
    twin = replace(CELLS["sruga-0"], original="sasrec-1")
    write_cell(layout, twin, 0.1)
    write(layout.original("sasrec-1").model / "model.json", {**INFO, "seed": 1, "shards": 1})
    seal(layout.original("sasrec-1").model)
    with pytest.raises(DataError, match="two of them give"):
        report.run(layout, {**CELLS, "twin": twin}, NullTracker())


def test_a_model_newer_than_its_evaluation_is_an_error(layout):
    (layout.cell(CELLS["sruga-0"]).model / "weights.safetensors").write_bytes(b"other weights")
    seal(layout.cell(CELLS["sruga-0"]).model)
    with pytest.raises(DataError, match="sruga-0: its model is newer than its evaluation; run `srun evaluate"):
        report.run(layout, CELLS, NullTracker())


def test_missing_ranks_name_the_command_that_makes_them(layout):
    (layout.cell(CELLS["sruga-0"]).evaluation / "events.parquet").unlink()
    with pytest.raises(DataError, match=r"events\.parquet is missing; make it again with `srun evaluate"):
        report.run(layout, CELLS, NullTracker())


def test_ranks_of_other_events_are_not_compared(layout):
    file = layout.cell(CELLS["sruga-0"]).evaluation / "events.parquet"
    table = pd.read_parquet(file)
    table.assign(event=table["event"] + 1).to_parquet(file, index=False)
    seal(file.parent)
    with pytest.raises(DataError, match="different partitions"):
        report.run(layout, CELLS, NullTracker())


@pytest.mark.parametrize("data", [b"{", b"[]", b"\xff", b'{"cost": 3}', b'{"machine": {"python": []}}', b"[" * 100_000])
def test_a_damaged_run_file_is_one_line_that_names_it(layout, data):
    layout.cell(CELLS["sruga-0"]).run.write_bytes(data)
    with pytest.raises(DataError, match=r"runs/sasrec-0/r/sruga-0\.json:.*; remove it"):
        report.run(layout, CELLS, NullTracker())


def test_an_output_whose_file_cannot_be_read_is_made_again_and_told_of(tmp_path, caplog):
    for data in (b"{", b"[]", b"\xff", b"[" * 100_000):
        (tmp_path / "info.json").write_bytes(data)
        assert not has_key(tmp_path / "info.json", "key")
        assert "info.json" in caplog.records[-1].getMessage()
        assert "it is made again" in caplog.records[-1].getMessage()


def test_curves_that_are_none_are_one_line(layout):
    folder = layout.original("sasrec-0").model
    (folder / "history.csv").write_text("epoch,a\n1\n")
    with pytest.raises(DataError, match=r"history\.csv: not what was written"):
        report.run(layout, CELLS, NullTracker())
    seal(folder)
    with pytest.raises(CheckpointError, match=r"history\.csv: not a table of curves"):
        report.run(layout, CELLS, NullTracker())
