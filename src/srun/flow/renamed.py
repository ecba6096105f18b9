"""Old names of parameters and of their values: refused with the new one, so that an old preset can be mended."""

from collections.abc import Iterator, Mapping
from typing import Any

from srun.config import flatten

KEYS: dict[str, str] = {}
"""Old dotted key -> new one; of a section all keys below it."""
VALUES = {("unlearn.sruga.update", "readout"): "output_layer"}
"""(dotted key, old value) -> new value."""


def renamed_faults(values: Mapping[str, Any]) -> Iterator[str]:
    """A text for each old name among nested values."""
    for key, value in flatten(values).items():
        old = next((name for name in KEYS if key == name or key.startswith(f"{name}.")), None)
        if old is not None:
            yield f'parameter "{key}" is called "{KEYS[old]}{key.removeprefix(old)}" now'
        elif isinstance(value, str) and (key, value) in VALUES:
            yield f'parameter "{key}": "{value}" is called "{VALUES[key, value]}" now'
