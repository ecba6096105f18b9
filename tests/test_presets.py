"""Every preset is valid over params.yaml, as `srun params` shows it, and says in its first line what it is for."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from srun.cli import cli

ROOT = Path(__file__).parents[1]
PRESETS = sorted((ROOT / "presets").iterdir())


def test_presets_hold_nothing_but_presets() -> None:
    assert PRESETS
    assert {path.suffix for path in PRESETS} == {".yaml"}


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_params_takes_a_preset(preset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(cli, ["params", "--params", str(preset), "--json"])
    assert result.exit_code == 0, result.output
    plain = CliRunner().invoke(cli, ["params", "--json"])
    assert json.loads(result.stdout) != json.loads(plain.stdout), "it changes nothing"


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_a_preset_says_what_it_is_for(preset: Path) -> None:
    first = preset.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# "), f"{preset.name}:1: expected a comment that says what the preset is for"
