"""srun service, forget, status, rollback, and what srun requests does with the inbox of a service."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from srun.cli.options import InOrder, combine, json_option, preset_option, set_option
from srun.cli.printing import print_mapping, print_rows, show
from srun.errors import one_line

if TYPE_CHECKING:
    from srun.service.book import Request
    from srun.service.desk import Service

service_option = click.option(
    "--service",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("."),
    metavar="DIR",
    help="The service root; this folder if not given.",
)
reason_option = click.option("--reason", required=True, help="Why; the ledger keeps it.")
wish_options = combine(
    click.option("--user", "users", multiple=True, metavar="ID", help="A whole user; may be repeated."),
    click.option(
        "--item", "items", multiple=True, metavar="ID", help="Everybody's events of an item; may be repeated."
    ),
    click.option("--category", default=None, help="Everybody's events of the items of a category."),
    click.option("--id", "name", default=None, help="Name of the request; a random one if not given."),
    click.option("--format", "form", default=None, help="Of the file: as of `data import`; else guessed."),
    click.option("--columns", default=None, metavar="user=A,item=B,time=C", help="Of the file: as of `data import`."),
)


def _open(folder: Path) -> "Service":
    from srun.service.desk import Service

    return Service.open(folder)


def _add(service: "Service", file: Path | None, each: bool, options: Mapping[str, Any]) -> list[str]:
    """Put what the options name into the inbox; returns the ids of the requests, new or known."""
    from srun.data.importing import column_mapping
    from srun.service.adding import add_requests

    columns = column_mapping(options["columns"])
    named = {key: options[key] for key in ("users", "items", "category", "name")}
    return add_requests(service, file=file, each=each, form=options["form"], columns=columns, **named)


@click.group(cls=InOrder)
def service() -> None:
    """Make a service: a folder of its own that serves a model and carries out deletion requests (docs/requests.md)."""


@service.command("init")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), metavar="DIR")
@click.option("--data", required=True, metavar="NAME", help="A data set of data/raw.")
@click.option("--ledger", default="", metavar="URL", help="Address of a PostgreSQL; a file of the folder if not given.")
@preset_option
@set_option
@json_option
def service_init(
    folder: Path, data: str, ledger: str, presets: tuple[str, ...], assignments: tuple[str, ...], as_json: bool
) -> None:
    """Make a service root DIR of a data set, train its first version and promote it.

    Users get random keys in all that the service stores; who is who, and the key of the ledger's pseudonyms, lie
    outside of it, in SRUN_KEYS or your configuration folder: back them up apart from DIR.

    \b
    Example:
      srun service init shop-service --data shop
    """
    from srun.service.operations import make_service

    result = make_service(folder, data, Path("params.yaml"), presets, assignments, ledger)
    show(result, as_json, _print_status)
    if not as_json:
        click.echo(f"next: srun forget --service {folder} --user ID")


@service.command("import")
@service_option
@json_option
def service_import(folder: Path, as_json: bool) -> None:
    """Take the data set of this folder's data/raw as the log of a service anew, without what was forgotten.

    \b
    Example:
      srun service import --service shop-service
    """
    from srun.service.operations import import_log

    show(import_log(_open(folder)), as_json, print_mapping)


@click.command()
@click.option("--file", type=click.Path(path_type=Path), default=None, help="What to forget, a row for each thing.")
@wish_options
@click.option("--yes", is_flag=True, help="Do not ask.")
@service_option
@json_option
def forget(file: Path | None, folder: Path, yes: bool, as_json: bool, **options: Any) -> None:
    """Forget users, items, a category or the rows of a file: carry it out, judge it, promote what passes the gate.

    Everything that is pending is carried out with it. An interim receipt is written to receipts/.

    \b
    Example:
      srun forget --service shop-service --user 15
      srun forget --service shop-service --file requests.csv --yes --json
    """
    opened = _open(folder)
    if not yes:
        _confirm(opened, file, options)
    [name] = _add(opened, file, False, options)
    if opened.book().request(name).is_open:
        from srun.service.operations import run

        result = run(opened)
    else:  # the same request was carried out before
        result = {"seconds": {}}
    request, book = opened.book().request(name), opened.book()
    version = book.versions.get(request.version)
    told = {
        "request": name,
        "state": request.state,
        "version": request.version or None,
        "verdict": None if version is None else version.verdict,
        "method": None if version is None else version.method,
        "rows": dict(request.outcomes),
        "receipt": str(opened.root.receipts / f"{name}.json"),
        "seconds": result["seconds"],
    }
    show(told, as_json, _print_run)


def _confirm(opened: "Service", file: Path | None, options: Mapping[str, Any]) -> None:
    """Ask on a terminal; elsewhere --yes has to be given."""
    import sys

    if not sys.stdin.isatty():
        raise click.UsageError("no terminal to ask on: give --yes")
    what = [f"{len(options['users'])} users"] if options["users"] else []
    what += [f"{len(options['items'])} items, of everybody"] if options["items"] else []
    what += [f'the category "{options["category"]}", of everybody'] if options["category"] else []
    what += [f"the rows of {file}"] if file else []
    waiting = len(opened.book().pending)
    others = f", with {waiting} requests that are pending" if waiting else ""
    click.confirm(one_line(f"Forget {' and '.join(what) or 'nothing'}{others}, and promote the model?"), abort=True)


@click.command()
@service_option
@json_option
def status(folder: Path, as_json: bool) -> None:
    """Say what is served and what it covers, and which requests are open, due and overdue.

    \b
    Example:
      srun status --service shop-service
    """
    from srun.service.desk import status as make_status

    show(make_status(_open(folder)), as_json, _print_status)


@click.command()
@click.argument("version", type=click.IntRange(min=1))
@service_option
@json_option
def rollback(version: int, folder: Path, as_json: bool) -> None:
    """Go back to VERSION: what it does not cover is carried out on it, and the result is judged and promoted.

    \b
    Example:
      srun rollback 3 --service shop-service
    """
    from srun.service.operations import rollback as roll_back

    show(roll_back(_open(folder), version), as_json, _print_run)


@click.group(cls=InOrder)
def requests() -> None:
    """The inbox of a service: add requests, plan, run and verify them (docs/requests.md)."""


def _with_service(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --service and --json; the command gets the service that was opened."""

    @functools.wraps(command)
    def opened(*args: Any, folder: Path, **others: Any) -> Any:
        return command(*args, service=_open(folder), **others)

    return combine(service_option, json_option)(opened)


