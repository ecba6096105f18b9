"""500 mutated request files: each is carried out to the row, recounted in plain Python, or refused in one line."""

import csv
import io
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from srun.data.dataset import PrepareConfig, Role, prepare
from srun.data.raw import read_raw, write_raw
from srun.errors import SrunError
from srun.flow import partition
from srun.requests.kinds import GivenRequest
from srun.requests.partition import Partition
from srun.tracking import NullTracker

NUMBER = 500
HEADER = ["user_id", "item_id", "timestamp"]
ODD = ["", "nan", " ", "0", "-1", "1e9", "u\u2028x", '"', "\x00", "∞", "=1"]


@pytest.fixture(scope="module")
def world(small, tmp_path_factory):
    """(folder, data, log) of a small data set with users and events kept out of training, and items left out."""
    folder = tmp_path_factory.mktemp("fuzz")
    events = [(u, i, 1_700_000_000 + t) for u, i, t in small.random_events(40, 12, low=8)]
    raw = small.make_raw([*events, ("u1", "rare", 1_700_000_900)])
    write_raw(folder / "raw", raw)
    settings = {**small.PREPARE, "filter": "once", "min_interactions": 2}
    data = prepare(read_raw(folder / "raw"), PrepareConfig(**{**settings, "calibration_users": 0.2}))
    data.save(folder / "prepared")
    log = [(str(u), str(i), int(t)) for u, i, t in raw.interactions.itertuples(index=False)]
    return folder, data, log


def base_rows(rng: random.Random, log: list) -> list[list[str]]:
    rows = [[user, item, str(time)] for user, item, time in rng.sample(log, 12)]
    return [*rows, ["nobody", "i1", "1700000001"], ["u1", "nothing", "1700000001"], ["u1", "rare", "1700000900"]]


def mutate(rng: random.Random, rows: list[list[str]]) -> bytes:
    """A file with one to three changes of rows, cells, lines or bytes."""
    rows, cuts = [list(row) for row in rows], rng.choice([2, 3])
    rows = [row[:cuts] for row in rows]
    for _ in range(rng.randint(0, 2)):
        row = rng.choice(rows)
        change = rng.randrange(9)
        if change == 0:
            rows.remove(row)
        elif change == 1:
            rows.append(list(row))
        elif change == 2:
            row[rng.randrange(len(row))] = rng.choice(ODD)
        elif change == 3:
            row.reverse()
        elif change == 4:
            row.append("more")
        elif change == 5:
            row.pop()
        elif change == 6:
            row[0] = f"  {row[0]} "
        elif change == 7 and cuts == 3:
            row[2] = rng.choice([row[2] + "000", row[2] + ".5", "2023-11-14T22:13:20Z", "17000"])
        else:
            row[0] = rng.choice(["u2", "u39", "U1", "u1\u00a0"])
    lines = [",".join(row) for row in [HEADER[:cuts], *rows]]
    text = bytearray(rng.choice(["\n", "\n", "\r\n"]).join(lines).encode() + b"\n")
    for _ in range(rng.choice([0, 0, 0, 1, 2])):
        place = rng.randrange(len(text))
        if rng.random() < 0.5:
            text[place] = rng.choice([ord(c) for c in ',;"\n\t 0a\x00'] + [0xFF, 0xC3])
        else:
            del text[place]
    return bytes(text)


def recount(content: bytes, data, log: list) -> tuple[Counter, set[tuple[str, str, int]]] | None:
    """Outcomes, and forgotten events, of a file with the plain header, from the specification's words; else None."""
    text = content.decode()
    table = [row for row in csv.reader(io.StringIO(text, newline="")) if any(row)]
    header = [cell.strip() for cell in table[0]]
    if header not in (HEADER[:2], HEADER):
        return None
    ids, items = data.users["user_id"].tolist(), data.items["item_id"].tolist()
    known = {}
    for e in range(data.num_events):
        key = (ids[data.user[e]], items[data.item[e] - 1], int(data.time[e]))
        known.setdefault(key, set()).add(int(data.role[e]))
    outcomes, gone = Counter(), set()
    for row in table[1:]:
        assert len(row) == len(header), content
        user, item, *time = (cell.strip() for cell in row)
        meant = [e for e in log if e[:2] == (user, item) and (not time or e[2] == float(time[0]) // 1)]
        roles = {role for e in meant for role in known.get(e, ())}
        if Role.TRAIN in roles:
            outcomes["forgotten"] += 1
            gone |= {e for e in meant if Role.TRAIN in known.get(e, ())}
        elif meant:
            outcomes["never_trained"] += 1
        elif user not in {e[0] for e in log}:
            outcomes["unknown_user"] += 1
        else:
            outcomes["no_such_event" if item in {e[1] for e in log} else "unknown_item"] += 1
    return outcomes, gone


@pytest.mark.fuzz("requests")
def test_every_mutated_request_is_carried_out_to_the_row_or_refused_in_one_line(world, fuzz, monkeypatch) -> None:
    folder, data, log = world
    ids, items = data.users["user_id"].to_numpy(), data.items["item_id"].to_numpy()
    out = folder / "partition" / "mine"

    def case(number: int, place: Path) -> str:
        monkeypatch.chdir(place)
        rng = random.Random(number)
        content = mutate(rng, base_rows(rng, log))
        Path("r.csv").write_bytes(content)
        kind = rng.choice(["interactions", "interactions", "users"])
        request = GivenRequest(kind=kind, file="r.csv", format=None, columns=None, catalogue="full", seed=0)
        before = {path.name: path.read_bytes() for path in out.glob("*")} if out.is_dir() else {}
        try:
            info = partition.run(
                folder / "prepared", out, "mine", request, lambda: read_raw(folder / "raw"), None, None, NullTracker()
            )
        except SrunError as error:
            assert {path.name: path.read_bytes() for path in out.glob("*")} == before, "nothing is half-written"
            return fuzz.refused(error, place, mentions=r"r\.csv|request")
        made = Partition.load(out, data)
        assert sum(info["rows"].values()) == len((out / "rows.csv").read_text().splitlines()) - 1
        expected = recount(content, data, log) if kind == "interactions" else None
        if expected is None:
            return "carried out"
        outcomes, gone = expected
        assert {name: count for name, count in info["rows"].items() if count} == dict(outcomes), content
        forgotten = {
            (ids[data.user[e]], items[data.item[e] - 1], int(data.time[e])) for e in np.flatnonzero(made.forget)
        }
        assert forgotten == gone, content
        return "recounted"

    outcomes = fuzz.run(NUMBER, case)
    assert min(outcomes["refused"], outcomes["recounted"]) > outcomes.total() / 10, outcomes
