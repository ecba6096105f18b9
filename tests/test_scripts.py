"""Every script outside src and tests runs its main path on tiny data, and writes only where it is told."""

import csv
import gzip
import importlib
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML

from srun.config import merge, read_yaml
from srun.data.raw import write_raw
from srun.flow.optimize import optimize, study_name
from srun.flow.params import FREE, REPLACED, load_values
from srun.flow.project import Project
from srun.flow.stages import crossfit_step, partition_step, plan, prepare_step, take, train_step
from srun.training.checkpoint import ResumeFolder

ROOT = Path(__file__).parents[1]
RESULTS = ("benchmarks", "docs", "presets", "reports")
"""Folders whose files are in git."""
APART = {
    "scripts/gpu_check.py": "tests/test_gpu_check.py",
    "scripts/house.py": "tests/test_house.py",
    "scripts/readme_table.py": "tests/test_readme_table.py",
}
"""Scripts whose tests have a file of their own."""
TINY_TRAINING = ("train.max_epochs=2", "train.evaluate_every=1", "train.patience=2", "train.batch_size=64")
SETS = tuple(word for text in (*TINY_TRAINING, "model.sasrec.hidden=8") for word in ("--set", text))


@dataclass
class Scene:
    """Where a script is run: a folder of its own, with logs for the benchmarks."""

    path: Path
    patch: pytest.MonkeyPatch
    capture: pytest.CaptureFixture[str]
    request: pytest.FixtureRequest

    def module(self, script: str) -> ModuleType:
        """A script as a module; it finds what stands beside it, as when Python runs it."""
        file = ROOT / script
        self.patch.syspath_prepend(file.parent)
        return importlib.import_module(file.stem)

    def run(self, script: str, *words: object) -> str:
        """Run a script with words of a command line; returns what it prints."""
        self.module(script).main([str(word) for word in words])
        return self.capture.readouterr().out

    @property
    def lab(self) -> Path:
        """Be in a project with models, evaluations and a study."""
        folder: Path = self.request.getfixturevalue("lab")
        self.patch.chdir(folder)
        return folder


SMOKED: dict[str, Callable[[Scene], None]] = {}


def smokes(script: str) -> Callable[[Callable[[Scene], None]], Callable[[Scene], None]]:
    """Enter a function as the smoke test of a script."""

    def enter(test: Callable[[Scene], None]) -> Callable[[Scene], None]:
        SMOKED[script] = test
        return test

    return enter


@pytest.fixture
def scene(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> Iterator[Scene]:
    before = result_files()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    yield Scene(tmp_path, monkeypatch, capsys, request)
    assert result_files() == before, "a script wrote into the checkout"


def result_files() -> dict[Path, int]:
    """When each result file was written, and what lies at the top of the checkout."""
    files = [file for folder in RESULTS for file in (ROOT / folder).rglob("*") if "__pycache__" not in file.parts]
    top = [file for file in ROOT.iterdir() if not file.name.startswith(".")]
    return {file: file.stat().st_mtime_ns for file in files if file.is_file()} | dict.fromkeys(top, 0)


def write_kit(scene: Scene, small: Any) -> None:
    """Logs where the benchmarks look for them: Beauty's as sequences, others as raw data."""
    events = small.random_events(60, 30, low=8)
    sequences: dict[str, list[str]] = {}
    for user, item, _ in events:
        sequences.setdefault(user, []).append(item[1:])
    kit = scene.path / "kit/amazon-beauty-5core/sequences.txt.gz"
    kit.parent.mkdir(parents=True)
    with gzip.open(kit, "wt") as file:
        file.writelines(f"{user} {' '.join(items)}\n" for user, items in sequences.items())
    for name in ("beauty-5core", "ml-1m"):
        raw = small.make_raw(events)
        write_raw(scene.path / "data/raw" / name, replace(raw, name=name, info={**raw.info, "name": name}))


@smokes("benchmarks/attribution.py")
def attribution(scene: Scene) -> None:
    printed = scene.run("benchmarks/attribution.py", "--sequences", 4, "--loop", 1)
    assert "| captum, one sequence at a time |" in printed


@smokes("benchmarks/base_models.py")
def base_models(scene: Scene) -> None:
    words = ["--project", scene.path, "--out", scene.path, *SETS]
    scene.run("benchmarks/base_models.py", "beauty-sasrec", "--originals", "sasrec-0", *words)

    class CutOffError(Exception): ...

    def save(folder: ResumeFolder, *state: Any) -> None:
        saved(folder, *state)
        raise CutOffError

    saved = ResumeFolder.save
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ResumeFolder, "save", save)
        with pytest.raises(CutOffError):
            scene.run("benchmarks/base_models.py", "beauty-sasrec", "--originals", "sasrec-1", *words)
    scene.run("benchmarks/base_models.py", *words)
    done, cut = json.loads((scene.path / "base_models.json").read_text())
    assert (done["original"], done["finished"], len(done["curve"])) == ("sasrec-0", True, 2)
    assert (cut["original"], cut["finished"], len(cut["curve"])) == ("sasrec-1", False, 1)
    assert 0 < cut["test/ndcg_10"] < 1
    assert "(cut off after 1 epochs)" in (scene.path / "base_models.md").read_text()
    assert (scene.path / "base_models.png").is_file()


