"""`srun optimize` as a user runs it: search, go on, look, choose, apply; two workers; tracking; bad input."""

import csv
import html
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from srun.cli import cli
from srun.flow import stages
from srun.search import workers
from srun.search.bench import Bench
from srun.search.goals import Figures
from srun.search.study import Tell

PRESET = ["--params", "tiny.yaml"]
NAME = "sasrec-0-interactions-sruga-pareto"


def srun(*words: str) -> Result:
    return CliRunner().invoke(cli, list(words))


def ok(*words: str) -> Result:
    result = srun(*words)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def trained(project: Path) -> Path:
    ok("data", "import", "log.csv", "--name", "tiny")
    for words in (["prepare"], ["partition"], ["train"], ["unlearn", "--method", "original"]):
        ok(*words, *PRESET)
    ok("evaluate", "--method", "original", *PRESET)
    return project


def test_search_go_on_choose_and_apply(trained: Path) -> None:
    Path("my tiny.yaml").write_text(Path("tiny.yaml").read_text())
    tracked = ["--params", "my tiny.yaml", "--set", "runtime.tracking=true", "--set", "unlearn.sruga.clip_norm=0.01"]
    tracked += ["--set", "unlearn.sruga.ascent=level", "--set", "unlearn.seed=5"]
    ok("optimize", "--objective", "pareto", "--trials", "4", *tracked)
    answer = json.loads(ok("optimize", "--trials", "9", *tracked, "--json").stdout)
    assert answer["study"] == NAME
    assert answer["finished"] == 9
    folder = trained / "reports/pareto" / NAME
    rows = list(csv.DictReader((folder / "trials.csv").read_text().splitlines()))
    assert [row["state"] for row in rows].count("complete") + [row["state"] for row in rows].count("discarded") == 9
    assert rows[0]["own_settings"] == "true"
    front = [int(row["trial"]) for row in csv.DictReader((folder / "front.csv").read_text().splitlines())]
    assert sorted(front) == sorted(row["trial"] for row in answer["front"])
    assert (folder / "front.png").read_bytes().startswith(b"\x89PNG")

    page = (folder / "index.html").read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL).group(1))
    assert {mark["name"] for mark in data["marks"]} == {"Original 0"}
    assert 0 <= data["level"] <= 1
    point = next(point for point in data["points"] if point["trial"] == front[0])
    laid = "--params 'my tiny.yaml' --set runtime.tracking=true"
    assert point["commands"]["apply"] == f"srun optimize apply --study {NAME} --trial {front[0]} {laid}"
    assert "http" not in page.replace("http://www.w3.org", ""), "the page needs no network"

    before = (trained / "models/sasrec-0/interactions").iterdir()
    before = {path.name for path in before}
    metrics = json.loads(ok("optimize", "apply", "--trial", str(front[0]), *PRESET, "--json").stdout)
    tuned = next(row for row in rows if int(row["trial"]) == front[0])
    assert metrics["validation"]["ndcg_10"] == pytest.approx(float(tuned["validation/ndcg_10"]))
    assert metrics["forget_tune"]["hit_10"] == pytest.approx(float(tuned["forget_tune/hit_10"]))
    assert {path.name for path in (trained / "models/sasrec-0/interactions").iterdir()} == before | {"pareto"}
    assert f"Trial {front[0]}, applied" in (folder / "index.html").read_text()

    preset = f"reports/pareto/{NAME}/settings/trial-{front[0]}.yaml"
    assert point["commands"]["unlearn"].endswith(f"--seed 0 {laid} --params {preset}")
    ok(*shlex.split(point["commands"]["unlearn"])[1:])
    weights = trained / "models/sasrec-0/interactions/sruga-0/weights.safetensors"
    applied = trained / "models/sasrec-0/interactions/pareto" / NAME / f"trial-{front[0]}" / "weights.safetensors"
    assert weights.read_bytes() == applied.read_bytes()
    ok("unlearn", "--method", "sruga", *PRESET, "--params", preset, "--set", "unlearn.sruga.clip_norm=1.0")
    assert weights.read_bytes() != applied.read_bytes(), "what was not searched counts too"
    check_tracking(trained, front)


