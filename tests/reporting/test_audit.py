"""The page of an audit shows every figure, what was not tested with its command, and escapes what it quotes."""

from srun.reporting.audit import render

FIGURE = {
    **{"value": 0.123456, "low": None, "high": 0.2, "retrain": 0.1},
    **{"retrain_low": None, "retrain_high": 0.15, "original": None},
}
AUDIT = {
    "model": "models/sasrec-0/r/sruga-0",
    "cell": "sasrec-<b>",
    "method": "sruga",
    "request": "r",
    "num_users": 3,
    "num_events": 7,
    "num_retrains": 4,
    "num_originals": 1,
    "verdict": {
        "text": "fails: Original is in the file",
        "provisional": "provisional, 4 Retrains",
        "parts": [{"name": "hits", "word": "passes", "how": ""}, {"name": "file", "word": "fails", "how": "this"}],
    },
    "tests": "A verdict joins two tests.",
    "figures": {"membership/lira_auc": FIGURE, "way_back/barrier": {**FIGURE, "value": 1234.5}},
    "not_tested": [
        {"name": "klom", "why": "too few", "run": ""},
        {"name": "relearning", "why": "not yet", "run": "srun run"},
    ],
}


def test_everything_is_on_the_page() -> None:
    page = render(AUDIT)
    assert "<h1>fails: Original is in the file</h1>" in page
    assert "<b>file</b> fails: this" in page
    assert "<h2>membership</h2>" in page
    cells = "".join(f"<td>{cell}</td>" for cell in ("lira_auc", "0.1235", "", "0.2", "0.1", "", "0.15", ""))
    assert f"<tr>{cells}</tr>" in page
    assert "<b>relearning</b>: not yet. Run <code>srun run</code>" in page
    assert "<b>klom</b>: too few</li>" in page
    assert "provisional, 4 Retrains" in page


def test_names_are_text() -> None:
    assert "sasrec-&lt;b&gt;" in render(AUDIT)
