"""srun data: raw data sets, before anything is made of them."""

from pathlib import Path

import click

from srun.cli.options import Common, InOrder, file_options, json_option, name_argument
from srun.cli.printing import print_mapping, print_rows, show


@click.group(cls=InOrder)
def data() -> None:
    """List, fetch, import and describe raw data sets."""


@data.command("list")
@json_option
def data_list(as_json: bool) -> None:
    """List known data sets and those of your own.

    \b
    Example:
      srun data list
    """
    from srun.flow.fetch import list_sources

    show(list_sources(Path("data/raw")), as_json, print_rows)


@data.command("fetch")
@click.argument("name")
@click.option("--from", "place", default=None, metavar="PATH_OR_URL", help="A file, folder or mirror to try first.")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Folder to write; default data/raw/NAME.")
@json_option
def data_fetch(name: str, place: str | None, out: Path | None, as_json: bool) -> None:
    """Fetch a known data set into data/raw/NAME, verified by its sha256.

    \b
    Example:
      srun data fetch ml-1m
    """
    from srun.flow.fetch import fetch

    show(fetch(name, out or Path("data/raw") / name, place), as_json, print_mapping)


@data.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="Name of the new data set: a folder of data/raw.")
@click.option(
    "--format",
    "form",
    default=None,
    help="csv, tsv, semicolons, parquet, pairs, sequences, amazon, steam; else guessed.",
)
@click.option(
    "--columns", default=None, metavar="user=A,item=B,time=C", help="Which column is what; time=none: by line."
)
@click.option("--items", type=click.Path(path_type=Path), default=None, help="Item table: ids, titles, categories.")
@click.option(
    "--item-columns", default=None, metavar="item=A,title=B,categories=C", help="The same for the item table."
)
@json_option
def data_import(
    file: Path,
    name: str,
    form: str | None,
    columns: str | None,
    items: Path | None,
    item_columns: str | None,
    as_json: bool,
) -> None:
    """Import a log of your own as data/raw/NAME.

    CSV (commas or semicolons), TSV, Parquet, "user item" or "user item item ..." lines, plain or gzip. Times are ISO
    8601 dates or numbers since 1970 from seconds to nanoseconds, all in one unit; fractions of a second decide the
    order and are then cut off.

    \b
    Example:
      srun data import clicks.csv --name shop --columns user=customer,item=sku,time=clicked_at --items products.csv
      srun run --set data.name=shop --out out/shop
    """
    from srun.data.importing import column_mapping
    from srun.flow.fetch import import_file

    info = import_file(
        file,
        name,
        Path("data/raw"),
        form=form,
        columns=None if columns is None else column_mapping(columns),
        items=items,
        item_columns=None if item_columns is None else column_mapping(item_columns),
    )
    show(info, as_json, print_mapping)


@data.command("describe")
@name_argument
@file_options
def data_describe(name: str, common: Common) -> None:
    """Count users, items and interactions of a raw data set, before and after the filter of params.yaml.

    \b
    Example:
      srun data describe ml-1m --json
    """
    from srun.data.dataset import describe
    from srun.data.raw import read_raw

    project = common.project()
    described = describe(read_raw(project.layout.raw(name)), project.params.prepare)
    show(described, common.as_json, print_mapping)
