from dataclasses import replace

import pytest

from srun.errors import DataError
from srun.judging.records import Trained, group_records


def test_groups_by_model_and_request_in_the_order_of_the_methods(record, retrains):
    rows = [record("sruga", 0, 0.1), *reversed(retrains), record("original", 0, 0.3)]
    other = [replace(row, model="gru4rec", original="gru4rec-0") for row in retrains]
    groups = group_records([*rows, *other], [Trained("sasrec-0"), Trained("gru4rec-0"), Trained("unused")])
    assert [(group.model, group.request) for group in groups] == [("sasrec", "r"), ("gru4rec", "r")]
    assert [(row.method, row.seed) for row in groups[0].records] == [
        ("original", 0),
        ("retrain", 0),
        ("retrain", 1),
        ("retrain", 2),
        ("sruga", 0),
    ]
    assert [trained.name for trained in groups[0].originals] == ["sasrec-0"]


def test_no_rows_are_an_error():
    with pytest.raises(DataError, match="no row was evaluated"):
        group_records([])


def test_rows_of_other_data_partition_or_recipe_are_refused(record, retrains):
    changes = {
        "different data": {"fingerprint": "0" * 64},
        "different partitions": {"partition": {**retrains[0].partition, "num_forget": 1}},
        'different values of "train"': {"info": {**retrains[0].info, "train": {"loss": "bce"}}},
    }
    for message, change in changes.items():
        with pytest.raises(DataError, match=f"retrain-0 and sruga-0 were .*{message}"):
            group_records([*retrains, record("sruga", 0, 0.1, **change)])


def test_raw_scores_are_a_row_of_their_own_without_a_cost(record, retrains):
    sisa = record("sisa", 0, 0.1, untrained_raw={"test": {"ndcg_10": 0.3}})
    raw = replace(retrains[0], untrained_raw={"test": {"ndcg_10": 0.5}})
    (group,) = group_records([raw, *retrains[1:], sisa])
    assert group.values("untrained_raw", "test", "ndcg_10") == [0.5]
    assert group.values("sisa_untrained_raw", "test", "ndcg_10") == [0.3]
    assert len(group.retrains) == 3
    assert group.of("untrained_raw")[0].counts == {}
