"""A service of a tiny log, made once and copied for every test."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from srun.service.desk import Service
from srun.service.ledger import New
from srun.service.operations import make_service

ROOT = Path(__file__).parents[2]
TINY = {
    "prepare": {"filter": "none", "max_length": 6, "calibration_users": 0.2, "calibration_events": 0.5},
    "model": {"sasrec": {"hidden": 8, "blocks": 1}},
    "train": {"max_epochs": 2, "evaluate_every": 2, "patience": 2, "batch_size": 64, "learning_rate": 0.01},
    "evaluate": {"batch_size": 64},
    "runtime": {"threads": 1, "tracking": False, "progress": False, "device": "cpu"},
    "originals": {"sasrec-0": {"model": "sasrec", "seed": 0, "shards": 1}},
    "cells": {},
    "service": {"gate": {"simulated": 0, "draws": 20, "weak_utility": 0.1, "retrained_utility": 0.1}, "dvc": False},
}


def write_log(path: Path, num_users: int = 60, num_items: int = 30) -> None:
    """A CSV log; user-0007 has the ids, in time, of 1000, 1001, ..."""
    rng = np.random.default_rng(0)
    lines = ["user,item,time"]
    for user in range(num_users):
        for time in range(int(rng.integers(8, 16))):
            lines.append(f"user-{user:04d},i{int(rng.integers(num_items))},{1000 + time}")
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab with a data set, a service of it in ``svc``, and its keys in ``keys``."""
    from srun.flow.fetch import import_file

    lab = tmp_path_factory.mktemp("lab")
    before, keys = Path.cwd(), os.environ.get("SRUN_KEYS")
    shutil.copy(ROOT / "params.yaml", lab / "params.yaml")
    YAML().dump(TINY, lab / "tiny.yaml")
    write_log(lab / "log.csv")
    os.chdir(lab)
    os.environ["SRUN_KEYS"] = str(lab / "keys")
    try:
        import_file(lab / "log.csv", "tiny", lab / "data" / "raw")
        make_service(Path("svc"), "tiny", Path("params.yaml"), ["tiny.yaml"], [], "")
    finally:
        os.chdir(before)
        os.environ.pop("SRUN_KEYS")
        if keys is not None:
            os.environ["SRUN_KEYS"] = keys
    return lab


@pytest.fixture
def lab(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the lab for one test, which works in it."""
    copy = tmp_path / "lab"
    shutil.copytree(made, copy, symlinks=True)
    monkeypatch.chdir(copy)
    monkeypatch.setenv("SRUN_KEYS", str(copy / "keys"))
    return copy


@pytest.fixture
def service(lab: Path) -> Service:
    """The service of the lab; its closed form counts as qualified."""
    opened = Service.open(lab / "svc")
    for kind in ("events", "users"):
        shown = {
            "key": f"1/closed_form/{kind}",
            "word": "passes",
            "reason": "",
            "number": "30",
            "at": "0",
            "figures": {},
        }
        opened.ledger.append(lambda entries, kind=kind, shown=shown: [New("service", f"qualified-{kind}", shown)])
    return opened