def check_tracking(project: Path, front: list[int]) -> None:
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{project}/mlflow.db")
    runs = mlflow.search_runs(search_all_experiments=True, output_format="list")
    [parent] = [run for run in runs if run.data.tags.get("stage") == "optimize"]
    nested = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert parent.data.metrics["num_finished"] == 9
    assert len({run.data.tags["srun.trial"] for run in nested}) == len(nested)
    tagged = {int(run.data.tags["srun.trial"]) for run in nested if run.data.tags["front"] == "true"}
    assert tagged == set(front)
    later = next(run for run in nested if run.data.tags["srun.trial"] == str(max(front)))
    assert "forget_tune/hit_10" in later.data.metrics


def test_two_workers_on_another_storage_and_show(trained: Path) -> None:
    place = ["--storage", "shared folder/s.journal", "--study", "two"]
    ok("optimize", "--trials", "6", *PRESET, *place)
    shown = ok("optimize", "show", *PRESET, *place)
    assert 'study "two": 6 trials' in shown.output
    page = (trained / "reports/pareto/two/index.html").read_text()
    assert "--storage 'shared folder/s.journal'" in html.unescape(page)


@pytest.mark.slow
def test_local_workers_share_a_study_named_like_the_script_that_starts_them(trained: Path) -> None:
    name = "optimize"
    code = "from srun.cli import optimize_main; optimize_main()"
    words = ["--trials", "5", "--workers", "2", "--study", name, "--json", *PRESET]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["study"], answer["finished"]) == (name, 5)
    assert done.stderr.count("trial 0: ") == 1, "what the workers say is passed on"
    assert [path.name for path in (trained / "runs/optimize").iterdir()] == [f"{name}.journal"]


KILLED = """
import os, signal, sys
if os.environ["SRUN_WORKER"] in sys.argv.pop(1):
    sys.stderr.write("no memory is left\\n")
    sys.stderr.flush()
    os.kill(os.getpid(), signal.SIGKILL)
from srun.cli import cli
cli(sys.argv[1:], prog_name="srun")
"""


