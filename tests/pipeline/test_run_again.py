"""`srun run` does only what is not done: nothing the second time, what depends on a change, what a budget left."""

import json
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner

from srun.cli import cli
from srun.errors import CheckpointError
from srun.flow import stages, train, unlearn
from srun.flow.layout import Layout
from srun.flow.params import load
from srun.flow.project import Project
from srun.progress import Budget

CELLS = (
    "cells={a: {request: interactions, original: sasrec-0, method: original, seed: 0}, "
    "r: {request: interactions, original: sasrec-0, method: retrain, seed: 0}, "
    "s: {request: interactions, original: sasrec-0, method: sruga, seed: 0}}"
)
ALL = ["prepare", "partition interactions", "train sasrec-0"] + [
    f"{stage} {cell}" for cell in "ars" for stage in ("unlearn", "evaluate")
]
SHOWN = ["judge", "report"]
ALL += SHOWN


class Spent(Budget):
    """A budget of a number of steps."""

    def __init__(self, steps: int) -> None:
        super().__init__(0)
        self.steps = steps

    @property
    def spent(self) -> bool:
        self.steps -= 1
        return self.steps < 0


@pytest.fixture
def imported(project: Path) -> Path:
    assert CliRunner().invoke(cli, ["data", "import", "log.csv", "--name", "tiny"]).exit_code == 0
    return project


