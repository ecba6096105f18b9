"""The gate: whether a model may be served, by what it is worth and by what it still knows.

Utility is held against the anchor's, on the same targets: never against the last version's, or errors would multiply.
Forgetting is judged over all events that were forgotten since the anchor, against never-seen events drawn again and
again in the same number. Shapes: F forgotten events, P never-seen events, T test targets.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from srun.data.dataset import Dataset, Mask, Role
from srun.data.sequences import Queries, make_queries
from srun.evaluation.ranking import RankingTask
from srun.metrics.bootstrap import NUM_RESAMPLES
from srun.metrics.forgetting import ks_distance
from srun.metrics.matching import match
from srun.metrics.ranking import gains, hits
from srun.models.scorer import Scorer
from srun.requests.partition import set_aside_queries
from srun.requests.policy import GateConfig
from srun.rng import numpy_stream

Word = Literal["passes", "fails", "cannot tell", "not judged singly"]
PARTNERS = 25
"""Never-seen events that each forgotten one is matched with."""
NUM_TESTS = 3
"""Hits above, hits below, ranks: each has an equal share of the error rate."""
MAX_JUDGED = 4000
"""Forgotten events that are looked at, drawn where there are more."""
MIN_PLAIN = 20
"""With fewer forgotten or never-seen events than this nothing can be told."""


@dataclass(frozen=True)
class Gate:
    """What the gate says of a model."""

    word: Word
    reason: str
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def opens(self) -> bool:
        """Whether the model may be served."""
        return self.word in ("passes", "not judged singly")


@dataclass(frozen=True)
class Asked:
    """The queries of a gate; all contexts are what is retained."""

    test: Queries
    forgotten: Queries
    never_seen: Queries
    popularity: NDArray[np.int64]
    """(V+1,) retained training events of each item."""


def ask(data: Dataset, gone: Mask) -> Asked:
    """The questions about data of a chain where the events ``gone`` (E,) were named by requests.

    A forgotten event follows what its user retains, or, where a user went as a whole, his own earlier events. Never
    seen are events set aside that no method learns from, and of calibration users where whole users went.
    """
    train = data.has_role(Role.TRAIN)
    forgotten, retain = train & gone, train & ~gone
    left = np.zeros(data.num_users, dtype=bool)
    left[data.user[retain]] = True
    whole = forgotten & ~left[data.user]
    known = np.isin(data.role, (Role.TRAIN, Role.VALIDATION, Role.CONTEXT)) & ~gone

    def queries(context: Mask, targets: Mask) -> Queries:
        return make_queries(data.item, data.user, data.offsets, context, targets)

    aside = set_aside_queries(data, retain, data.has_role(Role.SET_ASIDE) & ~gone, audit=True)
    calibration = data.has_role(Role.CALIBRATION) & ~gone
    apart = queries(retain | calibration, calibration) if whole.any() else None
    never_seen = aside if apart is None else _joined(data, retain | calibration, aside, apart)
    return Asked(
        queries(known, data.has_role(Role.TEST) & ~gone),
        queries(retain | whole, forgotten),
        never_seen,
        np.bincount(data.item[retain], minlength=data.num_items + 1),
    )


def _joined(data: Dataset, context: Mask, aside: Queries, apart: Queries) -> Queries:
    """Both kinds of never-seen events as one set of questions."""
    targets = np.zeros(data.num_events, dtype=bool)
    targets[aside.event] = True
    targets[apart.event] = True
    return make_queries(data.item, data.user, data.offsets, context, targets)


@dataclass(frozen=True)
class Standing:
    """Where events stand under a model and under the anchor, and what they are matched by."""

    user: NDArray[np.int64]  # (Q,)
    described: NDArray[np.float64]  # (Q, 2) context length and popularity
    model: NDArray[np.float64]  # (Q,) ranks
    anchor: NDArray[np.float64]  # (Q,)

    def __len__(self) -> int:
        return len(self.user)

    @classmethod
    def of(
        cls,
        queries: Queries,
        popularity: NDArray[np.int64],
        model: NDArray[np.float64],
        anchor: NDArray[np.float64],
    ) -> "Standing":
        """Of queries (Q,), by the popularity (V+1,) of their targets and the ranks (Q,) that both models give."""
        described = np.stack([queries.stop - queries.start, popularity[queries.target]], axis=1)
        return cls(queries.user.astype(np.int64), described.astype(np.float64), model, anchor)

    @classmethod
    def join(cls, parts: "Sequence[Standing]") -> "Standing":
        """One after the other, at least one."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])))


