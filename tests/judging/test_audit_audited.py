"""The audit audited: what is known to remember fails in the parts that can see it, and a further Retrain passes.

The log is made up: the next item follows from the last two times in five and else is chance, so that only a
model which saw an event can rank it, and Original knows its log by heart. CONTROLS says what each control fails in.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from srun.config import read_yaml
from srun.data.batches import TrainingData
from srun.data.dataset import Role
from srun.judging.verdict import IN_FILE, OVER, UNDER
from srun.metrics.forgetting import one_sided_limit
from srun.metrics.membership import membership
from srun.models.scorer import Scorer
from srun.requests.partition import REPORT
from srun.training.checkpoint import NoResume
from srun.training.fit import Watch, train_new
from srun.unlearning import UNLEARNERS
from srun.unlearning.base import Context, Original

ROOT = Path(__file__).parents[2]
NUM_RETRAINS, FURTHER = 8, 2
OUTPUT_LAYER = {**read_yaml(ROOT / "presets/sruga-output-layer.yaml")["unlearn"]["sruga"], "max_epochs": 1000}
ASCENT_ALONE = {"ascent": "ga", "kl_weight": 0.0, "finetune_weight": 0.0, "rows": None, "max_epochs": 1000}


@pytest.fixture(scope="module")
def subjects() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        return importlib.import_module("subjects")


class World:
    """Originals, Retrains and a request, and what subjects are measured by."""

    def __init__(self, small: SimpleNamespace, subjects: ModuleType) -> None:
        self.small, self.subjects = small, subjects
        self.data = small.chained_data()
        self.request = small.carry_out(self.data, small.interactions_request(share_of_users=0.5))
        self.recipe = small.recipe(max_epochs=30, learning_rate=0.005, patience=1000)
        self.model = small.describe_model(self.data, hidden=32, dropout=0.1)
        self.everything = self.data.has_role(Role.TRAIN)
        self.originals = [self.trained(self.everything, seed) for seed in (0, 1)]
        seeds = range(100, 100 + NUM_RETRAINS + FURTHER)
        self.retrains = [self.trained(self.request.retain, seed) for seed in seeds]
        self.bench = subjects.Bench(self.request, self.data.num_items, self.data.max_length)
        self.of_originals = [self.bench.measure(one) for one in self.originals]
        self.of_retrains = [self.bench.measure(one) for one in self.retrains]

    def trained(self, mask, seed: int) -> Scorer:
        rising = count()
        watch = Watch(
            lambda m: {"validation/ndcg_10": float(next(rising))}, lambda m: {}, self.small.no_telling, NoResume()
        )
        windows = TrainingData(self.data, mask, None, self.small.CPU)
        return Scorer([train_new(self.model, windows, self.recipe, seed, watch)[0]])

    def unlearned(self, name: str, **changes) -> Scorer:
        original = Original(self.originals[0], {"train": vars(self.recipe), "seed": 0, "shards": 1})
        method = UNLEARNERS[name](self.small.method_settings(name, **changes))
        return method.unlearn(original, self.request, Context.quiet(self.small.CPU, 0)).scorer

    def users_put_back(self, share: float) -> Any:
        retrain, rng = self.of_retrains[NUM_RETRAINS], np.random.default_rng(0)
        return self.subjects.users_put_back(retrain, self.of_originals[0], self.bench, share, rng)

    def z_mixed(self, share: float) -> Any:
        return self.subjects.z_mixed(self.of_retrains[NUM_RETRAINS], self.of_originals[0], self.bench, share)

    def with_one_user_left_in(self) -> Scorer:
        """A Retrain that still has the events of the report user with most of them."""
        report = self.request.forget & (self.request.group[self.data.user] == REPORT)
        user = np.bincount(self.data.user[report]).argmax()
        return self.trained(self.request.retain | (report & (self.data.user == user)), 100 + NUM_RETRAINS)


@dataclass(frozen=True)
class Control:
    """What is judged, and what must come of it."""

    make: Callable[[World], Any]
    """Measures, or a scorer to be measured."""
    fails: set[str] = field(default_factory=set)
    """The parts that must fail; every other must not."""
    may: set[str] = field(default_factory=set)
    """Parts of which the figure lies so near the limit that either is right."""
    how: dict[str, str] = field(default_factory=dict)
    """In which words a part must fail."""


RANKED = {"hits", "ranks", "membership"}
ALL = {*RANKED, "file", "events"}
CONTROLS = {
    "a further Retrain": Control(lambda w: w.of_retrains[NUM_RETRAINS]),
    "another further Retrain": Control(lambda w: w.of_retrains[NUM_RETRAINS + 1]),
    "Original": Control(lambda w: w.originals[0], ALL, how={"hits": UNDER, "file": IN_FILE}),
    "Original, noise of a tenth": Control(
        lambda w: w.subjects.noisy(w.originals[0], 0.1, 0), ALL, how={"hits": UNDER, "file": IN_FILE}
    ),
    "output mask": Control(
        lambda w: w.unlearned("output_mask"), {"hits", "ranks", "file"}, how={"hits": OVER, "file": IN_FILE}
    ),
    "output layer, tied": Control(
        lambda w: w.unlearned("sruga", **OUTPUT_LAYER), {"file", "events"}, {"hits"}, {"file": IN_FILE}
    ),
    "ascent alone": Control(
        lambda w: w.unlearned("sruga", **ASCENT_ALONE, max_steps=40), {"hits", "ranks"}, how={"hits": OVER}
    ),
    "ascent alone, begun": Control(
        lambda w: w.unlearned("sruga", **ASCENT_ALONE, max_steps=5),
        {"hits", "ranks", "file"},
        {"events", "membership"},
        {"hits": UNDER},
    ),
    "Original, noise as large as its weights": Control(
        lambda w: w.subjects.noisy(w.originals[0], 1.0, 0), {"hits", "ranks"}, how={"hits": OVER}
    ),
    "half of the weights' way to Original": Control(
        lambda w: w.subjects.weights_mixed(w.retrains[NUM_RETRAINS], w.originals[0], 0.5), {"file"}, {"hits", "ranks"}
    ),
    "four fifths of the weights' way": Control(
        lambda w: w.subjects.weights_mixed(w.retrains[NUM_RETRAINS], w.originals[0], 0.8), ALL, {"events"}
    ),
    "two users in five put back": Control(
        lambda w: w.users_put_back(0.4), {"hits", "ranks"}, {"events", "membership"}, {"hits": UNDER}
    ),
    "two fifths of z": Control(lambda w: w.z_mixed(0.4), {"hits", "ranks"}, {"membership"}, {"hits": UNDER}),
    # what is not caught
    "Retrain, noise of three tenths": Control(lambda w: w.subjects.noisy(w.retrains[NUM_RETRAINS], 0.3, 0)),
    "one user put back in fifty": Control(lambda w: w.users_put_back(0.02)),
    "a twentieth of z": Control(lambda w: w.z_mixed(0.05)),
    "a tenth of the weights' way": Control(
        lambda w: w.subjects.weights_mixed(w.retrains[NUM_RETRAINS], w.originals[0], 0.1)
    ),
    "one user's events left in": Control(World.with_one_user_left_in, may={"file"}),
}
"""The last rows are findings (docs/audit.md): no part says whether a model serves anybody well, and what is left of
one user, or a twentieth of Original's ranks, is within what Retrains differ by. Single events cannot tell of so few
unless much is left of them. Ranks that were mixed have no file, so that part cannot tell either."""


@pytest.fixture(scope="module")
def world(small, subjects) -> World:
    return World(small, subjects)


@pytest.fixture(scope="module")
def judged(world) -> dict[str, Any]:
    def measured(control: Control) -> Any:
        made = control.make(world)
        return world.bench.measure(made) if isinstance(made, Scorer) else made

    controls = {name: world.subjects.Subject(measured(control)) for name, control in CONTROLS.items()}
    return world.subjects.judge(world.bench, controls, world.of_retrains[:NUM_RETRAINS], world.of_originals)


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_fails_in_the_parts_it_should_and_in_no_other(judged, name):
    control, of_control = CONTROLS[name], judged[name]
    assert of_control.failed - control.may == control.fails - control.may, of_control.parts
    assert {part: of_control.parts[part] for part in control.how} == control.how
    if not control.may:
        assert of_control.verdict.word == ("fails" if control.fails else "passes")


def test_both_originals_fail_by_every_part(judged):
    assert all(judged[f"original-{seed}"].failed == ALL for seed in (0, 1))


def test_the_smallest_corrected_p_value_orders_what_remembers_before_what_does_not(judged):
    remembers = max(one.min_p for name, one in judged.items() if name.startswith(("original-", "Original")))
    assert (
        remembers < 0.01 < 0.05 < min(judged[name].min_p for name in ("a further Retrain", "another further Retrain"))
    )


def test_the_verdict_does_not_see_that_a_model_serves_nobody(world, judged):
    """Utility stands beside the verdict: a Retrain that was damaged passes with a tenth of its NDCG gone."""
    name = "Retrain, noise of three tenths"
    damaged = world.bench.measure(CONTROLS[name].make(world)).ndcg_10
    assert judged[name].verdict.word == "passes"
    assert damaged < 0.9 * np.mean([one.ndcg_10 for one in world.of_retrains])


def test_a_p_value_is_that_of_the_limits(subjects):
    values = [0.1, 0.2, 0.25, 0.15, 0.22]
    for alpha in (0.05, 0.005):
        assert subjects.chance_of_more(one_sided_limit(values, alpha), values) == pytest.approx(alpha)
    assert [subjects.chance_of_more(value, [1.0, 1.0, 1.0]) for value in (2.0, 1.0, 0.0)] == [0.0, 0.5, 1.0]


def test_a_mixture_of_none_is_the_retrain_and_one_of_all_is_original(world):
    retrain, original = world.of_retrains[0], world.of_originals[0]
    for share, wanted in ((0.0, retrain), (1.0, original)):
        mixed = world.subjects.z_mixed(retrain, original, world.bench, share)
        np.testing.assert_array_equal(mixed.told.rank, wanted.told.rank)
        np.testing.assert_allclose(mixed.told.log_p, wanted.told.log_p)
        back = world.subjects.users_put_back(retrain, original, world.bench, share, np.random.default_rng(0))
        np.testing.assert_array_equal(world.bench.ranks(back.told).rank, world.bench.ranks(wanted.told).rank)
        weights = world.subjects.weights_mixed(world.retrains[0], world.originals[0], share)
        np.testing.assert_array_equal(world.bench.signals(weights).rank, wanted.told.rank)


def test_membership_is_that_of_an_audit(world):
    told, model = [one.told for one in world.of_retrains[:4]], world.of_originals[0].told
    quick = world.subjects.attacks({"model": model}, told, world.bench.events)["model"]
    for attack, whole in membership(model, told, world.bench.events, np.random.default_rng(0)).items():
        assert (quick[attack].auc, quick[attack].excess) == pytest.approx((whole.auc, whole.excess))
        assert quick[attack].retrains == pytest.approx(whole.retrains)
