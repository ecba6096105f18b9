"""`srun reproduce thesis` on a tiny log in the place of Beauty: its tables, and what a budget leaves."""

import csv
import gzip
import json
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from srun.cli import cli
from srun.flow import stages
from srun.flow.layout import Layout
from srun.flow.params import load
from srun.flow.project import Project
from srun.models.scorer import clone_model, new_model
from srun.papers.ablation.figures import draw
from srun.papers.ablation.movement import moved
from srun.papers.ablation.variants import COMBINATIONS, variants

ROOT = Path(__file__).parents[2]
SMALL = {
    "prepare.max_length": 6,
    "partition.interactions.share_of_users": 0.5,
    "model.sasrec.hidden": 8,
    "model.sasrec.blocks": 1,
    "train.max_epochs": 4,
    "train.evaluate_every": 2,
    "train.patience": 4,
    "train.batch_size": 64,
    "unlearn.sruga.max_epochs": 2,
    "runtime.threads": 1,
    "runtime.tracking": "false",
}
WORDS = ["reproduce", "thesis", "--dataset", "beauty", "--models", "sasrec", "--data", "downloads", "--out", "beauty"]


@pytest.fixture
def thesis(project: Path) -> Path:
    copytree(ROOT / "presets", project / "presets")
    events = csv.DictReader((project / "log.csv").read_text().splitlines())
    folder = project / "downloads" / "amazon-beauty"
    folder.mkdir(parents=True)
    with gzip.open(folder / "pairs.txt.gz", "wt") as file:
        file.writelines(f"{int(event['user'][1:]) + 1} {int(event['item'][1:]) + 1}\n" for event in events)
    return project


def srun(*words: str) -> Result:
    return CliRunner().invoke(cli, [*words, *(f"--set={key}={value}" for key, value in SMALL.items())])


def test_tables_figures_and_results(thesis: Path) -> None:
    first = srun(*WORDS, "--json")
    assert first.exit_code == 0, first.output
    result = json.loads(first.stdout)
    assert result["left"] == []
    table = result["tables"]["Table 4: recommendation and forgetting"]
    by_row = {(row["Method"], row[""]): row for row in table}
    assert by_row["SRUGA", "printed"]["D_fgt H@10"] == "0.2749"
    results = {
        (row["method"], row["split"], row["metric"]): float(row["value"])
        for row in csv.DictReader((thesis / "beauty/results.csv").read_text().splitlines())
    }
    for method, name in (("original", "Original"), ("retrain", "Retrain"), ("sisa", "SISA"), ("sruga", "SRUGA")):
        sampled, full = by_row[name, "ours, 100 sampled"], by_row[name, "ours, full ranking"]
        assert float(sampled["D_raw N@20"]) == pytest.approx(results[method, "test_raw", "ndcg_20_sampled"], abs=1e-4)
        assert float(full["D_fgt H@1"]) == pytest.approx(results[method, "forget_report", "hit_1"], abs=1e-4)
    minutes = {row["Method"]: row for row in result["tables"]["Table 5: minutes"]}
    assert minutes["SRUGA"]["printed speed-up"] == "83.8×"
    expected = results["retrain", "cost", "seconds"] / 60
    assert float(minutes["Retrain"]["ours"]) == pytest.approx(expected, abs=0.01)
    settings = {row[""]: (row["printed"], row["ours"]) for row in result["tables"]["Table 3: settings"]}
    assert settings["SASRec: dropout"] == ("0.5", "0.5")
    assert settings["hidden units"] == ("64", "8"), "what was changed is seen"
    case = result["tables"]["Table 6: a case"]
    assert {row["Model"] for row in case} == {"SASRec (printed)", "SASRec (ours, sasrec-0)"}
    text = (thesis / "beauty/tables.md").read_text()
    assert "multiples of 1/506" in text
    assert {path.name for path in (thesis / "beauty/figures").iterdir()} == {f"figure-{n}.png" for n in (6, 7, 8)}
    again = json.loads(srun(*WORDS, "--json").stdout)
    assert again == {**result, "done": []}


def test_a_budget_leaves_a_table_of_what_is_done(thesis: Path) -> None:
    stopped = srun(*WORDS, "--budget", "0")
    assert stopped.exit_code == 0
    assert "left, for the same command to go on with: prepare" in stopped.output
    changes = [f"{key}={value}" for key, value in {**SMALL, "data.name": "amazon-beauty"}.items()]
    params = load(Path("params.yaml"), [Path("presets/thesis.yaml")], changes)
    project = Project(params, Layout(thesis, thesis / "beauty"))
    for step in stages.plan(project)[:5]:
        step.run()
    result = json.loads(srun(*WORDS, "--budget", "0", "--json").stdout)
    assert result["left"][0] == "unlearn sasrec-sruga-0"
    table = result["tables"]["Table 4: recommendation and forgetting"]
    rows = {(row["Method"], row[""]) for row in table if row[""] != "printed"}
    assert rows == {("Original", "ours, 100 sampled"), ("Original", "ours, full ranking")}
    assert "Not done yet: unlearn sasrec-sruga-0" in (thesis / "beauty/tables.md").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--dataset", "games"], "amazon-games is not there: give --data FOLDER"),
        (["--dataset", "beauty", "--data", "nowhere"], "nowhere/amazon-beauty/pairs.txt.gz does not exist"),
        (["--dataset", "beauty", "--data", "downloads", "--models", "sasreq"], 'did you mean "sasrec"?'),
    ],
)
def test_bad_input_gets_one_line(thesis: Path, words: list[str], said: str) -> None:
    result = srun("reproduce", "thesis", *words)
    assert result.exit_code == 1
    assert said in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_presets_keep_the_thesis_to_the_letter() -> None:
    params = load(ROOT / "params.yaml", [ROOT / "presets/thesis.yaml"])
    assert (params.train.loss, params.train.num_negatives, params.train.learning_rate) == ("bce", 1, 0.003)
    assert (params.train.batch_size, params.train.evaluate_every, params.train.patience) == (256, 10, 50)
    assert (params.prepare.max_length, params.prepare.holdout, params.prepare.calibration_users) == (10, "window", 0)
    sruga = params.unlearn.sruga
    assert (sruga.ascent_weight, sruga.kl_weight, sruga.finetune_weight) == (0.5, 1.0, 0.5)
    assert (sruga.learning_rate, sruga.stop, sruga.patience, sruga.evaluate_every) == (1e-4, "plateau", 30, 10)
    assert params.unlearn.sisa.retrain == "all"
    assert not params.model.sasrec.tie_embeddings


