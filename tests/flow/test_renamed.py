"""Old names of parameters are refused with the new ones, wherever they stand."""

from pathlib import Path

import pytest

from srun.errors import ConfigError
from srun.flow import renamed
from srun.flow.params import load

PARAMS = Path(__file__).parents[2] / "params.yaml"
ASCENT = 'parameter "unlearn.sruga.eta_ascent" is called "unlearn.sruga.ascent_weight" now'
SECTION = 'parameter "train_recipe.loss" is called "train.loss" now'
UPDATE = 'parameter "unlearn.sruga.update": "readout" is called "output_layer" now'


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {"unlearn.sruga.eta_ascent": "unlearn.sruga.ascent_weight", "train_recipe": "train"}
    monkeypatch.setattr(renamed, "KEYS", keys)


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("unlearn.sruga.eta_ascent=0.3", ASCENT),
        ("train_recipe.loss=ce", SECTION),
        ("unlearn.sruga.update=readout", UPDATE),
        ("unlearn.sruga={update: readout}", UPDATE),
    ],
)
def test_an_old_name_of_an_assignment_is_refused_with_the_new_one(assignment: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(PARAMS, [], [assignment])
    assert error.value.faults == (f"--set: {said}",)


def test_all_old_names_of_a_preset_are_told_with_its_file(tmp_path: Path) -> None:
    preset = tmp_path / "old.yaml"
    preset.write_text("unlearn: {sruga: {eta_ascent: 0.3, update: readout}}\ntrain_recipe: {loss: ce}\n")
    with pytest.raises(ConfigError) as error:
        load(PARAMS, [preset])
    assert error.value.faults == tuple(f"{preset}: {said}" for said in (ASCENT, UPDATE, SECTION))


def test_a_params_file_of_old_is_refused_with_the_new_name(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(PARAMS.read_text().replace("update: all ", "update: readout "))
    with pytest.raises(ConfigError, match='"readout" is called "output_layer" now'):
        load(file)
