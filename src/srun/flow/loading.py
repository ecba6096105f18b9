"""Loads what several stages read: the prepared data, a trained Original."""

from dataclasses import replace
from pathlib import Path

import torch

from srun.data.dataset import Dataset
from srun.errors import CheckpointError
from srun.files import read_json, read_tensors, sha256, verify_folder
from srun.flow.cells import Cell
from srun.flow.layout import Layout
from srun.models.checks import check_parts
from srun.models.published import PARTS_FILE, WEIGHTS_FILE, load_parts, load_published
from srun.unlearning.base import Original
from srun.unlearning.crossfit import CrossFit

CROSSFIT_FILE = "crossfit.safetensors"


def load_dataset(layout: Layout) -> Dataset:
    """The prepared data set of a project."""
    return Dataset.load(layout.prepared)


def load_original(layout: Layout, name: str, data: Dataset, device: torch.device) -> Original:
    """A trained Original, with the table of its cross-fitted models where there is one.

    Raises CheckpointError if it was trained on other data than the prepared set.
    """
    source = layout.original(name).model
    scorer, info = load_published(source, device, "train")
    if info["fingerprint"] != data.fingerprint or info["prepare"] != data.info["config"]:
        raise CheckpointError(f"{source}: trained on other data than the prepared set; run `srun train` again")
    parts = load_parts(source)
    check_parts(source / PARTS_FILE, parts, scorer.models, data.num_users)
    return Original(scorer, info, parts, load_crossfit(layout, name, data))


def load_start(
    layout: Layout, cell: Cell, start: Cell | None, needs_crossfit: bool, data: Dataset, device: torch.device
) -> Original:
    """What a cell starts from: its Original, or in a chain the model of the cell ``start``, trained as Original was.

    It has the private table where that is needed. Raises CheckpointError for what is not there, or of other data.
    """
    original = load_original(layout, cell.original, data, device)
    if start is not None:
        model = layout.cell(start).model
        if not model.is_dir():
            raise CheckpointError(
                f'{model}: not there, and request "{cell.request}" goes on from it; run `srun unlearn --request'
                f" {start.request} --original {start.original} --method {start.method} --seed {start.seed}`"
            )
        scorer, info = load_published(model, device, "unlearn")
        if info["fingerprint"] != data.fingerprint or info["prepare"] != data.info["config"]:
            raise CheckpointError(f"{model}: made of other data than the prepared set; make it again with `srun run`")
        original = replace(original, scorer=scorer, prepared=None)
    if needs_crossfit and original.crossfit is None:
        raise CheckpointError(_no_crossfit(layout, cell.original))
    return original


def crossfit_mend(name: str) -> str:
    """How to make the private table of an Original (anew)."""
    return f"run `srun levels --original {name}`"


def load_crossfit(layout: Layout, name: str, data: Dataset) -> CrossFit | None:
    """The private table of an Original's cross-fitted models, or None where it is not here.

    Raises CheckpointError where it was made for other data than the prepared set.
    """
    folder, mend = layout.crossfit(name).model, crossfit_mend(name)
    if not folder.is_dir():
        return None
    verify_folder(folder, CheckpointError, mend)
    info = read_json(folder / "info.json", CheckpointError, mend)
    if info["fingerprint"] != data.fingerprint or info["prepare"] != data.info["config"]:
        raise CheckpointError(f"{folder}: made for other data than the prepared set; {mend}")
    return CrossFit(read_tensors(folder / CROSSFIT_FILE, ("z",), CheckpointError, mend)["z"])


def require_crossfit(layout: Layout, name: str, data: Dataset) -> CrossFit:
    """The same; raises CheckpointError, which says how to make it, where it is not here."""
    table = load_crossfit(layout, name, data)
    if table is None:
        raise CheckpointError(_no_crossfit(layout, name))
    return table


def _no_crossfit(layout: Layout, name: str) -> str:
    return (
        f"{layout.crossfit(name).model}: the table of cross-fitted models of {name} is not here, for it is private and"
        f" no pull brings it; {crossfit_mend(name)}, or predict levels without it (level_from=retained)"
    )


def weights_sha256(folder: Path) -> str:
    """The fingerprint of a published model."""
    return sha256(folder / WEIGHTS_FILE)
