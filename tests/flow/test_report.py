import csv
import hashlib
import html
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from srun.errors import CheckpointError, DataError
from srun.files import seal
from srun.flow import judge, report
from srun.flow.cells import Cell
from srun.flow.layout import Layout
from srun.flow.params import load
from srun.judging.judgement import read_judgement, to_json
from srun.tracking import NullTracker

ROOT = Path(__file__).parents[2]
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


def write_cell(layout, cell, hit, model="sasrec"):
    paths = layout.cell(cell)
    sizes = {"num_users": 20.0, "num_events": 150.0}
    record = {
        "cell": vars(cell),
        "model": model,
        "dataset": "tiny",
        "fingerprint": "f" * 64,
        "request": {
            "name": "r",
            "num_users": 40,
            "num_forget": 300,
            "num_retain": 5000,
            "request": {"kind": "interactions", "seed": 7},
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


def made(layout, cells, tracker=None, options=()):
    """What the report on some cells says, judged anew."""
    judge.run(layout, cells, tracker or NullTracker(), options)
    return report.run(layout, tracker or NullTracker())


def results(layout):
    with (layout.reports / "results.csv").open() as file:
        return list(csv.DictReader(file))


def test_writes_table_summary_figures_and_page(layout):
    tracker = Recorder()
    printed = made(layout, CELLS, tracker)
    names = {"results.csv", "results.parquet", "judgement.json", "summary.md", "figures", "index.html"}
    assert {file.name for file in layout.reports.iterdir()} == names
    assert {row["method"] for row in results(layout)} == {"original", "retrain", "sruga"}
    verdicts = {row["Method"]: row["Verdict"] for row in printed["tables"]["SASRec, request “r”"]}
    said = "fails: over-unlearning (provisional, 3 Retrains)"
    assert verdicts["SRUGA"] == said
    [headline] = printed["headlines"]
    assert headline == "SASRec, request “r”: SRUGA: fails 1 of 1 (over-unlearning) (provisional, 3 Retrains)."
    assert headline in (layout.reports / "index.html").read_text()
    assert headline in (layout.reports / "summary.md").read_text()
    found = {(row["method"], row["seed"]): row["metric"] for row in results(layout) if row["metric"] == "pass"}
    assert set(found) == {("original", "0"), ("sruga", "0")}  # of three Retrains each has two to be judged by
    names = {row["metric"] for row in results(layout) if row["method"] == "retrain"}
    assert {"ks_d", "ks_d_retrain_max", "ks_p"} <= names
    assert set(printed["written"]) == {file.name for file in layout.reports.iterdir()}
    assert {"written", "tables", "headlines", "missing"} == printed.keys()
    assert {("index.html", "report"), ("results.parquet", "report"), ("judgement.json", "report")} <= set(tracker.kept)
    assert ("figures", "figures") in tracker.kept
    assert f"| SRUGA | {said} |" in (layout.reports / "summary.md").read_text()


def test_running_it_again_changes_no_byte(layout):
    def written():
        return {file: file.read_bytes() for file in layout.reports.rglob("*") if file.is_file()}

    made(layout, CELLS)
    first = written()
    made(layout, CELLS)
    assert written() == first


def test_a_report_renders_the_judgement_and_reads_no_evaluation(layout):
    judge.run(layout, CELLS, NullTracker())
    for cell in CELLS.values():
        (layout.cell(cell).evaluation / "report.json").unlink()
    judgement = read_judgement(layout.judgement)
    [comparison] = judgement.comparisons
    sruga = comparison.method("sruga")
    changed = replace(sruga, words="as it was written")
    methods = tuple(changed if method is sruga else method for method in comparison.methods)
    changed = replace(judgement, comparisons=(replace(comparison, methods=methods, headline="read, not computed"),))
    layout.judgement.write_text(to_json(changed))
    result = report.run(layout, NullTracker())
    assert result["headlines"] == ["SASRec, request “r”: read, not computed."]
    assert "| SRUGA | as it was written |" in (layout.reports / "summary.md").read_text()


def test_without_a_judgement_the_command_is_named(layout):
    with pytest.raises(DataError, match=r"judgement\.json is not there; make it with `srun judge`"):
        report.run(layout, NullTracker())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text[:-20], "not valid JSON"),
        (lambda text: text.replace('"headline"', '"headlines"'), r"comparisons\.0\.headlines?: not what"),
        (lambda text: text.replace('"num_retrains": 3', '"num_retrains": "3"'), r"comparisons\.0\.\S+: not what"),
    ],
    ids=["cut", "another key", "another type"],
)
def test_what_is_no_judgement_is_one_line_that_names_the_file(layout, change, said):
    judge.run(layout, CELLS, NullTracker())
    layout.judgement.write_text(change(layout.judgement.read_text()))
    with pytest.raises(DataError, match=rf"^[^\n]*judgement\.json\S* {said}[^\n]*`srun judge`$"):
        report.run(layout, NullTracker())


