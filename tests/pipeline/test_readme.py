"""README's path for data and requests of one's own, as printed, on logs of two forms that it does not name."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from srun.cli import cli

ROOT = Path(__file__).parents[2]
SECTIONS = ("### Your own data", "### One request, compared over methods")


def commands() -> list[str]:
    """The lines of the two sections' shell blocks, without comments."""
    text = (ROOT / "README.md").read_text()
    blocks = [re.search(rf"{re.escape(title)}\n.*?```sh\n(.*?)```", text, re.DOTALL) for title in SECTIONS]
    lines = [line for block in blocks if block for line in block[1].splitlines()]
    return [line.split("  #")[0].strip() for line in lines]


def write_csv(project: Path) -> None:
    """Numbers as ids, ISO times with fractions; requests with the headers of the log."""
    log = events().assign(
        clicked_at=lambda t: pd.to_datetime(t["clicked_at"], unit="ms").dt.strftime("%Y-%m-%dT%H:%M:%S.%f")
    )
    log.to_csv(project / "clicks.csv", index=False)
    log.iloc[2:200:5].to_csv(project / "requests.csv", index=False)


def write_semicolons(project: Path) -> None:
    """Text as ids, milliseconds; a request of whole users."""
    log = events().assign(
        customer=lambda t: "c-" + t["customer"].astype(str), sku=lambda t: "s-" + t["sku"].astype(str)
    )
    log.to_csv(project / "clicks.csv", index=False, sep=";")
    log[["customer"]].drop_duplicates().iloc[5:40].to_csv(project / "requests.csv", index=False)


def events() -> pd.DataFrame:
    rng, rows = np.random.default_rng(1), []
    for customer in range(80):
        sku = int(rng.integers(40))
        for step in range(int(rng.integers(8, 16))):
            rows.append((customer, sku, 1_700_000_000_000 + customer * 1000 + step * 250))
            sku = (sku * 3 + 1 + int(rng.integers(2))) % 40
    return pd.DataFrame(rows, columns=["customer", "sku", "clicked_at"])


def cut_down(project: Path) -> None:
    """The project's own params.yaml, with models that train in a second."""
    yaml = YAML()
    params = yaml.load((project / "params.yaml").read_text())
    params["model"]["sasrec"] |= {"hidden": 8, "blocks": 1}
    params["train"] |= {"max_epochs": 2, "evaluate_every": 1, "patience": 2, "batch_size": 64}
    params["unlearn"]["sruga"] |= {"max_steps": 10}
    params["cells"] = {name: cell for name, cell in params["cells"].items() if cell["original"] == "sasrec-0"}
    params["audits"] = [name for name in params["audits"] if name in params["cells"]]
    params["originals"] = {name: params["originals"][name] for name in ("sasrec-0", "sasrec-2")}
    yaml.dump(params, project / "params.yaml")


@pytest.mark.slow
@pytest.mark.parametrize("write", [write_csv, write_semicolons])
def test_the_steps_follow_from_each_other_as_printed(project: Path, write) -> None:
    cut_down(project)
    write(project)
    items = pd.DataFrame({"sku": range(40), "title": "a thing", "categories": "red|blue"})
    items["sku"] = ("s-" if write is write_semicolons else "") + items["sku"].astype(str)
    items.to_csv(project / "products.csv", index=False)
    lines, served, posted = commands(), [], []
    assert sum(line.startswith("srun ") for line in lines) == 4
    for line in lines:
        words = shlex.split(line.removesuffix("\\"))
        if words[0] == "echo":
            (project / words[-1]).write_text(words[1] + "\n")
        elif words[0] in ("curl", "127.0.0.1:5000/invocations"):
            posted.append(line)
        elif words[0] == "mlflow":
            served.append(re.search(r"models:/([^@]+)@(\S+?)\"", line).groups())
        else:
            result = CliRunner().invoke(cli, words[1:])
            assert result.exit_code == 0, f"{line}\n{result.output}"
    page = project / "out/shop/reports/requests/may/index.html"
    assert page.is_file()
    rows = json.loads((project / "out/shop/data/partition/may/info.json").read_text())["rows"]
    assert rows["forgotten"] > 20
    assert rows["unknown_user"] == rows["unknown_item"] == rows["no_such_event"] == 0
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{project}/mlflow.db")
    [(name, alias)], [said, _] = served, posted
    assert list(json.loads(shlex.split(said.removesuffix("\\"))[2])["dataframe_records"][0]) == ["history"]
    version = mlflow.MlflowClient().get_model_version_by_alias(name, alias)
    answer = mlflow.pyfunc.load_model(version.source).predict(pd.DataFrame({"history": [[str(items["sku"][3])]]}))
    assert len(answer["item_ids"][0]) == 10
