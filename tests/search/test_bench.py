"""The bench of a search: a trial in memory is the row that the flow would publish, on tune data only."""

import numpy as np
import pytest
import torch

from srun.config import build, read_yaml
from srun.errors import ConfigError
from srun.evaluation.evaluate import EvaluateConfig
from srun.evaluation.probe import Probe
from srun.evaluation.ranking import RankingTask
from srun.models.scorer import Scorer, untied_copy
from srun.search.bench import TUNE, Bench, OptimizeConfig, make_goal, make_space, with_overrides
from srun.search.goals import read_goal

POOLED = {"level": "pooled"}  # for no event of these worlds is set aside
EVALUATION = EvaluateConfig(seed=0, sampled=False, batch_size=64, recovery=False)


@pytest.fixture(scope="module")
def settings(small):
    return build(OptimizeConfig, read_yaml(small.ROOT / "params.yaml")["optimize"], "optimize")


@pytest.fixture(scope="module")
def bench_of(worlds, small):
    """A bench on a world, by kind of request and method."""

    def bench_of(kind, method, evaluate_every=1, **changes):
        world = worlds[kind, False]
        return Bench(
            cell={"request": "r", "original": "o", "method": method, "seed": 0},
            settings=small.method_settings(method, **(POOLED if method == "sruga" else {}), **changes),
            seed=0,
            request=world.request,
            original=world.original,
            original_sha256="",
            evaluation=EVALUATION,
            evaluate_every=evaluate_every,
            device=torch.device("cpu"),
        )

    return bench_of


def untold(row):
    pass


def repeatable(figures):
    """All but the time by the clock."""
    assert figures["cost/seconds"] > 0
    return {key: value for key, value in figures.items() if key != "cost/seconds"}


def test_a_trial_is_the_method_as_the_flow_runs_it(bench_of, world, tmp_path):
    bench = bench_of("interactions", "sruga")
    rows = []
    figures = bench({"unlearn.sruga.learning_rate": 0.01, "unlearn.sruga.max_epochs": 3}, rows.append)
    result = world.run("sruga", tmp_path, learning_rate=0.01, max_epochs=3, **POOLED)
    probe = world.probe()
    expected = {**probe(result.scorer, "validation"), **probe(result.scorer, "forget_tune")}
    assert {key: figures[key] for key in expected} == expected
    assert figures["cost/training_epochs"] == result.cost.target_gradients / world.request.retain.sum()
    assert figures["cost/scored_positions"] == result.cost.scored_positions
    assert figures["match/distance"] == abs(figures["forget_tune/hit_10"] - bench.level)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert rows[-1]["validation/ndcg_10"] == figures["validation/ndcg_10"]
    assert rows[-1]["match/distance"] == figures["match/distance"]


@pytest.mark.parametrize("stop", ["fixed", "match", "plateau"])
def test_fewer_looks_change_no_figure_and_no_look_of_a_stop_rule(bench_of, world, tmp_path, stop):
    rows = {}
    changes = {"learning_rate": 0.003, "max_epochs": 7, "stop": stop, "evaluate_every": 1}
    overrides = {f"unlearn.sruga.{key}": value for key, value in changes.items()}
    figures = {
        every: bench_of("interactions", "sruga", every)(overrides, rows.setdefault(every, []).append)
        for every in (1, 3)
    }
    assert repeatable(figures[3]) == repeatable(figures[1])
    result = world.run("sruga", tmp_path, **changes, **POOLED)
    assert figures[3]["cost/training_epochs"] == result.cost.target_gradients / world.request.retain.sum()
    assert figures[3]["forget_tune/hit_10"] == world.probe()(result.scorer, "forget_tune")["forget_tune/hit_10"]
    looked = [row["epoch"] for row in rows[3] if "validation/ndcg_10" in row]
    assert looked == ([3, 6, 7] if stop == "fixed" else [row["epoch"] for row in rows[1]])
    assert all(row == rows[1][int(row["epoch"]) - 1] for row in rows[3] if row["epoch"] in looked)


def test_fewer_looks_are_enough_to_end_a_trial_early(bench_of):
    bench, rows = bench_of("interactions", "finetune_only", 2), []
    goal = read_goal(["maximize validation/ndcg_10 from 2", "minimize forget_tune/hit_10 from 1"], bench.references)

    def tell(row):
        rows.append(row)
        if goal.hopeless(row):
            raise InterruptedError

    with pytest.raises(InterruptedError):
        bench({"unlearn.finetune_only.max_epochs": 5}, tell)
    assert [row["epoch"] for row in rows] == [1, 2]


def test_nothing_that_is_published_is_looked_at(bench_of):
    figures = bench_of("category", "attribution")({}, untold)
    splits = {key.partition("/")[0] for key in figures} - {"cost", "match"}
    assert splits <= set(TUNE)
    assert not [split for split in splits if "report" in split or "test" in split]


def test_the_original_is_known_once_and_is_not_changed(bench_of, small):
    bench = bench_of("interactions", "sruga")
    before = small.weight_bytes(bench.original.scorer)
    first = repeatable(bench({}, untold))
    assert repeatable(bench({"unlearn.sruga.learning_rate": 0.05}, untold)) != first
    assert repeatable(bench({}, untold)) == first
    assert small.weight_bytes(bench.original.scorer) == before


