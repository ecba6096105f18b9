"""Draw quality against cost from the CSV of sruga.py: distance to never-seen events, and utility, after each epoch.

python benchmarks/search/curve.py reports/sruga/round_1.csv --data beauty-5core --out docs/research/sruga.png
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

SHOWN = {
    "plain": "thesis' weights and rate",
    "level: 1e-3, retain batch 256": "level, rate 1e-3",
    "level: KL at the last position": "level, rate 3e-3",
    "one pass, batch 64, no fine-tuning": "level, one pass in small batches",
    "KL 2, 2 epochs": "level, KL at all targets",
    "default": "default",
}
"""Entries of the CSV, and their names in the figure."""
TICKS = (30, 60, 100, 200, 500)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(words)
    table = pd.read_csv(options.csv)
    table = table[(table["data"] == options.data) & (table["original"] == "sasrec-0")]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    distance, utility = figure.subplots(1, 2)
    for name, label in SHOWN.items():
        before, rows = (table[(table["name"] == name) & ((table["epoch"] > 0) == after)] for after in (False, True))
        share = 100 * rows["validation_ndcg_10"] / before["validation_ndcg_10"].iloc[0]
        distance.plot(rows["target_gradients"] / 1000, rows["match_ks"], marker=".", label=label)
        utility.plot(rows["target_gradients"] / 1000, share, marker=".", label=label)
    distance.set_ylabel("KS distance to never-seen events")
    utility.set_ylabel("validation NDCG@10, % of Original")
    for axes in (distance, utility):
        axes.set(xscale="log", xlabel="target gradients, thousands")
        axes.set_xticks(TICKS, TICKS)
        axes.minorticks_off()
    utility.legend(fontsize=8)
    figure.savefig(options.out, dpi=110)


if __name__ == "__main__":
    main()
