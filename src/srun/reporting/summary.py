"""The comparison as text: a line a method, what was measured in sentences, and summary.md."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from srun.judging.judgement import Comparison, Judgement, MethodFigures, OriginalFacts
from srun.judging.styles import MASKS, ORIGINAL, REFERENCE, ShownRole, model_name, style
from srun.judging.verdict import MEANINGS, retrains_text
from srun.reporting.texts import (
    INVALID,
    NONE,
    NOT_MEASURED,
    OVER_CAP,
    escape,
    estimate_text,
    markdown_table,
    seeds_text,
    steps_text,
)

COMMANDS = ("make reproduce", "dvc repro", "srun run")
"""What makes everything from the raw data; the same stages, whichever is typed."""


@dataclass(frozen=True)
class Column:
    """A column of the comparison: its title, the text it has of a method, and the split whose figure it shows."""

    title: str
    text: Callable[[MethodFigures], str]
    split: str = ""


def _figure(title: str, split: str, metric: str, digits: int = 4) -> Column:
    return Column(title, lambda method: estimate_text(method.figure(split, metric), digits), split)


def _steps(title: str, metric: str) -> Column:
    return Column(title, lambda method: steps_text(method.figure("relearning", metric)))


def _speedup(measure: str) -> Callable[[MethodFigures], str]:
    return lambda method: speedup_text(method, measure)


def gap_text(method: MethodFigures) -> str:
    """The gap of Hit@10 to the Retrains' mean, with the half-width of their interval."""
    quality = method.quality
    if quality is None or quality.gap_bound is None:
        return NONE
    gap = "0" if _is_retrain(method) else f"{quality.gap:+.4f}"
    return f"{gap} (± {quality.gap_bound:.4f})"


def distance_text(method: MethodFigures) -> str:
    """KS D, with the largest that the Retrains have among themselves."""
    quality = method.quality
    if quality is None:
        return NONE
    limit = f"max {quality.ks_d_limit:.4f}" if _is_retrain(method) else f"≤ {quality.ks_d_limit:.4f}"
    return f"{quality.ks_d:.4f} ({limit})"


def p_text(method: MethodFigures) -> str:
    """KS p of every seed."""
    return NONE if method.quality is None else ", ".join(f"{p:.3f}" for p in method.quality.ks_p)


def _seconds(measure: str) -> Callable[[MethodFigures], str]:
    return lambda method: seconds_text(method, measure)


def seconds_text(method: MethodFigures, measure: str) -> str:
    """Seconds over seeds, of the processor or by the clock; raw scores have none of their own."""
    seconds = method.cost.get(measure)
    if seconds is None:
        return NONE if style(method.method).role == "raw" else NOT_MEASURED
    return "0" if seconds.mean == 0 else estimate_text(seconds, 1)


def speedup_text(method: MethodFigures, measure: str) -> str:
    """Retrain's mean cost over the method's, such as ``2.0×``."""
    if _is_retrain(method):
        return "1"
    speedup = method.cost.get(measure)
    return NONE if speedup is None or speedup.mean is None else f"{speedup.mean:.1f}×"


def _is_retrain(method: MethodFigures) -> bool:
    return method.method == REFERENCE


METHOD = Column("Method", lambda method: style(method.method).name)
VERDICT = Column("Verdict", lambda method: method.words)
SEEDS = Column("Seeds", lambda method: seeds_text(method.seeds))
TEST_NDCG = _figure("Test NDCG@10", "test", "ndcg_10")
FORGET_HIT = _figure("Forget Hit@10", "forget_report", "hit_10")
GAP, DISTANCE = Column("Gap to Retrain", gap_text), Column("KS D", distance_text)
SPEEDUP = Column("Speed-up, processor seconds", _speedup("speedup"))

