"""The drawing of the house shows the imports that there are."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from srun.errors import DataError

ROOT = Path(__file__).parents[1]
AGAIN = "draw it again: python scripts/house.py"


@pytest.fixture(scope="module")
def house() -> ModuleType:
    spec = importlib.util.spec_from_file_location("house", ROOT / "scripts/house.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["house"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def make_package(folder: Path, files: dict[str, str]) -> Path:
    """A package named srun with files of these texts; every folder is a package."""
    package = folder / "srun"
    for name, text in files.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        for parent in (package, path.parent):
            (parent / "__init__.py").touch()
        path.write_text(text)
    return package


def test_the_drawing_in_docs_shows_the_present_imports(house: ModuleType) -> None:
    drawn = house.read_imports(ROOT / "docs/house.svg")
    assert drawn == house.measure(ROOT / "src/srun").imports, AGAIN


def test_the_drawing_shows_every_room_and_its_words(house: ModuleType, tmp_path: Path) -> None:
    house.main(["--out", str(tmp_path / "house.svg")])
    text = (tmp_path / "house.svg").read_text()
    for room, words in house.WORDS.items():
        assert f">{room}/<" in text
        assert f">{words}<" in text
    house.main(["--out", str(tmp_path / "again.svg")])
    assert (tmp_path / "again.svg").read_text() == text
    house.main(["--out", str(tmp_path / "house.png")])
    assert (tmp_path / "house.png").read_bytes().startswith(b"\x89PNG")


def test_imports_are_counted_once_a_pair_of_modules(house: ModuleType, tmp_path: Path) -> None:
    package = make_package(
        tmp_path,
        {
            "data/raw.py": "from srun.errors import A\nfrom srun.errors import B\n",
            "flow/train.py": "def f():\n    from srun.data import raw\n    from srun.data.raw import C\n",
            "flow/plan.py": "import json\nimport srun.data.raw\nfrom srun.flow import train\n",
            "system/devices.py": "from srun import errors\n",
            "errors.py": "",
        },
    )
    measured = house.measure(package)
    assert measured.imports == {"data": {"ground": 1}, "flow": {"data": 2}, "ground": {}}
    assert measured.lines == {"data": 2, "flow": 6, "ground": 1}
    assert measured.arrows == {("flow", "data"): 2}


def test_arrows_that_a_longer_way_implies_are_left_out(house: ModuleType) -> None:
    arrows = {("a", "b"): 1, ("b", "c"): 1, ("a", "c"): 9, ("a", "d"): 1}
    assert house.direct(arrows) == [("a", "b"), ("a", "d"), ("b", "c")]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("data/raw.py", "from srun.flow.train import A", "data imports flow, which stands above it"),
        ("attic/box.py", "", "attic: no place in FLOORS"),
    ],
)
def test_what_does_not_fit_the_house_is_refused(
    house: ModuleType, tmp_path: Path, file: str, text: str, message: str
) -> None:
    package = make_package(tmp_path, {"flow/train.py": "A = 1", file: text})
    with pytest.raises(DataError, match=re.escape(message)):
        house.check(house.measure(package))


def test_another_picture_is_refused(house: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "other.svg").write_text("<svg/>")
    with pytest.raises(DataError, match="no drawing of"):
        house.read_imports(tmp_path / "other.svg")
