"""reports/audit/CELL.html: what an audit says, as a page that opens from disk."""

from collections.abc import Mapping
from importlib.resources import files
from itertools import groupby
from typing import Any

from jinja2 import Environment, StrictUndefined

COLUMNS = {
    **{"value": "value", "low": "low", "high": "high"},
    **{"retrain": "Retrain", "retrain_low": "from", "retrain_high": "to", "original": "Original"},
}
"""Field of a figure -> heading."""


def render(audit: Mapping[str, Any]) -> str:
    """The page of an audit, from its JSON."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("srun.reporting").joinpath("audit.html").read_text(encoding="utf-8"))
    keys = [key.split("/", 1) for key in audit["figures"]]
    splits = {
        split: {name: _row(audit["figures"][f"{split}/{name}"]) for _, name in pairs}
        for split, pairs in groupby(keys, key=lambda pair: pair[0])
    }
    return template.render(audit=audit, splits=splits, headings=list(COLUMNS.values()))


def _row(figure: Mapping[str, float | None]) -> list[str]:
    return ["" if (value := figure[name]) is None else f"{value:.4g}" for name in COLUMNS]
