r"""Hold the fronts of searches against SISA and the thesis' setting, on data that no choice has looked at.

Of each study of the project in this folder, trials of its front are chosen by tune data alone, three ways, and carried
out where they are not yet (``srun optimize apply``):

    utility  of those whose forget_tune Hit@10 is not above a comparator's, the best by validation NDCG@10. On a front
             it is the nearest to the comparator, so it lies no further below never-seen events than need be.
    lead     the one that beats a comparator in both by the most: the smaller of both leads, each in half-widths of the
             comparator's 95 % interval, is largest. None that lies more than a half-width below never-seen events, or
             below the comparator where that lies lower.
    match    the nearest in forget_tune Hit@10 to never-seen events of those with 95 % of Original's validation NDCG@10.

Differences to comparators are of the same events and seed; intervals are of users drawn again, with their events of all
seeds (the seeds are not drawn again). ``points.csv`` has what was measured, ``differences.csv`` what is told of it.

    python benchmarks/search/fronts.py --params presets/beauty-sruga.yaml --params presets/beauty-fronts.yaml \
      --thesis out/thesis --out reports/pareto/fronts
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rows import shown, write

from srun.flow.layout import Layout
from srun.flow.optimize import apply_trial
from srun.flow.project import Project
from srun.judging.methods import model_name, style
from srun.metrics.bootstrap import CONFIDENCE, user_interval
from srun.metrics.forgetting import ks_to_retrains
from srun.metrics.ranking import gains, hit, hits, ndcg
from srun.rng import numpy_stream
from srun.search.results import StudyResult, TrialResult, read_study
from srun.search.storage import open_storage
from srun.search.study import load_study

UTILITY, FORGET = "validation/ndcg_10", "forget_tune/hit_10"
AGAINST = ("thesis", "sisa")
KEPT = 0.95
RESAMPLES = 1000
Values = NDArray[np.float64]


@dataclass
class Row:
    """An evaluated model. ``events``: those of its splits, with their ranks."""

    model: str
    seed: int
    name: str
    events: dict[str, pd.DataFrame]
    trial: int | None = None
    settings: str = ""

    def ranks(self, split: str) -> Values:
        return self.events[split]["rank"].to_numpy()

    def users(self, split: str) -> NDArray[np.int64]:
        return self.events[split]["user"].to_numpy()


@dataclass
class Group:
    """All rows of one model; ``chosen[comparator, way][seed]``."""

    retrains: list[Row]
    others: dict[str, dict[int, Row]]
    chosen: dict[tuple[str, str], dict[int, Row]] = field(default_factory=dict)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--thesis", type=Path, required=True, help="folder of the same Originals, by sruga-plain.yaml")
    parser.add_argument(
        "--params", type=Path, action="append", default=[], help="laid over params.yaml, as in a search"
    )
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(words)
    sets = ["runtime.threads=1", "runtime.tracking=false"]
    project = Project.open([str(preset) for preset in options.params], sets)
    groups: dict[str, Group] = {}
    for study in _studies(project.layout):
        model, cell = study.about["model"], study.about["cell"]
        if model not in groups:
            folders = sorted(Path("evaluations", cell["original"]).glob("*/retrain-*"))
            groups[model] = Group([_row(model, folder, "retrain") for folder in folders], {})
        _add(groups[model], model, study, project, options.thesis)
    options.out.mkdir(parents=True, exist_ok=True)
    write(options.out / "points.csv", [point for group in groups.values() for point in _points(group)])
    told = [line for group in groups.values() for line in _differences(group)]
    write(options.out / "differences.csv", told)
    _draw(groups, options.out / "fronts.png")


def _studies(layout: Layout) -> Iterator[StudyResult]:
    for file in sorted(layout.journal("any").parent.glob("*.journal")):
        yield read_study(load_study(open_storage(str(file)), file.stem))


def _add(group: Group, model: str, study: StudyResult, project: Project, thesis: Path) -> None:
    """The rows of a study's seed: those it is held against, and the trials that are chosen for that."""
    cell = study.about["cell"]
    seed = int(cell["original"].rpartition("-")[2])
    own = Path("evaluations", cell["original"], cell["request"])
    [sisa] = Path("evaluations").glob(f"{model}-sisa*/{cell['request']}/sisa-{seed}")
    folders = {"original": own / f"original-{seed}", "sisa": sisa, "thesis": thesis / own / f"sruga-{seed}"}
    for name, folder in folders.items():
        group.others.setdefault(name, {})[seed] = _row(model, folder, name, seed)
    for (against, way), trial in _choices(study, group, seed).items():
        print(model, seed, against, way, trial.number, file=sys.stderr)
        folder = own / "pareto" / study.name / f"trial-{trial.number}"
        if not folder.is_dir():
            apply_trial(project, study.name, trial.number, None)
        settings = " ".join(f"{key.rpartition('.')[2]}={shown(value, 4)}" for key, value in trial.overrides.items())
        row = _row(model, folder, way, seed, trial.number, settings or "as in params.yaml")
        group.chosen.setdefault((against, way), {})[seed] = row


