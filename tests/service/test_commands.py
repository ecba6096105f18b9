"""The command line of a service."""

import json
import subprocess
import sys

from click.testing import CliRunner

from srun.cli import cli


def call(*words, code=0):
    result = CliRunner().invoke(cli, list(words))
    assert result.exit_code == code, result.output
    return result


def told(*words):
    return json.loads(call(*words, "--json").stdout)


def test_forget_tells_what_others_rely_on(service):
    result = told("forget", "--service", "svc", "--user", "user-0007", "--yes")
    assert {"request", "state", "version", "verdict", "receipt"} <= result.keys()
    assert (result["state"], result["version"]) == ("promoted", 2)
    assert result["seconds"]["closed_form"] > 0
    state = told("status", "--service", "svc")
    assert (state["served"]["version"], state["served"]["covers"]) == (2, 1)
    assert state["requests"] == {"promoted": 1}
    assert told("requests", "verify", result["receipt"], "--service", "svc")["receipt"] == result["request"]
    assert call("requests", "show", result["request"], "--service", "svc").output
    assert "serves version 2" in call("status", "--service", "svc").output


def test_the_inbox_by_commands(service, lab):
    (lab / "r.csv").write_text("user\nuser-0001\nuser-0002\n")
    names = told("requests", "add", "r.csv", "--each", "--service", "svc")["requests"]
    assert len(names) == 2
    told("requests", "cancel", names[0], "--service", "svc")
    told("requests", "hold", names[1], "--reason", "claim", "--review", "2027-01-31", "--service", "svc")
    assert [row["state"] for row in told("requests", "list", "--service", "svc")] == ["cancelled", "pending"]
    assert told("requests", "plan", "--service", "svc")["requests"] == [names[1]]
    assert told("requests", "run", "--service", "svc")["version"] == 2
    assert told("requests", "list", "--service", "svc")[1]["state"] == "on_hold"
    told("requests", "hold", names[1], "--release", "--reason", "settled", "--service", "svc")
    assert told("requests", "lift", names[1], "--reason", "mistake", "--service", "svc")["lifted"]


def test_nobody_is_asked_where_there_is_no_terminal(service):
    assert "give --yes" in call("forget", "--service", "svc", "--user", "user-0007", code=2).output


def test_the_flow_refuses_to_work_in_a_service(service, lab, monkeypatch):
    monkeypatch.chdir(lab / "svc")
    assert "is a service, which makes its models by requests" in call("prepare", code=1).output
    assert "no service here" in call("status", "--service", str(lab), code=1).output


def test_status_loads_nothing_heavy():
    code = (
        "import sys; import srun.service.desk; "
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'torch', 'mlflow', 'pandas', 'scipy'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
