"""Carries out what is pending: a batch of requests becomes one unlearning, is judged, and is promoted or falls back.

Every step is written to the ledger or leaves an output that is whole or not there. So whatever dies in between, the
same call goes on where it was, and each effect happens once.
"""

import hashlib
import logging
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from srun.data.dataset import Dataset, Mask, Role
from srun.data.raw import RawData, read_info, read_raw, without_rows, write_raw
from srun.data.sequences import Queries
from srun.errors import RunError, SrunError
from srun.files import write_text
from srun.flow.cells import Cell
from srun.flow.params import Params
from srun.metrics.ranking import ndcg
from srun.models.published import load_published
from srun.models.scorer import Scorer
from srun.requests.rows import OUTCOMES
from srun.rng import derive
from srun.service.book import Batch, Book, Version, now
from srun.service.chains import Chain, cell_of
from srun.service.gate import Asked, Gate, Standing, ask, judge_forgetting, judge_utility, rank
from srun.service.inbox import read_inbox
from srun.service.keys import Keys
from srun.service.ledger import Entry, Ledger, New, canonical
from srun.service.resolve import Resolved, resolve
from srun.service.settings import ServiceRoot, model_digest, point_to
from srun.system.devices import start

RETRAIN = "retrain"
NONCE = "nonce"
"""A file of a log's folder: random, so that nothing can be told from the digest of a version of the data."""
Part = Literal["users", "interactions"]

log = logging.getLogger("srun.service")


