"""`srun init`: what a folder needs comes with the package."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from srun.cli import cli
from srun.errors import ConfigError
from srun.flow.params import load
from srun.flow.starter import starter_files, write_starter

ROOT = Path(__file__).parents[2]


def test_the_package_carries_the_project_s_own_files():
    content = starter_files()
    presets = {f"presets/{path.name}" for path in (ROOT / "presets").glob("*.yaml")}
    assert set(content) == {"params.yaml", *presets}
    for name, text in content.items():
        assert (ROOT / name).read_text() == text


def test_a_new_folder_has_valid_parameters(tmp_path):
    written = write_starter(tmp_path / "shop")
    assert tmp_path / "shop/params.yaml" in written
    for preset in sorted((tmp_path / "shop/presets").glob("*.yaml")):
        load(tmp_path / "shop/params.yaml", [preset])
    assert write_starter(tmp_path / "shop") == []


def test_nothing_is_replaced_and_nothing_half_written(tmp_path):
    (tmp_path / "params.yaml").write_text("mine: 1\n")
    with pytest.raises(ConfigError, match=r"params\.yaml: there already"):
        write_starter(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]
    assert (tmp_path / "params.yaml").read_text() == "mine: 1\n"


def test_a_command_outside_a_project_says_how_to_make_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["params"])
    assert result.exit_code == 1
    assert "srun init" in result.output
    assert result.output.count("\n") == 1
    assert CliRunner().invoke(cli, ["init"]).exit_code == 0
    assert CliRunner().invoke(cli, ["params", "--params", "presets/quick.yaml"]).exit_code == 0


@pytest.mark.slow
def test_a_wheel_has_the_files_and_works_outside_a_checkout(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(tmp_path)]
    copy = tmp_path / "source"  # a build leaves folders where it is done
    subprocess.run(["git", "clone", "-q", str(ROOT), str(copy)], check=True)
    subprocess.run([*command, str(copy)], check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
        assert not [name for name in archive.namelist() if "/project/" in name and not name.endswith(".yaml")]
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for words in (["init"], ["params", "--params", "presets/quick.yaml"], ["data", "list"]):
        code = f"from srun.cli import cli; cli({words!r}, prog_name='srun')"
        environment = {"PYTHONPATH": str(tmp_path / "installed"), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert (folder / "presets/thesis.yaml").is_file()
