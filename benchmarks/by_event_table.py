"""Tables of benchmarks/by_event.json, in docs/sruga.md between its marks: one for each request.

python benchmarks/by_event_table.py
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from records import markdown_table, read_rows

HERE = Path(__file__).parent
RECORD, PAGE = HERE / "by_event.json", HERE.parent / "docs" / "sruga.md"
BEGIN, END = "<!-- by-event: begin -->", "<!-- by-event: end -->"
PARTS = ("hits", "ranks", "file", "events")
SHARED, POOLED = "passes", "passes_by_pooled_rule"
"""Rows from before a verdict had one error rate have no parts that pass by it."""
HEADER = (
    *("recipe", "Original", "passes", "passes, by the pooled rule", "utility", "Hit@10 gap", "KS D", "correlation"),
    *("difference", "memory left", "recovered", "s"),
)
Row = Mapping[str, Any]


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path, default=PAGE, help="file that has the marks")
    page = parser.parse_args(words).page
    rows = read_rows(RECORD)
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(_title(row), []).append(row)
    tables = "\n\n".join(f"{title}:\n\n{table(own)}" for title, own in groups.items())
    before, rest = page.read_text().split(BEGIN)
    page.write_text(f"{before}{BEGIN}\n{tables}\n{END}{rest.split(END)[1]}")


def _title(row: Row) -> str:
    model = row["original"].rpartition("-")[0]
    draw = "core draw" if row["request"] == "core" else f"random draw of partition seed {row['partition_seed']}"
    return f"{row['data']}, {model}, {draw}"


def table(rows: Sequence[Row]) -> str:
    """The Markdown table of one request: Original and the range of the Retrains once, then every recipe."""
    first = rows[0]["original"]
    retrains = [row for row in rows if row["name"].startswith("retrain-") and row["original"] == first]
    lines = [_line(row, "", "") for row in rows if row["name"] == "Original" and row["original"] == first]
    lines.append(_range(retrains))
    lines += [_line(row, _passes(row, SHARED), _passes(row, POOLED)) for row in rows if POOLED in row]
    return "\n".join(markdown_table(HEADER, lines))


def _line(row: Row, passes: str, pooled: str) -> list[str]:
    return [
        row["name"],
        row["original"],
        passes,
        pooled,
        f"{row['utility']:.2f}",
        f"{_short(row['hit_10_gap'], True)} ({_short(row['hit_10_gap_bound'])})",
        f"{_short(row['ks_d'])} ({_short(row['ks_d_retrain_max'])})",
        f"{row['event_corr_share']:.2f}",
        f"{row['event_mae_ratio']:.2f}",
        f"{row['memory_left']:.2f} [{row['memory_left_low']:.2f}, {row['memory_left_high']:.2f}]",
        " / ".join(_short(value) for value in _recovered(row)),
        f"{row['processor_seconds']:.1f}" if "processor_seconds" in row else "",
    ]


def _range(retrains: Sequence[Row]) -> list[str]:
    """What the Retrains have, each by the others: the smallest and the largest."""

    def ends(values: Sequence[float], signed: bool = False) -> str:
        return f"{_short(min(values), signed)} to {_short(max(values), signed)}"

    names = ("utility", "hit_10_gap", "ks_d", "event_corr_share", "event_mae_ratio", "memory_left")
    utility, gap, distance, corr, mae, left = ([row[name] for row in retrains] for name in names)
    attacks = " / ".join(_short(fmean(values)) for values in zip(*map(_recovered, retrains), strict=True))
    cells = [f"{len(retrains)} Retrains, each by the others", "", "", "", f"{min(utility):.2f} to {max(utility):.2f}"]
    cells += [ends(gap, True), ends(distance), f"{fmean(corr):.2f}", f"{fmean(mae):.2f}"]
    return [*cells, f"{min(left):.2f} to {max(left):.2f}", f"{attacks} (means)", ""]


def _recovered(row: Row) -> Iterator[float]:
    """By ridge, by softmax from zero and by softmax from the file's table, in this order."""
    return (row[f"recover_{attack}"] for attack in ("ridge", "softmax_zero", "softmax_input"))


def _passes(row: Row, rule: str) -> str:
    if rule not in row:
        return ""
    missing = [part for part in PARTS if part not in row[rule]]
    return "**all**" if not missing else f"all but {', '.join(missing)}" if len(missing) < len(PARTS) else "none"


def _short(value: float, signed: bool = False) -> str:
    """Three digits without the zero before the point, as in ``.012``."""
    text = f"{value:+.3f}" if signed else f"{value:.3f}"
    return text.replace("0.", ".", 1)


if __name__ == "__main__":
    main()
