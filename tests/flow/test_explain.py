"""Who forgot what is shown to who asks on a terminal; tables that are handed on show drawn requests only."""

import pytest
from click.testing import CliRunner

from srun.cli import cli
from srun.flow import explain
from srun.flow.cells import Cell
from srun.flow.layout import Layout
from srun.models.published import publish
from srun.papers.thesis.report import explanation_rows


@pytest.fixture
def studied(world, small, tmp_path):
    """A project with a drawn request, one that a file gave and one of named users, each with a model."""
    data, layout = world.data, Layout(tmp_path, tmp_path)
    data.save(layout.prepared)
    forgotten = data.users["user_id"].to_numpy()[data.user[world.request.forget]]
    items = data.items["item_id"].to_numpy()[data.item[world.request.forget] - 1]
    file = small.write_request(tmp_path / "r.csv", list(zip(forgotten, items, strict=True)), "user_id,item_id")
    requests = {
        "drawn": small.interactions_request(),
        "given": small.interactions_request(file=file),
        "some": small.category_request(users=tuple(data.users["user_id"][:20])),
    }
    cells = {}
    for name, request in requests.items():
        small.carry_out(data, request, name).save(layout.partition(name))
        for method in ("original", "sruga"):
            cell = cells[f"{name}-{method}"] = Cell(request=name, original=f"sasrec-{name}", method=method, seed=0)
            publish(layout.cell(cell).model, world.original.scorer, {}, [], data.items)
    return layout, cells


def test_only_drawn_requests_are_examples(studied):
    layout, cells = studied
    [(original, study)] = explain.examples(layout, cells).items()
    assert original == "sasrec-drawn"
    assert study.forgotten.any()


def test_table_6_shows_item_numbers_and_no_raw_ids(studied):
    layout, cells = studied
    rows = explanation_rows(layout, cells)
    assert {row["Model"] for row in rows} == {"SASRec (ours, sasrec-drawn)"}
    shown = [number for row in rows for key in ("History", "Target", "Top") for number in row[key].split(", ")]
    assert shown
    assert all(number.isdigit() for number in shown)


def test_a_user_is_explained_by_raw_id(studied):
    layout, cells = studied
    story = explain.run(layout, "u3", "given", cells)
    assert story["sequence"][0]["item_id"].startswith("i")


def test_explain_says_that_it_prints_personal_data():
    assert "It prints personal data" in CliRunner().invoke(cli, ["explain", "--help"]).output
