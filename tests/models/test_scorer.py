"""Scorers: ensembles, masks, catalogue; and published folders: exact, strict, without pickle."""

import json
import math
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from srun.errors import CheckpointError, SrunError
from srun.files import seal
from srun.models import MODELS
from srun.models.checks import check_parts
from srun.models.published import load_published, publish
from srun.models.scorer import Scorer, clone_model, model_description, new_model

HISTORIES = torch.tensor([[0, 0, 0, 1, 2], [3, 4, 5, 6, 7], [0, 2, 2, 1, 9]])
USERS = torch.tensor([4, 0, 2])


@pytest.fixture(params=MODELS)
def model(request, small, coloured):
    return small.random_model(coloured, request.param, seed=1)


@pytest.fixture
def sasrec(small, coloured):
    return small.random_model(coloured)


@pytest.fixture
def published(tmp_path, sasrec):
    publish(tmp_path / "m", Scorer([sasrec]), {"seed": 3}, [])
    return tmp_path / "m"


def test_a_published_model_loads_equal(tmp_path, model, small, coloured):
    catalogue = torch.ones(coloured.num_items + 1, dtype=torch.bool)
    catalogue[[0, 3]] = False
    masked = torch.tensor([[2, 5], [-1, 7]])
    scorer = Scorer([model, small.random_model(coloured, model_description(model)["name"], 2)], catalogue, masked)
    publish(tmp_path / "m", scorer, {"seed": 3, "nested": {"a": [1]}}, [{"epoch": 1, "a": 0.5}, {"epoch": 2, "b": 1.5}])
    again, info = load_published(tmp_path / "m")
    assert small.weight_bytes(again) == small.weight_bytes(scorer)
    assert torch.equal(again.scores(HISTORIES, USERS), scorer.scores(HISTORIES, USERS))
    assert torch.equal(again.catalogue, catalogue)
    assert info["seed"] == 3
    assert info["nested"] == {"a": [1]}
    assert [model_description(m) for m in again.models] == [model_description(m) for m in scorer.models]
    assert not any(m.training for m in again.models)
    assert (tmp_path / "m" / "history.csv").read_text() == "epoch,a,b\n1,0.5,\n2,,1.5\n"


def test_the_same_model_gives_the_same_bytes(tmp_path, sasrec):
    for name in ("a", "b"):
        publish(tmp_path / name, Scorer([sasrec]), {"z": 1, "a": 2}, [{"epoch": 1}])
    assert all((tmp_path / "a" / f.name).read_bytes() == f.read_bytes() for f in (tmp_path / "b").iterdir())


def test_no_pickle_is_written_or_read(published):
    assert {path.suffix for path in published.iterdir()} == {".safetensors", ".json", ".csv", ""}
    for path in published.iterdir():
        head = path.read_bytes()[:4]
        assert head[:2] != b"PK"
        assert not head.startswith(b"\x80")
    package = Path(sys.modules["srun"].__file__).parent
    for source in package.rglob("*.py"):
        text = source.read_text()
        assert "torch.load(" not in text, source
        assert "torch.save(" not in text, source
        assert "import pickle" not in text, source


@pytest.mark.parametrize("name", ["weights.safetensors", "model.json"])
def test_a_missing_file_is_an_error_that_names_it(published, name):
    (published / name).unlink()
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        load_published(published)


def test_a_missing_folder_is_an_error_that_names_it(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere"):
        load_published(tmp_path / "nowhere")


@pytest.mark.parametrize("left", [0, 4, 100, -1])
def test_truncated_weights_are_an_error(published, left):
    path = published / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(CheckpointError, match="m"):
        load_published(published)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"{}", b'{"models": []}', b'{"models": 3}', b"\xff\xfe"])
def test_a_broken_description_is_an_error(published, text):
    (published / "model.json").write_bytes(text)
    seal(published)
    with pytest.raises(SrunError, match=r"model\.json"):
        load_published(published)


def rewrite(folder, tensors):
    """Other tensors in the place of those published, under checksums that fit."""
    with safe_open(folder / "weights.safetensors", "pt") as weights:
        metadata = weights.metadata()
    save_file(tensors, folder / "weights.safetensors", metadata)
    seal(folder)


