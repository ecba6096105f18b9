"""The comparison: one row a method with mean and spread over its seeds, a verdict in words, and summary.md."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from srun.judging.methods import model_name, style
from srun.judging.records import METRIC, SPLIT, Group, Record
from srun.judging.results import SPEEDUPS, category, costs
from srun.judging.verdict import MEANINGS, headline, retrains_text, verdicts, words
from srun.metrics.forgetting import Interval
from srun.metrics.ranking import mean_and_spread

NOT_MEASURED = "not measured here"
NONE = "–"
OVER_CAP = "> cap"  # relearning that did not reach its level in the steps it had
INVALID = "invalid"  # relearning in which Original itself falls below the level, or has no lead
COMMANDS = ("make reproduce", "dvc repro", "srun run")
"""What makes everything from the raw data; the same stages, whichever is typed."""


@dataclass(frozen=True)
class Column:
    """A column of the comparison that shows a metric."""

    title: str
    split: str
    metric: str
    digits: int = 4


UTILITY = (
    Column("Test NDCG@10", "test", "ndcg_10"),
    Column("Test Recall@10", "test", "recall_10"),
    Column("Test NDCG@10, sampled", "test", "ndcg_10_sampled", 3),
)
FORGETTING = (
    Column("Forget Hit@10", SPLIT, METRIC),
    Column("Forget Hit@10, sampled", SPLIT, f"{METRIC}_sampled", 3),
)
QUALITY = ("Gap to Retrain", "KS D", "KS p by seed")
COSTS = ("Seconds, by the clock", "Speed-up, seconds", "Speed-up, scored positions", "Speed-up, target gradients")
NEVER_SEEN = (Column("Never-seen Hit@10", "never_seen_report", "hit_10"),)
CATEGORY = (
    Column("Removal rate", "in_category", "removal_rate_10", 3),
    Column("Removed from lists", "in_category", "list_removal_rate_10", 3),
    Column("All targets Hit@10", "all_targets", "hit_10"),
    Column("Out of category Hit@10 kept", "out_of_category", "hit_10_kept", 3),
    Column("Of Retrain's Hit@10", "out_of_category", "hit_10_of_retrain", 3),
    Column("Of Retrain's NDCG@10", "out_of_category", "ndcg_10_of_retrain", 3),
    Column("Probe AUC", "all_targets", "probe_auc", 3),
    Column("In category Hit@10", "in_category", "hit_10"),
    Column("Out of category NDCG@10", "out_of_category", "ndcg_10"),
)
RELEARNING = (
    Column("Relearning steps", "relearning", "returned_steps", 0),
    Column("Relearning steps, retain set only", "relearning", "retain_steps", 0),
)


@dataclass(frozen=True)
class Line:
    """A method's line of the comparison: cells of text under the titles of ``Comparison.header``."""

    method: str
    name: str
    cells: tuple[str, ...]
    verdict: str
    over: bool = False
    """Whether it is a method that over-unlearns, in at least one seed."""


@dataclass(frozen=True)
class Comparison:
    """The comparison of one model and request."""

    title: str
    request: str
    header: tuple[str, ...]
    lines: tuple[Line, ...]
    sizes: str
    """Users and events behind each split's figures."""
    plain: tuple[str, ...]
    """What was measured, in sentences."""
    headline: str
    """Passes and fails of every method, over its seeds."""
    to_judge: str
    """The command that makes the Retrains which a verdict lacks; empty where there are enough."""


def compare(group: Group, to_judge: str = "") -> Comparison:
    """The comparison of a group, its lines in the order of the methods; ``to_judge`` as in ``Comparison``."""
    before, after = [*UTILITY, *FORGETTING], [*(CATEGORY if group.first.kind == "category" else ())]
    after += [*(RELEARNING if any(record.relearning for record in group.records) else ()), *NEVER_SEEN]
    quality = QUALITY if group.qualities else ()
    header = ("Method", "Verdict", "Seeds", *_titles(before), *quality, *_titles(after), *COSTS)
    lines = tuple(_line(group, method, before, after) for method in group.methods)
    title = f"{model_name(group.model)}, request “{group.request}”"
    return Comparison(
        title,
        describe_request(group.first),
        header,
        lines,
        sizes(group),
        tuple(plain_words(group)),
        headline(group),
        to_judge,
    )


