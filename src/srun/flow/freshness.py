"""What an output depends on that no parameter says: the code of its stage, and the files that requests name.

The code of a stage is the closure of what its module imports, and of the chosen model and method, without comments and
docstrings. dvc.yaml's stages depend on small digest files made of it, one for each stage and what it is done for.
"""

import ast
import hashlib
import io
import json
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path

from srun.errors import RunError
from srun.flow.cells import Cell, OriginalCell
from srun.models import MODELS
from srun.unlearning import UNLEARNERS

SOURCE = Path(__file__).parents[2]
"""The folder that holds the package."""
CUT = {
    *("srun", "srun.models", "srun.unlearning", "srun.registry"),  # lists: the chosen model and method are roots
    *("srun.errors", "srun.faults", "srun.names", "srun.config", "srun.plain_yaml"),
    *("srun.progress", "srun.tracking", "srun.files", "srun.flow.common", "srun.flow.layout"),
}
"""Modules that move no figure: they tell, check, list, or say where files lie."""
LIBRARIES = ("numpy", "torch")
"""Whose version counts as code."""


def stage_digests(originals: Mapping[str, OriginalCell], cells: Mapping[str, Cell]) -> dict[str, str]:
    """The digest of the code of every stage, by the name of its file: ``train/sasrec-0``, ``unlearn/sasrec-sruga``."""
    found = {stage: code_digest(f"srun.flow.{stage}") for stage in ("prepare", "partition", "report")}
    for name, original in originals.items():
        found[f"train/{name}"] = code_digest("srun.flow.train", MODELS[original.model].__module__)
    for name, cell in cells.items():
        model = MODELS[originals[cell.original].model].__module__
        method = UNLEARNERS[cell.method].__module__
        found[f"unlearn/{name}"] = code_digest("srun.flow.unlearn", model, method)
        found[f"evaluate/{name}"] = code_digest("srun.flow.evaluate", model)
    return found


def code_digest(*roots: str, source: Path = SOURCE) -> str:
    """The sha256 of the code that modules import, from them on, and of the versions of the libraries it computes with.

    Imports inside functions count, and so do files beside a module that are no Python (templates, tables); imports for
    type checkers do not. Modules in ``CUT`` are left out, and so is what only they import.
    """
    modules = closure(roots, source)
    files = sorted({_file(name, source) for name in modules})
    read = {str(file.relative_to(source)): _code(file) for file in files}
    read |= {str(file.relative_to(source)): _sha256(file) for file in _data(files)}
    versions = {name: version(name).partition("+")[0] for name in LIBRARIES}
    return hashlib.sha256(json.dumps([read, versions]).encode()).hexdigest()


def closure(roots: Iterable[str], source: Path = SOURCE) -> set[str]:
    """The modules of the package that are imported from ``roots`` on, with these."""
    found: set[str] = set()
    left = list(roots)
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += [other for other in _imports(_file(name, source), source) if other not in CUT]
    return found


def _data(files: Iterable[Path]) -> list[Path]:
    folders = {file.parent for file in files}
    return sorted(path for folder in folders for path in folder.iterdir() if path.is_file() and path.suffix != ".py")


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _file(module: str, source: Path) -> Path:
    plain = source.joinpath(*module.split("."))
    file = plain.with_suffix(".py") if plain.with_suffix(".py").is_file() else plain / "__init__.py"
    if not file.is_file():
        raise RunError(f"{source}: no module {module}, whose code a digest is asked of; is the installation whole?")
    return file


@cache
def _imports(file: Path, source: Path) -> tuple[str, ...]:
    """The modules of the package that a file imports, wherever in it."""
    names = [name for name in _named(ast.parse(file.read_text(encoding="utf-8"))) if name.split(".")[0] == "srun"]
    return tuple(dict.fromkeys(name for name in names if _is_module(name, source)))


def _named(tree: ast.AST) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            for other in node.orelse:
                yield from _named(other)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield from _named(node)


def _is_module(name: str, source: Path) -> bool:
    plain = source.joinpath(*name.split("."))
    return plain.with_suffix(".py").is_file() or (plain / "__init__.py").is_file()


@cache
def _code(file: Path) -> str:
    """A file's text without comments, docstrings and blank lines; the same in every version of Python."""
    text = file.read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    left_out = [
        ((node.lineno, node.col_offset), (node.end_lineno or node.lineno, node.end_col_offset or 0))
        for node in _docstrings(text)
    ]
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            left_out.append((token.start, token.end))
    for (first, start), (last, end) in sorted(left_out, reverse=True):
        kept = lines[first - 1][:start], lines[last - 1][end:]
        lines[first - 1 : last] = ["".join(kept)]
    return "\n".join(line.rstrip() for line in lines if line.strip())


def _docstrings(text: str) -> Iterator[ast.Constant]:
    """Texts that stand alone as a statement: docstrings, also those below an attribute.

    Columns of the syntax tree count bytes, those of tokens letters; a docstring begins its line and ends it, so that
    only whitespace and ASCII stand before it.
    """
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value