def edit(folder, change):
    info = json.loads((folder / "model.json").read_text())
    change(info["models"][0])
    (folder / "model.json").write_text(json.dumps(info))
    seal(folder)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda m: m.update(num_items=m["num_items"] + 1), "num_items"),
        (lambda m: m.update(max_length=m["max_length"] + 1), "max_length"),
        (lambda m: m["settings"].update(hidden=16), "hidden"),
        (lambda m: m["settings"].update(blocks=2), r"0\.settings\.blocks: 2, but .* of a model with 1"),
        (lambda m: m["settings"].update(heads=2), "heads"),
        (lambda m: m.update(name="sasrek"), "sasrek"),
        (lambda m: m["settings"].pop("heads"), "heads"),
        (lambda m: m["settings"].update(colour=3), "colour"),
    ],
)
def test_weights_that_do_not_fit_are_an_error_that_names_what_differs(published, change, word):
    edit(published, change)
    with pytest.raises(SrunError, match=word):
        load_published(published)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda t: t.pop("0/norm.weight"), "norm.weight"),
        (lambda t: t.update({"0/more": torch.zeros(1)}), "more"),
        (lambda t: t.update({"1/norm.weight": torch.zeros(8)}), "1/norm.weight"),
        (lambda t: t.update({"catalogue": torch.ones(3, dtype=torch.bool)}), "catalogue"),
    ],
)
def test_tensors_that_are_missing_or_too_many_are_an_error(published, change, word):
    tensors = load_file(published / "weights.safetensors")
    change(tensors)
    rewrite(published, tensors)
    with pytest.raises(CheckpointError, match=word):
        load_published(published)


def masked_folder(folder, sasrec, masked, catalogue=None):
    publish(folder, Scorer([sasrec], catalogue), {}, [])
    with safe_open(folder / "weights.safetensors", "pt") as weights:
        tensors = {name: weights.get_tensor(name) for name in weights.keys()}  # noqa: SIM118
    rewrite(folder, {**tensors, "masked": masked})
    return folder


@pytest.mark.parametrize(
    "masked",
    [
        torch.tensor([[0, 0]]),
        torch.tensor([[-2, 1]]),
        torch.tensor([[0, 10**6]]),
        torch.tensor([[0.0, 1.0]]),
        torch.tensor([[0, 1]], dtype=torch.int32),
        torch.tensor([0, 1]),
        torch.tensor(3),
        torch.tensor([[0, 1, 2]]),
    ],
)
def test_masked_pairs_out_of_range_are_an_error(tmp_path, sasrec, masked):
    with pytest.raises(CheckpointError, match=r"weights\.safetensors: tensor masked"):
        load_published(masked_folder(tmp_path / "m", sasrec, masked))


def test_no_masked_pair_is_well(tmp_path, sasrec):
    scorer, _ = load_published(masked_folder(tmp_path / "m", sasrec, torch.zeros(0, 2, dtype=torch.int64)))
    assert scorer.masked is not None
    assert scorer.masked.shape == (0, 2)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_are_no_numbers_are_an_error_that_names_the_tensor(published, value):
    tensors = load_file(published / "weights.safetensors")
    tensors["0/norm.weight"][3] = value
    rewrite(published, tensors)
    with pytest.raises(CheckpointError, match=r"tensor 0/norm\.weight holds NaN or infinite values"):
        load_published(published)


def test_weights_beside_the_description_of_another_model_are_an_error(tmp_path, sasrec, small, coloured):
    publish(tmp_path / "a", Scorer([sasrec]), {}, [])
    publish(tmp_path / "b", Scorer([small.random_model(coloured, heads=2)]), {}, [])
    shutil.copy(tmp_path / "b/model.json", tmp_path / "a/model.json")
    seal(tmp_path / "a")
    with pytest.raises(CheckpointError, match=r"heads: 2, but the weights are of a model with 1"):
        load_published(tmp_path / "a")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table[:-1], "the model has 30 items and its item table 29"),
        (lambda table: table.assign(item_id="x"), "item number 2 has an id that stands above"),
        (lambda table: table[["title", "item_id"]], "expected the header item_id,title"),
    ],
)
def test_an_item_table_that_does_not_fit_is_an_error(tmp_path, sasrec, coloured, change, said):
    publish(tmp_path / "m", Scorer([sasrec]), {}, [], coloured.items)
    change(coloured.items[["item_id", "title"]]).to_csv(tmp_path / "m/items.csv", index=False)
    seal(tmp_path / "m")
    with pytest.raises(CheckpointError, match=rf"items\.csv:.*{said}"):
        load_published(tmp_path / "m")


def test_a_model_of_another_stage_is_an_error(published):
    with pytest.raises(CheckpointError, match=r"model\.json: stage: expected train, found None"):
        load_published(published, stage="train")


