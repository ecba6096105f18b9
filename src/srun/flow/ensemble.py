"""`srun oracle`: makes the members of an oracle, each trained as any Original or Retrain, then evaluated and scored.

Several processes share the work: each claims the next member that nobody makes and nobody has made.
"""

import json
import logging
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from srun.data.sequences import Queries
from srun.errors import ConfigError, DataError, RunError
from srun.files import claimed, read_json, write_bytes, write_folder, write_text
from srun.flow import evaluate, train, unlearn
from srun.flow.audit import contexts_of, side_effects_of, signals_of
from srun.flow.cells import Cell, OriginalCell
from srun.flow.layout import CellPaths, OracleLayout
from srun.flow.loading import load_dataset
from srun.flow.oracle import (
    FIGURES,
    FIRST,
    FIRST_SEED,
    INFO,
    SCORES,
    SIGNALS,
    Member,
    Oracle,
    described,
    is_done,
    load_oracle,
    locate,
    scored_events,
    write_ranks,
)
from srun.flow.params import Params
from srun.flow.project import Project
from srun.flow.stages import partition_where_missing
from srun.judging.records import KINDS, SPLIT
from srun.metrics.membership import auc, lira
from srun.models.published import INFO_FILE, load_published
from srun.models.scorer import Scorer
from srun.progress import Budget
from srun.requests.partition import Partition
from srun.system.devices import machine, start
from srun.tracking import NullTracker
from srun.training.shards import Shards
from srun.unlearning.closed_form.features import RetainedFeatures

log = logging.getLogger("srun")

POLL_SECONDS = 1.0
"""Between two looks at whether the first Original is there, which another process trains."""


def make(
    project: Project,
    original: str,
    request: str,
    wanted: Sequence[Member],
    budget: Budget | None = None,
    work: Callable[[Path], list[str]] | None = None,
) -> dict[str, Any]:
    """Make the members of an oracle that are not there, until the budget is spent; returns what there is then.

    ``original``: the entry of ``originals`` whose recipe it is of. ``work`` has other processes work in its place: it
    is given the name of their logs and returns a text for each that died. Raises ConfigError for an Original of several
    shards, DataError for a request of a category, RunError where workers died and members are missing.
    """
    partition_where_missing(project, request)
    maker = _maker(project, original, request)
    layout = maker.layout
    log.info("oracle of %s after %s: %s", maker.model, request, layout.root)
    died = [] if work is None else work(layout.root / "log")
    if work is None:
        maker.make(wanted, budget)
    left = [member.name for member in wanted if not maker.is_done(member)]
    if died and left:
        raise RunError(f"{'; '.join(died)}; {len(left)} members are left, go on with the same command")
    return summary(maker) | {"folder": str(layout.root), "left": left}


def export(project: Project, original: str, request: str, file: Path) -> int:
    """Write the ranks of an oracle alone (see ``oracle.write_ranks``); DataError where it has no member."""
    maker = _maker(project, original, request)
    oracle = maker.oracle
    if oracle is None:
        raise DataError(f"{maker.layout.root}: no member is there yet, so there are no ranks to write to {file}")
    return write_ranks(oracle, file)


def _maker(project: Project, original: str, request: str) -> "Maker":
    params = project.params
    if params.original(original).shards != 1:
        raise ConfigError(
            f'original "{original}": has shards, and an oracle is of single models; name one with shards 1'
        )
    model = params.original(original).model
    layout = locate(project.layout, model, params.model_settings(model), params.train, request)
    one_thread = replace(params, runtime=replace(params.runtime, threads=1))
    maker = Maker(layout, one_thread, model, request)
    if maker.partition.kind not in KINDS:
        raise DataError(f'request "{request}": an oracle is for requests of interactions or users')
    return maker


