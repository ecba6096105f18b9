"""What the attribution paper's tables compute, by hand: removal against the Original of the same start."""

from collections.abc import Callable

import pytest

from srun.judging.records import Group, Record
from srun.papers.attribution.findings import OUR_PROTOCOL, edits_by_protocol, gather, removal_rates, removed


@pytest.fixture
def row(record: Callable[..., Record]) -> Callable[..., Record]:
    def make(method: str, seed: int, hit: float, request: str = "action") -> Record:
        metrics = {"in_category": {"hit_10": hit}}
        about = {"original": f"bert4rec-{seed}", "request": request, "kind": "category"}
        return record(method, seed, metrics=metrics, **about)

    return make


@pytest.fixture
def group(row: Callable[..., Record]) -> Group:
    originals = row("original", 0, 0.5), row("original", 1, 0.8)
    return Group("bert4rec", "action", (*originals, row("attribution", 0, 0.25), row("attribution", 1, 0.6)))


def test_a_rate_is_of_the_original_that_the_row_starts_from(group: Group) -> None:
    assert removal_rates(group, "attribution", "in_category", "hit_10") == pytest.approx([0.5, 0.25])
    assert removal_rates(group, "attribution", "in_category", "mrr") == [None, None]


def test_nothing_can_be_removed_where_nothing_was() -> None:
    assert removed(0.0, 0.0) is None
    assert removed(None, 0.1) is None
    assert removed(0.4, 0.0) == 1


def test_edits_by_protocol_are_of_seed_0_and_of_the_request(group: Group, row: Callable[..., Record]) -> None:
    short = [row("original", 0, 0.4), row("attribution", 0, 0.1)]
    drama = [row(method, 0, 0.9, "drama") for method in ("original", "attribution")]
    findings = gather([], [], {}, {"epochs_5": [*short, *drama], "half": short[:1]})
    hits = {
        protocol: [edit.value("in_category", "hit_10") for edit in (before, after)]
        for protocol, before, after in edits_by_protocol(findings, group)
    }
    assert hits == {OUR_PROTOCOL: [0.5, 0.25], "epochs_5": [0.4, 0.1]}
