"""The errors a user may see: one line that says what is wrong, where, what was expected and how to mend it."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

MAX_LETTERS, MAX_FAULTS = 500, 20  # of a line, and lines of an error, on the command line


class SrunError(Exception):
    """Root of all errors that are the input's or the machine's fault; the command line prints them and exits with 1.

    It has one text, or one for each of several faults that were found together.
    """

    def __init__(self, *faults: str) -> None:
        super().__init__(*faults)

    @property
    def faults(self) -> tuple[str, ...]:
        return tuple(map(str, self.args))

    def __str__(self) -> str:
        return "\n".join(self.faults)


class ConfigError(SrunError):
    """Parameters are unknown, missing, of the wrong type or out of bounds; names each one's full dotted key."""


class DataError(SrunError):
    """An input file, a stored data set or a request does not hold what it must; names file and line where it can."""


class CheckpointError(SrunError):
    """A model folder is missing, incomplete or made for something else; names what differs."""


class RunError(SrunError):
    """A computation cannot go on: a device that is not there, no memory, a loss that is not a number."""


class Faults(list[str]):
    """Faults that are collected, so that they are told together."""

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Keep the faults of an error that the block raises, and go on after the block."""
        try:
            yield
        except SrunError as error:
            self.extend(error.faults)

    def tell(self) -> None:
        """Raise ConfigError with all faults, each once; return where there is none."""
        if self:
            raise ConfigError(*dict.fromkeys(self))


def one_line(text: str, limit: int = MAX_LETTERS) -> str:
    """The text as a line of at most ``limit`` letters: what a terminal would act on is escaped, the middle cut out."""
    text = re.sub(r" *[\n\r\t][ \n\r\t]*", " ", text).strip()
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    if len(shown) <= limit:
        return shown
    tail = limit // 3  # how to mend it stands at the end
    return f"{shown[: limit - tail - 5]} ... {shown[-tail:]}"


def in_lines(faults: Sequence[str]) -> str:
    """Faults as the command line prints them: one as a line, several as a short list."""
    if len(faults) == 1:
        return one_line(faults[0])
    shown = [f"  {one_line(fault, MAX_LETTERS - 2)}" for fault in faults[:MAX_FAULTS]]
    more = [f"  and {len(faults) - MAX_FAULTS} more"] if len(faults) > MAX_FAULTS else []
    return "\n".join([f"{len(faults)} mistakes, nothing was done:", *shown, *more])
