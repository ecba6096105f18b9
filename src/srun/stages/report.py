"""Stage report: evaluations -> results.csv, summary.md, figures, index.html."""
from srun.stages.layout import Layout
def run(layout, cells, tracker):
    return {}
