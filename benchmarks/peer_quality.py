"""RecBole's SASRec with full cross-entropy, trained until its validation stops rising: peer_quality.json.

Run it with the Python of an environment that has RecBole 1.2.1 (the benchmark kit's ``rb``):

    $PEER_WORK/rb/bin/python benchmarks/peer_quality.py sequences.txt.gz --length 50 --budget 3600

The last item of a user is for test, the one before for validation. RecBole's own evaluator, which leaves the history in
the catalogue, says when to stop; test items are ranked as ours are, in the whole catalogue without the history. Written
after every validation, so that a run cut off by its budget leaves its curve.
"""

import argparse
import contextlib
import gzip
import importlib.util
import json
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

EVERY = 2
"""Epochs between two validations."""


def load(path: Path) -> list[list[str]]:
    """Sequences of items by user, from lines "user item item ..."."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        return [line.split()[1:] for line in file]


def build(sequences: list[list[str]], options: argparse.Namespace, folder: Path) -> tuple[Any, Any, Any]:
    """RecBole's trainer, training and validation data."""
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_seed

    (folder / "d").mkdir()
    with (folder / "d/d.inter").open("w") as file:
        file.write("user_id:token\titem_id:token\ttimestamp:float\n")
        for user, items in enumerate(sequences, 1):
            file.writelines(f"{user}\t{item}\t{place}\n" for place, item in enumerate(items))
    settings = {
        **{"data_path": str(folder), "checkpoint_dir": str(folder), "use_gpu": False, "show_progress": False},
        **{"seed": 0, "load_col": {"inter": ["user_id", "item_id", "timestamp"]}},
        **{"MAX_ITEM_LIST_LENGTH": options.length, "train_batch_size": options.batch, "eval_batch_size": 256},
        **{"train_neg_sample_args": None, "loss_type": "CE"},
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
        **{"metrics": ["NDCG", "Hit"], "topk": [10], "valid_metric": "NDCG@10", "learning_rate": 1e-3},
        **{"hidden_size": 64, "inner_size": 64, "n_layers": 2, "n_heads": 1},
        **{"hidden_dropout_prob": options.dropout, "attn_dropout_prob": options.dropout},
    }
    sys.argv = sys.argv[:1]  # RecBole reads it too
    config = Config(model="SASRec", dataset="d", config_dict=settings)
    logging.disable(logging.CRITICAL)
    init_seed(0, True)
    data = create_dataset(config)
    train, valid, _ = data_preparation(config, data)
    torch.autograd.set_detect_anomaly(False)  # RecBole turns it on at import, for every sequential model
    model = get_model("SASRec")(config, train._dataset)
    return get_trainer(config["MODEL_TYPE"], "SASRec")(config, model), train, valid


def rank(model: Any, data: Any, sequences: list[list[str]], length: int) -> Tensor:
    """Ranks (U,) of every user's last item in the whole catalogue, without the items before it."""
    from recbole.data.interaction import Interaction

    model.eval()
    known = [torch.from_numpy(data.token2id("item_id", items)) for items in sequences]
    ranks = []
    for start in range(0, len(known), 256):
        part = known[start : start + 256]
        inputs = torch.zeros(len(part), length, dtype=torch.long)
        for row, items in enumerate(part):
            recent = items[:-1][-length:]
            inputs[row, : len(recent)] = recent
        lengths = (inputs != 0).sum(1)
        with torch.no_grad():
            scores = model.full_sort_predict(Interaction({"item_id_list": inputs, "item_length": lengths}))
        targets = torch.stack([items[-1] for items in part])
        own = scores.gather(1, targets[:, None])
        for row, items in enumerate(part):
            scores[row, items] = float("-inf")
        scores[:, 0] = float("-inf")
        ranks.append(1 + (scores > own).sum(1))
    return torch.cat(ranks)


def tested(model: Any, data: Any, sequences: list[list[str]], length: int) -> dict[str, float]:
    """Figures of the test items."""
    ranks = rank(model, data, sequences, length).double()
    top = ranks <= 10
    figures = {"test/ndcg_10": (top / (ranks + 1).log2()).mean(), "test/recall_10": top.double().mean()}
    return {name: round(value.item(), 5) for name, value in figures.items()}


def follow(sequences: list[list[str]], options: argparse.Namespace, out: Path, folder: Path) -> None:
    """Train until validation stops rising or the budget is spent; the record is written at each validation."""
    trainer, train, valid = build(sequences, options, folder)
    began, epoch, ended = time.monotonic(), 0, "budget"
    curve: list[tuple[int, float]] = []
    best, best_epoch, figures = -1.0, 0, {}
    while time.monotonic() - began < options.budget and ended == "budget":
        trainer._train_epoch(train, epoch)
        epoch += 1
        if epoch % EVERY:
            continue
        figure = float(trainer.evaluate(valid, load_best_model=False)["ndcg@10"])
        curve.append((epoch, round(figure, 5)))
        if figure > best:
            best, best_epoch = figure, epoch
            figures = tested(trainer.model, train._dataset, sequences, options.length)
        elif epoch - best_epoch >= EVERY * options.patience:
            ended = "patience"
        record = {
            **{"peer": "RecBole 1.2.1 SASRec, full cross-entropy, anomaly checks off", "seed": 0},
            **{"length": options.length, "batch": options.batch, "dropout": options.dropout},
            **{"best_epoch": best_epoch, "ended": ended, **figures},
            **{"minutes": round((time.monotonic() - began) / 60, 1), "curve": curve},
        }
        out.write_text(json.dumps(record, indent=1) + "\n")
        print(epoch, figure, record["test/ndcg_10"], record["minutes"], flush=True)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--length", type=int, default=50)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--dropout", type=float, default=0.5)
    parser.add_argument("--patience", type=int, default=5, help="validations, one every two epochs")
    parser.add_argument("--budget", type=float, default=3600, help="seconds")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("peer_quality.json"), help="file to write")
    options = parser.parse_args(words)
    if importlib.util.find_spec("recbole") is None:
        raise SystemExit(f"no RecBole for {sys.executable}: run this with a Python that has it, see --help")
    torch.set_num_threads(1)
    sequences, out = load(options.data), options.out.resolve()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # RecBole writes logs where it is
        follow(sequences, options, out, Path(folder))


if __name__ == "__main__":
    main()
