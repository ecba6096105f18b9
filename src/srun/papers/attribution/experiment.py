"""What runs for the attribution paper: requests, Originals, cells, and the protocols that its text leaves open."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from srun.errors import ConfigError
from srun.flow.steps import Step

METHODS = ("original", "retrain", "attribution", "attribution_plus", "output_mask", "random_neurons", "largest_neurons")
OTHERS = ("gru4rec", "caser")


def _epochs(number: int) -> list[str]:
    """So many epochs, the last one's weights: a validation on the way would pick an earlier epoch's."""
    return [f"train.{key}={number}" for key in ("max_epochs", "evaluate_every", "patience")]


REQUESTS = {"Action": "action", "Drama": "drama", "Comedy": "comedy"}
"""The categories of Table 3, and the requests of params.yaml that forget them."""
PROTOCOLS: dict[str, list[str]] = {
    "users_80_20": ["prepare.holdout=users_80_20"],
    "users_80_20_context_all": [
        "prepare.holdout=users_80_20",
        *(f"partition.{request}.context=all" for request in REQUESTS.values()),
    ],
    "hidden_256": ["model.bert4rec.hidden=256"],
    "epochs_5": _epochs(5),
    "epochs_20": _epochs(20),
    "epochs_60": _epochs(60),
}
"""What [A] leaves open, as overrides of the preset: its edit is made once more under each. By whom targets are ranked
and what counts as removed needs no other model, so each has all rankings and definitions."""


def request_name(category: str) -> str:
    """The request of params.yaml that forgets a category of Table 3."""
    if category not in REQUESTS:
        raise ConfigError(f'unknown category "{category}": the paper has {", ".join(REQUESTS)}')
    return REQUESTS[category]


def assignments(
    categories: Sequence[str], others: bool, methods: Sequence[str] = METHODS, number: int = 1
) -> list[str]:
    """Requests, Originals and cells as overrides of the preset; ``others``: GRU4Rec and Caser too, as they are.

    ``number`` of seeds, from 0, for the first category; further ones have seed 0. Each seed has an Original, on which
    everything is done but Retrain: that starts from nothing, so its seeds stand beside Original 0.
    """
    requests = [request_name(category) for category in categories]
    further = OTHERS if others else ()
    trained = [*(("bert4rec", seed) for seed in range(number)), *((model, 0) for model in further)]
    originals = {f"{model}-{seed}": {"model": model, "seed": seed, "shards": 1} for model, seed in trained}
    cells: dict[str, Any] = {
        f"{request}-{method}" + (f"-{seed}" if seed else ""): {
            "request": request,
            "original": "bert4rec-0" if method == "retrain" else f"bert4rec-{seed}",
            "method": method,
            "seed": seed,
        }
        for request in requests
        for seed in range(number if request == requests[0] else 1)
        for method in methods
    }
    cells |= {
        f"{request}-{model}": {"request": request, "original": f"{model}-0", "method": "original", "seed": 0}
        for request in requests
        for model in further
    }
    overrides = {"requests": requests, "originals": originals, "cells": cells}
    return [f"{key}={json.dumps(value)}" for key, value in overrides.items()]


def protocols(categories: Sequence[str]) -> dict[str, list[str]]:
    """Protocol -> overrides of the preset, to be laid over all others: Original and the paper's edit, under it."""
    cells = assignments(categories, False, ("original", "attribution"))
    return {name: [*cells, "relearning.kinds=[]", *changes] for name, changes in PROTOCOLS.items()}


def under(protocol: str, steps: Sequence[Step]) -> list[Step]:
    """The steps of a protocol, under names of their own."""
    return [
        replace(
            step,
            name=step_under(protocol, step.name),
            needs=tuple(step_under(protocol, needed) for needed in step.needs),
        )
        for step in steps
    ]


def step_under(protocol: str, step: str) -> str:
    """What a step is called under a protocol; "" is the preset itself."""
    return f"{protocol}: {step}" if protocol else step
