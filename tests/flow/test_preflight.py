"""A plan is checked before it begins: every mistake that shows by then is told, all at once."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from srun.data.raw import write_raw
from srun.errors import ConfigError
from srun.flow.cells import Cell
from srun.flow.layout import Layout
from srun.flow.params import load
from srun.flow.preflight import check_cell, check_flow, check_search, check_training

FILE = Path(__file__).parents[2] / "params.yaml"


def params_of(cells: dict, *sets: str, originals: dict | None = None):
    rows = {
        name: {"request": "interactions", "original": "o", "method": "sruga", "seed": 0, **cell}
        for name, cell in cells.items()
    }
    named = {"o": {"model": "sasrec", "seed": 0, "shards": 1}, **(originals or {})}
    requests = list(dict.fromkeys(["interactions", *(row["request"] for row in rows.values())]))
    laid = [f"originals={json.dumps(named)}", f"cells={json.dumps(rows)}", f"requests={json.dumps(requests)}"]
    return load(FILE, [], ["data.name=tiny", "runtime.device=cpu", *sets, *laid])


@pytest.fixture
def layout(tmp_path, small):
    events = [(f"u{user}", f"i{(user + step) % 9}", step) for user in range(12) for step in range(6)]
    write_raw(tmp_path / "data/raw/tiny", small.make_raw(events, {f"i{item}": "Action|Drama" for item in range(9)}))
    return Layout(tmp_path, tmp_path)


def told(params, layout):
    with pytest.raises(ConfigError) as caught:
        check_flow([(params, layout)])
    return list(caught.value.faults)


def test_a_plan_without_a_mistake_passes_and_needs_no_retrain(layout):
    check_flow([(params_of({"a": {}, "b": {"request": "action", "method": "attribution"}}), layout)])


@pytest.mark.parametrize(
    ("cell", "sets", "said"),
    [
        ({"method": "attribution", "request": "action", "original": "g"}, (), "GRU4Rec has no feed-forward neurons"),
        ({"method": "attribution_plus", "request": "action", "original": "g"}, (), "no feed-forward neurons"),
        ({"method": "random_neurons", "request": "action", "original": "g"}, (), "no feed-forward neurons"),
        ({"method": "largest_neurons", "request": "action", "original": "g"}, (), "no feed-forward neurons"),
        ({"method": "sisa"}, (), "SISA needs an Original trained in shards"),
        ({"original": "s"}, (), "3 shards"),
        ({"original": "s", "method": "finetune_only"}, (), "3 shards"),
        ({"original": "s", "method": "attribution", "request": "action"}, (), "3 shards"),
        ({"request": "action"}, ("unlearn.sruga.level=pooled",), "ascent: level is not defined for a category"),
        ({"request": "action"}, ("unlearn.sruga.ascent=ga", "unlearn.sruga.stop=match"), "stop: match"),
        ({}, ("unlearn.sruga.ascent=ga", "unlearn.sruga.ascent_negatives=true", "train.loss=ce"), "has no negatives"),
        (
            {},
            ("unlearn.sruga.ascent=ga", "unlearn.sruga.mask_all_forgotten=true", "unlearn.sruga.update=all"),
            "only a cloze model",
        ),
    ],
)
def test_a_method_that_cannot_start_so_is_told_by_its_row(layout, cell, sets, said):
    originals = {
        "g": {"model": "gru4rec", "seed": 0, "shards": 1},
        "s": {"model": "sasrec", "seed": 0, "shards": {"number": 3, "by": "random", "slices": 2}},
    }
    params = params_of({"row": cell}, *sets, originals=originals)
    [fault] = told(params, layout)
    assert fault.startswith("cells.row: ")
    assert said in fault
    with pytest.raises(ConfigError, match=r"cells\.row"):
        check_training(params, cell.get("original", "o"))


def test_all_mistakes_of_a_plan_are_told_at_once(layout):
    params = params_of(
        {"a": {"method": "sisa"}, "b": {"request": "action", "original": "g", "method": "attribution"}},
        *("partition.action.categories=[Acton, Drama]", "runtime.device=tpu"),
        originals={"g": {"model": "gru4rec", "seed": 0, "shards": 1}},
    )
    faults = told(params, layout)
    assert len(faults) == 4
    assert 'no item of tiny has "Acton"; did you mean "Action"?' in "\n".join(faults)
    assert "tpu" in faults[0]


def test_data_that_are_not_there_say_how_to_get_them(layout):
    params = params_of({"a": {}})
    [fault] = told(replace(params, data=replace(params.data, name="shop")), layout)
    assert "srun data import FILE --name shop" in fault
    assert "there are tiny" in fault
    [fault] = told(replace(params, data=replace(params.data, name="ml-1m")), layout)
    assert "srun data fetch ml-1m" in fault


def test_a_category_of_data_without_any_is_told(layout, small):
    events = [(f"u{user}", f"i{(user + step) % 9}", step) for user in range(12) for step in range(6)]
    write_raw(layout.raw("tiny"), small.make_raw(events))
    [fault] = told(params_of({"a": {"request": "action", "method": "attribution"}}), layout)
    assert "tiny has no item categories" in fault


def test_a_request_file_that_is_not_there_or_cannot_be_read_is_told(layout, tmp_path):
    block = "partition.may={{kind: interactions, file: {}, format: null, columns: null, catalogue: full, seed: 0}}"
    [fault] = told(params_of({"a": {"request": "may"}}, block.format("nowhere.csv")), layout)
    assert "partition.may: no file nowhere.csv" in fault
    file = tmp_path / "may.csv"
    params = params_of({"a": {"request": "may"}}, block.format(file))
    file.write_text("user_id,item_id\nu1,i2\n")
    check_flow([(params, layout)])
    file.write_text("user_id,item_id\nu1\n")
    [fault] = told(params, layout)
    assert "may.csv:2" in fault


def test_more_shards_than_users_are_told(layout):
    params = params_of({"a": {"method": "sisa"}}, originals={"o": {"model": "sasrec", "seed": 0, "shards": 13}})
    [fault] = told(params, layout)
    assert '"originals.o.shards": 13 shards, but tiny has 12 users' in fault


def test_other_rows_do_not_stop_a_training():
    originals = {"g": {"model": "gru4rec", "seed": 0, "shards": 1}}
    params = params_of({"a": {"method": "sisa"}}, originals=originals)
    check_training(params, "g")
    with pytest.raises(ConfigError, match=r"cells\.a"):
        check_training(params, "o")


def test_a_row_of_the_command_line_is_checked_before_anything_is_read():
    params = params_of({"a": {}})
    check_cell(params, params.cells["a"])
    with pytest.raises(ConfigError, match='unknown method "srga"'):
        check_cell(params, Cell(request="interactions", original="o", method="srga", seed=0))
    with pytest.raises(ConfigError, match='not defined for requests of kind "interactions"'):
        check_cell(params, Cell(request="interactions", original="o", method="attribution", seed=0))


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (("optimize.objective=[pareto, none]", "optimize.objectives.none={users: []}"), "optimize.objectives.none"),
        (("optimize.space={}",), "nothing to search"),
        (("optimize.space.sruga.ascent={of: [ga, nop], when: {}}",), '"optimize.space.sruga.ascent": expected'),
        (
            ("optimize.space.sruga.anneal_floor={low: 0.1, high: 2, scale: log, zero: false, when: {}}",),
            '"optimize.space.sruga.anneal_floor": expected',
        ),
    ],
)
def test_a_search_that_would_fail_on_its_way_is_refused(sets, said):
    params = params_of({"a": {}}, *sets)
    with pytest.raises(ConfigError) as caught:
        check_search(params, params.cells["a"])
    assert said in str(caught.value)


def test_the_project_s_own_searches_pass():
    params = load(FILE)
    for method in params.optimize.space:
        request = "action" if method == "attribution" else "interactions"
        check_search(params, Cell(request=request, original="sasrec-0", method=method, seed=0))
