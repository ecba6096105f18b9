"""The page of an audit: a sentence first, six columns of answers, every figure, what was not tested; texts escaped."""

import re

import pytest

from srun.reporting.audit import render

FIGURE = {
    **{"value": 0.123456, "low": None, "high": None, "retrain": 0.1},
    **{"retrain_low": None, "retrain_high": 0.15, "original": None},
}
HIT = {**FIGURE, "value": 0.2, "low": 0.1, "high": 0.3, "retrain_low": -0.05, "retrain_high": 0.25, "original": 0.4}
AUDIT = {
    "model": "models/sasrec-0/r/sruga-0",
    "cell": "sasrec-<b>",
    "method": "sruga",
    "request": "r",
    "num_users": 3,
    "num_events": 7,
    "num_retrains": 4,
    "num_originals": 1,
    "oracle": None,
    "verdict": {
        "word": "fails",
        "text": "fails: Original is in the file",
        "qualified": "provisional, 4 Retrains",
    },
    "plain": "Not forgotten: somebody can have them back.",
    "answers": [
        {"part": "hits", "asks": "Hits?", "word": "passes", "how": "", "figure": "forget_report/hit_10"},
        {"part": "file", "asks": "File?", "word": "fails", "how": "this", "figure": "recovered/own_hit_10"},
        {"part": "events", "asks": "Events?", "word": "cannot tell", "how": "why", "figure": ""},
    ],
    "tests": "A verdict joins two tests.",
    "error_rate": 0.05,
    "num_tests": 8,
    "seeds": {"originals": {"o": 0}, "retrains": {"a": 1, "b": 2}, "audit": 5},
    "figures": {
        "forget_report/hit_10": HIT,
        "recovered/own_hit_10": FIGURE,
        "way_back/barrier": {**FIGURE, "value": 1234.5},
        "relearning/retain_valid": FIGURE,
    },
    "relearning": {
        "retain": {"valid": True, "steps": {"sruga": 3.0, "retrain": None}},
        "returned": {"valid": False, "steps": {"sruga": None, "retrain": None}},
    },
    "not_tested": [
        {"name": "klom", "why": "too few", "run": ""},
        {"name": "relearning", "why": "not yet", "run": "srun run"},
    ],
}


@pytest.fixture(scope="module")
def page() -> str:
    return render(AUDIT)


def test_the_page_begins_with_a_sentence_in_the_colour_of_the_verdict(page: str) -> None:
    assert '<h1 class="fails">Not forgotten: somebody can have them back.</h1>' in page
    assert "provisional, 4 Retrains" in page
    assert "Originals 1, Retrains 4" in page


def test_the_page_names_the_oracle_whose_references_a_model_is_held_against() -> None:
    page = render({**AUDIT, "oracle": "32 Retrains and 32 Originals of the oracle"})
    assert "report users; 32 Retrains and 32 Originals of the oracle" in page
    assert "Originals 1" not in page


def test_answers_have_six_columns_and_a_colour_a_word(page: str) -> None:
    table = page[page.index('<table class="answers">') : page.index("</table>")]
    header, *rows = table.split("<tr>")[1:]
    assert header.count("<th ") == 6
    assert [row.count("<td") for row in rows] == [6, 6, 6]
    for word, css in (("passes", "passes"), ("fails", "fails"), ("cannot tell", "cannot-tell")):
        assert f'<span class="word {css}">{word}</span>' in table
        assert f".{css} {{ color:" in page
    numbers = [re.findall(r'number">([^<]*)<', row) for row in rows]
    assert numbers[0] == ["0.2 (0.1 – 0.3)", "0.1, −0.05 – 0.25", "0.4"]
    assert numbers[1] == ["0.123", "0.1, ≤ 0.15", ""]
    assert numbers[2] == ["", "", ""]


def test_the_rest_is_folded_and_there(page: str) -> None:
    assert page.count("<details>") == 1 + 4 + 2
    assert "<details open" not in page
    cells = "".join(f"<td>{cell}</td>" for cell in ("own_hit_10", "0.123", "", "0.1", "– 0.15", ""))
    assert f"<tr>{cells}</tr>" in page
    assert "<b>relearning</b>: not yet. Run <code>srun run</code>" in page
    assert "<b>klom</b>: too few</li>" in page
    assert "<td>1,234</td>" in page
    assert "It joins 8 tests" in page
    assert "<li>retrains: a 1, b 2</li>" in page
    assert "<li>audit: 5</li>" in page
    assert "retain: steps of sruga 3, retrain &gt; cap." in page
    assert "returned: tells nothing" in page


def test_names_are_text(page: str) -> None:
    assert "sasrec-&lt;b&gt;" in page
    assert "sasrec-<b>" not in page
