"""The script that puts the report's table into README.md."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from srun.judging.comparison import judge_groups
from srun.judging.judgement import to_json
from srun.judging.records import group_records

ROOT = Path(__file__).parents[1]


@pytest.fixture
def project(tmp_path, record, retrains):
    for folder in ("reports/figures", "docs"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(ROOT / "README.md", tmp_path)
    groups = group_records([*retrains, record("original", 0, 0.22), record("sruga", 0, 0.05)])
    (tmp_path / "reports/judgement.json").write_text(to_json(judge_groups(groups, [""])))
    for model in ("bert4rec", "sasrec"):
        (tmp_path / f"reports/figures/utility_vs_suppression-{model}-interactions.png").write_bytes(model.encode())
    return tmp_path


def run(project):
    command = [sys.executable, ROOT / "scripts/readme_table.py"]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=120)


def test_the_table_of_the_report_stands_in_the_readme(project):
    before = (project / "README.md").read_text()
    assert run(project).returncode == 0
    after = (project / "README.md").read_text()
    part = after.split("<!-- ml-100k: begin -->\n")[1].split("<!-- ml-100k: end -->")[0]
    said, empty, header, rule, original, retrain, sruga = part.splitlines()
    few = "(provisional, 3 Retrains)"
    assert said == f"- SASRec, request “r”: SRUGA: cannot tell 1 of 1 (Original passes too) {few}."
    assert empty == ""
    titles = "Model | Method | Verdict | Test NDCG@10 | Forget Hit@10 | Gap to Retrain | Speed-up, processor seconds"
    assert header == f"| {titles} |"
    assert rule == "| --- | --- | --- | ---: | ---: | ---: | ---: |"
    too = f"cannot tell: Original passes too, yet below Retrain's interval: over-unlearning {few}"
    assert sruga == f"| SASRec | SRUGA | {too} | 0.1000 | 0.0500 | -0.1700 (± 0.0994) | 1.0× |"
    assert original.startswith("| SASRec | Original | nothing removed; passes")
    assert retrain.startswith(
        "| SASRec | Retrain | the reference | 0.1000 ± 0.0000 | 0.2200 ± 0.0200 | 0 (± 0.0994) | 1 |"
    )
    assert after.split("<!-- ml-100k: end -->")[1] == before.split("<!-- ml-100k: end -->")[1]
    assert (project / "docs/utility_vs_suppression.png").read_bytes() == b"sasrec"
    assert run(project).returncode == 0
    assert (project / "README.md").read_text() == after


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("reports/judgement.json", "judgement.json is not there; make it with `srun judge`"),
        ("reports/figures", "has no utility_vs_suppression*.png"),
    ],
)
def test_what_is_missing_is_said_in_a_line_and_nothing_is_written(project, file, said):
    before = (project / "README.md").read_text()
    path = project / file
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    ended = run(project)
    assert ended.returncode == 1
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
    assert (project / "README.md").read_text() == before
