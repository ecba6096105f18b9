"""Ways to unlearn by name: adding one is a file, a line here, and a block in params.yaml."""

from typing import Any

from srun.registry import Registry
from srun.unlearning.attribution import Attribution
from srun.unlearning.attribution_plus import AttributionPlus
from srun.unlearning.base import Unlearner
from srun.unlearning.finetune_only import FinetuneOnly
from srun.unlearning.largest_neurons import LargestNeurons
from srun.unlearning.original import KeepOriginal
from srun.unlearning.output_mask import OutputMask
from srun.unlearning.random_neurons import RandomNeurons
from srun.unlearning.retrain import Retrain
from srun.unlearning.sisa import SISA
from srun.unlearning.sruga import SRUGA

UNLEARNERS: Registry[type[Unlearner[Any]]] = Registry(
    "method",
    {
        "original": KeepOriginal,
        "retrain": Retrain,
        "sisa": SISA,
        "sruga": SRUGA,
        "attribution": Attribution,
        "attribution_plus": AttributionPlus,
        "finetune_only": FinetuneOnly,
        "output_mask": OutputMask,
        "random_neurons": RandomNeurons,
        "largest_neurons": LargestNeurons,
    },
)
