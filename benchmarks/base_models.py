"""The recommenders themselves beside public replications: benchmarks/base_models.md, .json and .png.

Trains the Originals of presets/base-NAME.yaml, ranks the whole catalogue for every user's last item, and writes the
figures beside printed ones. A run that was stopped goes on where it was; models lie in out/base-NAME. What is written
here is small: figures, curves, seeds, seconds.

    python benchmarks/base_models.py ml-1m-sasrec --originals sasrec-0
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from base_models_files import PRINTED, write
from bases import add_base_options, base, collect, train_all
from records import read_rows

HERE = Path(__file__).parent


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *PRINTED], help="base models to train; default none")
    parser.add_argument("--originals", nargs="+", metavar="ORIGINAL", help="only these of the preset, e.g. sasrec-1")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the table; default benchmarks")
    add_base_options(parser)
    options = parser.parse_args(words)
    options.set.append(f"runtime.threads={options.threads}")
    for name in options.names:
        train_all(base(name, options), options.originals)
    kept = read_rows(options.out / "base_models.json")  # of what is not trained in this project
    rows = {(row["preset"], row["original"]): row for row in kept}
    for name in PRINTED:
        rows |= {(row["preset"], row["original"]): row for row in collect(base(name, options))}
    order = [f"base-{name}" for name in PRINTED]
    options.out.mkdir(parents=True, exist_ok=True)
    write(sorted(rows.values(), key=lambda row: (order.index(row["preset"]), row["original"])), options.out)


if __name__ == "__main__":
    main()
