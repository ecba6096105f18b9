"""Verdicts: passes, fails, cannot tell, not judged. The one place that decides and words them.

A verdict has up to five parts: hits (Hit@10 of forgotten events beside Retrain's interval), ranks (their distance from
the Retrains' ranks), file (what attacks have back of it, beside what they have of Retrains' files), events (memory left
of single events) and membership. ``metrics.forgetting``, ``.recovered``, ``.memory`` and ``.membership`` measure them
and say where each lies. A part by which Original itself passes cannot tell whether anything was unlearned, and nor can
a pass by a part that would not see a fifth of users put back (``metrics.power``).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from srun.judging.records import ERROR_RATE, KINDS, Group, Record
from srun.judging.styles import ORIGINAL, style
from srun.metrics.forgetting import MIN_RETRAINS, ForgetQuality, LevelError, Place
from srun.metrics.membership import MembershipQuality
from srun.metrics.memory import MOST, MemoryQuality
from srun.metrics.power import LEAST_RETRAINS, SHARES, Failures, Power, RuleError, Threshold, Way
from srun.metrics.recovered import TABLE_ATTACKS, FileQuality

Word = Literal["passes", "fails", "cannot tell", "not judged"]
Name = Literal["hits", "ranks", "file", "events", "membership"]
WORDS: tuple[Word, ...] = ("passes", "fails", "cannot tell", "not judged")
FIRM = 8
"""With fewer Retrains a verdict is provisional."""

OVER, UNDER, OTHERWISE = "over-unlearning", "under-unlearning", "ranks distributed otherwise"
PLACES: Mapping[Place, str] = {"below": OVER, "within": "within Retrain's interval", "above": UNDER}
IN_FILE, IN_STATES = "Original is in the file", "its states give forgotten events back"
IN_TABLES, REMEMBERED = "its tables give forgotten events back", "single events are remembered"
TOLD = "forgotten events can be told from never-seen ones"
LEVEL_UNKNOWN = "the level it aims at is known to"
NOT_ATTACKED = "of several models, unlike Retrain's"
ORIGINAL_TOO = "Original passes too"
NEITHER = "by no part does every Original fail"
NO_ORIGINAL = "Original was not evaluated, so nothing shows that the rule can"
STAND_IN = "stand-in for Retrain: never-seen events"
"""What the level of never-seen events is called where there are too few Retrains; below it is no over-unlearning."""

MEANINGS = {
    OVER: "forgotten items rank lower than if they had never been there",
    UNDER: "more of them is left than after Retrain",
    OTHERWISE: "the distance of its ranks from the Retrains' is larger than theirs from each other",
    IN_FILE: "scored by a table of the file, forgotten events rank as under Original",
    IN_STATES: "a table fitted to its states on retained data brings back more of them than of Retrains' files",
    IN_TABLES: "scored by a table of the file, more of them is back than of Retrains' files",
    REMEMBERED: "its ranks still tell what only a model that saw these events knows",
    TOLD: "a membership attack with retrained references tells them better than of a further Retrain",
}


@dataclass(frozen=True)
class Part:
    """What one of the figures says."""

    name: Name
    word: Word
    how: str = ""
    sees: Power | None = None
    """From which share of Original on it fails; None where that was not measured."""


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
    sees: Power | None = None
    """From which share of Original on a part that can tell fails; None where it was not measured."""
    num_tests: int = 0
    """Tests that share one error rate; 0 where nothing was judged."""

    @property
    def text(self) -> str:
        """In words, such as ``fails: over-unlearning``."""
        said = ", ".join(part for part in (self.how, self.note) if part)
        return f"{self.word}: {said}" if said else self.word

    @property
    def provisional(self) -> str:
        """``provisional, 3 Retrains`` where they are few; empty for a firm verdict and for none."""
        return provisional(self.num_retrains) if self.word != "not judged" else ""

    @property
    def qualified(self) -> str:
        """What stands beside it in brackets: ``provisional, 5 Retrains; sees from 5 % of users on``, or less."""
        return "; ".join(text for text in (self.provisional, sees_text(self.sees)) if text)

    @property
    def said(self) -> str:
        """The verdict, and what qualifies it in brackets."""
        return f"{self.text} ({self.qualified})" if self.qualified else self.text


@dataclass(frozen=True)
class Figures:
    """What the verdict of a row is decided by; a part without its figures is not there."""

    quality: ForgetQuality
    file: FileQuality | None = None
    unattacked: str = ""
    """Why its file was not attacked, where others were."""
    memory: MemoryQuality | None = None
    level: LevelError | None = None
    """Of a method that aims at a level."""
    membership: MembershipQuality | None = None
    """Of an audit."""


def decide(row: Figures, originals: Sequence[Figures], failures: Failures | None = None) -> Verdict:
    """The verdict of a row by its figures and those of the Originals, which show what these figures can tell.

    ``failures`` says which mixtures of Retrain and Original each part sees; None where power was not measured. A pass
    by a part with too little power tells nothing; a failure stands, for its error rate is known.

    A row passes only by parts that can tell, and never where the level that it aims at is not known well enough.
    Over-unlearning fails it even where hits cannot show memory, unless Original passes all parts: then every row reads
    "cannot tell".
    """
    quality = row.quality
    if quality.place is None:
        return Verdict("not judged", retrains_text(quality.num_retrains), num_retrains=quality.num_retrains)
    parts = parts_of(row)
    over = quality.place == "below"
    if not originals:
        shown = [
            replace(part, word="cannot tell", how=NO_ORIGINAL) if part.word == "passes" else part for part in parts
        ]
        return _join(shown, quality.num_retrains, over)
    of_originals = [{p.name: p for p in parts_of(replace(original, unattacked=""))} for original in originals]
    blind = {part.name for part in parts if not _told(part.name, of_originals)}
    if blind == {part.name for part in parts}:
        passed = any(all(not _remembers(part) for part in other.values()) for other in of_originals)
        note = "yet below Retrain's interval: over-unlearning" if over else ""
        hidden = tuple(_hidden(part) for part in parts)
        return Verdict("cannot tell", ORIGINAL_TOO if passed else NEITHER, note, hidden, quality.num_retrains, over)
    seen = [_hidden(part) if part.name in blind and part.how != OVER else part for part in parts]
    if failures is None:
        return _join(seen, quality.num_retrains, over)
    telling = [part.name for part in seen if part.name not in blind and part.name in failures.parts]
    seen = [_with_power(part, failures) if part.name in telling else part for part in seen]
    return _join(seen, quality.num_retrains, over, failures.power(telling) if telling else None)


def verdict(group: Group, record: Record) -> Verdict | None:
    """The verdict of a row; None for raw scores, which are not a row of their own.

    Original and Retrain are judged by the rule as it stands: theirs say what the rule is worth.
    """
    role = style(record.method).role
    if role == "raw":
        return None
    if record.kind not in KINDS:
        return Verdict("not judged", "a category has no rule of hits and ranks")
    figures = figures_of(group, record)
    if figures is None:
        number = sum(other is not record for other in group.retrains)
        few = retrains_text(number) if number < MIN_RETRAINS else "no forgotten event of the report half was ranked"
        return Verdict("not judged", few, num_retrains=number)
    number = group.num_tests(record)
    if role in ("original", "reference") and figures.quality.place is not None:
        judged = _join(parts_of(figures), figures.quality.num_retrains, figures.quality.place == "below")
    else:
        originals = [figures_of(group, other) for other in group.of(ORIGINAL)]
        judged = decide(figures, [one for one in originals if one is not None], group.failures.get(number))
    return replace(judged, num_tests=0 if judged.word == "not judged" else number)


def figures_of(group: Group, record: Record) -> Figures | None:
    """What a row is judged by; None without ranks, and with fewer than two Retrains beside it."""
    quality = group.qualities.get(record.cell)
    if quality is None:
        return None
    attacked = any(other.recovered for other in group.retrains)
    return Figures(
        quality,
        group.files.get(record.cell),
        NOT_ATTACKED if attacked and not record.recovered else "",
        group.memories.get(record.cell),
        group.levels.get(record.cell),
        group.told.get(record.cell),
    )


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
    few = next((one.qualified for one in rows if one.qualified), "")
    return prefix + said + (f" ({few})" if few else "")


def pooled_word(quality: ForgetQuality | None) -> str:
    """What the pooled rule alone says of a row: hits and ranks by bounds of their own, as in older tables."""
    if quality is None:
        return ""
    return "not judged" if quality.passes is None else "passes" if quality.passes else "fails"


def pooled_words(group: Group, method: str) -> str:
    """The pooled rule's word of a method, or those of its seeds counted; empty where it has no ranks."""
    rows = [word for record in group.of(method) if (word := pooled_word(group.qualities.get(record.cell)))]
    if len(set(rows)) < 2:
        return next(iter(rows), "")
    return f"passes {rows.count('passes')} of {len(rows)}"


