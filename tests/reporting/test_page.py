import re
from dataclasses import replace

import numpy as np

from srun.judging.comparison import compare, judge_groups
from srun.judging.records import Trained, group_records
from srun.metrics.ranking import EventRanks
from srun.reporting.figures import Figure
from srun.reporting.page import render, split_tables
from srun.reporting.summary import what_was_run

HOSTILE = "<script>alert(1)</script>&\"'"


def page(records, originals=()):
    groups = group_records(records, originals)
    figures = [Figure("curves.png", f"Curves {HOSTILE}", "caption", b"\x89PNG")]
    return render(judge_groups(groups, [""] * len(groups)), figures)


def facts_of(records, originals):
    return what_was_run(judge_groups(group_records(records, originals), [""]))


def test_holds_everything_and_asks_for_nothing(record, retrains):
    html = page([*retrains, record("sruga", 0, 0.05), record("output_mask", 0, 0.0)], [trained()])
    assert "data:image/png;base64,iVBORw==" in html
    assert not re.search(r"(src|href)=\"(?!data:)", html)
    assert "http" not in html
    for words in ("over-unlearning", "How to read this", "What was run", "Retrain is the reference", "not judged"):
        assert words in html
    assert 'class="over"' in html


def test_every_text_is_escaped(record, retrains):
    rows = [replace(row, dataset=HOSTILE, request=HOSTILE, cell=HOSTILE) for row in retrains]
    method = record(
        "sruga", 0, 0.05, dataset=HOSTILE, request=HOSTILE, info={**rows[0].info, "settings": {"a": HOSTILE}}
    )
    html = page([*rows, method])
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_costs_before_a_request_are_shown(record, retrains):
    facts = facts_of(retrains, [trained()])
    assert facts["Original sasrec-0"] == "seed 3, 5 shards, 7.5 s, 2,000 scored positions, 1,000 target gradients"
    unmeasured = replace(trained(), measured=None)
    assert "not measured here" in facts_of(retrains, [unmeasured])["Original sasrec-0"]


def trained():
    cost = {"target_gradients": 1000.0, "scored_positions": 2000}
    return Trained("sasrec-0", {"seed": 3, "shards": 5, "cost": cost}, {"seconds": 7.5})


def test_intervals_are_over_users_of_the_mean_over_seeds(record, retrains):
    events = np.arange(60)
    ranks = [EventRanks(events, events // 3, np.where(events % 3 == seed, 1.0, 99.0)) for seed in range(3)]
    rows = [replace(row, events={"forget_report": rank}) for row, rank in zip(retrains, ranks, strict=True)]
    (group,) = group_records([*rows, record("sruga", 0, 0.05, events={"forget_report": ranks[0]})])
    tables = {table.split: table for table in split_tables(compare(group))}
    forgotten, test = tables["forget_report"], tables["test"]
    assert forgotten.header[1:3] == ("hit_10, 95 %", "ndcg_10, 95 %")
    assert forgotten.rows[0][:3] == ("Retrain", "0.3333–0.3333", "0.3333–0.3333")  # every user has one hit in each seed
    assert test.header[1] == "recall_10, 95 %"
    assert test.rows[0][1:3] == ("–", "–")  # nothing known of single events
