"""params.yaml, presets and --set: one value, one place, one precedence."""

import re
from copy import deepcopy
from dataclasses import is_dataclass
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from srun.config import flatten
from srun.errors import ConfigError
from srun.flow.params import Params, load, load_values
from srun.models import MODELS
from srun.requests.kinds import input_files
from srun.unlearning import UNLEARNERS

FILE = Path(__file__).parents[2] / "params.yaml"


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
        "interactions": "{kind: interactions, share_of_users: 0.1, max_share_of_items: 0.5, catalogue: full, seed: 0}",
        "users": "{kind: users, share_of_users: 0.1, catalogue: full, seed: 0}",
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
    for preset in sorted((FILE.parent / "presets").glob("*.yaml")):
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


GIVEN = "{kind: interactions, file: mine.csv, format: null, columns: null, catalogue: full, seed: 0}"


def test_a_request_of_ones_own_is_a_block_without_what_only_draws_have():
    params = load(FILE, [], [f"partition.mine={GIVEN}"])
    assert params.request("mine").file == "mine.csv"
    message = error(FILE, [], [f"partition.mine={GIVEN[:-1]}, share_of_users: 0.1}}"])
    assert "partition.mine" in message
    assert "share_of_users" in message
    assert "not drawn" in message


def test_a_file_in_the_place_of_a_drawn_request_is_refused_with_the_command_that_works():
    message = error(FILE, [], ["partition.interactions.file=mine.csv"])
    assert "srun partition --request NAME --file mine.csv" in message
    load(FILE, [], [f"partition.mine={GIVEN}", "partition.mine.file=other.csv"])


def test_a_block_without_a_kind_or_of_an_unknown_one_is_named():
    for block in ("{file: mine.csv}", "{kind: interaction, file: mine.csv}", "{kind: 3}", "3"):
        assert "partition.mine" in error(FILE, [], [f"partition.mine={block}"])


def test_every_parameter_that_names_a_file_is_marked_as_one():
    """Unmarked, its content would be part of no key and no dependency, and a change to it would go unseen."""
    request = load(FILE, [], [f"partition.mine={GIVEN}"]).request("mine")
    assert input_files(request) == {"file": Path("mine.csv")}
    names_files = re.compile(r"(^|_)(file|csv|folder)s?$")
    for values, block in _blocks(load(FILE, [], [f"partition.mine={GIVEN}"])):
        marked = {str(path) for path in input_files(block).values()}
        for name, value in values.items():
            if names_files.search(name) and value is not None:
                assert str(value) in marked, name


def _blocks(node):
    """Every dataclass within the parameters, with its values."""
    if is_dataclass(node):
        values = vars(node)
        yield values, node
        for value in values.values():
            yield from _blocks(value)
    elif isinstance(node, dict):
        for value in node.values():
            yield from _blocks(value)


def test_one_request_can_stand_in_the_place_of_all_others():
    params = load(FILE, [], [f"partition.mine={GIVEN}"])
    only = params.with_request("mine")
    assert only.requests == ("mine",)
    assert {cell.request for cell in only.cells.values()} == {"mine"}
    assert set(only.cells) == set(params.cells)
    named = "{kind: category, categories: [a], users: null, context: retained, catalogue: full, seed: 0}"
    category = load(FILE, [], [f"partition.c={named}"]).with_request("c")
    assert all("category" in UNLEARNERS[cell.method].kinds for cell in category.cells.values())


def test_rows_that_are_replaced_take_their_audits_along(write):
    row = {"request": "core", "original": "sasrec-0", "method": "sruga", "seed": 0}
    assert load(FILE).audits == ("sasrec-sruga", "sasrec-closed_form", "bert4rec-sruga", "bert4rec-closed_form")
    preset = write("rows.yaml", {"cells": {"mine": row}})
    assert load(FILE, [preset]).audits == ()
    assert load(FILE, [preset], ["audits=[mine]"]).audits == ("mine",)
    assert load(FILE, [write("both.yaml", {"cells": {"mine": row}, "audits": ["mine"]})]).audits == ("mine",)
    assert load(FILE, [], ["cells={mine: {request: core, original: sasrec-0, method: sruga, seed: 0}}"]).audits == ()
    assert load(FILE).with_request("action").audits == ()


def test_an_audit_is_of_a_row_that_is_there_and_of_no_category():
    assert 'parameter "audits": unknown "sasrec-srugo"' in error(FILE, [], ["audits=[sasrec-srugo]"])
    cell = "cells.red={request: action, original: sasrec-0, method: original, seed: 0}"
    said = error(FILE, [], ["requests=[core, action]", cell, "audits=[red]"])
    assert 'parameter "audits": red forgets a category' in said
