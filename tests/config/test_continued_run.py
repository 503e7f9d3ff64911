"""The configuration of a run that goes on with new tasks: that of the earlier run, with its tasks as older families."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from rft.config.commands import load_training
from rft.config.continued_run import load_continuation
from rft.config.schema import RunConfig
from rft.errors import ConfigError, OutputError

WEEK_2 = ("data.train=tasks/week-2.jsonl", "data.test=embedded:gcd/test")


@pytest.fixture
def earlier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of the quickstart with a few other settings. Nothing reads its adapter here."""
    monkeypatch.setattr("rft.config.start_settings._started", lambda run: (run, []))
    run = load_training(["experiment=quickstart", "seed=3", "data.system='Be brief, please.'"])
    return write(tmp_path / "run", run.model_dump())


def write(folder: Path, values: dict[str, Any]) -> Path:
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    return folder


def families_of(run: RunConfig) -> dict[str, tuple[str | None, str | None, str | None, bool]]:
    return {
        name: (family.source, family.validation, family.test, family.older) for name, family in run.data.mixture.items()
    }


def test_the_tasks_of_the_run_become_an_older_family(earlier: Path) -> None:
    run = load_continuation([f"run={earlier}", *WEEK_2, "loop.steps=7"])
    assert (run.start, run.seed, run.loop.steps, run.learner.kind) == (str(earlier), 3, 7, "grpo")
    assert (run.data.system, run.model.path, run.start_mode) == ("Be brief, please.", None, "continue")
    assert (run.data.train, run.data.validation, run.data.test, run.data.replay) == (None, None, None, 0.1)
    sums = [f"embedded:chain_sum/{split}" for split in ("train", "validation", "test")]
    assert families_of(run) == {
        "chain_sum": (*sums, True),
        "week-2": ("tasks/week-2.jsonl", None, "embedded:gcd/test", False),
    }
    assert {tuple(family.graders) for family in run.data.mixture.values()} == {("correct",)}
    assert run.output_dir.startswith("runs/quickstart/")


@pytest.mark.parametrize(("kind", "stop"), [("transformers", ["\n"]), ("fake", None)])
def test_another_sampler_keeps_the_form_of_the_completions(earlier: Path, kind: str, stop: list[str] | None) -> None:
    values = yaml.safe_load((earlier / "config.yaml").read_text())
    values["sampler"] |= {"temperature": 0.7, "stop": ["\n"], "num_actors": 3}
    (earlier / "config.yaml").write_text(yaml.safe_dump(values))
    words = [f"sampler={kind}", *(["learner=fake"] if kind == "fake" else [])]
    sampler = load_continuation([f"run={earlier}", *WEEK_2, *words]).sampler
    assert (sampler.kind, sampler.temperature, sampler.max_completion_tokens, sampler.num_actors) == (kind, 0.7, 48, 1)
    assert getattr(sampler, "stop", None) == stop


def test_what_is_given_wins(earlier: Path) -> None:
    words = ["data.replay=0.3", "data.columns={prompt: question}", "learner=raft", "graders.correct.use=exact"]
    run = load_continuation([f"run={earlier}", *WEEK_2, *words])
    assert (run.data.replay, run.learner.kind, run.graders["correct"]["use"]) == (0.3, "raft", "exact")
    assert (run.data.columns, run.data.mixture["chain_sum"].columns) == ({"prompt": "question"}, {})
    assert run.data.mixture["week-2"].columns is None


def test_families_of_the_run_become_older(earlier: Path, tmp_path: Path) -> None:
    second = load_continuation([f"run={earlier}", *WEEK_2, "data.replay=0.2"])
    again = write(tmp_path / "again", second.model_dump())
    third = load_continuation([f"run={again}", "data.train=other/week-2.jsonl"])
    assert (third.start, third.data.replay) == (str(again), 0.2)
    assert [(name, older) for name, (*_, older) in families_of(third).items()] == [
        ("chain_sum", True),
        ("week-2", True),
        ("week-2_2", False),
    ]


def test_what_is_missing_or_not_allowed(earlier: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_continuation(["start=runs/a"])
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "run is missing",
        "data.train is missing",
        "start",
    ]
    with pytest.raises(OutputError, match="the folder contains no run"):
        load_continuation([f"run={tmp_path}", *WEEK_2])
    config = yaml.safe_load((earlier / "config.yaml").read_text())
    config["graders"]["correct"]["api_key"] = "<redacted>"
    (earlier / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(ConfigError, match=r"graders.correct.api_key: a secret, which config.yaml does not hold"):
        load_continuation([f"run={earlier}", *WEEK_2])