def _choices(study: StudyResult, group: Group, seed: int) -> dict[tuple[str, str], TrialResult]:
    """Trials of the front, by comparator and way; by tune data alone."""
    found: dict[tuple[str, str], TrialResult] = {}
    least, level = KEPT * study.about["original"][UTILITY], study.about["level"][FORGET]
    able = [trial for trial in study.front if trial.figures[UTILITY] >= least]
    for against in AGAINST:
        found |= {(against, way): trial for way, trial in _beating(study, group.others[against][seed]).items()}
        if able:
            found[against, "match"] = min(able, key=lambda trial: abs(trial.figures[FORGET] - level))
    return found


def _beating(study: StudyResult, other: Row) -> dict[str, TrialResult]:
    """``utility`` and ``lead``, where there are such trials."""
    suppressed, utility = hit(other.ranks("forget_tune"), 10), ndcg(other.ranks("validation"), 10)
    half, utility_half = _half_width(other, "forget_tune", hits), _half_width(other, "validation", gains)

    def lead(trial: TrialResult) -> float:
        return min((trial.figures[UTILITY] - utility) / utility_half, (suppressed - trial.figures[FORGET]) / half)

    below = [trial for trial in study.front if trial.figures[FORGET] <= suppressed]
    lowest = min(study.about["level"][FORGET], suppressed) - half
    near = [trial for trial in below if trial.figures[FORGET] >= lowest]
    found = {"utility": max(below, key=lambda trial: trial.figures[UTILITY])} if below else {}
    return found | ({"lead": max(near, key=lead)} if near else {})


def _half_width(row: Row, split: str, of: Any) -> float:
    """Of the 95 % interval of a mean, users drawn again."""
    low, high = user_interval(of(row.ranks(split), 10), row.users(split), numpy_stream(0, "half_width"))
    return (high - low) / 2


def _row(
    model: str, folder: Path, name: str, seed: int | None = None, trial: int | None = None, settings: str = ""
) -> Row:
    record = json.loads((folder / "report.json").read_text())
    table = pd.read_parquet(folder / "events.parquet").sort_values("event")  # the same order in every row
    events = dict(tuple(table.groupby("split")))
    return Row(model, record["cell"]["seed"] if seed is None else seed, name, events, trial, settings)


def _points(group: Group) -> Iterator[dict[str, Any]]:
    """What every row measured, on tune data and on the rest."""
    rows = [*group.retrains, *(row for by_seed in group.others.values() for row in by_seed.values())]
    chosen: dict[tuple[int, int | None], tuple[Row, list[str]]] = {}
    for (against, way), by_seed in group.chosen.items():
        for row in by_seed.values():
            chosen.setdefault((row.seed, row.trial), (row, []))[1].append(f"{way}:{against}")
    for row, ways in [*((row, []) for row in rows), *chosen.values()]:
        yield {
            "model": row.model,
            "seed": row.seed,
            "row": "trial" if ways else row.name,
            "trial": row.trial,
            "chosen": " ".join(ways),
            "validation_ndcg_10": ndcg(row.ranks("validation"), 10),
            "tune_hit_10": hit(row.ranks("forget_tune"), 10),
            "test_ndcg_10": ndcg(row.ranks("test"), 10),
            "report_hit_10": hit(row.ranks("forget_report"), 10),
            "report_ks_d": None if row in group.retrains else _ks(row, group),
            "settings": row.settings,
        }


def _ks(row: Row, group: Group) -> float:
    return ks_to_retrains(row.ranks("forget_report"), np.stack([one.ranks("forget_report") for one in group.retrains]))


def _differences(group: Group) -> Iterator[dict[str, Any]]:
    """Chosen less comparator, of each seed and of all: test NDCG@10, forget_report Hit@10 and KS D to the Retrains."""
    for (against, way), by_seed in group.chosen.items():
        pairs = [(row, group.others[against][seed]) for seed, row in sorted(by_seed.items())]
        for chosen in (*([pair] for pair in pairs), pairs):
            line: dict[str, Any] = {"model": pairs[0][0].model, "against": against, "chosen_by": way}
            line["seeds"] = " ".join(str(row.seed) for row, _ in chosen)
            line["trials"] = " ".join(str(row.trial) for row, _ in chosen)
            line |= _interval("test_ndcg_10", *_paired(chosen, "test", gains))
            line |= _interval("report_hit_10", *_paired(chosen, "forget_report", hits))
            line |= _ks_interval(chosen, group)
            line["dominates"] = line["test_ndcg_10"] >= 0 >= line["report_hit_10"]
            line["beyond_noise"] = line["test_ndcg_10_low"] > 0 > line["report_hit_10_high"]
            yield line


