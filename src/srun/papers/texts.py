"""Values over seeds as text, for tables of rows that no report has."""

from collections.abc import Sequence

from srun.judging.estimates import over_seeds
from srun.reporting import texts


def mean_text(values: Sequence[float], digits: int) -> str:
    """``mean ± spread`` (sample standard deviation over seeds), the value alone if there is one, a dash for none."""
    return texts.estimate_text(over_seeds(enumerate(values)), digits)


def steps_text(values: Sequence[float]) -> str:
    """Steps of relearning as ``mean_text``, or why there is no such number."""
    return texts.steps_text(over_seeds(enumerate(values)))
