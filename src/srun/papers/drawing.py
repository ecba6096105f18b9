"""How a drawn figure of a paper becomes a file."""

import io

from matplotlib.figure import Figure

from srun.reporting.figures import DOTS_PER_INCH


def to_png(figure: Figure) -> bytes:
    """The figure as PNG bytes; the same figure gives the same bytes."""
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=DOTS_PER_INCH, facecolor="white", metadata={"Software": None})
    return png.getvalue()
