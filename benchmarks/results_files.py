"""results.json, results.md and results.png: what run.py writes of its rows."""

import os
from pathlib import Path
from typing import Any

from records import markdown_table, write_json

from srun.system.devices import machine

TITLES = {
    "work": "work",
    "ours": "ours",
    "peer": "peer",
    "peer's name": "peer_name",
    "unit": "unit",
    "ratio": "ratio",
    "target": "target",
}
"""Column of results.md -> key of a row of results.json."""


def write(rows: list[dict[str, Any]], out: Path) -> None:
    """results.json, results.md and results.png."""
    out.mkdir(parents=True, exist_ok=True)
    write_json(rows, out / "results.json")
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
        *markdown_table(list(TITLES), [[text(row[key]) for key in TITLES.values()] for row in rows]),
    ]
    if any(row["ratio"] and row["target"] for row in rows):
        lines += ["", "![ratios to the peers](results.png)"]
        _plot([row for row in rows if row["ratio"] and row["target"]], out / "results.png")
    (out / "results.md").write_text("\n".join(lines) + "\n")


def text(value: Any) -> str:
    """A figure as a cell shows it; a dash where there is none."""
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
