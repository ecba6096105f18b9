"""Files and folders that are written whole or not at all."""

import contextlib
import errno
import fcntl
import glob
import hashlib
import json
import logging
import os
import re
import shutil
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from srun.errors import RunError, SrunError
from srun.system import distributed

HELD = "held"  # the purpose of locks that nobody waits for
SUMS = "SHA256SUMS"
"""What a sealed folder lists its files in, as `sha256sum -c` reads it."""

log = logging.getLogger(__name__)


@contextlib.contextmanager
def write_folder(folder: Path, sealed: bool = False) -> Iterator[Path]:
    """Yield a new sibling folder; when the block ends well it takes the place of ``folder``, else it is removed.

    ``sealed`` adds the checksums of its files, which ``verify_folder`` reads.
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
            if sealed:
                seal(new)
            _flush_folder(new)
            _replace(new, folder)
            _flush(folder.parent)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RunError(f"{folder}: cannot be written ({reason}); nothing was changed there") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def seal(folder: Path) -> None:
    """Write the sha256 of every file of a folder into its ``SHA256SUMS``."""
    lines = [f"{sha256(folder / name)}  {name}\n" for name in sorted(_files(folder))]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8", newline="\n")


def verify_folder(folder: Path, error: type[SrunError], mend: str) -> None:
    """Check that a sealed folder holds the files that were written, all of them and no other.

    Raises ``error``, which names the first file that differs; ``mend`` says what to do about it.
    """
    sums, files = read_sums(folder, error, mend), _files(folder)
    for name in sorted(sums.keys() - files):
        raise error(f"{folder}: {_shown(name)} is missing; {mend}")
    for name in sorted(files - sums.keys()):
        raise error(f"{folder}: {_shown(name)} is not one of the files that were written; remove it, or {mend}")
    for name, wanted in sums.items():
        try:
            same = sha256(folder / name) == wanted
        except OSError as fault:
            raise error(f"{folder / name}: cannot be read ({fault.strerror or fault})") from fault
        if not same:
            raise error(f"{folder / name}: not what was written (its sha256 differs from {SUMS}); {mend}")


def sha256(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(folder: Path) -> set[str]:
    """Names of a folder's files, those of folders in it included, without the list of checksums."""
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    return names - {SUMS}


def read_sums(folder: Path, error: type[SrunError], mend: str) -> dict[str, str]:
    """The sha256 of each file of a sealed folder as its list has it; raises ``error`` where there is no such list."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as fault:
        raise error(f"{folder}: its list of checksums, {SUMS}, is missing; {mend}") from fault
    except OSError as fault:
        raise error(f"{folder / SUMS}: cannot be read ({fault.strerror or fault})") from fault
    except UnicodeDecodeError as fault:
        raise error(f"{folder / SUMS}: not a list of checksums; {mend}") from fault
    sums: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        match = re.fullmatch(r"([0-9a-f]{64})  (.+)", line)
        if match is None or match[2] in sums:
            raise error(f"{folder / SUMS}:{number}: not a line of a list of checksums; {mend}")
        sums[match[2]] = match[1]
    return sums


def _shown(name: str) -> str:
    """A file's name as it may stand in a message, whatever is in it."""
    return ascii(name)[1:-1][:100]


