"""Time and memory of every stage on synthetic logs of growing size: benchmarks/scale.md, scale.json and scale.png.

Size 1 has the shape of Steam: 429,339 users, 13,040 items, about 3.4 million interactions. Other sizes have as many
times the users and the same items. Each stage of each size runs in a process of its own with one thread; what is done
is kept in ``--work``, so that a run that was stopped, or that ran out of its ``--budget``, goes on with the same
command. Memory is the peak resident set (VmHWM, so Linux only). Nothing here is a recorded log: items are drawn.
"""

import argparse
import json
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import engine  # first: torch reads what it sets
from engine import ROOT

from srun.data.raw import write_raw
from srun.data.synthetic import steam_like
from srun.flow.cells import Cell
from srun.flow.layout import Layout
from srun.flow.project import Project
from srun.flow.stages import evaluate_step, partition_step, prepare_step, train_step, unlearn_step
from srun.system.devices import machine

NAME = "synthetic-steam"
SIZES = (0.1, 0.3, 1.0, 3.0, 10.0)
STAGES = ("generate", "prepare", "partition", "train", "sruga", "evaluate")
MAX_GIB, MAX_PREPARE = 8, 60  # targets: memory of the largest, seconds to prepare ten million interactions
SETTINGS = (
    *(f"data.name={NAME}", "prepare.filter=once", "prepare.max_length=10", "prepare.calibration_users=0.05"),
    "prepare.calibration_events=0.0",
    *("train.loss=bce", "train.max_epochs=1", "train.evaluate_every=1", "train.patience=1"),
    *("unlearn.sruga.max_epochs=1", "unlearn.sruga.kl_items=100"),
)
FITS = {"cpu_seconds": 3, "peak_mb": 2}
"""What is fitted, and over how many of the largest sizes."""
Rows = dict[tuple[float, str], dict[str, Any]]
"""By size and stage."""


def generate(folder: Path, size: float) -> None:
    """Write a raw data set of the shape of Steam's; the same bytes at every run."""
    write_raw(folder / "data" / "raw" / NAME, steam_like(size, seed=0))


def carry_out(stage: str, size: float, folder: Path) -> dict[str, float]:
    """Do one stage in this process; returns its seconds by the clock and of the processor, imports not counted."""
    project = Project(engine.settings(*SETTINGS), Layout(folder, folder))
    cell = Cell(request="interactions", original="sasrec-0", method="sruga", seed=0)
    works: dict[str, Callable[[], object]] = {
        "generate": lambda: generate(folder, size),
        "prepare": lambda: prepare_step(project).run(),
        "partition": lambda: partition_step(project, "interactions").run(),
        "train": lambda: train_step(project, "sasrec-0").run(),
        "sruga": lambda: unlearn_step(project, cell).run(),
        "evaluate": lambda: evaluate_step(project, cell).run(),
    }
    began, began_cpu = time.perf_counter(), time.process_time()
    works[stage]()
    return {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - began_cpu}


def measure(stage: str, size: float, folder: Path) -> dict[str, Any]:
    """Run a stage in a process of its own and watch its memory."""
    command = [sys.executable, __file__, "--stage", stage, "--size", str(size), "--work", str(folder)]
    peak = 0.0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            peak = max(peak, _peak_mb(process.pid))  # asked again and again: srun itself sets it back before it trains
            time.sleep(0.02)
        output = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise SystemExit(f"{stage} at size {size:g} ended with {process.returncode}")
    return {"size": size, "stage": stage, **json.loads(output.splitlines()[-1]), "peak_mb": peak}


def _peak_mb(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # it ended just now
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0.0)


