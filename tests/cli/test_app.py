"""What the command line says when something is wrong: short lines that no terminal acts on, exit code 1 or 2."""

import os
from pathlib import Path
from shutil import copy

import click
import pytest
from click.testing import CliRunner

from srun.cli import cli
from srun.errors import MAX_FAULTS, MAX_LETTERS, DataError, SrunError, in_lines, one_line

ROOT = Path(__file__).parents[2]
ODD = ["\x1b[31mred", "a\u2028b", "a\nb", "a\rb", "\u202egnp", "x" * 9000, "\x07", "\udcff", "ä", "\u200b"]


def test_a_user_without_a_home_gets_the_one_of_a_nameless_user(monkeypatch):
    def nobody(uid):
        raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", nobody)
    monkeypatch.delenv("HOME")
    assert CliRunner().invoke(cli, ["data", "list"]).exit_code == 0
    assert os.environ["HOME"] == "/"


@pytest.fixture
def project(tmp_path, monkeypatch):
    copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check_clean(result, code):
    assert result.exit_code == code, result.output
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    for line in result.stderr.splitlines():
        assert line.isprintable(), repr(line)
        assert len(line) <= MAX_LETTERS + len("Error: ")
    assert sum(line.startswith("Error: ") for line in result.stderr.splitlines()) == 1


@pytest.mark.parametrize("odd", ODD, ids=ascii)
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["params", "--set", "a={}"], 1),
        (["params", "--set", "{}=1"], 1),
        (["params", "--set", "data.name={}"], 1),
        (["params", "--params", "{}"], 1),
        (["data", "fetch", "{}"], 1),
        (["data", "describe", "{}"], 2),
        (["data", "import", "{}", "--name", "x"], 1),
        (["train", "--original", "{}"], 2),
        (["unlearn", "--method", "{}"], 1),
        (["unlearn", "--method", "sruga", "--request", "{}"], 2),
        (["unlearn", "--method", "sruga", "--seed", "{}"], 2),
        (["optimize", "show", "--study", "{}"], 2),
        (["explain", "1", "--request", "{}"], 2),
        (["reproduce", "thesis", "--dataset", "{}"], 2),
        (["{}"], 2),
        (["params", "--{}"], 2),
        (["recommend", "--model", "nowhere", "--history", "1\n{}"], 1),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else "",
)
def test_odd_input_is_answered_in_clean_lines(project, words, code, odd):
    check_clean(CliRunner().invoke(cli, [word.replace("{}", odd) for word in words]), code)
    assert [path.name for path in project.iterdir()] == ["params.yaml"]


def test_several_mistakes_are_a_short_list(project):
    result = CliRunner().invoke(cli, ["params", "--set", "train.los=ce", "--set", "train.patience=x"])
    assert result.stderr.splitlines() == [
        "Error: 2 mistakes, nothing was done:",
        '  unknown parameter "train.los"; did you mean "loss"?',
        "  parameter \"train.patience\": expected a valid integer, found 'x' (str)",
    ]
    many = in_lines([f"fault {number}" for number in range(50)]).splitlines()
    assert len(many) == MAX_FAULTS + 2
    assert many[-1] == f"  and {50 - MAX_FAULTS} more"


def test_a_long_line_keeps_its_beginning_and_its_end():
    line = one_line(f"file: {'x' * 9000}; set it to 3")
    assert len(line) == MAX_LETTERS
    assert line.startswith("file: ")
    assert line.endswith("set it to 3")
    assert one_line("a\x1b\u2028\n\tb") == "a\\x1b\\u2028 b"


def test_an_error_shows_its_traceback_with_debug(project):
    result = CliRunner().invoke(cli, ["--debug", "params", "--set", "train.los=ce"])
    assert isinstance(result.exception, SrunError)


def test_a_group_without_a_command_shows_its_help():
    for words in ([], ["data"], ["reproduce"]):
        result = CliRunner().invoke(cli, words)
        assert "Commands:" in result.output
        assert "Error" not in result.output


def test_names_that_lead_elsewhere_are_refused_everywhere(project):
    request = "{kind: users, share_of_users: 0.1, catalogue: full, seed: 0}"
    (project / "up.yaml").write_text(f"partition: {{../../x: {request}}}\n")
    for words in (
        ["run", "--params", "up.yaml"],
        ["run", "--set", f"partition.../../../x={request}"],
        ["prepare", "--set", "data.name=../../etc"],
        ["run", "--set", "originals={../../x: {model: sasrec, seed: 0, shards: 1}}"],
        ["optimize", "--set", "optimize.objectives={../x: {users: []}}"],
    ):
        result = CliRunner().invoke(cli, words)
        check_clean(result, 1)
        assert "../" in result.stderr
    for words in (
        ["data", "describe", "../../etc"],
        ["partition", "--request", "../x"],
        ["unlearn", "--method", "sruga", "--request", "../x"],
        ["train", "--original", "../x"],
        ["explain", "1", "--request", "../x"],
        ["optimize", "--study", "../x"],
    ):
        result = CliRunner().invoke(cli, words)
        assert result.exit_code in (1, 2), words
        assert "../x" in result.stderr or "../../etc" in result.stderr
    assert not (project.parent / "x").exists()
    assert not (project / "data").exists()


def test_commands_that_a_message_names_work_as_pasted(project):
    words = ["--set", "train.patience=20", "--out", "out/a"]
    result = CliRunner().invoke(cli, ["train", *words, "--set", "runtime.tracking=false"])
    check_clean(result, 1)
    assert "`srun prepare --set train.patience=20 --set runtime.tracking=false --out out/a`" in result.stderr


def test_every_command_that_uses_the_flow_s_folders_takes_out():
    without = set()

    def walk(command, path):
        options = {option for parameter in command.params for option in parameter.opts}
        if "--set" in options and "--out" not in options:
            without.add(path)
        for name, child in getattr(command, "commands", {}).items():
            walk(child, f"{path} {name}".strip())

    walk(cli, "")
    # the first two read params.yaml and data/raw only, the last makes a folder of its own
    assert without == {"params", "data describe", "service init"}


def test_commands_are_listed_in_the_order_of_the_flow():
    names = cli.list_commands(click.Context(cli))
    flow = ["init", "data", "prepare", "train", "draw", "partition", "unlearn", "evaluate", "report", "run"]
    assert [name for name in names if name in flow] == flow
    assert list(cli.commands["data"].list_commands(click.Context(cli))) == ["list", "fetch", "import", "describe"]


def test_a_raised_error_has_one_text_or_several():
    assert str(DataError("a", "b")) == "a\nb"
    assert DataError("a", "b").faults == ("a", "b")
