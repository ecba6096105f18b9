"""Digests of code: a comment changes nothing, a change that computes changes just what depends on it."""

from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import pytest

from srun.errors import RunError
from srun.flow.code import SOURCE, closure, code_digests
from srun.flow.digests import stage_code
from srun.flow.params import load
from srun.models import MODELS
from srun.models.sasrec import SASRec
from srun.unlearning import UNLEARNERS
from srun.unlearning.references.retrain import Retrain
from srun.unlearning.sruga.method import SRUGA

ROOT = Path(__file__).parents[2]
Digests = dict[str, dict[str, str]]
ROOTS = {
    "prepare": ("srun.flow.prepare",),
    "partition": ("srun.flow.partition",),
    "train sasrec": ("srun.flow.train", "srun.models.sasrec"),
    "train gru4rec": ("srun.flow.train", "srun.models.gru4rec"),
    "retrain": ("srun.flow.unlearn", "srun.models.sasrec", "srun.unlearning.references.retrain"),
    "sruga": ("srun.flow.unlearn", "srun.models.sasrec", "srun.unlearning.sruga.method"),
    "evaluate": ("srun.flow.evaluate", "srun.models.sasrec"),
    "audit": ("srun.flow.audit", "srun.models.sasrec"),
    "judge": ("srun.flow.judge",),
    "report": ("srun.flow.report",),
}
MODELLING = {"train sasrec", "retrain", "sruga", "evaluate", "audit"}
CHANGES = {
    "unlearning/sruga/method.py": {"sruga"},
    "unlearning/sruga/ascent.py": {"sruga"},
    "models/sasrec.py": MODELLING,
    "models/gru4rec.py": {"train gru4rec"},
    "training/losses.py": MODELLING | {"train gru4rec", "judge", "report"},
    "evaluation/relearning.py": {"evaluate", "audit"},
    "evaluation/evaluate.py": {"evaluate", "audit"},
    "evaluation/side_effects.py": {"audit"},
    "evaluation/probe.py": {"train sasrec", "train gru4rec", "retrain", "sruga"},
    "evaluation/ranking.py": MODELLING | {"train gru4rec"},  # validation ranks too
    "data/formats/delimited.py": {"partition"},
    "requests/rows.py": set(ROOTS) - {"prepare"},
    "rng.py": set(ROOTS),
    "reporting/summary.py": {"report"},
    "reporting/page.html": {"report"},
    "reporting/audit.html": {"audit"},
    "tracking/__init__.py": set(),
    "tracking/runs.py": set(),
    "progress.py": set(),
    "cli/app.py": set(),
}


@pytest.fixture
def digests(tmp_path: Path) -> Callable[[], Digests]:
    """The digests of a copy of the package, which a test may change."""
    copytree(SOURCE / "srun", tmp_path / "srun", ignore=lambda folder, names: {"__pycache__", "project"} & set(names))

    def digests() -> Digests:
        return {name: code_digests(*roots, source=tmp_path) for name, roots in ROOTS.items()}

    return digests


def edit(file: Path, change: Callable[[str], str]) -> None:
    before = file.read_text(encoding="utf-8")
    file.write_text(change(before), encoding="utf-8")
    assert file.read_text(encoding="utf-8") != before


def changed(before: Digests, after: Digests) -> set[str]:
    return {name for name in before if before[name] != after[name]}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_code_is_seen_by_what_depends_on_it_alone(digests, tmp_path: Path, name: str) -> None:
    before = digests()
    edit(tmp_path / "srun" / name, lambda text: f"{text}\nCHANGED = 1\n")
    after = digests()
    assert changed(before, after) == CHANGES[name]
    module = f"srun/{name}" if name.endswith(".html") else f"srun/{name}".removesuffix(".py").replace("/", ".")
    assert {key for root in after for key in after[root] if after[root][key] != before[root].get(key)} <= {module}


def test_a_loss_a_hundred_times_as_large_is_seen(digests, tmp_path: Path) -> None:
    before = digests()
    edit(
        tmp_path / "srun/training/fit.py",
        lambda text: text.replace("loss.mean().backward()", "(100 * loss.mean()).backward()"),
    )
    assert {"train sasrec", "retrain"} <= changed(before, digests())


