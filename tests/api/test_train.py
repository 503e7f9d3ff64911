"""`rft.train` on parts in this process: in a script, in a notebook, interrupted, failed, resumed."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import os
import shutil
import signal
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

import rft
from rft.config import RunConfig
from rft.config.commands import load_training
from rft.errors import LearnError, OutputError, UsageError
from rft.run_folder.find_checkpoint import last_checkpoint
from rft.run_folder.run_lock import RunLock
from rft.types import GradedGroup, Rollout
from tests.run.conftest import BASE, FakeParts

NOTEBOOK = Path(__file__).parents[2] / "docs" / "quickstart.ipynb"
SMALL = ("sampler=fake", "learner=fake", "loop.prompts_per_step=2", "loop.completions_per_prompt=2", "logging=none")
TASKS = (
    "graders.correct.use=exact",
    "data.train=tasks.jsonl",
    "data.test=test.jsonl",
    "data.validation=null",
    "evaluation.every_steps=null",
)
TRAIN_WORD = "experiment=quickstart"
TRAIN = 'rft.train("experiment=quickstart", {"loop.steps": 3}, quiet=True)'


def cells_of_notebook() -> list[str]:
    """Return the code of docs/quickstart.ipynb."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def in_notebook(cells: Sequence[str]) -> dict[str, Any]:
    """Run cells as Jupyter does: in one namespace, on the main thread, inside a running event loop."""
    namespace: dict[str, Any] = {"rft": rft}

    async def run() -> None:
        for number, cell in enumerate(cells):
            code = compile(cell, f"cell {number}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            if inspect.iscoroutine(result := eval(code, namespace)):
                await result

    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(run())
    finally:
        loop.close()
    return namespace


@pytest.fixture(autouse=True)
def parts(tmp_path: Path, make_group: Callable[..., GradedGroup], monkeypatch: pytest.MonkeyPatch) -> FakeParts:
    """The parts of every run; the working directory holds its tasks and its folder, `run`."""
    monkeypatch.chdir(tmp_path)
    parts = FakeParts(Path("run"), make_group)

    def load(overrides: Sequence[str]) -> RunConfig:
        is_new = not any(word.startswith("resume=") for word in overrides)
        return load_training([*overrides, *((*SMALL, *TASKS, "output_dir=run") if is_new else ())])

    def save_weights(folder: Path, *_: Any, **__: Any) -> dict[str, Path]:
        (folder / "adapter").mkdir(exist_ok=True)
        return {"adapter": folder / "adapter"}

    monkeypatch.setattr("rft.api.train.load_training", load)
    monkeypatch.setattr("rft.api.check.load_training", load)
    monkeypatch.setattr("rft.api.train.ray_ahead_for", lambda run: nullcontext())
    monkeypatch.setattr("rft.run.parts.open_parts", lambda run, prepared, emit, **_: parts.open(emit))
    monkeypatch.setattr("rft.run.training.save_weights", save_weights)
    monkeypatch.setattr("rft.run_folder.plots.plot_rewards", lambda folder: folder / "plots" / "reward.png")
    for name, count in (("tasks", 6), ("test", 3)):
        rows = [{"prompt": f"What is {number} + {count}?", "answer": str(number + count)} for number in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return parts


def test_train_returns_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    run = rft.train("experiment=quickstart", {"loop": {"steps": 3}})
    assert (run.status, run.folder, run.adapter) == ("finished", Path("run"), Path("run/adapter"))
    assert list(run.metrics["reward/mean"][1:]) == [0.5, 0.5, 0.5]
    assert (run.summary["syncs_proved"], run.summary["eval"]["after"]["n"]) == (3, 3)
    assert "\nfinished after 3 steps\n" in capsys.readouterr().out
    manifest = json.loads(Path("run/manifest.json").read_text())
    assert manifest["command"] == ["rft.train", "experiment=quickstart", "loop.steps=3"]


def test_in_a_notebook_the_progress_is_plain_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as ipykernel does
    assert in_notebook([f"run = {TRAIN.replace(', quiet=True', '')}"])["run"].status == "finished"
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    lines = printed.splitlines()
    assert [line.split("  ")[:2] for line in lines if line.startswith("step ")] == [
        [f"step {step}/3", "reward 0.500"] for step in (1, 2, 3)
    ]


def test_the_notebook_of_the_documents(
    make_rollout: Callable[..., Rollout], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rft.sample", lambda prompt, *, adapter, num, sampler: [make_rollout(text=prompt)] * num)
    names = in_notebook(cells_of_notebook())
    assert (names["run"].status, list(names["run"].metrics.index)) == ("finished", list(range(11)))
    assert len(names["rollouts"]) == 4
    assert "after minus before: +0.000, 95% interval " in capsys.readouterr().out


@pytest.mark.parametrize("run_cells", [in_notebook, lambda cells: exec(cells[0])], ids=["notebook", "script"])
def test_ctrl_c_saves_the_run_and_is_raised(parts: FakeParts, run_cells: Callable[[Sequence[str]], Any]) -> None:
    def press(step: int) -> None:
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    parts.learning = press
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run_cells([TRAIN.replace("3", "1000000")])
    assert signal.getsignal(signal.SIGINT) is before
    run = rft.open_run("run")
    done = run.summary["steps"]
    assert (run.status, done >= 2, last_checkpoint(run.folder)[1]) == ("interrupted", True, done)
    resumed = rft.train("resume=run", {"loop.steps": done + 1}, quiet=True)
    assert (resumed.status, resumed.summary["steps"]) == ("finished", done + 1)


def test_a_failure_is_raised_and_the_run_stays_on_disk(parts: FakeParts) -> None:
    def fail(step: int) -> None:
        if step == 2:
            raise LearnError("the learner is gone")

    parts.learning = fail
    with pytest.raises(LearnError, match="the learner is gone"):
        in_notebook([TRAIN])
    run = rft.open_run("run")
    assert (run.status, run.summary["steps"], run.summary["error"]) == ("failed", 1, "the learner is gone")
    assert parts.is_closed


def reset(parts: FakeParts, step: int) -> None:
    """Let the parts start anew from a checkpoint; step 0 is the base model."""
    parts.step, parts.policy, parts.learning = step, BASE, lambda step: None


OR_RESUME = ("experiment=quickstart", {"loop.steps": 3, "loop.checkpoint_every_steps": 1, "or_resume": True})


@pytest.mark.parametrize("fails_in", [1, 3])
def test_the_same_call_starts_a_run_and_continues_it(parts: FakeParts, fails_in: int) -> None:
    rft.train(*OR_RESUME, quiet=True)
    expected = [rollout["completion"] for rollout in rft.open_run("run").rollouts()]
    shutil.rmtree("run")
    reset(parts, 0)

    def fail(step: int) -> None:
        if step == fails_in:
            raise LearnError("the learner is gone")

    parts.learning = fail
    with pytest.raises(LearnError):
        rft.train(*OR_RESUME, quiet=True)
    manifest = json.loads(Path("run/manifest.json").read_text())
    Path("run/manifest.json").write_text(json.dumps(manifest | {"mark": "of the first start"}))
    reset(parts, fails_in - 1)
    resumed = rft.train(*OR_RESUME, quiet=True)
    assert (resumed.status, resumed.summary["steps"]) == ("finished", 3)
    assert [rollout["completion"] for rollout in resumed.rollouts()] == expected
    is_same_start = "mark" in json.loads(Path("run/manifest.json").read_text())
    assert is_same_start == (fails_in == 3), "without a checkpoint, the run begins again"
    before = Path("run/summary.json").stat().st_mtime_ns
    assert rft.train(*OR_RESUME, quiet=True).status == "finished"
    assert Path("run/summary.json").stat().st_mtime_ns == before, "a finished run stays as it is"


def test_a_second_process_is_refused_while_a_run_continues(parts: FakeParts) -> None:
    refusals: list[str] = []

    def start_another(step: int) -> None:
        for words in ((TRAIN_WORD, {"loop.steps": 3}), ("resume=run",)):
            with pytest.raises(UsageError) as caught:
                rft.train(*words, quiet=True)
            refusals.extend(caught.value.problems)

    parts.learning = lambda step: start_another(step) if step == 2 else None
    rft.train(TRAIN_WORD, {"loop.steps": 3, "loop.checkpoint_every_steps": 1}, quiet=True)
    assert refusals[0].startswith("run already holds a run")
    assert refusals[1].startswith(f"resume=run: process {os.getpid()} on ")
    run = rft.open_run("run")
    assert (run.status, list(run.metrics.index)) == ("finished", [0, 1, 2, 3])
    assert not Path("run/run.lock").exists()


def test_of_two_starts_at_once_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one looks for a run before the first has written its configuration."""
    monkeypatch.setattr("rft.run.inputs.prepare.refuse_output", lambda folder: None)
    with RunLock(Path("run")), pytest.raises(OutputError, match=r"output_dir=run: process .* uses the folder since"):
        rft.train(TRAIN_WORD, quiet=True)


def test_a_damaged_checkpoint_is_a_warning_of_the_resumed_run(
    parts: FakeParts, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(step: int) -> None:
        if step == 4:
            raise LearnError("the learner is gone")

    parts.learning = fail
    with pytest.raises(LearnError):
        rft.train(TRAIN_WORD, {"loop.steps": 4, "loop.checkpoint_every_steps": 1}, quiet=True)
    Path("run/checkpoints/checkpoint-3/step").write_text("X")
    reset(parts, 2)
    run = rft.train("resume=run")
    warning = (
        "warning: run/checkpoints/checkpoint-3 is damaged: step has another content than when it was written; "
        "the run continues from checkpoint-2"
    )
    assert warning in capsys.readouterr().out.replace("\n", " ")
    assert (run.status, list(run.metrics.index)) == ("finished", [0, 1, 2, 3, 4])
    assert Path("run/checkpoints/damaged-checkpoint-3").is_dir()
