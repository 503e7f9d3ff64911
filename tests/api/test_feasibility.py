"""`rft feasibility` and `feasibility=refuse`, with a sampler that always says `4`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

import rft as rft_package
from rft.config.commands import load_training
from rft.errors import Infeasible
from rft.events import Event, FeasibilityMeasured, Notice
from rft.run import parts as parts_module
from rft.run.feasibility import judge_before_training
from rft.run.inputs.prepare import prepare
from rft.run_folder.recorder import read_rollouts

from .conftest import FakeLearner

Rft = Callable[..., tuple[int, str, str]]
WORDS = (
    *("sampler=fake", "learner=fake", "model.path=embedded:tiny", "data.train=tasks.jsonl"),
    *("graders.correct.use=exact", "loop.prompts_per_step=2", "loop.completions_per_prompt=3", "loop.steps=4"),
)

REAL = ("sampler=transformers", "learner=grpo")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with 30 tasks of which one has the answer 4."""
    rows = [{"prompt": f"{number} + 1 =", "answer": str(number + 1)} for number in range(30)]
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rft.api.feasibility.ray_ahead_for", lambda config: nullcontext())
    return tmp_path


def test_the_command(fake_parts: FakeLearner, rft: Rft) -> None:
    code, out, _ = rft("feasibility", *WORDS, "out=found.json", "output_dir=run")
    assert code == 1
    assert "sampled             30 training tasks, 16 completions each" in out
    assert "verdict: no-go\n  - only 0.0% of the groups of 3 have different rewards" in out
    report = json.loads(Path("run/feasibility.json").read_text())
    assert report == json.loads(Path("found.json").read_text())
    assert report["reward"]["mean"] == pytest.approx(1 / 30)
    assert sorted(report["pass_rates"].values()) == [0.0] * 29 + [1.0]
    assert [line["phase"] for line in read_rollouts(Path("run"))] == ["feasibility"] * 30 * 16
    assert fake_parts.batches == []  # learner=fake has no time to measure
    code, _, err = rft("feasibility", *WORDS, "out=found.json", "output_dir=again")
    assert (code, "found.json: it exists already" in err) == (2, True)


def test_in_python_with_a_learner(fake_parts: FakeLearner) -> None:
    judged = rft_package.feasibility(*WORDS, *REAL, "feasibility.max_tasks=5", "output_dir=run", quiet=True)
    assert (judged.verdict, judged.is_worth_starting) == ("no-go", False)
    assert repr(judged).startswith("<rft.Feasibility run: no-go (")
    # Two steps of the size of the run's: the first warms up.
    assert [[len(group.rollouts) for group in batch] for batch in fake_parts.batches] == [[3, 3], [3, 3]]
    # A learner takes no rollouts of an older policy.
    versions = [
        {rollout.policy.version for group in batch for rollout in group.rollouts} for batch in fake_parts.batches
    ]
    assert versions == [{0}, {1}]
    assert judged.report["plan"]["has_learner"]
    assert judged.report["sampled"]["tasks"] == 5


@pytest.mark.parametrize("mode", ["warn", "refuse"])
def test_before_training(fake_parts: FakeLearner, mode: str) -> None:
    run = load_training([*WORDS, f"feasibility={mode}", "output_dir=run"])
    prepared = prepare(run, needs_training_tasks=True)
    events: list[Event] = []

    async def judged() -> None:
        async with parts_module.open_parts(run, prepared, events.append) as parts:
            await judge_before_training(run, prepared, parts, prepared.tasks.train, events.append, start_s=1.0)

    if mode == "refuse":
        with pytest.raises(Infeasible, match=r"=warn trains nevertheless\n  - only 0\.0% of the groups"):
            asyncio.run(judged())
    else:
        asyncio.run(judged())
    (measured,) = (event for event in events if isinstance(event, FeasibilityMeasured))
    assert measured.report["verdict"] == "no-go"
    assert not measured.report["plan"]["has_learner"]
    assert len(measured.groups) == 30
    assert any(isinstance(event, Notice) and "verdict: no-go" in event.text for event in events)
