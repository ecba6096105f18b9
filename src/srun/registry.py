"""Name -> class, for models, unlearning methods and everything else that params.yaml chooses by name."""

import difflib
from collections.abc import Iterator
from typing import Generic, TypeVar

from srun.errors import ConfigError

T = TypeVar("T")


def suggest(name: str, known: list[str]) -> str:
    """Return ``; did you mean "x"?`` for the nearest known name, or an empty string."""
    near = difflib.get_close_matches(name, known, n=1)
    return f'; did you mean "{near[0]}"?' if near else ""


class Registry(Generic[T]):
    """A fixed, visible list of named classes of one kind; an unknown name raises ConfigError with the nearest one."""

    def __init__(self, kind: str, entries: dict[str, T]) -> None:
        self.kind = kind
        self._entries = entries

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            known = list(self._entries)
            raise ConfigError(f'unknown {self.kind} "{name}": expected one of {", ".join(known)}{suggest(name, known)}')
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries
