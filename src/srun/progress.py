"""A progress bar for epochs, on a terminal only; a budget of time."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from srun.system import distributed


class Budget:
    """Minutes of wall-clock time, from now on. What was begun is finished; nothing new is begun once they are spent."""

    def __init__(self, minutes: float) -> None:
        self.minutes = minutes
        self._end = time.monotonic() + 60 * minutes

    @property
    def spent(self) -> bool:
        return time.monotonic() >= self._end


class EpochBar:
    """Shows epoch, cap, the loss, one metric and the time left on standard error; silent when that is no terminal."""

    def __init__(self, title: str, shown: str, enabled: bool) -> None:
        console = Console(stderr=True)
        self._shown = shown
        self._latest: dict[str, float] = {}
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not (enabled and console.is_terminal and distributed.rank() == 0),
        )
        self._task = self._bar.add_task(title, total=None, figures="")

    def __enter__(self) -> "EpochBar":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(self, row: dict[str, float], epoch: int, cap: int) -> None:
        """Show the figures of an epoch; metrics that it does not have keep their last value."""
        self._latest |= row
        figures = [
            f"{name.rpartition('/')[2]} {value:.4f}" for name, value in self._latest.items() if self._is_shown(name)
        ]
        self._bar.update(self._task, completed=epoch, total=cap, figures="  ".join(figures))

    def _is_shown(self, name: str) -> bool:
        return name == self._shown or name.endswith("loss")
