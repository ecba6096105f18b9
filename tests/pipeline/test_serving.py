"""A tracked model answers over http as it does in process; unknown items and empty histories are handled."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from mlflow import MlflowClient

from srun.cli import cli
from srun.service.recommender import Recommender

HISTORIES = [["i1", "i4", "i13"], ["i1", "no such item"], [], ["nothing known"]]


def ok(*words: str) -> Result:
    result = CliRunner().invoke(cli, list(words))
    assert result.exit_code == 0, result.output
    return result


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(port: int, body: object, patience: float = 60) -> tuple[int, object]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    until = time.monotonic() + patience
    while True:
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


@pytest.fixture
def trained(project: Path) -> Path:
    ok("data", "import", "log.csv", "--name", "tiny")
    for words in (["prepare"], ["partition"], ["train", "--set", "runtime.tracking=true"]):
        ok(*words, "--params", "tiny.yaml")
    return project


@pytest.mark.slow
def test_served_model_answers_as_in_process(trained: Path) -> None:
    expected = Recommender.load(trained / "models/sasrec-0/original").recommend(HISTORIES, k=5)
    assert [len(answer.item_ids) for answer in expected] == [5, 5, 0, 0]
    assert expected[1].unknown == ["no such item"]
    assert not set(expected[0].item_ids) & {"i1", "i4", "i13"}
    port = free_port()
    command = ["serve", "-m", "models:/srun-tiny-sasrec-0@original", "--env-manager", "local", "--port", str(port)]
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": f"sqlite:///{trained}/mlflow.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "models", *command],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        body = {
            "dataframe_split": {"columns": ["history"], "data": [[history] for history in HISTORIES]},
            "params": {"k": 5},
        }
        status, answer = ask(port, body)
        assert status == 200, answer
        assert isinstance(answer, dict)
        assert [row["item_ids"] for row in answer["predictions"]] == [answer.item_ids for answer in expected]
        status, _ = ask(port, {"dataframe_split": {"columns": ["story"], "data": [["i1"]]}})
        assert status == 400
    finally:
        os.killpg(server.pid, 15)
        server.wait()


def test_recommend_command(trained: Path) -> None:
    words = ["recommend", "--model", "models/sasrec-0/original", "--history", "i1,i4,i13", "-k", "3", "--json"]
    rows = json.loads(ok(*words).stdout)
    [expected] = Recommender.load(trained / "models/sasrec-0/original").recommend([["i1", "i4", "i13"]], k=3)
    assert [row["item_id"] for row in rows] == expected.item_ids
    assert not [path for path in trained.rglob("*") if path.suffix in (".pkl", ".pickle", ".pt", ".pth")]
    missing = CliRunner().invoke(cli, ["recommend", "--model", "nowhere", "--history", "i1"])
    assert missing.exit_code == 1
    assert "nowhere: no model here" in missing.output


def refused(*words: str) -> str:
    """What is said of a history that cannot be taken: one line."""
    result = CliRunner().invoke(cli, ["recommend", "--model", "models/sasrec-0/original", *words])
    assert result.exit_code in (1, 2)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    [line] = result.output.strip().splitlines()[-1:]
    assert line.startswith("Error: ")
    assert line.isprintable()
    return line


def test_histories_that_cannot_be_read_are_one_line(trained: Path) -> None:
    for history in ("i1\ni2", "i1,\r", "i1,\x1b[31mi2", '"i1,i2', 'i1,"i2"x', "i1\u2028i2", "\n" * 1000):
        assert "--history: expected item ids with commas between them" in refused("--history", history)
    for k in ("0", "-3", "30", "1000000"):
        assert "expected 1 to 29, the number of items" in refused("--history", "i1", "-k", k)


def test_unknown_items_are_told_once_each(trained: Path) -> None:
    words = ["recommend", "--model", "models/sasrec-0/original", "--history"]
    said = ok(*words, 'x, i1 ,"a,b",x,x,"a,b"').output
    assert "unknown items left out: x, a,b\n" in said
    assert "the history has no known item" in ok(*words, ",,").output
    assert "the history has no known item" in ok(*words, "").output


def test_a_model_that_was_tampered_with_is_not_served(trained: Path) -> None:
    items = trained / "models/sasrec-0/original/items.csv"
    header, *rows = items.read_text().splitlines()
    items.write_text("\n".join([header, *reversed(rows)]) + "\n")
    assert "items.csv: not what was written" in refused("--history", "i1")
    for words in (["unlearn", "--method", "original"], ["optimize"]):
        result = CliRunner().invoke(cli, [*words, "--params", "tiny.yaml"])
        assert result.exit_code == 1
        assert "items.csv: not what was written" in result.output
    ok("train", "--params", "tiny.yaml")
    assert ok("recommend", "--model", "models/sasrec-0/original", "--history", "i1").stdout


def test_a_tracker_that_is_away_ends_neither_training_nor_search(
    trained: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    for words in (["train"], ["optimize", "--trials", "2"], ["unlearn", "--method", "sruga"]):
        began = time.monotonic()
        caplog.clear()
        result = CliRunner().invoke(cli, [*words, "--params", "tiny.yaml", "--set", "runtime.tracking=true"])
        assert result.exit_code == 0, result.output
        [line] = [line for line in caplog.messages if "tracking store" in line]
        assert line.startswith("tracking store http://127.0.0.1:9: start the server")
        assert "srun sync" in line
        assert time.monotonic() - began < 60
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    result = CliRunner().invoke(cli, ["sync"])
    assert result.exit_code == 1, "they are for another store"
    result = CliRunner().invoke(cli, ["sync", "--all"])
    assert result.exit_code == 0, result.output
    client = MlflowClient(f"sqlite:///{trained}/mlflow.db")
    stored = client.search_runs(["1"], "attributes.status = 'FINISHED'")
    names = [run.info.run_name for run in stored]
    assert names.count("train: sasrec-0") == 2, "one of the fixture, one of this test"
    assert (names.count("trial 0"), names.count("trial 1")) == (1, 1)
    assert names.count("levels: sasrec-0") == 1, "the private table, made for the search"
    assert len(names) == 7, names
    assert CliRunner().invoke(cli, ["sync"]).exit_code == 0, "nothing is left"
