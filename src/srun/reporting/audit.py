"""reports/audit/CELL.html: what an audit says, as a page that opens from disk."""

from collections.abc import Mapping
from importlib.resources import files
from itertools import groupby
from typing import Any

from jinja2 import Environment, StrictUndefined

from srun.reporting.texts import OVER_CAP

Numbers = Mapping[str, float | None]
HEADINGS = ("value", "low – high", "Retrain", "from – to", "Original")
CSS = {word: word.replace(" ", "-") for word in ("passes", "fails", "cannot tell", "not judged")}
"""Word of a verdict -> the class that colours it."""
MISSING: Numbers = dict.fromkeys(("value", "low", "high", "retrain", "retrain_low", "retrain_high", "original"))


def render(audit: Mapping[str, Any]) -> str:
    """The page of an audit, from its JSON."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("srun.reporting").joinpath("audit.html").read_text(encoding="utf-8"))
    keys = [key.split("/", 1) for key in audit["figures"]]
    splits = {
        split: {name: _row(audit["figures"][f"{split}/{name}"]) for _, name in pairs}
        for split, pairs in groupby(keys, key=lambda pair: pair[0])
    }
    return template.render(
        audit=audit,
        css=CSS,
        answers=[_answer(one, audit["figures"].get(one["figure"], MISSING)) for one in audit["answers"]],
        splits=splits,
        headings=HEADINGS,
        relearned={way: _steps(one) for way, one in audit["relearning"].items()},
        seeds={name: _seed(seed) for name, seed in audit["seeds"].items()},
    )


def _answer(answer: Mapping[str, str], figure: Numbers) -> dict[str, str]:
    interval = _between(figure["low"], figure["high"])
    limit = "" if figure["retrain_high"] is None else f"≤ {_number(figure['retrain_high'])}"
    if figure["retrain_low"] is not None:
        limit = _between(figure["retrain_low"], figure["retrain_high"])
    return {
        **answer,
        "value": _number(figure["value"]) + (f" ({interval})" if interval else ""),
        "retrain": ", ".join(text for text in (_number(figure["retrain"]), limit) if text),
        "original": _number(figure["original"]),
    }


def _row(figure: Numbers) -> list[str]:
    low, high = figure["retrain_low"], figure["retrain_high"]
    until = f"– {_number(high)}" if low is None and high is not None else _between(low, high)
    interval = _between(figure["low"], figure["high"])
    return [_number(figure["value"]), interval, _number(figure["retrain"]), until, _number(figure["original"])]


def _between(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{_number(low)} – {_number(high)}"


def _number(value: float | None) -> str:
    """Three digits, or all of those before the point."""
    if value is None:
        return ""
    return (f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}").replace("-", "−")


def _steps(relearned: Mapping[str, Any]) -> str:
    """Steps of the model and of each Retrain, or that they tell nothing."""
    if not relearned["valid"]:
        return "tells nothing, for it does not keep Original above the threshold, or Original has no lead"
    steps = {cell: OVER_CAP if number is None else f"{number:g}" for cell, number in relearned["steps"].items()}
    return "steps of " + ", ".join(f"{cell} {number}" for cell, number in steps.items())


def _seed(seed: Any) -> str:
    return ", ".join(f"{cell} {one}" for cell, one in seed.items()) if isinstance(seed, Mapping) else str(seed)