def describe_request(record: Record) -> str:
    """What must be forgotten, in a clause; never names a user."""
    info = record.partition
    what = {
        "interactions": "Single interactions",
        "users": "All interactions of users",
        "category": f"All interactions with items of {category(record).replace('|', ', ')}",
    }.get(record.kind, record.kind)
    forgotten = f"{info['num_forget']:,} events of {info['num_users']:,} users forgotten"
    return f"{what}: {forgotten}, {info['num_retain']:,} retained"


def seeds_text(group: Group, method: str) -> str:
    """Training seeds of a method's rows: ``0–4``, or a list where some are left out."""
    seeds = sorted({record.seed for record in group.of(method)})
    if len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]}–{seeds[-1]}"
    return ", ".join(str(seed) for seed in seeds)


def headlines(comparisons: Sequence[Comparison]) -> list[str]:
    """Passes and fails of every method, a sentence a comparison, with what to run where nothing could be judged."""
    said = []
    for table in comparisons:
        run = f" To judge: `{table.to_judge}`." if table.to_judge else ""
        said.append(f"{table.title}: {table.headline}.{run}")
    return said


def sizes(group: Group) -> str:
    """Users and events of every split that the comparison shows."""
    shown = {column.split for column in (*UTILITY, *FORGETTING, *CATEGORY, *NEVER_SEEN)}
    parts = [(split, part) for split, part in group.first.metrics.items() if split in shown and part.get("num_events")]
    return "; ".join(
        f"{split}: {part['num_users']:,.0f} users, {part['num_events']:,.0f} events" for split, part in parts
    )


def mean_text(values: Sequence[float], digits: int) -> str:
    """``mean ± spread`` (sample standard deviation over seeds), the value alone if there is one, a dash for none."""
    if not values:
        return NONE
    if any(map(math.isnan, values)):
        return NONE
    mean, spread = mean_and_spread(values)
    return f"{mean:.{digits}f}" + ("" if math.isnan(spread) else f" ± {spread:.{digits}f}")


def steps_text(values: Sequence[float]) -> str:
    """Steps of relearning as ``mean_text``, or why there is no such number."""
    if any(map(math.isnan, values)):
        return INVALID
    return OVER_CAP if any(map(math.isinf, values)) else mean_text(values, 0)


def plain_words(group: Group) -> list[str]:
    """What was measured, as sentences: the reference first, then each method, then what the data allow to say."""
    values = group.values("retrain", SPLIT, METRIC)
    first = _reference_sentence(group, values)
    methods = [] if group.first.kind == "category" else _method_sentences(group)
    return [*_catalogue(group), first, *methods, *_caveats(group)]


def write_summary(comparisons: Sequence[Comparison], run: Mapping[str, Any], missing: Sequence[str] = ()) -> str:
    """summary.md: headline, what is ``missing``, tables, and what was run (see ``page.what_was_run``)."""
    out = ["# Unlearning beside Retrain", "", *(f"- {_escape(said)}" for said in headlines(comparisons)), ""]
    out += [MISSING, "", *(f"- {_escape(text)}" for text in missing), ""] if missing else []
    for comparison in comparisons:
        out += [f"## {_escape(comparison.title)}", "", _escape(comparison.request) + ".", ""]
        out += [" ".join(_escape(sentence) for sentence in comparison.plain), ""]
        out += markdown_table(comparison.header, [line.cells for line in comparison.lines])
        out += ["", f"Users and events: {_escape(comparison.sizes)}.", ""]
    out += ["## How to read it", "", *[f"- {line}" for line in NOTES], "", "## What was run", ""]
    return "\n".join(out + [f"- {name}: {_escape(str(value))}" for name, value in run.items()]) + "\n"


