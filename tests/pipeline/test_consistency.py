"""README, params.yaml, presets, dvc.yaml and MLproject name only things that exist."""

import re
import shlex
from pathlib import Path

import click
import pytest
from ruamel.yaml import YAML

from srun.cli import cli
from srun.config import flatten
from srun.flow.digests import stage_code
from srun.flow.layout import Layout
from srun.flow.params import Params, load, load_values
from srun.flow.project import Project
from srun.flow.stages import whole_plan
from srun.models import MODELS
from srun.unlearning import UNLEARNERS

ROOT = Path(__file__).parents[2]
PRESETS = sorted((ROOT / "presets").glob("*.yaml"))
DOCUMENTS = [ROOT / "README.md", ROOT / "Makefile", *sorted((ROOT / "docs").glob("*.md"))]


def commands_in(text: str) -> list[str]:
    """Every `srun ...` command: alone on an indented or code line, in backticks or quotes, or after `cmd:` or `&&`."""
    joined = re.sub(r"(\\|>-)\n\s*", " ", text)
    blocks = (
        "\n".join(re.findall(r"^```sh\n(.*?)^```", joined, re.MULTILINE | re.DOTALL)) if "```" in joined else joined
    )
    found = re.findall(r"(?:^\s*|\"|cmd: +|&& )(srun [a-z][^`\n\"#|&]*)", blocks, re.MULTILINE)
    return [command.strip() for command in found + re.findall(r"`(srun [a-z][^`\n]*)`", joined)]


def check_command(command: str) -> None:
    """Walk a command's words through Click: sub-commands and options must exist."""
    words = shlex.split(re.sub(r"\$?\{[^}]*\}", "1", command))[1:]
    group: click.Command = cli
    while words and isinstance(group, click.Group) and not (group.invoke_without_command and words[0].startswith("-")):
        name = words.pop(0)
        assert name in group.commands, f"{command}: no command {name}"
        group = group.commands[name]
    known = {option for parameter in group.params for option in parameter.opts} | {"--help", "-h"}
    for word in words:
        if word.startswith("--"):
            assert word.partition("=")[0] in known, f"{command}: no option {word}"


@pytest.mark.parametrize("path", [ROOT / "dvc.yaml", ROOT / "MLproject", *DOCUMENTS], ids=lambda path: path.name)
def test_commands_exist(path: Path) -> None:
    commands = commands_in(path.read_text())
    assert commands or path.name not in ("dvc.yaml", "MLproject", "README.md")
    for command in commands:
        check_command(command)


def test_help_examples_exist() -> None:
    def walk(command: click.Command, path: str) -> None:
        if isinstance(command, click.Group):
            for name, child in command.commands.items():
                walk(child, f"{path} {name}")
        if isinstance(command, click.Group) and not command.invoke_without_command:
            return
        examples = commands_in(command.help or "")
        assert any(example.startswith(path) for example in examples), f"{path} --help has no example of itself"
        for example in examples:
            check_command(example)

    walk(cli, "srun")


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.name)
def test_presets_load(preset: Path) -> None:
    assert load(ROOT / "params.yaml", [preset]).cells


def test_every_model_and_method_has_a_block() -> None:
    values = load_values(ROOT / "params.yaml")
    assert set(values["model"]) == set(MODELS)
    assert set(values["unlearn"]) - {"seed"} == set(UNLEARNERS)


def test_dvc_names_existing_parameters_and_files() -> None:
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
    values = load_values(ROOT / "params.yaml")
    known = set(flatten(values)) | set(values)
    for name, stage in stages.items():
        body = stage.get("do", stage)
        for key in body.get("params", []):
            stem = key.partition(".${")[0]
            assert stem in known, f"dvc.yaml {name}: no parameter {key}"
        for dependency in body.get("deps", []):
            if dependency.startswith("src/") and "${" not in dependency:
                assert (ROOT / dependency).exists(), f"dvc.yaml {name}: no {dependency}"
        if "foreach" in stage:
            assert stage["foreach"].strip("${}") in values


def test_dvc_depends_on_the_digest_of_every_stage_that_computes() -> None:
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
    params = load(ROOT / "params.yaml")
    written = set(stage_code(params))
    used = set()
    for name, stage in stages.items():
        [*digests] = (dep for dep in stage.get("do", stage).get("deps", []) if dep.startswith("runs/digests/code/"))
        if name in ("fetch", "digests"):
            continue
        [digest] = digests
        stem = digest.removeprefix("runs/digests/code/").removesuffix(".json")
        keys = values_of(params, stage["foreach"]) if "foreach" in stage else [""]
        used |= {stem.replace("${key}", key).replace("${item}", key) for key in keys}
    assert used == written


def values_of(params: Params, foreach: str) -> list[str]:
    return list(getattr(params, foreach.strip("${}")))


def test_paths_in_readme_exist() -> None:
    text = (ROOT / "README.md").read_text()
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / target).exists(), f"README.md links to {target}"


def test_dvc_has_the_key_file_of_every_output_that_srun_run_looks_for() -> None:
    params = load(ROOT / "params.yaml")
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
    written = set()
    for stage in stages.values():
        for entry in stage.get("do", stage).get("outs", []):
            path = entry if isinstance(entry, str) else next(iter(entry))
            for key in values_of(params, stage["foreach"]) if "foreach" in stage else [""]:
                cell = params.cells.get(key)
                item = {f"item.{name}": str(value) for name, value in vars(cell).items()} if cell else {}
                named = {"key": key, "item": key, **item}
                written.add(re.sub(r"\$\{([^}]*)\}", lambda found, named=named: named[found[1]], path))
    wanted = {step.output.key_file.relative_to(ROOT) for step in whole_plan(Project(params, Layout(ROOT, ROOT)))}
    assert {str(path) for path in wanted} <= written
