"""Our engine beside its peers on the same files in one run: benchmarks/results.md, results.json and results.png.

Each row is measured in a process of its own with one thread, right after its peer, so that a busy machine slows both
down. Rates of training are per second of processor time (for a peer that waits, of whichever time flatters it more),
those of ranking and the time to a quality are by the clock; for the latter our recipe (``QUALITY``) was chosen among
four by validation NDCG@10 (recipe.py), the peer's is the kit's. Peers are those of the kit at ``--peers`` (its run.sh
installs them on first use); without the kit, or with ``--peers none``, our own figures stand alone.
"""

import argparse
import dataclasses
import gzip
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported: spinning threads starve the peer

ROOT = Path(__file__).parents[1]
BEAUTY = "amazon-beauty-5core"
HIDDEN, BATCH, SLICES = 64, 256, 5

MODELS: dict[str, dict[str, Any]] = {  # as the peers are set
    "sasrec": {"blocks": 2, "heads": 1, "dropout": 0.5},
    "gru4rec": {"dropout": 0.2},
    "bert4rec": {
        **{"blocks": 2, "heads": 2, "dropout": 0.2, "mask_probability": 0.2, "norm_first": False, "gelu": "exact"}
    },
}
QUALITY = {"batch_size": 128, "learning_rate": 0.002}  # chosen on validation: recipe.py
QUALITY_DROPOUT = 0.3


@dataclass(frozen=True)
class Work:
    """A row: what is measured, on which data, and which figure of which peer it is compared with."""

    title: str
    kind: str  # train | rank | quality
    data: str
    length: int
    model: str
    loss: str
    unit: str
    peer: tuple[str, str]  # driver, model; run.sh knows it by both
    target: float
    """Ratio to reach."""


RECTOOLS, RECBOLE = "peer_rectools.py", "peer_recbole.py"
WORKS = {
    "bce-50": Work("SASRec BCE", "train", BEAUTY, 50, "sasrec", "bce", "sequences/s", (RECTOOLS, "sasrec"), 15),
    "bce-10": Work("SASRec BCE", "train", BEAUTY, 10, "sasrec", "bce", "sequences/s", (RECTOOLS, "sasrec"), 4.5),
    "ml1m-50": Work("SASRec BCE", "train", "ml-1m", 50, "sasrec", "bce", "sequences/s", (RECTOOLS, "sasrec"), 2.2),
    "bce-200": Work("SASRec BCE", "train", BEAUTY, 200, "sasrec", "bce", "sequences/s", (RECTOOLS, "sasrec"), 15),
    "ml1m-200": Work("SASRec BCE", "train", "ml-1m", 200, "sasrec", "bce", "sequences/s", (RECTOOLS, "sasrec"), 2.2),
    "ce-50": Work("SASRec full CE", "train", BEAUTY, 50, "sasrec", "ce", "targets/s", (RECBOLE, "sasrec-ce"), 10),
    "bert-50": Work("BERT4Rec full CE", "train", BEAUTY, 50, "bert4rec", "ce", "targets/s", (RECBOLE, "bert4rec"), 20),
    "gru-50": Work("GRU4Rec", "train", BEAUTY, 50, "gru4rec", "bce", "targets/s", (RECBOLE, "gru4rec"), 8),
    "rank-10": Work("full ranking", "rank", BEAUTY, 10, "gru4rec", "bce", "users/s", (RECBOLE, "gru4rec"), 3),
    "ndcg-10": Work("NDCG@10 of the peer", "quality", BEAUTY, 10, "sasrec", "ce", "s", (RECBOLE, "sasrec-ce"), 4),
}


def load_data(name: str, length: int, kit_data: Path) -> Any:
    """The prepared data set of a name: Beauty from the kit's files, anything else from data/raw."""
    from srun.data.importing import read_import
    from srun.data.interactions import PrepareConfig, prepare
    from srun.data.raw import canonical, read_raw

    if name == BEAUTY:
        found = read_import(kit_data / name / "sequences.txt.gz", form="sequences")
        raw = canonical(found.interactions, None, name=name, time=found.time)
    else:
        raw = read_raw(ROOT / "data" / "raw" / name)
    settings = {"filter": "none" if name == BEAUTY else "once", "min_interactions": 5, "max_length": length}
    return prepare(raw, PrepareConfig(**settings, holdout="user", drop_short=False, calibration_users=0.0, seed=0))


def peer_file(name: str, kit_data: Path, folder: Path) -> Path:
    """The same log as a file of the peers' form: a user and its items in order of time on a line."""
    if name == BEAUTY:
        return kit_data / name / "sequences.txt.gz"
    data = load_data(name, 10, kit_data)
    path = folder / name / "sequences.txt.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt") as file:
        for user in range(data.num_users):
            items = data.item[data.offsets[user] : data.offsets[user + 1]]
            file.write(f"{user + 1} {' '.join(map(str, items))}\n")
    return path


