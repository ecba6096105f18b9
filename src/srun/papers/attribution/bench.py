"""What a change to one Original does to one category request: controls, the front by dose, and variants of our method.

Everything is measured on report users' test targets; doses are chosen on validation targets of find users.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from srun.data.sequences import Queries
from srun.evaluation.dose import dose_response
from srun.evaluation.evaluate import EvaluateConfig
from srun.evaluation.linear_probe import auc, last_states, linear_probe_scores
from srun.evaluation.probe import Probe
from srun.evaluation.ranking import RankingTask
from srun.evaluation.relearning import RelearningConfig, relearn
from srun.metrics.ranking import Ranks, hit, hits, ndcg
from srun.models.scorer import Scorer
from srun.papers.attribution.controls import Draw, Tasks, compare, dose_at_loss, measure
from srun.papers.attribution.orders import random_order
from srun.requests.partition import REPORT, Partition, category_items
from srun.rng import numpy_stream
from srun.system.meter import Meter
from srun.training.checkpoint import ResumeFolder
from srun.unlearning import UNLEARNERS
from srun.unlearning.attribution.neurons import Edit, Neuron, as_edits, edited
from srun.unlearning.attribution.plus import AttributionPlusConfig
from srun.unlearning.base import Context, Original
from srun.unlearning.controls.largest_neurons import most_active


class Bench:
    """One Original, one request, and Original's own figures, which every change is measured against."""

    def __init__(
        self,
        split: Partition,
        original: Original,
        seed: int,
        evaluation: EvaluateConfig,
        relearning: RelearningConfig,
        device: torch.device,
        max_choose: int,
    ) -> None:
        """``max_choose``: of how many validation targets a dose is chosen by."""
        self.split, self.original, self.seed, self.device = split, original, seed, device
        self.evaluation, self.relearning = evaluation, relearning
        inside, outside = split.queries("in_category"), split.queries("out_of_category")
        choose = split.queries("out_of_category_tune")
        # the stream's name is part of the draw: another one would change the figures
        drawn = numpy_stream(seed, "study-choose").permutation(len(choose))[:max_choose]
        self.tasks = Tasks(self._task(inside), self._task(outside), self._task(choose.select(np.sort(drawn))))
        self.users = inside.user.astype(np.int64)
        inside_ranks, outside_ranks = self._ranks(original.scorer)
        self.inside, self.hit, self.ndcg = hits(inside_ranks, 10), hit(outside_ranks, 10), ndcg(outside_ranks, 10)
        self.items = category_items(split.data, split.info["request"]["categories"])

    def controls(self, edits: Sequence[Edit], scale: float, num_draws: int) -> dict[str, dict[str, float]]:
        """The paper's neurons beside random and most active ones, at equal number and at equal loss elsewhere.

        Where the paper's lose nothing of find users' validation, controls may lose nothing either; they need not gain.
        """
        model, number = self.original.model, len(edits)
        chosen = measure(model, edits, self.tasks, self.hit)
        figures = {"attribution": self._row(chosen)}
        lowest = min(hit(self._validation_ranks(()), 10), hit(self._validation_ranks(edits), 10))
        for name in ("random", "largest"):
            at_number, at_loss = [], []
            for draw in range(num_draws):
                order = self._order(name, draw)
                at_number.append(self._draw(order[:number], scale))
                dose = dose_at_loss(model, order, scale, lowest, self.tasks.choose)
                at_loss.append(self._draw(order[:dose], scale))
            figures[f"{name}, equal number"] = compare(chosen, at_number, self.inside, self.users, self.seed)
            figures[f"{name}, equal loss"] = compare(chosen, at_loss, self.inside, self.users, self.seed)
        return figures

    def front(self, ordered: Sequence[Neuron], scale: float, doses: Sequence[int]) -> list[dict[str, float]]:
        """Removal and what is kept, a row a dose."""
        tasks = self.tasks
        return dose_response(self.original.model, ordered, scale, doses, tasks.inside, tasks.outside, self.items)

    def variant(self, settings: AttributionPlusConfig, resume: ResumeFolder) -> dict[str, Any]:
        """The figures of ``attribution_plus`` with these settings; ``relearning`` has its curves."""
        probe = Probe(self.split.splits, self.split.data.max_length, self.device, self.evaluation.batch_size)
        context = Context.quiet(self.device, self.seed, probe, resume)
        result = UNLEARNERS["attribution_plus"](settings).unlearn(self.original, self.split, context)
        inside, outside = self._ranks(result.scorer)
        return {
            "num_neurons": float(len(result.info["edits"])),
            "removal_rate_10": float(1 - hit(inside, 10) / self.inside.mean()),
            "hit_10_kept": hit(outside, 10) / self.hit,
            "ndcg_10_kept": ndcg(outside, 10) / self.ndcg,
            "linear_probe_auc": self._linear_probe_auc(result.scorer),
            "relearning": self._relearned(result.scorer),
            "seconds": result.cost.seconds,
        }

    def _task(self, queries: Queries) -> RankingTask:
        return RankingTask.make(queries, self.original.scorer.max_length, self.device, self.evaluation.batch_size)

    def _ranks(self, scorer: Scorer) -> tuple[Ranks, Ranks]:
        """Of targets in the category, and out of it."""
        return self.tasks.inside.ranks(scorer).rank, self.tasks.outside.ranks(scorer).rank

    def _validation_ranks(self, edits: Sequence[Edit]) -> Ranks:
        with edited(self.original.model, edits):
            return self.tasks.choose.ranks(Scorer([self.original.model])).rank

    def _order(self, name: str, draw: int) -> list[Neuron]:
        if name == "random":
            return random_order(self.original.model, draw)
        return most_active(self.original.model, self.split, draw, Meter())

    def _draw(self, neurons: Sequence[Neuron], scale: float) -> Draw:
        return measure(self.original.model, as_edits(neurons, scale), self.tasks, self.hit)

    def _row(self, draw: Draw) -> dict[str, float]:
        rate = float(1 - draw.inside.mean() / self.inside.mean())
        return {"num_neurons": float(draw.num_neurons), "removal_rate_10": rate, "hit_10_kept": draw.kept}

    def _linear_probe_auc(self, scorer: Scorer) -> float:
        queries = self.split.test_targets
        states = last_states(scorer, queries, self.device, self.evaluation.batch_size)
        inside, report = self.split.removed[queries.event], self.split.group[queries.user] == REPORT
        scores = linear_probe_scores(states, inside, queries.user, numpy_stream(self.evaluation.seed, "probe"))
        return auc(scores[report], inside[report])

    def _relearned(self, scorer: Scorer) -> dict[str, Any]:
        """The curve on returned events; that on retained ones takes as long and is for the methods."""
        curves = relearn(
            scorer,
            self.split,
            self.original.recipe,
            replace(self.relearning, ways=("returned",)),
            self.evaluation.seed,
            self.device,
            self.evaluation.batch_size,
        )
        return {way: vars(curve) for way, curve in curves.items()}
