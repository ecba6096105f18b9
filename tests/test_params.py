"""params.yaml, presets and --set: one value, one place, one precedence."""

from copy import deepcopy
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from srun.config import flatten
from srun.errors import ConfigError
from srun.models import MODELS
from srun.params import Params, load, load_values
from srun.unlearning import UNLEARNERS

FILE = Path(__file__).parents[1] / "params.yaml"


@pytest.fixture
def write(tmp_path):
    def write(name, values):
        path = tmp_path / name
        YAML(typ="safe").dump(values, path)
        return path

    return write


def error(*args, **kwargs):
    with pytest.raises(ConfigError) as caught:
        load(*args, **kwargs)
    return str(caught.value)


def test_the_projects_own_file_is_valid_and_complete():
    params = load(FILE)
    assert isinstance(params, Params)
    for name in MODELS:
        assert isinstance(params.model_settings(name), MODELS[name].Config)
    for name in UNLEARNERS:
        assert isinstance(params.method_settings(name), UNLEARNERS[name].Config)


def test_every_value_is_needed(write):
    """Nothing that affects a result has a default in the code: leaving out any one leaf is an error that names it."""
    whole = load_values(FILE)
    search = {**whole["optimize"], "objectives": {}, "space": {}}  # what users name themselves
    for key in flatten({**whole, "partition": {}, "originals": {}, "cells": {}, "optimize": search}):
        values = deepcopy(whole)
        *parents, last = key.split(".")
        node = values
        for part in parents:
            node = node[part]
        del node[last]
        message = error(write("p.yaml", values))
        assert f'"{key}"' in message, message


def test_presets_come_after_the_file_and_assignments_after_presets(write):
    first = write("a.yaml", {"train": {"batch_size": 11, "patience": 12}})
    second = write("b.yaml", {"train": {"batch_size": 21}})
    params = load(FILE, [first, second], ["train.patience=33", "train.patience=34"])
    assert params.train.batch_size == 21
    assert params.train.patience == 34
    assert params.train.loss == load(FILE).train.loss


def test_what_dvc_writes_is_a_number():
    assert load(FILE, [], ["train.learning_rate=1e-05"]).train.learning_rate == 1e-05


@pytest.mark.parametrize(
    ("assignment", "parts"),
    [
        ("train.learning_rat=1", ["train.learning_rat", '"learning_rate"']),
        ("unlearn.sruga.ascent_wieght=1", ["unlearn.sruga.ascent_wieght", '"ascent_weight"']),
        ("model.sasrek.hidden=1", ["model.sasrek", '"sasrec"']),
        ("train.batch_size=many", ["train.batch_size", "integer"]),
        ("train.batch_size=0", ["train.batch_size"]),
        ("prepare.filter=twice", ["prepare.filter", "once", "k_core"]),
        ("model.sasrec.heads=7", ["model.sasrec", "heads"]),
        ("train=3", ['"train"']),
        ("cells={}", []),
    ],
)
def test_errors_name_the_dotted_key(assignment, parts):
    if assignment == "cells={}":
        assert load(FILE, [], [assignment]).cells == {}
        return
    message = error(FILE, [], [assignment])
    assert all(part in message for part in parts), message
    assert "\n" not in message


def test_a_number_that_is_not_finite_is_refused():
    assert "train.learning_rate" in error(FILE, [], ["train.learning_rate=.inf"])


@pytest.mark.parametrize("field", ["request", "method", "original"])
def test_a_cell_names_only_what_exists(field):
    name, cell = next(iter(load_values(FILE)["cells"].items()))
    wrong = str(cell[field])[:-1] + "z"
    message = error(FILE, [], [f"cells.{name}.{field}={wrong}"])
    assert f"cells.{name}" in message
    assert str(wrong) in message


def test_a_cell_of_a_method_that_is_not_defined_for_its_request_is_refused():
    undefined = [
        (m, k) for m in UNLEARNERS for k in ("interactions", "category", "users") if k not in UNLEARNERS[m].kinds
    ]
    requests = {
        "interactions": "{kind: interactions, file: null, share_of_users: 0.1, max_share_of_items: 0.5, "
        "catalogue: full, seed: 0}",
        "users": "{kind: users, file: null, share_of_users: 0.1, catalogue: full, seed: 0}",
        "category": "{kind: category, categories: [a], users: null, context: retained, catalogue: full, seed: 0}",
    }
    original = next(iter(load_values(FILE)["originals"]))
    for method, kind in undefined:
        sets = [
            f"partition.r={requests[kind]}",
            "requests=[interactions, r]",
            f"cells.c={{request: r, original: {original}, method: {method}, seed: 0}}",
        ]
        message = error(FILE, [], sets)
        assert "cells.c" in message
        assert method in message


def test_an_unknown_request_model_or_method_is_named():
    params = load(FILE)
    for ask, name in (
        (params.request, "interaction"),
        (params.model_settings, "sasrek"),
        (params.method_settings, "srug"),
    ):
        with pytest.raises(ConfigError, match=name):
            ask(name)


def test_presets_of_the_project_are_valid():
    for preset in sorted((FILE.parent / "experiments").glob("*.yaml")):
        assert load(FILE, [preset]).cells


def test_a_request_for_a_category_is_found_or_made():
    params = load(FILE)
    assert params.with_category("Action") == ("action", params)
    name, more = params.with_category("Sci-Fi & co")
    assert name.startswith("category-Sci-Fi-co-")
    assert name != params.with_category("Sci-Fi + co")[0]
    assert params.with_category("Drama")[0] == "category-Drama"
    assert more.request(name).categories == ("Sci-Fi & co",)
    assert more.request(name).context == params.request("action").context
    assert name not in params.partition
    with pytest.raises(ConfigError, match='kind "category"'):
        load(FILE, [], ["cells={}", "requests=[]", "partition={}"]).with_category("Action")