BEFORE = (
    TEST_NDCG,
    _figure("Test Recall@10", "test", "recall_10"),
    _figure("Test NDCG@10, sampled", "test", "ndcg_10_sampled", 3),
    FORGET_HIT,
    _figure("Forget Hit@10, sampled", "forget_report", "hit_10_sampled", 3),
)
POOLED = Column("Pooled rule", lambda method: method.pooled or NONE)
QUALITY = (GAP, DISTANCE, Column("KS p by seed", p_text), POOLED)
CATEGORY = (
    _figure("Removal rate", "in_category", "removal_rate_10", 3),
    _figure("Removed from lists", "in_category", "list_removal_rate_10", 3),
    _figure("All targets Hit@10", "all_targets", "hit_10"),
    _figure("Out of category Hit@10 kept", "out_of_category", "hit_10_kept", 3),
    _figure("Of Retrain's Hit@10", "out_of_category", "hit_10_of_retrain", 3),
    _figure("Of Retrain's NDCG@10", "out_of_category", "ndcg_10_of_retrain", 3),
    _figure("Linear probe AUC", "all_targets", "linear_probe_auc", 3),
    _figure("In category Hit@10", "in_category", "hit_10"),
    _figure("Out of category NDCG@10", "out_of_category", "ndcg_10"),
)
RELEARNING = (
    _steps("Relearning steps", "returned_steps"),
    _steps("Relearning steps, retain set only", "retain_steps"),
)
NEVER_SEEN = (_figure("Never-seen Hit@10", "never_seen_report", "hit_10"),)
COSTS = (
    Column("Processor seconds", _seconds("processor_seconds")),
    SPEEDUP,
    Column("Seconds, by the clock", _seconds("seconds")),
    Column("Speed-up, by the clock", _speedup("speedup_clock")),
    Column("Speed-up, scored positions", _speedup("speedup_scored_positions")),
    Column("Speed-up, target gradients", _speedup("speedup_target_gradients")),
)
HEADLINE = (METHOD, TEST_NDCG, FORGET_HIT, GAP, DISTANCE, SPEEDUP, VERDICT)
"""The figures that decide, and the verdict: what the terminal shows."""
SHOWN_SPLITS = {column.split for column in (*BEFORE, *CATEGORY, *NEVER_SEEN)}


def columns(comparison: Comparison) -> tuple[Column, ...]:
    """The columns of a comparison: those that its kind of request has, and those that were measured."""
    return (
        *(METHOD, VERDICT, SEEDS, *BEFORE),
        *(QUALITY if any(method.quality for method in comparison.methods) else ()),
        *(CATEGORY if comparison.kind == "category" else ()),
        *(RELEARNING if comparison.has_relearning else ()),
        *(*NEVER_SEEN, *COSTS),
    )


@dataclass(frozen=True)
class Line:
    """A method's line of a table: cells of text under the titles of ``Table.header``."""

    method: str
    role: ShownRole
    cells: tuple[str, ...]
    over: bool
    """Whether it is a method that over-unlearns, in at least one seed."""


@dataclass(frozen=True)
class Table:
    """A comparison as text."""

    title: str
    request: str
    header: tuple[str, ...]
    lines: tuple[Line, ...]
    sizes: str
    """Users and events behind each split's figures."""
    plain: tuple[str, ...]
    """What was measured, in sentences."""
    has_relearning: bool


def tabulate(comparison: Comparison) -> Table:
    """A comparison as text, its lines in the order of the methods."""
    shown = columns(comparison)
    return Table(
        title=title(comparison),
        request=describe_request(comparison),
        header=tuple(column.title for column in shown),
        lines=tuple(
            Line(
                method.method,
                style(method.method).role,
                tuple(column.text(method) for column in shown),
                method.over_unlearning,
            )
            for method in comparison.methods
        ),
        sizes=sizes(comparison),
        plain=tuple(plain_words(comparison)),
        has_relearning=comparison.has_relearning,
    )


def title(comparison: Comparison) -> str:
    """What a comparison is called."""
    return f"{model_name(comparison.model)}, request “{comparison.request}”"


def headline_rows(comparison: Comparison) -> list[dict[str, str]]:
    """A row a method: the figures that decide, and the verdict."""
    return [{column.title: cell_text(column, comparison, m) for column in HEADLINE} for m in comparison.methods]


def cell_text(column: Column, comparison: Comparison, method: MethodFigures) -> str:
    """A method's text in a column; empty for a column that the comparison has not."""
    return column.text(method) if column in columns(comparison) else ""


def describe_request(comparison: Comparison) -> str:
    """What must be forgotten, in a clause; never names a user."""
    events = {
        "interactions": "Single interactions",
        "users": "All interactions of users",
        "category": f"All interactions with items of {', '.join(comparison.categories)}",
    }.get(comparison.kind, comparison.kind)
    forgotten = f"{comparison.num_forget:,} events of {comparison.num_users:,} users forgotten"
    return f"{events}: {forgotten}, {comparison.num_retain:,} retained"


def headlines(comparisons: Sequence[Comparison]) -> list[str]:
    """Passes and fails of every method, a sentence a comparison, with what to run where nothing could be judged."""
    sentences = []
    for comparison in comparisons:
        run = f" To judge: `{comparison.to_judge}`." if comparison.to_judge else ""
        sentences.append(f"{title(comparison)}: {comparison.headline}.{run}")
    return sentences


def sizes(comparison: Comparison) -> str:
    """Users and events of every split that the comparison shows."""
    return "; ".join(
        f"{name}: {split.num_users:,} users, {split.num_events:,} events"
        for name, split in comparison.splits.items()
        if name in SHOWN_SPLITS
    )


