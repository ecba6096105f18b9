"""Every figure that the paper's tables, pictures and results.csv show beyond the records' own, computed once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from srun.judging.records import Group, Record, relearning_figures
from srun.judging.styles import model_name, style
from srun.papers.attribution.category import CategoryFigures, Figures

OUR_PROTOCOL = "as in the other tables"


@dataclass(frozen=True)
class Findings:
    """What was measured, and what follows from rows beside each other."""

    groups: Sequence[Group]
    """The category requests whose Retrain is finished."""
    others: Sequence[Record]
    """Further recommenders, which no request was carried out on."""
    categories: Mapping[str, CategoryFigures]
    """By request."""
    relearning: Mapping[str, Mapping[str, Figures]]
    """By request and variant of ``attribution_plus``: what its curves come to against the first Original's."""
    protocols: Mapping[str, Sequence[Record]]
    """By protocol: Originals and the paper's edits made under it, judged beside each other."""


def gather(
    groups: Sequence[Group],
    others: Sequence[Record],
    categories: Mapping[str, CategoryFigures],
    protocols: Mapping[str, Sequence[Record]],
) -> Findings:
    """All findings; an experiment is of the first Original, so its relearning is held against that one's."""
    relearning = {
        group.request: {
            variant: relearning_figures(curves, group.of("original")[:1], group.retrains)
            for variant, curves in categories[group.request].relearning.items()
        }
        for group in groups
    }
    return Findings(groups, others, categories, relearning, protocols)


def without_raw(group: Group) -> list[str]:
    """The methods of a group without its rows of raw scores."""
    return [method for method in group.methods if style(method).role != "raw"]


def compared(group: Group, others: Sequence[Record]) -> list[tuple[str, list[Record]]]:
    """The rows of Figures 3 and 4 by name: methods, of every seed, and the further recommenders."""
    methods = [method for method in ("original", "retrain", "attribution", "attribution_plus") if group.of(method)]
    rows = [(style(method).name, group.of(method)) for method in methods]
    return [*rows, *((model_name(record.model), [record]) for record in others if record.request == group.request)]


def figures_of(records: Sequence[Record], split: str, metric: str) -> list[float | None]:
    """A figure of every record; None where it was not measured."""
    return [record.value(split, metric) for record in records]


def removal_rates(group: Group, method: str, split: str, metric: str) -> list[float | None]:
    """1 - a figure / that of the Original that the row starts from, by seed."""
    before = {record.original: record.value(split, metric) for record in group.of("original")}
    return [removed(before.get(record.original), record.value(split, metric)) for record in group.of(method)]


def removed(before: float | None, after: float | None) -> float | None:
    """1 - after / before; None where either was not measured, or nothing was there."""
    return 1 - after / before if before and after is not None else None


def edits_by_protocol(findings: Findings, group: Group) -> Iterator[tuple[str, Record, Record]]:
    """(protocol, Original, the paper's edit of it) of a group's request, seed 0; that of the other tables first."""
    for protocol, records in {OUR_PROTOCOL: group.records, **findings.protocols}.items():
        by_method = {row.method: row for row in records if row.request == group.request and row.seed == 0}
        if {"original", "attribution"} <= by_method.keys():
            yield protocol, by_method["original"], by_method["attribution"]