@pytest.mark.slow
def test_workers_that_died_are_told_of_and_an_error_only_if_trials_are_missing(
    trained: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    words = ["optimize", "--workers", "2", "--trials", "3", *PRESET]
    monkeypatch.setattr(workers, "CODE", KILLED.replace("sys.argv.pop(1)", '"12"'))
    result = srun(*words)
    assert result.exit_code == 1
    assert "2 workers died (killed by SIGKILL, see " in result.output
    assert f'study "{NAME}" has 0 of 3 trials' in result.output

    monkeypatch.setattr(workers, "CODE", KILLED.replace("sys.argv.pop(1)", '"2"'))
    for path in trained.glob("runs/optimize/*.log"):
        path.unlink()
    result = srun(*words)
    assert result.exit_code == 0, result.output
    assert f'study "{NAME}": 3 of 3 trials' in result.output
    [log] = trained.glob("runs/optimize/*.log")
    assert log.name.endswith("-worker-2.log")
    assert log.read_text() == "no memory is left\n"
    assert "no memory is left" in result.stderr
    assert f"a worker died, and the others made up for it (killed by SIGKILL, see {log})" in caplog.messages


def test_a_database_lost_in_the_middle_is_one_line_and_the_same_command_goes_on(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, words = trained / "s.db", ["optimize", "--trials", "3", "--storage", "sqlite:///s.db", "--json", *PRESET]
    carry_out, calls = Bench.__call__, []

    def loses(bench: Bench, overrides: Mapping[str, Any], tell: Tell) -> Figures:
        calls.append(overrides)
        if len(calls) == 2:
            file.rename("kept.db")
            file.mkdir()
        return carry_out(bench, overrides, tell)

    monkeypatch.setattr(Bench, "__call__", loses)
    result = srun("-q", *words, "--set", "optimize.limits.beat=0.1")
    assert result.exit_code == 1
    [line] = result.output.strip().splitlines()
    assert line.startswith('Error: storage "sqlite:///s.db": lost (')
    assert line.endswith("go on with the same command")
    file.rmdir()
    Path("kept.db").rename(file)
    quick = ["--set", "optimize.limits={trial: 60, beat: 0.1, silence: 0.5, poll: 0.1}"]
    assert json.loads(ok(*words, *quick).stdout)["finished"] == 3


WRONG = ["foo://x", "postgresql+psycopg://u@127.0.0.1:1/d", "tiny.yaml", "data", "/dev/null/x.journal"]


@pytest.mark.parametrize("place", WRONG)
def test_a_wrong_storage_is_told_before_anything_is_made_or_loaded(
    project: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def work(*args: object) -> None:
        pytest.fail("begun before the storage was looked at")

    (project / "data").mkdir()
    monkeypatch.setattr(stages, "partition_where_missing", work)
    monkeypatch.setattr(Bench, "__init__", work)
    for words in (["--category", "Drama"], []):
        result = srun("optimize", "--storage", place, *words, *PRESET)
        assert result.exit_code == 1
        assert result.output.startswith("Error: storage ")
    Path("runs").touch()  # where the study's own journal would be
    result = srun("optimize", *PRESET)
    assert result.exit_code == 1
    assert "cannot be used as a journal" in result.output


def test_a_timeout_that_leaves_trials_says_how_many(trained: Path) -> None:
    words = ["optimize", "--trials", "4", "--timeout", "0.001", *PRESET]
    answer = json.loads(ok(*words, "--json").stdout)
    assert (answer["finished"], answer["trials"], answer["left"]) == (1, 4, 3)
    said = ok(*words).output
    assert f'study "{NAME}": 2 of 4 trials' in said
    assert "the time is over; go on with the same command" in said
    answer = json.loads(ok("optimize", "--trials", "4", *PRESET, "--json").stdout)
    assert (answer["finished"], answer["trials"], answer["left"]) == (4, 4, 0)
    assert "left" not in json.loads(ok("optimize", "show", *PRESET, "--json").stdout)


BAD = [
    (["--objective", "maximise x from 1"], 'objective "maximise x from 1"'),
    (["--objective", "minimize forget_tune/hit_11 from 1"], 'did you mean "forget_tune/hit_10"'),
    (["--sampler", "tpa"], 'parameter "optimize.sampler"'),
    (["--method", "retrain"], "nothing to search"),
    (["--method", "srgua"], 'did you mean "sruga"'),
    (["--set", "optimize.space.sruga.kl={of: [1], when: {}}"], 'no parameter "unlearn.sruga.kl"'),
    (["--storage", "postgres://u:secret@h/d"], "no address of a database"),
    (["--storage", "mysql://u:secret@h/d"], "driver is not installed"),
    (["--storage", "postgresql+psycopg://u:secret@127.0.0.1:1/d"], "no connection within 5 s"),
    (["--storage", "data"], "is a folder"),
    (["show"], "no study"),
    (["apply", "--trial", "0", "--study", "x"], 'no study "x"'),
]


def test_bad_input_gets_one_line(trained: Path) -> None:
    for words, said in BAD:
        result = srun("optimize", *words, *PRESET)
        assert result.exit_code == 1, words
        assert said in result.output
        assert "secret" not in result.output
        assert len(result.output.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--study", "a/../../x"], 'a/../../x": expected letters'),
        (["--study", "other", "show"], "options belong after show"),
    ],
)
def test_misplaced_options_and_names_that_are_paths_are_refused(words: list[str], expected: str) -> None:
    result = srun("optimize", *words)
    assert result.exit_code == 2
    assert expected in result.output