def test_comments_docstrings_and_blank_lines_are_not_code(digests, tmp_path: Path) -> None:
    before = digests()
    file = tmp_path / "srun/training/losses.py"
    edit(
        file,
        lambda text: "# élan, «quoted»\n" + text.replace('"""', '"""Ünlike before: ', 1).replace("\n\n\n", "\n\n\n\n"),
    )
    edit(file, lambda text: text.replace("    return ", "    # why\n    return ", 1))
    assert changed(before, digests()) == set()


def test_texts_that_are_values_are_code(digests, tmp_path: Path) -> None:
    before = digests()
    edit(
        tmp_path / "srun/requests/rows.py",
        lambda text: text.replace('"held out for test"', '"held out for test # now"'),
    )
    assert "partition" in changed(before, digests())


def test_an_import_inside_a_function_counts_and_one_for_type_checkers_does_not(digests, tmp_path: Path) -> None:
    before = digests()
    (tmp_path / "srun/data/new.py").write_text("ANSWER = 1\n")
    late = "\n\ndef late() -> None:\n    from srun.data import new\n\n    print(new)\n"
    edit(tmp_path / "srun/unlearning/sruga/method.py", lambda text: text + late)
    digests()
    assert "srun.data.new" in closure(ROOTS["sruga"], tmp_path)
    edit(tmp_path / "srun/unlearning/sruga/method.py", lambda text: text.removesuffix(late))
    for_types = "\n\nif TYPE_CHECKING:\n    from srun.data import new\n"
    edit(tmp_path / "srun/unlearning/sruga/method.py", lambda text: text + for_types)
    digests()
    assert "srun.data.new" not in closure(ROOTS["sruga"], tmp_path)
    assert changed(before, digests()) == {"sruga"}, "the lines of the import are code all the same"


def test_every_module_that_computes_is_code_of_some_stage() -> None:
    roots = [
        f"srun.flow.{stage}"
        for stage in (
            *("prepare", "partition", "train", "crossfit", "draw", "unlearn", "evaluate", "judge", "report", "audit"),
        )
    ]
    roots += [MODELS[name].__module__ for name in MODELS] + [UNLEARNERS[name].__module__ for name in UNLEARNERS]
    covered = closure(roots)
    apart = {"srun.data.sources", "srun.data.synthetic"}  # fetching, which verifies what it wrote; made for benchmarks
    apart |= {
        "srun.evaluation.explanation",
        "srun.papers.neuron_controls",
        "srun.evaluation.dose",
        "srun.metrics.removal",
        "srun.unlearning.closed_form.prepared",  # of benchmarks/unlearning.py
        "srun.metrics.klom",  # of `srun audit --ensemble`, which is no stage
    }
    for folder in ("data", "models", "metrics", "training", "unlearning", "evaluation"):
        for file in (SOURCE / "srun" / folder).rglob("[a-z]*.py"):
            name = ".".join(file.relative_to(SOURCE).with_suffix("").parts)
            assert name in covered | apart, f"{name}: no stage depends on it"


@pytest.mark.parametrize(
    ("entry", "name"), [(SRUGA, "title"), (SRUGA, "about"), (SRUGA, "colour"), (Retrain, "title"), (SASRec, "title")]
)
def test_how_an_entry_is_shown_is_read_by_judge_report_and_audits_alone(
    monkeypatch: pytest.MonkeyPatch, entry: type, name: str
) -> None:
    params = load(ROOT / "params.yaml")
    before = stage_code(params)
    monkeypatch.setattr(entry, name, "something else")
    audits = {f"audit/{name}" for name in params.audits}  # their pages name methods
    assert changed(before, stage_code(params)) == {"judge", "report", *audits}


def test_a_module_that_is_not_there_is_told() -> None:
    with pytest.raises(RunError, match=r"no module srun\.flow\.nothing"):
        code_digests("srun.flow.nothing")