MISSING = "Left out, because there is no evaluation of them (or none of the model as it is now):"
NOTES = (
    "± is the standard deviation over training seeds. The gap is the method's forget Hit@10 less the Retrains' mean; "
    "in brackets, how far a further Retrain would be expected from that mean (95 %).",
    "A gap below the interval is over-unlearning: forgotten items rank lower than if they had never been there, "
    "which can itself be noticed. Low is not good by itself; near Retrain is good.",
    "KS D is the distance of the forgotten events' ranks from the Retrains'; in brackets, how far these lie from each "
    "other at most. Its p is of permutations within users, by seed, and decides nothing.",
    "Verdicts are four. A row passes when its gap is within the interval and its D no larger than the Retrains', and "
    "fails otherwise. A part by which Original passes too cannot tell, and a row passes only by a part that can; "
    "where Original passes both, every row reads “cannot tell”. With fewer than three Retrains nothing is judged; with "
    "fewer than eight a verdict is provisional. A true Retrain has a larger D with chance 1/(n+1) for n Retrains, and "
    "seeds that share their Retrains do not confirm each other.",
    "Costs: seconds are by the clock. Scored positions are those for which the whole catalogue was scored, in losses "
    "and in looks that a stop rule needs; target gradients are positions that went through a backward pass, and say "
    "little of a method whose time goes into scoring.",
    "Ranking is over the whole catalogue; “sampled” columns rank against 100 random items, for comparison with papers.",
    "Controls make one figure look perfect: the output mask gets a Hit of 0 and has unlearned nothing.",
    "Of a category: the removal rate is 1 - Hit@10 over Original's, of report users' test targets in it, and of lists "
    "the same of its items in their top 10. The probe's AUC says how well the category of the next target can be read "
    "from the hidden state. It lifts masks, and is good when near Retrain's.",
    "Relearning: how many training steps, on some of the forgotten events or on the retain set only, bring back half "
    "of Original's lead over Retrain on the other forgotten events. It lifts masks, and is good when Retrain needs no "
    f"more. “{OVER_CAP}”: more than were taken. “{INVALID}”: Original itself falls below that level in the same "
    "training, or it has no lead, so that the figure would say nothing.",
    "Forget figures are of the report half of the request's users, which no choice has looked at.",
)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table, texts to the left and figures to the right."""
    rule = ["---" if title in ("Model", "Method", "Verdict") else "---:" for title in header]
    return [f"| {' | '.join(_escape(cell) for cell in row)} |" for row in (header, rule, *rows)]


def _escape(text: str) -> str:
    for sign, safe in (("\\", "\\\\"), ("|", "\\|"), ("<", "&lt;"), ("\n", " ")):
        text = text.replace(sign, safe)
    return text


def _titles(columns: Sequence[Column]) -> list[str]:
    return [column.title for column in columns]


def _line(group: Group, method: str, before: Sequence[Column], after: Sequence[Column]) -> Line:
    def texts(columns: Sequence[Column]) -> list[str]:
        found = [(column, group.values(method, column.split, column.metric)) for column in columns]
        return [steps_text(values) if c in RELEARNING else mean_text(values, c.digits) for c, values in found]

    name, said = style(method).name, words(group, method)
    quality = _quality_texts(group, method) if group.qualities else []
    figures = [*texts(before), *quality, *texts(after)]
    seeds = seeds_text(group, method)
    over = style(method).role == "method" and any(found.over_unlearning for found in verdicts(group, method))
    return Line(method, name, (name, said, seeds, *figures, *_cost_texts(group, method)), said, over)


def _quality_texts(group: Group, method: str) -> list[str]:
    """Gap with its bound, KS D with the Retrains' own maximum, and its p of every seed."""
    rows = [record for record in group.of(method) if record.events]
    found = [group.qualities[record.cell] for record in rows if record.cell in group.qualities]
    if not found:
        return [NONE] * len(QUALITY)
    interval = Interval.of(group.values("retrain", SPLIT, METRIC))
    gap = f"{mean_and_spread([q.hit_10_gap for q in found])[0]:+.4f} (± {found[0].hit_10_gap_bound:.4f})"
    if method == "retrain":  # each has bounds of its own, those of the others
        gap = f"0 (± {interval.bound:.4f})" if interval else NONE
    distance = mean_text([quality.ks_d for quality in found], 4).split(" ")[0]
    limits = [quality.ks_d_retrain_max for quality in found]
    limit = f"≤ {limits[0]:.4f}" if method != "retrain" else f"max {max(limits):.4f}"
    p_values = ", ".join(f"{quality.ks_p:.3f}" for quality in found)
    return [gap, f"{distance} ({limit})", p_values]


