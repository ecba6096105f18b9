"""`dvc repro` on a tiny data set: it runs, then does nothing, and a changed weight re-runs what depends on it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from srun.cli import cli
from srun.params import NAMED, load_values

ROOT = Path(__file__).parents[2]


def run(*words: str, cwd: Path) -> str:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def stages_run(output: str) -> set[str]:
    return set(re.findall(r"Running stage '([^']+)'", output))


@pytest.mark.slow
def test_repro_runs_once_and_then_only_what_changed(project: Path) -> None:
    assert CliRunner().invoke(cli, ["data", "import", "log.csv", "--name", "tiny"]).exit_code == 0
    values = load_values(Path("params.yaml"), [Path("tiny.yaml")])
    assert set(NAMED) <= set(values)
    values["cells"] = {
        name: cell for name, cell in values["cells"].items() if "original" not in name and "-2" not in name
    }
    yaml = YAML()
    yaml.dump(values, project / "params.yaml")
    (project / "src").symlink_to(ROOT / "src")
    run("git", "init", "-q", cwd=project)
    run("dvc", "init", "-q", cwd=project)
    run("dvc", "config", "core.analytics", "false", cwd=project)

    first = stages_run(run("dvc", "repro", "report", cwd=project))
    assert "report" in first
    assert "unlearn@sasrec-sruga-0" in first
    assert "Data and pipelines are up to date" in run("dvc", "repro", "report", cwd=project)

    values["unlearn"]["sruga"]["ascent_weight"] = 0.25
    yaml.dump(values, project / "params.yaml")
    again = stages_run(run("dvc", "repro", "report", cwd=project))
    assert again == {"unlearn@sasrec-sruga-0", "evaluate@sasrec-sruga-0", "report"}
    assert "ndcg_10" in run("dvc", "metrics", "show", cwd=project)
