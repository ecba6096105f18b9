"""Files and folders that are written whole or not at all."""

import contextlib
import errno
import fcntl
import glob
import logging
import os
import shutil
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from srun import distributed
from srun.errors import RunError

HELD = "held"  # the purpose of locks that nobody waits for

log = logging.getLogger(__name__)


@contextlib.contextmanager
def write_folder(folder: Path) -> Iterator[Path]:
    """Yield a new sibling folder; when the block ends well it takes the place of ``folder``, else it is removed.

    Raises RunError when the place cannot be written (permission, no space), naming it. Of several processes that do
    one computation only the first writes; what the others are given to write into is thrown away. Processes that have
    nothing to do with each other write one after the other.
    """
    if distributed.rank():
        with tempfile.TemporaryDirectory() as nowhere:
            yield Path(nowhere)
        return
    new = folder.parent / f".{folder.name}.{uuid.uuid4().hex[:8]}.new"
    try:
        with locked(folder, "writing"):
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


@contextlib.contextmanager
def locked(path: Path, purpose: str) -> Iterator[None]:
    """Do something with a file or folder while other processes wait, those of other machines that share it too.

    Only those wait that name the same purpose. The lock is a file beside ``path``, and ends with the process that holds
    it, however that ends. Raises RunError where nothing can be written, or the file system has no locks.
    """
    with _locked(path, purpose, wait=True):
        yield


@contextlib.contextmanager
def held(path: Path, what: str) -> Iterator[None]:
    """Do something that two processes must not do at once; the second does not wait, and readers are not kept out.

    ``what``: a noun phrase that names it, for the message. The lock is as that of ``locked``; of several processes that
    do one computation the first holds it for all. Raises RunError, which says who is at it, where another process is.
    """
    if distributed.rank():
        yield
        return
    with contextlib.ExitStack() as stack:
        try:
            handle = stack.enter_context(_locked(path, HELD, wait=False))
        except BlockingIOError as error:
            who = _holder(_lock_file(path, HELD)) or what
            raise RunError(
                f"{who} goes on already; wait until it ends, or end it, then give the same command again"
            ) from error
        started = time.strftime("%Y-%m-%d %H:%M")
        with contextlib.suppress(OSError):  # a full disk: the lock holds, and others are told less
            os.ftruncate(handle, 0)
            os.write(handle, f"{what} (process {os.getpid()} on {socket.gethostname()}, since {started})".encode())
        yield


@contextlib.contextmanager
def _locked(path: Path, purpose: str, wait: bool) -> Iterator[int]:
    """The open file of a lock while it is kept. Raises RunError where it cannot be, BlockingIOError as ``_lock``."""
    file = _lock_file(path, purpose)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = _lock(file, wait)
    except BlockingIOError:
        raise
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror or error}); nothing was changed there") from error
    try:
        yield handle
    finally:
        _unlock(file, handle)


def _lock_file(path: Path, purpose: str) -> Path:
    return path.parent / f".{path.name}.{purpose}"


def _holder(file: Path) -> str:
    """What the holder of a lock says of itself; empty where it has not said it yet, or has just gone."""
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""


def _unlock(file: Path, handle: int) -> None:
    with contextlib.suppress(OSError):  # somebody has removed it: what was done while it was there stands
        file.unlink()
    os.close(handle)


def _lock(file: Path, wait: bool = True) -> int:
    """The open and locked file of a name: the one that is there, and not one that its last holder has removed.

    Raises BlockingIOError where another process has it and this one is not to ``wait``.
    """
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not wait:
                    raise
                log.info("%s: waiting for another process", file)
                fcntl.flock(handle, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(handle), file.stat()):
                return handle
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESTALE):
                os.close(handle)
                raise
        os.close(handle)


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
