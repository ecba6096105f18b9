"""SISA's options: each changes the result, the plain ones are what they were, and what need not is not retrained."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from srun.config import build
from srun.data.dataset import Role
from srun.flow.cells import OriginalCell
from srun.models.published import load_parts, load_published, publish
from srun.models.scorer import Aggregation, Scorer
from srun.training.checkpoint import ResumeFolder
from srun.training.fit import Watch
from srun.training.shards import Sharding, Shards, ShardTraining, similar_users, train_shards
from srun.unlearning.base import Original

CPU = torch.device("cpu")
HISTORIES, USERS = torch.tensor([[0, 0, 1, 2, 3], [0, 4, 5, 6, 7]]), torch.tensor([0, 1])


@pytest.fixture
def users(small):
    """60 users of two tastes: even ones choose among items 0..9, odd ones among items 10..19."""
    rng = np.random.default_rng(0)
    log = [[int(rng.integers(10)) + 10 * (user % 2) for _ in range(8)] for user in range(60)]
    return small.make_data(small.log_of(log))


def original_of(small, data, sharding, folder, **train):
    """An Original trained in shards, and its parts, as the train stage makes them."""
    recipe, shards = small.recipe(**train), Shards.make(data, sharding, 0)

    def training(shard):
        def watch(last):
            resume = ResumeFolder(folder / f"{shard}-{last}", "original")
            rising = iter(range(1000))
            return Watch(lambda m: {"validation/ndcg_10": float(next(rising))}, lambda m: {}, small.no_telling, resume)

        def windows(last):
            return shards.data(data, data.role == Role.TRAIN, shard, None, CPU, last)

        return ShardTraining(shard, small.describe_model(data), shards.training_seed(shard, 0), windows, watch)

    trained = train_shards(shards, [training(shard) for shard in range(shards.number)], recipe, {}, False)
    parts = {} if isinstance(sharding, int) else shards.tensors()
    for _, _, states in trained:
        parts |= states
    info = {"train": vars(recipe), "seed": 0, "shards": shards.number}
    return Original(Scorer([model for model, _, _ in trained]), info, parts)


@pytest.fixture
def worlds_of(small, coloured, tmp_path):
    """A world whose request touches the given users only, on an Original of a sharding."""

    def make(sharding, touched=None, **train):
        world = small.make_world(coloured, small.interactions_request(), tmp_path / "plain", num_shards=2)
        if touched is not None:
            keep = np.isin(coloured.user, np.flatnonzero(touched))
            removed = world.request.removed & keep
            world = replace(world, request=replace(world.request, removed=removed))
        return replace(world, original=original_of(small, coloured, sharding, tmp_path / "sliced", **train))

    return make


def sharding(number=2, by="random", slices=1):
    return Sharding(number=number, by=by, slices=slices)


def test_a_number_and_its_mapping_are_the_same_shards(small, coloured, tmp_path):
    plain, spelt = (original_of(small, coloured, what, tmp_path / str(i)) for i, what in enumerate((3, sharding(3))))
    assert small.weight_bytes(plain.scorer) == small.weight_bytes(spelt.scorer)
    assert (plain.shards(coloured).of_user == spelt.shards(coloured).of_user).all()
    assert not [name for name in spelt.parts if name.startswith("state/")], "one slice has no state before another"


def test_the_cell_reads_both_forms():
    for shards in (1, 5, {"number": 5, "by": "similarity", "slices": 3}):
        cell = build(OriginalCell, json.loads(json.dumps({"model": "sasrec", "seed": 0, "shards": shards})))
        assert cell.shards == (shards if isinstance(shards, int) else Sharding(**shards))


def test_similar_users_share_shards_of_equal_size(users):
    of_user = similar_users(users, 2, seed=0)
    assert np.bincount(of_user).tolist() == [30, 30]
    odd = users.users["user_id"].str[1:].astype(int).to_numpy() % 2 == 1
    assert len(set(of_user[odd])) == len(set(of_user[~odd])) == 1, "the two tastes are told apart"
    assert (similar_users(users, 2, seed=0) == of_user).all()
    assert np.bincount(similar_users(users, 7, seed=1)).tolist() in ([9] * 4 + [8] * 3,)
    drawn = Shards.make(users, sharding(2, "random"), 0).of_user
    assert len(set(drawn[odd])) == 2


def test_shards_by_similarity_know_no_held_out_item(small, users):
    item = users.item.copy()
    held = users.role != Role.TRAIN
    item[held] = item[held] % users.num_items + 1
    other = replace(users, item=item)
    assert (similar_users(users, 3, 0) == similar_users(other, 3, 0)).all()


def test_slices_split_a_shard_evenly_and_nest(coloured):
    shards = Shards.make(coloured, sharding(2, slices=3), 0)
    for shard in range(2):
        sizes = [shards.users(shard, last).sum() for last in range(3)]
        assert sizes == [10, 20, 30]
        assert not (shards.users(shard, 0) & ~shards.users(shard, 1)).any()


@pytest.mark.parametrize("first_touched", [0, 1, 2])
def test_a_request_goes_on_from_the_state_before_its_first_slice(small, coloured, worlds_of, tmp_path, first_touched):
    shards = Shards.make(coloured, sharding(2, slices=3), 0)
    world = worlds_of(sharding(2, slices=3), shards.slice_of_user >= first_touched)
    result = world.run("sisa", tmp_path / "run")
    assert result.info == {
        "shards": 2,
        "shards_retrained": 2,
        "slices": 6,
        "slices_retrained": 2 * (3 - first_touched),
    }
    whole = world.run("sisa", tmp_path / "all", retrain="all")
    assert whole.info["slices_retrained"] == 6
    same = small.weight_bytes(whole.scorer) == small.weight_bytes(result.scorer)
    assert same, "the state before was trained on nothing that is forgotten, so training it all again comes to it"


def test_states_of_slices_are_those_of_training_on_the_users_before(small, coloured, tmp_path):
    original = original_of(small, coloured, sharding(2, slices=3), tmp_path)
    shards = original.shards(coloured)
    changed = replace(coloured, item=np.where(shards.slice_of_user[coloured.user] == 2, 1, coloured.item))
    again = original_of(small, changed, sharding(2, slices=3), tmp_path / "again")
    states = [name for name in original.parts if name.startswith("state/")]
    assert {name.split("/")[2] for name in states} == {"1", "2"}
    assert all(torch.equal(original.parts[name], again.parts[name]) for name in states)
    assert small.weight_bytes(original.scorer) != small.weight_bytes(again.scorer)


def test_shards_with_nothing_to_forget_stay_as_they_are(small, coloured, worlds_of, tmp_path):
    of_user = Shards.draw(coloured.num_users, 2, 0).of_user
    world = worlds_of(2, of_user == 1)
    before = small.weight_bytes(world.original.scorer)
    result = world.run("sisa", tmp_path / "run")
    assert result.info == {"shards": 2, "shards_retrained": 1}
    assert result.scorer.models[0] is world.original.scorer.models[0]
    assert result.scorer.models[1] is not world.original.scorer.models[1]
    assert small.weight_bytes(world.original.scorer) == before
    nothing = worlds_of(2, np.zeros(coloured.num_users, dtype=bool))
    done = nothing.run("sisa", tmp_path / "nothing")
    assert done.info["shards_retrained"] == done.cost.steps == 0


def test_one_shard_of_one_slice_is_retrain(small, coloured, tmp_path, world):
    shards = Shards.draw(coloured.num_users, 1, 0)
    retrained = world.run("retrain", tmp_path / "r")

    def watch(last):
        context = world.context(tmp_path / "s")
        return Watch(lambda m: context.probe(Scorer([m]), "validation"), lambda m: {}, small.no_telling, context.resume)

    training = ShardTraining(
        0,
        world.original.description,
        shards.training_seed(0, 0),
        lambda last: shards.data(coloured, world.request.retain, 0, None, CPU, last),
        watch,
    )
    [(model, fits, states)] = train_shards(shards, [training], world.original.recipe, {}, False)
    assert (len(fits), states) == (1, {})
    assert small.weight_bytes(Scorer([model])) == small.weight_bytes(retrained.scorer)


def test_slices_share_the_cap_on_epochs(small, coloured, tmp_path):
    one = original_of(small, coloured, sharding(2, slices=1), tmp_path / "1", max_epochs=6)
    three = original_of(small, coloured, sharding(2, slices=3), tmp_path / "3", max_epochs=6)
    assert small.weight_bytes(one.scorer) != small.weight_bytes(three.scorer)
    epochs = {path.name for path in (tmp_path / "3").rglob("0" * 7 + "?")}
    assert epochs == {"00000003"}, "2 / (R + 1) of six epochs"


@pytest.mark.parametrize("aggregate", ["probabilities", "similarity"])
def test_each_aggregation_changes_the_scores_and_survives_publishing(small, tmp_path, world_for, aggregate):
    world = world_for("sisa")
    plain = world.run("sisa", tmp_path / "plain").scorer
    scorer = world.run("sisa", tmp_path / "other", aggregate=aggregate).scorer
    assert small.weight_bytes(plain) == small.weight_bytes(scorer)
    scores = scorer.scores(HISTORIES, USERS)
    assert not torch.allclose(plain.scores(HISTORIES, USERS)[:, 1:], scores[:, 1:], atol=1e-3)
    publish(tmp_path / "m", scorer, {"seed": 0}, [])
    assert torch.equal(load_published(tmp_path / "m")[0].scores(HISTORIES, USERS), scores)
    assert "aggregation" not in load_published(publish_plain(tmp_path, plain))[1]


def publish_plain(folder, scorer):
    publish(folder / "plain-m", scorer, {"seed": 0}, [])
    return folder / "plain-m"


def test_probabilities_are_the_mean_softmax_over_the_catalogue(small, coloured):
    models = [small.random_model(coloured, seed=seed) for seed in (1, 2, 3)]
    catalogue = torch.ones(coloured.num_items + 1, dtype=torch.bool)
    catalogue[5] = False
    scores = Scorer(models, catalogue, None, Aggregation("probabilities", 1.0)).scores(HISTORIES, USERS)
    kept = [item for item in range(1, coloured.num_items + 1) if item != 5]
    each = [torch.softmax(Scorer([model]).scores(HISTORIES, USERS)[:, kept], 1) for model in models]
    torch.testing.assert_close(scores[:, kept].exp(), sum(each) / 3)
    assert torch.isneginf(scores[:, 5]).all()


def test_similarity_gives_the_nearest_shard_the_larger_share(small, coloured):
    models = [small.random_model(coloured, seed=1) for _ in range(2)]
    near = models[0].embedding.weight.detach()[HISTORIES[0, 2:]].mean(0)
    weights = Aggregation("similarity", 0.5, torch.stack([near, -near])).weights(models, HISTORIES)
    assert weights[0, 0].item() == pytest.approx(1 / (1 + np.exp(-2 / 0.5)))
    torch.testing.assert_close(weights.sum(1), torch.ones(2))
    sharp = Aggregation("similarity", 0.1, torch.stack([near, -near])).weights(models, HISTORIES)
    assert sharp[0, 0] > weights[0, 0]
    empty = Aggregation("similarity", 0.1, torch.stack([near, -near])).weights(models, torch.zeros(1, 5, dtype=int))
    assert empty.tolist() == [[0.5, 0.5]]


def test_centroids_are_of_retained_items_only(small, tmp_path, world_for):
    from srun.unlearning.references.sisa import shard_centroids

    world = world_for("sisa")
    shards, models = world.original.shards(world.data), world.original.scorer.models
    item = np.where(world.request.retain, world.data.item, 1)
    other = replace(world.request, data=replace(world.data, item=item))
    centroids = shard_centroids(models, shards, world.request)
    torch.testing.assert_close(shard_centroids(models, shards, other), centroids)
    means = []
    for user in np.flatnonzero(shards.users(1)):
        events = world.request.retain & (world.data.user == user)
        if events.any():
            means.append(models[1].embedding.weight.detach()[torch.from_numpy(world.data.item[events]).long()].mean(0))
    torch.testing.assert_close(centroids[1], torch.stack(means).mean(0), atol=1e-5, rtol=1e-4)


def test_parts_are_kept_with_the_model(small, coloured, tmp_path):
    original = original_of(small, coloured, sharding(2, "similarity", 2), tmp_path / "o")
    publish(tmp_path / "m", original.scorer, {"seed": 0}, [], None, original.parts)
    parts = load_parts(tmp_path / "m")
    assert parts.keys() == original.parts.keys()
    assert (Shards.load(parts).of_user == original.shards(coloured).of_user).all()
    publish(tmp_path / "m", original.scorer, {"seed": 0}, [])
    assert load_parts(tmp_path / "m") == {}
