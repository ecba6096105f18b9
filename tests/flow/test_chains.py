"""A chain of requests in the flow: where each cell starts from, what becomes of the private table, what is refused."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from srun.data.dataset import Dataset
from srun.data.raw import write_raw
from srun.errors import CheckpointError, ConfigError, DataError
from srun.flow.layout import Layout
from srun.flow.loading import require_crossfit, weights_sha256
from srun.flow.params import load
from srun.flow.preflight import check_flow
from srun.flow.project import Project
from srun.flow.stages import check_partition, crossfit_step, partition_step, plan, take, unlearn_step
from srun.requests.partition import Partition

FILE = Path(__file__).parents[2] / "params.yaml"
METHODS = ("original", "retrain", "closed_form")
CELLS = {
    f"{request}-{method}": {"request": request, "original": "o", "method": method, "seed": 0}
    for request in ("june", "may")
    for method in METHODS
}


def drawn(seed):
    return {
        **{"kind": "interactions", "share_of_users": 0.4, "max_share_of_items": 0.5},
        **{"catalogue": "full", "seed": seed},
    }


def params_of(*sets, cells=CELLS, chain="{june: may}"):
    small_model = ["model.sasrec.hidden=8", "model.sasrec.blocks=1", "train.max_epochs=2", "train.patience=2"]
    prepared = ["prepare.filter=none", "prepare.calibration_events=0.3", "data.name=tiny", "levels.folds=2"]
    requests = [f"partition.{name}={json.dumps(drawn(seed))}" for seed, name in enumerate(("may", "june"))]
    laid = [f"originals={json.dumps({'o': {'model': 'sasrec', 'seed': 0, 'shards': 1}})}", "requests=[may, june]"]
    runtime = ["runtime.device=cpu", "runtime.tracking=false", "runtime.threads=1", "evaluate.sampled=false"]
    own = [f"cells={json.dumps(cells)}", f"chain={chain}"]
    return load(FILE, [], [*small_model, *prepared, *requests, *laid, *runtime, *own, *sets])


@pytest.fixture(scope="module")
def layout(small, tmp_path_factory):
    root = tmp_path_factory.mktemp("chain")
    write_raw(root / "data/raw/tiny", small.make_raw(small.random_events(60, 30)))
    return Layout(root, root)


@pytest.fixture(scope="module")
def project(layout):
    made = Project(params_of(), layout)
    check_flow([(made.params, made.layout)])
    take(made, plan(made), None)
    return made


def info_of(layout, cell):
    return json.loads((layout.cell(cell).model / "model.json").read_text())


def test_earlier_requests_come_first_and_a_second_run_does_nothing(project):
    names = [step.name for step in plan(project)]
    assert names.index("partition may") < names.index("partition june")
    for method in METHODS:
        assert names.index(f"unlearn may-{method}") < names.index(f"unlearn june-{method}")
    assert not [step.name for step in plan(project) if step.stale()]


def test_a_cell_goes_on_from_the_same_methods_model(project, layout):
    cells = project.params.cells
    started = weights_sha256(layout.cell(cells["may-closed_form"]).model)
    assert info_of(layout, cells["june-closed_form"])["start_sha256"] == started
    assert "start_sha256" not in info_of(layout, cells["june-retrain"])  # from scratch
    original = weights_sha256(layout.original("o").model)
    assert weights_sha256(layout.cell(cells["june-original"]).model) == original
    assert "unlearn may-closed_form" in unlearn_step(project, cells["june-closed_form"]).needs


def test_what_was_forgotten_before_is_evaluated_too(project, layout):
    for method in METHODS:
        report = json.loads(
            (layout.cell(project.params.cells[f"june-{method}"]).evaluation / "report.json").read_text()
        )
        assert report["metrics"]["forgotten_earlier"]["num_events"] > 20
        assert report["request"]["after"] == ["may"]


def test_the_private_table_has_no_number_of_an_erased_event_and_is_made_anew_without_them(project, layout):
    data = Dataset.load(layout.prepared)
    may = Partition.load(layout.partition("may"), data)
    june = Partition.load(layout.partition("june"), data)
    erased = require_crossfit(layout, "o", data)
    assert np.isnan(erased.z[may.gone]).all()
    assert np.isfinite(erased.z[june.forget_queries().event]).all()
    told = crossfit_step(project, "o", after="may").run()
    again = require_crossfit(layout, "o", data)
    assert np.isnan(again.z[may.gone]).all()
    assert np.isfinite(again.z[june.forget_queries().event]).all()
    assert (again.z != erased.z)[np.isfinite(erased.z)].any()  # other models, which never saw what is erased
    assert told["processor_seconds"] > 0
    assert json.loads((layout.root / "runs/measured/o/crossfit.json").read_text())["cost"]["seconds"] > 0
    assert not [step.name for step in plan(project) if step.stale()]


def test_a_cell_that_is_stale_again_gets_its_numbers_back(project, layout):
    changed = Project(params_of("unlearn.closed_form.strength=9"), layout)
    stale = [step.name for step in plan(changed) if step.stale()]
    assert stale == ["levels o", "unlearn may-closed_form", "unlearn june-closed_form"]


def test_another_request_before_it_makes_it_anew(layout, project):
    other = Project(params_of("partition.may.seed=5"), layout)
    assert "partition may" in [step.name for step in plan(other) if step.stale()]
    alone = Project(params_of(chain="{}"), layout)
    with pytest.raises(DataError, match=r"after is may there and None in the parameters; run `srun partition"):
        check_partition(alone, "june")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cells": {"c": CELLS["june-closed_form"]}}, r"goes on from request \"may\" on o by closed_form with seed 0"),
        (
            {"cells": {"c": {**CELLS["june-original"], "method": "output_mask"}}},
            r"output_mask cannot go on from another request, and \"june\" comes after one",
        ),
        ({"chain": "{june: mai}"}, r'"chain.june": unknown "mai", expected one of .*; did you mean "may"'),
        ({"chain": "{jun: may}"}, r'"chain": unknown "jun"'),
        ({"chain": "{june: may, may: june}"}, r'"chain.june": comes after itself'),
    ],
)
def test_what_no_chain_can_do_is_refused_before_work_begins(layout, changes, message):
    with pytest.raises(ConfigError, match=message):
        check_flow([(params_of(**changes), layout)])


def test_a_start_that_is_not_there_is_named_with_its_command(project, layout):
    cell = {**CELLS["june-closed_form"], "seed": 8}
    other = Project(params_of(cells={"c": cell}), layout)
    with pytest.raises(
        CheckpointError, match=r"goes on from it; run `srun unlearn --request may --original o --method"
    ):
        unlearn_step(other, other.params.cells["c"]).run()


def test_a_request_of_ones_own_after_another_is_known_by_its_partition(project, layout, monkeypatch, small):
    """As `srun partition --file --after` makes it, and as later commands find it."""
    data = Dataset.load(layout.prepared)
    may = Partition.load(layout.partition("may"), data)
    event = np.flatnonzero(may.retain)[3]
    row = pd.DataFrame(
        {"user": [data.users["user_id"][data.user[event]]], "item": [data.items["item_id"][data.item[event] - 1]]}
    )
    row.to_csv(layout.root / "july.csv", index=False)
    monkeypatch.chdir(layout.root)
    (layout.root / "params.yaml").write_text(FILE.read_text())
    given = project.with_given("july", "july.csv", None, None, None).with_chain("july", "may")
    told = partition_step(given, "july").run()
    assert told["after"] == ["may"]
    later = Project.open(assignments=["data.name=tiny"])
    assert later.params.chain == {"june": "may", "july": "may"}
    only = later.only("july").params
    assert only.requests == ("may", "july")
    assert {cell.request for cell in only.cells.values()} == {"may", "july"}
