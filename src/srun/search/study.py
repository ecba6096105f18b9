"""The loop of a search: exactly N finished trials with any number of workers that share nothing but a storage.

A trial is finished when it is complete or was discarded by rule. A worker may be killed at any moment: its trial is
given up once its sign of life has not changed for a while, by the clock of whoever waits for it, and is made up for.
"""

import contextlib
import json
import logging
import os
import signal
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

from pydantic import Field

from srun.config import config
from srun.errors import ConfigError, RunError, SrunError, one_line
from srun.rng import derive
from srun.search.goals import Figures, Goal
from srun.search.space import Space
from srun.search.storage import retried

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

Sampler = Literal["tpe", "nsga2", "nsga3", "gp", "random"]
OWN_SETTINGS, OVERRIDES, RESULT, BEAT, ABOUT = "own_settings", "overrides", "result", "beat", "about"
MAX_FAILURES = 10
"""Trials in a row that a worker lets fail before it stops with the last error."""
GRACE = 2.0
"""Limits after which a trial that did not heed its limit takes its worker with it."""
log = logging.getLogger(__name__)


@config
class LimitsConfig:
    """How long things may take, in seconds."""

    trial: Annotated[float, Field(gt=0)]
    """A trial that takes longer has failed."""
    beat: Annotated[float, Field(gt=0)]
    """Between two signs of life of a worker; each is a write to the storage."""
    silence: Annotated[float, Field(gt=0)]
    """A worker that has given no sign for so long is taken for dead."""
    poll: Annotated[float, Field(gt=0)]
    """Between two looks at the storage while others finish."""

    def __post_init__(self) -> None:
        if self.silence < 3 * self.beat:
            raise ValueError(f"silence {self.silence:g} is less than three beats of {self.beat:g}")


class Tell(Protocol):
    """Is told the figures of every epoch of a trial (``epoch`` among them); may end the trial by raising."""

    def __call__(self, row: Mapping[str, float]) -> None: ...


Evaluate = Callable[[Mapping[str, Any], Tell], Figures]
"""From overrides, by dotted key, to result figures, by result key."""


class _DiscardedError(Exception):
    """A trial is not worth going on with."""


class _OverTimeError(Exception):
    """A trial took longer than it may."""


def open_study(storage: "BaseStorage", name: str, goal: Goal, about: Mapping[str, Any]) -> "Study":
    """Create or join the study of a name. ``about``: all that its trials must have in common.

    Raises ConfigError naming what differs when it was begun with another ``about``.
    """
    import optuna

    directions = [objective.direction for objective in goal.objectives]
    study = retried(
        lambda: optuna.create_study(storage=storage, study_name=name, directions=directions, load_if_exists=True),
        f'study "{name}"',
    )
    now = json.loads(json.dumps(about, default=str))
    before = study.user_attrs.get(ABOUT, now)
    if not isinstance(before, dict):
        raise ConfigError(
            f'study "{name}": damaged, its storage does not say what it is on; name a new one with --study'
        )
    differs = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if differs:
        raise ConfigError(
            f'study "{name}" was begun with another value of {", ".join(differs)}; go on with that one, or name a new '
            "study with --study"
        )
    study.set_user_attr(ABOUT, now)
    return study


def load_study(storage: "BaseStorage", name: str) -> "Study":
    """The study of a name; raises RunError naming those there are."""
    import optuna

    try:
        return optuna.load_study(study_name=name, storage=storage)
    except KeyError as error:
        there = one_line(", ".join(map(str, optuna.get_all_study_names(storage)))) or "none"
        raise RunError(f'no study "{name}" in this storage; there is {there}') from error


