"""The context of inner runs, and what every method says of itself."""

import re

import pytest
import torch

from srun.errors import RunError
from srun.models import MODELS
from srun.unlearning import UNLEARNERS
from srun.unlearning.base import Context

CPU = torch.device("cpu")


def test_a_quiet_context_is_enough_for_a_method_that_does_not_look(small, world):
    method = UNLEARNERS["finetune_only"](small.method_settings("finetune_only"))
    result = method.unlearn(world.original, world.request, Context.quiet(CPU, 0))
    assert result.cost.epochs == 2
    assert [set(row) for row in result.history[1:]] == [
        {"epoch", "unlearn/finetune_loss", "unlearn/target_gradients"}
    ] * 2
    told = method.unlearn(world.original, world.request, Context.quiet(CPU, 0, world.probe()))
    assert small.weight_bytes(told.scorer) == small.weight_bytes(result.scorer)


@pytest.mark.parametrize(("name", "changes"), [("retrain", {}), ("sruga", {"stop": "plateau", "level": "pooled"})])
def test_a_method_that_has_to_look_says_that_it_lacks_a_probe(small, world, name, changes):
    method = UNLEARNERS[name](small.method_settings(name, **changes))
    with pytest.raises(RunError, match=r"has no probe; give Context\.quiet one"):
        method.unlearn(world.original, world.request, Context.quiet(CPU, 0))


def test_a_quiet_context_saves_nothing_and_tells_who_asks(small, world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    epochs = []
    context = Context.quiet(CPU, 0, world.probe(), on_epoch=lambda row, epoch, cap: epochs.append((epoch, cap)))
    UNLEARNERS["retrain"](small.method_settings("retrain")).unlearn(world.original, world.request, context)
    assert epochs == [(1, 2), (2, 2)]
    assert not list(tmp_path.iterdir())


def test_a_method_reads_its_cost_from_the_meter_of_its_context(small, world):
    context = Context.quiet(CPU, 0, world.probe())
    method = UNLEARNERS["sruga"](small.method_settings("sruga", level="pooled"))
    result = method.unlearn(world.original, world.request, context)
    assert result.cost.exact() == context.meter.read().exact()
    assert result.cost.processor_seconds > 0


def test_methods_are_told_apart():
    methods = [UNLEARNERS[name] for name in UNLEARNERS]
    assert len({method.title for method in methods}) == len(methods)
    assert len({method.colour for method in methods}) == len(methods)
    assert len({method.marker for method in methods}) == len(methods)
    assert all(re.fullmatch("#[0-9A-F]{6}", method.colour) and method.about for method in methods)
    assert [method.role for method in methods].count("original") == 1
    assert [method.role for method in methods].count("reference") == 1


def test_models_have_titles():
    assert len({MODELS[name].title for name in MODELS}) == len(list(MODELS))
