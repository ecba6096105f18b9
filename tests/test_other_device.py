"""All that runs on a device runs on one that is not the CPU, with the CPU's results (see ``other_device``)."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).with_name("other_device.py")
TOLERANCE = 1e-3
"""Of weights after a few of Adam's steps, some of whose gradients are all rounding: BERT4Rec's reach 2e-4."""
MAX_WAITS = 6
"""For the device in a training step: the longest window, the places of targets, too small probabilities, other weights
of losses; a bit more where an epoch begins."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    alone = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, PROGRAM], env={**os.environ, **alone}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


def test_work_on_another_device_has_the_cpus_results(rows: list[dict[str, Any]]) -> None:
    works = [row for row in rows if "name" in row]
    assert len(works) > 20
    assert {row["name"]: row["error"] for row in works if row["error"]} == {}
    assert {row["name"]: row["apart"] for row in works if not row["apart"] < TOLERANCE} == {}


def test_a_training_step_seldom_waits_for_the_device(rows: list[dict[str, Any]]) -> None:
    trained = [row for row in rows if row.get("name", "").startswith("train ")]
    assert trained
    assert {
        row["name"]: row["waits"] / row["steps"] for row in trained if row["waits"] > MAX_WAITS * row["steps"]
    } == {}


def test_mistakes_that_a_gpu_refuses_are_seen(rows: list[dict[str, Any]]) -> None:
    mistakes = {row["mistake"]: row["error"] for row in rows if "mistake" in row}
    assert len(mistakes) == 6
    assert [name for name, error in mistakes.items() if not error] == []
