"""srun reproduce: repeat the experiments of the thesis and the papers that srun builds on."""

from pathlib import Path

import click

from srun.cli.options import Common, InOrder, budget_option, flow_options, read_budget, split_numbers, split_words
from srun.cli.printing import print_report, show
from srun.cli.selection import check_flow, open_project


@click.group(cls=InOrder)
def reproduce() -> None:
    """Repeat the experiments of the documents this system is made from, beside their printed figures."""


@reproduce.command("thesis")
@click.option("--dataset", type=click.Choice(["beauty", "games", "steam"]), required=True)
@click.option("--models", default="gru4rec,sasrec,bert4rec", show_default=True, metavar="NAME,NAME,...")
@click.option("--seeds", default="0", show_default=True, metavar="N,N,...", help="Training seeds.")
@click.option(
    "--data", "source", type=click.Path(path_type=Path), default=None, help="Folder with amazon-beauty/pairs.txt.gz ..."
)
@budget_option
@flow_options
def reproduce_thesis(
    dataset: str,
    models: str,
    seeds: str,
    source: Path | None,
    budget: float | None,
    common: Common,
) -> None:
    """Original, Retrain, SISA and SRUGA as in the SRUGA thesis: its Tables 2 to 6 and Figures 6 to 8.

    Writes into out/thesis-DATASET unless --out names another folder.

    \b
    Example:
      srun reproduce thesis --dataset beauty --models sasrec --data downloads --budget 60
    """
    from srun.models import MODELS
    from srun.papers import reproduce
    from srun.papers.logs import raw_name
    from srun.papers.thesis.experiment import assignments

    for model in split_words(models):
        MODELS[model]  # an unknown one is refused by its name, not by those of the Originals that it would get
    open_project((), ())  # outside a project nobody is asked for data
    name = raw_name(dataset, Path("data/raw"), source)
    project = common.project(
        presets=["presets/thesis.yaml", f"presets/thesis-{dataset}.yaml"],
        assignments=assignments(name, split_words(models), split_numbers("--seeds", seeds)),
        out=Path("out") / f"thesis-{dataset}",
    )
    check_flow(project)
    report = reproduce.reproduce_thesis(project, dataset, read_budget(budget))
    show(report, common.as_json, print_report)


@reproduce.command("ablation")
@click.option("--dataset", type=click.Choice(["beauty-5core", "beauty", "games"]), default="beauty-5core")
@click.option("--parts", default="combinations,sweeps,curves", show_default=True, metavar="PART,PART,...")
@click.option("--epochs", type=click.IntRange(min=1), default=1000, show_default=True, help="Of the long curves.")
@click.option("--data", "source", type=click.Path(path_type=Path), default=None, help="Folder as of reproduce thesis.")
@budget_option
@flow_options
def reproduce_ablation(
    dataset: str,
    parts: str,
    epochs: int,
    source: Path | None,
    budget: float | None,
    common: Common,
) -> None:
    """SRUGA's terms alone and together, each weight from 0.1 to 1, long curves: Figures 9 to 13 of the thesis.

    Writes into out/ablation-DATASET unless --out names another folder.

    \b
    Example:
      srun reproduce ablation --dataset beauty-5core --parts combinations --data downloads --budget 30
    """
    from srun.papers import reproduce
    from srun.papers.ablation.variants import PARTS
    from srun.papers.logs import raw_name

    if unknown := set(split_words(parts)) - set(PARTS):
        raise click.UsageError(f"--parts: unknown {', '.join(sorted(unknown))}, expected some of {', '.join(PARTS)}")
    open_project((), ())  # outside a project nobody is asked for data
    name = raw_name(dataset, Path("data/raw"), source)
    project = common.project(
        presets=["presets/thesis.yaml", "presets/ablation.yaml"],
        assignments=[f"data.name={name}"],
        out=Path("out") / f"ablation-{dataset}",
    )
    check_flow(project)
    report = reproduce.reproduce_ablation(project, split_words(parts), epochs, read_budget(budget))
    show(report, common.as_json, print_report)


@reproduce.command("attribution")
@click.option("--dataset", type=click.Choice(["ml-1m", "ml-100k"]), default="ml-1m", show_default=True)
@click.option(
    "--categories", default="Action", show_default=True, metavar="NAME,NAME,...", help="Of the paper's three."
)
@click.option("--num-seeds", type=click.IntRange(1), default=1, show_default=True, help="Of the first category.")
@click.option("--no-others", is_flag=True, help="Without GRU4Rec and Caser, which are for Figures 3 and 4.")
@click.option("--no-protocols", is_flag=True, help="Without the edit under other holdouts, widths and epochs.")
@budget_option
@flow_options
def reproduce_attribution(
    dataset: str,
    categories: str,
    num_seeds: int,
    no_others: bool,
    no_protocols: bool,
    budget: float | None,
    common: Common,
) -> None:
    """Forget a category of films as the attribution paper does: its Tables 1 to 3 and Figures 3 and 4, and beyond.

    Writes into out/attribution-DATASET unless --out names another folder.

    \b
    Example:
      srun reproduce attribution --dataset ml-100k --budget 60
    """
    from srun.papers import reproduce
    from srun.papers.attribution.experiment import assignments, protocols

    presets = ["presets/attribution.yaml", f"presets/attribution-{dataset}.yaml", *common.presets]
    cells = assignments(split_words(categories), not no_others, number=num_seeds)
    out = common.out or Path("out") / f"attribution-{dataset}"
    changes = {} if no_protocols else protocols(split_words(categories))
    by_protocol = {
        name: open_project(presets, [*common.assignments, *changed], out / "protocols" / name)
        for name, changed in changes.items()
    }
    project = open_project(presets, [*cells, *common.assignments], out)
    check_flow(project, *by_protocol.values())
    report = reproduce.reproduce_attribution(project, dataset, by_protocol, read_budget(budget))
    show(report, common.as_json, print_report)