def _cost_texts(group: Group, method: str) -> tuple[str, ...]:
    """Seconds, and every speed-up of ``SPEEDUPS``."""
    if style(method).role == "raw":
        return (NONE,) * len(COSTS)
    found = [costs(group, record) for record in group.of(method)]
    seconds = [cost["seconds"] for cost in found if "seconds" in cost]
    time = mean_text(seconds, 1) if any(seconds) else "0" if seconds else NOT_MEASURED
    if method == "retrain":
        return time, *("1" for _ in SPEEDUPS)
    speedups = ([cost[key] for cost in found if key in cost] for key in SPEEDUPS)
    return time, *(f"{mean_and_spread(values)[0]:.1f}×" if values else NONE for values in speedups)


def _catalogue(group: Group) -> list[str]:
    number = group.num_items
    if number is None or number > 10:
        return []
    return [f"The catalogue has {number} items, so every Hit@10 and Recall@10 is 1 and says nothing."]


def _reference_sentence(group: Group, values: Sequence[float]) -> str:
    if group.first.kind == "category":
        return (
            "For a category as a concept the forget hit beside Retrain's is one reference among several; the table "
            "shows it for all methods, without a verdict."
        )
    if not any(group.values(method, SPLIT, METRIC) for method in group.methods):
        return "The request has no forgotten events to report on."
    interval = Interval.of(values)
    if interval is None:
        return f"{retrains_text(len(values)).capitalize()}: nothing says where forgotten events should rank."
    return (
        f"Retrained without the forgotten events, {model_name(group.model)} still ranks {interval.mean:.1%} of them in "
        f"its top 10 (mean of {len(values)} seeds; one more Retrain would be expected between "
        f"{max(0, interval.low):.1%} and {min(1, interval.high):.1%})."
    )


def _method_sentence(group: Group, method: str, meaning: str) -> str:
    hit = mean_and_spread(group.values(method, SPLIT, METRIC))[0]
    parts = [f"{style(method).name} ranks {hit:.1%} of the forgotten events in its top 10: {meaning}"]
    utility, reference = (group.values(name, "test", "ndcg_10") for name in (method, "retrain"))
    if utility and reference and mean_and_spread(reference)[0] > 0:
        share = mean_and_spread(utility)[0] / mean_and_spread(reference)[0]
        parts.append(f"its test NDCG@10 is {share:.0%} of Retrain's")
    seconds = _cost_texts(group, method)[1]
    if seconds != NONE:
        parts.append(f"its speed-up in seconds is {seconds}")
    return "; ".join(parts) + "."


def _method_sentences(group: Group) -> list[str]:
    """A sentence a method; how it can fail is explained once."""
    unsaid = dict(MEANINGS)
    sentences = []
    for method in group.methods:
        if style(method).role == "method" and group.values(method, SPLIT, METRIC):
            hows = dict.fromkeys(one.how for one in verdicts(group, method) if one.how in unsaid)
            meaning = "".join(f" ({how}: {unsaid.pop(how)})" for how in hows)
            sentences.append(_method_sentence(group, method, words(group, method) + meaning))
    return sentences


def _caveats(group: Group) -> list[str]:
    """What the rows that unlearn nothing say about how much these figures can show."""
    sentences = []
    quality = [group.qualities[record.cell] for record in group.of("original") if record.cell in group.qualities]
    if any(one.place not in (None, "above") for one in quality):
        hit = mean_and_spread(group.values("original", SPLIT, METRIC))[0]
        sentences.append(
            f"Original, from which nothing was removed, ranks {hit:.1%} of the forgotten events in its top 10, "
            "which is not above Retrain's interval; so here forget Hit@10 does not show whether an event was learned: "
            "it can show over-unlearning, but not success."
        )
    if group.of("output_mask"):
        sentences.append("The output mask is no success either: it hides items and has unlearned nothing.")
    return sentences
