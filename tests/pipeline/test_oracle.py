"""`srun oracle` on a tiny flow: killed and gone on with, shared by processes, used by `srun audit`."""

import fcntl
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from srun.cli import cli
from srun.files import sha256
from srun.flow.audit import signals_of
from srun.flow.loading import load_dataset
from srun.flow.oracle import Member, Oracle, described, load_oracle, locate, members, scored_events
from srun.flow.project import Project
from srun.models.published import load_published
from srun.requests.partition import Partition
from srun.system.devices import resolve
from srun.training.checkpoint import ResumeFolder

SET = ["prepare.calibration_events=0.4"]
PRESET = ["--params", "tiny.yaml", *(word for value in SET for word in ("--set", value))]
SMALL = ["--originals", "2", "--retrains", "3", "--halves", "2"]


def asked(*words: str) -> Result:
    return CliRunner().invoke(cli, ["oracle", *SMALL, "--json", *PRESET, *words])


def ok(*words: str) -> dict[str, Any]:
    result = asked(*words)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def run(*words: str) -> str:
    result = CliRunner().invoke(cli, [*words, *PRESET])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def prepared(project: Path) -> Path:
    result = CliRunner().invoke(cli, ["data", "import", "log.csv", "--name", "tiny"])
    assert result.exit_code == 0, result.output
    run("prepare")
    return project


def bits(folder: str | Path) -> dict[str, str]:
    """Digests of all weights and scores of an oracle."""
    root = Path(folder)
    files = [*root.glob("models/**/weights.safetensors"), *root.glob("scores/*/*"), root / "scores.parquet"]
    return {str(file.relative_to(root)): sha256(file) for file in files}


def touched(folder: str) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for name in ("models", "scores") for path in Path(folder, name).rglob("*")}


def loaded() -> tuple[Oracle, Partition]:
    project = Project.open(["tiny.yaml"], SET)
    params, layout = project.params, project.layout
    place = locate(layout, "sasrec", params.model_settings("sasrec"), params.train, "interactions")
    evaluated = described(params.evaluate, params.relearning, "interactions")
    oracle = load_oracle(place, "interactions", evaluated)
    assert oracle is not None
    data = load_dataset(layout)
    return oracle, Partition.load(layout.partition("interactions"), data)


def test_members_come_in_turn_and_share_no_seed() -> None:
    names = [member.name for member in members(2, 3, 2)]
    assert names == ["original-1000", "retrain-2000", "halves-3000", "original-1001", "retrain-2001", "retrain-2002"]
    assert len({member.seed for member in members(100, 100, 20)}) == 210


def test_a_killed_oracle_goes_on_to_the_same_bits_and_a_second_call_does_nothing(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ok("--workers", "2")
    assert whole["left"] == []
    assert whole["seeds"] == {"original": [1000, 1001], "retrain": [2000, 2001, 2002], "halves": [3000]}
    assert whole["cost"]["members"] == 6
    assert len(whole["halves_lira_auc"]) == 2
    expected = bits(whole["folder"])
    Path(whole["folder"]).rename(prepared / "whole")

    save, saves = ResumeFolder.save, iter(range(100))

    def interrupted(self: ResumeFolder, *state: Any) -> None:
        save(self, *state)
        if next(saves) in (2, 7):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ResumeFolder, "save", interrupted)
        for _ in range(2):
            stopped = asked()
            assert stopped.exit_code == 130
            assert "go on with `srun oracle " in stopped.stderr
        assert list(Path(whole["folder"], "runs/resume").rglob("state.json")), "it was stopped within a training"
        assert ok()["left"] == []
    assert bits(whole["folder"]) == expected, "whoever trains, and however often it is stopped"
    assert not list(Path(whole["folder"], "runs/resume").rglob("state.json"))

    before = touched(whole["folder"])
    assert ok()["left"] == []
    assert touched(whole["folder"]) == before


