"""Our engine beside its peers on the same files in one run: benchmarks/results.md, results.json and results.png.

Each row is measured in a process of its own with one thread, right after its peer, so that a busy machine slows both
down. Rates of training are per second of processor time (for a peer that waits, of whichever time flatters it more),
those of ranking and the time to a quality are by the clock; for the latter our recipe (``engine.QUALITY``) was chosen
among four by validation NDCG@10 (recipe.py), the peer's is the kit's. Peers are those of the kit at ``--peers`` (its
run.sh installs them on first use); without the kit, or with ``--peers none``, our own figures stand alone.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import engine  # first: torch reads what it sets
import torch
from engine import HIDDEN, ROOT, WORKS, Logs, Work
from torch import Tensor

from srun.data.dataset import Dataset
from srun.metrics.ranking import ndcg
from srun.models.scorer import Scorer
from srun.system.devices import machine
from srun.training.fit import train_step

SLICES = 5


def peer_file(name: str, logs: Logs, folder: Path) -> Path:
    """The same log as a file of the peers' form, which Beauty's has already."""
    if name == engine.BEAUTY:
        return logs.sequences(name)
    path = folder / name / "sequences.txt.gz"
    engine.write_sequences(logs.prepared(name, 10), path)
    return path


def measure(work: Work, logs: Logs, seconds: float, goal: float) -> dict[str, Any]:
    """Our figures of a row, in this process; ``goal``: the NDCG@10 that a row of quality is to reach."""
    device = engine.one_thread()
    data = logs.prepared(work.data, work.length)
    torch.manual_seed(0)
    if work.kind == "train":
        found: dict[str, Any] = _measure_training(work, data, device, seconds)
    elif work.kind == "rank":
        found = _measure_ranking(work, data, device)
    else:
        found = _measure_quality(work, data, device, seconds, goal)
    return {**found, "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def _measure_training(work: Work, data: Dataset, device: torch.device, seconds: float) -> dict[str, float]:
    setting = engine.setting(work, data, device)
    recipe, optimiser, has_ceiling = setting.recipe, setting.optimiser(), (work.model, work.loss) == ("sasrec", "bce")
    setting.model.train()
    rates: list[tuple[float, float, float]] = []  # sequences, targets, FLOP a second, one for each slice
    began, counts, warm, steps = time.process_time(), [0.0, 0.0, 0.0], True, 0
    while len(rates) < SLICES:
        for rows in setting.windows.epoch(recipe.batch_size, setting.streams["batches"], recipe.group_by_length):
            loss, inputs = train_step(*setting, optimiser, rows)
            counts[0] += len(rows)
            counts[1] += len(loss)
            counts[2] += _sasrec_flop((inputs != 0).sum(1).double()) if has_ceiling else 0.0
            steps += 1
            passed = time.process_time() - began
            if warm and steps >= 10:
                began, counts, warm = time.process_time(), [0.0, 0.0, 0.0], False
            elif not warm and passed > seconds / SLICES:
                rates.append((counts[0] / passed, counts[1] / passed, counts[2] / passed))
                began, counts = time.process_time(), [0.0, 0.0, 0.0]
            if len(rates) == SLICES:
                break
    sequences, targets, flop = (statistics.median(values) for values in zip(*rates, strict=True))
    return {"sequences/s": sequences, "targets/s": targets, "ceiling": flop / _sgemm_rate()}


def _sasrec_flop(lengths: Tensor) -> float:
    """FLOP of a training step for windows of real ``lengths``: products only, backward counted twice forward."""
    position = 2 * (2 * 4 * HIDDEN**2 + 2 * 2 * HIDDEN**2) + 2 * 2 * HIDDEN  # two blocks; two scored items
    return float(3 * (lengths * position + 2 * 4 * HIDDEN * lengths**2).sum())


def _sgemm_rate() -> float:
    """FLOP a second of a large product of matrices, the best of seven: this core's ceiling."""
    one, other = torch.randn(2048, 2048), torch.randn(2048, 2048)
    times = []
    for _ in range(7):
        began = time.process_time()
        one @ other
        times.append(time.process_time() - began)
    return 2 * 2048**3 / min(times)


