"""The package renders: whatever computes a figure is not imported by it."""

import ast
from pathlib import Path

import pytest

import srun.reporting

FOLDER = Path(srun.reporting.__file__).parent
MODULES = sorted(FOLDER.glob("*.py"))
COMPUTE = (
    "srun.metrics",
    "srun.evaluation",
    "srun.rng",
    "srun.models",
    "srun.training",
    "srun.unlearning",
    "srun.data",
)
LIBRARIES = ("numpy", "scipy", "pandas", "statistics", "sklearn", "torch", "random")
JUDGING = {"judgement", "styles", "trials", "verdict"}
WORDS = {"MEANINGS", "OVER", "retrains_text"}
"""What is used of the verdicts' module: how they are worded."""


def imported(file):
    """(module, name) of every import of a file; the name is empty where the whole module is imported."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module, alias.name) for alias in node.names)


@pytest.mark.parametrize("file", MODULES, ids=lambda file: file.name)
def test_nothing_that_computes_is_imported(file):
    for module, name in imported(file):
        whole = f"{module}.{name}"
        assert not whole.startswith(tuple(f"{part}." for part in COMPUTE)), f"{file.name} imports {whole}"
        assert module.partition(".")[0] not in LIBRARIES, f"{file.name} imports {module}"
        if module.startswith("srun.judging"):
            assert module.removeprefix("srun.judging.") in JUDGING, f"{file.name} imports {whole}"
        if module == "srun.judging.verdict":
            assert name in WORDS, f"{file.name} imports {whole}"
        if module == "srun.judging.trials":
            assert name[0].isupper(), f"{file.name} imports {whole}, which computes"


def test_the_walk_sees_imports_anywhere(tmp_path):
    file = tmp_path / "module.py"
    file.write_text("def f():\n    import scipy.stats\n    from srun.metrics.ranking import hit\n")
    assert list(imported(file)) == [("scipy.stats", ""), ("srun.metrics.ranking", "hit")]


def test_no_text_is_taken_apart_into_numbers():
    """A figure goes from a number to text, never back."""
    for file in MODULES:
        calls = [node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
        names = {node.func.id for node in calls if isinstance(node.func, ast.Name)}
        assert not names & {"float", "int"}, file.name
