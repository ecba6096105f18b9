"""Requests of a user's own on the command line: what was asked for is what happens, or a line says why not."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result
from ruamel.yaml import YAML

from srun.cli import cli
from srun.cli.printing import print_rows
from srun.flow.params import load_values

ROOT = Path(__file__).parents[2]

P = ("--params", "tiny.yaml")


def srun(*words: str) -> Result:
    return CliRunner().invoke(cli, list(words))


def done(*words: str) -> Result:
    result = srun(*words)
    assert result.exit_code == 0, result.output
    return result


def refused(*words: str) -> str:
    result = srun(*words)
    assert result.exit_code == 1, result.output
    [line] = [line for line in result.output.splitlines() if line.startswith("Error")]
    return line


def run(*words: str, cwd: Path) -> str:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    result = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def stages_run(output: str) -> set[str]:
    return set(re.findall(r"Running stage '([^']+)'", output))


def rows_of(log: Path, position: int) -> list[str]:
    """user,item of every user's event at a place of the sequence."""
    rows = [line.split(",") for line in log.read_text().splitlines()[1:]]
    return [f"{user},{item}" for user, item, time in rows if int(time) == 1000 + position]


@pytest.fixture
def prepared(project: Path) -> Path:
    done("data", "import", "log.csv", "--name", "tiny")
    done("prepare", *P)
    (project / "mine.csv").write_text("\n".join(["user_id,item_id", *rows_of(project / "log.csv", 2)[:30]]) + "\n")
    return project


def given(project: Path, name: str = "mine", file: str = "mine.csv") -> dict:
    return json.loads(done("partition", *P, "--request", name, "--file", file, "--json").stdout)


def test_later_commands_know_a_given_request_by_its_name(prepared: Path) -> None:
    """It used to be replaced by a random one as soon as another command ran without the option."""
    info = given(prepared)
    assert info["rows"]["forgotten"] > 0
    before = (prepared / "data/partition/mine/masks.safetensors").read_bytes()
    done("train", *P)
    done("unlearn", *P, "--request", "mine", "--method", "sruga")
    done("partition", *P)
    shown = json.loads(done("evaluate", *P, "--request", "mine", "--method", "sruga", "--json").stdout)
    assert "forget_report" in shown
    assert (prepared / "data/partition/mine/masks.safetensors").read_bytes() == before
    model = json.loads((prepared / "models/sasrec-0/mine/sruga-0/model.json").read_text())
    assert model["request"]["num_forget"] == info["num_forget"]


def test_a_given_request_and_a_drawn_one_never_take_each_others_place(prepared: Path) -> None:
    assert "interactions" in refused("partition", *P, "--request", "interactions", "--file", "mine.csv")
    given(prepared)
    drawn = "{kind: interactions, share_of_users: 0.5, max_share_of_items: 0.5, catalogue: full, seed: 0}"
    before = (prepared / "data/partition/mine/masks.safetensors").read_bytes()
    said = refused("partition", *P, "--request", "mine", "--set", f"partition.mine={drawn}")
    assert "mine.csv" in said
    assert "the parameters draw" in said
    assert (prepared / "data/partition/mine/masks.safetensors").read_bytes() == before
    for words in (["unlearn", "--method", "sruga"], ["evaluate", "--method", "sruga"], ["explain", "u001"]):
        said = refused(*words, *P, "--request", "mine", "--set", f"partition.mine={drawn}")
        assert "file is mine.csv there and None in the parameters" in said


def test_the_old_way_to_give_a_file_says_the_new_one(prepared: Path) -> None:
    said = refused("partition", *P, "--set", "partition.interactions.file=mine.csv")
    assert "srun partition --request NAME --file mine.csv" in said
    assert not (prepared / "data/partition").exists()


