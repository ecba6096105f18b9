"""The check of a GPU runs on the CPU, and tells of every part what came of it."""

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALONE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHON": sys.executable}


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "scripts")


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **ALONE}, capture_output=True, text=True, check=False)


def statuses(folder: Path) -> dict[str, str]:
    return {part["part"]: part["status"] for part in json.loads((folder / "gpu_check.json").read_text())["parts"]}


@pytest.mark.usefixtures("scripts")
def test_all_parts_pass_on_the_cpu_beside_itself(tmp_path: Path) -> None:
    import gpu_check

    ended = run("scripts/gpu_check.sh", "--device", "cpu", "--tiny", "--out", tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    record = json.loads((tmp_path / "gpu_check.json").read_text())
    assert statuses(tmp_path) == dict.fromkeys(gpu_check.PARTS, "passed")
    assert record["machine"]["device"] == "cpu"
    figures = {part["part"]: part["figures"] for part in record["parts"]}
    compared = {name for name, part in gpu_check.PARTS.items() if part.compares}
    assert {name for name, some in figures.items() if any(row["limit"] is not None for row in some)} == compared
    assert all(row["value"] > 0 for name in set(figures) - compared for row in figures[name])
    page = (tmp_path / "gpu_check.md").read_text()
    assert all(figure["about"] in page for some in figures.values() for figure in some)


TOYS = """
import time
import gpu_check
from gpu_check import Figure, Part

def fine(bench, scale, device):
    print("printed into the log")
    yield Figure("a time", 1.5, "s")

def breaks(bench, scale, device):
    yield Figure("before it breaks", 0.5, "s")
    raise RuntimeError("CUDA error: an illegal memory access\\nof two lines")

def differs(bench, scale, device):
    yield Figure("near", 0.1, "", 0.2, "rounding")
    yield Figure("far", float("nan"), "", 0.2, "rounding")

def crawls(bench, scale, device):
    yield Figure("before it crawls", 0.5, "s")
    time.sleep(60)

works = {"breaks": breaks, "differs": differs, "crawls": crawls, "fine": fine}
gpu_check.PARTS = {name: Part(work, True, 2) for name, work in works.items()}
gpu_check.main()
"""


def test_a_part_that_fails_hides_no_other(tmp_path: Path) -> None:
    program = tmp_path / "toys.py"
    program.write_text(f"import sys\nsys.path.insert(0, {str(ROOT / 'scripts')!r})\n{TOYS}")
    ended = run(sys.executable, program, "--device", "cpu", "--tiny", "--out", tmp_path)
    assert ended.returncode == 1
    assert statuses(tmp_path) == {"breaks": "failed", "differs": "failed", "crawls": "failed", "fine": "passed"}
    parts = {part["part"]: part for part in json.loads((tmp_path / "gpu_check.json").read_text())["parts"]}
    assert parts["breaks"]["error"] == "RuntimeError: CUDA error: an illegal memory access"
    assert [figure["about"] for figure in parts["breaks"]["figures"]] == ["before it breaks"]
    assert parts["differs"]["error"] == "1 of 2 figures are outside their limits; the first is far"
    assert parts["differs"]["figures"][1]["value"] is None
    assert parts["crawls"]["error"] == "not done after 2 seconds"
    assert [figure["about"] for figure in parts["crawls"]["figures"]] == ["before it crawls"]
    assert (tmp_path / "fine.log").read_text() == "printed into the log\n"
    assert "RuntimeError: CUDA error: an illegal memory access" in ended.stdout


@pytest.mark.usefixtures("scripts")
def test_what_was_not_reached_is_said(tmp_path: Path) -> None:
    import gpu_check

    from srun.flow.params import load

    runtime = load(ROOT / "params.yaml", [], ["runtime.device=cpu"]).runtime
    check = gpu_check.Check(runtime, gpu_check.TINY, tmp_path, time.monotonic() - 1)
    outcome = check.carry_out("losses")
    assert (outcome.status, outcome.figures) == ("not reached", [])
    gpu_check.write(tmp_path, {"device": "cpu"}, 1.0, [outcome])
    assert "| losses | not reached |" in (tmp_path / "gpu_check.md").read_text()


def test_a_device_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    ended = run(sys.executable, "scripts/gpu_check.py", "--device", "cuda:99", "--out", tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: srun.errors.RunError: ")
    assert ended.stderr.count("\n") == 1


@pytest.mark.usefixtures("scripts")
def test_what_is_no_number_is_outside_every_limit() -> None:
    from gpu_check_bench import Figure

    assert not Figure("difference", math.nan, limit=1e9).good
    assert not Figure("difference", 0.2, limit=0.1).good
    assert Figure("difference", 0.1, limit=0.1).good
    assert Figure("time", math.nan).good