ABLATION = ["reproduce", "ablation", "--dataset", "beauty", "--data", "downloads", "--out", "a", "--json"]


def test_ablation_of_combinations(thesis: Path) -> None:
    words = [*ABLATION, "--parts", "combinations"]
    result = json.loads(srun(*words).stdout)
    rows = {row["variant"]: row for row in result["tables"]["combinations"]}
    assert list(rows) == ["+".join(terms) for terms in COMBINATIONS]
    assert len({row["seconds"] for row in rows.values()}) > 1
    assert len({json.dumps(shift) for shift in movements(thesis / "a/moved.csv")}) == 7, "every combination is another"
    full = {row["variant"]: row for row in movements(thesis / "a/moved.csv")}["GA+KL+FT"]
    assert 0 < float(full["item embeddings"]) < 1
    assert {path.name for path in (thesis / "a/figures").iterdir()} == {"figure-9.png", "moved.png"}
    again = json.loads(srun(*words).stdout)
    assert again == {**result, "done": []}
    changed = json.loads(srun(*words, "--set", "unlearn.sruga.kl_weight=0.7", "--budget", "0").stdout)
    assert changed["left"] == [f"combinations {name}" for name in rows if "KL" in name]
    assert [row["variant"] for row in changed["tables"]["combinations"]] == ["GA", "FT", "GA+FT"]


def movements(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(file.read_text().splitlines()))


def test_sweeps_vary_one_weight_each() -> None:
    params = load(ROOT / "params.yaml", [ROOT / "presets/thesis.yaml", ROOT / "presets/ablation.yaml"])
    sweeps = variants(params.unlearn.sruga, ["sweeps"])
    assert [dict(variant.changes) for variant in sweeps] == [
        {key: round(0.1 * step, 1)}
        for key in ("ascent_weight", "kl_weight", "finetune_weight")
        for step in range(1, 11)
    ]
    figures = {"test_recall_10": 0.1, "forget_report_hit_10": 0.2}
    rows = [{"variant": variant.name, **variant.changes, **figures} for variant in sweeps]
    assert set(draw({"sweeps": rows}, [], [], {})) == {"figure-10-11.png"}


def test_long_curves_go_on_in_chunks_and_end_as_one(thesis: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [*ABLATION, "--parts", "curves", "--epochs"]
    whole = json.loads(srun(*words, "20").stdout)
    assert len(whole["done"]) == 3 + 4
    expected = (thesis / "a/long-curves.csv").read_text()
    (thesis / "a").rename(thesis / "whole")
    monkeypatch.setattr("srun.papers.ablation.experiment.CHUNK", 10)
    first = json.loads(srun(*words, "10").stdout)
    assert [row["epochs"] for row in first["tables"]["curves"]] == ["10"] * 4
    second = json.loads(srun(*words, "20").stdout)
    assert second["done"] == [f"curves {row['variant']} to epoch 20" for row in first["tables"]["curves"]]
    assert (thesis / "a/long-curves.csv").read_text() == expected
    curves = movements(thesis / "a/long-curves.csv")
    start = {row["retain/loss"] for row in curves if row["epoch"] == "0"}
    assert len(start) == 1, "all begin at Original"
    assert len({row["retain/loss"] for row in curves if row["epoch"] == "20"}) == 4


def test_moved_is_the_change_over_what_was_there() -> None:
    settings = {"hidden": 4, "blocks": 2, "heads": 1, "dropout": 0.0, "tie_embeddings": True}
    before = new_model({"name": "sasrec", "settings": settings, "num_items": 5, "max_length": 3})
    before.initialise(torch.Generator().manual_seed(0))
    after = clone_model(before)
    with torch.no_grad():
        after.embedding.weight[2] *= 3  # moves by twice its own length
        after.blocks[1].inner.weight.mul_(1.5)
        after.blocks[1].inner.bias.mul_(1.5)
        after.blocks[1].outer.weight.mul_(1.5)
        after.blocks[1].outer.bias.mul_(1.5)
    shares = moved(before, after, np.array([2]))
    assert shares["embeddings of forgotten items"] == pytest.approx(2.0)
    assert shares["embeddings of other items"] == 0
    assert shares["block 2, feed-forward"] == pytest.approx(0.5)
    assert shares["block 1, feed-forward"] == shares["block 2, attention"] == shares["norms"] == 0
    rows = before.embedding.weight.detach()
    assert shares["item embeddings"] == pytest.approx(float(2 * rows[2].norm() / rows.norm()))
