"""results.csv of the attribution paper, in long form; controls, variants and protocols are further methods."""

import math
from collections.abc import Iterator

from srun.judging.records import Group
from srun.judging.results import Row, long_form, rows_of, to_csv
from srun.papers.attribution.findings import Findings

SPLITS = {"removal_rate_10": "in_category", "linear_probe_auc": "all_targets", "seconds": "cost"}
"""Where a figure of a variant belongs; all others are out of the category."""


def results_csv(findings: Findings) -> str:
    """The text of results.csv; figures without a value are left out."""
    rows = long_form(findings.groups)
    rows += [row for record in findings.others for row in rows_of(record)]
    for group in findings.groups:
        rows += [*_controls(group, findings), *_variants(group, findings)]
    for protocol, records in findings.protocols.items():
        rows += [row for record in records for row in rows_of(record, f"{record.method}: {protocol}")]
    return to_csv([row for row in rows if math.isfinite(row.value)])


def _controls(group: Group, findings: Findings) -> Iterator[Row]:
    """The controls' means, such as ``random_neurons_equal_loss``."""
    for name, figures in findings.categories[group.request].controls.items():
        if name == "attribution":
            continue
        method = name.replace(", ", "_neurons_").replace(" ", "_")
        for metric, value in figures.items():
            split = "out_of_category" if metric == "hit_10_kept" else "in_category"
            yield from rows_of(group.first, method, {split: {metric: value}})


def _variants(group: Group, findings: Findings) -> Iterator[Row]:
    """The variants, such as ``attribution_plus: without items``."""
    for name, figures in findings.categories[group.request].ablation.items():
        method = f"attribution_plus: {name}"
        yield from rows_of(group.first, method, {"relearning": findings.relearning[group.request][name]})
        for metric, value in figures.items():
            yield from rows_of(group.first, method, {SPLITS.get(metric, "out_of_category"): {metric: value}})
