"""The whole flow as a user runs it: import, run, results; the same bits again; MLflow filled; bad input refused."""

import hashlib
import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from srun.cli import cli

PRESET = ["--params", "tiny.yaml"]


def srun(*words: str) -> Result:
    return CliRunner().invoke(cli, list(words))


def ok(*words: str) -> Result:
    result = srun(*words)
    assert result.exit_code == 0, result.output
    return result


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for part in ("data/prepared", "data/partition", "models", "evaluations", "reports/metrics")
        for path in sorted((folder / part).rglob("*"))
        if path.is_file()
    }


@pytest.mark.slow
def test_whole_flow_twice_gives_the_same_bits(project: Path) -> None:
    ok("data", "import", "log.csv", "--name", "tiny")
    ok("run", *PRESET, "--out", "one")
    ok("run", *PRESET, "--out", "two")
    assert digests(project / "one") == digests(project / "two")
    assert len(digests(project / "one")) > 20
    results = pd.read_csv(project / "one/reports/results.csv")
    assert list(results.columns[:8]) == ["dataset", "model", "method", "seed", "split", "category", "metric", "value"]
    assert {"original", "retrain", "sruga"} <= set(results["method"])
    assert {"test", "forget_report", "cost"} <= set(results["split"])
    assert (project / "one/reports/index.html").stat().st_size > 10_000
    assert not list((project / "one/runs").rglob("state.json")), "resume folders go when a run ends"


def test_stages_one_by_one_and_tracking(project: Path) -> None:
    import mlflow

    ok("data", "import", "log.csv", "--name", "tiny")
    tracked = [*PRESET, "--set", "runtime.tracking=true"]
    ok("prepare", *tracked)
    ok("partition", *tracked)
    figures = json.loads(ok("train", *tracked, "--json").stdout)
    assert 0 <= figures["validation/ndcg_10"] <= 1
    ok("unlearn", "--method", "sruga", *tracked)
    mlflow.set_tracking_uri(f"sqlite:///{project}/mlflow.db")
    runs = mlflow.search_runs(search_all_experiments=True, output_format="list")
    by_stage = {run.data.tags["stage"]: run for run in runs}
    assert set(by_stage) == {"prepare", "partition", "train", "levels", "unlearn"}
    client = mlflow.MlflowClient()
    for stage, metric in (("train", "validation/ndcg_10"), ("unlearn", "forget_tune/hit_10")):
        run = by_stage[stage]
        assert run.info.status == "FINISHED"
        assert len(client.get_metric_history(run.info.run_id, metric)) >= 2
        assert run.inputs.dataset_inputs[0].dataset.name == "tiny"
        assert {item.path for item in client.list_artifacts(run.info.run_id, "model")} >= {"model/weights.safetensors"}
    stored = (project / "mlflow.db").read_bytes()
    assert b"u001" not in stored, "no raw user id goes to the tracker"


def test_report_alone_judges_first_where_evaluations_are_newer(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="srun")

    def judged(*words: str) -> bool:
        caplog.clear()
        ok(*words, *PRESET)
        return any(record.getMessage().startswith("judge: the figures") for record in caplog.records)

    ok("data", "import", "log.csv", "--name", "tiny")
    for words in (["prepare"], ["partition"], ["train"], ["unlearn", "--method", "original"]):
        ok(*words, *PRESET)
    ok("evaluate", "--method", "original", *PRESET)
    assert judged("report")
    before = (project / "reports/judgement.json").read_bytes()
    assert not judged("report")
    assert (project / "reports/judgement.json").read_bytes() == before
    written = json.loads(ok("judge", *PRESET, "--json").stdout)["written"]
    assert set(written) == {"results.csv", "results.parquet", "judgement.json"}
    for words in (["unlearn", "--method", "sruga"], ["evaluate", "--method", "sruga"]):
        ok(*words, *PRESET)
    assert judged("report")
    assert "sruga" in (project / "reports/results.csv").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["prepare", "--set", "prepare.filtr=once"], 'unknown parameter "prepare.filtr"; did you mean "filter"?'),
        (["prepare", "--set", "prepare.max_length=x"], 'parameter "prepare.max_length"'),
        (["train", "--original", "sasreq-0"], 'did you mean "sasrec-0"?'),
        (["partition", "--request", "interaction"], 'did you mean "interactions"?'),
        (["unlearn", "--method", "srgua"], 'did you mean "sruga"?'),
        (["prepare", "--params", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["train", "--set", "runtime.device=cuda:7"], 'runtime.device "cuda:7" is not on this machine'),
        (["partition"], "run `srun prepare --params tiny.yaml` first"),
        (["data", "fetch", "ml-10k"], 'did you mean "ml-100k"?'),
    ],
)
def test_bad_input_gets_one_line(project: Path, words: list[str], said: str) -> None:
    if words[0] != "data":
        words = [*words, *PRESET] if "--params" not in words else words
    result = srun(*words)
    assert result.exit_code == 1
    assert said in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert not (project / "data/prepared").exists()
    assert not (project / "models").exists()
