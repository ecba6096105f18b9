"""Ways to unlearn by name, in the order of every table.

Adding one is a file, a line here, and a block in params.yaml (docs/templates/method.py).
"""

from typing import Any

from srun.registry import Registry
from srun.unlearning.attribution.method import Attribution
from srun.unlearning.attribution.plus import AttributionPlus
from srun.unlearning.base import Unlearner
from srun.unlearning.closed_form.method import ClosedForm
from srun.unlearning.controls.finetune_only import FinetuneOnly
from srun.unlearning.controls.largest_neurons import LargestNeurons
from srun.unlearning.controls.output_mask import OutputMask
from srun.unlearning.controls.random_neurons import RandomNeurons
from srun.unlearning.references.original import KeepOriginal
from srun.unlearning.references.retrain import Retrain
from srun.unlearning.references.sisa import SISA
from srun.unlearning.sruga.method import SRUGA

UNLEARNERS: Registry[type[Unlearner[Any]]] = Registry(
    "method",
    {
        "original": KeepOriginal,
        "retrain": Retrain,
        "sisa": SISA,
        "sruga": SRUGA,
        "closed_form": ClosedForm,
        "attribution": Attribution,
        "attribution_plus": AttributionPlus,
        "output_mask": OutputMask,
        "finetune_only": FinetuneOnly,
        "random_neurons": RandomNeurons,
        "largest_neurons": LargestNeurons,
    },
)
