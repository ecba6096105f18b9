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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
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
NOISE = {"Original, noise": (0.3, 1.0), "Retrain, noise": (0.3,)}
"""Of so many times the spread of each tensor."""
LEFT_IN = 9000
"""Seed of the Retrain with a user's events left in: that of no other model."""
USERS, Z, WEIGHTS = MIXED = ("users put back", "z mixed", "weights mixed")
ONE_USER = "one user put back"


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
        """(Retrain that is left out, verdicts of what is judged without it and has no row yet)."""
        own = [row for row in rows if self.about.items() <= row.items()]
        done = {(row["seed"], row["subject"], row["x"]) for row in own}
        names = self.retrains
        todo = {}
        for place, name in enumerate(left_out := names[self.options.references or 0 :]):
            wanted = self._wanted(name, place, place == len(left_out) - 1)
            todo[name] = {key: make for key, make in wanted.items() if (name, *_told_apart(key)) not in done}
        if not any(todo.values()):
            return
        self.measures = {folder.name: self.bench.measure_folder(folder) for folder in self.options.retrains}
        self.of_originals = [self.bench.measure_folder(folder) for folder in self.options.originals]
        for name, makers in todo.items():
            if not makers:
                continue
            references = [self.measures[other] for other in names[: self.options.references] if other != name]
            subjects = {key: Subject(make()) for key, make in makers.items()}
            judged = judge(self.bench, subjects, references, self.of_originals)
            first_time = "retrain" in makers and (name == left_out[0] or not self.options.references)
            yield name, {key: one for key, one in judged.items() if first_time or not key.startswith("original-")}

    def _wanted(self, name: str, place: int, last: bool) -> dict[str, Callable[[], Measures]]:
        """Subject -> what makes it, of what is judged without a Retrain; the controls come with the last one."""
        wanted: dict[str, Callable[[], Measures]] = {"retrain": lambda: self.measures[name]}
        if self.options.mixed is None or place < self.options.mixed:
            user = 1 / len(np.unique(self.bench.users))
            wanted |= {
                f"{label} {share:.4g}": partial(self._users_put_back, name, share)
                for label, share in ((ONE_USER, user), *((USERS, share) for share in SHARES))
            }
            wanted |= {f"{Z} {share}": partial(self._z_mixed, name, share) for share in SHARES}
        if place < self.options.weights:
            wanted |= {f"{WEIGHTS} {share}": partial(self._weights_mixed, name, share) for share in SHARES}
        if last:
            wanted |= {label: partial(self._control, label) for label in CONTROLS}
            for label, scales in NOISE.items():
                wanted |= {f"{label} {scale}": partial(self._noisy, label, name, scale) for scale in scales}
            wanted |= {"one user left in": self._left_in} if self.options.left_in else {}
        return wanted

    def _users_put_back(self, name: str, share: float) -> Measures:
        rng = numpy_stream(0, f"users/{name}")  # the users of a smaller share are among those of a larger one
        return users_put_back(self.measures[name], self.of_originals[0], self.bench, share, rng)

    def _z_mixed(self, name: str, share: float) -> Measures:
        return z_mixed(self.measures[name], self.of_originals[0], self.bench, share)

    def _weights_mixed(self, name: str, share: float) -> Measures:
        return self.bench.measure(weights_mixed(self._scorer(name), self.original, share))

    def _noisy(self, label: str, name: str, scale: float) -> Measures:
        scorer = self.original if label.startswith("Original") else self._scorer(name)
        return self.bench.measure(noisy(scorer, scale, 0))

    def _control(self, label: str) -> Measures:
        """What comes of a method that must be seen through."""
        method, presets, changes = CONTROLS[label]
        assignments = [f"unlearn.{method}.{change}" for change in changes]
        settings = load(Path("params.yaml"), [Path(preset) for preset in presets], assignments)
        unlearner = UNLEARNERS[method](settings.method_settings(method))
        scorer = unlearner.unlearn(self._original(), self.request, Context.quiet(CPU, 0)).scorer
        return self.bench.measure(scorer)

    def _left_in(self) -> Measures:
        """Of a Retrain that still has the events of the report user with most of them."""
        request, data = self.request, self.request.data
        report = request.forget & (request.group[data.user] == REPORT)
        user = int(np.bincount(data.user[report]).argmax())
        without = replace(request, removed=request.removed & (data.user != user))
        context = Context.quiet(CPU, LEFT_IN, Probe(request.splits, data.max_length, CPU, BATCH))
        retrain = UNLEARNERS["retrain"](UNLEARNERS["retrain"].Config())
        return self.bench.measure(retrain.unlearn(self._original(), without, context).scorer)

    def _scorer(self, name: str) -> Scorer:
        return load_published(self.options.retrains[self.retrains.index(name)])[0]

    def _original(self) -> Original:
        scorer, info = load_published(self.options.start, CPU, "train")
        return Original(scorer, info)


