"""params.yaml + overrides -> frozen dataclasses; every value has one dotted key, and every error names it.

Precedence, lowest first: params.yaml, ``--params FILE`` (in order), ``--set section.key=value`` (in order).
An override may only replace a value that exists: a typing error is never a new key.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast, dataclass_transform

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from srun.errors import ConfigError, Faults, one_line
from srun.faults import describe
from srun.plain_yaml import parse
from srun.registry import suggest

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Section: TypeAlias = DataclassInstance
else:
    Section = object
"""A block of parameters, whichever model's or method's it is."""

T = TypeVar("T")
MAX_BYTES = 1_000_000  # of a file of parameters


@dataclass_transform(kw_only_default=True, frozen_default=True)
def config(cls: type[T]) -> type[T]:
    """Decorator of every section: frozen, keyword-only, no unknown keys, no conversion between types."""
    made: Any = dataclass(
        frozen=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    )(cls)
    return cast(type[T], made)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a mapping from a YAML 1.2 file (1e-05 is a number there; in 1.1 it is text); an empty file is ``{}``."""
    expected = "expected a YAML file of parameters"
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        text = content.decode("utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); {expected}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text; {expected}") from error
    except ValueError as error:  # the path itself holds a NUL
        raise ConfigError(f"{path}: cannot be read ({error}); {expected}") from error
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{path}: more than {MAX_BYTES} bytes; {expected}")
    values = parse(text, str(path))
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping of sections, found {type(values).__name__}")
    return values


def parse_assignment(text: str) -> tuple[str, Any]:
    """Split ``section.key=value`` and read the value as YAML 1.2: 3, 1e-5, true, null, [a, b]."""
    key, separator, value = text.partition("=")
    where = f'--set "{one_line(text, 80)}"'
    if not separator or not key.strip():
        raise ConfigError(f"{where}: expected section.key=value, such as unlearn.sruga.ascent_weight=0.3")
    return key.strip(), parse(value, where)


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

    A section in ``whole`` is a list in spirit, such as the rows of a comparison: it is replaced as a whole. Raises
    ConfigError with every key that there is not; the others are laid over all the same.
    """
    faults = Faults()
    for key, value in other.items():
        dotted = f"{prefix}{key}"
        current = values.get(key)
        if isinstance(value, dict) and isinstance(current, dict) and dotted not in whole:
            with faults.collect():
                merge(current, value, free, whole, f"{dotted}.")
        elif key in values or prefix.rstrip(".") in free:
            values[key] = value
        else:
            faults.append(f'unknown parameter "{dotted}"{suggest(key, list(values))}')
    faults.tell()


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
    """Make ``kind`` (a ``config`` dataclass) from plain values; ConfigError names every fault's dotted key."""
    try:
        # JSON mode: strict about types, yet mappings become dataclasses and lists become tuples
        return TypeAdapter(kind).validate_json(json.dumps(values))
    except ValidationError as error:
        raise ConfigError(*describe(error, values, where)) from error


def section(name: str, fields: Mapping[str, type]) -> type:
    """Make the dataclass of a section whose fields come from a registry: one block for every entry."""
    return config(type(name, (), {"__annotations__": dict(fields), "__module__": __name__}))
