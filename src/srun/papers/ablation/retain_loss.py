"""The training loss of the long curves (Figure 12): a probe that measures it beside the utility."""

import numpy as np
import torch
from numpy.typing import NDArray

from srun.data.batches import TrainingData
from srun.evaluation.probe import Probe
from srun.models.base import SequenceModel
from srun.models.scorer import Scorer
from srun.requests.partition import Partition
from srun.rng import Streams
from srun.training.fit import TrainConfig, target_loss

NUM_WINDOWS = 2048


class RetainLossProbe(Probe):
    """A probe that also takes the mean training loss on a fixed draw of retain windows, as ``retain/loss``."""

    def __init__(self, request: Partition, batch_size: int, recipe: TrainConfig, device: torch.device) -> None:
        super().__init__(request.splits, request.data.max_length, device, batch_size)
        self._data = TrainingData(request.data, request.retain, request.catalogue, device)
        self._recipe = recipe
        generator = Streams(0, device)["loss-windows"]
        num = len(self._data.windows)
        self._rows = torch.randperm(num, generator=generator, device=device)[:NUM_WINDOWS]

    def __call__(self, scorer: Scorer, split: str, users: NDArray[np.bool_] | None = None) -> dict[str, float]:
        figures = super().__call__(scorer, split, users)
        return figures | {"retain/loss": self._loss(scorer.model)} if split == "validation" else figures

    @torch.inference_mode()
    def _loss(self, model: SequenceModel) -> float:
        streams = Streams(0, self._rows.device)  # the same negatives and masks at every look
        windows, users = self._data.batch(self._rows)
        inputs, targets = model.training_pairs(windows, streams["cloze"])
        loss = target_loss(model, model.hidden(inputs), targets, users, self._data, self._recipe, streams)
        return float(loss.mean())