def _measure_ranking(work: Work, data: Dataset, device: torch.device) -> dict[str, float]:
    model, rates = engine.setting(work, data, device).model, []
    for _ in range(SLICES):
        began = time.perf_counter()
        task = engine.test_task(data, device)
        task.ranks(Scorer([model]))
        rates.append(len(task) / (time.perf_counter() - began))
    return {"users/s": statistics.median(rates)}


def _measure_quality(work: Work, data: Dataset, device: torch.device, seconds: float, goal: float) -> dict[str, Any]:
    """Seconds of training until the test NDCG@10 reaches ``goal``; looks at it are not counted, as for the peer."""
    setting = engine.setting(work, data, device, *engine.QUALITY)
    optimiser, task = setting.optimiser(), engine.test_task(data, device)
    spent, reached = 0.0, 0.0
    while reached < goal and spent < seconds:
        setting.model.train()
        began = time.perf_counter()
        setting.epoch(optimiser)
        spent += time.perf_counter() - began
        reached = ndcg(task.ranks(Scorer([setting.model])).rank, 10)
    return {"s": spent if reached >= goal else None, "ndcg": reached}


def ours(key: str, arguments: argparse.Namespace, goal: float = 1.0) -> dict[str, Any]:
    """Measure a row in a fresh process, so that its memory is its own."""
    seconds = arguments.quality_seconds if WORKS[key].kind == "quality" else arguments.seconds
    command = [sys.executable, __file__, "--row", key, "--seconds", str(seconds), "--goal", str(goal)]
    places = ["--data", str(arguments.data), "--raw", str(arguments.raw)]
    run = subprocess.run([*command, *places], stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(run.stdout.splitlines()[-1]))


