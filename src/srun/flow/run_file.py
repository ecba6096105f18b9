"""Run files: seconds, memory, machine and run id. They differ from run to run, so they stand apart from the results."""

import json

from srun.files import write_text
from srun.flow.layout import CellPaths
from srun.system.devices import machine
from srun.system.meter import Cost
from srun.tracking import Tracker


def write_run(paths: CellPaths, cost: Cost, tracker: Tracker) -> None:
    """Write what a run cost and where it ran; the tracker is told the cost too."""
    record = {"cost": cost.measured(), "machine": machine(), "mlflow_run_id": tracker.run_id}
    write_text(paths.run, json.dumps(record, indent=1, sort_keys=True) + "\n")
    tracker.metrics({f"cost/{name}": value for name, value in {**cost.exact(), **cost.measured()}.items()})
