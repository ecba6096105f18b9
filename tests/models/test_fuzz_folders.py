"""Hundreds of damaged or tampered model folders: each loads to the same scores, or is refused in one line."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from srun.errors import SrunError
from srun.files import SUMS, seal
from srun.models.published import load_history, load_parts, load_published, publish
from srun.models.scorer import Aggregation, Scorer
from srun.service.recommender import Recommender

NUM_MUTATIONS = 500
HISTORIES = torch.tensor([[0, 0, 0, 1, 2], [3, 4, 5, 6, 7], [0, 2, 2, 1, 9]])
USERS = torch.tensor([4, 0, 2])
ODD = (None, -1, 0, 1, 2, 3, 1.5, 1e308, float("nan"), 10**30, "", "x", "a\nb\x1b[31m", "y" * 2000, True, [], [1], {})
"""What a field of model.json may be turned into."""


@pytest.fixture(scope="module")
def whole(small, coloured, tmp_path_factory):
    """A published ensemble with every kind of tensor, and its scores."""
    folder = tmp_path_factory.mktemp("whole") / "m"
    models = [small.random_model(coloured, seed=seed) for seed in (1, 2)]
    catalogue = torch.ones(coloured.num_items + 1, dtype=torch.bool)
    catalogue[[0, 3]] = False
    how = Aggregation("similarity", 0.1, torch.randn(2, 8, generator=torch.Generator().manual_seed(0)))
    scorer = Scorer(models, catalogue, torch.tensor([[2, 5], [-1, 7]]), how)
    about = {"stage": "train", "cost": {"steps": 3}, "threads": 1, "device": "cpu", "best_epoch": [1, 2]}
    about |= {"seed": 0, "shards": 2, "fingerprint": "f", "prepare": {"seed": 0}, "train": {"batch_size": 4}}
    parts = {"shard_of_user": torch.arange(60) % 2, "slice_of_user": torch.zeros(60, dtype=torch.int64)}
    publish(folder, scorer, about, [{"epoch": 1.0, "a": 0.5}, {"epoch": 2.0}], coloured.items, parts)
    return folder, scorer.scores(HISTORIES, USERS)


def flip(folder, rng, name):
    data = bytearray((folder / name).read_bytes())
    data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
    (folder / name).write_bytes(data)


def truncate(folder, rng, name):
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: rng.integers(len(data))])


def delete(folder, rng, name):
    (folder / name).unlink()


def add(folder, rng, name):
    (folder / f"{name}.bak").write_bytes(b"more")


def swap_rows(folder, rng, name):
    lines = (folder / "items.csv").read_text().split("\n")
    first, second = rng.choice(np.arange(1, len(lines) - 1), 2, replace=False)
    lines[first], lines[second] = lines[second], lines[first]
    (folder / "items.csv").write_text("\n".join(lines))


def edit_items(folder, rng, name):
    table = pd.read_csv(folder / "items.csv", dtype=str, keep_default_na=False)
    row = int(rng.integers(1, len(table)))
    changes = [
        lambda: table.drop(index=row),
        lambda: pd.concat([table, table.iloc[:1]]),
        lambda: table.assign(item_id=table["item_id"].where(table.index != row, table["item_id"][0])),
        lambda: table[["title", "item_id"]],
    ]
    changes[rng.integers(len(changes))]().to_csv(folder / "items.csv", index=False)


def edit_json(folder, rng, name):
    """Change, drop or add one field, however deep; now and then the text as a whole."""
    file = folder / "model.json"
    info = json.loads(file.read_text())
    places = list(fields(info))
    parent, key = places[rng.integers(len(places))]
    way = rng.integers(8)
    if way == 0:
        del parent[key]
    elif way == 1:
        parent[key] = "more" if isinstance(parent, list) else {"more": 1}
    else:
        parent[key] = ODD[rng.integers(len(ODD))]
    texts = ["[" * 100_000, "1" * 5000, "\xff", '{"models": ' + "[" * 5000 + "]" * 5000 + "}"]
    text = json.dumps(info) if rng.integers(20) else texts[rng.integers(len(texts))]
    file.write_text(text, encoding="latin-1" if text == "\xff" else "utf-8")


def fields(node):
    """(parent, key) of every value of nested mappings and lists."""
    for key in list(node) if isinstance(node, dict) else range(len(node)):
        yield node, key
        if isinstance(node[key], dict | list):
            yield from fields(node[key])


def edit_tensor(folder, rng, name):
    """Write what no model has: values that are not numbers, other shapes and types, pairs out of range, no tensor."""
    file = folder / "weights.safetensors"
    with safe_open(file, "pt") as opened:
        tensors, metadata = {key: opened.get_tensor(key) for key in opened.keys()}, opened.metadata()  # noqa: SIM118
    key = sorted(tensors)[rng.integers(len(tensors))]
    tensor = tensors[key]
    if tensor.is_floating_point():
        odd = tensor.clone()
        odd.view(-1)[rng.integers(odd.numel())] = [float("nan"), float("inf"), -float("inf")][rng.integers(3)]
    else:
        odd = [tensor.float(), tensor + 10**6 if key == "masked" else tensor[1:]][rng.integers(2)]
    others = [odd, tensor.reshape(-1)[:-1].contiguous(), tensor.reshape(-1, 1), tensor.double()]
    way = int(rng.integers(len(others) + 2))
    if way < len(others):
        tensors[key] = others[way]
    elif way == len(others) and key not in ("catalogue", "masked"):  # another whole model has none, or fewer pairs
        del tensors[key]
    else:
        tensors[f"{key}\x1b"] = tensor.clone()
    save_file(tensors, file, metadata if rng.integers(10) else {"scorer": "["})


def edit_history(folder, rng, name):
    odd = ["", "epoch\n1,2,3\n", "epoch,a\nx,1\n", 'epoch\n"1\n', "\x00", "epoch\n1e999\n"]
    (folder / "history.csv").write_text(odd[rng.integers(len(odd))])


UNSEALED = [flip, truncate, delete, add, swap_rows, edit_items, edit_history]
"""Must be noticed: the checksums are not those of the files."""
SEALED = [edit_json, edit_json, edit_json, edit_tensor, edit_tensor, edit_items, swap_rows, edit_history, truncate]
"""With checksums made anew, so that what the files say is looked at."""


def read(folder):
    """Everything that is read of a folder, by whoever reads it."""
    load_history(folder)
    load_parts(folder)
    Recommender.load(folder)
    return load_published(folder)[0].scores(HISTORIES, USERS)


@pytest.mark.fuzz("model-folders")
def test_a_changed_folder_is_the_same_model_or_refused_in_one_line(whole, fuzz):
    source, expected = whole
    names = sorted(path.name for path in source.iterdir())
    assert len(names) == 6

    def case(number, place):
        rng = np.random.default_rng(number)
        folder = place / "m"
        shutil.copytree(source, folder)
        resealed = number % 2 == 1
        ways = SEALED if resealed else UNSEALED
        change, name = ways[rng.integers(len(ways))], names[rng.integers(len(names))]
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        change(folder, rng, name)
        mutation = f"mutation {number}: {change.__name__} of {name}, {'with' if resealed else 'without'} new checksums"
        if resealed:
            seal(folder)
        changed = {path.name: path.read_bytes() for path in folder.iterdir()} != before
        try:
            scores = read(folder)
        except SrunError as error:
            assert changed, mutation
            return fuzz.refused(error, place, mentions=str(folder))
        assert torch.equal(scores, expected), mutation
        assert resealed or not changed, f"{mutation}: a change that nobody noticed"
        return "same"

    outcomes = fuzz.run(NUM_MUTATIONS, case)
    assert outcomes["refused"] > 0.8 * outcomes.total()


@pytest.mark.parametrize("name", ["weights.safetensors", "model.json", "items.csv", "history.csv", SUMS])
def test_what_differs_is_named_with_what_to_do(whole, tmp_path, name):
    folder = tmp_path / "m"
    shutil.copytree(whole[0], folder)
    flip(folder, np.random.default_rng(0), name)
    with pytest.raises(SrunError, match=rf"{name}.*; make it again \(`srun train`, `srun unlearn`\) or restore"):
        Recommender.load(folder)