@smokes("benchmarks/by_event_table.py")
def by_event_table(scene: Scene) -> None:
    page, copy = ROOT / "docs/sruga.md", scene.path / "page.md"
    copy.write_text(page.read_text())
    scene.run("benchmarks/by_event_table.py", "--page", copy)
    assert copy.read_text() == page.read_text(), "the page has the table of the record"


@smokes("benchmarks/by_event.py")
def by_event(scene: Scene) -> None:
    small = scene.request.getfixturevalue("small")
    raw = small.make_raw(small.random_events(80, 30, low=8))
    write_raw(scene.path / "data/raw/tiny", replace(raw, name="tiny", info={**raw.info, "name": "tiny"}))
    shutil.copy(ROOT / "params.yaml", scene.path)
    shutil.copytree(ROOT / "presets", scene.path / "presets")
    scene.patch.chdir(scene.path)
    sets = [
        "data.name=tiny",
        "prepare.filter=none",
        "runtime.tracking=false",
        "partition.interactions.share_of_users=0.5",
    ]
    tiny = [
        *sets,
        "model.sasrec.hidden=8",
        "prepare.calibration_events=0.5",
        "unlearn.sruga.max_steps=2",
        *TINY_TRAINING,
    ]
    project = Project.open(["presets/by-event.yaml"], tiny)
    take(project, plan(project), None)
    preset = scene.path / "tiny.yaml"
    preset.write_text("unlearn: {sruga: {max_steps: 2}}\nmodel: {sasrec: {hidden: 8}}\n")
    words = ["--out", scene.path, "--original", "sasrec-0", "--other", "sasrec-1", "--params", preset]
    file = scene.path / "by_event.json"
    for _ in range(2):
        scene.run("benchmarks/by_event.py", *words, "--only", "SRUGA", "closed form", "--json", file)
        rows = json.loads(file.read_text())
        assert [row["name"] for row in rows] == [
            *("Original", "retrain-100", "retrain-101", "retrain-102", "SRUGA", "closed form")
        ]
    assert rows[0]["memory_left"] == 1
    assert rows[4]["processor_seconds"] > 0
    assert {"recover_own", "recover_ridge", "recover_softmax_zero", "recover_softmax_input"} < set(rows[4])
    assert {"passes", "passes_by_pooled_rule", "ks_d_limit", "hit_10_gap_limit"} < set(rows[4])


def audited_flow(scene: Scene) -> list[object]:
    """Originals of three seeds and four Retrains on tiny data, as words of the scripts that audit the audit."""
    small = scene.request.getfixturevalue("small")
    raw = small.make_raw(small.random_events(80, 30, low=8))
    write_raw(scene.path / "data/raw/tiny", replace(raw, name="tiny", info={**raw.info, "name": "tiny"}))
    shutil.copy(ROOT / "params.yaml", scene.path)
    shutil.copytree(ROOT / "presets", scene.path / "presets")
    scene.patch.chdir(scene.path)
    rows = [(seed, "original", 0) for seed in (0, 1, 2)] + [(0, "retrain", seed) for seed in range(100, 104)]
    preset = {
        "requests": ["interactions"],
        "originals": {f"sasrec-{seed}": {"model": "sasrec", "seed": seed, "shards": 1} for seed in (0, 1, 2)},
        "cells": {
            f"{method}-{start}-{seed}": {
                "request": "interactions",
                "original": f"sasrec-{start}",
                "method": method,
                "seed": seed,
            }
            for start, method, seed in rows
        },
    }
    with (scene.path / "audited.yaml").open("w") as file:
        YAML().dump(preset, file)
    tiny = ["data.name=tiny", "prepare.filter=none", "runtime.tracking=false", "prepare.calibration_events=0.5"]
    shares = ["partition.interactions.share_of_users=0.5", "model.sasrec.hidden=8"]
    project = Project.open(["audited.yaml"], [*tiny, *shares, *TINY_TRAINING])
    take(project, plan(project), None)
    models = scene.path / "models"
    originals = [models / f"sasrec-{seed}/interactions/original-0" for seed in (0, 1, 2)]
    retrains = [models / f"sasrec-0/interactions/retrain-{seed}" for seed in range(100, 104)]
    words = ["--data", scene.path, "--request", "interactions", "--originals", *originals, "--retrains", *retrains]
    return [*words, "--most", 20]


