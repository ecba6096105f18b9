"""`srun explain`, no stage of the flow: one user's story under every model that is there ([T] Table 6).

It says what somebody forgot, so it is printed for whoever asks and written to no file.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from srun.data.dataset import Dataset
from srun.errors import DataError
from srun.evaluation.explanation import Explanation, Question, explain
from srun.flow.cells import Cell
from srun.flow.layout import Layout
from srun.flow.loading import load_dataset
from srun.models.published import load_published
from srun.models.scorer import Scorer
from srun.requests.partition import Partition

NUM_SHOWN = 3  # forgotten events of the user in a report, as in [T] Table 6
NUM_TOP = 5


def run(layout: Layout, user: str, request: str, cells: Mapping[str, Cell]) -> dict[str, Any]:
    """The explanation of a raw user id under the cells of a request whose models exist, with raw ids and titles.

    Raises DataError for an unknown user, or when no model of the request is there yet.
    """
    data = load_dataset(layout)
    partition = Partition.load(layout.partition(request), data)
    rows = np.flatnonzero(data.users["user_id"].to_numpy() == user)
    if not len(rows):
        raise DataError(f'unknown user "{user}" in the prepared data (was it filtered out?)')
    scorers: dict[str, Scorer] = {}
    for name, cell in cells.items():
        folder = layout.cell(cell).model
        if cell.request == request and folder.is_dir():
            scorers[name] = load_published(folder)[0]
    if not scorers:
        raise DataError(f'no model for request "{request}" is there yet; run `srun run --request {request}` first')
    return _describe(explain(scorers, partition, int(rows[0])), data)


def examples(layout: Layout, cells: Mapping[str, Cell]) -> dict[str, Explanation]:
    """An explanation by Original, of the report user whose number of forgotten events is nearest to 3.

    Only of requests that were drawn: what people asked for themselves is not shown. Users and items are numbers of the
    prepared data. One model a method, that of the lowest seed.
    """
    data = load_dataset(layout)
    explanations: dict[str, Explanation] = {}
    for original, request in dict.fromkeys((cell.original, cell.request) for cell in cells.values()):
        partition = Partition.load(layout.partition(request), data)
        if not _is_drawn(partition):
            continue
        forgotten = np.bincount(partition.queries("forget_report").user, minlength=data.num_users)
        if not forgotten.any():
            continue
        user = int(np.argmin(np.where(forgotten > 0, np.abs(forgotten - NUM_SHOWN), np.inf)))
        chosen: dict[str, Cell] = {}
        for cell in sorted(cells.values(), key=lambda cell: cell.seed):
            if (cell.original, cell.request) == (original, request):
                chosen.setdefault(cell.method, cell)
        scorers = {method: load_published(layout.cell(cell).model)[0] for method, cell in chosen.items()}
        explanations[original] = explain(scorers, partition, user, k=NUM_TOP)
    return explanations


def _is_drawn(partition: Partition) -> bool:
    """Whether nobody asked for the request: its events were drawn."""
    return partition.kind != "category" and "given" not in partition.info["request"]


def _describe(explanation: Explanation, data: Dataset) -> dict[str, Any]:
    """The explanation with raw item ids and titles, as plain values."""
    ids, titles = data.items["item_id"].tolist(), data.items["title"].tolist()

    def shown(item: int) -> dict[str, str]:
        return {"item_id": ids[item - 1], "title": titles[item - 1]}

    def described(question: Question) -> dict[str, Any]:
        return {
            "split": question.split,
            "history": [ids[item - 1] for item in question.history],
            "target": shown(question.target),
            "ranks": question.ranks,
            "top": {name: [shown(item) for item in items] for name, items in question.top.items()},
        }

    events = zip(explanation.items, explanation.roles, explanation.forgotten, strict=True)
    return {
        "sequence": [{**shown(item), "role": role, "forgotten": bool(gone)} for item, role, gone in events],
        "questions": [described(question) for question in explanation.questions],
    }
