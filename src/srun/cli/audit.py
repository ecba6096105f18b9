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
    reports/audit/CELL.json; here stand the verdict, the main figures and what was not tested.

    \b
    Example:
      srun audit models/sasrec-0/interactions/sruga-0
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
    lines = textwrap.wrap(said, WIDTH, max_lines=2, placeholder=" ...")
    references = f"{audit.num_originals} Originals, {audit.num_retrains} Retrains"
    lines.append(_cut(f"{audit.cell}: {audit.num_events} events of {audit.num_users} users; {references}"))
    lines.append(f"{'':34}{'value':>8}{'low':>7}{'high':>7}{'Retrain':>8}{'limit':>8}{'Orig.':>8}")
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
    cells = (figure.value, figure.low, figure.high, figure.retrain, figure.retrain_high, figure.original)
    widths = (8, 7, 7, 8, 8, 8)
    numbers = ("" if cell is None else f"{cell:#.3g}" if abs(cell) >= 10 else f"{cell:.3f}" for cell in cells)
    return f"{key:34}" + "".join(f"{number:>{width}}" for number, width in zip(numbers, widths, strict=True))


def _untested(audit: "Audit") -> list[str]:
    """What was not tested, in two lines; the commands stand in the JSON."""
    names = ", ".join(f"{one.name} ({one.why})" for one in audit.not_tested)
    return textwrap.wrap(f"not tested: {names}", WIDTH, max_lines=3, placeholder=" ... (see --json)")


def _cut(text: str) -> str:
    return textwrap.shorten(text, WIDTH, placeholder=" ...")
