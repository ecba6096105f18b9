"""The private table of cross-fitted models: what is in it, where it lies, and that it can be erased."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from srun.data.dataset import Dataset, Role
from srun.data.raw import write_raw
from srun.errors import CheckpointError, ConfigError, DataError
from srun.flow import crossfit
from srun.flow.layout import Layout
from srun.flow.loading import require_crossfit
from srun.flow.params import load
from srun.flow.preflight import check_flow
from srun.flow.project import Project
from srun.flow.stages import crossfit_step, erase_from_crossfit, plan, take, train_step, unlearn_step
from srun.requests.partition import Partition

FILE = Path(__file__).parents[2] / "params.yaml"
ORIGINAL = {"o": {"model": "sasrec", "seed": 0, "shards": 1}}
CELLS = {"c": {"request": "interactions", "original": "o", "method": "closed_form", "seed": 0}}


def params_of(*sets: str):
    small_model = ["model.sasrec.hidden=8", "model.sasrec.blocks=1", "train.max_epochs=2", "train.patience=2"]
    prepared = ["prepare.filter=none", "prepare.calibration_events=0.3", "partition.interactions.share_of_users=0.3"]
    laid = [f"originals={json.dumps(ORIGINAL)}", f"cells={json.dumps(CELLS)}", "requests=[interactions]"]
    common = ["data.name=tiny", "runtime.device=cpu", "runtime.tracking=false", "runtime.threads=1", "levels.folds=2"]
    return load(FILE, [], [*common, *small_model, *prepared, *laid, *sets])


@pytest.fixture(scope="module")
def layout(small, tmp_path_factory):
    root = tmp_path_factory.mktemp("crossfit")
    write_raw(root / "data/raw/tiny", small.make_raw(small.random_events(60, 30)))
    return Layout(root, root)


@pytest.fixture(scope="module")
def project(layout):
    made = Project(params_of(), layout)
    take(made, plan(made), None)
    return made


@pytest.fixture
def table(project, layout):
    return require_crossfit(layout, "o", Dataset.load(layout.prepared))


def test_every_event_with_a_context_has_a_number(project, layout, table):
    data = Dataset.load(layout.prepared)
    known = np.isin(data.role, (Role.TRAIN, Role.SET_ASIDE))
    first = np.zeros(data.num_events, dtype=bool)
    train = np.flatnonzero(data.role == Role.TRAIN)
    first[train[np.unique(data.user[train], return_index=True)[1]]] = True
    assert (np.isfinite(table.z) == (known & ~first)).all()


def test_it_lies_beside_what_is_published_and_the_models_are_gone(project, layout):
    assert sorted(path.name for path in (layout.root / "runs/private/o").iterdir()) == [
        *("SHA256SUMS", "crossfit.safetensors", "info.json")
    ]
    assert not list((layout.root / "models").rglob("*crossfit*"))
    assert not list((layout.root / "runs/resume").rglob("*.safetensors"))
    run = json.loads((layout.root / "runs/measured/o/crossfit.json").read_text())
    assert run["cost"]["seconds"] > 0


def test_a_second_run_does_nothing_and_other_folds_make_it_anew(project, layout):
    assert not [step.name for step in plan(project) if step.stale()]
    other = Project(params_of("levels.folds=3"), layout)
    assert [step.name for step in plan(other) if step.stale()] == ["levels o", "unlearn c"]


def test_without_folds_there_is_no_such_step_and_a_plan_says_what_is_missing(layout):
    params = params_of("levels.folds=0")
    assert "levels o" not in [step.name for step in plan(Project(params, layout))]
    with pytest.raises(ConfigError, match=r"levels.folds is 0: set it to 2, or unlearn.closed_form.level_from"):
        check_flow([(params, layout)])
    with pytest.raises(ConfigError, match=r"prepare\.calibration_events is 0"):
        check_flow([(params_of("prepare.calibration_events=0"), layout)])
    check_flow([(params_of("levels.folds=0", "unlearn.closed_form.level_from=retained"), layout)])


def test_one_fold_leaves_nobody_to_train_on():
    with pytest.raises(ConfigError, match="folds 1 leaves no user"):
        params_of("levels.folds=1")


def test_what_says_that_it_was_made_holds_nothing_of_it(layout, project):
    assert json.loads((layout.root / "runs/levels/o.json").read_text()) == {"original": "o"}
    key = (layout.root / "runs/keys/runs/levels/o.json").read_text()
    assert hashlib.sha256((layout.root / "runs/private/o/crossfit.safetensors").read_bytes()).hexdigest() not in key


def test_a_table_that_is_not_here_is_made_only_where_a_cell_needs_it(project, layout, table):
    """As in a clone that pulled everything but what is private."""
    shutil.rmtree(layout.root / "runs/private")
    train_step(project, "o").run()
    assert not [step.name for step in plan(project) if step.stale()]
    changed = Project(params_of("unlearn.closed_form.strength=9"), layout)
    assert [step.name for step in plan(changed) if step.stale()] == ["levels o", "unlearn c"]
    with pytest.raises(CheckpointError, match=r"no pull brings it; run `srun levels --original o`, or predict"):
        require_crossfit(layout, "o", Dataset.load(layout.prepared))
    unlearn_step(project, project.params.cells["c"]).run()
    again = require_crossfit(layout, "o", Dataset.load(layout.prepared))
    assert np.array_equal(again.z, table.z, equal_nan=True)


def test_an_original_that_needs_no_table_has_the_same_files_beside_it(project, layout):
    other = Project(params_of("levels.folds=0"), layout)
    files = layout.root / "runs/levels/o.json", layout.root / "runs/measured/o/crossfit.json"
    before = [file.read_bytes() for file in files]
    crossfit_step(other, "o").run()
    assert json.loads(files[1].read_text())["cost"]["seconds"] == 0
    for file, content in zip(files, before, strict=True):
        file.write_bytes(content)
    crossfit_step(project, "o").output.write_key(crossfit_step(project, "o").parts())


def test_rows_of_a_request_are_erased_and_come_back_only_where_they_are_needed(project, layout, table):
    data = Dataset.load(layout.prepared)
    forgotten = Partition.load(layout.partition("interactions"), data).forget
    old = table.z[forgotten & np.isfinite(table.z)]
    told = erase_from_crossfit(project, "o", "interactions")
    assert told == {"original": "o", "requests": ["interactions"], "erased": len(old)}
    after = require_crossfit(layout, "o", data)
    assert np.isnan(after.z[forgotten]).all()
    assert np.array_equal(after.z[~forgotten], table.z[~forgotten], equal_nan=True)
    assert not [step.name for step in plan(project) if step.stale()]  # the cell that used them stands, too
    with pytest.raises(DataError, match="erased from it"):
        unlearn_step(project, project.params.cells["c"]).run()
    changed = Project(params_of("unlearn.closed_form.strength=9"), layout)
    assert "levels o" in [step.name for step in plan(changed) if step.stale()]
    shutil.rmtree(layout.root / "runs/private")
    crossfit_step(project, "o").run()


def test_no_file_beside_an_erased_table_has_an_old_number(project, layout, table):
    folder, data = layout.root / "runs/private/o", Dataset.load(layout.prepared)
    forgotten = Partition.load(layout.partition("interactions"), data).forget
    planted = np.random.default_rng(0).normal(size=len(table.z)).astype(np.float32)  # each of them found nowhere else
    crossfit._write(folder, planted, json.loads((folder / "info.json").read_text()))
    assert holds(folder, planted[forgotten])
    erase_from_crossfit(project, "o", "interactions")
    assert not holds(folder, planted[forgotten])
    assert holds(folder, planted[~forgotten])
    crossfit_step(project, "o").run()


def holds(folder, numbers):
    """Whether any file of a folder has any of the numbers (float32), at any place."""
    content = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    return any(number.tobytes() in one for one in content for number in numbers)


def test_a_table_of_other_data_is_refused(project, layout, small):
    other = small.make_data(small.random_events(61, 30))
    with pytest.raises(CheckpointError, match=r"made for other data.*run `srun levels --original o`"):
        require_crossfit(layout, "o", other)
    with pytest.raises(CheckpointError, match=r"not here, .*run `srun levels --original nobody`"):
        require_crossfit(layout, "nobody", other)
