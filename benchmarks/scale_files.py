"""scale.json, scale.md and scale.png: growth of time and memory over the sizes that scale.py has run."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from records import markdown_table, write_json

from srun.system.devices import machine

STAGES = ("generate", "prepare", "partition", "train", "sruga", "evaluate")
MAX_GIB, MAX_PREPARE = 8, 60  # targets: memory of the largest, seconds to prepare ten million interactions
FITS = {"cpu_seconds": 3, "peak_mb": 2}
"""The measures that an exponent is fitted to, and over how many of the largest sizes."""
Rows = dict[tuple[float, str], dict[str, Any]]
"""By size and stage."""


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """Slope of log y over log x by least squares: 1 is linear; NaN for fewer than two points."""
    if len(points) < 2:
        return math.nan
    logs = [(math.log(x), math.log(max(y, 1e-3))) for x, y in points]
    mean_x, mean_y = (sum(values) / len(logs) for values in zip(*logs, strict=True))
    slope: float = sum((x - mean_x) * (y - mean_y) for x, y in logs) / sum((x - mean_x) ** 2 for x, _ in logs)
    return slope


def write(rows: list[dict[str, Any]], settings: Sequence[str], out: Path) -> None:
    """Write scale.json, scale.md and scale.png; ``settings`` are the overrides of params.yaml that all rows have."""
    out.mkdir(parents=True, exist_ok=True)
    generated = [row for row in rows if row["stage"] == "generate"]
    events = {row["size"]: row["num_interactions"] for row in generated}
    measured = {(row["size"], row["stage"]): row for row in rows}
    fits = {stage: {measure: _fit(measured, events, stage, measure) for measure in FITS} for stage in STAGES}
    about = {**machine(), "threads": "1"}
    record = {"machine": about, "settings": list(settings), "rows": rows, "exponents": fits}
    write_json(record, out / "scale.json")
    sizes = [f"x{row['size']:g}: {row['num_users']:,} users, {row['num_interactions']:,} events" for row in generated]
    lines = [
        "# Scale",
        "",
        "Made by `python benchmarks/scale.py --out benchmarks`: synthetic logs of Steam's shape and of as many times",
        "its users as the size says, 13,040 items. SASRec, n = 10, binary cross-entropy, one epoch, one thread;",
        "SRUGA one epoch with KL over 100 drawn items; every split ranked in the whole catalogue and among 100 sampled",
        "items. Each stage is a process of its own.",
        "",
        *(f"- {key}: {value}" for key, value in about.items()),
        "",
        "Processor seconds (seconds by the clock on a machine that does other work too), and the exponent of their",
        "growth over the three largest sizes: 1 is linear.",
        "",
        *_table(sizes, measured, list(events), fits, "cpu_seconds"),
        "",
        "Peak memory, MB, and the exponent of its growth between the two largest sizes.",
        "",
        *_table([f"x{size:g}" for size in events], measured, list(events), fits, "peak_mb"),
        "",
        *_verdicts(rows, events),
        "",
        "![seconds and memory over interactions](scale.png)",
    ]
    (out / "scale.md").write_text("\n".join(lines) + "\n")
    _plot(measured, events, out / "scale.png")


def _fit(measured: Rows, events: dict[float, int], stage: str, measure: str) -> float:
    points = [(events[size], measured[size, stage][measure]) for size in events if (size, stage) in measured]
    return exponent(points[-FITS[measure] :])


def _table(
    titles: list[str], measured: Rows, sizes: list[float], fits: dict[str, dict[str, float]], measure: str
) -> list[str]:
    """The lines of a table: a row a stage, a column a size."""
    rows = [
        [stage, *(_cell(measured.get((size, stage)), measure) for size in sizes), f"{fits[stage][measure]:.2f}"]
        for stage in STAGES
    ]
    return markdown_table(["stage", *titles, "exponent"], rows)


def _cell(row: dict[str, Any] | None, measure: str) -> str:
    if row is None:
        return "-"
    return f"{row['peak_mb']:,.0f}" if measure == "peak_mb" else f"{row['cpu_seconds']:.1f} ({row['seconds']:.0f})"


def _verdicts(rows: list[dict[str, Any]], events: dict[float, int]) -> list[str]:
    lines = []
    for row in rows:
        if row["stage"] == "prepare" and events[row["size"]] >= 10_000_000:
            word = "reached" if row["seconds"] * 10_000_000 / events[row["size"]] < MAX_PREPARE else "missed"
            lines.append(
                f"- {events[row['size']]:,} interactions are prepared in {row['seconds']:.0f} s by the clock;"
                f" target {MAX_PREPARE} s for ten million: {word}."
            )
    largest = [row for row in rows if row["size"] == max(events)]
    worst = max(largest, key=lambda row: row["peak_mb"])
    word = "reached" if worst["peak_mb"] < MAX_GIB * 1024 else "missed"
    if len(largest) < len(STAGES):
        word = f"open, for {', '.join(STAGES[len(largest) :])} not run yet"
    lines.append(
        f"- Most memory at size {worst['size']:g}: {worst['peak_mb'] / 1024:.1f} GiB in {worst['stage']};"
        f" target {MAX_GIB} GiB: {word}."
    )
    return lines


def _plot(measured: Rows, events: dict[float, int], path: Path) -> None:
    from matplotlib.figure import Figure  # here, so that its memory is in no measurement

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    panels = figure.subplots(1, 2)
    labels = {"cpu_seconds": "processor seconds", "peak_mb": "peak memory, MB"}
    for axes, (measure, label) in zip(panels, labels.items(), strict=True):
        for stage in STAGES:
            sizes = [size for size in events if (size, stage) in measured]
            points = [events[size] for size in sizes], [measured[size, stage][measure] for size in sizes]
            axes.loglog(*points, "o-", label=stage)
        axes.set_xlabel("interactions")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
    low, high = min(events.values()), max(events.values())
    panels[0].loglog([low, high], [1, high / low], "k:", label="linear")
    panels[1].axhline(MAX_GIB * 1024, color="k", linestyle="--", label=f"{MAX_GIB} GiB")
    for axes in panels:
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=120, metadata={"Software": None})
