"""Loads what several stages read: the prepared data, a trained Original."""

from pathlib import Path

import torch

from srun.data.dataset import Dataset
from srun.errors import CheckpointError
from srun.files import sha256
from srun.flow.layout import Layout
from srun.models.checks import check_parts
from srun.models.published import PARTS_FILE, WEIGHTS_FILE, load_parts, load_published
from srun.unlearning.base import Original


def load_dataset(layout: Layout) -> Dataset:
    """The prepared data set of a project."""
    return Dataset.load(layout.prepared)


def load_original(layout: Layout, name: str, data: Dataset, device: torch.device) -> Original:
    """A trained Original; raises CheckpointError if it was trained on other data than the prepared set."""
    source = layout.original(name).model
    scorer, info = load_published(source, device, "train")
    if info["fingerprint"] != data.fingerprint or info["prepare"] != data.info["config"]:
        raise CheckpointError(f"{source}: trained on other data than the prepared set; run `srun train` again")
    parts = load_parts(source)
    check_parts(source / PARTS_FILE, parts, scorer.models, data.num_users)
    return Original(scorer, info, parts)


def weights_sha256(folder: Path) -> str:
    """The fingerprint of a published model."""
    return sha256(folder / WEIGHTS_FILE)
