"""The audit audited: what the verdict says of Retrains, Originals, controls and mixtures of these: audit_audited.json.

    python benchmarks/audit_audited.py --data out/beauty --request core --json benchmarks/audit_audited.json \\
        --start out/beauty/models/sasrec-0/original --originals out/beauty/models/sasrec-?/core/original-0 \\
        --retrains out/beauty/models/sasrec-0/core/retrain-*

The data folder is one of `srun run --out`. Originals and Retrains are folders of cells, as that command or `srun
oracle` leaves them; there are two Originals or more, the first of which is mixed and unlearned. Each Retrain is left
out in turn and judged by the others, or, with --references N, by the first N. So are the Originals, the controls, and
the Retrain mixed with x of Original: users put back, z_rank mixed, weights mixed (--weights: of so many Retrains).
Subjects that the JSON file has already are not judged again. `min_p` is the smallest p-value times the number of tests;
above 1 where nothing is far.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import torch
from records import markdown_table, read_rows, write_rows
from subjects import BATCH, CPU, Bench, Judged, Measures, Subject, judge, noisy, users_put_back, weights_mixed, z_mixed

from srun.evaluation.probe import Probe
from srun.flow.layout import Layout
from srun.flow.loading import load_dataset
from srun.flow.params import load
from srun.metrics.membership import auc
from srun.models.published import load_published
from srun.models.scorer import Scorer
from srun.requests.partition import REPORT, Partition
from srun.rng import numpy_stream
from srun.unlearning import UNLEARNERS
from srun.unlearning.base import Context, Original

SHARES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
PARTS = ("hits", "ranks", "file", "events", "membership")
ASCENT = ("ascent=ga", "kl_weight=0.0", "finetune_weight=0.0", "rows=null", "max_epochs=1000")
CONTROLS = {
    "output mask": ("output_mask", (), ()),
    "output layer": ("sruga", ("presets/sruga-output-layer.yaml",), ()),
    "ascent alone, 40 steps": ("sruga", (), (*ASCENT, "max_steps=40")),
    "ascent alone, 5 steps": ("sruga", (), (*ASCENT, "max_steps=5")),
}
"""Name -> method, presets and settings."""
NOISE = {"Original, noise": (0.1, 0.3, 1.0), "Retrain, noise": (0.1, 0.3)}
LEFT_IN = 9000
"""Seed of the Retrain with a user's events left in: that of no other model."""
USERS, Z, WEIGHTS = "users put back", "z mixed", "weights mixed"


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that has data/prepared and data/partition")
    parser.add_argument("--request", required=True, help="name of the request")
    parser.add_argument("--originals", type=Path, nargs="+", required=True, help="folders of Originals, two or more")
    parser.add_argument("--start", type=Path, required=True, help="the first Original as it was trained")
    parser.add_argument("--retrains", type=Path, nargs="+", required=True, help="folders of Retrains, four or more")
    parser.add_argument("--references", type=int, help="judge by the first so many Retrains; else by all but one")
    parser.add_argument("--mixed", type=int, help="left-out Retrains that are mixed with Original; all if not given")
    parser.add_argument("--weights", type=int, default=1, help="those whose weights are mixed, too")
    parser.add_argument("--most", type=int, default=1000, help="of never-seen events of either sort, and test targets")
    parser.add_argument("--left-in", action="store_true", help="train a Retrain with one user's events left in")
    parser.add_argument("--json", type=Path, required=True, help="file that gets the rows")
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    began = process_time()
    court = Court(options)
    rows = read_rows(options.json)
    for name, judged in court.verdicts(rows):
        rows += [_row(court.about, name, subject, one) for subject, one in judged.items()]
        write_rows(rows, options.json)
    print("\n".join(table([row for row in rows if court.about.items() <= row.items()])))
    print(f"{process_time() - began:.0f} s of the processor")


