"""The variants of SRUGA that the thesis' ablations compare (its 4.7): terms alone and together, each weight, long runs.

Weights are varied about the thesis' 0.5, 1 and 0.5.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from srun.unlearning.sruga.settings import SRUGAConfig

PARTS = ("combinations", "sweeps", "curves")
WEIGHTS = ("ascent_weight", "kl_weight", "finetune_weight")
TERMS = {"GA": "ascent_weight", "KL": "kl_weight", "FT": "finetune_weight"}
COMBINATIONS = (("GA",), ("KL",), ("FT",), ("GA", "KL"), ("GA", "FT"), ("KL", "FT"), ("GA", "KL", "FT"))
CURVES = tuple(terms for terms in COMBINATIONS if "GA" in terms)
SWEEP = tuple(round(0.1 * step, 1) for step in range(1, 11))


@dataclass(frozen=True)
class Variant:
    """SRUGA with some settings changed."""

    part: str
    name: str
    changes: Mapping[str, Any]
    """Keys of ``unlearn.sruga``."""

    @property
    def is_curve(self) -> bool:
        """Whether it runs without a stop, for as many epochs as are asked for."""
        return self.part == "curves"


def variants(settings: SRUGAConfig, parts: Sequence[str]) -> list[Variant]:
    """All variants of the given parts; a combination's absent terms have the weight 0."""
    chosen = []
    if "combinations" in parts:
        chosen += [Variant("combinations", "+".join(terms), _only(settings, terms)) for terms in COMBINATIONS]
    if "sweeps" in parts:
        chosen += [Variant("sweeps", f"{key}={value:g}", {key: value}) for key in WEIGHTS for value in SWEEP]
    if "curves" in parts:
        long = {"stop": "fixed", "evaluate_every": 10}
        chosen += [Variant("curves", "+".join(terms), _only(settings, terms) | long) for terms in CURVES]
    return chosen


def _only(settings: SRUGAConfig, terms: Sequence[str]) -> dict[str, Any]:
    return {key: getattr(settings, key) if term in terms else 0.0 for term, key in TERMS.items()}