def test_a_partition_of_other_parameters_is_told_and_not_used(prepared: Path) -> None:
    done("train", *P)
    done("partition", *P)
    said = refused("unlearn", *P, "--method", "sruga", "--set", "partition.interactions.seed=1")
    assert "seed is 0 there and 1 in the parameters" in said
    assert "srun partition --request interactions" in said
    said = refused("unlearn", *P, "--method", "sruga", "--request", "nowhere")
    assert "nowhere" in said


def test_a_request_file_that_changed_after_it_was_carried_out_is_told(prepared: Path) -> None:
    given(prepared)
    with (prepared / "mine.csv").open("a") as file:
        file.write(rows_of(prepared / "log.csv", 3)[0] + "\n")
    said = refused("unlearn", *P, "--request", "mine", "--method", "sruga")
    assert "mine.csv has changed since" in said
    rows = given(prepared)["rows"]
    assert rows["forgotten"] + rows["never_trained"] == 31
    (prepared / "mine.csv").unlink()
    assert "mine" in refused("partition", *P, "--request", "mine")
    assert "nothing" not in refused("unlearn", *P, "--request", "mine", "--method", "sruga"), "no Original yet"


def test_rows_that_are_not_forgotten_are_listed(prepared: Path) -> None:
    with (prepared / "mine.csv").open("a") as file:
        file.write("nobody,i1\nu001,nothing\n")
    result = done("partition", *P, "--request", "mine", "--file", "mine.csv")
    assert "32 rows" in result.output
    assert "1 unknown_user" in result.output
    lines = (prepared / "data/partition/mine/rows.csv").read_text().splitlines()
    assert lines[0] == "line,outcome,reason"
    assert [line.split(",")[:2] for line in lines[-2:]] == [["32", "unknown_user"], ["33", "unknown_item"]]
    assert given(prepared)["not_forgotten"][-2:] == [
        {"line": 32, "outcome": "unknown_user", "reason": ""},
        {"line": 33, "outcome": "unknown_item", "reason": ""},
    ]


def test_a_request_is_read_by_the_columns_that_the_log_was_imported_with(project: Path) -> None:
    """Its time too: else a row would mean every event of its user and item."""
    log = [line.split(",") for line in (project / "log.csv").read_text().splitlines()[1:]]
    again = [(user, item, int(time) + 500) for user, item, time in log[:400:7]]
    rows = [*((user, item, int(time)) for user, item, time in log), *again]
    lines = [f"{user},{item},{pd.Timestamp(time, unit='D').isoformat()}" for user, item, time in rows]
    (project / "log.csv").write_text("\n".join(["who,what,seen_on", *lines]) + "\n")
    columns = "user=who,item=what,time=seen_on"
    done("data", "import", "log.csv", "--name", "tiny", "--columns", columns)
    done("prepare", *P)
    (project / "mine.csv").write_text("\n".join(["who,what,seen_on", *lines[2:400:7]]) + "\n")
    info = given(project)
    assert info["num_forget"] == info["rows"]["forgotten"] > 0
    (project / "mine.csv").write_text(
        "\n".join(["who,what", *(line.rpartition(",")[0] for line in lines[:400:7])]) + "\n"
    )
    info = given(project)
    assert info["num_forget"] + info["num_held_out_removed"] > sum(info["rows"].values())


def test_a_file_of_users_forgets_all_of_them(prepared: Path) -> None:
    (prepared / "users.csv").write_text("user\n" + "".join(f"u{user:03d}\n" for user in range(0, 50)))
    info = given(prepared, "leavers", "users.csv")
    assert info["request"]["kind"] == "users"
    assert info["rows"]["forgotten"] + info["rows"]["never_trained"] == 50
    assert info["num_held_out_removed"] > 0


def test_a_request_is_a_block_of_its_own_in_cells_too(prepared: Path) -> None:
    """Either from a partition that is there, or from a block of the parameters that names the file."""
    cells = "cells={o: {request: mine, original: sasrec-0, method: original, seed: 0}}"
    words = ("run", *P, "--set", "requests=[mine]", "--set", cells)
    assert "mine" in refused(*words)
    given(prepared)
    assert "index.html" in done(*words).output
    block = (
        "partition.other={kind: interactions, file: mine.csv, format: null, columns: null, catalogue: full, seed: 3}"
    )
    words = [word.replace("mine", "other") for word in words]
    assert "index.html" in done(*words, "--set", block).output
    made = json.loads((prepared / "data/partition/other/request.json").read_text())
    assert made["block"]["file"] == "mine.csv"


