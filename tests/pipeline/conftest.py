"""A project in a temporary folder: this one's files, a tiny log, and parameters that run in seconds."""

from pathlib import Path
from shutil import copy

import numpy as np
import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies beside this file, for `make test-fast` to leave out."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.pipeline)


TINY = {
    "data": {"name": "tiny"},
    "prepare": {"filter": "none", "max_length": 6},
    "partition": {"interactions": {"share_of_users": 0.5}},
    "model": {"sasrec": {"hidden": 8, "blocks": 1}},
    "train": {"max_epochs": 4, "evaluate_every": 2, "patience": 4, "batch_size": 64, "learning_rate": 0.01},
    "unlearn": {"sruga": {"max_epochs": 2, "evaluate_every": 1}, "finetune_only": {"max_epochs": 2}},
    "evaluate": {"batch_size": 64},
    "runtime": {"threads": 1, "tracking": False},
    "requests": ["interactions"],
    "originals": {"sasrec-0": {"model": "sasrec", "seed": 0, "shards": 1}},
    "cells": {
        f"sasrec-{method}-{seed}": {"request": "interactions", "original": "sasrec-0", "method": method, "seed": seed}
        for method, seed in [("original", 0), ("retrain", 0), ("retrain", 1), ("retrain", 2), ("sruga", 0)]
    },
}


def write_log(path: Path, num_users: int = 60, num_items: int = 30) -> None:
    """A CSV log in which the next item follows from the last one, now and then."""
    rng = np.random.default_rng(0)
    lines = ["user,item,time"]
    for user in range(num_users):
        item = int(rng.integers(num_items))
        for time in range(int(rng.integers(6, 16))):
            lines.append(f"u{user:03d},i{item},{1000 + time}")
            item = (item * 3 + 1 + int(rng.integers(2))) % num_items
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of a tiny project; ``tiny.yaml`` is its preset, ``log.csv`` its log, not imported yet."""
    for name in ("params.yaml", "dvc.yaml", "MLproject", "python_env.yaml", ".dvcignore"):
        copy(ROOT / name, tmp_path / name)
    YAML().dump(TINY, tmp_path / "tiny.yaml")
    write_log(tmp_path / "log.csv")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path