def headline(group: Group) -> str:
    """Passes and fails of every method and control over its seeds, in a sentence without its end."""
    by_method = {method: verdicts(group, method) for method in group.methods if style(method).role in _JUDGED}
    few = next((one.qualified for rows in by_method.values() for one in rows if one.qualified), "")
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


def tests_text(group: Group) -> str:
    """Which tests every verdict of a group joins, what they see, and how often they fail a true Retrain, in sentences.

    Empty for a category.
    """
    if group.first.kind not in KINDS:
        return ""
    attacks = list(dict.fromkeys(attack for record in group.records for attack in record.recovered))
    tests = ["Hit@10 below Retrain's interval", "Hit@10 above it", "KS D"]
    tests += [f"what attacks have back of the file ({', '.join(attacks)})"] if attacks else []
    tests += ["memory left of single events"] if group.memories else []
    told = list(dict.fromkeys(attack for attacks_on in group.memberships.values() for attack in attacks_on))
    tests += [f"what membership attacks tell ({', '.join(told)})"] if told else []
    *some, last = tests
    shares = f"Each test of a row has an equal share of one error rate of {ERROR_RATE:g}"
    own = ", and memory of single events a limit of its own" if group.memories else ""
    number = max(group.num_tests(record) for record in group.records)
    sentences = [
        f"A verdict joins {', '.join(some)} and {last}.",
        f"{shares} ({number} tests where all are there){own}.",
    ]
    if not attacks:
        sentences.append("No file was attacked (evaluate.recovery), so no verdict says what is in it.")
    return " ".join([*sentences, *_power_sentences(group), *_error_sentences(group)])


