"""Turns pydantic's errors into texts: the dotted key, what was expected there, what was found, the nearest key.

Where a value may be of several kinds (a union), pydantic reports every kind that it does not fit. Only the one that
fits best is told.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from srun.errors import one_line
from srun.registry import suggest

Place = tuple[str, ...]
UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")
MISSING = ("missing", "missing_argument", "union_tag_not_found")
MAX_SHOWN = 80  # letters of a value that was found


@dataclass(frozen=True)
class _Fault:
    path: Place
    branches: tuple[tuple[int, str], ...]
    """(length of the path to a union, its branch), outermost first."""
    details: ErrorDetails

    @property
    def kind(self) -> str:
        return self.details["type"]


def describe(error: ValidationError, values: Any, where: str) -> list[str]:
    """A text for every fault; ``where`` leads to ``values`` from the root."""
    faults = _best_branches([_fault(details, values) for details in error.errors()], values)
    unknown = {fault.path: _nearest(fault.path, faults, values) for fault in faults if fault.kind in UNKNOWN}
    explained = {(*path[:-1], near) for path, near in unknown.items()}  # a misspelt key explains the missing one
    texts = []
    for path in dict.fromkeys(fault.path for fault in faults):
        dotted = ".".join([*([where] if where else []), *path])
        here = [fault for fault in faults if fault.path == path]
        if path in unknown:
            near = f'; did you mean "{unknown[path]}"?' if unknown[path] else ""
            texts.append(f'unknown parameter "{dotted}"{near}')
        elif here[0].kind not in MISSING:
            texts.append(f'parameter "{dotted}": {_expected(here)}' if dotted else _expected(here))
        elif path not in explained:
            texts.append(_missing(dotted, here[0], values))
    return texts


def _fault(details: ErrorDetails, values: Any) -> _Fault:
    """Where a fault is; pydantic also puts the branch of a union into its place, which is no key."""
    path: list[str] = []
    branches: list[tuple[int, str]] = []
    node, loc = values, details["loc"]
    for index, part in enumerate(loc):
        if isinstance(node, dict) and (part in node or (index == len(loc) - 1 and details["type"] in MISSING)):
            path.append(str(part))
            node = node.get(str(part))
        elif isinstance(node, list) and isinstance(part, int):
            path.append(str(part))
            node = node[part] if part < len(node) else None
        elif part != "[key]":
            branches.append((len(path), str(part)))
    if details["type"] == "union_tag_not_found" and not isinstance(node, dict):
        details = {**details, "type": "dict_type", "msg": "Input should be an object"}
    elif details["type"].startswith("union_tag"):  # which kind of section it is
        key = str(details["ctx"]["discriminator"])
        path.append(key.strip("'").removesuffix("()"))  # a function that tells is called as the key
    return _Fault(tuple(path), tuple(branches), details)


def _best_branches(faults: list[_Fault], values: Any) -> list[_Fault]:
    """Faults of a section that may be of several kinds: those of the kind with the fewest, which was meant."""
    unions: dict[Place, dict[str, list[_Fault]]] = {}
    for fault in faults:
        if fault.branches:
            length, branch = fault.branches[0]
            unions.setdefault(fault.path[:length], {}).setdefault(branch, []).append(fault)
    dropped: set[int] = set()
    for place, branches in unions.items():
        if len(branches) < 2 or not isinstance(_at(values, place), dict):
            continue
        inside = {name: branch for name, branch in branches.items() if any(fault.path != place for fault in branch)}
        if not inside:
            continue
        best = min(inside, key=lambda name: len({fault.path for fault in inside[name]}))
        dropped |= {id(fault) for name, branch in branches.items() if name != best for fault in branch}
    return [fault for fault in faults if id(fault) not in dropped]


def _nearest(path: Place, faults: list[_Fault], values: Any) -> str:
    """The known key that an unknown one is nearest to: one that is missing beside it, or one that is there."""
    missing = [f.path[-1] for f in faults if f.kind in MISSING and f.path[:-1] == path[:-1]]
    unknown = [f.path[-1] for f in faults if f.kind in UNKNOWN and f.path[:-1] == path[:-1]]
    there = [key for key in _at(values, path[:-1]) if key not in unknown]
    for known in (missing, there):
        if near := get_close_matches(path[-1], known, n=1):
            return str(near[0])
    return str(missing[0]) if len(missing) == len(unknown) == 1 else ""


def _missing(dotted: str, fault: _Fault, values: Any) -> str:
    """A key that is not there; of one that says which kind a section is, nobody yet knows what else it may have."""
    key, there = fault.path[-1], list(_at(values, fault.path[:-1]))
    if fault.kind == "union_tag_not_found" and (near := get_close_matches(key, there, n=1)):
        return f'unknown parameter "{dotted.removesuffix(key)}{near[0]}"; did you mean "{key}"?'
    return f'missing parameter "{dotted}": every value stands in params.yaml'


def _expected(faults: Sequence[_Fault]) -> str:
    """What one place should hold, in the words of all branches of its union."""
    first = faults[0].details
    if first["type"] == "union_tag_invalid":
        tag, choices = first["ctx"]["tag"], first["ctx"]["expected_tags"]
        near = suggest(str(tag), re.findall("'(.*?)'", choices))
        return f"expected one of {choices}, found {_shown(tag)}{near}"
    wanted = list(dict.fromkeys(_wanted(fault.details) for fault in faults))
    if first["type"] == "value_error":
        return "; ".join(wanted)
    value, near = first.get("input"), ""
    if isinstance(value, str):
        near = suggest(value, [word for fault in faults for word in re.findall("'(.*?)'", _wanted(fault.details))])
    shown = "" if isinstance(value, dict) else f", found {_shown(value)}"
    return f"expected {' or '.join(wanted)}{shown}{near}"


def _wanted(details: ErrorDetails) -> str:
    words = re.sub(r"^(Input|Value|Keys) should (be )?|^Value error, ", "", details["msg"])
    words = {"an object": "a mapping", "a valid array": "a list", "a valid string": "text"}.get(words, words)
    return re.sub("^(greater|less)", r"a value \1", words)


def _shown(value: Any) -> str:
    return f"{one_line(repr(value), MAX_SHOWN)} ({type(value).__name__})"


def _at(values: Any, path: Place) -> Any:
    for part in path:
        values = values[int(part)] if isinstance(values, list) else values.get(part, {})
    return values