def measure(work: Work, kit_data: Path, seconds: float, goal: float | None) -> dict[str, Any]:
    """Our figures of a row, in this process."""
    import torch

    from srun.devices import RuntimeConfig, start

    device = start(RuntimeConfig(device="cpu", threads=1, together="off", tracking=False, progress=False))
    data = load_data(work.data, work.length, kit_data)
    torch.manual_seed(0)
    found = {"train": _measure_training, "rank": _measure_ranking, "quality": _measure_quality}[work.kind](
        work, data, device, seconds, goal
    )
    return {**found, "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def setting(work: Work, data: Any, device: Any, seed: int = 0) -> tuple[Any, ...]:
    """Model, windows, recipe and streams of a row."""
    from srun.data.batches import TrainingData
    from srun.data.interactions import Role
    from srun.models.scorer import new_model
    from srun.rng import Streams
    from srun.training.fit import TrainConfig

    settings = {"hidden": HIDDEN, "tie_embeddings": True, **MODELS[work.model]}
    if work.kind == "quality":
        settings["dropout"] = QUALITY_DROPOUT
    streams = Streams(seed)
    model = new_model(
        {"name": work.model, "settings": settings, "num_items": data.num_items, "max_length": work.length}
    )
    model.initialise(streams["weights"])
    model.use_generator(streams["dropout"])
    recipe = TrainConfig(
        **{"loss": work.loss, "num_negatives": 1, "gbce_t": 0.0, "learning_rate": 0.001, "batch_size": BATCH},
        **{
            "group_by_length": True,
            "lazy_adam": False,
            "precision": "float32",
            "max_epochs": 1,
            "evaluate_every": 1,
            "patience": 1,
        },
    )
    return model, TrainingData(data, data.role == Role.TRAIN, None, device), recipe, streams


def _measure_training(work: Work, data: Any, device: Any, seconds: float, goal: float | None) -> dict[str, float]:
    from srun.training.fit import make_optimiser, train_step

    model, windows, recipe, streams = setting(work, data, device)
    optimiser = make_optimiser(model, recipe)
    model.train()
    rates: list[tuple[float, float, float]] = []  # sequences, targets, FLOP a second, one for each slice
    began, counts, warm, steps = time.process_time(), [0.0, 0.0, 0.0], True, 0
    while len(rates) < SLICES:
        for rows in windows.epoch(recipe.batch_size, streams["batches"], recipe.group_by_length):
            loss, inputs = train_step(model, windows, recipe, streams, optimiser, rows)
            lengths = (inputs != 0).sum(1).double()
            counts[0] += len(rows)
            counts[1] += len(loss)
            counts[2] += _sasrec_flop(lengths) if work.model == "sasrec" and work.loss == "bce" else 0.0
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


def _sasrec_flop(lengths: Any) -> float:
    """FLOP of a training step for windows of real ``lengths``: products only, backward counted twice forward."""
    position = 2 * (2 * 4 * HIDDEN**2 + 2 * 2 * HIDDEN**2) + 2 * 2 * HIDDEN  # two blocks; two scored items
    return float(3 * (lengths * position + 2 * 4 * HIDDEN * lengths**2).sum())


def _sgemm_rate() -> float:
    """FLOP a second of a large product of matrices, the best of seven: this core's ceiling."""
    import torch

    one, other = torch.randn(2048, 2048), torch.randn(2048, 2048)
    times = []
    for _ in range(7):
        began = time.process_time()
        one @ other
        times.append(time.process_time() - began)
    return 2 * 2048**3 / min(times)


def test_task(data: Any, device: Any) -> Any:
    """The peers' ranking: the last item of every user after all the ones before it."""
    import numpy as np

    from srun.data.interactions import Role
    from srun.data.sequences import make_queries
    from srun.evaluation.ranking import RankingTask

    everything = np.ones(data.num_events, dtype=bool)
    queries = make_queries(data.item, data.user, data.offsets, everything, data.role == Role.TEST)
    return RankingTask.make(queries, data.max_length, device, 512)


def _measure_ranking(work: Work, data: Any, device: Any, seconds: float, goal: float | None) -> dict[str, float]:
    from srun.models.scorer import Scorer

    model, *_ = setting(work, data, device)
    rates = []
    for _ in range(SLICES):
        began = time.perf_counter()
        task = test_task(data, device)
        task.ranks(Scorer([model]))
        rates.append(len(task) / (time.perf_counter() - began))
    return {"users/s": statistics.median(rates)}


def _measure_quality(work: Work, data: Any, device: Any, seconds: float, goal: float | None) -> dict[str, Any]:
    """Seconds of training until the test NDCG@10 reaches ``goal``; looks at it are not counted, as for the peer."""
    from srun.metrics.ranking import ndcg
    from srun.models.scorer import Scorer
    from srun.training.fit import make_optimiser, train_step

    model, windows, recipe, streams = setting(work, data, device)
    recipe = dataclasses.replace(recipe, **QUALITY)
    optimiser, task = make_optimiser(model, recipe), test_task(data, device)
    spent, reached = 0.0, 0.0
    while reached < (goal or 1.0) and spent < seconds:
        model.train()
        began = time.perf_counter()
        for rows in windows.epoch(recipe.batch_size, streams["batches"], recipe.group_by_length):
            train_step(model, windows, recipe, streams, optimiser, rows)
        spent += time.perf_counter() - began
        reached = ndcg(task.ranks(Scorer([model]))[0], 10)
    return {"s": spent if reached >= (goal or 1.0) else None, "ndcg": reached}


def ours(key: str, arguments: argparse.Namespace, goal: float | None = None) -> dict[str, Any]:
    """Measure a row in a fresh process, so that its memory is its own."""
    seconds = arguments.quality_seconds if WORKS[key].kind == "quality" else arguments.seconds
    command = [sys.executable, __file__, "--row", key, "--seconds", str(seconds), "--data", str(arguments.data)]
    run = subprocess.run([*command, "--goal", str(goal or 0)], stdout=subprocess.PIPE, text=True, check=True)
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
    file = peer_file(work.data, arguments.data, folder)
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
    title = f"{work.title}, {work.data}, L={work.length}"
    line = peer(work, arguments, folder) if arguments.peers else None
    name = None if line is None else f"{line['peer']} {line['model']} {line['loss']}"
    if work.kind == "quality":
        if line is None:
            return []
        mine, theirs = ours(key, arguments, line["NDCG10_m"]), line["train_s"]
        title = f"NDCG@10 {line['NDCG10_m']:.4f}, {work.data}, L={work.length}"
        ratio = theirs / mine["s"] if mine["s"] else None  # null: not reached
    else:
        mine = ours(key, arguments)
        theirs = None
        if line is not None:
            theirs = (
                line["own_eval_users_s"]
                if work.kind == "rank"
                else statistics.median(max(part["rate"], part["cpu_rate"]) for part in line["slices"])
            )
            if work.unit == "targets/s" and "RecTools" in line["peer"]:
                theirs *= mine["targets/s"] / mine["sequences/s"]  # it trains all positions of a sequence, as we do
        ratio = None if theirs is None else mine[work.unit] / theirs
    rows = [_row(title, mine[work.unit], theirs, name, work.unit, ratio, work.target)]
    memory = None if line is None else line["rss_mb"]
    rows.append(
        _row(f"memory of {title}", mine["memory_mb"], memory, name, "MB", memory and memory / mine["memory_mb"])
    )
    if mine.get("ceiling"):
        target = 0.5 if work.length == 200 else None
        rows.append(_row(f"share of the ceiling of {title}", mine["ceiling"], None, None, "share", None, target))
    return rows


def _row(
    work: str,
    ours: float | None,
    peer: float | None,
    name: str | None,
    unit: str,
    ratio: float | None,
    target: Any = None,
) -> dict[str, Any]:
    return {"work": work, "ours": ours, "peer": peer, "peer_name": name, "unit": unit, "ratio": ratio, "target": target}


def write(rows: list[dict[str, Any]], out: Path) -> None:
    """results.json, results.md and results.png."""
    from srun.devices import machine

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
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 0.5 * len(rows) + 1), layout="constrained")
    places = range(len(rows))
    axes.barh(places, [row["ratio"] for row in rows], color="#4477aa", label="ours / peer")
    axes.plot([row["target"] for row in rows], places, "k|", markersize=18, label="to reach")
    axes.set_yticks(places, [row["work"] for row in rows])
    axes.set_xlabel("times the speed of the peer")
    axes.invert_yaxis()
    axes.legend()
    figure.savefig(path, dpi=120, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=lambda text: Path(text), default=ROOT.parent / "shared" / "bench")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="where Beauty's folder is")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks")
    parser.add_argument("--seconds", type=float, default=10, help="of a row, after a warm-up")
    parser.add_argument("--quality-seconds", type=float, default=240, help="that the peer trains in the row of NDCG@10")
    parser.add_argument("--only", nargs="*", choices=WORKS, default=list(WORKS))
    parser.add_argument("--row", choices=WORKS, help=argparse.SUPPRESS)  # what a process of one row is told
    parser.add_argument("--goal", type=float, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        print(json.dumps(measure(WORKS[arguments.row], arguments.data, arguments.seconds, arguments.goal)))
        return
    if not (arguments.peers / "run.sh").exists() or shutil.which("bash") is None:
        print(f"no peers at {arguments.peers}: our own figures only", file=sys.stderr)
        arguments.peers = None
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for key in arguments.only:
            name = WORKS[key].data
            if not (arguments.data / name if name == BEAUTY else ROOT / "data" / "raw" / name).is_dir():
                print(f"{key}: no data set {name} here", file=sys.stderr)
                continue
            rows += compare(key, arguments, Path(folder))
            print(
                *(
                    f"{row['work']}: {_cell(row['ours'])} {row['unit']}, ratio {_cell(row['ratio'])}"
                    for row in rows[-3:]
                ),
                sep="\n",
                file=sys.stderr,
            )
            write(rows, arguments.out)


if __name__ == "__main__":
    main()
