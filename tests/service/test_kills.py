"""A process that carries out requests dies, between two steps or within one; the next goes on; effects happen once."""

import os
import random
import signal
import time

import pytest

from srun.data.raw import read_raw
from srun.service.desk import Service, verify
from srun.service.ledger import Ledger
from srun.service.operations import run

from .test_inbox import add


def in_child(work) -> int:
    """Start a process that does some work and ends without the rest of this one's; its id."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return child


def check_once(service, names):
    """Every request was carried out exactly once, and everything follows from the ledger."""
    book = service.book()
    assert {book.requests[name].state for name in names} == {"promoted"}
    assert set(names) == book.served.covers
    entries = service.ledger.entries()
    promoted = [entry for entry in entries if entry.step == "promoted"]
    assert len(promoted) == len(book.versions) == len({version.parent for version in book.versions.values()})
    assert [name for batch in book.batches.values() for name in batch.requests] == sorted(names, key=list(names).index)
    assert book.unfinished is None
    assert os.readlink(service.root.served) == book.served.model
    verify(service, None)
    kept = set(read_raw(service.root.raw).interactions["user_id"].cat.categories)
    assert kept == set(service.keys.read_users().values())
    assert not (service.root.folder / "data/next").exists() or not list((service.root.folder / "data/next").iterdir())


def test_killed_at_every_entry_of_the_ledger(service, monkeypatch):
    names = add(service, users=("user-0007", "user-0011"), name="t")
    append = Ledger.append
    for before in (True, False) * 4:
        number = 0

        def dying(self, make, known=0, before=before):
            nonlocal number
            number += 1
            if before and number == 2:
                os._exit(9)
            made = append(self, make, known)
            if not before and made:
                os._exit(9)
            return made

        monkeypatch.setattr(Ledger, "append", dying)
        os.waitpid(in_child(lambda: run(service)), 0)
        monkeypatch.setattr(Ledger, "append", append)
    run(service)
    check_once(service, names)


@pytest.mark.parametrize("seed", [0, 1])
def test_killed_at_random_moments(service, seed):
    rng = random.Random(seed)
    names = []
    for number in range(2):
        names += add(service, users=(f"user-{10 * seed + number + 20:04d}",), name=f"t{number}")
        for _ in range(6):
            child = in_child(lambda: run(service))
            time.sleep(rng.uniform(0.05, 1.5))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            serving = Service.open(service.root.folder).book().served
            assert (service.root.folder / serving.model).is_dir()
        run(service)
    check_once(service, names)


def test_two_processes_at_once_carry_out_each_request_once(service):
    names = add(service, users=("user-0007",), name="t")
    children = [in_child(lambda: run(service)) for _ in range(2)]
    for child in children:
        os.waitpid(child, 0)
    run(service)
    check_once(service, names)
