"""Qualification: what a method shows on simulated requests of a kind, judged together, before a real one is known."""

import logging
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch

from srun.data.dataset import MAX_SHARE_SET_ASIDE, Dataset, Mask, Role, draw_events
from srun.flow.loading import load_original
from srun.models.scorer import Scorer
from srun.requests.kinds import GivenRequest
from srun.requests.partition import partition_of_events
from srun.rng import numpy_stream
from srun.service.book import SERVICE, now
from srun.service.chains import LEDGER, Chain
from srun.service.gate import Asked, Gate, Standing, ask, judge_forgetting, rank
from srun.service.ledger import New
from srun.system.devices import start
from srun.unlearning import UNLEARNERS
from srun.unlearning.base import Context, Original

Kind = Literal["events", "users"]
MIN_EVENTS = 5
"""Training events of a user who is taken for a simulated request."""
DOUBLINGS = 2
"""How often the number of requests is doubled while the anchor itself passes by their events."""

log = logging.getLogger("srun.service")


@dataclass(frozen=True)
class Trial:
    """Simulated requests of a kind on the anchor of a chain."""

    chain: Chain
    kind: Kind
    data: Dataset
    original: Original
    device: torch.device

    @classmethod
    def of(cls, chain: Chain, kind: Kind) -> "Trial":
        data, device = chain.data(), start(chain.project.params.runtime)
        return cls(chain, kind, data, load_original(chain.project.layout, chain.original, data, device), device)

    def rank(self, scorer: Scorer, which: Literal["forgotten", "never_seen"], questions: Asked) -> Standing:
        """Where events stand under a model and under the anchor."""
        queries, batch = getattr(questions, which), self.chain.project.params.evaluate.batch_size
        own, anchor = (
            rank(one, queries, self.data.max_length, self.device, batch) for one in (scorer, self.original.scorer)
        )
        return Standing.of(queries, questions.popularity, own, anchor)

    @cached_property
    def never_seen(self) -> Standing:
        """Under the anchor: one request hardly moves them."""
        removed = simulated(self.data, self.kind, 1, self._seed)[0]
        return self.rank(self.original.scorer, "never_seen", ask(self.data, removed))

    @property
    def _seed(self) -> int:
        return int(self.chain.project.params.unlearn.seed)

    def judge(self, forgotten: list[Standing]) -> Gate:
        """What the events of all requests say together."""
        return judge_forgetting(
            Standing.join(forgotten), self.never_seen, self.chain.project.params.service.gate, self._seed
        )

    def carry_out(self, method: str, removed: Mask) -> Standing:
        """Where the forgotten events of one simulated request stand once a method has carried it out."""
        params = self.chain.project.params
        form: Literal["users", "interactions"] = "users" if self.kind == "users" else "interactions"
        block = GivenRequest(kind=form, file=LEDGER, format=None, columns=None, catalogue="full", seed=self._seed)
        named = np.zeros(self.data.num_users, dtype=bool)
        named[self.data.user[removed]] = True
        request = partition_of_events(self.data, "simulated", block, removed, named, None, None)
        unlearner = UNLEARNERS[method](params.method_settings(method))
        scorer = unlearner.unlearn(self.original, request, Context.quiet(self.device, self._seed)).scorer
        return self.rank(scorer, "forgotten", ask(self.data, removed))


def qualify(chain: Chain, method: str, kind: Kind) -> New:
    """Carry out simulated requests one by one, each from the anchor, and judge all together; the entry says how.

    Of so few that the anchor itself passes nothing could be told: then there are twice as many, and so on; where that
    does not help either, the method is not tried.
    """
    trial, number = Trial.of(chain, kind), chain.project.params.service.gate.simulated
    for doubling in range(DOUBLINGS + 1):
        removed = simulated(trial.data, kind, number * 2**doubling, chain.project.params.unlearn.seed)
        if not removed:
            return _entry(chain, method, kind, 0, Gate("cannot tell", "no user has enough events for a request"))
        anchor = trial.original.scorer
        gate = trial.judge([trial.rank(anchor, "forgotten", ask(trial.data, events)) for events in removed])
        if gate.word == "fails":
            break
    if gate.word != "fails":
        return _entry(chain, method, kind, len(removed), replace(gate, word="cannot tell"))
    log.info("qualify %s by %d simulated requests for %s", method, len(removed), kind)
    return _entry(chain, method, kind, len(removed), trial.judge([trial.carry_out(method, part) for part in removed]))


def simulated(data: Dataset, kind: Kind, number: int, seed: int) -> list[Mask]:
    """(E,) the events of each of ``number`` simulated requests, of as many users; fewer where there are not so many.

    With a larger number the first ones are the same.
    """
    rng = numpy_stream(seed, f"simulated-{kind}")
    train = data.has_role(Role.TRAIN)
    length = np.bincount(data.user[train], minlength=data.num_users)
    users = rng.permutation(np.flatnonzero(length >= MIN_EVENTS))[:number]
    if kind == "users":
        return [data.user == user for user in users]
    return [draw_events(data.user, train & (data.user == user), MAX_SHARE_SET_ASIDE, rng) for user in users]


def _entry(chain: Chain, method: str, kind: Kind, number: int, gate: Gate) -> New:
    log.info("%s for %s: %s (%s)", method, kind, gate.word, gate.reason)
    key = f"{chain.number}/{method}/{kind}"
    body = {
        "at": str(now()),
        "key": key,
        "word": gate.word,
        "reason": gate.reason,
        "number": str(number),
        "figures": {name: f"{value:.6g}" for name, value in gate.figures.items()},
    }
    return New(SERVICE, f"qualified-{key}", body)
