"""How figures of the attribution paper's tables are written: means over seeds, shares, relearning."""

import math
from collections.abc import Mapping, Sequence

from srun.papers.texts import mean_text, steps_text
from srun.reporting.texts import NONE

RANKINGS = {"_sampled": "100 sampled", "": "full"}
"""Ending of a metric's key -> among what it is ranked."""
CUT_OFFS = (1, 5, 10)
WAYS = {"returned": "returned events", "retain": "retain set"}


def mean(values: Sequence[float | None], digits: int) -> str:
    """Mean and spread over seeds, of those that have a figure."""
    return mean_text([value for value in values if value is not None and not math.isnan(value)], digits)


def number(value: float | None, digits: int) -> str:
    """One figure; a dash where there is none."""
    return mean([value], digits)


def percents(values: Sequence[float | None]) -> str:
    """``mean`` of shares, in per cent."""
    text = mean([None if value is None else 100 * value for value in values], 1)
    return text if text == NONE else f"{text} %"


def percent(value: float | None) -> str:
    """One share, in per cent."""
    return percents([value])


def interval(low: float, high: float) -> str:
    """An interval of shares, in per cent."""
    return f"{percent(low)} to {percent(high)}"


def relearning(figures: Sequence[Mapping[str, float]], ways: Sequence[str]) -> dict[str, str]:
    """Columns of steps, and of Hit@10 before and after them, over seeds, by way of relearning."""
    row = {}
    for way in ways:
        title = f"Relearning, {WAYS[way]}"
        row[f"{title}: steps"] = steps_text([each[f"{way}_steps"] for each in figures if f"{way}_steps" in each])
        ends = [mean([each.get(f"{way}_hit_10_{end}") for each in figures], 4) for end in ("first", "last")]
        row[f"{title}: Hit@10"] = " to ".join(ends) if NONE not in ends else NONE
    return row
