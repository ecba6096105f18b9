"""Closed form: the rows of forgotten items solved for the level of each of their events, without a gradient step."""

from srun.config import config
from srun.models.scorer import Scorer, clone_model
from srun.requests.partition import Partition
from srun.rng import Streams
from srun.unlearning.base import Context, Original, Result, Unlearner
from srun.unlearning.closed_form.levels import LevelFrom, predict_level
from srun.unlearning.closed_form.retained import draw_windows, filled, look_at
from srun.unlearning.closed_form.rows import RowsConfig, move_rows, rows_look


@config
class ClosedFormConfig(RowsConfig):
    """How the rows are solved, and what their level is predicted from."""

    level_from: LevelFrom
    """``crossfit``: cross-fitted models, whose table `srun levels` makes with levels.folds 2, and retained data.
    ``retained``: retained data alone."""


class ClosedForm(Unlearner[ClosedFormConfig]):
    """Write the rows of forgotten items anew, so that each event stands where it would, had it never been there.

    Nothing but these rows moves: of a tied model in the one table that it has, which is its input too. So the states
    are Original's, and hold most of what Original's hold of the events (see docs/closed_form.md).
    """

    Config = ClosedFormConfig
    title = "Closed form"
    colour, marker = "#661100", "*"
    about = "rows of forgotten items solved for the level of each event"
    one_model = True
    file_holds = "states"

    @property
    def predicts_levels(self) -> bool:
        return True

    @property
    def needs_crossfit(self) -> bool:
        return self.settings.level_from == "crossfit"

    def unlearn(self, original: Original, request: Partition, context: Context) -> Result:
        self.require(original, request)
        settings, streams, meter = self.settings, Streams(context.seed, context.device), context.meter
        crossfit = original.require_crossfit() if self.needs_crossfit else None
        with meter.running():
            model = clone_model(original.model).eval()
            prepared = original.prepared
            level = predict_level(model, request, crossfit, context.seed, context.device, prepared)
            generator = streams["retained"]
            retained, last = draw_windows(request.data, request.retain, settings.retained_states, generator)
            known = None if prepared is None else prepared.windows
            seen, asked = filled(retained, last, known, lambda part: look_at(model, part))
            move_rows(model, level.items, level.wanted, retained, settings, streams["sample"], seen)
        meter.count_look(level.positions, level.scored)
        meter.count_look(*rows_look(model, level.items, retained[asked], settings))
        return Result(Scorer([model]), meter.read(), [], level.info)
