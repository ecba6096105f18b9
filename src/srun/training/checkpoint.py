"""Resume folders, from which a killed computation goes on: tensors and JSON, no pickle.

A state is written as a new folder and renamed whole; the one before is removed afterwards, so that at every moment
at least one complete state is there. Shapes are those of the tensors given.
"""

import json
import logging
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from srun.errors import CheckpointError
from srun.files import read_json, verify_folder, write_folder
from srun.system import distributed

MEND = "the run goes on from what was saved before it, or starts anew"

FORMAT = 2
"""Of a state; one of another format is not resumed."""

log = logging.getLogger(__name__)


class ResumeFolder:
    """The states of one run; ``key`` identifies what is computed, and a state of another key is not resumed."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = folder, key

    def save(self, number: int, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Store the state numbered ``number`` (counting upwards) and drop the earlier ones."""
        if distributed.rank():
            return
        with write_folder(self.folder / f"{number:08d}", sealed=True) as new:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, new / "state.safetensors")
            (new / "state.json").write_text(json.dumps({"format": FORMAT, "key": self.key, **state}))
        for older in self._numbers():
            if older < number:
                shutil.rmtree(self.folder / f"{older:08d}")

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return the newest whole state, or None when there is none of this key; one line tells of a damaged one.

        Processes that share a run all read it.
        """
        newest = self._newest()
        distributed.wait()  # before the first of them may clear the folder
        return newest

    def _newest(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        for number in reversed(self._numbers()):
            try:
                tensors, state = _read(self.folder / f"{number:08d}")
            except CheckpointError as error:
                if not distributed.rank():
                    log.warning("%s", error)
                continue
            if (state.pop("format", None), state.pop("key", None)) == (FORMAT, self.key):
                return tensors, state
        return None

    def child(self, name: str) -> "ResumeFolder":
        """The folder of one part of a run that trains several models."""
        return ResumeFolder(self.folder / name, self.key)

    def clear(self) -> None:
        """Remove all states: the run has ended, or starts anew."""
        if distributed.rank():
            return
        shutil.rmtree(self.folder, ignore_errors=True)

    def _numbers(self) -> list[int]:
        if not self.folder.is_dir():
            return []
        return sorted(int(child.name) for child in self.folder.iterdir() if re.fullmatch(r"\d{8}", child.name))


class NoResume(ResumeFolder):
    """For a run that begins anew after a kill: it saves nothing."""

    def __init__(self) -> None:
        super().__init__(Path(), "")

    def save(self, number: int, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Does nothing."""

    def load(self) -> None:
        """There is no state."""

    def child(self, name: str) -> ResumeFolder:
        """The same: no part of the run saves anything either."""
        return self

    def clear(self) -> None:
        """Does nothing."""


def _read(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A saved state; raises CheckpointError when it is not as it was written."""
    verify_folder(folder, CheckpointError, MEND)
    state = read_json(folder / "state.json", CheckpointError, MEND)
    try:
        return load_file(folder / "state.safetensors"), state
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: the saved state cannot be read; {MEND}") from error


def pack(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Prefix the names of tensors, to keep several groups in one file."""
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def unpack(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Undo ``pack``."""
    return {name[len(prefix) + 1 :]: tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}/")}


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as named tensors: ``index/field``."""
    return {
        f"{index}/{field}": value
        for index, fields in optimiser.state_dict()["state"].items()
        for field, value in fields.items()
    }


def load_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what ``optimiser_tensors`` returned."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, field = name.split("/")
        state.setdefault(int(index), {})[field] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def copy_weights(model: nn.Module) -> dict[str, Tensor]:
    """A detached copy of all weights."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
