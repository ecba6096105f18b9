"""Sequential recommenders by name: adding one is a file, a line here, and a block in params.yaml."""

from srun.models.base import SequenceModel
from srun.models.sasrec import SASRec
from srun.registry import Registry

MODELS: Registry[type[SequenceModel]] = Registry(
    "model",
    {
        "sasrec": SASRec,
    },
)
