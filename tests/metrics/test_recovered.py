"""Files beside Retrains' files, worked by hand."""

import pytest

from srun.metrics.forgetting import one_sided_limit
from srun.metrics.recovered import judge_file, of_retrain

TIED = [{"own": own, "ridge": 0.1, "softmax_zero": 0.1, "softmax_input": 0.3} for own in (0.20, 0.22, 0.24)]


def judged(original=0.6, **hits):
    file = judge_file(hits, TIED, original, 0.05)
    assert file is not None
    return file


def test_a_limit_is_what_a_further_retrain_exceeds_with_chance_alpha():
    limit = one_sided_limit([0.20, 0.22, 0.24], 0.05)  # t(.95, 2) = 2.91999, s = .02
    assert limit == pytest.approx(0.22 + 2.91999 * 0.02 * (4 / 3) ** 0.5, abs=1e-6)
    assert judged(own=0.2).limits["own"] == pytest.approx(limit)
    assert judged(own=limit).beyond == ()
    assert judged(own=limit + 1e-9).beyond == ("own",)


@pytest.mark.parametrize(
    ("attack", "like"),
    [
        *(("scored_by_input", "own"), ("swapped", "own"), ("softmax_output", "softmax_input")),
        *(("ridge", "ridge"), ("softmax_zero", "softmax_zero")),
    ],
)
def test_a_retrain_of_one_table_is_attacked_alike(attack, like):
    assert of_retrain(attack, TIED[0]) == TIED[0][like]
    assert of_retrain(attack, {**TIED[0], attack: 0.7}) == 0.7


def test_original_is_there_where_a_table_gives_about_its_hit():
    """From the Retrains' .22 to Original's .60, nine tenths of the way is .562."""
    assert judged(scored_by_input=0.57).holds_original
    assert not judged(scored_by_input=0.55).holds_original
    assert not judged(ridge=0.6).holds_original, "a fitted table is no table of the file"
    assert not judged(original=None, scored_by_input=0.6).holds_original
    assert not judged(original=0.22, own=0.22).holds_original, "a Retrain's file gives as much"


def test_few_retrains_or_no_attack_judge_nothing():
    assert judge_file({"own": 0.5}, TIED[:2], 0.6, 0.05) is None
    assert judge_file({}, TIED, 0.6, 0.05) is None
