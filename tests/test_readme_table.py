"""The script that puts the report's table into README.md."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROW = {
    "Method": "SRUGA",
    "Test NDCG@10": "0.1",
    "Forget Hit@10": "0.2",
    "Gap to Retrain": "-0.1 (± 0.2)",
    "KS D": "0.1 (≤ 0.2)",
    "Speed-up, seconds": "2.0×",
    "Verdict": "cannot tell: Original passes too",
}


@pytest.fixture
def project(tmp_path):
    for folder in ("runs", "docs", "reports/figures"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(ROOT / "README.md", tmp_path)
    result = {"tables": {"SASRec, request “interactions”": [ROW]}, "headlines": ["SASRec: SRUGA: cannot tell 1 of 1."]}
    (tmp_path / "runs/reports/all.json").write_text(json.dumps({"result": result}))
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
    assert part.splitlines() == [
        "- SASRec: SRUGA: cannot tell 1 of 1.",
        "",
        "| Model | Method | Verdict | Test NDCG@10 | Forget Hit@10 | Gap to Retrain | Speed-up, seconds |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: |",
        "| SASRec | SRUGA | cannot tell: Original passes too | 0.1 | 0.2 | -0.1 (± 0.2) | 2.0× |",
    ]
    assert after.split("<!-- ml-100k: end -->")[1] == before.split("<!-- ml-100k: end -->")[1]
    assert (project / "docs/utility_vs_suppression.png").read_bytes() == b"sasrec"
    assert run(project).returncode == 0
    assert (project / "README.md").read_text() == after


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("runs/reports/all.json", "all.json is not there; make it with `srun report`"),
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
