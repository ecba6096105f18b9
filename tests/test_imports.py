"""The order of the package: a module imports only what stands above it, and --help imports nothing heavy."""

import ast
import importlib
import json
import re
import resource
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ORDER = [
    *("errors", "names", "registry", "plain_yaml", "faults", "config"),
    *("rng", "system", "files", "tables", "progress", "tracking", "metrics"),
    *("data", "requests", "models", "training", "unlearning", "evaluation", "judging", "search", "reporting"),
    *("flow", "service", "papers", "cli", "__main__"),
]
SOURCE = Path(__file__).parents[1] / "src" / "srun"
FILES = sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


def top(path):
    return path.relative_to(SOURCE).with_suffix("").parts[0]


def imported(path):
    """(line, module) of every import of a file, inside functions and type-checking blocks too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def test_every_module_has_a_place_in_the_order():
    assert {top(path) for path in FILES} <= set(ORDER)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_module_imports_only_what_stands_above_it(path):
    here = top(path)
    wrong = []
    for line, name in imported(path):
        parts = name.split(".")
        ours = parts[0] == "srun" and len(parts) > 1 and parts[1] in ORDER and parts[1] != here
        if ours and ORDER.index(parts[1]) > ORDER.index(here):
            wrong.append(f"{path.name}:{line} imports {name}")
        assert not (parts[0] == "mlflow" and path.name not in ("mlflow.py", "mlflow_model.py")), (
            f"{path}:{line}: only tracking/mlflow.py imports mlflow"
        )
    assert not wrong


def test_modules_of_one_package_do_not_import_each_other_in_a_circle():
    graph = {}
    for path in FILES:
        name = ".".join(("srun", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")
        graph[name] = {module for _, module in imported(path)}
    edges = {n: {m for m in graph if m != n and any(i == m or i.startswith(m + ".") for i in graph[n])} for n in graph}
    done = set()

    def visit(name, trail):
        assert name not in trail, f"circle: {' -> '.join([*trail, name])}"
        if name not in done:
            for other in edges[name]:
                if name.count(".") == 2 and other.count(".") == 2:  # modules only; __init__ files are lists
                    visit(other, [*trail, name])
            done.add(name)

    for name in graph:
        visit(name, [])


def test_help_imports_nothing_heavy():
    code = (
        "import json, sys\n"
        "from srun.cli import cli\n"
        "try: cli(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "unlearn" in done.stdout
    loaded = set(json.loads(done.stderr.splitlines()[-1]))
    assert not loaded & {
        "torch",
        "mlflow",
        "pandas",
        "numpy",
        "sklearn",
        "scipy",
        "pyarrow",
        "matplotlib",
        "pydantic",
        "dvc",
    }


def test_help_is_quick():
    """In processor seconds, which a busy machine hardly moves."""

    def once():
        began = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
        command = [sys.executable, "-c", "from srun.cli import main; main()", "--help"]
        subprocess.run(command, capture_output=True, check=True)
        return sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - began

    assert statistics.median(once() for _ in range(3)) < 0.4


def test_every_console_script_leads_somewhere():
    text = (SOURCE.parents[1] / "pyproject.toml").read_text()
    scripts = dict(re.findall(r'^(\w+) = "(srun\.\w+:\w+)"$', text, re.MULTILINE))
    assert set(scripts) == {"srun", "srunlearn", "optimize"}
    for target in scripts.values():
        module, function = target.split(":")
        assert callable(getattr(importlib.import_module(module), function)), f"{target} does not exist"
