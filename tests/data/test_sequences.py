"""Windows, padding and queries against plain loops."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from srun.data.sequences import cut, make_queries, pad, ragged_rows

LENGTHS = st.lists(st.integers(0, 23), min_size=1, max_size=6)


def offsets_of(lengths):
    return np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)


def naive_cut(lengths, max_length, drop_short):
    windows, dropped, begin = [], 0, 0
    for length in lengths:
        own, stop = [], length
        while stop >= 2:
            start = max(0, stop - (max_length + 1))
            own.append((begin + start, begin + stop))
            stop = start + 1
        if drop_short and len(own) > 1 and own[-1][1] - own[-1][0] <= 2:
            own.pop()
            dropped += 1
        windows += reversed(own)
        begin += length
    return windows, dropped


@given(LENGTHS, st.integers(2, 7), st.booleans())
def test_windows_agree_with_a_plain_loop(lengths, max_length, drop_short):
    start, stop, dropped = cut(offsets_of(lengths), max_length, drop_short)
    assert (list(zip(start.tolist(), stop.tolist(), strict=True)), dropped) == naive_cut(
        lengths, max_length, drop_short
    )


@given(LENGTHS, st.integers(2, 7))
def test_every_transition_is_a_target_exactly_once(lengths, max_length):
    offsets = offsets_of(lengths)
    start, stop, dropped = cut(offsets, max_length, False)
    found = sorted(pair for a, b in zip(start, stop, strict=True) for pair in pairwise(range(a, b)))
    assert found == [pair for a, b in pairwise(offsets) for pair in pairwise(range(a, b))]
    assert dropped == 0


@given(LENGTHS, st.integers(2, 7))
def test_the_most_recent_window_is_full_and_neighbours_share_one_item(lengths, max_length):
    offsets = offsets_of(lengths)
    start, stop, _ = cut(offsets, max_length, False)
    for begin, end in pairwise(offsets):
        own = [(a, b) for a, b in zip(start, stop, strict=True) if begin <= a < end]
        if end - begin < 2:
            assert not own
            continue
        assert own[-1] == (max(begin, end - max_length - 1), end)
        assert own[0][0] == begin
        assert all(later[0] == earlier[1] - 1 for earlier, later in pairwise(own))
        assert all(b - a == max_length + 1 for a, b in own[1:])


@given(LENGTHS, st.integers(2, 7))
def test_drop_short_spares_whole_sequences_and_loses_only_left_overs_of_two(lengths, max_length):
    offsets = offsets_of(lengths)
    all_windows = set(zip(*(a.tolist() for a in cut(offsets, max_length, False)[:2]), strict=True))
    start, stop, dropped = cut(offsets, max_length, True)
    lost = all_windows - set(zip(start.tolist(), stop.tolist(), strict=True))
    assert len(lost) == dropped
    assert all(b - a == 2 and a in offsets and b not in offsets[1:] for a, b in lost)


@given(st.lists(st.integers(1, 99), max_size=12), st.integers(0, 12), st.integers(0, 12), st.integers(1, 8))
def test_pad_keeps_the_last_items_with_zeros_in_front(items, first, second, width):
    start, stop = sorted((min(first, len(items)), min(second, len(items))))
    padded = pad(np.array(items, dtype=np.int32), np.array([start]), np.array([stop]), width)
    expected = items[start:stop][-width:]
    assert padded.tolist() == [[0] * (width - len(expected)) + expected]


@given(st.data())
def test_queries_agree_with_a_plain_loop(data):
    lengths = data.draw(LENGTHS)
    size = sum(lengths)
    flags = st.lists(st.booleans(), min_size=size, max_size=size)
    context, targets = (np.array(data.draw(flags), dtype=bool) for _ in range(2))
    item = np.array(data.draw(st.lists(st.integers(1, 9), min_size=size, max_size=size)), dtype=np.int32)
    width = data.draw(st.integers(1, 6))
    offsets = offsets_of(lengths)
    user = np.repeat(np.arange(len(lengths)), lengths).astype(np.int32)
    queries = make_queries(item, user, offsets, context, targets)
    expected = []
    for u, (begin, end) in enumerate(pairwise(offsets.tolist())):
        for event in range(begin, end):
            history = [int(item[e]) for e in range(begin, event) if context[e]]
            if targets[event] and history:
                expected.append((u, event, int(item[event]), history))
    histories = [queries.items[a:b].tolist() for a, b in zip(queries.start, queries.stop, strict=True)]
    columns = (queries.user.tolist(), queries.event.tolist(), queries.target.tolist(), histories)
    assert list(zip(*columns, strict=True)) == expected
    short = [([0] * width + history)[-width:] for *_, history in expected]
    assert queries.histories(width).tolist() == short
    if len(queries):
        last = queries.select(np.array([len(queries) - 1]))
        assert (last.user.tolist(), last.histories(width).tolist()) == ([expected[-1][0]], [short[-1]])


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), max_size=8))
def test_ragged_rows_expand_slices_in_order(slices):
    start = np.array([a for a, _ in slices], dtype=np.int64)
    stop = start + np.array([n for _, n in slices], dtype=np.int64)
    row, position = ragged_rows(start, stop)
    expected = [(r, p) for r, (a, n) in enumerate(slices) for p in range(a, a + n)]
    assert list(zip(row.tolist(), position.tolist(), strict=True)) == expected
