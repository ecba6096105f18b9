"""How methods and models are shown, registered or not; who shows or judges them names none of them."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import srun
from srun.judging.styles import MASKS, ORIGINAL, REFERENCE, method_order, model_name, style
from srun.models import MODELS
from srun.unlearning import UNLEARNERS


def test_a_registered_method_is_shown_as_its_class_says() -> None:
    shown, method = style("output_mask"), UNLEARNERS["output_mask"]
    assert (shown.name, shown.role, shown.colour, shown.marker, shown.about) == (
        *(method.title, method.role, method.colour),
        *(method.marker, method.about),
    )


def test_a_method_that_is_not_registered_is_shown_under_its_own_name() -> None:
    shown = style("some_older_method")
    assert (shown.name, shown.role, shown.about) == ("some older method", "method", "")
    assert shown == style("some_older_method")
    assert model_name("older") == "older"
    assert model_name("sasrec") == MODELS["sasrec"].title == "SASRec"


def test_raw_scores_are_derived() -> None:
    assert style("untrained_raw").name == "Retrain, raw scores"
    assert style("sisa_untrained_raw").name == "SISA, raw scores"
    assert style("sisa_untrained_raw").role == style("untrained_raw").role == "raw"


def test_tables_follow_the_list() -> None:
    names = ["zebra", "untrained_raw", *reversed(list(UNLEARNERS)), "aardvark"]
    assert sorted(names, key=method_order) == [*UNLEARNERS, "untrained_raw", "aardvark", "zebra"]


def test_original_and_reference_are_found_by_their_roles() -> None:
    assert (ORIGINAL, REFERENCE) == ("original", "retrain")
    assert MASKS == ("output_mask",)


SOURCE = Path(srun.__file__).parent
ROOMS = ("judging", "reporting", "flow")
ALLOWED = {
    ("flow/oracle.py", "original"): "a role of an oracle's member",
    ("flow/oracle.py", "retrain"): "the same",
    ("flow/ensemble.py", "retrain"): "the same",
    ("flow/audit.py", "original"): "the same",
    ("flow/layout.py", "original"): "the folder of an Original",
    ("flow/params.py", "original"): "what an entry of `originals` is called in messages",
    ("reporting/audit.py", "original"): "a key of a figure: what Original has",
    ("reporting/audit.py", "retrain"): "a key of a figure: what the Retrains have",
    ("reporting/pareto.py", "original"): "a selector of the command that is shown",
}
"""Texts that are the name of a method, too."""


def named(tree: ast.AST) -> Iterator[str]:
    """Texts of a module that could name a method or a model; keys of a mapping and roles do not."""
    other: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript):
            other.add(id(node.slice))
        elif isinstance(node, ast.Dict):
            other |= {id(key) for key in node.keys}
        elif isinstance(node, ast.Compare) and ast.unparse(node.left).rpartition(".")[2] == "role":
            other |= {id(part) for value in node.comparators for part in ast.walk(value)}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "_of_role":
            other |= {id(argument) for argument in node.args}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in other:
            yield node.value


def named_methods(text: str) -> set[str]:
    return {name for name in named(ast.parse(text)) if name in UNLEARNERS or name in MODELS}


def test_no_method_or_model_is_named_where_they_are_judged_and_shown() -> None:
    files = [file for room in ROOMS for file in sorted((SOURCE / room).rglob("*.py"))]
    met = {
        (str(file.relative_to(SOURCE)), name)
        for file in files
        for name in named_methods(file.read_text(encoding="utf-8"))
    }
    assert met - ALLOWED.keys() == set(), "use ORIGINAL, REFERENCE, MASKS or a role of judging/styles.py"
    assert ALLOWED.keys() - met == set(), "no longer there"


def test_no_template_of_a_page_names_a_method_or_model() -> None:
    names = "|".join([*UNLEARNERS, *MODELS])
    for file in SOURCE.glob("reporting/*.html"):
        assert not re.search(f"[\"']({names})[\"']", file.read_text(encoding="utf-8")), file


def test_a_name_in_code_is_found() -> None:
    assert named_methods('own = group.of("retrain")') == {"retrain"}
    assert named_methods('for name in (method, "original"): style(name)') == {"original"}
    assert named_methods('if look.role in ("original", "control"): cell["original"]') == set()
