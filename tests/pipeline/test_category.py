"""Category requests as a user makes them: `--category`, and `srun neurons`."""

import json
import math
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from srun.cli import cli
from srun.tracking.runs import Tracking

PRESET = ["--params", "tiny.yaml", "--set", "neurons.doses=[0, 2]", "--set", "neurons.max_sequences=30"]
COLOURS = ("red", "green", "red|green", "", "blue, dark")


def srun(*words: str) -> Result:
    return CliRunner().invoke(cli, list(words))


def ok(*words: str) -> Result:
    result = srun(*words)
    assert result.exit_code == 0, result.output
    return result


def write_items(project: Path) -> None:
    items = ["item,title,categories", *(f'i{item},t{item},"{COLOURS[item % 5]}"' for item in range(30))]
    (project / "items.csv").write_text("\n".join(items) + "\n")


@pytest.fixture
def trained(project: Path) -> Path:
    """A tiny project with item categories and an Original."""
    write_items(project)
    ok("data", "import", "log.csv", "--name", "tiny", "--items", "items.csv")
    ok("prepare", *PRESET)
    ok("train", *PRESET)
    return project


def test_a_category_is_unlearned_by_name_and_looked_into(trained: Path) -> None:
    for method in ("attribution", "random_neurons"):
        ok("unlearn", "--method", method, "--category", "red", *PRESET)
    folder = trained / "models/sasrec-0/category-red"
    info = json.loads((folder / "attribution-0/model.json").read_text())
    assert info["request"]["request"]["categories"] == ["red"]
    assert info["request"]["request"]["kind"] == "category"
    pairs = [[edit["layer"], edit["unit"]] for edit in info["edits"]]
    assert pairs == sorted(info["categories"]["red"]["neurons"])
    assert len(info["original_sha256"]) == 64
    drawn = json.loads((folder / "random_neurons-0/model.json").read_text())
    assert len(drawn["edits"]) == len(info["edits"])
    splits = json.loads(ok("evaluate", "--method", "attribution", "--category", "red", *PRESET, "--json").stdout)
    assert {"in_category", "out_of_category"} <= set(splits)

    study = json.loads(ok("neurons", "--category", "red", *PRESET, "--png", "red.png", "--json").stdout)
    assert Path("red.png").read_bytes().startswith(b"\x89PNG")
    assert study["categories"]["red"]["neurons"] == info["categories"]["red"]["neurons"]
    assert {(row["layer"], row["unit"]) for row in study["neurons"] if row["privacy_neuron"]} == set(map(tuple, pairs))
    assert [row["num_neurons"] for row in study["dose"]] == [0, 2]
    assert set(study["overlap"]) | set(study["left_out"]) == set(study["collateral_loss"]) | set(study["left_out"])
    assert {"red", "green"} <= set(study["overlap"]) | set(study["left_out"])
    assert not any(isinstance(value, float) and math.isnan(value) for value in study["dose"][0].values())
    shown = ok("neurons", "--category", "red", *PRESET).stdout
    assert "neurons by P" in shown
    assert "Dose and response" in shown


def test_the_partition_is_made_once_and_again_when_the_request_changes(trained: Path) -> None:
    ok("unlearn", "--method", "original", "--category", "red", *PRESET)
    file = trained / "data/partition/category-red/info.json"
    first = file.stat().st_mtime_ns
    ok("evaluate", "--method", "original", "--category", "red", *PRESET)
    assert file.stat().st_mtime_ns == first
    changed = (*PRESET, "--set", "partition.action.context=all")
    ok("unlearn", "--method", "original", "--category", "red", *changed)
    ok("evaluate", "--method", "original", "--category", "red", *changed)
    assert json.loads(file.read_text())["request"]["context"] == "all"
    ok("partition", "--category", "green", *PRESET)
    assert (trained / "data/partition/category-green").is_dir()


def test_what_cannot_be_asked_is_refused_in_a_line(trained: Path) -> None:
    unlearn = ("unlearn", "--method", "attribution", *PRESET)
    for words, code, message in [
        ((*unlearn, "--category", "redd"), 1, 'did you mean "red"'),
        ((*unlearn, "--category", "red", "--request", "interactions"), 2, "exclude each other"),
        (("partition", "--category", "red", "--request", "interactions", *PRESET), 2, "exclude each other"),
        (("neurons", *PRESET), 1, "--category"),
    ]:
        result = srun(*words)
        assert result.exit_code == code, result.output
        assert message in result.output
    ok("partition", *PRESET)
    result = srun(*unlearn)
    assert result.exit_code == 1
    assert 'not defined for requests of kind "interactions"' in result.output


def test_a_recommender_without_neurons_is_refused(trained: Path) -> None:
    gru = [*PRESET, "--set", "originals.g={model: gru4rec, seed: 0, shards: 1}", "--original", "g"]
    ok("train", *gru)
    result = srun("unlearn", "--method", "attribution", "--category", "red", *gru)
    assert result.exit_code == 1
    assert "GRU4Rec has no feed-forward neurons" in result.output


def test_data_without_categories_are_refused(project: Path) -> None:
    ok("data", "import", "log.csv", "--name", "tiny")
    ok("prepare", *PRESET)
    result = srun("partition", "--category", "red", *PRESET)
    assert result.exit_code == 1
    assert "has no item categories" in result.output


def need_the_request() -> None:
    from srun.flow.project import Project
    from srun.flow.stages import partition_step, partition_where_missing

    project, name = Project.open(["tiny.yaml"], ["runtime.tracking=true"]).with_category("green")
    assert name == "category-green"
    partition_where_missing(project, name)
    assert not partition_step(project, name).stale()


def do_at_once(work: Callable[[], None]) -> None:
    """The same work in three processes that start together; all must succeed."""
    workers = [get_context("fork").Process(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 3


def test_processes_that_need_one_new_request_make_it_once(project: Path) -> None:
    """Workers of a search on a category, started at the same moment; the first run also makes MLflow's store."""
    import mlflow

    write_items(project)
    ok("data", "import", "log.csv", "--name", "tiny", "--items", "items.csv")
    ok("prepare", *PRESET)
    do_at_once(need_the_request)
    mlflow.set_tracking_uri(f"sqlite:///{project}/mlflow.db")
    runs = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert [run.data.tags["stage"] for run in runs] == ["partition"]


def test_of_several_processes_of_one_computation_the_first_makes_the_request(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from srun.flow.project import Project
    from srun.flow.stages import partition_where_missing
    from srun.system import distributed

    waited = []
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    monkeypatch.setattr(distributed, "wait", lambda: waited.append(True))
    partition_where_missing(*Project.open(["tiny.yaml"]).with_category("green"))
    assert not (project / "data/partition").exists()
    assert waited, "for the first one"


def track() -> None:
    with Tracking().run(Path.cwd(), "srun", "a run", {}, None) as tracker:
        tracker.metrics({"loss": 1.0})


def test_processes_that_track_at_once_make_one_store(project: Path) -> None:
    import mlflow

    do_at_once(track)
    mlflow.set_tracking_uri(f"sqlite:///{project}/mlflow.db")
    assert len(mlflow.search_runs(search_all_experiments=True, output_format="list")) == 3
