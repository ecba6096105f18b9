"""Is Original still in a file? What attacks on it have back of forgotten events, beside what they have of Retrains'.

The attacks are those of ``evaluation.recovery``; a figure is the Hit@10 of forgotten events after one of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from srun.metrics.forgetting import MIN_RETRAINS, one_sided_limit
from srun.metrics.ranking import mean_and_spread

TABLE_ATTACKS = ("own", "scored_by", "swapped")
"""How the names of attacks begin that only look: they score by what the file has, and fit nothing."""
ABOUT = 0.9
"""Share of the way from the Retrains' hit to Original's from which on an attack has Original back."""


@dataclass(frozen=True)
class FileQuality:
    """What attacks have back of a file, by attack."""

    hits: Mapping[str, float]
    limits: Mapping[str, float]
    """One-sided: what Retrains' files that are treated alike give back at most."""
    means: Mapping[str, float]
    """What the Retrains' files give back."""
    original: float | None
    """Original's own Hit@10 of the same events; None where it was not measured."""

    @property
    def beyond(self) -> tuple[str, ...]:
        """The attacks that have back more than of a Retrain."""
        return tuple(attack for attack, hit in self.hits.items() if hit > self.limits[attack])

    @property
    def holds_original(self) -> bool:
        """Whether scoring by a table of the file, or swapping two, gives about Original's hit."""
        if self.original is None:
            return False
        return any(
            self.hits[attack] >= self.means[attack] + ABOUT * (self.original - self.means[attack])
            for attack in self.beyond
            if attack.startswith(TABLE_ATTACKS)
        )


def judge_file(
    hits: Mapping[str, float], retrains: Sequence[Mapping[str, float]], original: float | None, alpha: float
) -> FileQuality | None:
    """Judge what attacks have back by what they have of Retrains; None with too few of these, or without attacks.

    ``alpha``: the chance that one attack has more of a further Retrain than its limit.
    """
    if not hits or len(retrains) < MIN_RETRAINS:
        return None
    alike = {attack: [of_retrain(attack, one) for one in retrains] for attack in hits}
    limits = {attack: one_sided_limit(values, alpha) for attack, values in alike.items()}
    means = {attack: mean_and_spread(values)[0] for attack, values in alike.items()}
    return FileQuality(hits, limits, means, original)


def of_retrain(attack: str, hits: Mapping[str, float]) -> float:
    """What an attack has of a Retrain, whose file may have fewer tables.

    A tied model has one table for both, so scoring by either of them leaves it as it is, and so does a swap; a softmax
    begins from that one table.
    """
    if attack in hits:
        return hits[attack]
    return hits["softmax_input"] if attack.startswith("softmax_") else hits["own"]