@smokes("benchmarks/audit_audited.py")
def audit_audited(scene: Scene) -> None:
    words, file = audited_flow(scene), scene.path / "audited.json"
    words += ["--start", scene.path / "models/sasrec-0/original", "--mixed", 1, "--left-in", "--json", file]
    for _ in range(2):
        printed = scene.run("benchmarks/audit_audited.py", *words)
        rows = json.loads(file.read_text())
        assert {row["seed"] for row in rows} == {f"retrain-{seed}" for seed in range(100, 104)}
        assert len(rows) == 4 * 4 + 4 + 3 + 1 + 1 + 3 * 6, "all are judged once"
    subjects = {row["subject"] for row in rows}
    assert {"retrain", "original-2", "output mask", "one user left in", "users put back", "weights mixed"} < subjects
    [mask] = [row for row in rows if row["subject"] == "output mask"]
    assert set(mask["parts"]) == {"hits", "ranks", "file", "events", "membership"}
    assert "| tiny | z mixed | 1 |" in printed
    assert "tells 12 verdicts on Originals from 4 on Retrains" in " ".join(printed.split())


@smokes("benchmarks/faithfulness.py")
def faithfulness(scene: Scene) -> None:
    words, file = audited_flow(scene), scene.path / "faithfulness.json"
    words += ["--relearned", 1, "--steps", 1, "--windows", 8, "--json", file]
    for _ in range(2):
        printed = scene.run("benchmarks/faithfulness.py", *words)
        rows = json.loads(file.read_text())
        assert [(row["saw"], row["steps"]) for row in rows] == [
            *((True, 0), (False, 0), (False, 0), (False, 0), (False, 0)),
            *((True, 1), (False, 1)),
        ]
    assert rows[0]["figures"]["distance"] > 0
    assert rows[0]["figures"] != rows[5]["figures"]
    assert "AUC, 1 + 4 models" in printed
    assert {"memory_left", "membership lira", "recovered ridge", "contexts substituted_hit_10"} < set(
        rows[0]["figures"]
    )


@smokes("benchmarks/unlearning.py")
def unlearning(scene: Scene) -> None:
    small = scene.request.getfixturevalue("small")
    raw = small.make_raw(small.random_events(80, 30, low=8))
    write_raw(scene.path / "data/raw/tiny", replace(raw, name="tiny", info={**raw.info, "name": "tiny"}))
    shutil.copy(ROOT / "params.yaml", scene.path)
    shutil.copytree(ROOT / "presets", scene.path / "presets")
    scene.patch.chdir(scene.path)
    tiny = ["model.sasrec.hidden=8", "prepare.calibration_events=0.5", "unlearn.sruga.max_steps=2", *TINY_TRAINING]
    sets = [*tiny, "data.name=tiny", "prepare.filter=none", "runtime.tracking=false"]
    project = Project.open(["presets/by-event.yaml"], sets)
    take(project, [prepare_step(project), train_step(project, "sasrec-0"), crossfit_step(project, "sasrec-0")], None)
    file = scene.path / "unlearning.json"
    words = ["--out", scene.path, "--original", "sasrec-0", "--params", "presets/by-event.yaml", "--repeats", 1]
    words += [word for text in sets for word in ("--set", text)]
    for methods in (["closed_form"], ["closed_form", "sruga"]):
        scene.run("benchmarks/unlearning.py", *words, "--shares", 0, 0.5, "--methods", *methods, "--json", file)
    rows = {(row["method"], row["users"]): row for row in json.loads(file.read_text())}
    assert len(rows) == 6
    [one, many] = sorted({users for _, users in rows})
    assert one == 1 < many
    closed, retrain = rows["closed_form", many], rows["retrain", many]
    assert closed["ratio"] == pytest.approx(closed["retrain_seconds"] / closed["cold_seconds"], rel=0.02)
    assert retrain["ratio"] == retrain["flops_ratio"] == 1
    assert closed["flops"] > 0
    assert closed["prepared_seconds"] > 0
    assert closed["prepare_seconds"] > closed["table_seconds"] > 0
    assert closed["prepare_mb"] > 0
    assert rows["sruga", many]["prepared_seconds"] is None
    table = file.with_suffix(".md").read_text()
    assert table.count("| tiny | sasrec |") == 6


