"""Ranks of events: parts of them, and several parts as one."""

import numpy as np

from srun.metrics.ranking import EventRanks

FULL = EventRanks(np.array([7, 8, 9]), np.array([1, 1, 2]), np.array([3.0, 1.5, 10.0]), np.array([1.0, 1.0, 2.0]))


def columns(ranks: EventRanks) -> list:
    sampled = None if ranks.rank_sampled is None else ranks.rank_sampled.tolist()
    return [ranks.event.tolist(), ranks.user.tolist(), ranks.rank.tolist(), sampled]


def test_rows_are_selected_by_number_or_mask() -> None:
    expected = [[7, 9], [1, 2], [3.0, 10.0], [1.0, 2.0]]
    assert columns(FULL.select(np.array([0, 2]))) == expected
    assert columns(FULL.select(np.array([True, False, True]))) == expected
    assert len(FULL.select(np.array([], dtype=np.int64))) == 0


def test_parts_joined_are_the_whole() -> None:
    assert columns(EventRanks.join([FULL.select(np.array([0])), FULL.select(np.array([1, 2]))])) == columns(FULL)


def test_sampled_ranks_are_there_only_where_all_parts_have_them() -> None:
    plain = EventRanks(FULL.event, FULL.user, FULL.rank)
    assert plain.select(np.array([1])).rank_sampled is None
    assert EventRanks.join([FULL, plain]).rank_sampled is None
    assert EventRanks.join([FULL, plain]).rank.tolist() == [*FULL.rank, *FULL.rank]
