"""Every split of a request, per event and as means; the probe that methods look through."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from srun.data.dataset import Role
from srun.evaluation.evaluate import WHOLE, EvaluateConfig, evaluate
from srun.evaluation.probe import Probe
from srun.evaluation.ranking import RankingTask, sample_candidates
from srun.metrics.ranking import hit, ndcg
from srun.models.scorer import Scorer
from srun.requests.partition import partition

CPU = torch.device("cpu")
SETTINGS = EvaluateConfig(seed=3, sampled=True, batch_size=7, recovery=False)


@pytest.fixture(scope="module")
def scorer(small, coloured):
    return Scorer([small.random_model(coloured)])


@pytest.mark.parametrize("kind", ["interactions", "category", "users"])
def test_every_split_has_its_events_and_figures(small, coloured, worlds, scorer, kind):
    request = worlds[kind, False].request
    result = evaluate(scorer, request, SETTINGS, CPU)
    assert set(result.metrics) == set(request.splits)
    for split, queries in request.splits.items():
        part, rows = result.metrics[split], result.events[result.events["split"] == split]
        assert part["num_events"] == len(queries) == len(rows)
        assert part["num_users"] == len(set(queries.user))
        if not len(queries):
            assert set(part) == {"num_events", "num_users"}
            continue
        assert rows["event"].tolist() == queries.event.tolist()
        assert rows["user"].tolist() == queries.user.tolist()
        name = "recall" if split.startswith(("validation", "test")) else "hit"
        for column, suffix in (("rank", ""), ("rank_sampled", "_sampled")):
            ranks = rows[column].to_numpy()
            for k in (1, 5, 10, 20):
                assert part[f"{name}_{k}{suffix}"] == hit(ranks, k)
                assert part[f"ndcg_{k}{suffix}"] == ndcg(ranks, k)
        assert f"{'hit' if name == 'recall' else 'recall'}_10" not in part


@pytest.mark.parametrize("kind", ["interactions", "category"])
def test_blocks_and_parts_change_nothing(worlds, scorer, monkeypatch, kind):
    """Ranks in blocks, and those of a split that is a part of another, are those of its own queries at once."""
    request = worlds[kind, False].request
    monkeypatch.setattr("srun.evaluation.evaluate.BLOCK", 11)
    events = evaluate(scorer, request, SETTINGS, CPU).events
    compared = 0
    for split, queries in request.splits.items():
        rows = events[events["split"] == split]
        candidates = sample_candidates(request.data, queries, SETTINGS.seed)
        ranks = RankingTask.make(queries, scorer.max_length, CPU, 512, candidates).ranks(scorer)
        assert rows["rank"].tolist() == ranks.rank.tolist()
        assert rows["rank_sampled"].tolist() == ranks.rank_sampled.tolist()
        compared += len(queries) * (split in WHOLE)
    assert compared > 20


def test_ranks_are_those_of_the_scores(coloured, world, scorer):
    result = evaluate(scorer, world.request, SETTINGS, CPU)
    queries = world.request.queries("test")
    rows = result.events[result.events["split"] == "test"]
    histories = torch.from_numpy(queries.histories(coloured.max_length).astype(np.int64))
    scores = scorer.scores(histories, torch.from_numpy(queries.user.astype(np.int64))).numpy()
    sampled = sample_candidates(coloured, queries, 3)
    for row in range(len(queries)):
        target = queries.target[row]
        known = queries.items[queries.start[row] : queries.stop[row]]
        others = [c for c in range(1, coloured.num_items + 1) if c not in known and c != target]
        assert rows["rank"].iloc[row] == 1 + sum(scores[row, c] > scores[row, target] for c in others)
        few = [c for c in sampled[row] if c]
        assert rows["rank_sampled"].iloc[row] == 1 + sum(scores[row, c] > scores[row, target] for c in few)


def test_the_batch_size_changes_nothing(world, scorer):
    one, other = (evaluate(scorer, world.request, replace(SETTINGS, batch_size=size), CPU) for size in (1, 500))
    assert one.metrics == other.metrics


def test_sampled_ranking_can_be_left_out_and_has_its_seed(world, scorer):
    plain = evaluate(scorer, world.request, replace(SETTINGS, sampled=False), CPU)
    assert "rank_sampled" not in plain.events
    assert not any(name.endswith("_sampled") for part in plain.metrics.values() for name in part)


def test_sampled_ranking_has_a_seed_of_its_own(small):
    data = small.make_data(small.random_events(30, 400, low=8))
    scorer, request = Scorer([small.random_model(data)]), partition(data, "r", small.interactions_request())
    one, two = (evaluate(scorer, request, replace(SETTINGS, seed=seed), CPU).events for seed in (1, 2))
    assert (one["rank"] == two["rank"]).all()
    assert (one["rank_sampled"] != two["rank_sampled"]).any()


def test_per_event_values_hold_no_raw_ids(world, scorer):
    events = evaluate(scorer, world.request, SETTINGS, CPU).events
    assert all(np.issubdtype(events[column].dtype, np.number) for column in events if column != "split")


def test_a_request_that_leaves_nothing_to_rank_is_no_crash(small, tmp_path):
    data = small.make_data(small.log_of([[0, 1], [1, 0], [0, 1]]))
    file = small.write_request(tmp_path / "r.csv", [("u0", "i0")], "user_id,item_id")
    request = small.carry_out(data, small.interactions_request(file=file))
    assert all(len(queries) == 0 for queries in request.splits.values())
    result = evaluate(Scorer([small.random_model(data)]), request, SETTINGS, CPU)
    assert len(result.events) == 0
    assert all(part["num_events"] == 0 for part in result.metrics.values())


def test_the_probe_says_what_evaluation_says(coloured, world, scorer):
    probe = Probe(world.request.splits, coloured.max_length, CPU, 64)
    whole = evaluate(scorer, world.request, SETTINGS, CPU).metrics
    for split, name in (("validation", "recall_10"), ("forget_tune", "hit_10")):
        for _ in range(2):
            found = probe(scorer, split)
            assert found == {f"{split}/{key}": whole[split][key] for key in (name, "ndcg_10")}


def test_the_probe_looks_at_some_users_only(coloured, world, scorer):
    probe = Probe(world.request.splits, coloured.max_length, CPU, 64)
    events = evaluate(scorer, world.request, SETTINGS, CPU).events
    rows = events[events["split"] == "validation"]
    users = np.arange(coloured.num_users) % 3 == 0
    found = probe(scorer, "validation", users)
    assert found["validation/ndcg_10"] == ndcg(rows["rank"][users[rows["user"]]].to_numpy(), 10)
    assert probe(scorer, "validation", np.zeros(coloured.num_users, dtype=bool)) == {}


def test_calibration_users_are_in_no_utility_split(coloured, worlds):
    apart = set(coloured.user[coloured.role == Role.CALIBRATION])
    for (_, sharded), world in worlds.items():
        for split, queries in world.request.splits.items():
            inside = apart & set(queries.user)
            assert not inside or split.startswith("never_seen") or sharded, split


def test_a_probe_ranks_splits_and_other_questions_alike(small, coloured, world):
    probe, queries = Probe(world.request.splits, coloured.max_length, CPU, 64), world.request.queries("test")
    whole = probe.ranks(world.original.scorer, "test").rank
    part = queries.select(np.arange(len(queries))[::-2])
    assert probe.ranks(world.original.scorer, part).rank.tolist() == whole[::-2].tolist()
    assert probe.positions(part) == int((part.histories(coloured.max_length) != 0).sum())
    assert probe.queries(part) == len(part)
    assert len(probe.ranks(world.original.scorer, queries.select(np.zeros(len(queries), dtype=bool)))) == 0