def test_parquet_has_the_rows_of_the_csv_at_full_precision(layout):
    judge.run(layout, CELLS, NullTracker())
    table, rows = pd.read_parquet(layout.reports / "results.parquet"), results(layout)
    assert len(table) == len(rows)
    keys = [name for name in table.columns if name != "value"]
    assert not table.duplicated(keys).any()
    for own, text in zip(table.itertuples(), rows, strict=True):
        assert float(text["value"]) == pytest.approx(own.value, rel=1e-5)
        assert text["seed"] == ("" if pd.isna(own.seed) else str(own.seed))
    third = table[(table["metric"] == "hit_10_gap") & (table["method"] == "sruga")]["value"].item()
    assert third == read_judgement(layout.judgement).comparisons[0].method("sruga").quality.gap


def test_figures_over_all_seeds_have_no_seed(layout):
    judge.run(layout, CELLS, NullTracker())
    found = {(row["method"], row["split"], row["metric"]): row["value"] for row in results(layout) if not row["seed"]}
    [comparison] = read_judgement(layout.judgement).comparisons
    bounds = comparison.method("sruga").intervals["forget_report"]["hit_10"]
    assert float(found["sruga", "forget_report", "hit_10_low"]) == pytest.approx(bounds.low, rel=1e-5)
    assert float(found["sruga", "forget_report", "hit_10_high"]) == pytest.approx(bounds.high, rel=1e-5)
    assert bounds.low < 0.06 < bounds.high
    assert float(found["retrain", "forget_report", "hit_10_retrain_low"]) == pytest.approx(0.1206, abs=1e-4)
    assert found["sruga", "test", "ndcg_10_of_retrain"] == "1"
    assert ("sruga", "test", "recall_10_low") not in found, "nothing is known of single test events"


def test_only_the_cells_asked_for_are_reported(layout):
    made(layout, {name: cell for name, cell in CELLS.items() if cell.method != "sruga"})
    assert {row["method"] for row in results(layout)} == {"original", "retrain"}


def test_without_run_files_costs_are_not_measured_rather_than_zero(layout):
    for cell in CELLS.values():
        layout.cell(cell).run.unlink()
    made(layout, CELLS)
    costs = {row["metric"] for row in results(layout) if row["split"] == "cost"}
    assert costs == {"steps", "target_gradients", "speedup_target_gradients"}
    assert "not measured here" in (layout.reports / "index.html").read_text()


SELECTORS = "--request r --original sasrec-0 --method sruga --seed 0"
GONE = {
    "evaluation": ("report.json", f"its evaluation is not there; make it with `srun evaluate {SELECTORS}`"),
    "ranks": ("events.parquet", f"its evaluation is not there; make it with `srun evaluate {SELECTORS}`"),
    "model": (
        "model.json",
        f"its model is not there; make it with `srun unlearn {SELECTORS} && srun evaluate {SELECTORS}`",
    ),
    "other model": (
        "weights.safetensors",
        f"its model is newer than its evaluation; make it with `srun evaluate {SELECTORS}`",
    ),
}


@pytest.mark.parametrize("what", GONE)
def test_what_is_not_evaluated_is_left_out_and_listed_with_its_command(layout, what):
    file, said = GONE[what]
    paths = layout.cell(CELLS["sruga-0"])
    if what == "other model":
        (paths.model / file).write_bytes(b"other weights")
    else:
        next(folder / file for folder in (paths.evaluation, paths.model) if (folder / file).exists()).unlink()
    printed = made(layout, CELLS)
    assert {row["method"] for row in results(layout)} == {"original", "retrain"}
    assert printed["missing"] == [f"cell sruga-0: {said}"]
    assert said in (layout.reports / "summary.md").read_text()
    assert html.escape(said) in (layout.reports / "index.html").read_text()