def test_run_carries_out_one_request_with_every_row_that_can(prepared: Path) -> None:
    given(prepared)
    out = done("run", *P, "--request", "mine", "--json").stdout
    page = Path(json.loads(out)["written"]["index.html"])
    assert page == prepared / "reports/requests/mine/index.html"
    results = (page.parent / "results.csv").read_text()
    assert "retrain" in results
    assert not (prepared / "reports/index.html").exists()
    again = json.loads(done("report", *P, "--request", "mine", "--json").stdout)
    assert again["tables"] == json.loads(out)["tables"]
    assert json.loads(done("run", *P, "--request", "mine", "--json").stdout)["done"] == []


def test_a_request_that_run_carried_out_can_be_explained(prepared: Path) -> None:
    given(prepared)
    done("run", *P, "--request", "mine")
    user = (prepared / "mine.csv").read_text().splitlines()[1].partition(",")[0]
    assert "forgotten" in done("explain", user, *P, "--request", "mine").output


def test_the_next_step_that_is_printed_works_as_pasted(prepared: Path) -> None:
    out = ("--out", "elsewhere")
    done("prepare", *P, *out)
    shown = done("partition", *P, *out, "--request", "mine", "--file", "mine.csv").output
    [line] = [line for line in shown.splitlines() if line.startswith("next: ")]
    assert "index.html" in done(*shlex.split(line)[2:]).output


def test_a_category_that_was_partitioned_is_known_by_its_name(project: Path) -> None:
    items = "\n".join(f"i{item},t,{('red', 'green')[item % 2]}" for item in range(30))
    (project / "items.csv").write_text(f"item,title,categories\n{items}\n")
    done("data", "import", "log.csv", "--name", "tiny", "--items", "items.csv")
    done("prepare", *P)
    shown = done("partition", *P, "--category", "red").output
    [line] = [line for line in shown.splitlines() if line.startswith("next: ")]
    done("train", *P)
    done(*shlex.split(line)[2:])
    name = shlex.split(line)[shlex.split(line).index("--request") + 1]
    result = done("run", *P, "--request", name)
    assert "index.html" in result.output


def test_what_is_replaced_is_told(prepared: Path, caplog: pytest.LogCaptureFixture) -> None:
    given(prepared)
    (prepared / "other.csv").write_text("user\n" + "".join(f"u{user:03d}\n" for user in range(30)))
    given(prepared, "mine", "other.csv")
    assert "in the place of the request given in mine.csv" in caplog.text
    (prepared / "log.csv").write_text((prepared / "log.csv").read_text() + "u001,i1,5000\n")
    done("data", "import", "log.csv", "--name", "tiny")
    assert "in the place of the data set that was there" in caplog.text


def test_ids_that_differ_by_a_decimal_place_are_told(project: Path) -> None:
    log = (project / "log.csv").read_text().replace("u0", "1")
    (project / "log.csv").write_text(log)
    done("data", "import", "log.csv", "--name", "tiny")
    done("prepare", *P)
    rows = [line.split(",") for line in log.splitlines()[3:60:6]]
    cells = [f"{rows[0][0]},{rows[0][1]}", *(f"{user}.0,{item}" for user, item, _ in rows)]
    (project / "mine.csv").write_text("\n".join(["user,item", *cells]) + "\n")
    reasons = {row["reason"] for row in given(project)["not_forgotten"]}
    assert 'the log has this id, but for ".0" at its end' in reasons


