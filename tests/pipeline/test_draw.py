"""A core request in the flow: an Original that no row starts from draws it, to the same bits wherever that is done."""

import json
import shutil
from pathlib import Path
from typing import Any

import networkx
import numpy as np
import pytest
from click.testing import CliRunner, Result
from dvc.repo import Repo
from ruamel.yaml import YAML
from safetensors.numpy import load_file

from srun.cli import cli
from srun.data.dataset import Dataset, Role
from srun.errors import ConfigError
from srun.flow import draw, stages
from srun.flow.layout import Layout
from srun.flow.params import load
from srun.flow.preflight import check_cell, check_flow
from srun.flow.project import Project

ORIGINALS = {f"sasrec-{seed}": {"model": "sasrec", "seed": seed, "shards": 1} for seed in (0, 2)}
CELLS = {
    method: {"request": "core", "original": "sasrec-0", "method": method, "seed": 0} for method in ("original", "sruga")
}
CORE = {
    "prepare": {"calibration_events": 0.3},
    "partition": {"core": {"share_of_events": 0.1}},
    "requests": ["core"],
    "originals": ORIGINALS,
    "cells": CELLS,
}
DRAWING = ["train sasrec-2", "levels sasrec-2", "draw sasrec-2", "partition core"]
AFTER = ["train sasrec-0", "levels sasrec-0"]
ALL = ["prepare", *DRAWING, *AFTER, *(f"{stage} {row}" for row in CELLS for stage in ("unlearn", "evaluate"))]
ALL += ["judge", "report"]
P = ("--params", "tiny.yaml", "--params", "core.yaml")


@pytest.fixture
def tiny(project: Path) -> Path:
    YAML().dump(CORE, project / "core.yaml")
    assert invoke("data", "import", "log.csv", "--name", "tiny").exit_code == 0
    return project


def invoke(*words: str) -> Result:
    return CliRunner().invoke(cli, list(words))


def opened(tiny: Path, *changes: str, out: str = "out") -> Project:
    params = load(tiny / "params.yaml", [tiny / "tiny.yaml", tiny / "core.yaml"], changes)
    return Project(params, Layout(tiny, tiny / out))