def test_nothing_is_ranked_twice(bench_of, small, monkeypatch):
    ranked, plain = [], RankingTask.ranks

    def ranks(task, scorer):
        ranked.append((id(task), small.weight_bytes(scorer)))
        return plain(task, scorer)

    monkeypatch.setattr(RankingTask, "ranks", ranks)
    bench = bench_of("interactions", "sruga", 1)
    of_original = len(ranked)
    changes = {
        "update": "output_layer",
        "unlearn_dropout": False,
        "max_epochs": 2,
        "max_steps": None,
        "learning_rate": 0.1,
        "kl_weight": 0.0,
        "finetune_weight": 0.0,
    }
    figures = bench({f"unlearn.sruga.{key}": value for key, value in changes.items()}, untold)
    assert len(set(ranked)) == len(ranked)
    # all that the figures need of the end, two splits after one epoch more, and nothing of epoch 0: it is the original
    assert len(ranked) == 2 * of_original + 2
    assert figures["forget_tune/hit_10"] != bench.before["forget_tune/hit_10"]


def test_a_remembered_look_is_the_look(bench_of):
    bench = bench_of("interactions", "sruga")
    plain = Probe(bench.request.splits, bench.request.data.max_length, bench.device, 64)
    model = untied_copy(bench.original.model)
    for step in range(3):
        scorer = Scorer([model])
        for split in ("validation", "forget_tune", "validation"):
            assert bench.probe(scorer, split) == plain(scorer, split)
            assert (bench.probe.ranks(scorer, split).rank == plain.ranks(scorer, split).rank).all()
            bench.probe.ranks(scorer, split).rank[:] = 0  # nobody else's
        users = np.arange(bench.request.data.num_users) % 2 == 0
        assert bench.probe(scorer, "validation", users) == plain(scorer, "validation", users)
        with torch.no_grad():
            model.output_table[1 + step] += 1
    assert len({weights for weights, _ in bench.probe._known}) == 2


def test_a_category_keeps_and_removes(bench_of):
    bench = bench_of("category", "attribution")
    assert bench.before["in_category_tune/removal_10"] == 0
    assert bench.before["out_of_category_tune/kept_10"] == 1
    everything = {"privacy_mode": "fixed", "privacy_threshold": 0, "attribution_threshold": 0.0}
    figures = bench({f"unlearn.attribution.{key}": value for key, value in everything.items()}, untold)
    inside = figures["in_category_tune/hit_10"] / bench.before["in_category_tune/hit_10"]
    assert figures["in_category_tune/removal_10"] == pytest.approx(1 - inside)


@pytest.mark.parametrize("name", ["pareto", "match", "suppress", "utility", "cost"])
def test_named_objectives_fit_every_kind_of_request(bench_of, settings, name):
    for kind, method in (("interactions", "sruga"), ("category", "attribution")):
        if kind in settings.objectives[name]:
            chosen = build(OptimizeConfig, {**vars_of(settings), "objective": [name]}, "optimize")
            goal = make_goal(chosen, bench_of(kind, method))
            assert goal.single == (name != "pareto")


def vars_of(settings):
    import dataclasses

    return dataclasses.asdict(settings)


def test_an_objective_that_a_kind_does_not_have_is_refused(bench_of, settings):
    chosen = build(OptimizeConfig, {**vars_of(settings), "objective": ["match"]}, "optimize")
    with pytest.raises(ConfigError, match=r"objectives.match: not defined for requests of kind \"category\""):
        make_goal(chosen, bench_of("category", "attribution"))


@pytest.mark.parametrize(
    ("kind", "method"), [("interactions", "sruga"), ("interactions", "finetune_only"), ("category", "attribution")]
)
def test_every_space_of_params_yaml_fits_its_method(bench_of, settings, kind, method):
    import optuna

    bench = bench_of(kind, method)
    space = make_space(settings, bench)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [with_overrides(method, bench.settings, space.draw(study.ask())) for _ in range(50)]
    assert len(set(map(repr, drawn))) > 10


def test_settings_that_do_not_go_together_fail_by_name(bench_of):
    bench = bench_of("interactions", "sruga")
    nothing = {f"unlearn.sruga.{name}_weight": 0 for name in ("ascent", "kl", "finetune")}
    with pytest.raises(ConfigError, match=r"unlearn.sruga.*nothing would be done"):
        bench(nothing, untold)
    with pytest.raises(ConfigError, match=r"unlearn\.sruga\.asent"):
        bench({"unlearn.sruga.asent": 1}, untold)


def test_a_method_without_space_and_a_request_without_tune_half_are_refused(bench_of, settings, monkeypatch):
    with pytest.raises(ConfigError, match="nothing to search"):
        make_space(settings, bench_of("interactions", "output_mask"))
    with pytest.raises(ConfigError, match="not defined for requests"):
        bench_of("interactions", "attribution")


def test_constraints_can_name_the_level_of_never_seen_events(bench_of):
    bench = bench_of("interactions", "sruga")
    goal = read_goal(
        ["minimize cost/training_epochs from 10", "forget_tune/hit_10 <= 1 of never_seen"], bench.references
    )
    assert goal.constraints[0].bound == bench.level
