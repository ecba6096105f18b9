"""`srun reproduce thesis` on a tiny log in the place of Beauty: its tables, and what a budget leaves."""

import csv
import gzip
import json
from pathlib import Path
from shutil import copytree

import pytest
from click.testing import CliRunner, Result

from srun.cli import cli
from srun.params import load
from srun.pipeline import Pipeline

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
    copytree(ROOT / "experiments", project / "experiments")
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
    params = load(Path("params.yaml"), [Path("experiments/thesis.yaml")], changes)
    pipeline, cell = Pipeline(params, thesis, thesis / "beauty"), params.cells["sasrec-original-0"]
    pipeline.prepare()
    pipeline.partition("interactions")
    pipeline.train("sasrec-0")
    pipeline.unlearn(cell)
    pipeline.evaluate(cell)
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
    params = load(ROOT / "params.yaml", [ROOT / "experiments/thesis.yaml"])
    assert (params.train.loss, params.train.num_negatives, params.train.learning_rate) == ("bce", 1, 0.003)
    assert (params.train.batch_size, params.train.evaluate_every, params.train.patience) == (256, 10, 50)
    assert (params.prepare.max_length, params.prepare.holdout, params.prepare.calibration_users) == (10, "window", 0)
    sruga = params.unlearn.sruga
    assert (sruga.ascent_weight, sruga.kl_weight, sruga.finetune_weight) == (0.5, 1.0, 0.5)
    assert (sruga.learning_rate, sruga.stop, sruga.patience, sruga.evaluate_every) == (1e-4, "plateau", 30, 10)
    assert params.unlearn.sisa.retrain == "all"
    assert not params.model.sasrec.tie_embeddings