@smokes("benchmarks/large_catalogue.py")
def large_catalogue(scene: Scene) -> None:
    file = scene.path / "large.json"
    scene.run(
        "benchmarks/large_catalogue.py",
        "--sizes",
        40,
        13000,
        "--users",
        8,
        "--steps",
        1,
        "--repeats",
        1,
        "--json",
        file,
    )
    rows = {(row["items"], row["chunks"]): row for row in json.loads(file.read_text())}
    assert all(row["ns_per_score"] > 0 for row in rows.values())
    assert rows[40, "as it is"]["targets_of_a_chunk"] == rows[40, "as many scores"]["targets_of_a_chunk"]
    assert rows[13000, "as it is"]["targets_of_a_chunk"] == 256


@smokes("benchmarks/peer_quality.py")
def peer_quality(scene: Scene) -> None:
    module, kit = scene.module("benchmarks/peer_quality.py"), scene.path / "kit/amazon-beauty-5core/sequences.txt.gz"
    words = [kit, "--patience", 1, "--length", 5, "--out", scene.path / "peer.json"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(SystemExit, match="no RecBole"):
            scene.run("benchmarks/peer_quality.py", *words)

    class Peer:
        """Trainer, data and model of a RecBole in which validation rises for four epochs."""

        def __init__(self) -> None:
            self.model, self._dataset, self.epochs = self, self, 0

        def _train_epoch(self, train: "Peer", epoch: int) -> None:
            self.epochs += 1

        def evaluate(self, valid: "Peer", load_best_model: bool) -> dict[str, float]:
            return {"ndcg@10": min(self.epochs, 4) / 10}

        def token2id(self, field: str, items: list[str]) -> Any:
            return np.array(items, dtype=np.int64) + 1

        def eval(self) -> None: ...

        def full_sort_predict(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            return torch.arange(31.0).repeat(len(batch["item_length"]), 1)  # the higher the id, the better

    recbole = {name: ModuleType(name) for name in ("recbole", "recbole.data", "recbole.data.interaction")}
    recbole["recbole"].__spec__ = ModuleSpec("recbole", None)
    recbole["recbole.data.interaction"].Interaction = dict  # type: ignore[attr-defined]
    for name, fake in recbole.items():
        scene.patch.setitem(sys.modules, name, fake)
    scene.patch.setattr(module, "build", lambda *inputs: (Peer(),) * 3)
    scene.run("benchmarks/peer_quality.py", *words)
    record = json.loads((scene.path / "peer.json").read_text())
    assert record["curve"] == [[2, 0.2], [4, 0.4], [6, 0.4]]
    assert (record["best_epoch"], record["ended"]) == (4, "patience")
    ranks = []
    for line in gzip.decompress(kit.read_bytes()).decode().splitlines():
        *known, target = (int(item) for item in line.split()[1:])
        ranks.append(1 + len(set(range(target + 1, 30)) - set(known)))
    assert record["test/recall_10"] == round(np.mean([rank <= 10 for rank in ranks]), 5)


@smokes("benchmarks/quality.py")
def quality(scene: Scene) -> None:
    out = scene.path / "quality.json"
    words = ["--data", scene.path / "kit", "--project", scene.path, "--epochs", 1, "--out", out, *SETS]
    scene.module("benchmarks/quality.py")
    setting, is_lazy = sys.modules["engine"].Setting, []
    optimiser = setting.optimiser
    scene.patch.setattr(setting, "optimiser", lambda one: is_lazy.append(one.recipe.lazy_adam) or optimiser(one))
    scene.run("benchmarks/quality.py", *words)
    assert is_lazy == [False, True] * 3
    rows = json.loads(out.read_text())
    made = [(row["study"], row["on"], row["seed"]) for row in rows]
    switches = ("group_by_length", "lazy_adam")
    assert sorted(made) == [(switch, on, seed) for switch in switches for on in (False, True) for seed in range(3)]


@smokes("benchmarks/recipe.py")
def recipe(scene: Scene) -> None:
    out = scene.path / "recipe.json"
    words = ["--data", scene.path / "kit", "--seconds", 0.001, "--out", out]
    scene.run("benchmarks/recipe.py", *words)
    rows = json.loads(out.read_text())
    assert [row["batch_size"] for row in rows] == [256, 64, 64, 128]
    assert scene.run("benchmarks/recipe.py", *words) == "", "a candidate was trained again"


@smokes("benchmarks/run.py")
def run(scene: Scene) -> None:
    """Every kind of row in this process; through the Makefile, beside a peer, two of them."""
    module, out = scene.module("benchmarks/run.py"), scene.path / "out"
    engine = sys.modules["engine"]
    logs = engine.Logs(scene.path / "kit", scene.path / "data/raw")
    for key in ("ce-50", "bert-50", "gru-50", "rank-10"):
        work = sys.modules["works"].WORKS[key]
        assert module.measure(work, logs, 0.001, 1.0)[work.unit] > 0, key

    peers = scene.path / "peers"
    peers.mkdir()
    line = {"peer": "RecTools", "model": "sasrec", "loss": "BCE", "rss_mb": 1.0, "NDCG10_m": 0.01, "train_s": 5.0}
    line["slices"] = [{"rate": 2.0, "cpu_rate": 1.0}]
    (peers / "run.sh").write_text(f"test -f $1 && echo '{json.dumps(line)}' > $OUT\n")
    words = f"--peers {peers} --data {scene.path / 'kit'} --raw {scene.path / 'data/raw'} --out {out} --seconds 0.01"
    command = [
        "make",
        "-n",
        "--no-print-directory",
        "-o",
        ".venv/ready",
        "bench",
        f"BENCH={words} --only ndcg-10 ml1m-50",
    ]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    made = printed.replace("python", sys.executable, 1)
    done = subprocess.run(made, shell=True, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = {row["work"]: row for row in json.loads((out / "results.json").read_text())}
    assert rows["SASRec BCE, ml-1m, L=50"]["ratio"] == rows["SASRec BCE, ml-1m, L=50"]["ours"] / 2
    assert rows["NDCG@10 0.0100, amazon-beauty-5core, L=10"]["ratio"] > 0
    assert rows["share of the ceiling of SASRec BCE, ml-1m, L=50"]["ours"] > 0
    assert (out / "results.png").is_file()

    module.main(["--peers", "none", "--data", str(scene.path), "--out", str(out), "--only", "bce-10"])
    said = scene.capture.readouterr().err
    assert "no peers at none: our own figures only" in said
    assert "bce-10: no data set amazon-beauty-5core here" in said


@smokes("benchmarks/scale.py")
def scale(scene: Scene) -> None:
    """One size, only its first stage in a process of its own; a smaller one as if it had been measured before."""
    module, words = scene.module("benchmarks/scale.py"), ["--out", scene.path / "out", "--work", scene.path / "work"]
    apart = module.measure

    def measure(stage: str, size: float, folder: Path) -> dict[str, Any]:
        if stage == "generate":
            return dict(apart(stage, size, folder))
        return {"size": size, "stage": stage, **module.carry_out(stage, size, folder), "peak_mb": 100.0}

    scene.patch.setattr(module, "measure", measure)
    scene.run("benchmarks/scale.py", *words, "--sizes", 0.001)
    rows = json.loads((scene.path / "work/0.001/rows.json").read_text())
    assert all(row["peak_mb"] > 10 and row["seconds"] > 0 for row in rows)
    earlier = [{**row, "size": 0.0005, "cpu_seconds": row["cpu_seconds"] / 2, "peak_mb": 1.0} for row in rows]
    earlier[0]["num_interactions"] //= 2
    (scene.path / "work/0.0005").mkdir()
    (scene.path / "work/0.0005/rows.json").write_text(json.dumps(earlier))
    scene.run("benchmarks/scale.py", *words, "--sizes", 0.001, 0.0005)
    record = json.loads((scene.path / "out/scale.json").read_text())
    assert record["exponents"]["train"]["cpu_seconds"] == pytest.approx(1, abs=0.01)
    assert "| evaluate |" in (scene.path / "out/scale.md").read_text()
    assert (scene.path / "out/scale.png").is_file()


@smokes("benchmarks/together.py")
def together(scene: Scene) -> None:
    module = scene.module("benchmarks/together.py")
    scene.patch.setattr(module, "SHAPES", ((8, 64),))
    words = ["--raw", scene.path / "data/raw", "--data", "ml-1m", "--shards", 2, "--repeats", 1]
    printed = scene.run("benchmarks/together.py", *words)
    assert re.search(r"\| bce \| 8 \| 64 \| 2 \| [\d.]+ \| [\d.]+ \| [\d.]+ \|", printed)


@smokes("benchmarks/batched.py")
def batched(scene: Scene) -> None:
    sizes = ["--rows", 10, "--items", 50, "--hidden", 8, "--repeats", 1]
    scene.run("benchmarks/batched.py", *sizes, "--csv", scene.path / "batched.csv")
    rows = list(csv.DictReader((scene.path / "batched.csv").read_text().splitlines()))
    assert [row["trials"] for row in rows] == ["1"] * 3 + ["2"] * 3 + ["4"] * 3


@smokes("benchmarks/search/curve.py")
def curve(scene: Scene) -> None:
    kept = ROOT / "reports/sruga/round_1.csv"
    scene.run("benchmarks/search/curve.py", kept, "--data", "beauty-5core", "--out", scene.path / "curve.png")
    assert (scene.path / "curve.png").stat().st_size > 1000


@smokes("benchmarks/search/sruga.py")
def sruga(scene: Scene) -> None:
    file = scene.path / "sruga.csv"
    words = ["--out", scene.lab, "--original", "sasrec-0", "--csv", file, "--only", "default", "level: 1e-3"]
    for _ in range(2):
        scene.run("benchmarks/search/sruga.py", *words)
        rows = list(csv.DictReader(file.read_text().splitlines()))
        epochs = [(row["name"], int(row["epoch"])) for row in rows]
        assert epochs == sorted(set(epochs), key=epochs.index), "an entry was run again"
        assert {name for name, _ in epochs} == {"default", "level: 1e-3"}
    assert len({row["tune_hit_10"] for row in rows}) > 1


@smokes("benchmarks/search/attribution_plus.py")
def attribution_plus(scene: Scene) -> None:
    file = scene.path / "search.csv"
    words = ["--out", scene.lab, "--request", "red", "--csv", file, "--only", "nothing", "without repair"]
    for _ in range(2):
        scene.run("benchmarks/search/attribution_plus.py", *words)
        rows = list(csv.DictReader(file.read_text().splitlines()))
        assert [row["name"] for row in rows] == ["nothing", "without repair"]
    assert (float(rows[0]["removal_10"]), float(rows[0]["hit_10_kept"])) == (0, 1)


@smokes("benchmarks/search/fronts.py")
def fronts(scene: Scene) -> None:
    """The thesis' folder is the flow's own: its SRUGA row stands for it."""
    scene.run("benchmarks/search/fronts.py", "--thesis", scene.lab, "--out", scene.path)
    points = list(csv.DictReader((scene.path / "points.csv").read_text().splitlines()))
    assert {"original", "retrain", "sisa", "thesis", "trial"} == {row["row"] for row in points}
    told = list(csv.DictReader((scene.path / "differences.csv").read_text().splitlines()))
    assert {row["against"] for row in told} <= {"thesis", "sisa"}
    assert all(float(row["ks_d_low"]) <= float(row["ks_d"]) <= float(row["ks_d_high"]) for row in told)
    assert (scene.path / "fronts.png").is_file()


LAB = {
    "data": {"name": "tiny"},
    "prepare": {"filter": "none", "max_length": 6},
    "partition": {
        "interactions": {"share_of_users": 0.5},
        "red": {
            **{"kind": "category", "categories": ["red"], "users": None, "context": "retained"},
            **{"catalogue": "retained", "seed": 0},
        },
    },
    "model": {"sasrec": {"hidden": 8, "blocks": 1}, "bert4rec": {"hidden": 8, "blocks": 1, "heads": 1}},
    "train": {"max_epochs": 2, "evaluate_every": 1, "patience": 2, "batch_size": 64, "learning_rate": 0.01},
    "unlearn": {"sruga": {"max_epochs": 2, "max_steps": 4, "evaluate_every": 1, "batch_size": 32}},
    "evaluate": {"batch_size": 64},
    "optimize": {"trials": 3},
    "requests": ["interactions"],
    "runtime": {"threads": 1, "tracking": False, "progress": False},
    "originals": {
        "sasrec-0": {"model": "sasrec", "seed": 0, "shards": 1},
        "sasrec-sisa": {"model": "sasrec", "seed": 0, "shards": 2},
        "bert4rec-0": {"model": "bert4rec", "seed": 0, "shards": 1},
    },
    "audits": [],
    "cells": {
        f"{method}-{seed}": {"request": "interactions", "original": original, "method": method, "seed": seed}
        for method, seed, original in [
            *(("original", 0, "sasrec-0"), ("retrain", 0, "sasrec-0"), ("retrain", 1, "sasrec-0")),
            *(("sruga", 0, "sasrec-0"), ("sisa", 0, "sasrec-sisa")),
        ]
    },
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, small: Any) -> Path:
    """A project with what the search scripts read: models, evaluations, a category's partition and a study."""
    folder = tmp_path_factory.mktemp("lab")
    values = load_values(ROOT / "params.yaml")
    merge(values, LAB, FREE, REPLACED)
    YAML().dump(values, folder / "params.yaml")
    colours = {f"i{item}": ["red", "green", "red|green", ""][item % 4] for item in range(30)}
    write_raw(folder / "data/raw/tiny", small.make_raw(small.random_events(80, 30, low=8), colours))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        project = Project.open()
        trained = train_step(project, "bert4rec-0")  # which no cell starts from
        for step in [*plan(project), partition_step(project, "red"), trained]:
            step.run()
        cell = project.params.cells["sruga-0"]
        optimize(project, cell, study_name(project, cell), None, None)
    return folder


@pytest.mark.parametrize("script", SMOKED)
def test_a_script_runs_on_tiny_data(script: str, scene: Scene, small: Any) -> None:
    write_kit(scene, small)
    SMOKED[script](scene)


@pytest.mark.parametrize("script", [*SMOKED, *APART])
def test_help_shows_an_example(script: str, scene: Scene) -> None:
    with pytest.raises(SystemExit) as end:
        scene.run(script, "--help")
    assert end.value.code == 0
    assert f"python {script}" in scene.capture.readouterr().out


def scripts() -> list[str]:
    """Every Python file of the repository that is neither of the package nor a test, nor a template to copy."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    apart = ("src/", "tests/", "docs/templates/")
    return [name for name in listed if name and not name.startswith(apart) and (ROOT / name).exists()]


def test_every_script_has_a_smoke_test() -> None:
    helpers = set()
    for name in scripts():
        if name in APART:
            assert (ROOT / APART[name]).is_file()
        elif "def main(" in (ROOT / name).read_text():
            assert name in SMOKED, f"{name}: enter a smoke test of it in {Path(__file__).name}"
        else:
            helpers.add(name)
    for name in helpers:
        others = "\n".join((ROOT / other).read_text() for other in {*SMOKED, *APART, *helpers} - {name})
        pattern = rf"^(import|from) {Path(name).stem}\b"
        assert re.search(pattern, others, re.MULTILINE), f"{name}: no script imports it"


def test_types_and_style_are_checked_in_every_script() -> None:
    checked = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["files"]
    for name in scripts():
        assert any(name.startswith(f"{folder}/") for folder in checked), f"{name}: [tool.mypy] files lacks its folder"


def test_no_script_lists_settings_by_hand() -> None:
    """Else a new setting breaks it: values come from params.yaml (``srun.flow.params.load``), with overrides."""
    for name in scripts():
        literal = re.search(r"\b[A-Z]\w+Config\(", (ROOT / name).read_text())
        assert literal is None, (
            f"{name}: {literal and literal[0]} lists settings; use srun.flow.params.load with overrides"
        )


def test_every_entry_to_try_is_a_setting_there_is(small: Any) -> None:
    files = sorted((ROOT / "benchmarks/search/entries").glob("sruga_*.yaml"))
    assert files
    for file in files:
        for changes in read_yaml(file).values():
            small.method_settings("sruga", **(changes or {}))


@pytest.mark.parametrize("script", sorted((ROOT / "scripts").rglob("*.sbatch")), ids=lambda path: path.name)
def test_a_batch_script_is_valid_bash(script: Path) -> None:
    assert shutil.which("bash")
    subprocess.run(["bash", "-n", str(script)], check=True)
