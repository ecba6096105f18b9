"""Events that were never trained on beside forgotten ones of their kind: how these would stand, had they not been.

Shapes: Q queries, F forgotten events, M matched ones, K partners of each, U users, V items.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from srun.data.sequences import Queries
from srun.metrics.matching import match
from srun.requests.partition import Partition

GROUPS = (2, 4, 8)
"""Of context lengths, popularities and affinities; an event whose group has none set aside has no partner."""
NEAR = 3  # last items of a context that affinity looks at
MAX_USERS = 20_000  # on whom affinity is measured: time and memory end with it
SET_ASIDE, NEVER_SEEN, VALIDATION = "set_aside", "never_seen_tune", "validation"


def comparable(
    request: Partition, forgotten: Queries, number: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], list[Queries]]:
    """Draw K = ``number`` comparable events for each of ``forgotten`` (F,): rows that have any (M,), and M * K queries.

    Comparable: with the same context length (as much of it as a model sees) and popularity of the item in the retain
    set, in groups (see ``metrics.matching``). Of ``set_aside`` where there are any: drawn as forgotten events are, of
    users who train, with what followed them trained on, and matched by affinity too. Else of ``never_seen_tune`` or
    validation, which Retrain ranks a little lower than forgotten events, for nothing trained follows them. Before a
    forgotten event others may be gone too; a validation event is asked with as many of its last context items left
    out, since what is asked across a gap ranks lower (on ML-100K this halves the distance of Retrain's forgotten events
    from theirs).
    """
    if request.kind == "interactions" and len(aside := request.queries(SET_ASIDE)):
        affinity = _Affinity(request)
        wanted, pool = (np.column_stack([_features(request, q), affinity(q)]) for q in (forgotten, aside))
        rows, partners = match(wanted, pool, number, rng, GROUPS)
        return rows, [aside.select(partners.ravel())]
    never, validation = (request.queries(split) for split in (NEVER_SEEN, VALIDATION))
    pool = np.concatenate([_features(request, queries) for queries in (never, validation)])
    rows, partners = match(_features(request, forgotten), pool, number, rng)  # (M,), (M, K)
    chosen, gap = partners.ravel(), np.repeat(_gaps(request, forgotten)[rows], number)
    held_out = chosen >= len(never)
    matched = validation.select(chosen[held_out] - len(never))
    matched = replace(matched, stop=np.maximum(matched.stop - gap[held_out], matched.start + 1))
    return rows, [never.select(chosen[~held_out]), matched]  # some events more than once


def _features(request: Partition, queries: Queries) -> NDArray[np.int64]:
    """(Q, 2) context length as far as a model sees it, and popularity of the target in the retain set."""
    data = request.data
    popularity = np.bincount(data.item[request.retain], minlength=data.num_items + 1)
    length = np.minimum(queries.stop - queries.start, data.max_length)
    return np.stack([length, popularity[queries.target]], axis=1).astype(np.int64)


class _Affinity:
    """How near an item is to a context by what users retained: known without a model, and much of how well it ranks.

    (On Beauty, of the variance of log((V - rank) / rank) of events set aside, length and popularity explain 27 %, with
    affinity 54 %.) A sum of cosines over the last items of the context, between the sets of users who have the items.
    """

    def __init__(self, request: Partition) -> None:
        data, retained = request.data, request.retain
        every = -(-data.num_users // MAX_USERS)  # a sample: by the id, not by what users did
        kept = retained & (data.user % every == 0)
        ones = np.ones(int(kept.sum()), dtype=np.float32)
        shape = (data.num_items + 1, data.num_users)
        table = sparse.csr_matrix((ones, (data.item[kept], data.user[kept])), shape=shape)  # items x users
        table.data[:] = 1  # repeats
        length = np.sqrt(np.asarray(table.sum(1)).ravel())
        self._table = sparse.diags(1 / np.maximum(length, 1)) @ table  # rows of length 1

    def __call__(self, queries: Queries) -> NDArray[np.float64]:
        """(Q,) at least 0."""
        near = queries.histories(NEAR)
        affinity = np.zeros(len(queries))
        for part in np.array_split(np.arange(len(queries)), len(queries) // 1024 + 1):
            targets = self._table[queries.target[part]]
            for place in range(NEAR):  # padding has no user, so its cosine is 0
                affinity[part] += np.asarray(self._table[near[part, place]].multiply(targets).sum(1)).ravel()
        return affinity


def _gaps(request: Partition, queries: Queries) -> NDArray[np.int64]:
    """(Q,) how many forgotten events lie between each forgotten event and the last one of its context."""
    if request.kind != "interactions":
        return np.zeros(len(queries), dtype=np.int64)  # the context of a user's event is all that was before it
    retained = np.flatnonzero(request.retain)
    return queries.event - retained[np.searchsorted(retained, queries.event) - 1] - 1