def peer(work: Work, arguments: argparse.Namespace, folder: Path) -> dict[str, Any] | None:
    """The line that a peer of the kit writes about itself, or None when it failed."""
    driver, model = work.peer
    out = folder / "peer.jsonl"
    out.unlink(missing_ok=True)
    budget = {"train": arguments.seconds, "rank": 5, "quality": arguments.quality_seconds}[work.kind]
    environment = {
        **os.environ,
        **{"LENS": str(work.length), "ONLY": f"{driver} {model}$", "OUT": str(out), "RECBOLE_ANOMALY": "0"},
        **{"WHAT": "speed1" if work.kind == "train" else "quality", "REPT": str(budget), "BUDGET": str(budget)},
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    file = peer_file(work.data, engine.logs(arguments), folder)
    run = subprocess.run(
        ["bash", str(arguments.peers / "run.sh"), str(file)], env=environment, capture_output=True, text=True
    )
    if not out.exists():
        print(f"{driver} {model}: {run.stdout[-300:]}{run.stderr[-300:]}", file=sys.stderr)
        return None
    return dict(json.loads(out.read_text().splitlines()[-1]))


def compare(key: str, arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Rows of results.json for one work: the figure, its memory and, for SASRec with BCE, its share of the ceiling."""
    work = WORKS[key]
    line = peer(work, arguments, folder) if arguments.peers else None
    title = f"{work.title}, {work.data}, L={work.length}"
    theirs, memory, name = None, None, None
    if line is not None:
        name, memory = f"{line['peer']} {line['model']} {line['loss']}", line["rss_mb"]
    if work.kind == "quality":
        if line is None:
            return []
        title = f"NDCG@10 {line['NDCG10_m']:.4f}, {work.data}, L={work.length}"
        mine, theirs = ours(key, arguments, line["NDCG10_m"]), line["train_s"]
        ratio = theirs / mine["s"] if mine["s"] else None  # null: not reached
    else:
        mine = ours(key, arguments)
        theirs = None if line is None else _peer_rate(work, line, mine)
        ratio = None if theirs is None else mine[work.unit] / theirs
    rows = [_row(title, work.unit, mine[work.unit], theirs, name, ratio, work.target)]
    saved = memory and memory / mine["memory_mb"]
    rows.append(_row(f"memory of {title}", "MB", mine["memory_mb"], memory, name, saved))
    if mine.get("ceiling"):
        target = 0.5 if work.length == 200 else None
        rows.append(_row(f"share of the ceiling of {title}", "share", mine["ceiling"], target=target))
    return rows


def _peer_rate(work: Work, line: dict[str, Any], mine: dict[str, Any]) -> float:
    """What a peer did a second, in the row's unit."""
    if work.kind == "rank":
        return float(line["own_eval_users_s"])
    rate = statistics.median(max(part["rate"], part["cpu_rate"]) for part in line["slices"])
    if work.unit == "targets/s" and "RecTools" in line["peer"]:
        rate *= mine["targets/s"] / mine["sequences/s"]  # it trains all positions of a sequence, as we do
    return float(rate)


def _row(
    work: str,
    unit: str,
    ours: float | None,
    peer: float | None = None,
    name: str | None = None,
    ratio: float | None = None,
    target: float | None = None,
) -> dict[str, Any]:
    return {"work": work, "ours": ours, "peer": peer, "peer_name": name, "unit": unit, "ratio": ratio, "target": target}


def write(rows: list[dict[str, Any]], out: Path) -> None:
    """results.json, results.md and results.png."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps(rows, indent=1) + "\n")
    facts = {**machine(), "threads": "1", "OMP_WAIT_POLICY": os.environ["OMP_WAIT_POLICY"]}
    lines = [
        "# Benchmarks",
        "",
        "Made by `make bench` (benchmarks/run.py): one thread, hidden 64, batches of 256, medians of five slices; ours",
        "runs right after its peer's on the same file. Rates of training are per second of processor time. Read the",
        "ratios: absolute figures change with the machine and with what else it does.",
        "",
        *(f"- {key}: {value}" for key, value in facts.items()),
        "",
        "| work | ours | peer | peer's name | unit | ratio | target |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [row["work"], *(_cell(row[key]) for key in ("ours", "peer", "peer_name", "unit", "ratio", "target"))]
        lines.append(f"| {' | '.join(cells)} |")
    if any(row["ratio"] and row["target"] for row in rows):
        lines += ["", "![ratios to the peers](results.png)"]
        _plot([row for row in rows if row["ratio"] and row["target"]], out / "results.png")
    (out / "results.md").write_text("\n".join(lines) + "\n")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _plot(rows: list[dict[str, Any]], path: Path) -> None:
    from matplotlib.figure import Figure  # here, so that its memory is in no measurement

    figure = Figure(figsize=(8, 0.5 * len(rows) + 1), layout="constrained")
    axes, places = figure.subplots(), range(len(rows))
    axes.barh(places, [row["ratio"] for row in rows], color="#4477aa", label="ours / peer")
    axes.plot([row["target"] for row in rows], places, "k|", markersize=18, label="to reach")
    axes.set_yticks(places, [row["work"] for row in rows])
    axes.set_xlabel("times the speed of the peer")
    axes.invert_yaxis()
    axes.legend()
    figure.savefig(path, dpi=120, metadata={"Software": None})


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, default=ROOT.parent / "shared" / "bench", help="the kit, or none")
    engine.add_logs(parser)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks", help="folder of what is written")
    parser.add_argument("--seconds", type=float, default=10, help="of a row, after a warm-up")
    parser.add_argument("--quality-seconds", type=float, default=240, help="that the peer trains in the row of NDCG@10")
    parser.add_argument("--only", nargs="*", choices=WORKS, default=list(WORKS), help="rows; default all")
    parser.add_argument("--row", choices=WORKS, help=argparse.SUPPRESS)  # what a process of one row is told
    parser.add_argument("--goal", type=float, default=1.0, help=argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    logs = engine.logs(arguments)
    if arguments.row:
        print(json.dumps(measure(WORKS[arguments.row], logs, arguments.seconds, arguments.goal)))
        return
    if not (arguments.peers / "run.sh").exists() or shutil.which("bash") is None:
        print(f"no peers at {arguments.peers}: our own figures only", file=sys.stderr)
        arguments.peers = None
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for key in arguments.only:
            if not logs.folder(WORKS[key].data).is_dir():
                print(f"{key}: no data set {WORKS[key].data} here", file=sys.stderr)
                continue
            found = compare(key, arguments, Path(folder))
            for row in found:
                shown = f"{_cell(row['ours'])} {row['unit']}, ratio {_cell(row['ratio'])}"
                print(f"{row['work']}: {shown}", file=sys.stderr)
            rows += found
            write(rows, arguments.out)


if __name__ == "__main__":
    main()