@requests.command("add")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True), required=False)
@wish_options
@click.option("--each", is_flag=True, help="Every row of the file is a request of its own.")
@_with_service
def _add_command(file: Path | None, each: bool, service: "Service", as_json: bool, **options: Any) -> None:
    """Put a request into the inbox: FILE, standard input (-), or users and items; nothing is carried out yet.

    \b
    Example:
      srun requests add requests.csv --service shop-service --id ticket-481
    """
    names = _add(service, file, each, options)
    show({"requests": names}, as_json, lambda told: click.echo("\n".join(told["requests"])))


@requests.command("list")
@click.option("--open", "only_open", is_flag=True, help="Only those that are not carried out yet.")
@_with_service
def _list(only_open: bool, service: "Service", as_json: bool) -> None:
    """List requests with their states.

    \b
    Example:
      srun requests list --open
    """
    requests = service.book().requests.values()
    show([_row(request) for request in requests if request.is_open or not only_open], as_json, print_rows)


@requests.command("show")
@click.argument("name", metavar="ID")
@_with_service
def _show(name: str, service: "Service", as_json: bool) -> None:
    """Show a request: its state, the outcome of its rows, and what the gate said.

    \b
    Example:
      srun requests show ticket-481
    """
    book = service.book()
    request = book.request(name)
    batch = book.batches.get(request.batch)
    resolved: Mapping[str, Any] = (batch.resolved if batch is not None else None) or {}
    told = {
        **_row(request),
        "rows": request.num_rows,
        "outcomes": dict(request.outcomes),
        "not_forgotten": resolved.get("not_forgotten", {}).get(name, []),
        "batch": request.batch or None,
        "gates": {} if batch is None else dict(batch.gates),
    }
    show(told, as_json, print_mapping)


@requests.command("cancel")
@click.argument("name", metavar="ID")
@click.option("--reason", default="withdrawn", show_default=True, help="Why; the ledger keeps it.")
@_with_service
def _cancel(name: str, reason: str, service: "Service", as_json: bool) -> None:
    """Cancel a request that is pending.

    \b
    Example:
      srun requests cancel ticket-481
    """
    from srun.service.desk import cancel

    show(_row(cancel(service, name, reason)), as_json, print_mapping)


