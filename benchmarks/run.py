"""Our engine beside its peers on the same files in one run: benchmarks/results.md, results.json and results.png.

Each row is measured in a process of its own with one thread, right after its peer, so that a busy machine slows both
down. Rates of training are per second of processor time (for a peer that waits, of whichever time flatters it more),
those of ranking and the time to a quality are by the clock; for the latter our recipe (``works.QUALITY``) was chosen
among four by validation NDCG@10 (recipe.py), the peer's is the kit's. Peers are those of the kit at ``--peers`` (its
run.sh installs them on first use); without the kit, or with ``--peers none``, our own figures stand alone.

    python benchmarks/run.py --only bce-50 rank-10
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import engine  # first: torch reads what it sets
from engine import ROOT, Logs
from measure import measure
from results_files import text, write
from works import BEAUTY, WORKS, Work


def peer_file(name: str, logs: Logs, folder: Path) -> Path:
    """The same log as a file of the peers' form, which Beauty's has already."""
    if name == BEAUTY:
        return logs.sequences(name)
    path = folder / name / "sequences.txt.gz"
    engine.write_sequences(logs.prepared(name, 10), path)
    return path


def ours(key: str, options: argparse.Namespace, goal: float = 1.0) -> dict[str, Any]:
    """Measure a row in a fresh process, so that its memory is its own."""
    seconds = options.quality_seconds if WORKS[key].kind == "quality" else options.seconds
    command = [sys.executable, __file__, "--row", key, "--seconds", str(seconds), "--goal", str(goal)]
    places = ["--data", str(options.data), "--raw", str(options.raw)]
    run = subprocess.run([*command, *places], stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(run.stdout.splitlines()[-1]))


def peer(work: Work, options: argparse.Namespace, folder: Path) -> dict[str, Any] | None:
    """The line that a peer of the kit writes about itself, or None when it failed."""
    driver, model = work.peer
    out = folder / "peer.jsonl"
    out.unlink(missing_ok=True)
    budget = {"train": options.seconds, "rank": 5, "quality": options.quality_seconds}[work.kind]
    environment = {
        **os.environ,
        **{"LENS": str(work.length), "ONLY": f"{driver} {model}$", "OUT": str(out), "RECBOLE_ANOMALY": "0"},
        **{"WHAT": "speed1" if work.kind == "train" else "quality", "REPT": str(budget), "BUDGET": str(budget)},
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    file = peer_file(work.data, engine.logs(options), folder)
    run = subprocess.run(
        ["bash", str(options.peers / "run.sh"), str(file)], env=environment, capture_output=True, text=True
    )
    if not out.exists():
        print(f"{driver} {model}: {run.stdout[-300:]}{run.stderr[-300:]}", file=sys.stderr)
        return None
    return dict(json.loads(out.read_text().splitlines()[-1]))


def compare(key: str, options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Rows of results.json for one work: the figure, its memory and, for SASRec with BCE, its share of the ceiling."""
    work = WORKS[key]
    line = peer(work, options, folder) if options.peers else None
    title = f"{work.title}, {work.data}, L={work.length}"
    theirs, memory, name = None, None, None
    if line is not None:
        name, memory = f"{line['peer']} {line['model']} {line['loss']}", line["rss_mb"]
    if work.kind == "quality":
        if line is None:
            return []
        title = f"NDCG@10 {line['NDCG10_m']:.4f}, {work.data}, L={work.length}"
        mine, theirs = ours(key, options, line["NDCG10_m"]), line["train_s"]
        ratio = theirs / mine["s"] if mine["s"] else None  # null: not reached
    else:
        mine = ours(key, options)
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


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, default=ROOT.parent / "shared" / "bench", help="the kit, or none")
    engine.add_logs(parser)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks", help="folder of the tables and figures")
    parser.add_argument("--seconds", type=float, default=10, help="of a row, after a warm-up")
    parser.add_argument("--quality-seconds", type=float, default=240, help="that the peer trains in the row of NDCG@10")
    parser.add_argument("--only", nargs="*", choices=WORKS, default=list(WORKS), help="rows; default all")
    parser.add_argument("--row", choices=WORKS, help=argparse.SUPPRESS)  # what a process of one row is told
    parser.add_argument("--goal", type=float, default=1.0, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    logs = engine.logs(options)
    if options.row:
        print(json.dumps(measure(WORKS[options.row], logs, options.seconds, options.goal)))
        return
    if not (options.peers / "run.sh").exists() or shutil.which("bash") is None:
        print(f"no peers at {options.peers}: our own figures only", file=sys.stderr)
        options.peers = None
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for key in options.only:
            if not logs.folder(WORKS[key].data).is_dir():
                print(f"{key}: no data set {WORKS[key].data} here", file=sys.stderr)
                continue
            measured = compare(key, options, Path(folder))
            for row in measured:
                shown = f"{text(row['ours'])} {row['unit']}, ratio {text(row['ratio'])}"
                print(f"{row['work']}: {shown}", file=sys.stderr)
            rows += measured
            write(rows, options.out)


if __name__ == "__main__":
    main()