def rank(scorer: Scorer, queries: Queries, max_length: int, device: torch.device, batch: int) -> NDArray[np.float64]:
    """(Q,) the rank of every target in the whole catalogue."""
    if not len(queries):
        return np.zeros(0)
    return RankingTask.make(queries, max_length, device, batch).ranks(scorer).rank


def judge_utility(
    model: NDArray[np.float64], anchor: NDArray[np.float64], users: NDArray[np.int32], settings: GateConfig
) -> Gate:
    """Hold the test ranks (T,) of a model against the anchor's, of the same targets."""
    own, reference = gains(model, 10), gains(anchor, 10)
    few = len(own) < settings.min_targets
    least = settings.weak_utility if few else settings.utility
    ratio = _ratio(own.sum(), reference.sum())
    low, high = _ratio_interval(own, reference, users)
    figures = {"utility": ratio, "utility_low": low, "utility_high": high, "num_targets": float(len(own))}
    figures |= {"ndcg_10": float(own.mean()) if len(own) else math.nan}
    weak = f" (weak: {len(own)} test targets)" if few else ""
    said = f"utility {100 * ratio:.1f} % of the anchor's [{100 * low:.1f}, {100 * high:.1f}]{weak}"
    if not len(own):
        return Gate("cannot tell", "no test target is left, so nobody knows what the model is worth", figures)
    return Gate("passes" if ratio >= least else "fails", said, figures)


def judge_forgetting(forgotten: Standing, never_seen: Standing, settings: GateConfig, seed: int) -> Gate:
    """Hold the ranks of forgotten events against those of never-seen ones, in as many draws as settings say.

    ``cannot tell``: too few events, or the anchor passes by the same test, so that a pass says nothing.
    """
    if min(len(forgotten), len(never_seen)) < MIN_PLAIN:
        few = f"{len(forgotten)} forgotten and {len(never_seen)} never-seen events are too few to tell"
        return Gate("cannot tell", few)
    rng = numpy_stream(seed, "gate")
    kept, partners = match(forgotten.described, never_seen.described, PARTNERS, rng)
    if len(kept) > MAX_JUDGED:
        some = np.sort(rng.permutation(len(kept))[:MAX_JUDGED])
        kept, partners = kept[some], partners[some]
    if len(kept) < MIN_PLAIN:
        return Gate("cannot tell", f"{len(kept)} forgotten events have never-seen ones beside them; too few to tell")
    drawing = _Drawing.of(forgotten.user[kept], never_seen.user, partners, settings)
    test = drawing.test(forgotten.model[kept], never_seen.model, rng)
    reference = drawing.test(forgotten.anchor[kept], never_seen.anchor, rng)
    figures = {"forget_hit_10": test.hit, "forget_hit_10_low": test.low, "forget_hit_10_high": test.high}
    figures |= {"forget_ks_d": test.distance, "forget_ks_d_limit": test.limit, "num_forgotten": float(len(kept))}
    figures |= {"anchor_hit_10": reference.hit, "anchor_ks_d": reference.distance}
    hits_text = (
        f"Hit@10 of {len(kept)} forgotten events {test.hit:.3f}, of never-seen ones {test.low:.3f} to {test.high:.3f}"
    )
    if test.hit > test.high:
        return Gate("fails", f"under-unlearning: {hits_text}", figures)
    if test.hit < test.low:
        return Gate("fails", f"over-unlearning: {hits_text}", figures)
    if test.distance > test.limit:
        return Gate("fails", f"ranks distributed otherwise: KS D {test.distance:.3f}, limit {test.limit:.3f}", figures)
    if reference.hit <= reference.high and reference.distance <= reference.limit:
        return Gate(
            "cannot tell", f"the anchor passes by these {len(kept)} events too, so a pass says nothing", figures
        )
    return Gate("passes", hits_text, figures)