def test_times_of_a_request_do_not_count_where_the_log_has_none(project: Path) -> None:
    """They were compared with places in a sequence: 0, 1, 2."""
    lines = [line.rpartition(",")[0] for line in (project / "log.csv").read_text().splitlines()]
    (project / "log.csv").write_text("\n".join(lines) + "\n")
    done("data", "import", "log.csv", "--name", "tiny", "--columns", "user=user,item=item,time=none")
    done("prepare", *P)
    rows = [f"{line},2024-05-01T10:00:00Z" for line in lines[3:200:7]]
    (project / "mine.csv").write_text("\n".join(["user,item,time", *rows]) + "\n")
    info = given(project)
    assert info["rows"]["forgotten"] > 0
    assert info["rows"]["no_such_event"] == 0


def test_a_given_block_in_the_place_of_a_drawn_one_is_refused(prepared: Path) -> None:
    block = "{kind: interactions, file: mine.csv, format: null, columns: null, catalogue: full, seed: 0}"
    said = refused("partition", *P, "--set", f"partition.interactions={block}")
    assert 'run "srun partition --request NAME --file mine.csv" instead' in said
    assert "--set partition.interactions={" not in said.partition("run ")[2]


def test_a_data_set_whose_folder_was_renamed_is_told(prepared: Path) -> None:
    """Models are registered by its name, and an alias would pass from one data set to another."""
    (prepared / "data/raw/tiny").rename(prepared / "data/raw/other")
    said = refused("prepare", *P, "--set", "data.name=other")
    assert "holds data set 'tiny'" in said


def test_ids_that_look_like_markup_are_shown_as_they_are() -> None:
    runner = CliRunner()
    with runner.isolation() as streams:
        print_rows([{"item_id": "[/x]i3", "title": "[red]t :heart:"}])
        shown = streams[0].getvalue().decode()
    assert "[/x]i3" in shown
    assert "[red]t :heart:" in shown


def test_a_request_goes_wherever_run_wrote(prepared: Path) -> None:
    """`--out` of the command that made it is `--out` of those that use it."""
    out = ("--out", "elsewhere")
    done("prepare", *P, *out)
    done("partition", *P, *out, "--request", "mine", "--file", "mine.csv")
    done("train", *P, *out)
    done("unlearn", *P, *out, "--request", "mine", "--method", "sruga")
    assert (prepared / "elsewhere/models/sasrec-0/mine/sruga-0/model.json").is_file()
    assert "mine" in refused("unlearn", *P, "--request", "mine", "--method", "sruga")


@pytest.mark.parametrize("options", [["--kind", "users"], ["--format", "csv"], ["--columns", "user=1"]])
def test_what_belongs_to_a_file_is_refused_without_one(prepared: Path, options: list[str]) -> None:
    result = srun("partition", *P, *options)
    assert result.exit_code == 2
    assert "--file" in result.output


def test_a_file_needs_a_name_for_its_request(prepared: Path) -> None:
    result = srun("partition", *P, "--file", "mine.csv")
    assert result.exit_code == 2
    assert "--request NAME" in result.output


@pytest.mark.slow
def test_dvc_carries_a_changed_request_file_out_again_and_nothing_else(prepared: Path) -> None:
    """13 rows, then 35: DVC said that nothing had changed, for no stage depended on the file."""
    values = load_values(Path("params.yaml"), [Path("tiny.yaml")])
    block = {
        "kind": "interactions",
        "file": "mine.csv",
        "format": None,
        "columns": None,
        "catalogue": "full",
        "seed": 0,
    }
    values["partition"]["mine"], values["requests"] = block, ["mine", "interactions"]
    YAML().dump(values, prepared / "params.yaml")
    (prepared / "src").symlink_to(ROOT / "src")
    for words in (["git", "init", "-q"], ["dvc", "init", "-q"], ["dvc", "config", "core.analytics", "false"]):
        run(*words, cwd=prepared)
    target = ("partition@mine", "partition@interactions")
    assert {"partition@mine", "partition@interactions"} <= stages_run(run("dvc", "repro", *target, cwd=prepared))
    assert stages_run(run("dvc", "repro", *target, cwd=prepared)) == {"digests"}
    before = json.loads((prepared / "data/partition/mine/info.json").read_text())["num_forget"]
    rows = rows_of(prepared / "log.csv", 3)
    (prepared / "mine.csv").write_text("\n".join(["user_id,item_id", *rows]) + "\n")
    assert stages_run(run("dvc", "repro", *target, cwd=prepared)) == {"digests", "partition@mine"}
    assert json.loads((prepared / "data/partition/mine/info.json").read_text())["num_forget"] > before
    values["partition"]["mine"] = {**values["partition"]["interactions"], "seed": 7}
    YAML().dump(values, prepared / "params.yaml")
    failed = subprocess.run(["dvc", "repro", *target], cwd=prepared, capture_output=True, text=True, check=False)
    assert failed.returncode
    assert "holds the request given in mine.csv" in failed.stdout + failed.stderr
    assert (prepared / "data/partition/mine/masks.safetensors").is_file(), "the given one is still there"