def run_size(size: float, work: Path, until: float) -> list[dict[str, Any]]:
    """Rows of a size, those kept from before first; stops before a stage when the time is up."""
    folder = work / f"{size:g}"
    kept = folder / "rows.json"
    rows = json.loads(kept.read_text()) if kept.exists() else []
    for stage in STAGES[len(rows) :]:
        if time.monotonic() > until:
            print(f"out of budget before {stage} at size {size:g}; the same command goes on", file=sys.stderr)
            break
        folder.mkdir(parents=True, exist_ok=True)
        rows.append(measure(stage, size, folder))
        if stage == "generate":
            info = json.loads((folder / "data/raw" / NAME / "dataset.json").read_text())
            rows[0] |= {key: info[key] for key in ("num_users", "num_items", "num_interactions")}
        kept.write_text(json.dumps(rows))
        print(json.dumps(rows[-1]), file=sys.stderr)
    if len(rows) == len(STAGES):
        for large in ("data", "models", "evaluations"):
            shutil.rmtree(folder / large, ignore_errors=True)
    return rows


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """Slope of log y over log x by least squares: 1 is linear; NaN for fewer than two points."""
    if len(points) < 2:
        return math.nan
    logs = [(math.log(x), math.log(max(y, 1e-3))) for x, y in points]
    mean_x, mean_y = (sum(values) / len(logs) for values in zip(*logs, strict=True))
    return sum((x - mean_x) * (y - mean_y) for x, y in logs) / sum((x - mean_x) ** 2 for x, _ in logs)


def write(rows: list[dict[str, Any]], out: Path) -> None:
    """scale.json, scale.md and scale.png."""
    out.mkdir(parents=True, exist_ok=True)
    generated = [row for row in rows if row["stage"] == "generate"]
    events = {row["size"]: row["num_interactions"] for row in generated}
    found = {(row["size"], row["stage"]): row for row in rows}
    fits = {stage: {what: _fit(found, events, stage, what) for what in FITS} for stage in STAGES}
    about = {**machine(), "threads": "1"}
    record = {"machine": about, "settings": [*SETTINGS, *engine.ONE_THREAD], "rows": rows, "exponents": fits}
    (out / "scale.json").write_text(json.dumps(record, indent=1) + "\n")
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
        *_table(sizes, found, list(events), fits, "cpu_seconds"),
        "",
        "Peak memory, MB, and the exponent of its growth between the two largest sizes.",
        "",
        *_table([f"x{size:g}" for size in events], found, list(events), fits, "peak_mb"),
        "",
        *_verdicts(rows, events),
        "",
        "![seconds and memory over interactions](scale.png)",
    ]
    (out / "scale.md").write_text("\n".join(lines) + "\n")
    _plot(found, events, out / "scale.png")


def _fit(found: Rows, events: dict[float, int], stage: str, what: str) -> float:
    points = [(events[size], found[size, stage][what]) for size in events if (size, stage) in found]
    return exponent(points[-FITS[what] :])


def _table(
    titles: list[str], found: Rows, sizes: list[float], fits: dict[str, dict[str, float]], what: str
) -> list[str]:
    """The lines of a table: a row a stage, a column a size."""
    lines = [f"| stage | {' | '.join(titles)} | exponent |", "|---" * (len(sizes) + 2) + "|"]
    for stage in STAGES:
        cells = [_cell(found.get((size, stage)), what) for size in sizes]
        lines.append(f"| {stage} | {' | '.join(cells)} | {fits[stage][what]:.2f} |")
    return lines


def _cell(row: dict[str, Any] | None, what: str) -> str:
    if row is None:
        return "-"
    return f"{row['peak_mb']:,.0f}" if what == "peak_mb" else f"{row['cpu_seconds']:.1f} ({row['seconds']:.0f})"


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


def _plot(found: Rows, events: dict[float, int], path: Path) -> None:
    from matplotlib.figure import Figure  # here, so that its memory is in no measurement

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    panels = figure.subplots(1, 2)
    labels = {"cpu_seconds": "processor seconds", "peak_mb": "peak memory, MB"}
    for axes, (what, label) in zip(panels, labels.items(), strict=True):
        for stage in STAGES:
            sizes = [size for size in events if (size, stage) in found]
            points = [events[size] for size in sizes], [found[size, stage][what] for size in sizes]
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


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks", help="folder of what is written")
    parser.add_argument("--work", type=Path, default=ROOT / "out" / "scale", help="what is done, and to go on from")
    parser.add_argument("--sizes", type=float, nargs="*", default=SIZES, help="times the users of Steam")
    parser.add_argument("--budget", type=float, default=math.inf, help="seconds after which no stage is begun")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)  # what a process of one stage is told
    parser.add_argument("--size", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    if arguments.stage:
        print(json.dumps(carry_out(arguments.stage, arguments.size, arguments.work)))
        return
    until, rows = time.monotonic() + arguments.budget, []
    for size in sorted(arguments.sizes):
        rows += run_size(size, arguments.work, until)
        if rows:
            write(rows, arguments.out)


if __name__ == "__main__":
    main()
