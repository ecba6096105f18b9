"""Figures and tables as text."""

from collections.abc import Sequence

from srun.judging.judgement import Estimate

NOT_MEASURED = "not measured here"
NONE = "–"
OVER_CAP = "> cap"  # relearning that did not reach its threshold in the steps it had
INVALID = "invalid"  # relearning in which Original itself falls below the threshold, or has no lead


def estimate_text(estimate: Estimate | None, digits: int) -> str:
    """``mean ± spread``, the mean alone if there is one seed, a dash without a mean."""
    if estimate is None or estimate.mean is None:
        return NONE
    return f"{estimate.mean:.{digits}f}" + ("" if estimate.spread is None else f" ± {estimate.spread:.{digits}f}")


def steps_text(estimate: Estimate | None) -> str:
    """Steps of relearning as ``estimate_text``, or why there is no such number."""
    if estimate is not None and estimate.lacks is not None:
        return INVALID if estimate.lacks == "undefined" else OVER_CAP
    return estimate_text(estimate, 0)


def seeds_text(seeds: Sequence[int]) -> str:
    """Sorted seeds: ``0–4``, or a list where some are left out."""
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]}–{seeds[-1]}"
    return ", ".join(str(seed) for seed in seeds)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table, texts to the left and figures to the right."""
    rule = ["---" if title in ("Model", "Method", "Verdict") else "---:" for title in header]
    return [f"| {' | '.join(escape(cell) for cell in row)} |" for row in (header, rule, *rows)]


def escape(text: str) -> str:
    """Text that changes no table and no page of Markdown."""
    for sign, safe in (("\\", "\\\\"), ("|", "\\|"), ("<", "&lt;"), ("\n", " ")):
        text = text.replace(sign, safe)
    return text
