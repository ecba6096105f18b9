"""`srun audit` on a tiny flow: Original beside a method, Retrains of few, budgets, and what it cannot test."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from srun.cli import cli
from srun.flow.audit import HEADLINE
from srun.flow.project import Project
from srun.metrics.memory import z_rank
from srun.tracking import NullTracker

ORIGINALS = "originals={sasrec-0: {model: sasrec, seed: 0, shards: 1}, sasrec-1: {model: sasrec, seed: 1, shards: 1}}"
CELL = "cells.{name}={{request: interactions, original: {original}, method: {method}, seed: {seed}}}"
CELLS = [("o", "sasrec-1", "original", 1), ("r2", "sasrec-0", "retrain", 3)]
PRESET = ["--params", "tiny.yaml", "--set", ORIGINALS, "--set", "prepare.calibration_events=0.4"]
for name, original, method, seed in CELLS:
    PRESET += ["--set", CELL.format(name=name, original=original, method=method, seed=seed)]
FOLDER = "models/sasrec-0/interactions/{}"


def ok(*words: str) -> str:
    result = CliRunner().invoke(cli, list(words))
    assert result.exit_code == 0, result.output
    return result.stdout


def audited(cell: str, *words: str) -> dict:
    return json.loads(ok("audit", FOLDER.format(cell), "--json", *PRESET, *words))


@pytest.fixture
def flow(project: Path) -> Path:
    ok("data", "import", "log.csv", "--name", "tiny")
    ok("run", *PRESET)
    return project


def test_an_audit_says_what_holds_what_does_not_and_what_was_not_tested(flow: Path) -> None:
    audit = audited("sruga-0")
    figures = audit["figures"]
    assert {key.partition("/")[0] for key in figures} == {
        *("test", "forget_report", "by_event", "recovered"),
        *("membership", "contexts", "side_effects", "way_back"),
    }
    assert audit["num_retrains"] == 4
    assert audit["num_originals"] == 2
    assert [part["name"] for part in audit["verdict"]["parts"]] == ["hits", "ranks", "file", "events", "membership"]
    assert "what membership attacks tell" in audit["tests"]
    for key in ("membership/lira_auc", "membership/lira_excess", "recovered/own_hit_10", "by_event/memory_left"):
        assert figures[key]["retrain_high"] is not None, key
        assert figures[key]["original"] is not None, key
    told = figures["membership/lira_excess"]
    assert told["low"] <= told["value"] <= told["high"]
    without = {key for key, figure in figures.items() if figure["low"] is None and not key.startswith("way_back/")}
    assert without == {"forget_report/ks_d", "side_effects/coverage_10"}
    assert audit["seeds"]["retrains"] == {"sasrec-retrain-0": 0, "sasrec-retrain-1": 1, "sasrec-retrain-2": 2, "r2": 3}
    assert audit["seeds"]["originals"] == {"sasrec-original-0": 0, "o": 1}
    assert audit["error_rate"] == 0.05
    assert figures["membership/lira_auc"]["value"] - figures["membership/lira_auc"]["retrain"] == pytest.approx(
        told["value"]
    )
    untested = {one["name"]: one["run"] for one in audit["not_tested"]}
    assert list(untested) == ["relearning", "power of the file's part", "klom"]
    parts = {part["name"]: part["sees"] for part in audit["verdict"]["parts"]}
    assert parts["file"] is None, "it takes mixed models"
    assert "Put back to Original's in left-out Retrains, the smallest share that fails" in audit["tests"]
    assert "membership" in audit["tests"].partition("of users: ")[2].partition("of z_rank")[0]
    assert "A true Retrain fails this verdict in " in audit["tests"]
    assert untested["relearning"].startswith("srun audit sasrec-sruga-0 --relearning --params tiny.yaml ")
    assert json.loads(Path("reports/audit/sasrec-sruga-0.json").read_text()) == audit
    assert "<summary>membership</summary>" in Path("reports/audit/sasrec-sruga-0.html").read_text()

    text = ok("audit", FOLDER.format("sruga-0"), *PRESET).splitlines()
    assert len(text) <= 20
    assert max(map(len, text)) <= 80
    assert text[0].startswith(audit["verdict"]["word"])
    assert any(line.startswith("not tested: relearning (") for line in text[-3:])

    original, retrain = audited("original-0"), audited("retrain-0")
    assert original["figures"]["way_back/distance"]["value"] == 0
    assert original["figures"]["way_back/barrier"]["value"] == pytest.approx(0, abs=1e-6)
    assert original["figures"]["by_event/memory_left"]["value"] == pytest.approx(1)
    assert retrain["num_retrains"] == 3, "a Retrain is held against the others"
    assert retrain["figures"]["way_back/distance"]["value"] > 0


class Told(NullTracker):
    def __init__(self) -> None:
        self.verdict, self.figures, self.files = "", {}, []

    def params(self, values: Mapping[str, Any]) -> None:
        self.verdict = values["verdict"]

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        self.figures |= values

    def artifact(self, path: Path, where: str) -> None:
        self.files.append(path.name)


def test_values_by_event_are_those_that_the_figures_are_of_and_no_tracker_has_them(
    flow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, tags = Told(), {}

    @contextmanager
    def tracked(project: Project, stage: str, name: str, params: Any, resume: Any, **own: str) -> Iterator[Told]:
        tags.update(own)
        yield told

    monkeypatch.setattr(Project, "tracked", tracked)
    run_file = Path("runs/measured/sasrec-0/interactions/sruga-0.json")
    run_file.write_text(json.dumps(json.loads(run_file.read_text()) | {"mlflow_run_id": "abc"}))
    audit = audited("sruga-0")
    assert tags["srun.audited_run"] == "abc"
    assert told.verdict == audit["verdict"]["text"]
    assert told.figures == {f"audit/{key}": pytest.approx(audit["figures"][key]["value"]) for key in HEADLINE}
    assert len(told.figures) == 5
    assert told.files == ["sasrec-sruga-0.json", "sasrec-sruga-0.html"]
    table = pd.read_parquet("reports/audit/sasrec-sruga-0.parquet")
    names = ["split", "event", "user", "z_rank", "z_rank_retrain", "z_rank_original", "lira", "rmia"]
    assert list(table) == names
    assert table.notna().all(axis=None)
    forgotten = table[table["split"] == "forget_report"]
    assert len(forgotten) == audit["num_events"]
    assert set(table["split"]) == {"forget_report", "never_seen_audit"}
    ranks = pd.read_parquet("evaluations/sasrec-0/interactions/sruga-0/events.parquet")
    ranks = ranks[ranks["split"] == "forget_report"]
    for column in ("event", "user"):
        assert forgotten[column].tolist() == ranks[column].tolist()
    model = json.loads(Path(FOLDER.format("sruga-0"), "model.json").read_text())["models"][0]
    assert forgotten["z_rank"].to_numpy() == pytest.approx(z_rank(ranks["rank"].to_numpy(), model["num_items"]))


def test_the_flow_audits_what_it_is_told_to_once_and_its_figures_are_in_the_results(flow: Path) -> None:
    words = [*PRESET, "--set", "audits=[sasrec-sruga-0]"]
    done = json.loads(ok("run", "--json", *words))["done"]
    assert done == ["audit sasrec-sruga-0", "judge"], "nothing that the report shows is another"
    assert json.loads(ok("run", "--json", *words))["done"] == []
    assert "up to date" in ok("audit", "sasrec-sruga-0", "--where-stale", *words)
    audit = json.loads(ok("audit", "sasrec-sruga-0", "--where-stale", "--json", *words))
    rows = pd.read_csv("reports/results.csv")
    own = rows[rows["split"] == "audit"].set_index("metric")["value"]
    assert not rows.duplicated([name for name in rows if name != "value"]).any()
    assert own["membership/lira_auc"] == pytest.approx(audit["figures"]["membership/lira_auc"]["value"], rel=1e-5)
    assert own[audit["verdict"]["word"].replace(" ", "_")] == 1

    code = {"passes": 0, "fails": 3, "cannot tell": 4, "not judged": 5}[audit["verdict"]["word"]]
    checked = CliRunner().invoke(cli, ["audit", "sasrec-sruga-0", "--where-stale", "--check", *words])
    assert checked.exit_code == code

    Path("reports/audit/sasrec-sruga-0.json").unlink()
    ok("judge", *words)
    assert "audit" not in set(pd.read_csv("reports/results.csv")["split"])
    missing = json.loads(Path("reports/judgement.json").read_text())["missing"]
    assert missing[0].startswith(
        "cell sasrec-sruga-0: its audit is not there; make it with `srun audit sasrec-sruga-0 "
    )


def test_relearning_is_measured_where_it_is_asked_for(flow: Path) -> None:
    audit = audited("sruga-0", "--relearning", "--set", "relearning.max_epochs=2", "--set", "relearning.share=0.3")
    assert set(audit["relearning"]) == {"retain", "related", "returned"}
    for way, shown in audit["relearning"].items():
        assert set(shown["steps"]) == {
            "sasrec-sruga-0",
            "sasrec-retrain-0",
            "sasrec-retrain-1",
            "sasrec-retrain-2",
            "r2",
        }
        assert set(shown["curves"]) == {*shown["steps"], "sasrec-original-0"}
        assert f"relearning/{way}_hit_10_last" in audit["figures"]
        told = [one for one in audit["not_tested"] if one["name"] == f"relearning ({way})"]
        assert len(told) == (not shown["valid"])
    assert "relearning" not in {one["name"] for one in audit["not_tested"]}


def test_where_nothing_forgotten_can_be_asked_for_the_flow_still_ends(project: Path) -> None:
    ok("data", "import", "log.csv", "--name", "tiny")
    block = {
        "kind": "interactions",
        "file": "first.csv",
        "format": None,
        "columns": None,
        "catalogue": "full",
        "seed": 0,
    }
    header, first = Path("log.csv").read_text().splitlines()[:2]
    Path("first.csv").write_text(f"{header}\n{first}\n")  # a first event, which nobody can ask for
    cells = {
        f"{method}-{seed}": {"request": "own", "original": "sasrec-0", "method": method, "seed": seed}
        for method, seed in [("original", 0), ("retrain", 1)]
    }
    preset = {"requests": ["own"], "partition": {"own": block}, "cells": cells, "audits": ["original-0"]}
    YAML().dump(preset, Path("own.yaml"))
    ok("run", "--params", "tiny.yaml", "--params", "own.yaml")
    audit = json.loads(Path("reports/audit/original-0.json").read_text())
    assert audit["verdict"]["word"] == "not judged"
    assert audit["num_events"] == 0
    untested = {one["name"]: one["why"] for one in audit["not_tested"]}
    assert untested["membership"] == "no forgotten event of a report user has a context"
    assert len(pd.read_parquet("reports/audit/original-0.parquet")) == 0


def test_what_does_not_fit_the_budget_or_lacks_references_is_said(flow: Path) -> None:
    untested = {one["name"]: one for one in audited("sruga-0", "--budget", "0")["not_tested"]}
    tests = ["membership", "contexts", "side effects", "distance", "barrier"]
    assert list(untested)[:5] == tests
    assert "the budget of 0 minutes was spent" in untested["membership"]["why"]
    assert untested["barrier"]["run"].startswith("srun audit ")

    for seed in (1, 2, 3):
        (flow / FOLDER.format(f"retrain-{seed}") / "model.json").unlink()
    audit = audited("sruga-0")
    untested = {one["name"]: one for one in audit["not_tested"]}
    assert untested["power"]["why"] == "1 Retrains"
    assert "Power not measured: 1 Retrains." in audit["tests"]
    assert audit["verdict"]["word"] == "not judged"
    assert untested["membership"]["why"] == "1 of 3 Retrains beside it"
    assert untested["verdict"]["why"] == "fewer than 3 Retrains beside it"
    assert audit["figures"]["contexts/subsequences_hit_10"]["retrain_high"] is None


def test_a_request_of_users_is_audited_and_one_of_a_category_is_not(project: Path) -> None:
    items = ["item_id,title,categories", *(f"i{item},,{'blue' if item % 5 else 'red'}" for item in range(30))]
    (project / "items.csv").write_text("\n".join(items) + "\n")
    ok("data", "import", "log.csv", "--name", "tiny", "--items", "items.csv")
    shared = {"catalogue": "full", "seed": 0}
    category = {"kind": "category", "categories": ["red"], "users": None, "context": "retained", **shared}
    requests = {"everything": {"kind": "users", "share_of_users": 0.3, **shared}, "red": category}
    cells = {
        f"{request}-{method}-{seed}": {"request": request, "original": "sasrec-0", "method": method, "seed": seed}
        for request in requests
        for method, seed in [("original", 0), ("retrain", 2), ("retrain", 3), ("retrain", 4)]
    }
    YAML().dump({"requests": list(requests), "partition": requests, "cells": cells}, Path("others.yaml"))
    words = [*PRESET[:6], "--params", "others.yaml"]
    ok("run", *words)
    audit = json.loads(ok("audit", "models/sasrec-0/everything/original-0", "--json", *words))
    assert "membership/lira_auc" in audit["figures"]
    result = CliRunner().invoke(cli, ["audit", "models/sasrec-0/red/original-0", *words])
    assert result.exit_code == 1
    assert "it forgets a category" in result.output


def test_a_recipe_is_judged_by_its_runs_or_what_it_lacks_is_said(flow: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = {"request": "interactions", "original": "sasrec-1", "method": "output_mask", "seed": 1}
    own = {"request": "interactions", "original": "sasrec-0", "method": "output_mask", "seed": 0}
    retrain = {"request": "interactions", "original": "sasrec-0", "method": "retrain"}
    retrains = {f"retrain-{seed}": {**retrain, "seed": seed} for seed in range(3)}  # r2 is a fourth
    YAML().dump({"cells": {"mask-1": cell, "mask-0": own, **retrains}}, Path("recipe.yaml"))
    ok("run", *PRESET, "--params", "recipe.yaml")
    words = ["audit", "--ensemble", "recipe.yaml", *PRESET]
    text = ok(*words)
    assert "output_mask on sasrec, request interactions: 2 runs," in text
    assert "KLoM not judged: 2 of 32 runs, 4 of 32 Retrains; one more: srun run" in text
    assert "--params recipe.yaml" in text
    monkeypatch.setattr("srun.metrics.klom.LEAST", 2)
    [mask] = [one for one in json.loads(ok(*words, "--json")) if one["method"] == "output_mask"]
    assert (mask["num_runs"], mask["num_retrains"], mask["klom"]["size"]) == (2, 4, 2)
    assert mask["klom"]["gaussian"]["median"] > mask["klom"]["gaussian_null"]["median"]
    assert mask["pass_share"] == 0
    assert json.loads(Path("reports/audit/ensemble-sasrec-interactions-output_mask.json").read_text()) == mask
    assert "20 bins" in ok(*words)
    for wrong in ([*words, FOLDER.format("sruga-0")], [*words, "--budget", "1"], ["audit", *PRESET]):
        assert CliRunner().invoke(cli, wrong).exit_code == 2


def test_a_folder_that_is_no_cells_model_is_refused_in_a_line(flow: Path) -> None:
    result = CliRunner().invoke(cli, ["audit", "models/sasrec-0/original", *PRESET])
    assert result.exit_code == 1
    assert "not the model of a cell" in result.output
    (flow / "evaluations/sasrec-0/interactions/sruga-0/report.json").unlink()
    result = CliRunner().invoke(cli, ["audit", FOLDER.format("sruga-0"), *PRESET])
    assert result.exit_code == 1
    assert "`srun evaluate " in result.output
