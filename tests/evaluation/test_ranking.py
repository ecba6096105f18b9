"""Ranks, sampled candidates and metrics against plain loops and scikit-learn."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import label_ranking_average_precision_score, ndcg_score

from srun.data.dataset import Role
from srun.data.sequences import Queries, make_queries
from srun.evaluation.ranking import RankingTask, sample_candidates
from srun.metrics.ranking import CUT_OFFS, hit, mean_and_spread, mrr, ndcg, ranking_metrics
from srun.requests.partition import partition

CPU = torch.device("cpu")


class Table:
    """A scorer with fixed scores for every user; remembers the histories it was shown."""

    def __init__(self, scores, max_length=3):
        self.table, self.max_length, self.shown = torch.as_tensor(scores), max_length, []
        self.num_items = self.table.shape[1] - 1

    def scores(self, histories, users):
        self.shown += histories.tolist()
        return self.table[users].clone()


def all_queries(data):
    """A query for every event with something before it."""
    everything = np.ones(data.num_events, dtype=bool)
    return make_queries(data.item, data.user, data.offsets, everything, everything)


def context_of(queries, row):
    return queries.items[queries.start[row] : queries.stop[row]].tolist()


def without_padding(history):
    return history[next(place for place, item in enumerate(history) if item) :]


def naive_rank(scores, target, candidates):
    above = sum(scores[c] > scores[target] for c in candidates if c != target)
    ties = sum(scores[c] == scores[target] for c in candidates if c != target)
    return 1 + above + ties / 2


LOGS = st.lists(st.lists(st.integers(0, 8), min_size=1, max_size=9), min_size=1, max_size=5)


@given(LOGS, st.integers(0, 99), st.integers(1, 7), st.sampled_from([2, 5, 1000]))
def test_ranks_agree_with_a_plain_loop(small, sequences, seed, batch_size, levels):
    data = small.make_data(small.log_of(sequences))
    queries = all_queries(data)
    rng = np.random.default_rng(seed)
    table = rng.integers(0, levels, (data.num_users, data.num_items + 1)).astype(np.float32)
    table[rng.random(table.shape) < 0.2] = -np.inf
    scorer = Table(table)
    found = RankingTask.make(queries, 3, CPU, batch_size).ranks(scorer)
    ranks, sampled = found.rank, found.rank_sampled
    expected = [
        naive_rank(
            table[queries.user[q]], queries.target[q], set(range(1, data.num_items + 1)) - set(context_of(queries, q))
        )
        for q in range(len(queries))
    ]
    assert ranks.tolist() == expected
    assert sampled is None
    assert sorted(map(without_padding, scorer.shown)) == sorted(map(without_padding, queries.histories(3).tolist()))


def one_query(context, target, num_items):
    items = np.array(context, dtype=np.int32)
    return Queries(
        items,
        np.array([0]),
        np.array([len(items)]),
        np.array([target], dtype=np.int32),
        np.array([0], dtype=np.int32),
        np.array([0]),
    )


def test_the_whole_context_is_excluded_not_only_the_window():
    scores = [[99.0, 5, 4, 3, 2, 1, 0]]  # column 0 is padding and never a candidate
    task = RankingTask.make(one_query([1, 2, 3, 4, 5], 6, 6), 2, CPU, 4)
    assert task.ranks(Table(scores)).rank.tolist() == [1.0]
    assert RankingTask.make(one_query([5], 6, 6), 2, CPU, 4).ranks(Table(scores)).rank.tolist() == [5.0]


def test_a_target_in_its_own_context_stays_a_candidate():
    scores = [[0.0, 1, 2, 3]]
    assert RankingTask.make(one_query([1, 3], 1, 3), 2, CPU, 4).ranks(Table(scores)).rank.tolist() == [2.0]


def test_ties_count_half_and_a_masked_target_ranks_last():
    inf = -math.inf
    task = RankingTask.make(one_query([4], 1, 4), 2, CPU, 4)
    assert task.ranks(Table([[0.0, 7, 7, 7, 0]])).rank.tolist() == [2.0]
    assert task.ranks(Table([[0.0, inf, 1, 2, 0]])).rank.tolist() == [3.0]
    assert task.ranks(Table([[0.0, inf, inf, 2, 0]])).rank.tolist() == [2.5]


def test_histories_come_by_length_without_common_padding_and_ranks_in_the_order_asked(small):
    data = small.make_data(small.log_of([[0, 1, 2, 3, 4], [5, 6], [7, 8, 9], [1, 9]]))
    table = np.random.default_rng(0).random((data.num_users, data.num_items + 1), dtype=np.float32)
    queries, scorer = all_queries(data), Table(table)
    ranks = RankingTask.make(queries, 3, CPU, 4).ranks(scorer).rank
    assert [len(history) for history in scorer.shown] == [1, 1, 1, 1, 3, 3, 3, 3]
    order = np.random.default_rng(1).permutation(len(queries))
    again = RankingTask.make(queries.select(order), 3, CPU, 4).ranks(Table(table)).rank
    assert again.tolist() == ranks[order].tolist()


def test_no_queries_give_no_ranks(small):
    data = small.make_data(small.log_of([[0, 1, 2]]))
    none = all_queries(data).select(np.zeros(2, dtype=bool))
    empty = np.zeros((0, 100), dtype=np.int64)
    found = RankingTask.make(none, 3, CPU, 4, empty).ranks(Table([[0.0] * 4]))
    ranks, sampled = found.rank, found.rank_sampled
    assert len(ranks) == 0
    assert len(sampled) == 0


@given(LOGS, st.integers(0, 9), st.integers(1, 7))
def test_sampled_ranks_agree_with_a_plain_loop(small, sequences, seed, batch_size):
    data = small.make_data(small.log_of([*sequences, list(range(30))]))
    queries = all_queries(data)
    table = np.random.default_rng(seed).integers(0, 5, (data.num_users, data.num_items + 1)).astype(np.float32)
    candidates = sample_candidates(data, queries, seed, 6)
    task = RankingTask.make(queries, 3, CPU, batch_size, candidates)
    expected = [
        naive_rank(table[queries.user[q]], queries.target[q], [c for c in candidates[q] if c])
        for q in range(len(queries))
    ]
    assert task.ranks(Table(table)).rank_sampled.tolist() == expected


@given(LOGS, st.integers(0, 9))
def test_sampled_candidates(small, sequences, seed):
    data = small.make_data(small.log_of([*sequences, list(range(25))]), calibration_users=0.3)
    queries = all_queries(data)
    table = sample_candidates(data, queries, seed, 10)
    for query in range(len(queries)):
        known = set(data.item[data.user == queries.user[query]].tolist())
        drawn = [c for c in table[query].tolist() if c]
        assert len(drawn) == len(set(drawn)) == min(10, data.num_items - len(known))
        assert not set(drawn) & known
        assert all(1 <= c <= data.num_items for c in drawn)


def test_a_hundred_are_drawn_for_every_subset_alike(small):
    data = small.make_data(small.random_events(40, 400, low=20, high=40))
    queries = all_queries(data)
    table = sample_candidates(data, queries, 0)
    assert table.shape == (len(queries), 100)
    assert (table > 0).all()
    chosen = np.random.default_rng(0).permutation(len(queries))[:50]
    assert (sample_candidates(data, queries.select(chosen), 0) == table[chosen]).all()
    assert (sample_candidates(data, queries, 1) != table).mean() > 0.9
    assert len({tuple(row) for row in table}) == len(table)


def test_a_tiny_catalogue_gives_all_that_are_left(small):
    data = small.make_data(small.log_of([list(range(5)), list(range(60)), list(range(60))]))
    table = sample_candidates(data, all_queries(data), 0)
    first = table[0]
    assert sorted(first[first > 0].tolist()) == sorted(set(range(1, 61)) - set(data.item[data.user == 0].tolist()))
    assert (table[-1] == 0).all()


def test_candidates_are_uniform(small):
    data = small.make_data(small.log_of([[0, 1]] * 2000 + [list(range(22))]))
    queries = all_queries(data)
    table = sample_candidates(data, queries.select(queries.user < 2000), 3, 5)
    number = np.bincount(table.ravel(), minlength=23)
    known = data.item[data.user == 0]
    assert (number[known] == 0).all()
    rest = np.delete(number[1:], known - 1)
    expected = 2000 * 5 / 20
    assert len(rest) == 20
    assert ((rest - expected) ** 2 / expected).sum() < 43.8  # chi-square, 19 degrees of freedom, p = 0.001


def test_sampled_candidates_ignore_the_request(small):
    """The raw sequence counts: held-out and forgotten items are no candidates, whatever the split."""
    data = small.make_data(small.random_events(40, 60))
    request = partition(data, "r", small.interactions_request())
    for split, queries in request.splits.items():
        table = sample_candidates(data, queries, 0, 20)
        for query in range(len(queries)):
            assert not set(table[query]) & set(data.item[data.user == queries.user[query]]), split
    assert (data.role == Role.TEST).any()


@given(st.lists(st.integers(1, 200), min_size=1, max_size=30), st.sampled_from(CUT_OFFS))
def test_metrics_agree_with_their_formulas(ranks, k):
    array = np.array(ranks, dtype=np.float64)
    assert hit(array, k) == pytest.approx(sum(r <= k for r in ranks) / len(ranks))
    assert ndcg(array, k) == pytest.approx(sum(1 / math.log2(r + 1) for r in ranks if r <= k) / len(ranks))
    assert mrr(array) == pytest.approx(sum(1 / r for r in ranks) / len(ranks))


@given(st.integers(1, 20), st.integers(0, 99))
def test_metrics_agree_with_scikit_learn(num_queries, seed):
    rng = np.random.default_rng(seed)
    scores = rng.permuted(np.tile(np.arange(40.0), (num_queries, 1)), axis=1)
    target = rng.integers(0, 40, num_queries)
    truth = np.eye(40)[target]
    ranks = 1.0 + (scores > scores[np.arange(num_queries), target][:, None]).sum(1)
    assert mrr(ranks) == pytest.approx(label_ranking_average_precision_score(truth, scores))
    for k in CUT_OFFS:
        assert ndcg(ranks, k) == pytest.approx(ndcg_score(truth, scores, k=k, ignore_ties=True))


def test_half_a_rank_beyond_the_cut_off_does_not_count():
    ranks = np.array([10.0, 10.5, 1.0])
    assert hit(ranks, 10) == pytest.approx(2 / 3)
    assert ndcg(ranks, 10) == pytest.approx((1 / math.log2(11) + 1) / 3)


def test_no_queries_give_nan():
    assert all(math.isnan(value) for value in ranking_metrics(np.zeros(0)).values())


def test_names_of_metrics():
    names = set(ranking_metrics(np.array([1.0]), "hit", "_sampled"))
    expected = {f"{m}_{k}_sampled" for m in ("hit", "ndcg") for k in (1, 5, 10, 20)}
    assert names == expected | {"mrr_sampled"}
    assert "recall_10" in ranking_metrics(np.array([1.0]))


def test_mean_and_spread():
    assert mean_and_spread([1.0, 3.0]) == pytest.approx((2.0, math.sqrt(2)))
    mean, spread = mean_and_spread([4.0])
    assert mean == 4.0
    assert math.isnan(spread)
