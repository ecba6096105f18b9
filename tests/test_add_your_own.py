"""Adding a method or a model is one file, one line in a list and one block in params.yaml, and nothing else."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from shutil import copy, copytree, ignore_patterns

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Template:
    """A file of docs/templates, and where it goes."""

    file: str
    package: str
    section: str
    """Of params.yaml."""
    neighbour: str
    """An entry of the list and of the section, before which the new one is put."""

    @property
    def text(self) -> str:
        return (ROOT / "docs/templates" / self.file).read_text()

    @property
    def line(self) -> str:
        """The line of the list, as the template tells it."""
        return re.search(r'import: ("\w+": \w+,)$', self.text, re.MULTILINE)[1]

    @property
    def block(self) -> str:
        """The block of params.yaml, as the template tells it."""
        return re.search(r"params\.yaml: (\w+: \{.*\})$", self.text, re.MULTILINE)[1]

    @property
    def name(self) -> str:
        return self.block.partition(":")[0]

    def install(self, project: Path) -> None:
        """Do to a copy of the project what the template says, and nothing else."""
        package = project / "src/srun" / self.package
        (package / f"{self.name}.py").write_text(self.text)
        listing = package / "__init__.py"
        cls = self.line.split()[1].rstrip(",")
        text = listing.read_text().replace(
            "from srun.registry", f"from srun.{self.package}.{self.name} import {cls}\nfrom srun.registry", 1
        )
        entry = f'        "{self.neighbour}": '
        assert text.count(entry) == 1
        listing.write_text(text.replace(entry, f"        {self.line}\n{entry}"))
        params = (project / "params.yaml").read_text()
        before, heading, inside = params.partition(f"\n{self.section}:")
        entry = f"\n  {self.neighbour}:"
        assert heading
        assert entry in inside
        (project / "params.yaml").write_text(before + heading + inside.replace(entry, f"\n  {self.block}{entry}", 1))


METHOD = Template("method.py", "unlearning", "unlearn", "finetune_only")
MODEL = Template("model.py", "models", "model", "gru4rec")
PRESET = {
    "data": {"name": "tiny"},
    "prepare": {"filter": "none", "max_length": 6},
    "partition": {"interactions": {"share_of_users": 0.5}},
    "requests": ["interactions"],
    "train": {"max_epochs": 2, "evaluate_every": 1, "patience": 2, "batch_size": 64},
    "evaluate": {"batch_size": 64},
    "relearning": {"kinds": []},
    "runtime": {"threads": 1, "tracking": False},
    "originals": {"own": {"model": MODEL.name, "seed": 0, "shards": 1}},
    "cells": {
        method: {"request": "interactions", "original": "own", "method": method, "seed": 0}
        for method in ("original", "retrain", METHOD.name)
    },
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package, its parameters and its contract tests, with both templates installed."""
    folder = tmp_path_factory.mktemp("project")
    copytree(ROOT / "src/srun", folder / "src/srun", ignore=ignore_patterns("__pycache__", "project"))
    for name in ("params.yaml", "pyproject.toml"):
        copy(ROOT / name, folder / name)
    for name in ("conftest.py", "unlearning/test_contract.py", "models/test_contract.py"):
        (folder / "tests" / name).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / "tests" / name, folder / "tests" / name)
    METHOD.install(folder)
    MODEL.install(folder)
    YAML().dump(PRESET, folder / "tiny.yaml")
    rng = np.random.default_rng(0)
    rows = [f"u{user},i{rng.integers(30)},{time}" for user in range(60) for time in range(int(rng.integers(6, 14)))]
    (folder / "log.csv").write_text("\n".join(["user,item,time", *rows]) + "\n")
    return folder


def python(project: Path, *words: str) -> str:
    """Run Python on the copy and return what it wrote."""
    environment = {**os.environ, "PYTHONPATH": str(project / "src")}
    command = [sys.executable, *words]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("template", [METHOD, MODEL], ids=["method", "model"])
def test_a_template_is_short(template: Template) -> None:
    assert len(template.text.splitlines()) <= 40


@pytest.mark.slow
def test_a_new_method_and_a_new_model_go_through_the_whole_flow_to_the_page(project: Path) -> None:
    python(project, "-m", "srun", "data", "import", "log.csv", "--name", "tiny")
    python(project, "-m", "srun", "run", "--params", "tiny.yaml", "--out", "out")
    results = pd.read_csv(project / "out/reports/results.csv")
    assert set(results["model"]) == {MODEL.name}
    own = results[results["method"] == METHOD.name]
    assert {"test", "forget_report", "cost"} <= set(own["split"])
    assert {"seconds", "processor_seconds", "target_gradients"} <= set(own[own["split"] == "cost"]["metric"])
    page = (project / "out/reports/index.html").read_text()
    for shown in ("Shrink", "rows of forgotten items moved toward the mean", "Mean of recent items"):
        assert shown in page, shown


@pytest.mark.slow
@pytest.mark.parametrize("template", [METHOD, MODEL], ids=["method", "model"])
def test_a_new_entry_inherits_the_contract_tests(project: Path, template: Template) -> None:
    said = python(project, "-m", "pytest", f"tests/{template.package}/test_contract.py", "-k", template.name)
    assert int(re.search(r"(\d+) passed", said)[1]) >= 8
