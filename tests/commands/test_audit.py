"""`rft audit` from the words of the command line to the files, and what `rft train` makes of its verdict."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

import rft as rft_package
from rft.api.audit import audit_graders
from rft.config.commands import load_audit, load_training
from rft.errors import ConfigError, DataError

GRADERS = """
def contains(completion, task):
    return task.item["answer"] in completion
"""
TRAIN = (
    "experiment=quickstart",
    "~graders.correct",
    "graders.main.use=mine.py:contains",
    "data.train=tasks.jsonl",
    "data.validation=null",
    "data.test=null",
    "evaluation.every_steps=null",
    "loop.prompts_per_step=2",
    "learner.completions_per_micro_batch=null",
    "dry_run=true",
    "output_dir=out",
)


Rft = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine the event loop is late by itself."""
    monkeypatch.setattr("rft.auditing.probes.cost.STALL_S", 60.0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with tasks and a grader, as the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(GRADERS)
    sums = [(3, 4), (20, 22), (13, 8), (50, 9), (17, 60)]
    rows = [{"prompt": f"What is {a} + {b}?", "answer": str(a + b)} for a, b in sums]
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


@pytest.mark.e2e
def test_a_good_grader(folder: Path, rft: Rft, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("data=tasks.jsonl", "graders.correct.use=numeric")
    audit = rft_package.audit(*words, {"output_dir": folder / "report"}, quiet=True)
    assert capsys.readouterr() == ("", "")
    assert repr(audit) == f"<rft.Audit {folder / 'report'}: passed>"
    assert (audit.passed, audit.failed_probes, audit.page) == (True, [], folder / "report" / "audit.html")
    assert json.loads(json.dumps(audit.report)) == json.loads((folder / "report" / "audit.json").read_text())
    assert (audit.report["tasks"]["count"], audit.report["counts"]["failed"]) == (5, 0)
    assert sorted(file.name for file in (folder / "report").iterdir()) == ["audit.html", "audit.json", "config.yaml"]
    (kept,) = (folder / ".rft" / "audits").glob("*")
    assert json.loads(kept.read_text())["verdict"] == "passed"
    code, out, err = rft("audit", *words, "dry_run=true")
    assert (code, err) == (0, "")
    assert out.startswith("the audit can start with these settings:\n")


@pytest.mark.e2e
def test_a_bad_grader_fails_and_trains_nothing_until_it_is_mended(folder: Path, rft: Rft) -> None:
    command = "rft audit data=tasks.jsonl graders.main.use=mine.py:contains"
    code, out, _ = rft("train", *TRAIN)
    assert (code, f"graders.main (mine.py:contains) was never audited; run: {command}" in " ".join(out.split())) == (
        0,
        True,
    )
    code, out, err = rft("audit", "data=tasks.jsonl", "graders.it.use=mine.py:contains", "output_dir=report")
    assert (code, err) == (1, "")
    assert "\nx failed: wrong gold\n  20 of 35 wrong answers are paid" in out
    assert "\nfailed: " in out
    report = json.loads((folder / "report" / "audit.json").read_text())
    failed = [probe["name"] for probe in report["probes"] if probe["result"] == "failed"]
    # It finds the answer in its opposite, in lists of all answers, and in the thinking.
    assert failed == ["wrong gold", "enumeration", "reasoning leak"]
    assert report["probes"][0]["examples"][0]["completion"] == "-7"

    code, out, err = rft("train", *TRAIN)
    assert (code, out) == (2, "")
    assert "failed on 3 probes: wrong gold, enumeration, reasoning leak; its report is in report." in err
    assert not (folder / "out").exists()
    assert rft("train", *TRAIN, "audit=off")[0] == 0
    assert rft("train", *TRAIN, "audit=warn")[0] == 0
    assert rft("train", *TRAIN, "grading.audit_folder=null")[0] == 0
    (folder / "mine.py").write_text(GRADERS.replace("in completion", "== completion"))
    code, out, _ = rft("train", *TRAIN)
    warning = "has changed since its audit failed on wrong gold, enumeration, reasoning leak ("
    assert (code, warning in " ".join(out.split()), command in " ".join(out.split())) == (0, True, True)


def test_off_is_a_word_and_not_false(folder: Path) -> None:
    assert load_training([*TRAIN, "audit=off"]).audit == "off"
    assert load_training([*TRAIN, "audit=false"]).audit == "off"
    assert load_training(TRAIN).audit == "refuse"
    with pytest.raises(ConfigError, match="audit=true"):
        load_training([*TRAIN, "audit=true"])


def test_a_column_of_references_that_no_row_has_is_an_error(folder: Path) -> None:
    words = ["data=tasks.jsonl", "gold=anser", "graders.a.use=mine.py:contains", "output_dir=report"]
    with pytest.raises(
        DataError, match=r"gold=anser: no row has this column \(did you mean 'answer'\?\); the columns are answer"
    ):
        audit_graders(load_audit(words), Console(quiet=True))
    assert not (folder / "report").exists()


def test_what_is_wrong_is_told_at_once(folder: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_audit(["template=answer", "graders.a.use=exakt"])
    assert [problem.split(":")[0].split()[0] for problem in caught.value.problems] == [
        "graders.a.use", "data", "template='answer'",
    ]  # fmt: skip
    assert load_audit(["data=tasks.jsonl", "graders.a.use=exact"]).data.tasks == "tasks.jsonl"
