"""YAML 1.2 read as plain values only: what JSON knows, named by text, of a size and depth that no trick can blow up."""

import re
import unicodedata
import warnings
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer, ComposerError
from ruamel.yaml.error import ReusedAnchorWarning, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from srun.errors import ConfigError, Faults

MAX_DEPTH, MAX_NODES = 32, 100_000  # with every alias written out
MAX_INTEGER = 2**63 - 1
CORE = "tag:yaml.org,2002:"
PLAIN = ("map", "seq", "str", "int", "float", "bool", "null", "merge")


class _Composer(Composer):
    """Composes nodes down to a depth, so that no text exhausts the stack."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            mark = self.parser.peek_event().start_mark
            raise ComposerError(None, None, f"nested more than {MAX_DEPTH} times", mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def parse(text: str, where: str) -> Any:
    """The value of a YAML text; raises ConfigError, which begins with ``where`` and the line.

    Refused are tags, dates, keys that are no text, numbers that are not finite or beyond 64 bits, control characters in
    text, and aliases that refer to themselves or stand for more than a file of parameters ever holds. Every value is an
    object of its own: to change one in place changes no other, although both were one alias.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = _Composer
    try:
        if directive := re.search("^%.*", text, re.MULTILINE):
            raise ConfigError(f"{where}: {directive[0]}: parameters are YAML 1.2 and have no directives")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ReusedAnchorWarning)  # an anchor may be set anew; a key twice is refused
            node = yaml.compose(text)
        if node is None:
            return None
        _measure(node, {})
        value = yaml.constructor.construct_document(node)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{where}:{mark.line + 1}" if mark and not where.startswith("--set") else where
        raise ConfigError(f"{place}: not valid YAML ({getattr(error, 'problem', None) or error})") from error
    except ValueError as error:  # a number of thousands of digits
        raise ConfigError(f"{where}: not valid YAML ({str(error).partition(';')[0]})") from error
    faults = Faults()
    plain = _copy(value, "", where, faults)
    faults.tell()
    return plain


def _measure(node: Node, sizes: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    """Nodes below and with a node, and how deep they nest, every alias written out; YAMLError for what is not plain.

    ``sizes``: those of nodes that were seen, by identity; None while one is being measured.
    """
    if id(node) in sizes:
        if (seen := sizes[id(node)]) is None:
            raise ComposerError(None, None, "an alias refers to itself", node.start_mark)
        return seen
    sizes[id(node)] = None
    kind = str(node.tag).removeprefix(CORE)
    if kind not in PLAIN:
        shown = "a date; put it in quotes" if kind == "timestamp" else f'the tag "{node.tag}"; parameters have none'
        raise ComposerError(None, None, shown, node.start_mark)
    number, depth = 1, 0
    for child in _children(node):
        below, deep = _measure(child, sizes)
        number, depth = number + below, max(depth, deep)
    if number > MAX_NODES or depth >= MAX_DEPTH:
        raise ComposerError(None, None, "aliases of aliases: too large when written out", node.start_mark)
    sizes[id(node)] = number, depth + 1
    return number, depth + 1


def _children(node: Node) -> list[Node]:
    if isinstance(node, SequenceNode):
        return list(node.value)
    if not isinstance(node, MappingNode):
        return []
    for key, _ in node.value:
        if not isinstance(key, ScalarNode) or key.tag not in (f"{CORE}str", f"{CORE}merge"):
            shown = f'the key "{key.value}"' if isinstance(key, ScalarNode) else "a key"
            raise ComposerError(None, None, f"{shown} is no text; put it in quotes", key.start_mark)
    return [part for pair in node.value for part in pair]


def _copy(value: Any, key: str, where: str, faults: Faults) -> Any:
    """The value without shared parts; adds a fault for each leaf that no parameter can be."""
    if isinstance(value, dict):
        return {name: _copy(part, f"{key}.{name}" if key else name, where, faults) for name, part in value.items()}
    if isinstance(value, list):
        return [_copy(part, f"{key}.{index}", where, faults) for index, part in enumerate(value)]
    fault = ""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        fault = f"expected a finite number, found {value}"
    elif isinstance(value, int) and abs(value) > MAX_INTEGER:
        fault = "expected a whole number of at most 64 bits"
    elif isinstance(value, str) and any(unicodedata.category(letter) in ("Cc", "Cs") for letter in value + key):
        fault = "expected text without control characters"
    if fault:
        faults.append(f'{where}: parameter "{key}": {fault}' if key else f"{where}: {fault}")
    return value
