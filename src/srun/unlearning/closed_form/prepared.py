"""What `closed_form` and levels by event can have at hand before a request is known (see ``unlearning.prepared``)."""

import torch

from srun.data.dataset import Dataset, Role
from srun.models.base import SequenceModel
from srun.requests.partition import set_aside_queries
from srun.rng import Streams
from srun.unlearning.closed_form.levels import z_of
from srun.unlearning.closed_form.retained import draw_windows, look_at
from srun.unlearning.closed_form.standing import questions
from srun.unlearning.prepared import Known, Prepared

SPARE = 1.25
"""Windows that are prepared, over those that a request draws: some of these have other items by then."""


def prepare(model: SequenceModel, data: Dataset, retained_states: int, seed: int, device: torch.device) -> Prepared:
    """Ask Original ``model`` for all that requests have in common; ``seed`` is that of unlearning."""
    training = data.has_role(Role.TRAIN)
    queries = set_aside_queries(data, training, data.role == Role.SET_ASIDE, audit=False)
    aside = questions(queries, data.max_length).to(device)
    drawn, last = draw_windows(data, training, int(SPARE * retained_states), Streams(seed, device)["retained"])
    return Prepared(
        Known.of(torch.from_numpy(queries.event).to(device), aside, z_of(model, aside)),
        Known.of(last, drawn, look_at(model, drawn)),
    )