def powers(group: Group) -> dict[str, Power]:
    """What each part sees where it joins as many tests as any verdict of the group; empty where it was not measured."""
    if not group.failures:
        return {}
    failures = group.failures[max(group.failures)]
    return {part: failures.power([part]) for part in failures.parts}


def rule_error(group: Group) -> RuleError | None:
    """How often a true Retrain fails, by the rule as it stands; None with fewer than four Retrains."""
    if not group.simulated:
        return None
    judged, shares = [], []
    for record in group.retrains:
        said = verdict(group, record)
        if said is None or record.cell not in group.simulated:
            continue
        judged.append(said.word == "fails")
        as_measured = any(part.word == "fails" and part.name not in ("hits", "ranks") for part in said.parts)
        shares.append(1.0 if as_measured else float(group.simulated[record.cell].mean()))
    return RuleError(len(judged), sum(judged), sum(shares) / len(shares))


def sees_text(sees: Power | None) -> str:
    """``sees from 5 % of users on``; empty where it was not measured."""
    if sees is None:
        return ""
    if sees.users.share is None:
        return f"does not see {_percent(SHARES[-1])} of users"
    return f"sees from {_percent(sees.users.share)} of users on"


def _power_sentences(group: Group) -> list[str]:
    """From which share of Original on each part fails."""
    by_part = powers(group)
    if not by_part:
        return [f"Power not measured: {power_lacks(group)}."]
    ways: tuple[tuple[Way, str], ...] = (("users", "users"), ("z_rank", "z_rank"))
    texts = []
    for way, of in ways:
        said = ", ".join(f"{part} {_threshold_text(getattr(sees, way))}" for part, sees in by_part.items())
        texts.append(f"of {of}: {said}")
    sentence = (
        "Put back to Original's in left-out Retrains, the smallest share that fails in 80 % of draws is, "
        f"{'; '.join(texts)} (in brackets, the draws that fail on the other half)."
    )
    file = any(record.recovered for record in group.records)
    return [sentence] + (["The power of the file's part is not measured."] if file else [])


def power_lacks(group: Group) -> str:
    """What a group without power lacks for it."""
    number = len(group.retrains)
    if number < LEAST_RETRAINS:
        return f"{number} Retrains"
    return "the models do not say how many items they rank" if group.num_items is None else "no Original to mix in"


def _threshold_text(threshold: Threshold) -> str:
    if threshold.share is None or threshold.checked is None:
        return f"more than {_percent(SHARES[-1])}"
    return f"{_percent(threshold.share)} ({_percent(threshold.checked)})"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _error_sentences(group: Group) -> list[str]:
    error = rule_error(group)
    if error is None:
        return []
    return [
        f"A true Retrain fails this verdict in {_percent(error.simulated)} of cases (users drawn again); of the "
        f"{error.judged} here, each by the others, {error.failed} fail."
    ]


