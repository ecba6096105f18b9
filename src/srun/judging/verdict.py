"""Verdicts: passes, fails, cannot tell, not judged. The one place that decides and words them.

A verdict has two parts: hits (Hit@10 of forgotten events beside Retrain's interval) and ranks (their distance from the
Retrains' ranks); ``metrics.forgetting`` measures both and says where each lies. A part by which Original itself passes
cannot tell whether anything was unlearned.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from srun.judging.records import KINDS, Group, Record
from srun.judging.styles import ORIGINAL, style
from srun.metrics.forgetting import MIN_RETRAINS, ForgetQuality, Place

Word = Literal["passes", "fails", "cannot tell", "not judged"]
Name = Literal["hits", "ranks"]
WORDS: tuple[Word, ...] = ("passes", "fails", "cannot tell", "not judged")
FIRM = 8
"""With fewer Retrains a verdict is provisional."""

OVER, UNDER, OTHERWISE = "over-unlearning", "under-unlearning", "ranks distributed otherwise"
PLACES: Mapping[Place, str] = {"below": OVER, "within": "within Retrain's interval", "above": UNDER}
ORIGINAL_TOO = "Original passes too"
NEITHER = "by no part does every Original fail"
NO_ORIGINAL = "Original was not evaluated, so nothing shows that the rule can"
STAND_IN = "stand-in for Retrain: never-seen events"
"""What the level of never-seen events is called where there are too few Retrains; below it is no over-unlearning."""

MEANINGS = {
    OVER: "forgotten items rank lower than if they had never been there",
    UNDER: "more of them is left than after Retrain",
    OTHERWISE: "the distance of its ranks from the Retrains' is larger than theirs from each other",
}


@dataclass(frozen=True)
class Part:
    """What one of the two figures says."""

    name: Name
    word: Word
    how: str = ""


@dataclass(frozen=True)
class Verdict:
    """What is said of one row, with the parts it was joined from."""

    word: Word
    how: str = ""
    """How it fails, by what alone it passes, or why nothing can be told."""
    note: str = ""
    """What is to be known beside."""
    parts: tuple[Part, ...] = ()
    num_retrains: int = 0
    over_unlearning: bool = False

    @property
    def text(self) -> str:
        """In words, such as ``fails: over-unlearning``."""
        said = ", ".join(part for part in (self.how, self.note) if part)
        return f"{self.word}: {said}" if said else self.word

    @property
    def provisional(self) -> str:
        """``provisional, 3 Retrains`` where they are few; empty for a firm verdict and for none."""
        return provisional(self.num_retrains) if self.word != "not judged" else ""


def decide(quality: ForgetQuality, originals: Sequence[ForgetQuality]) -> Verdict:
    """The verdict of a row by its figures and those of the Originals, which show what these figures can tell.

    A row passes only by parts that can tell. Over-unlearning fails it even where hits cannot show memory, unless
    Original passes both parts: then every row reads "cannot tell".
    """
    if quality.place is None:
        return Verdict("not judged", retrains_text(quality.num_retrains), num_retrains=quality.num_retrains)
    if not originals:
        return _join(quality, None, None)
    hits = all(original.place == "above" for original in originals)
    ranks = not any(original.near for original in originals)
    joined = _join(quality, hits, ranks)
    passed = hits or ranks or any(original.passes for original in originals)
    return joined if passed else replace(joined, how=NEITHER)


def verdict(group: Group, record: Record) -> Verdict | None:
    """The verdict of a row; None for raw scores, which are not a row of their own.

    Original and Retrain are judged by the rule as it stands: theirs say what the rule is worth.
    """
    role = style(record.method).role
    if role == "raw":
        return None
    if record.kind not in KINDS:
        return Verdict("not judged", "a category has no rule of hits and ranks")
    quality = group.qualities.get(record.cell)
    if quality is None:
        number = sum(other is not record for other in group.retrains)
        few = retrains_text(number) if number < MIN_RETRAINS else "no forgotten event of the report half was ranked"
        return Verdict("not judged", few, num_retrains=number)
    if role in ("original", "reference") and quality.place is not None:
        return _join(quality, True, True)
    originals = [group.qualities[other.cell] for other in group.of(ORIGINAL) if other.cell in group.qualities]
    return decide(quality, originals)


def verdicts(group: Group, method: str) -> list[Verdict]:
    """Of a method's rows, by seed."""
    return [judged for record in group.of(method) if (judged := verdict(group, record)) is not None]


def tally(judged: Sequence[Verdict]) -> str:
    """Verdicts counted, such as ``passes 2 of 3, fails 1 (over-unlearning)``."""
    texts: list[str] = []
    for word in WORDS:
        own = [one for one in judged if one.word == word]
        if own:
            hows = Counter(one.how for one in own if one.how)
            several = len(hows) > 1
            why = ", ".join(f"{how} {count}" if several else how for how, count in hows.items())
            number = f"{word} {len(own)}" + ("" if texts else f" of {len(judged)}")
            texts.append(number + (f" ({why})" if why else ""))
    return ", ".join(texts)