@dataclass
class Clock:
    """Seconds by step, in the order in which the steps were first taken."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Count the seconds of a block."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - began


@dataclass(frozen=True)
class Candidate:
    """A model that may be promoted."""

    method: str
    folder: Path
    chain: int
    cell: Cell | None


@dataclass(frozen=True)
class Work:
    """One batch in the hands of one process."""

    root: ServiceRoot
    ledger: Ledger
    keys: Keys
    params: Params
    batch: Batch
    book: Book
    clock: Clock

    @cached_property
    def device(self) -> torch.device:
        return start(self.params.runtime)

    @property
    def origin(self) -> Version:
        """The version it is carried out on."""
        return self.book.version(self.batch.start)

    @cached_property
    def chain(self) -> Chain:
        return Chain.open(self.root, self.params, self.origin.chain).knowing()

    @cached_property
    def data(self) -> Dataset:
        """The prepared data of the chain, as they were at its anchor."""
        return self.chain.data()

    @cached_property
    def gone_before(self) -> Mask:
        """(E,) events that requests named before this batch, of which no model of the chain knows any more."""
        return self.chain.removed(self.origin, self.data)

    @cached_property
    def raw(self) -> RawData:
        return read_raw(self.root.raw)

    @cached_property
    def resolved(self) -> Resolved:
        """What the batch's requests mean here."""
        rows = read_inbox(self.root, [self.book.request(name) for name in self.batch.requests])
        return resolve(rows, self.data.forgetting(self.gone_before), self.raw)

    @property
    def gone(self) -> Mask:
        """(E,) every event that is named once the batch is carried out."""
        return self.gone_before | self.resolved.events

    @cached_property
    def parts(self) -> dict[Part, Mask]:
        """(E,) what is forgotten by kind: events of users of whom nothing stays in training, and others'.

        Named events that no model was trained on go with the last part; no part where nothing was trained on.
        """
        train, gone = self.data.has_role(Role.TRAIN), self.gone
        forget = train & gone & ~self._unlearned_before
        left = np.zeros(self.data.num_users, dtype=bool)
        left[self.data.user[train & ~gone]] = True
        whole = forget & ~left[self.data.user]
        parts: dict[Part, Mask] = {"users": whole, "interactions": forget & ~whole}
        parts = {kind: events for kind, events in parts.items() if events.any()}
        if parts:
            last = list(parts)[-1]
            parts[last] = parts[last] | (gone & ~forget & ~self._unlearned_before)
        return parts

    @cached_property
    def _unlearned_before(self) -> Mask:
        """(E,) events that partitions before have named; marks of batches without a partition are not among them."""
        cell = cell_of(self.origin)
        if cell is None:
            return np.zeros(self.data.num_events, dtype=bool)
        return self.chain.partition(cell.request, self.data).gone

    @property
    def kind(self) -> str:
        """Which list of methods it goes by: the one of its most demanding request."""
        kinds = {self.book.request(name).kind for name in self.batch.requests}
        if "items" in kinds:
            return "items"
        return "users" if "interactions" not in self.parts else "events"

    def rank(self, scorer: Scorer, queries: Queries) -> NDArray[np.float64]:
        """(Q,) ranks of queries under a model."""
        return rank(scorer, queries, self.params.prepare.max_length, self.device, self.params.evaluate.batch_size)

    @cached_property
    def questions(self) -> Asked:
        """What the gate asks."""
        return ask(self.data, self.gone)

    @cached_property
    def anchor(self) -> Scorer:
        """The model that every version of the chain is held against."""
        return self.chain.load_anchor(self.device)

    @cached_property
    def anchor_ranks(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Ranks of forgotten and of never-seen events under the anchor."""
        questions = self.questions
        return self.rank(self.anchor, questions.forgotten), self.rank(self.anchor, questions.never_seen)

    @cached_property
    def untouched(self) -> Gate:
        """What the gate says of the anchor itself: unless it fails, the events can tell nothing."""
        return self._judged(*self.anchor_ranks)

    def judge_forgetting(self, scorer: Scorer) -> Gate:
        """What the events that were forgotten since the anchor say of a model."""
        return self._judged(self.rank(scorer, self.questions.forgotten), self.rank(scorer, self.questions.never_seen))

    def _judged(self, forgotten: NDArray[np.float64], never_seen: NDArray[np.float64]) -> Gate:
        questions, popularity = self.questions, self.questions.popularity
        anchor = self.anchor_ranks
        ours = Standing.of(questions.forgotten, popularity, forgotten, anchor[0])
        others = Standing.of(questions.never_seen, popularity, never_seen, anchor[1])
        seed = derive(self.params.unlearn.seed, self.batch.id) % 2**31
        return judge_forgetting(ours, others, self.params.service.gate, seed)

    @property
    def methods(self) -> Sequence[str]:
        """Methods in the order in which they are tried."""
        if self.batch.forced:
            return [self.batch.forced]
        methods: tuple[str, ...] = getattr(self.params.service.methods, self.kind)
        return methods


def carry_out(root: ServiceRoot, ledger: Ledger, keys: Keys, params: Params, batch: Batch, clock: Clock) -> Version:
    """Take a batch from wherever it is to a promoted version; raises RunError where no model passes."""
    book = Book.read(ledger)
    work = Work(root, ledger, keys, params, batch, book, clock)
    with clock.step("look up rows"):
        _record_resolved(work)
        _write_next_log(work)
    promoted = _unchanged(work) if not work.parts and not batch.forced else _try_methods(work)
    return promoted


def _try_methods(work: Work) -> Version:
    """The first candidate that the gate lets through."""
    for method in work.methods:
        known = work.batch.gates.get(method)
        if known is not None and known["opens"] != "yes":
            continue
        if (gate := _closed_before(work, method)) is not None:
            _record_gate(work, method, gate)
            log.info("%s: not tried, %s", method, gate.reason)
            continue
        with work.clock.step(method):
            try:
                candidate = _make(work, method)
            except SrunError as error:
                if method == RETRAIN:
                    raise
                log.warning("%s cannot carry this out (%s)", method, error)
                _record_gate(work, method, Gate("fails", f"could not be carried out: {error}"))
                continue
        with work.clock.step("gate"):
            gate = _judge(work, candidate)
            _record_gate(work, method, gate)
        log.info("%s: %s (%s)", method, gate.word, gate.reason)
        if gate.opens:
            with work.clock.step("promote"):
                return promote(work, candidate, gate.word)
    reason = "no method passes the gate; see `srun requests show`"
    work.ledger.append(lambda entries: [New(work.batch.id, "stopped", {"at": str(now()), "reason": reason})])
    shutil.rmtree(work.root.next_raw(work.batch.id).parent, ignore_errors=True)
    raise RunError(
        f"{work.batch.id}: nothing was promoted, for {reason}; version {work.batch.parent} stays, and the requests are"
        " pending again: a person has to look at them"
    )


def _unchanged(work: Work) -> Version:
    """Promote the origin's model as it is: no model was trained on anything that the batch names."""
    origin = work.origin
    if work.resolved.events.any():
        work.chain.mark_removed(work.batch.id, work.resolved.events)
    candidate = Candidate(origin.method, work.root.folder / origin.model, origin.chain, cell_of(origin))
    with work.clock.step("promote"):
        return promote(work, candidate, "nothing to unlearn")


def _record_resolved(work: Work) -> None:
    """Write the outcomes of every row to the ledger, once."""
    if work.batch.resolved is not None:
        return
    rows = work.resolved.rows
    open_requests = [name for name in work.batch.requests if work.book.request(name).state == "in_progress"]
    outcomes = {name: counts for name, counts in work.resolved.outcomes().items() if name in set(open_requests)}
    others = rows[(rows["outcome"] != "forgotten") & rows["request"].isin(open_requests)]
    told: dict[str, list[list[str]]] = {}
    for request, line, outcome, reason in others.itertuples(index=False):
        told.setdefault(request, []).append([str(line), outcome, reason])
    train = work.data.has_role(Role.TRAIN)
    body = {
        "outcomes": {name: {key: str(number) for key, number in counts.items()} for name, counts in outcomes.items()},
        "not_forgotten": told,
        "num_events": str(int((work.resolved.events & train & ~work.gone_before).sum())),
        "num_log_rows": str(int(work.resolved.log.sum())),
    }
    append_once(work.ledger, New(work.batch.id, "resolved", body))


def _write_next_log(work: Work) -> None:
    """The log without what the batch names, beside the one that stands until the promotion."""
    place = work.root.next_raw(work.batch.id)
    if (place / NONCE).is_file() or not work.resolved.log.any():
        return
    write_raw(place, without_rows(work.raw, work.resolved.log))
    write_text(place / NONCE, secrets.token_hex(32) + "\n")


def data_digest(folder: Path) -> str:
    """Digest of a version of the log: nothing about its rows follows from it without the nonce."""
    nonce = folder / NONCE
    secret = nonce.read_text(encoding="ascii").strip() if nonce.is_file() else ""
    return hashlib.sha256(f"{secret}\n{read_info(folder)['fingerprint']}".encode()).hexdigest()


def _make(work: Work, method: str) -> Candidate:
    """The model that a method makes of the batch."""
    if method == RETRAIN:
        return _retrain(work)
    chain, cell, rows = work.chain, cell_of(work.origin), work.resolved.rows[["line", "outcome", "reason"]]
    folder = chain.anchor
    for kind, events in work.parts.items():
        name = f"{work.batch.id}-{kind}"
        chain = chain.split(name, kind, work.data, events, rows, cell)
        own = Cell(request=name, original=chain.original, method=method, seed=work.params.unlearn.seed)
        folder, cell = chain.unlearn(own, cell), own
    return Candidate(method, folder, chain.number, cell)


def _retrain(work: Work) -> Candidate:
    """A new anchor, of the log without what the batch names: the next chain."""
    number = work.batch.number + 1  # batches are numbered from 0, which made chain 1
    place = work.root.next_raw(work.batch.id)
    chain = Chain.open(work.root, work.params, number, place if place.is_dir() else None)
    chain.begin()
    return Candidate(RETRAIN, chain.anchor, number, None)


def _judge(work: Work, candidate: Candidate) -> Gate:
    """What the gate says of a candidate."""
    settings, questions = work.params.service.gate, work.questions
    scorer = load_published(candidate.folder, work.device)[0]
    reference = work.rank(work.anchor, questions.test)
    if candidate.cell is None:
        return _judge_retrained(work, candidate, scorer, ndcg(reference, 10))
    utility = judge_utility(work.rank(scorer, questions.test), reference, questions.test.user, settings)
    if not utility.opens:
        return utility
    forgetting = work.judge_forgetting(scorer)
    figures, said = {**utility.figures, **forgetting.figures}, f"{utility.reason}; {forgetting.reason}"
    if forgetting.word != "cannot tell":
        return Gate(forgetting.word, said, figures)
    return _by_qualification(work, candidate.method, said, figures)


def _closed_before(work: Work, method: str) -> Gate | None:
    """What the gate would say whatever a method makes: it was not qualified, and the events cannot tell either.

    None where it has to be tried.
    """
    if method == RETRAIN or _is_qualified(work, method):
        return None
    untouched = work.untouched
    return None if untouched.word == "fails" else _by_qualification(work, method, untouched.reason, untouched.figures)


def _is_qualified(work: Work, method: str) -> bool:
    shown = work.book.qualified.get(f"{work.origin.chain}/{method}/{work.kind}")
    return shown is not None and shown["word"] == "passes"


def _by_qualification(work: Work, method: str, reason: str, figures: dict[str, float]) -> Gate:
    """A batch that is too small to be judged goes by what the method showed on simulated requests."""
    shown = work.book.qualified.get(f"{work.origin.chain}/{method}/{work.kind}")
    if shown is not None and _is_qualified(work, method):
        return Gate(
            "not judged singly", f"{reason}; {method} qualified by {shown['number']} simulated requests", figures
        )
    why = "was not qualified" if shown is None else f"did not qualify: {shown['word']}, {shown['reason']}"
    return Gate("cannot tell", f"{reason}; {method} {why}", figures)


def _judge_retrained(work: Work, candidate: Candidate, scorer: Scorer, reference: float) -> Gate:
    """A Retrain is checked for sanity: it knows nothing of the events, and has to be worth something."""
    chain = Chain.open(work.root, work.params, candidate.chain)
    data = chain.data()
    own = ndcg(work.rank(scorer, ask(data, np.zeros(data.num_events, dtype=bool)).test), 10)
    least = work.params.service.gate.retrained_utility
    ratio = own / reference if reference > 0 else 1.0
    figures = {"utility": ratio, "ndcg_10": own}
    said = f"retrained; utility {100 * ratio:.1f} % of the anchor's"
    return Gate("passes" if np.isfinite(own) and ratio >= least else "fails", said, figures)


def _record_gate(work: Work, method: str, gate: Gate) -> None:
    body = {
        "method": method,
        "seconds": f"{work.clock.seconds.get(method, 0.0):.3f}",
        "word": gate.word,
        "reason": gate.reason,
        "opens": "yes" if gate.opens else "no",
        "figures": {name: f"{value:.6g}" for name, value in gate.figures.items()},
    }
    append_once(work.ledger, New(work.batch.id, f"gate-{method}", body))


def promote(work: Work, candidate: Candidate, verdict: str) -> Version:
    """Write to the ledger that a model is served from now on; RunError unless the batch's parent was until now."""
    place = work.root.next_raw(work.batch.id)
    body = {
        "at": str(now()),
        "version": str(work.batch.parent + 1),
        "model": str(candidate.folder.relative_to(work.root.folder)),
        "sha256": model_digest(candidate.folder),
        "chain": str(candidate.chain),
        "method": candidate.method,
        "verdict": verdict,
        "data": data_digest(place if place.is_dir() else work.root.raw),
        "cell": None if candidate.cell is None else {**asdict(candidate.cell), "seed": str(candidate.cell.seed)},
    }

    def make(entries: list[Entry]) -> list[New]:
        book = Book.of(entries)
        if book.batches[work.batch.id].state != "open":
            return []
        current = max(book.versions, default=0)
        if current != work.batch.parent:
            raise RunError(
                f"{work.batch.id}: version {current} was promoted meanwhile, and this is made of {work.batch.parent};"
                " give the same command again"
            )
        return [New(work.batch.id, "promoted", body)]

    work.ledger.append(make)
    book = Book.read(work.ledger)
    return next(version for version in book.versions.values() if version.batch == work.batch.id)


def settle(root: ServiceRoot, keys: Keys, book: Book, batch: Batch) -> None:
    """Bring everything after a promotion in line with the ledger: link, log, map of users; each may be repeated."""
    point_to(root, book.served.model)
    swap_log(root, batch.id)
    if batch.requests:
        _remove_users(root, keys, book, batch)


def swap_log(root: ServiceRoot, batch: str) -> None:
    """Put the log that a batch left in the place of the one before."""
    new, old = root.next_raw(batch), root.raw.with_name(f".{root.raw.name}.old")
    if new.is_dir():
        if root.raw.is_dir():
            shutil.rmtree(old, ignore_errors=True)
            os.rename(root.raw, old)
        root.raw.parent.mkdir(parents=True, exist_ok=True)
        os.rename(new, root.raw)
    shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(new.parent, ignore_errors=True)


def _remove_users(root: ServiceRoot, keys: Keys, book: Book, batch: Batch) -> None:
    """Forget who is behind a key, of users who asked to go as a whole and have nothing in the log any more."""
    requests = [book.request(name) for name in batch.requests]
    whole = [request for request in requests if request.kind == "users" and (root.inbox / request.inbox).is_file()]
    if not whole:
        return
    named: set[str] = set(read_inbox(root, whole)["user_id"])
    left = set(pd.unique(read_raw(root.raw).interactions["user_id"].cat.categories))
    keys.remove_users(named - left)


def begin_batch(ledger: Ledger, requests: Sequence[str], start_version: int | None, forced: str) -> Batch | None:
    """Write down which requests are carried out together: of those pending, or an unfinished batch; None for nothing.

    ``start_version``: one that is rolled back to. Raises RunError for a request that is not pending.
    """

    def make(entries: list[Entry]) -> list[New]:
        book = Book.of(entries)
        if book.unfinished is not None:
            return []
        served, pending = book.served, [request.id for request in book.pending]
        start = served.number if start_version is None else start_version
        if start_version is not None:
            missing = served.covers - book.version(start).covers
            chosen = [name for name in book.requests if name in missing]
        else:
            chosen = _chosen(book, pending, requests)
            if not chosen and not forced:
                return []
        origin = book.version(start)
        body = {
            "at": str(now()),
            "number": str(len(book.batches)),
            "requests": chosen,
            "parent": str(served.number),
            "start": str(start),
            "forced": forced,
            "hash": hashlib.sha256(canonical([chosen, origin.sha256, forced]).encode()).hexdigest(),
        }
        return [New(f"batch-{len(book.batches):04d}", "intent", body)]

    ledger.append(make)
    return Book.read(ledger).unfinished


def _chosen(book: Book, pending: list[str], requests: Sequence[str]) -> list[str]:
    if not requests:
        return pending
    for name in requests:
        if (state := book.request(name).state) != "pending":
            raise RunError(f'request "{name}" is {state}; only pending ones can be carried out')
    return [name for name in pending if name in set(requests)]


def append_once(ledger: Ledger, new: New) -> None:
    """Append an entry unless its step was recorded already."""

    def make(entries: list[Entry]) -> list[New]:
        known = any(entry.request == new.request and entry.step == new.step for entry in entries)
        return [] if known else [new]

    ledger.append(make)


def outcome_counts(book: Book, names: Sequence[str]) -> dict[str, int]:
    """How many rows of requests have which outcome."""
    totals = dict.fromkeys(OUTCOMES, 0)
    for name in names:
        for outcome, number in book.request(name).outcomes.items():
            totals[outcome] += number
    return totals
