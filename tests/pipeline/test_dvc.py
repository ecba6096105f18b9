"""`dvc repro` on tiny data: it runs, then does nothing, here or in a clone; a changed weight re-runs what it must."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from ruamel.yaml import YAML
from safetensors.numpy import load_file

from srun.data.importing import read_import
from srun.data.raw import canonical, write_raw
from srun.flow.params import NAMED, load_values

ROOT = Path(__file__).parents[2]
LOSS = "loss.mean().backward()"
CELLS = [("retrain", 0), ("retrain", 1), ("sruga", 0), ("closed_form", 0)]
DATA = "ml-100k"
"""The data set that data.dvc pins."""


def stdout(*words: str, cwd: Path, stderr: int = subprocess.DEVNULL) -> str:
    """What a command prints; its srun is the package in src/ of the folder, which a test may change."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment |= {"PYTHONPATH": str(cwd / "src")}
    done = subprocess.run(
        words, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def run(*words: str, cwd: Path) -> str:
    """The same, and what it says beside it."""
    return stdout(*words, cwd=cwd, stderr=subprocess.STDOUT)


def stages() -> dict[str, Any]:
    """What dvc.yaml says of each stage."""
    found = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
    return {name: stage.get("do", stage) for name, stage in found.items()}


ALWAYS = {name for name, stage in stages().items() if stage.get("always_changed")}
"""Stages that run at every repro, and that status always names."""


def repro(*targets: str, cwd: Path) -> set[str]:
    """The stages that a repro runs, but for those that always run."""
    ran = re.findall(r"Running stage '([^']+)'", run("dvc", "repro", *targets, cwd=cwd))
    return {name for name in ran if name.partition("@")[0] not in ALWAYS}


def make_project(project: Path, beside: Path) -> dict[str, Any]:
    """A repository whose fetch copies a tiny log in the place of MovieLens; returns its parameters."""
    found = read_import(project / "log.csv")
    write_raw(beside / "mirror", canonical(found.interactions, None, name=DATA, time=found.time))
    flow = (project / "dvc.yaml").read_text()
    fetch = f"srun data fetch {DATA} --out data/source/{DATA}"
    copied = f"mkdir -p data/source && cp -r {beside}/mirror data/source/{DATA}"
    assert fetch in flow
    (project / "dvc.yaml").write_text(flow.replace(fetch, copied))
    pinned = YAML(typ="safe").load((ROOT / "data.dvc").read_text())
    paths = {key: [{"path": entry["path"]} for entry in pinned[key]] for key in ("deps", "outs")}
    YAML().dump(paths, project / "data.dvc")
    for name in (".gitignore", "data/.gitignore", "reports/.gitignore"):
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text((ROOT / name).read_text())

    values = load_values(project / "params.yaml", [project / "tiny.yaml"])
    assert set(NAMED) <= set(values)
    values["data"]["name"] = DATA
    values["unlearn"]["closed_form"]["strength"] = 3.0  # as nothing else there
    values["levels"]["folds"], values["prepare"]["calibration_events"] = 2, 0.5
    values["partition"]["core"] |= {"original": "sasrec-1", "share_of_events": 0.05}
    values["requests"] = ["interactions", "core"]
    values["originals"]["sasrec-1"] = {**values["originals"]["sasrec-0"], "seed": 1}
    values["cells"] = {
        f"sasrec-{method}-{seed}": {"request": "interactions", "original": "sasrec-0", "method": method, "seed": seed}
        for method, seed in CELLS
    }
    values["cells"]["core-retrain-0"] = {**values["cells"]["sasrec-retrain-0"], "request": "core"}
    values["audits"] = ["sasrec-sruga-0"]
    YAML().dump(values, project / "params.yaml")
    ignored = {"__pycache__", "project"}
    copytree(ROOT / "src/srun", project / "src/srun", ignore=lambda folder, names: ignored & set(names))
    run("git", "init", "-q", cwd=project)
    run("dvc", "init", "-q", cwd=project)
    run("dvc", "config", "core.analytics", "false", cwd=project)
    return values


def check_clones(project: Path, beside: Path) -> None:
    """A clone that pulls is clean and runs nothing; one without a remote makes its data with one command."""
    as_somebody = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    run("dvc", "remote", "add", "-d", "local", str(beside / "remote"), cwd=project)
    run("git", "add", "-A", cwd=project)
    run("git", *as_somebody, "commit", "-qm", "all", cwd=project)
    run("dvc", "push", "-q", cwd=project)
    pulled, alone = beside / "pulled", beside / "alone"
    for clone in (pulled, alone):
        run("git", "clone", "-q", str(project), str(clone), cwd=project)

    run("dvc", "pull", "-q", cwd=pulled)
    changed = json.loads(run("dvc", "status", "--json", cwd=pulled))
    assert {name.partition("@")[0] for name in changed} <= ALWAYS
    assert repro(cwd=pulled) == set()
    left = json.loads(stdout("srun", "run", "--budget", "0", "--json", cwd=pulled))["left"]
    assert left == [], "what was pulled is up to date for srun run too"
    check_private_tables(project, pulled, beside)
    assert repro("prepare", cwd=alone) == {"fetch", "prepare"}
    for clone in (pulled, alone):
        assert run("git", "status", "--porcelain", cwd=clone) == ""


def check_private_tables(project: Path, pulled: Path, beside: Path) -> None:
    """No cache and no remote has the table; where it is missed, it is made first, to the same bits."""
    table = (project / "runs/private/sasrec-0/crossfit.safetensors").read_bytes()
    for place in (project / ".dvc/cache", beside / "remote", pulled):
        files = [file for file in place.rglob("*") if file.is_file()]
        assert files
        assert not [file for file in files if table in file.read_bytes()], place
    changed = ("srun", "unlearn", "--method", "closed_form", "--set", "unlearn.closed_form.strength=9")
    assert "its private table is not here and is made first" in run(*changed, cwd=pulled)
    assert (pulled / "runs/private/sasrec-0/crossfit.safetensors").read_bytes() == table
    edit(pulled / "params.yaml", "strength: 3.0", "strength: 9.0")
    again = {"unlearn@sasrec-closed_form-0", "evaluate@sasrec-closed_form-0", "judge", "report"}
    again |= {"audit@sasrec-sruga-0"}  # by the folder of evaluations; it finds that nothing of its own has changed
    assert repro(cwd=pulled) == again, "and no table: DVC has what the stage says of the one that was pushed"
    run("git", "checkout", "-q", ".", cwd=pulled)


def check_draws(project: Path) -> None:
    """An Original without a request to draw says so; the events that another draws are what is forgotten."""
    assert json.loads((project / "data/draws/sasrec-0/info.json").read_text())["requests"] == {}
    drawn = load_file(project / "data/draws/sasrec-1/core.safetensors")["removed"]
    assert drawn.any()
    assert (load_file(project / "data/partition/core/masks.safetensors")["removed"] == drawn).all()


def edit(file: Path, before: str, after: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert before in text
    file.write_text(text.replace(before, after, 1), encoding="utf-8")


def changed_stages(project: Path) -> set[str]:
    """The stages that DVC finds changed themselves, once the digests are those of now."""
    run("srun", "digests", cwd=project)
    return {name for name in json.loads(run("dvc", "status", "--json", cwd=project)) if name not in ALWAYS}


def check_code(project: Path) -> None:
    """DVC and `srun run` see the same changes of code; what is accepted is so in both."""
    source, changed = project / "src/srun", "\nCHANGED = 1\n"
    fit, ascent, relearning = (
        source / name for name in ("training/fit.py", "unlearning/sruga/ascent.py", "evaluation/relearning.py")
    )
    edit(fit, '"""', '"""In other words: ')
    assert changed_stages(project) == set()
    relearning.write_text(relearning.read_text(encoding="utf-8") + changed, encoding="utf-8")
    evaluated = {f"evaluate@sasrec-{cell}-{seed}" for cell, seed in CELLS}
    assert changed_stages(project) == evaluated | {"evaluate@core-retrain-0", "audit@sasrec-sruga-0"}
    edit(relearning, changed, "")
    edit(fit, LOSS, "(100 * loss.mean()).backward()")
    assert "train@sasrec-0" in changed_stages(project)
    edit(fit, "(100 * loss.mean()).backward()", LOSS)

    ascent.write_text(ascent.read_text(encoding="utf-8") + changed, encoding="utf-8")
    again = {"unlearn@sasrec-sruga-0", "judge", "report"}
    assert repro(cwd=project) == again, "the model comes back to the same bytes, its seconds do not"
    assert json.loads(stdout("srun", "run", "--json", cwd=project))["done"] == []
    edit(ascent, changed, changed.replace("1", "2"))
    accepted = json.loads(stdout("srun", "accept", "--json", cwd=project))
    assert accepted["accepted"] == {"unlearn sasrec-sruga-0": ["code of srun.unlearning.sruga.ascent changed"]}
    run(*accepted["dvc"].split(), cwd=project)
    assert repro(cwd=project) == set()


@pytest.mark.slow
def test_repro_runs_once_then_in_a_pulled_clone_nothing_then_only_what_changed(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    beside = tmp_path_factory.mktemp("beside")
    values = make_project(project, beside)
    first = repro(cwd=project)
    assert {"fetch", "levels@sasrec-0", "draw@sasrec-1", "unlearn@sasrec-sruga-0", "report"} <= first
    check_draws(project)
    assert repro(cwd=project) == set()
    check_clones(project, beside)

    check_code(project)
    values["unlearn"]["sruga"]["ascent_weight"] = 0.25
    YAML().dump(values, project / "params.yaml")
    again = {f"{stage}@sasrec-sruga-0" for stage in ("unlearn", "evaluate", "audit")}
    assert repro(cwd=project) == again | {"judge", "report"}
    assert "ndcg_10" in run("dvc", "metrics", "show", cwd=project)


def test_what_dvc_does_not_cache_is_in_git() -> None:
    """Else `dvc pull` does not bring it, and a fresh clone is never clean."""
    for name, stage in stages().items():
        entries = [entry for key in ("outs", "metrics") for entry in stage.get(key, []) if isinstance(entry, dict)]
        for path, options in (item for entry in entries for item in entry.items()):
            if name not in ALWAYS and options.get("cache") is False:
                one = re.sub(r"\$\{[^}]*\}", "x", path)
                ignored = subprocess.run(["git", "check-ignore", "-q", one], cwd=ROOT, check=False).returncode
                assert ignored == 1, f"dvc.yaml {name}: neither DVC nor git keeps {path}"
