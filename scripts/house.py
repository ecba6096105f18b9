"""Draw the house: the rooms of src/srun, and who imports whom, as docs/house.svg.

    python scripts/house.py

Data climbs from the ground floor up; imports point down. The drawing leaves out arrows that a longer way implies, and
the table beside it has them all.
"""

import argparse
import ast
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path as Line

from srun.errors import DataError

ROOT = Path(__file__).parents[1]
GROUND = "ground"
FLOORS: tuple[Mapping[str, float], ...] = (
    {"cli": 3.0},
    {"papers": 3.0, "service": 5.15},
    {"flow": 3.0},
    {"search": 0.95, "reporting": 3.0},
    {"judging": 3.0},
    {"evaluation": 3.0},
    {"unlearning": 3.0},
    {"requests": 2.0, "training": 4.0},
    {"metrics": 0.95, "data": 3.0, "models": 5.15},
)
"""The rooms of every floor, from the roof down, and where each stands from left to right."""
LANES = {
    ("search", "evaluation"): 0.95,
    ("unlearning", "metrics"): 0.5,
    ("service", "data"): 5.15,
    ("service", "models"): 5.7,
}
"""Where an arrow goes down that would meet a room on the straight way."""
WORDS = {
    "cli": "commands, options, printing",
    "papers": "the papers' tables, made again",
    "service": "a published model in use",
    "flow": "stages, cells, freshness, layout",
    "reporting": "renders what judging wrote",
    "search": "spaces, goals, studies",
    "judging": "results, records, verdicts",
    "evaluation": "ranks by event, relearning",
    "unlearning": "SRUGA, attribution, references",
    "training": "losses, epochs, checkpoints",
    "requests": "what must go: rows, partition",
    "models": "SASRec, GRU4Rec, BERT4Rec, ...",
    "data": "formats, raw, dataset, batches",
    "metrics": "pure functions",
}
"""What is in a room."""
INK, PAPER, BOX, ARROW, DOT = "#222222", "#FFFFFF", "#EAF1F8", "#5B7C99", "#3B6E9E"
WIDTH, HEIGHT, STOREY = 1.9, 0.62, 1.15  # of a box, and from one floor to the next
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "srun", "font.family": "sans-serif", "text.color": INK}

Arrow = tuple[str, str]
Place = tuple[float, float]


@dataclass(frozen=True)
class House:
    """Lines of code of every room, and how many of its modules import how many of another: room -> room -> pairs."""

    lines: dict[str, int]
    imports: dict[str, dict[str, int]]

    @property
    def arrows(self) -> dict[Arrow, int]:
        """Imports between rooms; those of the ground floor, on which every room stands, left out."""
        return {
            (room, other): number
            for room, others in self.imports.items()
            for other, number in others.items()
            if GROUND not in (room, other)
        }


def measure(package: Path) -> House:
    """Read the rooms of a package and its imports, inside functions and for type checkers too.

    A package is a room; modules that stand alone, ``system`` and ``tracking``, are the ground floor.
    """
    files = {_module(path, package): path for path in sorted(package.rglob("*.py"))}
    lines: Counter[str] = Counter()
    imports: Counter[Arrow] = Counter()
    for module, path in files.items():
        text = path.read_text(encoding="utf-8")
        room = _room(module, package)
        lines[room] += len(text.splitlines())
        imports.update((room, _room(other, package)) for other in set(_imported(text, files)))
    by_room: dict[str, dict[str, int]] = {room: {} for room in sorted(lines)}
    for (room, other), number in sorted(imports.items()):
        if room != other:
            by_room[room][other] = number
    return House(dict(sorted(lines.items())), by_room)


def _module(path: Path, package: Path) -> str:
    return ".".join((package.name, *path.relative_to(package).with_suffix("").parts)).removesuffix(".__init__")


def _room(module: str, package: Path) -> str:
    name = module.split(".")[1] if "." in module else ""
    is_room = name not in ("", "system", "tracking") and (package / name / "__init__.py").is_file()
    return name if is_room else GROUND


