"""A flow with two Originals: what attacks have back of every file, and what single events tell, as far as the page."""

import json
import os
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from srun.cli import cli

ORIGINALS = "originals={sasrec-0: {model: sasrec, seed: 0, shards: 1}, sasrec-1: {model: sasrec, seed: 1, shards: 1}}"
CELL = "cells.{name}={{request: interactions, original: {original}, method: {method}, seed: {seed}}}"
CELLS = [("o", "sasrec-1", "original", 1), ("mask", "sasrec-0", "output_mask", 0)]
PRESET = ["--params", "tiny.yaml", "--set", ORIGINALS]
for name, original, method, seed in CELLS:
    PRESET += ["--set", CELL.format(name=name, original=original, method=method, seed=seed)]
ATTACKS = {"own", "ridge", "softmax_zero", "softmax_input"}


def ok(*words: str) -> str:
    result = CliRunner().invoke(cli, list(words))
    assert result.exit_code == 0, result.output
    return result.output


def test_files_and_single_events_are_judged_in_the_flow(project: Path) -> None:
    ok("data", "import", "log.csv", "--name", "tiny")
    ok("run", *PRESET)
    rows = pd.read_csv("reports/results.csv")
    recovered, by_event = (rows[rows["split"] == split] for split in ("recovered", "by_event"))
    ends = ("hit_10", "hit_10_low", "hit_10_high", "test_ndcg_10", "hit_10_limit")
    of_retrain = recovered[(recovered["method"] == "retrain") & (recovered["seed"] == 0)]
    assert {f"{attack}_{end}" for attack in ATTACKS for end in ends[:-1]} == set(of_retrain["metric"])
    of_mask = recovered[recovered["method"] == "output_mask"].set_index("metric")["value"]
    assert set(of_mask.index) == {f"{attack}_{end}" for attack in ATTACKS for end in ends}
    own = recovered[(recovered["method"] == "original") & (recovered["seed"] == 0)].set_index("metric")["value"]
    assert of_mask["own_hit_10"] == own["own_hit_10"], "attacks lift masks"
    figures = {"event_corr", "event_corr_share", "event_mae", "event_mae_ratio"}
    memory = {"memory_left", "memory_left_low", "memory_left_high", "memory_left_limit"}
    of_original = by_event[(by_event["method"] == "original") & (by_event["seed"] == 0)].set_index("metric")["value"]
    assert figures | memory == set(of_original.index)
    assert of_original["memory_left"] == pytest.approx(1)
    comparison = json.loads(Path("reports/judgement.json").read_text())["comparisons"][0]
    [mask] = next(one for one in comparison["methods"] if one["method"] == "output_mask")["rows"]
    assert [part["name"] for part in mask["verdict"]["parts"]] == ["hits", "ranks", "file", "events"]
    assert set(mask["file"]["hits"]) == ATTACKS
    assert "what attacks have back of the file" in Path("reports/summary.md").read_text()

    folders = [Path("evaluations/sasrec-0/interactions") / name for name in ("original-0", "retrain-0")]
    assert ["features.parquet" in os.listdir(folder) for folder in folders] == [True, False]
    ok("run", *PRESET, "--set", "evaluate.recovery=false")
    assert "recovered" not in set(pd.read_csv("reports/results.csv")["split"])
    assert "No file was attacked (evaluate.recovery)" in Path("reports/summary.md").read_text()
