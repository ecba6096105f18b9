"""Stage draw: core and edge requests, of the events of which most or least memory is expected.

An Original that no row of these requests starts from draws them, each as a mask over events.
"""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from srun.data.dataset import Dataset, Mask, Role
from srun.errors import ConfigError
from srun.flow.layout import Layout
from srun.flow.loading import load_dataset, load_original, require_crossfit
from srun.requests.draws import draw_extreme, save_draws
from srun.requests.kinds import ExpectedInteractions
from srun.system.devices import RuntimeConfig, start
from srun.tracking import Tracker
from srun.unlearning.closed_form.expected import ExpectedMemory, expected_memory

log = logging.getLogger("srun.data")


def run(
    layout: Layout, name: str, requests: Mapping[str, ExpectedInteractions], runtime: RuntimeConfig, tracker: Tracker
) -> dict[str, Any]:
    """Draw every one of ``requests`` by the memory of the Original ``name``; returns by request how it was drawn.

    Without requests it leaves an empty folder of draws. Raises ConfigError where the Original has shards,
    CheckpointError where it or its table of cross-fitted models is not there, DataError where a request asks for too
    many events.
    """
    data = load_dataset(layout)
    if not requests:
        log.info("draw %s: it draws no request", name)
        save_draws(layout.draws(name), data, {}, {})
        return {}
    device = start(runtime)
    original = load_original(layout, name, data, device)
    if len(original.scorer.models) > 1:
        raise ConfigError(f'original "{name}": has shards, and memory is looked at in one model; draw by another')
    model, table = original.model.eval(), require_crossfit(layout, name, data)
    draws: dict[str, Mask] = {}
    records: dict[str, dict[str, Any]] = {}
    for request, block in requests.items():
        log.info('request "%s": the %s expected memory of events, under %s', request, block.expected, name)
        memory = expected_memory(model, data, table, block.seed, device)
        number = max(1, round(block.share_of_events * int(data.has_role(Role.TRAIN).sum())))
        draws[request] = draw_extreme(data, memory.expected, number, block.expected, block.max_share_of_items)
        figures = _figures(data, memory, draws[request])
        tracker.metrics({f"{request}/{figure}": value for figure, value in figures.items()})
        records[request] = {"rule": block.rule, "drawn": figures}
    save_draws(layout.draws(name), data, draws, records)
    return {request: record["drawn"] for request, record in records.items()}


def _figures(data: Dataset, memory: ExpectedMemory, drawn: Mask) -> dict[str, float]:
    """What is expected of the drawn events, beside all events."""
    return {
        "num_events": int(drawn.sum()),
        "num_users": len(np.unique(data.user[drawn])),
        "expected_memory": round(float(memory.expected[drawn].mean()), 4),
        "expected_memory_of_all": round(float(np.nanmean(memory.expected)), 4),
        "correlation_with_lift": round(memory.correlation, 4),
    }
