"""What docs/architecture.md names is there, and docs/glossary.md says each word once."""

import ast
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from srun.evaluation.relearning import WAYS
from srun.judging.records import relearning_figures

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/srun"
ARCHITECTURE = ROOT / "docs/architecture.md"
GLOSSARY = ROOT / "docs/glossary.md"
FILE = re.compile(r"[\w./-]+\.(?:py|yaml|toml|md)(?:::[\w.]+)?|[\w-]+/(?:[\w-]+/)*")
"""A file, one with a function or a class in it, or a folder."""
MADE = (
    *("data/raw/", "data/prepared/", "data/draws/", "data/partition/", "models/", "evaluations/", "reports/", "runs/"),
    "out/",
)
"""Folders that the flow makes."""
SECTIONS = ("Data and requests", "Models and methods", "Figures and verdicts", "Running", "A service")
KEPT = {"srun.search.storage", "srun.models.scorer", "srun.evaluation.evaluate"}
"""Modules that only lost a part."""
WALKS = ("A request becomes a model", "A batch becomes a loss", "A trial reaches the front", "A rank reaches the page")


def references(text: str) -> list[str]:
    return [word for word in re.findall(r"`([^`\n]+)`", text) if FILE.fullmatch(word) and not word.startswith(MADE)]


def find(path: str) -> Path | None:
    return next((folder / path for folder in (ROOT, PACKAGE) if (folder / path).exists()), None)


def names(tree: ast.Module) -> set[str]:
    """Functions and classes of a module, and methods as Class.method."""
    found = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)}
    return found


def test_the_references_are_seen() -> None:
    text = "`flow/stages.py::plan` `data/` `srun --help` `Partition` `data/raw/NAME/` `a/b.py::C.d`"
    assert references(text) == ["flow/stages.py::plan", "data/", "a/b.py::C.d"]
    assert names(ast.parse("def f(): ...\nclass A:\n    def b(self): ...")) == {"f", "A", "A.b"}


@pytest.mark.parametrize("reference", sorted(set(references(ARCHITECTURE.read_text()))))
def test_what_the_architecture_names_exists(reference: str) -> None:
    path, _, name = reference.partition("::")
    file = find(path)
    assert file is not None, f"docs/architecture.md names {path}, which is not there"
    if name:
        assert name in names(ast.parse(file.read_text())), f"docs/architecture.md: no {name} in {path}"


def test_every_room_has_a_line_and_every_walk_is_there() -> None:
    text = ARCHITECTURE.read_text()
    rooms = {folder.name for folder in PACKAGE.iterdir() if (folder / "__init__.py").is_file()} - {"system", "tracking"}
    assert set(re.findall(r"^\| `(\w+)/` \|", text, re.MULTILINE)) == rooms
    for walk in WALKS:
        steps = text.partition(f"### {walk}\n")[2].partition("\n#")[0]
        assert re.findall(r"^(\d)\. ", steps, re.MULTILINE)[:4] == list("1234"), walk


def test_ten_tasks_and_ten_reasons_are_told() -> None:
    tasks = ARCHITECTURE.read_text().partition("## Where to change what")[2].partition("## Why")[0]
    assert len(re.findall(r"^\| ", tasks, re.MULTILINE)) >= 12
    reasons = ARCHITECTURE.read_text().partition("## Why it is so")[2]
    assert len(re.findall(r"^\d+\. \*\*", reasons, re.MULTILINE)) >= 10


def table(section: str) -> list[list[str]]:
    """The rows of the table of a section, its header left out."""
    lines = GLOSSARY.read_text().partition(f"## {section}\n")[2].partition("\n## ")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| ")][1:]


def test_the_glossary_says_each_word_once() -> None:
    words = [word.strip() for section in SECTIONS for row in table(section) for word in row[0].split(",")]
    assert len(words) > 60
    assert sorted(words) == sorted(set(words))
    assert all(len(row) == 2 and row[1] for section in SECTIONS for row in table(section))


def test_what_was_renamed_is_nowhere_in_use() -> None:
    """Keys, folders and modules of an old name; words of a language have other uses too."""
    rows = [row for row in table("Renamed") if row[0] in ("folder", "metric", "file", "module")]
    assert len(rows) > 20
    assert all(len(row) == 3 for row in table("Renamed"))
    for kind, old, _ in rows:
        for name in re.findall(r"`([^`*]+)`", old):
            if kind == "folder":
                assert not (ROOT / name).exists(), f"{name} is still there"
            if kind == "module" and name.startswith("srun.") and name not in KEPT:
                path = PACKAGE / name.removeprefix("srun.").replace(".", "/")
                assert not path.with_suffix(".py").exists(), f"{name} is still there"


def metric_words() -> set[str]:
    """Words of the package's code, and the keys that are put together from a way of relearning and a figure of it."""
    words = {word for file in PACKAGE.rglob("*.py") for word in re.findall(r"\w+", file.read_text())}
    relearned = SimpleNamespace(relearning={way: {"steps": [0.0, 1.0], "hit_10": [0.5, 0.5]} for way in WAYS})
    return words | set(relearning_figures(relearned.relearning, [relearned], [relearned]))


def test_renamed_metrics_are_those_of_the_code() -> None:
    words, rows = metric_words(), [row for row in table("Renamed") if row[0] == "metric"]
    assert len(rows) >= 4
    for _, old, new in rows:
        first, *others = (name.rpartition("/")[2] for name in re.findall(r"`([^`]+)`", new))
        for name in (first, *(f"{first}{other}" if other.startswith("_") else other for other in others)):
            assert name in words, f"the code has no metric {name}"
        for name in re.findall(r"`\w+/(\w+)`", old):
            assert name not in words, f"{name} is still a metric"
