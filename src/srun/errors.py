"""The errors a user may see: one line that says what is wrong, where, what was expected and how to mend it."""


class SrunError(Exception):
    """Root of all errors that are the input's or the machine's fault; the command line prints them and exits with 1."""


class ConfigError(SrunError):
    """A parameter is unknown, missing, of the wrong type or out of bounds; names the full dotted key."""


class DataError(SrunError):
    """An input file, a stored data set or a request does not hold what it must; names file and line where it can."""


class CheckpointError(SrunError):
    """A model folder is missing, incomplete or made for something else; names what differs."""


class RunError(SrunError):
    """A computation cannot go on: a device that is not there, no memory, a loss that is not a number."""
