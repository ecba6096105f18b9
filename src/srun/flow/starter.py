"""What a folder needs so that every command works there: params.yaml and the presets, which the package carries."""

from importlib.resources import files
from pathlib import Path

from srun.errors import ConfigError
from srun.files import write_text


def starter_files() -> dict[str, str]:
    """Relative path -> content of every file that ``write_starter`` writes; a checkout has them at its top."""
    folder = files("srun") / "project"
    presets = (folder / "presets").iterdir()
    named = {"params.yaml": folder / "params.yaml"}
    named |= {f"presets/{one.name}": one for one in presets if one.name.endswith(".yaml")}
    return {name: named[name].read_text(encoding="utf-8") for name in sorted(named)}


def write_starter(folder: Path) -> list[Path]:
    """Write the files that are not there yet and return their paths.

    Raises ConfigError, and writes nothing, where another file has one of their names.
    """
    content = {folder / name: text for name, text in starter_files().items()}
    new = [path for path in content if not path.exists()]
    try:
        differing = [path for path in content if path not in new and path.read_bytes() != content[path].encode()]
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be read ({error.strerror})") from error
    if differing:
        raise ConfigError(
            *(f"{path}: there already, and not as srun has it; move it, or name a new folder" for path in differing)
        )
    for path in new:
        write_text(path, content[path])
    return new
