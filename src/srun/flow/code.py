"""The code that an output depends on: what a stage's module imports, and the chosen model's and method's.

It is read as text, without comments, docstrings and blank lines, one digest a module, so that a step can say which
module changed.
"""

import ast
import hashlib
import re
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from srun.errors import RunError

SOURCE = Path(__file__).parents[2]
"""The folder that holds the package."""
CUT = {
    *("srun", "srun.models", "srun.unlearning", "srun.registry"),  # lists: the chosen model and method are roots
    *("srun.errors", "srun.faults", "srun.names", "srun.config", "srun.plain_yaml"),
    *("srun.progress", "srun.tracking", "srun.tracking.runs", "srun.files", "srun.flow.layout"),
    *("srun.flow.code", "srun.flow.freshness", "srun.flow.steps"),
    *("srun.flow.reporter", "srun.flow.registration", "srun.flow.run_file"),
}
"""Modules that move no figure: they tell, check, list, or say where files lie."""
LIBRARIES = ("numpy", "torch")
"""Whose version counts as code."""
TEXT_OR_COMMENT = re.compile(
    r"""(?P<text>\"{3}(?:\\.|[^\\])*?\"{3}|'{3}(?:\\.|[^\\])*?'{3}|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|\#[^\n]*""",
    re.DOTALL,
)
"""A string literal, in which a # is no comment, or a comment."""
DIGITS = 16
"""Hexadecimal digits of a module's digest, enough to tell versions of one file apart."""


def code_digests(*roots: str, source: Path | None = None) -> dict[str, str]:
    """A digest of every module that ``roots`` import, these included, and the versions of the libraries they use.

    Imports inside functions count, and so do files beside a module that are no Python (templates, tables), by their
    path; one that has the name of a module counts with that alone. Imports for type checkers do not count. Modules in
    ``CUT`` are left out, and so is what only they import. Raises RunError for a root that is not there. ``source``: the
    folder of the package; this one's own if not given.
    """
    source = source or SOURCE
    modules = {name: _file(name, source) for name in sorted(closure(roots, source))}
    digests = {name: _parse(file.read_text(encoding="utf-8")).digest for name, file in modules.items()}
    digests |= {str(file.relative_to(source)): _digest(file.read_bytes()) for file in _data(set(modules.values()))}
    return digests | {name: version(name).partition("+")[0] for name in LIBRARIES}


def closure(roots: Iterable[str], source: Path = SOURCE) -> set[str]:
    """The modules of the package that are imported from ``roots`` on, with these."""
    reached: set[str] = set()
    left = list(roots)
    while left:
        name = left.pop()
        if name not in reached:
            reached.add(name)
            imports = _parse(_file(name, source).read_text(encoding="utf-8")).imports
            left += [other for other in imports if other not in CUT and _is_module(other, source)]
    return reached


def _data(files: Set[Path]) -> list[Path]:
    folders = {file.parent for file in files}
    beside = [path for folder in folders for path in folder.iterdir() if path.is_file() and path.suffix != ".py"]
    owners = {path: path.with_suffix(".py") for path in beside}
    return sorted(path for path, owner in owners.items() if owner in files or not owner.is_file())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:DIGITS]


def _file(module: str, source: Path) -> Path:
    plain = source.joinpath(*module.split("."))
    file = plain.with_suffix(".py") if plain.with_suffix(".py").is_file() else plain / "__init__.py"
    if not file.is_file():
        raise RunError(f"{source}: no module {module}, whose code a digest is asked of; is the installation whole?")
    return file


@dataclass(frozen=True)
class _Module:
    imports: tuple[str, ...]
    """Names of the package that it imports, wherever in it; some are no modules but what a module holds."""
    digest: str


@lru_cache(maxsize=1024)
def _parse(text: str) -> _Module:
    """What a module's text imports, and its digest; by the text alone, so that every file is parsed once a process."""
    tree = ast.parse(text)
    imports = [name for name in _named(tree) if name.split(".")[0] == "srun"]
    return _Module(tuple(dict.fromkeys(imports)), _digest(_code(text, tree).encode()))


def _named(node: ast.AST) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and getattr(child.test, "id", "") == "TYPE_CHECKING":
            for other in child.orelse:
                yield from _named(other)
        elif isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield str(child.module)
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        elif not isinstance(child, ast.expr):
            yield from _named(child)


def _is_module(name: str, source: Path) -> bool:
    plain = source.joinpath(*name.split("."))
    return plain.with_suffix(".py").is_file() or (plain / "__init__.py").is_file()


def _code(text: str, tree: ast.Module) -> str:
    """A module's text without comments, docstrings and blank lines; the same in every version of Python.

    A docstring begins its line and ends it, so that only ASCII stands before it, and bytes and letters count alike.
    """
    lines = text.splitlines(keepends=True)
    for node in sorted(_docstrings(tree), key=lambda node: node.lineno, reverse=True):
        last = node.end_lineno or node.lineno
        kept = lines[node.lineno - 1][: node.col_offset], lines[last - 1][node.end_col_offset or 0 :]
        lines[node.lineno - 1 : last] = ["".join(kept)]
    without = TEXT_OR_COMMENT.sub(lambda match: match["text"] or "", "".join(lines))
    return "\n".join(line.rstrip() for line in without.split("\n") if line.strip())


def _docstrings(tree: ast.Module) -> Iterator[ast.Constant]:
    """Texts that stand alone as a statement: docstrings, also those below an attribute."""
    for node in _statements(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value


def _statements(node: ast.AST) -> Iterator[ast.stmt]:
    """Every statement, at whatever depth; expressions, which hold none, are not looked into."""
    for field in ("body", "orelse", "finalbody", "handlers", "cases"):
        for child in getattr(node, field, ()) if not isinstance(node, ast.expr) else ():
            if isinstance(child, ast.stmt):
                yield child
            yield from _statements(child)
