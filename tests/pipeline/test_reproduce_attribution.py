"""`srun reproduce attribution` on a tiny log in the place of MovieLens: its tables, figures and results."""

import csv
import json
from pathlib import Path
from shutil import copytree

import pytest
from click.testing import CliRunner, Result

from srun.cli import cli
from srun.stages import reproduce_attribution

ROOT = Path(__file__).parents[2]
GENRES = ("Action", "Drama", "Action|Drama", "Comedy", "")
SMALL = {
    "data.name": "tiny",
    "prepare.filter": "none",
    "prepare.max_length": 6,
    "model.bert4rec.hidden": 8,
    "model.bert4rec.blocks": 1,
    "model.bert4rec.heads": 2,
    "train.max_epochs": 4,
    "train.evaluate_every": 2,
    "train.patience": 4,
    "train.batch_size": 64,
    "train.learning_rate": 0.01,
    "unlearn.attribution_plus.finetune_steps": 2,
    "relearning.max_epochs": 1,
    "runtime.threads": 1,
    "runtime.device": "cpu",
    "runtime.tracking": "false",
}
WORDS = ["reproduce", "attribution", "--dataset", "ml-100k", "--no-others", "--out", "out"]


@pytest.fixture
def films(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copytree(ROOT / "experiments", project / "experiments")
    items = ["item,title,categories", *(f'i{item},t{item},"{GENRES[item % 5]}"' for item in range(30))]
    Path("items.csv").write_text("\n".join(items) + "\n")
    done = CliRunner().invoke(cli, ["data", "import", "log.csv", "--name", "tiny", "--items", "items.csv"])
    assert done.exit_code == 0, done.output
    monkeypatch.setattr(reproduce_attribution, "NUM_DRAWS", 3)
    monkeypatch.setattr(reproduce_attribution, "DOSES", (0, 2))
    kept = ("as it stands", "without items")
    variants = {name: reproduce_attribution.VARIANTS[name] for name in kept}
    monkeypatch.setattr(reproduce_attribution, "VARIANTS", variants)
    return project


def srun(*words: str) -> Result:
    return CliRunner().invoke(cli, [*words, *(f"--set={key}={value}" for key, value in SMALL.items())])


def test_tables_figures_and_results(films: Path) -> None:
    partly = srun(*WORDS, "--budget", "0", "--json")
    assert partly.exit_code == 0, partly.output
    assert "study action" in json.loads(partly.stdout)["left"]
    first = srun(*WORDS, "--json")
    assert first.exit_code == 0, first.output
    result = json.loads(first.stdout)
    assert result["left"] == []
    tables = result["tables"]
    assert tables["Table 1: data"][0]["users"] == "6040"
    printed = {row["Method"]: row for row in tables["Table 3: removal rate"]}
    assert printed["Attribution, printed"]["Removal rate"] == "74.82 %"
    rows = list(csv.DictReader((films / "out/results.csv").read_text().splitlines()))
    values = {(row["method"], row["split"], row["metric"]): float(row["value"]) for row in rows}
    assert {row["category"] for row in rows} == {"Action"}
    before, after = (values[name, "in_category", "hit_10"] for name in ("original", "attribution"))
    assert values["attribution", "in_category", "removal_rate_10"] == pytest.approx(1 - after / before, abs=1e-4)
    assert printed["Attribution, ours"]["Removal rate"] == f"{100 * (1 - after / before):.1f} %"
    assert values["random_neurons_equal_number", "in_category", "num_draws"] == 3
    assert ("attribution", "cost", "speedup") in values
    assert ("attribution_plus: without items", "in_category", "removal_rate_10") in values
    assert values["attribution_plus: as it stands", "in_category", "removal_rate_10"] == pytest.approx(
        values["attribution_plus", "in_category", "removal_rate_10"]
    )
    assert len({tuple(v for k, v in row.items() if k != "value") for row in rows}) == len(rows)
    names = {path.name for path in (films / "out/figures").iterdir()}
    assert names == {"figure-3-action.png", "front-action.png"}
    assert "not defined" in (films / "out/tables.md").read_text()
    again = json.loads(srun(*WORDS, "--json").stdout)
    assert again == {**result, "done": []}


def test_a_category_that_the_paper_does_not_have_is_refused(films: Path) -> None:
    result = srun(*WORDS, "--categories", "War")
    assert result.exit_code == 1
    assert "Action, Drama, Comedy" in result.output