def test_commands_shown_have_the_options_of_the_report(layout):
    (layout.cell(CELLS["sruga-0"]).evaluation / "report.json").unlink()
    options = ["--params", "a b.yaml", "--out", "out/x"]
    [missing] = made(layout, CELLS, options=options)["missing"]
    assert missing.endswith(f"`srun evaluate {SELECTORS} --params 'a b.yaml' --out out/x`")


def test_nothing_evaluated_is_an_error_that_names_a_command(layout):
    for cell in CELLS.values():
        (layout.cell(cell).evaluation / "report.json").unlink()
    with pytest.raises(DataError, match=r"nothing to report: cell retrain-0: .* make it with `srun evaluate"):
        made(layout, CELLS)
    assert not layout.reports.exists()
    with pytest.raises(DataError, match=r"nothing to report: params\.yaml has no cells"):
        made(layout, {})


def only(*methods):
    return {name: cell for name, cell in CELLS.items() if (cell.method, cell.seed) in methods}


REQUEST = "partition.r={kind: interactions, share_of_users: 0.1, max_share_of_items: 0.5, catalogue: full, seed: 0}"
ORIGINAL, SRUGA = ("original", 0), ("sruga", 0)


@pytest.mark.parametrize(
    ("rows", "why", "seeds"),
    [
        ((ORIGINAL, SRUGA), "no Retrain", (1, 2, 3)),
        ((ORIGINAL,), "no Retrain", (1, 2, 3)),
        ((SRUGA,), "no Retrain", (1, 2, 3)),
        ((ORIGINAL, SRUGA, ("retrain", 1)), "1 of 3 Retrains", (2, 3)),
        ((("retrain", 1),), "1 of 3 Retrains", (2, 3)),
        ((ORIGINAL, SRUGA, ("retrain", 1), ("retrain", 2)), "2 of 3 Retrains", (3,)),
    ],
    ids=["no Retrain", "Original only", "a method only", "one Retrain", "one Retrain only", "two Retrains"],
)
def test_too_few_retrains_give_a_report_that_says_not_judged_and_what_to_run(layout, rows, why, seeds):
    printed = made(layout, only(*rows), options=["--set", "train.loss=ce"])
    [headline] = printed["headlines"]
    texts = [(layout.reports / name).read_text() for name in ("summary.md", "index.html")]
    assert f"not judged: {why}" in headline
    assert ("no method was evaluated" in headline) == (SRUGA not in rows)
    if SRUGA in rows:
        verdicts = {row["Method"]: row["Verdict"] for row in printed["tables"]["SASRec, request “r”"]}
        assert verdicts["SRUGA"] == f"not judged: {why}"
    command = headline.split("`")[1]
    assert shlex.split(command)[:4] == ["srun", "run", "--set", "train.loss=ce"]
    for text in texts:
        assert command in html.unescape(text)
        assert "over-unlearning" not in re.sub(r"<dl>.*?</dl>|## How to read it.*", "", text, flags=re.S)
    added = load(
        ROOT / "params.yaml", [], [REQUEST, "requests=[interactions, core, r]", *shlex.split(command)[3::2]]
    ).cells
    assert [cell for cell in added.values() if cell.request == "r"] == [
        Cell(request="r", original="sasrec-0", method="retrain", seed=seed) for seed in seeds
    ]
    found = {row["metric"] for row in results(layout)}
    assert found.isdisjoint({"pass", "over_unlearning", "cannot_tell"})


def test_retrains_that_are_asked_for_and_not_evaluated_are_not_asked_for_again(layout):
    for seed in (0, 1):
        (layout.cell(CELLS[f"retrain-{seed}"]).evaluation / "report.json").unlink()
    printed = made(layout, CELLS)
    assert printed["headlines"] == ["SASRec, request “r”: not judged: 1 of 3 Retrains. To judge: `srun run`."]
    assert len(printed["missing"]) == 2