class Court:
    """Models of one request, and what is made of them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        layout = Layout(options.data, options.data)
        data = load_dataset(layout)
        self.request = Partition.load(layout.partition(options.request), data)
        self.original = load_published(options.originals[0])[0]
        self.retrains = [folder.name for folder in options.retrains]
        self.about = {"data": data.info["name"], "request": options.request}
        self.bench = Bench(self.request, data.num_items, data.max_length, options.most)

    def verdicts(self, rows: Sequence[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Judged]]]:
        """(Retrain that is left out, verdicts of what is judged without it) where there are no rows of that yet."""
        done = {row["seed"] for row in rows if self.about.items() <= row.items()}
        names = self.retrains
        left_out = names[self.options.references or 0 :]
        if done >= set(left_out):
            return
        measures = {folder.name: self.bench.measure_folder(folder) for folder in self.options.retrains}
        originals = [self.bench.measure_folder(folder) for folder in self.options.originals]
        controls = dict(self._controls())
        for place, name in enumerate(left_out):
            if name in done:
                continue
            references = [measures[other] for other in names[: self.options.references] if other != name]
            mixed = self.options.mixed is None or place < self.options.mixed
            subjects = {"retrain": measures[name], **(controls if place == 0 else {})}
            subjects |= dict(self._mixtures(name, measures[name], originals[0], place)) if mixed else {}
            judged = judge(self.bench, {key: Subject(one) for key, one in subjects.items()}, references, originals)
            if self.options.references and place:  # the Originals are judged by the same Retrains each time
                judged = {key: one for key, one in judged.items() if not key.startswith("original-")}
            yield name, judged

    def _controls(self) -> Iterator[tuple[str, Measures]]:
        """What comes of methods that must be seen through, and of damage."""
        for name, (method, presets, changes) in CONTROLS.items():
            assignments = [f"unlearn.{method}.{change}" for change in changes]
            settings = load(Path("params.yaml"), [Path(preset) for preset in presets], assignments)
            unlearner = UNLEARNERS[method](settings.method_settings(method))
            scorer = unlearner.unlearn(self._original(), self.request, Context.quiet(CPU, 0)).scorer
            yield name, self.bench.measure(scorer)
        retrain = load_published(self.options.retrains[self.options.references or 0])[0]  # it is judged by the others
        for (name, scales), scorer in zip(NOISE.items(), (self.original, retrain), strict=True):
            for scale in scales:
                yield f"{name} {scale}", self.bench.measure(noisy(scorer, scale, 0))
        if self.options.left_in:
            yield "one user left in", self.bench.measure(self._left_in())

    def _original(self) -> Original:
        scorer, info = load_published(self.options.start, CPU, "train")
        return Original(scorer, info)

    def _left_in(self) -> Scorer:
        """A Retrain that still has the events of the report user with most of them."""
        request, data = self.request, self.request.data
        report = request.forget & (request.group[data.user] == REPORT)
        user = int(np.bincount(data.user[report]).argmax())
        without = replace(request, removed=request.removed & (data.user != user))
        context = Context.quiet(CPU, LEFT_IN, Probe(request.splits, data.max_length, CPU, BATCH))
        return UNLEARNERS["retrain"](UNLEARNERS["retrain"].Config()).unlearn(self._original(), without, context).scorer

    def _mixtures(self, name: str, retrain: Measures, original: Measures, place: int) -> Iterator[tuple[str, Measures]]:
        user = 1 / len(np.unique(self.bench.users))
        for share in (user, *SHARES):
            rng = numpy_stream(0, f"users/{name}")  # the users of a smaller share are among those of a larger one
            label = USERS if share in SHARES else "one user put back"
            yield f"{label} {share:.4g}", users_put_back(retrain, original, self.bench, share, rng)
        scorer = load_published(self.options.retrains[self.retrains.index(name)])[0]
        for share in SHARES:
            yield f"{Z} {share}", z_mixed(retrain, original, self.bench, share)
            if place < self.options.weights:
                mixed = weights_mixed(scorer, self.original, share)
                yield f"{WEIGHTS} {share}", self.bench.measure(mixed)


def _row(about: dict[str, Any], name: str, subject: str, judged: Judged) -> dict[str, Any]:
    label, _, share = subject.rpartition(" ")
    mixed = label in (USERS, Z, WEIGHTS, *NOISE, "one user put back")
    return {
        **about,
        "subject": label if mixed else subject,
        "x": float(share) if mixed else None,
        "seed": name,
        "parts": {part: judged.parts.get(part) for part in PARTS},
        "verdict": judged.verdict.word,
        "min_p": float(f"{judged.min_p:.3g}"),
    }


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Lines of a Markdown table: by subject how often each part fails, and the median of ``min_p``."""
    groups: dict[tuple[str, str, float | None], list[dict[str, Any]]] = {}
    for row in rows:
        subject = "Original" if row["subject"].startswith("original-") else row["subject"]
        groups.setdefault((row["data"], subject, row["x"]), []).append(row)
    header = ("data", "subject", "x", "judged", "fails", *PARTS, "median min p")
    lines = []
    for (data, subject, share), own in groups.items():
        shares = [_share([row["parts"][part] for row in own]) for part in PARTS]
        failed = sum(row["verdict"] == "fails" for row in own)
        median = f"{float(np.median([row['min_p'] for row in own])):.2g}"
        shown = "" if share is None else f"{share:g}"
        lines.append((data, subject, shown, str(len(own)), str(failed), *shares, median))
    return [*markdown_table(header, lines), "", *_orders(rows)]


def _share(said: Sequence[str | None]) -> str:
    """How many of the rows fail by a part; a dash where it can tell of none."""
    told = [word for word in said if word not in (None, "cannot tell")]
    return str(sum(word != "passes" for word in told)) if told else "-"


def _orders(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The AUC with which ``min_p`` tells Originals from Retrains that are left out."""
    for data in dict.fromkeys(row["data"] for row in rows):
        own = [row for row in rows if row["data"] == data]
        retrains = np.array([-row["min_p"] for row in own if row["subject"] == "retrain"])
        originals = np.array([-row["min_p"] for row in own if row["subject"].startswith("original-")])
        yield f"{data}: the smallest corrected p-value tells {len(originals)} verdicts on Originals from "
        yield f"{len(retrains)} on Retrains with an AUC of {auc(originals, retrains):.3f}."


if __name__ == "__main__":
    main()