class Search:
    """One worker on a study: asks for trials, carries them out and tells, until the study has its number."""

    def __init__(
        self, study: "Study", space: Space, goal: Goal, limits: LimitsConfig, sampler: Sampler, seed: int
    ) -> None:
        import optuna

        self.study, self.space, self.goal, self.limits = study, space, goal, limits
        study.sampler = _numbered_sampler(sampler, seed)
        study.pruner = optuna.pruners.MedianPruner(n_startup_trials=10, n_warmup_steps=2)
        self._seen: dict[int, tuple[int, float]] = {}
        self._failures = 0
        self._mark = time.perf_counter()

    def run(
        self, evaluate: Evaluate, num_trials: int, timeout: float | None, after: Callable[[], object] = lambda: None
    ) -> bool:
        """Work until the study has ``num_trials`` finished trials, or no new one may begin (``timeout``, seconds).

        Returns whether it has them. ``after`` is called after each trial. Raises RunError when trials keep failing.
        """
        began = time.monotonic()
        while timeout is None or time.monotonic() - began < timeout:
            states = self._states()
            if num_finished(states) >= num_trials:
                return True
            if num_live(states) >= num_trials and not states["WAITING"]:
                time.sleep(self.limits.poll)
                self._mark = time.perf_counter()
                continue
            trial = self._ask()
            if self._is_surplus(trial.number, num_trials):
                self._tell(trial.number, "FAIL")
                continue
            self._attempt(trial, evaluate)
            before = time.perf_counter()
            after()
            self._mark += time.perf_counter() - before
        return num_finished(self._states()) >= num_trials

    def _states(self) -> Counter[str]:
        """Number of trials by state, after those of dead workers were given up."""
        for trial in self.study.get_trials(deepcopy=False):
            if trial.state.name == "RUNNING" and self._is_silent(trial):
                log.warning("trial %d: its worker gives no sign of life; given up", trial.number)
                self._tell(trial.number, "FAIL")
        return Counter(trial.state.name for trial in self.study.get_trials(deepcopy=False))

    def _is_silent(self, trial: "FrozenTrial") -> bool:
        beat, now = int(trial.user_attrs.get(BEAT, 0)), time.monotonic()
        last, since = self._seen.setdefault(trial.number, (beat, now))
        if beat != last:
            self._seen[trial.number] = beat, now
            return False
        return now - since > self.limits.silence

    def _ask(self) -> "Trial":
        """The method's own settings first, as long as no live trial has it; then what the sampler draws."""
        if not any(OWN_SETTINGS in trial.user_attrs for trial in _live(self.study)):
            self.study.enqueue_trial(self.space.own_settings(), user_attrs={OWN_SETTINGS: True})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna calls its group of parameters experimental
            return self.study.ask()

    def _is_surplus(self, number: int, num_trials: int) -> bool:
        """Whether others asked at the same moment: enough live trials, or the own settings', have a smaller number."""
        earlier = [trial for trial in _live(self.study) if trial.number < number]
        own = self.study.get_trials(deepcopy=False)[number]
        twice = OWN_SETTINGS in own.user_attrs and any(OWN_SETTINGS in trial.user_attrs for trial in earlier)
        return twice or len(earlier) >= num_trials

    def _attempt(self, trial: "Trial", evaluate: Evaluate) -> None:
        """Carry out a trial; whatever happens to it, the study stays usable."""
        from optuna.exceptions import UpdateFinishedTrialError

        rows: list[dict[str, float]] = []
        try:
            with _beating(trial, self.limits):
                overrides = self.space.keep(trial) if OWN_SETTINGS in trial.user_attrs else self.space.draw(trial)
                trial.set_user_attr(OVERRIDES, overrides)
                started = time.perf_counter()
                with _time_limit(self.limits.trial):
                    figures = evaluate(overrides, lambda row: self._tell_row(trial, rows, row))
                seconds = time.perf_counter() - started
                values, violations = self.goal.values(figures), self.goal.violations(figures)
            for text, violation in violations.items():
                trial.set_constraint(text, violation)
            self._write(trial, figures, rows, seconds, violations)
            self._tell(trial, "COMPLETE", values)
            self._failures = 0
            shown = ", ".join(f"{one.key} {value:.4f}" for one, value in zip(self.goal.objectives, values, strict=True))
            log.info("trial %d: %s (%.1f s)", trial.number, shown, seconds)
        except UpdateFinishedTrialError:
            log.warning("trial %d: given up by another worker in the meantime; its result is not used", trial.number)
        except _DiscardedError:
            with contextlib.suppress(UpdateFinishedTrialError):  # another worker has given it up already
                self._write(trial, rows[-1], rows, time.perf_counter() - started, {})
            self._tell(trial, "PRUNED")
            self._failures = 0
            log.info("trial %d: discarded after epoch %g", trial.number, rows[-1]["epoch"])
        except (SrunError, _OverTimeError) as error:
            why = str(error) or f"took longer than optimize.limits.trial = {self.limits.trial:g} s"
            self._fail(trial, why)
            self._failures += 1
            if self._failures >= MAX_FAILURES:
                raise RunError(f"{MAX_FAILURES} trials in a row failed, the last one so: {why}") from error
        except BaseException as error:  # whatever ends this worker, no trial is left running
            self._fail(trial, "interrupted" if isinstance(error, KeyboardInterrupt) else repr(error))
            raise

    def _tell(self, trial: "Trial | int", state: str, values: list[float] | None = None) -> None:
        """End a trial; nothing happens to one that another worker has ended, be it at this moment."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        with contextlib.suppress(UpdateFinishedTrialError):
            self.study.tell(trial, values, state=TrialState[state], skip_if_finished=True)

    def _write(
        self, trial: "Trial", figures: Figures, rows: list[dict[str, float]], seconds: float, violations: Figures
    ) -> None:
        """``search_seconds``: all the worker's time since its last result but for evaluation, waiting and ``after``."""
        now = time.perf_counter()
        result = {"figures": figures, "history": rows, "violations": violations, "seconds": seconds}
        result["search_seconds"] = now - self._mark - seconds
        self._mark = now
        trial.set_user_attr(RESULT, json.loads(json.dumps(result, default=float)))

    def _fail(self, trial: "Trial", why: str) -> None:
        with contextlib.suppress(RuntimeError):  # another worker has given it up already
            trial.set_user_attr(RESULT, {"why": why})
        self._tell(trial, "FAIL")
        log.warning("trial %d failed: %s", trial.number, why)

    def _tell_row(self, trial: "Trial", rows: list[dict[str, float]], row: Mapping[str, float]) -> None:
        rows.append(dict(row))
        if self.goal.single:
            score = self.goal.score(row)
            if score is not None and _is_pruned(trial, score, int(row["epoch"])):
                raise _DiscardedError
        elif self.goal.hopeless(row):
            raise _DiscardedError