def test_one_model_without_retrains_does_not_keep_the_other_from_its_verdict(layout):
    other = {
        name: Cell(request="r", original="gru4rec-0", method=name, seed=0) for name in ("original", "sruga", "retrain")
    }
    for cell in (other["original"], other["sruga"]):
        write_cell(layout, cell, HITS[cell.method, 0], model="gru4rec")
    write(layout.original("gru4rec-0").model / "model.json", {**INFO, "seed": 0, "shards": 1})
    seal(layout.original("gru4rec-0").model)
    cells = {**CELLS, **{f"gru4rec-{name}": cell for name, cell in other.items()}}
    printed = made(layout, cells)
    first, second = printed["headlines"]
    assert "SRUGA: fails 1 of 1 (over-unlearning)" in first
    assert second.startswith("GRU4Rec, request “r”: not judged: no Retrain. To judge: `srun run --set")
    assert second.count("method: retrain") == 2, "the third is asked for already"
    assert len(printed["missing"]) == 1
    verdicts = {row["Method"]: row["Verdict"] for row in printed["tables"]["GRU4Rec, request “r”"]}
    assert verdicts == {"Original": "nothing removed", "SRUGA": "not judged: no Retrain"}


def test_seeds_of_two_originals_are_judged_by_the_same_retrains(layout):
    second = Cell(request="r", original="sasrec-1", method="sruga", seed=1)
    write_cell(layout, second, 0.22)
    write(layout.original("sasrec-1").model / "model.json", {**INFO, "seed": 1, "shards": 1})
    seal(layout.original("sasrec-1").model)
    [headline] = made(layout, {**CELLS, "sruga-1": second})["headlines"]
    assert "SRUGA: passes 1 of 2, fails 1 (over-unlearning)" in headline


def test_a_category_without_retrain_is_reported(layout):
    request = {"kind": "category", "seed": 7, "categories": ["War"], "users": None}
    for cell in only(ORIGINAL, SRUGA).values():
        file = layout.cell(cell).evaluation / "report.json"
        found = json.loads(file.read_text())
        found["request"]["request"] = request
        write(file, found)
        seal(file.parent)
    printed = made(layout, only(ORIGINAL, SRUGA))
    [headline] = printed["headlines"]
    assert headline.startswith("SASRec, request “r”: not judged: a category has no rule of hits and ranks. To judge: `")
    assert headline.count("method: retrain") == 1
    assert {row["category"] for row in results(layout)} == {"War"}


def test_a_broken_record_names_the_file(layout):
    (layout.cell(CELLS["sruga-0"]).evaluation / "report.json").write_text("{")
    with pytest.raises(DataError, match=r"report\.json: not what was written .*`srun evaluate"):
        made(layout, CELLS)
    seal(layout.cell(CELLS["sruga-0"]).evaluation)
    with pytest.raises(DataError, match=r"report\.json:1: not valid JSON"):
        made(layout, CELLS)


def test_cells_that_share_a_row_are_refused(layout):
    twin = replace(CELLS["sruga-0"], original="sasrec-1")
    write_cell(layout, twin, 0.1)
    write(layout.original("sasrec-1").model / "model.json", {**INFO, "seed": 1, "shards": 1})
    seal(layout.original("sasrec-1").model)
    seal(layout.original("sasrec-1").model)
    with pytest.raises(DataError, match="two of them give"):
        made(layout, {**CELLS, "twin": twin})


def test_ranks_of_other_events_are_not_compared(layout):
    file = layout.cell(CELLS["sruga-0"]).evaluation / "events.parquet"
    table = pd.read_parquet(file)
    table.assign(event=table["event"] + 1).to_parquet(file, index=False)
    seal(file.parent)
    with pytest.raises(DataError, match="different partitions"):
        made(layout, CELLS)


@pytest.mark.parametrize("data", [b"{", b"[]", b"\xff", b'{"cost": 3}', b'{"machine": {"python": []}}', b"[" * 100_000])
def test_a_damaged_run_file_is_one_line_that_names_it(layout, data):
    layout.cell(CELLS["sruga-0"]).run.write_bytes(data)
    with pytest.raises(DataError, match=r"runs/measured/sasrec-0/r/sruga-0\.json:.*; remove it"):
        made(layout, CELLS)


def test_curves_that_are_none_are_one_line(layout):
    folder = layout.original("sasrec-0").model
    (folder / "history.csv").write_text("epoch,a\n1\n")
    with pytest.raises(DataError, match=r"history\.csv: not what was written"):
        made(layout, CELLS)
    seal(folder)
    with pytest.raises(CheckpointError, match=r"history\.csv: not a table of curves"):
        made(layout, CELLS)
