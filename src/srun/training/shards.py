"""Users split into shards with a model each, and within a shard into slices; one shard is an ordinary model.

SISA: Bourtoule et al., 2021, and [T] 3.4.5. Shapes: U users, I items, S shards, K dimensions.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from srun.config import config
from srun.data.batches import TrainingData
from srun.data.dataset import Dataset, Mask, Role
from srun.models.base import SequenceModel
from srun.rng import derive, numpy_stream
from srun.training.checkpoint import copy_weights, pack, unpack
from srun.training.fit import Fit, TrainConfig, Watch, train_new
from srun.training.together import Job, train_all

DIMENSIONS, ROUNDS = 16, 20  # of the users' space in which similar ones are found, and of moving the centres


@config
class Sharding:
    """Shards that are more than users drawn at random, each trained at once."""

    number: Annotated[int, Field(ge=2)]
    by: Literal["random", "similarity"]
    """``similarity``: users with similar items together, as the session-unlearning work does that [T] cites."""
    slices: Annotated[int, Field(ge=1)]
    """Parts of a shard's users; training takes one more at a time and keeps the state before each."""


@dataclass(frozen=True)
class Shards:
    """Which shard every user is in, and which slice of it: settled when Original is trained, and kept with it."""

    number: int
    of_user: NDArray[np.int64]  # (U,) 0..number-1
    slices: int
    slice_of_user: NDArray[np.int64]  # (U,) 0..slices-1

    @classmethod
    def draw(cls, num_users: int, number: int, seed: int) -> "Shards":
        """Split users at random into ``number`` shards of equal size, up to one; the same whenever it is asked for."""
        of_user = np.zeros(num_users, dtype=np.int64)
        if number > 1:
            of_user[numpy_stream(seed, "shards").permutation(num_users)] = np.arange(num_users) % number
        return cls(number, of_user, 1, np.zeros(num_users, dtype=np.int64))

    @classmethod
    def make(cls, data: Dataset, sharding: int | Sharding, seed: int) -> "Shards":
        """Split the users of a data set; a number stands for so many shards at random, of one slice."""
        if isinstance(sharding, int):
            return cls.draw(data.num_users, sharding, seed)
        plain = cls.draw(data.num_users, sharding.number, seed)
        of_user = plain.of_user if sharding.by == "random" else similar_users(data, sharding.number, seed)
        order = numpy_stream(seed, "slices").permutation(data.num_users)
        slice_of_user = np.empty(data.num_users, dtype=np.int64)
        for shard in range(sharding.number):
            members = order[of_user[order] == shard]
            slice_of_user[members] = np.arange(len(members)) * sharding.slices // len(members)
        return cls(sharding.number, of_user, sharding.slices, slice_of_user)

    @classmethod
    def load(cls, parts: Mapping[str, Tensor]) -> "Shards":
        """Put back what ``tensors`` returned."""
        of_user, slice_of_user = parts["shard_of_user"].numpy(), parts["slice_of_user"].numpy()
        return cls(int(of_user.max()) + 1, of_user, int(slice_of_user.max()) + 1, slice_of_user)

    def tensors(self) -> dict[str, Tensor]:
        """What must be kept so that a later request finds the same shards, whatever machine it runs on."""
        return {
            "shard_of_user": torch.from_numpy(self.of_user),
            "slice_of_user": torch.from_numpy(self.slice_of_user),
        }

    def users(self, shard: int, last: int | None = None) -> Mask:
        """(U,) whether a user is in ``shard``, and in its slices up to ``last`` if that is given."""
        inside: Mask = self.of_user == shard
        return inside if last is None else inside & (self.slice_of_user <= last)

    def training_seed(self, shard: int, seed: int) -> int:
        """The seed of a shard's model under a training seed; that of an only shard is the training seed itself."""
        return seed if self.number == 1 else derive(seed, f"shard-{shard}") % 2**31

    def data(
        self,
        data: Dataset,
        events: Mask,
        shard: int,
        catalogue: Mask | None,
        device: torch.device,
        last: int | None = None,
    ) -> TrainingData:
        """The windows of a shard's users, up to the slice ``last``."""
        return TrainingData(data, events & self.users(shard, last)[data.user], catalogue, device)


@dataclass(frozen=True)
class ShardTraining:
    """What is needed to train one shard's model, slice by slice."""

    shard: int
    description: dict[str, Any]
    seed: int
    """The shard's training seed."""
    data: Callable[[int], TrainingData]
    """The windows up to a slice."""
    watch: Callable[[int], Watch]
    """How the training up to a slice is looked at: by the users up to it, so that its state knows no other."""
    first: int = 0
    """The slice to start from, out of the state that was kept before it; 0: from scratch."""


