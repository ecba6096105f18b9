"""Several processes that do one computation: who this one is, its share of the rows, sums over all of them.

torchrun starts them and says so in RANK, WORLD_SIZE and LOCAL_RANK; under Slurm these come from Slurm's own variables.
Outside ``joined`` there is one process, whatever the environment says: search workers under Slurm stay on their own.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from srun.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor

PATIENCE = timedelta(minutes=30)  # that a process waits for another before it gives up
NO_STEP = 2**32 - 16  # SLURM_STEP_ID from here on: a batch script or an interactive shell
SLURM = {"RANK": "SLURM_PROCID", "WORLD_SIZE": "SLURM_NTASKS", "LOCAL_RANK": "SLURM_LOCALID"}

_place = {"rank": 0, "size": 1, "local_rank": 0}


def rank() -> int:
    """The number of this process, from 0; the one of number 0 writes files, tracks and shows progress."""
    return _place["rank"]


def size() -> int:
    """How many processes do the computation."""
    return _place["size"]


def local_rank() -> int:
    """The number of this process among those of its machine: that of its GPU."""
    return _place["local_rank"]


def variables(environment: Mapping[str, str]) -> dict[str, str]:
    """RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT, from Slurm's variables where they are not set.

    Slurm's count only within a step, which has as many processes; a batch script is one process of its own.
    Raises RunError where there are several processes and one of these cannot be told.
    """
    slurm = environment if int(environment.get("SLURM_STEP_ID", NO_STEP)) < NO_STEP else {}
    settings = {name: environment.get(name, slurm.get(other)) for name, other in SLURM.items()}
    if int(settings["WORLD_SIZE"] or 1) == 1:
        return {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    nodes, job = slurm.get("SLURM_STEP_NODELIST"), slurm.get("SLURM_JOB_ID")
    settings["MASTER_ADDR"] = environment.get("MASTER_ADDR", None if nodes is None else first_node(nodes))
    port = None if job is None else str(20_000 + (int(job) * 31 + int(slurm["SLURM_STEP_ID"])) % 30_000)
    settings["MASTER_PORT"] = environment.get("MASTER_PORT", port)
    complete = {name: value for name, value in settings.items() if value is not None}
    missing = sorted(set(settings) - set(complete))
    if missing:
        raise RunError(f"WORLD_SIZE is {settings['WORLD_SIZE']} but {', '.join(missing)} not set; start with torchrun")
    return complete


def first_node(nodes: str) -> str:
    """The first host of Slurm's short form: ``gpu[03-05,9],login`` -> ``gpu03``."""
    first = re.split(r",(?![^\[]*\])", nodes)[0]  # commas within brackets belong to one host's numbers
    return re.sub(r"\[(\d+)[^\]]*\]", r"\1", first)


@contextmanager
def joined() -> Iterator[None]:
    """Do what follows together with the processes that were started with this one; alone where there is none.

    When one of them fails, the others get a RunError in their next sum, since its connections are closed.
    """
    settings = variables(os.environ)
    if settings["WORLD_SIZE"] == "1":
        yield
        return
    import torch
    from torch import distributed

    os.environ.update(settings)
    if torch.cuda.is_available():
        torch.cuda.set_device(int(settings["LOCAL_RANK"]))
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    _place.update({"rank": int(settings["RANK"]), "size": int(settings["WORLD_SIZE"])})
    _place["local_rank"] = int(settings["LOCAL_RANK"])
    try:
        yield
        wait()
        distributed.destroy_process_group()  # not after an error: with NCCL that may wait for what never comes
    finally:
        _place.update({"rank": 0, "size": 1, "local_rank": 0})


def share(number: int) -> tuple[int, int]:
    """First and last of this process's share of ``number`` rows; shares lie one after the other and differ by one."""
    return rank() * number // size(), (rank() + 1) * number // size()


def add_up(tensor: "Tensor") -> "Tensor":
    """Sum a tensor over all processes, in place; every process gets the same bits."""
    if size() > 1:
        from torch import distributed

        try:
            distributed.all_reduce(tensor)
        except RuntimeError as error:
            raise RunError(f"process {rank()}: another process has ended; see its error ({error})") from error
    return tensor


def add_up_gradients(parameters: "Iterable[Tensor]") -> None:
    """Sum the gradients of all processes, in one message; a parameter without one counts as zeros."""
    if size() == 1:
        return
    import torch

    kept = list(parameters)
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in kept]
    total = add_up(torch.cat([gradient.flatten() for gradient in gradients]))
    for parameter, part in zip(kept, total.split([p.numel() for p in kept]), strict=True):
        parameter.grad = part.view_as(parameter)


def wait() -> None:
    """Go on when all processes have come here."""
    if size() > 1:
        import torch

        add_up(torch.zeros(1))
