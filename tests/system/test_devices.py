"""Devices by name, and what is said when one is not there or has no memory left."""

import pytest
import torch

from srun.errors import RunError
from srun.system.devices import PeakMemory, machine, out_of_memory_hint, resolve


def test_auto_takes_what_is_there() -> None:
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert resolve("auto").type == best
    assert resolve("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda:63", "gpu", "cpu0", ""])
def test_a_device_that_is_not_there_is_one_line(name: str) -> None:
    with pytest.raises(RunError, match=r"runtime\.device") as error:
        resolve(name)
    assert "cpu" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory: you tried to allocate"),
    ],
    ids=["device", "python", "torch on a CPU"],
)
def test_out_of_memory_says_what_to_lower(error: BaseException) -> None:
    with pytest.raises(RunError, match=r"lower train\.batch_size"), out_of_memory_hint("train.batch_size"):
        raise error


def test_a_real_failure_to_allocate_is_caught() -> None:
    with pytest.raises(RunError, match="out of memory"), out_of_memory_hint("train.batch_size"):
        torch.empty(2**60, dtype=torch.uint8)


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shapes"), out_of_memory_hint("x"):
        raise RuntimeError("shapes do not match")


def test_peak_memory_sees_what_is_allocated() -> None:
    before = PeakMemory(torch.device("cpu")).mebibytes()
    peak = PeakMemory(torch.device("cpu"))
    big = torch.ones(200 * 2**20, dtype=torch.uint8)
    assert peak.mebibytes() >= before + 100
    assert len(big) > 0
    assert set(machine()) >= {"python", "torch", "processor", "threads", "gpu"}
