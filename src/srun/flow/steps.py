"""A step leaves an output behind, and is taken only where that is missing or stale."""

import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from srun.errors import Faults, RunError
from srun.files import held
from srun.flow.freshness import Output, Parts, reasons_text
from srun.progress import Budget
from srun.registry import suggest
from srun.system import distributed

log = logging.getLogger("srun")


@dataclass(frozen=True)
class Step:
    """A part of a longer work, which leaves an output behind."""

    name: str
    needs: tuple[str, ...]
    """Names of earlier steps; when one of them is done again, so is this one."""
    work: Callable[[str], Any] = field(repr=False)
    """Makes the output; is given the key of what it is made of, by which it goes on after a kill."""
    parts: Callable[[], Parts] = field(repr=False)
    """What the output would be made of now."""
    output: Output
    resume: Path | None = None
    """Where the work goes on after a kill; two processes never do it at once."""
    purpose: str = ""
    """Names the work to a process that is kept out: a noun phrase."""
    wanted: Callable[[], list[str]] = field(default=list, repr=False)
    """Why it has to be taken though its output is up to date, a text a reason."""

    def run(self) -> Any:
        """Make the output and its key file; returns what the work does.

        Saved states are removed last, so that a kill between output and key file costs little.
        """
        if self.resume is None:
            return self._run()
        with held(self.resume, self.purpose or self.name):
            result = self._run()
            if not distributed.rank():
                shutil.rmtree(self.resume, ignore_errors=True)
            return result

    def _run(self) -> Any:
        parts = self.parts()  # before the work: what changes meanwhile is not in the output
        result = self.work(parts.key)
        self.output.write_key(parts)
        return result

    def stale(self) -> list[str]:
        """Why it has to be taken, a text a reason; empty where its output is up to date."""
        return self.output.stale(self.parts) or self.wanted()


def take_steps(steps: Sequence[Step], budget: Budget | None) -> dict[str, list[str]]:
    """Take the steps that are not done, in order, until the budget is spent; returns ``done`` now and ``left``."""
    done: list[str] = []
    for step in steps:
        reasons = step.stale()
        if not reasons:
            log.info("%s: up to date", step.name)
            continue
        if budget is not None and budget.spent:
            left = _left(steps)
            log.warning(
                "the budget of %g minutes is spent; %d steps are left, from %s on; the same command goes on with them",
                *(budget.minutes, len(left), left[0]),
            )
            return {"done": done, "left": left}
        log.info("%s: %s", step.name, reasons_text(reasons))
        step.run()
        done.append(step.name)
    return {"done": done, "left": []}


def accept_steps(steps: Sequence[Step], names: Sequence[str]) -> dict[str, list[str]]:
    """Take outputs that are there for what their steps would make now: after a change that is known not to matter.

    ``names``: steps; without any, every stale one that has an output. Returns why each accepted one was stale. Raises
    RunError, and accepts nothing, for an unknown name, an output that is not there, and one that is not the one which
    its key file describes.
    """
    known, faults = {step.name: step for step in steps}, Faults()
    faults += [f'unknown step "{name}"{suggest(name, list(known))}' for name in names if name not in known]
    if faults:
        raise RunError(*faults)
    chosen = [known[name] for name in dict.fromkeys(names)] or [step for step in steps if step.output.is_there()]
    stale = {step.name: reasons for step in chosen if (reasons := step.output.stale(step.parts))}
    for name in stale:
        with faults.collect():
            known[name].output.check_intact()
    if faults:
        raise RunError(*faults)
    for name in stale:
        known[name].output.write_key(known[name].parts())
    return stale


def _left(steps: Sequence[Step]) -> list[str]:
    """Names of steps that are not done, and of those to be done again for that."""
    left: list[str] = []
    for step in steps:
        if any(name in left for name in step.needs) or step.stale():
            left.append(step.name)
    return left