def _told_apart(subject: str) -> tuple[str, float | None]:
    """What a subject is, and the share or scale of it, if it has one."""
    label, _, share = subject.rpartition(" ")
    return (label, float(share)) if label in (*MIXED, *NOISE, ONE_USER) else (subject, None)


def _row(about: dict[str, Any], name: str, subject: str, judged: Judged) -> dict[str, Any]:
    label, share = _told_apart(subject)
    return {
        **about,
        "subject": label,
        "x": share,
        "seed": name,
        "parts": {part: judged.parts.get(part) for part in PARTS},
        "verdict": judged.verdict.word,
        "min_p": float(f"{judged.min_p:.3g}"),
    }


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Lines of two Markdown tables, of what is judged whole and of mixtures, and a sentence on ``min_p`` each data."""
    whole, mixed = (
        [row for row in rows if row["subject"] not in MIXED],
        [row for row in rows if row["subject"] in MIXED],
    )
    header = ("data", "subject", "judged", "fails", *PARTS, "median min p")
    lines = [
        (*key, str(len(own)), str(_failed(own)), *(_share(own, part) for part in PARTS), _median(own))
        for key, own in _groups(whole, lambda row: f"{_subject(row)} {row['x'] or ''}".strip()).items()
    ]
    shares = sorted({row["x"] for row in mixed})
    of_mixtures = [
        (*key, str(len({row["seed"] for row in own})), *(_seen(own, share) for share in shares))
        for key, own in _groups(mixed, _subject).items()
    ]
    titles = ("data", "mixed with Original", "Retrains", *(f"{share:g}" for share in shares))
    return [
        *markdown_table(header, lines),
        "",
        *markdown_table(titles, of_mixtures),
        "",
        *_orders(rows),
    ]


def _groups(
    rows: Sequence[dict[str, Any]], label: Callable[[dict[str, Any]], str]
) -> dict[tuple[str, str], list[dict[str, Any]]]:
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["data"], label(row)), []).append(row)
    return groups


def _subject(row: dict[str, Any]) -> str:
    return "Original" if row["subject"].startswith("original-") else str(row["subject"])


def _failed(rows: Sequence[dict[str, Any]]) -> int:
    return sum(row["verdict"] == "fails" for row in rows)


def _share(rows: Sequence[dict[str, Any]], part: str) -> str:
    """How many of the rows fail by a part; a dash where it can tell of none."""
    told = [word for row in rows if (word := row["parts"][part]) not in (None, "cannot tell")]
    return str(sum(word != "passes" for word in told)) if told else "-"


def _median(rows: Sequence[dict[str, Any]]) -> str:
    return f"{float(np.median([row['min_p'] for row in rows])):.2g}"


def _seen(rows: Sequence[dict[str, Any]], share: float) -> str:
    """How many mixtures of a share fail, and by which parts any of them does."""
    own = [row for row in rows if row["x"] == share]
    parts = [part for part in PARTS if _share(own, part) not in ("-", "0")]
    return f"{_failed(own)} of {len(own)}" + (f" ({', '.join(parts)})" if parts else "")


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
