"""The search page: what it paints as over-unlearning, what it calls the never-seen line, and its copy button."""

import json
import re
import shutil
import subprocess
from dataclasses import replace

import pytest

from srun.judging.trials import REPORTED, TUNED, Mark, reference, stand_beside
from srun.reporting.pareto import Again, axes_of, write_report
from srun.search.goals import Goal, Objective
from srun.search.results import StudyResult, TrialResult

FORGET, REPORT, UTILITY = TUNED, REPORTED, "validation/ndcg_10"
LEVEL = 0.30  # of never-seen events; the Retrains lie below it
BLIND = "hits alone cannot tell"
RETRAINS = (0.20, 0.21, 0.22)
NO_CLIPBOARD, REFUSED, ALLOWED = (
    "{}",
    "{clipboard: {writeText: async () => { throw 1; }}}",
    ("{clipboard: {writeText: async () => {}}}"),
)


def mark(method, hit, seed=0, trial=None):
    return Mark(method, seed, trial, {FORGET: hit, REPORT: hit, UTILITY: 0.1, "test/ndcg_10": 0.1})


def study(kind="interactions"):
    about = {
        "cell": {"request": "r", "original": "sasrec-0", "method": "sruga", "seed": 0},
        "model": "sasrec",
        "dataset": "data",
        "level": {FORGET: LEVEL},
        "request": {"request": {"kind": kind}},
        "space": {},
        "settings": {},
    }
    goal = Goal((Objective(UTILITY, "maximize", 0.0), Objective(FORGET, "minimize", 0.5)), ())
    points = [(0.10, 0.25), (0.12, 0.35), (0.08, 0.05)]
    trials = [
        TrialResult(
            number, "complete", number == 0, {}, point, figures=dict(zip((UTILITY, FORGET), point, strict=True))
        )
        for number, point in enumerate(points)
    ]
    return StudyResult("s", about, goal, tuple(trials), "")


