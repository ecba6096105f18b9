"""Users split into shards with a model each; one shard is an ordinary model ([T] 3.4.5; Bourtoule et al., 2021)."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from srun.data.batches import TrainingData
from srun.data.interactions import Dataset
from srun.data.partition import Mask
from srun.rng import derive, numpy_stream
from srun.training.fit import Cost


@dataclass(frozen=True)
class Shards:
    """Which shard every user is in: drawn by Original's training seed, the same whenever it is asked for."""

    number: int
    of_user: NDArray[np.int64]  # (U,) 0..number-1

    @classmethod
    def draw(cls, num_users: int, number: int, seed: int) -> "Shards":
        """Split users at random into ``number`` shards of equal size, up to one."""
        of_user = np.zeros(num_users, dtype=np.int64)
        if number > 1:
            of_user[numpy_stream(seed, "shards").permutation(num_users)] = np.arange(num_users) % number
        return cls(number, of_user)

    def users(self, shard: int) -> Mask:
        """(U,) whether a user is in ``shard``."""
        return self.of_user == shard

    def training_seed(self, shard: int, seed: int) -> int:
        """The seed of a shard's model under a training seed; that of an only shard is the training seed itself."""
        return seed if self.number == 1 else derive(seed, f"shard-{shard}") % 2**31

    def data(
        self, data: Dataset, events: Mask, shard: int, catalogue: Mask | None, device: torch.device
    ) -> TrainingData:
        """The windows of a shard's users."""
        return TrainingData(data, events & self.users(shard)[data.user], catalogue, device)


def add_costs(costs: list[Cost]) -> Cost:
    """The cost of computations done one after the other; epochs are those of all of them."""
    total = Cost()
    for cost in costs:
        for name, value in vars(cost).items():
            before = getattr(total, name)
            setattr(total, name, max(before, value) if name == "peak_memory_mb" else before + value)
    return total