@pytest.fixture
def claim(prepared: Path) -> Iterator[Path]:
    """The claim of a Retrain, held as by another process."""
    folder = Path(ok("--budget", "0")["folder"])
    path = folder / "claims/retrain-2001"
    path.parent.mkdir(parents=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield path


def test_what_another_process_makes_is_left_to_it(claim: Path) -> None:
    made = ok()
    assert made["left"] == ["retrain-2001"]
    assert made["seeds"]["retrain"] == [2000, 2002]
    assert "others make now" in CliRunner().invoke(cli, ["oracle", *SMALL, *PRESET]).stdout


def test_a_spent_budget_begins_no_member_and_another_request_or_recipe_has_another_folder(prepared: Path) -> None:
    nothing = ok("--budget", "0")
    assert len(nothing["left"]) == 6
    assert not Path(nothing["folder"], "models").exists()
    smaller = ok("--budget", "0", "--set", "model.sasrec.hidden=4")
    other = ok("--budget", "0", "--set", "partition.interactions.seed=1")
    assert len({made["folder"] for made in (nothing, smaller, other)}) == 3
    again = ok("--budget", "0", "--set", "evaluate.seed=7", "--set", "partition.interactions.seed=0")
    assert again["folder"] == nothing["folder"], "what a member is trained by makes the folder, not how it is ranked"


def test_an_audit_holds_a_model_against_the_oracle_and_says_so(
    prepared: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run("run")
    model = "models/sasrec-0/interactions/sruga-0"
    alone = json.loads(run("audit", model, "--json"))
    assert alone["oracle"] is None
    assert alone["num_retrains"] == 3
    assert alone["figures"].get("by_event/memory_left") is None, "there is no Original of another seed"
    ok("--originals", "3", "--retrains", "4")
    beside = json.loads(run("audit", model, "--json"))
    text = "4 Retrains and 3 Originals of the oracle"
    assert beside["oracle"] == text
    assert beside["num_retrains"] == 4, "in place of the flow's own"
    assert "by_event/memory_left" in beside["figures"]
    for key in (
        "contexts/subsequences_hit_10",
        "side_effects/coverage_10",
        "recovered/own_hit_10",
        "way_back/distance",
    ):
        assert beside["figures"][key]["value"] == pytest.approx(alone["figures"][key]["value"]), key
        assert beside["figures"][key]["retrain"] != alone["figures"][key]["retrain"], key
    assert beside["figures"]["membership/lira_auc"] != alone["figures"]["membership/lira_auc"]
    assert text in Path("reports/audit/sasrec-sruga-0.html").read_text()
    assert text in run("audit", model).replace("\n", " ")

    retrain = json.loads(run("audit", "models/sasrec-0/interactions/retrain-1", "--json"))
    assert retrain["num_retrains"] == 4
    assert retrain["figures"]["way_back/distance_ratio"]["value"] > 0

    oracle, _ = loaded()
    assert [one.name for one in oracle.without({2001, 3000}).rows] == [
        *("original-1000", "retrain-2000", "retrain-2002", "retrain-2003"),
    ]
    caplog.clear()
    ranked = json.loads(run("audit", model, "--json", "--set", "evaluate.seed=7"))
    assert ranked["oracle"] is None
    assert "8 of 8 members were evaluated with other values" in caplog.text


def test_scores_are_those_of_the_models_and_the_table_for_others_holds_ranks_alone(prepared: Path) -> None:
    ok("--ranks", "out/ranks.parquet")
    oracle, request = loaded()
    events, device = scored_events(request), resolve("cpu")
    settings = Project.open(["tiny.yaml"], SET).params.evaluate
    member = Member("retrain", 2001)
    cell = member.cell("interactions")
    assert cell is not None
    scorer = load_published(oracle.layout.cell(cell).model, device)[0]
    kept, fresh = oracle.signals(member, events), signals_of(scorer, events.values(), settings, device)
    for name in ("log_p", "z_logit", "rank"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(fresh, name))
    assert set(pd.read_parquet(oracle.layout.joined)["split"]) == {*events, "test"}

    table = pd.read_parquet("out/ranks.parquet")
    assert list(table.columns) == ["role", "seed", "model", "split", "event", "rank"]
    assert table["rank"].dtype == np.uint16
    assert set(zip(table["role"], table["seed"], table["model"], strict=True)) == {
        *(("original", seed, 0) for seed in (1000, 1001)),
        *(("retrain", seed, 0) for seed in (2000, 2001, 2002)),
        *(("halves", 3000, model) for model in (0, 1)),
    }
    own = table[(table["role"] == "retrain") & (table["seed"] == 2001) & (table["split"] == "forget_report")]
    np.testing.assert_array_equal(own["rank"], np.ceil(fresh.rank[: len(own)]))


def test_what_no_oracle_can_be_of_is_refused_in_a_line(prepared: Path) -> None:
    shards = asked("--set", "originals.sasrec-0.shards=2")
    assert shards.exit_code == 1
    assert "has shards" in shards.output
    odd = asked("--halves", "3")
    assert odd.exit_code == 2
    assert "expected an even number" in odd.output
    empty = asked("--budget", "0", "--ranks", "ranks.parquet")
    assert empty.exit_code == 1
    assert "no member is there yet" in empty.output