def left(tiny: Path, *changes: str) -> list[str]:
    """The steps that are stale by themselves under changed parameters."""
    return [step.name for step in stages.whole_plan(opened(tiny, *changes)) if step.stale()]


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a run but those of what was measured, which reports show too."""
    files = (path for part in ("data", "models", "evaluations") for path in (folder / part).rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.is_file()}


def stop(*args: Any) -> None:
    raise KeyboardInterrupt


def test_a_flow_draws_before_it_partitions_and_what_was_killed_comes_to_the_same_bits(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = stages.run(opened(tiny))
    assert whole["done"] == ALL
    with monkeypatch.context() as patched:
        patched.setattr(draw, "save_draws", stop)
        with pytest.raises(KeyboardInterrupt):
            stages.run(opened(tiny, out="again"))
    assert not (tiny / "again/data/draws").exists()
    assert stages.run(opened(tiny, out="again"))["done"] == ALL[ALL.index("draw sasrec-2") :]
    expected = contents(tiny / "out")
    assert expected["data/draws/sasrec-2/core.safetensors"]
    assert contents(tiny / "again") == expected
    assert stages.run(opened(tiny))["done"] == []

    data = Dataset.load(tiny / "out/data/prepared")
    drawn = load_file(tiny / "out/data/draws/sasrec-2/core.safetensors")["removed"]
    record = json.loads((tiny / "out/data/draws/sasrec-2/info.json").read_text())["requests"]["core"]["drawn"]
    assert drawn.sum() == record["num_events"] == round(0.1 * int((data.role == Role.TRAIN).sum()))
    assert record["expected_memory"] > record["expected_memory_of_all"]
    assert (load_file(tiny / "out/data/partition/core/masks.safetensors")["removed"] == drawn).all()
    told = json.loads((tiny / "out/data/partition/core/info.json").read_text())
    assert told["num_forget"] == drawn.sum()
    assert {key: told["request"][key] for key in ("expected", "original")} == {
        "expected": "most",
        "original": "sasrec-2",
    }

    assert left(tiny, "partition.core.share_of_events=0.2") == ["draw sasrec-2", "partition core"]
    assert left(tiny, "partition.core.catalogue=retained") == ["partition core"]
    assert "draw sasrec-2" in left(tiny, "levels.folds=3")
    shutil.rmtree(tiny / "out/runs/private/sasrec-2")
    assert left(tiny) == [], "as after a pull: nothing is to be drawn, so nothing misses the table"
    lost = ["levels sasrec-2", "draw sasrec-2", "partition core"]
    assert left(tiny, "partition.core.expected=least") == lost
    edge = stages.run(opened(tiny, "partition.core.expected=least"))
    assert edge["done"][: len(lost)] == lost
    again = load_file(tiny / "out/data/draws/sasrec-2/core.safetensors")["removed"]
    assert again.sum() == drawn.sum()
    assert not np.array_equal(again, drawn)


def test_each_stage_by_itself_says_what_it_misses(tiny: Path) -> None:
    assert invoke("prepare", *P).exit_code == 0
    said = invoke("partition", *P)
    assert said.exit_code == 1
    assert 'data/draws/sasrec-2: request "core" is of events that sasrec-2 draws, and they are not there' in said.output
    assert f"`srun draw --original sasrec-2 {' '.join(P)}`" in said.output
    for words in (("train", "--original", "sasrec-2"), ("draw", "--original", "sasrec-2"), ("partition",)):
        done = invoke(*words, *P)
        assert done.exit_code == 0, done.output
    other = invoke("partition", *P, "--set", "partition.core.share_of_events=0.2")
    assert 'request "core" was not drawn as partition.core says; run `srun draw --original sasrec-2' in other.output
    assert invoke("draw", *P, "--original", "sasrec-0").exit_code == 0
    assert json.loads((tiny / "data/draws/sasrec-0/info.json").read_text())["requests"] == {}


JUDGED = (
    'cells.sruga: sasrec-2 drew the events of request "core", so no row is judged that starts from it; give the row'
)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["cells.sruga.original=sasrec-2"], JUDGED),
        (
            ["partition.core.original=sasrec-7"],
            '"partition.core.original": unknown "sasrec-7", expected one of sasrec-0',
        ),
        (["originals.sasrec-2.shards=3"], '"partition.core.original": sasrec-2 has shards'),
        (["partition.core.file=mine.csv"], '"core" is drawn, and a request of your own has a name of its own'),
    ],
)
def test_a_drawer_that_cannot_be_is_told_by_every_command(tiny: Path, changes: list[str], said: str) -> None:
    shown = invoke("params", *P, *(word for change in changes for word in ("--set", change)))
    assert shown.exit_code == 1
    assert said in shown.output
    with pytest.raises(ConfigError) as caught:
        opened(tiny, *changes)
    assert said in str(caught.value)


def test_a_row_of_the_drawer_is_left_out_or_refused_where_it_would_be_put_on_its_request(tiny: Path) -> None:
    row = "cells.drawer={request: interactions, original: sasrec-2, method: original, seed: 2}"
    project = opened(tiny, "requests=[core, interactions]", row)
    assert set(project.only("core").params.cells) == set(CELLS)
    assert "drawer" in project.only("interactions").params.cells
    with pytest.raises(ConfigError, match='sasrec-2 drew the events of request "core"'):
        check_cell(project.params, project.params.with_request("core").cells["drawer"])


def test_what_expected_memory_is_learned_from_has_to_be_there(tiny: Path) -> None:
    project = opened(tiny, "levels.folds=0", "prepare.calibration_events=0.0", "unlearn.sruga.level=pooled")
    with pytest.raises(ConfigError) as caught:
        check_flow([(project.params, project.layout)])
    text = str(caught.value)
    assert "partition.core: expected memory is learned from events set aside" in text
    assert "partition.core: expected memory needs cross-fitted models, and levels.folds is 0" in text


def test_an_original_that_draws_nothing_of_the_flow_is_not_asked_for_a_table(tiny: Path) -> None:
    changes = ("requests=[interactions]", "cells.original.request=interactions", "cells.sruga.request=interactions")
    steps = [step.name for step in stages.whole_plan(opened(tiny, *changes))]
    assert steps[:3] == ["prepare", "partition interactions", "train sasrec-0"]
    assert not [name for name in steps if name.endswith("sasrec-2")]


def test_dvc_draws_after_training_and_partitions_after_that(tmp_path: Path) -> None:
    """The whole graph of the project's own dvc.yaml has no cycle, and what draws stands before what is judged."""
    folder = tmp_path / "fresh"
    assert invoke("init", str(folder)).exit_code == 0
    graph = Repo(str(folder)).index.graph
    assert networkx.is_directed_acyclic_graph(graph)
    by_name = {getattr(stage, "name", None): stage for stage in graph}
    before = {getattr(stage, "name", None) for stage in networkx.descendants(graph, by_name["partition@core"])}
    assert {"draw@sasrec-2", "levels@sasrec-2", "train@sasrec-2", "prepare"} <= before
    assert not [name for name in before if name and name.startswith(("partition", "unlearn", "evaluate"))]
    assert by_name["partition@core"] in networkx.descendants(graph, by_name["unlearn@sasrec-sruga"])
