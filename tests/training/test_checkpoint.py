"""Resume folders: the newest whole state is given back; a damaged one is told of in one line, and left out."""

import pytest
import torch

from srun.files import SUMS, seal
from srun.training.checkpoint import ResumeFolder

STATE = {"epoch": 3, "history": [{"epoch": 1.0}]}


@pytest.fixture
def folder(tmp_path):
    folder = ResumeFolder(tmp_path / "resume", "key")
    folder.save(3, {"a": torch.arange(4.0)}, STATE)
    return folder


def test_a_state_comes_back_under_its_key_only(folder):
    tensors, state = folder.load()
    assert torch.equal(tensors["a"], torch.arange(4.0))
    assert state == STATE
    assert ResumeFolder(folder.folder, "another").load() is None


@pytest.mark.parametrize("name", ["state.safetensors", "state.json", SUMS])
@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "empty", "add"])
def test_a_damaged_state_is_told_of_in_one_line_and_the_run_starts_anew(folder, caplog, name, damage):
    file = folder.folder / "00000003" / name
    data = file.read_bytes()
    if damage == "delete":
        file.unlink()
    elif damage == "add":
        file.with_suffix(".bak").write_bytes(data)
    else:
        changed = {"flip": bytes([data[0] ^ 1, *data[1:]]), "truncate": data[: len(data) // 2], "empty": b""}
        file.write_bytes(changed[damage])
    assert folder.load() is None
    [record] = caplog.records
    assert "00000003" in record.getMessage()
    assert "starts anew" in record.getMessage()
    assert record.getMessage().isprintable()
    folder.save(1, {"a": torch.zeros(1)}, STATE)
    assert folder.load()[0]["a"].tolist() == [0.0], "the new run is resumed, beside what is left of the damaged one"


@pytest.mark.parametrize("text", [b"[" * 100_000, b"\xff", b"[]", b"{}", b"1" * 5000])
def test_a_state_that_says_nothing_of_ours_is_left_out(folder, caplog, text):
    place = folder.folder / "00000003"
    (place / "state.json").write_bytes(text)
    seal(place)
    assert folder.load() is None
    assert len(caplog.records) == (text != b"{}")


def test_the_state_before_a_damaged_one_is_taken(folder, tmp_path):
    kept = tmp_path / "kept"
    (folder.folder / "00000003").rename(kept)
    folder.save(4, {"a": torch.ones(1)}, STATE)
    kept.rename(folder.folder / "00000003")
    (folder.folder / "00000004" / "state.json").write_text("{")
    assert folder.load()[0]["a"].tolist() == [0.0, 1.0, 2.0, 3.0]
