"""Commands that look: at a user's story, the neurons of a category, what a published model recommends."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from srun.cli.options import Common, flow_options, json_option, original_option, request_option
from srun.cli.printing import print_rows, show
from srun.cli.selection import choose_original, choose_request, choose_request_name
from srun.errors import one_line


@click.command()
@click.argument("user")
@request_option()
@flow_options
def explain(user: str, request: str | None, common: Common) -> None:
    """Tell a user's story: sequence, forgotten items, ranks and top 10 under every model of a request.

    It prints personal data: the user's whole history, and what was forgotten of it. Nothing is written to a file.

    \b
    Example:
      srun explain 293
    """
    from srun.flow.stages import explain_user

    project = common.project()
    explanation = explain_user(project, user, choose_request_name(project, request))
    show(explanation, common.as_json, _print_explanation)


def _print_explanation(explanation: Mapping[str, Any]) -> None:
    """The sequence with its forgotten events, then every model's ranks and top 10 for each held-out target."""
    print_rows([{**event, "forgotten": "forgotten" if event["forgotten"] else ""} for event in explanation["sequence"]])
    for question in explanation["questions"]:
        click.echo(f"\n{question['split']}: {_named(question['target'])} after {', '.join(question['history'][-10:])}")
        rows = [
            {"model": model, "rank": rank, "top 10": ", ".join(item["item_id"] for item in question["top"][model])}
            for model, rank in question["ranks"].items()
        ]
        print_rows(rows)


def _named(item: Mapping[str, str]) -> str:
    return f"{item['item_id']} {item['title']}".strip()


@click.command()
@click.option("--category", default=None, help="The category; its request is found or made.")
@request_option("Block of `partition` instead: a category request.")
@original_option("look into")
@click.option("--png", type=click.Path(path_type=Path, dir_okay=False), default=None, help="PNG file to draw.")
@flow_options
def neurons(category: str | None, request: str | None, original: str | None, png: Path | None, common: Common) -> None:
    """Show the neurons of a category: attributions, sharing with other categories, dose and response.

    --png draws them; --out is the folder of the flow, as everywhere.

    \b
    Example:
      srun neurons --category Action --original sasrec-0 --png action.png
    """
    if png is not None and not png.parent.is_dir():
        raise click.UsageError(f'--png "{png}": there is no folder {png.parent}')
    from srun.flow.stages import show_neurons

    project = common.project()
    project, request = choose_request(project, request, category)
    neuron_study = show_neurons(project, request, choose_original(project, original))
    if png is not None:
        from srun.files import write_bytes
        from srun.reporting.neurons import draw_neurons

        write_bytes(png, draw_neurons(neuron_study))
    show(neuron_study, common.as_json, _print_neurons)


def _print_neurons(neuron_study: Mapping[str, Any]) -> None:
    """The neurons, what each category selects, dose and response, and sharing between categories."""
    print_rows(neuron_study["neurons"])
    for category, summary in neuron_study["categories"].items():
        note = f" ({summary['note']})" if "note" in summary else ""
        click.echo(f"\n{category}: {summary['num_sequences']} sequences, P = {summary['privacy_threshold']} %{note}")
        counts = summary["num_neurons_by_privacy_threshold"].items()
        click.echo("neurons by P: " + ", ".join(f"{p} % {number}" for p, number in counts if number))
    click.echo("\nDose and response, validation targets of find users")
    print_rows(neuron_study["dose"])
    for title, key in (
        ("Share of the row's neurons that the column has", "overlap"),
        ("Loss of Hit@10 in the column by the row's edit", "collateral_loss"),
    ):
        click.echo(f"\n{title}")
        print_rows([{"": name, **row} for name, row in neuron_study[key].items()])


@click.command()
@click.option("--history", required=True, metavar="ITEM,ITEM,...", help="Raw item ids, oldest first.")
@click.option("--model", "folder", type=click.Path(path_type=Path), required=True, help="A published model's folder.")
@click.option("-k", type=int, default=10, show_default=True, help="How many items.")
@json_option
def recommend(history: str, folder: Path, k: int, as_json: bool) -> None:
    """Recommend items after a history, with any published model.

    \b
    Example:
      srun recommend --model models/sasrec-0/core/sruga-0 --history 50,181,174
    """
    from srun.service.recommender import Recommender, parse_history

    items = parse_history(history)
    [answer] = Recommender.load(folder).recommend([items], k)
    rows = [{"item_id": item, "score": score} for item, score in zip(answer.item_ids, answer.scores, strict=True)]
    if answer.unknown:
        click.echo(one_line(f"unknown items left out: {', '.join(answer.unknown)}"), err=True)
    if not rows:
        click.echo("the history has no known item, so there is nothing to go by", err=True)
    show(rows, as_json, print_rows)
