"""Loads what several stages read: the prepared data, a trained Original."""

from pathlib import Path

import torch

from srun.data.dataset import Dataset
from srun.errors import CheckpointError
from srun.files import read_json, read_tensors, sha256, verify_folder
from srun.flow.layout import Layout
from srun.models.checks import check_parts
from srun.models.published import PARTS_FILE, WEIGHTS_FILE, load_parts, load_published
from srun.unlearning.base import Original
from srun.unlearning.crossfit import CrossFit

CROSSFIT_FILE = "crossfit.safetensors"
CROSSFIT_MEND = "run `srun train` for this Original again"


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


def load_crossfit(layout: Layout, name: str, data: Dataset) -> CrossFit | None:
    """The private table of an Original's cross-fitted models, or None where it was never made.

    Raises CheckpointError if it was made for other data than the prepared set.
    """
    folder = layout.crossfit(name).model
    if not folder.is_dir():
        return None
    verify_folder(folder, CheckpointError, CROSSFIT_MEND)
    info = read_json(folder / "info.json", CheckpointError, CROSSFIT_MEND)
    if info["fingerprint"] != data.fingerprint or info["prepare"] != data.info["config"]:
        raise CheckpointError(f"{folder}: made for other data than the prepared set; {CROSSFIT_MEND}")
    return CrossFit(read_tensors(folder / CROSSFIT_FILE, ("z",), CheckpointError, CROSSFIT_MEND)["z"])


def weights_sha256(folder: Path) -> str:
    """The fingerprint of a published model."""
    return sha256(folder / WEIGHTS_FILE)
