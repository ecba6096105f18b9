"""`srun audit` on a tiny flow: Original beside a method, Retrains of few, budgets, and what it cannot test."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from srun.cli import cli

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
    assert figures["membership/lira_auc"]["value"] - figures["membership/lira_auc"]["retrain"] == pytest.approx(
        told["value"]
    )
    untested = {one["name"]: one["run"] for one in audit["not_tested"]}
    assert list(untested) == ["relearning", "power", "klom"]
    assert "relearning.kinds=[interactions]" in untested["relearning"]
    assert json.loads(Path("reports/audit/sasrec-sruga-0.json").read_text()) == audit
    assert "<h2>membership</h2>" in Path("reports/audit/sasrec-sruga-0.html").read_text()

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


def test_a_folder_that_is_no_cells_model_is_refused_in_a_line(flow: Path) -> None:
    result = CliRunner().invoke(cli, ["audit", "models/sasrec-0/original", *PRESET])
    assert result.exit_code == 1
    assert "not the model of a cell" in result.output
    (flow / "evaluations/sasrec-0/interactions/sruga-0/report.json").unlink()
    result = CliRunner().invoke(cli, ["audit", FOLDER.format("sruga-0"), *PRESET])
    assert result.exit_code == 1
    assert "`srun evaluate " in result.output
