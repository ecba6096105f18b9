"""What a service can be asked to do: made, given requests, planned, run, rolled back, looked at, verified."""

import logging
import secrets
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from srun.data.raw import RawData, read_raw, with_users, without_rows, write_raw
from srun.errors import ConfigError, RunError
from srun.files import held, write_text
from srun.flow.params import Params, load, load_values
from srun.names import SERVICE_FILE, name_fault
from srun.service.book import SERVICE, Batch, Book, now
from srun.service.carrying import (
    NONCE,
    Candidate,
    Clock,
    Work,
    append_once,
    begin_batch,
    carry_out,
    outcome_counts,
    promote,
    settle,
)
from srun.service.chains import Chain, load_params
from srun.service.desk import Service, status
from srun.service.keys import Keys, new_user_key
from srun.service.ledger import Ledger, New
from srun.service.projections import add_to_dvc, tell_tracker
from srun.service.qualify import Kind, qualify
from srun.service.receipt import write_receipts
from srun.service.settings import ServiceRoot, Settings, model_digest, new_service_name
from srun.service.tombstones import buried

log = logging.getLogger("srun.service")


def make_service(
    folder: Path, data: str, params_file: Path, presets: Sequence[str], assignments: Sequence[str], ledger: str
) -> dict[str, Any]:
    """Make a service root of a data set of the working folder, train its first version and promote it.

    A call that was killed is gone on with by the same call. Returns what ``status`` does, and seconds by step.
    """
    clock = Clock()
    with held(folder / "runs" / "service", f"work in {folder}"):
        with clock.step("import"):
            _make_root(folder, data, params_file, presets, assignments, ledger)
        service = Service.open(folder)
        if service.book().versions:
            raise ConfigError(f"{folder}: is a service already; `srun status --service {folder}` says what it serves")
        _first_version(service, clock)
    return {**status(service), "seconds": clock.seconds}


def _make_root(
    folder: Path, data: str, params_file: Path, presets: Sequence[str], assignments: Sequence[str], ledger: str
) -> ServiceRoot:
    """The files of a service, without any model; those of a call that was killed are kept."""
    if (folder / SERVICE_FILE).is_file():
        root = ServiceRoot.open(folder)
        if root.settings.data != data:
            raise ConfigError(f"{folder}: is the service of data set {root.settings.data}; name another folder")
        return root
    if fault := name_fault(data, "data set"):
        raise ConfigError(f'--data "{data}": {fault}')
    values = load_values(params_file, [Path(preset) for preset in presets], [*assignments, f"data.name={data}"])
    source = Path("data/raw") / data
    if not source.is_dir():
        raise ConfigError(
            f"{source}: no such data set here; make it with `srun data fetch {data}`, or with `srun data import FILE"
            f" --name {data}`"
        )
    raw = read_raw(source)
    _write_params(folder / "params.yaml", values)
    params = load(folder / "params.yaml")
    keys = Keys.create(new_service_name(data), data)
    original = params.service.original or next(iter(params.originals), "")
    if not original or params.original(original).shards != 1:
        raise ConfigError(
            "a service serves one model: give `originals` one with shards 1, and name it service.original"
        )
    made = Settings(keys.service, data, original, str(raw.info.get("time", "unix")), ledger, keys.fingerprint)
    root = ServiceRoot(folder.resolve(), made)
    keep_log(root, keys, raw)
    Ledger(root.ledger_url).append(
        lambda entries: [] if entries else [New(SERVICE, "created", {"at": str(now()), "keys": keys.fingerprint})]
    )
    root.write()
    return root


def keep_log(root: ServiceRoot, keys: Keys, raw: RawData) -> None:
    """Write a log into the service with a random key in the place of every user id; known users keep theirs."""
    known = keys.read_users()
    taken = set(known.values())
    for user in raw.interactions["user_id"].cat.categories:
        if user not in known:
            known[user] = new_user_key(taken)
            taken.add(known[user])
    keys.write_users(known)
    write_raw(root.raw, with_users(raw, known))
    write_text(root.raw / NONCE, secrets.token_hex(32) + "\n")


def import_log(service: Service) -> dict[str, Any]:
    """Take the data set of the working folder as the service's log anew, without what requests have forgotten.

    No model changes: a Retrain is what learns from it. Returns how many rows came in and how many were kept out.
    """
    root, book = service.root, service.book()
    source = Path("data/raw") / root.settings.data
    if not source.is_dir():
        raise ConfigError(f"{source}: no such data set here; import the log first, as `srun data import` does")
    with held(root.lock, f"work on requests in {root.folder}"):
        if book.unfinished is not None:
            raise RunError(f"{book.unfinished.id} was not finished; `srun requests run` goes on with it, then import")
        raw = read_raw(source)
        gone = buried(raw, service.keys, book.tombstones())
        if str(raw.info.get("time", "unix")) != root.settings.time:
            raise ConfigError(f"{source}: its times are not of the kind that the service's log has")
        keep_log(root, service.keys, without_rows(raw, gone))
        number = sum(entry.step.startswith("imported-") for entry in service.ledger.entries())
        told = {"rows": str(len(gone)), "kept_out": str(int(gone.sum()))}
        service.ledger.append(lambda entries: [New(SERVICE, f"imported-{number + 1}", {"at": str(now()), **told})])
    log.info("%s: %d of %d rows are of forgotten events and stay out", source, int(gone.sum()), len(gone))
    return {"rows": len(gone), "kept_out": int(gone.sum()), "next": "srun requests run --method retrain"}


