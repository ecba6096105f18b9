"""The MLflow model that serves a published folder, logged as code: nothing is pickled. Only MLflow loads this file.

Input: one row a history, column ``history`` (a list of raw item ids, oldest first); parameter ``k``. Output: one row
a history with ``item_ids``, ``scores`` and ``unknown``.
"""

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd

from srun.service.recommender import Recommender


class ServedRecommender(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # mlflow is not type-checked here
    """A published folder behind MLflow's pyfunc interface."""

    def load_context(self, context: Any) -> None:
        self.recommender = Recommender.load(Path(context.artifacts["model"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        k = int((params or {}).get("k", 10))
        histories = [[str(item) for item in history] for history in model_input["history"]]
        return pd.DataFrame([vars(answer) for answer in self.recommender.recommend(histories, k)])


mlflow.models.set_model(ServedRecommender())
