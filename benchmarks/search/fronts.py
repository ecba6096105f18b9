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
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from compared import Group, Row, differences, half_width, points, read_row
from fronts_figure import draw
from tried import shown, write

from srun.flow.layout import Layout
from srun.flow.optimize import apply_trial
from srun.flow.project import Project
from srun.metrics.ranking import gains, hit, hits, ndcg
from srun.search.results import StudyResult, TrialResult, read_study
from srun.search.storage import open_storage
from srun.search.study import load_study

UTILITY, FORGET = "validation/ndcg_10", "forget_tune/hit_10"
AGAINST = ("thesis", "sisa")
KEPT = 0.95


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
            groups[model] = Group([read_row(model, folder, "retrain") for folder in folders], {})
        _add(groups[model], model, study, project, options.thesis)
    options.out.mkdir(parents=True, exist_ok=True)
    write(options.out / "points.csv", [point for group in groups.values() for point in points(group)])
    told = [line for group in groups.values() for line in differences(group)]
    write(options.out / "differences.csv", told)
    draw(groups, options.out / "fronts.png")


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
        group.others.setdefault(name, {})[seed] = read_row(model, folder, name, seed)
    for (against, way), trial in _choices(study, group, seed).items():
        print(model, seed, against, way, trial.number, file=sys.stderr)
        folder = own / "pareto" / study.name / f"trial-{trial.number}"
        if not folder.is_dir():
            apply_trial(project, study.name, trial.number, None)
        settings = " ".join(f"{key.rpartition('.')[2]}={shown(value, 4)}" for key, value in trial.overrides.items())
        row = read_row(model, folder, way, seed, trial.number, settings or "as in params.yaml")
        group.chosen.setdefault((against, way), {})[seed] = row


def _choices(study: StudyResult, group: Group, seed: int) -> dict[tuple[str, str], TrialResult]:
    """Trials of the front, by comparator and way; by tune data alone."""
    chosen: dict[tuple[str, str], TrialResult] = {}
    least, level = KEPT * study.about["original"][UTILITY], study.about["level"][FORGET]
    able = [trial for trial in study.front if trial.figures[UTILITY] >= least]
    for against in AGAINST:
        chosen |= {(against, way): trial for way, trial in _beating(study, group.others[against][seed]).items()}
        if able:
            chosen[against, "match"] = min(able, key=lambda trial: abs(trial.figures[FORGET] - level))
    return chosen


def _beating(study: StudyResult, other: Row) -> dict[str, TrialResult]:
    """``utility`` and ``lead``, where there are such trials."""
    suppressed, utility = hit(other.ranks("forget_tune"), 10), ndcg(other.ranks("validation"), 10)
    half, utility_half = half_width(other, "forget_tune", hits), half_width(other, "validation", gains)

    def lead(trial: TrialResult) -> float:
        return min((trial.figures[UTILITY] - utility) / utility_half, (suppressed - trial.figures[FORGET]) / half)

    below = [trial for trial in study.front if trial.figures[FORGET] <= suppressed]
    lowest = min(study.about["level"][FORGET], suppressed) - half
    near = [trial for trial in below if trial.figures[FORGET] >= lowest]
    chosen = {"utility": max(below, key=lambda trial: trial.figures[UTILITY])} if below else {}
    return chosen | ({"lead": max(near, key=lead)} if near else {})


if __name__ == "__main__":
    main()