@dataclass(frozen=True)
class Maker:
    """Makes members of one oracle, one at a time."""

    layout: OracleLayout
    params: Params
    """With one thread, so that a member's bits do not depend on how many processes work at the oracle."""
    model: str
    request: str

    @property
    def key(self) -> str:
        """The name of the oracle, which is made of all that its members are made of."""
        return self.layout.root.name

    @cached_property
    def partition(self) -> Partition:
        return Partition.load(self.layout.partition(self.request), load_dataset(self.layout))

    @cached_property
    def features(self) -> RetainedFeatures:
        return RetainedFeatures(self.partition, self.params.evaluate.seed)

    @cached_property
    def device(self) -> torch.device:
        return start(self.params.runtime)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What members are evaluated by."""
        return described(self.params.evaluate, self.params.relearning, self.partition.kind)

    @property
    def oracle(self) -> Oracle | None:
        """What is there so far."""
        return load_oracle(self.layout, self.request, self.settings)

    def is_done(self, member: Member) -> bool:
        return is_done(self.layout, member, self.settings)

    def make(self, wanted: Sequence[Member], budget: Budget | None) -> None:
        """Make what nobody makes and nobody has made, the first first, until the budget is spent.

        Returns when others make what is left; before that it waits for the first Original, which Retrains need.
        """
        while left := [member for member in wanted if not self.is_done(member)]:
            if budget is not None and budget.spent:
                log.warning("the budget of %g minutes is spent; the same command goes on", budget.minutes)
                return
            ready = [
                member
                for member in left
                if member.role != "retrain" or self._is_trained(self.layout.original(FIRST.name))
            ]
            if any(map(self._make_unless_claimed, ready)):
                continue  # from the start: what a killed process left comes first
            if len(ready) == len(left):
                return
            time.sleep(POLL_SECONDS)

    def _make_unless_claimed(self, member: Member) -> bool:
        """Make a member unless another process makes it or has just made it; whether it did."""
        claim = self.layout.claim(member.name)
        claim.parent.mkdir(parents=True, exist_ok=True)
        claim.touch()  # opened or made, never replaced: a lock is on the file that everybody opens
        with claimed(claim) as handle:
            if handle is None or self.is_done(member):
                return False
            self._make(member)
            return True

    def _make(self, member: Member) -> None:
        with self._counted(member):
            self._train(member)
            self._evaluate(member)
            self._score(member)
        log.info("oracle: %s is there", member.name)

    @contextmanager
    def _counted(self, member: Member) -> Iterator[None]:
        """Add what is done inside to the cost of a member, finished or stopped; what a kill by force ends is lost."""
        file = self.layout.seconds(member.name)
        before = read_json(file, DataError, "remove it") if file.is_file() else {}
        clock, processor = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            spent = {"seconds": time.perf_counter() - clock, "processor_seconds": time.process_time() - processor}
            cost = {name: before.get(name, 0.0) + value for name, value in spent.items()}
            write_text(file, json.dumps({**cost, "machine": machine()}, indent=1) + "\n")

    def _is_trained(self, paths: CellPaths) -> bool:
        return (paths.model / INFO_FILE).is_file()

    def _train(self, member: Member) -> None:
        """Train what is not there: an Original or halves, and the row of an Original or a Retrain."""
        trained, cell = member.trained(self.model), member.cell(self.request)
        if trained is not None and not self._is_trained(paths := self.layout.original(member.name)):
            self._train_original(member.name, trained)
            shutil.rmtree(paths.resume, ignore_errors=True)
        if cell is not None and not self._is_trained(paths := self.layout.cell(cell)):
            self._carry_out(cell)
            shutil.rmtree(paths.resume, ignore_errors=True)

    def _train_original(self, name: str, trained: OriginalCell) -> None:
        params = self.params
        train.run(
            self.layout,
            name,
            trained,
            params.model_settings(self.model),
            params.train,
            params.evaluate.batch_size,
            params.runtime,
            NullTracker(),
            self.key,
        )

    def _carry_out(self, cell: Cell) -> None:
        params = self.params
        unlearn.run(
            self.layout,
            cell,
            None,
            params.method_settings(cell.method),
            params.unlearn.seed,
            params.evaluate.batch_size,
            params.runtime,
            NullTracker(),
            self.key,
        )

    def _evaluate(self, member: Member) -> None:
        """As `srun evaluate` does; of half-models nothing but scores is asked."""
        cell, params = member.cell(self.request), self.params
        if cell is not None:
            evaluate.run(self.layout, cell, params.evaluate, params.relearning, params.runtime, NullTracker())

    def _score(self, member: Member) -> None:
        """Write how a member's models score single events, and what else an audit measures of a model."""
        cell = member.cell(self.request)
        if cell is None:
            models = load_published(self.layout.original(member.name).model, self.device, "train")[0].models
            scorers = [Scorer([model]) for model in models]
        else:
            scorers = [load_published(self.layout.cell(cell).model, self.device)[0]]
        events = scored_events(self.partition) | {"test": self.partition.queries("test")}
        table = pd.concat(
            [self._table(number, scorer, events) for number, scorer in enumerate(scorers)], ignore_index=True
        )
        figures = {} if cell is None else self._figures(member.name, scorers[0])
        info = {"member": asdict(member), "settings": self.settings}
        with write_folder(self.layout.scores / member.name, sealed=True) as new:
            table.to_parquet(new / SCORES, index=False, compression="zstd")
            (new / FIGURES).write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n")
            (new / INFO).write_text(json.dumps(info, indent=1, sort_keys=True) + "\n")

    def _figures(self, name: str, scorer: Scorer) -> Mapping[str, Mapping[str, float]]:
        scorers, settings = {name: scorer}, self.params.evaluate
        contexts = contexts_of(scorers, self.partition, self.features, settings, self.device)
        side_effects = side_effects_of(scorers, self.partition, self.features, settings, self.device)
        measured = {"contexts": contexts[name], "side_effects": side_effects[name]}
        return {split: {key: figure.value for key, figure in row.items()} for split, row in measured.items()}

    def _table(self, number: int, scorer: Scorer, events: Mapping[str, Queries]) -> pd.DataFrame:
        """One row for each event of every split; ``number``: which model of a member it is."""
        parts = []
        for split, queries in events.items():
            if not len(queries):
                continue
            told = signals_of(scorer, [queries], self.params.evaluate, self.device)
            columns = {"model": np.int8(number), "split": split, "event": queries.event}
            parts.append(pd.DataFrame({**columns, **{name: getattr(told, name) for name in SIGNALS}}))
        return pd.concat(parts, ignore_index=True)


