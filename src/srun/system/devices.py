"""The machine a run is on: device, threads, deterministic arithmetic, peak memory."""

import contextlib
import ctypes
import os
import platform
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field

from srun.config import config
from srun.errors import RunError
from srun.system import distributed


@config
class RuntimeConfig:
    """Where a stage runs. These choose no result, up to the rounding of floating point."""

    device: str
    """auto, cpu, cuda, cuda:N or mps; auto takes the first of cuda, mps, cpu that is there."""
    threads: Annotated[int, Field(ge=0)]
    """CPU threads; 0 leaves torch's own choice. Bits are the same only for the same number."""
    together: Literal["auto", "on", "off"]
    """Train models of one shape, such as SISA's shards, as one; auto: on a GPU, since it is slower on a CPU (docs)."""
    tracking: bool
    """Log to MLflow."""
    progress: bool
    """Show a progress bar when standard error is a terminal."""


def start(settings: RuntimeConfig) -> torch.device:
    """Set threads and determinism, and return the device; raises RunError if it is not there."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    _keep_freed_memory()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS repeats its bits only with it
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.allow_tf32 = False  # else filters and recurrent layers keep 10 bits of a float32 on a GPU
    # all memory is written before it is read, so that to fill it first is a waste
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # torch's types lack it
    return resolve(settings.device)


def _keep_freed_memory() -> None:
    """Let glibc keep up to 1 GiB of freed memory instead of giving it back after every large tensor.

    To get it again costs a page fault for every 4 KiB, which took a quarter of a training step.
    """
    mmap_threshold, trim_threshold = -3, -1  # names of malloc.h
    with contextlib.suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(mmap_threshold, 2**25)
        mallopt(trim_threshold, 2**30)


def trains_together(settings: RuntimeConfig, device: torch.device) -> bool:
    """Whether models of one shape are trained as one."""
    return settings.together == "on" or (settings.together == "auto" and device.type == "cuda")


def resolve(name: str) -> torch.device:
    """Return the device of a name; raises RunError naming what is there instead."""
    there = ["cpu"] + ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available()
    if name == "auto":
        name = there[1] if len(there) > 1 else "cpu"
    if name == "cuda" and distributed.size() > 1:
        name = f"cuda:{distributed.local_rank()}"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise RunError(f'runtime.device "{name}" is no device; expected auto, {", ".join(there)}') from error
    count = torch.cuda.device_count() if device.type == "cuda" else 1
    if device.type not in there or (device.index or 0) >= count:
        raise RunError(f'runtime.device "{name}" is not on this machine; here are: {", ".join(there)}')
    return device


@contextlib.contextmanager
def out_of_memory_hint(keys: str) -> Iterator[None]:
    """Turn an out-of-memory error into one line that says what to lower."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise RunError(f"out of memory on the device; lower {keys}, or set runtime.device=cpu") from error
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error):  # torch has no class for it
            raise RunError(f"out of memory; lower {keys}") from error
        raise


class PeakMemory:
    """The most memory in use since it was made, in MiB: of the device, or of the process on a CPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        with contextlib.suppress(OSError):  # where the kernel cannot reset it, the peak is that of the whole process
            Path("/proc/self/clear_refs").write_text("5")

    def mebibytes(self) -> float:
        """The peak so far."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        status = Path("/proc/self/status")
        if status.exists():
            line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
            return int(line.split()[1]) / 1024
        unit = 2**20 if platform.system() == "Darwin" else 2**10  # ru_maxrss is in bytes there, in KiB elsewhere
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def machine() -> dict[str, str]:
    """Versions and processor, recorded beside every result."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": platform.system(),
        "processor": cpu,
        "threads": str(torch.get_num_threads()),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    }
