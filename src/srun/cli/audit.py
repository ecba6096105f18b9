"""The command that puts one published model through every test."""

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import click

from srun.cli.options import Common, budget_option, flow_options, read_budget
from srun.cli.printing import show

if TYPE_CHECKING:
    from srun.judging.audit import Audit, Figure

WIDTH, MAX_LINES = 80, 20
KEY = 30
"""Letters of the longest label."""
COLUMNS = {
    **{"value": ("value", 7), "low": ("low", 7), "high": ("high", 7)},
    **{"retrain": ("Retrain", 8), "retrain_low": ("from", 7), "retrain_high": ("to", 7), "original": ("Orig.", 7)},
}
"""Field of a figure -> heading and width."""
SHOWN = (
    *("test/ndcg_10", "forget_report/hit_10", "by_event/event_corr", "by_event/memory_left"),
    *("membership/lira_auc", "membership/rmia_auc", "membership/lists_auc"),
    *("contexts/subsequences_hit_10", "contexts/substituted_hit_10", "contexts/other_users_hit_10"),
    *("side_effects/worst_users_z_rank", "way_back/distance_ratio", "way_back/barrier"),
)
"""Figures of the text; the JSON has all. The attack on the file that has most back comes after the fourth."""


@click.command()
@click.argument("model", type=click.Path(path_type=Path, exists=True, file_okay=False))
@budget_option
@flow_options
def audit(model: Path, budget: float | None, common: Common) -> None:
    """Say whether anybody can still tell that forgotten events were in MODEL, the published folder of a cell.

    References are the Original and the Retrains of the same request that are evaluated. Every figure goes into
    reports/audit/CELL.json and CELL.html; here stand the verdict, the main figures and what was not tested.

    \b
    Example:
      srun audit models/sasrec-0/core/sruga-0
    """
    from srun.flow.audit import as_json
    from srun.flow.stages import audit_model

    result = audit_model(common.project(), model, read_budget(budget))
    if common.as_json:
        show(as_json(result), True, print)
    else:
        show(result, False, print_audit)


def print_audit(audit: "Audit") -> None:
    """At most 20 lines of at most 80 letters: the verdict first."""
    verdict = audit.verdict
    said = verdict.text + (f" ({verdict.provisional})" if verdict.provisional else "")
    lines = textwrap.wrap(said, WIDTH, max_lines=3, placeholder=" ... (see --json)")
    references = f"Originals {audit.num_originals}, Retrains {audit.num_retrains}"
    lines.append(_cut(f"{audit.cell}: {audit.num_events} events of {audit.num_users} users; {references}"))
    lines.append(" " * KEY + "".join(f"{name:>{width}}" for name, width in COLUMNS.values()))
    untested = _untested(audit)
    rows = [_row(key, audit.figures[key]) for key in _shown(audit) if key in audit.figures]
    lines += rows[: MAX_LINES - len(lines) - len(untested)]
    click.echo("\n".join([*lines, *untested]))


def _shown(audit: "Audit") -> list[str]:
    """Keys of the figures that stand in the text, in their order."""
    attacks = [key for key in audit.figures if key.startswith("recovered/")]
    worst = max(attacks, key=lambda key: _beyond(audit.figures[key]), default="")
    return [*SHOWN[:4], worst, *SHOWN[4:]]


def _beyond(figure: "Figure") -> float:
    return figure.value - (figure.retrain_high if figure.retrain_high is not None else 0.0)


def _row(key: str, figure: "Figure") -> str:
    cells = [(getattr(figure, name), width) for name, (_, width) in COLUMNS.items()]
    label = key.removesuffix("_hit_10").removesuffix("_z_rank")
    return f"{label:{KEY}}" + "".join(f"{_number(value):>{width}}" for value, width in cells)


def _number(value: float | None) -> str:
    """Three decimals, or three digits of what has more than one before its point."""
    if value is None:
        return ""
    return f"{value:.3g}" if abs(value) >= 10 else f"{value:.3f}"


def _untested(audit: "Audit") -> list[str]:
    """What was not tested, in at most three lines; the commands stand in the JSON."""
    names = ", ".join(f"{one.name} ({one.why})" for one in audit.not_tested)
    return textwrap.wrap(f"not tested: {names}", WIDTH, max_lines=3, placeholder=" ... (see --json)")


def _cut(text: str) -> str:
    return textwrap.shorten(text, WIDTH, placeholder=" ...")