def provisional(number: int) -> str:
    """``provisional, 3 Retrains`` where a verdict by so many is; else empty."""
    return f"provisional, {number} Retrains" if number < FIRM else ""


def retrains_text(number: int) -> str:
    """How many Retrains there are of those a verdict needs."""
    return f"{number} of {MIN_RETRAINS} Retrains" if number else "no Retrain"


_JUDGED = ("method", "control")


def parts_of(row: Figures) -> list[Part]:
    """What each part says by itself, whatever Originals show."""
    quality = row.quality
    hits = (
        Part("hits", "passes")
        if quality.place == "within"
        else Part("hits", "fails", PLACES[quality.place or "within"])
    )
    parts = [hits, _ranks(row)]
    if row.unattacked:
        parts.append(Part("file", "cannot tell", row.unattacked))
    elif row.file is not None:
        parts.append(_file(row.file))
    if row.memory is not None:
        parts.append(_events(row.memory))
    if row.membership is not None:
        parts.append(Part("membership", "fails", TOLD) if row.membership.beyond else Part("membership", "passes"))
    return parts


def _ranks(row: Figures) -> Part:
    """A distance that the error of the level may have made, or may hide, tells nothing."""
    quality, level = row.quality, row.level
    if level is not None and level.ks_d > quality.ks_d_limit >= quality.ks_d - level.ks_d:
        return Part("ranks", "cannot tell", f"{LEVEL_UNKNOWN} ± {level.standard_error:.2g} only")
    return Part("ranks", "passes") if quality.near else Part("ranks", "fails", OTHERWISE)


def _file(file: FileQuality) -> Part:
    if not file.beyond:
        return Part("file", "passes")
    if file.holds_original:
        return Part("file", "fails", IN_FILE)
    fitted = any(not attack.startswith(TABLE_ATTACKS) for attack in file.beyond)
    return Part("file", "fails", IN_STATES if fitted else IN_TABLES)


def _events(memory: MemoryQuality) -> Part:
    if memory.low > memory.limit:
        return Part("events", "fails", REMEMBERED)
    if memory.high <= memory.limit <= MOST:
        return Part("events", "passes")
    return Part("events", "cannot tell", f"memory left is between {memory.low:.2f} and {memory.high:.2f}")


def _told(name: Name, originals: Sequence[Mapping[Name, Part]]) -> bool:
    """Whether there are Originals that have a part, and each is seen to remember by it."""
    having = [parts[name] for parts in originals if name in parts]
    return bool(having) and all(map(_remembers, having))


def _remembers(part: Part) -> bool:
    return part.word == "fails" and part.how != OVER


def _hidden(part: Part) -> Part:
    return replace(
        part,
        word="cannot tell",
        how=f"Original does not fail by {'it' if part.name in ('file', 'membership') else 'them'}",
    )


def _with_power(part: Part, failures: Failures) -> Part:
    sees = failures.power([part.name])
    if part.word == "passes" and sees.blind:
        return replace(part, word="cannot tell", how=sees_text(sees), sees=sees)
    return replace(part, sees=sees)


def _join(parts: Sequence[Part], num_retrains: int, over: bool, sees: Power | None = None) -> Verdict:
    """One verdict of all parts."""

    def joined(word: Word, how: str = "", note: str = "") -> Verdict:
        return Verdict(word, how, note, tuple(parts), num_retrains, over, sees)

    blind = ", ".join(f"{part.name} cannot tell: {part.how}" for part in parts if part.word == "cannot tell")
    failed = {part.name: part.how for part in parts if part.word == "fails"}
    if "hits" in failed:  # which ranks only say again
        return joined("fails", ", ".join(how for name, how in failed.items() if name != "ranks"))
    if failed:
        beside = "hits within Retrain's interval" if "ranks" in failed else ""
        return joined("fails", ", ".join(failed.values()), blind or beside)
    level = next((part.how for part in parts if part.how.startswith(LEVEL_UNKNOWN)), "")
    passing = [part.name for part in parts if part.word == "passes"]
    if level or not passing:
        return joined("cannot tell", level or ", ".join(dict.fromkeys(part.how for part in parts)))
    *names, last = passing
    alone = "by " + (", ".join(names) + " and " if names else "") + f"{last} alone" if blind else ""
    return joined("passes", alone, blind)


def _seeds(number: int) -> str:
    return f", {number} of {number} seeds" if number > 1 else ""


def _name(method: str) -> str:
    return style(method).name + (" (control)" if style(method).role == "control" else "")
