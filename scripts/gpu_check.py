"""Compare a GPU with the CPU, then time it: figures for benchmarks/gpu.md, in at most 8 minutes.

    scripts/gpu_check.sh                             on the machine with the GPU (see there what it needs)
    python scripts/gpu_check.py --device cpu --tiny  the same parts on a CPU, in seconds, on next to no data

Data are made up, nothing is downloaded. Every part is a process of its own, with a share of the time: one that fails,
crawls or leaves the GPU unusable takes no other with it. After each, gpu_check.json and gpu_check.md are written; the
log of a part is beside them. Exit code 1 if a part failed or was not reached.
"""

import argparse
import json
import math
import multiprocessing
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # a process that has asked CUDA itself must not fork

import gpu_check_compare as compare
import gpu_check_time as timing
import torch
from gpu_check_bench import FULL, TINY, Bench, Figure, Scale

from srun.flow.params import load
from srun.system.devices import RuntimeConfig, machine, start

ROOT = Path(__file__).parents[1]
FORK = multiprocessing.get_context("fork")
"""Parts inherit the data and all imports; no process that forks may use CUDA or start a thread of torch itself."""
Work = Callable[[Bench, Scale, torch.device], Iterator[Figure]]
Status = Literal["passed", "failed", "not reached"]


@dataclass(frozen=True)
class Part:
    """One thing to do: on the small data if it compares, on the large data if it times."""

    work: Work
    compares: bool
    seconds: int
    """At most, of the clock."""


PARTS: Mapping[str, Part] = {
    "losses": Part(compare.compare_losses, True, 60),
    "ranks": Part(compare.compare_ranks, True, 90),
    "training": Part(compare.compare_training, True, 60),
    "closed form": Part(compare.compare_closed_form, True, 60),
    "sruga": Part(compare.compare_sruga, True, 90),
    "together": Part(compare.compare_together, True, 60),
    "same bits": Part(compare.compare_bits, True, 90),
    "unlearned": Part(compare.compare_unlearned, True, 90),
    "time training": Part(timing.time_training, False, 90),
    "time ranking": Part(timing.time_ranking, False, 60),
    "time closed form": Part(timing.time_closed_form, False, 90),
    "time sruga": Part(timing.time_sruga, False, 120),
    "time together": Part(timing.time_together, False, 120),
    "time recovery": Part(timing.time_recovery, False, 60),
}


@dataclass(frozen=True)
class Outcome:
    """What came of a part."""

    part: str
    status: Status
    error: str = ""
    """One line."""
    seconds: float = 0.0
    figures: list[Figure] = field(default_factory=list)


@dataclass
class Finished:
    """What a process left."""

    results: list[Any] = field(default_factory=list)
    error: str = ""


def main(words: Sequence[str] | None = None) -> None:
    options, began = _options(words), time.monotonic()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.use_deterministic_algorithms(True, warn_only=True)  # imports much of torch: once, not in every part
    runtime = load(ROOT / "params.yaml", [], [f"runtime.device={options.device}", "runtime.threads=0"]).runtime
    about = in_process(options.out / "machine.log", 60, lambda: iter([_machine(runtime)]))
    if about.error:
        sys.exit(f"error: {about.error}")
    check = Check(runtime, TINY if options.tiny else FULL, options.out, began + options.seconds)
    outcomes = []
    for name in options.parts:
        outcomes.append(check.carry_out(name))
        print(
            f"{outcomes[-1].status:12}{outcomes[-1].seconds:6.1f} s  {name}  {outcomes[-1].error}".rstrip(), flush=True
        )
        write(options.out, {**about.results[0], "tiny": options.tiny}, time.monotonic() - began, outcomes)
    sys.exit(0 if all(outcome.status == "passed" for outcome in outcomes) else 1)


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="device that is compared with the CPU, and timed")
    parser.add_argument("--tiny", action="store_true", help="next to no data: shows that all parts run")
    parser.add_argument("--seconds", type=float, default=420, help="of the clock for all parts; default 420")
    out = Path(os.environ.get("OUT") or ROOT / "out" / "gpu_check")
    parser.add_argument("--out", type=Path, default=out, help="folder of the results; default $OUT, else out/gpu_check")
    parser.add_argument("--parts", nargs="*", default=list(PARTS), choices=list(PARTS), help="default all")
    return parser.parse_args(words)


