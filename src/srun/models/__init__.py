"""Sequential recommenders by name, in the order of tables.

Adding one is a file, a line here, and a block in params.yaml (docs/templates/model.py).
"""

from srun.models.base import SequenceModel
from srun.models.bert4rec import BERT4Rec
from srun.models.caser import Caser
from srun.models.gru4rec import GRU4Rec
from srun.models.sasrec import SASRec
from srun.registry import Registry

MODELS: Registry[type[SequenceModel]] = Registry(
    "model",
    {
        "sasrec": SASRec,
        "bert4rec": BERT4Rec,
        "gru4rec": GRU4Rec,
        "caser": Caser,
    },
)
