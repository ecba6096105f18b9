"""A dry run: what carrying out the pending requests would do, without changing anything."""

import statistics
from typing import Any

import numpy as np

from srun.data.dataset import Role
from srun.service.book import Batch, Book, now
from srun.service.carrying import RETRAIN, Clock, Work
from srun.service.chains import load_params
from srun.service.desk import Service


def plan(service: Service) -> dict[str, Any]:
    """Rows by outcome, what is touched, the methods in their order with the seconds they are likely to take."""
    book, params = service.book(), load_params(service.root, tracking=False)
    unfinished = book.unfinished
    requests = unfinished.requests if unfinished is not None else tuple(request.id for request in book.pending)
    if not requests:
        return {"requests": [], "unfinished": None, "methods": []}
    served = book.served.number
    batch = unfinished or Batch("(plan)", len(book.batches), requests, served, served, "", now())
    work = Work(service.root, service.ledger, service.keys, params, batch, book, Clock())
    events = work.resolved.events & ~work.gone_before
    forget = events & work.data.has_role(Role.TRAIN)
    return {
        "requests": list(requests),
        "unfinished": None if unfinished is None else unfinished.id,
        "rows": work.resolved.totals(),
        "events": {
            "unlearned": int(forget.sum()),
            "share_of_training": float(forget.sum() / max(int(work.data.has_role(Role.TRAIN).sum()), 1)),
            "never_trained": int((events & ~forget).sum()),
            "rows_of_the_log": int(work.resolved.log.sum()),
        },
        "users": len(np.unique(work.data.user[events])),
        "items": len(np.unique(work.data.item[events])),
        "forgotten_since_anchor": int((work.gone & work.data.has_role(Role.TRAIN)).sum()),
        "methods": [_method(book, work, method) for method in (work.methods if work.parts else [])],
        "recommended": work.methods[0] if work.parts else "nothing to unlearn",
        "why": _why(work),
    }


def _method(book: Book, work: Work, method: str) -> dict[str, Any]:
    """A method with the seconds it took before, and how far these lay apart; None where it never ran here."""
    runs = [float(gate["seconds"]) for batch in book.batches.values() if (gate := batch.gates.get(method)) is not None]
    shown = book.qualified.get(f"{work.origin.chain}/{method}/{work.kind}")
    return {
        "method": method,
        "seconds": round(statistics.median(runs), 2) if runs else None,
        "seconds_spread": round(statistics.pstdev(runs), 2) if runs else None,
        "measured_runs": len(runs),
        "qualified": None if method == RETRAIN or shown is None else shown["word"],
    }


def _why(work: Work) -> str:
    if not work.parts:
        return "no model was trained on anything that the requests name"
    if work.methods[0] == RETRAIN:
        return f"requests of kind {work.kind} have no other method in service.methods"
    return f"the first of service.methods.{work.kind}; the others follow where the gate does not let it through"