def words(group: Group, method: str) -> str:
    """What a table says of a method: its verdict, or those of its seeds counted, and what it is if it is no method."""
    role, rows = style(method).role, verdicts(group, method)
    if role == "raw":
        return style(method).about
    if role == "reference":
        judged = [one for one in rows if one.word != "not judged"]
        passed = sum(one.word == "passes" for one in judged)
        return "the reference" + (f"; by the same rule {passed} of {len(judged)} pass" if judged else "")
    if role == "original" and all(one.word == "not judged" for one in rows):
        return "nothing removed"
    prefix = {"original": "nothing removed; ", "control": "control: "}.get(role, "")
    texts = {one.text for one in rows}
    said = f"{texts.pop()}{_seeds(len(rows))}" if len(texts) == 1 else tally(rows)
    few = next((one.provisional for one in rows if one.provisional), "")
    return prefix + said + (f" ({few})" if few else "")


def headline(group: Group) -> str:
    """Passes and fails of every method and control over its seeds, in a sentence without its end."""
    by_method = {method: verdicts(group, method) for method in group.methods if style(method).role in _JUDGED}
    few = next((one.provisional for rows in by_method.values() for one in rows if one.provisional), "")
    if not by_method:
        number = len(group.retrains)
        few = f"not judged: {retrains_text(number)}, and " if number < MIN_RETRAINS else ""
        return few + "no method was evaluated"
    if all(one.word == "not judged" for rows in by_method.values() for one in rows):
        return standing(group)
    said = "; ".join(f"{_name(method)}: {tally(rows)}" for method, rows in by_method.items())
    return said + (f" ({few})" if few else "")


def standing(group: Group) -> str:
    """What limits every verdict of a group, for a figure's title: too few Retrains, or that Original passes too."""
    judged = [one for method in group.methods for one in verdicts(group, method) if style(method).role in _JUDGED]
    if not judged:
        return ""
    if all(one.word == "not judged" for one in judged):
        return f"not judged: {judged[0].how}"
    blind = next((f"cannot tell: {one.how}" for one in judged if one.word == "cannot tell"), "")
    return ", ".join(text for text in (blind, judged[0].provisional) if text)


def provisional(number: int) -> str:
    """``provisional, 3 Retrains`` where a verdict by so many is; else empty."""
    return f"provisional, {number} Retrains" if number < FIRM else ""


def retrains_text(number: int) -> str:
    """How many Retrains there are of those a verdict needs."""
    return f"{number} of {MIN_RETRAINS} Retrains" if number else "no Retrain"


_JUDGED = ("method", "control")
_NAMES: tuple[Name, ...] = ("hits", "ranks")


def _join(quality: ForgetQuality, hits_tell: bool | None, ranks_tell: bool | None) -> Verdict:
    """Join both parts; ``tell``: whether Original fails a part, None where there is no Original."""
    over, number = quality.place == "below", quality.num_retrains
    if hits_tell is False and ranks_tell is False:
        parts = tuple(_part(name, True, "", False) for name in _NAMES)
        note = "yet below Retrain's interval: over-unlearning" if over else ""
        return Verdict("cannot tell", ORIGINAL_TOO, note, parts, number, over)
    hits = _part("hits", quality.place == "within", OVER if over else UNDER, over or hits_tell)
    ranks = _part("ranks", quality.near, OTHERWISE, ranks_tell)
    parts = (hits, ranks)
    blind = "".join(f"{part.name} cannot tell: {part.how}" for part in parts if part.word == "cannot tell")
    by = {part.name: part.word for part in parts}
    if by["hits"] == "fails":
        return Verdict("fails", hits.how, "", parts, number, over)
    if by["ranks"] == "fails":
        return Verdict("fails", OTHERWISE, blind or "hits within Retrain's interval", parts, number, over)
    if "passes" not in by.values():
        return Verdict("cannot tell", NO_ORIGINAL, "", parts, number, over)
    alone = "" if not blind else f"by {hits.name if by['hits'] == 'passes' else ranks.name} alone"
    return Verdict("passes", alone, blind, parts, number, over)


def _part(name: Name, good: bool, failure: str, tells: bool | None) -> Part:
    if tells is False:
        return Part(name, "cannot tell", "Original does not fail by them")
    if not good:
        return Part(name, "fails", failure)
    return Part(name, "passes") if tells else Part(name, "cannot tell", NO_ORIGINAL)


def _seeds(number: int) -> str:
    return f", {number} of {number} seeds" if number > 1 else ""


def _name(method: str) -> str:
    return style(method).name + (" (control)" if style(method).role == "control" else "")
