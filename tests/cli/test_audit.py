"""What `srun audit` prints: few lines, narrow ones, the verdict first, whatever the figures are."""

import pytest

from srun.cli.audit import EXIT_CODES, KEY, SHOWN, exit_code, print_audit
from srun.judging.audit import Audit, Figure, NotTested
from srun.judging.verdict import WORDS, Verdict

VERDICT = Verdict("fails", "Original is in the file, single events are remembered", num_retrains=3)
ATTACKS = {
    "recovered/own_hit_10": Figure(0.3, retrain_high=0.25),
    "recovered/scored_by_input_hit_10": Figure(0.35, retrain_high=0.1),
}


def made(verdict=VERDICT, not_tested=(), figures=None) -> Audit:
    shown = {key: Figure(123.456, -0.5, 0.5, 0.25, None, 12.3456, 0.1) for key in SHOWN} | ATTACKS
    return Audit(
        model="models/sasrec-0/interactions/sruga-0",
        weights_sha256="0" * 64,
        cell="sasrec-sruga-0",
        method="sruga",
        request="interactions",
        num_users=1234,
        num_events=12345,
        num_retrains=3,
        num_originals=2,
        verdict=verdict,
        plain="",
        answers=(),
        tests="",
        error_rate=0.05,
        num_tests=8,
        seeds={},
        relearning={},
        figures=shown if figures is None else figures,
        not_tested=tuple(not_tested),
    )


def printed(audit: Audit, capsys: pytest.CaptureFixture[str]) -> list[str]:
    print_audit(audit)
    return capsys.readouterr().out.splitlines()


def test_the_verdict_comes_first_and_every_line_fits(capsys):
    lines = printed(made(), capsys)
    assert lines[0] == "fails: Original is in the file, single events are remembered (provisional, 3"
    assert len(lines) <= 20
    assert max(map(len, lines)) <= 80
    assert lines[3].split() == ["value", "low", "high", "Retrain", "from", "to", "Orig."]
    [hit] = [line for line in lines if line.startswith("forget_report/hit_10")]
    assert hit[KEY:].split() == ["123", "-0.500", "0.500", "0.250", "12.3", "0.100"]


def test_of_the_attacks_on_the_file_the_one_with_most_back_is_shown(capsys):
    assert [line.split()[0] for line in printed(made(), capsys) if line.startswith("recovered")] == [
        "recovered/scored_by_input"
    ]


def test_long_texts_are_cut_and_say_where_the_rest_stands(capsys):
    verdict = Verdict("cannot tell", "because of this and that, " * 30, num_retrains=9)
    not_tested = [NotTested(f"test-{number}", "for a reason that is long", "srun run") for number in range(20)]
    lines = printed(made(verdict, not_tested), capsys)
    assert len(lines) == 20
    assert max(map(len, lines)) <= 80
    assert lines[2].endswith("... (see --json)")
    assert lines[-1].endswith("... (see --json)")
    assert lines[-3].startswith("not tested: test-0 (")


def test_what_was_not_measured_has_no_line(capsys):
    lines = printed(made(figures={"test/ndcg_10": Figure(0.1)}), capsys)
    assert len([line for line in lines if "/" in line]) == 1


def test_every_verdict_has_an_exit_code_of_its_own_and_only_a_pass_is_0():
    assert set(EXIT_CODES) == set(WORDS)
    assert {exit_code({"verdict": {"word": word}}) for word in WORDS} == {0, 3, 4, 5}
    assert exit_code({"verdict": {"word": "passes"}}) == 0