def _imported(text: str, modules: Mapping[str, Path]) -> Iterator[str]:
    """The package's modules that a file names in its imports."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            module = str(node.module)
            names = [f"{module}.{alias.name}" for alias in node.names]
            yield from (name if name in modules else module for name in names if module in modules)


def check(house: House) -> None:
    """Raise DataError where a room has no place in the drawing, or imports one that stands above it."""
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    if homeless := set(house.lines) - {GROUND} - set(floor):
        raise DataError(f"{', '.join(sorted(homeless))}: no place in FLOORS of scripts/house.py; enter the room there")
    for room, other in house.arrows:
        if floor[room] > floor[other]:
            raise DataError(f"{room} imports {other}, which stands above it in FLOORS of scripts/house.py")


def direct(arrows: Mapping[Arrow, int]) -> list[Arrow]:
    """The arrows that no longer way implies: the transitive reduction."""
    below: dict[str, set[str]] = {}
    for room, other in arrows:
        below.setdefault(room, set()).add(other)

    def reach(room: str) -> set[str]:
        return {other for near in below.get(room, ()) for other in (near, *reach(near))}

    return sorted(
        (room, other)
        for room, other in arrows
        if not any(other in reach(near) for near in below[room] if near != other)
    )


def draw(house: House) -> Figure:
    """The rooms with their direct arrows on the left, the table of all imports on the right."""
    figure = Figure(figsize=(15, 9.6), facecolor=PAPER)
    rooms = figure.add_axes((0.01, 0.01, 0.5, 0.93))
    table = figure.add_axes((0.56, 0.12, 0.41, 0.7))
    _draw_rooms(rooms, house)
    _draw_table(table, house)
    return figure


def _draw_rooms(axes: Axes, house: House) -> None:
    places = {
        room: (x, STOREY * (len(FLOORS) - floor)) for floor, rooms in enumerate(FLOORS) for room, x in rooms.items()
    }
    for room, (x, y) in places.items():
        _draw_box(axes, (x - WIDTH / 2, y), WIDTH, f"{room}/", f"{house.lines[room]:,} lines", WORDS[room])
    names = "errors names registry config files tables progress rng tracking/ system/"
    _draw_box(axes, (0, 0), 6.1, "ground floor", f"{house.lines[GROUND]:,} lines; every room stands on it", names)
    for arrow in direct(house.arrows):
        way = _way(places[arrow[0]], places[arrow[1]], LANES.get(arrow))
        width = 0.8 + 0.22 * house.arrows[arrow]
        axes.add_patch(
            FancyArrowPatch(path=way, arrowstyle="-|>", mutation_scale=13, linewidth=width, color=ARROW, zorder=2)
        )
    axes.set_xlim(-0.05, 6.6)
    axes.set_ylim(-0.15, STOREY * (len(FLOORS) + 0.7))
    axes.set_title("Rooms: data climbs, imports point down; a thick arrow is many imports", fontsize=12, loc="left")
    axes.axis("off")


def _draw_box(axes: Axes, corner: Place, width: float, title: str, size: str, words: str) -> None:
    x, y = corner
    style = "round,pad=0,rounding_size=0.08"
    axes.add_patch(FancyBboxPatch(corner, width, HEIGHT, boxstyle=style, facecolor=BOX, edgecolor=ARROW, zorder=3))
    axes.text(x + 0.08, y + 0.4, title, fontsize=11, weight="bold", zorder=4)
    axes.text(x + width - 0.08, y + 0.4, size, fontsize=8.5, ha="right", zorder=4)
    axes.text(x + 0.08, y + 0.14, words, fontsize=8.5, zorder=4)


def _way(start: Place, end: Place, lane: float | None) -> Line:
    """From the bottom of a room to the top of another, straight or down a lane; sideways on one floor."""
    (x, y), (end_x, end_y) = start, end
    if y == end_y:
        side = WIDTH / 2 if end_x > x else -WIDTH / 2
        return Line([(x + side, y + HEIGHT / 2), (end_x - side, y + HEIGHT / 2)])
    top = end_y + HEIGHT
    if lane is None:
        return Line([(x, y), (end_x, top)])
    beside = abs(lane - x) > WIDTH / 2
    begin = [(x - WIDTH / 2 if lane < x else x + WIDTH / 2, y + HEIGHT / 2), (lane, y + HEIGHT / 2)]
    above = abs(lane - end_x) < WIDTH / 2
    nearer = end_x + (WIDTH / 4 if lane > end_x else -WIDTH / 4)
    finish = [(lane, top)] if above else [(lane, top + 0.36), (nearer, top)]
    return Line([*(begin if beside else [(lane, y)]), *finish])


def _draw_table(axes: Axes, house: House) -> None:
    """A row for each room that imports, a column for each that is imported; no dot lies above the diagonal."""
    order = [room for rooms in reversed(FLOORS) for room in rooms]
    for row, room in enumerate(order):
        axes.plot([row], [row], marker="s", markersize=17, color=BOX, zorder=1)
        for other, number in house.imports[room].items():
            if other != GROUND:
                axes.scatter([order.index(other)], [row], s=60 + 22 * number, color=DOT, zorder=2)
                axes.text(order.index(other), row, str(number), color=PAPER, ha="center", va="center", fontsize=8)
    axes.set_xticks(range(len(order)), order, rotation=60, ha="left", fontsize=9.5)
    axes.set_yticks(range(len(order)), order, fontsize=9.5)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set_xlim(-0.6, len(order) - 0.4)
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.grid(color="#EEEEEE", zorder=0)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    axes.set_title("Every import: the room of the row uses that of the column", fontsize=12, loc="left", pad=12)
    axes.set_xlabel("Number of pairs of modules. A dot right of the diagonal would be an import that goes up.")


def read_imports(svg: Path) -> dict[str, dict[str, int]]:
    """The imports that a drawing shows; it keeps them as text."""
    kept = re.search(r"<dc:description>(.*?)</dc:description>", svg.read_text(encoding="utf-8"), re.DOTALL)
    if kept is None:
        raise DataError(f"{svg}: no drawing of scripts/house.py; draw it with `python scripts/house.py`")
    imports: dict[str, dict[str, int]] = json.loads(kept[1])
    return imports


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=Path, default=ROOT / "src/srun", help="The package to draw.")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/house.svg", help="File to write: .svg or .png.")
    words = parser.parse_args(argv)
    house = measure(words.package)
    check(house)
    about = {"Date": None, "Description": json.dumps(house.imports)} if words.out.suffix == ".svg" else {}
    with matplotlib.rc_context(STYLE):
        draw(house).savefig(words.out, dpi=110, metadata=about)
    print(words.out)


if __name__ == "__main__":
    main()