def _paired(pairs: list[tuple[Row, Row]], split: str, of: Any) -> tuple[Values, NDArray[np.int64]]:
    values = [of(one.ranks(split), 10) - of(other.ranks(split), 10) for one, other in pairs]
    return np.concatenate(values), np.concatenate([one.users(split) for one, _ in pairs])


def _interval(name: str, values: Values, users: NDArray[np.int64]) -> dict[str, float]:
    low, high = user_interval(values, users, numpy_stream(0, name))
    return {name: float(values.mean()), f"{name}_low": low, f"{name}_high": high}


def _ks_interval(pairs: list[tuple[Row, Row]], group: Group) -> dict[str, float]:
    """Mean difference of ``ks_to_retrains``, and its interval: the same users are drawn of all rows and Retrains."""
    ranks = [[row.ranks("forget_report") for row in rows] for rows in (group.retrains, *pairs)]
    grid = np.unique(np.concatenate([one for some in ranks for one in some]))
    retrains, *placed = [[np.searchsorted(grid, one) for one in some] for some in ranks]
    users, owner = np.unique(pairs[0][0].users("forget_report"), return_inverse=True)

    def shares(places: NDArray[np.int64], weight: Values) -> Values:
        found = np.cumsum(np.bincount(places, weight, len(grid)))
        return found / found[-1]

    def difference(weight: Values) -> float:
        own = np.stack([shares(one, weight) for one in retrains])
        others = (own.sum(0) - own) / (len(own) - 1)  # (n, B) of all Retrains but one
        distance = [[np.abs(shares(one, weight) - others).max(1).mean() for one in pair] for pair in placed]
        return float(np.mean([one - other for one, other in distance]))

    drawn = numpy_stream(0, "ks").multinomial(len(users), np.full(len(users), 1 / len(users)), RESAMPLES)
    low, high = np.quantile(
        [difference(weight[owner]) for weight in drawn], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    )
    return {"ks_d": difference(np.ones(len(owner))), "ks_d_low": float(low), "ks_d_high": float(high)}


def _draw(groups: dict[str, Group], path: Path) -> None:
    """Test NDCG@10 against forget_report Hit@10, each seed small and the mean large."""
    colours = {name: style(name).colour for name in ("original", "retrain", "sisa")} | {"thesis": "#CC79A7"}
    markers = {name: style(name).marker for name in ("original", "retrain", "sisa")} | {"thesis": "v"}
    names = {"original": "Original", "retrain": "Retrain", "sisa": "SISA", "thesis": "thesis' setting"}
    names |= {"utility": "front, most utility", "lead": "front, most lead", "match": "front, match"}
    colours |= {"utility": "#E69F00", "lead": "#D55E00", "match": "#009E73"}
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    for axes, (model, group) in zip(np.atleast_1d(figure.subplots(1, len(groups))), groups.items(), strict=True):
        for name in ("original", "retrain", "sisa", "thesis"):
            rows = group.retrains if name == "retrain" else list(group.others[name].values())
            _scatter(axes, rows, colours[name], markers[name], names[name])
        for (against, way), by_seed in group.chosen.items():
            if way == "match" and against == "sisa":
                continue  # the same as against the thesis' setting
            label = names[way] if way == "match" else f"{names[way]}, against {names[against]}"
            marker = "*" if way == "match" else {"thesis": "<", "sisa": ">"}[against]
            _scatter(axes, list(by_seed.values()), colours[way], marker, label)
        axes.set(title=model_name(model), xlabel="forget_report Hit@10 (lower: more forgotten)", ylabel="test NDCG@10")
        axes.locator_params(axis="x", nbins=6)
        axes.grid(color="#E5E5E5")
        axes.set_axisbelow(True)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", fontsize=8)
    figure.savefig(path, dpi=110)


def _scatter(axes: Any, rows: list[Row], colour: str, marker: str, label: str) -> None:
    points = np.array([[hit(row.ranks("forget_report"), 10), ndcg(row.ranks("test"), 10)] for row in rows])
    axes.scatter(*points.T, color=colour, marker=marker, s=18, alpha=0.45, linewidths=0)
    axes.scatter(*points.mean(0), color=colour, marker=marker, s=130, edgecolors="white", label=label)


if __name__ == "__main__":
    main()