@dataclass(frozen=True)
class _Test:
    """Where forgotten events stand, and where never-seen ones would."""

    hit: float
    low: float
    high: float
    distance: float
    limit: float


@dataclass(frozen=True)
class _Drawing:
    """Draws a matched never-seen event for every forgotten one, again and again.

    Events of a user hang together, on both sides. So never-seen users have a weight in each draw, and a forgotten user
    takes his events from as few of them as match.
    """

    partners: NDArray[np.int64]  # (F, K) never-seen events of each
    owner: NDArray[np.int64]  # (F, K) whose they are, from 0 on
    pair: NDArray[np.int64]  # (F, K) forgotten user and owner, from 0 on
    settings: GateConfig

    @classmethod
    def of(
        cls, user: NDArray[np.int64], never_user: NDArray[np.int64], partners: NDArray[np.int64], settings: GateConfig
    ) -> "_Drawing":
        """For forgotten events of users (F,) with ``partners`` (F, K) among events of never-seen users (P,)."""
        _, place = np.unique(never_user, return_inverse=True)
        owner = place[partners]
        _, pair = np.unique(user[:, None] * len(never_user) + owner, return_inverse=True)
        return cls(partners, owner, pair.reshape(partners.shape), settings)

    def test(self, forgotten: NDArray[np.float64], never: NDArray[np.float64], rng: np.random.Generator) -> _Test:
        """Where the forgotten events' ranks (F,) lie to those of the draws from the never-seen ones' (P,)."""
        pool, rows = never[self.partners].ravel(), np.arange(len(self.partners))
        num_draws, alpha = self.settings.draws, self.settings.error_rate / NUM_TESTS
        drawn_hits, distances = np.empty(num_draws), np.empty(num_draws)
        for draw in range(num_draws):
            weight = rng.exponential(size=int(self.owner.max()) + 1)[self.owner]
            liking = rng.random(int(self.pair.max()) + 1)[self.pair]
            sample = never[self.partners[rows, (np.log(liking) / weight).argmax(1)]]
            drawn_hits[draw], distances[draw] = hits(sample, 10).mean(), ks_distance(sample, pool)
        low, high = np.quantile(drawn_hits, [alpha, 1 - alpha])
        limit = float(np.quantile(distances, 1 - alpha))
        return _Test(float(hits(forgotten, 10).mean()), float(low), float(high), ks_distance(forgotten, pool), limit)


def _ratio(own: float, reference: float) -> float:
    return float(own / reference) if reference > 0 else (1.0 if own == reference else math.inf)


def _ratio_interval(
    own: NDArray[np.float64], reference: NDArray[np.float64], users: NDArray[np.int32]
) -> tuple[float, float]:
    """95 % interval of the ratio of two means when users are drawn again; NaN for fewer than two users."""
    known, owner = np.unique(users, return_inverse=True)
    if len(known) < 2:
        return math.nan, math.nan
    totals = np.stack([np.bincount(owner, own), np.bincount(owner, reference)], axis=1)
    kinds, size = np.unique(totals, axis=0, return_counts=True)
    drawn = numpy_stream(0, "utility").multinomial(len(known), size / size.sum(), NUM_RESAMPLES) @ kinds
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = np.nanquantile(drawn[:, 0] / drawn[:, 1], [0.025, 0.975])
    return float(low), float(high)
