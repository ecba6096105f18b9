"""What the report of a search shows beside its trials: Retrain's interval, the never-seen level, evaluated rows."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from srun.judging.estimates import retrain_band
from srun.judging.judgement import Band
from srun.judging.records import KINDS, METRIC, SPLIT
from srun.judging.styles import ORIGINAL, REFERENCE
from srun.judging.verdict import ORIGINAL_TOO, PLACES, STAND_IN, provisional, retrains_text
from srun.metrics.forgetting import Interval

TUNED, REPORTED = "forget_tune/hit_10", f"{SPLIT}/{METRIC}"
"""Keys of the forget hits by which trials are chosen, and by which rows are published."""


@dataclass(frozen=True)
class Mark:
    """An evaluated row that stands beside the trials: of another method, or a trial that was applied."""

    method: str
    seed: int
    trial: int | None
    figures: Mapping[str, float]


@dataclass(frozen=True)
class Reference:
    """What trials are held against across: Retrain's interval, or the level of never-seen events that stands in."""

    level: float | None
    """Hit@10 of comparable never-seen events under Original; None where something else goes across."""
    interval: Band | None
    """Of the Retrains' hits; None with too few of them."""
    blind: str
    """Why nothing can be told by it; empty where it can."""
    few: str = ""
    """That there are few Retrains."""

    @property
    def note(self) -> str:
        """What limits any verdict by it."""
        return ", ".join(text for text in (self.blind, self.few) if text)

    @property
    def line(self) -> str:
        """What the level is called."""
        return "never-seen events" if self.interval else STAND_IN


@dataclass(frozen=True)
class Beside:
    """Rows beside the trials, and what all are held against."""

    marks: tuple[Mark, ...]
    verdicts: tuple[str, ...]
    """What the reported forget hits of each row say; ranks, without which nothing passes, are apart."""
    across: Reference
    """By what goes across: ``TUNED``, or something that has no reference."""


def stand_beside(levels: Mapping[str, float], kind: str, marks: Sequence[Mark], across: str | None) -> Beside:
    """Judge the rows beside the trials of a search.

    ``levels``: of never-seen events, by key; ``kind``: of the request; ``across``: the key that goes across.
    """
    reported = reference(levels, kind, marks, REPORTED)
    verdicts = tuple(hits_verdict(mark, reported) for mark in marks)
    return Beside(tuple(marks), verdicts, reference(levels, kind, marks, across))


def reference(levels: Mapping[str, float], kind: str, marks: Sequence[Mark], key: str | None) -> Reference:
    """What a search's trials are held against by ``key``, forget hits of tune or report data."""
    if key not in (TUNED, REPORTED) or kind not in KINDS:
        return Reference(None, None, "")
    level = levels.get(key, math.nan)
    originals, retrains = (_values(marks, method, key) for method in (ORIGINAL, REFERENCE))
    band = retrain_band(retrains)
    shown = level if math.isfinite(level) else None
    if band is None:
        return Reference(shown, None, f"not judged: {retrains_text(len(retrains))}")
    interval = Interval(band.mean, band.bound)
    blind = not originals or any(interval.place(value) != "above" for value in originals)
    too = ORIGINAL_TOO if originals else "Original was not evaluated"
    said = f"hits alone cannot tell: {too}" if blind else ""
    return Reference(shown, band, said, provisional(len(retrains)))


def hits_verdict(mark: Mark, reported: Reference) -> str:
    """What the reported forget hits of a row say beside Retrain's."""
    value = mark.figures.get(REPORTED)
    if mark.method == REFERENCE:
        return "the reference"
    if value is None or not math.isfinite(value) or reported.interval is None:
        return reported.blind or "–"
    place = Interval(reported.interval.mean, reported.interval.bound).place(value)
    told = place == "below" or not reported.blind or mark.method == ORIGINAL
    return (PLACES[place] if told else reported.blind) + (f" ({reported.few})" if reported.few else "")


def _values(marks: Sequence[Mark], method: str, key: str) -> list[float]:
    """Finite figures of a method's own rows; an applied trial is none of them."""
    own = (mark for mark in marks if mark.method == method and mark.trial is None)
    return [mark.figures[key] for mark in own if math.isfinite(mark.figures.get(key, math.nan))]
