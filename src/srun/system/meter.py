"""What a computation costs: counts that are the same at every run, and times and memory that are measured."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

from torch import Tensor

from srun.system.devices import PeakMemory
from srun.system.flops import flops_so_far

FORWARD_SHARE = 1 / 3
"""Of a target gradient, for a position that only passes forward: a teacher, a stop rule."""
MEASURED = ("seconds", "processor", "peak")
"""How the names of measured fields begin; the others are counts."""


@dataclass
class Cost:
    """Resources one computation used, up to the model it returned. Counts are repeatable; times and memory are not."""

    epochs: int = 0
    steps: int = 0
    target_gradients: float = 0.0
    """Input positions that passed forward and backward; those that only passed forward count a third."""
    scored_positions: int = 0
    """Positions for which the whole catalogue was scored: in losses, and in looks that a stop rule needs."""
    flops: float = 0.0
    """Floating-point operations during ``seconds``; 0 where nobody counts them (``system.flops``)."""
    seconds: float = 0.0
    """By the clock."""
    seconds_patience: float = 0.0
    """After the model that was returned."""
    seconds_evaluation: float = 0.0
    """For figures that only curves show."""
    processor_seconds: float = 0.0
    """Of all threads of the process, during ``seconds``."""
    peak_memory_mb: float = 0.0

    def exact(self) -> dict[str, float]:
        """The counts, which are the same at every run; operations are among them where they were counted."""
        counts = {name: value for name, value in asdict(self).items() if not name.startswith(MEASURED)}
        return counts if self.flops else {name: value for name, value in counts.items() if name != "flops"}

    def measured(self) -> dict[str, float]:
        """The times and the memory, which differ from run to run."""
        return {name: value for name, value in asdict(self).items() if name.startswith(MEASURED)}


@dataclass
class Elapsed:
    """Time that passed, and the operations that were counted meanwhile."""

    seconds: float = 0.0
    processor_seconds: float = 0.0
    flops: float = 0.0


@contextmanager
def stopwatch() -> Iterator[Elapsed]:
    """Time what happens inside; the figures are there afterwards."""
    elapsed = Elapsed()
    clock, processor, flops = time.perf_counter(), time.process_time(), flops_so_far()
    yield elapsed
    elapsed.seconds, elapsed.processor_seconds = time.perf_counter() - clock, time.process_time() - processor
    elapsed.flops = flops_so_far() - flops


class Meter:
    """Counts the resources of one computation; a state of it survives a kill."""

    def __init__(self, memory: PeakMemory | None = None) -> None:
        self.cost = Cost()
        self._memory = memory

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time inside as the computation's own, and the operations where ``counting_flops`` is around it."""
        with stopwatch() as elapsed:
            yield
        self.charge(elapsed)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Count the time inside as that of figures for curves, which the computation does not need."""
        with stopwatch() as elapsed:
            yield
        self.cost.seconds_evaluation += elapsed.seconds

    def charge(self, elapsed: Elapsed, share: float = 1.0) -> None:
        """Count a ``share`` of a time that passed, and of the operations in it."""
        self.cost.seconds += elapsed.seconds * share
        self.cost.processor_seconds += elapsed.processor_seconds * share
        self.cost.flops += elapsed.flops * share

    def count(
        self, *, epochs: int = 0, steps: int = 0, target_gradients: float = 0.0, scored_positions: int = 0
    ) -> None:
        """Add to the counts."""
        self.cost.epochs += epochs
        self.cost.steps += steps
        self.cost.target_gradients += target_gradients
        self.cost.scored_positions += scored_positions

    def count_inputs(self, inputs: Tensor, share: float = 1.0) -> None:
        """Count the real positions of ``inputs`` (B, L): 1 forward and backward, FORWARD_SHARE forward only."""
        self.count(target_gradients=share * int((inputs != 0).sum()))

    def count_look(self, positions: int, queries: int) -> None:
        """Count a look that a rule needs: it passes ``positions`` forward and scores the catalogue for ``queries``."""
        self.count(target_gradients=FORWARD_SHARE * positions, scored_positions=queries)

    def include(self, cost: Cost) -> None:
        """Add the cost of a computation that was a part of this one; of peak memory the larger stays."""
        for name, value in vars(cost).items():
            before = getattr(self.cost, name)
            setattr(self.cost, name, max(before, value) if name == "peak_memory_mb" else before + value)

    def read(self) -> Cost:
        """The cost so far, as a copy."""
        if self._memory is None:
            return replace(self.cost)
        return replace(self.cost, peak_memory_mb=max(self.cost.peak_memory_mb, self._memory.mebibytes()))

    def read_until(self, best: Cost) -> Cost:
        """The cost of a model that was there when ``best`` was read; time since then is patience."""
        now = self.read()
        return replace(
            best,
            seconds_patience=now.seconds - best.seconds,
            seconds_evaluation=now.seconds_evaluation,
            peak_memory_mb=now.peak_memory_mb,
        )

    def state(self) -> dict[str, float]:
        """What must survive a kill, as JSON."""
        return asdict(self.cost)

    def restore(self, state: Mapping[str, float]) -> None:
        """Put back what ``state`` returned."""
        self.cost = Cost(**state)  # type: ignore[arg-type]  # JSON keeps whole numbers whole
