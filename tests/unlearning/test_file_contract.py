"""What is in the file of every method: attacks on it, beside attacks on Retrains' files, as its class expects.

The log is small and mostly chance, and the Original is trained until it knows it by heart: what it was never trained on
nobody can rank, so that what a file still holds is seen.
"""

from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from srun.config import read_yaml
from srun.data.dataset import PrepareConfig, Role, prepare
from srun.data.raw import canonical, read_raw
from srun.evaluation.probe import Probe
from srun.evaluation.recovery import recover
from srun.metrics.recovered import FileQuality, judge_file
from srun.models.scorer import Scorer, untied_copy
from srun.requests.partition import REPORT, partition
from srun.training.checkpoint import NoResume
from srun.training.fit import Watch, train_new
from srun.training.shards import Shards
from srun.unlearning import UNLEARNERS
from srun.unlearning.base import Context, FileHolds, Original, Unlearner

ROOT = Path(__file__).parents[2]
RETRAINS = (100, 101, 102, 103)
ALPHA = 0.05 / 7  # as of a verdict on hits, ranks and the attacks on a tied file
OUTPUT_LAYER = read_yaml(ROOT / "presets/sruga-output-layer.yaml")["unlearn"]["sruga"]
LONGER = {"finetune_only": {"learning_rate": 0.003, "max_epochs": 15}}
"""On a log so small that all of it is known by heart, own settings leave some of it."""
MADE_UP: dict[str, FileHolds] = {"sruga": "states"}
"""Where the made-up log says otherwise than the class: of events known by heart softmax from zero has as many back as
of Original."""
MOVIELENS: dict[str, FileHolds] = {"closed_form": "nothing"}
"""Where MovieLens does: what rows leave in the states is less than Retrains differ by."""
CASES = [
    *(pytest.param(name, LONGER.get(name, {}), id=name) for name in UNLEARNERS if name != "sisa"),
    pytest.param("sruga", OUTPUT_LAYER, id="sruga, output layer"),
    pytest.param("attribution_plus", {"items": "keep"}, id="attribution_plus, items kept"),
]
MOST_RATINGS = 60
ON_MOVIELENS = [
    *(pytest.param(name, {}, id=name) for name in ("original", "retrain", "sruga", "closed_form", "output_mask")),
    pytest.param("sruga", OUTPUT_LAYER, id="sruga, output layer"),
]


class RisingProbe(Probe):
    """One for which validation rises with every look, so that a training goes on to its last epoch."""

    def __call__(self, scorer, split, users=None):
        self.looks = getattr(self, "looks", count())
        return {"validation/ndcg_10": float(next(self.looks))} if split == "validation" else {}


class Attacked:
    """An Original that knows its log by heart, requests to it, and what attacks have of Retrains of each."""

    def __init__(self, small, data, requests, **recipe) -> None:
        self.small, self.data, self.requests = small, data, requests
        self.recipe = small.recipe(patience=1000, **recipe)
        self.model = small.describe_model(self.data, hidden=32, dropout=0.1)
        self.original = self.trained(1)
        self.made: dict[str, list] = {}
        self.of_original: dict[str, float] = {}
        self.of_retrains: dict[str, list[dict[str, float]]] = {}

    def trained(self, num_shards: int) -> Original:
        shards = Shards.draw(self.data.num_users, num_shards, 0)

        def fit(shard: int):
            rising = count()
            watch = Watch(
                lambda m: {"validation/ndcg_10": float(next(rising))}, lambda m: {}, self.small.no_telling, NoResume()
            )
            windows = shards.data(self.data, self.data.role == Role.TRAIN, shard, None, self.small.CPU)
            return train_new(self.model, windows, self.recipe, shards.training_seed(shard, 0), watch)[0]

        info = {"train": vars(self.recipe), "seed": 0, "shards": num_shards}
        return Original(Scorer([fit(shard) for shard in range(num_shards)]), info)

    def settings(self, name: str, changes):
        """A method's own settings with changes; without cross-fitted models, which are not here."""
        own = self.small.PARAMS["unlearn"][name]
        changes = {"max_epochs": own["max_epochs"], **changes} if "max_epochs" in own else dict(changes)
        method = UNLEARNERS[name](self.small.method_settings(name, **changes))
        retained = {**changes, "level_from": "retained"} if method.needs_crossfit else changes
        return self.small.method_settings(name, **retained)

    def unlearned(self, name: str, kind: str, seed: int = 0, original: Original | None = None, **changes) -> Scorer:
        request = self.requests[kind]
        probe = RisingProbe(request.splits, self.data.max_length, self.small.CPU, 256)
        method = UNLEARNERS[name](self.settings(name, changes))
        context = Context.quiet(self.small.CPU, seed, probe)
        return method.unlearn(original or self.original, request, context).scorer

    def attack(self, model, request) -> dict[str, float]:
        return {one.attack: one.hit_10 for one in recover(model, request, 256, 0, self.small.CPU)}

    def retrains(self, kind: str) -> list:
        if kind not in self.made:
            self.made[kind] = [self.unlearned("retrain", kind, seed).model for seed in RETRAINS]
        return self.made[kind]

    def judged(self, model, kind: str) -> FileQuality:
        request = self.requests[kind]
        if kind not in self.of_retrains:
            self.of_original[kind] = self.attack(self.original.model, request)["own"]
            self.of_retrains[kind] = [self.attack(retrain, request) for retrain in self.retrains(kind)]
        hits = self.attack(model, request)
        file = judge_file(hits, self.of_retrains[kind], self.of_original[kind], ALPHA)
        assert file is not None
        return file