@dataclass
class Check:
    """Carries out parts one by one."""

    runtime: RuntimeConfig
    scale: Scale
    out: Path
    end: float
    """When the time is over, by the monotonic clock."""
    _benches: dict[bool, Bench] = field(default_factory=dict)
    """Made when a part first needs them; parts that compare have small data."""

    def carry_out(self, name: str) -> Outcome:
        """A part in a process of its own, if any of the time is left."""
        part, began = PARTS[name], time.monotonic()
        if began < self.end and part.compares not in self._benches:
            size = self.scale.compared if part.compares else self.scale.timed
            self._benches[part.compares] = Bench.make(size, self.scale.overrides)
        left = self.end - time.monotonic()
        if left <= 0:
            return Outcome(name, "not reached", "the time of --seconds was over")
        bench, log = self._benches[part.compares], self.out / f"{name.replace(' ', '_')}.log"
        process = in_process(log, min(part.seconds, left), lambda: part.work(bench, self.scale, start(self.runtime)))
        error, bad = process.error, [figure.about for figure in process.results if not figure.good]
        if bad and not error:
            error = f"{len(bad)} of {len(process.results)} figures are outside their limits; the first is {bad[0]}"
        return Outcome(name, "failed" if error else "passed", error, time.monotonic() - began, process.results)


def in_process(log: Path, seconds: float, work: Callable[[], Iterator[Any]]) -> Finished:
    """What ``work`` gives in a process of its own, killed after so many seconds; what it prints goes into ``log``."""
    receiver, sender = FORK.Pipe(duplex=False)
    process = FORK.Process(target=_work, args=(log, sender, work))
    process.start()
    sender.close()
    finished, end = Finished(), time.monotonic() + seconds
    while receiver.poll(max(end - time.monotonic(), 0)):
        try:
            finished.results.append(receiver.recv())
        except EOFError:
            process.join()
            finished.error = _error(log.read_text(), process.exitcode) if process.exitcode else ""
            return finished
    process.kill()
    process.join()
    finished.error = f"not done after {seconds:.0f} seconds"
    return finished


def _error(log: str, code: int) -> str:
    """The line of a traceback that names the error, or what is known without one."""
    lines = [line for line in log.splitlines() if re.match(r"[\w.]+(Error|Exception|Interrupt)\b", line)]
    return lines[-1] if lines else f"ended with exit code {code}"


def _work(log: Path, sender: Connection, work: Callable[[], Iterator[Any]]) -> None:
    with log.open("w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    for result in work():
        sender.send(result)


def _machine(runtime: RuntimeConfig) -> dict[str, str]:
    device = start(runtime)
    return machine() | {"device": str(device), "cuda": str(torch.version.cuda)}


def write(folder: Path, about: Mapping[str, object], seconds: float, outcomes: Sequence[Outcome]) -> None:
    """Write gpu_check.json and gpu_check.md."""
    parts = [{**asdict(one), "figures": [_row(figure) for figure in one.figures]} for one in outcomes]
    record = {"machine": dict(about), "seconds": round(seconds, 1), "parts": parts}
    (folder / "gpu_check.json").write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")
    (folder / "gpu_check.md").write_text("\n".join(_page(about, seconds, outcomes)) + "\n")


def _row(figure: Figure) -> dict[str, object]:
    """A figure as JSON, which has no word for what is not a number."""
    return {**asdict(figure), "value": figure.value if math.isfinite(figure.value) else None, "good": figure.good}


def _page(about: Mapping[str, object], seconds: float, outcomes: Sequence[Outcome]) -> Iterator[str]:
    yield "# GPU check\n"
    yield f"{', '.join(f'{key} {value}' for key, value in about.items())}. {seconds:.0f} seconds in all.\n"
    yield from _table(
        ("part", "outcome", "seconds", "error"),
        [(one.part, one.status, f"{one.seconds:.1f}", one.error) for one in outcomes],
    )
    yield "\n## Beside the CPU\n\nA difference is a share of the size of what is compared, unless it says otherwise.\n"
    yield from _table(
        ("part", "what differs", "by", "limit", "why not 0"),
        [
            (one.part, figure.about, f"{figure.value:.2g} {figure.unit}", f"{figure.limit:g}", figure.reason)
            for one in outcomes
            for figure in one.figures
            if figure.limit is not None
        ],
    )
    yield "\n## Times\n"
    yield from _table(
        ("part", "of", "figure"),
        [
            (one.part, figure.about, f"{figure.value:.4g} {figure.unit}")
            for one in outcomes
            for figure in one.figures
            if figure.limit is None
        ],
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for row in (header, ["---"] * len(header), *rows):
        yield f"| {' | '.join(cell.replace('|', '/').strip() for cell in row)} |"


if __name__ == "__main__":
    main()
