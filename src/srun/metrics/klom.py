"""KLoM: how far a recipe's models rank single events from where Retrains rank them, over an ensemble of each.

Georgiev et al. (2024), "Attribute-to-Delete: Machine Unlearning via Datamodel Matching", here of z_rank instead of
margins. Shapes: N runs of the recipe, n Retrains, Q events, K bins.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
LEAST = 32
"""Runs and Retrains that an ensemble needs: with fewer, noise hides what is asked for."""
REACH, NUM_BINS, SMOOTHING = 9.0, 20, 0.01
"""Bins are equally wide from -9 to 9, where what lies outside counts in the outer ones; added to every bin's count."""
FLOOR = 0.25
"""Least standard deviation of the normal distributions: events on which all models agree would have none."""
SPLITS = 20
"""Ways to draw the sets that are compared."""
TAIL = 0.95


@dataclass(frozen=True)
class Spread:
    """Of the events: the median and the 95th percentile."""

    median: float
    tail: float

    @classmethod
    def of(cls, values: Floats) -> "Spread":
        """Of (Q,) values, or of the mean over draws (S, Q) of what each draw has."""
        drawn = np.atleast_2d(values)
        return cls(float(np.median(drawn, axis=1).mean()), float(np.quantile(drawn, TAIL, axis=1).mean()))


@dataclass(frozen=True)
class Klom:
    """Distances of a recipe, beside those of two sets of Retrains of the same size, which share no model."""

    num_runs: int
    num_retrains: int
    size: int
    """Models of each set."""
    binned: Spread
    binned_null: Spread
    gaussian: Spread
    gaussian_null: Spread


def binned_kl(retrains: Floats, runs: Floats) -> Floats:
    """(Q,) KL(retrains || runs) of z_rank (n, Q) and (N, Q): 20 bins on [-9, 9], .01 added to each bin's count."""
    p, q = (_shares(z) for z in (retrains, runs))
    return np.asarray((p * np.log(p / q)).sum(0))


def _shares(z: Floats) -> Floats:
    """(K, Q) smoothed share of the models in each bin."""
    place = np.clip(np.floor((z + REACH) / (2 * REACH) * NUM_BINS).astype(np.int64), 0, NUM_BINS - 1)
    size = z.shape[1]
    counts = np.bincount((place * size + np.arange(size)).ravel(), minlength=NUM_BINS * size).reshape(NUM_BINS, size)
    smoothed = counts + SMOOTHING
    return np.asarray(smoothed / smoothed.sum(0))


def gaussian_kl(retrains: Floats, runs: Floats) -> Floats:
    """(Q,) KL(retrains || runs) of normal distributions with the mean and variance of z_rank (n, Q) and (N, Q).

    No variance is below .25^2.
    """
    (mean_p, var_p), (mean_q, var_q) = ((z.mean(0), np.maximum(z.var(0, ddof=1), FLOOR**2)) for z in (retrains, runs))
    return np.asarray((np.log(var_q / var_p) + (var_p + (mean_p - mean_q) ** 2) / var_q - 1) / 2)


def klom(runs: Floats, retrains: Floats, rng: np.random.Generator) -> Klom | None:
    """KLoM of a recipe's runs (N, Q) to Retrains (n, Q), both z_rank; None with fewer than 32 of either.

    An estimate from few models is too large, the null's as well: so both are of sets of one size, which is half of the
    Retrains (or all runs, if these are fewer), and the mean over 20 draws of such sets.
    """
    if min(len(runs), len(retrains)) < LEAST:
        return None
    size = min(len(runs), len(retrains) // 2)
    drawn: dict[str, list[Floats]] = {name: [] for name in ("binned", "binned_null", "gaussian", "gaussian_null")}
    for _ in range(SPLITS):
        order = rng.permutation(len(retrains))
        reference, other = retrains[order[:size]], retrains[order[size : 2 * size]]
        chosen = runs[rng.permutation(len(runs))[:size]]
        drawn["binned"].append(binned_kl(reference, chosen))
        drawn["binned_null"].append(binned_kl(reference, other))
        drawn["gaussian"].append(gaussian_kl(reference, chosen))
        drawn["gaussian_null"].append(gaussian_kl(reference, other))
    spreads = {name: Spread.of(np.stack(values)) for name, values in drawn.items()}
    return Klom(len(runs), len(retrains), size, **spreads)


def lacks(num_runs: int, num_retrains: int) -> str:
    """``5 of 32 runs, 8 of 32 Retrains``: what an ensemble lacks; empty where it is large enough."""
    counts = {"runs": num_runs, "Retrains": num_retrains}
    return ", ".join(f"{number} of {LEAST} {name}" for name, number in counts.items() if number < LEAST)
