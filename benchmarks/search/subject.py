"""An Original and a request to try settings on, out of a folder of `srun run --out`, and the entries to try."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from srun.config import read_yaml
from srun.flow.layout import Layout
from srun.flow.loading import load_dataset, load_original
from srun.requests.partition import Partition
from srun.unlearning.base import Original

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Subject:
    """An Original and the request that it is to forget."""

    data: str
    original: Original
    request: Partition


def load_subject(folder: Path, original: str, request: str) -> Subject:
    """The Original and the partition of a flow's folder; this process gets one thread."""
    torch.set_num_threads(1)
    layout = Layout(folder, folder)
    data = load_dataset(layout)
    partition = Partition.load(layout.partition(request), data)
    return Subject(data.info["name"], load_original(layout, original, data, CPU), partition)


def add_entry_options(parser: argparse.ArgumentParser, entries: Path) -> None:
    """Add the options that ``read_entries`` reads, and --csv; ``entries``: the file to read by default."""
    parser.add_argument("--list", type=Path, default=entries, help=f"entries to try; default {entries.name}")
    parser.add_argument("--csv", type=Path, required=True, help="file that gets the rows")
    parser.add_argument("--only", nargs="*", help="entries; all if not given")


def read_entries(options: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, settings to change) of every entry that the options ask for."""
    for name, changes in read_yaml(options.list).items():
        if not options.only or name in options.only:
            yield name, changes or {}


def as_words(changes: dict[str, Any]) -> str:
    """The settings of an entry as a cell shows them."""
    return " ".join(f"{key}={value}" for key, value in changes.items())