def run(project: Path, *changes: str, budget: Budget | None = None) -> dict:
    no_table = "unlearn.sruga.level_from=retained"  # levels of cross-fitted models have tests of their own
    params = load(project / "params.yaml", [project / "tiny.yaml"], [CELLS, no_table, *changes])
    return stages.run(Project(params, Layout(project, project / "out")), budget)


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a run but those of what was measured."""
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and "runs" not in str(p)
    }


def times(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_a_second_run_does_nothing_and_says_the_same(imported: Path) -> None:
    first = run(imported)
    assert (first["done"], first["left"]) == (ALL, [])
    before = times(imported / "out")
    second = run(imported, "runtime.threads=2")
    assert times(imported / "out") == before
    assert second == {**first, "done": []}


CHANGES = {
    "unlearn.finetune_only.max_epochs=3": [],
    "evaluate.seed=1": ["evaluate a", "evaluate r", "evaluate s", *SHOWN],
    "train.max_epochs=2": ALL[2:],
    "partition.interactions.seed=1": [step for step in ALL[1:] if step != "train sasrec-0"],
    "prepare.seed=1": ALL,
    "unlearn.sruga.kl_weight=0.5": ["unlearn s", "evaluate s", *SHOWN],
}


def test_a_change_is_followed_by_what_depends_on_it(imported: Path) -> None:
    run(imported)
    assert {change: run(imported, change, budget=Spent(0))["left"] for change in CHANGES} == CHANGES
    assert run(imported, change := list(CHANGES)[-1])["done"] == CHANGES[change]
    assert run(imported, change)["done"] == []


def test_a_changed_request_file_is_carried_out_again(imported: Path) -> None:
    log = [line.split(",") for line in (imported / "log.csv").read_text().splitlines()[1:]]
    request = imported / "request.csv"
    block = "{kind: interactions, file: request.csv, format: null, columns: null, catalogue: full, seed: 0}"
    changes = f"partition.mine={block}", "requests=[mine]", CELLS.replace("interactions", "mine")
    for position, again in ((2, "unlearn r"), (3, "unlearn r")):
        rows = [f"{user},{item}" for user, item, time in log if int(time) == 1000 + position]
        request.write_text("\n".join(["user_id,item_id", *rows]) + "\n")
        done = run(imported, *changes)["done"]
        assert {"partition mine", again} <= set(done)
        assert ("train sasrec-0" in done) == (position == 2)


def test_an_output_of_a_single_stage_is_known_by_what_it_was_made_of(imported: Path) -> None:
    run(imported)
    params = load(imported / "params.yaml", [imported / "tiny.yaml"], [CELLS, "train.max_epochs=2"])
    stages.train_step(Project(params, Layout(imported, imported / "out")), "sasrec-0").run()
    assert run(imported)["done"] == [ALL[2], *SHOWN], "the model comes back to the same bits, its seconds do not"


def test_a_budget_stops_before_a_step_and_the_same_call_ends_with_the_same_result(imported: Path) -> None:
    whole = run(imported)
    expected = contents(imported / "out")
    (imported / "out").rename(imported / "whole")
    stopped = run(imported, budget=Spent(4))
    assert (stopped["done"], stopped["left"]) == (ALL[:4], ALL[4:])
    assert "tables" not in stopped
    rest = run(imported, budget=Budget(60))
    assert (rest["done"], rest["left"]) == (ALL[4:], [])
    assert rest["tables"].keys() == whole["tables"].keys()
    untimed = {name for name in expected if name.startswith(("data", "models", "evaluations", "reports/metrics"))}
    assert {name: contents(imported / "out")[name] for name in untimed} == {name: expected[name] for name in untimed}


def test_the_command_ends_well_and_says_how_to_go_on(imported: Path, caplog: pytest.LogCaptureFixture) -> None:
    words = ["run", "--params", "tiny.yaml", "--out", "out", "--budget", "0"]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0
    assert "left, for the same command to go on with: prepare, partition interactions" in result.output
    assert "the budget of 0 minutes is spent; 16 steps are left, from prepare on" in caplog.text
    assert json.loads(CliRunner().invoke(cli, [*words, "--json"]).stdout)["left"][0] == "prepare"
    assert not [path for path in (imported / "out").rglob("*") if path.is_file()]


def test_similar_shards_with_slices_go_through_the_whole_flow(imported: Path) -> None:
    original = "originals.sasrec-0={model: sasrec, seed: 0, shards: {number: 2, by: similarity, slices: 2}}"
    cells = CELLS.replace("method: sruga", "method: sisa")
    params = load(imported / "params.yaml", [imported / "tiny.yaml"], [original, cells.replace("s: {", "sisa: {")])
    one = Project(params, Layout(imported, imported / "out"))
    before = stages.prepare_step(one), stages.partition_step(one, "interactions"), stages.train_step(one, "sasrec-0")
    for step in (*before, stages.unlearn_step(one, params.cells["sisa"])):
        step.run()
    info = json.loads((imported / "out/models/sasrec-0/interactions/sisa-0/model.json").read_text())
    assert (info["shards"], info["slices"]) == (2, 4)
    source = json.loads((imported / "out/models/sasrec-0/original/model.json").read_text())
    assert source["sharding"] == {"number": 2, "by": "similarity", "slices": 2}


def test_a_model_is_not_ranked_on_another_request_than_its_own(imported: Path) -> None:
    run(imported)
    params = load(imported / "params.yaml", [imported / "tiny.yaml"], [CELLS, "partition.interactions.seed=1"])
    other = Project(params, Layout(imported, imported / "out"))
    stages.partition_step(other, "interactions").run()
    with pytest.raises(CheckpointError, match="made for other data or another request"):
        stages.evaluate_step(other, params.cells["r"]).run()


def test_a_second_flow_or_training_in_one_folder_is_told_what_goes_on(
    imported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Locks are of open files, so that a second one in this process is refused as one of another process is."""
    tiny = ["--params", "tiny.yaml", "--set", "cells={r: {request: interactions, original: sasrec-0, method: retrain, "]
    tiny[-1] += "seed: 0}}"
    said = []

    def beside(stage: ModuleType, *commands: list[str]) -> None:
        work = stage.run

        def begun(*args: object) -> object:
            monkeypatch.setattr(stage, "run", work)
            said.extend(CliRunner().invoke(cli, [*words, *tiny]) for words in commands)
            return work(*args)

        monkeypatch.setattr(stage, "run", begun)

    beside(train, ["run"], ["train"])
    beside(unlearn, ["run"], ["unlearn", "--method", "retrain"], ["unlearn", "--method", "original"])
    first = CliRunner().invoke(cli, ["run", *tiny])
    assert first.exit_code == 0, first.output
    assert [result.exit_code for result in said] == [1, 1, 1, 1, 0], "another row is not kept out"
    flow, models = f"Error: the flow in {imported} (process ", imported / "models/sasrec-0"
    training, unlearning = (
        f"Error: training {models}/original (",
        f"Error: unlearning into {models}/interactions/retrain-0 (",
    )
    for result, begin in zip(said, [flow, training, flow, unlearning], strict=False):
        assert result.output.startswith(begin)
        assert result.output.endswith(
            "goes on already; wait until it ends, or end it, then give the same command again\n"
        )
    assert not list(imported.rglob(".*.held"))
