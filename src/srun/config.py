"""params.yaml + overrides -> frozen dataclasses; every value has one dotted key, and every error names it.

Precedence, lowest first: params.yaml, ``--params FILE`` (in order), ``--set section.key=value`` (in order).
An override may only replace a value that exists: a typing error is never a new key.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast, dataclass_transform

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from srun.errors import ConfigError
from srun.registry import suggest

T = TypeVar("T")


@dataclass_transform(kw_only_default=True, frozen_default=True)
def config(cls: type[T]) -> type[T]:
    """Decorator of every section: frozen, keyword-only, no unknown keys, no conversion between types."""
    made: Any = dataclass(
        frozen=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    )(cls)
    return cast(type[T], made)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a mapping from a YAML 1.2 file (1e-05 is a number there; in 1.1 it is text); an empty file is ``{}``."""
    try:
        values = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); expected a YAML file of parameters") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text; expected a YAML file of parameters") from error
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise ConfigError(f"{where}: not valid YAML ({getattr(error, 'problem', error)})") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping of sections, found {type(values).__name__}")
    return values


def parse_assignment(text: str) -> tuple[str, Any]:
    """Split ``section.key=value`` and read the value as YAML 1.2: 3, 1e-5, true, null, [a, b]."""
    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise ConfigError(f'--set "{text}": expected section.key=value, such as unlearn.sruga.ascent_weight=0.3')
    try:
        return key.strip(), YAML(typ="safe").load(value)
    except YAMLError as error:
        raise ConfigError(f'--set "{text}": the value is not valid YAML') from error


def override(values: dict[str, Any], key: str, value: Any, free: Sequence[str] = ()) -> None:
    """Replace the value at a dotted key in place; raises ConfigError with the nearest key if there is none.

    ``free`` names the sections whose direct children users may add (named requests, cells).
    """
    *parents, last = key.split(".")
    node: Any = values
    for depth, part in enumerate(parents):
        if not isinstance(node, dict) or part not in node:
            known = list(node) if isinstance(node, dict) else []
            raise ConfigError(f'unknown parameter "{key}": no "{".".join(parents[: depth + 1])}"{suggest(part, known)}')
        node = node[part]
    if not isinstance(node, dict) or (last not in node and ".".join(parents) not in free):
        known = list(node) if isinstance(node, dict) else []
        raise ConfigError(f'unknown parameter "{key}"{suggest(last, known)}')
    node[last] = value


def merge(
    values: dict[str, Any], other: Mapping[str, Any], free: Sequence[str], whole: Sequence[str], prefix: str = ""
) -> None:
    """Lay a preset over ``values`` in place, key by key; sections in ``free`` take new entries (see ``override``).

    A section in ``whole`` is a list in spirit, such as the rows of a comparison: it is replaced as a whole.
    """
    for key, value in other.items():
        dotted = f"{prefix}{key}"
        current = values.get(key) if isinstance(values, dict) else None
        if isinstance(value, dict) and isinstance(current, dict) and dotted not in whole:
            merge(current, value, free, whole, f"{dotted}.")
        elif key in values or prefix.rstrip(".") in free:
            values[key] = value
        else:
            raise ConfigError(f'unknown parameter "{dotted}"{suggest(str(key), [str(k) for k in values])}')


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return ``{dotted key: value}`` for every leaf of nested mappings."""
    leaves: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            leaves.update(flatten(value, f"{prefix}{key}."))
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves


def build(kind: type[T], values: Any, where: str = "") -> T:
    """Make ``kind`` (a ``config`` dataclass) from plain values; ConfigError names the first fault's dotted key."""
    try:
        # JSON mode: strict about types, yet mappings become dataclasses and lists become tuples
        return TypeAdapter(kind).validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        raise ConfigError(_describe(error, values, where)) from error


def _describe(error: ValidationError, values: Any, where: str) -> str:
    unknown = ("unexpected_keyword_argument", "extra_forbidden")
    fault = min(error.errors(), key=lambda f: f["type"] not in unknown)  # a misspelt key explains the missing one
    path = _keys(fault["loc"], values)
    if fault["type"].startswith("union_tag"):  # which kind of section it is
        kind = str(fault["ctx"]["discriminator"]).strip("'")
        dotted = ".".join([*([where] if where else []), *path, kind])
        if fault["type"] == "union_tag_not_found":
            return f'missing parameter "{dotted}": every value stands in params.yaml'
        return f'parameter "{dotted}": expected one of {fault["ctx"]["expected_tags"]}, found {fault["ctx"]["tag"]!r}'
    prefix = [where] if where else []
    dotted = ".".join(prefix + path)
    if fault["type"] in unknown:
        expected = _known_keys(error, values, path)
        return f'unknown parameter "{dotted}"{suggest(path[-1], expected)}'
    if fault["type"] in ("missing", "missing_argument"):
        return f'missing parameter "{dotted}": every value stands in params.yaml'
    found = fault.get("input")
    shown = f", found {found!r} ({type(found).__name__})" if not isinstance(found, dict) else ""
    return f'parameter "{dotted}": {fault["msg"][0].lower()}{fault["msg"][1:]}{shown}'


def _keys(loc: Sequence[Any], values: Any) -> list[str]:
    """The keys of a fault's place; pydantic also puts the tag of a union there, which is no key."""
    keys, node = [], values
    for index, part in enumerate(loc):
        if isinstance(node, dict) and part not in node and index < len(loc) - 1:
            continue
        keys.append(str(part))
        node = node.get(part) if isinstance(node, dict) else None
    return keys


def _known_keys(error: ValidationError, values: Any, path: list[str]) -> list[str]:
    """Names that were expected beside an unknown key: those reported missing at the same place, and those present."""
    places = [_keys(f["loc"], values) for f in error.errors() if f["type"].startswith("missing")]
    missing = [place[-1] for place in places if place[:-1] == path[:-1]]
    node = values
    for part in path[:-1]:
        node = node.get(part, {}) if isinstance(node, dict) else {}
    return missing + [key for key in (node if isinstance(node, dict) else {}) if key != path[-1]]


def section(name: str, fields: Mapping[str, type]) -> type:
    """Make the dataclass of a section whose fields come from a registry: one block for every entry."""
    return config(type(name, (), {"__annotations__": dict(fields), "__module__": __name__}))
