"""The one check of names that become paths: of data sets, requests, originals, cells, objectives and studies."""

import re

MAX_LETTERS = 100
LOWER = ("data set",)
"""Kinds of names that are lower-case, so that a file system that knows no case keeps them apart."""
RESERVED = {
    "request": ("original", "original.json"),  # models/ORIGINAL/original is Original itself, and so in runs
    "original": ("digests", "flow", "optimize", "report.json", "reports", "resume"),  # what else lies in runs/
}
"""Names that would meet other files, by what is called so."""

SERVICE_FILE = "service.json"
"""Marks a folder as a service, which no command of the flow works in."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def name_fault(name: str, kind: str) -> str:
    """Why a data set, a request or another ``kind`` of thing may not be called ``name``; empty where it may."""
    lower = kind in LOWER
    if not _NAME.fullmatch(name) or ".." in name or (lower and name != name.lower()):
        letters = "lower-case letters" if lower else "letters"
        return f'expected {letters}, digits, single ".", "_" and "-", beginning with a letter or a digit'
    if len(name) > MAX_LETTERS:
        return f"it has {len(name)} letters; expected at most {MAX_LETTERS}"
    if kind == "request" and "--" in name:
        return 'two "-" stand for a "." in the names of the registry; expected single ones'
    if name in RESERVED.get(kind, ()):
        return f"srun keeps files of its own under this name; choose another for the {kind}"
    return ""
