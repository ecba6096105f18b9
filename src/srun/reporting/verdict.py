"""What the figures say of a method, in words: over- or under-unlearning, and whether it could be a Retrain."""

from collections.abc import Sequence

from srun.metrics.forgetting import ForgetQuality
from srun.reporting.methods import style
from srun.reporting.records import Group, Record
from srun.reporting.reference import Place, forget_gap

PLACES: dict[Place, str] = {
    "below": "over-unlearning",
    "within": "within Retrain's interval",
    "above": "under-unlearning",
}
PASSES = "passes: could be a Retrain by this measure"
OTHERWISE = "fails: hits within Retrain's interval, but ranks distributed otherwise"

MEANINGS = {
    PLACES["below"]: " (forgotten items rank lower than if they had never been there)",
    PLACES["within"]: " (by this figure it could be a Retrain)",
    PLACES["above"]: " (more of them is left than after Retrain)",
    OTHERWISE: " (the distance of its ranks from the Retrains' is larger than theirs from each other)",
}


def qualities(group: Group, method: str) -> list[ForgetQuality]:
    """Forget quality of a method's rows, by seed, of those that have it."""
    return [group.qualities[record.cell] for record in _with_ranks(group, method)]


def passes(group: Group, method: str) -> tuple[int, int] | None:
    """(rows that pass, rows judged) of a method; None where no pass is given."""
    found = [quality.passes for quality in qualities(group, method) if quality.passes is not None]
    return (sum(found), len(found)) if found else None


def verdict(group: Group, method: str) -> str:
    """What hits and ranks of forgotten events beside Retrain's say of a method, in plain words."""
    shown = style(method)
    places = [gap.place for record in group.of(method) if (gap := forget_gap(group, record)) is not None]
    if shown.role == "reference":
        return "the reference" + _audit(group)
    if shown.role == "raw":
        return shown.about
    if method == "output_mask":
        return "control: hides, does not unlearn"
    prefix = {"original": "nothing removed", "control": "control"}.get(shown.role, "")
    if shown.role == "original" and places:
        where = {"below": "already below", "within": "yet within", "above": "above"}[_worst(places)]
        otherwise = _worst(places) == "within" and any(not quality.near for quality in qualities(group, method))
        return f"{prefix}; {where} Retrain's interval" + (", but ranks distributed otherwise" if otherwise else "")
    words = _words(group, method)
    return f"{prefix}: {words}" if prefix else words


def _with_ranks(group: Group, method: str) -> list[Record]:
    return [record for record in group.of(method) if record.events and record.cell in group.qualities]


def _standing(group: Group, record: Record) -> str | None:
    """The word for one row; a failure is called by its hits first, which say in which direction it fails."""
    gap = forget_gap(group, record)
    if gap is None:
        return None
    quality = group.qualities.get(record.cell)
    if gap.place != "within" or quality is None or quality.passes is None:
        return PLACES[gap.place]
    return PASSES if quality.passes else OTHERWISE


def _words(group: Group, method: str) -> str:
    found = [word for record in group.of(method) if (word := _standing(group, record)) is not None]
    if not found:
        return "not judged by forget hits" if group.first.kind == "category" else "no verdict: needs two Retrains"
    counts = {word: found.count(word) for word in (*PLACES.values(), OTHERWISE, PASSES) if word in found}
    if len(counts) == 1:
        return found[0]
    seeds = {word: f"{word.removeprefix('fails: ')} in {count} of {len(found)} seeds" for word, count in counts.items()}
    judged = passes(group, method)
    if judged is None:
        return ", ".join(seeds.values())
    rest = ", ".join(text for word, text in seeds.items() if word != PASSES)
    # a true Retrain fails with chance 1/(n+1), so one seed of three may
    if 3 * judged[0] >= 2 * judged[1]:
        return f"{PASSES} in {judged[0]} of {judged[1]} seeds ({rest})"
    return f"fails, with {judged[0]} of {judged[1]} seeds that pass: {rest}"


def _worst(places: Sequence[Place]) -> Place:
    """The place of several seeds: below if any is, else above if any is."""
    return next((place for place in ("below", "above") if place in places), "within")


def _audit(group: Group) -> str:
    """Audit of the audit: which Retrains the same rule, with the others for reference, would not take for one."""
    gaps = {record.seed: forget_gap(group, record) for record in group.retrains}
    # few events make the others' hits coincide at times; an interval without width says nothing
    outside = [str(seed) for seed, gap in gaps.items() if gap and gap.bound > 0 and gap.place != "within"]
    words = f"; seed {', '.join(outside)} lies outside the interval of the others" if outside else ""
    judged = passes(group, "retrain")
    return words + (f"; by the same rule {judged[0]} of {judged[1]} pass" if judged else "")