def written(folder, marks, kind="interactions"):
    """The page's text, and what its script draws."""
    folder.mkdir()
    result = study(kind)
    beside = stand_beside(result.about["level"], kind, marks, axes_of(result)[0])
    write_report(folder, result, [{}, {}], beside, Again(None, [], {0: "0.yaml", 1: "1.yaml", 2: "2.yaml"}))
    page = (folder / "index.html").read_text()
    found = re.search(r'id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return page, json.loads(found.group(1))


ORIGINAL = mark("original", 0.6)


def three():
    return [mark("retrain", hit, seed) for seed, hit in enumerate(RETRAINS)]


def test_retrains_below_the_never_seen_line_are_not_painted_as_over_unlearning(tmp_path):
    page, data = written(tmp_path / "s", [ORIGINAL, *three()])
    low, high = data["interval"]
    assert max(RETRAINS) < LEVEL
    assert low < min(RETRAINS)
    assert high > max(RETRAINS)
    assert data["level"] == LEVEL
    assert data["line_name"] == "never-seen events"
    # the one place that is painted so: from the left edge to the low end of Retrain's interval
    assert page.count("data.over_name") == 1
    assert data["over_name"] == "over-unlearning"
    assert "over-unlearning" not in page.replace(json.dumps(data)[1:-1], "").replace(
        '"over_name": "over-unlearning"', ""
    )


@pytest.mark.parametrize("number", [0, 1, 2])
def test_with_too_few_retrains_the_line_is_a_stand_in_and_nothing_is_painted(tmp_path, number):
    page, data = written(tmp_path / "s", [ORIGINAL, *three()[:number]])
    assert data["interval"] is None
    assert data["line_name"] == "stand-in for Retrain: never-seen events"
    assert f"not judged: {f'{number} of 3 Retrains' if number else 'no Retrain'}" in page


def row_of(page, name):
    found = re.search(rf'<tr><th scope="row">{name}</th>(.*?)</tr>', page)
    assert found is not None
    return re.findall(r"<td>(.*?)</td>", found.group(1))[-1].replace("&#39;", "'")


@pytest.mark.parametrize(
    ("original", "note", "said"),
    [
        (0.6, "", "within Retrain's interval"),
        (0.21, "hits alone cannot tell: Original passes too, ", "hits alone cannot tell: Original passes too"),
        (
            None,
            "hits alone cannot tell: Original was not evaluated, ",
            "hits alone cannot tell: Original was not evaluated",
        ),
    ],
)
def test_reported_rows_say_what_their_hits_say_beside_retrain(tmp_path, original, note, said):
    marks = [*([] if original is None else [mark("original", original)]), *three()]
    marks += [mark("sruga", 0.21, 0, trial=1), mark("sruga", 0.01, 0, trial=2)]
    page, _ = written(tmp_path / "s", marks)
    assert row_of(page, "Trial 1, applied") == f"{said} (provisional, 3 Retrains)"
    assert row_of(page, "Trial 2, applied") == "over-unlearning (provisional, 3 Retrains)"
    assert row_of(page, "Retrain 1") == "the reference"
    assert f"Hits beside Retrain's: {note}provisional, 3 Retrains.</p></div>" in page


def test_an_applied_trial_is_no_retrain_and_no_original():
    marks = [ORIGINAL, *three()[:2], mark("retrain", 0.2, 5, trial=3)]
    assert reference({FORGET: LEVEL}, "interactions", marks, FORGET).interval is None


def test_a_category_has_no_such_reference(tmp_path):
    _, data = written(tmp_path / "s", [ORIGINAL, *three()], "category")
    assert (data["level"], data["interval"]) == (None, None)


def test_a_figure_that_is_no_number_does_not_keep_the_page_from_being_written(tmp_path):
    """It once ended in a ValueError, of a category whose report half has no targets."""
    nothing = float("nan")
    trial = replace(
        study("category").trials[1], figures={UTILITY: 0.12, FORGET: 0.35, "in_category_tune/hit_10": nothing}
    )
    result = replace(study("category"), trials=(study("category").trials[0], trial))
    marks = [mark("original", nothing), mark("sisa", 0.3), mark("sruga", nothing, trial=1)]
    beside = stand_beside({FORGET: nothing}, "interactions", marks, FORGET)
    folder = tmp_path / "s"
    folder.mkdir()
    write_report(folder, result, [{}, {}], beside, Again(None, [], {0: "0.yaml", 1: "1.yaml"}))
    page = (folder / "index.html").read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL).group(1))
    assert data["level"] is None
    assert [other["name"] for other in data["marks"]] == ["SISA 0"], "a row without the figure has no place"
    assert data["points"][1]["figures"]["in_category_tune/hit_10"] is None
    assert "nan" not in page


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node, to run the page's script")
@pytest.mark.parametrize(
    ("navigator", "text", "selected"),
    [
        (ALLOWED, "copied", ""),
        (REFUSED, "not copied: the command is selected, copy it with Ctrl+C or Cmd+C", "pre"),
        (NO_CLIPBOARD, "not copied: the command is selected, copy it with Ctrl+C or Cmd+C", "pre"),
    ],
    ids=["allowed", "refused", "no clipboard"],
)
def test_the_button_says_copied_only_when_it_was(tmp_path, navigator, text, selected):
    page, _ = written(tmp_path / "s", [])
    found = re.search(r"^const copy = async .*?^};$", page, re.DOTALL | re.MULTILINE)
    assert found is not None
    script = f"""
const navigator = {navigator};
let selected = "";
const getSelection = () => ({{selectAllChildren: (node) => {{ selected = node; }}}});
{found.group(0)}
const button = {{textContent: "copy"}};
copy(button, "pre", "srun").then(() => console.log(JSON.stringify([button.textContent, selected])));
"""
    # in a function of its own: node has a navigator that cannot be assigned
    out = subprocess.run(
        ["node", "-e", f"(() => {{{script}}})()"], capture_output=True, text=True, check=True, timeout=60
    )
    assert json.loads(out.stdout) == [text, selected]