Trained = tuple[SequenceModel, list[Fit], dict[str, Tensor]]
"""A shard's model, the fit of every slice, and the states before each of the following slices, by name."""


def train_shards(
    shards: Shards, trainings: Sequence[ShardTraining], recipe: TrainConfig, parts: Mapping[str, Tensor], together: bool
) -> list[Trained]:
    """Train the models of some shards by one recipe, in their order; ``parts`` has the states that they start from.

    ``together``: all as one (see ``together``), unless they have slices, which are taken one after the other.
    """
    if shards.slices > 1:
        return [_train_slices(shards, training, recipe, parts) for training in trainings]
    jobs = [Job(own.description, partial(own.data, 0), own.seed, own.watch(0)) for own in trainings]
    return [(model, [fit], {}) for model, fit in train_all(jobs, recipe, together)]


def _train_slices(shards: Shards, training: ShardTraining, recipe: TrainConfig, parts: Mapping[str, Tensor]) -> Trained:
    """Train a shard's model, taking one more slice at a time.

    Each of R slices is given 2 / (R + 1) of the cap on epochs, so that an event is seen about as often as without
    slices (Bourtoule et al., 2021, 5.2).
    """
    shard, first = training.shard, training.first
    fits: list[Fit] = []
    states: dict[str, Tensor] = {}
    recipe = replace(recipe, max_epochs=math.ceil(recipe.max_epochs * 2 / (shards.slices + 1)))
    weights = unpack(_state(shard, first), dict(parts)) if first else None
    for index in range(first, shards.slices):
        seed = derive(training.seed, f"slice-{index}") % 2**31
        model, fit = train_new(training.description, training.data(index), recipe, seed, training.watch(index), weights)
        fits.append(fit)
        weights = copy_weights(model)
        if index + 1 < shards.slices:
            states |= pack(_state(shard, index + 1), {name: tensor.cpu() for name, tensor in weights.items()})
    return model, fits, states


def _state(shard: int, before: int) -> str:
    return f"state/{shard}/{before}"


def similar_users(data: Dataset, number: int, seed: int) -> NDArray[np.int64]:
    """(U,) shards of equal size, up to one, of users with similar training items: balanced k-means.

    A user is the row of the user-item matrix, of unit length, in the space of its first singular vectors. In each round
    the nearest users get a centre's places (after RecEraser's balanced partition), then the centres move; they start
    where plain k-means ends.
    Deviation: the session-unlearning work groups by a trained model's hidden states; this needs no model.
    """
    from sklearn.cluster import KMeans

    points = _user_vectors(data, seed)
    centres = KMeans(number, n_init=10, random_state=derive(seed, "centres") % 2**31).fit(points).cluster_centers_
    of_user = np.full(len(points), -1)
    for _ in range(ROUNDS):
        before, of_user = of_user, _nearest_with_room(points, centres)
        if (of_user == before).all():
            break
        centres = np.stack([points[of_user == shard].mean(0) for shard in range(number)])
    return of_user


def _user_vectors(data: Dataset, seed: int) -> NDArray[np.float64]:
    """(U, K) users in the space of the first singular vectors; zero for a user without training items."""
    from scipy.sparse import csr_array
    from scipy.sparse.linalg import svds

    train = data.role == Role.TRAIN
    shape = (data.num_users, data.num_items + 1)
    matrix = csr_array((np.ones(train.sum()), (data.user[train], data.item[train])), shape=shape)
    matrix.data[:] = 1  # a repeated item counts once
    length = np.sqrt(np.maximum(matrix.sum(1), 1))
    k = min(DIMENSIONS, min(shape) - 1)
    start = numpy_stream(seed, "svd").standard_normal(min(shape))
    left, values, _ = svds(matrix.multiply(1 / length[:, None]).tocsr(), k=k, v0=start)
    return np.asarray(left * values)


def _nearest_with_room(points: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.int64]:
    """(U,) the nearest centre that has room: of those that want a place there, the nearest get it."""
    distance = ((points[:, None] - centres[None]) ** 2).sum(2)  # (U, S)
    room = np.bincount(np.arange(len(points)) % len(centres), minlength=len(centres))
    of_point = np.full(len(points), -1)
    while (of_point < 0).any():
        free = np.flatnonzero(of_point < 0)
        wanted = np.where(room > 0, distance[free], np.inf).argmin(1)
        for centre in np.unique(wanted):
            asking = free[wanted == centre]
            taken = asking[distance[asking, centre].argsort(kind="stable")[: room[centre]]]
            of_point[taken] = centre
            room[centre] -= len(taken)
    return of_point