@requests.command("hold")
@click.argument("name", metavar="ID")
@reason_option
@click.option("--review", default=None, metavar="DATE", help="When to look at it again.")
@click.option("--release", "is_released", is_flag=True, help="End the hold instead.")
@_with_service
def _hold(name: str, reason: str, review: str | None, is_released: bool, service: "Service", as_json: bool) -> None:
    """Put a request on legal hold: forgotten and not served, but kept from being purged.

    \b
    Example:
      srun requests hold ticket-481 --reason "claim 7/2026" --review 2027-01-31
    """
    from srun.service.book import day_of
    from srun.service.desk import hold, release

    moment = None if review is None else day_of(review, "--review")
    changed = release(service, name, reason) if is_released else hold(service, name, reason, moment)
    show(_row(changed), as_json, print_mapping)


@requests.command("lift")
@click.argument("name", metavar="ID")
@reason_option
@_with_service
def _lift(name: str, reason: str, service: "Service", as_json: bool) -> None:
    """Let what a request named come in again with new logs; it brings back no old model.

    \b
    Example:
      srun requests lift ticket-481 --reason "consent given again"
    """
    from srun.service.desk import lift

    show(_row(lift(service, name, reason)), as_json, print_mapping)


@requests.command("extend")
@click.argument("name", metavar="ID")
@click.option("--days", type=click.FloatRange(min=0, min_open=True), required=True, help="More days until it is due.")
@reason_option
@_with_service
def _extend(name: str, days: float, reason: str, service: "Service", as_json: bool) -> None:
    """Give a request more time.

    \b
    Example:
      srun requests extend ticket-481 --days 60 --reason "complex request"
    """
    from srun.service.desk import extend

    show(_row(extend(service, name, days, reason)), as_json, print_mapping)


@requests.command("plan")
@_with_service
def _plan(service: "Service", as_json: bool) -> None:
    """Say what `srun requests run` would do, and change nothing.

    \b
    Example:
      srun requests plan --service shop-service
    """
    from srun.service.planning import plan

    show(plan(service), as_json, print_mapping)


@requests.command("run")
@click.argument("names", nargs=-1, metavar="[ID]...")
@click.option("--method", "forced", default="", help="Use this method alone, such as retrain.")
@_with_service
def _run(names: tuple[str, ...], forced: str, service: "Service", as_json: bool) -> None:
    """Carry out what is pending as one batch, judge it, and promote it or fall back.

    What was killed goes on where it was.

    \b
    Example:
      srun requests run --service shop-service
    """
    from srun.service.operations import run

    show(run(service, names, forced), as_json, _print_run)


@requests.command("verify")
@click.argument("receipt", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=False)
@_with_service
def _verify(receipt: Path | None, service: "Service", as_json: bool) -> None:
    """Check the ledger: every entry against the one before it, and a RECEIPT against the ledger.

    \b
    Example:
      srun requests verify --service shop-service
    """
    from srun.service.desk import verify

    show(verify(service, receipt), as_json, print_mapping)


def _row(request: "Request") -> dict[str, Any]:
    from srun.service.book import shown_time

    return {
        "request": request.id,
        "kind": request.kind,
        "state": request.state,
        "received": shown_time(request.received),
        "due": shown_time(request.due),
        "version": request.version or None,
        "lifted": request.lifted,
        "reason": request.reason,
    }


def _print_run(result: Mapping[str, Any]) -> None:
    """What was carried out, and seconds by step."""
    seconds = result["seconds"]
    print_mapping({key: value for key, value in result.items() if key != "seconds" and value not in (None, {}, [])})
    if seconds:
        click.echo("seconds: " + ", ".join(f"{step} {value:.1f}" for step, value in seconds.items()))


def _print_status(result: Mapping[str, Any]) -> None:
    served, states = result["served"], result["requests"]
    click.echo(
        f"serves version {served['version']} ({served['method']}, {served['verdict']}), promoted {served['promoted']}:"
        f" {served['model']}"
    )
    click.echo(
        f"covers {served['covers']} requests{'' if served['servable'] else ', AND NOT ALL that were carried out'}"
    )
    if served["gate"]:
        click.echo(f"gate: {served['gate']}")
    click.echo("requests: " + (", ".join(f"{number} {state}" for state, number in states.items()) or "none"))
    if result["open"]:
        click.echo(f"{result['open']} open, the next is due {result['due_next']}")
    if result["overdue"]:
        click.echo(f"OVERDUE: {', '.join(result['overdue'])}")
    if result["unfinished"]:
        click.echo(f"{result['unfinished']} was not finished; `srun requests run` goes on with it")
    print_rows(result["versions"])
    for one in result["does_not_follow"]:
        click.echo(f"does not follow: {one}")
    if "seconds" in result:
        click.echo("seconds: " + ", ".join(f"{step} {value:.1f}" for step, value in result["seconds"].items()))
