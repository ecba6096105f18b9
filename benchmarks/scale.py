"""Time and memory of every stage on synthetic logs of growing size: benchmarks/scale.md, scale.json and scale.png.

Size 1 has the shape of Steam: 429,339 users, 13,040 items, about 3.4 million interactions. Other sizes have as many
times the users and the same items. Each stage of each size runs in a process of its own with one thread; what is done
is kept in ``--work``, so that a run that was stopped, or that ran out of its ``--budget``, goes on with the same
command. Memory is the peak resident set (VmHWM, so Linux only). Nothing here is a recorded log: items are drawn.

    python benchmarks/scale.py --sizes 0.1 0.3 --budget 600
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
from scale_files import STAGES, write

from srun.data.raw import write_raw
from srun.data.synthetic import steam_like
from srun.flow.cells import Cell
from srun.flow.layout import Layout
from srun.flow.project import Project
from srun.flow.stages import evaluate_step, partition_step, prepare_step, train_step, unlearn_step

NAME = "synthetic-steam"
SIZES = (0.1, 0.3, 1.0, 3.0, 10.0)
SETTINGS = (
    *(f"data.name={NAME}", "prepare.filter=once", "prepare.max_length=10", "prepare.calibration_users=0.05"),
    "prepare.calibration_events=0.0",
    *("train.loss=bce", "train.max_epochs=1", "train.evaluate_every=1", "train.patience=1"),
    *("unlearn.sruga.level=pooled", "unlearn.sruga.max_epochs=1", "unlearn.sruga.kl_items=100"),
)


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


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks", help="folder of the tables and figures")
    parser.add_argument("--work", type=Path, default=ROOT / "out" / "scale", help="finished stages, to go on from")
    parser.add_argument("--sizes", type=float, nargs="*", default=SIZES, help="times the users of Steam")
    parser.add_argument("--budget", type=float, default=math.inf, help="seconds after which no stage is begun")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)  # what a process of one stage is told
    parser.add_argument("--size", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.stage:
        print(json.dumps(carry_out(options.stage, options.size, options.work)))
        return
    until, rows = time.monotonic() + options.budget, []
    for size in sorted(options.sizes):
        rows += run_size(size, options.work, until)
        if rows:
            write(rows, [*SETTINGS, *engine.ONE_THREAD], options.out)


if __name__ == "__main__":
    main()