def _write_params(path: Path, values: Mapping[str, Any]) -> None:
    text = StringIO()
    yaml = YAML(typ="safe")
    yaml.default_flow_style = False
    yaml.dump({**values, "partition": {}, "requests": [], "cells": {}, "chain": {}}, text)
    write_text(
        path,
        "# Every value of this service; docs/requests.md has what the section `service` means.\n" + text.getvalue(),
    )


def _first_version(service: Service, clock: Clock) -> None:
    """Train on everything, and promote that: nothing was asked to be forgotten yet."""
    root, ledger = service.root, service.ledger
    chain = Chain.open(root, load_params(root, tracking=True), 1)
    with clock.step("train"):
        chain.begin()
    batch = {"at": str(now()), "number": "0", "requests": [], "parent": "0", "start": "0", "forced": "", "hash": ""}
    ledger.append(lambda entries: [] if Book.of(entries).batches else [New("batch-0000", "intent", batch)])
    with clock.step("qualify"):
        qualify_methods(service, chain)
    book = service.book()
    candidate = Candidate("original", chain.anchor, 1, None)
    work = Work(root, ledger, service.keys, chain.project.params, book.batches["batch-0000"], book, clock)
    promote(work, candidate, "trained on everything, before any request")
    _settle(service, service.book(), "batch-0000", clock)


def _settle(service: Service, book: Book, batch: str, clock: Clock) -> str:
    """Bring everything in line with the ledger after a promotion; returns the command that commits to Git."""
    root, params = service.root, load(service.root.params)
    with clock.step("settle"):
        settle(root, service.keys, book, book.batches[batch])
    with clock.step("dvc"):
        commit = add_to_dvc(root, params)
    with clock.step("tracker"):
        tell_tracker(root, params, book, book.batches[batch])
    append_once(service.ledger, New(batch, "settled", {"at": str(now())}))
    return commit


def qualify_methods(service: Service, chain: Chain) -> None:
    """Qualify the first method of every kind on a chain, where that was not done."""
    params = chain.project.params
    if not params.service.gate.simulated:
        return
    kinds: tuple[Kind, ...] = ("events", "users")
    for kind in kinds:
        method = getattr(params.service.methods, kind)[0]
        known = service.book().qualified
        if method != "retrain" and f"{chain.number}/{method}/{kind}" not in known:
            append_once(service.ledger, qualify(chain, method, kind))


def run(
    service: Service, requests: Sequence[str] = (), forced: str = "", rollback_to: int | None = None
) -> dict[str, Any]:
    """Carry out what is pending as one batch, after one that was begun and never finished.

    ``forced``: the method to use, whatever the usual order. ``rollback_to``: a version to go back to, with what it does
    not cover carried out on it. Returns version, verdict, requests, receipts and seconds by step.
    """
    clock, root, results = Clock(), service.root, []
    with held(root.lock, f"work on requests in {root.folder}"):
        params = load_params(root, tracking=False)
        unfinished = service.book().unfinished
        if unfinished is not None:
            log.info("%s: goes on, it was not finished", unfinished.id)
            results.append(_one_batch(service, params, unfinished, clock))
        book = service.book()
        left = [name for name in requests if not results or book.request(name).state == "pending"]
        is_done = unfinished is not None and _is_asked_again(unfinished, forced, rollback_to)
        if not is_done and (left or not requests):
            batch = begin_batch(service.ledger, left, rollback_to, forced)
            results += [] if batch is None else [_one_batch(service, params, batch, clock)]
    if not results:
        served = book.served
        return {"batch": None, "requests": [], "version": served.number, "verdict": None, "seconds": clock.seconds}
    done = [name for result in results for name in result["requests"]]
    receipts = {name: path for result in results for name, path in result["receipts"].items()}
    return {**results[-1], "requests": done, "receipts": receipts, "seconds": clock.seconds}


def _is_asked_again(batch: Batch, forced: str, rollback_to: int | None) -> bool:
    """Whether a batch that was finished just now is the very one that a call asks for."""
    if rollback_to is not None:
        return batch.start == rollback_to
    return bool(forced) and batch.forced == forced


def _one_batch(service: Service, params: Params, batch: Batch, clock: Clock) -> dict[str, Any]:
    """Carry out one batch and bring everything in line with the ledger."""
    root, ledger, keys = service.root, service.ledger, service.keys
    if batch.state == "open":
        carry_out(root, ledger, keys, params, batch, clock)
    book = service.book()
    commit = _settle(service, book, batch.id, clock)
    version = book.served
    receipts = write_receipts(root, keys, book, list(batch.requests), ledger.head())
    if version.method == "retrain" and version.batch == batch.id:
        with clock.step("qualify"):
            qualify_methods(service, Chain.open(root, params, version.chain))
    return {
        "batch": batch.id,
        "requests": list(batch.requests),
        "version": version.number,
        "method": version.method,
        "verdict": version.verdict,
        "rows": outcome_counts(book, batch.requests),
        "gates": {
            name: {key: gate[key] for key in ("word", "reason")} for name, gate in book.batches[batch.id].gates.items()
        },
        "receipts": receipts,
        "commit": commit,
    }


def rollback(service: Service, number: int) -> dict[str, Any]:
    """Carry out on an earlier version what it does not cover, and promote that as a new one.

    Raises ConfigError for a version that is not there, is served already, or whose model is gone.
    """
    book = service.book()
    version = book.version(number)
    if number == book.served.number:
        raise ConfigError(f"version {number} is served already")
    folder = service.root.folder / version.model
    if model_digest(folder) != version.sha256:
        raise ConfigError(f"{folder}: is not the model of version {number} (its sha256 differs from the ledger's)")
    return run(service, rollback_to=number)
