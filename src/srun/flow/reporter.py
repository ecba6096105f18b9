"""Telling of epochs: curves go to the tracker and to the terminal."""

from types import TracebackType

from srun.progress import EpochBar
from srun.tracking import Tracker


class Reporter:
    """Sends every epoch to the tracker and to the progress bar."""

    def __init__(self, title: str, shown: str, progress: bool, tracker: Tracker) -> None:
        self._bar = EpochBar(title, shown, progress)
        self._tracker = tracker

    def __enter__(self) -> "Reporter":
        self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.__exit__(kind, error, trace)

    def on_epoch(self, row: dict[str, float], epoch: int, cap: int) -> None:
        self._bar.update(row, epoch, cap)
        self._tracker.metrics({name: value for name, value in row.items() if name != "epoch"}, step=epoch)
