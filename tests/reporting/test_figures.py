import struct
from dataclasses import replace

import pytest

from srun.judging.comparison import compare, judge_groups
from srun.judging.records import Trained, group_records
from srun.reporting.figures import draw, utility_vs_suppression

TRAINING = [{"epoch": 1.0, "train/loss": 2.0}, {"epoch": 2.0, "train/loss": 1.0, "validation/ndcg_10": 0.1}]
UNLEARNING = [
    {"epoch": float(epoch), "validation/recall_10": 0.2 - epoch / 100, "forget_tune/hit_10": 0.3 - epoch / 20}
    for epoch in range(4)
]


def png_size(png):
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", png[16:24])


def drawn(records, originals=()):
    groups = group_records(records, originals)
    return draw(judge_groups(groups, [""] * len(groups)))


def rows(record, retrains):
    retrains = [replace(row, history=TRAINING) for row in retrains]
    return [*retrains, record("original", 0, 0.3), record("sruga", 0, 0.05, history=UNLEARNING), record("output_mask")]


def test_one_group_has_plain_names(record, retrains):
    info = {"seed": 0, "cost": {"target_gradients": 1.0}}
    figures = drawn(rows(record, retrains), [Trained("sasrec-0", info, history=TRAINING)])
    assert [figure.file for figure in figures] == ["utility_vs_suppression.png", "curves.png", "bars.png"]
    assert all(min(png_size(figure.png)) > 400 for figure in figures)


def test_several_groups_have_a_pair_each_and_bars_a_request(record, retrains):
    first = rows(record, retrains)
    second = [replace(row, model="gru4rec") for row in first]
    third = [replace(row, request="a/b", partition={**row.partition, "name": "a/b"}) for row in first]
    figures = drawn([*first, *second, *third])
    assert [figure.file for figure in figures] == [
        "utility_vs_suppression-sasrec-r.png",
        "curves-sasrec-r.png",
        "utility_vs_suppression-gru4rec-r.png",
        "curves-gru4rec-r.png",
        "utility_vs_suppression-sasrec-a_b.png",
        "curves-sasrec-a_b.png",
        "bars-r.png",
        "bars-a_b.png",
    ]


def test_names_beside_points_do_not_overlap(record, retrains):
    others = ("original", "sisa", "sruga", "finetune_only", "a_dummy_method")
    near = [record(method, 0, 0.21 + index / 500) for index, method in enumerate(others)]
    (group,) = group_records([*retrains, *near])
    canvas = utility_vs_suppression(compare(group))
    boxes = [text.get_window_extent() for text in canvas.axes[0].texts]
    assert len(boxes) >= 7
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


@pytest.mark.parametrize("number", [1, 3])
def test_nothing_but_retrains_and_a_category_can_be_drawn(record, number):
    figures = drawn([record("retrain", seed, kind="category") for seed in range(number)])
    assert figures
    assert all(figure.png.startswith(b"\x89PNG") for figure in figures)


def test_same_records_same_bytes(record, retrains):
    first, second = (drawn(rows(record, retrains)) for _ in range(2))
    assert [figure.png for figure in first] == [figure.png for figure in second]
