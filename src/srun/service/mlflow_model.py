"""The MLflow model that serves a published folder, logged as code: nothing is pickled. Only MLflow loads this file.

Input: one row a history, column ``history`` (a list of raw item ids, oldest first); parameter ``k``. Output: one row
a history with ``item_ids``, ``scores`` and ``unknown``.
"""

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd

from srun.errors import DataError
from srun.service.recommender import Recommender


class ServedRecommender(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # mlflow is not type-checked here
    """A published folder behind MLflow's pyfunc interface."""

    def load_context(self, context: Any) -> None:
        self.recommender = Recommender.load(Path(context.artifacts["model"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        if "history" not in model_input:
            raise DataError('no column "history"; expected one with a list of item ids in each row')
        histories = [_item_ids(row, history) for row, history in enumerate(model_input["history"], start=1)]
        answers = self.recommender.recommend(histories, _number((params or {}).get("k")))
        return pd.DataFrame([vars(answer) for answer in answers], columns=["item_ids", "scores", "unknown"])


def _item_ids(row: int, history: Any) -> list[str]:
    """The ids of a history; numbers are taken as the text that they are in a log."""
    if not isinstance(history, list | tuple | np.ndarray):
        raise DataError(f"history {row}: expected a list of item ids, found {type(history).__name__}")
    for item in history:
        if isinstance(item, bool | np.bool_) or not isinstance(item, str | int | np.integer):
            raise DataError(f"history {row}: expected item ids as text, found {type(item).__name__} among them")
    return [str(item) for item in history]


def _number(k: Any) -> int:
    """How many items are wanted, 10 unless told."""
    if k is None:
        return 10
    if isinstance(k, bool) or not isinstance(k, int | np.integer):
        raise DataError(f"k is {type(k).__name__}; expected a whole number")
    return int(k)


mlflow.models.set_model(ServedRecommender())
