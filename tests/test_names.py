"""Names that become paths: one rule for all of them."""

import pytest

from srun.names import name_fault


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "a\\b",
        "/etc",
        "~",
        "-x",
        ".x",
        "a..b",
        "a b",
        "a\nb",
        "a\0b",
        "ä",
        "a\u2028",
        "x" * 101,
    ],
)
@pytest.mark.parametrize("what", ["request", "original", "cell", "data set", "study"])
def test_a_name_that_leads_elsewhere_is_refused(name, what):
    assert "expected" in name_fault(name, what)


@pytest.mark.parametrize("name", ["a", "0", "sasrec-0", "ml-1m_v2.1", "x" * 100])
def test_a_plain_name_is_fine(name):
    assert not name_fault(name, "request")


def test_names_of_srun_s_own_folders_are_refused_where_they_would_meet():
    assert "its own" in name_fault("original", "request")
    assert "its own" in name_fault("resume", "original")
    assert not name_fault("original", "cell")


def test_data_sets_are_lower_case():
    assert "lower-case" in name_fault("Shop", "data set")
    assert not name_fault("Shop", "request")