@pytest.mark.parametrize("data", [b"{", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"block": 3, "files": {}}'])
def test_a_damaged_record_of_a_request_is_one_line_whose_advice_works(prepared: Path, data: bytes) -> None:
    given(prepared)
    folder = prepared / "data/partition/mine"
    (folder / "request.json").write_bytes(data)
    said = refused("partition", *P)
    assert "mine/request.json:" in said
    assert "remove the folder, then run `srun partition --params tiny.yaml` with the request's file again" in said
    shutil.rmtree(folder)
    given(prepared)


def test_a_file_does_not_silently_take_the_place_of_the_one_that_the_parameters_name(prepared: Path) -> None:
    given(prepared)
    (prepared / "other.csv").write_text("user\n" + "".join(f"u{user:03d}\n" for user in range(30)))
    block = "{kind: interactions, file: mine.csv, format: null, columns: null, catalogue: full, seed: 0}"
    words = ["partition", *P, "--set", f"partition.mine={block}", "--request", "mine", "--file"]
    result = srun(*words, "other.csv")
    assert result.exit_code == 1
    assert 'request "mine": the parameters take it from mine.csv, and --file names other.csv' in result.output
    done(*words, "mine.csv")


def test_a_request_that_fails_says_that_the_earlier_partition_is_still_there(prepared: Path) -> None:
    given(prepared)
    (prepared / "nobody.csv").write_text("user,item\nnobody,i1\n")
    result = srun("partition", *P, "--request", "mine", "--file", "nobody.csv")
    assert result.exit_code == 1
    assert "nothing to unlearn" in result.output
    assert result.output.endswith("data/partition/mine still holds the earlier partition\n")


def test_a_request_for_everything_is_refused_before_anything_is_trained(prepared: Path) -> None:
    users = sorted({line.split(",")[0] for line in (prepared / "log.csv").read_text().splitlines()[1:]})
    (prepared / "all.csv").write_text("user\n" + "\n".join(users) + "\n")
    result = srun("partition", *P, "--request", "everything", "--file", "all.csv")
    assert result.exit_code == 1
    assert 'request "everything": it names every training event' in result.output


def test_a_record_that_is_not_as_it_was_written_is_one_line(prepared: Path) -> None:
    given(prepared)
    file = prepared / "data/partition/mine/request.json"
    for text in (file.read_text().replace("mine.csv", "other.csv"), '{"block": {"kind": [1]}, "files": {"a": 3}}', "["):
        file.write_text(text)
        result = srun("train", *P)
        assert result.exit_code == 1
        [line] = result.output.strip().splitlines()
        assert "request.json: not what was written" in line


def test_advice_names_the_request_and_has_the_options_once(prepared: Path) -> None:
    result = srun("unlearn", "--method", "retrain", "--request", "action", *P)
    [line] = result.output.strip().splitlines()
    assert line.count("--params tiny.yaml") == line.count("`srun ")
    assert "`srun partition --request action --params tiny.yaml`" in line