def read_json(path: Path, error: type[SrunError], mend: str) -> dict[str, Any]:
    """Read a JSON file that holds a mapping; raises ``error``, with ``mend`` as what to do, where it does not."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise error(f"{path}: cannot be read ({fault.strerror or fault}); {mend}") from fault
    except json.JSONDecodeError as fault:
        raise error(f"{path}:{fault.lineno}: not valid JSON; {mend}") from fault
    except UnicodeDecodeError as fault:
        raise error(f"{path}: not UTF-8 text; {mend}") from fault
    except (ValueError, RecursionError) as fault:  # a number of thousands of digits; brackets thousands deep
        raise error(f"{path}: not JSON of ours; {mend}") from fault
    if not isinstance(values, dict):
        raise error(f"{path}: expected a JSON mapping, found {type(values).__name__}; {mend}")
    return values


def read_tensors(path: Path, names: Sequence[str], error: type[SrunError], mend: str) -> dict[str, NDArray[Any]]:
    """Read the arrays of a safetensors file, just those named; raises ``error``, with ``mend``, where it has others."""
    try:
        arrays = load_file(path)
    except OSError as fault:
        raise error(f"{path}: cannot be read ({fault.strerror or fault}); {mend}") from fault
    except SafetensorError as fault:
        raise error(f"{path}: cannot be read as safetensors; {mend}") from fault
    if arrays.keys() != set(names):
        raise error(f"{path}: expected the arrays {', '.join(names)}; {mend}")
    return arrays


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8 as ``write_bytes`` does."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, and have it on the disk; raises RunError naming the path when it cannot.

    A file that holds this already is left as it is. What a killed writer left beside it is removed.
    """
    if distributed.rank():
        return
    new = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}.new"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_dead(path)
        if path.is_file() and path.read_bytes() == content:
            return
        handle = _lock(new)  # for as long as it is written, which tells it from what a killed writer left
        try:
            with open(handle, "wb", closefd=False) as file:
                file.write(content)
            os.fsync(handle)
            os.replace(new, path)
        finally:
            os.close(handle)
        _flush(path.parent)
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        with contextlib.suppress(OSError):  # what was raised above says more
            new.unlink()


@contextlib.contextmanager
def claimed(path: Path) -> Iterator[int | None]:
    """The open file of a path that no other process holds open and locked, locked; None where one does or it is gone.

    Raises OSError where the file cannot be opened.
    """
    try:
        handle = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        yield None
        return
    try:
        yield handle if _lock_at_once(path, handle) else None
    finally:
        os.close(handle)


def _lock_at_once(path: Path, handle: int) -> bool:
    """Whether a file that was opened is free, and still the one of its name."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(handle), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


def _remove_dead(path: Path) -> None:
    """Remove what killed writers of a file left beside it; a living one keeps its own locked."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.????????.new"):
        if left.is_file():
            with claimed(left) as handle:
                if handle is not None:
                    left.unlink()


def _flush(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk: a power cut cannot undo it then."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # as some network file systems say of folders
            raise
    finally:
        os.close(handle)


def _flush_folder(folder: Path) -> None:
    for place, _, names in os.walk(folder):
        for name in names:
            _flush(Path(place, name))
        _flush(Path(place))


@contextlib.contextmanager
def locked(path: Path, purpose: str) -> Iterator[None]:
    """Do something with a file or folder while other processes wait, those of other machines that share it too.

    Only those wait that name the same purpose. The lock is a file beside ``path``, and ends with the process that holds
    it, however that ends. Raises RunError where nothing can be written, or the file system has no locks.
    """
    with _locked(path, purpose, wait=True):
        yield


@contextlib.contextmanager
def held(path: Path, purpose: str) -> Iterator[None]:
    """Do something that two processes must not do at once; the second does not wait, and readers are not kept out.

    ``purpose``: a noun phrase that names it, for the message. The lock is as that of ``locked``; of several processes
    that do one computation the first holds it for all. Raises RunError, which says who is at it, where another process
    is.
    """
    if distributed.rank():
        yield
        return
    with contextlib.ExitStack() as stack:
        try:
            handle = stack.enter_context(_locked(path, HELD, wait=False))
        except BlockingIOError as error:
            who = _holder(_lock_file(path, HELD)) or purpose
            raise RunError(
                f"{who} goes on already; wait until it ends, or end it, then give the same command again"
            ) from error
        started = time.strftime("%Y-%m-%d %H:%M")
        with contextlib.suppress(OSError):  # a full disk: the lock holds, and others are told less
            os.ftruncate(handle, 0)
            os.write(handle, f"{purpose} (process {os.getpid()} on {socket.gethostname()}, since {started})".encode())
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