def summary(maker: Maker) -> dict[str, Any]:
    """What an oracle is made of, what it cost and what its half-models say; written with the joined scores."""
    oracle, layout = maker.oracle, maker.layout
    data = maker.partition.data
    seeds = {role: [] if oracle is None else [one.seed for one in oracle.of(role)] for role in FIRST_SEED}
    record: dict[str, Any] = {
        "key": maker.key,
        "data": {"name": data.info["name"], "fingerprint": data.fingerprint, "prepare": data.info["config"]},
        "model": {maker.model: dict(vars(maker.params.model_settings(maker.model)))},
        "train": vars(maker.params.train),
        "request": maker.partition.info,
        "seeds": seeds,
    }
    if oracle is None:
        return record
    record |= {"cost": _cost(oracle), "halves_lira_auc": halves_told(oracle, maker.partition)}
    write_text(layout.summary, json.dumps(record, indent=1, sort_keys=True) + "\n")
    buffer = oracle.joined().to_parquet(None, index=False, compression="zstd")
    write_bytes(layout.joined, buffer)
    return record


def _cost(oracle: Oracle) -> dict[str, Any]:
    """Of all members together: seconds by the clock and of the processor, and the machines they were made on."""
    files = [oracle.layout.seconds(member.name) for member in oracle.members]
    costs = [read_json(file, DataError, "remove it") for file in files if file.is_file()]
    totals = {name: round(sum(cost[name] for cost in costs), 1) for name in ("seconds", "processor_seconds")}
    machines = [dict(pairs) for pairs in dict.fromkeys(tuple(sorted(cost["machine"].items())) for cost in costs)]
    return {"members": len(costs), **totals, "machines": machines}


def halves_told(oracle: Oracle, request: Partition) -> list[float]:
    """A check of the attack where the truth is known: how well it tells which half of the users a model trained on.

    For each half-model the AUC of LiRA, by the Retrains, on forgotten events of its own users against those of the
    others. Neither sort is special: users were drawn at random. Empty with fewer than 3 Retrains.
    """
    retrains, queries = oracle.of("retrain"), request.queries(SPLIT)
    if len(retrains) < 3:
        return []
    events = {SPLIT: queries}
    out = np.stack([oracle.signals(member, events).z_logit for member in retrains])
    aucs = []
    for member in oracle.of("halves"):
        half_of_user = Shards.draw(request.data.num_users, 2, member.seed).of_user
        for model in range(2):
            scores = lira(oracle.signals(member, events, model).z_logit, out)
            inside = half_of_user[queries.user] == model
            value = auc(scores[inside], scores[~inside])
            aucs += [] if math.isnan(value) else [round(value, 4)]
    return aucs