def _is_pruned(trial: "Trial", score: float, epoch: int) -> bool:
    """Write a trial's score; the time limit stands still, for what ends a write halfway leaves the storage locked."""
    left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        trial.report(score, epoch)
        return bool(trial.should_prune())
    finally:
        signal.setitimer(signal.ITIMER_REAL, left)


def num_finished(states: Mapping[str, int]) -> int:
    """Trials that count: complete, or discarded by rule."""
    return states.get("COMPLETE", 0) + states.get("PRUNED", 0)


def num_live(states: Mapping[str, int]) -> int:
    """Trials that count, or will unless their worker dies."""
    return num_finished(states) + states.get("RUNNING", 0) + states.get("WAITING", 0)


def _live(study: "Study") -> list["FrozenTrial"]:
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.name != "FAIL"]


@contextlib.contextmanager
def _beating(trial: "Trial", limits: LimitsConfig) -> Iterator[None]:
    """Give signs of life beside a trial; where even its limit does not end it, end the worker."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    stop, began = threading.Event(), time.monotonic()

    def beat() -> None:
        number = 0
        while not stop.wait(limits.beat):
            if time.monotonic() - began > GRACE * limits.trial:
                log.error("trial %d does not end at its limit of %g s; this worker ends", trial.number, limits.trial)
                os._exit(1)  # the trial's silence tells the others
            number += 1
            try:
                trial.set_user_attr(BEAT, number)
            except RuntimeError:  # it was given up
                return
            except (SQLAlchemyError, StorageInternalError):  # lost: it may be back when the trial ends
                log.debug("trial %d: the storage cannot be reached for a sign of life", trial.number)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise _OverTimeError in the block after so many seconds; in the main thread of a Unix process only.

    Nothing in the block may write to the storage (see ``_is_pruned``).
    """

    def over(number: int, frame: Any) -> None:
        raise _OverTimeError

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _numbered_sampler(name: Sampler, seed: int) -> "BaseSampler":
    """A sampler whose draws depend on the seed and the trial's number: no two workers, and no resumed one, repeat."""
    from optuna.samplers import BaseSampler

    class Numbered(BaseSampler):  # type: ignore[misc]  # optuna is not type-checked here
        def __init__(self) -> None:
            self._inner = _sampler(name, seed)

        def before_trial(self, study: "Study", trial: "FrozenTrial") -> None:
            self._inner = _sampler(name, derive(seed, f"trial/{trial.number}") % 2**32)
            self._inner.before_trial(study, trial)

        def infer_relative_search_space(self, study: "Study", trial: "FrozenTrial") -> dict[str, Any]:
            space: dict[str, Any] = self._inner.infer_relative_search_space(study, trial)
            return space

        def sample_relative(self, study: "Study", trial: "FrozenTrial", search_space: dict[str, Any]) -> dict[str, Any]:
            values: dict[str, Any] = self._inner.sample_relative(study, trial, search_space)
            return values

        def sample_independent(self, study: "Study", trial: "FrozenTrial", name: str, distribution: Any) -> Any:
            return self._inner.sample_independent(study, trial, name, distribution)

        def after_trial(self, study: "Study", trial: "FrozenTrial", state: Any, values: Sequence[float] | None) -> None:
            self._inner.after_trial(study, trial, state, values)

    return Numbered()


def _sampler(name: Sampler, seed: int) -> "BaseSampler":
    from optuna import samplers

    population = 20  # Optuna's own 50 would be most of a search of some dozens of dear trials
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # experimental: groups of TPE, NSGA-III, GP
        if name == "tpe":
            return samplers.TPESampler(seed=seed, multivariate=True, group=True)
        if name == "nsga2":
            return samplers.NSGAIISampler(population_size=population, seed=seed)
        if name == "nsga3":
            return samplers.NSGAIIISampler(population_size=population, seed=seed)
        if name == "gp":
            return samplers.GPSampler(seed=seed, warn_independent_sampling=False)
        return samplers.RandomSampler(seed=seed)
