"""Processor seconds of several ways to do one thing, measured in turns, so that a busy machine slows all of them."""

import statistics
import time
from collections.abc import Callable, Mapping


def processor_seconds(work: Callable[[], object]) -> float:
    """Processor seconds of one call."""
    began = time.process_time()
    work()
    return time.process_time() - began


def in_turns(ways: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    """The median over ``repeats`` of what each way measures; every way runs once before any runs again."""
    measured: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            measured[name].append(way())
    return {name: statistics.median(values) for name, values in measured.items()}
