"""`srun init`: what a folder needs comes with the package."""

import re
import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner
from dvc.repo import Repo

from srun.cli import cli
from srun.errors import ConfigError
from srun.flow.params import load
from srun.flow.starter import starter_files, write_starter

ROOT = Path(__file__).parents[2]


def test_the_package_carries_the_project_s_own_files():
    content = starter_files()
    presets = {f"presets/{path.name}" for path in (ROOT / "presets").glob("*.yaml")}
    dvc = {"dvc.yaml", "data.dvc", ".dvc/config", ".dvc/.gitignore", ".dvcignore"}
    assert set(content) == {"params.yaml", "MLproject", ".gitignore", *dvc, *presets}
    for name, text in content.items():
        own = (ROOT / name).read_text()
        assert text == (own.replace("python_env: python_env.yaml\n\n", "") if name == "MLproject" else own)


@pytest.mark.parametrize("git", [False, True])
def test_dvc_knows_every_stage_in_a_new_folder(tmp_path, git):
    folder = tmp_path / "my shop"
    folder.mkdir()
    if git:
        subprocess.run(["git", "init", "-q", str(folder)], check=True)
    write_starter(folder)
    params = load(folder / "params.yaml")
    of_originals = {f"{stage}@{name}" for stage in ("train", "levels", "draw") for name in params.originals}
    of_cells = {f"{stage}@{name}" for stage in ("unlearn", "evaluate") for name in params.cells}
    stages = {getattr(stage, "name", None) or stage.path_in_repo for stage in Repo(str(folder)).index.stages}
    assert {"data.dvc", "fetch", "digests", "prepare", "judge", "report", *of_originals, *of_cells} <= stages


def test_a_new_folder_has_valid_parameters(tmp_path):
    written = write_starter(tmp_path / "shop")
    assert tmp_path / "shop/params.yaml" in written
    for preset in sorted((tmp_path / "shop/presets").glob("*.yaml")):
        load(tmp_path / "shop/params.yaml", [preset])
    assert write_starter(tmp_path / "shop") == []


def test_what_a_repository_has_of_its_own_stays(tmp_path):
    (tmp_path / ".gitignore").write_text("mine\n")
    assert tmp_path / ".gitignore" not in write_starter(tmp_path)
    assert (tmp_path / ".gitignore").read_text() == "mine\n"


def test_nothing_is_replaced_and_nothing_half_written(tmp_path):
    (tmp_path / "params.yaml").write_text("mine: 1\n")
    with pytest.raises(ConfigError, match=r"params\.yaml: there already"):
        write_starter(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]
    assert (tmp_path / "params.yaml").read_text() == "mine: 1\n"


OUTSIDE = (
    *(
        "params",
        "data describe ml-1m",
        "prepare",
        "partition",
        "digests",
        "train",
        "levels",
        "draw",
    ),
    *("unlearn --method sruga", "evaluate --method sruga", "judge", "report", "run", "accept", "explain 1"),
    *("neurons --category a", "optimize", "optimize show", "optimize apply --trial 1"),
    *("reproduce thesis --dataset beauty", "reproduce ablation", "reproduce attribution"),
)


@pytest.mark.parametrize("words", OUTSIDE)
def test_a_command_outside_a_project_says_how_to_make_one(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, words.split())
    assert result.exit_code == 1, result.output
    assert "`srun init`" in result.output
    assert result.output.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_command_works_once_there_is_a_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(cli, ["init"]).exit_code == 0
    assert CliRunner().invoke(cli, ["params", "--params", "presets/quick.yaml"]).exit_code == 0


def backend_fault() -> str:
    """Why no wheel can be built here; empty where one can."""
    if find_spec("pip") is None:
        return "pip is not installed"
    try:
        installed = version("setuptools")
    except PackageNotFoundError:
        return "setuptools is not installed"
    return "" if int(installed.split(".")[0]) >= 77 else f"setuptools {installed} is older than 77"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder in which the wheel of the last commit is installed."""
    if fault := backend_fault():
        pytest.skip(f"no wheel can be built: {fault}")
    place = tmp_path_factory.mktemp("wheel")
    copy = place / "source"  # a build leaves folders where it is done
    subprocess.run(["git", "clone", "-q", str(ROOT), str(copy)], check=True)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-q"]
    subprocess.run([*command, "-w", str(place), str(copy)], check=True, capture_output=True)
    [wheel] = place.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place / "installed")
    return place / "installed"


@pytest.mark.slow
def test_a_wheel_has_every_file_of_the_package(installed):
    listed = subprocess.run(
        ["git", "ls-files", "src/srun", "presets"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    names = {name.removeprefix("src/").replace("presets/", "srun/project/presets/") for name in listed.stdout.split()}
    names -= {"srun/project/srun/project/presets/", "srun/project/presets"}  # the link to the folder
    files = {str(path.relative_to(installed)) for path in (installed / "srun").rglob("*") if path.is_file()}
    assert files == names


@pytest.mark.slow
def test_a_wheel_works_in_a_folder_with_a_space(installed, tmp_path):
    folder = tmp_path / "my shop"
    folder.mkdir()
    log = "user,item,time\n" + "".join(f"u{n % 5},i{n % 7},{n}\n" for n in range(40))
    (folder / "log of sales.csv").write_text(log)
    environment = {"PYTHONPATH": str(installed), "PATH": "/usr/bin:/bin"}  # and no HOME

    def srun(*words: str) -> str:
        code = f"from srun.cli import cli; cli({words!r}, prog_name='srun')"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        return f"{done.returncode} {done.stdout}{done.stderr}"

    assert srun("--help").startswith("0 Usage: srun")
    assert re.fullmatch(r"1 Error: params\.yaml: not in .*`srun init` writes one.*\n", srun("params"))
    assert srun("init").startswith("0 ")
    assert (folder / "presets/thesis.yaml").is_file()
    assert srun("params", "--params", "presets/quick.yaml").startswith("0 ")
    assert srun("data", "import", "log of sales.csv", "--name", "shop").startswith("0 ")
    assert srun("prepare", "--set", "data.name=shop", "--set", "runtime.tracking=false", "--out", "out/a b")[0] == "0"
    assert (folder / "out/a b/data/prepared").is_dir()