def what_was_run(judgement: Judgement) -> dict[str, str]:
    """Data, requests, seeds, versions, machine and command, a line each. Raw user ids are not among them."""
    facts = judgement.facts
    machines = [_machine(machine) for machine in facts.machines] or [NOT_MEASURED]
    lines = {"Data": f"{judgement.dataset}, fingerprint {facts.fingerprint[:12]}"}
    lines |= {f"Request “{name}”": _request(request) for name, request in facts.requests.items()}
    for comparison in judgement.comparisons:
        seeds = (f"{style(method.method).name} {seeds_text(method.seeds)}" for method in comparison.methods)
        lines[f"Seeds, {model_name(comparison.model)} on “{comparison.request}”"] = "; ".join(seeds)
    lines |= {f"Original {original.name}": _original(original) for original in facts.originals}
    for cell, (number, of) in facts.shards_retrained.items():
        lines[f"Shards, {cell}"] = f"{number} of {of} retrained"
    return lines | {
        "srun": ", ".join(facts.versions),
        "Machine" if len(machines) == 1 else "Machines": "; ".join(machines),
        "Made by": f"{' or '.join(COMMANDS)}; from evaluations alone by srun report",
    }


def _request(request: Mapping[str, object]) -> str:
    """A request's settings and counts."""
    named = {"users": f"{request['users']} named"} if request.get("users") is not None else {}
    return "; ".join(f"{key} {value_text(value)}" for key, value in {**request, **named}.items())


def value_text(value: object) -> str:
    """A setting as text."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return ", ".join(str(part) for part in value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def _original(original: OriginalFacts) -> str:
    """What a model cost before any request; SISA's shards are such a cost too."""
    parts = [f"seed {original.seed}"] + ([f"{original.shards} shards"] if original.shards > 1 else [])
    time = f"seconds {NOT_MEASURED}" if original.seconds is None else f"{original.seconds:.1f} s"
    scored = "no" if original.scored_positions is None else f"{original.scored_positions:,.0f}"
    return ", ".join([*parts, time, f"{scored} scored positions", f"{original.target_gradients:,.0f} target gradients"])


def _machine(machine: Mapping[str, str]) -> str:
    text = f"{machine['processor']}, {machine['threads']} threads"
    text += "" if machine["gpu"] == "none" else f", {machine['gpu']}"
    return f"{text}; {machine['system']}, Python {machine['python']}, torch {machine['torch']}"


def plain_words(comparison: Comparison) -> list[str]:
    """What was measured, as sentences: the reference first, then each method, then what the data allow to say."""
    methods = [] if comparison.kind == "category" else _method_sentences(comparison)
    return [*_catalogue(comparison), _reference_sentence(comparison), *methods, *_caveats(comparison)]


def write_summary(judgement: Judgement) -> str:
    """summary.md: headline, what is missing, tables, and what was run."""
    out = ["# Unlearning beside Retrain", ""]
    out += [*(f"- {escape(sentence)}" for sentence in headlines(judgement.comparisons)), ""]
    if judgement.missing:
        out += [MISSING, "", *(f"- {escape(text)}" for text in judgement.missing), ""]
    for table in map(tabulate, judgement.comparisons):
        out += [f"## {escape(table.title)}", "", escape(table.request) + ".", ""]
        out += [" ".join(escape(sentence) for sentence in table.plain), ""]
        out += markdown_table(table.header, [line.cells for line in table.lines])
        out += ["", f"Users and events: {escape(table.sizes)}.", ""]
    out += ["## How to read it", "", *[f"- {line}" for line in NOTES], "", "## What was run", ""]
    return "\n".join(out + [f"- {name}: {escape(text)}" for name, text in what_was_run(judgement).items()]) + "\n"


