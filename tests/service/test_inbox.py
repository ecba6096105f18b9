"""Requests before they are carried out: added, cancelled, held, planned; who is who stays outside."""

import json
from pathlib import Path

import pytest

from srun.errors import ConfigError, DataError, RunError
from srun.service.adding import add_requests
from srun.service.desk import Service, cancel, extend, hold, lift, release, status, verify
from srun.service.planning import plan


def add(service, **named):
    empty = {"file": None, "each": False, "users": (), "items": (), "category": None}
    return add_requests(service, **{**empty, "name": None, "form": None, "columns": None, **named})


def test_a_request_has_an_id_a_state_and_a_day(service):
    [name] = add(service, users=("user-0007",), name="ticket-1")
    request = service.book().request("ticket-1")
    assert (name, request.state, request.kind) == ("ticket-1", "pending", "users")
    assert (request.due - request.received) / 86_400e6 == 30
    assert extend(service, name, 10, "complex").due - request.due == 10 * 86_400_000_000


def test_the_same_again_is_nothing_and_other_content_is_an_error(service):
    add(service, users=("user-0007",), name="ticket-1")
    position = service.book().position
    assert add(service, users=("user-0007",), name="ticket-1") == ["ticket-1"]
    assert service.book().position == position
    with pytest.raises(DataError, match='"ticket-1": is in the ledger with other content'):
        add(service, users=("user-0008",), name="ticket-1")
    assert len(list((service.root.inbox).glob("*.json"))) == 1


def test_an_unknown_user_is_nobody_and_never_everybody(service, lab):
    (lab / "r.csv").write_text("user,item\nnobody,i1\nuser-0007,i999\nuser-0007,i1\n")
    add(service, file=Path("r.csv"))
    planned = plan(service)
    assert planned["rows"]["unknown_user"] == 1
    assert planned["rows"]["unknown_item"] == 1
    assert planned["users"] <= 1


def test_a_row_that_is_no_event_stops_no_other(service, lab):
    raw = (lab / "data/raw/tiny/interactions.csv").read_text().splitlines()
    user, item, time = next(line for line in raw if line.startswith("user-0007")).split(",")
    (lab / "r.csv").write_text(f"user,item,time\n{user},{item},{time}\n{user},{item},7\n")
    add(service, file=Path("r.csv"), name="t")
    rows = plan(service)["rows"]
    assert rows["forgotten"] + rows["never_trained"] == 1
    assert rows["no_such_event"] == 1


def test_a_file_that_cannot_be_read_writes_nothing(service, lab):
    (lab / "r.csv").write_text("a,b\n1\n")
    position = service.book().position
    with pytest.raises(DataError):
        add(service, file=Path("r.csv"))
    assert service.book().position == position
    assert not list(service.root.inbox.glob("*")) if service.root.inbox.exists() else True


@pytest.mark.parametrize("named", [{}, {"users": ("a",), "items": ("b",)}, {"users": ("a",), "category": "x"}])
def test_one_way_to_name_things(service, named):
    with pytest.raises(ConfigError, match="in one way"):
        add(service, **named)


def test_only_a_pending_request_is_cancelled_and_its_rows_leave(service):
    add(service, users=("user-0007",), name="t")
    assert cancel(service, "t", "withdrawn").state == "cancelled"
    assert not list(service.root.inbox.glob("*.json"))
    with pytest.raises(RunError, match="is cancelled"):
        cancel(service, "t", "again")
    with pytest.raises(ConfigError, match='unknown request "tt"; did you mean "t"'):
        cancel(service, "tt", "")
    assert plan(service)["requests"] == []


def test_a_hold_and_its_end_are_entries_and_lift_needs_more(service):
    add(service, users=("user-0007",), name="t")
    assert hold(service, "t", "claim", None).hold == "claim"
    assert release(service, "t", "settled").hold == ""
    assert hold(service, "t", "claim again", None).hold == "claim again"
    with pytest.raises(RunError, match="only one that was carried out can be lifted"):
        lift(service, "t", "mistake")


def test_many_requests_of_one_file(service, lab):
    rows = [f"user-{user:04d}" for user in range(60)] + [f"other-{number}" for number in range(2000)]
    (lab / "r.csv").write_text("user\n" + "\n".join(rows) + "\n")
    names = add(service, file=Path("r.csv"), each=True)
    assert len(set(names)) == len(rows)
    assert status(service)["requests"] == {"pending": len(rows)}


def test_no_raw_id_outside_the_map_and_what_is_private_is(service, lab):
    add(service, users=("user-0007",), name="t")
    for path in (lab / "svc").rglob("*"):
        if path.is_file():
            assert b"user-0007" not in path.read_bytes(), path
    private = [*(lab / "keys").iterdir(), *service.root.inbox.iterdir(), lab / "svc/ledger.db"]
    assert {oct(path.stat().st_mode & 0o777) for path in private} == {"0o600"}


def test_without_its_key_nothing_goes(service, lab):
    [key] = (lab / "keys").glob("*.key")
    key.write_text("00" * 32)
    with pytest.raises(ConfigError, match="is not the key that this service was made with"):
        Service.open(lab / "svc")
    key.unlink()
    with pytest.raises(ConfigError, match="the key of this service is not here"):
        Service.open(lab / "svc")


def test_verify_says_that_all_is_well(service):
    checked = verify(service, None)
    assert checked["entries"] == service.book().position
    assert json.dumps(checked)


def test_no_service_is_told(tmp_path):
    with pytest.raises(ConfigError, match="no service here"):
        Service.open(tmp_path)
