"""Raw user ids are planted in a log, a whole flow runs with tracking, and every file outside data/ is searched."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from click.testing import CliRunner, Result
from ruamel.yaml import YAML
from safetensors.numpy import load_file

from srun.cli import cli
from srun.data.raw import read_info
from srun.models.published import load_published

PLANTED = "planted-user"
TITLE = "Planted Title"
METHODS = {
    "interactions": ("retrain", "sruga", "output_mask"),
    "people": ("retrain",),
    "given": ("original", "output_mask"),
    "named": ("retrain", "attribution", "output_mask"),
    "everybody": ("retrain", "output_mask"),
}
CELLS = {
    f"{request}-{method}": {"request": request, "original": "sasrec-0", "method": method, "seed": 0}
    for request, methods in METHODS.items()
    for method in methods
}


def user(number: int) -> str:
    return f"{PLANTED}-{number:02d}-7f3a"


def ok(*words: str) -> Result:
    result = CliRunner().invoke(cli, list(words))
    assert result.exit_code == 0, result.output
    return result


def write_planted(project: Path) -> None:
    """The log, the item table, and the preset, which lies under data/ because a file in it is named for a user."""
    rng = np.random.default_rng(0)
    lines = ["user,item,time"]
    for number in range(60):
        item = int(rng.integers(30))
        for time in range(int(rng.integers(6, 14))):
            lines.append(f"{user(number)},i{item},{1000 + time}")
            item = (item * 3 + 1 + int(rng.integers(2))) % 30
    (project / "data/planted").mkdir(parents=True)
    (project / "data/planted/log.csv").write_text("\n".join(lines) + "\n")
    items = ["item,title,categories", *(f"i{item},{TITLE} {item},{('red', 'green')[item % 2]}" for item in range(30))]
    (project / "data/planted/items.csv").write_text("\n".join(items) + "\n")
    category = {"kind": "category", "categories": ["red"], "context": "retained", "catalogue": "retained", "seed": 0}
    whole_users = {"kind": "users", "share_of_users": 0.2, "catalogue": "full", "seed": 0}
    preset = YAML(typ="safe").load((project / "tiny.yaml").read_text())
    preset["data"]["name"] = "planted"
    mine = "\n".join(["user_id,item_id", *(",".join(line.split(",")[:2]) for line in lines[1:200:4])])
    (project / f"data/planted/{user(0)}.csv").write_text(mine + "\n")
    named = "\n".join(["user", *(user(number) for number in range(30))])
    (project / "data/planted/named.csv").write_text(named + "\n")
    of_file = {"format": None, "columns": None, "catalogue": "full", "seed": 0}
    preset["partition"] |= {
        "people": whole_users,
        "given": {"kind": "interactions", "file": f"data/planted/{user(0)}.csv", **of_file},
        "named": {**category, "users": "data/planted/named.csv"},
        "everybody": {**category, "users": None},
    }
    preset["unlearn"]["sruga"] |= {"ascent": "ga"}
    preset["train"] |= {"max_epochs": 2}
    preset["evaluate"] |= {"sampled": False}
    preset["relearning"] = {"kinds": []}
    preset["runtime"]["tracking"] = True
    preset["requests"], preset["cells"] = list(METHODS), CELLS
    YAML().dump(preset, project / "data/planted/preset.yaml")


def texts(path: Path) -> Iterator[tuple[str, bytes]]:
    """What is in a file, also where it is compressed: as it lies there, members of archives, columns of tables."""
    data = path.read_bytes()
    yield str(path), data
    if path.suffix == ".parquet":
        table = pyarrow.parquet.read_table(path)
        yield f"{path}, decompressed", json.dumps(table.to_pydict(), default=str).encode()
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                yield f"{path}: {name}", archive.read(name)


def holding(project: Path, words: str) -> list[str]:
    """The files outside data/ that hold some words."""
    files = [path for path in sorted(project.rglob("*")) if path.is_file()]
    outside = [path for path in files if path.relative_to(project).parts[0] != "data"]
    assert {"mlflow.db"} <= {path.name for path in outside}, "the store is among them"
    assert any(path.suffix == ".parquet" for path in outside)
    return [place for path in outside for place, data in texts(path) if words.encode() in data]


@pytest.mark.slow
def test_no_raw_user_id_leaves_the_data(project: Path) -> None:
    import mlflow

    write_planted(project)
    preset = ["--params", "data/planted/preset.yaml"]
    log, items = "data/planted/log.csv", "data/planted/items.csv"
    ok("data", "import", log, "--name", "planted", "--items", items)
    ok("run", *preset)
    story = ok("explain", user(3), "--request", "interactions", *preset).output
    assert TITLE in story, "the terminal of who asks shows it"
    given = "partition.named.users=data/planted/named.csv"
    ok("optimize", "--trials", "2", *preset, "--set", given)
    ok("optimize", "apply", "--trial", "0", *preset)
    assert holding(project, PLANTED) == []
    assert holding(project, TITLE), "the search finds what is there: titles are in the models' item tables"

    for page in project.glob("reports/**/*.html"):
        assert TITLE not in page.read_text(), "nobody's history is on a page"
    given_away = artifacts(project)
    assert given_away, "models are given to the tracker"
    for folder in given_away:
        tensors = load_file(folder / "weights.safetensors")
        assert "masked" not in tensors or set(tensors["masked"][:, 0].tolist()) == {-1}, "that tells who forgot what"
        assert not (folder / "parts.safetensors").exists()
    mlflow.set_tracking_uri(f"sqlite:///{project}/mlflow.db")
    client = mlflow.MlflowClient()
    aliases = client.get_registered_model("srun-planted-sasrec-0").aliases
    assert "everybody-output_mask-0" in aliases
    assert "interactions-pareto-sasrec-0-interactions-sruga-pareto-trial-0" in aliases, "studies share no alias"
    assert not {f"{name}-output_mask-0" for name in ("interactions", "given", "named")} & set(aliases)
    kept = load_file(project / "models/sasrec-0/interactions/output_mask-0/weights.safetensors")
    assert (kept["masked"][:, 0] >= 0).all(), "the model's own folder keeps the mask"


def artifacts(project: Path) -> list[Path]:
    """The model folders that the tracker was given."""
    return [path.parent for path in (project / "mlartifacts").rglob("weights.safetensors")]


def test_shards_of_users_stay_in_the_models_own_folder(project: Path) -> None:
    write_planted(project)
    preset = ["--params", "data/planted/preset.yaml"]
    ok("data", "import", "data/planted/log.csv", "--name", "planted")
    ok("prepare", *preset)
    shards = "originals.cut={model: sasrec, seed: 0, shards: {number: 2, by: random, slices: 2}}"
    ok("train", "--original", "cut", *preset, "--set", shards)
    assert (project / "models/cut/original/parts.safetensors").is_file()
    assert artifacts(project)
    assert not list((project / "mlartifacts").rglob("parts.safetensors"))
    for folder in artifacts(project):
        load_published(folder)


def test_two_data_sets_in_one_store_do_not_move_each_others_aliases(project: Path) -> None:
    import mlflow

    (project / "data/other").mkdir(parents=True)
    text = (project / "log.csv").read_text()
    (project / "data/other/log.csv").write_text(text + "u000,i1,2000\n")
    preset = ["--params", "tiny.yaml", "--set", "runtime.tracking=true", "--set", "train.max_epochs=2"]
    versions = {}
    for name, log in (("tiny", "log.csv"), ("other", "data/other/log.csv")):
        ok("data", "import", log, "--name", name)
        for words in (["prepare"], ["partition"], ["train"], ["unlearn", "--method", "original"]):
            ok(*words, *preset, "--set", f"data.name={name}")
        mlflow.set_tracking_uri(f"sqlite:///{project}/mlflow.db")
        client = mlflow.MlflowClient()
        for alias in ("original", "interactions-original-0"):
            versions[name, alias] = client.get_model_version_by_alias(f"srun-{name}-sasrec-0", alias)
    for (name, alias), before in versions.items():
        after = client.get_model_version_by_alias(f"srun-{name}-sasrec-0", alias)
        assert (after.version, after.run_id) == (before.version, before.run_id)
        info = read_info(project / "data/raw" / name)
        assert after.tags == {
            "srun.data": name,
            "srun.fingerprint": info["fingerprint"],
            "srun.original": "sasrec-0",
            "srun.method": "original",
            "srun.request": "interactions" if alias.startswith("interactions") else "none: trained before any",
            "srun.seed": "0",
        }
        assert f'data set "{name}"' in after.description
    assert len({version.tags["srun.fingerprint"] for version in versions.values()}) == 2
    assert [model.name for model in client.search_registered_models()] == [
        "srun-other-sasrec-0",
        "srun-tiny-sasrec-0",
    ]
