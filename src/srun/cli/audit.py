"""The command that puts one published model through every test."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from srun.cli.options import Common, budget_option, flow_options, read_budget, request_option
from srun.cli.printing import show
from srun.errors import DataError

if TYPE_CHECKING:
    from srun.judging.audit import Audit, Figure
    from srun.judging.recipe import RecipeJudgement

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


EXIT_CODES: Mapping[str, int] = {"passes": 0, "fails": 3, "cannot tell": 4, "not judged": 5}
"""Of --check, by verdict; 1 is an error and 2 a mistake in the command line."""


@click.command()
@click.argument("model", required=False)
@click.option("--ensemble", metavar="PRESET", default=None, help="Judge the recipe of a preset's cells, not a model.")
@click.option("--relearning", is_flag=True, help="Train copies again too: how fast do forgotten events come back?")
@click.option(
    "--check", is_flag=True, help="Exit with 0 where the model passes, 3: fails, 4: cannot tell, 5: not judged."
)
@click.option("--where-stale", is_flag=True, help="Only where the audit that is there is of something else.")
@request_option("The request of MODEL, where no row of cells has it.")
@budget_option
@flow_options
def audit(
    model: str | None,
    ensemble: str | None,
    relearning: bool,
    check: bool,
    where_stale: bool,
    request: str | None,
    budget: float | None,
    common: Common,
) -> None:
    """Say whether anybody can still tell that forgotten events were in MODEL: a cell's name, or its published folder.

    References are the Originals and Retrains of `srun oracle`, where there is one for the same data, recipe and
    request; else those of the same request that are evaluated. Every figure goes into reports/audit/CELL.json,
    CELL.html and, by event, CELL.parquet; here stand the verdict, the main figures and what was not tested. With
    --budget relearning comes last, as far as time allows. The exit code is 0 whatever the verdict, unless --check asks
    for it.

    With --ensemble it judges a recipe, a method with its settings, by 32 runs or more beside as many Retrains: how far
    they rank single events from where Retrains do (KLoM), and the share of them that passes.

    \b
    Example:
      srun audit sasrec-sruga
      srun audit models/sasrec-0/core/sruga-0 --json --check
      srun audit --ensemble presets/by-event.yaml --out out/beauty
    """
    if ensemble is not None:
        if model is not None or relearning or check or where_stale or budget is not None:
            raise click.UsageError("--ensemble reads evaluations and tests nothing: it goes with --request only")
        _audit_recipes(replace(common, presets=(*common.presets, ensemble)), request)
        return
    if model is None:
        raise click.UsageError("give MODEL, a cell's name or its published folder, or --ensemble PRESET")
    said = _audit_model(common, request, model, relearning, where_stale, budget)
    if check:
        click.get_current_context().exit(exit_code(said))


def _audit_model(
    common: Common, request: str | None, model: str, relearning: bool, where_stale: bool, budget: float | None
) -> Mapping[str, Any]:
    """Audit a model, or read the audit that is there; prints it, and returns its JSON."""
    from srun.files import read_json
    from srun.flow.audit import as_json
    from srun.flow.stages import audit_model, audit_step, audited_cell

    project = common.project_on(request)
    name = audited_cell(project, model)
    step = audit_step(project, name)
    if where_stale and not step.stale():
        file = project.layout.audit(name)
        there: dict[str, Any] = read_json(file, DataError, f"make it again with `srun audit {name}`")
        text = f"{name}: up to date in {file}; {there['verdict']['text']}"
        show(there, common.as_json, lambda _: click.echo(text))
        return there
    whole = budget is None and not relearning
    result = step.run() if whole else audit_model(project, name, read_budget(budget), with_relearning=True)
    said = as_json(result)
    show(said, common.as_json, lambda _: print_audit(result))
    return said


def exit_code(said: Mapping[str, Any]) -> int:
    """The exit code of --check, from an audit's JSON."""
    return EXIT_CODES[said["verdict"]["word"]]


def _audit_recipes(common: Common, request: str | None) -> None:
    from srun.flow.recipe import as_json
    from srun.flow.stages import audit_recipes

    recipes = audit_recipes(common.project_on(request))
    if common.as_json:
        show([as_json(recipe) for recipe in recipes], True, print)
    else:
        show(recipes, False, print_recipes)


def print_recipes(recipes: Sequence["RecipeJudgement"]) -> None:
    """Of each recipe who passes, then KLoM beside the null, or what it lacks and the command for it."""
    for recipe in recipes:
        click.echo(f"{recipe.method} on {recipe.model}, request {recipe.request}: {recipe.num_runs} runs,")
        click.echo(f"  {recipe.num_retrains} Retrains; {recipe.verdicts}")
        if recipe.klom is None:
            click.echo(f"  KLoM not judged: {recipe.lacks}; one more: {recipe.run}")
            continue
        of = recipe.klom
        click.echo(f"  KLoM by sets of {of.size}        median   null    95 %    null")
        for name, own, null in (("normal", of.gaussian, of.gaussian_null), ("20 bins", of.binned, of.binned_null)):
            click.echo(f"  {name:24}{own.median:8.3f}{null.median:7.3f}{own.tail:8.3f}{null.tail:8.3f}")


def print_audit(audit: "Audit") -> None:
    """At most 20 lines of at most 80 letters: the verdict first."""
    lines = textwrap.wrap(audit.verdict.said, WIDTH, max_lines=3, placeholder=" ... (see --json)")
    references = audit.oracle or f"Originals {audit.num_originals}, Retrains {audit.num_retrains}"
    lines.append(_cut(f"{audit.cell}: {audit.num_events} events of {audit.num_users} users; {references}"))
    lines.append(" " * KEY + "".join(f"{name:>{width}}" for name, width in COLUMNS.values()))
    untested = _untested(audit)
    rows = [_row(key, audit.figures[key]) for key in _shown(audit) if key in audit.figures]
    lines += rows[: MAX_LINES - len(lines) - len(untested)]
    click.echo("\n".join([*lines, *untested]))


def _shown(audit: "Audit") -> list[str]:
    """Keys of the figures that stand in the text, in their order."""
    from srun.judging.audit import most_beyond

    return [*SHOWN[:4], most_beyond(audit.figures, "recovered"), *SHOWN[4:]]


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
