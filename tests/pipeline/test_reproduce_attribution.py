"""`srun reproduce attribution` on a tiny log in the place of MovieLens: its tables, figures and results."""

import csv
import json
import runpy
from pathlib import Path
from shutil import copytree
from statistics import mean, stdev

import pytest
from click.testing import CliRunner, Result

from srun.cli import cli
from srun.papers.attribution import category, experiment, report

ROOT = Path(__file__).parents[2]
GENRES = ("Action", "Drama", "Action|Drama", "Comedy", "")
SMALL = {
    "data.name": "tiny",
    "prepare.filter": "none",
    "prepare.max_length": 6,
    "model.bert4rec.hidden": 8,
    "model.bert4rec.blocks": 1,
    "model.bert4rec.heads": 2,
    "model.gru4rec.hidden": 8,
    "model.caser.hidden": 8,
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
PLUS = ("attribution_plus", "attribution_plus: as it stands")
WORDS = ["reproduce", "attribution", "--dataset", "ml-100k", "--out", "out"]


@pytest.fixture
def films(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copytree(ROOT / "presets", project / "presets")
    items = ["item,title,categories", *(f'i{item},t{item},"{GENRES[item % 5]}"' for item in range(30))]
    Path("items.csv").write_text("\n".join(items) + "\n")
    done = CliRunner().invoke(cli, ["data", "import", "log.csv", "--name", "tiny", "--items", "items.csv"])
    assert done.exit_code == 0, done.output
    monkeypatch.setattr(category, "NUM_DRAWS", 3)
    monkeypatch.setattr(category, "DOSES", (0, 2))
    kept = ("as it stands", "without items")
    variants = {name: category.VARIANTS[name] for name in kept}
    monkeypatch.setattr(category, "VARIANTS", variants)
    protocols = {"users_80_20": ["prepare.holdout=users_80_20"], "epochs_2": experiment._epochs(2)}
    monkeypatch.setattr(experiment, "PROTOCOLS", protocols)
    monkeypatch.setattr(report, "PROTOCOLS", protocols)
    return project


def srun(*words: str) -> Result:
    return CliRunner().invoke(cli, [*words, *(f"--set={key}={value}" for key, value in SMALL.items())])


def test_tables_figures_and_results(films: Path) -> None:
    words = [*WORDS, "--num-seeds", "2", "--json"]
    partly = srun(*words, "--budget", "0")
    assert partly.exit_code == 0, partly.output
    left = json.loads(partly.stdout)["left"]
    assert {
        "experiment action front",
        "experiment action without items",
        "epochs_2: evaluate action-attribution",
    } <= set(left)
    first = srun(*words)
    assert first.exit_code == 0, first.output
    result = json.loads(first.stdout)
    assert result["left"] == []
    tables = result["tables"]
    assert tables["Table 1: data"][0]["users"] == "6040"
    printed = {row["Method"]: row for row in tables["Table 3: removal rate"]}
    assert printed["Attribution, printed"]["Removal rate"] == "74.82 %"
    rows = list(csv.DictReader((films / "out/results.csv").read_text().splitlines()))
    ours = [row for row in rows if row["model"] == "bert4rec"]
    by_seed = [
        {(row["method"], row["split"], row["metric"]): float(row["value"]) for row in ours if row["seed"] == seed}
        for seed in "01"
    ]
    values = by_seed[0]
    assert {row["category"] for row in rows} == {"Action"}
    assert "nan" not in {row["value"] for row in rows}
    before, after = (values[name, "in_category", "hit_10"] for name in ("original", "attribution"))
    assert values["attribution", "in_category", "removal_rate_10"] == pytest.approx(1 - after / before, abs=1e-4)
    rates = [100 * figures["attribution", "in_category", "removal_rate_10"] for figures in by_seed]
    assert printed["Attribution, ours"]["Removal rate"] == f"{mean(rates):.1f} ± {stdev(rates):.1f} %"
    kept = {row["Method"]: row for row in tables["What is kept and what is left"]}
    assert {row["Seeds"] for row in kept.values()} == {"2"}
    shares = [100 * figures["attribution_plus", "out_of_category", "hit_10_of_retrain"] for figures in by_seed]
    assert kept["Attribution plus"]["Hit@10 of Retrain's"] == f"{mean(shares):.1f} ± {stdev(shares):.1f} %"
    assert values["random_neurons_equal_number", "in_category", "num_draws"] == 3
    assert ("attribution", "cost", "speedup") in values
    assert ("attribution_plus: without items", "in_category", "removal_rate_10") in values
    assert values["attribution_plus: as it stands", "in_category", "removal_rate_10"] == pytest.approx(
        values["attribution_plus", "in_category", "removal_rate_10"]
    )
    assert len({tuple(v for k, v in row.items() if k != "value") for row in rows}) == len(rows)
    curve = json.loads((films / "out/evaluations/bert4rec-0/action/attribution-0/report.json").read_text())[
        "relearning"
    ]
    for way in ("returned", "retain"):
        assert values["attribution", "relearning", f"{way}_cap"] == curve[way]["steps"][-1]
        assert values["attribution", "relearning", f"{way}_hit_10_first"] == pytest.approx(
            curve[way]["hit_10"][0], 1e-4
        )
    own, variant = (values[name, "relearning", "returned_threshold"] for name in PLUS)
    assert own == variant, "the experiment is of one Original, whose threshold it is"
    assert ("attribution_plus: as it stands", "relearning", "retain_threshold") not in values, "one way is enough there"

    ranked = {
        (row["Model"], row["Ranking"]) for row in tables["Figures 3 and 4 as a table: all targets of report users"]
    }
    assert {
        (model, ranking) for model in ("GRU4Rec", "Caser", "Original") for ranking in ("full", "100 sampled")
    } <= ranked
    assert {row["model"] for row in rows} == {"bert4rec", "gru4rec", "caser"}

    protocols = {row["Protocol"]: row for row in tables["Removal rate by protocol"]}
    assert list(protocols) == ["as in the other tables", "users_80_20", "epochs_2"]
    assert protocols["users_80_20"]["Changed"] == "prepare.holdout=users_80_20"
    assert protocols["users_80_20"]["Removed: training events, full"] == "–", "report users have none there"
    short = json.loads((films / "out/protocols/epochs_2/models/bert4rec-0/original/model.json").read_text())
    assert short["train"]["max_epochs"] == short["cost"]["epochs"] == 2
    for name in ("users_80_20", "epochs_2"):
        before, after = (values[f"{m}: {name}", "in_category", "hit_10"] for m in ("original", "attribution"))
        assert protocols[name]["Removed: test targets, full"] == (
            f"{100 * (1 - after / before):.1f} %" if before else "–"
        )
    assert protocols["as in the other tables"]["Removed: test targets, full"] == f"{rates[0]:.1f} %"
    names = {path.name for path in (films / "out/figures").iterdir()}
    assert names == {"figure-3-action.png", "front-action.png"}
    assert "not defined" in (films / "out/tables.md").read_text()
    again = json.loads(srun(*words).stdout)
    assert again == {**result, "done": []}
    check_search(films / "out")


def check_search(out: Path) -> None:
    """The script that tries settings: a row an entry and seed, none made twice, on validation targets."""
    script, file = ROOT / "benchmarks/search/attribution_plus.py", out / "search.csv"
    entries = ["nothing", "without repair"]
    options = ["--out", str(out), "--csv", str(file), "--seeds", "0", "1", "--only", *entries]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(script.parent)  # as Python does for a script
        search = runpy.run_path(str(script))
    for _ in range(2):
        search["main"]([*options, "--list", str(script.parent / "entries/attribution_plus.yaml")])
        rows = list(csv.DictReader(file.read_text().splitlines()))
        assert [(row["name"], row["seed"]) for row in rows] == [(name, seed) for name in entries for seed in "01"]
    assert rows[0]["settings"] == "items=keep finetune_steps=0"
    assert [float(row["hit_10_kept"]) for row in rows[:2]] == [1, 1]
    assert float(rows[0]["removal_10"]) == 0
    assert float(rows[0]["hit_10_of_mask"]) <= 1, "a mask makes room for other items"
    assert rows[2]["target_gradients"] == "0"
    assert [float(row["removal_10"]) for row in rows[2:]] != [0, 0]


def test_without_others_and_protocols_and_what_has_no_neurons(films: Path) -> None:
    words = [*WORDS, "--budget", "0", "--json", "--categories", "Action,Drama"]
    every = json.loads(srun(*words).stdout)["left"]
    assert {f"evaluate {request}-{model}" for request in ("action", "drama") for model in ("gru4rec", "caser")} <= set(
        every
    )
    seeds = json.loads(srun(*words, "--num-seeds", "2").stdout)["left"]
    assert {name for name in seeds if name.endswith("-1")} >= {"train bert4rec-1", "evaluate action-retrain-1"}
    assert not {name for name in seeds if "drama" in name} - set(every), "further categories have one seed"
    few = json.loads(srun(*words, "--no-others", "--no-protocols").stdout)["left"]
    assert {name for name in every if "gru4rec" in name or "caser" in name or ": " in name} == set(every) - set(few)
    cells = {"x": {"request": "action", "original": "caser-0", "method": "attribution", "seed": 0}}
    refused = srun(*WORDS, f"--set=cells={json.dumps(cells)}")
    assert refused.exit_code == 1
    assert "Caser has no feed-forward neurons" in refused.output


def test_a_category_that_the_paper_does_not_have_is_refused(films: Path) -> None:
    result = srun(*WORDS, "--categories", "War")
    assert result.exit_code == 1
    assert "Action, Drama, Comedy" in result.output