@pytest.fixture(scope="module")
def attacked(small) -> Attacked:
    data = small.chained_data()
    drawn = {"interactions": small.interactions_request(share_of_users=0.5), "category": small.category_request()}
    requests = {kind: small.carry_out(data, request) for kind, request in drawn.items()}
    return Attacked(small, data, requests, max_epochs=30, learning_rate=0.005)


@pytest.fixture(scope="module")
def movielens(small) -> Attacked:
    """Users of MovieLens 100K with few ratings, whom a model comes to know by heart in seconds."""
    folder = small.ROOT / "data/raw/ml-100k"
    if not (folder / "dataset.json").is_file():
        pytest.skip(f"{folder} is not there: run `srun data fetch ml-100k`")
    log = read_raw(folder).interactions.astype({"user_id": str, "item_id": str})
    few = log.groupby("user_id")["item_id"].transform("size") <= MOST_RATINGS
    settings = PrepareConfig(**{**small.PREPARE, "calibration_events": 0.3, "max_length": 10})
    data = prepare(canonical(log[few], None, name="ml-100k"), settings)
    request = partition(data, "r", small.interactions_request(share_of_users=0.5))
    return Attacked(small, data, {"interactions": request}, max_epochs=20, learning_rate=0.003, batch_size=128)


def check(file: FileQuality, holds: FileHolds) -> None:
    said = ", ".join(f"{name} {file.hits[name]:.3f} (limit {file.limits[name]:.3f})" for name in file.hits)
    if holds == "nothing":
        assert not file.beyond, f"the file gives back more than a Retrain's by {', '.join(file.beyond)}: {said}"
        return
    assert file.beyond, f"nothing of Original is seen in the file: {said}"
    assert file.holds_original == (holds == "original"), f"whether a table of the file gives Original's ranks: {said}"


def check_method(attacked: Attacked, name: str, changes, otherwise: dict[str, FileHolds]) -> None:
    method: Unlearner = UNLEARNERS[name](attacked.settings(name, changes))
    kind = "interactions" if "interactions" in method.kinds else "category"
    file = attacked.judged(attacked.unlearned(name, kind, **changes).model, kind)
    check(file, otherwise.get(name, method.file_holds) if method.file_holds != "original" else "original")


@pytest.mark.parametrize(("name", "changes"), CASES)
def test_a_file_holds_what_its_class_says(attacked, name, changes):
    check_method(attacked, name, changes, MADE_UP)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "changes"), ON_MOVIELENS)
def test_a_file_holds_what_its_class_says_on_movielens(movielens, name, changes):
    check_method(movielens, name, changes, MOVIELENS)


def test_every_class_says_what_its_file_holds(attacked):
    for name in UNLEARNERS:
        method = UNLEARNERS[name]
        assert "file_holds" in vars(method), f"{name}: file_holds does not stand beside its class"
        assert method(attacked.settings(name, {})).file_holds in get_args(FileHolds)


def test_the_settings_of_sruga_decide_what_its_file_holds(attacked):
    changes = ({}, {"update": "embeddings"}, {"update": "blocks"}, {"level": "pooled", "rows": None}, OUTPUT_LAYER)
    held = [UNLEARNERS["sruga"](attacked.settings("sruga", one)).file_holds for one in changes]
    assert held == ["nothing", "states", "states", "states", "original"]


def test_a_table_of_the_original_published_beside_is_seen(attacked):
    """The closed form writes its rows into the one table of a tied model; Original's, kept as the input, gives all."""
    solved = attacked.unlearned("closed_form", "interactions").model
    beside = untied_copy(attacked.original.model)
    beside.output.weight.data.copy_(solved.output_weight.data)
    file = attacked.judged(beside.eval(), "interactions")
    assert "own" not in file.beyond
    assert file.hits["scored_by_input"] == file.original
    check(file, "original")


def test_shards_that_are_retrained_hold_nothing_of_their_users(attacked):
    """A shard is attacked for its own users' events, beside Retrains: of others it never knew anything."""
    request, original = attacked.requests["interactions"], attacked.trained(2)
    retrains = attacked.retrains("interactions")
    scorer = attacked.unlearned("sisa", "interactions", original=original)
    shards = original.shards(attacked.data)
    for shard, model in enumerate(scorer.models):
        own = replace(request, group=np.where(shards.users(shard), request.group, 0).astype(np.uint8))
        assert (own.group == REPORT).any()
        limits = [attacked.attack(retrain, own) for retrain in retrains]
        before = attacked.attack(original.scorer.models[shard], own)
        for scored, holds in ((before, "original"), (attacked.attack(model, own), UNLEARNERS["sisa"].file_holds)):
            file = judge_file(scored, limits, before["own"], ALPHA)
            assert file is not None
            check(file, holds)