MISSING = "Left out, because there is no evaluation of them (or none of the model as it is now):"
NOTES = (
    "± is the standard deviation over training seeds. The gap is the method's forget Hit@10 less the Retrains' mean; "
    "in brackets, how far a further Retrain would be expected from that mean (95 %): a bound of the pooled rule.",
    "A gap below the interval is over-unlearning: forgotten items rank lower than if they had never been there, "
    "which can itself be noticed. Low is not good by itself; near Retrain is good.",
    "KS D is the distance of the forgotten events' ranks from the Retrains'; in brackets, how far these lie from each "
    "other at most, the other bound of the pooled rule. Its p is of permutations within users, by seed, and decides "
    "nothing.",
    "Verdicts are four. A row passes when gap and D are within limits at an equal share of one error rate, its file "
    "gives back no more than the Retrains', and single events are forgotten, as far as that was measured; it "
    "fails otherwise. A part by which Original passes too, or that would not see a fifth of users put back to "
    "Original's, cannot tell, and a row passes only by a part that can; where Original passes all, every row reads "
    "“cannot tell”. “Sees from 5 % of users on”: so many of them, put back in a Retrain, fail it in 80 % of draws. "
    "With fewer than three Retrains nothing is judged; with fewer than eight a verdict is provisional. Seeds that "
    "share their Retrains do not confirm each other.",
    "The pooled rule is no verdict. It looks at hits and ranks alone, by the bounds in brackets, and serves to compare "
    "with older tables. It has no common error rate: a true Retrain has a larger D with chance 1/(n+1) for n Retrains.",
    "Costs: processor seconds are those of all threads, up to the model that is returned; seconds by the clock stand "
    "beside them. Scored positions are those for which the whole catalogue was scored, in losses "
    "and in looks that a stop rule needs; target gradients are positions that went through a backward pass, and say "
    "little of a method whose time goes into scoring.",
    "Ranking is over the whole catalogue; “sampled” columns rank against 100 random items, for comparison with papers.",
    "Controls make one figure look perfect: the output mask gets a Hit of 0 and has unlearned nothing.",
    "Of a category: the removal rate is 1 - Hit@10 over Original's, of report users' test targets in it, and of lists "
    "the same of its items in their top 10. The linear probe's AUC says how well the category of the next target "
    "can be read from the hidden state. It lifts masks, and is good when near Retrain's.",
    "Relearning: how many training steps, on some of the forgotten events or on the retain set only, bring back half "
    "of Original's lead over Retrain on the other forgotten events. It lifts masks, and is good when Retrain needs no "
    f"more. “{OVER_CAP}”: more than were taken. “{INVALID}”: Original itself falls below that threshold in the "
    "same training, or it has no lead, so that the figure would say nothing.",
    "Forget figures are of the report half of the request's users, which no choice has looked at.",
)


def _catalogue(comparison: Comparison) -> list[str]:
    number = comparison.num_items
    if number is None or number > 10:
        return []
    return [f"The catalogue has {number} items, so every Hit@10 and Recall@10 is 1 and says nothing."]


def _reference_sentence(comparison: Comparison) -> str:
    if comparison.kind == "category":
        return (
            "For a category as a concept the forget hit beside Retrain's is one reference among several; the table "
            "shows it for all methods, without a verdict."
        )
    if not any(method.figure("forget_report", "hit_10") for method in comparison.methods):
        return "The request has no forgotten events to report on."
    interval, number = comparison.interval, comparison.num_retrains
    if interval is None:
        return f"{retrains_text(number).capitalize()}: nothing says where forgotten events should rank."
    return (
        f"Retrained without the forgotten events, {model_name(comparison.model)} still ranks {interval.mean:.1%} of "
        f"them in its top 10 (mean of {number} seeds; one more Retrain would be expected between "
        f"{max(0, interval.low):.1%} and {min(1, interval.high):.1%})."
    )


def _share(method: MethodFigures) -> str:
    """How many of the forgotten events a method ranks in its top 10."""
    hit = method.figure("forget_report", "hit_10")
    return NONE if hit is None or hit.mean is None else f"{hit.mean:.1%}"


def _method_sentence(method: MethodFigures, meaning: str) -> str:
    name = style(method.method).name
    parts = [f"{name} ranks {_share(method)} of the forgotten events in its top 10: {method.words}{meaning}"]
    if method.utility_of_retrain is not None:
        parts.append(f"its test NDCG@10 is {method.utility_of_retrain:.0%} of Retrain's")
    seconds = speedup_text(method, "speedup")
    if seconds != NONE:
        parts.append(f"its speed-up in processor seconds is {seconds}")
    return "; ".join(parts) + "."


def _method_sentences(comparison: Comparison) -> list[str]:
    """A sentence a method; how it can fail is explained once."""
    unsaid = dict(MEANINGS)
    sentences = []
    for method in comparison.methods:
        if style(method.method).role == "method" and method.figure("forget_report", "hit_10"):
            parts = [part for row in method.rows if row.verdict for part in row.verdict.parts]
            hows = dict.fromkeys(part.how for part in parts if part.word == "fails" and part.how in unsaid)
            sentences.append(_method_sentence(method, "".join(f" ({how}: {unsaid.pop(how)})" for how in hows)))
    return sentences


def _caveats(comparison: Comparison) -> list[str]:
    """What the rows that unlearn nothing say about how much these figures can show."""
    sentences = [comparison.tests] if comparison.tests else []
    original = comparison.method(ORIGINAL)
    if comparison.original_not_above and original is not None:
        sentences.append(
            f"Original, from which nothing was removed, ranks {_share(original)} of the forgotten events in its top "
            "10, which is not above Retrain's interval; so here forget Hit@10 does not show whether an event was "
            "learned: it can show over-unlearning, but not success."
        )
    sentences += [
        f"The {style(name).name.lower()} is no success either: it hides items and has unlearned nothing."
        for name in MASKS
        if comparison.method(name)
    ]
    return sentences
