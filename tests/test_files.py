"""Files and folders are written whole or not at all, and what was there stays when writing fails."""

import errno
import os
import resource
import signal
import subprocess
import time
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from srun.errors import DataError, RunError
from srun.files import SUMS, held, locked, read_json, read_tensors, seal, verify_folder, write_folder, write_text


def content(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


def fill(folder, text):
    with write_folder(folder) as new:
        (new / "a.txt").write_text(text)
        (new / "sub").mkdir()
        (new / "sub" / "b.txt").write_text(text)


@contextmanager
def full_disk():
    """Files cannot grow: the error of the kernel, not an imitation."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_folder_appears_whole(tmp_path):
    target = tmp_path / "deep" / "er" / "x"
    with write_folder(target) as new:
        (new / "a.txt").write_text("1")
        assert not target.exists()
        assert new.parent == target.parent
    assert content(target) == {"a.txt": "1"}
    assert os.listdir(target.parent) == ["x"]


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "x"
    fill(target, "old")
    (target / "more.txt").write_text("old")
    fill(target, "new")
    assert content(target) == {"a.txt": "new", os.path.join("sub", "b.txt"): "new"}
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_another_error_leaves_what_was_there_and_no_litter(tmp_path, error):
    fill(tmp_path / "x", "old")

    def break_off():
        with write_folder(tmp_path / "x") as new:
            (new / "a.txt").write_text("half")
            raise error

    with pytest.raises(error):
        break_off()
    assert content(tmp_path / "x")["a.txt"] == "old"
    assert os.listdir(tmp_path) == ["x"]


def test_a_full_disk_is_an_error_that_names_the_folder_and_changes_nothing(tmp_path):
    fill(tmp_path / "x", "old")
    with pytest.raises(RunError, match=str(tmp_path / "x")), full_disk():
        fill(tmp_path / "x", "new" * 1000)
    assert content(tmp_path / "x")["a.txt"] == "old"
    assert os.listdir(tmp_path) == ["x"]


def test_a_full_disk_while_weights_are_written_is_the_same_error(tmp_path):
    fill(tmp_path / "x", "old")
    with pytest.raises(RunError, match=str(tmp_path / "x")), full_disk(), write_folder(tmp_path / "x") as new:
        save_file({"w": torch.zeros(10_000)}, new / "weights.safetensors")
    assert content(tmp_path / "x")["a.txt"] == "old"
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize("failing", [1, 2])
def test_a_rename_that_fails_leaves_what_was_there(tmp_path, monkeypatch, failing):
    fill(tmp_path / "x", "old")
    calls = []

    def rename(source, target, real=os.rename):
        calls.append(source)
        if len(calls) == failing:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(RunError, match="No space left"):
        fill(tmp_path / "x", "new")
    assert content(tmp_path / "x")["a.txt"] == "old"
    assert os.listdir(tmp_path) == ["x"]


def test_a_place_below_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(RunError, match="file"):
        fill(tmp_path / "file" / "x", "new")
    with pytest.raises(RunError, match="file"):
        write_text(tmp_path / "file" / "x.txt", "new")
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_cannot_be_written(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    with pytest.raises(RunError, match="closed"):
        fill(closed / "x", "new")
    with pytest.raises(RunError, match="closed"):
        write_text(closed / "x.txt", "new")


def test_a_refused_permission_is_an_error_that_names_the_place(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(RunError, match=f"{tmp_path / 'x'}.*Permission denied"):
        fill(tmp_path / "x", "new")
    with pytest.raises(RunError, match="Permission denied"):
        write_text(tmp_path / "x.txt", "new")


def test_text_is_written_whole_with_plain_line_ends(tmp_path):
    write_text(tmp_path / "new" / "a.txt", "é\nb\n")
    assert (tmp_path / "new" / "a.txt").read_bytes() == "é\nb\n".encode()
    write_text(tmp_path / "new" / "a.txt", "c")
    assert (tmp_path / "new" / "a.txt").read_text() == "c"
    assert os.listdir(tmp_path / "new") == ["a.txt"]


def test_text_on_a_full_disk_keeps_the_old_text(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(RunError, match=r"a\.txt"), full_disk():
        write_text(tmp_path / "a.txt", "new" * 1000)
    assert (tmp_path / "a.txt").read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def started(number, work, *args):
    """So many processes, forked, that do the same at the same time."""
    processes = [get_context("fork").Process(target=work, args=(index, *args)) for index in range(number)]
    for process in processes:
        process.start()
    return processes


def codes(processes):
    for process in processes:
        process.join(60)
    return [process.exitcode for process in processes]


def fill_slowly(index, folder):
    for _ in range(20):
        with write_folder(folder) as new:
            (new / "a.txt").write_text(str(index))
            time.sleep(0.002)
            (new / "b.txt").write_text(str(index))


def test_processes_that_write_one_folder_do_not_remove_each_others_work(tmp_path):
    assert codes(started(4, fill_slowly, tmp_path / "x")) == [0] * 4
    found = content(tmp_path / "x")
    assert found["a.txt"] == found["b.txt"]
    assert os.listdir(tmp_path) == ["x"]


def make_once(index, place):
    for number in range(30):
        with locked(place / str(number), "making"):
            if not (place / str(number)).exists():
                time.sleep(0.001)
                with open(place / f"{number}.made-by", "a") as file:
                    file.write(f"{index}\n")
                (place / str(number)).touch()


def test_what_is_made_under_a_lock_is_made_by_one(tmp_path):
    assert codes(started(4, make_once, tmp_path)) == [0] * 4
    assert [len((tmp_path / f"{number}.made-by").read_text().split()) for number in range(30)] == [1] * 30
    assert not list(tmp_path.glob(".*"))


def hold(index, path):
    with locked(path, "making"):
        (path.parent / "held").touch()
        time.sleep(60)


def test_a_lock_ends_with_its_holder_and_is_for_its_purpose_alone(tmp_path):
    [holder] = started(1, hold, tmp_path / "x")
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    fill(tmp_path / "x", "another purpose")
    os.kill(holder.pid, signal.SIGKILL)
    began = time.monotonic()
    with locked(tmp_path / "x", "making"):
        assert time.monotonic() - began < 5
    assert codes([holder]) == [-signal.SIGKILL]


def hold_alone(index, path):
    with held(path, "training X for a long time"):
        (path.parent / "held").touch()
        time.sleep(60)


def test_who_comes_second_is_told_who_is_at_it_until_that_one_ends(tmp_path):
    [holder] = started(1, hold_alone, tmp_path / "x")
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    said = rf"^training X for a long time \(process {holder.pid} on .*\) goes on already; wait .* command again$"
    with pytest.raises(RunError, match=said), held(tmp_path / "x", "training Y"):
        pytest.fail("both are at it")
    with held(tmp_path / "y", "training Y"):
        fill(tmp_path / "x", "not kept out")
    os.kill(holder.pid, signal.SIGKILL)
    assert codes([holder]) == [-signal.SIGKILL]
    with held(tmp_path / "x", "training Y"):
        words = (tmp_path / ".x.held").read_text()
        assert words.startswith(f"training Y (process {os.getpid()} on ")
        assert words.count(")") == 1, "nothing is left of X's words"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["held", "x"]


def test_a_file_system_without_locks_is_an_error_that_names_the_place(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(RunError, match=f"{tmp_path / 'x'}.*No locks available"):
        fill(tmp_path / "x", "new")
    with pytest.raises(RunError, match=f"{tmp_path / 'x'}.*No locks available"), held(tmp_path / "x", "training"):
        pytest.fail("not held")
    assert not (tmp_path / "x").exists()


@pytest.fixture
def sealed(tmp_path):
    with write_folder(tmp_path / "x", sealed=True) as new:
        (new / "a.txt").write_text("a")
        (new / "deep").mkdir()
        (new / "deep/b.txt").write_text("b")
    return tmp_path / "x"


def verify(folder):
    verify_folder(folder, DataError, "make it again")


def test_a_sealed_folder_is_what_sha256sum_checks(sealed):
    verify(sealed)
    done = subprocess.run(["sha256sum", "-c", SUMS], cwd=sealed, capture_output=True, text=True, check=True)
    assert done.stdout == "a.txt: OK\ndeep/b.txt: OK\n"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "a.txt").write_text("A"), r"x/a\.txt: not what was written .*; make it again"),
        (lambda folder: (folder / "a.txt").write_text(""), r"x/a\.txt: not what was written"),
        (lambda folder: (folder / "deep/b.txt").unlink(), r"x: deep/b\.txt is missing; make it again"),
        (lambda folder: (folder / "c\x1b\n.txt").touch(), r"x: c\\x1b\\n\.txt is not one of .*; remove it, or make it"),
        (lambda folder: (folder / ".hidden").touch(), r"x: \.hidden is not one of the files"),
        (lambda folder: (folder / SUMS).unlink(), rf"x: its list of checksums, {SUMS}, is missing; make it again"),
        (lambda folder: (folder / SUMS).write_bytes(b"\xff"), rf"x/{SUMS}: not a list of checksums"),
        (lambda folder: (folder / SUMS).write_text("abc a.txt\n"), rf"x/{SUMS}:1: not a line of a list"),
        (lambda folder: (folder / "a.txt").rename(folder / "aa.txt"), r"x: a\.txt is missing"),
    ],
)
def test_a_change_in_a_sealed_folder_is_named_with_what_to_do(sealed, change, said):
    change(sealed)
    with pytest.raises(DataError, match=said) as told:
        verify(sealed)
    assert str(told.value).isprintable()


def test_the_same_files_have_the_same_list(sealed):
    before = (sealed / SUMS).read_bytes()
    seal(sealed)
    assert (sealed / SUMS).read_bytes() == before


@pytest.mark.parametrize("data", [b"[]", b"\xff", b"{", b"[" * 100_000, b"1" * 5000, b'{"a": ' * 50_000, b""])
def test_json_that_is_not_ours_is_one_line_that_names_it(tmp_path, data):
    (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(DataError, match=r"x\.json.*; make it again$") as told:
        read_json(tmp_path / "x.json", DataError, "make it again")
    assert str(told.value).isprintable()


def test_arrays_that_are_not_ours_are_one_line_that_names_them(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "x.safetensors")
    read_tensors(tmp_path / "x.safetensors", ("a",), DataError, "make it again")
    with pytest.raises(DataError, match=r"x\.safetensors: expected the arrays a, b; make it again"):
        read_tensors(tmp_path / "x.safetensors", ("a", "b"), DataError, "make it again")
    for data in (b"", b"nothing of the kind", (tmp_path / "x.safetensors").read_bytes()[:-1]):
        (tmp_path / "x.safetensors").write_bytes(data)
        with pytest.raises(DataError, match=r"x\.safetensors: cannot be read"):
            read_tensors(tmp_path / "x.safetensors", ("a",), DataError, "make it again")


def write_slowly(index, path):
    """A writer that stays in the middle of its file."""

    def stay(handle):
        (path.parent / f"writing-{index}").touch()
        time.sleep(60)

    os.fsync = stay
    write_text(path, "half")


def test_what_a_killed_writer_left_is_removed_and_a_living_one_keeps_its_own(tmp_path):
    path = tmp_path / "x.json"
    writers = started(2, write_slowly, path)
    while len(list(tmp_path.glob("writing-*"))) < 2:
        time.sleep(0.01)
    os.kill(writers[0].pid, signal.SIGKILL)
    writers[0].join()
    assert len(list(tmp_path.glob(".x.json.*.new"))) == 2
    write_text(path, "whole")
    assert len(list(tmp_path.glob(".x.json.*.new"))) == 1, "that of the one that lives"
    os.kill(writers[1].pid, signal.SIGKILL)
    writers[1].join()
    write_text(path, "whole")
    assert not list(tmp_path.glob(".x.json.*.new"))
    assert path.read_text() == "whole"


def test_what_is_written_is_on_the_disk_before_it_has_its_name_and_the_name_after(tmp_path, monkeypatch):
    told, names = [], {}

    def fsync(handle, real=os.fsync):
        told.append(os.readlink(f"/proc/self/fd/{handle}").replace(str(tmp_path), ""))
        real(handle)

    def renamed(real):
        def rename(source, target):
            told.append("renamed")
            names["new"] = Path(source).name
            real(source, target)

        return rename

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", renamed(os.replace))
    monkeypatch.setattr(os, "rename", renamed(os.rename))
    write_text(tmp_path / "x.txt", "text")
    assert told == [f"/{names['new']}", "renamed", ""]
    told.clear()
    fill(tmp_path / "x", "text")
    new = f"/{names['new']}"
    assert told[-2:] == ["renamed", ""]
    assert sorted(told[:-2]) == [new, f"{new}/a.txt", f"{new}/sub", f"{new}/sub/b.txt"]


def test_a_text_that_is_there_already_is_not_written_again(tmp_path):
    write_text(tmp_path / "x.txt", "text")
    before = (tmp_path / "x.txt").stat()
    write_text(tmp_path / "x.txt", "text")
    assert os.path.samestat(before, (tmp_path / "x.txt").stat())
    write_text(tmp_path / "x.txt", "other")
    assert (tmp_path / "x.txt").read_text() == "other"
