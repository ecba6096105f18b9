"""What a folder needs so that every command works there: parameters, presets, and what DVC and MLflow go by.

The package carries the project's own files as ``project/``; a checkout has links there, under names that DVC does not
take for a pipeline of its own.
"""

from importlib.resources import files
from pathlib import Path

from srun.errors import ConfigError
from srun.files import write_text

NAMES = {
    "params.yaml": "params.yaml",
    "dvc.yaml": "stages.yaml",
    "data.dvc": "pin.yaml",
    "MLproject": "MLproject",
    ".dvc/config": "dvc-config",
    ".dvc/.gitignore": "dvc-gitignore",
    ".dvcignore": "dvcignore",
    ".gitignore": "gitignore",
}
"""Path in a project's folder -> what it is called in the package, beside the presets."""
OWN = (".dvc/config", ".dvc/.gitignore", ".dvcignore", ".gitignore")
"""Files that a folder may have of its own: they stay as they are."""
ENVIRONMENT = "python_env: python_env.yaml\n\n"
"""Of MLproject: it installs a checkout."""
NO_GIT = "    no_scm = true\n"
"""Of .dvc/config: without it DVC works in a Git repository only."""


def starter_files(in_git: bool = True) -> dict[str, str]:
    """Relative path -> content of every file that ``write_starter`` writes; a checkout has them at its top.

    There MLproject also names an environment to install. ``in_git``: whether they are for a folder of a Git repository.
    """
    folder = files("srun") / "project"
    presets = [one for one in (folder / "presets").iterdir() if one.name.endswith(".yaml")]
    named = {path: folder / name for path, name in NAMES.items()} | {f"presets/{one.name}": one for one in presets}
    content = {path: file.read_text(encoding="utf-8") for path, file in sorted(named.items())}
    content["MLproject"] = content["MLproject"].replace(ENVIRONMENT, "")
    if not in_git:
        content[".dvc/config"] += NO_GIT
    return content


def write_starter(folder: Path) -> list[Path]:
    """Write the files that are not there yet and return their paths.

    Raises ConfigError, and writes nothing, where another file has one of their names, unless it is one of ``OWN``.
    """
    content = {folder / path: text for path, text in starter_files(_in_git(folder)).items()}
    kept = {folder / path for path in OWN}
    new = [path for path in content if not path.exists()]
    present = [path for path in content if path not in new and path not in kept]
    try:
        differing = [path for path in present if path.read_bytes() != content[path].encode()]
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be read ({error.strerror})") from error
    if differing:
        raise ConfigError(
            *(f"{path}: there already, and not as srun has it; move it, or name a new folder" for path in differing)
        )
    for path in new:
        write_text(path, content[path])
    return new


def _in_git(folder: Path) -> bool:
    """Whether a folder, which need not be there yet, lies in a Git repository."""
    place = folder.resolve()
    return any((parent / ".git").exists() for parent in (place, *place.parents))
