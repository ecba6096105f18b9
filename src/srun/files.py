"""Files and folders that are written whole or not at all."""

import contextlib
import errno
import glob
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from srun import distributed
from srun.errors import RunError


@contextlib.contextmanager
def write_folder(folder: Path) -> Iterator[Path]:
    """Yield a new sibling folder; when the block ends well it takes the place of ``folder``, else it is removed.

    Raises RunError when the place cannot be written (permission, no space), naming it. Of several processes that do
    one computation only the first writes; what the others are given to write into is thrown away.
    """
    if distributed.rank():
        with tempfile.TemporaryDirectory() as nowhere:
            yield Path(nowhere)
        return
    new = folder.parent / f".{folder.name}.{uuid.uuid4().hex[:8]}.new"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        new.mkdir()
        yield new
        _replace(new, folder)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RunError(f"{folder}: cannot be written ({reason}); nothing was changed there") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all; raises RunError naming the path when it cannot be written."""
    if distributed.rank():
        return
    new = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}.new"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(text, encoding="utf-8", newline="\n")
        os.replace(new, path)
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        with contextlib.suppress(OSError):  # what was raised above says more
            new.unlink()


def _replace(new: Path, folder: Path) -> None:
    """Put ``new`` where ``folder`` is; what is there is moved aside, put back on failure, and removed last."""
    old = folder.parent / f".{folder.name}.{uuid.uuid4().hex[:8]}.old"
    if not folder.exists():
        os.rename(new, folder)
        return
    if not folder.is_dir():
        raise OSError(errno.ENOTDIR, "a file is in the place of this folder")
    os.rename(folder, old)
    try:
        os.rename(new, folder)
    except OSError:
        os.rename(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _remove_leftovers(folder: Path) -> None:
    """Remove what a killed run left beside ``folder``; the only complete copy is never among it."""
    for new in folder.parent.glob(f".{glob.escape(folder.name)}.????????.new"):
        shutil.rmtree(new, ignore_errors=True)
    for old in folder.parent.glob(f".{glob.escape(folder.name)}.????????.old"):
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.rename(old, folder)
