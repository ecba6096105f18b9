"""Whatever a served model is asked has an answer that fits it, or is refused in one line."""

import json
import random
import warnings
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from srun.errors import DataError, SrunError
from srun.models.published import publish
from srun.models.scorer import Scorer
from srun.service.recommender import Recommender, parse_history

COUNT = 400
ODD = [
    "",
    " ",
    "no such item",
    "i1 ",
    "I1",
    "i\u2028",
    "\x00",
    "\x1b[31m",
    "\ud800",
    "x" * 5000,
    "1e9",
    "nan",
    '"',
    ",",
]
VALUES = [None, 1, -1, 1.5, float("nan"), True, [], ["i1"], {"i1": 1}, b"i1"]
NUMBERS = [None, 1, 3, 8, 0, -1, 10**30, 1.5, float("nan"), float("inf"), "3", "x", "", True, [3], {}]
LETTERS = 'i123,,"" \\\n\t\x1b\u2028é'


@pytest.fixture(scope="module")
def served(small, coloured, tmp_path_factory):
    """A published model as MLflow serves it."""
    folder = tmp_path_factory.mktemp("served") / "m"
    about = {"stage": "train", "cost": {}, "threads": 1, "device": "cpu", "best_epoch": [1], "seed": 0, "shards": 1}
    about |= {"fingerprint": "f", "prepare": {"seed": 0}, "train": {"batch_size": 4}}
    publish(folder, Scorer([small.random_model(coloured)]), about, [{"epoch": 1.0}], coloured.items)
    with warnings.catch_warnings():  # MLflow's own, when it is loaded
        warnings.simplefilter("ignore")
        from srun.service.mlflow_model import ServedRecommender
    model = ServedRecommender()
    model.load_context(SimpleNamespace(artifacts={"model": str(folder)}))
    return model


def check_answers(recommender: Recommender, histories: list[list[str]], answers: list[dict], k: int) -> None:
    known = set(recommender.item_ids)
    assert len(answers) == len(histories)
    for history, answer in zip(histories, answers, strict=True):
        assert len(answer["item_ids"]) == len(answer["scores"]) <= k
        assert set(answer["item_ids"]) <= known - set(history)
        assert set(answer["unknown"]) == set(history) - known
        assert answer["scores"] == sorted(answer["scores"], reverse=True)
        assert bool(answer["item_ids"]) == (bool(known & set(history)) and not known <= set(history))


def request_of(rng: random.Random, known: list[str]) -> tuple[list, dict]:
    """Histories, mostly lists of ids, and the parameters beside them."""
    histories = []
    for _ in range(rng.randrange(4)):
        length = rng.choice([0, 1, 3, 300])
        history = [rng.choice(known if rng.random() < 0.7 else ODD) for _ in range(length)]
        if rng.random() < 0.2:
            history.append(rng.choice(VALUES))
        histories.append(rng.choice(VALUES) if rng.random() < 0.1 else history)
    return histories, {} if rng.random() < 0.3 else {"k": rng.choice(NUMBERS[:4] if rng.random() < 0.6 else NUMBERS)}


@pytest.mark.fuzz("served-requests")
def test_whatever_a_served_model_is_asked_is_answered_or_refused_in_one_line(served, fuzz) -> None:
    recommender = served.recommender
    known = list(recommender.item_ids)

    def case(number: int, folder: Path) -> str:
        rng = random.Random(number)
        histories, params = request_of(rng, known)
        (folder / "request.txt").write_text(ascii((histories, params)))
        column = "history" if rng.random() < 0.95 else "story"
        try:
            frame = served.predict(None, pd.DataFrame({column: pd.Series(histories, dtype=object)}), params)
        except SrunError as error:
            return fuzz.refused(error, folder)
        check_answers(
            recommender,
            [list(map(str, history)) for history in histories],
            frame.to_dict("records"),
            params.get("k") or 10,
        )
        json.dumps(frame.to_dict("records"))
        return "answered"

    outcomes = fuzz.run(COUNT, case)
    assert min(outcomes["refused"], outcomes["answered"]) > outcomes.total() / 10, outcomes


@pytest.mark.fuzz("histories")
def test_whatever_is_typed_as_a_history_is_read_or_refused_in_one_line(served, fuzz) -> None:
    def case(number: int, folder: Path) -> str:
        rng = random.Random(number)
        text = "".join(rng.choice(LETTERS) for _ in range(rng.randrange(12)))
        (folder / "history.txt").write_text(ascii(text))
        try:
            history = parse_history(text)
        except SrunError as error:
            return fuzz.refused(error, folder)
        [answer] = served.recommender.recommend([history], 3)
        check_answers(served.recommender, [history], [vars(answer)], 3)
        return "read"

    outcomes = fuzz.run(COUNT, case)
    assert min(outcomes["refused"], outcomes["read"]) > outcomes.total() / 20, outcomes


@pytest.mark.parametrize(
    ("rows", "params", "told"),
    [
        ({"story": [["i1"]]}, {}, 'no column "history"'),
        ({"history": [["i1"], None]}, {}, "history 2: expected a list of item ids, found NoneType"),
        ({"history": ["i1"]}, {}, "history 1: expected a list of item ids, found str"),
        ({"history": [["i1", 1.5]]}, {}, "history 1: expected item ids as text, found float among them"),
        ({"history": [["i1"]]}, {"k": "3"}, "k is str; expected a whole number"),
        ({"history": [["i1"]]}, {"k": 1.5}, "k is float; expected a whole number"),
        ({"history": [["i1"]]}, {"k": 0}, "k is 0; expected 1 to"),
    ],
)
def test_what_a_served_model_cannot_answer_is_told(served, rows, params, told) -> None:
    with pytest.raises(DataError, match=told):
        served.predict(None, pd.DataFrame(rows), params)


def test_no_history_has_no_answer_and_a_number_is_an_id(served) -> None:
    assert list(served.predict(None, pd.DataFrame({"history": []})).columns) == ["item_ids", "scores", "unknown"]
    [answer] = served.predict(None, pd.DataFrame({"history": [["i1", 7]]})).to_dict("records")
    assert answer["unknown"] == ["7"]
