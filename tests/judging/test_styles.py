"""How methods and models are shown, registered or not."""

from srun.judging.styles import ORIGINAL, REFERENCE, method_order, model_name, style
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