def test_only_masks_of_single_users_name_users(sasrec):
    for masked, names in ((None, False), ([[-1, 3]], False), ([[-1, 3], [0, 4]], True)):
        assert Scorer([sasrec], masked=None if masked is None else torch.tensor(masked)).names_users is names


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda parts: parts.pop("slice_of_user"), "slice_of_user is missing"),
        (lambda parts: parts.update(shard_of_user=torch.zeros(60, dtype=torch.int64)), "every one of 2 shards"),
        (lambda parts: parts.update(shard_of_user=parts["shard_of_user"][1:]), "shard_of_user: expected int64"),
        (lambda parts: parts.update(slice_of_user=parts["slice_of_user"] - 1), "numbers from 0"),
        (lambda parts: parts.update({"state/0/1/norm.weight": torch.zeros(8)}), "norm.weight is unexpected"),
    ],
)
def test_shards_that_do_not_fit_are_an_error(small, coloured, change, said):
    models = [small.random_model(coloured, seed=seed) for seed in (1, 2)]
    parts = {"shard_of_user": torch.arange(60) % 2, "slice_of_user": torch.zeros(60, dtype=torch.int64)}
    check_parts(Path("parts"), parts, models, 60)
    change(parts)
    with pytest.raises(CheckpointError, match=said):
        check_parts(Path("parts"), parts, models, 60)


def test_masks_of_a_user_and_of_everybody(sasrec):
    plain = Scorer([sasrec]).scores(HISTORIES, USERS)
    masked = torch.tensor([[4, 1], [0, 2], [-1, 6], [4, 3], [99, 8], [1, 5]])
    scores = Scorer([sasrec], masked=masked).scores(HISTORIES, USERS)
    expected = plain.clone()
    expected[0, [1, 3]] = -math.inf
    expected[1, 2] = -math.inf
    expected[:, 6] = -math.inf
    assert torch.equal(scores, expected)


def test_no_masks_at_all_change_nothing(sasrec):
    plain = Scorer([sasrec]).scores(HISTORIES, USERS)
    assert torch.equal(Scorer([sasrec], masked=torch.zeros(0, 2, dtype=torch.int64)).scores(HISTORIES, USERS), plain)


def test_items_outside_the_catalogue_have_no_score(sasrec, coloured):
    catalogue = torch.zeros(coloured.num_items + 1, dtype=torch.bool)
    catalogue[[2, 5]] = True
    plain = Scorer([sasrec]).scores(HISTORIES, USERS)
    scorer = Scorer([sasrec], catalogue, torch.tensor([[4, 2]]))
    scores = scorer.scores(HISTORIES, USERS)
    assert torch.equal(scores[1:][:, catalogue], plain[1:][:, catalogue])
    assert torch.isneginf(scores[:, ~catalogue]).all()
    raw = scorer.untrained_raw().scores(HISTORIES, USERS)
    assert torch.isneginf(raw[0, 2])
    assert torch.equal(raw[1:], plain[1:])


def test_an_ensemble_scores_with_the_mean(small, coloured):
    models = [small.random_model(coloured, seed=seed) for seed in range(3)]
    each = [Scorer([m]).scores(HISTORIES, USERS) for m in models]
    torch.testing.assert_close(Scorer(models).scores(HISTORIES, USERS), sum(each) / 3)
    with pytest.raises(CheckpointError, match="3"):
        _ = Scorer(models).model


def test_scores_are_those_of_the_last_position(model):
    scores = Scorer([model]).scores(HISTORIES, USERS)
    state = model.hidden(model.prediction_inputs(HISTORIES))[:, -1]
    torch.testing.assert_close(scores, state @ model.output_weight.T)
    assert scores.shape == (3, model.num_items + 1)


def test_a_scorer_is_always_in_eval_mode(model):
    model.train()
    assert torch.equal(Scorer([model]).scores(HISTORIES, USERS), Scorer([model]).scores(HISTORIES, USERS))


def test_a_clone_has_weights_of_its_own(model):
    before = [p.detach().clone() for p in model.parameters()]
    copy = clone_model(model)
    assert torch.equal(Scorer([copy]).scores(HISTORIES, USERS), Scorer([model]).scores(HISTORIES, USERS))
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_a_diverged_model_is_an_error(sasrec):
    with torch.no_grad():
        sasrec.embedding.weight[1] = math.nan
    with pytest.raises(CheckpointError, match="diverged"):
        Scorer([sasrec]).scores(HISTORIES, USERS)


def test_a_description_makes_a_model_of_the_same_kind(model):
    description = json.loads(json.dumps(model_description(model)))
    assert model_description(new_model(description)) == model_description(model)
