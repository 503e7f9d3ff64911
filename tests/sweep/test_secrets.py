"""Keys that are given to the trials of a sweep: in none of its files, and never searched."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from rft.config.grid import read_grid
from rft.config.search import read_search
from rft.errors import ConfigError
from rft.redaction.secret import HIDDEN
from rft.sweep.search import run_search

SECRET = "sk-planted-0123456789"
QUICK = "experiment=quickstart"
GRADER = "def one(completion, api_key):\n    return 1.0\n"


@pytest.mark.parametrize(
    "word",
    [
        f"graders.judge.api_key={SECRET},sk-other-0123456789",
        f"graders.judge={{use: a.py:f, api_key: {SECRET}}},{{use: a.py:f, api_key: sk-other-0123456789}}",
    ],
)
def test_a_secret_is_not_searched(word: str) -> None:
    for read in (read_search, read_grid):
        with pytest.raises(ConfigError) as caught:
            read(["-m", QUICK, word] if read is read_grid else [QUICK, word])
        (problem,) = caught.value.problems
        assert problem.startswith(f"{word.partition('=')[0]}: several values of a secret would be written down")
        assert SECRET not in problem


def test_variables_that_hold_secrets_are(monkeypatch: pytest.MonkeyPatch) -> None:
    search = read_search([QUICK, "graders.judge.api_key='${oc.env:A_KEY}','${oc.env:B_KEY}'"])
    assert list(search.space) == ["graders.judge.api_key"]


def test_a_word_that_cannot_be_read_is_told_without_its_secret() -> None:
    with pytest.raises(ConfigError) as caught:
        read_search([QUICK, f"graders.judge.api_key={SECRET}="])
    assert SECRET not in str(caught.value)


@pytest.mark.usefixtures("fake_ray")
def test_a_trial_that_cannot_run_leaves_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("grader.py").write_text(GRADER)
    for name, start in (("tasks", 0), ("held_out", 100)):
        lines = [json.dumps({"prompt": f"{start + index} + 1 ="}) + "\n" for index in range(8)]
        Path(f"{name}.jsonl").write_text("".join(lines))
    printed = io.StringIO()
    words = [
        *(QUICK, "sampler=fake", "learner=fake", "logging=none", "evaluation.every_steps=null"),
        *("data.test=null", "data.train=tasks.jsonl", "data.validation=held_out.jsonl", "~graders.correct"),
        *("graders.one.use=grader.py:one", f"graders.one.api_key={SECRET}"),
        # Each may be 1, but not both: no trained policy would sample.
        *("loop.steps=2,1", "loop.staleness=0,1", "output_dir=found", "sweep.trials=3", "sweep.parallel=1"),
    ]
    run_search(words, console=Console(file=printed, width=200))
    trials = json.loads(Path("found/sweep.json").read_text())["trials"]
    [cannot, *_] = [trial for trial in trials if trial["status"] == "failed"]
    assert "loop.staleness=1: must be less than loop.steps=1" in cannot["error"]
    assert f"graders.one.api_key={HIDDEN}" in cannot["overrides"]
    files = [path for path in Path("found").rglob("*") if path.is_file()]
    assert {"search.yaml", "study.db", "sweep.json", "trial.json"} <= {path.name for path in files}
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
    assert SECRET not in printed.getvalue()
